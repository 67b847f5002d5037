//! One side of the relay: what was read and not looked at yet, and what waits to be written.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::wire::WireError;

/// Bytes that may wait for one side before the other side is no longer read.
pub(super) const QUEUE: usize = 256 * 1024;
/// Of these, what a person's hands do: it is not to act long after it was done.
const HANDS: usize = 4 * 1024;

/// See the module.
pub(super) struct Lane<S> {
    pub(super) reader: ReadHalf<S>,
    pub(super) inbound: BytesMut,
    pub(super) out: Outbound<S>,
}

/// What waits to be written, in its order.
pub(super) struct Outbound<S> {
    writer: WriteHalf<S>,
    bytes: BytesMut,
    /// Where PDUs end in it, as far as anybody wants to know.
    pdus: VecDeque<Waiting>,
    tracks: bool,
    /// Bytes of hands in it.
    hands: usize,
    flushed: bool,
    /// Bytes that were written in all.
    taken: u64,
}

/// A PDU of which `left` bytes wait.
struct Waiting {
    left: usize,
    len: usize,
    /// All of it, where it is what the person's hands do.
    hands: Option<Bytes>,
}

impl<S: AsyncRead + AsyncWrite> Lane<S> {
    /// That of the person, to whom these bytes are due.
    pub(super) fn of_person(stream: S, inbound: BytesMut, outbound: BytesMut) -> Self {
        Self::new(stream, inbound, outbound, false)
    }

    /// That of a person who waits at a desktop of our own: its drawings can be taken back as a target's hands can.
    pub(super) fn of_waiting(stream: S, inbound: BytesMut, unsent: BytesMut) -> Self {
        let mut lane = Self::new(stream, inbound, BytesMut::new(), true);
        lane.queue(&unsent);
        lane
    }

    /// That of the target.
    pub(super) fn of_target(stream: S, inbound: BytesMut) -> Self {
        Self::new(stream, inbound, BytesMut::new(), true)
    }

    fn new(stream: S, inbound: BytesMut, bytes: BytesMut, tracks: bool) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let out =
            Outbound { writer, bytes, pdus: VecDeque::new(), tracks, hands: 0, flushed: false, taken: 0 };
        Self { reader, inbound, out }
    }

    /// What was read and not looked at, and what was not written.
    pub(super) fn into_rest(self) -> (BytesMut, BytesMut) {
        (self.inbound, self.out.bytes)
    }

    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.out.push(bytes, None);
    }

    /// What a person's hands do, which may be taken back.
    pub(super) fn queue_hands(&mut self, bytes: Bytes) {
        self.out.hands += bytes.len();
        self.out.push(&bytes.clone(), Some(bytes));
    }

    pub(super) fn has_room(&self) -> bool {
        self.out.bytes.len() < QUEUE
    }

    pub(super) fn has_room_for_hands(&self) -> bool {
        self.has_room() && self.out.hands < HANDS
    }

    /// Room for answers to the side's own questions, beyond what the other side may fill: a screen that is slow does not
    /// hold up the keyboard, and one that asks without listening does not fill our memory.
    pub(super) fn has_room_for_answers(&self) -> bool {
        self.out.bytes.len() < 2 * QUEUE
    }

    /// Bytes that it has taken in all.
    pub(super) fn taken(&self) -> u64 {
        self.out.taken
    }

    pub(super) fn is_idle(&self) -> bool {
        self.out.is_idle()
    }

    /// Takes back what the person's hands did and nothing of which was written.
    pub(super) fn take_back(&mut self) -> Vec<Bytes> {
        let mut back = Vec::new();
        self.out.keep(|waiting| match &waiting.hands {
            Some(pdu) if waiting.left == waiting.len => {
                back.push(pdu.clone());
                false
            }
            _ => true,
        });
        back
    }

    /// Forgets all of which nothing was written.
    pub(super) fn forget(&mut self) {
        self.out.keep(|waiting| waiting.left < waiting.len);
    }
}

impl<S: AsyncWrite> Outbound<S> {
    fn push(&mut self, bytes: &[u8], hands: Option<Bytes>) {
        self.bytes.extend_from_slice(bytes);
        if self.tracks {
            self.pdus.push_back(Waiting { left: bytes.len(), len: bytes.len(), hands });
        }
        self.flushed = false;
    }

    fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.flushed
    }

    fn keep(&mut self, mut keep: impl FnMut(&Waiting) -> bool) {
        let mut kept = BytesMut::new();
        for waiting in std::mem::take(&mut self.pdus) {
            let bytes = self.bytes.split_to(waiting.left.min(self.bytes.len()));
            if keep(&waiting) {
                kept.extend_from_slice(&bytes);
                self.pdus.push_back(waiting);
            } else if let Some(pdu) = &waiting.hands {
                self.hands -= pdu.len().min(self.hands);
            }
        }
        self.bytes = kept;
    }

    fn written(&mut self, mut written: usize) {
        self.taken += written as u64;
        self.bytes.advance(written);
        while let Some(first) = self.pdus.front_mut() {
            let now = first.left.min(written);
            first.left -= now;
            written -= now;
            if first.left > 0 {
                break;
            }
            if let Some(Waiting { hands: Some(pdu), .. }) = self.pdus.pop_front() {
                self.hands -= pdu.len().min(self.hands);
            }
        }
    }

    /// Writes once, or flushes. Nothing is lost when the future is dropped.
    pub(super) async fn drain(&mut self) -> Result<(), WireError> {
        if self.bytes.is_empty() {
            self.writer.flush().await?;
            self.flushed = true;
        } else {
            match self.writer.write(&self.bytes).await? {
                0 => return Err(WireError::Closed),
                written => self.written(written),
            }
        }
        Ok(())
    }

    /// Writes what is left, and closes.
    pub(super) async fn close(&mut self) -> Result<(), WireError> {
        while !self.is_idle() {
            self.drain().await?;
        }
        self.writer.shutdown().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::*;

    /// A lane to a target that has taken the first two bytes of `abcd`; behind them wait other things and hands.
    async fn lane() -> (Lane<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(2);
        let mut lane = Lane::of_target(near, BytesMut::new());
        lane.queue_hands(Bytes::from_static(b"abcd"));
        lane.out.drain().await.unwrap();
        lane.queue_hands(Bytes::from_static(b"1"));
        lane.queue(b"xyz");
        lane.queue_hands(Bytes::from_static(b"2"));
        (lane, far)
    }

    async fn comes(mut lane: Lane<DuplexStream>, mut far: DuplexStream) -> Vec<u8> {
        let mut all = Vec::new();
        let ((), read) = tokio::join!(
            async {
                lane.out.close().await.unwrap();
                assert_eq!(lane.out.hands, 0);
            },
            far.read_to_end(&mut all)
        );
        read.unwrap();
        all
    }

    #[tokio::test]
    async fn what_hands_did_is_taken_back_unless_a_part_of_it_was_written() {
        let (mut lane, far) = lane().await;
        assert_eq!(lane.take_back(), ["1", "2"]);
        lane.queue(b"release");
        assert_eq!(comes(lane, far).await, b"abcdxyzrelease");
    }

    #[tokio::test]
    async fn at_an_end_only_what_has_begun_is_finished() {
        let (mut lane, far) = lane().await;
        lane.forget();
        lane.queue(b"bye");
        assert_eq!(comes(lane, far).await, b"abcdbye");
        let (near, far) = duplex(64);
        let mut lane = Lane::of_target(near, BytesMut::new());
        lane.queue_hands(Bytes::from_static(b"abcd"));
        lane.forget();
        assert!(comes(lane, far).await.is_empty());
    }

    #[tokio::test]
    async fn few_hands_wait_and_much_of_the_rest() {
        let (near, far) = duplex(64);
        let mut lane = Lane::of_target(near, BytesMut::new());
        for _ in 0..HANDS / 4 {
            assert!(lane.has_room_for_hands());
            lane.queue_hands(Bytes::from_static(b"abcd"));
        }
        assert!(!lane.has_room_for_hands() && lane.has_room());
        assert_eq!(comes(lane, far).await.len(), HANDS);
    }
}
