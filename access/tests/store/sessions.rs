use cofferdam_access::audit::{AuditEvent, AuditKind};
use cofferdam_access::ids::{DecisionId, FindingId, OrderId, SessionId};
use cofferdam_access::store::{
    AuditFilter, DecisionFilter, DecisionRecord, FindingFilter, FindingRecord, OpenOutcome, Opening,
    OrderKind, RememberedFactor, SessionEnd, SessionFilter, SessionState, Store, StoreError,
};

use crate::support::{NOW, TestDb, at, by, keys, name, rng, session};

on_both!(
    a_session_opens_and_closes_with_its_proof_in_the_log,
    what_belongs_to_an_opening_is_one_transaction,
    a_session_ends_once,
    an_exclusive_account_takes_one_session_whoever_is_faster,
    sessions_lost_in_a_crash_end_when_their_node_starts,
    an_order_reaches_the_node_that_holds_the_session,
    decisions_keep_their_digest,
    findings_are_kept_and_logged,
    sessions_are_listed_by_who_what_and_when,
);

async fn open(store: &Store, node: &str) -> SessionId {
    let new = session(node);
    let outcome = store.open_session(&at(0), &new, &Opening::default()).await.unwrap();
    assert!(matches!(outcome, OpenOutcome::Opened { .. }));
    new.id
}

fn decision(person: &str) -> DecisionRecord {
    DecisionRecord {
        id: DecisionId::new(NOW, &mut rng()),
        at: NOW,
        person: name(person),
        asset: "pump-hmi".into(),
        session: None,
        outcome: "permit".into(),
        body: "{\"why\":\"window\"}".into(),
    }
}

async fn kinds(store: &Store) -> Vec<String> {
    let all = AuditFilter { after: Some(0), ..AuditFilter::default() };
    store.audit(&all).await.unwrap().into_iter().map(|e| e.kind).collect()
}

async fn a_session_opens_and_closes_with_its_proof_in_the_log(db: TestDb) {
    let store = db.store().await;
    let new = session("n1");
    let OpenOutcome::Opened { checkpoint, new_source } =
        store.open_session(&by("vera"), &new, &Opening::default()).await.unwrap()
    else {
        panic!("not opened")
    };
    assert!(new_source);
    assert_eq!(checkpoint.seq, 1);
    let end = SessionEnd {
        reason: "window_end".into(),
        recording_digest: Some("ab".into()),
        bytes_up: 10,
        bytes_down: 20,
        ..SessionEnd::default()
    };
    let closed = store.close_session(&at(30), new.id, &end).await.unwrap();
    assert_eq!(closed.seq, 2);
    let entry = store.audit(&AuditFilter { limit: 1, ..AuditFilter::default() }).await.unwrap().remove(0);
    assert_eq!(entry.kind, "session.closed");
    for part in
        ["\"recording_digest\":\"ab\"", "\"seconds\":30", "\"reason\":\"window_end\"", "root@pump-hmi"]
    {
        assert!(entry.body.contains(part), "{part} in {}", entry.body);
    }
    let record = store.session(new.id).await.unwrap();
    assert_eq!((record.state, record.bytes_up, record.bytes_down), (SessionState::Ended, 10, 20));
    assert_eq!(record.ended_at, Some(NOW.plus_seconds(30)));
    let again = session("n1");
    let OpenOutcome::Opened { new_source, .. } =
        store.open_session(&at(40), &again, &Opening::default()).await.unwrap()
    else {
        panic!("not opened")
    };
    assert!(!new_source, "the address is known now");
    assert!(store.source_seen(&name("vera"), again.source).await.unwrap().is_some());
    assert!(store.verify_audit(keys(), None).await.unwrap().is_whole());
}

async fn what_belongs_to_an_opening_is_one_transaction(db: TestDb) {
    let store = db.store().await;
    let new = session("n1");
    let factor = RememberedFactor {
        person: name("vera"),
        device_key: "SHA256:abc".into(),
        source: new.source,
        window: None,
    };
    let opening = Opening {
        decisions: vec![decision("vera")],
        remember: Some((factor.clone(), NOW.plus_seconds(60))),
        exclusive: true,
    };
    assert!(matches!(store.open_session(&at(0), &new, &opening).await.unwrap(), OpenOutcome::Opened { .. }));
    assert_eq!(kinds(&store).await, ["decision.permitted", "second_factor.remembered", "session.opened"]);
    // A second opening under the same id fails as a whole.
    let mut opening = opening;
    opening.decisions = vec![decision("emil")];
    opening.exclusive = false;
    store.open_session(&at(0), &new, &opening).await.unwrap_err();
    assert_eq!(kinds(&store).await.len(), 3);
    assert_eq!(store.decisions(&DecisionFilter::default()).await.unwrap().len(), 1);
}

async fn a_session_ends_once(db: TestDb) {
    let stores = [db.store().await, db.another().await];
    let id = open(&stores[0], "n1").await;
    let end = SessionEnd { reason: "killed".into(), ..SessionEnd::default() };
    let (a, b) = tokio::join!(async { stores[0].close_session(&at(1), id, &end).await }, async {
        stores[1].close_session(&at(1), id, &end).await
    });
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let moved = stores[0]
        .set_session_state(&at(2), id, SessionState::Active, AuditEvent::new(AuditKind::SessionResumed, id))
        .await
        .unwrap_err();
    assert!(moved.to_string().contains("killed"), "{moved}");
    assert_eq!(kinds(&stores[0]).await, ["session.opened", "session.closed"]);
}

async fn an_exclusive_account_takes_one_session_whoever_is_faster(db: TestDb) {
    let stores = [db.store().await, db.another().await];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..6 {
        let store = stores[i % 2].clone();
        tasks.spawn(async move {
            let opening = Opening { exclusive: true, ..Opening::default() };
            store.open_session(&at(0), &session("n1"), &opening).await.unwrap()
        });
    }
    let outcomes = tasks.join_all().await;
    let opened = outcomes.iter().filter(|o| matches!(o, OpenOutcome::Opened { .. })).count();
    assert_eq!(opened, 1);
    let open =
        stores[0].sessions(&SessionFilter { open_only: true, ..SessionFilter::default() }).await.unwrap();
    let busy = outcomes.into_iter().find_map(|o| match o {
        OpenOutcome::AccountBusy(id) => Some(id),
        OpenOutcome::Opened { .. } | OpenOutcome::AccountCheckedOut(_) => None,
    });
    assert_eq!(busy, Some(open[0].id));
}

async fn sessions_lost_in_a_crash_end_when_their_node_starts(db: TestDb) {
    let store = db.store().await;
    let lost = [open(&store, "n1").await, open(&store, "n1").await];
    let alive = open(&store, "n2").await;
    let over = open(&store, "n1").await;
    store
        .close_session(&at(1), over, &SessionEnd { reason: "closed".into(), ..SessionEnd::default() })
        .await
        .unwrap();
    // The next process on node n1.
    let store = db.another().await;
    let mut ended: Vec<_> =
        store.end_orphans(&at(9), "n1").await.unwrap().into_iter().map(|s| s.id).collect();
    ended.sort();
    let mut expected = lost.to_vec();
    expected.sort();
    assert_eq!(ended, expected);
    let crashed = store.session(lost[0]).await.unwrap();
    assert_eq!((crashed.state, crashed.end_reason.as_deref()), (SessionState::Ended, Some("crash")));
    assert_eq!(store.session(alive).await.unwrap().state, SessionState::Active);
    assert_eq!(store.session(over).await.unwrap().end_reason.as_deref(), Some("closed"));
    assert!(store.end_orphans(&at(9), "n1").await.unwrap().is_empty());
    assert!(store.verify_audit(keys(), None).await.unwrap().is_whole());
}

async fn an_order_reaches_the_node_that_holds_the_session(db: TestDb) {
    let node = db.store().await;
    let id = open(&node, "n1").await;
    let before = node.revision().await.unwrap();
    // Another process gives the order.
    let cli = db.another().await;
    let order = OrderId::new(NOW, &mut rng());
    cli.order(&by("olga"), order, id, OrderKind::Suspend, "what is this?").await.unwrap();
    assert!(node.revision().await.unwrap() > before, "the node sees that it should look");
    let pending = node.pending_orders("n1").await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].id, pending[0].session, pending[0].kind), (order, id, OrderKind::Suspend));
    assert_eq!((pending[0].by.as_str(), pending[0].reason.as_str()), ("olga", "what is this?"));
    assert!(node.pending_orders("n2").await.unwrap().is_empty());
    let event = AuditEvent::new(AuditKind::SessionSuspended, id).with("by", "olga");
    node.set_session_state(&at(1), id, SessionState::Suspended, event).await.unwrap();
    assert!(node.order_done(&at(1), order, "done").await.unwrap());
    assert!(!node.order_done(&at(1), order, "done").await.unwrap(), "only once");
    assert!(node.pending_orders("n1").await.unwrap().is_empty());
    assert_eq!(cli.orders_of(id).await.unwrap()[0].outcome.as_deref(), Some("done"));
    node.close_session(&at(2), id, &SessionEnd { reason: "closed".into(), ..SessionEnd::default() })
        .await
        .unwrap();
    let late =
        cli.order(&by("olga"), OrderId::new(NOW, &mut rng()), id, OrderKind::End, "").await.unwrap_err();
    assert!(matches!(late, StoreError::Refused(_)), "{late}");
    let unknown = SessionId::new(NOW, &mut rng());
    let none = cli.order(&by("olga"), order, unknown, OrderKind::End, "").await.unwrap_err();
    assert!(matches!(none, StoreError::NotFound { .. }), "{none}");
}

async fn decisions_keep_their_digest(db: TestDb) {
    let store = db.store().await;
    let kept = decision("vera");
    let denied = DecisionRecord { outcome: "deny".into(), ..decision("emil") };
    store.record_decisions(&at(0), &[kept.clone(), denied.clone()]).await.unwrap();
    store.record_decisions(&at(0), &[]).await.unwrap();
    assert_eq!(store.decision(kept.id).await.unwrap(), kept);
    assert_eq!(kinds(&store).await, ["decision.permitted", "decision.denied"]);
    let of_emil = DecisionFilter { person: Some(name("emil")), ..DecisionFilter::default() };
    assert_eq!(store.decisions(&of_emil).await.unwrap(), [denied]);
    db.tamper("UPDATE decision SET body = '{}' WHERE outcome = 'permit'").await;
    let error = store.decision(kept.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

async fn findings_are_kept_and_logged(db: TestDb) {
    let store = db.store().await;
    let id = open(&store, "n1").await;
    let finding = FindingRecord {
        id: FindingId::new(NOW, &mut rng()),
        session: Some(id),
        at: NOW,
        trigger: "new-source".into(),
        severity: "medium".into(),
        text: "never seen 192.0.2.7".into(),
        response: "notify".into(),
    };
    store.record_finding(&at(0), &finding).await.unwrap();
    let of_session = FindingFilter { session: Some(id), ..FindingFilter::default() };
    assert_eq!(store.findings(&of_session).await.unwrap(), [finding]);
    assert_eq!(kinds(&store).await, ["session.opened", "finding"]);
}

async fn sessions_are_listed_by_who_what_and_when(db: TestDb) {
    let store = db.store().await;
    let first = open(&store, "n1").await;
    let second = open(&store, "n2").await;
    store
        .close_session(&at(1), first, &SessionEnd { reason: "closed".into(), ..SessionEnd::default() })
        .await
        .unwrap();
    let list = async |filter: SessionFilter| -> Vec<SessionId> {
        let mut ids: Vec<_> = store.sessions(&filter).await.unwrap().into_iter().map(|s| s.id).collect();
        ids.sort();
        ids
    };
    let all = SessionFilter::default;
    let mut both = vec![first, second];
    both.sort();
    assert_eq!(list(all()).await, both);
    assert_eq!(list(SessionFilter { person: Some(name("vera")), ..all() }).await, both);
    assert_eq!(list(SessionFilter { person: Some(name("emil")), ..all() }).await, []);
    assert_eq!(list(SessionFilter { open_only: true, ..all() }).await, [second]);
    assert_eq!(list(SessionFilter { state: Some(SessionState::Ended), ..all() }).await, [first]);
    assert_eq!(list(SessionFilter { node: Some("n2".into()), ..all() }).await, [second]);
    assert_eq!(list(SessionFilter { until: Some(NOW), ..all() }).await, []);
}
