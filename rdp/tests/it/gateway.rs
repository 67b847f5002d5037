//! A gateway of some lines around the crate: one token, one target, and what happened.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cofferdam_rdp::{
    Activation, Area, BackConfig, BackError, Candidate, ChannelPolicy, Ending, Event, Finished, FrontConfig,
    FrontError, NoFiles, Order, Pin, Proof, RelayError, ScreenPdu, Security, Stop, Tokens, Watch, accept,
    connect, learn_key, relay, subject_public_key,
    tap::{Start, Tap},
};
use cofferdam_vault::SecretString;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot, watch},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::desktop::Xfreerdp;

pub(crate) const USER: &str = "vera+eng-ws";
/// What [`USER`] types into a client without NLA: password and code.
pub(crate) const TYPED: &str = "tide, Table-7,492817";
pub(crate) const TOKEN: &str = "k7wq-3n5x-tyb2-9dme-ha4c-v6zr";

/// How one connection ended.
#[derive(Debug)]
#[allow(dead_code, reason = "shown where a test fails")]
pub(crate) enum Outcome {
    Front(FrontError),
    Back(BackError),
    Relay(RelayError),
    Finished(Finished),
}

/// What the watcher of a session has seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    pub(crate) screen_bytes: Arc<Mutex<usize>>,
    pipeline: Arc<AtomicBool>,
    /// What is on the screen.
    tap: Arc<Mutex<Option<Tap>>>,
}

impl Seen {
    pub(crate) fn has(&self, what: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(what)
    }

    /// Whether the target has drawn by the graphics pipeline.
    pub(crate) fn by_pipeline(&self) -> bool {
        self.pipeline.load(Ordering::Relaxed)
    }

    /// What is on the screen: red, green and blue, row by row.
    pub(crate) fn screen(&self) -> Option<((u16, u16), Vec<u8>)> {
        let tap = self.tap.lock().unwrap();
        let image = tap.as_ref()?.image();
        let rgb = image.rgbx().as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect();
        Some((image.size(), rgb))
    }
}

#[async_trait]
impl Watch for Seen {
    async fn event(&mut self, event: Event) -> Result<(), Stop> {
        if let Event::Activated(Activation { width, height, io_channel, .. }) = event {
            let mut tap = self.tap.lock().unwrap();
            *tap = Some(Tap::new(Start { width, height, io_channel }).unwrap().after(tap.take()));
        }
        self.events.lock().unwrap().push(event);
        Ok(())
    }

    async fn screen(&mut self, pdu: ScreenPdu) -> Result<(), Stop> {
        *self.screen_bytes.lock().unwrap() += pdu.size();
        self.pipeline.fetch_or(matches!(pdu, ScreenPdu::Pipeline(_)), Ordering::Relaxed);
        self.tap.lock().unwrap().as_mut().unwrap().draw(&pdu).unwrap();
        Ok(())
    }

    async fn picture(&mut self, area: Area) -> Option<Vec<u8>> {
        let tap = self.tap.lock().unwrap();
        tap.as_ref()?.image().crop(area)
    }
}

/// Open tokens by user name.
struct Open(Vec<(&'static str, &'static str)>);

#[async_trait]
impl Tokens for Open {
    async fn candidates(&self, user: &str) -> Vec<Candidate> {
        let fits = self.0.iter().filter(|(name, _)| *name == user);
        fits.map(|(_, token)| Candidate { id: format!("id of {token}"), password: (*token).into() }).collect()
    }

    async fn typed(&self, user: &str, password: &SecretString) -> Option<Proof> {
        let (secret, code) = TYPED.rsplit_once(',').unwrap();
        let both = password.expose().rsplit_once(',').is_some_and(|typed| typed == (secret, code));
        (user == USER && both).then_some(Proof::Typed)
    }
}

/// The one connection that a test's gateway takes.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) orders: watch::Sender<Order>,
    pub(crate) words: watch::Sender<Option<Arc<str>>>,
    pub(crate) seen: Seen,
    /// Clear text of the person's side of it, both ways.
    pub(crate) clear: Arc<Mutex<Vec<u8>>>,
    go: Arc<Notify>,
    outcome: oneshot::Receiver<Outcome>,
}

/// What a test's gateway does otherwise.
#[derive(Default)]
struct Manner {
    without_nla: bool,
    waits: bool,
}

/// The target of a test.
pub(crate) struct Account {
    pub(crate) address: SocketAddr,
    pub(crate) security: Security,
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
    /// `None` pins what the target shows.
    pub(crate) pin: Option<Pin>,
}

impl Gateway {
    pub(crate) async fn start(account: Account, policy: ChannelPolicy) -> Self {
        Self::start_with(account, policy, Manner::default()).await
    }

    /// One that lets clients without NLA log in.
    pub(crate) async fn start_without_nla(account: Account, policy: ChannelPolicy) -> Self {
        Self::start_with(account, policy, Manner { without_nla: true, ..Manner::default() }).await
    }

    /// One whose clients wait at a desktop of the gateway's own until [`Self::goes_on`].
    pub(crate) async fn start_waiting(account: Account, policy: ChannelPolicy, without_nla: bool) -> Self {
        Self::start_with(account, policy, Manner { without_nla, waits: true }).await
    }

    async fn start_with(account: Account, policy: ChannelPolicy, manner: Manner) -> Self {
        let identity = Identity::new();
        let front = FrontConfig {
            tls: identity.config(),
            subject_public_key: subject_public_key(&identity.certificate).unwrap(),
            certificate: identity.certificate.to_vec(),
            login_time: Duration::from_secs(20),
            without_nla: manner.without_nla,
        };
        let go = Arc::new(Notify::new());
        let wait = manner.waits.then(|| go.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = listener.local_addr().unwrap();
        let (orders, order) = watch::channel(Order::Run);
        let (words, said) = watch::channel(None);
        let (done, outcome) = oneshot::channel();
        let seen = Seen::default();
        let watcher = seen.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let outcome = serve(stream, front, account, policy, watcher, (order, said), wait).await;
            // For whoever reads a test that failed.
            eprintln!("the session's end: {outcome:?}");
            done.send(outcome).ok();
        });
        let clear = Arc::new(Mutex::new(Vec::new()));
        let address = listen_in(inner, identity, clear.clone()).await;
        Self { address, orders, words, seen, clear, go, outcome }
    }

    /// Has the client that waits go on to its target.
    pub(crate) fn goes_on(&self) {
        self.go.notify_one();
    }

    /// Ends the session because nobody did anything, which its client and its end both follow.
    pub(crate) async fn ends_idle(self, client: Xfreerdp) {
        self.orders.send(Order::End(Ending::Idle)).unwrap();
        client.end();
        assert!(matches!(self.outcome().await, Outcome::Finished(Finished::Ended(Ending::Idle))));
    }

    pub(crate) async fn outcome(self) -> Outcome {
        tokio::time::timeout(Duration::from_secs(20), self.outcome)
            .await
            .expect("the session goes on")
            .unwrap()
    }
}

async fn serve(
    stream: TcpStream,
    front: FrontConfig,
    account: Account,
    policy: ChannelPolicy,
    mut seen: Seen,
    (orders, words): (watch::Receiver<Order>, watch::Receiver<Option<Arc<str>>>),
    wait: Option<Arc<Notify>>,
) -> Outcome {
    // Other people's tokens, and an older one of the same person, are open at the same time.
    let open = Open(vec![("otto+eng-ws", "another-token"), (USER, "an-older-token"), (USER, TOKEN)]);
    let mut person = match accept(stream, &front, &open).await {
        Ok(person) => person,
        Err(error) => return Outcome::Front(error),
    };
    let typed = Proof::Typed;
    let proof = if front.without_nla { typed } else { Proof::Token(format!("id of {TOKEN}")) };
    assert_eq!(*person.proof(), proof);
    if let Some(go) = wait {
        person = match person.seated().await {
            Ok(person) => person,
            Err(error) => return Outcome::Front(FrontError::Wire(error)),
        };
        let mut ended = orders.clone();
        let until = async {
            tokio::select! {
                () = go.notified() => None,
                order = ended.wait_for(|order| matches!(order, Order::End(_))) => Some(*order.unwrap()),
            }
        };
        match person.waits(words.clone(), until).await {
            Err(_) => return Outcome::Finished(Finished::PersonLeft),
            Ok(Some(Order::End(why))) => {
                person.refuse(why).await;
                return Outcome::Finished(Finished::Ended(why));
            }
            Ok(_) => {}
        }
    }
    let dial = || async { TcpStream::connect(account.address).await.unwrap() };
    let pin = match account.pin {
        Some(pin) => pin,
        None => learn_key(dial().await).await.unwrap(),
    };
    let config = BackConfig {
        pin,
        security: account.security,
        user: account.user.to_owned(),
        domain: None,
        password: account.password.into(),
        kerberos: None,
    };
    let target = match connect(dial().await, config).await {
        Ok(target) => target,
        Err(error) => return Outcome::Back(error),
    };
    match relay(person, target, policy, Box::new(NoFiles), &mut seen, orders, words).await {
        Ok(finished) => Outcome::Finished(finished),
        Err(error) => Outcome::Relay(error),
    }
}

/// The gateway's certificate and key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["gw".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), key: key.serialize_der() }
    }

    fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(vec![self.certificate.clone()], key).unwrap())
    }
}

/// Stands between the client and the gateway with the gateway's own key (so that CredSSP, which is bound to the key, holds)
/// and keeps the clear text.
async fn listen_in(gateway: SocketAddr, identity: Identity, clear: Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut gateway = TcpStream::connect(gateway).await.unwrap();
        client.set_nodelay(true).unwrap();
        gateway.set_nodelay(true).unwrap();
        // Connection request and confirm, in the clear.
        pass(&mut client, &mut gateway).await?;
        pass(&mut gateway, &mut client).await?;
        let tls = TlsAcceptor::from(identity.config()).accept(client).await.ok()?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(identity.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "gw".try_into().unwrap();
        let gateway = TlsConnector::from(Arc::new(config)).connect(name, gateway).await.unwrap();
        let (client, gateway) = (tokio::io::split(tls), tokio::io::split(gateway));
        tokio::join!(keep(client.0, gateway.1, &clear), keep(gateway.0, client.1, &clear));
        Some(())
    });
    address
}

async fn pass(from: &mut TcpStream, to: &mut TcpStream) -> Option<()> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await.ok()?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]])) - 4];
    from.read_exact(&mut rest).await.ok()?;
    to.write_all(&[head.as_slice(), &rest].concat()).await.ok()
}

async fn keep(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, clear: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        clear.lock().unwrap().extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    to.shutdown().await.ok();
}
