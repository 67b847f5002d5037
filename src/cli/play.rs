//! Showing a recording in this terminal: replay at its own speed, and the live view.

use std::{
    io::{IsTerminal as _, Write as _},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use cofferdam_recorder::{
    CastCode, DesktopPlayer, Followed, LineKind, LiveEvent, Player, Recording, Screen, Step, View, marks,
};
use tokio::sync::mpsc::error::TryRecvError;

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
    let nothing = || {
        CliError::failed(match DesktopPlayer::plays(recording.header()) {
            true => {
                "this recording shows a desktop: replay it in the web interface, or use `cofferdam recording export` \
                 with --format png or webm"
            }
            false => "nothing in this recording can be shown on a terminal: use `cofferdam recording show`",
        })
    };
    let view = View::of(recording, None)?.ok_or_else(nothing)?;
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
        let mut screen = view.screen_at(recording, at)?;
        let mut show = Show { stage: &mut stage, player: &mut player, marks: &marks, begin, now: &now };
        match show.stretch(recording, view, &mut screen, at)? {
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
        view: View,
        screen: &mut Screen,
        from: i64,
    ) -> Result<Option<i64>, CliError> {
        for event in recording.events_from(from)? {
            let event = event?;
            // The screen holds what happened up to then.
            if event.at <= from || !view.shows(&event.event) {
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
            view.apply(screen, &event.event);
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
    let found = marks(recording, MOST_MARKS)?.lines;
    Ok(found.into_iter().filter(|l| l.kind != LineKind::Resize).map(|l| (l.at, l.text)).collect())
}

/// Shows a session that goes on until it ends or somebody leaves. Without a terminal its text goes to standard output.
pub(crate) fn watch(followed: Followed) -> Result<(), CliError> {
    let Followed { joined, mut events, .. } = followed;
    if joined.desktop.is_some() {
        return Err(CliError::failed("this session shows a desktop: watch it in the web interface"));
    }
    let mut stage = if std::io::stdout().is_terminal() { Some(Stage::enter()?) } else { None };
    let mut screen = Screen::restore(joined.cols, joined.rows, &joined.dump);
    if stage.is_none() {
        let lines = screen.lines();
        print(lines.join("\n").trim_end())?;
    }
    loop {
        match events.try_recv() {
            Ok(event) => match event? {
                LiveEvent::View(_) => screen = Screen::default(),
                LiveEvent::Cast(event) => {
                    event.apply(&mut screen);
                    if stage.is_none() && event.code == CastCode::Output {
                        print(&event.text.replace('\r', ""))?;
                    }
                }
                LiveEvent::Mark(_) | LiveEvent::Desktop(_) => {}
            },
            Err(TryRecvError::Empty) => match &mut stage {
                Some(stage) => {
                    stage.draw(&screen, " live  q: quit ")?;
                    if stage.key(Some(LOOK))? == Some(Key::Quit) {
                        return Ok(());
                    }
                }
                None => std::thread::sleep(LOOK),
            },
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(clean(text).as_bytes()).and_then(|()| out.flush()).map_err(CliError::io("standard output"))
}
