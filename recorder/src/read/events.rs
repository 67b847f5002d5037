//! The events of an unlocked recording, in order.

use bytes::Bytes;

use super::{Recording, tail::Tail};
use crate::{
    chain::Walker,
    crypt::Opener,
    error::ReadError,
    event::TimedEvent,
    segment::{HEAD_LEN, Head, kind},
    wire::{self, Mask, next_raw},
};

/// What comes next in a recording that may still grow.
#[derive(Debug)]
pub enum Next {
    /// An event.
    Event(TimedEvent),
    /// Nothing more for now: the recording is still growing; ask again later.
    Waiting,
    /// The recording is sealed and this was all.
    Ended,
}

/// A recording that is read: somebody else's, or the reader's own.
pub(super) enum Held<'r> {
    Theirs(&'r Recording),
    Own(Box<Recording>),
}

impl std::ops::Deref for Held<'_> {
    type Target = Recording;

    fn deref(&self) -> &Recording {
        match self {
            Self::Theirs(recording) => recording,
            Self::Own(recording) => recording,
        }
    }
}

/// Reads events one after the other; holds one segment in memory.
pub struct Events<'r> {
    recording: Held<'r>,
    opener: Opener,
    mask: Option<Mask>,
    offset: u64,
    /// Events before this time are passed over.
    from: i64,
    text: Bytes,
    /// Bytes of `text` already read.
    read: usize,
    first_of_segment: Option<i64>,
    at: i64,
    /// Where the text starts in the stream of all events' text.
    stream: u64,
    /// Text before this place in the stream is passed over.
    from_stream: u64,
    end: Option<u64>,
    /// What a growing recording has in the journal.
    tail: Option<Tail>,
}

impl<'r> Events<'r> {
    pub(super) fn new(
        recording: Held<'r>,
        (opener, tail, mask): (Opener, Option<Tail>, Option<Mask>),
        offset: u64,
        from: i64,
    ) -> Self {
        Self {
            end: recording.events_end(),
            recording,
            opener,
            mask,
            offset,
            from,
            text: Bytes::new(),
            read: 0,
            first_of_segment: None,
            at: i64::MIN,
            stream: 0,
            from_stream: 0,
            tail,
        }
    }

    /// The next event, or why there is none now. After an error reading goes on behind the damage
    /// where that is possible.
    ///
    /// # Errors
    /// When a segment is damaged.
    pub fn advance(&mut self) -> Result<Next, ReadError> {
        loop {
            let place = self.stream_place();
            if let Some(event) = self.within_segment()? {
                if event.at >= self.from && place >= self.from_stream {
                    return Ok(Next::Event(event));
                }
                continue;
            }
            if self.tail.is_some() {
                // What the journal gave, the file brings again once it was moved there.
                self.from_stream = self.from_stream.max(place);
            }
            match self.next_segment()? {
                Step::Segment => {}
                Step::Waiting if self.next_of_journal() => {}
                Step::Waiting => return Ok(Next::Waiting),
                Step::Ended => return Ok(Next::Ended),
            }
        }
    }

    /// Starts at a known good segment.
    pub(super) fn start_at(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Passes over everything before a place in the stream that [`Self::stream_place`] named.
    pub(crate) fn skip_to(&mut self, stream: u64) {
        self.from_stream = stream;
    }

    /// Where in the stream of all events' text the next event starts.
    pub(crate) fn stream_place(&self) -> u64 {
        self.stream + self.read as u64
    }

    fn within_segment(&mut self) -> Result<Option<TimedEvent>, ReadError> {
        let offset = self.offset;
        let mut rest = self.text.get(self.read..).unwrap_or_default();
        let raw = match next_raw(&mut rest) {
            Ok(None) => return Ok(None),
            Ok(Some(raw)) => raw,
            Err(what) => {
                self.read = self.text.len();
                return Err(ReadError::damaged(offset, what));
            }
        };
        self.read += raw.len;
        self.at = match self.first_of_segment.take() {
            Some(first) => first,
            None => self.at.saturating_add_unsigned(raw.delta),
        };
        let event = wire::decode(&raw, &self.text, self.mask.as_ref())?;
        Ok(Some(TimedEvent { at: self.at, event }))
    }

    fn next_segment(&mut self) -> Result<Step, ReadError> {
        loop {
            if self.end.is_some_and(|end| self.offset >= end) {
                return Ok(Step::Ended);
            }
            let mut walker = Walker::new(&self.recording.file, self.offset);
            let found = match walker.read() {
                Ok(found) => found,
                Err(ReadError::Io(e)) => return Err(e.into()),
                Err(damage) => return self.no_segment(damage),
            };
            self.offset = walker.offset;
            if found.head.kind == kind::SEAL {
                self.end = Some(found.offset);
                return Ok(Step::Ended);
            }
            // Marks, indexes and kinds of a later minor version hold no events for this reader.
            if !found.head.has_events() {
                continue;
            }
            if !self.opener.follows(&found.head) {
                let what = "a segment builds on one that is missing or damaged";
                return Err(ReadError::damaged(found.offset, what));
            }
            let mut body = std::mem::take(&mut walker.body);
            self.open(&found.head, &mut body, found.offset)?;
            return Ok(Step::Segment);
        }
    }

    fn open(&mut self, head: &Head, body: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let text = self.opener.open(head, body, offset)?;
        self.go_on_with(head, text);
        Ok(())
    }

    fn go_on_with(&mut self, head: &Head, text: Vec<u8>) {
        self.text = text.into();
        self.read = 0;
        self.stream = head.stream;
        self.first_of_segment = Some(head.first);
    }

    /// The file ends here for now: takes what the journal holds behind what was given out.
    fn next_of_journal(&mut self) -> bool {
        let place = self.from_stream;
        let Some((head, text)) = self.tail.as_mut().and_then(|tail| tail.next(place)) else { return false };
        self.go_on_with(&head, text);
        true
    }

    /// No whole segment stands here: the end for now of a growing file, or damage.
    fn no_segment(&mut self, damage: ReadError) -> Result<Step, ReadError> {
        if self.end.is_none() {
            self.end = self.recording.sealed_end();
            return Ok(match self.end {
                Some(end) if self.offset >= end => Step::Ended,
                Some(_) => return self.no_segment(damage),
                None => Step::Waiting,
            });
        }
        let mut walker = Walker::new(&self.recording.file, self.offset);
        let found = walker.resync()?;
        self.offset = if found { walker.offset } else { self.end.unwrap_or(self.offset + HEAD_LEN as u64) };
        Err(damage)
    }
}

enum Step {
    Segment,
    Waiting,
    Ended,
}

impl Iterator for Events<'_> {
    type Item = Result<TimedEvent, ReadError>;

    /// The next event that is there now; `None` at the present end of a growing recording too.
    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(Next::Event(event)) => Some(Ok(event)),
            Ok(Next::Waiting | Next::Ended) => None,
            Err(e) => Some(Err(e)),
        }
    }
}
