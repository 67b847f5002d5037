//! Legacy scp (`scp -t`, `scp -f`), as OpenSSH's and PuTTY's clients speak it.
//!
//! One side is the source and sends records (`C` file, `D` folder, `E` end of folder, `T` times, contents); the other
//! is the sink and answers each with 0, or with 1 or 2 and a message. Nobody speaks ahead: what comes next depends
//! on the answer, so a byte out of turn ends the channel.
//!
//! Names that would leave the folder, that hold control characters, or that the person did not ask for end the
//! channel (CVE-2018-20685, CVE-2019-6110, CVE-2019-6111). A file that the rules refuse is skipped in the protocol's
//! own way: both sides get a message and go on with the next.
//!
//! Not known here: whether the path of `scp -t` is a folder. Unless `-d`, a slash at the end or a `D` record says
//! so, the path itself is what is checked and reported, and the name that was sent stands in the note.

mod command;
mod record;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use super::path::{MAX_PATH, Reach};
use super::site::{Act, CHANGE, Why};
use super::{FileEvent, FileRules, Inspector, Operation, Step};
pub(crate) use command::ScpCommand;
use record::Record;

/// Longest record or message.
const MAX_LINE: usize = MAX_PATH + 128;
/// Folders in folders.
const MAX_DEPTH: usize = 256;

/// A transfer that the rules refuse before it starts: do not run the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// For the person.
    pub(crate) say: String,
    /// For the audit.
    pub(crate) event: FileEvent,
}

impl Refused {
    pub(super) fn new(operation: Operation, path: &str, why: &str) -> Self {
        let mut event = FileEvent::new(operation, path.as_bytes());
        event.refused = Some(why.to_owned());
        Self { say: format!("refused by the gateway: {why}"), event }
    }
}

/// Who has to speak, and about what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The sink: ready, or an answer to times or to the end of a folder.
    Answer,
    /// The sink: takes the folder whose path waits in `entering`, or not.
    AnswerFolder,
    /// The sink: takes the file, or not.
    AnswerFile,
    /// The source: a record.
    Record,
    /// The source: contents.
    Contents,
    /// The source: whether the contents were good.
    Status,
    /// The sink: whether it has them.
    AnswerContents,
}

/// The file that is being sent.
struct Current {
    event: FileEvent,
    size: u64,
    hash: Context,
}

/// Follows one scp channel.
pub(crate) struct ScpInspector {
    command: ScpCommand,
    rules: FileRules,
    home: Option<Vec<u8>>,
    turn: Turn,
    line: Vec<u8>,
    /// Folders entered; the paths are not normalised.
    folders: Vec<Vec<u8>>,
    entering: Vec<u8>,
    current: Option<Current>,
    ended: bool,
}

impl ScpInspector {
    /// For a command that has not run yet. `home` is the account's home folder, where it is known: without it a
    /// relative path is refused when the rules name paths.
    pub(crate) fn new(
        command: ScpCommand,
        rules: FileRules,
        home: Option<&[u8]>,
    ) -> Result<Self, Box<Refused>> {
        command.check(&rules, home)?;
        Ok(Self {
            command,
            rules,
            home: home.map(<[u8]>::to_vec),
            turn: Turn::Answer,
            line: Vec::new(),
            folders: Vec::new(),
            entering: Vec::new(),
            current: None,
            ended: false,
        })
    }

    fn operation(&self) -> Operation {
        if self.command.upload { Operation::Upload } else { Operation::Download }
    }

    /// From the source to the sink.
    fn onward(&self, data: Bytes) -> Step {
        if self.command.upload { Step::ToTarget(data) } else { Step::ToPerson(data) }
    }

    /// From the sink to the source.
    fn back(&self, data: Bytes) -> Step {
        if self.command.upload { Step::ToPerson(data) } else { Step::ToTarget(data) }
    }

    fn source(&mut self, mut data: Bytes, out: &mut Vec<Step>) -> Result<(), &'static str> {
        while !data.is_empty() {
            match self.turn {
                Turn::Record => {
                    if let Some(line) = self.take_line(&mut data)? {
                        self.record(line, out)?;
                    }
                }
                Turn::Contents => self.contents(&mut data, out),
                Turn::Status => {
                    if let Some(line) = self.take_answer(&mut data)? {
                        self.status(&line);
                        out.push(self.onward(line.into()));
                        self.turn = Turn::AnswerContents;
                    }
                }
                _ => return Err("spoke out of turn"),
            }
        }
        Ok(())
    }

    fn sink(&mut self, mut data: Bytes, out: &mut Vec<Step>) -> Result<(), &'static str> {
        while !data.is_empty() {
            if matches!(self.turn, Turn::Record | Turn::Contents | Turn::Status) {
                return Err("answered before it was asked");
            }
            let Some(line) = self.take_answer(&mut data)? else { break };
            self.answered(&line, out);
            out.push(self.back(line.into()));
        }
        Ok(())
    }

    /// A line including its end.
    fn take_line(&mut self, data: &mut Bytes) -> Result<Option<Vec<u8>>, &'static str> {
        let end = data.iter().position(|b| *b == b'\n');
        let size = end.map_or(data.len(), |at| at + 1);
        if self.line.len() + size > MAX_LINE {
            return Err("sent a line that is too long");
        }
        self.line.extend_from_slice(&data.split_to(size));
        Ok(end.map(|_| std::mem::take(&mut self.line)))
    }

    /// A zero, or 1 or 2 with a message.
    fn take_answer(&mut self, data: &mut Bytes) -> Result<Option<Vec<u8>>, &'static str> {
        match self.line.first().or(data.first()) {
            Some(0) => Ok(Some(data.split_to(1).to_vec())),
            Some(1 | 2) => self.take_line(data),
            _ if self.turn == Turn::Status => Err("sent more or less than the size it announced"),
            _ => {
                Err("sent an answer that is not scp: a greeting printed by the target's shell breaks scp too")
            }
        }
    }

    fn record(&mut self, line: Vec<u8>, out: &mut Vec<Step>) -> Result<(), &'static str> {
        match Record::read(&line)? {
            Record::Message(text) => {
                let path = self.folders.last().cloned().unwrap_or_else(|| self.command.first_path());
                let mut event = FileEvent::new(self.operation(), &path);
                event.error = Some(text);
                out.push(Step::Event(event));
            }
            Record::Times => self.turn = Turn::Answer,
            Record::End => {
                self.folders.pop().ok_or("ended a folder that it never began")?;
                self.turn = Turn::Answer;
            }
            Record::Folder { name } => {
                if !self.command.recursive {
                    return Err("sent a folder that was not asked for");
                }
                if self.folders.len() >= MAX_DEPTH {
                    return Err("sent too many folders inside each other");
                }
                self.check_asked(name)?;
                let (path, _) = self.path_of(name);
                let operation = if self.command.upload { Operation::Mkdir } else { Operation::List };
                if let Err(why) = self.check_folder(&path, name) {
                    self.refuse(operation, &path, &why, out);
                    return Ok(());
                }
                self.entering = path;
                self.turn = Turn::AnswerFolder;
            }
            Record::File { size, name } => {
                self.check_asked(name)?;
                let (path, note) = self.path_of(name);
                if let Err(why) = self.check_file(&path, name, size) {
                    self.refuse(self.operation(), &path, &why, out);
                    return Ok(());
                }
                let mut event = FileEvent::new(self.operation(), &path);
                event.note = note;
                event.file = Some(self.rules.numbers.next());
                self.current = Some(Current { event, size, hash: Context::new(&SHA256) });
                self.turn = Turn::AnswerFile;
            }
        }
        out.push(self.onward(line.into()));
        Ok(())
    }

    /// What comes first from the target has to be what was asked for.
    fn check_asked(&self, name: &[u8]) -> Result<(), &'static str> {
        if !self.command.upload && self.folders.is_empty() && !self.command.asked_for(name) {
            return Err("sent a file that was not asked for");
        }
        Ok(())
    }

    /// Where `name` lies on the target, and what is not certain about it.
    fn path_of(&self, name: &[u8]) -> (Vec<u8>, Option<String>) {
        if let Some(folder) = self.folders.last() {
            return (join(folder, name), None);
        }
        if !self.command.upload {
            return (self.command.path_asked(name), None);
        }
        let path = self.command.first_path();
        if self.command.is_folder() {
            return (join(&path, name), None);
        }
        let last = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let note = (last != name).then(|| format!("sent as {}", String::from_utf8_lossy(name)));
        (path, note)
    }

    fn check_path(&self, path: &[u8], acts: &[Act]) -> Result<(), Why> {
        self.rules.check(path, self.home.as_deref(), Reach::Inside, acts)
    }

    fn check_folder(&self, path: &[u8], name: &[u8]) -> Result<(), Why> {
        let acts: &[Act] = if self.command.upload { &[CHANGE] } else { &[] };
        self.check_path(path, acts)?;
        // The folder lands inside the path where that exists already.
        if self.command.upload && self.folders.is_empty() {
            self.check_path(&join(path, name), acts)
        } else {
            Ok(())
        }
    }

    fn check_file(&self, path: &[u8], name: &[u8], size: u64) -> Result<(), Why> {
        let act = if self.command.upload { Act::Write { size } } else { Act::Read };
        self.check_path(path, &[act])?;
        // So does the file; the window's patterns are held against the path as it was written.
        if self.command.upload && self.folders.is_empty() && !self.command.is_folder() {
            self.rules.ask(&join(path, name), self.home.as_deref(), act)?;
        }
        match &self.rules.max_bytes {
            Some(budget) if !budget.take(size) => {
                Err("the file is larger than what is left of the window's limit: ask for a new window".into())
            }
            _ => Ok(()),
        }
    }

    /// Tells both sides in the protocol's own words and goes on with the next record.
    fn refuse(&mut self, operation: Operation, path: &[u8], why: &str, out: &mut Vec<Step>) {
        let mut event = FileEvent::new(operation, path);
        event.refused = Some(why.to_owned());
        out.push(Step::Event(event));
        let message = Bytes::from(format!("\u{1}refused by the gateway: {why}\n"));
        out.push(self.back(message.clone()));
        if !self.command.upload {
            out.push(self.onward(message));
        }
    }

    fn contents(&mut self, data: &mut Bytes, out: &mut Vec<Step>) {
        let Some(current) = &mut self.current else {
            self.turn = Turn::Record;
            return;
        };
        let left = current.size - current.event.bytes;
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let part = data.split_to(size);
        current.hash.update(&part);
        let offset = current.event.bytes;
        current.event.bytes += size as u64;
        if current.event.bytes == current.size {
            self.turn = Turn::Status;
        }
        if let (Some(file), true) = (current.event.file, self.rules.keep_uploads && self.command.upload) {
            out.push(Step::Keep { file, offset, data: part.clone() });
        }
        out.push(self.onward(part));
    }

    fn status(&mut self, line: &[u8]) {
        if let (Some(current), Some(error)) = (&mut self.current, message(line)) {
            current.event.error = Some(error);
        }
    }

    fn answered(&mut self, line: &[u8], out: &mut Vec<Step>) {
        let error = message(line);
        let good = error.is_none();
        self.turn = match self.turn {
            Turn::AnswerFolder => {
                let path = std::mem::take(&mut self.entering);
                if self.command.upload {
                    let mut event = FileEvent { error, ..FileEvent::new(Operation::Mkdir, &path) };
                    event.note = Some("unless it was there before".to_owned());
                    out.push(Step::Event(event));
                }
                if good {
                    self.folders.push(path);
                }
                Turn::Record
            }
            Turn::AnswerFile if good => {
                let empty = self.current.as_ref().is_none_or(|current| current.size == 0);
                if empty { Turn::Status } else { Turn::Contents }
            }
            Turn::AnswerFile | Turn::AnswerContents => {
                let whole = self.turn == Turn::AnswerContents && good;
                self.finish(whole, error, out);
                Turn::Record
            }
            _ => Turn::Record,
        };
    }

    fn finish(&mut self, whole: bool, error: Option<String>, out: &mut Vec<Step>) {
        let Some(Current { mut event, hash, .. }) = self.current.take() else { return };
        event.error = event.error.or(error);
        event.whole = whole && event.error.is_none();
        if event.whole || event.bytes > 0 {
            event.sha256 = hash.finish().as_ref().try_into().ok();
        }
        if !event.whole {
            event.note.get_or_insert_with(|| "only a part of the file, or not confirmed".to_owned());
        }
        out.push(Step::Event(event));
    }

    fn end(&mut self, person: bool, what: &str, out: &mut Vec<Step>) {
        self.ended = true;
        let who = if person { "the scp client" } else { "the target's scp" };
        out.push(Step::End { say: format!("{who} {what}: use SFTP if it goes on") });
    }
}

impl Inspector for ScpInspector {
    fn from_person(&mut self, data: Bytes, out: &mut Vec<Step>) {
        if self.ended {
            return;
        }
        let result = if self.command.upload { self.source(data, out) } else { self.sink(data, out) };
        if let Err(what) = result {
            self.end(true, what, out);
        }
    }

    fn from_target(&mut self, data: Bytes, out: &mut Vec<Step>) {
        if self.ended {
            return;
        }
        let result = if self.command.upload { self.sink(data, out) } else { self.source(data, out) };
        if let Err(what) = result {
            self.end(false, what, out);
        }
    }

    fn close(&mut self, out: &mut Vec<Step>) {
        self.ended = true;
        self.finish(false, None, out);
    }
}

fn message(line: &[u8]) -> Option<String> {
    let (first, text) = line.split_first()?;
    (*first != 0).then(|| String::from_utf8_lossy(text).trim_end().chars().take(512).collect())
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = folder.to_vec();
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
