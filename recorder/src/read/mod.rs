//! The reading side: open, unlock, seek, stream, follow. Every allocation is bounded by the limits
//! of the format, never by a length that a file claims.

mod events;
mod recording;
mod rewrap;
mod tail;

pub use events::{Events, Next};
pub use recording::{Found, Listed, Recording, list};
pub(crate) use recording::{listed, side_file};
pub use rewrap::{recipients_of, rewrap};
