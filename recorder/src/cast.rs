//! A terminal as a stream of small events, in the form of asciicast: what players take, from a file or as it happens.

use serde_json::{Map, Value, json};

use crate::{
    event::{Event, TimedEvent},
    header::Header,
    render::{Screen, decode},
    view::{View, with_returns},
};

/// The version of the form (docs.asciinema.org/manual/asciicast).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastVersion {
    /// Times since the start.
    V2,
    /// Times since the event before.
    V3,
}

/// What an event of a cast does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastCode {
    /// Its text goes to the terminal.
    Output,
    /// Its text was typed.
    Input,
    /// The terminal has the size that its text says (`80x24`).
    Resize,
    /// Something happened; a player shows it on its time line.
    Marker,
    /// The program ended with the status that its text says; version 3 only.
    Exit,
}

impl CastCode {
    /// The letter of the form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Output => "o",
            Self::Input => "i",
            Self::Resize => "r",
            Self::Marker => "m",
            Self::Exit => "x",
        }
    }
}

/// An event of a cast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastEvent {
    /// Microseconds since 1970, UTC.
    pub at: i64,
    /// What it does.
    pub code: CastCode,
    /// Its text: whole characters, whatever way the bytes came.
    pub text: String,
}

impl CastEvent {
    /// Columns and rows, where it is a resize.
    pub fn size(&self) -> Option<(usize, usize)> {
        let (cols, rows) = self.text.split_once('x').filter(|_| self.code == CastCode::Resize)?;
        Some((cols.parse().ok()?, rows.parse().ok()?))
    }

    /// Does to a screen what it does to a player's.
    pub fn apply(&self, screen: &mut Screen) {
        if let Some((cols, rows)) = self.size() {
            screen.resize(cols, rows);
        } else if self.code == CastCode::Output {
            screen.feed(self.text.as_bytes());
        }
    }
}

/// Makes the events of a view's cast from those of its recording. Masked input is never among them.
#[derive(Debug)]
pub(crate) struct Caster {
    view: View,
    input: bool,
    /// Unfinished characters of output and of input.
    partial: [Vec<u8>; 2],
}

impl Caster {
    /// Goes on behind what `screen` shows already, or from the start.
    pub(crate) fn new(view: View, input: bool, screen: Option<&Screen>) -> Self {
        let output = screen.map(|screen| screen.unfinished().to_vec()).unwrap_or_default();
        Self { view, input, partial: [output, Vec::new()] }
    }

    /// What the next event is in the cast, if anything.
    pub(crate) fn event(&mut self, event: &TimedEvent) -> Option<CastEvent> {
        let here = event.event.channel() == Some(self.view.channel);
        let [output, input] = &mut self.partial;
        let (code, text) = match &event.event {
            Event::Resize { cols, rows, .. } if here => (CastCode::Resize, format!("{cols}x{rows}")),
            Event::Output { data, .. } | Event::Stderr { data, .. } if here => {
                let text = match self.view.terminal {
                    true => decode(output, data),
                    false => decode(output, &with_returns(data)),
                };
                (CastCode::Output, text)
            }
            Event::Input { data, masked: false, .. } if here && self.input => {
                (CastCode::Input, decode(input, data))
            }
            Event::Notice { text } => (CastCode::Marker, text.clone()),
            Event::Finding(finding) => (CastCode::Marker, format!("finding: {}", finding.trigger)),
            Event::Suspend { by } => (CastCode::Marker, format!("suspended by {by}")),
            Event::Resume { by } => (CastCode::Marker, format!("resumed by {by}")),
            Event::ChannelClose { exit: Some(status), .. } if here => (CastCode::Exit, status.to_string()),
            _ => return None,
        };
        (!text.is_empty()).then_some(CastEvent { at: event.at, code, text })
    }
}

/// Writes a cast line by line, without line breaks: the header first, then each event. A player takes the lines as a file,
/// or one by one over a WebSocket.
#[derive(Debug)]
pub struct CastLines {
    version: CastVersion,
    started: i64,
    last: i64,
}

impl CastLines {
    /// Starts a cast at `at`, on a terminal of that size; also gives its first line.
    pub fn start(version: CastVersion, header: &Header, at: i64, cols: usize, rows: usize) -> (Self, String) {
        let title = format!("{} on {} ({})", header.user, header.asset, header.id);
        let mut line = Map::new();
        match version {
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
        (Self { version, started: at, last: at }, Value::Object(line).to_string())
    }

    /// The line of the next event; `None` where this version has no such event.
    pub fn line(&mut self, event: &CastEvent) -> Option<String> {
        if event.code == CastCode::Exit && self.version == CastVersion::V2 {
            return None;
        }
        let since = match self.version {
            CastVersion::V2 => self.started,
            CastVersion::V3 => self.last,
        };
        self.last = event.at;
        let micros = event.at.saturating_sub(since).max(0);
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let text = Value::String(event.text.clone());
        Some(format!("[{seconds}.{micros:06}, \"{}\", {text}]", event.code.as_str()))
    }
}
