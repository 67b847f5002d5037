//! One RDP client, or one browser: log-in, decision, and the session that it carries.
//!
//! Invariant: the target is dialled only after the token, or the code, was used up and a session was opened, audited and
//! recorded.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    decision::{AccessRequest, Device, DeviceKind},
    ids::{Name, WindowId},
    site::Protocol,
    store::DesktopToken,
};
use cofferdam_rdp::{Accepted, Ending, FrontConfig, FrontError, Proof};
use cofferdam_web::{OpenDesktop, Told};
use tokio::{io::DuplexStream, net::TcpStream, sync::mpsc};
use tokio_util::{either::Either, sync::CancellationToken};
use tracing::{debug, error, info};

use super::{
    carry::carry,
    tokens::{Door, Typed},
    words,
};
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

/// Bytes between a browser's WebSocket and its session.
const PIPE: usize = 64 * 1024;
/// What a browser may be told and has not heard yet.
const TOLD: usize = 16;

/// The person's side of the wire, a client's socket or what a browser's WebSocket carries: it can be cut from outside at any time.
pub(super) type PersonWire = Wire<Either<TcpStream, DuplexStream>>;

/// Serves a client from its first byte to its last.
pub(super) async fn serve(
    gateway: Arc<Gateway>,
    front: FrontConfig,
    stream: TcpStream,
    peer: SocketAddr,
    holding: Holding,
) {
    let cut = CancellationToken::new();
    let door = Door::new(gateway.clone(), peer);
    let wire = Wire::new(Either::Left(stream), &cut);
    let accepted = Box::pin(cofferdam_rdp::accept(wire, &front, &door)).await;
    let Ok(accepted) = logged_in(accepted, &door, peer).await else { return };
    let place = holding.logged_in();
    host(gateway, &door, accepted, peer, cut, None).await;
    drop(place);
}

/// The same for a browser in which `person` is logged in: what serves it, and its other end.
pub(super) fn browser(
    gateway: Arc<Gateway>,
    front: FrontConfig,
    person: Name,
    peer: SocketAddr,
    keyboard: Option<u32>,
) -> (impl Future<Output = ()> + Send, OpenDesktop) {
    let (near, far) = tokio::io::duplex(PIPE);
    let (tell, told) = mpsc::channel(TOLD);
    let served = async move {
        let cut = CancellationToken::new();
        let door = Door::of(gateway.clone(), peer, person);
        let wire = Wire::new(Either::Right(near), &cut);
        let accepted = Box::pin(cofferdam_rdp::accept_browser(wire, &front, &door)).await;
        let why = match logged_in(accepted, &door, peer).await {
            Ok(accepted) => {
                host(gateway, &door, accepted.with_keyboard(keyboard), peer, cut, Some(&tell)).await
            }
            Err(why) => why.to_owned(),
        };
        // A browser that is gone needs no reason.
        tell.send(Told::Ended(why)).await.unwrap_or_default();
    };
    (served, OpenDesktop { stream: far, told })
}

/// Who proved who they are. Who did not is audited where that was tried; the error is for a person who can read it.
async fn logged_in(
    accepted: Result<Accepted<PersonWire>, FrontError>,
    door: &Door,
    peer: SocketAddr,
) -> Result<Accepted<PersonWire>, &'static str> {
    match accepted {
        Ok(accepted) => Ok(accepted),
        Err(FrontError::Refused { .. }) => {
            debug!(source = %peer.ip(), "a client presented no open token");
            door.refused("desktop_token").await;
            Err(
                "no token that is open fits: it was used already, is too old, or is for something else; get another",
            )
        }
        Err(e) => {
            // Whoever was still being looked at has tried, too.
            if matches!(e, FrontError::Slow) && door.has_tried() {
                door.refused("login_time_over").await;
            }
            debug!(source = %peer.ip(), error = %e, "a client did not come to its log-in");
            Err("the log-in to the desktop did not come to its end; get another token")
        }
    }
}

/// Opens the session and carries it to its end; says why it ended, or why there was none.
async fn host(
    gateway: Arc<Gateway>,
    door: &Door,
    accepted: Accepted<PersonWire>,
    peer: SocketAddr,
    cut: CancellationToken,
    tell: Option<&mpsc::Sender<Told>>,
) -> String {
    let proof = accepted.proof().clone();
    let why = match Box::pin(enter(&gateway, door, &proof, peer, &cut)).await {
        Ok(session) => {
            // The end of the session waits for it: it has the last words.
            let mut carried = session.tasks.spawn(carry(gateway, session.clone(), accepted, tell.is_some()));
            let carried = tokio::select! {
                carried = &mut carried => carried,
                () = words::beside(&session, tell) => carried.await,
            };
            if let Err(e) = carried {
                session.control().end(End::Internal { why: format!("a desktop's relay broke off: {e}") });
            }
            // Whoever is left on the wire has been told.
            session.control().ended().await;
            session.control().reason().and_then(End::sentence)
        }
        Err(refusal) => {
            info!(source = %peer.ip(), why = refusal.sentence, "a desktop was refused");
            accepted.refuse(Ending::NotAllowed).await;
            Some(refusal.sentence)
        }
    };
    cut.cancel();
    why.unwrap_or_else(|| "the session is closed".to_owned())
}

/// Uses up what was proved and opens the session.
async fn enter(
    gateway: &Arc<Gateway>,
    door: &Door,
    proof: &Proof,
    peer: SocketAddr,
    cut: &CancellationToken,
) -> Result<Arc<Session>, Refusal> {
    let (request, window) = match proof {
        Proof::Token(id) => {
            let token = redeem(door, id).await?;
            let window = token.window;
            (by_token(gateway, token, peer, door.client()).await, Some(window))
        }
        Proof::Typed => {
            let typed = door.typed().ok_or_else(|| Refusal::new("log in again"))?;
            (by_typed(gateway, typed, peer).await, None)
        }
    };
    let person = request.user.clone();
    let leg = Arc::new(DesktopPerson { cut: cut.clone() });
    let session = gateway.open_session(request, leg).await?;
    if let Some(window) = window.filter(|window| *window != session.grant().window()) {
        audit_other_window(gateway, &session, window).await;
        let sentence = "the window that the token was for is not the one that is open now: get another token";
        session.control().end(End::Policy { code: "token_for_another_window", sentence: sentence.into() });
        return Err(Refusal::new(sentence));
    }
    info!(user = %person, source = %peer.ip(), session = %session.id(), "logged in to a desktop");
    Ok(session)
}

async fn redeem(door: &Door, id: &str) -> Result<DesktopToken, Refusal> {
    let used = door.redeem(id).await.map_err(|e| {
        error!(error = %e, "a token for a desktop could not be used up");
        Refusal::new(
            "the gateway's store does not answer, so no session starts; tell the site's administrator",
        )
    })?;
    used.ok_or_else(|| {
        Refusal::new("the token was used already, or is too old: get another from the web page")
    })
}

async fn by_token(gateway: &Gateway, token: DesktopToken, peer: SocketAddr, client: &str) -> AccessRequest {
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
            client_version: client.to_owned(),
        },
        factors,
    }
}

async fn by_typed(gateway: &Gateway, typed: Typed, peer: SocketAddr) -> AccessRequest {
    let Typed { person, named } = typed;
    AccessRequest {
        session: gateway.new_session_id(),
        observed: gateway.observed(&person.user, peer).await,
        user: person.user,
        asset: named.asset,
        login: named.login,
        protocol: Protocol::Rdp,
        source: peer,
        device: person.device,
        factors: person.factors,
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
