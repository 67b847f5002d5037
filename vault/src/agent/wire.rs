//! Frames: four bytes of length (big-endian), then a message in postcard's form. One buffer per connection and direction,
//! allocated once and wiped after each frame, because secrets pass through it.

use std::fmt;
use std::io::{self, Read, Write};

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize as _, Zeroizing};

use crate::secret::{NotText, SecretBytes, SecretString};

/// The largest frame, in bytes: two of the largest secrets and what goes with them.
pub const MAX_FRAME: usize = 160 * 1024;
/// Both ends speak exactly this one; they are the same program, or should be.
pub const PROTOCOL_VERSION: u16 = 1;

const LENGTH_BYTES: usize = 4;

/// Why a frame was not read or written. The connection is of no use after it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other end has gone.
    #[error("the other process has closed the connection")]
    Closed,
    /// A frame announced more than [`MAX_FRAME`].
    #[error("a frame of {0} bytes was announced; at most {MAX_FRAME} are allowed")]
    TooLong(usize),
    /// The bytes are no message that is known.
    #[error("a message was not understood; both processes have to be the same version of the program")]
    Unknown,
    /// The message does not fit into a frame.
    #[error("a message does not fit into a frame of {MAX_FRAME} bytes")]
    DoesNotFit,
    /// The system's word.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// The buffer of one direction of one connection.
pub(super) struct Frame(Zeroizing<Vec<u8>>);

impl Frame {
    pub(super) fn new() -> Self {
        Self(Zeroizing::new(vec![0; LENGTH_BYTES + MAX_FRAME]))
    }

    /// Reads one message; none at an orderly end between two of them.
    pub(super) fn read<T: DeserializeOwned>(&mut self, from: &mut impl Read) -> Result<Option<T>, WireError> {
        let mut length = [0; LENGTH_BYTES];
        if !read_or_end(from, &mut length)? {
            return Ok(None);
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let body = self.0.get_mut(..length).filter(|b| b.len() <= MAX_FRAME);
        let body = body.ok_or(WireError::TooLong(length))?;
        let message = from.read_exact(body).map_err(closed).and_then(|()| decode(body));
        body.zeroize();
        message.map(Some)
    }

    /// Writes one message in one go.
    pub(super) fn write<T: Serialize>(&mut self, to: &mut impl Write, message: &T) -> Result<(), WireError> {
        let (head, body) = self.0.split_at_mut(LENGTH_BYTES);
        let used = postcard::to_slice(message, body).map(|b| b.len()).map_err(|_| WireError::DoesNotFit);
        let used = match used {
            Ok(used) => used,
            Err(e) => {
                body.zeroize();
                return Err(e);
            }
        };
        head.copy_from_slice(&u32::try_from(used).map_err(|_| WireError::DoesNotFit)?.to_be_bytes());
        let frame = &mut self.0[..LENGTH_BYTES + used];
        let written = to.write_all(frame).and_then(|()| to.flush()).map_err(closed);
        frame.zeroize();
        written
    }
}

/// Exactly one message and nothing after it.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(WireError::Unknown),
    }
}

/// Fills `out`, or finds the end before its first byte.
fn read_or_end(from: &mut impl Read, out: &mut [u8; LENGTH_BYTES]) -> Result<bool, WireError> {
    let (first, rest) = out.split_at_mut(1);
    loop {
        match from.read(first) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(closed(e)),
        }
    }
    from.read_exact(rest).map_err(closed)?;
    Ok(true)
}

fn closed(e: io::Error) -> WireError {
    match e.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            WireError::Closed
        }
        _ => WireError::Io(e),
    }
}

/// A secret on its way through a frame. The secret types themselves cannot be serialised, on purpose; this one can, and
/// stays within this module's parent.
pub(super) struct Passing(Zeroizing<Vec<u8>>);

impl Passing {
    pub(super) fn bytes(secret: &SecretBytes) -> Self {
        Self(Zeroizing::new(secret.expose().to_vec()))
    }

    pub(super) fn text(secret: &SecretString) -> Self {
        Self(Zeroizing::new(secret.expose().as_bytes().to_vec()))
    }

    pub(super) fn into_bytes(mut self) -> SecretBytes {
        SecretBytes::new(std::mem::take(&mut *self.0))
    }

    pub(super) fn into_text(self) -> Result<SecretString, NotText> {
        self.into_bytes().to_text()
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Passing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Passing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Passing;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            /// Straight out of the frame's buffer, which is wiped: there is no third copy.
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Passing, E> {
                Ok(Passing(Zeroizing::new(bytes.to_vec())))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_its_frame_and_the_buffer_is_wiped_afterwards() {
        let (mut out, mut back, mut wire) = (Frame::new(), Frame::new(), Vec::new());
        let secret = SecretBytes::from(b"hunter2-and-more".to_vec());
        out.write(&mut wire, &Passing::bytes(&secret)).unwrap();
        assert!(wire.windows(7).any(|w| w == b"hunter2"));
        assert!(out.0.iter().all(|b| *b == 0), "the frame still holds what was sent");
        let read: Passing = back.read(&mut wire.as_slice()).unwrap().unwrap();
        assert!(back.0.iter().all(|b| *b == 0), "the frame still holds what was read");
        assert_eq!(read.into_bytes(), secret);
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_read_or_kept() {
        let mut frame = Frame::new();
        for length in [u32::MAX, u32::try_from(MAX_FRAME).unwrap() + 1] {
            let wire = length.to_be_bytes();
            assert!(matches!(frame.read::<u8>(&mut wire.as_slice()), Err(WireError::TooLong(_))));
        }
        let cut = [0, 0, 0, 9, 1, 2];
        assert!(matches!(frame.read::<u64>(&mut cut.as_slice()), Err(WireError::Closed)));
        assert!(matches!(frame.read::<u64>(&mut [0u8, 0].as_slice()), Err(WireError::Closed)));
        assert!(frame.read::<u64>(&mut [].as_slice()).unwrap().is_none());
        let trailing = [0, 0, 0, 2, 1, 1];
        assert!(matches!(frame.read::<u8>(&mut trailing.as_slice()), Err(WireError::Unknown)));
    }

    #[test]
    fn what_does_not_fit_is_not_sent_in_part() {
        let (mut frame, mut wire) = (Frame::new(), Vec::new());
        let large = Passing::bytes(&SecretBytes::from(vec![7; MAX_FRAME + 1]));
        assert!(matches!(frame.write(&mut wire, &large), Err(WireError::DoesNotFit)));
        assert!(wire.is_empty() && frame.0.iter().all(|b| *b == 0));
    }
}
