//! The leg toward the desktop: dial, check the pinned key, present the leased secret.
//!
//! Invariant: nothing is sent to a target whose key is not pinned; the secret goes only to it.

use std::time::Duration;

use cofferdam_access::site::{Desktop, DesktopSecurity};
use cofferdam_rdp::{BackConfig, BackError, Pin, Security, Target};
use cofferdam_vault::{Material, SecretString};
use tokio::net::TcpStream;

use crate::{
    gateway::Gateway,
    session::live::Session,
    ssh::{
        target::{self, TargetError},
        wire::Wire,
    },
};

/// The target's side of the wire.
pub(super) type TargetWire = Wire<TcpStream>;

/// Dials what the session's grant allows, with the account's secret.
///
/// # Errors
/// [`TargetError`] with one text for the operator and another for the person.
pub(super) async fn dial(gateway: &Gateway, session: &Session) -> Result<Target<TargetWire>, TargetError> {
    let grant = session.grant();
    let asset = &grant.account().asset;
    let desktop = grant.desktop().cloned().unwrap_or_default();
    let pins: Vec<Pin> = desktop.pins().iter().filter_map(|pin| pin.to_string().parse().ok()).collect();
    let Some(first) = pins.first().copied() else {
        return Err(TargetError::new(
            format!(
                "{asset} has no pinned key of its desktop: compare its fingerprint and run `cofferdam asset trust {asset} --rdp`"
            ),
            format!("{asset} is not ready: nobody has confirmed its key yet; ask the site's administrator"),
        ));
    };
    let no_secret = |why: String| {
        TargetError::new(
            why,
            "the site's secret for this account cannot be used; tell the site's administrator",
        )
    };
    let mut lease = gateway.lease(session).await?;
    let material = lease.material().ok_or_else(|| no_secret("the lease holds nothing".to_owned()))?;
    session.hold(lease);
    let Material::Password(password) = material else {
        return Err(no_secret(format!("{}: a desktop takes a password", grant.account())));
    };
    let connecting = async {
        let reached = match reach(gateway, session, &desktop, first, &password).await? {
            // Of several pinned keys the target may have another than the first. Nothing was sent to it yet.
            Err(BackError::Key(shown)) if pins.contains(&shown) => {
                reach(gateway, session, &desktop, shown, &password).await?
            }
            reached => reached,
        };
        reached.map_err(|e| failed(session, e))
    };
    let patience = Duration::from_secs(gateway.limits.dial_timeout_seconds.into());
    tokio::select! {
        biased;
        () = session.control().ended() => Err(unreachable(session, "the session ended")),
        dialled = tokio::time::timeout(patience, connecting) => {
            dialled.unwrap_or_else(|_| Err(unreachable(session, "no answer in time")))
        }
    }
}

fn unreachable(session: &Session, why: &str) -> TargetError {
    let (asset, dial) = (&session.grant().account().asset, session.grant().dial());
    TargetError::new(
        format!("{asset} at {dial}: {why}"),
        format!("{asset} does not answer; check with the site that it is running, then try again"),
    )
}

/// One attempt with one key. The outer error is the network's, the inner one the target's.
async fn reach(
    gateway: &Gateway,
    session: &Session,
    desktop: &Desktop,
    pin: Pin,
    password: &SecretString,
) -> Result<Result<Target<TargetWire>, BackError>, TargetError> {
    let dial = session.grant().dial();
    let connected = target::connect(&dial.host, dial.port, &gateway.destinations).await;
    let socket = connected.map_err(|why| unreachable(session, &why))?;
    socket.set_nodelay(true).map_err(|e| unreachable(session, &e.to_string()))?;
    let wire = Wire::new(socket, session.control().cut_token());
    Ok(cofferdam_rdp::connect(wire, account(session, desktop, pin, password)).await)
}

fn account(session: &Session, desktop: &Desktop, pin: Pin, password: &SecretString) -> BackConfig {
    BackConfig {
        pin,
        user: session.grant().account().login.to_string(),
        domain: desktop.domain.clone(),
        password: SecretString::new(password.expose().to_owned()),
        security: match desktop.security {
            DesktopSecurity::Nla => Security::Nla,
            DesktopSecurity::Tls => Security::TlsLogin,
        },
    }
}

/// What went wrong at the target, for the operator and for the person.
fn failed(session: &Session, error: BackError) -> TargetError {
    let account = session.grant().account();
    let asset = &account.asset;
    match error {
        BackError::Key(shown) => {
            let print = shown.to_string();
            let mut error = TargetError::new(
                format!(
                    "the desktop of {asset} shows key {print}, which is not pinned: if the machine was replaced, compare \
                     the fingerprint there and run `cofferdam asset trust {asset} --rdp`; if not, somebody may be in between"
                ),
                format!(
                    "{asset} shows another key than the one the site trusts, so nothing was sent to it; tell the site's \
                     security duty"
                ),
            );
            error.impostor = Some(print);
            error
        }
        other => TargetError::new(
            format!("{asset}: log-in to the desktop as {} failed: {other}", account.login),
            format!("{asset} did not let the gateway in; tell the site's administrator"),
        ),
    }
}
