//! What watches over one session from its start to its seal: the clock, the policy, the recorder and people's orders
//! all arrive at the same `select!`.

use std::{sync::Arc, time::Duration};

use cofferdam_access::{policy::Recheck, snapshot::Snapshot};
use cofferdam_recorder::{Event, Status};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    end::End,
    live::{PersonLeg, Session},
    orders::Order,
    timers::{Due, Timers},
};
use crate::gateway::Gateway;

/// How long last words may take before both sockets are cut.
const LAST_WORDS: Duration = Duration::from_millis(150);
/// Longest sleep: a wall clock that was set is noticed within it.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);
/// How long what the channels still know may take to be recorded.
const LAST_STEPS: Duration = Duration::from_secs(5);
/// How long the recorder and the store get to close the books.
const CLOSING: Duration = Duration::from_secs(30);

/// Watches until the end, then closes the person's and the target's side, seals the recording, audits the end and
/// returns the lease, in this order.
pub(crate) async fn supervise(
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    person: Arc<dyn PersonLeg>,
    orders: mpsc::Receiver<Order>,
) {
    watch_over(&gateway, &session, orders).await;
    let end = session.control().reason().cloned().unwrap_or(End::Closed);
    info!(session = %session.id(), reason = end.code(), detail = end.detail(), "session ended");
    Box::pin(part(&session, person.as_ref(), &end)).await;
    // Before the end is written: after a crash in between, the next start finds a session that is still open.
    if session.holds_lease() {
        gateway.used(session.grant().account()).await;
    }
    Box::pin(close_books(&gateway, &session, &end)).await;
    session.release();
    gateway.registry.leave(session.id());
}

async fn watch_over(gateway: &Gateway, session: &Session, mut orders: mpsc::Receiver<Order>) {
    let mut snapshots = gateway.snapshots.clone();
    let mut status = session.recorder().status();
    let mut timers = Timers::new(session.now(), session.not_after(), session.grant().idle_seconds());
    // The picture may have changed between the decision and now.
    recheck(session, &mut timers, &snapshots.borrow_and_update().clone());
    let mut seen = session.now();
    let control = session.control();
    while !control.is_ended() {
        let now = session.now();
        let went_back = now < seen;
        seen = now;
        if went_back {
            let snapshot = snapshots.borrow().clone();
            recheck(session, &mut timers, &snapshot);
            continue;
        }
        if let Some(due) = timers.due(now, session.last_input()) {
            Box::pin(on_due(gateway, session, &mut timers, due)).await;
            continue;
        }
        let sleep = until(now.micros(), timers.next(session.last_input()).micros());
        tokio::select! {
            biased;
            () = control.ended() => {}
            changed = snapshots.changed() => match changed {
                Ok(()) => {
                    let snapshot = snapshots.borrow_and_update().clone();
                    recheck(session, &mut timers, &snapshot);
                }
                Err(_) => { control.end(End::Internal { why: "the policy feed stopped".into() }); }
            },
            changed = status.changed() => {
                let now = status.borrow_and_update().clone();
                on_recorder(session, changed.is_ok(), now);
            }
            Some(order) = orders.recv() => Box::pin(session.obey(order)).await,
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

fn until(now: i64, then: i64) -> Duration {
    Duration::from_micros(u64::try_from(then.saturating_sub(now)).unwrap_or(0)).min(LONGEST_SLEEP)
}

/// Policy is asked again; what no longer qualifies ends.
fn recheck(session: &Session, timers: &mut Timers, snapshot: &Snapshot) {
    let now = session.now();
    timers.set_ask_policy(snapshot.policies.may_change_at(now));
    match session.grant().recheck(snapshot, now) {
        Recheck::StillGood { not_after } => {
            session.set_not_after(not_after);
            timers.set_not_after(now, not_after);
        }
        Recheck::Ended(reason) => {
            session.control().end(End::Policy { code: reason.as_str(), sentence: reason.to_string() });
        }
    }
}

async fn on_due(gateway: &Gateway, session: &Session, timers: &mut Timers, due: Due) {
    match due {
        Due::Notice(text) => session.announce(&text).await,
        Due::AskPolicy => {
            let snapshot = gateway.snapshots.borrow().clone();
            recheck(session, timers, &snapshot);
        }
        Due::Idle => {
            // A frozen session waits for the site, not for the person: it does not become idle.
            if session.control().frozen().is_some() {
                session.touch();
            } else {
                session.control().end(End::Idle { seconds: session.grant().idle_seconds() });
            }
        }
        Due::Expired => {
            let snapshot = gateway.snapshots.borrow().clone();
            recheck(session, timers, &snapshot);
            if session.now() >= session.not_after() {
                session.control().end(End::Policy {
                    code: "window_ended",
                    sentence: "the access window is over; ask for a new one".into(),
                });
            }
        }
    }
}

fn on_recorder(session: &Session, alive: bool, status: Status) {
    match status {
        Status::Healthy if alive => {}
        Status::Frozen { why, .. } if alive => {
            warn!(session = %session.id(), why, "recording stalls; the session stands still");
            session.show(
                "the session stands still: it cannot be recorded at the moment; the site has been told",
            );
        }
        Status::Failed { why } => {
            session.control().end(End::RecorderFailed { why });
        }
        _ => {
            session.control().end(End::RecorderFailed { why: "the recorder went away".into() });
        }
    }
}

/// Last words, then both sockets, then what is left to record.
async fn part(session: &Session, person: &dyn PersonLeg, end: &End) {
    let sentence = end.sentence();
    session.tasks.close();
    let words = async {
        if let Some(text) = &sentence
            && !matches!(end, End::RecorderFailed { .. })
        {
            session.recorder().record(Event::Notice { text: text.clone() }).await.unwrap_or_default();
        }
        // The channels' own tasks see the end, show the sentence and close; wait for them a moment.
        session.tasks.wait().await;
        // The target has nothing left to say, and nothing to wait for: its side closes while the person still reads.
        session.control().cut_token().cancel();
        person.close(sentence.as_deref()).await;
    };
    if tokio::time::timeout(LAST_WORDS, words).await.is_err() {
        tracing::debug!(session = %session.id(), "a side did not take its last words in time");
    }
    person.cut();
    session.control().cut_token().cancel();
    // Nothing passes any more. What the channels know of what has passed belongs into the recording before its seal, though its
    // recorder be behind.
    if tokio::time::timeout(LAST_STEPS, session.tasks.wait()).await.is_err() {
        warn!(session = %session.id(), "not all that a session's channels knew was recorded before its seal");
    }
}

/// Seal, then the audited end that carries the seal's digest.
async fn close_books(gateway: &Gateway, session: &Session, end: &End) {
    let note = cofferdam_recorder::End {
        reason: end.code().to_owned(),
        by: if let End::Killed { by, .. } = end { by.clone() } else { String::new() },
        note: end.detail(),
    };
    let sealed = match tokio::time::timeout(CLOSING, session.recorder().finish(note)).await {
        Ok(Ok(sealed)) => Some(sealed),
        Ok(Err(e)) => {
            warn!(session = %session.id(), error = %e, "the recording could not be sealed; it is closed at the next start");
            None
        }
        Err(_) => {
            warn!(session = %session.id(), "sealing the recording took too long; it is closed at the next start");
            None
        }
    };
    session.forget().await;
    gateway.close_session(session, end, sealed.as_ref()).await;
}
