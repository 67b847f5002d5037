//! What a replay shows beside the terminal: what happened, and the text, each with its time.

use std::ops::ControlFlow;

use crate::{
    error::ReadError,
    lines::TextLine,
    read::Recording,
    search::{Kinds, Query, search_recording},
};

/// Lines of a recording in the order of their times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// The lines.
    pub lines: Vec<TextLine>,
    /// There are more than were asked for: ask again from the last one's time on.
    pub more: bool,
}

/// What happened in an unlocked recording (commands, files, forwards, findings, notices, suspensions, resizes …) as a list
/// to jump to; at most `most`.
///
/// # Errors
/// When the recording is locked or cannot be read.
pub fn marks(recording: &Recording, most: usize) -> Result<Lines, ReadError> {
    lines(recording, &Query { kinds: Kinds::Marks, ..Query::default() }, most)
}

/// The lines of an unlocked recording that a query asks for, at most `most`: its transcript with times, marks among it,
/// where the query asks for nothing.
///
/// # Errors
/// When the recording is locked or cannot be read.
pub fn lines(recording: &Recording, query: &Query, most: usize) -> Result<Lines, ReadError> {
    let mut found = Lines::default();
    search_recording(recording, query, |line| {
        found.more = found.lines.len() >= most;
        if found.more {
            return ControlFlow::Break(());
        }
        found.lines.push(line);
        ControlFlow::Continue(())
    })?;
    found.lines.sort_by_key(|line| line.at);
    Ok(found)
}
