//! What happens in a session, as the recorder keeps it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::header::Hash;

/// One thing that happened. Times are the recorder's (see [`TimedEvent`]).
///
/// Data events may be of any length: the recorder splits them. Texts are cut at 16 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Bytes from the target to the person.
    Output {
        /// The channel's number in this session.
        channel: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Bytes from the target's standard error.
    Stderr {
        /// The channel's number in this session.
        channel: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Bytes from the person to the target.
    Input {
        /// The channel's number in this session.
        channel: u32,
        /// The bytes.
        data: Bytes,
        /// Typed where echo was off: kept under the reveal key, so that ordinary readers see
        /// [`Event::MaskedInput`].
        masked: bool,
    },
    /// Masked input as somebody without the reveal key sees it: that it was typed, and how long it is.
    MaskedInput {
        /// The channel's number in this session.
        channel: u32,
        /// Bytes typed.
        len: u32,
    },
    /// The terminal has a new size; the first one of a channel also says that it has a terminal.
    Resize {
        /// The channel's number in this session.
        channel: u32,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// A message that the gateway showed to the person.
    Notice {
        /// Its text.
        text: String,
    },
    /// The session was suspended.
    Suspend {
        /// By whom: a person's or a trigger's name.
        by: String,
    },
    /// The session goes on.
    Resume {
        /// By whom.
        by: String,
    },
    /// A channel was opened.
    ChannelOpen {
        /// The channel's number in this session.
        channel: u32,
        /// What it is: text or a JSON object. Of `{"what": "exec", "text": …}` the text is searched as a command.
        what: String,
    },
    /// A channel was closed.
    ChannelClose {
        /// The channel's number in this session.
        channel: u32,
        /// The exit status, where the target sent one.
        exit: Option<i32>,
    },
    /// A file operation.
    File(Box<FileOp>),
    /// A stretch of a file's content, kept as evidence.
    FileContent {
        /// The number that [`FileOp::file`] gave the file.
        file: u32,
        /// Where in the file it belongs.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// A forwarded connection, or one that was refused.
    Forward(Box<Forward>),
    /// A detection.
    Finding(Box<Finding>),
    /// A decision of the policy.
    Decision(Box<Decision>),
    /// An operation of an industrial protocol.
    Operation(Box<Operation>),
    /// A stream of which only a digest is kept from some point on.
    StreamDigest(StreamDigest),
    /// A desktop's picture begins anew, black everywhere: all of its tiles follow, then pointer and keyboard as they stand.
    /// Another size than before is a resize.
    KeyFrame {
        /// The channel's number in this session.
        channel: u32,
        /// Pixels in a row.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Tiles of a desktop that changed; [`crate::DesktopScreen`] shows them.
    Tiles {
        /// The channel's number in this session.
        channel: u32,
        /// More of the same frame follows: the picture is whole only after that.
        more: bool,
        /// The tiles, as [`crate::DesktopEncoder`] packs them.
        data: Bytes,
    },
    /// Where the pointer is on a desktop.
    Pointer {
        /// The channel's number in this session.
        channel: u32,
        /// Pixels from the left.
        x: u16,
        /// Pixels from the top.
        y: u16,
        /// The buttons that are down, the first in the lowest bit.
        buttons: u8,
    },
    /// How the pointer looks on a desktop.
    PointerShape {
        /// The channel's number in this session.
        channel: u32,
        /// The shape, as [`crate::DesktopEncoder`] packs it.
        data: Bytes,
    },
    /// The layout by which the keys of a desktop that follow are meant.
    Keyboard {
        /// The channel's number in this session.
        channel: u32,
        /// The layout's number as the client names it, such as 0x409.
        layout: u32,
    },
    /// Something went through a desktop's clipboard, or was kept from it. What it was is masked input.
    Clipboard(Box<Clipboard>),
    /// An entry of the audit log that this recording is tied to.
    AuditAnchor(Box<AuditAnchor>),
    /// The session ended. The recorder writes it when it seals.
    End(Box<End>),
    /// An event of a kind that this program does not know; a reader skips it.
    Unknown {
        /// The kind's number.
        kind: u8,
        /// Bytes of its content.
        len: u32,
    },
}

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedEvent {
    /// Microseconds since 1970, UTC; never earlier than the event before it.
    pub at: i64,
    /// What happened.
    pub event: Event,
}

/// Which way bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the person to the target.
    ToTarget,
    /// From the target to the person.
    ToPerson,
}

/// A file operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOp {
    /// The channel's number in this session.
    pub channel: u32,
    /// The file's number in this session, which ties [`Event::FileContent`] to it; 0 where none of its contents is kept.
    pub file: u32,
    /// `upload`, `download`, `remove`, `rename`, `mkdir`, `list`, `chmod`, …
    pub op: String,
    /// The path on the target.
    pub path: String,
    /// The new path of a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Which way content went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Bytes moved.
    #[serde(default)]
    pub size: u64,
    /// Bytes of the whole file, where the protocol tells: of a file that was there already, rsync moves only what is
    /// different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// SHA-256 of the content, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `started`, `done`, `refused`, `failed`.
    pub outcome: String,
    /// More words, such as the reason of a refusal.
    #[serde(default)]
    pub note: String,
}

/// A forwarded connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The channel's number in this session.
    pub channel: u32,
    /// `local`, `remote`, `dynamic`, `agent`, `x11`, …
    pub kind: String,
    /// Where to.
    pub host: String,
    /// Port there.
    pub port: u32,
    /// Where from, as the client says.
    #[serde(default)]
    pub origin: String,
    /// Why it was refused; absent where it was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A detection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The trigger's name.
    pub trigger: String,
    /// `info`, `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// What was seen, without secrets.
    pub text: String,
    /// What was done about it.
    #[serde(default)]
    pub response: String,
}

/// A decision of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What was asked.
    pub action: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// The policies that decided.
    #[serde(default)]
    pub policies: Vec<String>,
    /// The reasons.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// An operation of an industrial protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The channel's number in this session.
    pub channel: u32,
    /// Which way it went.
    pub direction: Direction,
    /// `modbus`, `s7comm`, …
    pub protocol: String,
    /// What it does, in words.
    pub what: String,
    /// Why it was refused; absent where it was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Something that went through a desktop's clipboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clipboard {
    /// The channel's number in this session.
    pub channel: u32,
    /// Which way it went.
    pub direction: Direction,
    /// `text`, `files`, or the format's name.
    pub format: String,
    /// Bytes of it.
    pub size: u64,
    /// Why it was refused; absent where it was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A running or final digest of one direction of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamDigest {
    /// The channel's number in this session.
    pub channel: u32,
    /// Which way the bytes went.
    pub direction: Direction,
    /// Bytes seen since the channel opened, those kept in full included.
    pub bytes: u64,
    /// SHA-256 over all of them.
    pub sha256: Hash,
    /// From which byte on only the digest is kept.
    pub since: u64,
    /// Whether the stream has ended.
    pub last: bool,
}

/// An entry of the audit log that this recording is tied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnchor {
    /// The entry's number.
    pub entry: u64,
    /// Its hash, hexadecimal.
    pub hash: String,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// `closed`, `idle`, `expired`, `killed`, `policy`, `recorder`, …
    pub reason: String,
    /// By whom, where a person or a trigger did it.
    #[serde(default)]
    pub by: String,
    /// More words.
    #[serde(default)]
    pub note: String,
}

impl End {
    /// An end with only a reason.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), by: String::new(), note: String::new() }
    }
}

impl Event {
    /// The channel that it belongs to, where it belongs to one.
    pub fn channel(&self) -> Option<u32> {
        match self {
            Self::Output { channel, .. }
            | Self::Stderr { channel, .. }
            | Self::Input { channel, .. }
            | Self::MaskedInput { channel, .. }
            | Self::Resize { channel, .. }
            | Self::ChannelOpen { channel, .. }
            | Self::ChannelClose { channel, .. }
            | Self::KeyFrame { channel, .. }
            | Self::Tiles { channel, .. }
            | Self::Pointer { channel, .. }
            | Self::PointerShape { channel, .. }
            | Self::Keyboard { channel, .. } => Some(*channel),
            Self::Clipboard(clipboard) => Some(clipboard.channel),
            Self::File(op) => Some(op.channel),
            Self::Forward(forward) => Some(forward.channel),
            Self::Operation(op) => Some(op.channel),
            Self::StreamDigest(digest) => Some(digest.channel),
            _ => None,
        }
    }

    /// A short name of its kind, as exports use it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Output { .. } => "output",
            Self::Stderr { .. } => "stderr",
            Self::Input { .. } => "input",
            Self::MaskedInput { .. } => "masked_input",
            Self::Resize { .. } => "resize",
            Self::Notice { .. } => "notice",
            Self::Suspend { .. } => "suspend",
            Self::Resume { .. } => "resume",
            Self::ChannelOpen { .. } => "channel_open",
            Self::ChannelClose { .. } => "channel_close",
            Self::File(_) => "file",
            Self::FileContent { .. } => "file_content",
            Self::Forward(_) => "forward",
            Self::Finding(_) => "finding",
            Self::Decision(_) => "decision",
            Self::Operation(_) => "operation",
            Self::StreamDigest(_) => "stream_digest",
            Self::KeyFrame { .. } => "key_frame",
            Self::Tiles { .. } => "tiles",
            Self::Pointer { .. } => "pointer",
            Self::PointerShape { .. } => "pointer_shape",
            Self::Keyboard { .. } => "keyboard",
            Self::Clipboard(_) => "clipboard",
            Self::AuditAnchor(_) => "audit_anchor",
            Self::End(_) => "end",
            Self::Unknown { .. } => "unknown",
        }
    }
}
