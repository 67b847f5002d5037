//! A backup: one file, encrypted to recipients, that is restored on any machine which has one of their identities.
//!
//! Inside is a plain tar archive in an age file: `age -d -i IDENTITY FILE | tar x` restores it without this program, and
//! `sha256sum -c SHA256SUMS` checks it. The first member says what it is, the last one holds the digests of all others; a
//! restore takes effect only when all of it has been read and checked. Everything streams: neither writing nor reading
//! keeps more than a buffer in memory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use age::stream::StreamWriter;
use age::x25519::Recipient;
use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::root::Root;

/// The most members of one backup.
pub const MAX_MEMBERS: usize = 10_000;

const FACTS: &str = "COFFERDAM-BACKUP";
const SUMS: &str = "SHA256SUMS";
const FORM: &str = "cofferdam backup, form 1";
const MAX_NAME: usize = 96;
const MAX_TEXT: u64 = 4 * 1024 * 1024;
const BUFFER: usize = 64 * 1024;

/// Why a backup was not written or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nobody could open it.
    #[error("a backup needs at least one recipient (age1…); without one nobody could restore it")]
    NoRecipient,
    /// A recipient that is none.
    #[error("{0:?} is no age recipient; write the public half, \"age1…\"")]
    Recipient(String),
    /// A member's name would lead elsewhere.
    #[error(
        "{0:?} cannot be the name of a member: use letters, digits, '.', '_', '-' and single '/' between them"
    )]
    Name(String),
    /// A member has another length than was said.
    #[error(
        "{name} changed while it was read: {said} bytes were said, {found} came; take the backup of a copy that stands still"
    )]
    Length {
        /// The member.
        name: String,
        /// What was said.
        said: u64,
        /// What came.
        found: u64,
    },
    /// There are too many, or too much.
    #[error("the backup has {0}; nothing was restored. Allow more if it really is yours")]
    TooMuch(&'static str),
    /// The identity does not open it.
    #[error(
        "the identity does not open this backup: it is for other recipients, or is no backup; nothing was restored"
    )]
    NotYours,
    /// It opens, but is none.
    #[error("this is no backup that this program knows: {0}; nothing was restored")]
    Form(&'static str),
    /// It was altered or cut.
    #[error("the backup is damaged: {0}; nothing was restored. Take another copy of it")]
    Damaged(String),
    /// The folder is there already.
    #[error("{path} is there already; restore into a folder that does not exist", path = .0.display())]
    Exists(PathBuf),
    /// The system refused.
    #[error("{what}: {source}; look at the place and the space left there")]
    Io {
        /// What was being done.
        what: String,
        /// What was said.
        source: io::Error,
    },
}

fn io_fault(what: impl Into<String>) -> impl FnOnce(io::Error) -> BackupError {
    let what = what.into();
    |source| BackupError::Io { what, source }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in the archive.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// When it was made, in UTC microseconds; whole seconds are kept.
    pub made_at: i64,
    /// Where it was made: the node's name.
    pub made_by: String,
    /// The members, in their order.
    pub members: Vec<Member>,
    /// The SHA-256 of the encrypted file, hexadecimal: to be kept elsewhere, and compared.
    pub file_sha256: String,
}

/// Writes a backup, member by member.
pub struct BackupWriter<W: Write> {
    tar: tar::Builder<StreamWriter<Hashing<W>>>,
    made_at: i64,
    made_by: String,
    members: Vec<Member>,
    broken: bool,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup for `recipients` (`age1…`).
    ///
    /// # Errors
    /// [`BackupError::NoRecipient`], [`BackupError::Recipient`], [`BackupError::Name`] for the node's name.
    pub fn new(out: W, recipients: &[String], made_by: &str, made_at: i64) -> Result<Self, BackupError> {
        let parse =
            |text: &String| text.parse::<Recipient>().map_err(|_| BackupError::Recipient(text.clone()));
        let recipients = recipients.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let encryptor = age::Encryptor::with_recipients(recipients.iter().map(|r| r as &dyn age::Recipient))
            .map_err(|_| BackupError::NoRecipient)?;
        let stream = encryptor.wrap_output(Hashing::new(out)).map_err(io_fault("the backup"))?;
        let mut this = Self {
            tar: tar::Builder::new(stream),
            made_at,
            made_by: checked(made_by)?.to_owned(),
            members: Vec::new(),
            broken: false,
        };
        let made = Timestamp::from_second(made_at.div_euclid(1_000_000))
            .map_err(|_| BackupError::Form("its time is none"))?;
        let facts = format!("{FORM}\nmade: {made}\nby: {made_by}\n");
        this.append(FACTS, facts.len() as u64, &mut facts.as_bytes())?;
        Ok(this)
    }

    /// Adds a member of exactly that length.
    ///
    /// # Errors
    /// [`BackupError::Name`], [`BackupError::Length`], [`BackupError::Io`]. After one of the latter two the backup can only
    /// be thrown away.
    pub fn add(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> Result<(), BackupError> {
        checked(name)?;
        if [FACTS, SUMS].contains(&name) || self.members.iter().any(|m| m.name == name) {
            return Err(BackupError::Name(name.to_owned()));
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(BackupError::TooMuch("too many members"));
        }
        let sha256 = self.append(name, bytes, content)?;
        self.members.push(Member { name: name.to_owned(), bytes, sha256 });
        Ok(())
    }

    /// Ends the backup. Only what this has returned from is one.
    ///
    /// # Errors
    /// [`BackupError::Io`]; [`BackupError::Damaged`] when a member before had failed.
    pub fn finish(mut self) -> Result<(Manifest, W), BackupError> {
        if self.broken {
            return Err(BackupError::Damaged("a member could not be written".into()));
        }
        let sums = sums(&self.members);
        self.append(SUMS, sums.len() as u64, &mut sums.as_bytes())?;
        let fault = || io_fault("the backup's end");
        let stream = self.tar.into_inner().map_err(fault())?;
        let mut out = stream.finish().map_err(fault())?;
        out.flush().map_err(fault())?;
        let Hashing { inner, digest } = out;
        let manifest = Manifest {
            made_at: self.made_at.div_euclid(1_000_000) * 1_000_000,
            made_by: self.made_by,
            members: self.members,
            file_sha256: hex::encode(digest.finish()),
        };
        Ok((manifest, inner))
    }

    fn append(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> Result<String, BackupError> {
        // Until it is written whole.
        self.broken = true;
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.made_at.div_euclid(1_000_000)).unwrap_or(0));
        let mut counted =
            Counted { inner: content.take(bytes.saturating_add(1)), digest: Context::new(&SHA256), read: 0 };
        let written = self.tar.append_data(&mut header, name, &mut counted);
        if counted.read != bytes {
            return Err(BackupError::Length { name: name.to_owned(), said: bytes, found: counted.read });
        }
        written.map_err(io_fault(name))?;
        self.broken = false;
        Ok(hex::encode(counted.digest.finish()))
    }
}

/// Restores a backup into `folder`, which must not exist: into one beside it first, which takes its name when everything
/// has been read and checked. Files are readable by this user alone. At most `most` bytes are written.
///
/// # Errors
/// [`BackupError`]; nothing of it is left then.
pub fn restore(input: impl Read, identity: &Root, folder: &Path, most: u64) -> Result<Manifest, BackupError> {
    if fs::symlink_metadata(folder).is_ok() {
        return Err(BackupError::Exists(folder.to_owned()));
    }
    let mut name = folder.as_os_str().to_owned();
    name.push(".partial");
    let draft = PathBuf::from(name);
    let fault = || io_fault(draft.display().to_string());
    DirBuilder::new().mode(0o700).create(&draft).map_err(fault())?;
    let done = read_into(input, identity, &draft, most)
        .and_then(|manifest| fs::rename(&draft, folder).map(|()| manifest).map_err(fault()));
    if done.is_err() {
        fs::remove_dir_all(&draft).map_err(fault())?;
    }
    done
}

fn read_into(input: impl Read, identity: &Root, draft: &Path, most: u64) -> Result<Manifest, BackupError> {
    let mut counted = Counted { inner: input, digest: Context::new(&SHA256), read: 0 };
    let decryptor = age::Decryptor::new(&mut counted).map_err(|_| BackupError::NotYours)?;
    let opened = decryptor.decrypt(std::iter::once(identity.identity() as &dyn age::Identity));
    let mut plain = opened.map_err(|_| BackupError::NotYours)?;
    let (facts, members) = read_members(&mut plain, draft, most)?;
    // To the end: only its last chunk proves that the file was not cut.
    let rest = io::copy(&mut plain.by_ref().take(MAX_TEXT), &mut io::sink()).map_err(damaged)?;
    if rest >= MAX_TEXT {
        return Err(BackupError::Form("something follows its end"));
    }
    drop(plain);
    let trailing = io::copy(&mut counted.by_ref().take(1), &mut io::sink()).map_err(damaged)?;
    if trailing > 0 {
        return Err(BackupError::Form("something follows its end"));
    }
    let (made_at, made_by) = facts;
    Ok(Manifest { made_at, made_by, members, file_sha256: hex::encode(counted.digest.finish()) })
}

type Facts = (i64, String);

fn read_members(plain: &mut dyn Read, draft: &Path, most: u64) -> Result<(Facts, Vec<Member>), BackupError> {
    let mut archive = tar::Archive::new(plain);
    let (mut facts, mut members, mut left) = (None, Vec::new(), most);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().ok().and_then(|p| p.to_str().map(str::to_owned));
        let name = name.ok_or(BackupError::Form("a member has no name"))?;
        if !entry.header().entry_type().is_file() {
            return Err(BackupError::Form("a member is no ordinary file"));
        }
        match (name.as_str(), &facts) {
            (FACTS, None) => facts = Some(read_facts(&text(&mut entry)?)?),
            (_, None) => return Err(BackupError::Form("it does not begin as one")),
            (SUMS, Some(_)) => {
                if text(&mut entry)? != sums(&members) {
                    return Err(BackupError::Damaged("a member is not what its digest says".into()));
                }
                return Ok((facts.unwrap_or_default(), members));
            }
            _ => {
                if members.len() >= MAX_MEMBERS {
                    return Err(BackupError::TooMuch("too many members"));
                }
                let member = write_member(&mut entry, &name, draft, left)?;
                left = left.saturating_sub(member.bytes);
                members.push(member);
            }
        }
    }
    Err(BackupError::Damaged("its end is missing".into()))
}

fn write_member(entry: &mut dyn Read, name: &str, draft: &Path, left: u64) -> Result<Member, BackupError> {
    let path = draft.join(checked(name)?);
    let fault = || io_fault(path.display().to_string());
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault())?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(fault())?;
    let mut counted = Counted { inner: entry, digest: Context::new(&SHA256), read: 0 };
    copy(&mut counted, &file, left).map_err(|e| match e.kind() {
        io::ErrorKind::FileTooLarge => BackupError::TooMuch("more bytes than were allowed"),
        io::ErrorKind::InvalidData => damaged(e),
        _ => BackupError::Io { what: path.display().to_string(), source: e },
    })?;
    file.sync_all().map_err(fault())?;
    Ok(Member { name: name.to_owned(), bytes: counted.read, sha256: hex::encode(counted.digest.finish()) })
}

/// Through a buffer that is wiped; what cannot be read is the archive's fault, what cannot be written the disk's.
fn copy(from: &mut dyn Read, mut to: &File, left: u64) -> io::Result<()> {
    let (mut buffer, mut left) = (Zeroizing::new(vec![0; BUFFER]), left);
    loop {
        let read = from.read(&mut buffer).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let Some(part) = buffer.get(..read).filter(|p| !p.is_empty()) else { return Ok(()) };
        left = left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        to.write_all(part)?;
    }
}

fn read_facts(text: &str) -> Result<Facts, BackupError> {
    let mut lines = text.lines();
    if lines.next() != Some(FORM) {
        return Err(BackupError::Form("it is of a form that this program does not know"));
    }
    let mut value = |key: &str| lines.next().and_then(|l| l.strip_prefix(key));
    let made = value("made: ").and_then(|t| t.parse::<Timestamp>().ok());
    let (Some(made), Some(by)) = (made, value("by: ")) else {
        return Err(BackupError::Form("it does not say when and where it was made"));
    };
    Ok((made.as_microsecond(), by.to_owned()))
}

fn text(entry: &mut dyn Read) -> Result<String, BackupError> {
    let mut text = String::new();
    entry.take(MAX_TEXT).read_to_string(&mut text).map_err(damaged)?;
    Ok(text)
}

/// As `sha256sum` writes it.
fn sums(members: &[Member]) -> String {
    members.iter().map(|m| format!("{}  {}\n", m.sha256, m.name)).collect()
}

/// Whether a member may be called so: relative, of plain characters, no longer than the archive's form allows.
#[must_use]
pub fn is_member_name(name: &str) -> bool {
    let segment = |s: &str| {
        !s.is_empty()
            && !s.starts_with(['.', '-'])
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    name.len() <= MAX_NAME && name.split('/').all(segment)
}

fn checked(name: &str) -> Result<&str, BackupError> {
    if is_member_name(name) { Ok(name) } else { Err(BackupError::Name(name.to_owned())) }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn damaged(e: io::Error) -> BackupError {
    BackupError::Damaged(e.to_string())
}

struct Hashing<W> {
    inner: W,
    digest: Context,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, digest: Context::new(&SHA256) }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Counted<R> {
    inner: R,
    digest: Context,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.digest.update(out.get(..read).unwrap_or_default());
        self.read = self.read.saturating_add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::SystemEntropy;

    const NOW: i64 = 1_795_413_600_000_000;

    fn root() -> Root {
        Root::generate(&SystemEntropy).unwrap()
    }

    fn backup(recipients: &[&Root]) -> (Manifest, Vec<u8>) {
        let recipients: Vec<String> = recipients.iter().map(|r| r.recipient()).collect();
        let mut writer = BackupWriter::new(Vec::new(), &recipients, "gw-1", NOW).unwrap();
        writer.add("store.sqlite", 200_000, &mut vec![7; 200_000].as_slice()).unwrap();
        writer.add("keys/vault_keyring", 5, &mut b"hunte".as_slice()).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_backup_is_restored_elsewhere_by_any_of_its_recipients() {
        let both = [root(), root()];
        let (manifest, file) = backup(&[&both[0], &both[1]]);
        assert!(!file.windows(5).any(|w| w == b"hunte"));
        for (i, identity) in both.iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join(i.to_string());
            assert_eq!(restore(file.as_slice(), identity, &folder, u64::MAX).unwrap(), manifest);
            assert_eq!(fs::read(folder.join("keys/vault_keyring")).unwrap(), b"hunte");
            assert_eq!(fs::metadata(folder.join("store.sqlite")).unwrap().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
            let again = restore(file.as_slice(), identity, &folder, u64::MAX);
            assert!(matches!(again, Err(BackupError::Exists(_))));
        }
    }

    #[test]
    fn another_identity_restores_nothing() {
        let (_, file) = backup(&[&root()]);
        let dir = tempfile::tempdir().unwrap();
        let error = restore(file.as_slice(), &root(), &dir.path().join("x"), u64::MAX).unwrap_err();
        assert!(matches!(error, BackupError::NotYours));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_cut_altered_or_lengthened_backup_leaves_nothing_behind() {
        let identity = root();
        let (_, file) = backup(&[&identity]);
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x");
        let mut odd: Vec<Vec<u8>> = (0..40).map(|i| file[..file.len() * i / 40].to_vec()).collect();
        odd.extend((0..40).map(|i| {
            let mut altered = file.clone();
            altered[file.len() * i / 40] ^= 4;
            altered
        }));
        odd.push(file[..file.len() - 1].to_vec());
        odd.push([&file[..], b"x"].concat());
        for (i, file) in odd.iter().enumerate() {
            assert!(restore(file.as_slice(), &identity, &folder, u64::MAX).is_err(), "{i}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{i} left something behind");
        }
    }

    #[test]
    fn a_backup_cannot_write_outside_its_folder_or_without_end() {
        let identity = root();
        // What an archive of somebody else's making may hold.
        for name in ["../escape", "/etc/cofferdam", "a/../../b", ".hidden", "a//b", "-rf"] {
            let recipients = [identity.recipient()];
            let mut writer = BackupWriter::new(Vec::new(), &recipients, "gw-1", NOW).unwrap();
            assert!(matches!(writer.add(name, 1, &mut b"x".as_slice()), Err(BackupError::Name(_))), "{name}");
            let mut header = tar::Header::new_ustar();
            header.set_size(1);
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            writer.tar.append(&header, &b"x"[..]).unwrap();
            let (_, file) = writer.finish().unwrap();
            let dir = tempfile::tempdir().unwrap();
            let error = restore(file.as_slice(), &identity, &dir.path().join("x"), 1000).unwrap_err();
            assert!(matches!(error, BackupError::Name(_)), "{name}: {error}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        let (_, file) = backup(&[&identity]);
        let dir = tempfile::tempdir().unwrap();
        let error = restore(file.as_slice(), &identity, &dir.path().join("x"), 100_000).unwrap_err();
        assert!(matches!(error, BackupError::TooMuch(_)), "{error}");
    }

    #[test]
    fn a_member_that_changes_while_it_is_read_spoils_the_backup_and_says_so() {
        for came in [&b"abc"[..], b"abcdefgh"] {
            let recipients = [root().recipient()];
            let mut writer = BackupWriter::new(Vec::new(), &recipients, "gw-1", NOW).unwrap();
            let mut content = came;
            assert!(matches!(writer.add("a", 5, &mut content), Err(BackupError::Length { said: 5, .. })));
            assert!(writer.finish().is_err());
        }
        assert!(BackupWriter::new(Vec::new(), &[], "gw-1", NOW).is_err());
    }
}
