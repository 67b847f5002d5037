//! Recordings and evidence bundles, proved whole; and the holes in the archive, explained or not.

use std::path::{Path, PathBuf};

use cofferdam_recorder::{BundleReport, Report};
use serde_json::{Value, json};

use super::{
    desk::Desk,
    error::CliError,
    output::{Reply, Table, utc_or_null},
    recording::left_out,
    retention::{deleted_row, deleted_words},
};
use crate::records::{Fault, Proof, Verdict, at};

/// `cofferdam recording verify`
pub(crate) async fn run(desk: &Desk, which: Vec<String>) -> Result<Reply, CliError> {
    let mut ids = Vec::new();
    let mut bundles = Vec::new();
    for text in &which {
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) if Path::new(text).is_file() => bundles.push(PathBuf::from(text)),
            Err(e) => return Err(CliError::failed(format!("{text:?} is no file, and {e}"))),
        }
    }
    let records = desk.records()?;
    let mut told = Told::default();
    if which.is_empty() {
        let (all, incomplete) = records.to_verify().await?;
        told.bad |= left_out(incomplete.as_ref());
        ids = all;
    }
    for id in ids {
        told.recording(desk, &records.verify(&id).await?);
    }
    for path in bundles {
        told.bundle(desk, &path, &records.verify_bundle(path.clone()).await?);
    }
    Ok(Reply::list(&told.table, told.rows).judged(!told.bad))
}

/// What is told of each, and whether anything was wrong.
struct Told {
    table: Table,
    rows: Vec<Value>,
    bad: bool,
}

impl Default for Told {
    fn default() -> Self {
        let table = Table::new(&["id", "whole", "segments", "signatures", "anchors", "problems"]);
        Self { table, rows: Vec::new(), bad: false }
    }
}

impl Told {
    fn row(&mut self, name: &str, report: Option<&Report>, problems: &[String]) {
        let count = |n: fn(&Report) -> u32| report.map_or(0, n).to_string();
        self.bad |= !problems.is_empty();
        self.table.row([
            name.to_owned(),
            if problems.is_empty() { "yes" } else { "NO" }.to_owned(),
            count(|r| r.segments),
            count(|r| r.signatures),
            count(|r| r.anchors),
            problems.join("; "),
        ]);
    }

    fn recording(&mut self, desk: &Desk, verdict: &Verdict) {
        let id = verdict.id.as_str();
        let problems: Vec<String> = verdict.faults.iter().map(|fault| in_words(desk, fault)).collect();
        let report = match &verdict.proof {
            Proof::File(report) => report.as_deref(),
            Proof::Deleted(_) | Proof::Gone => return self.hole(desk, verdict, &problems),
        };
        self.row(id, report, &problems);
        self.rows.push(json!({
            "id": id,
            "whole": problems.is_empty(),
            "digest": report.map(|r| hex::encode(r.digest)),
            "segments": report.map_or(0, |r| r.segments),
            "signatures": report.map_or(0, |r| r.signatures),
            "anchors": report.map_or(0, |r| r.anchors),
            "untrusted_from": utc_or_null(report.and_then(Report::untrusted_from).map(at)),
            "recovered_from": utc_or_null(report.and_then(|r| r.recovered_from).map(at)),
            "problems": problems,
        }));
    }

    /// A recording whose file is gone.
    fn hole(&mut self, desk: &Desk, verdict: &Verdict, problems: &[String]) {
        let id = verdict.id.as_str();
        let deleted = match &verdict.proof {
            Proof::Deleted(deleted) => Some(deleted),
            _ => None,
        };
        match deleted {
            Some(deleted) if problems.is_empty() => {
                let words = deleted_words(desk, deleted);
                self.table.row([id, "deleted", "-", "-", "-", &words]);
            }
            _ => self.row(id, None, problems),
        }
        self.rows.push(json!({
            "id": id,
            "whole": if deleted.is_some() && problems.is_empty() { Value::Null } else { Value::Bool(false) },
            "digest": verdict.digest,
            "deleted": deleted.map(deleted_row),
            "problems": problems,
        }));
    }

    fn bundle(&mut self, desk: &Desk, path: &Path, report: &BundleReport) {
        let mut problems = report.problems.clone();
        let inside = report.recording.iter().flat_map(|r| &r.problems);
        problems.extend(inside.map(|p| in_words(desk, &Fault::File(p.clone()))));
        let whole = report.is_whole();
        if !whole && problems.is_empty() {
            problems.push("it holds no whole recording".to_owned());
        }
        let name = path.display().to_string();
        self.row(&name, report.recording.as_ref(), &problems);
        self.rows.push(json!({
            "id": name,
            "whole": whole,
            "files": report.files,
            "created": utc_or_null(report.created.map(at)),
            "problems": problems,
        }));
    }
}

/// As the fault says itself, with its time in the site's zone.
fn in_words(desk: &Desk, fault: &Fault) -> String {
    let Fault::File(p) = fault else { return fault.to_string() };
    let since =
        p.from.map(|t| format!(", not to be trusted from {}", desk.zone.show(at(t)))).unwrap_or_default();
    format!("at byte {}: {}{since}", p.offset, p.kind)
}
