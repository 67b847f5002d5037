//! What the target answers: related to the request, counted, and turned into events.

use bytes::Bytes;

use crate::transfer::path::{MAX_PATH, normalise};
use crate::transfer::{FileEvent, OVER_BUDGET, Operation, Step};

use super::frame::{Side, Verdict, Violation};
use super::person::refuse_file_event;
use super::wire::{
    ATTRS, Attrs, DATA, EXTENDED_REPLY, FX_EOF, FX_OK, FX_PERMISSION_DENIED, HANDLE, MAX_HANDLE, NAME,
    Reader, STATUS, VERSION, status, status_text,
};
use super::{Body, Greeting, Handle, MAX_COLLECTED, MAX_PACKET, State, Waiting};

/// The target's direction.
pub(super) struct TargetSide<'a>(pub(super) &'a mut State);

impl Side for TargetSide<'_> {
    fn need(&self, seen: &[u8]) -> Result<usize, Violation> {
        let mut r = Reader(seen);
        let (Some(length), Some(kind)) = (r.u32(), r.u8()) else { return Ok(5) };
        if length == 0 || length > MAX_PACKET {
            return Err(Violation::target("a packet of impossible length"));
        }
        let whole = length as usize + 4;
        match kind {
            DATA if whole < 13 => Err(Violation::target("a DATA that is too short")),
            DATA => Ok(13),
            // Long lists of names pass; only their beginning is read.
            NAME | EXTENDED_REPLY => Ok(whole.min(MAX_COLLECTED)),
            _ if whole > MAX_COLLECTED => Err(Violation::target("an answer of more than 64 KiB")),
            _ => Ok(whole),
        }
    }

    fn decide(&mut self, length: u32, head: &[u8], out: &mut Vec<Step>) -> Result<Verdict, Violation> {
        let state = &mut *self.0;
        state.download = None;
        let mut r = Reader(head.get(4..).unwrap_or_default());
        let (Some(kind), Some(id)) = (r.u8(), r.u32()) else {
            return Err(Violation::target("a packet that is too short"));
        };
        match (state.greeting, kind) {
            (Greeting::Nothing, _) => return Err(Violation::target("an answer before any question")),
            // The "id" of VERSION is the version.
            (Greeting::Init, VERSION) if id == 3 => {
                state.greeting = Greeting::Done;
                state.openssh = names_openssh(r);
                return Ok(Verdict::Pass);
            }
            (Greeting::Init, VERSION) => return Err(Violation::target("another version than 3")),
            (Greeting::Init, _) => return Err(Violation::target("an answer before its greeting")),
            (Greeting::Done, _) => {}
        }
        let Some(waiting) = state.recall(id) else {
            return Err(Violation::target("an answer to no question"));
        };
        if kind != STATUS && kind != waiting.reply() {
            return Err(Violation::target("an answer of the wrong kind"));
        }
        if kind == STATUS {
            let Some(code) = r.u32() else { return Err(Violation::target("a status that is too short")) };
            let error = (code != FX_OK).then(|| status_text(code, r.string()));
            return state.told(waiting, code, error, out).map(|()| Verdict::Pass);
        }
        match waiting {
            Waiting::Read { file, offset, size } => {
                let sent = r.u32().unwrap_or(0);
                if sent > size || u64::from(length) != 9 + u64::from(sent) {
                    return Err(Violation::target("more or less data than it was asked for"));
                }
                Ok(state.data(id, file, offset, sent, out))
            }
            waiting => state.answered(waiting, r, out).map(|()| Verdict::Pass),
        }
    }

    fn body(&mut self, data: Bytes, _out: &mut Vec<Step>) {
        let state = &mut *self.0;
        let Some(body) = &mut state.download else { return };
        let at = body.offset;
        body.offset = at.saturating_add(data.len() as u64);
        let number = body.file;
        if let Some(file) = state.files.get_mut(&number) {
            file.down.add(at, &data, &mut state.room);
        }
    }

    fn has_insertion(&self) -> bool {
        self.0.has_answers()
    }

    fn insert(&mut self, out: &mut Vec<Step>) {
        self.0.send_answers(out);
    }

    fn pass(data: Bytes) -> Step {
        Step::ToPerson(data)
    }
}

impl Waiting {
    /// The packet type that answers it when all is well.
    fn reply(&self) -> u8 {
        match self {
            Self::Open(_) | Self::OpenDir(_) => HANDLE,
            Self::Read { .. } => DATA,
            Self::Write { .. } | Self::CloseFile(_) | Self::CloseFolder | Self::Change { .. } => STATUS,
            Self::LookFile { reply, .. } | Self::Look { reply, .. } | Self::Other { reply } => *reply,
            Self::Home => NAME,
        }
    }
}

impl State {
    /// Contents, within the budget or not at all.
    fn data(&mut self, id: u32, number: u32, offset: u64, size: u32, out: &mut Vec<Step>) -> Verdict {
        let within = self.rules.max_bytes.as_ref().is_none_or(|budget| budget.take(size.into()));
        if let Some(file) = self.files.get_mut(&number) {
            file.in_flight = file.in_flight.saturating_sub(1);
            if !within {
                refuse_file_event(file, Operation::Download, OVER_BUDGET, out);
            }
        }
        if !within {
            let text = format!("refused by the gateway: {OVER_BUDGET}");
            self.settle(number, out);
            return Verdict::Replace(status(id, FX_PERMISSION_DENIED, &text));
        }
        self.download = Some(Body { file: number, offset });
        Verdict::Pass
    }

    /// A status, good or bad.
    fn told(
        &mut self,
        waiting: Waiting,
        code: u32,
        error: Option<String>,
        out: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        match waiting {
            Waiting::Open(_) | Waiting::OpenDir(_) if error.is_none() => {
                return Err(Violation::target("an OK where a handle was asked for"));
            }
            Waiting::Open(file) => {
                self.opening = self.opening.saturating_sub(1);
                let operation = if file.writes { Operation::Upload } else { Operation::Download };
                out.push(Step::Event(FileEvent { error, ..FileEvent::new(operation, &file.path) }));
            }
            Waiting::OpenDir(path) => {
                self.opening = self.opening.saturating_sub(1);
                out.push(Step::Event(FileEvent { error, ..FileEvent::new(Operation::List, &path) }));
            }
            Waiting::Read { file: number, offset, .. } => {
                if let Some(file) = self.files.get_mut(&number) {
                    file.in_flight = file.in_flight.saturating_sub(1);
                    if code == FX_EOF {
                        file.end_seen(offset);
                    } else if let Some(error) = error {
                        file.error.get_or_insert(error);
                    }
                }
                self.settle(number, out);
            }
            Waiting::Write { file: number } => {
                if let Some(file) = self.files.get_mut(&number) {
                    file.in_flight = file.in_flight.saturating_sub(1);
                    if let Some(error) = error {
                        file.error.get_or_insert(error);
                        file.up.spoil("no hash: the target did not take all of it", &mut self.room);
                    }
                }
                self.settle(number, out);
            }
            Waiting::CloseFile(number) => {
                if let Some(file) = self.files.get_mut(&number) {
                    file.closed = true;
                    if let Some(error) = error {
                        file.error.get_or_insert(error);
                    }
                }
                self.settle(number, out);
            }
            Waiting::Change { mut event, resize } => {
                if let (None, Some((number, equal))) = (&error, resize)
                    && let Some(file) = self.files.get_mut(&number)
                {
                    match equal {
                        true => file.fresh = true,
                        false => file.up.spoil("no hash: the file's size was changed", &mut self.room),
                    }
                }
                event.error = error;
                out.push(Step::Event(*event));
            }
            Waiting::CloseFolder
            | Waiting::LookFile { .. }
            | Waiting::Look { .. }
            | Waiting::Home
            | Waiting::Other { .. } => {}
        }
        Ok(())
    }

    /// An answer with contents that are not a file's.
    fn answered(
        &mut self,
        waiting: Waiting,
        mut r: Reader<'_>,
        out: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        match waiting {
            Waiting::Open(mut file) => {
                file.size =
                    self.seen_size.as_ref().filter(|(path, _)| *path == file.path).map(|(_, size)| *size);
                let number = file.number;
                self.opened(r, Handle::File(number))?;
                self.files.insert(number, *file);
            }
            Waiting::OpenDir(path) => {
                self.opened(r, Handle::Folder)?;
                out.push(Step::Event(FileEvent::new(Operation::List, &path)));
            }
            Waiting::LookFile { file, reply: ATTRS } => {
                if let (Some(file), Some(attrs)) = (self.files.get_mut(&file), Attrs::read(&mut r)) {
                    file.size = attrs.size.or(file.size);
                }
            }
            Waiting::Look { path, reply: ATTRS } => {
                self.seen_size = Attrs::read(&mut r).and_then(|attrs| attrs.size).map(|size| (path, size));
            }
            Waiting::Home => {
                let name = r.u32().filter(|count| *count > 0).and_then(|_| r.string());
                if let Some(name) = name.filter(|n| n.starts_with(b"/") && n.len() <= MAX_PATH) {
                    self.home = normalise(name, None);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn opened(&mut self, mut r: Reader<'_>, what: Handle) -> Result<(), Violation> {
        self.opening = self.opening.saturating_sub(1);
        let Some(handle) = r.string().filter(|handle| handle.len() <= MAX_HANDLE) else {
            return Err(Violation::target("a handle that is not well-formed"));
        };
        if self.handles.insert(handle.to_vec(), what).is_some() {
            return Err(Violation::target("the same handle twice"));
        }
        Ok(())
    }
}

/// Whether a VERSION's list of extensions (draft §4) has one of OpenSSH's.
fn names_openssh(mut r: Reader<'_>) -> bool {
    while let (Some(name), Some(_)) = (r.string(), r.string()) {
        if name.ends_with(b"@openssh.com") {
            return true;
        }
    }
    false
}
