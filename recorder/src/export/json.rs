//! Events as JSON Lines: one object each, with `at`, `time`, `type` and the event's own fields.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::Write;

use crate::{
    error::ReadError,
    event::{Event, TimedEvent},
    read::Recording,
};

/// Writes every event that the unlocking identity may see. Bytes that are UTF-8 stand as `text`,
/// others as `base64`.
///
/// # Errors
/// When the recording is locked or damaged, or `out` fails.
pub fn export_jsonl(recording: &Recording, out: &mut impl Write) -> Result<(), ReadError> {
    write(recording.events()?, out)
}

pub(super) fn write(
    events: impl Iterator<Item = Result<TimedEvent, ReadError>>,
    out: &mut impl Write,
) -> Result<(), ReadError> {
    for event in events {
        let line = Value::Object(object(&event?)?);
        writeln!(out, "{line}").map_err(ReadError::Export)?;
    }
    out.flush().map_err(ReadError::Export)
}

fn object(event: &TimedEvent) -> Result<Map<String, Value>, ReadError> {
    let mut line = Map::new();
    line.insert("at".into(), json!(event.at));
    if let Ok(time) = jiff::Timestamp::from_microsecond(event.at) {
        line.insert("time".into(), json!(time.to_string()));
    }
    line.insert("type".into(), json!(event.event.name()));
    if let Some(channel) = event.event.channel() {
        line.insert("channel".into(), json!(channel));
    }
    fields(&event.event, &mut line)?;
    Ok(line)
}

fn fields(event: &Event, line: &mut Map<String, Value>) -> Result<(), ReadError> {
    match event {
        Event::Output { data, .. } | Event::Stderr { data, .. } => bytes(line, data),
        Event::Input { data, masked, .. } => {
            line.insert("masked".into(), json!(masked));
            bytes(line, data);
        }
        Event::MaskedInput { len, .. } => {
            line.insert("len".into(), json!(len));
        }
        Event::Resize { cols, rows, .. } => {
            line.insert("cols".into(), json!(cols));
            line.insert("rows".into(), json!(rows));
        }
        Event::Notice { text } => {
            line.insert("text".into(), json!(text));
        }
        Event::Suspend { by } | Event::Resume { by } => {
            line.insert("by".into(), json!(by));
        }
        Event::ChannelOpen { what, .. } => {
            let what = serde_json::from_str(what).unwrap_or_else(|_| Value::String(what.clone()));
            line.insert("what".into(), what);
        }
        Event::ChannelClose { exit, .. } => {
            line.insert("exit".into(), json!(exit));
        }
        Event::File(op) => merge(line, op)?,
        Event::FileContent { file, offset, data } => {
            line.insert("file".into(), json!(file));
            line.insert("offset".into(), json!(offset));
            bytes(line, data);
        }
        Event::Forward(forward) => merge(line, forward)?,
        Event::Finding(finding) => merge(line, finding)?,
        Event::Decision(decision) => merge(line, decision)?,
        Event::Operation(op) => merge(line, op)?,
        Event::StreamDigest(d) => {
            line.insert("direction".into(), json!(d.direction));
            line.insert("bytes".into(), json!(d.bytes));
            line.insert("sha256".into(), json!(hex::encode(d.sha256)));
            line.insert("digest_only_since".into(), json!(d.since));
            line.insert("last".into(), json!(d.last));
        }
        Event::KeyFrame { width, height, .. } => {
            line.insert("width".into(), json!(width));
            line.insert("height".into(), json!(height));
        }
        // Pictures are exported as pictures; here it is enough that something changed.
        Event::Tiles { data, .. } | Event::PointerShape { data, .. } => {
            line.insert("len".into(), json!(data.len()));
        }
        Event::Pointer { x, y, buttons, .. } => {
            line.insert("x".into(), json!(x));
            line.insert("y".into(), json!(y));
            line.insert("buttons".into(), json!(buttons));
        }
        Event::Keyboard { layout, .. } => {
            line.insert("layout".into(), json!(layout));
        }
        Event::Clipboard(clipboard) => merge(line, clipboard)?,
        Event::AuditAnchor(anchor) => merge(line, anchor)?,
        Event::End(end) => merge(line, end)?,
        Event::Unknown { kind, len } => {
            line.insert("kind".into(), json!(kind));
            line.insert("len".into(), json!(len));
        }
    }
    Ok(())
}

fn merge(line: &mut Map<String, Value>, value: &impl Serialize) -> Result<(), ReadError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => {
            line.extend(fields);
            Ok(())
        }
        _ => Err(ReadError::Limit("an event could not be written as JSON")),
    }
}

fn bytes(line: &mut Map<String, Value>, data: &[u8]) {
    match std::str::from_utf8(data) {
        Ok(text) => line.insert("text".into(), json!(text)),
        Err(_) => line.insert("base64".into(), json!(BASE64_STANDARD.encode(data))),
    };
}
