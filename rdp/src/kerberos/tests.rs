use std::{collections::VecDeque, sync::Mutex};

use async_trait::async_trait;
use picky_krb::{crypto::CipherSuite, messages::AsRep};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{as_rep::Account, kdc::refusal, *};

/// What stands in for a KDC does with a connection.
#[derive(Clone)]
enum Does {
    /// Answers these bytes, as they are.
    Say(Vec<u8>),
    /// Reads and answers nothing.
    Wait,
    /// Is not there.
    Refuse,
}

/// KDCs, each with what it does with one connection after the other.
struct StandIns(Vec<Mutex<VecDeque<Does>>>);

#[async_trait]
impl Kdcs for StandIns {
    fn count(&self) -> usize {
        self.0.len()
    }

    async fn dial(&self, number: usize) -> Result<KdcStream, String> {
        let does = self.0[number].lock().unwrap().pop_front().unwrap_or(Does::Refuse);
        let (near, mut far) = tokio::io::duplex(256 * 1024);
        match does {
            Does::Refuse => return Err(format!("kdc {number} is away")),
            // Said before it is asked: nothing has to run beside.
            Does::Say(bytes) => {
                far.write_all(&bytes).await.unwrap();
                far.shutdown().await.unwrap();
                Ok(Box::new(tokio::io::join(near, tokio::io::sink())))
            }
            Does::Wait => {
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    far.read_to_end(&mut all).await.ok();
                });
                Ok(Box::new(near))
            }
        }
    }
}

fn realm(kdcs: Vec<Vec<Does>>) -> Kerberos {
    Kerberos {
        realm: "PLANT.EXAMPLE".to_owned(),
        host: "eng-ws.plant.example".to_owned(),
        kdcs: Arc::new(StandIns(kdcs.into_iter().map(|does| Mutex::new(does.into())).collect())),
    }
}

/// What the first step comes to, where there is no ticket.
async fn fails(kdcs: Vec<Vec<Does>>) -> KerberosError {
    let realm = realm(kdcs);
    let password = "Vault-Secret-1".into();
    let mut context = Context::new(&realm, "eng", &password).unwrap();
    context.step(Vec::new()).await.expect_err("a ticket out of nothing")
}

/// A KDC that answers each question with the next of these.
fn says(answers: Vec<Vec<u8>>) -> Vec<Does> {
    answers.into_iter().map(|answer| Does::Say(framed(&answer))).collect()
}

fn framed(answer: &[u8]) -> Vec<u8> {
    [&u32::try_from(answer.len()).unwrap().to_be_bytes(), answer].concat()
}

fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let len = match u16::try_from(content.len()).unwrap().to_be_bytes() {
        [0, short @ 0..=0x7f] => vec![short],
        [0, short] => vec![0x81, short],
        [high, low] => vec![0x82, high, low],
    };
    [&[tag], len.as_slice(), &content].concat()
}

fn integer(value: u8) -> Vec<u8> {
    vec![0x02, 1, value]
}

fn text(text: &str) -> Vec<u8> {
    [&[0x1b, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// KRB-ERROR (RFC 4120 5.9.1).
fn krb_error(code: u8, data: &[u8]) -> Vec<u8> {
    let mut fields = vec![
        der(0xa0, &[&integer(5)]),
        der(0xa1, &[&integer(30)]),
        der(0xa4, &[&time()]),
        der(0xa5, &[&integer(0)]),
        der(0xa6, &[&integer(code)]),
        der(0xa9, &[&text("PLANT.EXAMPLE")]),
        der(0xaa, &[&name()]),
    ];
    if !data.is_empty() {
        fields.push(der(0xac, &[&der(0x04, &[data])]));
    }
    der(0x7e, &[&der(0x30, &[&fields.concat()])])
}

const SALT: &str = "PLANT.EXAMPLEeng";
const AES128: u8 = 17;
const AES256: u8 = 18;

/// METHOD-DATA with one ETYPE-INFO2 (RFC 4120 5.2.7.5).
fn keys(kind: u8, salt: &str, iterations: &[u8]) -> Vec<u8> {
    let mut entry = vec![der(0xa0, &[&integer(kind)]), der(0xa1, &[&text(salt)])];
    if !iterations.is_empty() {
        entry.push(der(0xa2, &[&der(0x04, &[iterations])]));
    }
    let keys = der(0x30, &[&der(0x30, &[&entry.concat()])]);
    der(0x30, &[&der(0x30, &[&der(0xa1, &[&integer(19)]), &der(0xa2, &[&der(0x04, &[&keys])])])])
}

/// The KDC wants a proof, by AES with a salt.
fn wants_proof() -> Vec<u8> {
    krb_error(25, &keys(AES256, SALT, &[]))
}

fn name() -> Vec<u8> {
    let parts = der(0x30, &[&text("krbtgt"), &text("PLANT.EXAMPLE")]);
    der(0x30, &[&der(0xa0, &[&integer(2)]), &der(0xa1, &[&parts])])
}

fn time() -> Vec<u8> {
    der(0x18, &[b"20261126170000Z"])
}

/// AS-REQ with the least that there is to it.
fn question(nonce: &[u8]) -> Vec<u8> {
    let body = [
        der(0xa0, &[&der(0x03, &[&[0; 5]])]),
        der(0xa2, &[&text("PLANT.EXAMPLE")]),
        der(0xa5, &[&time()]),
        der(0xa7, &[&der(0x02, &[nonce])]),
        der(0xa8, &[&der(0x30, &[&integer(AES256)])]),
    ];
    let body = der(0x30, &[&body.concat()]);
    let fields = [der(0xa1, &[&integer(5)]), der(0xa2, &[&integer(10)]), der(0xa4, &[&body])];
    der(0x6a, &[&der(0x30, &[&fields.concat()])])
}

/// What a KDC seals for the account, with this tag.
fn part(tag: u8, nonce: &[u8]) -> Vec<u8> {
    let key = [der(0xa0, &[&integer(AES256)]), der(0xa1, &[&der(0x04, &[&[7; 32]])])];
    let fields = [
        der(0xa0, &[&der(0x30, &[&key.concat()])]),
        der(0xa1, &[&der(0x30, &[])]),
        der(0xa2, &[&der(0x02, &[nonce])]),
        der(0xa4, &[&der(0x03, &[&[0; 5]])]),
        der(0xa5, &[&time()]),
        der(0xa7, &[&time()]),
        der(0xa9, &[&text("PLANT.EXAMPLE")]),
        der(0xaa, &[&name()]),
    ];
    der(tag, &[&der(0x30, &[&fields.concat()])])
}

fn account_key(salt: &str) -> Vec<u8> {
    let cipher = CipherSuite::Aes256CtsHmacSha196.cipher();
    cipher.generate_key_from_password(b"Vault-Secret-1", salt.as_bytes()).unwrap()
}

/// AS-REP, with what it says about keys.
fn answer(kind: u8, salt: &str, plain: &[u8], keys: &[u8]) -> Vec<u8> {
    let cipher = CipherSuite::Aes256CtsHmacSha196.cipher().encrypt(&account_key(salt), 3, plain).unwrap();
    let sealed = [der(0xa0, &[&integer(kind)]), der(0xa2, &[&der(0x04, &[&cipher])])];
    let sealed = der(0x30, &[&sealed.concat()]);
    let realm = text("PLANT.EXAMPLE");
    let ticket =
        [der(0xa0, &[&integer(5)]), der(0xa1, &[&realm]), der(0xa2, &[&name()]), der(0xa3, &[&sealed])];
    let mut fields = vec![der(0xa0, &[&integer(5)]), der(0xa1, &[&integer(11)])];
    if !keys.is_empty() {
        fields.push(der(0xa2, &[keys]));
    }
    fields.push(der(0xa3, &[&realm]));
    fields.push(der(0xa4, &[&name()]));
    fields.push(der(0xa5, &[&der(0x61, &[&der(0x30, &[&ticket.concat()])])]));
    fields.push(der(0xa6, &[&sealed]));
    der(0x6b, &[&der(0x30, &[&fields.concat()])])
}

/// The answer to a question with this nonce, as the library is given it.
fn rewritten(nonce: &[u8], answer: &[u8], said: &[u8]) -> Option<AsRep> {
    let account = Account { realm: "PLANT.EXAMPLE", user: "eng", password: &"Vault-Secret-1".into() };
    let said = as_rep::keys_of(&krb_error(25, said));
    let answer = as_rep::rewritten(&question(nonce), answer, &said, &account)?;
    Some(picky_asn1_der::from_bytes(&answer).unwrap())
}

const NONCE: &[u8] = &[0x12, 0x34, 0x56, 0x78];

#[test]
fn an_answer_whose_part_has_either_tag_is_given_with_the_one_and_the_salt_that_the_library_wants() {
    for tag in [0x79, 0x7a] {
        for (salt, said, own) in [
            (SALT, Vec::new(), Vec::new()),
            ("said", keys(AES256, "said", &[]), Vec::new()),
            ("own", keys(AES256, "said", &[]), keys(AES256, "own", &4096_u32.to_be_bytes())),
            (SALT, keys(AES128, "said", &[]), keys(AES128, "own", &[])),
        ] {
            let answer = answer(AES256, salt, &part(tag, NONCE), &own);
            let given = rewritten(NONCE, &answer, &said).unwrap().0;
            let cipher = CipherSuite::Aes256CtsHmacSha196.cipher();
            let plain = cipher.decrypt(&account_key(salt), 3, &given.enc_part.0.cipher.0.0).unwrap();
            assert_eq!(plain, part(0x79, NONCE));
            let padata = picky_asn1_der::to_vec(&given.padata.0.unwrap().0).unwrap();
            assert_eq!(padata, keys(AES256, salt, &[]));
        }
    }
}

#[test]
fn an_answer_to_another_question_or_for_another_key_is_none() {
    let fine = answer(AES256, SALT, &part(0x7a, NONCE), &[]);
    assert!(rewritten(NONCE, &fine, &[]).is_some());
    for (nonce, theirs) in [
        (&[0x00, 0xf1, 2, 3, 4][..], &[0xf1, 2, 3, 4][..]),
        (&[0xf1, 2, 3, 4], &[0x00, 0xf1, 2, 3, 4]),
        (&[0xff], &[0xff, 0xff, 0xff, 0xff]),
    ] {
        assert!(
            rewritten(nonce, &answer(AES256, SALT, &part(0x7a, theirs), &[]), &[]).is_some(),
            "{nonce:x?}"
        );
    }
    assert!(rewritten(&[0x12, 0x34, 0x56, 0x79], &fine, &[]).is_none());
    for unfit in [
        answer(AES256, SALT, &part(0x7b, NONCE), &[]),
        answer(AES256, SALT, &[], &[]),
        answer(AES256, "another salt", &part(0x7a, NONCE), &[]),
        // DES, and what nobody knows.
        answer(16, SALT, &part(0x7a, NONCE), &[]),
        answer(99, SALT, &part(0x7a, NONCE), &[]),
        answer(AES256, SALT, &part(0x7a, NONCE), &keys(AES256, SALT, &4097_u32.to_be_bytes())),
        krb_error(24, &[]),
        Vec::new(),
    ] {
        assert!(rewritten(NONCE, &unfit, &[]).is_none(), "{unfit:x?}");
    }
}

#[tokio::test]
async fn an_account_without_the_key_that_is_used_is_told_so_before_it_proves_itself() {
    let error = fails(vec![says(vec![krb_error(25, &keys(AES128, SALT, &[]))])]).await;
    assert!(matches!(error, KerberosError::Account { code: 14, .. }), "{error:?}");
    assert!(error.to_string().contains("no AES-256 key"), "{error}");
}

#[tokio::test]
async fn what_a_kdc_refuses_is_told_with_what_to_do() {
    for (code, says_so) in [
        (6, "does not know it"),
        (14, "no AES-256 key"),
        (18, "disabled, locked"),
        (23, "has expired: rotate"),
        (24, "the password is wrong"),
        (37, "clocks of KDC and gateway"),
        (60, "error 60"),
        (68, "another realm"),
    ] {
        assert_eq!(refusal(&krb_error(code, &[])), Some(code.into()));
        let error = fails(vec![says(vec![wants_proof(), krb_error(code, &[])])]).await;
        assert!(matches!(&error, KerberosError::Account { code: seen, .. } if *seen == u32::from(code)));
        assert!(error.to_string().contains(says_so), "{error}");
        assert!(!error.to_string().contains("Vault-Secret-1"));
    }
    // Once more is once too often.
    let error = fails(vec![says(vec![wants_proof(), wants_proof()])]).await;
    assert!(matches!(error, KerberosError::Account { code: 25, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kdc_that_is_away_or_silent_leaves_it_to_the_next_one_and_all_of_them_end_the_log_in() {
    let refuses = says(vec![wants_proof(), krb_error(24, &[])]);
    for first in [Does::Refuse, Does::Wait, Does::Say(Vec::new()), Does::Say(vec![0, 0, 0, 9, 1])] {
        let error = fails(vec![vec![first.clone(), first.clone()], refuses.clone()]).await;
        assert!(matches!(error, KerberosError::Account { code: 24, .. }), "{error:?}");
        let error = fails(vec![vec![first.clone()], vec![first]]).await;
        let KerberosError::Unreachable { realm, why } = &error else { panic!("{error:?}") };
        assert_eq!((realm.as_str(), why.matches(';').count()), ("PLANT.EXAMPLE", 1), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_waited_for() {
    for len in [64 * 1024 + 1, u32::MAX] {
        let long = [len.to_be_bytes().as_slice(), &[0; 1000]].concat();
        assert_eq!(fails(vec![vec![Does::Say(long)]]).await, KerberosError::Answer);
    }
}

#[tokio::test]
async fn a_kdc_that_wants_no_proof_or_answers_something_else_gives_no_ticket() {
    for answer in [Vec::new(), vec![0x6b, 0], b"HTTP/1.1 400 Bad Request".to_vec(), vec![0x30; 9000]] {
        assert_eq!(fails(vec![says(vec![answer.clone()])]).await, KerberosError::Answer);
        assert_eq!(fails(vec![says(vec![wants_proof(), answer])]).await, KerberosError::Answer);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whatever_a_kdc_answers_is_an_error(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        tag in prop::sample::select(vec![0x6bu8, 0x6d, 0x7e, 0x30]),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut changed = wants_proof();
        *at.get_mut(&mut changed) = to;
        let built = der(tag, &[&der(0x30, &[&noise])]);
        refusal(&noise);
        for answers in [
            vec![noise.clone()],
            vec![built.clone()],
            vec![wants_proof(), noise],
            vec![wants_proof(), built.clone()],
            vec![changed.clone(), built],
            vec![wants_proof(), changed],
        ] {
            runtime.block_on(fails(vec![says(answers)]));
        }
    }
}

#[test]
fn a_target_that_chooses_ntlm_is_seen_to() {
    assert!(Choice::of(b"NTLMSSP\0\x02") == Choice::Ntlm);
    assert!(Choice::of(&[0xa1, 0x0e, 0x06, 0x0a, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x0a]) == Choice::Ntlm);
    assert!(Choice::of(&[]) == Choice::Other);
}
