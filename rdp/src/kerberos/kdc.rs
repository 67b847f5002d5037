//! Asking a KDC, over TCP (RFC 4120 7.2.2): one question on a connection, one answer, both bounded in size and time.

use std::{io, time::Duration};

use async_trait::async_trait;
use cofferdam_vault::SecretString;
use picky_krb::data_types::EtypeInfo2;
use sspi::{NetworkProtocol, NetworkRequest};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{
    Kerberos, KerberosError,
    as_rep::{self, Account},
    contained,
};
use crate::wire::Reader;

/// The address that the library is told. Only what it wants to send there is sent, and not there.
pub(super) const NOWHERE: &str = "tcp://kdc.invalid:88";

/// The largest answer. A ticket carries all groups of an account, which Windows keeps below 48 KiB.
const LIMIT: u32 = 64 * 1024;

/// How long one KDC gets for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most questions of one log-in: without and with pre-authentication, the ticket, and one to spare.
const QUESTIONS: usize = 4;

/// RFC 4120 7.5.9: what the first question is answered with.
const PREAUTH_REQUIRED: u32 = 25;

/// RFC 4120 7.5.9: there is no key of a kind that both know.
const ETYPE_NOSUPP: u32 = 14;

/// aes256-cts-hmac-sha1-96 (RFC 3962 7).
const AES_256: [u8; 1] = [18];

/// The tag of the answer about the account (RFC 4120 5.4.2).
const AS_REP: u8 = 0x6b;

/// Both ways to a KDC.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection to a KDC.
pub type KdcStream = Box<dyn Duplex>;

/// The way to the KDCs of a realm. Which they are, and that they may be dialled, is the caller's to say.
#[async_trait]
pub trait Kdcs: Send + Sync {
    /// How many there are. They are tried in order, each when those before it do not answer.
    fn count(&self) -> usize;
    /// A new connection to one of them.
    ///
    /// # Errors
    /// Why there is none, for the operator, with the KDC's address.
    async fn dial(&self, number: usize) -> Result<KdcStream, String>;
}

/// What the library asks in one log-in.
pub(super) struct Questions<'a> {
    realm: &'a Kerberos,
    account: Account<'a>,
    asked: usize,
    /// What the KDC said about the account's keys when it wanted a proof.
    keys: EtypeInfo2,
}

impl<'a> Questions<'a> {
    pub(super) fn new(realm: &'a Kerberos, user: &'a str, password: &'a SecretString) -> Self {
        let account = Account { realm: &realm.realm, user, password };
        Self { realm, account, asked: 0, keys: Vec::new().into() }
    }

    /// How many there were.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// What a KDC answers to the library's request. Refusals end here: the library would log them, retry, or think of another
    /// way in.
    pub(super) async fn ask(&mut self, request: &NetworkRequest) -> Result<Vec<u8>, KerberosError> {
        let realm = &self.realm.realm;
        if request.protocol != NetworkProtocol::Tcp || request.url.as_str() != NOWHERE {
            return Err(KerberosError::OtherRealm(realm.clone()));
        }
        let first = self.asked == 0;
        self.asked += 1;
        if self.asked > QUESTIONS {
            return Err(KerberosError::Answer);
        }
        let answer = self.exchange(&request.data).await?;
        let message = answer.get(4..).unwrap_or_default();
        match refusal(message) {
            Some(PREAUTH_REQUIRED) if first => {
                self.keys = contained(|| as_rep::keys_of(message)).ok_or(KerberosError::Answer)?;
                // The library proves itself by this kind whatever is said, which would look like a wrong password.
                if self.keys.0.iter().all(|key| key.etype.0.0 != AES_256) && !self.keys.0.is_empty() {
                    return Err(KerberosError::Account { realm: realm.clone(), code: ETYPE_NOSUPP });
                }
                Ok(answer)
            }
            None if message.first() == Some(&AS_REP) => self.rewritten(&request.data, message),
            None => Ok(answer),
            Some(code) if asks_for_ticket(&request.data) => {
                Err(KerberosError::Ticket { realm: realm.clone(), service: self.realm.service(), code })
            }
            Some(code) => Err(KerberosError::Account { realm: realm.clone(), code }),
        }
    }

    fn rewritten(&self, question: &[u8], answer: &[u8]) -> Result<Vec<u8>, KerberosError> {
        let question = question.get(4..).unwrap_or_default();
        contained(|| as_rep::rewritten(question, answer, &self.keys, &self.account))
            .flatten()
            .and_then(|answer| {
                Some([&u32::try_from(answer.len()).ok()?.to_be_bytes(), answer.as_slice()].concat())
            })
            .ok_or(KerberosError::Answer)
    }

    async fn exchange(&self, question: &[u8]) -> Result<Vec<u8>, KerberosError> {
        let kdcs = &*self.realm.kdcs;
        let mut why = Vec::new();
        for number in 0..kdcs.count() {
            match tokio::time::timeout(PATIENCE, converse(kdcs, number, question)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Broken::TooLong)) => return Err(KerberosError::Answer),
                Ok(Err(Broken::Unreachable(reason))) => why.push(reason),
                Ok(Err(Broken::Io(e))) => why.push(format!("it closed the connection ({})", e.kind())),
                Err(_) => why.push(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        }
        Err(KerberosError::Unreachable { realm: self.realm.realm.clone(), why: why.join("; ") })
    }
}

/// Why there is no answer of one KDC.
#[derive(Debug)]
enum Broken {
    Unreachable(String),
    TooLong,
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One answer with its length in front.
async fn converse(kdcs: &dyn Kdcs, number: usize, question: &[u8]) -> Result<Vec<u8>, Broken> {
    let mut kdc = kdcs.dial(number).await.map_err(Broken::Unreachable)?;
    kdc.write_all(question).await?;
    kdc.flush().await?;
    let len = kdc.read_u32().await?;
    if len > LIMIT {
        return Err(Broken::TooLong);
    }
    let mut answer = len.to_be_bytes().to_vec();
    // Read as it comes: what is announced is not yet there.
    let read = (&mut kdc).take(len.into()).read_to_end(&mut answer).await?;
    if u32::try_from(read) == Ok(len) {
        Ok(answer)
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }
}

/// Whether a question, with its length in front, is a TGS-REQ (RFC 4120 5.4.1).
fn asks_for_ticket(question: &[u8]) -> bool {
    question.get(4) == Some(&0x6c)
}

/// The code in a KRB-ERROR (RFC 4120 5.9.1); `None` for other answers.
pub(crate) fn refusal(answer: &[u8]) -> Option<u32> {
    const ERROR: u8 = 0x7e;
    const SEQUENCE: u8 = 0x30;
    const CODE: u8 = 0xa6;
    const INTEGER: u8 = 0x02;
    let inside = |bytes, wanted| value(&mut Reader(bytes)).filter(|(tag, _)| *tag == wanted).map(|(_, v)| v);
    let mut fields = Reader(inside(inside(answer, ERROR)?, SEQUENCE)?);
    while let Some((tag, content)) = value(&mut fields) {
        if tag == CODE {
            let code = inside(content, INTEGER).filter(|code| code.len() <= 4)?;
            return Some(code.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)));
        }
    }
    None
}

/// The next value in DER: its tag and what it holds.
fn value<'a>(bytes: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let tag = bytes.u8()?;
    let len = match bytes.u8()? {
        short @ 0..=0x7f => usize::from(short),
        long @ 0x81..=0x83 => {
            bytes.take(usize::from(long & 0x7f))?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
        }
        _ => return None,
    };
    Some((tag, bytes.take(len)?))
}
