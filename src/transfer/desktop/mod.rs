//! Files of the person's machine that a desktop's target reads and writes: on drives, and as print jobs; and files on
//! either side's clipboard, which the other fetches.
//!
//! What a target reads goes to the target: an upload, as over SSH. What it writes goes to the person: a download. The same
//! rules hold, with the path on the person's machine in the place of the one on the target.

mod file;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use cofferdam_rdp::{Change, Direction, Files, Opening, Place};

use super::flow::Room;
use super::path::Reach;
use super::site::{Act, CHANGE, Why};
use super::{FileEvent, OVER_BUDGET, Operation, READ_ONLY, Step, Unrecorded};
use file::{File, alters};
pub(crate) use rules::{ClipboardRules, DesktopRules, Standing};

/// Parts of files that are remembered, so as to see that what is read again is the same.
const PARTS: usize = 16 * 1024;
/// Most refusals that are remembered, so that the same one is reported once.
const MAX_TOLD: usize = 1024;

const NO_UPLOAD: &str = "the site does not let this desktop read files of the person's";
const NO_DOWNLOAD: &str = "the site does not let this desktop write files of the person's";
const NO_COPY_IN: &str = "the site does not let this desktop fetch files that the person copied";
const NO_COPY_OUT: &str = "the site does not let the person fetch files that were copied on this desktop";
const NO_PRINTER: &str = "the site does not let this desktop print at the person's";
/// What the person is told, once, when the site has changed its rules in mid-session.
pub(crate) const CHANGED: &str = "the site's rules for files on this desktop have changed: connect again";
const NOT_FOR_WRITING: &str = "the file was not opened for writing";
const WHOLE_DRIVE: &str = "a drive as a whole is not the desktop's to rename or remove";
const NO_CONTENTS: &str = "a folder has no contents";
const ALL_BELOW: &str = "it may be a folder, and not all that can be in it is allowed: open it as a file";
const UNANSWERED: &str = "the session ended before the person's machine answered";

/// The files of one desktop; clones are the same.
#[derive(Clone)]
pub(crate) struct DesktopFiles(Arc<Mutex<State>>);

impl fmt::Debug for DesktopFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DesktopFiles")
    }
}

struct State {
    rules: DesktopRules,
    files: HashMap<u32, File>,
    changes: BTreeMap<u32, Changing>,
    room: Room,
    parts: usize,
    told: HashSet<(Operation, String)>,
    steps: Unrecorded,
}

/// A change that the person's machine has not answered.
struct Changing {
    event: FileEvent,
    file: u32,
    then: Then,
}

/// What is other once a change has been made.
enum Then {
    Nothing,
    Size(u64),
    Room(u64),
    Path(String),
}

impl DesktopFiles {
    /// Nothing is open yet.
    pub(crate) fn new(rules: DesktopRules) -> Self {
        Self(Arc::new(Mutex::new(State {
            rules,
            files: HashMap::new(),
            changes: BTreeMap::new(),
            room: Room::default(),
            parts: PARTS,
            told: HashSet::new(),
            steps: Unrecorded::default(),
        })))
    }

    /// What is to be recorded next, before anything goes on. It stays the next until [`Self::recorded`]: whoever records it may
    /// be stopped meanwhile.
    pub(crate) fn next_step(&self) -> Option<Step> {
        self.state().steps.first()
    }

    /// The next step has been recorded.
    pub(crate) fn recorded(&self) {
        self.state().steps.recorded();
    }

    /// The desktop is gone: what was under way becomes steps.
    pub(crate) fn finish(&self) {
        let state = &mut *self.state();
        for (_, Changing { mut event, .. }) in std::mem::take(&mut state.changes) {
            event.error = Some(UNANSWERED.to_owned());
            state.steps.push(Step::Event(event));
        }
        let mut files: Vec<File> = state.files.drain().map(|(_, file)| file).collect();
        files.sort_by_key(|file| file.number);
        for file in files {
            if file.is_open {
                file.finish(false, &mut state.room, &mut state.parts, &mut state.steps);
            } else {
                file.not_opened(UNANSWERED.to_owned(), &mut state.steps);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_take(&self, place: Place) -> Result<(), Why> {
        let (rules, files) = (&self.rules, &self.rules.files);
        let (allowed, why) = match place {
            Place::Clipboard => (rules.clipboard.to_target, NO_COPY_IN),
            Place::Drive | Place::Printer => (rules.to_target, NO_UPLOAD),
        };
        match (files.read_only, allowed && files.may_upload) {
            (true, _) => Err(READ_ONLY.into()),
            (false, false) => Err(why.into()),
            (false, true) => Ok(()),
        }
    }

    fn may_give(&self, place: Place) -> Result<(), Why> {
        let (allowed, why) = match place {
            Place::Printer => (self.rules.printers, NO_PRINTER),
            Place::Clipboard => (self.rules.clipboard.to_person, NO_COPY_OUT),
            Place::Drive => (self.rules.to_person, NO_DOWNLOAD),
        };
        if allowed && self.rules.files.may_download { Ok(()) } else { Err(why.into()) }
    }

    fn check(&self, place: Place, path: &str, want: Reach, acts: &[Act]) -> Result<(), Why> {
        if !self.rules.standing.holds() {
            return Err(CHANGED.into());
        }
        if let Some((paths, why)) = self.rules.paths(place)
            && paths.reach(path.as_bytes()) < want
        {
            return Err(why.into());
        }
        self.rules.files.check(path.as_bytes(), None, want, acts)
    }

    /// Whether the other side may be told that this is on a clipboard.
    fn judge_offer(&self, opening: &Opening<'_>, size: Option<u64>) -> Result<(), Why> {
        let (place, path) = (opening.place, opening.path);
        let act = if opening.writes { Act::Read } else { Act::Write { size: size.unwrap_or(0) } };
        if opening.writes { self.may_give(place) } else { self.may_take(place) }?;
        // A folder may be on the way to what is allowed.
        if opening.folder == Some(true) {
            return self.check(place, path, Reach::Ancestor, &[]);
        }
        self.check(place, path, Reach::Inside, &[act])?;
        self.fits(place, size.unwrap_or(0))
    }

    /// Whether everything that may be below `path` is allowed, too.
    fn covers_below(&self, place: Place, path: &str) -> Result<(), Why> {
        let window = &self.rules.files;
        let site = self.rules.paths(place).is_none_or(|(paths, _)| paths.covers_below(path.as_bytes()));
        if site && window.covers_below(path.as_bytes()) { Ok(()) } else { Err(ALL_BELOW.into()) }
    }

    /// Whether `opening` may be; and why nothing may be read through it.
    fn judge(&self, opening: &Opening<'_>) -> Result<Option<String>, Why> {
        let (place, path) = (opening.place, opening.path);
        let alters = alters(opening);
        if alters {
            self.may_give(place)?;
            self.check(place, path, Reach::Inside, &[Act::Read])?;
        } else {
            // Whether it is a folder shows only at the person's machine: its names may be needed on the way.
            self.check(place, path, Reach::Ancestor, &[])?;
        }
        if opening.removes && is_drive(path) {
            return Err(WHOLE_DRIVE.into());
        }
        // Whoever removes a folder removes what is in it.
        if opening.removes && opening.folder != Some(false) {
            self.covers_below(place, path)?;
        }
        let reads = self.may_take(place).and_then(|()| self.check(place, path, Reach::Inside, &[CHANGE]));
        match reads {
            Ok(()) => Ok(None),
            Err(why) if opening.reads && opening.folder == Some(false) && !alters => Err(why),
            Err(why) => Ok(Some(why.into_owned())),
        }
    }

    /// Says once that something was refused.
    fn tell(&mut self, operation: Operation, path: &str, why: Why) {
        if self.told.contains(&(operation, path.to_owned())) {
            return;
        }
        if self.told.len() < MAX_TOLD {
            self.told.insert((operation, path.to_owned()));
        }
        let mut event = FileEvent::new(operation, path.as_bytes());
        event.refused = Some(why.into_owned());
        self.steps.push(Step::Event(event));
    }

    /// Refuses contents of an open file; what follows of it is refused without another word.
    fn refuse(&mut self, number: u32, operation: Operation, why: Why) -> bool {
        let Some(file) = self.files.get_mut(&number) else { return false };
        let passing = if operation == Operation::Upload { &mut file.up } else { &mut file.down };
        if passing.refused.is_none() {
            passing.refused = Some(why.clone().into_owned());
            let mut event = FileEvent::new(operation, file.path.as_bytes());
            event.refused = Some(why.into_owned());
            // The file's own number may be that of what passes the other way.
            event.file = passing.kept_under();
            self.steps.push(Step::Event(event));
        }
        false
    }

    /// Whether contents that the target takes may reach to `end`.
    fn may_reach(&mut self, number: u32, end: u64) -> Result<(), Why> {
        let Some(file) = self.files.get(&number) else { return Err(NO_UPLOAD.into()) };
        if file.is_folder() {
            return Err(NO_CONTENTS.into());
        }
        if let Some(why) = &file.closed_to_target {
            return Err(why.clone().into());
        }
        self.fits(file.place, end.max(file.size()))?;
        if end > file.judged && self.rules.files.by_size() {
            self.check(file.place, &file.path, Reach::Inside, &[Act::Write { size: end }])?;
        }
        if let Some(file) = self.files.get_mut(&number) {
            file.judged = file.judged.max(end);
        }
        Ok(())
    }

    fn fits(&self, place: Place, end: u64) -> Result<(), Why> {
        if !self.rules.standing.holds() {
            return Err(CHANGED.into());
        }
        match self.rules.largest(place).filter(|largest| end > *largest) {
            Some(largest) => {
                Err(format!("the file is larger than the {largest} bytes that the site allows").into())
            }
            None => Ok(()),
        }
    }

    fn within_budget(&self, bytes: usize) -> Result<(), Why> {
        let taken = self.rules.files.max_bytes.as_ref().is_none_or(|budget| budget.take(bytes as u64));
        if taken { Ok(()) } else { Err(OVER_BUDGET.into()) }
    }

    /// The target takes contents.
    fn upload(&mut self, number: u32, offset: u64, data: &Bytes) -> bool {
        if self.files.get(&number).is_none_or(|file| file.up.refused.is_some()) {
            return false;
        }
        let end = offset.saturating_add(data.len() as u64);
        let allowed = self.may_reach(number, end).and_then(|()| self.within_budget(data.len()));
        if let Err(why) = allowed {
            return self.refuse(number, Operation::Upload, why);
        }
        let Some(file) = self.files.get_mut(&number) else { return false };
        let fresh = file.take(Direction::ToTarget, (offset, data), &mut self.room, &mut self.parts);
        if data.is_empty() {
            return true;
        }
        let numbers = &self.rules.files.numbers;
        self.steps.extend(file.reading(numbers));
        let number = file.kept_under(Operation::Upload, numbers);
        let data = data.clone();
        self.steps.push(if fresh && self.rules.files.keep_uploads {
            Step::Keep { file: number, offset, data }
        } else {
            Step::Digest { operation: Operation::Upload, data }
        });
        true
    }

    /// The target gives contents.
    fn download(&mut self, number: u32, offset: u64, data: &Bytes) -> bool {
        let Some(file) = self.files.get(&number).filter(|file| file.down.refused.is_none()) else {
            return false;
        };
        // What is printed comes one after the other, whatever the offsets say.
        let offset = if file.place == Place::Printer { file.down.flow.bytes() } else { offset };
        let end = offset.saturating_add(data.len() as u64);
        let writable = match (file.is_folder(), file.writes) {
            (true, _) => Err(NO_CONTENTS.into()),
            (false, false) => Err(NOT_FOR_WRITING.into()),
            (false, true) => Ok(()),
        };
        let place = file.place;
        let allowed =
            writable.and_then(|()| self.fits(place, end)).and_then(|()| self.within_budget(data.len()));
        if let Err(why) = allowed {
            return self.refuse(number, Operation::Download, why);
        }
        let Some(file) = self.files.get_mut(&number) else { return false };
        let mut fresh = true;
        if file.is_fetched() {
            // Nobody says that it arrived.
            fresh = file.take(Direction::ToPerson, (offset, data), &mut self.room, &mut self.parts);
        } else {
            file.down.flow.add(offset, data, &mut self.room);
            file.in_flight += 1;
        }
        if data.is_empty() {
            return true;
        }
        if !fresh {
            self.steps.push(Step::Digest { operation: Operation::Download, data: data.clone() });
            return true;
        }
        let number = file.kept_under(Operation::Download, &self.rules.files.numbers);
        let left = self.rules.keep_downloads.checked_sub(data.len() as u64).filter(|_| file.copied);
        let data = data.clone();
        self.steps.push(match left {
            Some(left) => {
                self.rules.keep_downloads = left;
                Step::Keep { file: number, offset, data }
            }
            None => {
                file.copied = false;
                Step::Digest { operation: Operation::Download, data }
            }
        });
        true
    }

    fn judge_change(&self, number: u32, change: Change<'_>) -> Result<(), Why> {
        let Some(file) = self.files.get(&number) else { return Err(NO_DOWNLOAD.into()) };
        self.may_give(file.place)?;
        // A second name is another way to the contents.
        let any_use = [Act::Read, CHANGE];
        let acts = match change {
            Change::Rename(_) if self.may_take(file.place).is_ok() => any_use.as_slice(),
            _ => &[Act::Read],
        };
        self.check(file.place, &file.path, Reach::Inside, acts)?;
        let whole = match change {
            Change::Rename(to) => is_drive(&file.path) || is_drive(to),
            Change::Remove => is_drive(&file.path),
            _ => false,
        };
        if whole {
            return Err(WHOLE_DRIVE.into());
        }
        let below =
            |path: &str| if file.may_be_folder() { self.covers_below(file.place, path) } else { Ok(()) };
        match change {
            Change::Rename(to) => {
                self.check(file.place, to, Reach::Inside, acts)?;
                below(&file.path)?;
                below(to)
            }
            Change::Remove => below(&file.path),
            Change::Resize(size) | Change::Allocate(size) => self.fits(file.place, size),
            Change::Attributes => Ok(()),
        }
    }
}

/// Whether a path is that of a drive itself.
fn is_drive(path: &str) -> bool {
    path.rfind('/') == Some(0)
}

/// What a person's machine answered.
fn said(status: Result<(), u32>) -> Option<String> {
    status.err().map(|status| format!("the person's machine answered {status:#010x}"))
}

fn operation(change: Change<'_>) -> Operation {
    match change {
        Change::Rename(_) => Operation::Rename,
        Change::Remove => Operation::Remove,
        Change::Resize(_) | Change::Allocate(_) | Change::Attributes => Operation::SetAttributes,
    }
}

impl Files for DesktopFiles {
    fn stands(&self) -> bool {
        self.state().rules.standing.holds()
    }

    fn offer(&mut self, opening: &Opening<'_>, size: Option<u64>) -> bool {
        let state = &mut *self.state();
        let judged = state.judge_offer(opening, size);
        if let Err(why) = judged {
            let operation = if opening.writes { Operation::Download } else { Operation::Upload };
            state.tell(operation, opening.path, why);
            return false;
        }
        true
    }

    fn open(&mut self, opening: &Opening<'_>) -> Option<u32> {
        let state = &mut *self.state();
        match state.judge(opening) {
            Ok(closed_to_target) => {
                let number = state.rules.files.numbers.next();
                let mut file = File::new(number, opening, closed_to_target);
                state.steps.extend(file.starting(&state.rules.files.numbers));
                state.files.insert(number, file);
                Some(number)
            }
            Err(why) => {
                let operation = if alters(opening) { Operation::Download } else { Operation::Upload };
                state.tell(operation, opening.path, why);
                None
            }
        }
    }

    fn opened(&mut self, file: u32, status: Result<(), u32>) {
        let state = &mut *self.state();
        match said(status) {
            None => {
                if let Some(file) = state.files.get_mut(&file) {
                    file.is_open = true;
                }
            }
            Some(error) => {
                if let Some(file) = state.files.remove(&file) {
                    file.not_opened(error, &mut state.steps);
                }
            }
        }
    }

    fn lock(&mut self, file: u32) -> bool {
        let mut state = self.state();
        let Some(file) = state.files.get(&file) else { return false };
        // It keeps others from the file, the person's own programs among them.
        let path = file.path.clone();
        let allowed = state
            .may_give(file.place)
            .and_then(|()| state.check(file.place, &path, Reach::Inside, &[Act::Read]));
        match allowed {
            Ok(()) => true,
            Err(why) => {
                state.tell(Operation::Other, &path, why);
                false
            }
        }
    }

    fn list(&mut self, number: u32) -> bool {
        let mut state = self.state();
        let Some(file) = state.files.get(&number) else { return false };
        let path = file.path.clone();
        match state.check(file.place, &path, Reach::Parent, &[]) {
            Ok(()) => {
                let first = state
                    .files
                    .get_mut(&number)
                    .is_some_and(|file| !std::mem::replace(&mut file.listed, true));
                if first {
                    state.steps.push(Step::Event(FileEvent::new(Operation::List, path.as_bytes())));
                }
                true
            }
            Err(why) => {
                state.tell(Operation::List, &path, why);
                false
            }
        }
    }

    fn ask(&mut self, file: u32, _end: u64) -> bool {
        let mut state = self.state();
        if let Some(fetched) = state.files.get(&file).filter(|file| file.is_fetched()) {
            let judged = state.fits(fetched.place, fetched.size());
            let open = fetched.down.refused.is_none();
            return judged.map_or_else(|why| state.refuse(file, Operation::Download, why), |()| open);
        }
        // How far the file reaches shows in the answer: clients ask for more than there is.
        let offered = state.files.get(&file).map_or(0, |file| file.judged);
        match state.may_reach(file, offered) {
            Ok(()) => state.files.get(&file).is_some_and(|file| file.up.refused.is_none()),
            Err(why) => state.refuse(file, Operation::Upload, why),
        }
    }

    fn pass(&mut self, file: u32, direction: Direction, offset: u64, data: &Bytes) -> bool {
        let mut state = self.state();
        match direction {
            Direction::ToTarget => state.upload(file, offset, data),
            Direction::ToPerson => state.download(file, offset, data),
        }
    }

    fn taken(&mut self, file: u32, status: Result<(), u32>) {
        if let Some(file) = self.state().files.get_mut(&file) {
            file.in_flight = file.in_flight.saturating_sub(1);
            file.error = file.error.take().or(said(status));
        }
    }

    fn ends(&mut self, file: u32, offset: u64) {
        if let Some(file) = self.state().files.get_mut(&file) {
            file.ends(offset);
        }
    }

    fn size(&mut self, file: u32, size: u64) {
        if let Some(file) = self.state().files.get_mut(&file) {
            file.has_size(size);
        }
    }

    fn change(&mut self, file: u32, change: Change<'_>) -> Option<u32> {
        let mut state = self.state();
        let path = state.files.get(&file)?.path.clone();
        if let Err(why) = state.judge_change(file, change) {
            state.tell(operation(change), &path, why);
            return None;
        }
        let mut event = FileEvent::new(operation(change), path.as_bytes());
        let then = match change {
            Change::Rename(to) => {
                event.to = Some(to.to_owned());
                Then::Path(to.to_owned())
            }
            Change::Resize(size) => {
                event.note = Some(format!("size {size}"));
                Then::Size(size)
            }
            Change::Allocate(size) => {
                event.note = Some(format!("room for {size}"));
                Then::Room(size)
            }
            Change::Remove | Change::Attributes => Then::Nothing,
        };
        let number = state.rules.files.numbers.next();
        state.steps.push(Step::Event(FileEvent { started: true, ..event.clone() }));
        state.changes.insert(number, Changing { event, file, then });
        Some(number)
    }

    fn changed(&mut self, change: u32, status: Result<(), u32>) {
        let state = &mut *self.state();
        let Some(Changing { mut event, file, then }) = state.changes.remove(&change) else { return };
        event.error = said(status);
        if let (None, Some(file)) = (&event.error, state.files.get_mut(&file)) {
            match then {
                Then::Nothing => {}
                Then::Size(size) => file.resized(size, &mut state.room),
                Then::Room(size) => file.allocated(size, &mut state.room),
                Then::Path(path) => file.path = path,
            }
        }
        state.steps.push(Step::Event(event));
    }

    fn close(&mut self, file: u32, status: Result<(), u32>) {
        let state = &mut *self.state();
        if let Some(file) = state.files.remove(&file) {
            file.finish(status.is_ok(), &mut state.room, &mut state.parts, &mut state.steps);
        }
    }

    fn refused(&mut self, path: &str, why: &'static str) {
        self.state().tell(Operation::Other, path, why.into());
    }
}
