//! SFTP version 3 on the wire (draft-ietf-secsh-filexfer-02) and OpenSSH's extensions (its `PROTOCOL` file, §4).

use bytes::{BufMut, Bytes, BytesMut};

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
const LSTAT: u8 = 7;
const FSTAT: u8 = 8;
const SETSTAT: u8 = 9;
const FSETSTAT: u8 = 10;
const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const RMDIR: u8 = 15;
const REALPATH: u8 = 16;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const READLINK: u8 = 19;
const SYMLINK: u8 = 20;
pub(super) const STATUS: u8 = 101;
pub(super) const HANDLE: u8 = 102;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
pub(super) const ATTRS: u8 = 105;
const EXTENDED: u8 = 200;
pub(super) const EXTENDED_REPLY: u8 = 201;

pub(super) const FXF_READ: u32 = 1;
pub(super) const FXF_WRITE: u32 = 2;
pub(super) const FXF_APPEND: u32 = 4;
pub(super) const FXF_CREAT: u32 = 8;
pub(super) const FXF_TRUNC: u32 = 16;
pub(super) const FXF_EXCL: u32 = 32;

pub(super) const FX_OK: u32 = 0;
pub(super) const FX_EOF: u32 = 1;
pub(super) const FX_PERMISSION_DENIED: u32 = 3;
pub(super) const FX_FAILURE: u32 = 4;
pub(super) const FX_OP_UNSUPPORTED: u32 = 8;

/// Longest handle (draft §3).
pub(super) const MAX_HANDLE: usize = 256;

/// Reads the fields of a packet; every read says `None` when the packet is too short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*first))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let size = self.u32()? as usize;
        let (first, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(first)
    }
}

/// The attributes that matter to a reader of the audit (draft §5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attrs {
    pub(super) size: Option<u64>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    pub(super) times: Option<(u32, u32)>,
}

impl Attrs {
    /// Reads as much as is there: some clients leave the attributes of an OPEN out.
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let flags = r.u32()?;
        let mut attrs = Self::default();
        if flags & 1 != 0 {
            attrs.size = Some(r.u64()?);
        }
        if flags & 2 != 0 {
            attrs.owner = Some((r.u32()?, r.u32()?));
        }
        if flags & 4 != 0 {
            attrs.mode = Some(r.u32()?);
        }
        if flags & 8 != 0 {
            attrs.times = Some((r.u32()?, r.u32()?));
        }
        Some(attrs)
    }

    /// For the event's note.
    pub(super) fn describe(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(size) = self.size {
            parts.push(format!("size {size}"));
        }
        if let Some((user, group)) = self.owner {
            parts.push(format!("owner {user}:{group}"));
        }
        if let Some(mode) = self.mode {
            parts.push(format!("mode {:04o}", mode & 0o7777));
        }
        if self.times.is_some() {
            parts.push("times".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// What the person asks for. Fields that nobody needs are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: u32,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        size: u32,
    },
    Write {
        handle: &'a [u8],
        offset: u64,
        size: u32,
    },
    /// LSTAT, STAT, READLINK, statvfs.
    Look {
        path: &'a [u8],
        reply: u8,
    },
    /// FSTAT, fstatvfs, READDIR, fsync.
    LookHandle {
        handle: &'a [u8],
        reply: u8,
    },
    /// SETSTAT, lsetstat.
    SetAttributes {
        path: &'a [u8],
        attrs: Attrs,
    },
    SetHandleAttributes {
        handle: &'a [u8],
        attrs: Attrs,
    },
    OpenDir {
        path: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    Mkdir {
        path: &'a [u8],
    },
    Rmdir {
        path: &'a [u8],
    },
    /// REALPATH, expand-path: name to name, nothing of the file itself.
    Resolve {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    /// The two strings in the order on the wire, which differs between servers.
    Symlink {
        first: &'a [u8],
        second: &'a [u8],
    },
    Link {
        from: &'a [u8],
        to: &'a [u8],
    },
    CopyData {
        from: &'a [u8],
        to: &'a [u8],
        /// 0: to the end.
        size: u64,
        /// Where in `to`.
        at: u64,
    },
    /// limits, home-directory, users-groups-by-id: nothing about files.
    Harmless {
        reply: u8,
    },
    UnknownExtension {
        name: &'a [u8],
    },
    UnknownType {
        kind: u8,
    },
}

impl<'a> Request<'a> {
    /// Reads a request from behind its id. `None`: too short. What follows the last field is ignored, as servers do.
    pub(super) fn read(kind: u8, mut r: Reader<'a>) -> Option<Self> {
        Some(match kind {
            OPEN => Self::Open { path: r.string()?, flags: r.u32()? },
            CLOSE => Self::Close { handle: r.string()? },
            READ => Self::Read { handle: r.string()?, offset: r.u64()?, size: r.u32()? },
            WRITE => Self::Write { handle: r.string()?, offset: r.u64()?, size: r.u32()? },
            LSTAT | STAT => Self::Look { path: r.string()?, reply: ATTRS },
            READLINK => Self::Look { path: r.string()?, reply: NAME },
            FSTAT => Self::LookHandle { handle: r.string()?, reply: ATTRS },
            READDIR => Self::LookHandle { handle: r.string()?, reply: NAME },
            SETSTAT => Self::SetAttributes { path: r.string()?, attrs: Attrs::read(&mut r)? },
            FSETSTAT => Self::SetHandleAttributes { handle: r.string()?, attrs: Attrs::read(&mut r)? },
            OPENDIR => Self::OpenDir { path: r.string()? },
            REMOVE => Self::Remove { path: r.string()? },
            MKDIR => Self::Mkdir { path: r.string()? },
            RMDIR => Self::Rmdir { path: r.string()? },
            REALPATH => Self::Resolve { path: r.string()? },
            RENAME => Self::Rename { from: r.string()?, to: r.string()? },
            SYMLINK => Self::Symlink { first: r.string()?, second: r.string()? },
            EXTENDED => Self::extension(r.string()?, r)?,
            kind => Self::UnknownType { kind },
        })
    }

    fn extension(name: &'a [u8], mut r: Reader<'a>) -> Option<Self> {
        Some(match name {
            b"posix-rename@openssh.com" => Self::Rename { from: r.string()?, to: r.string()? },
            b"hardlink@openssh.com" => Self::Link { from: r.string()?, to: r.string()? },
            b"fsync@openssh.com" => Self::LookHandle { handle: r.string()?, reply: STATUS },
            b"lsetstat@openssh.com" => Self::SetAttributes { path: r.string()?, attrs: Attrs::read(&mut r)? },
            b"statvfs@openssh.com" => Self::Look { path: r.string()?, reply: EXTENDED_REPLY },
            b"fstatvfs@openssh.com" => Self::LookHandle { handle: r.string()?, reply: EXTENDED_REPLY },
            b"copy-data" => {
                let (from, _offset, size) = (r.string()?, r.u64()?, r.u64()?);
                Self::CopyData { from, to: r.string()?, size, at: r.u64()? }
            }
            b"expand-path@openssh.com" => Self::Resolve { path: r.string()? },
            b"limits@openssh.com" | b"users-groups-by-id@openssh.com" => {
                Self::Harmless { reply: EXTENDED_REPLY }
            }
            b"home-directory" => Self::Harmless { reply: NAME },
            name => Self::UnknownExtension { name },
        })
    }
}

/// Puts the length in front of a packet.
fn frame(body: &[u8]) -> Bytes {
    let mut packet = BytesMut::with_capacity(body.len() + 4);
    packet.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    packet.put_slice(body);
    packet.freeze()
}

/// SSH_FXP_STATUS (draft §7).
pub(super) fn status(id: u32, code: u32, message: &str) -> Bytes {
    let mut body = Vec::with_capacity(message.len() + 24);
    body.put_u8(STATUS);
    body.put_u32(id);
    body.put_u32(code);
    body.put_u32(u32::try_from(message.len()).unwrap_or(0));
    body.put_slice(message.as_bytes());
    body.put_u32(2);
    body.put_slice(b"en");
    frame(&body)
}

/// SSH_FXP_INIT for version 3, without extensions.
pub(super) fn init() -> Bytes {
    frame(&[INIT, 0, 0, 0, 3])
}

/// The text of a status, or its code's meaning.
pub(super) fn status_text(code: u32, message: Option<&[u8]>) -> String {
    const LONGEST: usize = 512;
    match message {
        Some(text) if !text.is_empty() => {
            String::from_utf8_lossy(text.get(..LONGEST).unwrap_or(text)).into_owned()
        }
        _ => match code {
            2 => "no such file".to_owned(),
            3 => "permission denied".to_owned(),
            4 => "failure".to_owned(),
            8 => "operation unsupported".to_owned(),
            code => format!("status {code}"),
        },
    }
}
