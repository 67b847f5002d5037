//! Single-use tokens for desktops: how one is made, and who is let in by one. A client without NLA, where those may log in,
//! proves who it is by a token, too, or by the person's password and code.
//!
//! The log-in by NLA proves that both sides know the token without sending it, so this side has to have it, too: it is
//! sealed under a key that only this process has and that ends with it, the store keeps it for a minute at most, and its use
//! deletes it. Of all who present it, one gets in. A token opens at the node that made it, whose address its page names.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cofferdam_access::{
    audit::Act,
    ids::{DesktopTokenId, Name},
    login::{LoggedIn, LoginMachine, LoginRules},
    site::AccountRef,
    store::{DESKTOP_TOKEN_SECONDS, DesktopToken, StoreError},
};
use cofferdam_rdp::{Candidate, Proof, Tokens};
use cofferdam_vault::{Context as Sealed, SecretBytes, SecretString};
use cofferdam_web::{DesktopPass, DesktopRequest, Desktops, OpenDesktop};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::{connection, listener::Entrance};
use crate::{
    gateway::Gateway,
    setup,
    ssh::{connection::Named, login},
};

/// Characters of a token, each one of 32: 130 random bits.
const LENGTH: usize = 26;
/// How long the look-up of a person's tokens may take.
const LOOK_UP: Duration = Duration::from_secs(2);
/// Every refusal of what was typed takes at least so long, whatever it took to find out.
const REFUSAL: Duration = Duration::from_millis(400);

/// What the decision is told of a client without NLA; policies may name it.
const WITHOUT_NLA: &str = "rdp without NLA";

/// What a token's sealed text is bound to: it opens as no other token, and for nobody else.
fn binding(id: DesktopTokenId, person: &Name) -> Sealed {
    Sealed::new("desktop-token", format!("{id} {person}"))
}

/// Makes tokens for the web interface, and lets its browsers in by them.
pub(crate) struct Issuer {
    gateway: Arc<Gateway>,
    address: String,
    entrance: Entrance,
    tasks: TaskTracker,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Issuer {
    /// For the listener that people reach at `address`; browsers are served among `tasks`.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        address: String,
        entrance: Entrance,
        tasks: TaskTracker,
    ) -> Self {
        Self { gateway, address, entrance, tasks }
    }
}

#[async_trait]
impl Desktops for Issuer {
    fn address(&self) -> &str {
        &self.address
    }

    fn certificate(&self) -> Vec<u8> {
        self.entrance.certificate()
    }

    async fn issue(&self, act: &Act, request: DesktopRequest) -> Result<DesktopPass, String> {
        let fault = |e: &dyn fmt::Display| {
            error!(error = %e, "a token for a desktop could not be made");
            "the gateway cannot make a token at the moment; tell the site's administrator".to_owned()
        };
        let text = Zeroizing::new(setup::random_text(LENGTH));
        let token = DesktopToken {
            id: DesktopTokenId::new(act.at, &mut rand::rng()),
            person: request.user,
            account: request.account,
            window: request.window,
            factors: request.factors,
            source: request.source,
            created_at: act.at,
            expires_at: act.at.plus_seconds(DESKTOP_TOKEN_SECONDS),
        };
        let secret = SecretBytes::new(text.as_bytes().to_vec());
        let sealed =
            self.gateway.aside.seal(&binding(token.id, &token.person), &secret).map_err(|e| fault(&e))?;
        self.gateway.store.issue_desktop_token(act, &token, &sealed).await.map_err(|e| fault(&e))?;
        Ok(DesktopPass {
            user_name: format!("{}+{}+{}", token.person, token.account.asset, token.account.login),
            token: text,
            expires_at: token.expires_at,
        })
    }

    fn open(&self, user: Name, source: SocketAddr, keyboard: Option<u32>) -> Result<OpenDesktop, String> {
        if self.gateway.stopping.is_cancelled() {
            return Err("the gateway is being stopped; try again in a few minutes".into());
        }
        let (served, open) =
            connection::browser(self.gateway.clone(), self.entrance.front(), user, source, keyboard);
        self.tasks.spawn(served);
        Ok(open)
    }
}

/// Who may come in by one connection. Remembers whose name was tried, for the refusal's entry in the audit log.
pub(crate) struct Door {
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    /// Who is known to stand before it; nobody else gets in.
    known: Option<Name>,
    tried: Mutex<Option<Name>>,
    typed: Mutex<Option<Typed>>,
    /// The client has no NLA.
    bare: AtomicBool,
}

/// Who proved themselves by password and code, and where they want to go.
#[derive(Debug, Clone)]
pub(crate) struct Typed {
    pub(crate) person: LoggedIn,
    pub(crate) named: Named,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[async_trait]
impl Tokens for Door {
    async fn candidates(&self, user: &str) -> Vec<Candidate> {
        timeout(LOOK_UP, self.find(user)).await.unwrap_or_default()
    }

    async fn typed(&self, user: &str, password: &SecretString) -> Option<Proof> {
        let floor = Instant::now() + REFUSAL;
        self.bare.store(true, Ordering::Relaxed);
        // The code is behind the last comma: a password may have some, too. A token has none.
        let proof = match password.expose().rsplit_once(',') {
            Some((password, code)) => self.prove(user, password, code).await,
            None => self.find_token(user, password).await,
        };
        if proof.is_none() {
            sleep_until(floor).await;
        }
        proof
    }
}

impl Door {
    /// For a connection from `peer`.
    pub(crate) fn new(gateway: Arc<Gateway>, peer: SocketAddr) -> Self {
        Self {
            gateway,
            peer,
            known: None,
            tried: Mutex::default(),
            typed: Mutex::default(),
            bare: AtomicBool::new(false),
        }
    }

    /// For a browser from `peer` in which `person` is logged in. Whatever fails, failed for them.
    pub(crate) fn of(gateway: Arc<Gateway>, peer: SocketAddr, person: Name) -> Self {
        let tried = Mutex::new(Some(person.clone()));
        Self {
            gateway,
            peer,
            tried,
            known: Some(person),
            typed: Mutex::default(),
            bare: AtomicBool::new(false),
        }
    }

    /// What is known of the client. What one calls itself it says only later; the recording has it.
    pub(crate) fn client(&self) -> &'static str {
        match self.known {
            Some(_) => "desktop of the web interface",
            None if self.bare.load(Ordering::Relaxed) => WITHOUT_NLA,
            None => "rdp",
        }
    }

    fn person(&self) -> Option<Name> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn source(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// The tokens that open what `user` names. A store that does not answer knows of none.
    async fn find(&self, user: &str) -> Vec<Candidate> {
        let login::Asked { user: person, named } = login::parse(user);
        if self.known.is_some() && self.known != person {
            info!(source = %self.source(), "a browser asked for a desktop as somebody else");
            return Vec::new();
        }
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&person);
        let now = self.gateway.clock.now();
        if !self.gateway.prover.may_guess(person.as_ref(), self.source(), now) {
            info!(source = %self.source(), "a log-in to a desktop was not looked at: too many");
            return Vec::new();
        }
        let (Some(person), Some(named)) = (person, named) else { return Vec::new() };
        let login = named.login.or_else(|| {
            let snapshot = self.gateway.snapshots.borrow();
            snapshot.site.default_account(&named.asset).map(|a| a.login.clone())
        });
        let Some(login) = login else { return Vec::new() };
        let account = AccountRef { asset: named.asset, login };
        let standing = match self.gateway.store.standing_desktop_tokens(&person, now).await {
            Ok(standing) => standing,
            Err(e) => {
                warn!(error = %e, "tokens for desktops could not be read");
                return Vec::new();
            }
        };
        let fitting = standing.into_iter().filter(|s| s.token.account == account);
        fitting.filter_map(|s| self.opened(&s.token, &s.sealed)).collect()
    }

    fn opened(&self, token: &DesktopToken, sealed: &[u8]) -> Option<Candidate> {
        let opened = self.gateway.aside.open(&binding(token.id, &token.person), sealed);
        let text: Option<SecretString> = opened.ok().and_then(|secret| secret.to_text().ok());
        if text.is_none() {
            error!(token = %token.id, "a token for a desktop does not open: it was changed, or made by another node or before a restart");
        }
        Some(Candidate { id: token.id.to_string(), password: text? })
    }

    /// Uses up the token that was proved. None: somebody else was faster, or it is over.
    pub(crate) async fn redeem(&self, id: &str) -> Result<Option<DesktopToken>, StoreError> {
        let Ok(id) = id.parse::<DesktopTokenId>() else { return Ok(None) };
        let now = self.gateway.clock.now();
        let Some(person) = self.person() else { return Ok(None) };
        let act = Act::person(&person, now).from(self.source());
        let token = self.gateway.store.use_desktop_token(&act, id).await?.filter(|t| t.person == person);
        if token.is_some() {
            self.gateway.prover.succeeded(&person, self.source(), now);
        }
        Ok(token)
    }

    async fn find_token(&self, user: &str, token: &SecretString) -> Option<Proof> {
        let candidates = self.candidates(user).await;
        let fitting = candidates.into_iter().find(|c| c.password == *token);
        if fitting.is_none() {
            self.refused("desktop_token").await;
        }
        fitting.map(|c| Proof::Token(c.id))
    }

    /// Password and code, as at every other way in.
    async fn prove(&self, user: &str, password: &str, code: &str) -> Option<Proof> {
        let login::Asked { user: person, named } = login::parse(user);
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&person);
        let (prover, source, now) = (&self.gateway.prover, self.source(), self.gateway.clock.now());
        if !prover.may_guess(person.as_ref(), source, now) {
            info!(%source, "a log-in to a desktop was not looked at: too many");
            return None;
        }
        if !prover.ready() {
            warn!(%source, "nobody can log in to a desktop by a code: the vault is sealed");
        }
        // Who names no machine is nobody here: a code would be used up for nothing.
        let person = person.filter(|_| named.is_some());
        let enrolled = match &person {
            // A store that does not answer knows nobody.
            Some(name) => {
                let snapshot = self.gateway.current_snapshot().await.ok()?;
                prover.enrolled(&snapshot.site, name, now).await.ok()?
            }
            None => None,
        };
        let mut machine = LoginMachine::new(enrolled, source, WITHOUT_NLA, LoginRules::default());
        let given = (Zeroizing::new(password.as_bytes().to_vec()), code);
        match prover.both(&mut machine, person.as_ref(), (source, now), given, "rdp").await.zip(named) {
            Some((person, named)) => {
                prover.succeeded(&person.user, source, now);
                *self.typed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Typed { person, named });
                Some(Proof::Typed)
            }
            None => {
                self.refused(machine.last_failure().map_or("refused", |failure| failure.as_str())).await;
                None
            }
        }
    }

    /// Whether somebody typed something, and has proved nothing by it yet.
    pub(crate) fn has_tried(&self) -> bool {
        self.bare.load(Ordering::Relaxed) && self.person().is_some() && self.typed().is_none()
    }

    /// Who has proved themselves by what they typed.
    pub(crate) fn typed(&self) -> Option<Typed> {
        self.typed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Audits and counts a log-in that failed.
    pub(crate) async fn refused(&self, why: &str) {
        let now = self.gateway.clock.now();
        let noted = self.gateway.prover.refused(self.person().as_ref(), self.source(), now, why).await;
        if let Err(e) = noted {
            warn!(error = %e, "a failed log-in to a desktop could not be audited");
        }
    }
}
