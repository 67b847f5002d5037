//! Session recordings that can be trusted.
//!
//! - [`RecorderService`] and [`SessionRecorder`] write: what a session does goes into a queue bounded
//!   in bytes before it goes anywhere else, and is durable within the second.
//! - [`Recording`] reads: unlock with an age identity, seek, stream, follow. For players: [`View`] with its screen at any
//!   time, [`export_asciicast`] from any time on, [`marks()`] and [`lines()`] with their times, [`Live`] for a session that
//!   goes on.
//!   Of a desktop: [`DesktopPlayer`] with its [`DesktopScreen`] at any time; [`DesktopEncoder`] makes what it shows.
//! - [`Uploader`] brings what is sealed to an object store, and [`Archive`] gets it back.
//! - [`verify()`] proves a recording with the server's public key alone.
//!
//! The format is described in `docs/recording-format.md`.
//!
//! Invariant: what was accepted is written or the session is told that it stopped.
//! Invariant: no byte of a file is trusted by a reader; lengths are held against the format's limits.
//! Invariant: masked input never stands in a buffer that ordinary readers' keys open.

mod cast;
mod catalogue;
mod chain;
mod codec;
mod crypt;
mod desktop;
mod error;
mod event;
mod export;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod header;
mod index;
mod keeper;
mod keys;
mod lines;
mod live;
mod marks;
mod player;
mod read;
mod reindex;
mod remote;
mod render;
mod retention;
mod search;
mod segment;
mod sign;
mod storage;
mod verify;
mod view;
mod wire;
mod writer;

pub use cast::{CastCode, CastEvent, CastLines, CastVersion};
pub use desktop::{
    Changed, ClipboardText, DesktopEncoder, DesktopPlayer, DesktopReader, DesktopScreen, DesktopStream, Key,
    MAX_AREA, MAX_SIDE, OcrLimits, OcrRead, Order, Pixels, Pointed, TILE, Typed, Unread, VideoOptions,
    export_still, export_video, typed,
};
pub use error::{ReadError, RecordError, RecorderStopped};
pub use event::{
    AuditAnchor, Clipboard, Decision, Direction, End, Event, FileOp, Finding, Forward, Operation,
    StreamDigest, TimedEvent,
};
pub use export::{
    BundleParts, BundleReport, CastOptions, ExtractedFile, export_asciicast, export_files, export_jsonl,
    export_transcript, verify_bundle, write_bundle,
};
pub use header::{Hash, Header, RecordingId};
pub use index::{build_index, screen_at};
pub use keeper::StreamKeeper;
pub use keys::{Identity, Recipient, Recipients};
pub use lines::{LineKind, TextLine};
pub use live::{Followed, Joined, Live, LiveEvent, LiveNext};
pub use marks::{Lines, lines, marks};
pub use player::{Player, Step};
pub use read::{Events, Found, Listed, Next, Recording, list, recipients_of, rewrap};
pub use reindex::{Reindexed, reindex};
pub use remote::{
    Archive, Archived, Jitter, RemoteError, RemoteStore, Round, S3Settings, UploadConfig, Uploader,
    UploaderThread,
};
pub use render::Screen;
pub use retention::{DeleteError, bury, delete, disk_use, hold, hold_of, lift_hold};
pub use search::{Hit, Kinds, Query, Searched, search, search_recording};
pub use sign::{CheckpointSigner, SignElsewhere, VerifyingKey};
pub use storage::{LocalFolder, SpoolFile, Storage};
pub use verify::{Anchor, Problem, ProblemKind, Report, verify};
pub use view::View;
pub use writer::{
    Backlog, Checkpoint, CheckpointHook, Clock, Health, RecorderConfig, RecorderService, Recovered,
    RecoveryOutcome, SealInfo, Sealed, SessionRecorder, Status,
};
