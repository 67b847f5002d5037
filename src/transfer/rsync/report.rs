//! What the events say.

use super::follow::{ITEM_HAS_NAME, ITEM_LOCAL, ITEM_NEW, ITEM_TRANSFER, Item};
use super::list::Kind;
use super::{Contents, Halt, RsyncInspector, State, add_note};
use crate::transfer::{FileEvent, Operation, Step};

impl RsyncInspector {
    /// The event of a file whose contents passed. `complete`: to the end.
    pub(super) fn file_event(&self, contents: &Contents, complete: bool) -> FileEvent {
        let (path, other) = match self.listed(contents.index) {
            Some((file, alone)) => {
                let mut paths = self.places.of(file, alone).into_iter();
                (paths.next().unwrap_or_default(), paths.next())
            }
            None => (Vec::new(), None),
        };
        let mut event = FileEvent::new(self.command.operation(), &path);
        event.bytes = contents.bytes;
        event.size = Some(contents.size);
        event.sha256 = contents.digest();
        event.whole = complete;
        event.file = contents.number;
        if let Some(why) = contents.spoilt() {
            add_note(&mut event, why);
        } else if complete && contents.bytes != contents.size {
            add_note(&mut event, &format!("it was listed with {} bytes", contents.size));
        }
        if contents.spoilt().is_some() && contents.number.is_some() {
            add_note(&mut event, "the copy holds what passed");
        }
        if let Some(other) = other {
            add_note(&mut event, &format!("or {}", String::from_utf8_lossy(&other)));
        }
        event
    }

    /// Something happens to a file without contents passing.
    pub(super) fn item(&mut self, item: &Item, out: &mut Vec<Step>) -> Result<(), Box<Halt>> {
        self.check_basis(item)?;
        // Only what changes on the target is of interest, and of what is only tried nothing.
        if !self.upload() || item.flags & ITEM_TRANSFER != 0 || self.options.dry_run() {
            return Ok(());
        }
        let Some((file, _)) = self.listed(item.index) else { return Ok(()) };
        let made = item.flags & (ITEM_NEW | ITEM_LOCAL) != 0;
        let linked = item.flags & ITEM_HAS_NAME != 0 && file.kind != Kind::Folder;
        let (operation, to) = match file.kind {
            _ if linked && made => (Operation::Link, Some(self.places.told(&item.name))),
            Kind::Folder if made => (Operation::Mkdir, None),
            Kind::Link if made => (Operation::Symlink, Some(file.link.to_vec())),
            Kind::File if made => (Operation::Copy, None),
            _ if made => (Operation::Other, None),
            _ => (Operation::SetAttributes, None),
        };
        let path = self.path_of(item.index).unwrap_or_default();
        let mut event = FileEvent::new(operation, &path);
        event.to = to.map(|to| String::from_utf8_lossy(&to).into_owned());
        match operation {
            Operation::Copy => add_note(&mut event, "made from a file on the target"),
            Operation::Other => add_note(&mut event, "a device, a pipe or a socket was made"),
            _ => {}
        }
        self.tell(event, out);
        Ok(())
    }

    /// What is left to say when the channel closes.
    pub(super) fn report(&mut self, out: &mut Vec<Step>) {
        if let Some(current) = self.current.take() {
            let event = self.file_event(&current, false);
            self.tell(event, out);
        }
        let (protocol, complete) = match &self.state {
            State::Followed(follower) => (follower.protocol(), follower.is_done()),
            State::Raw { .. } => (None, false),
        };
        if complete && self.told > 0 && self.error.is_none() && self.refused.is_none() {
            return;
        }
        let mut paths = self.command.paths();
        let mut event = FileEvent::new(self.command.operation(), paths.next().unwrap_or_default().as_bytes());
        for path in paths {
            add_note(&mut event, &format!("also {path}"));
        }
        event.refused.clone_from(&self.refused);
        event.error.clone_from(&self.error);
        match &self.state {
            State::Raw { why, bytes, copy } => {
                event.bytes = *bytes;
                event.file = *copy;
                add_note(
                    &mut event,
                    &format!(
                        "no hash, no single files: the transfer was not followed ({why}); the bytes are those of its stream"
                    ),
                );
            }
            State::Followed(_) if self.options.dry_run() => {
                add_note(&mut event, "a dry run: no contents passed");
            }
            State::Followed(_) if self.told == 0 => add_note(&mut event, "no file was moved"),
            State::Followed(_) => {}
        }
        if let Some(protocol) = protocol {
            add_note(&mut event, &format!("protocol {protocol}"));
        }
        out.push(Step::Event(event));
        if matches!(self.state, State::Raw { .. }) {
            out.extend(self.command.removal().map(Step::Event));
        }
    }
}
