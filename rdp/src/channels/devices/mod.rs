//! Drives and printers of the person's machine (MS-RDPEFS, MS-RDPEPC). Every message is read whole and written anew, devices
//! of other types are never shown to the target, and each file is the caller's to decide on ([`Files`]). What is refused
//! is answered here, so that neither side waits.

mod answer;
pub(super) mod path;
mod pdu;
mod person;
mod request;
mod target;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::{ChannelPolicy, chunks::Partial};
use crate::{
    event::{Direction, Event},
    files::Files,
    rewrite::Broken,
    wire::Reader,
};
use pdu::Kind;

/// The longest message: what is read or written at once, and its head.
const LIMIT: usize = 4 * 1024 * 1024;
/// Most devices that a target sees.
const MAX_DEVICES: usize = 16;
/// Most files that are open or about to be.
const MAX_FILES: usize = 512;
/// Most questions of a target that wait for the person's machine.
const MAX_WAITING: usize = 512;

/// `NTSTATUS`: what a target is told.
mod status {
    pub(super) const INVALID_HANDLE: u32 = 0xc000_0008;
    pub(super) const INVALID_PARAMETER: u32 = 0xc000_000d;
    pub(super) const NO_SUCH_DEVICE: u32 = 0xc000_000e;
    pub(super) const END_OF_FILE: u32 = 0xc000_0011;
    pub(super) const ACCESS_DENIED: u32 = 0xc000_0022;
    pub(super) const TOO_MUCH: u32 = 0xc000_009a;
    pub(super) const NOT_SUPPORTED: u32 = 0xc000_00bb;
    pub(super) const DEVICE_GONE: u32 = 0xc000_02b6;
}

/// What becomes of one message.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Told before anything is sent.
    pub(crate) events: Vec<Event>,
    /// Messages that go to the person.
    pub(crate) to_person: Vec<Vec<u8>>,
    /// Messages that go to the target.
    pub(crate) to_target: Vec<Vec<u8>>,
    /// Where the contents of a file begin in the one message that has any: those have been told to [`Files`].
    pub(crate) contents_from: Option<usize>,
    /// Something was taken out.
    pub(crate) dropped: bool,
}

/// What is allowed while a message is looked at.
pub(crate) struct Terms<'a> {
    /// What may pass at all.
    pub(crate) policy: &'a ChannelPolicy,
    /// Nothing may pass for now.
    pub(crate) frozen: bool,
    /// Who decides on files.
    pub(crate) files: &'a mut dyn Files,
}

/// How far both sides have agreed (MS-RDPEFS 1.3.1).
#[derive(Debug, Default)]
struct Agreed {
    /// The target asked for capabilities.
    asked: bool,
    /// The person's machine has answered that.
    answered: bool,
    /// The person's machine has said which version it speaks.
    known: bool,
    /// The person's machine has said its name.
    named: bool,
    /// The target has confirmed the person's machine.
    confirmed: bool,
    /// The target says that somebody is logged on; that waits until all else is agreed, which some targets do not do.
    logged_on: bool,
}

/// A device that the target sees.
#[derive(Debug)]
struct Shown {
    kind: Kind,
    name: String,
}

/// An open file.
#[derive(Debug)]
struct Handle {
    file: u32,
    path: String,
}

/// What the person's machine was asked.
#[derive(Debug)]
enum Waiting {
    Open {
        file: u32,
        path: String,
    },
    Read {
        file: u32,
        offset: u64,
        len: u32,
    },
    Write {
        file: u32,
        len: u32,
    },
    Look {
        file: u32,
        class: u32,
    },
    /// The drive's figures, which say nothing of a file.
    Volume {
        class: u32,
    },
    List {
        class: u32,
    },
    Change {
        change: u32,
        /// Bytes that say what it is to be.
        len: u32,
        /// The file that then has another path.
        renames: Option<(u32, String)>,
    },
    Close {
        file: u32,
    },
    Lock,
}

/// A device, and a file or a question of it.
type Key = (u32, u32);

/// The devices of a session.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    from_person: Partial<LIMIT>,
    from_target: Partial<LIMIT>,
    agreed: Agreed,
    shown: HashMap<u32, Shown>,
    handles: HashMap<Key, Handle>,
    waiting: HashMap<Key, Waiting>,
}

impl Devices {
    /// A chunk from one side.
    pub(crate) fn chunk(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        terms: &mut Terms<'_>,
    ) -> Result<Passed, Broken> {
        let partial = match direction {
            Direction::ToTarget => &mut self.from_person,
            Direction::ToPerson => &mut self.from_target,
        };
        match partial.add(bytes)? {
            Some(message) => self.message(direction, message, terms),
            None => Ok(Passed::default()),
        }
    }

    /// A whole message from one side.
    pub(crate) fn message(
        &mut self,
        direction: Direction,
        message: Vec<u8>,
        terms: &mut Terms<'_>,
    ) -> Result<Passed, Broken> {
        let mut body = Reader(&message);
        let (component, packet) = body.u16().zip(body.u16()).ok_or(Broken("device redirection"))?;
        let mut passed = Passed::default();
        if component != pdu::CORE {
            // Settings of printers that a target would keep on the person's machine.
            passed.dropped = true;
            return Ok(passed);
        }
        match direction {
            Direction::ToTarget => self.person(packet, &message, terms, &mut passed)?,
            Direction::ToPerson => self.target(packet, message, terms, &mut passed)?,
        }
        Ok(passed)
    }

    /// Files that are open or about to be.
    fn files(&self) -> usize {
        let opening = self.waiting.values().filter(|waiting| matches!(waiting, Waiting::Open { .. }));
        self.handles.len() + opening.count()
    }

    /// That somebody is logged on is told when all else is agreed.
    fn tell_logged_on(&mut self, passed: &mut Passed) {
        let agreed = &mut self.agreed;
        if agreed.logged_on && agreed.answered && agreed.confirmed {
            agreed.logged_on = false;
            passed.to_person.push(pdu::message(pdu::LOGGED_ON, &[]));
        }
    }
}

impl ChannelPolicy {
    /// Whether drives may be shown at all.
    pub(crate) fn drives(&self) -> bool {
        self.drives_to_target || self.drives_to_person
    }
}

/// An answer to a target (2.2.1.5): a head, and what its kind says.
fn completion((device, completion): Key, status: u32, body: &[&[u8]]) -> Vec<u8> {
    let head = [device.to_le_bytes(), completion.to_le_bytes(), status.to_le_bytes()].concat();
    pdu::message(pdu::COMPLETION, &[&head, &body.concat()])
}

/// An answer that is no: as long as a client's own.
fn refusal(key: Key, status: u32) -> Vec<u8> {
    completion(key, status, &[&[0; 5]])
}
