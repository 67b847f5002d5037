//! Times as people write and read them: in the site's zone, across midnight and across changes of the clock.

use jiff::{
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use crate::clock::Timestamp;

/// Longest duration that anybody may write, seconds (ten years): keeps sums inside their range.
const LONGEST_SECONDS: i64 = 10 * 366 * 24 * 3600;

/// What is wrong with a time or a zone. The fault is that of whoever wrote it; each text says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// No such zone.
    #[error("{0:?} is not a known time zone: use an IANA name such as Europe/Berlin")]
    UnknownZone(String),
    /// Not a time.
    #[error(
        "{0:?} is not a time: write 22:00, tomorrow 06:00, 2026-11-23 22:00, 2026-11-23T22:00:00+01:00 or +4h"
    )]
    NotATime(String),
    /// Not a duration.
    #[error("{0:?} is not a duration: write 4h, 90m or 4h30m")]
    NotADuration(String),
    /// The clock shows this time twice that night.
    #[error(
        "{time} comes twice in {zone}: write {time}{first} for the first or {time}{second} for the second"
    )]
    Twice {
        /// As written, with its date.
        time: String,
        /// The zone.
        zone: String,
        /// Offset of the earlier moment.
        first: String,
        /// Offset of the later moment.
        second: String,
    },
    /// The clock skips this time that night.
    #[error(
        "{time} does not exist in {zone}, the clock skips it: write {time}{first} or {time}{second} for the moment that you mean"
    )]
    Skipped {
        /// As written, with its date.
        time: String,
        /// The zone.
        zone: String,
        /// Offset before the change.
        first: String,
        /// Offset after the change.
        second: String,
    },
    /// Outside the calendar.
    #[error("{0:?} lies outside the calendar: write a nearer time")]
    OutOfRange(String),
}

/// The site's time zone.
#[derive(Debug, Clone)]
pub struct SiteZone {
    name: String,
    zone: TimeZone,
}

impl SiteZone {
    /// The zone of that IANA name.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn new(name: &str) -> Result<Self, TimeError> {
        let zone =
            TimeZone::get(name).map_err(|_| TimeError::UnknownZone(name.chars().take(64).collect()))?;
        Ok(Self { name: name.to_owned(), zone })
    }

    /// The moment that `text` means, where `base` is "now" for a start, and the start for an end. Understood are:
    /// RFC 3339 with an offset; `2026-11-23 22:00` (also with `T` or seconds) in the site's zone; `22:00`, the next
    /// such time after `base`; `today 22:00` and `tomorrow 06:00`, counted from the day of `base`; `now`; `+4h30m`
    /// after `base`.
    ///
    /// # Errors
    /// When the text is none of these, or is a local time that comes twice or never: nobody guesses.
    pub fn parse(&self, text: &str, base: Timestamp) -> Result<Timestamp, TimeError> {
        let text = text.trim();
        if text == "now" {
            return Ok(base);
        }
        if let Some(duration) = text.strip_prefix('+') {
            return Ok(base.plus_seconds(parse_duration(duration)?));
        }
        let today = base.to_jiff().to_zoned(self.zone.clone()).date();
        if let Some((day, time)) = text.split_once(' ')
            && let Some(days) = ["today", "tomorrow"].iter().position(|d| d.eq_ignore_ascii_case(day))
        {
            let time = clock_time(time.trim()).ok_or_else(|| not_a_time(text))?;
            return self.moment(next_days(today, days, text)?.to_datetime(time));
        }
        if let Some(time) = clock_time(text) {
            // The base's own day if the time is still to come on it, else the day after.
            let at = self.moment(today.to_datetime(time))?;
            return if at > base {
                Ok(at)
            } else {
                self.moment(next_days(today, 1, text)?.to_datetime(time))
            };
        }
        self.full(text)
    }

    /// A date with a time: with an offset it is one moment; without, a time in the site's zone.
    fn full(&self, text: &str) -> Result<Timestamp, TimeError> {
        let date_and_time = text.len() >= 16 && text.is_ascii();
        if !date_and_time {
            return Err(not_a_time(text));
        }
        if let Some(at) = with_offset(text) {
            return Ok(at);
        }
        let (date, time) = text.split_once(['T', ' ']).ok_or_else(|| not_a_time(text))?;
        let date: Date = date.parse().map_err(|_| not_a_time(text))?;
        let time = clock_time(time.trim()).ok_or_else(|| not_a_time(text))?;
        self.moment(date.to_datetime(time))
    }

    fn moment(&self, local: DateTime) -> Result<Timestamp, TimeError> {
        let written = || local.strftime("%Y-%m-%dT%H:%M").to_string();
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => ambiguous
                .unambiguous()
                .map(Timestamp::from_jiff)
                .map_err(|_| TimeError::OutOfRange(written())),
            AmbiguousOffset::Fold { before, after } => Err(TimeError::Twice {
                time: written(),
                zone: self.name.clone(),
                first: offset_text(before),
                second: offset_text(after),
            }),
            AmbiguousOffset::Gap { before, after } => Err(TimeError::Skipped {
                time: written(),
                zone: self.name.clone(),
                first: offset_text(before),
                second: offset_text(after),
            }),
        }
    }

    /// The moment in the site's zone with its offset: `2026-11-23 22:00 +01:00`.
    pub fn show(&self, at: Timestamp) -> String {
        at.to_jiff().to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string()
    }

    /// The moment as a field of a form holds it, to be read by [`Self::parse`] again: `2026-11-23T22:00:00+01:00`.
    pub fn show_for_fields(&self, at: Timestamp) -> String {
        at.to_jiff().to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// The moment in the site's zone as people say it: `Mon 23 Nov 22:00 CET`.
    pub fn show_for_people(&self, at: Timestamp) -> String {
        at.to_jiff().to_zoned(self.zone.clone()).strftime("%a %-d %b %H:%M %Z").to_string()
    }

    /// The first moment of the day that `at` is in, in the site's zone, or of the day `back` days before it.
    pub fn day(&self, at: Timestamp, back: i32) -> Timestamp {
        let local = at.to_jiff().to_zoned(self.zone.clone());
        let day = local.checked_sub(jiff::Span::new().days(back)).and_then(|d| d.start_of_day());
        day.map_or_else(
            |_| at.plus_seconds(-86_400 * i64::from(back)),
            |d| Timestamp::from_jiff(d.timestamp()),
        )
    }

    /// Hour (0 to 23) and ISO weekday (1 is Monday) of the moment in the site's zone.
    pub(crate) fn hour_and_weekday(&self, at: Timestamp) -> (i64, i64) {
        let local = at.to_jiff().to_zoned(self.zone.clone());
        (local.hour().into(), local.weekday().to_monday_one_offset().into())
    }

    /// The zone's IANA name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Seconds in a duration such as `4h30m`, `90m`, `2d`, `45s`: whole numbers with units in falling order, more than zero.
///
/// # Errors
/// When the text is not a duration, or is longer than ten years.
pub fn parse_duration(text: &str) -> Result<i64, TimeError> {
    let wrong = || TimeError::NotADuration(text.chars().take(64).collect());
    let mut rest = text.trim();
    let mut last_unit = i64::MAX;
    let mut seconds = 0i64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, tail) = rest.split_at(end);
        let number: i64 = digits.parse().map_err(|_| wrong())?;
        let mut tail_chars = tail.chars();
        let unit = match tail_chars.next() {
            Some('d') => 86_400,
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(wrong()),
        };
        if unit >= last_unit {
            return Err(wrong());
        }
        last_unit = unit;
        seconds = number
            .checked_mul(unit)
            .and_then(|n| seconds.checked_add(n))
            .filter(|s| *s <= LONGEST_SECONDS)
            .ok_or_else(wrong)?;
        rest = tail_chars.as_str();
    }
    if seconds > 0 { Ok(seconds) } else { Err(wrong()) }
}

/// The time from `now` to `end` for people, rounded down: `2 d 3 h`, `1 h 12 min`, `9 min`, `45 s`, `over`.
pub fn time_left(now: Timestamp, end: Timestamp) -> String {
    let seconds = end.since(now).div_euclid(1_000_000);
    let minutes = seconds / 60;
    match seconds {
        i64::MIN..=0 => "over".to_owned(),
        1..=119 => format!("{seconds} s"),
        120..=3_599 => format!("{minutes} min"),
        3_600..=86_399 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", minutes / 1_440, minutes % 1_440 / 60),
    }
}

fn not_a_time(text: &str) -> TimeError {
    TimeError::NotATime(text.chars().take(64).collect())
}

fn next_days(day: Date, days: usize, text: &str) -> Result<Date, TimeError> {
    (0..days).try_fold(day, |d, _| d.tomorrow().map_err(|_| TimeError::OutOfRange(text.to_owned())))
}

/// `22:00` or `22:00:30`, nothing else.
fn clock_time(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let mut two = || {
        parts.next().and_then(|p| {
            (p.len() == 2 && p.bytes().all(|b| b.is_ascii_digit())).then(|| p.parse::<i8>().ok())?
        })
    };
    let (hour, minute) = (two()?, two()?);
    let second = if text.len() > 5 { two()? } else { 0 };
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

/// RFC 3339, also without seconds, with an offset or `Z`.
fn with_offset(text: &str) -> Option<Timestamp> {
    let (_, time) = text.split_once(['T', ' '])?;
    time.contains(['Z', 'z', '+', '-'])
        .then(|| text.parse::<jiff::Timestamp>().ok())?
        .map(Timestamp::from_jiff)
}

fn offset_text(offset: Offset) -> String {
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

#[cfg(test)]
#[path = "local_time/tests.rs"]
mod tests;
