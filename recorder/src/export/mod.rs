//! Other forms of a recording, for other programs and for courts.

mod asciicast;
mod bundle;
mod bundle_check;
mod files;
mod json;
mod tar;

use std::io::Write;

pub use asciicast::{CastOptions, CastVersion, export_asciicast};
pub use bundle::{BundleParts, write_bundle};
pub use bundle_check::{BundleReport, verify_bundle};
pub use files::{ExtractedFile, export_files};
pub use json::export_jsonl;

use crate::{error::ReadError, event::Event, read::Recording, render::Screen, sign::VerifyingKey};

/// Reads arbitrary bytes as a bundle; for fuzzing.
pub(crate) fn fuzz_bundle(bytes: &[u8], key: &VerifyingKey) -> bool {
    bundle_check::verify_bundle_source(&bytes, key).is_ok()
}

/// Writes the text that scrolled over the terminal of a channel, as rendered, and what stood on it
/// at the end. `channel` absent: the first that has a terminal.
///
/// # Errors
/// When the recording is locked or damaged, has no terminal, or `out` fails.
pub fn export_transcript(
    recording: &Recording,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    let mut channel = channel;
    let mut screen = Screen::collecting();
    for event in recording.events()? {
        let event = event?.event;
        if channel.is_none() && matches!(event, Event::Resize { .. }) {
            channel = event.channel();
        }
        if channel.is_none() || event.channel() != channel {
            continue;
        }
        screen.apply(&event);
        for line in screen.take_scrolled() {
            writeln!(out, "{line}").map_err(ReadError::Export)?;
        }
    }
    if channel.is_none() {
        return Err(ReadError::Missing("terminal"));
    }
    for line in screen.remaining() {
        writeln!(out, "{line}").map_err(ReadError::Export)?;
    }
    out.flush().map_err(ReadError::Export)
}
