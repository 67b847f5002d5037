//! The graphics pipeline's channel: its messages put together, judged, and taken apart again.

use std::borrow::Cow;

use super::{
    Passed,
    incoming::{Gathered, Incoming},
    pieces,
};
use crate::{
    channels::pipeline::{self, Pipeline},
    rewrite::Broken,
    wire::Reader,
};

/// The channel while it is open.
#[derive(Debug)]
pub(super) struct GraphicsChannel {
    pub(super) id: u32,
    pub(super) pipeline: Pipeline,
    of_target: Incoming,
    of_person: Gathered<{ pipeline::LONGEST_OF_PERSON }>,
}

impl GraphicsChannel {
    pub(super) fn new(id: u32, again: bool) -> Self {
        let (of_target, of_person) = (Incoming::default(), Gathered::default());
        Self { id, pipeline: Pipeline::new(again), of_target, of_person }
    }

    pub(super) fn target(&mut self, head: (u8, u8), at: Reader<'_>) -> Result<Passed, Broken> {
        let (part, is_last) = self.of_target.take(head, at, pipeline::LONGEST)?;
        self.pipeline.push(part)?;
        if !is_last {
            return Ok(Passed::default());
        }
        let drawn = self.pipeline.finish()?;
        let all = match drawn.ours.is_empty() {
            true => Cow::Borrowed(&drawn.plain),
            false => Cow::Owned([drawn.ours.as_slice(), &drawn.plain].concat()),
        };
        let forward = if all.is_empty() { Vec::new() } else { pieces(self.id, &pipeline::pack(&all)) };
        let silence = self.pipeline.silence().and_then(|said| pieces(self.id, &said).pop());
        let dropped = drawn.dropped;
        Ok(Passed { forward, dropped, answer: silence, drawn: Some(drawn), ..Passed::default() })
    }

    pub(super) fn person(&mut self, head: (u8, u8), at: Reader<'_>) -> Result<Passed, Broken> {
        let Some(said) = self.of_person.add(head, at)? else { return Ok(Passed::default()) };
        let kept = self.pipeline.person(&said)?;
        let forward = if kept.is_empty() { Vec::new() } else { pieces(self.id, &kept) };
        Ok(Passed { forward, ..Passed::default() })
    }
}
