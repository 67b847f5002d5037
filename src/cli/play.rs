//! Showing a recording in this terminal: replay at its own speed, and the live view.

use std::{
    io::{IsTerminal as _, Write as _},
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use cofferdam_recorder::{
    Event, Identity, LineKind, Next, Player, Query, ReadError, Recording, Screen, Step, TimedEvent,
    screen_at, search_recording,
};

use super::{
    error::CliError,
    output::clean,
    screen::{Key, Stage},
};

/// How far the arrow keys go, microseconds.
const JUMP: i64 = 5_000_000;
/// Most events that can be jumped to.
const MOST_MARKS: usize = 10_000;
/// Whoever goes back within this time of an event, while it plays, means the one before it; microseconds.
const NEAR: i64 = 500_000;
/// How much of an event the status line shows, characters.
const MARK: usize = 40;
/// How often the status line moves while nothing happens.
const TICK: Duration = Duration::from_millis(200);
/// How often a live view looks for more.
const LOOK: Duration = Duration::from_millis(100);

/// Replays the terminal of `recording`, from `start` microseconds after its beginning, at `speed` percent.
pub(crate) fn play(
    recording: &Recording,
    start: i64,
    skip_idle: Option<i64>,
    speed: u32,
) -> Result<(), CliError> {
    let channel = channel_of(recording)?;
    let marks = marks_of(recording)?;
    let begin = recording.header().started;
    let clock = Instant::now();
    let now = || i64::try_from(clock.elapsed().as_micros()).unwrap_or(i64::MAX);
    let mut at = begin.saturating_add(start.max(0));
    let mut stage = Stage::enter()?;
    let mut player = Player::new(at, now());
    player.set_skip_idle(skip_idle);
    player.set_speed(speed, now());
    // Each turn is one stretch between two jumps.
    loop {
        let mut screen = screen_from(recording, &channel, at)?;
        let mut show = Show { stage: &mut stage, player: &mut player, marks: &marks, begin, now: &now };
        match show.stretch(recording, &channel, &mut screen, at)? {
            Some(to) => {
                at = to.max(begin);
                player.seek(at, now());
            }
            None => return Ok(()),
        }
    }
}

struct Show<'s> {
    stage: &'s mut Stage,
    player: &'s mut Player,
    /// Commands and other events, in the order of their times.
    marks: &'s [(i64, String)],
    begin: i64,
    now: &'s dyn Fn() -> i64,
}

impl Show<'_> {
    /// Shows events from `from` on; answers where somebody wants to jump, or nothing at the end.
    fn stretch(
        &mut self,
        recording: &Recording,
        channel: &Channel,
        screen: &mut Screen,
        from: i64,
    ) -> Result<Option<i64>, CliError> {
        for event in recording.events_from(from)? {
            let event = event?;
            // The screen holds what happened up to then.
            if event.at <= from || !channel.shows(&event.event) {
                continue;
            }
            loop {
                let wait = match self.player.next(event.at, (self.now)()) {
                    Step::Show => break,
                    Step::Wait(micros) => {
                        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(TICK))
                    }
                    Step::Paused => None,
                };
                self.draw(screen, "")?;
                if let ControlFlow::Break(next) = self.pressed(wait, Some(event.at))? {
                    return Ok(next);
                }
            }
            channel.apply(screen, &event);
        }
        self.player.set_paused(true, (self.now)());
        loop {
            self.draw(screen, "the end  ")?;
            if let ControlFlow::Break(next) = self.pressed(None, None)? {
                return Ok(next);
            }
        }
    }

    fn draw(&mut self, screen: &Screen, note: &str) -> Result<(), CliError> {
        let position = self.player.position((self.now)());
        let seconds = position.saturating_sub(self.begin).max(0) / 1_000_000;
        let state = if self.player.is_paused() { "paused" } else { "plays" };
        let passed = self.marks.partition_point(|(at, _)| *at <= position);
        let mark =
            passed.checked_sub(1).and_then(|n| self.marks.get(n)).map_or("", |(_, text)| text.as_str());
        let status = format!(
            " {note}{:02}:{:02}:{:02}  {state} at {}%  space +/- arrows . n/p q  {} ",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            self.player.speed(),
            mark.chars().take(MARK).collect::<String>(),
        );
        self.stage.draw(screen, &status)
    }

    /// Takes a key. A break without a time is leaving, with one it is a jump there.
    fn pressed(
        &mut self,
        wait: Option<Duration>,
        next: Option<i64>,
    ) -> Result<ControlFlow<Option<i64>>, CliError> {
        let Some(key) = self.stage.key(wait)? else { return Ok(ControlFlow::Continue(())) };
        let now = (self.now)();
        let position = self.player.position(now);
        match key {
            Key::Quit => return Ok(ControlFlow::Break(None)),
            Key::Pause => self.player.set_paused(!self.player.is_paused(), now),
            Key::Faster => self.player.set_speed(self.player.speed().saturating_mul(2), now),
            Key::Slower => self.player.set_speed(self.player.speed() / 2, now),
            Key::Back => return Ok(ControlFlow::Break(Some(position.saturating_sub(JUMP)))),
            Key::Forward => return Ok(ControlFlow::Break(Some(position.saturating_add(JUMP)))),
            Key::Step => {
                if let Some(event) = next {
                    self.player.jump_to_event(event, now);
                }
            }
            Key::NextMark => {
                let next = self.marks.iter().find(|(at, _)| *at > position);
                return Ok(next.map_or(ControlFlow::Continue(()), |(at, _)| ControlFlow::Break(Some(*at))));
            }
            Key::PreviousMark => {
                // While it plays, the event that was just jumped to slips past.
                let here = if self.player.is_paused() { position } else { position.saturating_sub(NEAR) };
                let before = self.marks.iter().rev().find(|(at, _)| *at < here);
                return Ok(ControlFlow::Break(Some(before.map_or(self.begin, |(at, _)| *at))));
            }
            Key::Other => {}
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What can be jumped to: commands, files, forwards, findings, notices, suspensions.
fn marks_of(recording: &Recording) -> Result<Vec<(i64, String)>, CliError> {
    let mut marks = Vec::new();
    for kind in [LineKind::Command, LineKind::Event] {
        let query = Query { kind: Some(kind), ..Query::default() };
        search_recording(recording, &query, |line| {
            marks.push((line.at, line.text));
            if marks.len() < MOST_MARKS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    marks.sort();
    Ok(marks)
}

/// The channel that is shown.
struct Channel {
    number: u32,
    /// Without a terminal, a line feed alone begins a new line.
    terminal: bool,
}

impl Channel {
    fn shows(&self, event: &Event) -> bool {
        event.channel() == Some(self.number)
            && matches!(event, Event::Output { .. } | Event::Stderr { .. } | Event::Resize { .. })
    }

    fn apply(&self, screen: &mut Screen, event: &TimedEvent) {
        match &event.event {
            Event::Output { data, .. } | Event::Stderr { data, .. } if !self.terminal => {
                let mut lines = Vec::with_capacity(data.len() + 16);
                for byte in data.iter().copied() {
                    if byte == b'\n' {
                        lines.push(b'\r');
                    }
                    lines.push(byte);
                }
                screen.feed(&lines);
            }
            other => screen.apply(other),
        }
    }
}

/// The first channel with a terminal, else the first that shows anything.
fn channel_of(recording: &Recording) -> Result<Channel, CliError> {
    let mut first = None;
    for event in recording.events()? {
        match event?.event {
            Event::Resize { channel, .. } => return Ok(Channel { number: channel, terminal: true }),
            Event::Output { channel, .. } | Event::Stderr { channel, .. } => {
                first = first.or(Some(channel));
            }
            _ => {}
        }
    }
    let number = first.ok_or_else(|| {
        CliError::failed(
            "nothing in this recording can be shown on a terminal: use `cofferdam recording show`",
        )
    })?;
    Ok(Channel { number, terminal: false })
}

fn screen_from(recording: &Recording, channel: &Channel, at: i64) -> Result<Screen, CliError> {
    if channel.terminal {
        return Ok(screen_at(recording, channel.number, at)?);
    }
    let mut screen = Screen::default();
    for event in recording.events()? {
        let event = event?;
        if event.at > at {
            break;
        }
        if channel.shows(&event.event) {
            channel.apply(&mut screen, &event);
        }
    }
    Ok(screen)
}

/// Follows a recording that grows until it ends or somebody leaves. Without a terminal its text goes to standard output.
pub(crate) fn watch(path: &Path, identity: &Identity) -> Result<(), CliError> {
    let mut recording = Recording::open(path)?;
    recording.unlock(identity)?;
    let mut stage = if std::io::stdout().is_terminal() { Some(Stage::enter()?) } else { None };
    let mut screen = Screen::default();
    let mut channel: Option<Channel> = None;
    let mut events = recording.events()?;
    loop {
        match events.advance()? {
            Next::Event(event) => {
                if let Event::Resize { channel: number, .. } = event.event
                    && channel.as_ref().is_none_or(|c| !c.terminal)
                {
                    channel = Some(Channel { number, terminal: true });
                }
                if let (None, Event::Output { channel: number, .. }) = (&channel, &event.event) {
                    channel = Some(Channel { number: *number, terminal: false });
                }
                let Some(channel) = channel.as_ref().filter(|c| c.shows(&event.event)) else { continue };
                channel.apply(&mut screen, &event);
                if let (None, Event::Output { data, .. } | Event::Stderr { data, .. }) =
                    (&stage, &event.event)
                {
                    let text = clean(&String::from_utf8_lossy(data).replace('\r', ""));
                    let mut out = std::io::stdout().lock();
                    out.write_all(text.as_bytes())
                        .and_then(|()| out.flush())
                        .map_err(CliError::io("standard output"))?;
                }
            }
            Next::Waiting => match &mut stage {
                Some(stage) => {
                    stage.draw(&screen, " live  q: quit ")?;
                    if stage.key(Some(LOOK))? == Some(Key::Quit) {
                        return Ok(());
                    }
                }
                None => std::thread::sleep(LOOK),
            },
            Next::Ended => return Ok(()),
        }
    }
}

/// Opens and unlocks a recording.
pub(crate) fn unlocked(path: &Path, identity: &Identity) -> Result<Recording, ReadError> {
    let mut recording = Recording::open(path)?;
    recording.unlock(identity)?;
    Ok(recording)
}
