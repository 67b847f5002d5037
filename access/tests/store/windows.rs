use cofferdam_access::audit::{AuditEvent, AuditKind};
use cofferdam_access::ids::WindowId;
use cofferdam_access::people::Duty;
use cofferdam_access::store::{AuditFilter, StoreError, WindowFilter};
use cofferdam_access::window::{Approval, Operation, Standing, Window, WindowRequest};

use crate::support::{NOW, TestDb, account, at, by, name, rng};

on_both!(
    a_window_comes_back_as_it_was_kept,
    of_two_changes_at_once_one_is_written,
    racing_approvals_are_neither_lost_nor_doubled,
    the_request_of_a_window_never_changes,
    windows_are_listed_by_who_what_and_when,
    what_no_rule_gives_is_never_written,
    file_bytes_of_two_nodes_add_up,
);

fn window() -> Window {
    Window {
        request: WindowRequest {
            id: WindowId::new(NOW, &mut rng()),
            requested_by: name("vera"),
            requested_at: NOW,
            users: [name("vera"), name("emil")].into(),
            accounts: [account("root@pump-hmi")].into(),
            forwards: [name("plc-7")].into(),
            operations: [Operation::Operate].into(),
            purpose: "replace the seal".into(),
            work_order: "WO-1".into(),
            start: NOW.plus_seconds(60),
            end: NOW.plus_seconds(3600),
            plant_states: [].into(),
            limits: cofferdam_access::window::Limits::default(),
            extends: None,
        },
        approvals: vec![],
        standing: Standing::Requested,
        shortened_to: None,
    }
}

fn approve(mut window: Window, who: &str, duty: Duty) -> Window {
    window.approvals.push(Approval { by: name(who), duty, digest: "d".into(), at: NOW, remark: None });
    if window.approvals.len() == 2 {
        window.standing = Standing::Approved;
    }
    window
}

fn approved(id: WindowId) -> AuditEvent {
    AuditEvent::new(AuditKind::WindowApproved, id)
}

async fn a_window_comes_back_as_it_was_kept(db: TestDb) {
    let store = db.store().await;
    let before = store.revision().await.unwrap();
    let window = window();
    let kept = store.insert_window(&by("vera"), &window).await.unwrap();
    assert_eq!(store.window(window.request.id).await.unwrap(), kept);
    assert_eq!(kept.window, window);
    assert!(store.revision().await.unwrap() > before);
    let twice = store.insert_window(&by("vera"), &window).await.unwrap_err();
    assert!(matches!(twice, StoreError::Exists { .. }), "{twice}");
    let unknown = store.window(WindowId::new(NOW, &mut rng())).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound { .. }), "{unknown}");
    let log = store.audit(&AuditFilter::default()).await.unwrap();
    assert_eq!(log.len(), 1, "the failed insert left nothing");
    assert!(log[0].body.contains("replace the seal"));
}

async fn of_two_changes_at_once_one_is_written(db: TestDb) {
    let store = db.store().await;
    let kept = store.insert_window(&by("vera"), &window()).await.unwrap();
    let id = kept.window.request.id;
    let yes = approve(kept.window.clone(), "olga", Duty::Operations);
    let no = Window {
        standing: Standing::Refused { by: name("sam"), reason: "no".into(), at: NOW, suggested: None },
        ..kept.window.clone()
    };
    store.update_window(&by("olga"), kept.version, &yes, approved(id)).await.unwrap();
    let late = store.update_window(&by("sam"), kept.version, &no, approved(id)).await.unwrap_err();
    assert!(matches!(late, StoreError::Changed { what: "window" }) && late.is_temporary(), "{late}");
    assert_eq!(store.window(id).await.unwrap().window, yes);
}

async fn racing_approvals_are_neither_lost_nor_doubled(db: TestDb) {
    let stores = [db.store().await, db.another().await];
    for _ in 0..10 {
        let id = stores[0].insert_window(&by("vera"), &window()).await.unwrap().window.request.id;
        let mut tasks = tokio::task::JoinSet::new();
        for (i, (who, duty)) in [("olga", Duty::Operations), ("sam", Duty::Security)].into_iter().enumerate()
        {
            let store = stores[i].clone();
            tasks.spawn(async move {
                loop {
                    let now = store.window(id).await.unwrap();
                    let next = approve(now.window, who, duty);
                    match store.update_window(&by(who), now.version, &next, approved(id)).await {
                        Ok(_) => break,
                        Err(StoreError::Changed { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            });
        }
        tasks.join_all().await;
        let end = stores[0].window(id).await.unwrap();
        let mut who: Vec<_> = end.window.approvals.iter().map(|a| a.by.as_str().to_owned()).collect();
        who.sort();
        assert_eq!((end.version, who), (3, vec!["olga".to_owned(), "sam".to_owned()]));
        assert_eq!(end.window.standing, Standing::Approved);
    }
    let filter = AuditFilter { kind: Some(AuditKind::WindowApproved), ..AuditFilter::default() };
    assert_eq!(stores[1].audit(&filter).await.unwrap().len(), 20);
}

async fn the_request_of_a_window_never_changes(db: TestDb) {
    let store = db.store().await;
    let kept = store.insert_window(&by("vera"), &window()).await.unwrap();
    let mut longer = kept.window.clone();
    longer.request.end = longer.request.end.plus_seconds(1);
    let event = approved(longer.request.id);
    let error = store.update_window(&by("vera"), kept.version, &longer, event).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert_eq!(store.window(kept.window.request.id).await.unwrap(), kept);
}

async fn windows_are_listed_by_who_what_and_when(db: TestDb) {
    let store = db.store().await;
    let first = store.insert_window(&by("vera"), &window()).await.unwrap().window.request.id;
    let mut other = window();
    other.request.requested_by = name("sven");
    other.request.users = [name("sven")].into();
    other.request.accounts = [account("root@eng-ws")].into();
    other.request.id = WindowId::new(NOW.plus_seconds(1), &mut rng());
    other.request.end = NOW.plus_seconds(10);
    let second = store.insert_window(&by("sven"), &other).await.unwrap().window.request.id;
    let list = async |filter: WindowFilter| -> Vec<WindowId> {
        store.windows(&filter).await.unwrap().into_iter().map(|w| w.window.request.id).collect()
    };
    let all = WindowFilter::default;
    assert_eq!(list(all()).await, [second, first]);
    assert_eq!(list(WindowFilter { limit: 1, ..all() }).await, [second]);
    assert_eq!(list(WindowFilter { before: Some(second), ..all() }).await, [first]);
    assert_eq!(list(WindowFilter { person: Some(name("emil")), ..all() }).await, [first]);
    assert_eq!(list(WindowFilter { person: Some(name("sven")), ..all() }).await, [second]);
    assert_eq!(list(WindowFilter { asset: Some(name("pump-hmi")), ..all() }).await, [first]);
    assert_eq!(list(WindowFilter { asset: Some(name("plc-7")), ..all() }).await, [second, first]);
    assert_eq!(list(WindowFilter { ends_after: Some(NOW.plus_seconds(10)), ..all() }).await, [first]);
    assert_eq!(list(WindowFilter { state: Some("approved"), ..all() }).await, []);
    let view = store.policy_view(NOW.plus_seconds(10)).await.unwrap();
    assert_eq!(view.windows.len(), 1);
}

async fn file_bytes_of_two_nodes_add_up(db: TestDb) {
    let stores = [db.store().await, db.another().await];
    let id = WindowId::new(NOW, &mut rng());
    assert_eq!(stores[0].file_bytes(id).await.unwrap(), 0);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..20 {
        let store = stores[i % 2].clone();
        tasks.spawn(async move { store.add_file_bytes(&at(0), id, 5).await.unwrap() });
    }
    let mut sums = tasks.join_all().await;
    sums.sort_unstable();
    assert_eq!(sums, (1..=20).map(|n| n * 5).collect::<Vec<u64>>());
    assert_eq!(stores[1].file_bytes(id).await.unwrap(), 100);
}

async fn what_no_rule_gives_is_never_written(db: TestDb) {
    let store = db.store().await;
    let ready = Window { standing: Standing::Approved, ..window() };
    store.insert_window(&by("vera"), &ready).await.unwrap_err();
    let kept = store.insert_window(&by("vera"), &window()).await.unwrap();
    let id = kept.window.request.id;
    let one = approve(kept.window.clone(), "olga", Duty::Operations);
    let sure = |w: Window| Window { standing: Standing::Approved, ..w };
    let refused = async |who: &str, version, window: &Window, why: &str| {
        let error = store.update_window(&by(who), version, window, approved(id)).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused(text) if text.contains(why)), "{why}: {error}");
    };
    // Somebody else's approval, two at once, and approved by one alone.
    refused("mallory", kept.version, &one, "by the person").await;
    refused("olga", kept.version, &approve(one.clone(), "olga", Duty::Security), "one at a time").await;
    refused("olga", kept.version, &sure(one.clone()), "two other people").await;
    let one = store.update_window(&by("olga"), kept.version, &one, approved(id)).await.unwrap();
    // The same person twice, the same duty twice, the requester.
    for (who, duty) in [("olga", Duty::Security), ("sam", Duty::Operations), ("vera", Duty::Security)] {
        refused(who, one.version, &approve(one.window.clone(), who, duty), "two other people").await;
    }
    let mut taken_back = one.window.clone();
    taken_back.approvals.clear();
    refused("olga", one.version, &taken_back, "cannot be changed").await;
    let both = approve(one.window.clone(), "sam", Duty::Security);
    let both = store.update_window(&by("sam"), one.version, &both, approved(id)).await.unwrap();
    let short = Window { shortened_to: Some(NOW.plus_seconds(100)), ..both.window };
    let short = store.update_window(&by("olga"), both.version, &short, approved(id)).await.unwrap();
    let longer = Window { shortened_to: None, ..short.window.clone() };
    refused("olga", short.version, &longer, "moved back").await;
    let over = Standing::Revoked { by: name("sam"), reason: "enough".into(), at: NOW };
    let over = Window { standing: over, ..short.window };
    let over = store.update_window(&by("sam"), short.version, &over, approved(id)).await.unwrap();
    refused("sam", over.version, &sure(over.window.clone()), "ended for good").await;
}
