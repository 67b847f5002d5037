//! asciicast v2 and v3, as the stock `asciinema` player takes them.

use serde_json::{Map, Value, json};
use std::io::Write;

use crate::{
    error::ReadError,
    event::{Event, TimedEvent},
    header::Header,
    read::Recording,
    render::decode,
};

/// The version of the form (docs.asciinema.org/manual/asciicast).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastVersion {
    /// Times since the start.
    V2,
    /// Times since the event before.
    V3,
}

/// What an asciicast holds.
#[derive(Debug, Clone, Copy)]
pub struct CastOptions {
    /// The version of the form.
    pub version: CastVersion,
    /// The channel; absent: the first that has a terminal.
    pub channel: Option<u32>,
    /// Whether to write what was typed. Masked input is never written.
    pub input: bool,
}

/// Writes an asciicast of one terminal.
///
/// # Errors
/// When the recording is locked or damaged, has no terminal, or `out` fails.
pub fn export_asciicast(
    recording: &Recording,
    options: CastOptions,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    write(recording.header(), recording.events()?, options, out)
}

pub(super) fn write(
    header: &Header,
    events: impl Iterator<Item = Result<TimedEvent, ReadError>>,
    options: CastOptions,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    let partial = [vec![], vec![]];
    let mut cast = Cast { version: options.version, header, out, started: None, last: 0, partial };
    let mut channel = options.channel;
    for event in events {
        let event = event?;
        if channel.is_none() && matches!(event.event, Event::Resize { .. }) {
            channel = event.event.channel();
        }
        let here = channel.is_some() && event.event.channel() == channel;
        match &event.event {
            Event::Resize { cols, rows, .. } if here => cast.size(event.at, *cols, *rows)?,
            Event::Output { data, .. } | Event::Stderr { data, .. } if here => {
                cast.text(event.at, "o", data)?;
            }
            Event::Input { data, masked: false, .. } if here && options.input => {
                cast.text(event.at, "i", data)?;
            }
            Event::Notice { text } if cast.started.is_some() => cast.event(event.at, "m", text)?,
            Event::Finding(finding) if cast.started.is_some() => {
                cast.event(event.at, "m", &format!("finding: {}", finding.trigger))?;
            }
            Event::ChannelClose { exit: Some(code), .. } if here && cast.version == CastVersion::V3 => {
                cast.start(event.at, 80, 24)?;
                cast.event(event.at, "x", &code.to_string())?;
            }
            _ => {}
        }
    }
    if cast.started.is_none() {
        return Err(ReadError::Missing("terminal"));
    }
    out.flush().map_err(ReadError::Export)
}

struct Cast<'o, W> {
    version: CastVersion,
    header: &'o Header,
    out: &'o mut W,
    started: Option<i64>,
    last: i64,
    /// Unfinished characters of output and of input.
    partial: [Vec<u8>; 2],
}

impl<W: Write> Cast<'_, W> {
    fn start(&mut self, at: i64, cols: u16, rows: u16) -> Result<(), ReadError> {
        if self.started.is_some() {
            return Ok(());
        }
        (self.started, self.last) = (Some(at), at);
        let header = self.header;
        let title = format!("{} on {} ({})", header.user, header.asset, header.id);
        let mut line = Map::new();
        match self.version {
            CastVersion::V2 => {
                line.insert("version".into(), json!(2));
                line.insert("width".into(), json!(cols.max(1)));
                line.insert("height".into(), json!(rows.max(1)));
            }
            CastVersion::V3 => {
                line.insert("version".into(), json!(3));
                line.insert("term".into(), json!({"cols": cols.max(1), "rows": rows.max(1)}));
            }
        }
        line.insert("timestamp".into(), json!(at.div_euclid(1_000_000)));
        line.insert("title".into(), Value::String(title));
        writeln!(self.out, "{}", Value::Object(line)).map_err(ReadError::Export)
    }

    fn size(&mut self, at: i64, cols: u16, rows: u16) -> Result<(), ReadError> {
        if self.started.is_none() {
            return self.start(at, cols, rows);
        }
        self.event(at, "r", &format!("{cols}x{rows}"))
    }

    fn text(&mut self, at: i64, code: &str, data: &[u8]) -> Result<(), ReadError> {
        self.start(at, 80, 24)?;
        let [output, input] = &mut self.partial;
        let text = decode(if code == "o" { output } else { input }, data);
        if text.is_empty() {
            return Ok(());
        }
        self.event(at, code, &text)
    }

    fn event(&mut self, at: i64, code: &str, text: &str) -> Result<(), ReadError> {
        let since = match self.version {
            CastVersion::V2 => self.started.unwrap_or(at),
            CastVersion::V3 => self.last,
        };
        self.last = at;
        let micros = at.saturating_sub(since).max(0);
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let text = Value::String(text.to_owned());
        writeln!(self.out, "[{seconds}.{micros:06}, \"{code}\", {text}]").map_err(ReadError::Export)
    }
}
