//! The room that recordings take, and how long what is left will last.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use cofferdam_access::clock::Timestamp;
use serde_json::{Value, json};

use super::{
    error::CliError,
    output::{Reply, bytes},
};
use crate::config::Recordings;

/// Over how many days growth is measured.
const DAYS: i64 = 7;
const DAY: i64 = 86_400;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Recordings there are.
    pub(crate) recordings: u64,
    /// Bytes of recordings and of everything beside them.
    pub(crate) bytes: u64,
    /// Bytes free on their file system.
    pub(crate) free: u64,
    /// Bytes that were recorded each day, lately.
    pub(crate) per_day: u64,
    /// Days until sessions are refused, if it goes on like that; none: nothing was recorded lately.
    pub(crate) days_left: Option<u64>,
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Enough.
    Enough,
    /// Below the threshold of the alarm.
    Low,
    /// So little that sessions are refused.
    None,
}

impl Room {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Enough => "ok",
            Self::Low => "low",
            Self::None => "sessions are refused",
        }
    }
}

impl Usage {
    /// Looks at the folder.
    ///
    /// # Errors
    /// When it, or its file system, cannot be read.
    pub(crate) fn measure(config: &Recordings, now: Timestamp) -> Result<Self, CliError> {
        let failed = |path: &Path| CliError::io(path.display().to_string());
        // The folder is made at the first start; until then its parent's file system is the one that counts.
        let place = config.dir.ancestors().find(|p| p.exists()).unwrap_or(&config.dir);
        let vfs = nix::sys::statvfs::statvfs(place).map_err(|e| failed(place)(e.into()))?;
        let free = vfs.blocks_available().saturating_mul(vfs.fragment_size());
        let mut files = Vec::new();
        let mut recordings = 0;
        if config.dir.exists() {
            for entry in std::fs::read_dir(&config.dir).map_err(failed(&config.dir))? {
                let entry = entry.map_err(failed(&config.dir))?;
                // A file that went meanwhile takes no room.
                let Ok(meta) = entry.metadata() else { continue };
                recordings += u64::from(entry.path().extension().is_some_and(|e| e == "cofrec"));
                files.push((meta.mtime(), meta.len()));
            }
        }
        let (per_day, days_left) =
            growth(&files, now.micros() / 1_000_000, free.saturating_sub(config.min_free_bytes));
        Ok(Self { recordings, bytes: files.iter().map(|(_, len)| len).sum(), free, per_day, days_left })
    }

    /// How much room that is.
    pub(crate) fn room(&self, config: &Recordings) -> Room {
        match self.free {
            free if free < config.min_free_bytes => Room::None,
            free if free < config.warn_free_bytes => Room::Low,
            _ => Room::Enough,
        }
    }

    /// How long it will last, in words.
    pub(crate) fn outlook(&self) -> String {
        match self.days_left {
            Some(days) => format!("{} a day lately, about {days} days left", bytes(self.per_day)),
            None => "nothing was recorded lately".to_owned(),
        }
    }

    /// For programs.
    pub(crate) fn row(&self, config: &Recordings) -> Value {
        json!({
            "id": "recordings",
            "path": config.dir.display().to_string(),
            "recordings": self.recordings,
            "bytes": self.bytes,
            "free": self.free,
            "warn_below": config.warn_free_bytes,
            "refuse_below": config.min_free_bytes,
            "bytes_per_day": self.per_day,
            "days_left": self.days_left,
            "state": self.room(config).as_str(),
        })
    }
}

/// Bytes a day, over the last days or since the first file where that is less; and how many such days `room` lasts.
fn growth(files: &[(i64, u64)], now: i64, room: u64) -> (u64, Option<u64>) {
    let since = now - DAYS * DAY;
    let lately: u64 = files.iter().filter(|(at, _)| *at >= since).map(|(_, len)| len).sum();
    let first = files.iter().map(|(at, _)| *at).min().unwrap_or(now);
    let days = ((now - first.max(since)) / DAY).clamp(1, DAYS);
    let per_day = lately / days.unsigned_abs();
    (per_day, room.checked_div(per_day))
}

/// `cofferdam recording usage`
pub(crate) fn run(config: &Recordings, now: Timestamp) -> Result<Reply, CliError> {
    let usage = Usage::measure(config, now)?;
    let text = format!(
        "recordings  {} in {}\ntaken       {}\nfree        {}\nalarm       below {}\nrefused     below {}: no session starts\n\
         growth      {}\nstate       {}",
        usage.recordings,
        config.dir.display(),
        bytes(usage.bytes),
        bytes(usage.free),
        bytes(config.warn_free_bytes),
        bytes(config.min_free_bytes),
        usage.outlook(),
        usage.room(config).as_str(),
    );
    Ok(Reply::new(text, usage.row(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_measured_over_the_last_week_or_since_the_first_recording() {
        let now = 100 * DAY;
        assert_eq!(growth(&[], now, 1000), (0, None));
        assert_eq!(growth(&[(now, 50)], now, 1000), (50, Some(20)));
        assert_eq!(growth(&[(now - 2 * DAY, 50), (now, 50)], now, 1000), (50, Some(20)));
        // What is older counts as taken, and says nothing about lately.
        assert_eq!(growth(&[(now - 50 * DAY, 9999), (now, 700)], now, 1000), (100, Some(10)));
        assert_eq!(growth(&[(now - 50 * DAY, 9999)], now, 1000), (0, None));
    }
}
