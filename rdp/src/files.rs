//! Files that pass beside the desktop: what the relay asks its caller about them, and tells it.
//!
//! The relay understands the protocols; what is allowed, counted, hashed and kept is the caller's. Whatever a call notes
//! down is due when the watcher hears of [`Event::Files`](crate::Event::Files), before a byte of it goes on.

use std::fmt::Debug;

use bytes::Bytes;

use crate::event::Direction;

/// How a file passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It lies on a drive of the person's machine that the target sees.
    Drive,
    /// It is a job for a printer of the person's machine.
    Printer,
    /// It is on the clipboard of one side, and the other fetches it.
    Clipboard,
}

/// A file or folder that a target wants to open, or one on a clipboard whose contents are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening<'a> {
    /// How it passes.
    pub place: Place,
    /// Where it is, absolute and in normal form: `/DRIVE/FOLDER/FILE`. No name is empty, `.` or `..`, or one that the
    /// person's machine could read as another file's.
    pub path: &'a str,
    /// Its contents, or a folder's names, may be asked for through it.
    pub reads: bool,
    /// Contents may come through it: of a file on the target's clipboard, which are the person's then.
    pub writes: bool,
    /// It may be removed, renamed or get other attributes through it.
    pub changes: bool,
    /// Opening it may make it.
    pub makes: bool,
    /// Opening it leaves nothing of what was in it.
    pub empties: bool,
    /// It goes away when it is closed.
    pub removes: bool,
    /// It has to be a folder (`true`), or must not be one (`false`).
    pub folder: Option<bool>,
}

/// What a target wants to do to an open file, besides reading and writing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Give it this path.
    Rename(&'a str),
    /// Remove it.
    Remove,
    /// Set its size, bytes.
    Resize(u64),
    /// Set how many bytes it has room for; it is cut to them where it is longer.
    Allocate(u64),
    /// Set times or attributes.
    Attributes,
}

/// Decides on files, and follows them. `false` and `None` are refusals, which the relay answers by itself: the person's machine
/// never hears of it, or, where its answer was refused, the target never gets that.
pub trait Files: Debug + Send {
    /// Whether the rules that all this is decided by are still in force: asked for what is about no contents, such as a
    /// device that is shown or a size.
    fn stands(&self) -> bool;
    /// The name of a file on a clipboard is about to be told to the other side, with its size where that is known. What is
    /// refused is not in the list that goes on.
    fn offer(&mut self, opening: &Opening<'_>, size: Option<u64>) -> bool;
    /// A file is to be opened: the number by which it is named from here on.
    fn open(&mut self, opening: &Opening<'_>) -> Option<u32>;
    /// Whether the person's machine opened it; a file that it did not open is over.
    fn opened(&mut self, file: u32, status: Result<(), u32>);
    /// A part of a file is to be locked or let go.
    fn lock(&mut self, file: u32) -> bool;
    /// Names in a folder are asked for.
    fn list(&mut self, file: u32) -> bool;
    /// Contents up to `end` are asked for.
    fn ask(&mut self, file: u32, end: u64) -> bool;
    /// Contents are about to pass.
    fn pass(&mut self, file: u32, direction: Direction, offset: u64, data: &Bytes) -> bool;
    /// What passed to the person was taken, or not.
    fn taken(&mut self, file: u32, status: Result<(), u32>);
    /// The file has no contents from `offset` on.
    fn ends(&mut self, file: u32, offset: u64);
    /// The file has this size, bytes.
    fn size(&mut self, file: u32, size: u64);
    /// The file is to be changed: a number for [`Files::changed`].
    fn change(&mut self, file: u32, change: Change<'_>) -> Option<u32>;
    /// What became of a change.
    fn changed(&mut self, change: u32, status: Result<(), u32>);
    /// The file is closed.
    fn close(&mut self, file: u32, status: Result<(), u32>);
    /// Something was refused before it came to a question: at `path`, as far as it can be shown.
    fn refused(&mut self, path: &str, why: &'static str);
}

/// No files at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn stands(&self) -> bool {
        false
    }
    fn offer(&mut self, _opening: &Opening<'_>, _size: Option<u64>) -> bool {
        false
    }
    fn open(&mut self, _opening: &Opening<'_>) -> Option<u32> {
        None
    }
    fn opened(&mut self, _file: u32, _status: Result<(), u32>) {}
    fn lock(&mut self, _file: u32) -> bool {
        false
    }
    fn list(&mut self, _file: u32) -> bool {
        false
    }
    fn ask(&mut self, _file: u32, _end: u64) -> bool {
        false
    }
    fn pass(&mut self, _file: u32, _direction: Direction, _offset: u64, _data: &Bytes) -> bool {
        false
    }
    fn taken(&mut self, _file: u32, _status: Result<(), u32>) {}
    fn ends(&mut self, _file: u32, _offset: u64) {}
    fn size(&mut self, _file: u32, _size: u64) {}
    fn change(&mut self, _file: u32, _change: Change<'_>) -> Option<u32> {
        None
    }
    fn changed(&mut self, _change: u32, _status: Result<(), u32>) {}
    fn close(&mut self, _file: u32, _status: Result<(), u32>) {}
    fn refused(&mut self, _path: &str, _why: &'static str) {}
}
