//! The leg toward the desktop: dial, check the pinned key, present the leased secret.
//!
//! Invariant: nothing is sent to a target whose key is not pinned; the secret goes only to it. Where a realm is configured,
//! its KDCs see what proves the secret (as Kerberos does), and the target is never logged in to in another way.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cofferdam_access::{
    policy::DestinationRules,
    site::{Desktop, DesktopRealm, DesktopSecurity, KdcAddress},
};
use cofferdam_rdp::{BackConfig, BackError, KdcStream, Kdcs, Kerberos, Pin, Security, Target};
use cofferdam_vault::{Material, SecretString};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

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

/// Leases the account's secret, once in a session: the lease stays with it.
///
/// # Errors
/// [`TargetError`] with one text for the operator and another for the person.
pub(super) async fn secret(gateway: &Gateway, session: &Session) -> Result<SecretString, TargetError> {
    let no_secret = |why: String| {
        TargetError::new(
            why,
            "the site's secret for this account cannot be used; tell the site's administrator",
        )
    };
    // None is asked for where it could be given to nobody.
    pins(session)?;
    let mut lease = gateway.lease(session).await?;
    let material = lease.material().ok_or_else(|| no_secret("the lease holds nothing".to_owned()))?;
    session.hold(lease);
    match material {
        Material::Password(password) => Ok(password),
        _ => Err(no_secret(format!("{}: a desktop takes a password", session.grant().account()))),
    }
}

/// Dials what the session's grant allows, with the account's secret. It may be given up, and dialled again.
///
/// # Errors
/// [`TargetError`] with one text for the operator and another for the person.
pub(super) async fn dial(
    gateway: &Gateway,
    session: &Session,
    password: &SecretString,
) -> Result<Target<TargetWire>, TargetError> {
    let desktop = session.grant().desktop().cloned().unwrap_or_default();
    let (first, pins) = pins(session)?;
    let connecting = async {
        let reached = match reach(gateway, session, &desktop, first, password).await? {
            // Of several pinned keys the target may have another than the first. Nothing was sent to it yet.
            Err(BackError::Key(shown)) if pins.contains(&shown) => {
                reach(gateway, session, &desktop, shown, password).await?
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

/// The pinned keys of the asset's desktop, and the first of them.
fn pins(session: &Session) -> Result<(Pin, Vec<Pin>), TargetError> {
    let grant = session.grant();
    let asset = &grant.account().asset;
    let desktop = grant.desktop().cloned().unwrap_or_default();
    let pins: Vec<Pin> = desktop.pins().iter().filter_map(|pin| pin.to_string().parse().ok()).collect();
    match pins.first().copied() {
        Some(first) => Ok((first, pins)),
        None => Err(TargetError::new(
            format!(
                "{asset} has no pinned key of its desktop: compare its fingerprint and run `cofferdam asset trust {asset} --rdp`"
            ),
            format!("{asset} is not ready: nobody has confirmed its key yet; ask the site's administrator"),
        )),
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
    let mut account = account(session, desktop, pin, password);
    if let Some(realm) = &desktop.kerberos {
        account.kerberos = Some(in_realm(gateway, session, realm)?);
        account.domain.get_or_insert_with(|| realm.realm.clone());
    }
    Ok(cofferdam_rdp::connect(wire, account).await)
}

fn in_realm(gateway: &Gateway, session: &Session, realm: &DesktopRealm) -> Result<Kerberos, TargetError> {
    let dialled = &session.grant().dial().host;
    let host = realm.host_of(dialled).ok_or_else(|| {
        unreachable(session, "the realm knows it by a name: give it as rdp.kerberos.host of the asset")
    })?;
    let kdcs = FromSite {
        addresses: realm.addresses(),
        rules: gateway.destinations.clone(),
        cut: session.control().cut_token().clone(),
    };
    Ok(Kerberos { realm: realm.realm.clone(), host: host.to_owned(), kdcs: Arc::new(kdcs) })
}

/// The KDCs that the site names, dialled from here as targets are: by the same rules, and cut with the session.
struct FromSite {
    addresses: Vec<KdcAddress>,
    rules: DestinationRules,
    cut: CancellationToken,
}

#[async_trait]
impl Kdcs for FromSite {
    fn count(&self) -> usize {
        self.addresses.len()
    }

    async fn dial(&self, number: usize) -> Result<KdcStream, String> {
        let KdcAddress { host, port } = self.addresses.get(number).ok_or("there is no such KDC")?;
        let connected = target::connect(host, *port, &self.rules).await;
        let socket = connected.map_err(|why| format!("{host}:{port}: {why}"))?;
        Ok(Box::new(Wire::new(socket, &self.cut)))
    }
}

fn account(session: &Session, desktop: &Desktop, pin: Pin, password: &SecretString) -> BackConfig {
    BackConfig {
        pin,
        user: session.grant().account().login.to_string(),
        domain: desktop.domain.clone(),
        kerberos: None,
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
