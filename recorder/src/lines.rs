//! The text of a session for search: lines as they appeared, commands as they were entered.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    event::{Direction, Event, FileOp, TimedEvent},
    render::Screen,
};

/// Text that appears within this time of the first is given that one's time: 1 s.
const WINDOW: i64 = 1_000_000;
/// Most channels with a terminal that are followed at once; more are not rendered.
const MAX_SCREENS: usize = 64;

/// From so many scrolled lines on, a sample is taken before its time.
const MAX_SCROLLED: usize = 4096;

/// What a line of text is: something that stood on the terminal, or a *mark*, something that happened and that a replay
/// can jump to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LineKind {
    /// It stood on the terminal.
    Screen,
    /// It was entered at a prompt, or given for a channel of its own (`ssh HOST COMMAND`).
    Command,
    /// The gateway said something to the person.
    Notice,
    /// The session was suspended.
    Suspend,
    /// The session went on.
    Resume,
    /// A file operation.
    File,
    /// A forwarded connection, or one that was refused.
    Forward,
    /// A detection.
    Finding,
    /// A decision of the policy.
    Decision,
    /// An operation of an industrial protocol.
    Operation,
    /// The terminal or desktop got another size; the first of a channel says that it has one.
    Resize,
    /// Something went through a desktop's clipboard, or was kept from it.
    Clipboard,
    /// It was typed on a desktop: only for whoever may read masked input, and never in an index.
    Typed,
    /// A program read it off a desktop's picture after the session: it may have misread.
    Ocr,
}

impl LineKind {
    /// All kinds, each at the place that its number in an index names.
    pub(crate) const ALL: [Self; 14] = [
        Self::Screen,
        Self::Command,
        Self::Notice,
        Self::Suspend,
        Self::Resume,
        Self::File,
        Self::Forward,
        Self::Finding,
        Self::Decision,
        Self::Operation,
        Self::Resize,
        Self::Clipboard,
        Self::Typed,
        Self::Ocr,
    ];

    /// Its name, for programs: `screen`, `command`, `notice`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Screen => "screen",
            Self::Command => "command",
            Self::Notice => "notice",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::File => "file",
            Self::Forward => "forward",
            Self::Finding => "finding",
            Self::Decision => "decision",
            Self::Operation => "operation",
            Self::Resize => "resize",
            Self::Clipboard => "clipboard",
            Self::Typed => "typed",
            Self::Ocr => "ocr",
        }
    }

    /// Whether it is something that happened, rather than text on a screen or from the keyboard.
    pub const fn is_mark(self) -> bool {
        !matches!(self, Self::Screen | Self::Typed | Self::Ocr)
    }
}

/// A line of text and when it appeared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextLine {
    /// Microseconds since 1970, UTC.
    pub at: i64,
    /// The channel's number in its session.
    pub channel: u32,
    /// What it is.
    pub kind: LineKind,
    /// The text, as rendered.
    pub text: String,
}

/// Follows a session's events and gives out its text.
#[derive(Default)]
pub(crate) struct LineReader {
    screens: BTreeMap<u32, Followed>,
    /// The sizes of desktops.
    desktops: BTreeMap<u32, (u16, u16)>,
}

pub(crate) struct Followed {
    pub(crate) screen: Screen,
    /// When the first output came that was not sampled yet.
    since: Option<i64>,
    shown: HashSet<u64>,
    /// The text in front of the cursor when typing began.
    prompt: Option<String>,
    /// The same when the first key of a line was pressed, before it is known whether it may be read: that is known only
    /// once the target has shown it, and then it stands in front of the cursor itself.
    touched: Option<String>,
    entered_at: Option<i64>,
}

impl LineReader {
    /// The screens as they are now, by channel.
    pub(crate) fn screens(&self) -> impl Iterator<Item = (u32, &Screen)> {
        self.screens.iter().map(|(channel, followed)| (*channel, &followed.screen))
    }

    /// Takes the next event; new text goes to `out`.
    pub(crate) fn event(&mut self, event: &TimedEvent, out: &mut Vec<TextLine>) {
        let at = event.at;
        if let Some((kind, text)) = words(&event.event) {
            let channel = event.event.channel().unwrap_or(0);
            out.push(TextLine { at, channel, kind, text });
        }
        if let Event::ChannelOpen { channel, what } = &event.event
            && let Some(text) = command(what)
        {
            out.push(TextLine { at, channel: *channel, kind: LineKind::Command, text });
        }
        let Some(channel) = event.event.channel() else { return };
        if let Event::KeyFrame { width, height, .. } = event.event {
            self.desktop(at, channel, (width, height), out);
            return;
        }
        if let Event::ChannelClose { .. } = event.event {
            if let Some(mut followed) = self.screens.remove(&channel) {
                followed.sample(channel, at, out);
            }
            return;
        }
        if matches!(event.event, Event::Resize { .. }) && self.screens.len() < MAX_SCREENS {
            self.screens.entry(channel).or_default();
        }
        // Only a channel that has a terminal shows text; the others carry files and protocols.
        if let Some(followed) = self.screens.get_mut(&channel) {
            followed.event(channel, at, &event.event, out);
        }
    }

    /// A desktop's picture begins anew; said where it has another size than before.
    fn desktop(&mut self, at: i64, channel: u32, size: (u16, u16), out: &mut Vec<TextLine>) {
        let known = self.desktops.len() < MAX_SCREENS || self.desktops.contains_key(&channel);
        if known && self.desktops.insert(channel, size) != Some(size) {
            let text = format!("desktop of {}x{}", size.0, size.1);
            out.push(TextLine { at, channel, kind: LineKind::Resize, text });
        }
    }

    /// Gives out what is still on the screens.
    pub(crate) fn finish(mut self, out: &mut Vec<TextLine>) {
        for (channel, followed) in &mut self.screens {
            followed.sample(*channel, i64::MAX, out);
        }
    }
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            screen: Screen::collecting(),
            since: None,
            shown: HashSet::new(),
            prompt: None,
            touched: None,
            entered_at: None,
        }
    }
}

impl Followed {
    fn event(&mut self, channel: u32, at: i64, event: &Event, out: &mut Vec<TextLine>) {
        let late = self.since.is_some_and(|since| at.saturating_sub(since) >= WINDOW);
        if late || self.screen.scrolled() > MAX_SCROLLED {
            self.sample(channel, at, out);
        }
        match event {
            Event::Input { data, masked: false, .. } => self.typed(at, data),
            Event::Input { data, masked: true, .. } => self.touched(data),
            Event::Output { .. } | Event::Stderr { .. } | Event::Resize { .. } => {
                self.screen.apply(event);
                self.since.get_or_insert(at);
                self.commands(channel, at, out);
            }
            _ => {}
        }
    }

    fn typed(&mut self, at: i64, data: &[u8]) {
        if self.screen.is_alternate() {
            return;
        }
        if self.prompt.is_none() && self.entered_at.is_none() {
            let before = self.screen.before_cursor();
            let touched = self.touched.take().filter(|text| before.starts_with(text));
            self.prompt = Some(touched.unwrap_or(before));
        }
        if data.contains(&b'\r') || data.contains(&b'\n') {
            self.entered_at = Some(at);
            self.screen.expect_command();
        }
    }

    /// A key was pressed, which one is not told. What a terminal sends by itself begins with an escape and is no key.
    fn touched(&mut self, data: &[u8]) {
        if self.prompt.is_some() || data.starts_with(b"\x1b") || self.screen.is_alternate() {
            return;
        }
        let before = self.screen.before_cursor();
        let same_line = self.touched.as_ref().is_some_and(|text| before.starts_with(text));
        if !before.is_empty() && !same_line {
            self.touched = Some(before);
        }
    }

    fn commands(&mut self, channel: u32, at: i64, out: &mut Vec<TextLine>) {
        for line in self.screen.take_entered() {
            let prompt = self.prompt.take().unwrap_or_default();
            let text = line.strip_prefix(prompt.as_str()).unwrap_or(&line).trim().to_owned();
            let at = self.entered_at.take().unwrap_or(at);
            if !text.is_empty() {
                out.push(TextLine { at, channel, kind: LineKind::Command, text });
            }
        }
    }

    /// Gives out what is new since the last sample, with the time at which it began to appear.
    fn sample(&mut self, channel: u32, now: i64, out: &mut Vec<TextLine>) {
        let Some(since) = self.since.take() else { return };
        let visible = self.screen.lines();
        let scrolled = self.screen.take_scrolled();
        let mut given: HashSet<u64> = HashSet::new();
        for text in scrolled.into_iter().chain(visible.iter().cloned()) {
            let mark = mark(&text);
            if text.is_empty() || self.shown.contains(&mark) || !given.insert(mark) {
                continue;
            }
            out.push(TextLine { at: since.min(now), channel, kind: LineKind::Screen, text });
        }
        self.shown = visible.iter().map(|text| mark(text)).collect();
    }
}

fn mark(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What a channel was opened to run, where it is a single command.
fn command(what: &str) -> Option<String> {
    let what: serde_json::Value = serde_json::from_str(what).ok()?;
    let text = what.get("text").and_then(serde_json::Value::as_str)?.trim();
    let exec = what.get("what").and_then(serde_json::Value::as_str) == Some("exec");
    (exec && !text.is_empty()).then(|| text.to_owned())
}

/// Events without terminal text, as words to search for.
fn words(event: &Event) -> Option<(LineKind, String)> {
    let refused =
        |why: &Option<String>| why.as_deref().map_or_else(String::new, |w| format!(" refused: {w}"));
    Some(match event {
        Event::Notice { text } => (LineKind::Notice, format!("notice: {text}")),
        Event::Suspend { by } => (LineKind::Suspend, format!("suspended by {by}")),
        Event::Resume { by } => (LineKind::Resume, format!("resumed by {by}")),
        Event::Resize { cols, rows, .. } => (LineKind::Resize, format!("terminal of {cols}x{rows}")),
        Event::File(op) => (LineKind::File, file_words(op)),
        Event::Forward(f) => {
            let text = format!("forward {} to {}:{}{}", f.kind, f.host, f.port, refused(&f.refused));
            (LineKind::Forward, text)
        }
        Event::Finding(f) => {
            let text = format!("finding {} ({}): {} {}", f.trigger, f.severity, f.text, f.response);
            (LineKind::Finding, text)
        }
        Event::Decision(d) => {
            let word = if d.allowed { "allowed" } else { "refused" };
            (LineKind::Decision, format!("{} {word} {}", d.action, d.reasons.join("; ")))
        }
        Event::Clipboard(c) => {
            let way = if c.direction == Direction::ToTarget { "to the target" } else { "to the person" };
            let text = format!("clipboard {way}: {}, {} bytes{}", c.format, c.size, refused(&c.refused));
            (LineKind::Clipboard, text)
        }
        Event::Operation(op) => {
            (LineKind::Operation, format!("{} {}{}", op.protocol, op.what, refused(&op.refused)))
        }
        _ => return None,
    })
}

fn file_words(op: &FileOp) -> String {
    let target = op.target.as_deref().map(|t| format!(" to {t}")).unwrap_or_default();
    let mut text = format!("file {} {}{target} {}", op.op, op.path, op.outcome);
    if op.direction.is_some() {
        text.push_str(&format!(" {} bytes", op.size));
    }
    if let Some(whole) = op.file_size.filter(|whole| *whole != op.size) {
        text.push_str(&format!(" of {whole}"));
    }
    if let Some(sha256) = &op.sha256 {
        text.push_str(&format!(" sha256 {sha256}"));
    }
    format!("{text} {}", op.note).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn run(events: &[(i64, Event)]) -> Vec<TextLine> {
        let mut reader = LineReader::default();
        let mut out = Vec::new();
        for (at, event) in events {
            reader.event(&TimedEvent { at: *at, event: event.clone() }, &mut out);
        }
        reader.finish(&mut out);
        out
    }

    fn o(text: &str) -> Event {
        Event::Output { channel: 0, data: Bytes::copy_from_slice(text.as_bytes()) }
    }

    fn i(text: &str) -> Event {
        Event::Input { channel: 0, data: Bytes::copy_from_slice(text.as_bytes()), masked: false }
    }

    fn size() -> Event {
        Event::Resize { channel: 0, cols: 40, rows: 5 }
    }

    #[test]
    fn every_kind_stands_at_the_place_that_its_number_names() {
        let numbers: Vec<usize> = LineKind::ALL.iter().map(|kind| *kind as usize).collect();
        assert_eq!(numbers, (0..LineKind::ALL.len()).collect::<Vec<_>>());
    }

    fn of(lines: &[TextLine], kind: LineKind) -> Vec<(i64, &str)> {
        lines.iter().filter(|l| l.kind == kind).map(|l| (l.at, l.text.as_str())).collect()
    }

    #[test]
    fn a_command_is_what_stood_there_after_editing_and_without_the_prompt() {
        let lines = run(&[
            (0, size()),
            (10, o("root@pump:~# ")),
            (20, i("systemctk")),
            (25, o("systemctk")),
            (30, i("\x7fl stop pump\r")),
            (35, o("\x08\x1b[Kl stop pump\r\nstopped\r\nroot@pump:~# ")),
        ]);
        assert_eq!(of(&lines, LineKind::Command), [(30, "systemctl stop pump")]);
        assert!(of(&lines, LineKind::Screen).contains(&(0, "root@pump:~# systemctl stop pump")));
    }

    #[test]
    fn the_command_of_a_channel_is_found_and_a_shell_or_subsystem_is_none() {
        let open = |what: &str| Event::ChannelOpen { channel: 3, what: what.to_owned() };
        let lines = run(&[
            (7, open(r#"{"what":"exec","text":"systemctl stop pump-p101","terminal":null}"#)),
            (8, open(r#"{"what":"shell","text":"","terminal":"xterm"}"#)),
            (9, open(r#"{"what":"subsystem","text":"sftp","terminal":null}"#)),
            (10, open("shell")),
        ]);
        assert_eq!(of(&lines, LineKind::Command), [(7, "systemctl stop pump-p101")]);
        assert_eq!((lines.len(), lines[0].channel), (1, 3));
    }

    #[test]
    fn a_command_typed_key_by_key_keeps_its_first_letter() {
        let masked = |text: &str| Event::Input {
            channel: 0,
            data: Bytes::copy_from_slice(text.as_bytes()),
            masked: true,
        };
        let mut events = vec![(0, size()), (1, o("Password: ")), (2, masked("pw\r")), (3, o("\r\nroot# "))];
        // Each key is first recorded unread, then shown by the target, then recorded again as one that may be read.
        for (at, key) in [(10, "l"), (20, "s")] {
            events.extend([(at, masked(key)), (at + 1, o(key)), (at + 2, i(key))]);
        }
        events.extend([(30, masked("\r")), (31, i("\r")), (32, o("\r\nroot# "))]);
        let lines = run(&events);
        assert_eq!(of(&lines, LineKind::Command).iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["ls"]);
    }

    #[test]
    fn a_password_is_no_command() {
        let masked = Event::Input { channel: 0, data: Bytes::from_static(b"pw\r"), masked: true };
        let lines = run(&[(0, size()), (1, o("Password: ")), (2, masked), (3, o("\r\n# "))]);
        assert!(of(&lines, LineKind::Command).is_empty());
    }

    #[test]
    fn text_that_scrolls_and_text_that_is_overwritten_is_found_with_its_second() {
        let second = 1_000_000;
        let mut events = vec![(0, size())];
        for n in 0..10 {
            events.push((n * 2 * second, o(&format!("line {n}\r\n"))));
        }
        events.push((100 * second, o("\x1b[H\x1b[2Jprogress 1%\rprogress 50%")));
        events.push((102 * second, o("\rprogress 100%")));
        let lines = run(&events);
        let screen = of(&lines, LineKind::Screen);
        for n in 0..10 {
            assert_eq!(screen.iter().filter(|l| **l == (n * 2 * second, &*format!("line {n}"))).count(), 1);
        }
        assert!(screen.contains(&(100 * second, "progress 50%")));
        assert!(screen.contains(&(102 * second, "progress 100%")));
    }
}
