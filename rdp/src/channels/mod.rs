//! Virtual channels (MS-RDPBCGR 2.2.6): everything beside the desktop. All off by default; what is on is parsed.

pub(crate) mod chunks;
pub(crate) mod clipboard;
pub(crate) mod devices;
pub(crate) mod dynamic;
#[cfg(test)]
mod notes;
pub(crate) mod pipeline;
pub(crate) mod sound;

use crate::{
    event::Direction,
    rewrite::{Broken, capabilities::Graphics},
    wire::{Reader, u32_at},
};

/// What may pass beside the desktop itself. Nothing by default: no clipboard, no drive, no printer, no sound, no smart
/// card, no USB, no change of size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelPolicy {
    /// The person's window may change its size, and the desktop follows.
    pub resize: bool,
    /// Sound of the target to the person.
    pub sound: bool,
    /// Text from the person's clipboard to the target's. Recorded.
    pub clipboard_to_target: bool,
    /// Text from the target's clipboard to the person's. Recorded.
    pub clipboard_to_person: bool,
    /// The target may fetch files that are on the person's clipboard. Recorded.
    pub clipboard_files_to_target: bool,
    /// The person may fetch files that are on the target's clipboard. Recorded.
    pub clipboard_files_to_person: bool,
    /// The target may read what is on drives that the person shares.
    pub drives_to_target: bool,
    /// The target may write to drives that the person shares, and change what is there.
    pub drives_to_person: bool,
    /// The target may print on the person's printers.
    pub printers: bool,
    /// How the target may draw.
    pub graphics: Graphics,
}

/// A static channel that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `drdynvc`: the dynamic channels.
    Dynamic,
    /// `rdpsnd`.
    Sound,
    /// `cliprdr`.
    Clipboard,
    /// `rdpdr`.
    Devices,
}

impl ChannelPolicy {
    /// What a static channel is, where it is allowed.
    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        let dynamic = self.resize || self.sound || self.graphics == Graphics::Pipeline;
        if name.eq_ignore_ascii_case("drdynvc") && dynamic {
            Some(Kind::Dynamic)
        } else if name.eq_ignore_ascii_case("rdpsnd") && self.sound {
            Some(Kind::Sound)
        } else if name.eq_ignore_ascii_case("cliprdr") && (self.any_text() || self.any_clipboard_files()) {
            Some(Kind::Clipboard)
        } else if name.eq_ignore_ascii_case("rdpdr") && (self.drives() || self.printers) {
            Some(Kind::Devices)
        } else {
            None
        }
    }

    /// Whether text may go this way by the clipboard.
    pub(crate) fn clipboard(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToTarget => self.clipboard_to_target,
            Direction::ToPerson => self.clipboard_to_person,
        }
    }

    /// Whether files may go this way by the clipboard.
    pub(crate) fn clipboard_files(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToTarget => self.clipboard_files_to_target,
            Direction::ToPerson => self.clipboard_files_to_person,
        }
    }

    fn any_text(&self) -> bool {
        self.clipboard_to_target || self.clipboard_to_person
    }

    /// Whether files may go any way by the clipboard.
    pub(crate) fn any_clipboard_files(&self) -> bool {
        self.clipboard_files_to_target || self.clipboard_files_to_person
    }
}

/// `CHANNEL_FLAG_FIRST`.
const FIRST: u32 = 1;
/// `CHANNEL_FLAG_LAST`.
const LAST: u32 = 2;
/// First and last at once.
const WHOLE: u32 = FIRST | LAST;
/// Flags that say that a chunk is compressed or how.
const COMPRESSED: u32 = 0x00ff_0000;

/// The message in a chunk that is the first and the last one of it (MS-RDPBCGR 2.2.6.1.1).
pub(crate) fn whole(chunk: &[u8]) -> Result<&[u8], Broken> {
    let mut at = Reader(chunk);
    let (len, flags) = at.u32().zip(at.u32()).ok_or(Broken("channel header"))?;
    if flags & WHOLE != WHOLE || flags & COMPRESSED != 0 || usize::try_from(len) != Ok(at.0.len()) {
        return Err(Broken("channel chunk"));
    }
    Ok(at.0)
}

/// Puts a message into one chunk.
pub(crate) fn chunk(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [len.to_le_bytes().as_slice(), &WHOLE.to_le_bytes(), message].concat()
}

/// Whether a chunk is compressed, which was not negotiated.
pub(crate) fn compressed(chunk: &[u8]) -> bool {
    u32_at(chunk, 4).is_none_or(|flags| flags & COMPRESSED != 0)
}
