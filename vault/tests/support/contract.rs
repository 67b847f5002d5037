//! What every ledger has to keep, whatever it is made of. A ledger in a database includes this file in its own tests.

use cofferdam_vault::rotation::{Claim, LONGEST_CLAIM, Ledger, LedgerError, Reason, State};

const SECOND: i64 = 1_000_000;

fn claim(holder: &str, until: i64) -> Claim {
    Claim { holder: holder.into(), until }
}

/// Checks all of it. `account` and `other` are in the ledger, fresh, not claimed, and due at `now`, `account` since longer.
pub(crate) async fn check(ledger: &dyn Ledger, account: &str, other: &str, now: i64) {
    one_holder_at_a_time(ledger, account, now).await;
    writes_replace_what_was_read(ledger, account, now).await;
    requests_collide_with_nothing(ledger, account, now).await;
    due_accounts_are_listed(ledger, account, other, now).await;
    let unknown = ledger.claim("no such account", &claim("a/1", now + SECOND), now).await;
    assert!(matches!(unknown, Err(LedgerError::Unknown { .. })), "{unknown:?}");
    assert!(ledger.want("no such account", Reason::Demand).await.is_err());
}

async fn one_holder_at_a_time(ledger: &dyn Ledger, account: &str, now: i64) {
    let (a, b) = (claim("a/1", now + 10 * SECOND), claim("b/1", now + 20 * SECOND));
    ledger.claim(account, &a, now).await.unwrap();
    let refused = ledger.claim(account, &b, now + 9 * SECOND).await.unwrap_err();
    assert!(matches!(&refused, LedgerError::Held { holder, .. } if holder == "a/1"), "{refused:?}");
    ledger.release(account, &b).await.unwrap();
    assert!(ledger.claim(account, &b, now).await.is_err(), "nobody releases another's claim");
    ledger.claim(account, &b, now + 10 * SECOND).await.unwrap();
    ledger.release(account, &b).await.unwrap();
    // By a clock that was far ahead: it does not count, so that nobody is kept out for years.
    ledger.claim(account, &claim("c/1", now + 2 * LONGEST_CLAIM), now).await.unwrap();
    ledger.claim(account, &a, now).await.unwrap();
    ledger.release(account, &a).await.unwrap();
}

async fn writes_replace_what_was_read(ledger: &dyn Ledger, account: &str, now: i64) {
    let (a, b) = (claim("a/2", now + 10 * SECOND), claim("b/2", now + 20 * SECOND));
    let mut record = ledger.claim(account, &a, now).await.unwrap();
    record.progress.trouble = Some("a plain clause with \u{fc} and 'quotes'".into());
    record.progress.next_at = i64::MAX;
    let written = ledger.write(&record, &[], &a, false).await.unwrap();
    assert_eq!(written.progress, record.progress, "nothing is lost on the way");
    assert!(written.version > record.version);
    let stale = ledger.write(&record, &[], &a, false).await.unwrap_err();
    assert!(matches!(stale, LedgerError::Conflict { .. }), "{stale:?}");
    // Another took over when the claim had ended: the first writes nothing any more, whatever version it knows.
    let taken = ledger.claim(account, &b, now + 11 * SECOND).await.unwrap();
    assert_eq!(taken, written);
    assert!(matches!(ledger.write(&written, &[], &a, false).await, Err(LedgerError::Conflict { .. })));
    let mut back = taken;
    back.progress.next_at = now - 10 * SECOND;
    back.progress.state = State::Idle;
    ledger.write(&back, &[], &b, true).await.unwrap();
    ledger.claim(account, &a, now).await.expect("released by the write");
    ledger.release(account, &a).await.unwrap();
}

async fn requests_collide_with_nothing(ledger: &dyn Ledger, account: &str, now: i64) {
    let a = claim("a/3", now + 10 * SECOND);
    let record = ledger.claim(account, &a, now).await.unwrap();
    let first = ledger.want(account, Reason::AfterUse).await.unwrap();
    assert_eq!(ledger.want(account, Reason::BreakGlass).await.unwrap(), first + 1);
    let written = ledger.write(&record, &[], &a, false).await.expect("a request changes no version");
    assert_eq!(written.open_request(), Some(Reason::BreakGlass), "and is seen by whoever writes next");
    let mut answered = written;
    answered.progress.answered = first + 1;
    let answered = ledger.write(&answered, &[], &a, true).await.unwrap();
    assert_eq!(answered.open_request(), None);
}

async fn due_accounts_are_listed(ledger: &dyn Ledger, account: &str, other: &str, now: i64) {
    assert_eq!(ledger.due(now, 10).await.unwrap(), [account, other], "the longest due first");
    assert_eq!(ledger.due(now, 1).await.unwrap(), [account]);
    let a = claim("a/4", now + 10 * SECOND);
    let mut record = ledger.claim(account, &a, now).await.unwrap();
    assert_eq!(ledger.due(now, 10).await.unwrap(), [other], "what is claimed is not due");
    (record.progress.next_at, record.progress.touched_at) = (now + 5 * SECOND, now);
    ledger.write(&record, &[], &a, true).await.unwrap();
    assert_eq!(ledger.due(now, 10).await.unwrap(), [other]);
    assert_eq!(ledger.due(now - SECOND, 10).await.unwrap().len(), 1, "the clock was set back, so it is due");
    ledger.want(account, Reason::Demand).await.unwrap();
    assert_eq!(ledger.due(now, 10).await.unwrap().len(), 2, "and so it is when somebody asks");
}
