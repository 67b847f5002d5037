//! Events as bytes: `varint length · kind · varint microseconds since the event before · fields`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{Cursor, put_varint, varint_len},
    error::{ReadError, RecordError},
    event::{Direction, Event, StreamDigest},
    header::Hash,
    keys::Key,
};

/// Longest data of one event; longer ones are split.
pub(crate) const MAX_DATA: usize = 64 * 1024;
/// Longest text of one event.
const MAX_TEXT: usize = 16 * 1024;
/// Bytes of an AES-GCM tag.
pub(crate) const TAG_LEN: usize = 16;

mod tag {
    pub(super) const OUTPUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    pub(super) const INPUT: u8 = 3;
    pub(super) const MASKED: u8 = 4;
    pub(super) const RESIZE: u8 = 5;
    pub(super) const NOTICE: u8 = 6;
    pub(super) const SUSPEND: u8 = 7;
    pub(super) const RESUME: u8 = 8;
    pub(super) const OPEN: u8 = 9;
    pub(super) const CLOSE: u8 = 10;
    pub(super) const FILE: u8 = 11;
    pub(super) const CONTENT: u8 = 12;
    pub(super) const FORWARD: u8 = 13;
    pub(super) const FINDING: u8 = 14;
    pub(super) const DECISION: u8 = 15;
    pub(super) const DIGEST: u8 = 16;
    pub(super) const ANCHOR: u8 = 17;
    pub(super) const END: u8 = 18;
    pub(super) const OPERATION: u8 = 19;
    pub(super) const KEY_FRAME: u8 = 64;
    pub(super) const TILES: u8 = 65;
    pub(super) const POINTER: u8 = 66;
    pub(super) const POINTER_SHAPE: u8 = 67;
    pub(super) const KEYBOARD: u8 = 68;
    pub(super) const CLIPBOARD: u8 = 69;
}

/// Encrypts and opens masked input. The nonce counts masked events of the recording.
pub(crate) struct Mask {
    key: LessSafeKey,
    header: Hash,
}

impl Mask {
    pub(crate) fn new(key: &Key, header: Hash) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key.bytes()).ok()?;
        Some(Self { key: LessSafeKey::new(key), header })
    }

    fn nonce(count: u64) -> Nonce {
        let mut raw = [0; 12];
        for (to, from) in raw.iter_mut().zip(count.to_le_bytes()) {
            *to = from;
        }
        Nonce::assume_unique_for_key(raw)
    }

    fn seal(&self, count: u64, channel: u32, data: &mut Vec<u8>) -> Result<(), RecordError> {
        self.key
            .seal_in_place_append_tag(Self::nonce(count), Aad::from(self.aad(channel)), data)
            .map_err(|_| RecordError::Crypto("masking input"))
    }

    fn open(&self, count: u64, channel: u32, sealed: &[u8]) -> Option<Bytes> {
        let mut data = sealed.to_vec();
        let plain =
            self.key.open_in_place(Self::nonce(count), Aad::from(self.aad(channel)), &mut data).ok()?;
        Some(Bytes::copy_from_slice(plain))
    }

    fn aad(&self, channel: u32) -> [u8; 36] {
        let mut out = [0; 36];
        for (to, from) in out.iter_mut().zip(self.header.iter().chain(&channel.to_le_bytes())) {
            *to = *from;
        }
        out
    }
}

/// What the encoder must know about masked input: the key and the next nonce.
#[derive(Default)]
pub(crate) struct Masking {
    pub(crate) mask: Option<Mask>,
    pub(crate) count: u64,
}

/// Upper bound of the bytes that [`encode`] adds for a piece of `data` bytes.
pub(crate) const OVERHEAD: usize = 64;

/// The data that can be split over several events.
pub(crate) fn data_of(event: &Event) -> Option<&Bytes> {
    match event {
        Event::Output { data, .. }
        | Event::Stderr { data, .. }
        | Event::Input { data, .. }
        | Event::FileContent { data, .. } => Some(data),
        _ => None,
    }
}

/// Bytes of an event's data, whether or not it can be split.
pub(crate) fn data_len(event: &Event) -> usize {
    match event {
        Event::Tiles { data, .. } | Event::PointerShape { data, .. } => data.len(),
        other => data_of(other).map_or(0, Bytes::len),
    }
}

/// The piece of a data event that starts at byte `at`; no bytes are copied.
pub(crate) fn piece(event: &Event, at: usize) -> Event {
    let cut = |data: &Bytes| data.slice(at.min(data.len())..(at + MAX_DATA).min(data.len()));
    match event {
        Event::Output { channel, data } => Event::Output { channel: *channel, data: cut(data) },
        Event::Stderr { channel, data } => Event::Stderr { channel: *channel, data: cut(data) },
        Event::Input { channel, data, masked } => {
            Event::Input { channel: *channel, data: cut(data), masked: *masked }
        }
        Event::FileContent { file, offset, data } => {
            Event::FileContent { file: *file, offset: offset.saturating_add(at as u64), data: cut(data) }
        }
        other => other.clone(),
    }
}

/// Appends one event. `delta` is the time since the event before, in microseconds.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    delta: u64,
    event: &Event,
    masking: &mut Masking,
) -> Result<(), RecordError> {
    let mut frame = Frame { out, delta };
    match event {
        Event::Output { channel, data } => frame.data(tag::OUTPUT, &[u64::from(*channel)], data),
        Event::Stderr { channel, data } => frame.data(tag::STDERR, &[u64::from(*channel)], data),
        Event::Input { channel, data, masked: false } => {
            frame.data(tag::INPUT, &[u64::from(*channel)], data);
        }
        Event::Input { channel, data, masked: true } => masked(&mut frame, *channel, data, masking)?,
        Event::MaskedInput { channel, len } => {
            frame.data(tag::MASKED, &[u64::from(*channel), u64::from(*len), 0], &[]);
        }
        Event::Resize { channel, cols, rows } => {
            frame.data(tag::RESIZE, &[u64::from(*channel), u64::from(*cols), u64::from(*rows)], &[]);
        }
        Event::Notice { text } => frame.text(tag::NOTICE, &[], text),
        Event::Suspend { by } => frame.text(tag::SUSPEND, &[], by),
        Event::Resume { by } => frame.text(tag::RESUME, &[], by),
        Event::ChannelOpen { channel, what } => frame.text(tag::OPEN, &[u64::from(*channel)], what),
        Event::ChannelClose { channel, exit } => {
            let exit = exit.map_or(0, |code| 1 + u64::from(code.cast_unsigned()));
            frame.data(tag::CLOSE, &[u64::from(*channel), exit], &[]);
        }
        Event::File(op) => {
            let mut op = op.as_ref().clone();
            for text in [&mut op.path, &mut op.note, &mut op.op, &mut op.outcome] {
                clip(text, MAX_TEXT / 4);
            }
            op.target.iter_mut().for_each(|t| clip(t, MAX_TEXT / 4));
            frame.json(tag::FILE, &op)?;
        }
        Event::FileContent { file, offset, data } => {
            frame.data(tag::CONTENT, &[u64::from(*file), *offset], data);
        }
        Event::Forward(forward) => frame.json(tag::FORWARD, forward)?,
        Event::Finding(finding) => frame.json(tag::FINDING, finding)?,
        Event::Decision(decision) => frame.json(tag::DECISION, decision)?,
        Event::Operation(op) => frame.json(tag::OPERATION, op)?,
        Event::StreamDigest(d) => {
            let flags = u64::from(d.direction == Direction::ToPerson) | u64::from(d.last) << 1;
            frame.data(tag::DIGEST, &[u64::from(d.channel), flags, d.bytes, d.since], &d.sha256);
        }
        Event::AuditAnchor(anchor) => frame.json(tag::ANCHOR, anchor)?,
        Event::End(end) => frame.json(tag::END, end)?,
        Event::Clipboard(clipboard) => frame.json(tag::CLIPBOARD, clipboard)?,
        Event::KeyFrame { .. }
        | Event::Tiles { .. }
        | Event::Pointer { .. }
        | Event::PointerShape { .. }
        | Event::Keyboard { .. } => desktop(&mut frame, event)?,
        // Only a reader makes these; there is nothing to keep.
        Event::Unknown { .. } => {}
    }
    Ok(())
}

fn desktop(frame: &mut Frame<'_>, event: &Event) -> Result<(), RecordError> {
    if data_len(event) > MAX_DATA {
        return Err(RecordError::Crypto("framing a desktop's tiles"));
    }
    match event {
        Event::KeyFrame { channel, width, height } => {
            let numbers = [u64::from(*channel), u64::from(*width), u64::from(*height)];
            frame.data(tag::KEY_FRAME, &numbers, &[]);
        }
        Event::Tiles { channel, more, data } => {
            frame.data(tag::TILES, &[u64::from(*channel), u64::from(*more)], data);
        }
        Event::Pointer { channel, x, y, buttons } => {
            let numbers = [u64::from(*channel), u64::from(*x), u64::from(*y), u64::from(*buttons)];
            frame.data(tag::POINTER, &numbers, &[]);
        }
        Event::PointerShape { channel, data } => {
            frame.data(tag::POINTER_SHAPE, &[u64::from(*channel)], data);
        }
        Event::Keyboard { channel, layout } => {
            frame.data(tag::KEYBOARD, &[u64::from(*channel), u64::from(*layout)], &[]);
        }
        _ => {}
    }
    Ok(())
}

fn masked(
    frame: &mut Frame<'_>,
    channel: u32,
    data: &[u8],
    masking: &mut Masking,
) -> Result<(), RecordError> {
    let len = data.len() as u64;
    let Some(mask) = &masking.mask else {
        frame.data(tag::MASKED, &[u64::from(channel), len, 0], &[]);
        return Ok(());
    };
    // Counting before use: a number is never used twice, even after a failure.
    masking.count += 1;
    let mut sealed = Vec::with_capacity(data.len() + TAG_LEN);
    sealed.extend_from_slice(data);
    mask.seal(masking.count, channel, &mut sealed)?;
    frame.data(tag::MASKED, &[u64::from(channel), len, masking.count], &sealed);
    Ok(())
}

struct Frame<'a> {
    out: &'a mut Vec<u8>,
    delta: u64,
}

impl Frame<'_> {
    fn data(&mut self, kind: u8, numbers: &[u64], data: &[u8]) {
        let fields: usize = numbers.iter().map(|n| varint_len(*n)).sum();
        let len = 1 + varint_len(self.delta) + fields + data.len();
        put_varint(self.out, len as u64);
        self.out.push(kind);
        put_varint(self.out, self.delta);
        for number in numbers {
            put_varint(self.out, *number);
        }
        self.out.extend_from_slice(data);
    }

    fn text(&mut self, kind: u8, numbers: &[u64], text: &str) {
        self.data(kind, numbers, text.as_bytes().get(..floor(text, MAX_TEXT)).unwrap_or_default());
    }

    fn json(&mut self, kind: u8, value: &impl Serialize) -> Result<(), RecordError> {
        let json = serde_json::to_vec(value).map_err(|_| RecordError::Crypto("writing an event"))?;
        // A list that somebody made absurdly long loses its content, not the mark that it happened.
        if json.len() > MAX_DATA {
            self.data(kind, &[], b"{}");
        } else {
            self.data(kind, &[], &json);
        }
        Ok(())
    }
}

fn floor(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn clip(text: &mut String, max: usize) {
    text.truncate(floor(text, max));
}

/// One event as it stands in the plain text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) kind: u8,
    pub(crate) delta: u64,
    fields: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

impl Raw<'_> {
    /// Whether a desktop's picture begins anew here.
    pub(crate) fn is_key_frame(&self) -> bool {
        self.kind == tag::KEY_FRAME
    }
}

/// Takes the next event off the plain text; `None` at its end.
pub(crate) fn next_raw<'a>(text: &mut &'a [u8]) -> Result<Option<Raw<'a>>, &'static str> {
    let bad = "an event's frame is malformed";
    let mut c = Cursor::new(text);
    if c.is_empty() {
        return Ok(None);
    }
    let len = c.varint().ok_or(bad)?;
    let frame = c.take(usize::try_from(len).map_err(|_| bad)?).ok_or(bad)?;
    let whole = text.len() - c.rest().len();
    *text = c.rest();
    let mut c = Cursor::new(frame);
    let kind = c.u8().ok_or(bad)?;
    let delta = c.varint().ok_or(bad)?;
    Ok(Some(Raw { kind, delta, fields: c.rest(), len: whole }))
}

/// The event inside a frame. `source` is the buffer that `raw` was cut from, so that data events
/// share it instead of copying.
pub(crate) fn decode(raw: &Raw<'_>, source: &Bytes, mask: Option<&Mask>) -> Result<Event, ReadError> {
    fields(raw, source, mask).ok_or_else(|| ReadError::damaged(0, "an event's fields are malformed"))
}

fn fields(raw: &Raw<'_>, source: &Bytes, mask: Option<&Mask>) -> Option<Event> {
    let mut c = Cursor::new(raw.fields);
    let rest = |c: &Cursor<'_>| source.slice_ref(c.rest());
    Some(match raw.kind {
        tag::OUTPUT => Event::Output { channel: c.varint_u32()?, data: rest(&c) },
        tag::STDERR => Event::Stderr { channel: c.varint_u32()?, data: rest(&c) },
        tag::INPUT => Event::Input { channel: c.varint_u32()?, data: rest(&c), masked: false },
        tag::MASKED => unmask(&mut c, mask)?,
        tag::RESIZE => Event::Resize {
            channel: c.varint_u32()?,
            cols: c.varint()?.try_into().ok()?,
            rows: c.varint()?.try_into().ok()?,
        },
        tag::NOTICE => Event::Notice { text: text(&c) },
        tag::SUSPEND => Event::Suspend { by: text(&c) },
        tag::RESUME => Event::Resume { by: text(&c) },
        tag::OPEN => Event::ChannelOpen { channel: c.varint_u32()?, what: text(&c) },
        tag::CLOSE => {
            let (channel, exit) = (c.varint_u32()?, c.varint()?);
            let exit = match exit.checked_sub(1) {
                Some(code) => Some(u32::try_from(code).ok()?.cast_signed()),
                None => None,
            };
            Event::ChannelClose { channel, exit }
        }
        tag::FILE => Event::File(json(&c)?),
        tag::CONTENT => Event::FileContent { file: c.varint_u32()?, offset: c.varint()?, data: rest(&c) },
        tag::FORWARD => Event::Forward(json(&c)?),
        tag::FINDING => Event::Finding(json(&c)?),
        tag::DECISION => Event::Decision(json(&c)?),
        tag::OPERATION => Event::Operation(json(&c)?),
        tag::DIGEST => digest(&mut c)?,
        tag::ANCHOR => Event::AuditAnchor(json(&c)?),
        tag::END => Event::End(json(&c)?),
        tag::KEY_FRAME => Event::KeyFrame {
            channel: c.varint_u32()?,
            width: c.varint()?.try_into().ok()?,
            height: c.varint()?.try_into().ok()?,
        },
        tag::TILES => Event::Tiles { channel: c.varint_u32()?, more: c.varint()? != 0, data: rest(&c) },
        tag::POINTER => Event::Pointer {
            channel: c.varint_u32()?,
            x: c.varint()?.try_into().ok()?,
            y: c.varint()?.try_into().ok()?,
            buttons: c.varint()?.try_into().ok()?,
        },
        tag::POINTER_SHAPE => Event::PointerShape { channel: c.varint_u32()?, data: rest(&c) },
        tag::KEYBOARD => Event::Keyboard { channel: c.varint_u32()?, layout: c.varint_u32()? },
        tag::CLIPBOARD => Event::Clipboard(json(&c)?),
        kind => Event::Unknown { kind, len: raw.fields.len() as u32 },
    })
}

fn unmask(c: &mut Cursor<'_>, mask: Option<&Mask>) -> Option<Event> {
    let (channel, len, count) = (c.varint_u32()?, c.varint_u32()?, c.varint()?);
    let hidden = Event::MaskedInput { channel, len };
    Some(match mask {
        Some(mask) if count > 0 => {
            Event::Input { channel, data: mask.open(count, channel, c.rest())?, masked: true }
        }
        _ => hidden,
    })
}

fn digest(c: &mut Cursor<'_>) -> Option<Event> {
    let (channel, flags, bytes, since) = (c.varint_u32()?, c.varint()?, c.varint()?, c.varint()?);
    let direction = if flags & 1 == 0 { Direction::ToTarget } else { Direction::ToPerson };
    let sha256 = c.array()?;
    Some(Event::StreamDigest(StreamDigest { channel, direction, bytes, sha256, since, last: flags & 2 != 0 }))
}

fn text(c: &Cursor<'_>) -> String {
    String::from_utf8_lossy(c.rest()).into_owned()
}

fn json<T: DeserializeOwned>(c: &Cursor<'_>) -> Option<Box<T>> {
    serde_json::from_slice(c.rest()).ok()
}
