//! What a session on a desktop carries, from the dial to the last word.

use std::{sync::Arc, time::Duration};

use cofferdam_access::snapshot::Snapshot;
use cofferdam_rdp::{Accepted, ChannelPolicy, Ending, Finished, Graphics, Order, Target, WireError, relay};
use tokio::sync::watch;
use tracing::debug;

use super::{
    connection::PersonWire,
    dial::{TargetWire, dial, secret},
    says,
    tap::{Latest, TapQueue},
    watch::Watcher,
    words,
};
use crate::{
    gateway::{Gateway, files::ways_of},
    session::{
        end::{End, Frozen},
        live::Session,
    },
    ssh::target::TargetError,
    transfer::desktop::DesktopFiles,
};

/// How long the thread that records the picture gets for its last frame.
pub(super) const LAST_FRAME: Duration = Duration::from_secs(1);

/// Dials and relays until the end, and says why it ended where the client can show it. What there is to say meanwhile stands
/// over the desktop, unless it is told `beside` it.
pub(super) async fn carry(
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    mut accepted: Accepted<PersonWire>,
    beside: bool,
) {
    let control = session.control();
    if control.frozen().is_some() && !beside {
        // A client would give up that sees nothing while it waits.
        let seated = tokio::select! {
            biased;
            () = control.ended() => return,
            seated = accepted.seated() => seated,
        };
        accepted = match seated {
            Ok(accepted) => accepted,
            Err(e) => {
                control.end(says::gone(e));
                return;
            }
        };
    }
    let target = match reached(&gateway, &session, &mut accepted).await {
        Ok(Some(Ok(target))) => target,
        Ok(Some(Err(e))) => {
            if let Some(print) = &e.impostor {
                gateway.audit_impostor(&session, print).await;
            }
            control.end(End::TargetFailed { why: e.why, sentence: e.sentence });
            return say_why(&session, accepted).await;
        }
        Ok(None) => return say_why(&session, accepted).await,
        // A person who does not want to wait is gone.
        Err(e) => {
            control.end(says::gone(e));
            return;
        }
    };
    let latest = Arc::new(Latest::default());
    let (tap, over) = match TapQueue::start(session.clone(), latest.clone()) {
        Ok(started) => started,
        Err(e) => {
            control.end(End::Internal { why: format!("no thread for a desktop's picture: {e}") });
            return say_why(&session, accepted).await;
        }
    };
    let policy = policy(&gateway.snapshots.borrow(), &session);
    let files = DesktopFiles::new(gateway.desktop_rules(&session).await);
    let mut watcher = Watcher::new(gateway.clone(), session.clone(), tap, latest, files.clone());
    let (order, orders) = watch::channel(order_now(control.frozen().is_some()));
    let (say, said) = watch::channel(None);
    let relayed = {
        let mut relaying =
            Box::pin(relay(accepted, target, policy, Box::new(files), &mut watcher, orders, said));
        let speaking = async {
            if !beside {
                words::over(&session, &say, None).await;
            }
        };
        tokio::select! {
            biased;
            relayed = &mut relaying => relayed,
            ((), ()) = async { tokio::join!(pass_on(&session, order), speaking) } => (&mut relaying).await,
        }
    };
    match relayed {
        Ok(Finished::PersonLeft) => control.end(End::Closed),
        Ok(Finished::TargetLeft { error_info }) => control.end(says::target_left(error_info)),
        Ok(Finished::NoDesktop) => control.end(says::no_desktop(&session.grant().account().asset)),
        // Whoever ended or stopped it has said why.
        Ok(Finished::Ended(_) | Finished::Stopped) => {
            control.end(End::Internal { why: "the relay of a desktop was stopped".into() })
        }
        Err(e) => {
            debug!(session = %session.id(), error = %e, "the relay of a desktop ended with an error");
            control.end(says::broken(&e))
        }
    };
    watcher.finish_files().await;
    gateway.note_files(&session).await;
    // The thread records what is left once nobody can tell it more.
    drop(watcher);
    if tokio::time::timeout(LAST_FRAME, over).await.is_err() {
        debug!(session = %session.id(), "the last frame of a desktop was not recorded in time");
    }
}

/// The target, once the session may go on; nothing where it ended before. A client that is seated reads meanwhile why it waits.
///
/// Where somebody has to watch, nothing is dialled before, and what was dialled is given up when they leave.
async fn reached(
    gateway: &Gateway,
    session: &Session,
    accepted: &mut Accepted<PersonWire>,
) -> Result<Option<Result<Target<TargetWire>, TargetError>>, WireError> {
    let control = session.control();
    let (say, said) = watch::channel(None);
    let reaching = async {
        let mut leased = None;
        loop {
            if control.running().await.is_err() {
                return None;
            }
            let password = match &leased {
                Some(password) => password,
                None => match secret(gateway, session).await {
                    Ok(password) => leased.insert(password),
                    Err(e) => return Some(Err(e)),
                },
            };
            let mut frozen = control.follow_frozen();
            // Whoever watches may suspend it and leave.
            let unwatched = frozen.wait_for(|why| match why {
                Some(Frozen::Unwatched) => true,
                Some(_) => session.is_supervised(),
                None => false,
            });
            tokio::select! {
                biased;
                left = unwatched => if left.is_err() { return None },
                dialled = dial(gateway, session, password) => return Some(dialled),
            }
        }
    };
    let connecting = format!("connecting to {}", session.grant().account().asset);
    let until = async {
        tokio::select! {
            biased;
            reached = reaching => reached,
            () = words::over(session, &say, Some(connecting.into())) => None,
        }
    };
    accepted.waits(said, until).await
}

async fn say_why(session: &Session, accepted: Accepted<PersonWire>) {
    accepted.refuse(session.control().reason().map_or(Ending::Fault, ending)).await;
}

/// What may pass besides screen, keys and pointer: what the asset allows, where the conduits by which the person comes
/// carry data that way.
fn policy(snapshot: &Snapshot, session: &Session) -> ChannelPolicy {
    let grant = session.grant();
    let (into, out) = ways_of(snapshot, grant);
    let desktop = grant.desktop().cloned().unwrap_or_default();
    let mut policy = ChannelPolicy::default();
    policy.resize = desktop.resize;
    policy.sound = desktop.sound && out;
    policy.graphics = if desktop.has_pipeline() { Graphics::Pipeline } else { Graphics::Lossless };
    policy.clipboard_to_target = desktop.clipboard_to_target && into;
    policy.clipboard_to_person = desktop.clipboard_to_person && out;
    policy.clipboard_files_to_target = desktop.clipboard_files_to_target && into;
    policy.clipboard_files_to_person = desktop.clipboard_files_to_person && out;
    policy.drives_to_target = desktop.drives_to_target && into;
    policy.drives_to_person = desktop.drives_to_person && out;
    policy.printers = desktop.printers && out;
    policy
}

/// Tells the relay when the session is frozen, goes on, or ends, which is the last thing that it is told.
async fn pass_on(session: &Session, order: watch::Sender<Order>) {
    let control = session.control();
    let mut frozen = control.follow_frozen();
    loop {
        let is = frozen.borrow_and_update().is_some();
        order.send_replace(order_now(is));
        tokio::select! {
            biased;
            () = control.ended() => break,
            changed = frozen.changed() => if changed.is_err() { break },
        }
    }
    order.send_replace(Order::End(control.reason().map_or(Ending::Fault, ending)));
}

fn order_now(frozen: bool) -> Order {
    if frozen { Order::Freeze } else { Order::Run }
}

/// The reason in the few words that the protocol has.
fn ending(end: &End) -> Ending {
    match end {
        End::Idle { .. } => Ending::Idle,
        End::Policy { code: "window_ended" | "window_shortened", .. } => Ending::TimeOver,
        End::Policy { .. } => Ending::NotAllowed,
        End::Killed { .. } | End::Finding { .. } | End::Closed => Ending::Administrator,
        End::TargetFailed { .. } => Ending::Target,
        End::TargetClosed
        | End::ClientFailed { .. }
        | End::RecorderFailed { .. }
        | End::Shutdown
        | End::Internal { .. } => Ending::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_word_where_the_protocol_has_one() {
        let policy = |code| End::Policy { code, sentence: String::new() };
        assert_eq!(ending(&End::Idle { seconds: 1 }), Ending::Idle);
        assert_eq!(ending(&policy("window_ended")), Ending::TimeOver);
        assert_eq!(ending(&policy("window_revoked")), Ending::NotAllowed);
        assert_eq!(ending(&policy("plant_state")), Ending::NotAllowed);
        let killed = End::Killed { by: "olga".into(), reason: String::new() };
        assert_eq!(ending(&killed), Ending::Administrator);
        let failed = End::TargetFailed { why: String::new(), sentence: String::new() };
        assert_eq!(ending(&failed), Ending::Target);
        assert_eq!(ending(&End::RecorderFailed { why: String::new() }), Ending::Fault);
    }
}
