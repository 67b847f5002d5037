//! The configuration: one TOML file, checked as a whole before anything starts.
//!
//! Every secret is a reference to a file. Whatever is wrong (an unknown key, a wrong type, a value out of range, a
//! secret that others can read) is reported with file, line and key, all of it at once, so that one round of editing
//! is enough. The sections are in [`settings`]; `docs/configuration.md` is the reference for operators.

mod check;
mod document;
mod files;
mod introspect;
mod portable;
pub(crate) mod problem;
pub(crate) mod settings;
mod store_url;
mod template;
#[cfg(test)]
mod tests;

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use document::Document;
pub(crate) use files::trusted;
pub(crate) use portable::Portable;
pub(crate) use problem::ConfigError;
pub(crate) use settings::{Config, Ocr, Recordings, Vault};
pub(crate) use store_url::StoreUrl;
pub(crate) use template::Template;

/// A configuration has tens of lines; more than this is not one.
const LONGEST_FILE: u64 = 1 << 20;

impl Config {
    /// Reads and checks the file at `path`, and every file it names.
    ///
    /// Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] when the file cannot be read, else [`ConfigError::Invalid`] with everything found.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path).map(|(config, _)| config)
    }

    fn load_with(path: &Path) -> Result<(Self, Document), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        let read = file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
        if read as u64 > LONGEST_FILE {
            return Err(unreadable(std::io::Error::other("longer than 1 MiB: this is not a configuration")));
        }
        let (config, document) = Self::read(&text, path)?;
        let mut problems = Vec::new();
        files::check(&config, &document, &mut problems);
        ConfigError::from_problems(problems)?;
        Ok((config, document))
    }

    /// Checks the text of a configuration whose home is `path`, without looking at any file that it names.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything found.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Self::read(text, path).map(|(config, _)| config)
    }

    /// A commented configuration that names every key: what `init` writes, with `init`'s defaults.
    pub(crate) fn example() -> String {
        Template::default().render()
    }

    fn read(text: &str, path: &Path) -> Result<(Self, Document), ConfigError> {
        let document = Document::parse(text, path)?;
        document.refuse_unknown_keys()?;
        let mut config: Self = toml::from_str(text).map_err(|e| document.explain(&e))?;
        let mut problems = Vec::new();
        check::values(&config, &document, &mut problems);
        ConfigError::from_problems(problems)?;
        config.resolve_paths(&folder_of(path));
        Ok((config, document))
    }
}

/// The folder that relative paths start from, absolute.
fn folder_of(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}
