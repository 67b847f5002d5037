//! Orders of people to a live session, as they arrive from the store.

/// What somebody wants of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Freeze it both ways.
    Suspend {
        /// Who.
        by: String,
        /// Why; may be empty.
        reason: String,
    },
    /// Let it go on.
    Resume {
        /// Who.
        by: String,
    },
    /// End it.
    End {
        /// Who.
        by: String,
        /// Why; may be empty.
        reason: String,
    },
    /// Tell the person something.
    Message {
        /// Who.
        by: String,
        /// The text.
        text: String,
    },
}
