//! One question and one answer, each a line of JSON. The form is described in `docs/rotation-plugin.md` and stays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Described;
use crate::rotation::reach::words;
use crate::rotation::rotator::{Fault, Verdict};
use crate::secret::{SecretBytes, SecretString};

/// The version of the protocol. A plug-in that gets another one answers `denied`.
const PROTOCOL: u32 = 1;

/// What is asked of a plug-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    /// Change the secret from `current` to `candidate`.
    Change,
    /// Say whether `current` opens the account.
    Verify,
    /// Set `candidate` by way of `helper`.
    Reconcile,
    /// Give `current` to what depends on the account.
    Update,
}

impl Operation {
    /// Whether something may have been changed when no answer comes.
    pub(super) fn changes(self) -> bool {
        self != Self::Verify
    }
}

/// The question. Not `Debug`: it holds secrets, which is also why it borrows them.
#[derive(Serialize)]
pub(super) struct Request<'a> {
    protocol: u32,
    operation: Operation,
    account: &'a str,
    host: &'a str,
    port: Option<u16>,
    login: &'a str,
    settings: &'a BTreeMap<String, String>,
    current: Option<&'a str>,
    candidate: Option<&'a str>,
    helper: Option<Helper<'a>>,
}

#[derive(Serialize)]
struct Helper<'a> {
    login: &'a str,
    secret: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        operation: Operation,
        described: &'a Described,
        current: Option<&'a SecretString>,
        candidate: Option<&'a SecretString>,
        helper: Option<(&'a str, &'a SecretString)>,
    ) -> Self {
        Self {
            protocol: PROTOCOL,
            operation,
            account: &described.account,
            host: &described.host,
            port: described.port,
            login: &described.login,
            settings: &described.settings,
            current: current.map(SecretString::expose),
            candidate: candidate.map(SecretString::expose),
            helper: helper.map(|(login, secret)| Helper { login, secret: secret.expose() }),
        }
    }

    pub(super) fn operation(&self) -> Operation {
        self.operation
    }

    /// One line. The buffer is as large as it can become, so that no copy of it stays behind when it grows.
    pub(super) fn line(&self) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let settings: usize = self.settings.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        let texts = self.account.len() + self.host.len() + self.login.len() + settings;
        let secrets: usize = self.secrets().map(|secret| secret.len()).sum();
        let helper = self.helper.as_ref().map_or(0, |helper| helper.login.len());
        // A byte takes six as an escape at most.
        let mut line = Zeroizing::new(Vec::with_capacity(6 * (texts + secrets + helper) + 512));
        serde_json::to_writer(&mut *line, self)
            .map_err(|_| Fault::Denied("the question for the plug-in cannot be written down".into()))?;
        line.push(b'\n');
        Ok(line)
    }

    fn secrets(&self) -> impl Iterator<Item = &'a str> {
        let helper = self.helper.as_ref().map(|helper| helper.secret);
        self.current.into_iter().chain(self.candidate).chain(helper)
    }

    /// What the plug-in said, fit to be shown.
    pub(super) fn shown(&self, said: &[u8]) -> String {
        let secrets: Vec<SecretBytes> =
            self.secrets().map(|secret| SecretBytes::new(secret.as_bytes().to_vec())).collect();
        words(said, &secrets.iter().collect::<Vec<_>>())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Done,
    Opens,
    Refused,
    Rejected,
    Unreachable,
    Impostor,
    Denied,
    Unsure,
}

#[derive(Deserialize)]
struct Raw {
    protocol: u32,
    result: Outcome,
    #[serde(default)]
    message: String,
}

/// What the plug-in answered, with a message that is fit to be shown.
#[derive(Debug)]
pub(super) struct Answer {
    outcome: Outcome,
    message: String,
}

impl Answer {
    /// Reads the answer's line; none when it is not one.
    pub(super) fn parse(line: &[u8], request: &Request<'_>) -> Option<Self> {
        let raw: Raw = serde_json::from_slice(line).ok()?;
        (raw.protocol == PROTOCOL)
            .then(|| Self { outcome: raw.result, message: request.shown(raw.message.as_bytes()) })
    }

    /// The answer to everything but [`Operation::Verify`].
    pub(super) fn done(self) -> Result<(), Fault> {
        match self.outcome {
            Outcome::Done => Ok(()),
            Outcome::Opens => Err(Fault::Unsure("the plug-in gave an answer to another question".into())),
            Outcome::Refused => Err(Fault::Refused(self.message)),
            _ => Err(self.fault()),
        }
    }

    /// The answer to [`Operation::Verify`].
    pub(super) fn verdict(self) -> Result<Verdict, Fault> {
        match self.outcome {
            Outcome::Opens => Ok(Verdict::Opens),
            Outcome::Refused => Ok(Verdict::Refused),
            Outcome::Done => Err(Fault::Denied("the plug-in gave an answer to another question".into())),
            _ => Err(self.fault()),
        }
    }

    fn fault(self) -> Fault {
        match self.outcome {
            Outcome::Rejected => Fault::Rejected(self.message),
            Outcome::Unreachable => Fault::Unreachable(self.message),
            Outcome::Impostor => Fault::Impostor(self.message),
            Outcome::Unsure => Fault::Unsure(self.message),
            Outcome::Denied | Outcome::Done | Outcome::Opens | Outcome::Refused => {
                Fault::Denied(self.message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn described() -> Described {
        Described {
            account: "acc-7".into(),
            host: "srv-4".into(),
            login: "svc".into(),
            ..Described::default()
        }
    }

    #[test]
    fn the_question_is_one_line_that_the_documentation_shows() {
        let (described, secret) = (described(), SecretString::from("a\n\"b"));
        let request = Request::new(Operation::Verify, &described, Some(&secret), None, None);
        assert_eq!(
            std::str::from_utf8(&request.line().unwrap()).unwrap(),
            "{\"protocol\":1,\"operation\":\"verify\",\"account\":\"acc-7\",\"host\":\"srv-4\",\"port\":null,\
             \"login\":\"svc\",\"settings\":{},\"current\":\"a\\n\\\"b\",\"candidate\":null,\"helper\":null}\n"
        );
    }

    #[test]
    fn an_answer_to_another_question_or_of_another_protocol_is_none() {
        let (described, secret) = (described(), SecretString::from("hunter22"));
        let request = Request::new(Operation::Change, &described, Some(&secret), None, None);
        let parse = |line: &str| Answer::parse(line.as_bytes(), &request);
        assert!(parse("{\"protocol\":2,\"result\":\"done\"}").is_none());
        assert!(parse("{\"protocol\":1,\"result\":\"fine\"}").is_none());
        assert!(parse("{\"protocol\":1,\"result\":\"done\"}").unwrap().done().is_ok());
        assert!(parse("{\"protocol\":1,\"result\":\"opens\"}").unwrap().done().is_err());
        assert!(parse("{\"protocol\":1,\"result\":\"done\"}").unwrap().verdict().is_err());
        let fault =
            parse("{\"protocol\":1,\"result\":\"denied\",\"message\":\"no hunter22 here\"}").unwrap().done();
        assert_eq!(fault, Err(Fault::Denied("no [redacted] here".into())));
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_an_answer_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let described = described();
            let request = Request::new(Operation::Change, &described, None, None, None);
            prop_assert!(Answer::parse(&line, &request).is_none());
        }
    }
}
