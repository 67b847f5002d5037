//! Privileged accounts that exist on machines and that the site does not know.

use clap::Args;
use cofferdam_access::{discovery::Discovery, ids::Name};
use serde_json::{Value, json};

use super::{
    desk::{Desk, OnBehalf},
    error::CliError,
    output::{Reply, Table, shown, utc},
    vault,
};
use crate::rotation::can_be_looked_at;

/// Where to look.
#[derive(Debug, Args)]
pub(crate) struct DiscoverArgs {
    /// The machine; without it all on which the vault has an account
    asset: Option<Name>,
    /// Only show what the last looks found
    #[arg(long)]
    kept: bool,
    #[command(flatten)]
    on_behalf: OnBehalf,
}

/// Looks, keeps what was found, and shows it.
pub(super) async fn run(desk: &Desk, args: &DiscoverArgs) -> Result<Reply, CliError> {
    let mut told = Told::default();
    if args.kept {
        let all = desk.store.discoveries().await?;
        let wanted = |d: &&Discovery| args.asset.as_ref().is_none_or(|asset| asset == &d.asset);
        all.iter().filter(wanted).for_each(|found| told.found(desk, found));
        return Ok(told.reply());
    }
    let act = desk.act(&args.on_behalf)?;
    let rotations = vault::rotations(desk)?;
    let all = desk.site.assets.iter().filter(|a| can_be_looked_at(&desk.site, a)).map(|a| a.name.clone());
    let assets: Vec<Name> = args.asset.clone().map_or_else(|| all.collect(), |one| vec![one]);
    for asset in assets {
        match rotations.look(&act, &asset).await {
            Ok(found) => told.found(desk, &found),
            Err(e) => {
                told.failed = true;
                told.gaps.push(e.to_string());
                told.rows.push(json!({"id": asset, "trouble": e.to_string()}));
            }
        }
    }
    Ok(told.reply())
}

struct Told {
    table: Table,
    gaps: Vec<String>,
    rows: Vec<Value>,
    failed: bool,
}

impl Default for Told {
    fn default() -> Self {
        let table = Table::new(&["asset", "account", "site", "because", "password", "keys", "seen"]);
        Self { table, gaps: Vec::new(), rows: Vec::new(), failed: false }
    }
}

impl Told {
    fn found(&mut self, desk: &Desk, found: &Discovery) {
        let unknown: Vec<&str> = found.unknown(&desk.site).map(|f| f.login.as_str()).collect();
        for one in &found.look.found {
            let is_unknown = unknown.contains(&one.login.as_str());
            self.table.row([
                found.asset.as_str(),
                &one.login,
                if is_unknown { "UNKNOWN" } else { "described" },
                &one.because.join(", "),
                one.password.map_or("?", |has| if has { "yes" } else { "no" }),
                &one.keys.map_or("?".to_owned(), |n| n.to_string()),
                &shown(&desk.zone, Some(found.at)),
            ]);
        }
        self.gaps.extend(found.look.gaps.iter().map(|gap| format!("{}: {gap}", found.asset)));
        self.rows.push(json!({
            "id": found.asset, "at": utc(found.at), "unknown": unknown, "gaps": found.look.gaps,
            "found": found.look.found,
        }));
    }

    fn reply(self) -> Reply {
        let gaps: String = self.gaps.iter().map(|gap| format!("\nnot seen: {gap}")).collect();
        let unknown = self.rows.iter().filter_map(|r| r["unknown"].as_array()).map(Vec::len).sum::<usize>();
        let text = format!("{}\n{unknown} unknown to the site{gaps}", self.table);
        Reply::new(text, Value::Array(self.rows)).judged(!self.failed)
    }
}
