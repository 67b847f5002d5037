//! Recordings and evidence bundles, proved whole; and the holes in the archive, explained or not.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use cofferdam_access::{
    ids::SessionId,
    store::{KeptRecording, RecordingFilter, SessionState, StoreError},
};
use cofferdam_recorder::{RecordingId, Report, VerifyingKey, verify as verify_file, verify_bundle};
use serde_json::{Value, json};

use super::{
    desk::Desk,
    error::CliError,
    output::{Reply, Table, utc_or_null},
    recording::{anchors, at, kept},
    retention::{self, deleted_row, deleted_words},
    shelf::Shelf,
};

/// `cofferdam recording verify`
pub(crate) async fn run(desk: &Desk, which: Vec<String>) -> Result<Reply, CliError> {
    let key = desk.context.recording_signer()?.public_key();
    let mut ids = Vec::new();
    let mut bundles = Vec::new();
    for text in &which {
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) if Path::new(text).is_file() => bundles.push(PathBuf::from(text)),
            Err(e) => return Err(CliError::failed(format!("{text:?} is no file, and {e}"))),
        }
    }
    let shelf = Shelf::of(&desk.context)?;
    let mut told = Told::default();
    for id in ids {
        told.recording(desk, &shelf, &id, &key).await?;
    }
    if which.is_empty() {
        told.archive(desk, &shelf, &key).await?;
    }
    for path in bundles {
        told.bundle(desk, &path, &key)?;
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

    /// Everything in the folder and the object store, and everything that should be there.
    async fn archive(&mut self, desk: &Desk, shelf: &Shelf<'_>, key: &VerifyingKey) -> Result<(), CliError> {
        let listing = shelf.list().await?;
        self.bad |= !listing.is_complete();
        let mut there = BTreeSet::new();
        // By name and not by header: a recording whose header is damaged must not be passed over.
        for id in listing.recordings.iter().filter_map(|shelved| shelved.id.parse::<RecordingId>().ok()) {
            self.recording(desk, shelf, &id, key).await?;
            there.insert(id.to_string());
        }
        let node = Some(desk.context.config.site.node.clone());
        let known = RecordingFilter { node, ended_before: Some(desk.now()), ..RecordingFilter::default() };
        for r in retention::all(desk, known).await? {
            let Ok(id) = r.session.to_string().parse::<RecordingId>() else { continue };
            // A session that ended before its recording began has none, and nothing ever said that it had.
            let was_there = r.digest.is_some()
                || r.deleted.is_some()
                || !anchors(desk, &id, &mut Vec::new()).await?.is_empty();
            if was_there && !there.contains(id.as_str()) {
                self.recording(desk, shelf, &id, key).await?;
            }
        }
        Ok(())
    }

    async fn recording(
        &mut self,
        desk: &Desk,
        shelf: &Shelf<'_>,
        id: &RecordingId,
        key: &VerifyingKey,
    ) -> Result<(), CliError> {
        let known = kept(desk, id).await?;
        let found = match &known {
            Some(r) if r.deleted.is_some() && !desk.context.recording_path(id).exists() => Ok(None),
            _ => shelf.look(id).await,
        };
        if let (Ok(None), Some(known)) = (&found, &known) {
            return self.hole(desk, known).await;
        }
        let mut problems = Vec::new();
        let anchors = anchors(desk, id, &mut problems).await?;
        let path = found.map(|path| path.unwrap_or_else(|| desk.context.recording_path(id)));
        let verified = path.and_then(|path| Ok(verify_file(&path, key, &anchors)?));
        let report = verified.map_err(|e| problems.push(e.to_string())).ok();
        if let Some(report) = &report {
            problems.extend(report.problems.iter().map(|p| in_words(desk, p)));
            against_audit(desk, id, report, &mut problems).await?;
        }
        let report = report.as_ref();
        self.row(id.as_str(), report, &problems);
        self.rows.push(json!({
            "id": id.to_string(),
            "whole": problems.is_empty(),
            "digest": report.map(|r| hex::encode(r.digest)),
            "segments": report.map_or(0, |r| r.segments),
            "signatures": report.map_or(0, |r| r.signatures),
            "anchors": report.map_or(0, |r| r.anchors),
            "untrusted_from": utc_or_null(report.and_then(Report::untrusted_from).map(at)),
            "recovered_from": utc_or_null(report.and_then(|r| r.recovered_from).map(at)),
            "problems": problems,
        }));
        Ok(())
    }

    /// A recording whose file is gone: deleted by two people, as the audit log says too, or vanished.
    async fn hole(&mut self, desk: &Desk, r: &KeptRecording) -> Result<(), CliError> {
        let id = r.session.to_string();
        let mut problems = Vec::new();
        match &r.deleted {
            Some(_) => {
                if !desk.store.deletion_is_proven(r.session).await? {
                    problems.push(
                        "the store says that two people deleted it, and the audit log knows nothing of that"
                            .to_owned(),
                    );
                }
            }
            None => problems.push(
                "it has vanished: its file is gone, and nobody deleted it by the rules; restore it from a backup".to_owned(),
            ),
        }
        match &r.deleted {
            Some(deleted) if problems.is_empty() => {
                let words = deleted_words(desk, deleted);
                self.table.row([id.as_str(), "deleted", "-", "-", "-", &words]);
            }
            _ => self.row(&id, None, &problems),
        }
        self.rows.push(json!({
            "id": id,
            "whole": if r.deleted.is_some() && problems.is_empty() { Value::Null } else { Value::Bool(false) },
            "digest": r.digest,
            "deleted": r.deleted.as_ref().map(deleted_row),
            "problems": problems,
        }));
        Ok(())
    }

    fn bundle(&mut self, desk: &Desk, path: &Path, key: &VerifyingKey) -> Result<(), CliError> {
        let report = verify_bundle(path, key)?;
        let mut problems = report.problems.clone();
        problems.extend(report.recording.iter().flat_map(|r| &r.problems).map(|p| in_words(desk, p)));
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
        Ok(())
    }
}

fn in_words(desk: &Desk, p: &cofferdam_recorder::Problem) -> String {
    let since =
        p.from.map(|t| format!(", not to be trusted from {}", desk.zone.show(at(t)))).unwrap_or_default();
    format!("at byte {}: {}{since}", p.offset, p.kind)
}

/// The digest that the audit log has of the sealed recording has to be that of the file.
async fn against_audit(
    desk: &Desk,
    id: &RecordingId,
    report: &Report,
    problems: &mut Vec<String>,
) -> Result<(), CliError> {
    let Ok(session) = id.as_str().parse::<SessionId>() else { return Ok(()) };
    match desk.store.session(session).await {
        Ok(s) => {
            let ours = hex::encode(report.digest);
            if s.recording_digest.as_ref().is_some_and(|kept| *kept != ours) {
                problems.push("the store has another digest of this recording".to_owned());
            }
            if s.state != SessionState::Ended {
                problems.push("its session is still open: verify it again after the end".to_owned());
            }
        }
        Err(StoreError::NotFound { .. }) => {
            problems.push("the store knows no session of this recording".to_owned());
        }
        Err(e) => return Err(e.into()),
    }
    Ok(())
}
