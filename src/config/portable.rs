//! The same configuration in another folder: whatever file it names lies in that folder, so that it can be taken to
//! another machine, or be tried beside the gateway that it is from.

use std::path::{Path, PathBuf};

use cofferdam_vault::backup::is_member_name;

use super::{
    Config, StoreUrl,
    files::{self, Use},
    folder_of,
    problem::ConfigError,
};

/// See the module. Every path in it is relative to the configuration's folder.
#[derive(Debug)]
pub(crate) struct Portable {
    /// The configuration file's text.
    pub(crate) text: String,
    /// The files that it names, by what they are called there. Each exists.
    pub(crate) files: Vec<NamedFile>,
    /// What the file of checkpoints is called there.
    pub(crate) checkpoints: String,
    /// What the database is called there, where it is a file.
    pub(crate) database: Option<String>,
}

/// A file that a configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFile {
    /// The key that names it.
    pub(crate) key: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it is called, relative to the configuration.
    pub(crate) name: String,
}

impl Portable {
    /// Reads and checks the configuration at `path`, and makes it portable.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load(path: &Path) -> Result<(Config, Self), ConfigError> {
        let (config, document) = Config::load_with(path)?;
        let folder = folder_of(path);
        let mut values: Vec<(String, String)> = Vec::new();
        let mut named: Vec<NamedFile> = Vec::new();
        for (key, path, purpose) in files::named(&config) {
            let name = name_in(&folder, path, &key);
            values.push((key.clone(), name.clone()));
            // What is in folders (recordings, plug-ins) is not the configuration's own.
            if purpose != Use::Folder && !named.iter().any(|file| file.name == name) {
                named.push(NamedFile { key, path: path.to_owned(), name });
            }
        }
        let checkpoints = name_in(&folder, &config.audit.checkpoint_file, "audit.checkpoint_file");
        values.push(("audit.checkpoint_file".to_owned(), checkpoints.clone()));
        let database = match &config.store.url {
            StoreUrl::Sqlite(path) => Some(name_in(&folder, path, "store.url")),
            StoreUrl::Postgres(_) => None,
        };
        values.extend(database.iter().map(|name| ("store.url".to_owned(), format!("sqlite:{name}"))));
        let text = document.with_values(values.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        Ok((config, Self { text, files: named, checkpoints, database }))
    }
}

/// What is in the folder keeps its name; anything else is named after its key.
fn name_in(folder: &Path, path: &Path, key: &str) -> String {
    let inside = path.strip_prefix(folder).ok().and_then(Path::to_str).filter(|name| is_member_name(name));
    inside.map_or_else(|| format!("elsewhere/{key}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{config::Template, setup};

    #[test]
    fn a_configuration_that_names_files_anywhere_names_them_all_in_its_folder() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        setup::make_keys(dir.path()).unwrap();
        let now = cofferdam_access::clock::Timestamp(1_800_000_000_000_000);
        setup::make_web_certificate(dir.path(), "plant", &["gw".to_owned()], now).unwrap();
        let away = other.path().join("identity of the vault");
        fs::rename(dir.path().join("keys/vault_identity"), &away).unwrap();
        let absolute = dir.path().join("db/store.sqlite");
        let template = Template { store_url: StoreUrl::Sqlite(absolute), ..Template::default() };
        let text = template
            .render()
            .replace("\"keys/vault_identity\"", &format!("{:?}", away.display().to_string()));
        let file = dir.path().join("gateway.toml");
        fs::write(&file, &text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let (_, portable) = Portable::load(&file).unwrap();
        assert_eq!(portable.database.as_deref(), Some("db/store.sqlite"));
        assert_eq!(portable.checkpoints, "audit.checkpoints");
        let named = |key: &str| portable.files.iter().find(|f| f.key == key).unwrap();
        assert_eq!(named("vault.identity_file").name, "elsewhere/vault.identity_file");
        assert_eq!(named("vault.identity_file").path, away);
        assert_eq!(named("ssh.host_key_files.0").name, "keys/ssh_host_ed25519");
        // The same file but for these values, comments and all.
        let table: toml::Table = portable.text.parse().unwrap();
        assert_eq!(table["store"]["url"].as_str(), Some("sqlite:db/store.sqlite"));
        assert_eq!(table["vault"]["identity_file"].as_str(), Some("elsewhere/vault.identity_file"));
        assert_eq!(portable.text.lines().count(), text.lines().count());
        assert!(!portable.text.contains(&dir.path().display().to_string()));
        assert!(!portable.text.contains(&other.path().display().to_string()));
    }
}
