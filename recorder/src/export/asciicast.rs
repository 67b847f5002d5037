//! asciicast v2 and v3, as the stock `asciinema` player takes them.

use std::io::Write;

use crate::{
    cast::{CastCode, CastEvent, CastLines, CastVersion, Caster},
    error::ReadError,
    event::TimedEvent,
    header::Header,
    read::Recording,
    render::Screen,
    view::View,
};

/// What an asciicast holds.
#[derive(Debug, Clone, Copy)]
pub struct CastOptions {
    /// The version of the form.
    pub version: CastVersion,
    /// The channel; absent: as [`View::of`] chooses.
    pub channel: Option<u32>,
    /// Whether to write what was typed. Masked input is never written.
    pub input: bool,
    /// Begin at this time (microseconds since 1970, UTC) with the screen as it stood there.
    pub from: Option<i64>,
    /// End before this time.
    pub until: Option<i64>,
}

impl CastOptions {
    /// All that one terminal showed.
    pub const fn of(version: CastVersion) -> Self {
        Self { version, channel: None, input: false, from: None, until: None }
    }
}

/// Writes an asciicast of one channel. One that begins later finds its place by the indexes, and holds times since that
/// beginning.
///
/// # Errors
/// When the recording is locked or damaged, shows nothing, or `out` fails.
pub fn export_asciicast(
    recording: &Recording,
    options: CastOptions,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    let view = View::of(recording, options.channel)?.ok_or(ReadError::Missing("terminal"))?;
    let header = recording.header();
    match options.from.filter(|from| *from > header.started) {
        Some(from) => {
            let screen = view.screen_at(recording, from)?;
            let later = recording.events_from(from)?;
            // The screen holds what happened up to then.
            let later = later.skip_while(|event| event.as_ref().is_ok_and(|event| event.at <= from));
            write(header, view, Some((from, &screen)), later, options, out)
        }
        None => write(header, view, None, recording.events()?, options, out),
    }
}

pub(super) fn write(
    header: &Header,
    view: View,
    joined: Option<(i64, &Screen)>,
    events: impl Iterator<Item = Result<TimedEvent, ReadError>>,
    options: CastOptions,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    let mut cast = Cast { version: options.version, header, out, lines: None };
    if let Some((at, screen)) = joined {
        let (cols, rows) = screen.size();
        cast.start(at, cols, rows)?;
        cast.put(&CastEvent { at, code: CastCode::Output, text: screen.dump() })?;
    }
    let mut caster = Caster::new(view, options.input, joined.map(|(_, screen)| screen));
    for event in events {
        let event = event?;
        if options.until.is_some_and(|until| event.at >= until) {
            break;
        }
        if let Some(event) = caster.event(&event) {
            cast.put(&event)?;
        }
    }
    if cast.lines.is_none() {
        return Err(ReadError::Missing("terminal"));
    }
    cast.out.flush().map_err(ReadError::Export)
}

struct Cast<'o, W> {
    version: CastVersion,
    header: &'o Header,
    out: &'o mut W,
    lines: Option<CastLines>,
}

impl<W: Write> Cast<'_, W> {
    fn start(&mut self, at: i64, cols: usize, rows: usize) -> Result<(), ReadError> {
        let (lines, first) = CastLines::start(self.version, self.header, at, cols, rows);
        self.lines = Some(lines);
        writeln!(self.out, "{first}").map_err(ReadError::Export)
    }

    /// Writes an event; the first that needs a terminal makes the header.
    fn put(&mut self, event: &CastEvent) -> Result<(), ReadError> {
        if self.lines.is_none() {
            match event.code {
                CastCode::Resize => {
                    let (cols, rows) = event.size().unwrap_or((80, 24));
                    return self.start(event.at, cols, rows);
                }
                // Nothing to mark yet.
                CastCode::Marker => return Ok(()),
                _ => self.start(event.at, 80, 24)?,
            }
        }
        match self.lines.as_mut().and_then(|lines| lines.line(event)) {
            Some(line) => writeln!(self.out, "{line}").map_err(ReadError::Export),
            None => Ok(()),
        }
    }
}
