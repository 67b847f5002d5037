//! One file of the person's machine that a target has open, and what has passed.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use cofferdam_rdp::{Opening, Place};

use crate::transfer::flow::{Flow, Repeat, Room};
use crate::transfer::{FileEvent, Operation, Step};

const READ_AGAIN: &str = "no hash: a part was read again, and whether it was the same is not known";
const CUT: &str = "no hash: the file was cut to another size";
const NOT_CONFIRMED: &str = "the person's machine did not confirm it";

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
    pub(super) up: Flow,
    /// What the target gives.
    pub(super) down: Flow,
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
    pub(super) error: Option<String>,
    pub(super) refused: Option<String>,
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
            up: Flow::new(Repeat::Ignore),
            down: Flow::new(Repeat::Spoils),
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
            refused: None,
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
    pub(super) fn starting(&self) -> Option<Step> {
        let event = FileEvent { started: true, file: Some(self.number), ..self.opening()? };
        Some(Step::Event(event))
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

    /// The target takes `data`. Whether it is something that it did not have.
    pub(super) fn take(&mut self, offset: u64, data: &[u8], room: &mut Room, parts: &mut usize) -> bool {
        let known = self.parts.get(&(offset, data.len())).copied();
        let sum = digest(&SHA256, data).as_ref().try_into().unwrap_or([0; 32]);
        if known == Some(sum) {
            self.up.repeat(data.len());
            return false;
        }
        if known.is_some() || offset < self.up.position() {
            self.up.spoil(READ_AGAIN, room);
        }
        self.up.add(offset, data, room);
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
        if size == 0 && self.down.bytes() == 0 {
            self.fresh = true;
        } else if size < self.down.position() {
            self.down.spoil(CUT, room);
        }
        self.size = Some(size);
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
        let folder = (made && self.folder).then(|| plain(Operation::Mkdir));
        let download = (self.down.bytes() > 0 || made && !self.folder).then(|| self.download(whole));
        let upload = (self.up.bytes() > 0).then(|| self.upload());
        // The person's machine removes it on its own when nobody closes it.
        let removal = (self.is_open && self.removes).then(|| FileEvent {
            error: (!whole).then(|| NOT_CONFIRMED.to_owned()),
            ..plain(Operation::Remove)
        });
        out.extend([folder, download, upload, removal].into_iter().flatten().map(Step::Event));
        self.up.release(room);
        self.down.release(room);
    }

    fn upload(&self) -> FileEvent {
        let got = self.up.position();
        let complete = self.end.is_some_and(|end| end <= got) || self.size == Some(got);
        let undisturbed = self.up.spoilt().is_none() && self.error.is_none() && self.refused.is_none();
        let whole = complete && undisturbed;
        let note = self.up.spoilt().or((!whole).then_some("only a part of the file"));
        FileEvent {
            bytes: self.up.bytes(),
            sha256: self.up.digest(),
            whole,
            note: note.map(str::to_owned),
            ..self.event(Operation::Upload)
        }
    }

    fn download(&self, closed: bool) -> FileEvent {
        let undisturbed = closed && self.error.is_none() && self.refused.is_none() && self.in_flight == 0;
        let short = self.size.is_some_and(|size| size > self.down.position());
        let note = self.down.spoilt().or(match (undisturbed, self.fresh, short) {
            (false, ..) => Some("the person's machine did not confirm all of it"),
            (true, false, _) => Some("the file was not emptied first: older contents may follow"),
            (true, true, true) => Some("only a part of the file"),
            (true, true, false) => None,
        });
        let copy = (!self.copied).then_some("not kept in full: larger than what the site keeps");
        FileEvent {
            bytes: self.down.bytes(),
            sha256: self.down.digest(),
            whole: note.is_none(),
            note: [note, copy].into_iter().flatten().map(str::to_owned).reduce(|a, b| format!("{a}; {b}")),
            ..self.event(Operation::Download)
        }
    }

    fn event(&self, operation: Operation) -> FileEvent {
        FileEvent {
            file: Some(self.number),
            refused: self.refused.clone(),
            error: self.error.clone(),
            ..FileEvent::new(operation, self.path.as_bytes())
        }
    }
}

/// Whether something on the person's machine may be other than before.
pub(super) fn alters(opening: &Opening<'_>) -> bool {
    opening.writes || opening.changes || opening.makes || opening.removes
}
