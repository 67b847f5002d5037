//! The frames that data and messages travel in (`enum msgcode` of rsync.h, `read_a_msg` of io.c).

use super::wire::MAX_NAME;

/// `MPLEX_BASE`: added to the tag of every frame.
const BASE: u8 = 7;
/// Longest message that is kept.
const MAX_TEXT: usize = 512;

/// A message of one side to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// An error for the person to read.
    Error(String),
    /// The receiving side removed this (`MSG_DELETED`).
    Deleted { path: Vec<u8>, folder: bool },
    /// The file of this index has arrived (`MSG_SUCCESS`).
    Arrived(u32),
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes belong to the protocol's data.
    Data(usize),
    /// So many bytes are frame.
    Frame(usize),
    /// So many bytes, and with them a message is complete.
    Message(usize, Message),
}

/// A frame that the protocol does not have; so many bytes were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadFrame(pub(super) usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Header,
    Data { left: usize },
    Message { tag: u8, left: usize },
}

/// One direction.
#[derive(Debug)]
pub(super) struct Frames {
    at: At,
    field: Vec<u8>,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { at: At::Header, field: Vec::new() }
    }

    /// What `data`, which is not empty, begins with. Data has to be reported by [`Frames::passed`].
    pub(super) fn next(&mut self, data: &[u8]) -> Result<Piece, BadFrame> {
        match self.at {
            At::Data { left } => Ok(Piece::Data(left.min(data.len()))),
            At::Message { tag, left } => {
                let size = left.min(data.len());
                let room = limit(tag).saturating_sub(self.field.len()).min(size);
                self.field.extend_from_slice(data.get(..room).unwrap_or_default());
                self.at = At::Message { tag, left: left - size };
                Ok(if left == size { self.message(size, tag) } else { Piece::Frame(size) })
            }
            At::Header => {
                let size = 4usize.saturating_sub(self.field.len()).min(data.len());
                self.field.extend_from_slice(data.get(..size).unwrap_or_default());
                let [a, b, c, tag] = *self.field.as_slice() else { return Ok(Piece::Frame(size)) };
                self.field.clear();
                let left = u32::from_le_bytes([a, b, c, 0]) as usize;
                match tag.checked_sub(BASE) {
                    Some(0) if left == 0 => {}
                    Some(0) => self.at = At::Data { left },
                    Some(tag @ (1..=6 | 8..=10 | 22 | 33 | 42 | 86 | 100..=102)) => {
                        if left == 0 {
                            return Ok(self.message(size, tag));
                        }
                        self.at = At::Message { tag, left };
                    }
                    _ => return Err(BadFrame(size)),
                }
                Ok(Piece::Frame(size))
            }
        }
    }

    /// So many bytes of data were read.
    pub(super) fn passed(&mut self, size: usize) {
        if let At::Data { left } = self.at {
            let left = left.saturating_sub(size);
            self.at = if left == 0 { At::Header } else { At::Data { left } };
        }
    }

    fn message(&mut self, size: usize, tag: u8) -> Piece {
        self.at = At::Header;
        let mut field = std::mem::take(&mut self.field);
        match tag {
            // MSG_ERROR_XFER, MSG_ERROR, MSG_ERROR_SOCKET, MSG_ERROR_UTF8.
            1 | 3 | 5 | 8 => {
                let text = String::from_utf8_lossy(&field).trim_end().to_owned();
                Piece::Message(size, Message::Error(text))
            }
            // A folder's name carries its terminator.
            101 => {
                let folder = field.pop_if(|last| *last == 0).is_some();
                Piece::Message(size, Message::Deleted { path: field, folder })
            }
            100 => match field.first_chunk() {
                Some(index) => Piece::Message(size, Message::Arrived(u32::from_le_bytes(*index))),
                None => Piece::Frame(size),
            },
            _ => Piece::Frame(size),
        }
    }
}

/// How much of a message is kept.
fn limit(tag: u8) -> usize {
    match tag {
        1 | 3 | 5 | 8 => MAX_TEXT,
        101 => MAX_NAME + 1,
        100 => 4,
        _ => 0,
    }
}
