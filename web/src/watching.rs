//! Live sessions: what the web interface asks of the node that carries them.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam_access::{
    audit::Act,
    clock::Timestamp,
    ids::{Name, SessionId},
};
use tokio::sync::mpsc;

/// What a session is doing now. Held by the node that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Its id.
    pub id: SessionId,
    /// The last human input.
    pub last_input: Timestamp,
    /// The absolute end as it stands.
    pub not_after: Timestamp,
    /// Idle time after which it ends, seconds; 0: never.
    pub idle_seconds: u32,
    /// Why it stands still, if it does.
    pub frozen: Option<String>,
    /// It stands still until somebody who approves watches it.
    pub unwatched: bool,
    /// How many people watch it.
    pub watchers: u32,
    /// Bytes from the person and from the target.
    pub bytes: (u64, u64),
}

/// Something that happened in a session that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// The terminal showed this.
    Output(String),
    /// The terminal has another size.
    Size {
        /// Columns.
        columns: usize,
        /// Rows.
        rows: usize,
    },
    /// A command, a finding, a file …
    Mark {
        /// When.
        at: Timestamp,
        /// Which kind (`command`, `finding` …).
        kind: String,
        /// In words.
        text: String,
    },
    /// The terminal begins anew, on an empty screen.
    Cleared,
    /// The desktop changed: messages for the page's painter.
    Desktop(Bytes),
    /// The rest could not be followed, and why.
    Failed(String),
}

/// A session that somebody watches. Dropping it ends the watching.
#[derive(Debug)]
pub struct Watching {
    /// Columns at the moment of joining.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Written to an empty terminal of that size, this shows what the person sees.
    pub screen: String,
    /// Messages that paint the desktop as it stands, where the session has one instead of a terminal.
    pub desktop: Option<Bytes>,
    /// What happens from there on; closed at the session's end.
    pub events: mpsc::Receiver<Watched>,
}

/// Live sessions of this node. Orders to sessions of any node go through the store.
#[async_trait]
pub trait LiveSessions: Send + Sync + fmt::Debug {
    /// All of this node.
    fn list(&self) -> Vec<LiveSession>;
    /// One of them.
    fn get(&self, id: SessionId) -> Option<LiveSession>;
    /// Watches one, as `who`, whose act is audited before anything is shown. Who watches as an approver lets a supervised
    /// session go on for as long as they do.
    ///
    /// # Errors
    /// Why it cannot be watched, for the person who wanted to.
    async fn watch(&self, act: &Act, who: &Name, id: SessionId) -> Result<Watching, String>;
}
