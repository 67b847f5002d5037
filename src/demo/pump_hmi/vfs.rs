//! The host's disk: one folder of the real machine, and no way out of it.
//!
//! A name is first made absolute and free of `..` by its text alone, then walked from the root; a symbolic
//! link on the way is refused, whatever it points to. Files are opened without following links.

use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// The emulated disk.
#[derive(Debug, Clone)]
pub(super) struct Vfs {
    root: PathBuf,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Access {
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) append: bool,
    pub(super) create: bool,
    pub(super) create_new: bool,
    pub(super) truncate: bool,
}

impl Access {
    /// To read it.
    pub(super) const READ: Self =
        Self { read: true, write: false, append: false, create: false, create_new: false, truncate: false };
    /// To write it anew.
    pub(super) const REPLACE: Self =
        Self { read: false, write: true, append: false, create: true, create_new: false, truncate: true };
    /// To write at its end.
    pub(super) const APPEND: Self =
        Self { read: false, write: true, append: true, create: true, create_new: false, truncate: false };
}

impl Vfs {
    /// A disk whose `/` is `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// `path` as an absolute name of the emulated disk: `cwd` applies when it is relative, `..` stops at `/`.
    pub(super) fn absolute(cwd: &str, path: &str) -> String {
        let mut parts: Vec<&str> = Vec::new();
        let start = if path.starts_with('/') { "" } else { cwd };
        for part in start.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        format!("/{}", parts.join("/"))
    }

    /// Where an absolute name lies on the real machine. The last part need not exist; a link is refused.
    fn real(&self, absolute: &str) -> io::Result<PathBuf> {
        if absolute.len() > MAX_PATH || absolute.contains('\0') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut real = self.root.clone();
        // Normalised again here, so that no caller can forget to.
        for name in Self::absolute("/", absolute).split('/').filter(|name| !name.is_empty()) {
            if name.len() > MAX_NAME {
                return Err(io::ErrorKind::InvalidFilename.into());
            }
            real.push(name);
            match fs::symlink_metadata(&real) {
                Ok(meta) if meta.file_type().is_symlink() => {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(real)
    }

    /// What is known about a file or folder.
    pub(super) fn stat(&self, absolute: &str) -> io::Result<Metadata> {
        fs::symlink_metadata(self.real(absolute)?)
    }

    /// Whether it is a folder.
    pub(super) fn is_folder(&self, absolute: &str) -> bool {
        self.stat(absolute).is_ok_and(|meta| meta.is_dir())
    }

    /// Opens a file; folders and anything that is no regular file are refused.
    pub(super) fn open(&self, absolute: &str, access: Access) -> io::Result<fs::File> {
        let real = self.real(absolute)?;
        if let Ok(meta) = fs::symlink_metadata(&real) {
            if meta.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            if !meta.is_file() {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
        }
        OpenOptions::new()
            .read(access.read)
            .write(access.write && !access.append)
            .append(access.append)
            .create(access.create)
            .create_new(access.create_new)
            .truncate(access.truncate && !access.append)
            .mode(0o644)
            .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
            .open(real)
    }

    /// The names in a folder, sorted, with what is known of each.
    pub(super) fn list(&self, absolute: &str) -> io::Result<Vec<(String, Metadata)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.real(absolute)?)? {
            let entry = entry?;
            if let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), entry.metadata()) {
                all.push((name, meta));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Makes a folder.
    pub(super) fn make_folder(&self, absolute: &str) -> io::Result<()> {
        fs::create_dir(self.real(absolute)?)
    }

    /// Makes a folder and all that it lies in.
    pub(super) fn make_folders(&self, absolute: &str) -> io::Result<()> {
        fs::create_dir_all(self.real(absolute)?)
    }

    /// Removes a file.
    pub(super) fn remove_file(&self, absolute: &str) -> io::Result<()> {
        fs::remove_file(self.real(absolute)?)
    }

    /// Removes an empty folder; the disk itself stays.
    pub(super) fn remove_folder(&self, absolute: &str) -> io::Result<()> {
        fs::remove_dir(self.below_root(absolute)?)
    }

    /// Removes a folder and all in it; the disk itself stays.
    pub(super) fn remove_tree(&self, absolute: &str) -> io::Result<()> {
        fs::remove_dir_all(self.below_root(absolute)?)
    }

    /// Renames, replacing a file of the new name.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.below_root(from)?, self.below_root(to)?)
    }

    /// Sets the permission bits.
    pub(super) fn set_mode(&self, absolute: &str, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        // The owner keeps access: the program must be able to clear its folder away.
        fs::set_permissions(self.real(absolute)?, fs::Permissions::from_mode((mode & 0o777) | 0o600))
    }

    fn below_root(&self, absolute: &str) -> io::Result<PathBuf> {
        let real = self.real(absolute)?;
        if real == self.root { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(real) }
    }
}

/// What a person reads when the disk refuses.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        io::ErrorKind::AlreadyExists => "File exists".to_owned(),
        io::ErrorKind::IsADirectory => "Is a directory".to_owned(),
        io::ErrorKind::NotADirectory => "Not a directory".to_owned(),
        io::ErrorKind::DirectoryNotEmpty => "Directory not empty".to_owned(),
        io::ErrorKind::StorageFull => "No space left on device".to_owned(),
        io::ErrorKind::InvalidFilename => "File name too long".to_owned(),
        io::ErrorKind::InvalidInput => "Invalid argument".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_made_absolute_by_their_text_alone() {
        assert_eq!(Vfs::absolute("/root", "a"), "/root/a");
        assert_eq!(Vfs::absolute("/root", "../../.."), "/");
        assert_eq!(Vfs::absolute("/root", "/etc//./hostname"), "/etc/hostname");
        assert_eq!(Vfs::absolute("/", ""), "/");
    }

    #[test]
    fn a_link_out_of_the_disk_is_refused_everywhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("way")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        let vfs = Vfs::new(dir.path().to_owned());
        for name in ["/way", "/way/secret", "/file"] {
            assert!(vfs.open(name, Access::READ).is_err());
            assert!(vfs.open(name, Access::REPLACE).is_err());
            assert!(vfs.stat(name).is_err());
            assert!(vfs.list(name).is_err());
            assert!(vfs.remove_file(name).is_err());
            assert!(vfs.rename(name, "/x").is_err());
            assert!(vfs.rename("/x", name).is_err());
        }
        assert!(vfs.make_folder("/way/new").is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_disk_itself_cannot_be_removed_or_moved() {
        let dir = tempfile::tempdir().unwrap();
        let vfs = Vfs::new(dir.path().to_owned());
        for name in ["/", "/..", "/a/../.."] {
            assert!(vfs.remove_tree(name).is_err());
            assert!(vfs.rename(name, "/b").is_err());
        }
        assert!(dir.path().exists());
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_folder(
            cwd in "(/[a-z.]{0,3}){0,4}",
            path in proptest::collection::vec(
                prop_oneof!["\\.\\.", "\\.", "", "[a-z]{1,3}", "\\.\\.\\.", "\u{2025}", "[ -~]{0,8}"], 0..12),
            rooted in any::<bool>(),
        ) {
            let vfs = Vfs::new(PathBuf::from("/nonexistent/root"));
            let text = format!("{}{}", if rooted { "/" } else { "" }, path.join("/"));
            for name in [Vfs::absolute(&cwd, &text), text] {
                if let Ok(real) = vfs.real(&name) {
                    prop_assert!(real.starts_with("/nonexistent/root"));
                    prop_assert!(!real.components().any(|part| part == std::path::Component::ParentDir));
                }
            }
        }
    }
}
