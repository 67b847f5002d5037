//! Other forms of a recording, for other programs and for courts.

mod asciicast;
mod bundle;
mod bundle_check;
mod files;
mod json;
mod tar;

use std::io::Write;

pub use asciicast::{CastOptions, export_asciicast};
pub use bundle::{BundleParts, write_bundle};
pub use bundle_check::{BundleReport, verify_bundle};
pub use files::{ExtractedFile, export_files};
pub use json::export_jsonl;

use crate::{error::ReadError, event::TimedEvent, read::Recording, render::Screen, view::View};

/// Writes the text that scrolled over the terminal of a channel, as rendered, and what stood on it
/// at the end. `channel` absent: the first that has a terminal; where none has, what all of them printed.
///
/// # Errors
/// When the recording is locked or damaged, shows nothing, or `out` fails.
pub fn export_transcript(
    recording: &Recording,
    channel: Option<u32>,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    let view = View::of(recording, channel)?.ok_or(ReadError::Missing("terminal"))?;
    let all = channel.is_none() && !view.terminal;
    transcript(recording.events()?, view, all, out)
}

fn transcript(
    events: impl Iterator<Item = Result<TimedEvent, ReadError>>,
    mut view: View,
    all: bool,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    let mut screen = Screen::collecting();
    for event in events {
        let event = event?.event;
        if let (true, Some(channel)) = (all, event.channel()) {
            view.channel = channel;
        }
        if !view.shows(&event) {
            continue;
        }
        view.apply(&mut screen, &event);
        for line in screen.take_scrolled() {
            writeln!(out, "{line}").map_err(ReadError::Export)?;
        }
    }
    for line in screen.remaining() {
        writeln!(out, "{line}").map_err(ReadError::Export)?;
    }
    out.flush().map_err(ReadError::Export)
}

/// What reads bytes of strangers here, for fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use std::io::sink;

    use super::{CastOptions, asciicast, bundle_check, files, json, transcript};
    use crate::{
        cast::CastVersion, event::TimedEvent, header::Header, render::Screen, sign::VerifyingKey, view::View,
    };

    /// Reads arbitrary bytes as a bundle.
    pub(crate) fn bundle(bytes: &[u8], key: &VerifyingKey) {
        // What is no bundle is refused; that is all there is to say about it.
        bundle_check::verify_bundle_source(&bytes, key).ok();
    }

    /// Writes arbitrary events in every form. A form that refuses them is right in its own way.
    pub(crate) fn exports(header: &Header, events: &[TimedEvent], folder: Option<&std::path::Path>) {
        let all = || events.iter().cloned().map(Ok);
        for version in [CastVersion::V2, CastVersion::V3] {
            for channel in [None, Some(0)] {
                let options = CastOptions { channel, input: true, ..CastOptions::of(version) };
                let Ok(Some(view)) = View::among(all(), channel) else { continue };
                let joined = channel.map(|_| (0, Screen::default()));
                let joined = joined.as_ref().map(|(at, screen)| (*at, screen));
                asciicast::write(header, view, joined, all(), options, &mut sink()).ok();
            }
        }
        for all_channels in [false, true] {
            let Ok(Some(view)) = View::among(all(), None) else { continue };
            transcript(all(), view, all_channels, &mut sink()).ok();
        }
        json::write(all(), &mut sink()).ok();
        if let Some(folder) = folder {
            files::write(all(), folder, 1 << 16).ok();
        }
    }
}
