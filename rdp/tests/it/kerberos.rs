//! Log-ins at a target by Kerberos, with MIT's and Samba's KDCs and MIT's GSSAPI, and the ways in which there is none.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use cofferdam_rdp::{
    BackConfig, BackError, KdcStream, Kdcs, Kerberos, KerberosError, Security, connect, learn_key,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    realm::{Member, Realm, nobody},
    targets::{Folder, Shadow},
};

/// The way to KDCs at these addresses, and what is changed in one of their answers.
struct Addresses {
    kdcs: Vec<SocketAddr>,
    change: Option<Change>,
    asked: std::sync::atomic::AtomicUsize,
}

/// Which answer, where in it (in thousandths), and what is done to the byte there.
#[derive(Clone, Copy)]
struct Change {
    answer: usize,
    at: usize,
    flip: u8,
}

#[async_trait]
impl Kdcs for Addresses {
    fn count(&self) -> usize {
        self.kdcs.len()
    }

    async fn dial(&self, number: usize) -> Result<KdcStream, String> {
        let kdc = TcpStream::connect(self.kdcs[number]).await.map_err(|e| e.to_string())?;
        let asked = self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match self.change.filter(|change| change.answer == asked) {
            None => Ok(Box::new(kdc)),
            Some(change) => Ok(Box::new(changed(kdc, change))),
        }
    }
}

/// A KDC that one byte of the answer is changed of.
fn changed(mut kdc: TcpStream, change: Change) -> tokio::io::DuplexStream {
    let (near, mut far) = tokio::io::duplex(128 * 1024);
    tokio::spawn(async move {
        let mut question = vec![0; usize::try_from(far.read_u32().await?).unwrap()];
        far.read_exact(&mut question).await?;
        kdc.write_u32(u32::try_from(question.len()).unwrap()).await?;
        kdc.write_all(&question).await?;
        let mut answer = vec![0; usize::try_from(kdc.read_u32().await?).unwrap()];
        kdc.read_exact(&mut answer).await?;
        let at = answer.len() * change.at / 1000;
        answer[at] ^= change.flip;
        far.write_u32(u32::try_from(answer.len()).unwrap()).await?;
        far.write_all(&answer).await?;
        far.shutdown().await
    });
    near
}

struct Way {
    kdcs: Vec<SocketAddr>,
    host: &'static str,
    password: &'static str,
    change: Option<Change>,
}

impl Way {
    fn to(realm: &Realm) -> Self {
        Self { kdcs: vec![realm.address], host: Realm::HOST, password: Realm::PASSWORD, change: None }
    }

    /// Logs in at the target.
    async fn log_in(self, target: SocketAddr) -> Result<(), BackError> {
        let dial = || async { TcpStream::connect(target).await.unwrap() };
        let kdcs = Addresses { kdcs: self.kdcs, change: self.change, asked: 0.into() };
        let config = BackConfig {
            pin: learn_key(dial().await).await.unwrap(),
            security: Security::Nla,
            user: Realm::USER.to_owned(),
            domain: None,
            password: self.password.into(),
            kerberos: Some(Kerberos {
                realm: Realm::NAME.to_owned(),
                host: self.host.to_owned(),
                kdcs: Arc::new(kdcs),
            }),
        };
        let logging_in = connect(dial().await, config);
        tokio::time::timeout(Duration::from_secs(20), logging_in).await.unwrap().map(drop)
    }

    /// The reason why it cannot.
    async fn fails(self, target: SocketAddr) -> KerberosError {
        let password = self.password;
        match self.log_in(target).await {
            Err(BackError::Kerberos(error)) => {
                let told = format!("{error} {error:?}");
                assert!(!told.contains(password), "{told}");
                error
            }
            other => panic!("{other:?}"),
        }
    }
}

fn hex(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_proves_the_account_and_the_secret_is_delegated_bound_to_the_key() {
    proves_and_delegates(Realm::start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_a_domain_controller_does_the_same() {
    proves_and_delegates(Realm::of_a_domain_controller).await;
}

async fn proves_and_delegates(realm: fn(&Folder) -> Realm) {
    let folder = Folder::new();
    let realm = realm(&folder);
    let target = Member::start(&folder, &[]);
    // A KDC that is away is passed by.
    let way = Way { kdcs: vec![nobody(), realm.address], ..Way::to(&realm) };
    way.log_in(target.address).await.unwrap();
    let said = target.says("password");
    let password = hex(Realm::PASSWORD);
    for part in [
        r#""client": 6, "ntlm": false"#,
        r#""principal": "eng@PLANT.EXAMPLE", "service": "TERMSRV/eng-ws.plant.example@PLANT.EXAMPLE""#,
        r#""mechanism": "1.2.840.113554.1.2.2""#,
        r#""bound": true, "sealed": true"#,
        &format!(
            r#""domain": "PLANT.EXAMPLE", "user": "eng", "password": "{password}", "kind": 1, "sealed": true"#
        ),
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(!said.contains(r#""ntlm": true"#), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_realm_refuses_ends_the_log_in_before_the_target_is_given_anything() {
    let folder = Folder::new();
    let realm = Realm::start(&folder);
    let target = Member::start(&folder, &[]);
    let wrong = Way { password: "Realm-Secret-2", ..Way::to(&realm) };
    let error = wrong.fails(target.address).await;
    assert!(matches!(&error, KerberosError::Account { code: 24, .. }), "{error:?}");
    let unknown = Way { host: "other.plant.example", ..Way::to(&realm) };
    let error = unknown.fails(target.address).await;
    assert!(
        matches!(&error, KerberosError::Ticket { code: 7, service, .. } if service == "TERMSRV/other.plant.example")
    );
    assert!(error.to_string().contains("setspn"), "{error}");
    let away = realm.stop();
    let away = Way { kdcs: vec![away], host: Realm::HOST, password: Realm::PASSWORD, change: None };
    let error = away.fails(target.address).await;
    assert!(matches!(&error, KerberosError::Unreachable { .. }), "{error:?}");
    // Nothing was offered: no ticket, and no NTLM in its place.
    assert!(!target.said().contains("ntlm"), "{}", target.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_ntlm_alone_gets_no_ntlm() {
    let folder = Folder::new();
    let realm = Realm::with_password(&folder, Shadow::PASSWORD);
    let way = || Way { password: Shadow::PASSWORD, ..Way::to(&realm) };
    let target = Member::start(&folder, &["--ntlm-only"]);
    assert_eq!(way().fails(target.address).await, KerberosError::Ntlm);
    assert!(target.said().contains(r#""ntlm": false"#) && !target.said().contains(r#""ntlm": true"#));
    // One that does not know better, and would take this very account by NTLM.
    let shadow = Shadow::start(&folder);
    let error = way().fails(shadow.address).await;
    assert!(
        matches!(error, KerberosError::Closed | KerberosError::Target | KerberosError::Ntlm),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_does_not_bind_itself_to_its_key_gets_no_secret() {
    let folder = Folder::new();
    let realm = Realm::start(&folder);
    let target = Member::start(&folder, &["--other-key"]);
    assert_eq!(Way::to(&realm).fails(target.address).await, KerberosError::Binding);
    target.says("fault");
    drop(target);
    let target = Member::start(&folder, &["--version", "4"]);
    assert_eq!(Way::to(&realm).fails(target.address).await, KerberosError::Outdated(4));
    assert!(!target.said().contains("password"), "{}", target.said());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_kdc_with_one_bit_changed_never_breaks_more_than_the_log_in() {
    let folder = Folder::new();
    let realm = Realm::start(&folder);
    let target = Member::start(&folder, &[]);
    Way::to(&realm).log_in(target.address).await.unwrap();
    // Through what changes answers, too, where it changes none.
    let unchanged = Change { answer: 1, at: 500, flip: 0 };
    Way { change: Some(unchanged), ..Way::to(&realm) }.log_in(target.address).await.unwrap();
    let mut refused = 0;
    for round in 0..90_usize {
        let change = Change { answer: round % 3, at: (round * 379) % 1000, flip: 1 << (round % 8) };
        match (Way { change: Some(change), ..Way::to(&realm) }).log_in(target.address).await {
            // In what nobody reads, such as the KDC's clock.
            Ok(()) => {}
            Err(BackError::Kerberos(_)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 45, "{refused} of 90");
}
