//! Where recordings lie: the seam between the recorder and a disk.

use nix::{
    fcntl::{Flock, FlockArg},
    sys::statvfs::statvfs,
    unistd::syncfs,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A folder that takes recordings. Names hold no slash.
///
/// The recorder writes from one thread; a slow call delays every session of the process.
pub trait Storage: Send + Sync {
    /// Makes a new file that only the service may read; fails where it exists.
    ///
    /// # Errors
    /// What the disk says.
    fn create(&self, name: &str) -> io::Result<Box<dyn SpoolFile>>;
    /// Opens a file to go on writing at its end.
    ///
    /// # Errors
    /// What the disk says.
    fn open(&self, name: &str) -> io::Result<Box<dyn SpoolFile>>;
    /// Writes a whole small file durably: after a crash there is the old one or the new one.
    ///
    /// # Errors
    /// What the disk says.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes the folder's names durable.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_names(&self) -> io::Result<()>;
    /// Makes everything written so far to any file durable, in one go.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_everything(&self) -> io::Result<()>;
    /// Bytes free for recordings.
    ///
    /// # Errors
    /// What the disk says.
    fn free(&self) -> io::Result<u64>;
    /// Where a file lies on this machine, for storages that are a folder.
    fn path(&self, _name: &str) -> Option<PathBuf> {
        None
    }
}

/// An open file of a [`Storage`].
pub trait SpoolFile: Send {
    /// Writes at the end, all or nothing: after an error the file is as long as before.
    ///
    /// # Errors
    /// What the disk says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable (`fdatasync`).
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&mut self) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> u64;
    /// Whether nothing was written yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Cuts the file; the next bytes go to that place even where cutting failed.
    ///
    /// # Errors
    /// What the disk says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A local folder, used by one process at a time.
pub struct LocalFolder {
    path: PathBuf,
    folder: File,
    // Held as long as the service runs: two writers would tear each other's journal.
    _lock: Flock<File>,
}

impl LocalFolder {
    /// Opens the folder, and makes it (readable by the service only) where it is not there.
    ///
    /// # Errors
    /// When it cannot be made or opened, or when another process records into it.
    pub fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(".lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
            io::Error::new(io::Error::from(e).kind(), "another process records into this folder")
        })?;
        Ok(Self { path: path.to_owned(), folder: File::open(path)?, _lock: lock })
    }

    fn file(&self, name: &str, options: &OpenOptions) -> io::Result<Box<dyn SpoolFile>> {
        let file = options.open(self.path.join(name))?;
        let len = file.metadata()?.len();
        Ok(Box::new(LocalFile { file, len }))
    }
}

impl Storage for LocalFolder {
    fn create(&self, name: &str) -> io::Result<Box<dyn SpoolFile>> {
        self.file(name, OpenOptions::new().read(true).write(true).create_new(true).mode(0o600))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn SpoolFile>> {
        self.file(name, OpenOptions::new().read(true).write(true))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        replace_file(&self.path.join(name), bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not text is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.folder.sync_all()
    }

    fn sync_everything(&self) -> io::Result<()> {
        syncfs(&self.folder).map_err(io::Error::from)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.path.join(name))
    }

    fn free(&self) -> io::Result<u64> {
        let stat = statvfs(&self.path)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }
}

/// Writes a small file so that a crash leaves the old one or the new one.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    if written.is_err() {
        // The half-written file helps nobody; the first error is the one to report.
        fs::remove_file(&fresh).ok();
    }
    written
}

struct LocalFile {
    file: File,
    len: u64,
}

impl SpoolFile for LocalFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.file.write_all_at(bytes, self.len) {
            // Leftovers behind `len` are overwritten by the next try, and cut here where possible.
            self.file.set_len(self.len).ok();
            return Err(e);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        // Writing goes on from here even where cutting fails: the next bytes cover the old ones.
        self.len = len;
        self.file.set_len(len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full_at(&self.file, buf, offset)
    }
}

/// Something to read a recording from.
pub(crate) trait Source {
    /// Reads up to `buf.len()` bytes; fewer only at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Bytes there are now.
    fn size(&self) -> io::Result<u64>;
}

impl Source for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full_at(self, buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Source for dyn SpoolFile + '_ {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        SpoolFile::read_at(self, buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(SpoolFile::len(self))
    }
}

impl Source for &[u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(n)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_full_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
        match FileExt::read_at(file, rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
