//! rsync over SSH (`rsync --server`), as far as a third party can follow it.
//!
//! What is known: the direction, the paths and the options, from the command line, and those are where the rules
//! are enforced, before anything runs; the protocol version; the bytes each way; those error messages of the target
//! that travel in the stream (newer versions write them to standard error instead, unless `--stderr=client` is given).
//!
//! What is not known: which files were sent, and their contents. rsync sends differences against what the other
//! side already has, so that no hash of a file can be taken from the stream, and the list of files is not decoded.
//! One event stands for the whole transfer, and where the rules name paths, everything below the destination has to
//! be allowed. Uploads that are kept are kept as the raw stream.

mod command;
mod messages;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::scp::Refused;
use super::{FileEvent, FileRules, Inspector, Operation, Step};
pub(crate) use command::RsyncCommand;
use messages::Messages;

/// Follows one rsync channel.
pub(crate) struct RsyncInspector {
    command: RsyncCommand,
    rules: FileRules,
    /// The version each side greets with, as far as it has come.
    greeting: Vec<u8>,
    messages: Messages,
    sent: u64,
    received: u64,
    refused: Option<String>,
    ended: bool,
    closed: bool,
}

impl RsyncInspector {
    /// For a command that has not run yet. `home` is the account's home folder, where it is known: without it a
    /// relative path is refused when the rules name paths.
    pub(crate) fn new(
        command: RsyncCommand,
        rules: FileRules,
        home: Option<&[u8]>,
    ) -> Result<Self, Box<Refused>> {
        command.check(&rules, home)?;
        let messages = Messages::new(command.negotiates_compression());
        Ok(Self {
            command,
            rules,
            greeting: Vec::new(),
            messages,
            sent: 0,
            received: 0,
            refused: None,
            ended: false,
            closed: false,
        })
    }

    /// As much of `data` as the budget allows.
    fn within_budget(&self, data: &Bytes) -> Bytes {
        let Some(budget) = &self.rules.max_bytes else { return data.clone() };
        let mut size = data.len();
        while !budget.take(size as u64) {
            size = usize::try_from(budget.left()).unwrap_or(usize::MAX).min(size.saturating_sub(1));
        }
        data.slice(..size)
    }

    fn over_budget(&mut self, out: &mut Vec<Step>) {
        const WHY: &str = "the window's limit for file contents is used up: ask for a new window";
        self.ended = true;
        self.refused = Some(WHY.to_owned());
        out.push(Step::End { say: format!("refused by the gateway: {WHY}") });
    }

    fn event(&self) -> FileEvent {
        let operation = self.command.operation();
        let mut paths = self.command.paths();
        let mut event = FileEvent::new(operation, paths.next().unwrap_or_default().as_bytes());
        let mut note =
            "no hash: rsync sends differences, not whole files; the bytes are those of its stream".to_owned();
        if let Some(version) = self.version() {
            note.push_str(&format!("; protocol {version}"));
        }
        for path in paths {
            note.push_str(&format!("; also {path}"));
        }
        event.bytes = if operation == Operation::Upload { self.sent } else { self.received };
        event.note = Some(note);
        event.refused = self.refused.clone();
        event.error = self.messages.first_error();
        event.file = (operation == Operation::Upload && self.rules.keep_uploads).then_some(0);
        event
    }

    /// The lower of the two versions.
    fn version(&self) -> Option<u32> {
        let theirs = u32::from_le_bytes(*self.greeting.first_chunk()?);
        Some(self.messages.version()?.min(theirs)).filter(|version| (20..=255).contains(version))
    }
}

impl Inspector for RsyncInspector {
    fn from_person(&mut self, data: Bytes, out: &mut Vec<Step>) {
        if self.ended {
            return;
        }
        let upload = self.command.operation() == Operation::Upload;
        let part = if upload { self.within_budget(&data) } else { data.clone() };
        let missing = 4usize.saturating_sub(self.greeting.len()).min(part.len());
        self.greeting.extend_from_slice(part.get(..missing).unwrap_or_default());
        if upload && self.rules.keep_uploads && !part.is_empty() {
            out.push(Step::Keep { file: 0, offset: self.sent, data: part.clone() });
        }
        self.sent += part.len() as u64;
        let short = part.len() < data.len();
        if !part.is_empty() {
            out.push(Step::ToTarget(part));
        }
        if short {
            self.over_budget(out);
        }
    }

    fn from_target(&mut self, data: Bytes, out: &mut Vec<Step>) {
        if self.ended {
            return;
        }
        let upload = self.command.operation() == Operation::Upload;
        let part = if upload { data.clone() } else { self.within_budget(&data) };
        self.messages.feed(&part);
        self.received += part.len() as u64;
        let short = part.len() < data.len();
        if !part.is_empty() {
            out.push(Step::ToPerson(part));
        }
        if short {
            self.over_budget(out);
        }
    }

    fn close(&mut self, out: &mut Vec<Step>) {
        self.ended = true;
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        out.push(Step::Event(self.event()));
        if let Some(event) = self.command.removal() {
            out.push(Step::Event(event));
        }
    }
}
