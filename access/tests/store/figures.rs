//! Figures, not a verdict: `cargo test -p cofferdam-access --test store --release -- --ignored --nocapture figures`.

use std::time::Instant;

use cofferdam_access::audit::{AuditEvent, AuditKind};
use cofferdam_access::store::{CodeUse, OpenOutcome, Opening, SessionEnd};

use crate::support::{NOW, TestDb, at, keys, name, session, system};

async fn figures(db: TestDb, kind: &str) {
    let store = db.store().await;
    let rounds = 200;
    store.set_totp(&system(), &name("vera"), b"sealed").await.unwrap();
    let begun = Instant::now();
    for step in 1..=rounds {
        let used = AuditEvent::new(AuditKind::SecondFactorUsed, "vera");
        assert_eq!(
            store.use_totp_step(&at(0), &name("vera"), step, &[], used).await.unwrap(),
            CodeUse::Accepted
        );
        let new = session("n1");
        let opened = store.open_session(&at(0), &new, &Opening::default()).await.unwrap();
        assert!(matches!(opened, OpenOutcome::Opened { .. }));
        store.close_session(&at(1), new.id, &SessionEnd::default()).await.unwrap();
    }
    println!("{kind}: code use + open + close: {:?} each", begun.elapsed() / u32::try_from(rounds).unwrap());
    let begun = Instant::now();
    for _ in 0..1000 {
        store.revision().await.unwrap();
    }
    println!("{kind}: revision: {:?} each", begun.elapsed() / 1000);
    let n = std::env::var("ENTRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000u32);
    for chunk in 0..n / 1000 {
        let event = |i| AuditEvent::new(AuditKind::LoginFailed, "vera").with("n", i);
        store.record_all(&at(i64::from(chunk)), (0..1000).map(event).collect()).await.unwrap();
    }
    let before = resident();
    let begun = Instant::now();
    let report = store.verify_audit(keys(), Some(&db.checkpoints())).await.unwrap();
    assert!(report.is_whole(), "{report:?} {NOW}");
    println!(
        "{kind}: verify {} entries: {:?}, memory {} -> {} KiB",
        report.entries,
        begun.elapsed(),
        before,
        resident()
    );
}

/// Resident memory of this process, KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures_sqlite() {
    figures(TestDb::sqlite(), "sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures_postgres() {
    figures(TestDb::postgres().await, "postgres").await;
}
