//! Log-in over SSH: feeds the log-in machine with what was proved, and carries out what it says. The machine decides;
//! here are only the look-ups and the checks that need the store, the vault or time to compute.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc};

use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    decision::SecondFactorKind,
    ids::{Login as AccountLogin, Name},
    login::{
        CODE_PROMPT, Enrolled, Event, LoggedIn, LoginMachine, LoginRules, NO_SECOND_FACTOR, Remembered, Step,
        VerifiedCertificate,
    },
    store::RememberedFactor,
    window::Phase,
};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, ssh_key::certificate::CertType};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::connection::{Identity, Named};
use crate::gateway::Gateway;

/// What a password's prompt says where the client asks by keyboard-interactive.
const PASSWORD_PROMPT: &str = "Password: ";
/// Keys that one connection may offer without proof.
const OFFERS: u8 = 32;
/// Longest log-in name that is looked at, bytes.
const LONGEST_NAME: usize = 256;

/// What to tell the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Both factors are proved.
    Accept,
    /// No.
    Reject,
    /// The first factor is proved; the second is asked for by keyboard-interactive.
    ThenAsk,
    /// Ask this now.
    Ask {
        /// What to type.
        prompt: String,
    },
    /// Say this, and ask nothing.
    Say {
        /// The text.
        text: String,
    },
}

/// Certificate authorities whose user certificates count as a first factor.
#[derive(Debug, Default)]
pub(crate) struct TrustedAuthorities(Vec<PublicKey>);

impl TrustedAuthorities {
    /// Reads the files, one public key a line.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, String> {
        let mut keys = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
                let key = PublicKey::from_openssh(line).map_err(|e| {
                    format!("{}: not a public key ({e}); one `ssh-ed25519 AAAA…` a line", file.display())
                })?;
                keys.push(key);
            }
        }
        Ok(Self(keys))
    }

    /// A user certificate of one of them, whose signature holds now and whose critical options are all understood.
    /// (The library has checked that the client holds the certified key.)
    fn verified(&self, certificate: &Certificate, now: Timestamp) -> Option<VerifiedCertificate> {
        let prints: Vec<_> = self.0.iter().map(|k| k.fingerprint(HashAlg::Sha256)).collect();
        if certificate.cert_type() != CertType::User {
            return None;
        }
        let seconds = u64::try_from(now.seconds()).ok()?;
        certificate.validate_at(seconds, &prints).ok()?;
        let mut source_addresses = Vec::new();
        for (name, value) in certificate.critical_options().iter() {
            match name.as_str() {
                "source-address" => source_addresses.extend(value.split(',').map(|s| s.trim().to_owned())),
                // An option that is not understood must refuse (PROTOCOL.certkeys, "critical options").
                _ => return None,
            }
        }
        let moment = |s: u64| Timestamp::from_seconds(i64::try_from(s).unwrap_or(i64::MAX));
        Some(VerifiedCertificate {
            key_fingerprint: PublicKey::from(certificate.public_key().clone())
                .fingerprint(HashAlg::Sha256)
                .to_string(),
            principals: certificate.valid_principals().iter().cloned().collect(),
            valid_after: moment(certificate.valid_after()),
            valid_before: moment(certificate.valid_before()),
            source_addresses,
            user_verified: None,
        })
    }
}

/// What a log-in name says: the person, and what they want to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The person; none: nobody has such a name.
    pub(crate) user: Option<Name>,
    /// What they named behind it.
    pub(crate) named: Option<Named>,
}

/// `vera`, `vera+pump-hmi`, `vera+pump-hmi+root`. What does not parse is nobody's name.
pub(crate) fn parse(text: &str) -> Asked {
    let nobody = Asked { user: None, named: None };
    if text.len() > LONGEST_NAME {
        return nobody;
    }
    let mut parts = text.split('+');
    let user = parts.next().and_then(|u| Name::new(u).ok());
    let asset = match parts.next().map(Name::new) {
        None => None,
        Some(Ok(asset)) => Some(asset),
        Some(Err(_)) => return nobody,
    };
    let login = match parts.next().map(AccountLogin::new) {
        None => None,
        Some(Ok(login)) => Some(login),
        Some(Err(_)) => return nobody,
    };
    if parts.next().is_some() {
        return nobody;
    }
    Asked { user, named: asset.map(|asset| Named { asset, login }) }
}

/// Reads arbitrary text as a log-in name; for fuzzing. What is understood is written back as it was.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_name(text: &str) {
    let asked = parse(text);
    let Some(user) = asked.user else { return };
    let mut again = user.to_string();
    if let Some(named) = asked.named {
        again = format!("{again}+{}", named.asset);
        if let Some(login) = named.login {
            again = format!("{again}+{login}");
        }
    }
    assert_eq!(again, text, "understood as something else");
}

/// The log-in of one connection.
#[derive(Debug)]
pub(crate) struct Login {
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    current: Option<(String, Asked)>,
    machine: Option<LoginMachine>,
    attempts_left: u8,
    offers: u8,
    /// The next message by keyboard-interactive, where the machine gave up with one.
    last_words: Option<&'static str>,
    done: Option<(Identity, Option<Named>)>,
}

impl Login {
    /// For a connection that just arrived.
    pub(crate) fn new(gateway: Arc<Gateway>, peer: SocketAddr) -> Self {
        let attempts = u8::try_from(gateway.limits.login_attempts).unwrap_or(u8::MAX);
        Self {
            gateway,
            peer,
            current: None,
            machine: None,
            attempts_left: attempts,
            offers: 0,
            last_words: None,
            done: None,
        }
    }

    /// Who logged in, once somebody has.
    pub(crate) fn done(&mut self) -> Option<(Identity, Option<Named>)> {
        self.done.take()
    }

    /// Whether a signature by this key could help: it spares the client useless ones. Proves nothing.
    pub(crate) fn may_sign(&mut self, user: &str, key: &PublicKey) -> bool {
        self.offers = self.offers.saturating_add(1);
        if self.offers > OFFERS {
            return false;
        }
        // A certificate is offered by its bare key: where an authority is trusted, any key may turn out to be certified.
        if !self.gateway.authorities.0.is_empty() {
            return true;
        }
        let Some(name) = parse(user).user else { return false };
        let print = fingerprint(key);
        let snapshot = self.gateway.snapshots.borrow();
        snapshot.site.user(&name).is_some_and(|u| fingerprints(&u.ssh_keys).contains(&print))
    }

    /// A signature by `key` was verified.
    pub(crate) async fn key(&mut self, user: &str, key: &PublicKey) -> Answer {
        let print = fingerprint(key);
        self.begin(user, Some(&print)).await;
        // Whether a security key verified its user is not told by the library; unknown counts as no.
        let security_key = matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256);
        let event = Event::Key { fingerprint: print, user_verified: security_key.then_some(false) };
        self.handle(event).await
    }

    /// A signature by a certified key was verified.
    pub(crate) async fn certificate(&mut self, user: &str, certificate: &Certificate) -> Answer {
        let now = self.gateway.clock.now();
        let Some(verified) = self.gateway.authorities.verified(certificate, now) else {
            self.begin(user, None).await;
            return self.refuse("certificate_refused").await;
        };
        let print = verified.key_fingerprint.clone();
        self.begin(user, Some(&print)).await;
        self.handle(Event::Certificate(verified)).await
    }

    /// A password came.
    pub(crate) async fn password(&mut self, user: &str, password: &str) -> Answer {
        self.begin(user, None).await;
        self.check_password(Zeroizing::new(password.as_bytes().to_vec())).await
    }

    /// Keyboard-interactive: the first message, or an answer.
    pub(crate) async fn interactive(&mut self, user: &str, typed: Option<&[u8]>) -> Answer {
        let fresh = self.current.as_ref().is_none_or(|(name, _)| name != user);
        if fresh {
            self.begin(user, None).await;
        }
        if let Some(text) = self.last_words.take() {
            return if typed.is_none() { Answer::Say { text: text.to_owned() } } else { Answer::Reject };
        }
        let second = self.in_second_stage();
        match (second, typed) {
            (false, None) => Answer::Ask { prompt: PASSWORD_PROMPT.to_owned() },
            (false, Some(password)) => match self.check_password(Zeroizing::new(password.to_vec())).await {
                // The conversation goes on: the client need not start another.
                Answer::ThenAsk => self.ask_code(),
                answer => answer,
            },
            (true, None) => self.ask_code(),
            (true, Some(code)) => {
                let code = Zeroizing::new(
                    String::from_utf8_lossy(code.get(..64.min(code.len())).unwrap_or_default()).into_owned(),
                );
                self.check_code(code.trim()).await
            }
        }
    }

    fn ask_code(&mut self) -> Answer {
        let now = self.gateway.clock.now();
        match self.machine.as_mut().map(|m| m.handle(Event::ReadyForCode, now)) {
            Some(Step::AskCode { prompt }) => Answer::Ask { prompt: prompt.to_owned() },
            _ => Answer::Reject,
        }
    }

    fn in_second_stage(&self) -> bool {
        self.machine.as_ref().is_some_and(LoginMachine::awaits_code)
    }

    fn user(&self) -> Option<&Name> {
        self.current.as_ref().and_then(|(_, asked)| asked.user.as_ref())
    }

    /// A machine for this name: the same one while the name stays, unless a key is about to be shown, whose remembered
    /// second factors it has to know.
    async fn begin(&mut self, user: &str, key: Option<&str>) {
        let same = self.current.as_ref().is_some_and(|(name, _)| name == user);
        if same && self.machine.is_some() && (key.is_none() || self.in_second_stage()) {
            return;
        }
        if let Some(machine) = &self.machine {
            self.attempts_left = self.attempts_left.min(machine.attempts_left());
        }
        let asked = parse(user);
        let enrolled = match &asked.user {
            Some(name) => self.enrolled(name, asked.named.as_ref(), key).await,
            None => None,
        };
        let rules = LoginRules {
            attempts: self.attempts_left,
            offers: OFFERS,
            remember_seconds: self.gateway.snapshots.borrow().site.settings.second_factor_remember_seconds,
        };
        // The client's version is known only after log-in; it is put in then.
        self.machine = Some(LoginMachine::new(enrolled, self.peer.ip(), "", rules));
        self.current = Some((user.chars().take(LONGEST_NAME).collect(), asked));
    }

    /// What is known of the person. Remembered second factors are given only where they will do: for the windows on the
    /// named asset, or, where none is named, only if they cover every window that is open to the person. Otherwise a
    /// code is asked for now, rather than the session refused later.
    async fn enrolled(&self, name: &Name, named: Option<&Named>, key: Option<&str>) -> Option<Enrolled> {
        let now = self.gateway.clock.now();
        // A store that does not answer knows nobody.
        let snapshot = self.gateway.current_snapshot().await.ok()?;
        let (user, windows, seconds) = {
            let windows: Vec<_> = snapshot
                .windows
                .iter()
                .filter(|w| w.request.users.contains(name) && w.phase(now) == Phase::Open)
                .filter(|w| named.is_none_or(|n| w.request.accounts.iter().any(|a| a.asset == n.asset)))
                .map(cofferdam_access::window::Window::id)
                .collect();
            (
                snapshot.site.user(name)?.clone(),
                windows,
                snapshot.site.settings.second_factor_remember_seconds,
            )
        };
        // A store that does not answer knows of no second factor: nobody gets in.
        let credentials = self.gateway.store.credentials(name).await.ok().flatten();
        let mut remembered = Vec::new();
        if let Some(key) = key.filter(|_| seconds > 0) {
            let open = windows.len();
            for window in windows {
                let factor = RememberedFactor {
                    person: name.clone(),
                    device_key: key.to_owned(),
                    source: self.peer.ip(),
                    window: Some(window),
                };
                if let Ok(Some(until)) = self.gateway.store.remembered_until(&factor, now).await {
                    remembered.push(Remembered {
                        at: until.plus_seconds(-i64::from(seconds)),
                        key_fingerprint: key.to_owned(),
                        source: self.peer.ip(),
                        window,
                    });
                }
            }
            if named.is_none() && remembered.len() < open {
                remembered.clear();
            }
        }
        Some(Enrolled {
            user: name.clone(),
            active: user.is_active(now),
            keys: fingerprints(&user.ssh_keys),
            has_second_factor: credentials
                .is_some_and(|c| c.totp_sealed.is_some() || c.recovery_codes_left > 0),
            remembered,
        })
    }

    async fn check_password(&mut self, password: Zeroizing<Vec<u8>>) -> Answer {
        let prover = &self.gateway.prover;
        if !prover.may_guess(self.user(), self.peer.ip(), self.gateway.clock.now()) {
            return self.throttled();
        }
        let ok = prover.password(self.user(), password).await;
        self.handle(Event::Password { ok }).await
    }

    async fn check_code(&mut self, code: &str) -> Answer {
        let now = self.gateway.clock.now();
        let Some(name) = self.user().cloned() else { return Answer::Reject };
        let prover = &self.gateway.prover;
        if !prover.may_guess(Some(&name), self.peer.ip(), now) {
            return self.throttled();
        }
        let act = Act::person(&name, now).from(self.peer.ip());
        let event = |how| AuditEvent::new(AuditKind::LoginSucceeded, &name).with("second_factor", how);
        let check = prover.code(&act, &name, code, event).await;
        self.handle(Event::Code(check)).await
    }

    async fn handle(&mut self, event: Event) -> Answer {
        let now = self.gateway.clock.now();
        let Some(machine) = &mut self.machine else { return Answer::Reject };
        match machine.handle(event, now) {
            Step::Accept(logged_in) => self.accept(*logged_in, now).await,
            Step::AskCode { .. } => Answer::Ask { prompt: CODE_PROMPT.to_owned() },
            Step::Continue { partial: true, .. } => Answer::ThenAsk,
            Step::Continue { partial: false, .. } | Step::Prove => self.failed().await,
            Step::Reject { message } => {
                self.failed().await;
                if message == NO_SECOND_FACTOR {
                    // The first factor was right: this person may know why.
                    self.last_words = Some(message);
                    return Answer::ThenAsk;
                }
                Answer::Reject
            }
        }
    }

    /// A code's use has audited the log-in with it; a remembered one is audited here, or the log-in fails.
    async fn accept(&mut self, person: LoggedIn, now: Timestamp) -> Answer {
        let LoggedIn { user, device, factors } = person;
        if let Some(second) = factors.second.as_ref().filter(|s| s.kind == SecondFactorKind::Remembered) {
            let event = AuditEvent::new(AuditKind::LoginSucceeded, &user)
                .with("second_factor", second.kind.as_str())
                .with_some("device_key", device.key_fingerprint.clone());
            let act = Act::person(&user, now).from(self.peer.ip());
            if let Err(e) = self.gateway.store.record(&act, event).await {
                warn!(error = %e, "a log-in was refused: it could not be audited");
                return Answer::Reject;
            }
        }
        self.gateway.prover.succeeded(&user, self.peer.ip(), now);
        info!(user = %user, source = %self.peer.ip(), first = device.kind.as_str(), "logged in");
        let named = self.current.as_ref().and_then(|(_, asked)| asked.named.clone());
        self.done = Some((Identity { user, source: self.peer, device, factors }, named));
        Answer::Accept
    }

    async fn failed(&mut self) -> Answer {
        let why =
            self.machine.as_ref().and_then(LoginMachine::last_failure).map_or("refused", |f| f.as_str());
        self.refuse(why).await
    }

    async fn refuse(&mut self, why: &str) -> Answer {
        let now = self.gateway.clock.now();
        if let Err(e) = self.gateway.prover.refused(self.user(), self.peer.ip(), now, why).await {
            warn!(error = %e, "a failed log-in could not be audited");
        }
        Answer::Reject
    }

    fn throttled(&self) -> Answer {
        // Not audited one by one: a flood must not fill the log. The attempts that led here are in it.
        info!(source = %self.peer.ip(), "a log-in attempt was not looked at: too many");
        Answer::Reject
    }
}

/// `SHA256:…` of a key, as people compare it.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn fingerprints(keys: &[String]) -> BTreeSet<String> {
    keys.iter().filter_map(|k| PublicKey::from_openssh(k).ok()).map(|k| fingerprint(&k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_who_and_where_to() {
        let asked = parse("vera+pump-hmi+root");
        assert_eq!(asked.user, Some("vera".parse().unwrap()));
        let named = asked.named.unwrap();
        assert_eq!((named.asset.as_str(), named.login.unwrap().as_str()), ("pump-hmi", "root"));
        assert_eq!(parse("vera").named, None);
        for nobody in
            ["", "+", "vera+", "vera+a+b+c", "Vera", "vera+../x", "vera+pump+ro ot", &"a".repeat(300)]
        {
            let asked = parse(nobody);
            assert!(
                asked.user.is_none() || asked.named.is_none() && nobody == "vera",
                "{nobody:?}: {asked:?}"
            );
        }
    }
}
