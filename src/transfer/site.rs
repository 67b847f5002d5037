//! What the window and the site's own policies say to one file.

use std::{borrow::Cow, fmt, sync::Arc};

use super::FileRules;
use super::path::{MAX_PATH, Reach, normalise};

/// Why something is refused, as the person reads it.
pub(crate) type Why = Cow<'static, str>;

/// What somebody wants to do with a file of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Take its contents, or open another way to them.
    Read,
    /// Make, change, rename or remove it.
    Write {
        /// Its size as far as known, bytes.
        size: u64,
    },
}

/// A name that would bring a folder to where more is allowed.
const BELOW: &str = "it may be a folder, and by its new name more of what is in it would be allowed: move its files one by one";
const RELATIVE: &str = "the path is relative and the home folder is not known: use an absolute path";

/// A write of something that has no contents of its own.
pub(crate) const CHANGE: Act = Act::Write { size: 0 };

/// The site's policies on single files, as they stand at the moment of the question.
pub(crate) trait FilePolicy: Send + Sync {
    /// Whether any of them can tell one file from another; where none can, none is asked.
    fn looks(&self) -> bool;
    /// Whether any of them can tell one size from another.
    fn looks_at_sizes(&self) -> bool;
    /// Asks for the file at `path`, absolute and in normal form.
    fn ask(&self, act: Act, path: &str) -> Result<(), String>;
}

/// Those of a session; by default there are none.
#[derive(Clone, Default)]
pub(crate) struct SitePolicy(Option<Arc<dyn FilePolicy>>);

impl SitePolicy {
    /// Asks `policy`.
    pub(crate) fn new(policy: Arc<dyn FilePolicy>) -> Self {
        Self(Some(policy))
    }

    fn in_force(&self) -> Option<&dyn FilePolicy> {
        self.0.as_deref().filter(|policy| policy.looks())
    }
}

impl fmt::Debug for SitePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SitePolicy").field(&self.0.is_some()).finish()
    }
}

impl FileRules {
    /// Whether it matters which file it is.
    pub(super) fn by_path(&self) -> bool {
        self.paths.restrict() || self.by_site()
    }

    /// Whether the site's policies look at single files.
    pub(super) fn by_site(&self) -> bool {
        self.site.in_force().is_some()
    }

    /// Whether it matters how large a file gets, apart from the bytes that may pass in all.
    pub(super) fn by_size(&self) -> bool {
        self.site.in_force().is_some_and(FilePolicy::looks_at_sizes)
    }

    /// Whether everything below `path` (in normal form) may be used, whatever its name.
    pub(super) fn covers_below(&self, path: &[u8]) -> bool {
        !self.by_site() && self.paths.covers_below(path)
    }

    /// Whether what is called `from` may be called `to`, too, as far as it may be a folder, with which goes what is in it: that must
    /// not be allowed by the new name if it was not by the old one.
    pub(super) fn check_below(
        &self,
        (from, from_base): (&[u8], Option<&[u8]>),
        (to, to_base): (&[u8], Option<&[u8]>),
    ) -> Result<(), Why> {
        if !self.paths.restrict() {
            return Ok(());
        }
        let from = normalise(from, from_base).ok_or(RELATIVE)?;
        let to = normalise(to, to_base).ok_or(RELATIVE)?;
        match self.paths.no_more_below(&from, &to) {
            true => Ok(()),
            false => Err(BELOW.into()),
        }
    }

    /// Whether `path`, relative to `base`, may be used: by the window's patterns, and by the site's policies for `acts`.
    pub(super) fn check(
        &self,
        path: &[u8],
        base: Option<&[u8]>,
        want: Reach,
        acts: &[Act],
    ) -> Result<(), Why> {
        if path.len() > MAX_PATH {
            return Err("the path is longer than 4096 bytes".into());
        }
        if path.contains(&0) {
            return Err("the path holds a zero byte".into());
        }
        if !self.by_path() {
            return Ok(());
        }
        if path.contains(&b'\\') {
            return Err("the path holds a backslash, which some targets take for a separator: use /".into());
        }
        let path = normalise(path, base).ok_or(RELATIVE)?;
        if self.paths.reach(&path) < want {
            return Err("the path is outside what this window allows".into());
        }
        acts.iter().try_for_each(|act| self.ask_normal(&path, *act))
    }

    /// What the site's policies alone say to `act` on `path`, relative to `base`.
    pub(super) fn ask(&self, path: &[u8], base: Option<&[u8]>, act: Act) -> Result<(), Why> {
        if !self.by_site() {
            return Ok(());
        }
        let path = normalise(path, base).ok_or(RELATIVE)?;
        self.ask_normal(&path, act)
    }

    fn ask_normal(&self, path: &[u8], act: Act) -> Result<(), Why> {
        let Some(policy) = self.site.in_force() else { return Ok(()) };
        policy.ask(act, &String::from_utf8_lossy(path)).map_err(Why::Owned)
    }
}
