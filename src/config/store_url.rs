//! Where the database is.

use std::{fmt, path::PathBuf};

use serde::Deserialize;

/// The database that `store.url` names. Holds no password: one inside a URL is refused.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum StoreUrl {
    /// `sqlite:PATH`, one file.
    Sqlite(PathBuf),
    /// `postgres://USER@HOST:PORT/NAME`, without password.
    Postgres(String),
}

/// Why a `store.url` was not taken. Never repeats the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreUrlError {
    /// Neither kind.
    #[error("not a database: write \"sqlite:PATH\" or \"postgres://USER@HOST/NAME\"")]
    Unknown,
    /// `sqlite:` without a path.
    #[error("no path after \"sqlite:\": name the database file")]
    NoPath,
    /// A password in the URL.
    #[error("a password stands in the URL: put it in a file and name that as store.password_file")]
    PasswordInUrl,
}

impl TryFrom<String> for StoreUrl {
    type Error = StoreUrlError;

    fn try_from(url: String) -> Result<Self, StoreUrlError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(StoreUrlError::NoPath) } else { Ok(Self::Sqlite(path.into())) };
        }
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or(StoreUrlError::Unknown)?;
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let user_info = before_query.rsplit_once('@').map_or("", |(user_info, _)| user_info);
        let in_query = query.split('&').any(|pair| pair.to_ascii_lowercase().starts_with("password="));
        if user_info.contains(':') || in_query {
            return Err(StoreUrlError::PasswordInUrl);
        }
        Ok(Self::Postgres(url))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(url),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
