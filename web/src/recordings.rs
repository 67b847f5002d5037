//! Recordings: what the web interface asks of whoever keeps them. Each call that shows what was recorded takes the act of
//! who reads, and is audited before anything is shown.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam_access::{
    audit::Act,
    clock::Timestamp,
    ids::{Name, SessionId},
};
use tokio::sync::mpsc;

/// What to look for in recordings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Text that a line holds.
    pub text: String,
    /// Only lines of this kind (`file`, `finding` …); none: of every kind.
    pub kind: Option<&'static str>,
    /// Only this person's.
    pub person: Option<Name>,
    /// Only of this asset.
    pub asset: Option<Name>,
    /// Only lines from this moment on.
    pub from: Option<Timestamp>,
    /// Only lines before this moment.
    pub until: Option<Timestamp>,
}

/// A line of a recording: text on the terminal, or something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedLine {
    /// When it appeared.
    pub at: Timestamp,
    /// What it is (`screen`, `command`, `file`, `finding` …).
    pub kind: &'static str,
    /// Whether it is something that happened, rather than text on the terminal.
    pub mark: bool,
    /// The text.
    pub text: String,
}

/// Lines of one recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedLines {
    /// In the order of their times.
    pub lines: Vec<RecordedLine>,
    /// There are more.
    pub more: bool,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// In each recording, the newest first.
    pub recordings: Vec<(SessionId, Vec<RecordedLine>)>,
    /// There may be more.
    pub more: bool,
    /// Recordings that could not be searched.
    pub skipped: usize,
    /// Why some were left out, for the person.
    pub incomplete: Option<String>,
}

/// What became of a proof.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Nothing is wrong with it.
    pub whole: bool,
    /// Everything that is wrong.
    pub faults: Vec<String>,
    /// Chained segments that were read.
    pub segments: u32,
    /// Signatures that hold.
    pub signatures: u32,
    /// Entries of the audit log that fit.
    pub anchors: u32,
    /// The chain's last value, hexadecimal.
    pub digest: Option<String>,
    /// Up to here a signature covers the content.
    pub proven_until: Option<Timestamp>,
}

/// A form in which a recording is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// For the player in the page: noted as a replay.
    Replay,
    /// A stretch of a desktop for the player in the page, from so many milliseconds after the start on: noted as a replay.
    Desktop {
        /// Milliseconds after the start.
        from: u32,
    },
    /// Small pictures along a desktop's recording: noted as a replay.
    Stills,
    /// asciicast version 2, for any player.
    Asciicast,
    /// What the terminal showed, as text.
    Text,
    /// Every event, one JSON object a line.
    Events,
    /// Everything that it is judged by, under one signature.
    Bundle,
    /// The files that moved, as far as they were kept, in one archive (tar).
    Files,
}

/// The bytes of an export as they are made. An error is the last thing that comes.
pub type Exporting = mpsc::Receiver<Result<Bytes, String>>;

/// Why a recording cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordingsError {
    /// There is none.
    #[error("there is no such recording here")]
    NotFound,
    /// It was deleted, or its session goes on elsewhere: the text says which.
    #[error("{0}")]
    Gone(String),
    /// Too many are read at once.
    #[error("too many recordings are read at once: try again in a moment")]
    Busy,
    /// It does not work; the log says why.
    #[error("{0}")]
    Unreadable(String),
}

/// Recordings of every node that this one can read.
#[async_trait]
pub trait Recordings: Send + Sync + fmt::Debug {
    /// Searches all of them.
    ///
    /// # Errors
    /// When nothing can be searched, or the search cannot be noted.
    async fn search(&self, act: &Act, search: &Search) -> Result<Found, RecordingsError>;
    /// Text and marks of one, at most `most` lines.
    ///
    /// # Errors
    /// When it cannot be read, or the reading cannot be noted.
    async fn transcript(
        &self,
        act: &Act,
        id: SessionId,
        most: usize,
    ) -> Result<RecordedLines, RecordingsError>;
    /// Gives one out in another form.
    ///
    /// # Errors
    /// As [`Self::transcript`]; what goes wrong later comes with the bytes.
    async fn export(&self, act: &Act, id: SessionId, form: Export) -> Result<Exporting, RecordingsError>;
    /// Proves one: its file, against what the audit log and the store have of it.
    ///
    /// # Errors
    /// When it cannot be asked; what is wrong with the recording is in the answer.
    async fn verify(&self, id: SessionId) -> Result<Verified, RecordingsError>;
    /// Puts one on hold.
    ///
    /// # Errors
    /// When it was deleted, or cannot be marked.
    async fn hold(&self, act: &Act, id: SessionId, reason: &str) -> Result<(), RecordingsError>;
    /// Lifts a hold.
    ///
    /// # Errors
    /// When there is none, or the person may not.
    async fn lift_hold(&self, act: &Act, id: SessionId, reason: &str) -> Result<(), RecordingsError>;
}
