//! The plant's state, per zone.

use clap::{Args, Subcommand};
use cofferdam_access::{ids::Name, site::PlantState};
use serde_json::json;

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, utc_or_null},
};

/// `cofferdam plant-state …`
#[derive(Debug, Subcommand)]
pub(crate) enum PlantCommand {
    /// The state of every zone
    List,
    /// Set the state of a zone; sessions that it does not allow are cut
    Set(SetArgs),
}

/// Which zone, and what state.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The zone
    zone: Name,
    /// production, maintenance, shutdown or emergency
    #[arg(value_parser = state)]
    state: PlantState,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Reads a state as written in files.
pub(crate) fn state(text: &str) -> Result<PlantState, String> {
    let known = PlantState::ALL.into_iter().find(|s| s.as_str() == text);
    known.ok_or_else(|| "use production, maintenance, shutdown or emergency".into())
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: PlantCommand) -> Result<Reply, CliError> {
    match command {
        PlantCommand::List => list(desk).await,
        PlantCommand::Set(args) => {
            let act = desk.act(&args.on_behalf)?;
            desk.store.set_plant_state(&act, &args.zone, args.state, &args.reason).await?;
            let text = format!("{} is in {}", args.zone, args.state.as_str());
            Ok(Reply::new(text, json!({"id": args.zone, "zone": args.zone, "state": args.state.as_str()})))
        }
    }
}

async fn list(desk: &Desk) -> Result<Reply, CliError> {
    let set = desk.store.plant_states().await?;
    let mut table = Table::new(&["zone", "state", "since", "by", "reason"]);
    let mut rows = Vec::new();
    for zone in &desk.site.zones {
        let record = set.iter().find(|r| r.zone == zone.name);
        let state = record.map_or(PlantState::default(), |r| r.state);
        let since = record.map(|r| r.since);
        let (by, reason) = record.map_or(("", ""), |r| (r.by.as_str(), r.reason.as_str()));
        table.row([zone.name.as_str(), state.as_str(), &super::output::shown(&desk.zone, since), by, reason]);
        rows.push(json!({
            "id": zone.name, "zone": zone.name, "state": state.as_str(), "since": utc_or_null(since),
            "by": by, "reason": reason,
        }));
    }
    Ok(Reply::list(&table, rows))
}
