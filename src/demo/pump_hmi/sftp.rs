//! SFTP version 3 (draft-ietf-secsh-filexfer-02) on the emulated disk, with OpenSSH's `posix-rename` and
//! `fsync`. Links are refused: the disk has none.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use russh_sftp::protocol::{
    Attrs, Data, File as Entry, FileAttributes, Handle, Name, OpenFlags, Packet, Status, StatusCode, Version,
};
use russh_sftp::server::{Handler, StatusReply};

use super::commands::long_form;
use super::host::{Host, home};
use super::io::MAX_FILE;
use super::vfs::{Access, Vfs, reason};

/// Files and folders that one client may have open.
const MAX_HANDLES: usize = 256;
/// Bytes per answer to a read, whatever was asked for.
const MAX_READ: u32 = 64 * 1024;
/// Names per answer to a folder being read.
const NAMES: usize = 100;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";

/// One client's files.
pub(super) struct Sftp {
    host: Arc<Host>,
    home: String,
    open: HashMap<String, Open>,
    next: u64,
}

enum Open {
    File(File),
    Folder(Vec<(String, Metadata)>),
}

type Answer<T> = Result<T, StatusReply>;

impl Sftp {
    pub(super) fn new(host: Arc<Host>, login: &str) -> Self {
        let start = home(login);
        let home = if host.vfs.is_folder(&start) { start } else { "/".to_owned() };
        Self { host, home, open: HashMap::new(), next: 0 }
    }

    fn path(&self, name: &str) -> String {
        Vfs::absolute(&self.home, name)
    }

    fn keep(&mut self, id: u32, open: Open) -> Answer<Handle> {
        if self.open.len() >= MAX_HANDLES {
            return Err(StatusCode::Failure.with_message("too many open files"));
        }
        self.next += 1;
        let handle = format!("{:x}", self.next);
        self.open.insert(handle.clone(), open);
        Ok(Handle { id, handle })
    }

    fn file(&self, handle: &str) -> Answer<&File> {
        match self.open.get(handle) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(StatusCode::Failure.with_message("no such handle")),
        }
    }

    fn look(&self, id: u32, path: &str) -> Answer<Attrs> {
        Ok(Attrs { id, attrs: attributes(&self.host.vfs.stat(&self.path(path)).map_err(failed)?) })
    }
}

fn failed(error: io::Error) -> StatusReply {
    let code = match error.kind() {
        io::ErrorKind::NotFound => StatusCode::NoSuchFile,
        io::ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
        _ => StatusCode::Failure,
    };
    code.with_message(reason(&error))
}

fn done(id: u32) -> Status {
    Status { id, status_code: StatusCode::Ok, error_message: "Ok".to_owned(), language_tag: "en".to_owned() }
}

fn attributes(meta: &Metadata) -> FileAttributes {
    FileAttributes {
        size: Some(meta.len()),
        uid: Some(0),
        gid: Some(0),
        permissions: Some(meta.mode()),
        atime: Some(u32::try_from(meta.atime()).unwrap_or(0)),
        mtime: Some(u32::try_from(meta.mtime()).unwrap_or(0)),
        ..FileAttributes::default()
    }
}

/// Applies what a client may change: size, permission bits and the time of change.
fn apply(file: &File, attrs: &FileAttributes) -> io::Result<()> {
    if let Some(size) = attrs.size {
        if size > MAX_FILE {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.set_len(size)?;
    }
    if let Some(mode) = attrs.permissions {
        file.set_permissions(std::fs::Permissions::from_mode((mode & 0o777) | 0o600))?;
    }
    if let Some(seconds) = attrs.mtime {
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds.into()))?;
    }
    Ok(())
}

impl Handler for Sftp {
    type Error = StatusReply;

    fn unimplemented(&self) -> Self::Error {
        StatusCode::OpUnsupported.into()
    }

    async fn init(&mut self, _version: u32, _extensions: HashMap<String, String>) -> Answer<Version> {
        let mut version = Version::new();
        version.extensions.insert(POSIX_RENAME.to_owned(), "1".to_owned());
        version.extensions.insert(FSYNC.to_owned(), "1".to_owned());
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        name: String,
        flags: OpenFlags,
        attrs: FileAttributes,
    ) -> Answer<Handle> {
        let access = Access {
            read: flags.contains(OpenFlags::READ),
            write: flags.contains(OpenFlags::WRITE),
            append: flags.contains(OpenFlags::APPEND),
            create: flags.contains(OpenFlags::CREATE),
            create_new: flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUDE),
            truncate: flags.contains(OpenFlags::TRUNCATE) && flags.contains(OpenFlags::WRITE),
        };
        let path = self.path(&name);
        let fresh = access.create && self.host.vfs.stat(&path).is_err();
        let file = self.host.vfs.open(&path, access).map_err(failed)?;
        if fresh {
            let mode = FileAttributes { permissions: attrs.permissions, ..FileAttributes::empty() };
            apply(&file, &mode).map_err(failed)?;
        }
        self.keep(id, Open::File(file))
    }

    async fn close(&mut self, id: u32, handle: String) -> Answer<Status> {
        match self.open.remove(&handle) {
            Some(_) => Ok(done(id)),
            None => Err(StatusCode::Failure.with_message("no such handle")),
        }
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Answer<Data> {
        let mut data = vec![0; usize::try_from(len.min(MAX_READ)).unwrap_or(0)];
        let count = self.file(&handle)?.read_at(&mut data, offset).map_err(failed)?;
        if count == 0 {
            return Err(StatusCode::Eof.into());
        }
        data.truncate(count);
        Ok(Data { id, data })
    }

    async fn write(&mut self, id: u32, handle: String, offset: u64, data: Vec<u8>) -> Answer<Status> {
        if offset.saturating_add(data.len() as u64) > MAX_FILE {
            return Err(failed(io::ErrorKind::StorageFull.into()));
        }
        self.file(&handle)?.write_all_at(&data, offset).map_err(failed)?;
        Ok(done(id))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Answer<Attrs> {
        self.look(id, &path)
    }

    async fn stat(&mut self, id: u32, path: String) -> Answer<Attrs> {
        self.look(id, &path)
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Answer<Attrs> {
        Ok(Attrs { id, attrs: attributes(&self.file(&handle)?.metadata().map_err(failed)?) })
    }

    async fn setstat(&mut self, id: u32, name: String, attrs: FileAttributes) -> Answer<Status> {
        let path = self.path(&name);
        let vfs = &self.host.vfs;
        if vfs.is_folder(&path) {
            if let Some(mode) = attrs.permissions {
                // Without the right to enter, a folder could never be cleared away.
                vfs.set_mode(&path, mode | 0o700).map_err(failed)?;
            }
        } else {
            let access = Access { read: true, write: true, ..Access::default() };
            apply(&vfs.open(&path, access).map_err(failed)?, &attrs).map_err(failed)?;
        }
        Ok(done(id))
    }

    async fn fsetstat(&mut self, id: u32, handle: String, attrs: FileAttributes) -> Answer<Status> {
        apply(self.file(&handle)?, &attrs).map_err(failed)?;
        Ok(done(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Answer<Handle> {
        let mut entries = self.host.vfs.list(&self.path(&path)).map_err(failed)?;
        // Taken from the end as they are read.
        entries.reverse();
        self.keep(id, Open::Folder(entries))
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Answer<Name> {
        let Some(Open::Folder(entries)) = self.open.get_mut(&handle) else {
            return Err(StatusCode::Failure.with_message("no such handle"));
        };
        if entries.is_empty() {
            return Err(StatusCode::Eof.into());
        }
        let rest = entries.len().saturating_sub(NAMES);
        let files = entries
            .split_off(rest)
            .into_iter()
            .rev()
            .map(|(name, meta)| Entry {
                longname: format!("{} {name}", long_form(&meta)),
                attrs: attributes(&meta),
                filename: name,
            })
            .collect();
        Ok(Name { id, files })
    }

    async fn remove(&mut self, id: u32, name: String) -> Answer<Status> {
        self.host.vfs.remove_file(&self.path(&name)).map_err(failed)?;
        Ok(done(id))
    }

    async fn mkdir(&mut self, id: u32, name: String, _attrs: FileAttributes) -> Answer<Status> {
        self.host.vfs.make_folder(&self.path(&name)).map_err(failed)?;
        Ok(done(id))
    }

    async fn rmdir(&mut self, id: u32, name: String) -> Answer<Status> {
        self.host.vfs.remove_folder(&self.path(&name)).map_err(failed)?;
        Ok(done(id))
    }

    async fn realpath(&mut self, id: u32, name: String) -> Answer<Name> {
        let path = self.path(&name);
        Ok(Name {
            id,
            files: vec![Entry { longname: path.clone(), filename: path, attrs: FileAttributes::empty() }],
        })
    }

    async fn rename(&mut self, id: u32, from: String, to: String) -> Answer<Status> {
        let to = self.path(&to);
        // §6.5: it is an error when the new name exists; `posix-rename` replaces it.
        if self.host.vfs.stat(&to).is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        self.host.vfs.rename(&self.path(&from), &to).map_err(failed)?;
        Ok(done(id))
    }

    async fn extended(&mut self, id: u32, request: String, data: Vec<u8>) -> Answer<Packet> {
        let mut strings = Strings(&data);
        match request.as_str() {
            POSIX_RENAME => {
                let (Some(from), Some(to)) = (strings.next(), strings.next()) else {
                    return Err(StatusCode::BadMessage.into());
                };
                self.host.vfs.rename(&self.path(&from), &self.path(&to)).map_err(failed)?;
            }
            FSYNC => {
                let handle = strings.next().ok_or(StatusReply::from(StatusCode::BadMessage))?;
                self.file(&handle)?.sync_all().map_err(failed)?;
            }
            _ => return Err(self.unimplemented()),
        }
        Ok(done(id).into())
    }
}

/// Reads strings of the SSH form (RFC 4251 §5): four bytes of length, then the text.
struct Strings<'a>(&'a [u8]);

impl Iterator for Strings<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::shell::tests::host;
    use super::*;

    #[tokio::test]
    async fn a_file_goes_up_and_comes_back() {
        let (_dir, host) = host();
        let mut sftp = Sftp::new(host, "root");
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let handle = sftp.open(1, "f".into(), flags, FileAttributes::empty()).await.unwrap().handle;
        sftp.write(2, handle.clone(), 0, b"hello".to_vec()).await.unwrap();
        sftp.close(3, handle.clone()).await.unwrap();
        assert!(sftp.close(3, handle).await.is_err());
        let handle =
            sftp.open(4, "/root/f".into(), OpenFlags::READ, FileAttributes::empty()).await.unwrap().handle;
        assert_eq!(sftp.read(5, handle.clone(), 1, 100).await.unwrap().data, b"ello");
        assert_eq!(sftp.read(6, handle, 5, 100).await.unwrap_err().status_code, StatusCode::Eof);
        assert_eq!(sftp.stat(7, "f".into()).await.unwrap().attrs.size, Some(5));
    }

    #[tokio::test]
    async fn names_stay_on_the_disk_and_links_are_refused() {
        let (_dir, host) = host();
        let mut sftp = Sftp::new(host, "root");
        let name = sftp.realpath(1, "../../../etc/./hostname".into()).await.unwrap();
        assert_eq!(name.files[0].filename, "/etc/hostname");
        assert_eq!(
            sftp.symlink(2, "/tmp/l".into(), "/etc".into()).await.unwrap_err().status_code,
            StatusCode::OpUnsupported
        );
        assert!(sftp.open(3, "/etc".into(), OpenFlags::READ, FileAttributes::empty()).await.is_err());
        assert!(sftp.rmdir(4, "/".into()).await.is_err());
    }

    #[tokio::test]
    async fn folders_are_read_to_their_end() {
        let (_dir, host) = host();
        let mut sftp = Sftp::new(host, "root");
        sftp.mkdir(1, "d".into(), FileAttributes::empty()).await.unwrap();
        for number in 0..NAMES + 5 {
            let flags = OpenFlags::WRITE | OpenFlags::CREATE;
            let handle =
                sftp.open(2, format!("d/{number:03}"), flags, FileAttributes::empty()).await.unwrap();
            sftp.close(3, handle.handle).await.unwrap();
        }
        let handle = sftp.opendir(4, "d".into()).await.unwrap().handle;
        let mut names = Vec::new();
        while let Ok(part) = sftp.readdir(5, handle.clone()).await {
            names.extend(part.files.into_iter().map(|file| file.filename));
        }
        assert_eq!(names.len(), NAMES + 5);
        assert!(names.is_sorted());
    }

    #[tokio::test]
    async fn rename_replaces_only_when_asked_to() {
        let (_dir, host) = host();
        let mut sftp = Sftp::new(host, "root");
        let (from, to) = ("/etc/hostname", "/etc/motd");
        assert!(sftp.rename(1, from.into(), to.into()).await.is_err());
        let mut data = Vec::new();
        for text in [from, to] {
            data.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            data.extend_from_slice(text.as_bytes());
        }
        sftp.extended(2, POSIX_RENAME.into(), data.clone()).await.unwrap();
        assert_eq!(sftp.stat(3, to.into()).await.unwrap().attrs.size, Some(9));
        data.truncate(9);
        assert!(sftp.extended(4, POSIX_RENAME.into(), data).await.is_err());
    }
}
