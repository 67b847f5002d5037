//! Taking over secrets from elsewhere: a CSV file, a KeePass database, an export of HashiCorp Vault.
//!
//! Reading and storing are two steps. Reading gives a [`Plan`]: what would be taken, and every row that cannot be, with its
//! reason, all at once; nothing is stored before somebody has looked at it. No text in a plan, an error or a report holds
//! any part of a secret.

mod csv;
mod hashicorp;
mod keepass;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use zeroize::Zeroizing;

pub use self::csv::read_csv;
pub use hashicorp::read_hashicorp;
pub use keepass::{MAX_KDF_MEMORY, read_keepass};

use crate::seal::MAX_SECRET_BYTES;
use crate::secret::SecretBytes;

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// The most rows of one plan.
pub const MAX_ROWS: usize = 100_000;
const MAX_NAME_BYTES: usize = 128;

/// Why a file is no plan at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The system's word.
    #[error("{path}: {source}; name a readable file", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
    /// It is too large.
    #[error("{path} is larger than {} MiB; split it", MAX_FILE_BYTES / 1024 / 1024, path = .0.display())]
    TooLarge(PathBuf),
    /// It has too many rows.
    #[error("there are more than {MAX_ROWS} rows; split the file")]
    TooMany,
    /// The first line of a CSV file does not name the columns.
    #[error(
        "the first line has to name the columns asset, login and secret, and it has no column {missing:?}; write them in any order, others are ignored"
    )]
    Header {
        /// Which one is missing.
        missing: &'static str,
    },
    /// It is something else than what was said.
    #[error("this is no {expected}: {reason}")]
    Form {
        /// What it should be.
        expected: &'static str,
        /// Why not; what to do.
        reason: String,
    },
    /// The password of the KeePass database is wrong.
    #[error("the password (or key file) does not open the KeePass database; try again")]
    Password,
}

/// What a row's secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// A password.
    Password,
    /// A private SSH key.
    PrivateKey,
}

impl SecretKind {
    /// By what it looks like: nobody's password is a PEM block.
    fn of(secret: &SecretBytes) -> Self {
        let text = secret.expose().trim_ascii_start();
        let key = text.starts_with(b"-----BEGIN ") && text.windows(11).any(|w| w == b"PRIVATE KEY")
            || text.starts_with(b"PuTTY-User-Key-File-");
        if key { Self::PrivateKey } else { Self::Password }
    }
}

/// One secret that would be taken.
pub struct Row {
    /// Where it stands in the file: a line, or a path.
    pub place: String,
    /// The asset's name.
    pub asset: String,
    /// The login on it.
    pub login: String,
    /// What it is.
    pub kind: SecretKind,
    /// The secret.
    pub secret: SecretBytes,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({}: {}/{}, {:?})", self.place, self.asset, self.login, self.kind)
    }
}

/// One row that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands in the file.
    pub place: String,
    /// Why, and what to do.
    pub why: String,
}

/// What would be taken, and what cannot be.
#[derive(Debug, Default)]
pub struct Plan {
    rows: Vec<Row>,
    faults: Vec<Fault>,
    seen: BTreeMap<(String, String), String>,
}

impl Plan {
    /// What would be taken.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What cannot be, and why.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Checks a row and keeps it, or says what is wrong with it.
    fn add(
        &mut self,
        place: String,
        asset: &str,
        login: &str,
        secret: SecretBytes,
    ) -> Result<(), ImportError> {
        if self.rows.len() + self.faults.len() >= MAX_ROWS {
            return Err(ImportError::TooMany);
        }
        let (asset, login) = (asset.trim().to_owned(), login.trim().to_owned());
        if let Some(why) = self.fault_of(&asset, &login, &secret) {
            self.faults.push(Fault { place, why });
            return Ok(());
        }
        self.seen.insert((asset.clone(), login.clone()), place.clone());
        let kind = SecretKind::of(&secret);
        self.rows.push(Row { place, asset, login, kind, secret });
        Ok(())
    }

    fn refuse(&mut self, place: String, why: impl Into<String>) -> Result<(), ImportError> {
        if self.rows.len() + self.faults.len() >= MAX_ROWS {
            return Err(ImportError::TooMany);
        }
        self.faults.push(Fault { place, why: why.into() });
        Ok(())
    }

    fn fault_of(&self, asset: &str, login: &str, secret: &SecretBytes) -> Option<String> {
        for (name, what) in [(asset, "asset"), (login, "login")] {
            if name.is_empty() {
                return Some(format!("it has no {what}; fill it in"));
            }
            if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
                return Some(format!(
                    "its {what} is longer than {MAX_NAME_BYTES} bytes or has control characters"
                ));
            }
        }
        if secret.is_empty() {
            return Some("it has no secret; leave the row out, or fill it in".into());
        }
        if secret.len() > MAX_SECRET_BYTES {
            return Some(format!("its secret is longer than {MAX_SECRET_BYTES} bytes"));
        }
        let before = self.seen.get(&(asset.to_owned(), login.to_owned()))?;
        Some(format!("{asset}/{login} stands in {before} already; keep one of them"))
    }
}

/// Where rows go. The store's side seals each secret and writes it with its audit entry.
#[async_trait]
pub trait ImportPort: Send {
    /// Keeps one row.
    ///
    /// # Errors
    /// Why not, for the report; without any part of the secret.
    async fn keep(&mut self, row: &Row) -> Result<(), String>;
}

/// What became of a plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many were kept.
    pub kept: usize,
    /// Which were not, and why: those that could not be read, and those that the store refused.
    pub faults: Vec<Fault>,
}

/// Stores a plan row by row. One that is refused does not stop those after it.
pub async fn apply(plan: Plan, port: &mut dyn ImportPort) -> Report {
    let mut report = Report { kept: 0, faults: plan.faults };
    // Each row is wiped as soon as it is stored.
    for row in plan.rows {
        match port.keep(&row).await {
            Ok(()) => report.kept += 1,
            Err(why) => report.faults.push(Fault { place: row.place.clone(), why }),
        }
    }
    report
}

/// Reads a file to import into a buffer that is wiped.
///
/// # Errors
/// [`ImportError::File`], [`ImportError::TooLarge`].
pub fn read_file(path: &Path) -> Result<SecretBytes, ImportError> {
    let fault = |source| ImportError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(fault)?;
    let length = file.metadata().map_err(fault)?.len();
    if length > MAX_FILE_BYTES {
        return Err(ImportError::TooLarge(path.to_owned()));
    }
    let room = usize::try_from(length).unwrap_or(0).saturating_add(1);
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_FILE_BYTES).read_to_end(&mut content).map_err(fault)?;
    Ok(SecretBytes::new(std::mem::take(&mut *content)))
}

#[cfg(test)]
mod tests;
