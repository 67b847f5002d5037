//! What may be done with files of one desktop: what the site and the window say.

use std::{fmt, sync::Arc};

use cofferdam_rdp::Place;

use crate::transfer::{FileRules, PathRules};

const OUTSIDE: &str = "the path is outside what the site allows on drives";
const NOT_COPIED: &str = "the name is none of those that the site allows on the clipboard";

/// Whether the site still says what the rules were made of.
#[derive(Clone)]
pub(crate) struct Standing(Arc<dyn Fn() -> bool + Send + Sync>);

impl Standing {
    /// Asks `holds` each time.
    pub(crate) fn new(holds: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    /// Whether it does.
    pub(super) fn holds(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}

/// What may be done with files on one desktop.
#[derive(Debug, Clone)]
pub(crate) struct DesktopRules {
    /// As for any channel of the window.
    pub(crate) files: FileRules,
    /// The target may read what is on drives.
    pub(crate) to_target: bool,
    /// The target may write to drives.
    pub(crate) to_person: bool,
    /// The target may print.
    pub(crate) printers: bool,
    /// Where on drives, as the site says.
    pub(crate) paths: PathRules,
    /// Largest file on a drive or to a printer, bytes.
    pub(crate) largest: Option<u64>,
    /// The same for files on the clipboard.
    pub(crate) clipboard: ClipboardRules,
    /// Bytes of what goes to the person of which a copy is kept.
    pub(crate) keep_downloads: u64,
    /// Whether all this still is what the site says.
    pub(crate) standing: Standing,
}

/// What may be done with files on the clipboard of one desktop.
#[derive(Debug, Clone)]
pub(crate) struct ClipboardRules {
    /// The target may fetch what the person copied.
    pub(crate) to_target: bool,
    /// The person may fetch what was copied on the target.
    pub(crate) to_person: bool,
    /// Which, as the site says.
    pub(crate) paths: PathRules,
    /// Largest file, bytes.
    pub(crate) largest: Option<u64>,
}

impl DesktopRules {
    /// Patterns of the site for files in this place, and what is said of others.
    pub(super) fn paths(&self, place: Place) -> Option<(&PathRules, &'static str)> {
        match place {
            Place::Drive => Some((&self.paths, OUTSIDE)),
            Place::Clipboard => Some((&self.clipboard.paths, NOT_COPIED)),
            Place::Printer => None,
        }
    }

    /// Largest file in this place, bytes.
    pub(super) fn largest(&self, place: Place) -> Option<u64> {
        if place == Place::Clipboard { self.clipboard.largest } else { self.largest }
    }
}
