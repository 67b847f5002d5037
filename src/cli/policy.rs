//! Policies: which are in use, and whether they decide as expected.

use std::path::PathBuf;

use clap::Subcommand;
use cofferdam_access::{
    ids::Name,
    policy::{CompiledPolicies, run_examples},
};
use serde_json::{Value, json};

use super::{
    desk::Desk,
    error::CliError,
    output::{Reply, Table, clean, joined},
    site::read,
};

/// `cofferdam policy …`
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// All policies in use, shipped and own
    List,
    /// The text of one of the site's own policy files
    Show {
        /// Its name
        name: Name,
    },
    /// Try example decisions against the site and its policies; exit code 1 if one comes out otherwise
    Test {
        /// The examples (TOML)
        file: PathBuf,
    },
}

/// Does what `command` says.
pub(crate) async fn run(desk: &Desk, command: PolicyCommand) -> Result<Reply, CliError> {
    match command {
        PolicyCommand::List => list(desk),
        PolicyCommand::Show { name } => {
            let file = desk.site.policies.iter().find(|p| p.name == name).ok_or_else(|| {
                CliError::failed(format!(
                    "there is no policy file {:?}: `cofferdam policy list` names them",
                    name.as_str()
                ))
            })?;
            Ok(Reply::new(clean(file.text.trim_end()), json!({"id": file.name, "text": file.text})))
        }
        PolicyCommand::Test { file } => {
            let text = read(&file)?;
            let results = run_examples(&desk.snapshot().await?, &text, desk.now(), &mut rand::rng())?;
            let mut table = Table::new(&["example", "result", "expected", "decided", "policies", "reasons"]);
            let mut rows = Vec::new();
            for r in &results {
                let result = if r.passed { "ok" } else { "FAILED" };
                table.row([
                    r.name.as_str(),
                    result,
                    r.expected.as_str(),
                    r.decided.as_str(),
                    &joined(&r.policies),
                    &r.reasons.join("; "),
                ]);
                rows.push(json!({
                    "id": r.name, "passed": r.passed, "expected": r.expected.as_str(), "decided": r.decided.as_str(),
                    "policies": r.policies, "reasons": r.reasons,
                }));
            }
            if results.is_empty() {
                return Err(CliError::failed(format!(
                    "{} holds no examples: add [[example]] entries",
                    file.display()
                )));
            }
            Ok(Reply::list(&table, rows).judged(results.iter().all(|r| r.passed)))
        }
    }
}

fn list(desk: &Desk) -> Result<Reply, CliError> {
    let compiled = CompiledPolicies::compile(&desk.site);
    if let Some(problem) = compiled.problem() {
        return Err(problem.clone().into());
    }
    let mut table = Table::new(&["policy", "from"]);
    let mut rows: Vec<Value> = Vec::new();
    for id in compiled.ids() {
        let file = id.split_once(':').map_or("", |(file, _)| file).to_owned();
        let from =
            if desk.site.policies.iter().any(|p| p.name.as_str() == file) { "site" } else { "shipped" };
        table.row([id.as_str(), from]);
        rows.push(json!({"id": id, "file": file, "from": from, "set": compiled.digest()}));
    }
    Ok(Reply::list(&table, rows))
}
