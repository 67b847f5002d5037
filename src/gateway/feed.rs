//! What comes from the store by itself: new pictures for the policy engine, and people's orders to sessions. Both are
//! driven by the revision, a counter that any process moves.

use std::{collections::HashSet, sync::Arc, time::Duration};

use cofferdam_access::{
    audit::{Act, Actor, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::{FindingId, OrderId, SessionId},
    policy::CompiledPolicies,
    snapshot::Snapshot,
    store::{FindingRecord, Glance, OrderKind, SessionState, Store, StoreError},
};
use cofferdam_recorder::{Archive, Checkpoint};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Gateway, space::SpaceAlarm};
use crate::{
    config::Recordings,
    detect::triggers::{Finding, Response},
    erasure::{Places, erase_deleted},
    session::orders::Order,
};

/// How often the revision is read. Together with a reading of the picture it bounds how long a change may take to cut a
/// session.
const POLL: Duration = Duration::from_millis(100);
/// Checkpoints of recordings written at once.
const CHECKPOINTS: usize = 256;
/// How long checkpoints are gathered before the next are written.
const GATHER: Duration = Duration::from_secs(2);
/// How often the recorder is asked whether it stands still.
const RECORDER: Duration = Duration::from_secs(1);
/// How often the audit log's own checkpoint is written.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Every how many rounds of housekeeping is swept: hourly.
const SWEEP: u32 = 360;
/// How often the store is asked even where nothing seems to have changed.
const AT_LEAST: Duration = Duration::from_secs(1);
/// How long the store may take to answer before it is asked again.
const ANSWER: Duration = Duration::from_secs(2);
/// After this long without an answer from the store the old picture counts no more: unsure means no.
const BLIND: Duration = Duration::from_secs(10);

/// Reads a picture from the store. `before` lends its compiled policies where the site has not changed.
pub(crate) async fn read_snapshot(
    store: &Store,
    now: Timestamp,
    before: Option<&Snapshot>,
) -> Result<Snapshot, StoreError> {
    let view = store.policy_view(now).await?;
    let mut windows = view.windows;
    // A window that is over still matters to sessions that live on through its extension.
    let mut wanted: Vec<_> = windows.iter().filter_map(|w| w.request.extends).collect();
    while let Some(id) = wanted.pop() {
        if !windows.iter().any(|w| w.request.id == id) {
            let extended = store.window(id).await?.window;
            wanted.extend(extended.request.extends);
            windows.push(extended);
        }
    }
    let (site, policies) = match before {
        Some(b) if *b.site == view.site => (b.site.clone(), b.policies.clone()),
        _ => {
            let policies = CompiledPolicies::compile(&view.site);
            if let Some(problem) = policies.problem() {
                error!(%problem, "the policies cannot be used: everything is refused until they are mended");
            }
            (Arc::new(view.site), Arc::new(policies))
        }
    };
    Ok(Snapshot {
        site,
        plant: view.plant_states,
        windows: Snapshot::relevant(windows, now),
        policies,
        revision: view.revision,
        taken_at: now,
    })
}

/// Publishes a new picture whenever the store's revision moves. When the store stays away too long, a picture in which
/// nothing is allowed is published instead.
pub(crate) async fn follow_policy(gateway: Arc<Gateway>, stop: CancellationToken) {
    let pictures = gateway.pictures.clone();
    let mut answered = tokio::time::Instant::now();
    let mut blind = false;
    let mut obeyed = HashSet::new();
    let mut seen = pictures.borrow().revision;
    // There may be orders that were given before this node looked.
    let mut orders_due = true;
    let mut glance = Glance::new(&gateway.store, POLL, AT_LEAST);
    // This process's own changes are known at once, those of others at the next look.
    let mut own = gateway.store.watch_revision();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = own.changed() => glance.look_closely(),
            () = tokio::time::sleep(POLL) => {}
        }
        if !glance.suggests_change() && !orders_due && !blind {
            continue;
        }
        let current = pictures.borrow().clone();
        let read = async {
            // What this loop has seen, not what stands published: somebody else may have published a newer picture, and
            // the orders that came with it are still to be carried out.
            let revision = gateway.store.revision().await?;
            if revision == seen && !blind {
                return Ok(None);
            }
            // Orders before the picture, which takes longer to read. What comes in between has a later revision.
            let obeyed = carry_out_orders(&gateway, &mut obeyed).await;
            let new = read_snapshot(&gateway.store, gateway.clock.now(), Some(&current)).await;
            new.map(|new| Some((revision, obeyed, new)))
        };
        match tokio::time::timeout(ANSWER, read).await {
            Ok(Ok(new)) => {
                answered = tokio::time::Instant::now();
                blind = false;
                if let Some((revision, obeyed, new)) = new {
                    seen = revision;
                    publish(&pictures, new);
                    orders_due = !obeyed;
                } else if orders_due {
                    let carried = tokio::time::timeout(ANSWER, carry_out_orders(&gateway, &mut obeyed)).await;
                    orders_due = carried != Ok(true);
                }
            }
            Ok(Err(_)) | Err(_) => {
                if answered.elapsed() >= BLIND && !blind {
                    blind = true;
                    error!("the store has not answered for 10 s: nothing is allowed until it does");
                    let mut nothing = Snapshot::clone(&current);
                    nothing.windows.clear();
                    pictures.send_replace(Arc::new(nothing));
                }
            }
        }
    }
}

/// A picture never gives way to an older one: two readers may finish in either order. Those who wait for a new one are woken
/// only where it may decide otherwise: with many sessions, judging each again at every order would keep orders waiting.
fn publish(pictures: &watch::Sender<Arc<Snapshot>>, new: Snapshot) {
    pictures.send_if_modified(|picture| {
        if new.revision < picture.revision {
            return false;
        }
        let decides_otherwise = !new.decides_like(picture);
        *picture = Arc::new(new);
        decides_otherwise
    });
}

/// Carries out every order that waits, then writes down what came of them, so that the last of many does not wait for
/// the books of the first. `obeyed` holds those whose outcome may not be in the store yet. Says whether they could be
/// read.
async fn carry_out_orders(gateway: &Arc<Gateway>, obeyed: &mut HashSet<OrderId>) -> bool {
    let orders = match gateway.store.pending_orders(&gateway.node).await {
        Ok(orders) => orders,
        Err(e) => {
            warn!(error = %e, "orders could not be read; tried again at once");
            return false;
        }
    };
    obeyed.retain(|id| orders.iter().any(|o| o.id == *id));
    let mut outcomes = Vec::new();
    for order in orders {
        if !obeyed.insert(order.id) {
            continue;
        }
        let by = order.by.clone();
        let passed_on = match order.kind {
            OrderKind::Suspend => Order::Suspend { by, reason: order.reason.clone() },
            OrderKind::Resume => Order::Resume { by },
            OrderKind::End => Order::End { by, reason: order.reason.clone() },
            OrderKind::Message => Order::Message { by, text: order.reason.clone() },
        };
        let here = gateway.registry.order(order.session, passed_on);
        outcomes.push((order, here));
    }
    if !outcomes.is_empty() {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.note_outcomes(outcomes).await });
    }
    true
}

impl Gateway {
    /// The picture as of now: when the store has moved on since the last one, a new one is read and published first, so
    /// that what was approved a moment ago counts, and what was revoked a moment ago does not.
    pub(crate) async fn current_snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        let current = self.snapshots.borrow().clone();
        if self.store.revision().await? == current.revision {
            return Ok(current);
        }
        let new = read_snapshot(&self.store, self.clock.now(), Some(&current)).await?;
        publish(&self.pictures, new);
        Ok(self.snapshots.borrow().clone())
    }

    async fn note_outcomes(&self, outcomes: Vec<(cofferdam_access::store::Order, bool)>) {
        for (order, here) in outcomes {
            let outcome = if here { "carried out" } else { "the session is not here any more" };
            info!(order = %order.id, session = %order.session, outcome, "order");
            let act = Act::system("gateway", self.clock.now());
            if let Err(e) = self.store.order_done(&act, order.id, outcome).await {
                warn!(error = %e, "an order was carried out, but that could not be noted");
            }
            match order.kind {
                OrderKind::Suspend if here => {
                    self.note_state(order.session, SessionState::Suspended, &order.by).await
                }
                OrderKind::Resume if here && !self.registry.waits(order.session) => {
                    self.note_state(order.session, SessionState::Active, &order.by).await
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn note_state(&self, session: SessionId, state: SessionState, by: &str) {
        let kind = match state {
            SessionState::Active => AuditKind::SessionResumed,
            _ => AuditKind::SessionSuspended,
        };
        let event = AuditEvent::new(kind, session).with("by", by);
        let act = Act::system("gateway", self.clock.now());
        if let Err(e) = self.store.set_session_state(&act, session, state, event).await {
            warn!(error = %e, "a session's state could not be noted");
        }
    }
}

/// Writes recordings' checkpoints into the audit log, many in one transaction: a recording whose end was cut off no
/// longer reaches the last one.
pub(crate) async fn write_checkpoints(gateway: Arc<Gateway>, mut checkpoints: mpsc::Receiver<Checkpoint>) {
    let mut batch = Vec::new();
    while checkpoints.recv_many(&mut batch, CHECKPOINTS).await > 0 {
        let events = batch
            .drain(..)
            .map(|c| {
                AuditEvent::new(AuditKind::RecordingCheckpoint, &c.recording)
                    .with("seq", c.seq)
                    .with("hash", hex::encode(c.hash))
                    .with("at", c.at)
            })
            .collect();
        if let Err(e) = gateway.store.record_all(&Act::system("recorder", gateway.clock.now()), events).await
        {
            warn!(error = %e, "checkpoints of recordings could not be audited; later ones cover what they covered");
        }
        // Those of the same moment go together.
        tokio::time::sleep(GATHER).await;
    }
}

/// What has to happen now and then: a durable checkpoint of the audit log outside the database, files of deleted recordings,
/// a look at the free space, and sweeping.
pub(crate) async fn keep_house(
    gateway: Arc<Gateway>,
    recordings: Recordings,
    archive: Option<Archive>,
    stop: CancellationToken,
) {
    let mut round = 0u32;
    let mut alarm = None;
    let mut left = 0;
    loop {
        // Also at the start: a crash may have come between a deletion and the files.
        left = erase(&gateway, &recordings, archive.as_ref(), left).await;
        if alarm.is_none() {
            alarm = SpaceAlarm::resume(&gateway.store, &gateway.node, recordings.warn_free_bytes).await.ok();
        }
        if let Some(alarm) = &mut alarm {
            alarm.look(&gateway).await;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HOUSEKEEPING) => {}
        }
        if let Err(e) = gateway.store.checkpoint().await {
            warn!(error = %e, "the audit log's checkpoint could not be written");
        }
        round = round.wrapping_add(1);
        if round % SWEEP == 1
            && let Err(e) = gateway.store.sweep(&Act::system("gateway", gateway.clock.now())).await
        {
            warn!(error = %e, "what has ended by itself could not be swept away");
        }
    }
}

/// Erases the files of deleted recordings; answers how many are left, and warns when that has changed.
async fn erase(
    gateway: &Gateway,
    recordings: &Recordings,
    archive: Option<&Archive>,
    left_before: usize,
) -> usize {
    let actor = Actor::system("gateway");
    let places = Places { folder: &recordings.dir, archive };
    match erase_deleted(&gateway.store, places, &gateway.node, &actor, &gateway.clock).await {
        Ok(erased) => {
            if erased.done > 0 {
                info!(recordings = erased.done, "the files of deleted recordings are erased");
            }
            if let Some((id, why)) = erased.left.first().filter(|_| erased.left.len() != left_before) {
                warn!(recording = %id, left = erased.left.len(), error = %why, "a deleted recording's files are left");
            }
            erased.left.len()
        }
        Err(e) => {
            warn!(error = %e, "the files of deleted recordings could not be erased; tried again");
            left_before
        }
    }
}

/// Writes into the audit log when sessions stand still because they cannot be recorded, and when they go on.
pub(crate) async fn watch_recorder(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut stands_since = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECORDER) => {}
        }
        let health = gateway.recorder.health();
        let since = health.frozen.as_ref().map(|(_, since)| *since);
        if since == stands_since {
            continue;
        }
        let event = match health.frozen {
            Some((why, _)) => AuditEvent::new(AuditKind::RecordingStalled, &gateway.node).with("reason", why),
            None => AuditEvent::new(AuditKind::RecordingResumed, &gateway.node),
        };
        let event = event.with("sessions", health.live);
        match gateway.store.record(&Act::system("recorder", gateway.clock.now()), event).await {
            Ok(_) => stands_since = since,
            // A full disk may be the store's too: tried again until it is noted, or over.
            Err(e) => warn!(error = %e, "a change of recording could not be audited yet"),
        }
    }
}

/// Writes findings into the audit log. When one cannot be written, its session ends: nothing goes on unaudited.
pub(crate) async fn write_findings(
    gateway: Arc<Gateway>,
    mut findings: mpsc::Receiver<(SessionId, Finding)>,
) {
    while let Some((session, finding)) = findings.recv().await {
        let now = gateway.clock.now();
        let record = FindingRecord {
            id: FindingId::new(now, &mut rand::rng()),
            session: Some(session),
            at: now,
            trigger: finding.trigger.as_str().to_owned(),
            severity: finding.severity.as_str().to_owned(),
            text: finding.text,
            response: finding.response.as_str().to_owned(),
        };
        let suspends = finding.response == Response::Suspend;
        let kept = gateway.store.record_finding(&Act::system("detect", now), &record).await;
        if suspends {
            gateway.note_state(session, SessionState::Suspended, &record.trigger).await;
        }
        if let Err(e) = kept {
            error!(session = %session, error = %e, "a finding could not be audited: its session ends");
            gateway.registry.order(
                session,
                Order::End { by: "system:detect".into(), reason: "a finding could not be audited".into() },
            );
        }
    }
}
