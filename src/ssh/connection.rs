//! One authenticated connection of a person: who they are, what they named, and the session that it carries.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cofferdam_access::{
    decision::{AccessRequest, Device, Factors},
    ids::{Login, Name},
    site::Protocol,
};
use russh::{Disconnect, server};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

use super::target::{self, Asker, Destination, TargetError, TargetLeg};
use crate::{
    gateway::{Gateway, Refusal},
    session::{
        end::End,
        live::{PersonLeg, Session},
    },
};

/// How long a client gets to show the reason and leave by itself.
const SHOWING: Duration = Duration::from_millis(60);

/// Who is at the other end, once log-in is over.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The person.
    pub(crate) user: Name,
    /// Where they come from.
    pub(crate) source: SocketAddr,
    /// What they came with.
    pub(crate) device: Device,
    /// What they proved.
    pub(crate) factors: Factors,
}

/// What the person named behind their own name: `vera+pump-hmi+root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The asset.
    pub(crate) asset: Name,
    /// The account there; none: the asset's default.
    pub(crate) login: Option<Login>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The program's services.
    pub(crate) gateway: Arc<Gateway>,
    /// Who.
    pub(crate) identity: Identity,
    /// Their connection's handle.
    pub(crate) handle: server::Handle,
    /// Closes the person's socket at once.
    pub(crate) cut: CancellationToken,
    /// What was named; none: the menu.
    pub(crate) named: Option<Named>,
    brokered: Mutex<Option<Arc<Brokered>>>,
    /// Sessions that the menu opened.
    apart: std::sync::Mutex<Vec<Arc<Session>>>,
}

impl Connection {
    /// A connection without a session yet.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        identity: Identity,
        handle: server::Handle,
        cut: CancellationToken,
        named: Option<Named>,
    ) -> Self {
        Self {
            gateway,
            identity,
            handle,
            cut,
            named,
            brokered: Mutex::new(None),
            apart: std::sync::Mutex::default(),
        }
    }

    /// The session that this connection carries; opened by the first channel that needs it, shared by the others.
    /// A refusal is not kept: a window may have been approved meanwhile.
    pub(crate) async fn brokered(&self, named: &Named) -> Result<Arc<Brokered>, Refusal> {
        let mut slot = self.brokered.lock().await;
        if let Some(open) = slot.as_ref() {
            return Ok(open.clone());
        }
        // A channel of a connection that is gone must not open a session that nobody would end.
        self.still_there()?;
        let leg = Arc::new(SshPersonLeg { handle: self.handle.clone(), cut: Some(self.cut.clone()) });
        let opened = Arc::new(self.open(named, leg).await?);
        *slot = Some(opened.clone());
        Ok(opened)
    }

    /// Opens a session of its own, as the menu does for each choice: its end leaves the connection open.
    pub(crate) async fn open_apart(&self, named: &Named) -> Result<Arc<Brokered>, Refusal> {
        let leg = Arc::new(SshPersonLeg { handle: self.handle.clone(), cut: None });
        self.still_there()?;
        let opened = Arc::new(self.open(named, leg).await?);
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).push(opened.session.clone());
        if let Err(gone) = self.still_there() {
            opened.session.control().end(End::Closed);
            return Err(gone);
        }
        Ok(opened)
    }

    fn still_there(&self) -> Result<(), Refusal> {
        if self.cut.is_cancelled() { Err(Refusal::new("the connection is closed")) } else { Ok(()) }
    }

    async fn open(&self, named: &Named, leg: Arc<dyn PersonLeg>) -> Result<Brokered, Refusal> {
        let gateway = &self.gateway;
        let protocol = gateway.protocol_of(&named.asset).unwrap_or(Protocol::Ssh);
        if protocol == Protocol::Rdp {
            let asset = &named.asset;
            return Err(Refusal::new(format!(
                "{asset} has a desktop and no shell: open the desktop from the web page, with an RDP client"
            )));
        }
        let request = AccessRequest {
            session: gateway.new_session_id(),
            user: self.identity.user.clone(),
            asset: named.asset.clone(),
            login: named.login.clone(),
            protocol,
            source: self.identity.source,
            device: self.identity.device.clone(),
            factors: self.identity.factors.clone(),
            observed: gateway.observed(&self.identity.user, self.identity.source).await,
        };
        let session = gateway.open_session(request, leg).await?;
        Ok(Brokered { gateway: gateway.clone(), session, leg: OnceCell::new() })
    }

    /// The person went away (`cut` is cancelled already): what the connection carried ends.
    pub(crate) async fn closed(&self) {
        for session in self.apart.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            session.control().end(End::Closed);
        }
        if let Some(brokered) = self.brokered.lock().await.take() {
            brokered.session.control().end(End::Closed);
        }
    }
}

/// A session and its leg toward the target.
#[derive(Debug)]
pub(crate) struct Brokered {
    gateway: Arc<Gateway>,
    /// The session.
    pub(crate) session: Arc<Session>,
    leg: OnceCell<Arc<TargetLeg>>,
}

impl Brokered {
    /// The connection to the target: dialled by the first channel that needs it. Takes a lease first; the grant pays.
    pub(crate) async fn target(&self, asker: Option<&Asker>) -> Result<Arc<TargetLeg>, TargetError> {
        self.leg.get_or_try_init(|| self.dial(asker)).await.cloned()
    }

    /// Whether the target's connection stands.
    pub(crate) fn is_connected(&self) -> bool {
        self.leg.get().is_some_and(|leg| !leg.handle.is_closed())
    }

    async fn dial(&self, asker: Option<&Asker>) -> Result<Arc<TargetLeg>, TargetError> {
        let grant = self.session.grant();
        let mut lease = self.gateway.lease(&self.session).await?;
        let material = lease.material().ok_or_else(|| {
            TargetError::new(
                "the lease holds nothing",
                "the site's secret for this account cannot be used; tell the site's administrator",
            )
        })?;
        self.session.hold(lease);
        let to = Destination {
            asset: grant.account().asset.to_string(),
            host: grant.dial().host.clone(),
            port: grant.dial().port,
            login: grant.account().login.to_string(),
            host_keys: grant.host_keys().to_vec(),
            dangerous_algorithms: grant.dangerous_ssh_algorithms().to_vec(),
            patience: Duration::from_secs(self.gateway.limits.dial_timeout_seconds.into()),
        };
        match target::dial(
            &to,
            &self.gateway.destinations,
            material,
            asker,
            self.session.control().cut_token(),
        )
        .await
        {
            Ok(leg) => Ok(Arc::new(leg)),
            Err(e) => {
                if let Some(print) = &e.impostor {
                    self.gateway.audit_impostor(&self.session, print).await;
                }
                Err(e)
            }
        }
    }
}

/// The person's side of an SSH session.
#[derive(Debug)]
struct SshPersonLeg {
    handle: server::Handle,
    /// None where the connection outlives the session.
    cut: Option<CancellationToken>,
}

#[async_trait]
impl PersonLeg for SshPersonLeg {
    async fn close(&self, why: Option<&str>) {
        let Some(cut) = &self.cut else { return };
        // A client whose last channel has closed leaves by itself, after it has shown what it was told; one that is told
        // to disconnect throws away what it has not shown yet.
        if tokio::time::timeout(SHOWING, cut.cancelled()).await.is_ok() {
            return;
        }
        let text = why.unwrap_or("closed").to_owned();
        // A connection that is gone already needs no farewell.
        self.handle.disconnect(Disconnect::ByApplication, text, String::new()).await.unwrap_or_default();
        // Cancelled by the connection's own end, once the farewell is written and the client has closed.
        cut.cancelled().await;
    }

    fn cut(&self) {
        if let Some(cut) = &self.cut {
            cut.cancel();
        }
    }
}
