//! SFTP version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions, followed in both directions.
//!
//! - The bodies of WRITE and DATA pass on in slices of what came in; every other request is collected up to
//!   64 KiB. An extension or packet type that is not known here is answered with "unsupported" and not passed on.
//! - The client's INIT goes on as version 3 without extensions, so that both ends speak what is checked here.
//! - A refused request is answered here with PERMISSION_DENIED and a reason, at a packet boundary.
//! - An operation becomes an event when the target has answered, a transfer when its handle is closed.
//! - The byte budget is charged when contents pass: a read that would go beyond it is answered with a refusal in
//!   place of the target's data.

mod file;
mod frame;
mod person;
#[cfg(test)]
mod speed;
mod target;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::flow::Room;
use super::path::Reach;
use super::site::{Act, Why};
use super::{FileEvent, FileRules, Inspector, Operation, Step};
use file::File;
use frame::{Framer, Violation};

/// Longest packet that is collected, and the part of a longer answer that is read.
const MAX_COLLECTED: usize = 64 << 10;
/// Longest packet at all.
const MAX_PACKET: u32 = 4 << 20;
/// Open handles.
const MAX_HANDLES: usize = 1024;
/// Requests that the target has not answered yet.
const MAX_WAITING: usize = 4096;
/// Bytes of paths remembered for them.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Follows one SFTP channel.
pub(crate) struct SftpInspector {
    state: State,
    person: Framer,
    target: Framer,
    ended: bool,
}

impl SftpInspector {
    /// For a channel whose first packet has not come yet.
    pub(crate) fn new(rules: FileRules) -> Self {
        Self { state: State::new(rules), person: Framer::default(), target: Framer::default(), ended: false }
    }

    fn end(&mut self, violation: Violation, out: &mut Vec<Step>) {
        self.ended = true;
        out.push(Step::End { say: violation.0 });
    }
}

impl Inspector for SftpInspector {
    fn from_person(&mut self, data: Bytes, out: &mut Vec<Step>) {
        if self.ended {
            return;
        }
        let result = self.person.feed(data, &mut person::PersonSide(&mut self.state), out);
        if self.target.at_boundary() {
            self.state.send_answers(out);
        }
        if let Err(violation) = result {
            self.end(violation, out);
        }
    }

    fn from_target(&mut self, data: Bytes, out: &mut Vec<Step>) {
        if self.ended {
            return;
        }
        if let Err(violation) = self.target.feed(data, &mut target::TargetSide(&mut self.state), out) {
            self.end(violation, out);
        }
    }

    fn close(&mut self, out: &mut Vec<Step>) {
        self.ended = true;
        self.state.close(out);
    }
}

/// How far the greeting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Nothing,
    Init,
    Done,
}

/// What a handle stands for.
#[derive(Debug, Clone, Copy)]
enum Handle {
    File(u32),
    Folder,
}

/// A request that the target has not answered yet.
enum Waiting {
    Open(Box<File>),
    OpenDir(Vec<u8>),
    Read {
        file: u32,
        offset: u64,
        size: u32,
    },
    Write {
        file: u32,
    },
    CloseFile(u32),
    CloseFolder,
    /// FSTAT and its like; the size of `file` is learnt from it.
    LookFile {
        file: u32,
        reply: u8,
    },
    Look {
        path: Vec<u8>,
        reply: u8,
    },
    /// REALPATH of the current folder.
    Home,
    /// The event is complete but for the outcome. `resize`: the file, and whether its new size is what was written.
    Change {
        event: Box<FileEvent>,
        resize: Option<(u32, bool)>,
    },
    Other {
        reply: u8,
    },
}

impl Waiting {
    /// Bytes that it holds on to.
    fn weight(&self) -> usize {
        match self {
            Self::Open(file) => file.path.len(),
            Self::OpenDir(path) | Self::Look { path, .. } => path.len(),
            Self::Change { event, .. } => event.path.len() + event.to.as_ref().map_or(0, String::len),
            _ => 0,
        }
    }
}

/// Bytes that pass behind a head: whose they are, and where they belong.
#[derive(Debug, Clone, Copy)]
struct Body {
    file: u32,
    offset: u64,
}

struct State {
    rules: FileRules,
    greeting: Greeting,
    /// The target is OpenSSH, which swaps the two paths of SYMLINK.
    openssh: bool,
    home: Option<Vec<u8>>,
    handles: HashMap<Vec<u8>, Handle>,
    opening: usize,
    files: HashMap<u32, File>,
    waiting: HashMap<u32, Waiting>,
    weight: usize,
    /// Refusals that wait for a packet boundary.
    answers: VecDeque<Bytes>,
    room: Room,
    upload: Option<Body>,
    download: Option<Body>,
    /// The size that was asked for last, by path: many clients ask just before they open.
    seen_size: Option<(Vec<u8>, u64)>,
}

impl State {
    fn new(rules: FileRules) -> Self {
        Self {
            rules,
            greeting: Greeting::Nothing,
            openssh: false,
            home: None,
            handles: HashMap::new(),
            opening: 0,
            files: HashMap::new(),
            waiting: HashMap::new(),
            weight: 0,
            answers: VecDeque::new(),
            room: Room::default(),
            upload: None,
            download: None,
            seen_size: None,
        }
    }

    /// Whether the rules let `path` be used for `acts`; `Err` is the reason.
    fn check(&self, path: &[u8], want: Reach, acts: &[Act]) -> Result<(), Why> {
        self.rules.check(path, self.home.as_deref(), want, acts)
    }

    fn remember(&mut self, id: u32, waiting: Waiting) -> Result<(), Violation> {
        self.weight += waiting.weight();
        if self.weight > MAX_WAITING_BYTES {
            return Err(Violation::person("too many requests ahead of the target's answers"));
        }
        self.waiting.insert(id, waiting);
        Ok(())
    }

    fn recall(&mut self, id: u32) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.weight = self.weight.saturating_sub(waiting.weight());
        Some(waiting)
    }

    fn answer(&mut self, packet: Bytes) -> Result<(), Violation> {
        if self.answers.len() >= MAX_WAITING {
            return Err(Violation::person("too many requests that were refused"));
        }
        self.answers.push_back(packet);
        Ok(())
    }

    fn has_answers(&self) -> bool {
        self.greeting == Greeting::Done && !self.answers.is_empty()
    }

    fn send_answers(&mut self, out: &mut Vec<Step>) {
        if self.has_answers() {
            out.extend(self.answers.drain(..).map(Step::ToPerson));
        }
    }

    /// Ends a file once its handle is closed and nothing of it is under way.
    fn settle(&mut self, number: u32, out: &mut Vec<Step>) {
        if self.files.get(&number).is_some_and(File::is_settled)
            && let Some(file) = self.files.remove(&number)
        {
            file.finish(&mut self.room, out);
        }
    }

    fn close(&mut self, out: &mut Vec<Step>) {
        const SILENT: &str = "the channel closed before the target answered";
        let mut waiting: Vec<_> = self.waiting.drain().collect();
        waiting.sort_by_key(|(id, _)| *id);
        self.weight = 0;
        for (_, waiting) in waiting {
            let mut event = match waiting {
                Waiting::Change { event, .. } => *event,
                Waiting::Open(file) if file.writes => FileEvent::new(Operation::Upload, &file.path),
                Waiting::Open(file) => FileEvent::new(Operation::Download, &file.path),
                _ => continue,
            };
            event.error = Some(SILENT.to_owned());
            out.push(Step::Event(event));
        }
        let mut files: Vec<File> = self.files.drain().map(|(_, file)| file).collect();
        files.sort_by_key(|file| file.number);
        for file in files {
            file.finish(&mut self.room, out);
        }
        self.handles.clear();
    }
}
