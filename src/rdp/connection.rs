//! One RDP client: log-in, decision, and the session that it carries.
//!
//! Invariant: the target is dialled only after the token was used up and a session was opened, audited and recorded.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    decision::{AccessRequest, Device, DeviceKind},
    ids::WindowId,
    site::Protocol,
    store::DesktopToken,
};
use cofferdam_rdp::{Ending, FrontConfig, FrontError};
use cofferdam_web::Certificates;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::{carry::carry, tokens::Door};
use crate::{
    gateway::{Gateway, Refusal},
    session::{
        end::End,
        live::{PersonLeg, Session},
    },
    ssh::{listener::Holding, wire::Wire},
};

/// How long a client gets to read the reason and leave by itself.
const SHOWING: Duration = Duration::from_millis(60);

/// The client's side of the wire: it can be cut from outside at any time.
pub(super) type PersonWire = Wire<TcpStream>;

/// Serves a client from its first byte to its last.
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    certificates: Arc<Certificates>,
    login: Duration,
    stream: TcpStream,
    peer: SocketAddr,
    holding: Holding,
) {
    let cut = CancellationToken::new();
    let door = Door::new(gateway.clone(), peer);
    let served = certificates.served();
    let config = FrontConfig {
        tls: served.config.clone(),
        subject_public_key: served.public_key.clone(),
        certificate: served.certificate.clone(),
        login_time: login,
    };
    let wire = Wire::new(stream, &cut);
    let accepted = match Box::pin(cofferdam_rdp::accept(wire, &config, &door)).await {
        Ok(accepted) => accepted,
        Err(FrontError::Refused { .. }) => {
            debug!(source = %peer.ip(), "a client presented no open token");
            return door.refused().await;
        }
        Err(e) => {
            debug!(source = %peer.ip(), error = %e, "a client did not come to its log-in");
            return;
        }
    };
    let place = holding.logged_in();
    let token = accepted.token().to_owned();
    match Box::pin(enter(&gateway, &door, &token, peer, &cut)).await {
        Ok(session) => {
            let carried = carry(gateway, session.clone(), accepted);
            // The end of the session waits for it: it has the last words.
            if let Err(e) = session.tasks.spawn(carried).await {
                session.control().end(End::Internal { why: format!("a desktop's relay broke off: {e}") });
            }
            // Whoever is left on the wire has been told.
            session.control().ended().await;
        }
        Err(refusal) => {
            info!(source = %peer.ip(), why = refusal.sentence, "a desktop was refused");
            accepted.refuse(Ending::NotAllowed).await;
        }
    }
    cut.cancel();
    drop(place);
}

/// Uses the token up and opens the session.
async fn enter(
    gateway: &Arc<Gateway>,
    door: &Door,
    token: &str,
    peer: SocketAddr,
    cut: &CancellationToken,
) -> Result<Arc<Session>, Refusal> {
    let used = door.redeem(token).await.map_err(|e| {
        error!(error = %e, "a token for a desktop could not be used up");
        Refusal::new(
            "the gateway's store does not answer, so no session starts; tell the site's administrator",
        )
    })?;
    let token = used.ok_or_else(|| {
        Refusal::new("the token was used already, or is too old: get another from the web page")
    })?;
    let window = token.window;
    let person = token.person.clone();
    let request = request(gateway, token, peer).await;
    let leg = Arc::new(DesktopPerson { cut: cut.clone() });
    let session = gateway.open_session(request, leg).await?;
    if session.grant().window() != window {
        audit_other_window(gateway, &session, window).await;
        let sentence = "the window that the token was for is not the one that is open now: get another token";
        session.control().end(End::Policy { code: "token_for_another_window", sentence: sentence.into() });
        return Err(Refusal::new(sentence));
    }
    info!(user = %person, source = %peer.ip(), session = %session.id(), "logged in to a desktop");
    Ok(session)
}

async fn request(gateway: &Gateway, token: DesktopToken, peer: SocketAddr) -> AccessRequest {
    let kind = token.factors.first;
    let mut factors = token.factors;
    if let Some(second) = &mut factors.second {
        // Of several windows that are open the decision takes the one that the factor was given for.
        second.windows.insert(token.window);
    }
    AccessRequest {
        session: gateway.new_session_id(),
        observed: gateway.observed(&token.person, peer).await,
        user: token.person,
        asset: token.account.asset,
        login: Some(token.account.login),
        protocol: Protocol::Rdp,
        source: peer,
        device: Device {
            key_fingerprint: None,
            kind,
            user_verified: kind == DeviceKind::Passkey,
            // What the client calls itself it says only later; the recording has it.
            client_version: "rdp".to_owned(),
        },
        factors,
    }
}

async fn audit_other_window(gateway: &Gateway, session: &Session, window: WindowId) {
    let grant = session.grant();
    let event = AuditEvent::new(AuditKind::DesktopTokenRefused, session.id())
        .with("reason", "another_window")
        .with("window", window.to_string())
        .with("open_window", grant.window().to_string());
    let act = Act::person(grant.user(), gateway.clock.now()).from(grant.source());
    if let Err(e) = gateway.store.record(&act, event).await {
        error!(error = %e, "a token for another window could not be audited");
    }
}

/// The person's side of a desktop. What is to be said at the end the relay says, which the end waits for.
#[derive(Debug)]
struct DesktopPerson {
    cut: CancellationToken,
}

#[async_trait]
impl PersonLeg for DesktopPerson {
    async fn close(&self, _: Option<&str>) {
        // A socket that is closed while the client still sends loses what it was told last.
        tokio::time::timeout(SHOWING, self.cut.cancelled()).await.unwrap_or_default();
    }

    fn cut(&self) {
        self.cut.cancel();
    }
}
