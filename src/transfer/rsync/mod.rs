//! rsync over SSH (`rsync --server`), followed file by file.
//!
//! The command line tells direction, paths and options, and what it asks for is judged before anything runs. Of the
//! stream both directions are read beside the relay: what the sides agree on, the list of files, and for each file
//! what is sent of it. The list is held against the rules before the other side has all of it, so that nothing of a
//! transfer that breaks them is written; and where a file passes whole, its hash and a copy are taken.
//!
//! rsync sends differences against what the other side already has. Where a file does not pass whole, its event says
//! how much of it passed, and has no hash. Some options make the stream one that is not followed here; then one event
//! stands for the whole transfer, and a window that names single paths or limits the bytes refuses it.

mod command;
mod contents;
mod follow;
mod frames;
mod list;
mod options;
mod paths;
mod report;
mod terms;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;

use super::path::{Reach, normalise, parent};
use super::scp::Refused;
use super::site::{Act, CHANGE};
use super::{FileEvent, FileRules, Inspector, OVER_BUDGET, Operation, Step};
pub(crate) use command::{RsyncCommand, without_incremental};
use contents::{Contents, Unpacker};
use follow::{Action, Fault, Follower, Item, Side};
use frames::Message;
use list::{Kind, Listed};
use options::Options;
use paths::Places;

const TOO_LARGE: &str =
    "the file is larger than what is left of the window's limit for file contents: ask for a new window";

const NOT_FOLLOWED: &str =
    "the site's policies look at single files now, and this transfer is not followed: begin again";
const LONGER: &str = "more of it was sent than its size in the list of files says";
const PACKED: &str = "the site's policies look at the size of files, and it is packed by a method that hides it: send it without -z";

/// Follows one rsync channel.
pub(crate) struct RsyncInspector {
    command: RsyncCommand,
    options: Options,
    rules: FileRules,
    home: Option<Vec<u8>>,
    places: Places,
    /// The rules need each file to be known.
    needs_files: bool,
    by_name: bool,
    state: State,
    unpacker: Option<Unpacker>,
    current: Option<Contents>,
    /// Files that were sent once already.
    sent: std::collections::BTreeSet<u32>,
    /// Events of single files.
    told: u64,
    error: Option<String>,
    refused: Option<String>,
    ended: bool,
    closed: bool,
}

enum State {
    Followed(Box<Follower>),
    /// Bytes of the contents' direction that passed since, and the number of the copy of them.
    Raw {
        why: String,
        bytes: u64,
        copy: Option<u32>,
    },
}

/// Why a transfer ends here, and the file it is about.
struct Halt {
    operation: Operation,
    path: Option<Vec<u8>>,
    why: String,
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
        let by_name = command.goes_by_name(&rules, home);
        let needs_files = by_name || rules.max_bytes.is_some();
        let options = command.options();
        if let Some(option) = options.not_followed.as_deref().filter(|_| needs_files) {
            let path = command.paths().next().unwrap_or_default();
            let why = format!(
                "single files are looked at here, or their bytes are limited, and rsync with {option} does not tell \
                 the gateway each file: leave {option} out"
            );
            return Err(Box::new(Refused::new(command.operation(), path, &why)));
        }
        let mut inspector = Self {
            places: Places::new(&command),
            home: home.map(<[u8]>::to_vec),
            needs_files,
            by_name,
            state: State::Followed(Box::new(Follower::new(options.clone()))),
            unpacker: None,
            current: None,
            sent: std::collections::BTreeSet::new(),
            told: 0,
            error: None,
            refused: None,
            ended: false,
            closed: false,
            options,
            command,
            rules,
        };
        if let Some(option) = inspector.options.not_followed.clone() {
            inspector.give_up(format!("rsync with {option}"));
        }
        Ok(inspector)
    }

    fn upload(&self) -> bool {
        self.options.upload
    }

    /// Whether this side sends the contents.
    fn sends(&self, side: Side) -> bool {
        self.upload() == (side == Side::Person)
    }

    fn feed(&mut self, side: Side, data: Bytes, out: &mut Vec<Step>) {
        if self.ended {
            return;
        }
        let mut passed = 0;
        let mut halt = None;
        while passed < data.len() && halt.is_none() {
            let rest = data.slice(passed..);
            let (size, stop) = match &mut self.state {
                State::Raw { .. } => self.raw(side, rest, out),
                State::Followed(follower) => match follower.next(side, &rest) {
                    Ok((size, action)) => {
                        self.followed(side, rest.slice(..size.min(rest.len())), action, out)
                    }
                    Err(fault) => self.lost(side, &rest, fault, out),
                },
            };
            passed += size;
            halt = stop;
        }
        let data = data.slice(..passed);
        if !data.is_empty() {
            out.push(if side == Side::Person { Step::ToTarget(data) } else { Step::ToPerson(data) });
        }
        if let Some(halt) = halt {
            self.halt(halt, out);
        }
    }

    /// `data` belongs together: how much of it may pass, and why nothing after it.
    fn followed(
        &mut self,
        side: Side,
        data: Bytes,
        action: Option<Action>,
        out: &mut Vec<Step>,
    ) -> (usize, Option<Halt>) {
        let allowed = if self.sends(side) { self.charge(data.len()) } else { data.len() };
        if allowed < data.len() {
            if let (Some(Action::Literal), Some(current)) = (&action, &mut self.current) {
                current.plain(&data.slice(..allowed), out);
            }
            return (allowed, Some(self.over_budget()));
        }
        let result = action.map_or(Ok(()), |action| self.act(side, action, &data, out));
        match result {
            Ok(()) => (data.len(), None),
            // All but the last byte had to pass for this to be known.
            Err(halt) => (data.len().saturating_sub(1), Some(*halt)),
        }
    }

    /// As much of a transfer that is not followed as may pass.
    fn raw(&mut self, side: Side, data: Bytes, out: &mut Vec<Step>) -> (usize, Option<Halt>) {
        if self.rules.by_site() {
            // A policy that came while this was under way.
            return (0, Some(self.about(None, NOT_FOLLOWED)));
        }
        if !self.sends(side) {
            return (data.len(), None);
        }
        let allowed = self.charge(data.len());
        if let State::Raw { bytes, copy, .. } = &mut self.state {
            if let Some(file) = *copy {
                out.push(Step::Keep { file, offset: *bytes, data: data.slice(..allowed) });
            }
            *bytes += allowed as u64;
        }
        (allowed, (allowed < data.len()).then(|| self.over_budget()))
    }

    /// The stream is not what the protocol says, or more than is followed. All but the last byte that was read had to
    /// pass for this to be known; what follows passes as it is, or not at all.
    fn lost(&mut self, side: Side, data: &Bytes, fault: Fault, out: &mut Vec<Step>) -> (usize, Option<Halt>) {
        let Fault { after, why } = fault;
        let before = after.saturating_sub(1).min(data.len());
        let allowed = if self.sends(side) { self.charge(before) } else { before };
        if allowed < before {
            return (allowed, Some(self.over_budget()));
        }
        if self.needs_files || self.rules.by_site() {
            let why = format!(
                "single files are looked at here, or their bytes are limited, and the gateway cannot follow this \
                 transfer: {why}"
            );
            return (before, Some(Halt { operation: self.command.operation(), path: None, why }));
        }
        if let Some(current) = self.current.take() {
            let event = self.file_event(&current, false);
            self.tell(event, out);
        }
        self.give_up(why.to_owned());
        (before, None)
    }

    fn give_up(&mut self, why: String) {
        let copy = self.upload().then(|| self.next_copy()).flatten();
        self.state = State::Raw { why, bytes: 0, copy };
    }

    fn next_copy(&self) -> Option<u32> {
        self.rules.keep_uploads.then(|| self.rules.numbers.next())
    }

    /// Takes as much of `size` from the budget as is left.
    fn charge(&self, size: usize) -> usize {
        let Some(budget) = &self.rules.max_bytes else { return size };
        let mut size = size;
        while !budget.take(size as u64) {
            size = usize::try_from(budget.left()).unwrap_or(usize::MAX).min(size.saturating_sub(1));
        }
        size
    }

    fn over_budget(&self) -> Halt {
        self.about(self.current.as_ref().map(|current| current.index), OVER_BUDGET)
    }

    /// Why the transfer ends, with the path of the file it is about.
    fn about(&self, index: Option<u32>, why: &str) -> Halt {
        let path = index.and_then(|index| self.path_of(index));
        Halt { operation: self.command.operation(), path, why: why.to_owned() }
    }

    fn halt(&mut self, halt: Halt, out: &mut Vec<Step>) {
        let Halt { operation, path, why } = halt;
        self.ended = true;
        self.refused = Some(why.clone());
        if let Some(path) = path {
            let mut event = match self.current.take() {
                Some(current) => self.file_event(&current, false),
                None => FileEvent::new(operation, &path),
            };
            event.refused = Some(why.clone());
            self.tell(event, out);
            // The event has said it.
            self.refused = None;
            let path = super::printable(&String::from_utf8_lossy(&path));
            out.push(Step::End { say: format!("refused by the gateway: {path}: {why}") });
        } else {
            out.push(Step::End { say: format!("refused by the gateway: {why}") });
        }
    }

    fn act(
        &mut self,
        side: Side,
        action: Action,
        data: &Bytes,
        out: &mut Vec<Step>,
    ) -> Result<(), Box<Halt>> {
        match action {
            Action::Listed => self.check_listed()?,
            Action::ListEnd => {}
            Action::Match => {
                if let Some(current) = &mut self.current {
                    current.matched = true;
                }
            }
            Action::Item(item) => self.item(&item, out)?,
            Action::Begin { item, fresh } => self.begin(&item, fresh)?,
            Action::Literal => {
                if let Some(current) = &mut self.current {
                    current.plain(data, out);
                }
                self.check_longer()?;
            }
            Action::Packed { first } => self.packed(data, first, out)?,
            Action::End => self.end(out)?,
            Action::Message(message) => self.message(side, message, out),
        }
        Ok(())
    }

    /// Holds the list's last entry against the rules.
    fn check_listed(&self) -> Result<(), Box<Halt>> {
        let State::Followed(follower) = &self.state else { return Ok(()) };
        match follower.list().last().filter(|_| self.rules.by_path()) {
            Some(file) => self.check_file(file),
            None => Ok(()),
        }
    }

    fn check_file(&self, file: Listed<'_>) -> Result<(), Box<Halt>> {
        let acts: &[Act] = match (self.upload(), file.kind) {
            (true, Kind::File) => &[Act::Write { size: file.size }],
            (true, _) => &[CHANGE],
            (false, Kind::Folder) => &[],
            (false, _) => &[Act::Read],
        };
        let refuse = |path: &[u8], why: &str| {
            let operation = self.command.operation();
            Err(Box::new(Halt { operation, path: Some(path.to_vec()), why: why.to_owned() }))
        };
        let each = self.by_name || self.rules.by_site();
        for path in self.places.of(file, false).iter().filter(|_| each) {
            // A folder that is only looked through on the way down is not itself read.
            let want = match file.kind {
                Kind::Folder if !self.upload() => Reach::Ancestor,
                _ => Reach::Inside,
            };
            if let Err(why) = self.rules.check(path, self.home.as_deref(), want, acts) {
                return refuse(path, &why);
            }
        }
        if self.upload() && file.kind == Kind::Link {
            let path = self.places.told(file.name);
            let folder = normalise(&path, self.home.as_deref());
            let acts = &[CHANGE, Act::Read];
            if self.rules.check(file.link, folder.as_deref().map(parent), Reach::Inside, acts).is_err() {
                return refuse(&path, "the link leads outside what may be used here");
            }
        }
        Ok(())
    }

    fn begin(&mut self, item: &Item, fresh: bool) -> Result<(), Box<Halt>> {
        let State::Followed(follower) = &self.state else { return Ok(()) };
        let packed = follower.packed();
        let size = follower.list().get(item.index).map_or(0, |file| file.size);
        self.check_basis(item)?;
        // The site's policies may have changed since the list came.
        if let Some(file) = follower.list().get(item.index).filter(|_| self.rules.by_site()) {
            self.check_file(file)?;
        }
        let left = self.rules.max_bytes.as_ref().map(super::Budget::left);
        if fresh && left.is_some_and(|left| left < size) {
            return Err(Box::new(self.about(Some(item.index), TOO_LARGE)));
        }
        let unpacker = self.unpacker.get_or_insert_with(|| Unpacker::new(packed));
        if matches!(unpacker, Unpacker::Not(_)) && self.rules.by_size() {
            return Err(Box::new(self.about(Some(item.index), PACKED)));
        }
        let spoilt = match unpacker {
            Unpacker::Not(why) => Some(*why),
            _ => (self.options.append && !fresh)
                .then_some("no hash: the contents were appended to what was there"),
        };
        let number = self.upload().then(|| self.next_copy()).flatten();
        self.current = Some(Contents::new(item.index, size, number, spoilt));
        Ok(())
    }

    /// The receiver opens what the sender names as the file to start from.
    fn check_basis(&self, item: &Item) -> Result<(), Box<Halt>> {
        let names = item.basis.is_some() && !item.name.is_empty();
        let leaves = item.name.contains(&b'/') || item.name == b"..";
        if names && leaves && self.upload() && self.rules.by_path() {
            return Err(Box::new(self.about(
                Some(item.index),
                "it is to be made from a file in another folder, and single files are looked at here",
            )));
        }
        Ok(())
    }

    fn packed(&mut self, data: &Bytes, first: bool, out: &mut Vec<Step>) -> Result<(), Box<Halt>> {
        let (Some(current), Some(unpacker)) = (&mut self.current, &mut self.unpacker) else { return Ok(()) };
        let index = current.index;
        // What is behind, at most one run, has passed.
        let more = current.bytes.saturating_sub(current.packed);
        if first && self.rules.max_bytes.as_ref().is_some_and(|budget| budget.left() < more) {
            return Err(Box::new(self.over_budget()));
        }
        if current.packed(data, first, unpacker, out).is_err() && current.number.is_some() {
            return Err(Box::new(self.about(
                Some(index),
                "it is packed too tightly for a copy of it to be kept: send it without -z",
            )));
        }
        self.check_longer()
    }

    /// The list told the size that the site's policies were asked for.
    fn check_longer(&self) -> Result<(), Box<Halt>> {
        match &self.current {
            Some(current) if self.upload() && current.bytes > current.size && self.rules.by_size() => {
                Err(Box::new(self.about(Some(current.index), LONGER)))
            }
            _ => Ok(()),
        }
    }

    /// A file has passed.
    fn end(&mut self, out: &mut Vec<Step>) -> Result<(), Box<Halt>> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let reads = self.unpacker.as_ref().is_some_and(Unpacker::reads);
        let contents = if reads { current.bytes } else { current.size };
        // The limit is for contents, and what passed was less.
        let more = contents.saturating_sub(current.packed);
        if self.rules.max_bytes.as_ref().is_some_and(|budget| more > 0 && !budget.take(more)) {
            let halt = self.about(Some(current.index), OVER_BUDGET);
            self.current = Some(current);
            return Err(Box::new(halt));
        }
        let mut event = self.file_event(&current, true);
        if !self.sent.insert(current.index) {
            add_note(&mut event, "sent again: what passed before did not arrive as it should");
        }
        self.tell(event, out);
        Ok(())
    }

    fn tell(&mut self, event: FileEvent, out: &mut Vec<Step>) {
        self.told += 1;
        out.push(Step::Event(event));
    }

    /// The file that both sides mean by `index`.
    fn listed(&self, index: u32) -> Option<(Listed<'_>, bool)> {
        let State::Followed(follower) = &self.state else { return None };
        follower.list().get(index).map(|file| (file, follower.list().len() == 1))
    }

    /// The likeliest path of a listed file.
    fn path_of(&self, index: u32) -> Option<Vec<u8>> {
        let (file, alone) = self.listed(index)?;
        self.places.of(file, alone).into_iter().next()
    }

    fn message(&mut self, side: Side, message: Message, out: &mut Vec<Step>) {
        match message {
            Message::Error(text) if side == Side::Target => {
                self.error.get_or_insert(text);
            }
            Message::Deleted { path, folder } if side == Side::Target && self.upload() => {
                let operation = if folder { Operation::Rmdir } else { Operation::Remove };
                let event = FileEvent::new(operation, &self.places.told(&path));
                self.tell(event, out);
            }
            Message::Arrived(index) if side == Side::Person && self.command.removes_source() => {
                if let Some(path) = self.path_of(index) {
                    let mut event = FileEvent::new(Operation::Remove, &path);
                    add_note(&mut event, "removed because it was sent");
                    self.tell(event, out);
                }
            }
            _ => {}
        }
    }
}

/// Adds to what a reader of `event` should know.
fn add_note(event: &mut FileEvent, note: &str) {
    match &mut event.note {
        Some(before) => {
            before.push_str("; ");
            before.push_str(note);
        }
        None => event.note = Some(note.to_owned()),
    }
}

impl Inspector for RsyncInspector {
    fn from_person(&mut self, data: Bytes, out: &mut Vec<Step>) {
        self.feed(Side::Person, data, out);
    }

    fn from_target(&mut self, data: Bytes, out: &mut Vec<Step>) {
        self.feed(Side::Target, data, out);
    }

    fn close(&mut self, out: &mut Vec<Step>) {
        self.ended = true;
        if !std::mem::replace(&mut self.closed, true) {
            self.report(out);
        }
    }
}
