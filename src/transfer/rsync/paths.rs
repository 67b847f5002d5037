//! Where on the target a listed name lies.

use super::command::RsyncCommand;
use super::list::{Kind, Listed};
use crate::transfer::path::parent;

/// The folders on the target that names of the list may stand in.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The source or destination as it was given, and the folder that names stand in.
    given: Vec<(Vec<u8>, Vec<u8>)>,
    /// The destination may be a file's name.
    may_rename: bool,
}

impl Places {
    pub(super) fn new(command: &RsyncCommand) -> Self {
        let options = command.options();
        let whole_path = options.has('R') || options.names_follow;
        let given = command.paths().map(|path| {
            let path = path.as_bytes();
            let folder = match (options.upload, options.names_follow, whole_path) {
                (true, _, _) | (_, true, _) => path,
                (false, _, true) => root_of(path),
                (false, _, false) => folder_of(path),
            };
            (path.to_vec(), folder.to_vec())
        });
        let given: Vec<_> = given.take(if options.upload { 1 } else { usize::MAX }).collect();
        let may_rename = options.upload && given.iter().any(|(path, _)| !ends_open(path));
        Self { given, may_rename }
    }

    /// Every path on the target that `file` may mean; the likeliest first. `alone`: the list holds nothing else.
    pub(super) fn of(&self, file: Listed<'_>, alone: bool) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        if self.may_rename && alone && file.kind != Kind::Folder {
            paths.extend(self.given.first().map(|(path, _)| path.clone()));
        }
        let first = file.name.split(|byte| *byte == b'/').next();
        let named = |given: &&(Vec<u8>, Vec<u8>)| given.0.rsplit(|byte| *byte == b'/').next() == first;
        // Several sources: the one whose last name the file's begins with, if there is one.
        let mut folders: Vec<&[u8]> = self.given.iter().filter(named).map(|(_, folder)| &**folder).collect();
        if folders.is_empty() || self.given.len() == 1 {
            folders = self.given.iter().map(|(_, folder)| &**folder).collect();
        }
        for folder in folders {
            let path = join(folder, file.name);
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// The path of a name that the target itself told.
    pub(super) fn told(&self, name: &[u8]) -> Vec<u8> {
        self.given.first().map_or_else(|| name.to_vec(), |(_, folder)| join(folder, name))
    }
}

/// `folder` and `name` as one path.
fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let name = name.strip_prefix(b"/").unwrap_or(name);
    match (folder, name) {
        (folder, b".") => folder.to_vec(),
        (b"" | b"." | b"./", name) => name.to_vec(),
        (folder, name) if folder.ends_with(b"/") => [folder, name].concat(),
        (folder, name) => [folder, b"/", name].concat(),
    }
}

/// Whether everything lands inside `path`.
fn ends_open(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.") || path == b"." || path.is_empty()
}

/// The folder that names of the source `path` stand in.
fn folder_of(path: &[u8]) -> &[u8] {
    match path {
        path if ends_open(path) => path.strip_suffix(b".").unwrap_or(path),
        path if path.contains(&b'/') => parent(path),
        _ => b"",
    }
}

/// The folder that names of the source `path` stand in with `-R`, which keeps whole paths.
fn root_of(path: &[u8]) -> &[u8] {
    match path.windows(3).position(|part| part == b"/./") {
        Some(0) => b"/",
        Some(at) => path.get(..at).unwrap_or_default(),
        None if path.starts_with(b"/") => b"/",
        None => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::command::{Kind as Transfer, detect};

    fn paths(command: &str, name: &str, alone: bool) -> Vec<String> {
        let Some(Transfer::Rsync(command)) = detect(command) else { panic!("{command}") };
        let file = Listed { name: name.as_bytes(), kind: Kind::File, size: 0, link: b"" };
        let paths = Places::new(&command).of(file, alone);
        paths.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn names_stand_where_rsync_puts_them() {
        for (command, name, expected) in [
            ("rsync --server -r . /d/", "a/b", &["/d/a/b"][..]),
            ("rsync --server -r . /d", "a", &["/d", "/d/a"]),
            ("rsync --server -r . .", "a", &["a"]),
            ("rsync --server --sender -r . /s/", "a", &["/s/a"]),
            ("rsync --server --sender -r . /s/.", "a", &["/s/a"]),
            ("rsync --server --sender -r . /s/x", "x/a", &["/s/x/a"]),
            ("rsync --server --sender -r . x", "x/a", &["x/a"]),
            ("rsync --server --sender -r . /s/x /t/y", "y/a", &["/t/y/a"]),
            ("rsync --server --sender -r . /s/ /t/", "a", &["/s/a", "/t/a"]),
            ("rsync --server --sender -rR . /s/x", "s/x/a", &["/s/x/a"]),
            ("rsync --server --sender -rR . /s/./x", "x/a", &["/s/x/a"]),
            ("rsync --server --sender -r --files-from=- --from0 . /s", "x/a", &["/s/x/a"]),
        ] {
            assert_eq!(paths(command, name, true), expected, "{command}");
        }
        assert_eq!(paths("rsync --server -r . /d", "a", false), ["/d/a"]);
    }
}
