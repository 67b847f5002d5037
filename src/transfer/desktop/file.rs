//! One file of the person's machine that a target has open, or of a clipboard that is being fetched, and what has passed.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use cofferdam_rdp::{Direction, Opening, Place};

use crate::transfer::flow::{Flow, Repeat, Room};
use crate::transfer::{FileEvent, FileNumbers, Operation, Step};

const READ_AGAIN: &str = "no hash: a part was read again, and whether it was the same is not known";
const CUT: &str = "no hash: the file was cut to another size";
const NOT_CONFIRMED: &str = "the person's machine did not confirm it";

/// Contents of a file that pass one way.
pub(super) struct Passing {
    pub(super) flow: Flow,
    /// Why no more passes.
    pub(super) refused: Option<String>,
    /// What its bytes are kept under: what is read and what is written are two things. None has passed before there is one.
    number: Option<u32>,
}

impl Passing {
    fn new(repeat: Repeat) -> Self {
        Self { flow: Flow::new(repeat), refused: None, number: None }
    }

    /// What its bytes are kept under, once some have passed or are about to.
    pub(super) fn kept_under(&self) -> Option<u32> {
        self.number
    }
}

/// A file between its opening and its close.
pub(super) struct File {
    pub(super) number: u32,
    pub(super) path: String,
    pub(super) place: Place,
    /// Why its contents may not be read.
    pub(super) closed_to_target: Option<String>,
    pub(super) writes: bool,
    /// The person's machine has it open.
    pub(super) is_open: bool,
    /// What the target takes.
    pub(super) up: Passing,
    /// What the target gives.
    pub(super) down: Passing,
    folder: bool,
    /// It was opened as what is no folder.
    plain: bool,
    made: bool,
    removes: bool,
    alters: bool,
    /// Nothing is in it but what was written.
    fresh: bool,
    /// Writes that the person's machine has not answered.
    pub(super) in_flight: u32,
    size: Option<u64>,
    end: Option<u64>,
    /// SHA-256 of what was read, by place: what is read again may be something else.
    parts: HashMap<(u64, usize), [u8; 32]>,
    /// What the person's machine said to something that was written.
    pub(super) error: Option<String>,
    /// The size that the site's policies were asked for.
    pub(super) judged: u64,
    /// A copy of all that the target gave is kept.
    pub(super) copied: bool,
    /// Its names have been asked for.
    pub(super) listed: bool,
}

impl File {
    pub(super) fn new(number: u32, opening: &Opening<'_>, closed_to_target: Option<String>) -> Self {
        Self {
            number,
            path: opening.path.to_owned(),
            place: opening.place,
            closed_to_target,
            writes: opening.writes,
            is_open: false,
            up: Passing::new(Repeat::Ignore),
            // On a drive it is written, from a clipboard it is read.
            down: Passing::new(if opening.place == Place::Clipboard {
                Repeat::Ignore
            } else {
                Repeat::Spoils
            }),
            folder: opening.folder == Some(true),
            plain: opening.folder == Some(false),
            made: opening.makes,
            removes: opening.removes,
            alters: alters(opening),
            fresh: opening.empties,
            in_flight: 0,
            size: None,
            end: None,
            parts: HashMap::new(),
            error: None,
            judged: 0,
            copied: true,
            listed: false,
        }
    }

    /// Whether it may be a folder, so that whatever is done to it is done to all that is in it.
    pub(super) fn may_be_folder(&self) -> bool {
        !self.plain
    }

    /// Whether it has to be a folder, which has names and no contents.
    pub(super) fn is_folder(&self) -> bool {
        self.folder
    }

    /// What there is to say before it is opened: nothing where nothing can be other than before.
    pub(super) fn starting(&mut self, numbers: &FileNumbers) -> Option<Step> {
        let event = self.opening()?;
        let number = match event.operation {
            Operation::Download => self.kept_under(Operation::Download, numbers),
            _ => self.number,
        };
        Some(Step::Event(FileEvent { started: true, file: Some(number), ..event }))
    }

    /// The number that contents are kept under. The first way that they pass has the file's own.
    pub(super) fn kept_under(&mut self, operation: Operation, numbers: &FileNumbers) -> u32 {
        let (this, other) = match operation {
            Operation::Upload => (&mut self.up, &self.down),
            _ => (&mut self.down, &self.up),
        };
        let own = self.number;
        *this.number.get_or_insert_with(|| if other.number.is_some() { numbers.next() } else { own })
    }

    /// What is said before the first of the contents that the target takes, so that they have a name whatever happens next.
    pub(super) fn reading(&mut self, numbers: &FileNumbers) -> Option<Step> {
        if self.up.number.is_some() {
            return None;
        }
        let file = Some(self.kept_under(Operation::Upload, numbers));
        let event = FileEvent::new(Operation::Upload, self.path.as_bytes());
        Some(Step::Event(FileEvent { started: true, file, ..event }))
    }

    /// What opening it may do, where that is something.
    fn opening(&self) -> Option<FileEvent> {
        let operation = match (self.folder && self.made, self.writes || self.made, self.removes) {
            _ if !self.alters => return None,
            (true, ..) => Operation::Mkdir,
            (false, true, _) => Operation::Download,
            (false, false, true) => Operation::Remove,
            (false, false, false) => Operation::SetAttributes,
        };
        Some(FileEvent::new(operation, self.path.as_bytes()))
    }

    /// Whether the person fetches it, from the target's clipboard.
    pub(super) fn is_fetched(&self) -> bool {
        self.place == Place::Clipboard && self.writes
    }

    /// Somebody reads `data`, which goes in `direction`. Whether it is something that did not pass before.
    pub(super) fn take(
        &mut self,
        direction: Direction,
        (offset, data): (u64, &[u8]),
        room: &mut Room,
        parts: &mut usize,
    ) -> bool {
        let flow = match direction {
            Direction::ToTarget => &mut self.up.flow,
            Direction::ToPerson => &mut self.down.flow,
        };
        let known = self.parts.get(&(offset, data.len())).copied();
        let sum = digest(&SHA256, data).as_ref().try_into().unwrap_or([0; 32]);
        let end = offset.saturating_add(data.len() as u64);
        // A short answer was not the end, then.
        self.end = self.end.filter(|known| *known >= end);
        if known == Some(sum) {
            flow.repeat(data.len());
            return false;
        }
        if known.is_some() || offset < flow.position() {
            flow.spoil(READ_AGAIN, room);
        }
        flow.add(offset, data, room);
        if known.is_none() && *parts > 0 {
            *parts -= 1;
            self.parts.insert((offset, data.len()), sum);
        }
        true
    }

    pub(super) fn ends(&mut self, offset: u64) {
        self.end = Some(self.end.map_or(offset, |end| end.min(offset)));
    }

    pub(super) fn has_size(&mut self, size: u64) {
        self.size = Some(size);
    }

    /// It has been cut or stretched to `size`.
    pub(super) fn resized(&mut self, size: u64, room: &mut Room) {
        if size == 0 && self.down.flow.bytes() == 0 {
            self.fresh = true;
        } else {
            self.cut(size, room);
        }
        self.size = Some(size);
    }

    /// There is room for `size` bytes now: fewer than there were cut it, more are not contents.
    pub(super) fn allocated(&mut self, size: u64, room: &mut Room) {
        self.cut(size, room);
        self.size = self.size.map(|known| known.min(size));
    }

    fn cut(&mut self, size: u64, room: &mut Room) {
        if size < self.down.flow.position() {
            self.down.flow.spoil(CUT, room);
        }
    }

    /// The person's machine did not open it.
    pub(super) fn not_opened(self, error: String, out: &mut impl Extend<Step>) {
        // That something is not there is how a target finds out what is.
        out.extend(self.opening().map(|event| Step::Event(FileEvent { error: Some(error), ..event })));
    }

    /// Size, where the person's machine told it.
    pub(super) fn size(&self) -> u64 {
        self.size.unwrap_or(0)
    }

    /// Reports what passed: a folder that was made, contents either way, a removal.
    pub(super) fn finish(
        mut self,
        whole: bool,
        room: &mut Room,
        parts: &mut usize,
        out: &mut impl Extend<Step>,
    ) {
        *parts += self.parts.len();
        let plain = |operation| FileEvent::new(operation, self.path.as_bytes());
        let made = self.is_open && self.made;
        let unconfirmed = || (!whole).then(|| NOT_CONFIRMED.to_owned());
        let folder = (made && self.folder).then(|| plain(Operation::Mkdir));
        let download = (self.down.flow.bytes() > 0 || made && !self.folder).then(|| self.download(whole));
        let upload = (self.up.flow.bytes() > 0).then(|| self.read(&self.up, Operation::Upload));
        // The person's machine removes it on its own when nobody closes it.
        let removal = (self.is_open && self.removes)
            .then(|| FileEvent { error: unconfirmed(), ..plain(Operation::Remove) });
        // What was said to begin comes to an end, though nothing came of it.
        let said = folder.is_some() || download.is_some() || removal.is_some();
        let nothing = (!said && self.is_open).then(|| self.opening()).flatten();
        let nothing = nothing.map(|event| FileEvent { error: unconfirmed(), ..event });
        out.extend([folder, download, upload, removal, nothing].into_iter().flatten().map(Step::Event));
        self.up.flow.release(room);
        self.down.flow.release(room);
    }

    /// What was read.
    fn read(&self, passing: &Passing, operation: Operation) -> FileEvent {
        let (flow, refused) = (&passing.flow, &passing.refused);
        let got = flow.position();
        let complete = self.end.is_some_and(|end| end <= got) || self.size == Some(got);
        let whole = complete && flow.spoilt().is_none() && refused.is_none();
        let note = flow.spoilt().or((!whole).then_some("only a part of the file"));
        FileEvent {
            file: passing.number,
            refused: refused.clone(),
            bytes: flow.bytes(),
            sha256: flow.digest(),
            whole,
            note: both(note, self.not_copied().filter(|_| operation == Operation::Download)),
            ..FileEvent::new(operation, self.path.as_bytes())
        }
    }

    fn download(&self, closed: bool) -> FileEvent {
        if self.is_fetched() {
            return self.read(&self.down, Operation::Download);
        }
        let (flow, refused) = (&self.down.flow, &self.down.refused);
        let undisturbed = closed && self.error.is_none() && refused.is_none() && self.in_flight == 0;
        let short = self.size.is_some_and(|size| size > flow.position());
        let note = flow.spoilt().or(match (undisturbed, self.fresh, short) {
            (false, ..) => Some("the person's machine did not confirm all of it"),
            (true, false, _) => Some("the file was not emptied first: older contents may follow"),
            (true, true, true) => Some("only a part of the file"),
            (true, true, false) => None,
        });
        FileEvent {
            file: self.down.number,
            refused: refused.clone(),
            error: self.error.clone(),
            bytes: flow.bytes(),
            sha256: flow.digest(),
            whole: note.is_none(),
            note: both(note, self.not_copied()),
            ..FileEvent::new(Operation::Download, self.path.as_bytes())
        }
    }

    fn not_copied(&self) -> Option<&'static str> {
        (!self.copied).then_some("not kept in full: larger than what the site keeps")
    }
}

fn both(one: Option<&str>, other: Option<&str>) -> Option<String> {
    [one, other].into_iter().flatten().map(str::to_owned).reduce(|a, b| format!("{a}; {b}"))
}

/// Whether something on the person's machine may be other than before.
pub(super) fn alters(opening: &Opening<'_>) -> bool {
    opening.writes || opening.changes || opening.makes || opening.removes
}
