//! The services behind every session, and the one way in which a session comes to be:
//! decide → audit → record → live. Protocols call [`Gateway::open_session`]; they have no other.

mod audit;
mod feed;
pub(crate) mod files;
mod requests;
mod space;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use cofferdam_access::{
    audit::Act,
    clock::{SharedClock, Timestamp},
    decision::{AccessRequest, DecisionRecord, Observed, SecondFactorKind},
    grant::Grant,
    ids::{Name, SessionId, WindowId},
    policy::{Decision, DestinationRules, decide},
    prover::Prover,
    site::{AccountRef, Credential, Protocol, Rotation},
    snapshot::Snapshot,
    store::{
        NewSession, OpenOutcome, Opening, RememberedFactor, SessionEnd, SessionState, Store, StoreError,
    },
};
use cofferdam_recorder::{AuditAnchor, Event, Header, RecorderService, RecordingId, Sealed};
use cofferdam_vault::{
    Sealer,
    agent::{Claim, Client, RemoteLease},
    rotation::Reason,
};
use russh::{
    keys::{Certificate, PublicKey},
    server,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub(crate) use feed::{
    follow_policy, keep_house, read_snapshot, watch_recorder, write_checkpoints, write_findings,
};

use crate::{
    detect::triggers::{Finding, Observation, Triggers},
    keys::KnownGate,
    session::{
        end::End,
        live::{Parts, PersonLeg, Session},
        registry::Registry,
        supervise::supervise,
    },
    ssh::target::TargetError,
};

/// A refusal as the person reads it: why, and what next.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The sentence.
    pub(crate) sentence: String,
}

impl Refusal {
    /// With that sentence.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into() }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// This node's name.
    pub(crate) node: String,
    /// The time.
    pub(crate) clock: SharedClock,
    /// What must outlive the process.
    pub(crate) store: Store,
    /// The newest picture of everything that decides.
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Where a new picture is published.
    pub(crate) pictures: watch::Sender<Arc<Snapshot>>,
    /// Where sessions are recorded.
    pub(crate) recorder: RecorderService,
    /// The vault process, which opens secrets for what was granted.
    pub(crate) keys: Arc<Client>,
    /// Whether the vault is open.
    pub(crate) vault_gate: Arc<KnownGate>,
    /// Seals what the store keeps for a minute for this process alone. It is none of the vault's keys.
    pub(crate) aside: Sealer,
    /// Cancelled when no session may start any more.
    pub(crate) stopping: CancellationToken,
    /// Live sessions.
    pub(crate) registry: Registry,
    /// Which addresses are never dialled for a person.
    pub(crate) destinations: DestinationRules,
    /// What sessions are looked at for.
    pub(crate) triggers: Arc<Mutex<Triggers>>,
    /// Findings on their way into the audit log.
    pub(crate) findings: mpsc::Sender<(SessionId, Finding)>,
    /// Shown before log-in.
    pub(crate) banner: Option<String>,
    /// Toward people's clients, for jumps: the same as the listener's, but for the host certificate.
    pub(crate) ssh_config: JumpConfigs,
    /// What is left of windows' file budgets, on this node.
    pub(crate) budgets: Mutex<HashMap<WindowId, crate::transfer::Budget>>,
    /// Certificate authorities whose user certificates count as a first factor.
    pub(crate) authorities: crate::ssh::login::TrustedAuthorities,
    /// Bounds.
    pub(crate) limits: crate::config::settings::Limits,
    /// Checks what people prove with, for every way in.
    pub(crate) prover: Arc<Prover>,
}

/// Server configurations for jumps, one per asset, made when first needed.
pub(crate) struct JumpConfigs {
    base: Arc<dyn Fn() -> server::Config + Send + Sync>,
    made: Mutex<BTreeMap<Name, (i64, Arc<server::Config>)>>,
}

impl std::fmt::Debug for JumpConfigs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JumpConfigs").finish_non_exhaustive()
    }
}

/// How often, and at most how many times, it is looked whether a rotation that runs has come to its end.
const BETWEEN: std::time::Duration = std::time::Duration::from_millis(250);
const BETWEEN_LOOKS: usize = 20;

/// Why nothing starts while the vault is sealed.
pub(crate) const SEALED: &str =
    "the gateway's vault is sealed, so no session starts until it is unsealed; tell the site's administrator";

/// How long a host certificate for a jump lives, seconds; renewed at half of it.
const HOST_CERTIFICATE: i64 = 24 * 3600;

/// Whether who signed the certificate still is who signs.
fn signs_now(keys: &Client, certificate: &Certificate) -> bool {
    let authority = keys.public_keys().ok().and_then(|keys| keys.host_authority);
    let authority = authority.and_then(|line| PublicKey::from_openssh(&line).ok());
    authority.is_some_and(|key| key.key_data() == certificate.signature_key())
}

impl JumpConfigs {
    /// `base` gives the listener's own configuration anew.
    pub(crate) fn new(base: Arc<dyn Fn() -> server::Config + Send + Sync>) -> Self {
        Self { base, made: Mutex::default() }
    }

    fn get(
        &self,
        keys: &Client,
        asset: &Name,
        port: u16,
        now: Timestamp,
    ) -> Result<Arc<server::Config>, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((renew, config)) = made.get(asset)
            && now.micros() < *renew
            && config.certificates.iter().all(|c| signs_now(keys, c))
        {
            return Ok(config.clone());
        }
        let mut config = (self.base)();
        let key = config.keys.first().ok_or("there is no host key")?.public_key().clone();
        let principals = vec![asset.to_string(), format!("[{asset}]:{port}")];
        let certificate =
            keys.host_certificate(&key, principals, HOST_CERTIFICATE).map_err(|e| e.to_string())?;
        config.certificates = vec![certificate];
        // Nothing is asked inside: the outer log-in has answered it.
        config.methods = russh::MethodSet::from(&[russh::MethodKind::None][..]);
        let config = Arc::new(config);
        made.insert(asset.clone(), (now.plus_seconds(HOST_CERTIFICATE / 2).micros(), config.clone()));
        Ok(config)
    }
}

impl Gateway {
    /// An id for a session that somebody asks for now.
    pub(crate) fn new_session_id(&self) -> SessionId {
        SessionId::new(self.clock.now(), &mut rand::rng())
    }

    /// What an asset's session would speak: SSH where it does, else the first protocol that it has.
    pub(crate) fn protocol_of(&self, asset: &Name) -> Option<Protocol> {
        let snapshot = self.snapshots.borrow();
        let endpoints = &snapshot.site.asset(asset)?.endpoints;
        let ssh = endpoints.iter().find(|e| e.protocol == Protocol::Ssh);
        ssh.or_else(|| endpoints.first()).map(|e| e.protocol)
    }

    /// The asset whose SSH endpoint a forward names, by the asset's name and the endpoint's port (or 22).
    pub(crate) fn ssh_asset_at(&self, host: &str, port: u16) -> Option<Name> {
        let snapshot = self.snapshots.borrow();
        let asset =
            snapshot.site.assets.iter().find(|a| {
                a.name.as_str().eq_ignore_ascii_case(host) || a.address.eq_ignore_ascii_case(host)
            })?;
        let ssh = asset.endpoints.iter().find(|e| e.protocol == Protocol::Ssh)?;
        (port == ssh.port || (port == 22 && asset.name.as_str().eq_ignore_ascii_case(host)))
            .then(|| asset.name.clone())
    }

    /// The SSH server configuration for a jump to `asset`.
    pub(crate) fn jump_config(&self, asset: &Name) -> Result<Arc<server::Config>, String> {
        let port = {
            let snapshot = self.snapshots.borrow();
            let asset = snapshot.site.asset(asset).ok_or("the asset is gone")?;
            asset.endpoints.iter().find(|e| e.protocol == Protocol::Ssh).map_or(22, |e| e.port)
        };
        self.ssh_config.get(&self.keys, asset, port, self.clock.now())
    }

    /// What is known of a person's behaviour before the session. What cannot be read counts as unusual.
    pub(crate) async fn observed(&self, user: &Name, source: SocketAddr) -> Observed {
        let seen = self.store.source_seen(user, source.ip()).await;
        let elsewhere = self.registry.all().iter().any(|s| {
            s.grant().user() == user && s.grant().source().to_canonical() != source.ip().to_canonical()
        });
        Observed { new_source: !matches!(seen, Ok(Some(_))), elsewhere, recent_refusals: 0 }
    }

    /// Decides, audits, starts the recording, and only then is there a session. Any part that fails refuses.
    pub(crate) async fn open_session(
        self: &Arc<Self>,
        request: AccessRequest,
        person: Arc<dyn PersonLeg>,
    ) -> Result<Arc<Session>, Refusal> {
        if self.stopping.is_cancelled() {
            return Err(Refusal::new("the gateway is being stopped; try again in a few minutes"));
        }
        let health = self.recorder.health();
        if !health.accepts_sessions() {
            error!(?health, "a session was refused: it could not be recorded");
            return Err(Refusal::new(
                "the gateway cannot record at the moment, so no session starts; tell the site's administrator",
            ));
        }
        if !self.vault_gate.is_open().await {
            return Err(Refusal::new(SEALED));
        }
        self.within_limits(&request)?;
        let snapshot = self.current_snapshot().await.map_err(|e| {
            error!(error = %e, "a session was refused: the store does not answer");
            Refusal::new(
                "the gateway's store does not answer, so no session starts; tell the site's administrator",
            )
        })?;
        let now = self.clock.now();
        let decision = decide(&snapshot, &request, now, &mut rand::rng());
        let (grant, record) = match decision {
            Decision::Permit(grant, record) => (*grant, *record),
            Decision::NeedsWindow(record) => {
                self.keep_refusal(&request, &record, now).await;
                let mut why = record.reasons.join("; ");
                if record.context.window.is_none() {
                    why += &match request.protocol {
                        Protocol::Rdp => " (request one on the gateway's web page)".to_owned(),
                        _ => format!(
                            " (log in as {} alone, without an asset: the menu there lets you request a window)",
                            request.user
                        ),
                    };
                }
                return Err(Refusal::new(why));
            }
            Decision::Deny(record) => {
                self.keep_refusal(&request, &record, now).await;
                return Err(Refusal::new(record.reasons.join("; ")));
            }
        };
        // From its row on, people can give orders to it; they are kept until it is live.
        self.registry.reserve(request.session);
        // An asset that cannot be found any more is not let off.
        let supervised = snapshot.site.asset(&grant.account().asset).is_none_or(|a| a.supervised);
        let state = if supervised { SessionState::Waiting } else { SessionState::Active };
        let opened = self.audit_opening(&request, &grant, &record, state, now).await;
        let new_source = opened.inspect_err(|_| self.registry.leave(request.session))?;
        let session = match self.record_and_enter(&request, grant, record, supervised).await {
            Ok(session) => session,
            Err(why) => {
                error!(session = %request.session, why, "a session was refused: its recording did not start");
                self.registry.leave(request.session);
                self.close_unstarted(request.session, "recorder_failed", &why).await;
                return Err(Refusal::new(
                    "the gateway cannot record at the moment, so no session starts; tell the site's administrator",
                ));
            }
        };
        session.wait_for_watcher().await;
        let orders = self.registry.enter(&session);
        tokio::spawn(supervise(self.clone(), session.clone(), person, orders));
        self.look_at_start(&session, &request, new_source).await?;
        info!(session = %session.id(), user = %request.user, account = %session.grant().account(), "session opened");
        Ok(session)
    }

    /// Bounds on live sessions, in all and of one person.
    fn within_limits(&self, request: &AccessRequest) -> Result<(), Refusal> {
        let live = self.registry.all();
        let theirs = live.iter().filter(|s| s.grant().user() == &request.user).count();
        if live.len() >= self.limits.max_sessions as usize {
            return Err(Refusal::new(
                "the gateway carries as many sessions as it may; try again when one has ended",
            ));
        }
        if theirs >= self.limits.max_sessions_per_user as usize {
            return Err(Refusal::new("you have as many sessions as you may; end one, then try again"));
        }
        Ok(())
    }

    /// One transaction: the decision, the session, its audit events, and a second factor that counts for a while.
    async fn audit_opening(
        &self,
        request: &AccessRequest,
        grant: &Grant,
        record: &DecisionRecord,
        state: SessionState,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        let act = Act::person(&request.user, now).from(request.source.ip());
        let new = NewSession {
            id: request.session,
            person: request.user.clone(),
            asset: grant.account().asset.clone(),
            login: grant.account().login.clone(),
            protocol: grant.protocol(),
            source: request.source.ip(),
            device_key: request.device.key_fingerprint.clone(),
            window: Some(grant.window()),
            decision: grant.decision(),
            node: self.node.clone(),
            state,
            recording: Some(request.session.to_string()),
        };
        let opening = Opening {
            decisions: vec![kept(record)],
            remember: self.factor_to_remember(request, grant.window(), now),
            exclusive: grant.exclusive(),
        };
        match self.store.open_session(&act, &new, &opening).await {
            Ok(OpenOutcome::Opened { new_source, .. }) => Ok(new_source),
            Ok(OpenOutcome::AccountBusy(holder)) => Err(Refusal::new(format!(
                "{} is in use by another session ({holder}) and takes one at a time; wait until it ends",
                grant.account()
            ))),
            Ok(OpenOutcome::AccountCheckedOut(why)) => Err(Refusal::new(why)),
            Err(e) => {
                error!(error = %e, "a session was refused: it could not be audited");
                Err(Refusal::new(
                    "the gateway cannot write its audit log at the moment, so no session starts; tell the site's administrator",
                ))
            }
        }
    }

    fn factor_to_remember(
        &self,
        request: &AccessRequest,
        window: WindowId,
        now: Timestamp,
    ) -> Option<(RememberedFactor, Timestamp)> {
        let seconds = self.snapshots.borrow().site.settings.second_factor_remember_seconds;
        let second = request.factors.second.as_ref()?;
        if seconds == 0 || second.kind == SecondFactorKind::Remembered {
            return None;
        }
        let factor = RememberedFactor {
            person: request.user.clone(),
            device_key: request.device.key_fingerprint.clone()?,
            source: request.source.ip(),
            window: Some(window),
        };
        Some((factor, now.plus_seconds(seconds.into())))
    }

    async fn record_and_enter(
        &self,
        request: &AccessRequest,
        grant: Grant,
        record: DecisionRecord,
        supervised: bool,
    ) -> Result<Arc<Session>, String> {
        let decision_sha256 = kept(&record).digest();
        let id = request.session.to_string().parse::<RecordingId>().map_err(|e| e.to_string())?;
        let mut labels = BTreeMap::new();
        labels.insert("window".to_owned(), grant.window().to_string());
        labels.insert("source".to_owned(), request.source.ip().to_string());
        labels.insert("work_order".to_owned(), grant.work_order().chars().take(120).collect());
        let organisation = record.who.organisation.as_ref().map(ToString::to_string).unwrap_or_default();
        let header = Header {
            id,
            session: request.session.to_string(),
            protocol: grant.protocol().as_str().to_owned(),
            user: request.user.to_string(),
            organisation,
            asset: grant.account().asset.to_string(),
            zone: record.resource.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
            account: grant.account().login.to_string(),
            node: self.node.clone(),
            started: self.clock.now().micros(),
            decision_sha256: decision_sha256.clone(),
            labels,
        };
        let recorder = self.recorder.start(header).await.map_err(|e| e.to_string())?;
        if let Ok(Some(head)) = self.store.head().await {
            let anchor = AuditAnchor { entry: head.seq, hash: head.hash };
            recorder.record(Event::AuditAnchor(Box::new(anchor))).await.map_err(|e| e.to_string())?;
        }
        let first = Event::Decision(Box::new(cofferdam_recorder::Decision {
            action: record.action.clone(),
            allowed: true,
            policies: record.policies.clone(),
            reasons: record.reasons.clone(),
        }));
        recorder.record(first).await.map_err(|e| e.to_string())?;
        Ok(Arc::new(Session::new(Parts {
            grant,
            decision_sha256,
            recorder,
            clock: self.clock.clone(),
            triggers: self.triggers.clone(),
            findings: self.findings.clone(),
            supervised,
        })))
    }

    /// The triggers that look at how a session begins.
    async fn look_at_start(
        &self,
        session: &Session,
        request: &AccessRequest,
        new_source: bool,
    ) -> Result<(), Refusal> {
        let credential = request.device.key_fingerprint.as_deref().unwrap_or(request.user.as_str());
        let seen = Observation::Opened { credential, address: request.source.ip(), known: !new_source };
        session.observe(seen).await.map_err(|_| {
            let reason = session.control().reason().and_then(End::sentence);
            Refusal::new(reason.unwrap_or_else(|| "the session ended at once".to_owned()))
        })
    }

    async fn close_unstarted(&self, id: SessionId, reason: &str, why: &str) {
        let end = SessionEnd { reason: reason.into(), detail: Some(why.into()), ..SessionEnd::default() };
        if let Err(e) = self.store.close_session(&Act::system("gateway", self.clock.now()), id, &end).await {
            error!(session = %id, error = %e, "the end of a session could not be audited");
        }
    }

    /// A lease for the session's account. The vault process looks up for itself what was granted.
    pub(crate) async fn lease(&self, session: &Session) -> Result<RemoteLease, TargetError> {
        let no_secret = |why: String| {
            TargetError::new(
                why,
                "the site's secret for this account cannot be used; tell the site's administrator",
            )
        };
        let grant = session.grant();
        let account = grant.account();
        if matches!(grant.credential(), Credential::Password | Credential::Key) {
            self.settled(account).await.map_err(|e| no_secret(e.to_string()))?;
        }
        let claim = Claim {
            session_id: grant.session().to_string(),
            account_id: account.to_string(),
            decision_sha256: session.decision_sha256().to_owned(),
            told: None,
        };
        let keys = self.keys.clone();
        let asked = std::time::Instant::now();
        let leased = tokio::task::spawn_blocking(move || keys.lease(claim)).await;
        debug!(session = %session.id(), micros = asked.elapsed().as_micros(), "the vault answered about a lease");
        leased.map_err(|e| no_secret(e.to_string()))?.map_err(|e| no_secret(e.to_string()))
    }

    /// How the site wants the account's secret changed, if it does.
    fn rotation_of(&self, account: &AccountRef) -> Option<Rotation> {
        self.snapshots.borrow().site.account(account)?.rotation.clone()
    }

    /// A secret that is being changed just now may open nothing for a moment: a session waits for the outcome, and after
    /// that tries what there is.
    async fn settled(&self, account: &AccountRef) -> Result<(), StoreError> {
        // Most accounts are not rotated: their sessions ask the store nothing.
        if self.rotation_of(account).is_none() {
            return Ok(());
        }
        for _ in 0..BETWEEN_LOOKS {
            match self.store.rotation(account).await? {
                Some(standing) if standing.is_between() => tokio::time::sleep(BETWEEN).await,
                _ => break,
            }
        }
        Ok(())
    }

    /// The session had the secret of its account: it is changed where the site wants that.
    pub(crate) async fn used(&self, account: &AccountRef) {
        if !self.rotation_of(account).is_some_and(|rotation| rotation.after_use) {
            return;
        }
        let act = Act::system("rotation", self.clock.now());
        if let Err(e) = self.store.want_rotation(&act, account, Reason::AfterUse).await {
            error!(%account, error = %e, "the secret that a session used is not changed: ask for it with `vault rotate`");
        }
    }

    /// Writes a session's end. What cannot be written now is found and written at the next start.
    pub(crate) async fn close_session(&self, session: &Session, end: &End, sealed: Option<&Sealed>) {
        let record = SessionEnd {
            reason: end.code().to_owned(),
            detail: Some(end.detail()).filter(|d| !d.is_empty()),
            recording_digest: sealed.map(|s| hex::encode(s.digest)),
            bytes_up: session.bytes().0,
            bytes_down: session.bytes().1,
            ..SessionEnd::default()
        };
        let act = Act::system("gateway", self.clock.now());
        for attempt in 0..3u32 {
            match self.store.close_session(&act, session.id(), &record).await {
                Ok(_) => return,
                Err(e) => {
                    warn!(session = %session.id(), error = %e, attempt, "the end of a session could not be audited yet");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
        error!(session = %session.id(), "the end of a session could not be audited; it is written at the next start");
    }
}

/// The decision as the store keeps it.
pub(crate) fn kept(record: &DecisionRecord) -> cofferdam_access::store::DecisionRecord {
    cofferdam_access::store::DecisionRecord {
        id: record.id,
        at: record.at,
        person: record.who.user.clone(),
        asset: record.resource.asset.to_string(),
        session: Some(record.session),
        outcome: record.outcome.as_str().to_owned(),
        // Plain data: its JSON cannot fail.
        body: serde_json::to_string(record).unwrap_or_default(),
    }
}
