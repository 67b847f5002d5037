//! What can be wrong with a configuration, and how it is said.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Why a configuration was not taken. The operator's fault, unless the file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file itself could not be read.
    #[error("cannot read the configuration {}: {source}; `cofferdam init` writes one, which the users of the gateway and of its vault have to be able to read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was read, and these are its faults; never empty.
    #[error("{}", one_per_line(.0))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// An error, if there is any problem.
    pub(super) fn from_problems(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self::Invalid(problems)) }
    }
}

fn one_per_line(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A line and column in the file, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The line.
    pub(crate) line: usize,
    /// The column.
    pub(crate) column: usize,
}

/// One fault, and where it stands.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The configuration file.
    pub(crate) file: PathBuf,
    /// Where in it; none when the fault is that something is not there.
    pub(crate) place: Option<Place>,
    /// The key, dotted (`ssh.listen`); empty when the fault belongs to no key.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) fault: Fault,
}

impl fmt::Display for Problem {
    /// `FILE:LINE:COLUMN: KEY: FAULT`, as compilers write it, so that editors can jump there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key.escape_debug())?;
        }
        write!(f, ": {}", self.fault)
    }
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The text is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// No such key.
    #[error("unknown key{}", did_you_mean(.suggestion.as_deref()))]
    UnknownKey {
        /// The nearest key that exists here.
        suggestion: Option<String>,
    },
    /// A key that has to be there is not.
    #[error("missing: add it (docs/configuration.md has an example)")]
    Missing,
    /// A value of another type, or one its type refuses.
    #[error("{0}")]
    WrongType(String),
    /// A number outside its bounds.
    #[error("{given} is out of range: give {least} to {most}")]
    OutOfRange {
        /// What the file says.
        given: u64,
        /// The smallest that is taken.
        least: u64,
        /// The largest that is taken.
        most: u64,
    },
    /// A value that does not fit for a reason of its own.
    #[error("{0}")]
    Unfit(&'static str),
    /// A name in a list that must hold something.
    #[error("empty: name at least one")]
    Empty,
    /// Two keys contradict each other.
    #[error("does not go together with {other}: {why}")]
    Contradiction {
        /// The other key.
        other: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A user or group that the system does not know.
    #[error("the system knows no such {0}: create it, or leave the key out")]
    NoSuchIdentity(&'static str),
    /// A file it names is not fit for its purpose.
    #[error(transparent)]
    File(#[from] FileFault),
}

/// What is wrong with a file that the configuration names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileFault {
    /// It cannot be looked at.
    #[error("{}: {source}", path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, socket or device where a file is wanted.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// A file where a folder is wanted.
    #[error("{} is not a folder", .0.display())]
    NotFolder(PathBuf),
    /// Somebody else owns it, and could change it at any time.
    #[error("{} belongs to user id {owner}: `chown` it to root or to the user that runs cofferdam", path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// A secret that more than its owner can read or change.
    #[error("{} holds a secret and has mode {mode:03o}: run `chmod 600 {}`", path.display(), path.display())]
    SecretExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something trusted that more than its owner can change.
    #[error("{} can be changed by others (mode {mode:03o}): run `chmod go-w {}`", path.display(), path.display())]
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|s| format!(", did you mean {s:?}?")).unwrap_or_default()
}

/// Builds a problem of `file`.
pub(super) fn problem(file: &Path, place: Option<Place>, key: impl Into<String>, fault: Fault) -> Problem {
    Problem { file: file.to_owned(), place, key: key.into(), fault }
}
