//! From the target: what it asks of the person's devices.

use bytes::Bytes;

use super::{
    Devices, Handle, Key, MAX_FILES, MAX_WAITING, Passed, Terms, Waiting, path,
    pdu::{self, Kind},
    refusal,
    request::{self, CONTENTS, Create, Request},
    status,
};
use crate::{
    event::Direction,
    files::{Change, Files, Opening, Place},
    rewrite::Broken,
    wire::Reader,
};

const NOT_ONE_FILE: &str = "the path is none that means one file on every machine";

impl Devices {
    pub(super) fn target(
        &mut self,
        packet: u16,
        message: Vec<u8>,
        terms: &mut Terms<'_>,
        passed: &mut Passed,
    ) -> Result<(), Broken> {
        let body = Reader(message.get(4..).unwrap_or_default());
        match packet {
            pdu::SERVER_ANNOUNCE if !terms.frozen => {
                // A new beginning: nothing of the one before holds.
                self.agreed = Default::default();
                self.forget(None, terms.files);
                passed.to_person.push(pdu::version(packet, body)?);
            }
            pdu::SERVER_CAPABILITIES if !terms.frozen && !self.agreed.asked => {
                let allowed = (terms.policy.drives(), terms.policy.printers);
                passed.to_person.push(pdu::capabilities(packet, body, allowed)?);
                self.agreed.asked = true;
            }
            pdu::CLIENT_ID if !terms.frozen && !self.agreed.confirmed => {
                self.agreed.confirmed = true;
                passed.to_person.push(pdu::version(packet, body)?);
                self.tell_logged_on(passed);
            }
            pdu::LOGGED_ON => {
                self.agreed.logged_on = true;
                self.tell_logged_on(passed);
            }
            pdu::DEVICE_REPLY => {
                let mut at = body;
                let (id, result) = at.u32().zip(at.u32()).ok_or(Broken("answer about a device"))?;
                if self.shown.contains_key(&id) {
                    // Yes or no: there is nothing else to say.
                    passed.to_person.push(reply(id, if result == 0 { 0 } else { status::ACCESS_DENIED }));
                }
            }
            pdu::REQUEST => return self.request(message, terms, passed),
            _ => passed.dropped = true,
        }
        Ok(())
    }

    fn request(
        &mut self,
        message: Vec<u8>,
        terms: &mut Terms<'_>,
        passed: &mut Passed,
    ) -> Result<(), Broken> {
        let mut body = Reader(message.get(4..).unwrap_or_default());
        let head = request::head(&mut body).ok_or(Broken("request to a device"))?;
        let key = (head.device, head.completion);
        if self.waiting.contains_key(&key) {
            return Err(Broken("number of a request to a device"));
        }
        let judged = match request::read(&head, message) {
            None => Err(status::INVALID_PARAMETER),
            Some((request, onward)) => {
                let printer = self.shown.get(&head.device).is_some_and(|shown| shown.kind == Kind::Printer);
                let job = printer && matches!(request, Request::Create(_));
                let onward = if job { request::job(&onward) } else { onward };
                self.judge((head.device, head.file), request, &onward, terms).map(|waiting| (waiting, onward))
            }
        };
        match judged {
            Ok((waiting, onward)) => {
                passed.contents_from = matches!(waiting, Waiting::Write { .. }).then_some(CONTENTS);
                self.waiting.insert(key, waiting);
                passed.to_person.push(onward.into());
            }
            Err(status) => passed.to_target.push(refusal(key, status)),
        }
        Ok(())
    }

    /// What to wait for, where the request may go on; else what the target is told.
    fn judge(
        &mut self,
        at: Key,
        request: Request,
        onward: &Bytes,
        terms: &mut Terms<'_>,
    ) -> Result<Waiting, u32> {
        let device = self.shown.get(&at.0).ok_or(status::NO_SUCH_DEVICE)?;
        if let Request::Close = request {
            // Also of a session that is suspended: less is open then.
            let handle = self.handles.remove(&at).ok_or(status::INVALID_HANDLE)?;
            return Ok(Waiting::Close { file: handle.file });
        }
        if terms.frozen {
            return Err(status::ACCESS_DENIED);
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(status::TOO_MUCH);
        }
        let (printer, drive) = (device.kind == Kind::Printer, device.name.clone());
        if let Request::Create(create) = request {
            if self.files() >= MAX_FILES {
                return Err(status::TOO_MUCH);
            }
            return if printer { job(&drive, terms.files) } else { open(&drive, &create, terms.files) };
        }
        let handle = self.handles.get(&at).ok_or(status::INVALID_HANDLE)?;
        match request {
            Request::Write { offset } => write(handle.file, offset, onward, terms.files),
            _ if printer => Err(status::NOT_SUPPORTED),
            request => on_drive(&drive, handle, request, onward, terms.files),
        }
    }

    /// Everything about a device, or about all, is over.
    pub(super) fn forget(&mut self, device: Option<u32>, files: &mut dyn Files) {
        let gone = |id: u32| device.is_none_or(|device| device == id);
        self.shown.retain(|id, _| !gone(*id));
        let over = Err(status::DEVICE_GONE);
        for (_, waiting) in self.waiting.extract_if(|(id, _), _| gone(*id)) {
            match waiting {
                Waiting::Open { file, .. } => files.opened(file, over),
                Waiting::Write { file, .. } => files.taken(file, over),
                Waiting::Change { change, .. } => files.changed(change, over),
                Waiting::Close { file } => files.close(file, over),
                Waiting::Read { .. }
                | Waiting::Look { .. }
                | Waiting::Volume { .. }
                | Waiting::List { .. }
                | Waiting::Lock => {}
            }
        }
        for (_, handle) in self.handles.extract_if(|(id, _), _| gone(*id)) {
            files.close(handle.file, over);
        }
    }
}

/// What the target's side says about a device (2.2.2.1).
pub(super) fn reply(id: u32, result: u32) -> Vec<u8> {
    pdu::message(pdu::DEVICE_REPLY, &[&id.to_le_bytes(), &result.to_le_bytes()])
}

fn open(drive: &str, create: &Create, files: &mut dyn Files) -> Result<Waiting, u32> {
    let path = normal(drive, &create.path, files)?;
    let opening = Opening {
        place: Place::Drive,
        path: &path,
        reads: create.reads,
        writes: create.writes,
        changes: create.changes,
        makes: create.makes,
        empties: create.empties,
        removes: create.removes,
        folder: create.folder,
    };
    let file = files.open(&opening).ok_or(status::ACCESS_DENIED)?;
    Ok(Waiting::Open { file, path })
}

/// A print job: a file that is only written.
fn job(printer: &str, files: &mut dyn Files) -> Result<Waiting, u32> {
    let path = format!("/{printer}/print job");
    let opening = Opening {
        place: Place::Printer,
        path: &path,
        reads: false,
        writes: true,
        changes: false,
        makes: true,
        empties: true,
        removes: false,
        folder: Some(false),
    };
    let file = files.open(&opening).ok_or(status::ACCESS_DENIED)?;
    Ok(Waiting::Open { file, path })
}

fn normal(drive: &str, path: &str, files: &mut dyn Files) -> Result<String, u32> {
    path::normal(drive, path).ok_or_else(|| {
        files.refused(path, NOT_ONE_FILE);
        status::ACCESS_DENIED
    })
}

fn write(file: u32, offset: u64, onward: &Bytes, files: &mut dyn Files) -> Result<Waiting, u32> {
    let data = onward.slice(CONTENTS.min(onward.len())..);
    let len = u32::try_from(data.len()).map_err(|_| status::INVALID_PARAMETER)?;
    let passes = files.pass(file, Direction::ToPerson, offset, &data);
    passes.then_some(Waiting::Write { file, len }).ok_or(status::ACCESS_DENIED)
}

fn on_drive(
    drive: &str,
    handle: &Handle,
    request: Request,
    onward: &Bytes,
    files: &mut dyn Files,
) -> Result<Waiting, u32> {
    let file = handle.file;
    let len = u32::try_from(onward.len().saturating_sub(CONTENTS)).map_err(|_| status::INVALID_PARAMETER)?;
    let change = |files: &mut dyn Files, change: Change<'_>| {
        let change = files.change(file, change).ok_or(status::ACCESS_DENIED)?;
        Ok(Waiting::Change { change, len, renames: None })
    };
    let stands = |files: &mut dyn Files, waiting: Waiting| {
        if files.stands() { Ok(waiting) } else { Err(status::ACCESS_DENIED) }
    };
    match request {
        Request::Read { offset, len } => {
            let passes = files.ask(file, offset.saturating_add(len.into()));
            passes.then_some(Waiting::Read { file, offset, len }).ok_or(status::ACCESS_DENIED)
        }
        Request::Look { class } => stands(files, Waiting::Look { file, class }),
        Request::Volume { class } => stands(files, Waiting::Volume { class }),
        Request::Lock => files.lock(file).then_some(Waiting::Lock).ok_or(status::ACCESS_DENIED),
        Request::List { class, first } => {
            // Clients list the folder that the request names, whichever is open.
            let same = first.as_deref().is_none_or(|asked| {
                path::folder(asked)
                    .and_then(|(folder, _)| path::normal(drive, folder))
                    .is_some_and(|folder| folder == handle.path)
            });
            (same && files.list(file)).then_some(Waiting::List { class }).ok_or(status::ACCESS_DENIED)
        }
        Request::Rename(to) => {
            let to = normal(drive, &to, files)?;
            let change = files.change(file, Change::Rename(&to)).ok_or(status::ACCESS_DENIED)?;
            Ok(Waiting::Change { change, len, renames: Some((file, to)) })
        }
        Request::Remove => change(files, Change::Remove),
        Request::Resize(size) => change(files, Change::Resize(size)),
        Request::Allocate(size) => change(files, Change::Allocate(size)),
        Request::Attributes => change(files, Change::Attributes),
        Request::Create(_) | Request::Close | Request::Write { .. } | Request::Other => {
            Err(status::NOT_SUPPORTED)
        }
    }
}
