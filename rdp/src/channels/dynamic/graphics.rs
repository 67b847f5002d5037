//! The graphics pipeline's channel: its messages put together, judged, and taken apart again.

use std::borrow::Cow;

use super::{DATA, DATA_FIRST, Passed, pieces};
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
    of_person: Incoming,
    /// What has come of the person's message.
    said: Vec<u8>,
}

/// How much of a message, which arrives in PDUs (MS-RDPEDYC 2.2.3), has not come yet.
#[derive(Debug, Default)]
struct Incoming {
    left: usize,
}

impl Incoming {
    /// What a PDU carries of a message of at most so many bytes, and whether that is the end of it.
    fn take<'a>(
        &mut self,
        (command, head): (u8, u8),
        mut at: Reader<'a>,
        most: usize,
    ) -> Result<(&'a [u8], bool), Broken> {
        let broken = Broken("message of a dynamic channel");
        match (command, self.left) {
            (DATA, 0) => return Ok((at.0, true)),
            (DATA, _) => {}
            (DATA_FIRST, 0) => {
                let total = match head >> 2 & 3 {
                    0 => at.u8().map(u32::from),
                    1 => at.u16().map(u32::from),
                    2 => at.u32(),
                    _ => None,
                };
                let total = total.and_then(|total| usize::try_from(total).ok());
                self.left = total.filter(|total| (1..=most).contains(total)).ok_or(broken)?;
            }
            _ => return Err(broken),
        }
        self.left = self.left.checked_sub(at.0.len()).ok_or(broken)?;
        Ok((at.0, self.left == 0))
    }
}

impl GraphicsChannel {
    pub(super) fn new(id: u32, again: bool) -> Self {
        let (of_target, of_person) = (Incoming::default(), Incoming::default());
        Self { id, pipeline: Pipeline::new(again), of_target, of_person, said: Vec::new() }
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
        let (part, is_last) = self.of_person.take(head, at, pipeline::LONGEST_OF_PERSON)?;
        self.said.extend(part);
        if !is_last {
            return Ok(Passed::default());
        }
        let kept = self.pipeline.person(&std::mem::take(&mut self.said))?;
        let forward = if kept.is_empty() { Vec::new() } else { pieces(self.id, &kept) };
        Ok(Passed { forward, ..Passed::default() })
    }
}
