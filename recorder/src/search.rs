//! Who did what, to which machine, at which second: search over many recordings.

use std::{
    cell::Cell,
    collections::HashSet,
    fs::File,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use crate::{
    catalogue::Sieve,
    chain,
    desktop::{DesktopPlayer, typed},
    error::ReadError,
    header::Header,
    index::{Index, Side},
    keys::Identity,
    lines::{LineKind, LineReader, TextLine},
    read::Recording,
    writer::RECORDING,
};

/// Hits that wait between the searching threads and the caller.
const WAITING: usize = 64;

/// Most hits in one indexed recording.
const MAX_HITS: usize = 10_000;

/// Which lines are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kinds {
    /// All of them.
    #[default]
    All,
    /// Marks: what happened, without what stood on the terminal.
    Marks,
    /// Only these.
    Only(LineKind),
}

impl Kinds {
    fn wants(self, kind: LineKind) -> bool {
        match self {
            Self::All => true,
            Self::Marks => kind.is_mark(),
            Self::Only(wanted) => wanted == kind,
        }
    }
}

/// What to look for. Empty filters let everything through.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Text that the line holds, upper and lower case alike; empty finds every line.
    pub text: String,
    /// Only lines of these kinds.
    pub kinds: Kinds,
    /// Only this person.
    pub user: Option<String>,
    /// Only this asset.
    pub asset: Option<String>,
    /// Only this organisation.
    pub organisation: Option<String>,
    /// Only from this time on: microseconds since 1970, UTC.
    pub from: Option<i64>,
    /// Only before this time: microseconds since 1970, UTC.
    pub until: Option<i64>,
}

impl Query {
    /// Whether a recording may hold what is looked for, as far as its header tells, and its end where that is known.
    pub fn may_concern(&self, header: &Header, ended: Option<i64>) -> bool {
        let is = |wanted: &Option<String>, have: &str| wanted.as_deref().is_none_or(|w| w == have);
        is(&self.user, &header.user)
            && is(&self.asset, &header.asset)
            && is(&self.organisation, &header.organisation)
            && self.until.is_none_or(|until| header.started < until)
            && ended.zip(self.from).is_none_or(|(ended, from)| ended >= from)
    }

    fn matches(&self, needle: &str, at: i64, kind: LineKind, text: &str) -> bool {
        self.kinds.wants(kind)
            && self.from.is_none_or(|from| at >= from)
            && self.until.is_none_or(|until| at < until)
            && holds(text, needle)
    }
}

/// Whether `text` holds `needle`, which is in lower case.
fn holds(text: &str, needle: &str) -> bool {
    if needle.is_empty() {
        return true;
    }
    if !text.is_ascii() || !needle.is_ascii() {
        return text.to_lowercase().contains(needle);
    }
    let needle = needle.as_bytes();
    text.as_bytes().windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

/// A line that was found: the link to the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The recording.
    pub path: PathBuf,
    /// What it is about.
    pub header: Header,
    /// The line and its time.
    pub line: TextLine,
}

/// What a search went through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Searched {
    /// Recordings whose text was searched.
    pub recordings: usize,
    /// Recordings that this identity cannot read, or that are damaged, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Searches one unlocked recording: what was typed on a desktop, its index (itself where there is none), and what was read
/// off its pictures. The lines of each come in the order of time, as good as; `each` says when it has enough.
///
/// # Errors
/// When the recording is locked or cannot be read.
pub fn search_recording(
    recording: &Recording,
    query: &Query,
    mut each: impl FnMut(TextLine) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let needle = query.text.to_lowercase();
    let enough = Cell::new(false);
    let mut give = |line: TextLine| {
        let told = each(line);
        enough.set(told.is_break());
        told
    };
    let desktop = DesktopPlayer::plays(recording.header());
    if query.kinds.wants(LineKind::Typed) && desktop {
        typed(recording, |line| match query.matches(&needle, line.at, line.kind, &line.text) {
            true => give(line),
            false => ControlFlow::Continue(()),
        })?;
    }
    let apart = [LineKind::Typed, LineKind::Ocr].map(Kinds::Only);
    if !enough.get() && !apart.contains(&query.kinds) {
        match matching(recording, Side::Index, query, &needle)? {
            Some(found) => {
                for line in found {
                    if give(line).is_break() {
                        return Ok(());
                    }
                }
            }
            None => render(recording, |line| match query.matches(&needle, line.at, line.kind, &line.text) {
                true => give(line),
                false => ControlFlow::Continue(()),
            })?,
        }
    }
    // Last: it is the most, and it may be misread.
    if !enough.get() && query.kinds.wants(LineKind::Ocr) && desktop {
        for line in matching(recording, Side::Ocr, query, &needle)?.unwrap_or_default() {
            if give(line).is_break() {
                break;
            }
        }
    }
    Ok(())
}

/// The lines of a side file that match; `None` where there is none that fits.
fn matching(
    recording: &Recording,
    side: Side,
    query: &Query,
    needle: &str,
) -> Result<Option<Vec<TextLine>>, ReadError> {
    let Some(index) = Index::open(recording, side)? else { return Ok(None) };
    // Given out only once the file proved whole, or there are more than anybody reads.
    let mut found = Vec::new();
    let whole = index.lines(|at, kind, channel, text| {
        if query.matches(needle, at, kind, text) {
            found.push(TextLine { at, channel, kind, text: text.to_owned() });
        }
        found.len() < MAX_HITS
    });
    Ok(whole.then_some(found))
}

/// All text of an unlocked recording, rendered now.
fn render(recording: &Recording, mut each: impl FnMut(TextLine) -> ControlFlow<()>) -> Result<(), ReadError> {
    let mut reader = LineReader::default();
    let mut lines = Vec::new();
    for event in recording.events()? {
        // Damage is the verifier's to report; what can be read can be found.
        let Ok(event) = event else { continue };
        reader.event(&event, &mut lines);
        for line in lines.drain(..) {
            if each(line).is_break() {
                return Ok(());
            }
        }
    }
    reader.finish(&mut lines);
    for line in lines {
        if each(line).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Searches all recordings of a folder on `threads` threads: first those of which a catalogue says
/// that they may hold the text, and in each part the names that sort last (the newest) first. `each`
/// gets the hits as they are found and says when it has enough.
///
/// # Errors
/// When the folder itself cannot be read.
pub fn search(
    folder: &Path,
    identity: &Identity,
    query: &Query,
    threads: usize,
    mut each: impl FnMut(Hit) -> ControlFlow<()>,
) -> Result<Searched, ReadError> {
    let work = Work::plan(folder, identity, query)?;
    std::thread::scope(|scope| {
        let (found, hits) = mpsc::sync_channel(WAITING);
        for _ in 0..threads.max(1) {
            let (found, work) = (found.clone(), &work);
            scope.spawn(move || work.run(&found));
        }
        drop(found);
        for hit in &hits {
            if each(hit).is_break() {
                work.enough.store(true, Ordering::Relaxed);
                break;
            }
        }
        // Whoever still wants to send finds nobody there.
        drop(hits);
    });
    Ok(work.searched.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// A search that several threads go through together.
struct Work<'a> {
    folder: &'a Path,
    identity: &'a Identity,
    query: &'a Query,
    sieve: Sieve,
    /// Entries of the sieve that were asked.
    asked: AtomicUsize,
    /// The recordings, newest first.
    names: Vec<String>,
    /// Recordings that the second pass has come to.
    next: AtomicUsize,
    /// Those that the sieve named, and that the second pass leaves out.
    taken: Mutex<HashSet<String>>,
    enough: AtomicBool,
    searched: Mutex<Searched>,
}

impl<'a> Work<'a> {
    fn plan(folder: &'a Path, identity: &'a Identity, query: &'a Query) -> Result<Self, ReadError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            // A recording's name is plain; what else lies here is none.
            if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(RECORDING)) {
                names.push(id.to_owned());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self {
            folder,
            identity,
            query,
            sieve: Sieve::new(folder, identity, &query.text),
            asked: AtomicUsize::new(0),
            names,
            next: AtomicUsize::new(0),
            taken: Mutex::default(),
            enough: AtomicBool::new(false),
            searched: Mutex::default(),
        })
    }

    /// One thread's share.
    fn run(&self, found: &mpsc::SyncSender<Hit>) {
        let mut buffer = Vec::new();
        while let Some((id, may_hold)) = self.sieve.ask(take(&self.asked), &mut buffer) {
            if self.enough.load(Ordering::Relaxed) {
                return;
            }
            // A catalogue may name what is elsewhere by now, or the same twice.
            if may_hold && self.names.binary_search_by(|name| id.cmp(name)).is_ok() && self.take(id) {
                self.file(id, found);
            }
        }
        while let Some(id) = self.names.get(take(&self.next)) {
            if self.enough.load(Ordering::Relaxed) {
                return;
            }
            if self.take(id) {
                self.file(id, found);
            }
        }
    }

    /// Whether this recording is the caller's to search, and nobody else's from now on.
    fn take(&self, id: &str) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned())
    }

    fn file(&self, id: &str, found: &mpsc::SyncSender<Hit>) {
        let path = self.folder.join(format!("{id}{RECORDING}"));
        let outcome = search_file(&path, self.identity, self.query, &mut |hit| {
            let stop = self.enough.load(Ordering::Relaxed) || found.send(hit).is_err();
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let mut searched = self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(true) => searched.recordings += 1,
            Ok(false) => {}
            Err(e) => searched.skipped.push((path, e.to_string())),
        }
    }
}

/// The next of a row that several threads take from.
fn take(next: &AtomicUsize) -> usize {
    next.fetch_add(1, Ordering::Relaxed)
}

/// `false`: the filters leave it out.
fn search_file(
    path: &Path,
    identity: &Identity,
    query: &Query,
    each: &mut dyn FnMut(Hit) -> ControlFlow<()>,
) -> Result<bool, ReadError> {
    let header = chain::read_preamble(&File::open(path)?)?.preamble.header;
    if !query.may_concern(&header, None) {
        return Ok(false);
    }
    let mut recording = Recording::open(path)?;
    if !query.may_concern(&header, recording.seal().map(|seal| seal.ended)) {
        return Ok(false);
    }
    recording.unlock(identity)?;
    search_recording(&recording, query, |line| {
        each(Hit { path: path.to_owned(), header: header.clone(), line })
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_in_any_script() {
        assert!(holds("Systemctl STOP pump", "stop"));
        assert!(holds("PUMPE ÄNDERN", "ändern"));
        assert!(holds("anything", ""));
        assert!(!holds("sto", "stop"));
    }
}
