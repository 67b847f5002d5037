//! Streams without a terminal: the first part in full, the rest as a digest.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use crate::{
    error::RecorderStopped,
    event::{Direction, Event, StreamDigest},
    header::to_hash,
    writer::SessionRecorder,
};

/// How much of a stream is kept in full where nothing else is configured.
const KEEP: u64 = 64 << 20;
/// How often a running digest is recorded, in microseconds.
const EVERY: i64 = 1_000_000;

/// Records one direction of a channel without a terminal (exec, scp, rsync, a tunnel): the first
/// bytes in full; from there on a running SHA-256 over the whole stream, the count of bytes and the
/// times, recorded at least each second while bytes flow. The digest is computed on the caller's
/// thread; there is no queue between it and the bytes.
pub struct StreamKeeper {
    recorder: SessionRecorder,
    channel: u32,
    direction: Direction,
    keep: u64,
    seen: u64,
    digest: Context,
    /// When the last digest was recorded; absent while all is kept in full.
    digested: Option<i64>,
}

impl StreamKeeper {
    /// Keeps the first 64 MiB in full.
    pub fn new(recorder: SessionRecorder, channel: u32, direction: Direction) -> Self {
        Self::keeping(recorder, channel, direction, KEEP)
    }

    /// Keeps the first `keep` bytes in full.
    pub fn keeping(recorder: SessionRecorder, channel: u32, direction: Direction, keep: u64) -> Self {
        let digest = Context::new(&SHA256);
        Self { recorder, channel, direction, keep, seen: 0, digest, digested: None }
    }

    /// Records the next bytes; only after this may they reach the other side. `now` is in
    /// microseconds since 1970, UTC.
    ///
    /// # Errors
    /// [`RecorderStopped`]: the session must stop.
    pub async fn record(&mut self, data: &Bytes, now: i64) -> Result<(), RecorderStopped> {
        self.digest.update(data);
        let room = self.keep.saturating_sub(self.seen);
        self.seen += data.len() as u64;
        if room > 0 {
            let kept = data.slice(..data.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            self.recorder.record(self.event(kept)).await?;
        }
        if self.seen <= self.keep {
            return Ok(());
        }
        // While recording is frozen or failed, no byte may pass: the recorder makes this one wait.
        let due = self.digested.is_none_or(|at| now.saturating_sub(at) >= EVERY);
        if due || !self.recorder.is_healthy() {
            self.digested = Some(now);
            return self.recorder.record(self.state(false)).await;
        }
        Ok(())
    }

    /// The fast path of [`Self::record`]: `true` when the bytes were only digested and nothing needs
    /// to be recorded yet; `false`: nothing was done, call [`Self::record`].
    pub fn digest_only(&mut self, data: &[u8], now: i64) -> bool {
        let due = self.digested.is_none_or(|at| now.saturating_sub(at) >= EVERY);
        if due || !self.recorder.is_healthy() {
            return false;
        }
        self.digest.update(data);
        self.seen += data.len() as u64;
        true
    }

    /// Bytes seen so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Records the final digest; also where all was kept in full, so that the digest can be held
    /// against a file.
    ///
    /// # Errors
    /// [`RecorderStopped`]: the session must stop.
    pub async fn finish(self) -> Result<StreamDigest, RecorderStopped> {
        let state = self.state(true);
        self.recorder.record(state.clone()).await?;
        match state {
            Event::StreamDigest(digest) => Ok(digest),
            _ => Err(RecorderStopped { why: "the digest was lost".to_owned() }),
        }
    }

    fn event(&self, data: Bytes) -> Event {
        match self.direction {
            Direction::ToPerson => Event::Output { channel: self.channel, data },
            Direction::ToTarget => Event::Input { channel: self.channel, data, masked: false },
        }
    }

    fn state(&self, last: bool) -> Event {
        let sha256 = to_hash(self.digest.clone().finish().as_ref());
        Event::StreamDigest(StreamDigest {
            channel: self.channel,
            direction: self.direction,
            bytes: self.seen,
            sha256,
            since: self.keep.min(self.seen),
            last,
        })
    }
}
