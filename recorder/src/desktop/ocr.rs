//! What stood on a desktop, read off its pictures by a program that knows letters, after the session.
//!
//! Which pictures the program is given, and what is kept of what it says. It is an aid for finding a second: it misreads, what
//! stood shorter than two pictures are apart may be missing, and no seal covers it.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use super::{DesktopPlayer, DesktopScreen, tile::Tile};
use crate::{
    catalogue,
    error::ReadError,
    event::Event,
    index::write_ocr,
    keys::{Identity, Recipients},
    lines::{LineKind, TextLine},
    read::{Recording, listed, recipients_of, side_file},
    writer::{OCR, RECORDING},
};

mod picture;
mod words;

use picture::{Band, grey};
use words::{Line, lines_of};

/// A screen that changes is given so long to come to rest: 1 s.
const REST: i64 = 1_000_000;
/// Pictures that the program could not read; after so many the rest of a recording is left out.
const MOST_FAILED: u32 = 10;
/// How often a recording is tried that cannot be done for reasons that may pass.
const MOST_TRIES: u32 = 3;
/// Most text of one recording, in bytes; what comes after is left out.
const MOST_TEXT: usize = 8 << 20;

/// How often a desktop is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OcrLimits {
    /// Pictures are at least so many microseconds apart.
    pub every: i64,
    /// Most pictures of one recording: in a long one they are farther apart.
    pub most: u32,
}

/// Why a picture was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// The work is to be broken off: nothing of it is kept, and another time it begins anew.
    Stopped,
    /// The program could not read this one.
    Failed(String),
}

/// What reads a picture.
type Program<'a> = dyn FnMut(&[u8]) -> Result<Vec<u8>, Unread> + 'a;

/// What came of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OcrRead {
    /// Pictures that were read.
    pub pictures: u32,
    /// Pictures that were not.
    pub failed: u32,
    /// Lines that are kept.
    pub lines: usize,
    /// What went wrong first, of a picture or of the recording.
    pub trouble: Option<String>,
    /// There was more than is kept.
    pub cut: bool,
}

/// Gives each finished desktop's recording of a folder to a program once.
pub struct DesktopReader {
    folder: PathBuf,
    identity: Identity,
    recipients: Recipients,
    limits: OcrLimits,
    /// Recordings that need no look any more: no desktop, or not to be read here.
    passed: HashSet<String>,
    /// How often one was tried in vain.
    tried: HashMap<String, u32>,
    catalogue: Option<catalogue::Writer>,
}

impl DesktopReader {
    /// For the recordings that `identity` can read. What the catalogue says of their text is for `recipients`.
    pub fn new(folder: PathBuf, identity: Identity, recipients: Recipients, limits: OcrLimits) -> Self {
        Self {
            folder,
            identity,
            recipients,
            limits,
            passed: HashSet::new(),
            tried: HashMap::new(),
            catalogue: None,
        }
    }

    /// The sealed desktops that were not read yet, the newest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn pending(&mut self) -> Result<Vec<PathBuf>, ReadError> {
        let (mut here, mut pending) = (HashSet::new(), Vec::new());
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.ends_with(RECORDING) {
                continue;
            }
            if !self.passed.contains(&name) && !side_file(&path, OCR).exists() {
                match listed(path.clone()) {
                    Ok(found) if DesktopPlayer::plays(&found.header) => {
                        if found.seal.is_some() {
                            pending.push(path);
                        }
                    }
                    // A damaged one is the verifier's to report.
                    Ok(_) | Err(_) => drop(self.passed.insert(name.clone())),
                }
            }
            here.insert(name);
        }
        self.passed.retain(|name| here.contains(name));
        self.tried.retain(|name, _| here.contains(name));
        pending.sort_unstable_by(|a, b| b.cmp(a));
        Ok(pending)
    }

    /// Reading this one failed for reasons that may pass: after a few times it is left, until there is another reader.
    pub fn failed(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let tried = self.tried.entry(name.clone()).or_default();
        *tried += 1;
        if *tried >= MOST_TRIES {
            self.passed.insert(name);
        }
    }

    /// Has the pictures of a recording read, and keeps the text beside it. `program` is given a picture as PGM, and answers
    /// with the words in it as Tesseract's TSV. `None`: it was broken off.
    ///
    /// # Errors
    /// When the recording cannot be opened here; it is not tried again by this reader. When the text cannot be written: it
    /// is tried again.
    pub fn read(&mut self, path: &Path, program: &mut Program<'_>) -> Result<Option<OcrRead>, ReadError> {
        let read = self.read_one(path, program);
        if matches!(&read, Err(e) if !matches!(e, ReadError::Export(_))) {
            self.passed.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        read
    }

    fn read_one(&mut self, path: &Path, program: &mut Program<'_>) -> Result<Option<OcrRead>, ReadError> {
        let mut recording = Recording::open(path)?;
        recording.unlock(&self.identity)?;
        let mut watch = Watch::new(&recording, self.limits);
        if watch.all(&recording, program)?.is_none() {
            return Ok(None);
        }
        let Watch { lines, read, .. } = watch;
        if read.pictures == 0 && read.failed > 0 {
            // That says more of the program, or of this machine, than of the recording.
            let why = read.trouble.unwrap_or_else(|| "no picture could be read".to_owned());
            return Err(ReadError::Export(std::io::Error::other(why)));
        }
        let filter = write_ocr(&recording, lines)?;
        // The catalogue tells its readers nothing of recordings that they cannot read. Without an entry it is found all the same,
        // only later.
        let (may_read, may_reveal) = recipients_of(path)?;
        let mut readers = self.recipients.read.iter().chain(&self.recipients.reveal).map(ToString::to_string);
        if !readers.all(|reader| may_read.contains(&reader) || may_reveal.contains(&reader)) {
            return Ok(Some(read));
        }
        // One that failed is not gone on with.
        let mut open = match self.catalogue.take().filter(catalogue::Writer::is_there) {
            Some(open) => open,
            None => catalogue::Writer::create(&self.folder, &self.recipients)
                .map_err(|e| ReadError::Export(std::io::Error::other(e)))?,
        };
        open.add(&recording.header().id, filter)?;
        self.catalogue = Some(open);
        if !path.exists() {
            // It was deleted, and forgotten, while it was read.
            catalogue::forget(&self.folder, &recording.header().id.to_string()).map_err(ReadError::Export)?;
        }
        Ok(Some(read))
    }
}

impl std::fmt::Debug for DesktopReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DesktopReader").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Looks at a desktop as its recording goes by.
struct Watch {
    /// Pictures are at least so far apart.
    gap: i64,
    most: u32,
    ended: i64,
    /// The tiles as they were read last.
    seen: Vec<Option<Tile>>,
    size: (u16, u16),
    /// The moment of the last picture.
    last: Option<i64>,
    /// When something changed first since then, and last.
    changed: Option<(i64, i64)>,
    /// The lines that stand on the screen, as far as they were read.
    standing: Vec<Line>,
    lines: Vec<TextLine>,
    bytes: usize,
    read: OcrRead,
}

impl Watch {
    fn new(recording: &Recording, limits: OcrLimits) -> Self {
        let (started, ended) = (recording.header().started, recording.ended());
        let most = limits.most.max(1);
        let gap = limits.every.max(ended.saturating_sub(started) / i64::from(most)).max(1);
        Self {
            gap,
            most,
            ended,
            seen: Vec::new(),
            size: (0, 0),
            last: None,
            changed: None,
            standing: Vec::new(),
            lines: Vec::new(),
            bytes: 0,
            read: OcrRead::default(),
        }
    }

    /// Goes through the recording; `None`: it was broken off.
    fn all(&mut self, recording: &Recording, program: &mut Program<'_>) -> Result<Option<()>, ReadError> {
        let mut player = DesktopPlayer::seek(recording, None, i64::MIN)?;
        while !self.is_over() {
            let next = match player.peek() {
                Ok(next) => next,
                Err(error @ ReadError::Io(_)) => return Err(error),
                // Damage is the verifier's to report; what can be read can be found.
                Err(damage) => {
                    self.trouble(damage.to_string());
                    continue;
                }
            };
            if let Some(at) = self.due(next.unwrap_or(i64::MAX), player.screen())
                && self.look(at, player.screen(), program).is_none()
            {
                return Ok(None);
            }
            if next.is_none() {
                break;
            }
            match player.advance() {
                Ok(Some(event)) if matches!(event.event, Event::KeyFrame { .. } | Event::Tiles { .. }) => {
                    let first = self.changed.map_or(event.at, |(first, _)| first);
                    self.changed = Some((first, event.at));
                }
                Ok(_) => {}
                Err(damage) => self.trouble(damage.to_string()),
            }
        }
        Ok(Some(()))
    }

    /// Enough was read, or enough went wrong.
    fn is_over(&mut self) -> bool {
        let over =
            self.read.pictures >= self.most || self.read.failed >= MOST_FAILED || self.bytes >= MOST_TEXT;
        self.read.cut |= over;
        over
    }

    fn trouble(&mut self, what: String) {
        self.read.trouble.get_or_insert(what);
    }

    /// The moment for a picture of what stands on the screen until `until`, if there is one.
    fn due(&self, until: i64, screen: &DesktopScreen) -> Option<i64> {
        let (first, last) = self.changed.filter(|_| screen.is_whole())?;
        let rested = first.saturating_add(REST);
        let at = self.last.map_or(rested, |before| rested.max(before.saturating_add(self.gap)));
        (until > at).then(|| at.min(self.ended).max(last))
    }

    /// Has what changed read; `None`: it was broken off.
    fn look(&mut self, at: i64, screen: &DesktopScreen, program: &mut Program<'_>) -> Option<()> {
        self.changed = None;
        let changed = self.differences(screen);
        let Some(band) = Band::around(screen, &changed) else { return Some(()) };
        self.last = Some(at);
        (self.seen, self.size) = (screen.tiles.clone(), screen.size());
        let said = match grey(screen, &band) {
            Ok(picture) => program(&picture.pgm()).map(|tsv| lines_of(&tsv, &picture)),
            Err(damage) => Err(Unread::Failed(damage.to_string())),
        };
        match said {
            Ok(found) => {
                self.read.pictures += 1;
                self.take(at, &band, found);
                Some(())
            }
            Err(Unread::Stopped) => None,
            Err(Unread::Failed(why)) => {
                self.read.failed += 1;
                self.trouble(why);
                Some(())
            }
        }
    }

    /// The numbers of the tiles that are not what they were when they were read.
    fn differences(&mut self, screen: &DesktopScreen) -> Vec<usize> {
        if self.size != screen.size() {
            self.seen.clear();
            self.standing.clear();
        }
        let before = |number: usize| self.seen.get(number).and_then(Option::as_ref);
        let tiles = screen.tiles.iter().enumerate();
        tiles.filter(|(n, tile)| tile.is_some() && tile.as_ref() != before(*n)).map(|(n, _)| n).collect()
    }

    /// Keeps what is new: in a place that changed, and not what stood there before.
    fn take(&mut self, at: i64, band: &Band, found: Vec<Line>) {
        let (gone, stays) =
            std::mem::take(&mut self.standing).into_iter().partition(|line| band.covers(line));
        let gone: Vec<Line> = gone;
        self.standing = stays;
        // What is said of rows that were blank was not read there.
        for line in found.into_iter().filter(|line| band.covers(line)) {
            let stood = gone.iter().any(|before| before.text == line.text);
            if !stood && band.touches(&line) && self.bytes < MOST_TEXT {
                self.bytes += line.text.len();
                self.read.lines += 1;
                let text = line.text.clone();
                self.lines.push(TextLine { at, channel: 0, kind: LineKind::Ocr, text });
            }
            self.standing.push(line);
        }
    }
}
