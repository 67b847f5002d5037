//! What the person asks for: judged by the rules before it passes.

use bytes::Bytes;

use crate::transfer::path::{Reach, normalise, parent};
use crate::transfer::site::{Act, CHANGE, Why};
use crate::transfer::{FileEvent, OVER_BUDGET, Operation, READ_ONLY, Step};

use super::file::File;
use super::frame::{Side, Verdict, Violation};
use super::wire::{
    FX_FAILURE, FX_OP_UNSUPPORTED, FX_PERMISSION_DENIED, INIT, MAX_HANDLE, NAME, Reader, Request, WRITE,
    init, status,
};
use super::{Body, Greeting, Handle, MAX_COLLECTED, MAX_HANDLES, MAX_PACKET, MAX_WAITING, State, Waiting};

const APPENDS: &str =
    "the site's policies look at the size of files, and appending hides it: write the whole file";
const NO_UPLOAD: &str = "this window does not allow uploads";
const NO_DOWNLOAD: &str = "this window does not allow downloads";
const NOWHERE: &str = "no file is so long: ask for a part that exists";

/// A request that does not pass, as the person is told.
struct Refusal {
    code: u32,
    text: String,
}

impl Refusal {
    fn denied(text: &str) -> Self {
        Self { code: FX_PERMISSION_DENIED, text: format!("refused by the gateway: {text}") }
    }
}

/// The person's direction.
pub(super) struct PersonSide<'a>(pub(super) &'a mut State);

impl Side for PersonSide<'_> {
    fn need(&self, seen: &[u8]) -> Result<usize, Violation> {
        let mut r = Reader(seen);
        let (Some(length), Some(kind)) = (r.u32(), r.u8()) else { return Ok(5) };
        if length == 0 || length > MAX_PACKET {
            return Err(Violation::person("a packet of impossible length"));
        }
        let whole = length as usize + 4;
        if kind != WRITE {
            if whole > MAX_COLLECTED {
                return Err(Violation::person("a request of more than 64 KiB"));
            }
            return Ok(whole);
        }
        let (Some(_id), Some(handle)) = (r.u32(), r.u32()) else { return Ok(13) };
        let handle = handle as usize;
        let head = 13 + handle + 12;
        if handle > MAX_HANDLE || head > whole {
            return Err(Violation::person("a WRITE that is not well-formed"));
        }
        Ok(head)
    }

    fn decide(&mut self, length: u32, head: &[u8], out: &mut Vec<Step>) -> Result<Verdict, Violation> {
        let state = &mut *self.0;
        state.upload = None;
        let mut r = Reader(head.get(4..).unwrap_or_default());
        let (Some(kind), Some(id)) = (r.u8(), r.u32()) else {
            return Err(Violation::person("a packet that is too short"));
        };
        match (state.greeting, kind) {
            // The "id" of INIT is its version.
            (Greeting::Nothing, INIT) if id >= 3 => {
                state.greeting = Greeting::Init;
                return Ok(Verdict::Replace(init()));
            }
            (Greeting::Nothing, INIT) => return Err(Violation::person("a version older than 3")),
            (Greeting::Nothing, _) => return Err(Violation::person("a request before the greeting")),
            (_, INIT) => return Err(Violation::person("a second greeting")),
            _ => {}
        }
        let Some(request) = Request::read(kind, r) else {
            return Err(Violation::person("a request that is too short"));
        };
        if let Request::Write { handle, size, .. } = request
            && length as usize != 21 + handle.len() + size as usize
        {
            return Err(Violation::person("a WRITE whose lengths contradict each other"));
        }
        if state.waiting.contains_key(&id) {
            return Err(Violation::person("two requests with the same number"));
        }
        if state.waiting.len() >= MAX_WAITING {
            return Err(Violation::person("too many requests ahead of the target's answers"));
        }
        match state.admit(request, out) {
            Ok(waiting) => {
                state.remember(id, waiting)?;
                Ok(Verdict::Pass)
            }
            Err(refusal) => {
                state.answer(status(id, refusal.code, &refusal.text))?;
                Ok(Verdict::Drop)
            }
        }
    }

    fn body(&mut self, data: Bytes, out: &mut Vec<Step>) {
        let state = &mut *self.0;
        let Some(body) = &mut state.upload else { return };
        let at = body.offset;
        body.offset = at.saturating_add(data.len() as u64);
        if let Some(file) = state.files.get_mut(&body.file) {
            file.up.add(at, &data, &mut state.room);
        }
        if state.rules.keep_uploads {
            out.push(Step::Keep { file: body.file, offset: at, data });
        }
    }

    fn pass(data: Bytes) -> Step {
        Step::ToTarget(data)
    }
}

impl State {
    /// Judges a request. What passes is returned as what to wait for.
    fn admit(&mut self, request: Request<'_>, out: &mut Vec<Step>) -> Result<Waiting, Refusal> {
        use Operation as Op;
        match request {
            Request::Open { path, flags } => self.open(path, flags, out),
            Request::Close { handle } => match self.handles.remove(handle) {
                Some(Handle::File(file)) => Ok(Waiting::CloseFile(file)),
                Some(Handle::Folder) => Ok(Waiting::CloseFolder),
                None => Err(no_such_handle()),
            },
            Request::Read { handle, offset, size } => self.read(handle, offset, size, out),
            Request::Write { handle, offset, size } => self.write(handle, offset, size, out),
            Request::Look { path, reply } => {
                self.judge(Op::Inspect, path, None, self.check(path, Reach::Ancestor, &[]), out)?;
                Ok(Waiting::Look { path: path.to_vec(), reply })
            }
            Request::LookHandle { handle, reply } => match self.handles.get(handle) {
                Some(Handle::File(file)) => Ok(Waiting::LookFile { file: *file, reply }),
                Some(Handle::Folder) => Ok(Waiting::Other { reply }),
                None => Err(no_such_handle()),
            },
            Request::OpenDir { path } => {
                self.judge(Op::List, path, None, self.check(path, Reach::Parent, &[]), out)?;
                if self.handles.len() + self.opening >= MAX_HANDLES {
                    return Err(too_many_handles());
                }
                self.opening += 1;
                Ok(Waiting::OpenDir(path.to_vec()))
            }
            Request::Resolve { path } if path.is_empty() || path == b"." => Ok(Waiting::Home),
            Request::Resolve { .. } => Ok(Waiting::Other { reply: NAME }),
            Request::Harmless { reply } => Ok(Waiting::Other { reply }),
            Request::SetAttributes { path, attrs } => {
                let (size, note) = (attrs.size.unwrap_or(0), attrs.describe());
                self.change(Op::SetAttributes, path, None, size, note, out)
            }
            Request::SetHandleAttributes { handle, attrs } => self.set_attributes(handle, attrs, out),
            Request::Remove { path } => self.change(Op::Remove, path, None, 0, None, out),
            Request::Rmdir { path } => self.change(Op::Rmdir, path, None, 0, None, out),
            Request::Mkdir { path } => self.change(Op::Mkdir, path, None, 0, None, out),
            Request::Rename { from, to } => self.change(Op::Rename, from, Some(to), 0, None, out),
            Request::Link { from, to } => self.change(Op::Link, from, Some(to), 0, None, out),
            Request::Symlink { first, second } => self.symlink(first, second, out),
            Request::CopyData { from, to, size, at } => self.copy_data(from, to, size, at, out),
            Request::UnknownExtension { name } => Err(self.unknown(name, out)),
            Request::UnknownType { kind } => Err(self.unknown(format!("packet type {kind}").as_bytes(), out)),
        }
    }

    /// Turns a broken rule into a refusal and its event.
    fn judge(
        &self,
        operation: Operation,
        path: &[u8],
        to: Option<&[u8]>,
        rule: Result<(), Why>,
        out: &mut Vec<Step>,
    ) -> Result<(), Refusal> {
        let Err(why) = rule else { return Ok(()) };
        let mut event =
            FileEvent::new(operation, path.get(..crate::transfer::path::MAX_PATH).unwrap_or(path));
        event.to = to.map(|to| String::from_utf8_lossy(to).into_owned());
        event.refused = Some(why.clone().into_owned());
        out.push(Step::Event(event));
        Err(Refusal::denied(&why))
    }

    fn may_change(&self, makes: bool) -> Result<(), Why> {
        match (self.rules.read_only, makes && !self.rules.may_upload) {
            (true, _) => Err(READ_ONLY.into()),
            (false, true) => Err(NO_UPLOAD.into()),
            (false, false) => Ok(()),
        }
    }

    fn open(&mut self, path: &[u8], flags: u32, out: &mut Vec<Step>) -> Result<Waiting, Refusal> {
        let file = File::new(self.rules.numbers.next(), path, flags, &mut self.room);
        let operation = if file.writes { Operation::Upload } else { Operation::Download };
        let rule = match file.writes {
            true => self.may_change(true),
            false if !self.rules.may_download => Err(NO_DOWNLOAD.into()),
            false => Ok(()),
        };
        // Where downloads are refused, so is every read through this handle.
        let reads = file.reads && self.rules.may_download;
        let acts = [file.writes.then_some(CHANGE), reads.then_some(Act::Read)];
        let acts: Vec<Act> = acts.into_iter().flatten().collect();
        let rule = rule.and_then(|()| self.check(path, Reach::Inside, &acts)).and_then(|()| {
            // What is appended comes behind what is there, and how much that is nobody tells.
            match flags & super::wire::FXF_APPEND != 0 && self.rules.by_size() {
                true => Err(APPENDS.into()),
                false => Ok(()),
            }
        });
        self.judge(operation, path, None, rule, out)?;
        if self.handles.len() + self.opening >= MAX_HANDLES {
            return Err(too_many_handles());
        }
        self.opening += 1;
        Ok(Waiting::Open(Box::new(file)))
    }

    fn file(&mut self, handle: &[u8]) -> Option<&mut File> {
        match self.handles.get(handle)? {
            Handle::File(number) => self.files.get_mut(number),
            Handle::Folder => None,
        }
    }

    fn read(
        &mut self,
        handle: &[u8],
        offset: u64,
        size: u32,
        out: &mut Vec<Step>,
    ) -> Result<Waiting, Refusal> {
        let may = self.rules.may_download;
        let file = self.file(handle).filter(|file| file.reads).ok_or_else(no_such_handle)?;
        if !may {
            return Err(refuse_file(file, Operation::Download, NO_DOWNLOAD, out));
        }
        if offset.checked_add(size.into()).is_none() {
            return Err(refuse_file(file, Operation::Download, NOWHERE, out));
        }
        file.in_flight += 1;
        Ok(Waiting::Read { file: file.number, offset, size })
    }

    fn write(
        &mut self,
        handle: &[u8],
        offset: u64,
        size: u32,
        out: &mut Vec<Step>,
    ) -> Result<Waiting, Refusal> {
        let budget = self.rules.max_bytes.clone();
        let end = offset.saturating_add(size.into());
        let grown = self.check_size(handle, end);
        let file = self.file(handle).filter(|file| file.writes).ok_or_else(no_such_handle)?;
        if let Err(why) = grown {
            return Err(refuse_file(file, Operation::Upload, &why, out));
        }
        if offset.checked_add(size.into()).is_none() {
            return Err(refuse_file(file, Operation::Upload, NOWHERE, out));
        }
        file.judged = file.judged.max(end);
        // Once a part was refused the rest would only leave a hole in the file.
        let refused = file.refused.as_deref() == Some(OVER_BUDGET);
        if refused || budget.is_some_and(|budget| !budget.take(size.into())) {
            return Err(refuse_file(file, Operation::Upload, OVER_BUDGET, out));
        }
        file.in_flight += 1;
        let number = file.number;
        self.upload = Some(Body { file: number, offset });
        Ok(Waiting::Write { file: number })
    }

    /// Whether an open file may grow to `end` bytes, where the site's policies look at sizes.
    fn check_size(&self, handle: &[u8], end: u64) -> Result<(), Why> {
        let Some(Handle::File(number)) = self.handles.get(handle) else { return Ok(()) };
        match self.files.get(number) {
            Some(file) if end > file.judged && self.rules.by_size() => {
                self.check(&file.path, Reach::Inside, &[Act::Write { size: end }])
            }
            _ => Ok(()),
        }
    }

    fn change(
        &mut self,
        operation: Operation,
        path: &[u8],
        to: Option<&[u8]>,
        size: u64,
        note: Option<String>,
        out: &mut Vec<Step>,
    ) -> Result<Waiting, Refusal> {
        let makes = matches!(operation, Operation::Mkdir | Operation::Link);
        // A second name is another way to the contents.
        let acts = if to.is_some() { self.any_use() } else { vec![Act::Write { size }] };
        let rule = self
            .may_change(makes)
            .and_then(|()| self.check(path, Reach::Inside, &acts))
            .and_then(|()| to.map_or(Ok(()), |to| self.check_other_name(path, to)));
        self.judge(operation, path, to, rule, out)?;
        Ok(changing(operation, path, to, note))
    }

    fn check_other_name(&self, from: &[u8], to: &[u8]) -> Result<(), Why> {
        self.check(to, Reach::Inside, &[CHANGE])?;
        let home = self.home.as_deref();
        self.rules.check_below((from, home), (to, home))
    }

    fn set_attributes(
        &mut self,
        handle: &[u8],
        attrs: super::wire::Attrs,
        out: &mut Vec<Step>,
    ) -> Result<Waiting, Refusal> {
        let rule = self.may_change(false);
        let file = self.file(handle).ok_or_else(no_such_handle)?;
        let (number, path, written) = (file.number, file.path.clone(), file.up.position());
        let act = Act::Write { size: attrs.size.unwrap_or(0) };
        let rule = rule.and_then(|()| self.check(&path, Reach::Inside, &[act]));
        self.judge(Operation::SetAttributes, &path, None, rule, out)?;
        let Waiting::Change { event, .. } = changing(Operation::SetAttributes, &path, None, attrs.describe())
        else {
            return Err(no_such_handle());
        };
        Ok(Waiting::Change { event, resize: attrs.size.map(|size| (number, size == written)) })
    }

    /// OpenSSH sends "destination, link", the draft says "link, destination". Where the target is not known to be
    /// OpenSSH, both readings have to be allowed.
    fn symlink(&mut self, first: &[u8], second: &[u8], out: &mut Vec<Step>) -> Result<Waiting, Refusal> {
        let (link, to) = if self.openssh { (second, first) } else { (first, second) };
        let mut rule = self.may_change(true).and_then(|()| self.check_symlink(link, to));
        if !self.openssh {
            rule = rule.and_then(|()| self.check_symlink(to, link));
        }
        self.judge(Operation::Symlink, link, Some(to), rule, out)?;
        Ok(changing(Operation::Symlink, link, Some(to), None))
    }

    fn check_symlink(&self, link: &[u8], to: &[u8]) -> Result<(), Why> {
        self.check(link, Reach::Inside, &[CHANGE])?;
        let home = self.home.as_deref();
        let link_path = normalise(link, home);
        let base = link_path.as_deref().map(parent);
        self.rules.check(to, base, Reach::Inside, &self.any_use())?;
        self.rules.check_below((to, base), (link, home))
    }

    /// What can be done with a file by another name that is made for it.
    fn any_use(&self) -> Vec<Act> {
        let mut acts = vec![CHANGE];
        acts.extend(self.rules.may_download.then_some(Act::Read));
        acts
    }

    fn copy_data(
        &mut self,
        from: &[u8],
        to: &[u8],
        size: u64,
        at: u64,
        out: &mut Vec<Step>,
    ) -> Result<Waiting, Refusal> {
        let rule = self.may_change(true);
        let from = self.file(from).filter(|f| f.reads).map(|f| f.path.clone()).ok_or_else(no_such_handle)?;
        let target = self.file(to).filter(|f| f.writes).ok_or_else(no_such_handle)?;
        let (number, path) = (target.number, target.path.clone());
        // How much "to the end" is nobody tells.
        let grows = Act::Write { size: if size == 0 { u64::MAX } else { at.saturating_add(size) } };
        let rule = rule
            .and_then(|()| self.check(&from, Reach::Inside, &[Act::Read]))
            .and_then(|()| self.check(&path, Reach::Inside, &[grows]));
        self.judge(Operation::Copy, &from, Some(&path), rule, out)?;
        if let Some(target) = self.files.get_mut(&number) {
            target.up.spoil("no hash: contents were copied on the target", &mut self.room);
        }
        let note = match size {
            0 => "to the end of the file, on the target".to_owned(),
            size => format!("{size} bytes, on the target"),
        };
        Ok(changing(Operation::Copy, &from, Some(&path), Some(note)))
    }

    fn unknown(&mut self, what: &[u8], out: &mut Vec<Step>) -> Refusal {
        let mut event = FileEvent::new(Operation::Other, b"");
        let what = String::from_utf8_lossy(what.get(..64).unwrap_or(what)).into_owned();
        event.note = Some(what);
        event.refused = Some("the gateway does not know this operation".to_owned());
        out.push(Step::Event(event));
        Refusal { code: FX_OP_UNSUPPORTED, text: "the gateway does not know this operation".to_owned() }
    }
}

fn changing(operation: Operation, path: &[u8], to: Option<&[u8]>, note: Option<String>) -> Waiting {
    let mut event = FileEvent::new(operation, path);
    event.to = to.map(|to| String::from_utf8_lossy(to).into_owned());
    event.note = note;
    Waiting::Change { event: Box::new(event), resize: None }
}

/// Refuses a read or write of an open file; the event comes once per file, however many requests follow.
pub(super) fn refuse_file_event(file: &mut File, operation: Operation, why: &str, out: &mut Vec<Step>) {
    if file.refused.is_none() {
        file.refused = Some(why.to_owned());
        let mut event = FileEvent::new(operation, &file.path);
        event.refused = Some(why.to_owned());
        event.file = Some(file.number);
        out.push(Step::Event(event));
    }
}

fn refuse_file(file: &mut File, operation: Operation, why: &str, out: &mut Vec<Step>) -> Refusal {
    refuse_file_event(file, operation, why, out);
    Refusal::denied(why)
}

/// A handle that the target has not given, or gave for something else. A guess must not pass: the target may take
/// it for a file that was never checked.
fn no_such_handle() -> Refusal {
    Refusal { code: FX_FAILURE, text: "no such handle".to_owned() }
}

fn too_many_handles() -> Refusal {
    Refusal { code: FX_FAILURE, text: "too many open files: close some first".to_owned() }
}
