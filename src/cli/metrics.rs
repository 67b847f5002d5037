//! The six metrics and the room for recordings, each with what it was computed from. What cannot be computed yet says so instead of a number.

use clap::Args;
use cofferdam_access::{
    clock::Timestamp,
    decision::DecisionRecord,
    metrics::{Checked, Metric, six},
    store::{DecisionFilter, Figures, MAX_ROWS, SessionFilter, SessionRecord, SessionState},
};
use serde_json::json;

use super::{
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

/// `cofferdam metrics`
pub(crate) async fn run(desk: &Desk, args: &MetricsArgs) -> Result<Reply, CliError> {
    let from = desk.now().plus_seconds(-i64::from(args.days) * 86_400);
    let sessions = ended_sessions(desk, from).await?;
    let usage = Usage::measure(&desk.context.config.recordings, desk.now())?;
    let figures = Figures {
        sessions: sessions.len() as u64,
        proven: proven_sessions(desk, &sessions).await?,
        ..desk.store.figures(from, desk.now().plus_seconds(1)).await?
    };
    let metrics = six(&desk.site, &desk.store.discoveries().await?, &figures, Checked::ByteByByte)
        .into_iter()
        .chain(room(&usage));
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
async fn proven_sessions(desk: &Desk, sessions: &[SessionRecord]) -> Result<u64, CliError> {
    let records = desk.records()?;
    let mut good = 0;
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
        good += u64::from(with_factor && whole);
    }
    Ok(good)
}
