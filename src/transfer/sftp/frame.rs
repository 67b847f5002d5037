//! Cuts one direction of an SFTP stream into packets without collecting the large ones.
//!
//! A packet is judged by its head. What follows the head passes on, or is dropped, slice by slice.

use bytes::Bytes;

use crate::transfer::Step;

/// The stream cannot be followed further; the text is for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Violation(pub(super) String);

impl Violation {
    pub(super) fn person(what: &str) -> Self {
        Self(format!("the SFTP client sent {what}: try another client or an older protocol setting"))
    }

    pub(super) fn target(what: &str) -> Self {
        Self(format!("the target's SFTP server sent {what}: tell the plant's administrator"))
    }
}

/// What becomes of a packet.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes on as it is.
    Pass,
    /// It goes nowhere.
    Drop,
    /// This goes on instead.
    Replace(Bytes),
}

/// What one direction knows about its packets.
pub(super) trait Side {
    /// How many bytes of a packet, its length field included, are needed. `seen` are those that are there; asked
    /// again with more until the answer is not more than `seen`, which then is the head.
    fn need(&self, seen: &[u8]) -> Result<usize, Violation>;
    /// Judges a head. `length` is the packet's length field.
    fn decide(&mut self, length: u32, head: &[u8], out: &mut Vec<Step>) -> Result<Verdict, Violation>;
    /// Sees the bytes behind the head, whatever becomes of them.
    fn body(&mut self, data: Bytes, out: &mut Vec<Step>);
    /// Something has to be slipped in at the next packet boundary.
    fn has_insertion(&self) -> bool {
        false
    }
    /// Slips it in.
    fn insert(&mut self, _out: &mut Vec<Step>) {}
    /// The step that passes bytes on in this direction.
    fn pass(data: Bytes) -> Step;
}

/// Where the cutting stands.
#[derive(Debug, Default)]
pub(super) struct Framer {
    head: Vec<u8>,
    body_left: usize,
    forward: bool,
}

impl Framer {
    /// Nothing of a packet has passed that is not complete.
    pub(super) fn at_boundary(&self) -> bool {
        self.body_left == 0
    }

    /// Takes the next bytes.
    pub(super) fn feed<S: Side>(
        &mut self,
        data: Bytes,
        side: &mut S,
        out: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        let mut run = Run { data, start: 0, at: 0 };
        let result = self.cut(&mut run, side, out);
        run.flush::<S>(out);
        result
    }

    fn cut<S: Side>(&mut self, run: &mut Run, side: &mut S, out: &mut Vec<Step>) -> Result<(), Violation> {
        while run.at < run.data.len() {
            if self.body_left > 0 {
                self.body(run, side, out);
            } else if self.head.is_empty() {
                self.head_in_place(run, side, out)?;
            } else {
                self.head_in_parts(run, side, out)?;
            }
            if self.body_left == 0 && self.head.is_empty() && side.has_insertion() {
                run.flush::<S>(out);
                side.insert(out);
            }
        }
        Ok(())
    }

    fn body<S: Side>(&mut self, run: &mut Run, side: &mut S, out: &mut Vec<Step>) {
        let size = self.body_left.min(run.data.len() - run.at);
        side.body(run.data.slice(run.at..run.at + size), out);
        run.at += size;
        self.body_left -= size;
        if !self.forward {
            run.start = run.at;
        }
    }

    /// The usual case: the whole head lies in this chunk and nothing is copied.
    fn head_in_place<S: Side>(
        &mut self,
        run: &mut Run,
        side: &mut S,
        out: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        let rest = run.data.slice(run.at..);
        let size = side.need(&rest)?;
        let Some(head) = rest.get(..size) else {
            run.flush::<S>(out);
            self.head.extend_from_slice(&rest);
            run.skip_to(run.data.len());
            return Ok(());
        };
        match self.judge(head, side, out)? {
            Verdict::Pass => run.at += size,
            Verdict::Drop => {
                run.flush::<S>(out);
                run.skip_to(run.at + size);
            }
            Verdict::Replace(other) => {
                run.flush::<S>(out);
                out.push(S::pass(other));
                run.skip_to(run.at + size);
            }
        }
        Ok(())
    }

    fn head_in_parts<S: Side>(
        &mut self,
        run: &mut Run,
        side: &mut S,
        out: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        let need = side.need(&self.head)?;
        let size = need.saturating_sub(self.head.len()).min(run.data.len() - run.at);
        self.head.extend_from_slice(run.data.get(run.at..run.at + size).unwrap_or_default());
        run.skip_to(run.at + size);
        if side.need(&self.head)? > self.head.len() {
            return Ok(());
        }
        let head = std::mem::take(&mut self.head);
        match self.judge(&head, side, out)? {
            Verdict::Pass => out.push(S::pass(head.into())),
            Verdict::Drop => {}
            Verdict::Replace(other) => out.push(S::pass(other)),
        }
        Ok(())
    }

    fn judge<S: Side>(
        &mut self,
        head: &[u8],
        side: &mut S,
        out: &mut Vec<Step>,
    ) -> Result<Verdict, Violation> {
        let length = head.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        let verdict = side.decide(length, head, out)?;
        self.body_left = (length as usize + 4).saturating_sub(head.len());
        self.forward = matches!(verdict, Verdict::Pass);
        Ok(verdict)
    }
}

/// One chunk: `start..at` may pass and has not been emitted yet, so that a chunk leaves in as few slices as
/// possible.
struct Run {
    data: Bytes,
    start: usize,
    at: usize,
}

impl Run {
    fn flush<S: Side>(&mut self, out: &mut Vec<Step>) {
        if self.start < self.at {
            out.push(S::pass(self.data.slice(self.start..self.at)));
        }
        self.start = self.at;
    }

    fn skip_to(&mut self, at: usize) {
        self.at = at;
        self.start = at;
    }
}
