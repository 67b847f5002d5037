//! What the relay reports, and what it is told.

use async_trait::async_trait;
use bytes::Bytes;

use crate::banner::Area;

/// Something that happened in a session, reported before any byte of it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The person's machine, as it describes itself when it connects.
    Client(Client),
    /// The desktop is there, for the first time or again after its size changed. What is drawn from here on has this size.
    Activated(Activation),
    /// A key went down or up.
    Key(Key),
    /// A character without a key (from a touch keyboard or an input method). `down` as for keys.
    Character {
        /// The UTF-16 unit.
        unit: u16,
        /// Pressed, not released.
        down: bool,
    },
    /// The pointer moved, or one of its buttons or wheels did.
    Pointer(Pointer),
    /// The lock keys, as the client says they are: scroll 1, num 2, caps 4, kana 8.
    Locks(u8),
    /// Text was put on the clipboard of the other side.
    ClipboardText {
        /// To the target or to the person.
        direction: Direction,
        /// The text.
        text: String,
    },
    /// Files are on the clipboard of the other side: their names, and nothing of what is in them.
    ClipboardFiles {
        /// To the target or to the person.
        direction: Direction,
        /// Where each is, as [`Opening::path`](crate::Opening::path) says it.
        paths: Vec<String>,
    },
    /// Something was decided on files, or happened to them, that [`Files`](crate::Files) noted down.
    Files,
    /// A message about devices, or about files on a clipboard, is about to go on: without the contents of files, and without names
    /// that [`Event::ClipboardFiles`] has.
    DeviceMessage {
        /// Which way.
        direction: Direction,
        /// All of it; of one with contents of a file what is before them.
        bytes: Bytes,
    },
    /// A device of the person's machine is shown to the target.
    DeviceShown {
        /// `drive` or `printer`.
        kind: &'static str,
        /// Its name, printable characters only.
        name: String,
    },
    /// A device of the person's machine is not shown to the target.
    DeviceRefused {
        /// Such as `drive` or `smart card`.
        kind: &'static str,
        /// Its name, printable characters only.
        name: String,
    },
    /// A static or dynamic channel was asked for and is not allowed. Once for each.
    ChannelRefused {
        /// Its name, printable characters only.
        name: String,
    },
    /// Something that must not pass was taken out. Once for each kind.
    Dropped(Dropped),
    /// The target's own reason for an end (MS-RDPBCGR 2.2.5.1.1), which the person sees too.
    TargetSays {
        /// The code on the wire.
        code: u32,
    },
    /// The target's message at log-on (MS-RDPBCGR 2.2.10.1.1.4.1.1), such as a refused password.
    LogOnMessage {
        /// `ErrorNotificationType`.
        kind: u32,
        /// `ErrorNotificationData`.
        data: u32,
    },
    /// The target says that somebody is logged on.
    LoggedOn,
    /// Sound of the target begins to be played at the person's, in another format than before, or is over.
    Sound {
        /// What it is; `None` once it is over.
        plays: Option<SoundFormat>,
        /// Bytes that have been played, once it is over.
        bytes: u64,
    },
}

/// A format of sound (MS-RDPEA 2.2.2.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoundFormat {
    /// `wFormatTag`: 1 is PCM.
    pub tag: u16,
    /// 1 is mono, 2 stereo.
    pub channels: u16,
    /// Samples a second.
    pub rate: u32,
    /// Bits of a sample.
    pub bits: u16,
}

impl Event {
    /// Whether a person did this with their hands: what counts against idle time. Movement of the pointer does.
    #[must_use]
    pub fn is_human(&self) -> bool {
        matches!(self, Self::Key(_) | Self::Character { .. } | Self::Pointer(_))
    }
}

/// The person's machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Its name for itself.
    pub name: String,
    /// Windows keyboard layout identifier, such as 0x0409.
    pub keyboard_layout: u32,
    /// Build number of the client.
    pub build: u32,
    /// Desktop size asked for.
    pub width: u16,
    /// Desktop size asked for.
    pub height: u16,
}

/// A desktop that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// MCS channel of the desktop itself.
    pub io_channel: u16,
    /// MCS channel of the dynamic channels, when there is one.
    pub drdynvc_channel: Option<u16>,
    /// The person's MCS user.
    pub user_channel: u16,
    /// The share's identifier.
    pub share_id: u32,
    /// The capabilities as the target was told them, a whole Confirm Active PDU from its share control header on.
    pub confirm_active: Bytes,
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Scan code, set 1.
    pub code: u8,
    /// With the prefix E0.
    pub extended: bool,
    /// With the prefix E1.
    pub extended1: bool,
    /// Pressed, not released.
    pub down: bool,
}

/// The pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// Position, or the distance where `relative`.
    pub x: u16,
    /// Position, or the distance where `relative`.
    pub y: u16,
    /// `PTRFLAGS` as on the wire (MS-RDPBCGR 2.2.8.1.1.3.1.1.3): 0x8000 down, 0x1000 left, 0x2000 right, 0x4000 middle,
    /// 0x0800 move, 0x0200 wheel, 0x0400 horizontal wheel, 0x0100 negative, low byte the turn. Of an extended event 1 and 2
    /// are the fourth and fifth button.
    pub flags: u16,
    /// One of the extended buttons.
    pub extended: bool,
    /// A relative movement.
    pub relative: bool,
}

/// Which way something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the person to the target.
    ToTarget,
    /// From the target to the person.
    ToPerson,
}

/// What was taken out of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// Drawing orders, which were not negotiated and which no recording shows; the person does not see them either.
    DrawingOrders,
    /// An update or a data PDU of a type that is not let through.
    UnknownPdu,
    /// What is not on the desktop itself or was not offered: of the graphics pipeline; or bitmaps beside it, which clients need
    /// not show.
    BesidePipeline,
    /// The cookie with which a client logs on again without a proof.
    ReconnectCookie,
    /// A request to go beside this connection by UDP.
    Multitransport,
    /// A request to draw nothing while the window is hidden: the recording goes on.
    SuppressOutput,
    /// Clipboard content of a kind, or in a direction, that is not allowed.
    ClipboardContent,
    /// A message about devices that is not understood, or not due.
    DeviceMessage,
    /// A message about sound that is not understood, not due, or of sound that would go by UDP.
    Sound,
    /// Data on a channel that is not allowed or does not exist.
    ChannelData,
}

/// What of the target may draw, whole, as the person gets it.
#[derive(Debug, Clone)]
pub enum ScreenPdu {
    /// A fast-path PDU, or a slow-path share PDU inside its MCS envelope.
    Desktop(Bytes),
    /// PDUs of the graphics pipeline (MS-RDPEGFX 2.2.2), one behind the other, not packed.
    Pipeline(Bytes),
}

impl ScreenPdu {
    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Desktop(bytes) | Self::Pipeline(bytes) => bytes.len(),
        }
    }
}

/// The watcher wants the session to end. Its own reason; the relay only ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop;

/// Takes everything before it goes on. A watcher that waits slows the relay; one that says [`Stop`] ends it.
#[async_trait]
pub trait Watch: Send {
    /// Something happened. The bytes that carry it follow only after this returns.
    async fn event(&mut self, event: Event) -> Result<(), Stop>;
    /// Something may be drawn. The same holds.
    async fn screen(&mut self, pdu: ScreenPdu) -> Result<(), Stop>;
    /// What everything that [`Self::screen`] took has drawn in a part of the desktop: red, green and blue, row by row. `None`
    /// where that is not known, or the part is not on the desktop.
    async fn picture(&mut self, area: Area) -> Option<Vec<u8>>;
}

/// What the relay is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Everything that is allowed passes.
    Run,
    /// The person sees, and nothing that they do reaches the target.
    Freeze,
    /// The session ends with this reason on the person's screen.
    End(Ending),
}

/// Why a session is ended, in the few words that the protocol has for it (MS-RDPBCGR 2.2.5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// Nobody did anything for too long.
    Idle,
    /// The time is over.
    TimeOver,
    /// Somebody ended it.
    Administrator,
    /// It is no longer allowed.
    NotAllowed,
    /// What was typed proves nothing.
    LogOn,
    /// The target could not be reached, refused the account, or broke off.
    Target,
    /// The gateway cannot go on, for example because it cannot record.
    Fault,
}

impl Ending {
    /// `errorInfo` on the wire.
    #[must_use]
    pub fn error_info(self) -> u32 {
        match self {
            // ERRINFO_RPC_INITIATED_DISCONNECT: "the session was ended by an administrative tool".
            Self::Administrator => 0x1,
            // ERRINFO_IDLE_TIMEOUT.
            Self::Idle => 0x3,
            // ERRINFO_LOGON_TIMEOUT: "the active session time limit on the server has elapsed".
            Self::TimeOver => 0x4,
            // ERRINFO_SERVER_DENIED_CONNECTION.
            Self::NotAllowed => 0x7,
            // ERRINFO_SERVER_FRESH_CREDENTIALS_REQUIRED: "enter your credentials".
            Self::LogOn => 0xa,
            // ERRINFO_CB_DESTINATION_NOT_FOUND: "a target endpoint could not be found".
            Self::Target => 0x400,
            // ERRINFO_RPC_INITIATED_DISCONNECT_BYUSER would blame a person; the tool's code is the neutral one.
            Self::Fault => 0x1,
        }
    }
}
