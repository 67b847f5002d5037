//! The six metrics and the room for recordings, each with what it was computed from. What cannot be computed yet says so instead of a number.

use clap::Args;
use cofferdam_access::{
    audit::AuditKind,
    clock::Timestamp,
    decision::DecisionRecord,
    site::{Criticality, Site},
    store::{
        AuditFilter, DecisionFilter, FindingFilter, MAX_ROWS, SessionFilter, SessionRecord, SessionState,
    },
};
use serde_json::{Value, json};

use super::{
    account::needs_secret,
    desk::Desk,
    error::CliError,
    output::{Reply, Table},
    usage::Usage,
};

/// `cofferdam metrics`
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// How far back sessions and events count
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: u32,
}

/// One metric.
struct Metric {
    id: &'static str,
    title: &'static str,
    value: Option<f64>,
    unit: &'static str,
    basis: String,
}

/// `cofferdam metrics`
pub(crate) async fn run(desk: &Desk, args: &MetricsArgs) -> Result<Reply, CliError> {
    let from = desk.now().plus_seconds(-i64::from(args.days) * 86_400);
    let sessions = ended_sessions(desk, from).await?;
    let usage = Usage::measure(&desk.context.config.recordings, desk.now())?;
    let metrics = [
        proven_sessions(desk, &sessions).await?,
        shared_accounts(&desk.site),
        guarded_assets(&desk.site),
        Metric {
            id: "exception_close_time",
            title: "mean time to close temporary exceptions",
            value: None,
            unit: "s",
            basis: "this version keeps no exceptions".to_owned(),
        },
        blocked_movements(desk, from).await?,
        detection_time(desk, from).await?,
    ];
    let metrics = metrics.into_iter().chain(room(&usage));
    let mut table = Table::new(&["metric", "value", "unit", "from"]);
    let mut rows = Vec::new();
    for m in metrics {
        table.row([m.title, &m.value.map_or("-".to_owned(), |v| format!("{v:.1}")), m.unit, &m.basis]);
        rows.push(json!({"id": m.id, "title": m.title, "value": m.value, "unit": m.unit, "basis": m.basis}));
    }
    Ok(Reply::list(&table, rows))
}

/// Beside the six: without room for recordings there are no sessions.
fn room(usage: &Usage) -> [Metric; 3] {
    // Exact up to 8 PiB, which is enough for a figure to watch.
    let number = |n: u64| Some(n as f64);
    let metric = |id, title, value, unit, basis: String| Metric { id, title, value, unit, basis };
    [
        metric(
            "recordings_bytes",
            "room that recordings take",
            number(usage.bytes),
            "bytes",
            format!("{} recordings", usage.recordings),
        ),
        metric(
            "recordings_free_bytes",
            "room left for recordings",
            number(usage.free),
            "bytes",
            "free on their file system".to_owned(),
        ),
        metric(
            "recordings_days_left",
            "days until that is used up",
            usage.days_left.and_then(number),
            "days",
            usage.outlook(),
        ),
    ]
}

async fn ended_sessions(desk: &Desk, from: Timestamp) -> Result<Vec<SessionRecord>, CliError> {
    let mut all = Vec::new();
    let mut filter =
        SessionFilter { from: Some(from), state: Some(SessionState::Ended), ..SessionFilter::default() };
    loop {
        let page = desk.store.sessions(&filter).await?;
        let full = page.len() >= MAX_ROWS as usize;
        filter.before = page.last().map(|s| s.id);
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

/// Sessions whose decision had a second factor and whose recording verifies now, byte by byte.
async fn proven_sessions(desk: &Desk, sessions: &[SessionRecord]) -> Result<Metric, CliError> {
    let records = desk.records()?;
    let mut good = 0u32;
    for session in sessions {
        let filter = DecisionFilter { session: Some(session.id), ..DecisionFilter::default() };
        let decisions = desk.store.decisions(&filter).await?;
        let with_factor = decisions.iter().filter(|d| d.id == session.decision).any(|d| {
            serde_json::from_str::<DecisionRecord>(&d.body).is_ok_and(|r| r.who.second_factor_fresh)
        });
        // What cannot be fetched or read is not proven.
        let whole = match session.recording.as_deref().unwrap_or_default().parse() {
            Ok(id) => records.is_whole(&id).await.unwrap_or(false),
            Err(_) => false,
        };
        good += u32::from(with_factor && whole);
    }
    Ok(Metric {
        id: "sessions_proven",
        title: "privileged sessions with a second factor and a verified recording",
        value: percent(good, sessions.len()),
        unit: "%",
        basis: format!("{good} of {} ended sessions", sessions.len()),
    })
}

fn shared_accounts(site: &Site) -> Metric {
    let critical = |zone| site.zones.iter().any(|z| z.critical && &z.name == zone);
    let shared = site
        .accounts
        .iter()
        .filter(|a| !a.disabled && needs_secret(a))
        .filter(|a| site.asset(&a.asset).is_some_and(|asset| !asset.disabled && critical(&asset.zone)))
        .count();
    Metric {
        id: "shared_accounts",
        title: "shared accounts left in critical zones",
        value: u32::try_from(shared).ok().map(f64::from),
        unit: "accounts",
        basis: "enabled accounts with a standing password or key on assets of critical zones".to_owned(),
    }
}

fn guarded_assets(site: &Site) -> Metric {
    let critical: Vec<_> = site
        .assets
        .iter()
        .filter(|a| !a.disabled && (a.crown_jewel || a.criticality == Criticality::High))
        .collect();
    let guarded = critical
        .iter()
        .filter(|a| {
            site.conduits.iter().any(|c| {
                c.to == a.zone
                    && (c.assets.is_empty() || c.assets.contains(&a.name))
                    && a.endpoints.iter().any(|e| c.protocols.contains(&e.protocol))
            })
        })
        .count();
    let guarded = u32::try_from(guarded).unwrap_or(u32::MAX);
    Metric {
        id: "guarded_assets",
        title: "critical assets behind a policy-enforced conduit",
        value: percent(guarded, critical.len()),
        unit: "%",
        basis: format!("{guarded} of {} assets that are crown jewels or of high criticality", critical.len()),
    }
}

async fn blocked_movements(desk: &Desk, from: Timestamp) -> Result<Metric, CliError> {
    let mut filter =
        AuditFilter { kind: Some(AuditKind::ForwardRefused), from: Some(from), ..AuditFilter::default() };
    let mut count = 0u32;
    loop {
        let page = desk.store.audit(&filter).await?;
        let full = page.len() >= MAX_ROWS as usize;
        filter.before = page.last().map(|e| e.seq);
        let marked = |body: &str| {
            serde_json::from_str::<Value>(body)
                .is_ok_and(|b| b.get("lateral_movement") == Some(&Value::Bool(true)))
        };
        count += u32::try_from(page.iter().filter(|e| marked(&e.body)).count()).unwrap_or(0);
        if !full {
            break;
        }
    }
    Ok(Metric {
        id: "blocked_lateral_movements",
        title: "blocked lateral-movement attempts",
        value: Some(f64::from(count)),
        unit: "attempts",
        basis: "refused forwards in the audit log".to_owned(),
    })
}

/// From a session's start to its first finding: when the behaviour itself began is not known.
async fn detection_time(desk: &Desk, from: Timestamp) -> Result<Metric, CliError> {
    let findings =
        desk.store.findings(&FindingFilter { from: Some(from), ..FindingFilter::default() }).await?;
    let mut first = std::collections::BTreeMap::new();
    for finding in findings {
        if let Some(session) = finding.session {
            first
                .entry(session)
                .and_modify(|at: &mut Timestamp| *at = (*at).min(finding.at))
                .or_insert(finding.at);
        }
    }
    let (mut seconds, mut count) = (0.0, 0u32);
    for (session, at) in first {
        let started = desk.store.session(session).await?.started_at;
        seconds += i32::try_from(at.since(started) / 1000).map_or(0.0, |ms| f64::from(ms) / 1000.0);
        count += 1;
    }
    Ok(Metric {
        id: "detection_time",
        title: "mean time to detect anomalous engineering behaviour",
        value: (count > 0).then(|| seconds / f64::from(count)),
        unit: "s",
        basis: format!("from the start of {count} sessions to their first finding"),
    })
}

fn percent(part: u32, whole: usize) -> Option<f64> {
    let whole = u32::try_from(whole).ok().filter(|w| *w > 0)?;
    Some(100.0 * f64::from(part) / f64::from(whole))
}
