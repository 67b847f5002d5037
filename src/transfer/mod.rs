//! File transfers inside a session, understood and not only relayed: SFTP, legacy scp and rsync, and what a desktop's target
//! reads and writes on the person's machine.
//!
//! Everything here is sans-IO. An [`Inspector`] is fed what each side sent and answers with [`Step`]s: what may
//! go on to the other side, which file operation happened, which bytes to keep as evidence. It never holds a
//! socket, a file or a clock, and its memory is bounded whatever the peers send. What it emits does not depend on
//! how the bytes were cut into chunks.
//!
//! Paths are checked as text. A symbolic link that already lies on the target can lead out of an allowed folder;
//! only the target's own permissions can prevent that.

pub(crate) mod command;
pub(crate) mod desktop;
pub(crate) mod path;
pub(crate) mod rsync;
pub(crate) mod scp;
pub(crate) mod sftp;
pub(crate) mod site;

mod flow;
#[cfg(test)]
mod peers;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod testing;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;

pub(crate) use path::{PathRules, printable};
pub(crate) use site::SitePolicy;

/// Contents were refused because the window's budget is used up.
const OVER_BUDGET: &str = "the window's limit for file contents is used up: ask for a new window";
/// A change was refused.
const READ_ONLY: &str = "this window allows reading only";

/// What may be done with files on one channel.
#[derive(Debug, Clone)]
pub(crate) struct FileRules {
    /// Nothing on the target may change: no upload, removal, rename, folder, link or attribute.
    pub(crate) read_only: bool,
    /// Files, folders and links may be made or overwritten on the target.
    pub(crate) may_upload: bool,
    /// File contents may be read from the target.
    pub(crate) may_download: bool,
    /// Where on the target.
    pub(crate) paths: PathRules,
    /// Bytes of file contents still allowed, both directions together; shared by all channels of the window.
    /// `None` means no limit.
    pub(crate) max_bytes: Option<Budget>,
    /// Ask the caller to keep a copy of what is uploaded ([`Step::Keep`]).
    pub(crate) keep_uploads: bool,
    /// Numbers for files; shared by all channels of the session.
    pub(crate) numbers: FileNumbers,
    /// The site's own policies on single files.
    pub(crate) site: SitePolicy,
}

/// Numbers that tie a file's kept bytes to its events: unique within a session, and never 0, which stands for no file.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileNumbers(Arc<AtomicU32>);

impl FileNumbers {
    /// One that was not given before.
    pub(crate) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

/// The bytes that are left for file contents; clones count against the same number.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    /// A budget of `left` bytes.
    pub(crate) fn new(left: u64) -> Self {
        Self(Arc::new(AtomicU64::new(left)))
    }

    /// Takes `bytes` if that many are left; takes nothing otherwise.
    #[must_use]
    pub(crate) fn take(&self, bytes: u64) -> bool {
        self.0.try_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes)).is_ok()
    }

    /// Bytes left.
    pub(crate) fn left(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What was done, or tried, with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// Contents went from the person to the target.
    Upload,
    /// Contents went from the target to the person.
    Download,
    /// Contents were copied on the target, without passing here.
    Copy,
    /// A folder was listed.
    List,
    /// Attributes, a link's destination or the file system's figures were asked for.
    Inspect,
    /// A file was removed.
    Remove,
    /// A file or folder got another name.
    Rename,
    /// A folder was made.
    Mkdir,
    /// A folder was removed.
    Rmdir,
    /// Size, owner, mode or times were set.
    SetAttributes,
    /// A symbolic link was made.
    Symlink,
    /// A hard link was made.
    Link,
    /// Something that is none of the above, such as an unknown extension.
    Other,
}

impl Operation {
    /// The stable name, for audit and recording.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Copy => "copy",
            Self::List => "list",
            Self::Inspect => "inspect",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::Mkdir => "mkdir",
            Self::Rmdir => "rmdir",
            Self::SetAttributes => "set-attributes",
            Self::Symlink => "symlink",
            Self::Link => "link",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One file operation, once its outcome is known or the channel is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileEvent {
    /// What was done or tried.
    pub(crate) operation: Operation,
    /// The path as it was sent (invalid UTF-8 replaced). It may hold control characters: show it through
    /// [`printable`].
    pub(crate) path: String,
    /// The second path of a rename, link or copy. For a symbolic link `path` is the link and `to` what it points to.
    pub(crate) to: Option<String>,
    /// Bytes of contents that passed.
    pub(crate) bytes: u64,
    /// Bytes of the whole file, where the protocol tells.
    pub(crate) size: Option<u64>,
    /// SHA-256 over the contents from their first byte on. `None` where there are no contents, or where they did
    /// not pass in order or not as they are; `note` then says why.
    pub(crate) sha256: Option<[u8; 32]>,
    /// The whole file passed and the target confirmed it; `sha256` is then that of the file. rsync confirms nothing:
    /// there it means that the file was sent to its end, the parts that were there already aside.
    pub(crate) whole: bool,
    /// Why the operation was refused here; it did not reach the target, or not all of it did.
    pub(crate) refused: Option<String>,
    /// What the target answered, when that was a failure.
    pub(crate) error: Option<String>,
    /// It is about to go on, and what becomes of it is another event.
    pub(crate) started: bool,
    /// What else a reader of the event should know.
    pub(crate) note: Option<String>,
    /// The number that [`Step::Keep`] used for this file.
    pub(crate) file: Option<u32>,
}

impl FileEvent {
    /// An event without contents, refusal or error.
    pub(crate) fn new(operation: Operation, path: &[u8]) -> Self {
        Self {
            operation,
            path: String::from_utf8_lossy(path).into_owned(),
            to: None,
            bytes: 0,
            size: None,
            sha256: None,
            whole: false,
            refused: None,
            error: None,
            started: false,
            note: None,
            file: None,
        }
    }
}

/// What the caller does next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send to the target.
    ToTarget(Bytes),
    /// Send to the person.
    ToPerson(Bytes),
    /// Record and audit.
    Event(FileEvent),
    /// Keep as evidence, before what follows is sent: contents of upload number `file`, from byte `offset` on.
    Keep {
        /// Unique within the session; the event that ends the upload repeats it.
        file: u32,
        /// Where in the file the bytes belong.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// Note in a running digest, before what follows is sent: contents of which no copy is kept.
    Digest {
        /// An upload or a download.
        operation: Operation,
        /// The bytes.
        data: Bytes,
    },
    /// Close the channel: a protocol violation or a limit. The inspector takes nothing more.
    End {
        /// For the person: what was wrong and what to do.
        say: String,
    },
}

/// Steps that are not recorded yet, in their order. A kill stops whoever records wherever he waits, so that a step leaves this
/// only once it is evidence.
#[derive(Debug, Default)]
pub(crate) struct Unrecorded(VecDeque<Step>);

impl Unrecorded {
    /// One more.
    pub(crate) fn push(&mut self, step: Step) {
        self.0.push_back(step);
    }

    /// The next one, and again until [`Self::recorded`].
    pub(crate) fn first(&self) -> Option<Step> {
        self.0.front().cloned()
    }

    /// The next one has been recorded, or nobody will.
    pub(crate) fn recorded(&mut self) {
        self.0.pop_front();
    }
}

impl Extend<Step> for Unrecorded {
    fn extend<I: IntoIterator<Item = Step>>(&mut self, steps: I) {
        self.0.extend(steps);
    }
}

/// Follows one channel in both directions.
#[allow(clippy::wrong_self_convention, reason = "the sides of a channel, not conversions")]
pub(crate) trait Inspector: Send {
    /// Takes what the person's side sent.
    fn from_person(&mut self, data: Bytes, out: &mut Vec<Step>);
    /// Takes what the target's side sent.
    fn from_target(&mut self, data: Bytes, out: &mut Vec<Step>);
    /// The channel has closed: reports what was still under way.
    fn close(&mut self, out: &mut Vec<Step>);
}
