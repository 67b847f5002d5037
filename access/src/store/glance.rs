//! Whether it is worth asking the store again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Store;

/// How long a reader of [`Glance`] asks at every look after something seemed to change, and two looks more.
const CLOSELY: Duration = Duration::from_millis(500);

/// Looks at a file rather than asking the store, as long as nothing seems to happen: an idle gateway leaves the store alone.
/// Where there is no such file (PostgreSQL), it always says to ask.
#[derive(Debug)]
pub struct Glance {
    file: Option<PathBuf>,
    stamp: Option<(u64, SystemTime)>,
    closely: Duration,
    at_least: Duration,
    closely_until: Instant,
    asked: Instant,
}

impl Glance {
    /// For one who looks at `store` every `look` and wants to ask it every `at_least`, whatever the file says. The first
    /// look says to ask.
    pub fn new(store: &Store, look: Duration, at_least: Duration) -> Self {
        Self::at(store.changing_file(), look, at_least)
    }

    fn at(file: Option<&Path>, look: Duration, at_least: Duration) -> Self {
        let (now, closely) = (Instant::now(), CLOSELY + 2 * look);
        let file = file.map(ToOwned::to_owned);
        Self { file, stamp: None, closely, at_least, closely_until: now + closely, asked: now }
    }

    /// The file changes before the change can be read: after one, the store is asked for a while.
    pub fn look_closely(&mut self) {
        self.closely_until = Instant::now() + self.closely;
    }

    /// Whether the store should be asked now: the file changed lately, there is none, or it is time anyway.
    pub fn suggests_change(&mut self) -> bool {
        let now = Instant::now();
        let stamp = self.file.as_ref().and_then(|file| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.len(), meta.modified().ok()?))
        });
        if stamp.is_none() || stamp != self.stamp {
            self.stamp = stamp;
            self.look_closely();
        }
        let ask = now < self.closely_until || now.duration_since(self.asked) >= self.at_least;
        if ask {
            self.asked = now;
        }
        ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    fn calm(file: Option<&Path>) -> Glance {
        let mut glance = Glance::at(file, Duration::ZERO, NEVER);
        glance.suggests_change();
        // As after a while in which nothing happened.
        glance.closely_until = Instant::now();
        glance
    }

    #[test]
    fn a_file_that_changes_is_worth_asking_for_a_while_and_one_that_does_not_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wal");
        std::fs::write(&file, "a").unwrap();
        let mut glance = calm(Some(&file));
        assert!(!glance.suggests_change());
        std::fs::write(&file, "ab").unwrap();
        assert!(glance.suggests_change());
        // What changed may not be readable yet.
        assert!(glance.suggests_change());
        glance.closely_until = Instant::now();
        assert!(!glance.suggests_change());
    }

    #[test]
    fn without_a_file_and_after_long_enough_the_store_is_asked() {
        assert!(calm(None).suggests_change());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wal");
        assert!(calm(Some(&file)).suggests_change(), "a file that is not there yet");
        std::fs::write(&file, "a").unwrap();
        let mut glance = calm(Some(&file));
        glance.at_least = Duration::ZERO;
        assert!(glance.suggests_change());
    }
}
