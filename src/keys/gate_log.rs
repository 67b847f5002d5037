//! What happens at the vault's gate, in the audit log; and whether it is open.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use cofferdam_access::{
    audit::{Act, Actor, AuditEvent, AuditKind},
    clock::{SharedClock, Timestamp},
    ids::Name,
    store::Store,
};
use cofferdam_vault::{
    agent::{Client, ClientError},
    unseal::{GateEvent, Happened},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// What the name of a person begins with who gave it in a browser.
pub(crate) const OVER_WEB: &str = "web: ";
/// How often the vault process is asked.
const ROUND: Duration = Duration::from_secs(1);

/// Whether the vault is open. Does not know counts as no.
pub(crate) fn is_open(client: &Client) -> bool {
    client.status().is_ok_and(|status| status.is_open())
}

/// What the gateway's process knows of whether the vault is open.
#[derive(Debug)]
pub(crate) struct KnownGate {
    client: Arc<Client>,
    open: AtomicBool,
}

impl KnownGate {
    /// As `open` says, until somebody looks.
    pub(crate) fn new(client: Arc<Client>, open: bool) -> Self {
        Self { client, open: AtomicBool::new(open) }
    }

    /// Whether it was open when somebody last looked, [`ROUND`] ago at most. Does not wait.
    pub(crate) fn was_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether it is open. The vault is asked before anybody is told that it is not: whoever was just told that their
    /// passphrase opened it must not be refused because nobody has looked since.
    pub(crate) async fn is_open(&self) -> bool {
        if self.was_open() {
            return true;
        }
        let asking = self.client.clone();
        let open = tokio::task::spawn_blocking(move || is_open(&asking)).await.unwrap_or(false);
        self.learn(open);
        open
    }

    fn learn(&self, is_open: bool) {
        if self.open.swap(is_open, Ordering::Relaxed) != is_open {
            match is_open {
                true => info!("the vault is open"),
                false => warn!("the vault is sealed: no session starts until it is unsealed"),
            }
        }
    }
}

/// Writes what happened at the gate to the audit log, and keeps `gate` true, until `quit`.
pub(crate) async fn follow_gate(
    gate: Arc<KnownGate>,
    store: Store,
    clock: SharedClock,
    quit: CancellationToken,
) {
    loop {
        let asking = gate.client.clone();
        let asked = tokio::task::spawn_blocking(move || {
            Ok::<_, ClientError>((asking.status()?.is_open(), asking.take_events()?))
        });
        match asked.await {
            Ok(Ok((is_open, (events, lost)))) => {
                gate.learn(is_open);
                if lost > 0 {
                    warn!(lost, "attempts to unseal the vault were too many to be written one by one");
                }
                for event in events {
                    write(&store, event, clock.now()).await;
                }
            }
            Ok(Err(_)) | Err(_) => gate.learn(false),
        }
        tokio::select! {
            biased;
            () = quit.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

async fn write(store: &Store, event: GateEvent, now: Timestamp) {
    let GateEvent { at, by, what } = event;
    let event = match what {
        Happened::ShareGiven { number, given, needed } => AuditEvent::new(AuditKind::VaultShare, "vault")
            .with("number", number)
            .with("given", given)
            .with("needed", needed),
        Happened::SharesDropped { why } => {
            AuditEvent::new(AuditKind::VaultShare, "vault").with("dropped", why)
        }
        Happened::Opened { people } => {
            AuditEvent::new(AuditKind::VaultUnsealed, "vault").with("people", people)
        }
        Happened::Refused { why } => AuditEvent::new(AuditKind::VaultRefused, "vault").with("reason", why),
        Happened::Sealed => AuditEvent::new(AuditKind::VaultSealed, "vault"),
        Happened::Rekeyed { generation } => {
            AuditEvent::new(AuditKind::VaultRekeyed, "vault").with("generation", generation)
        }
        Happened::Retired { generation } => {
            AuditEvent::new(AuditKind::VaultKeyRetired, "vault").with("generation", generation)
        }
        Happened::Rerooted { vault } => {
            AuditEvent::new(AuditKind::VaultKeyRetired, "vault").with("root_of", vault.to_string())
        }
    };
    let person = by.strip_prefix(OVER_WEB).and_then(|name| Name::new(name).ok());
    let actor = match person {
        Some(person) => Actor::person(&person),
        None if by == super::process::ITSELF => Actor::system("vault"),
        None => Actor::operator(&by),
    };
    let act = Act::new(actor, now);
    if let Err(e) = store.record(&act, event.with("at", at)).await {
        error!(error = %e, by, "what happened at the vault's gate could not be audited");
    }
}
