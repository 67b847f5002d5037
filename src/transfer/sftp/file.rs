//! One open file: what may be done through its handle and what has passed.

use crate::transfer::flow::{Flow, Repeat, Room};
use crate::transfer::{FileEvent, Operation, Step};

use super::wire::{FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_READ, FXF_TRUNC, FXF_WRITE};

/// A file between its OPEN and the answer to its CLOSE.
pub(super) struct File {
    pub(super) number: u32,
    pub(super) path: Vec<u8>,
    pub(super) reads: bool,
    pub(super) writes: bool,
    pub(super) up: Flow,
    pub(super) down: Flow,
    /// Opening it may have made or emptied it.
    made: bool,
    /// What is written is all that it holds.
    pub(super) fresh: bool,
    /// Reads and writes that the target has not answered.
    pub(super) in_flight: u32,
    /// The size the target told.
    pub(super) size: Option<u64>,
    /// The lowest offset at which the target said "end of file".
    end: Option<u64>,
    pub(super) error: Option<String>,
    pub(super) refused: Option<String>,
    /// The size that the site's policies were asked for.
    pub(super) judged: u64,
    /// The target has confirmed CLOSE.
    pub(super) closed: bool,
}

impl File {
    /// A file opened with `flags` (draft §6.3).
    pub(super) fn new(number: u32, path: &[u8], flags: u32, room: &mut Room) -> Self {
        let mut up = Flow::new(Repeat::Spoils);
        if flags & FXF_APPEND != 0 {
            up.spoil("no hash: the contents were appended to what was there", room);
        }
        Self {
            number,
            path: path.to_vec(),
            // Without WRITE a server opens for reading, whatever else is set.
            reads: flags & FXF_READ != 0 || flags & FXF_WRITE == 0,
            writes: flags & (FXF_WRITE | FXF_APPEND | FXF_CREAT | FXF_TRUNC) != 0,
            up,
            down: Flow::new(Repeat::Ignore),
            made: flags & (FXF_CREAT | FXF_TRUNC) != 0,
            fresh: flags & FXF_TRUNC != 0 || flags & (FXF_CREAT | FXF_EXCL) == FXF_CREAT | FXF_EXCL,
            in_flight: 0,
            size: None,
            end: None,
            error: None,
            refused: None,
            judged: 0,
            closed: false,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.closed && self.in_flight == 0
    }

    pub(super) fn end_seen(&mut self, offset: u64) {
        self.end = Some(self.end.map_or(offset, |end| end.min(offset)));
    }

    /// Reports what passed: nothing, an upload, a download, or both.
    pub(super) fn finish(mut self, room: &mut Room, out: &mut Vec<Step>) {
        if self.up.bytes() > 0 || self.made {
            out.push(Step::Event(self.upload()));
        }
        if self.down.bytes() > 0 {
            out.push(Step::Event(self.download()));
        }
        self.up.release(room);
        self.down.release(room);
    }

    fn upload(&self) -> FileEvent {
        let undisturbed =
            self.closed && self.error.is_none() && self.refused.is_none() && self.in_flight == 0;
        let note = self.up.spoilt().or(match (undisturbed, self.fresh) {
            (false, _) => Some("the target did not confirm all of it"),
            (true, false) => Some("the file was not emptied first: older contents may follow"),
            (true, true) => None,
        });
        FileEvent {
            bytes: self.up.bytes(),
            sha256: self.up.digest(),
            whole: note.is_none(),
            note: note.map(str::to_owned),
            ..self.event(Operation::Upload)
        }
    }

    fn download(&self) -> FileEvent {
        let got = self.down.position();
        let complete = self.end.is_some_and(|end| end <= got) || self.size == Some(got);
        let whole =
            complete && self.down.spoilt().is_none() && self.error.is_none() && self.refused.is_none();
        let note = self.down.spoilt().or((!whole).then_some("only a part of the file"));
        FileEvent {
            bytes: self.down.bytes(),
            sha256: self.down.digest(),
            whole,
            note: note.map(str::to_owned),
            ..self.event(Operation::Download)
        }
    }

    fn event(&self, operation: Operation) -> FileEvent {
        FileEvent {
            file: Some(self.number),
            refused: self.refused.clone(),
            error: self.error.clone(),
            ..FileEvent::new(operation, &self.path)
        }
    }
}
