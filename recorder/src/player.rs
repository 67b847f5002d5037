//! The timing of a replay, without a terminal and without a clock: the caller says what time it is.

/// Speeds that a replay can run at, in percent.
const SLOWEST: u32 = 10;
const FASTEST: u32 = 10_000;

/// What to do about the next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Show it now.
    Show,
    /// Ask again after so many microseconds, or when a key is pressed.
    Wait(i64),
    /// Paused: ask again when a key is pressed.
    Paused,
}

/// Decides when each event of a recording is shown. All times are microseconds; those of the
/// recording since 1970, UTC, those called `now` on any clock that does not jump.
#[derive(Debug, Clone)]
pub struct Player {
    /// At `now == wall` the replay stands at `at` in the recording.
    at: i64,
    wall: i64,
    percent: u32,
    paused: bool,
    /// Longer pauses of the recording are shortened to this.
    skip_idle: Option<i64>,
}

impl Player {
    /// A replay that starts at a time of the recording.
    pub fn new(at: i64, now: i64) -> Self {
        Self { at, wall: now, percent: 100, paused: false, skip_idle: None }
    }

    /// Shortens pauses of the recording to at most this long; `None` keeps them.
    pub fn set_skip_idle(&mut self, longest: Option<i64>) {
        self.skip_idle = longest.map(|longest| longest.max(0));
    }

    /// Where in the recording the replay stands.
    pub fn position(&self, now: i64) -> i64 {
        if self.paused {
            return self.at;
        }
        let passed = i128::from(now.saturating_sub(self.wall).max(0)) * i128::from(self.percent) / 100;
        self.at.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// The speed in percent.
    pub fn speed(&self) -> u32 {
        self.percent
    }

    /// Changes the speed (10 to 10,000 percent); the position stays.
    pub fn set_speed(&mut self, percent: u32, now: i64) {
        self.anchor(self.position(now), now);
        self.percent = percent.clamp(SLOWEST, FASTEST);
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Stops or goes on.
    pub fn set_paused(&mut self, paused: bool, now: i64) {
        self.anchor(self.position(now), now);
        self.paused = paused;
    }

    /// Goes to a time of the recording. The caller reads events from there: the screen first (see
    /// [`crate::screen_at`]), then what follows.
    pub fn seek(&mut self, to: i64, now: i64) {
        self.anchor(to, now);
    }

    /// Jumps so that the next event is shown at once, also while paused (a single step).
    pub fn jump_to_event(&mut self, event: i64, now: i64) {
        self.anchor(event, now);
    }

    /// What to do about the event that is next and happened at this time of the recording.
    pub fn next(&mut self, event: i64, now: i64) -> Step {
        let position = self.position(now);
        if event <= position {
            return Step::Show;
        }
        if self.paused {
            return Step::Paused;
        }
        let mut left = event.saturating_sub(position);
        if let Some(longest) = self.skip_idle.filter(|longest| left > *longest) {
            self.anchor(event.saturating_sub(longest), now);
            left = longest;
        }
        let wait = i128::from(left) * 100;
        let percent = i128::from(self.percent);
        Step::Wait(i64::try_from((wait + percent - 1) / percent).unwrap_or(i64::MAX))
    }

    fn anchor(&mut self, at: i64, now: i64) {
        (self.at, self.wall) = (at, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    #[test]
    fn events_come_in_their_own_time() {
        let mut player = Player::new(100 * S, 0);
        assert_eq!(player.next(100 * S, 0), Step::Show);
        assert_eq!(player.next(103 * S, 0), Step::Wait(3 * S));
        assert_eq!(player.next(103 * S, 3 * S), Step::Show);
    }

    #[test]
    fn speed_changes_without_a_jump() {
        let mut player = Player::new(0, 0);
        player.set_speed(400, 2 * S);
        assert_eq!(player.position(2 * S), 2 * S);
        assert_eq!(player.next(10 * S, 2 * S), Step::Wait(2 * S));
        player.set_speed(0, 3 * S);
        assert_eq!(player.speed(), 10);
        assert_eq!(player.position(3 * S), 6 * S);
    }

    #[test]
    fn a_pause_holds_and_a_step_shows_one_event() {
        let mut player = Player::new(0, 0);
        player.set_paused(true, S);
        assert_eq!(player.next(5 * S, 100 * S), Step::Paused);
        player.jump_to_event(5 * S, 100 * S);
        assert_eq!(player.next(5 * S, 100 * S), Step::Show);
        assert_eq!(player.next(6 * S, 100 * S), Step::Paused);
        player.set_paused(false, 200 * S);
        assert_eq!(player.next(6 * S, 200 * S), Step::Wait(S));
    }

    #[test]
    fn idle_time_is_skipped_and_seeking_goes_both_ways() {
        let mut player = Player::new(0, 0);
        player.set_skip_idle(Some(2 * S));
        assert_eq!(player.next(3600 * S, 0), Step::Wait(2 * S));
        assert_eq!(player.next(3600 * S, 2 * S), Step::Show);
        player.seek(S, 2 * S);
        assert_eq!(player.position(2 * S), S);
        assert!(matches!(player.next(i64::MAX, i64::MAX), Step::Wait(_)), "no overflow");
    }
}
