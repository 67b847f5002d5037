//! Where a command reads from and writes to: chunks of bytes, every queue bounded, so that a reader that
//! stalls stops the writer and memory stays flat.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, mpsc};

/// Chunks that may wait in a pipe; each is at most [`CHUNK`] long, or as long as one SSH packet.
const PIPE_CHUNKS: usize = 16;
/// Bytes per chunk that a command makes.
pub(super) const CHUNK: usize = 32 * 1024;
/// The longest line that is read as a command or a name, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// The largest file of the emulated disk, in bytes.
pub(super) const MAX_FILE: u64 = 4 * 1024 * 1024 * 1024;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// What travels through a pipe.
#[derive(Debug)]
pub(super) enum Piece {
    /// Some bytes.
    Data(Bytes),
    /// The person pressed ^D: this read ends, the next one may go on.
    EndOfInput,
}

/// A pipe: what is written to the first comes out of the second.
pub(super) fn pipe() -> (mpsc::Sender<Piece>, Input) {
    let (sender, receiver) = mpsc::channel(PIPE_CHUNKS);
    (sender, Input::Pipe(Arc::new(Mutex::new(PipeReader { receiver, rest: Bytes::new() }))))
}

/// The reading end of a pipe.
#[derive(Debug)]
pub(super) struct PipeReader {
    receiver: mpsc::Receiver<Piece>,
    rest: Bytes,
}

/// A source of bytes. Clones share the position, as duplicated file descriptors do.
#[derive(Debug, Clone)]
pub(super) enum Input {
    /// Ends at once.
    Null,
    /// Never ends, all zero.
    Zero,
    /// Never ends, random.
    Random,
    /// A pipe, a terminal, or the client's standard input.
    Pipe(Arc<Mutex<PipeReader>>),
    /// A file of the emulated disk.
    File(Arc<Mutex<FileReader>>),
}

/// A file being read.
#[derive(Debug)]
pub(super) struct FileReader {
    file: tokio::fs::File,
    rest: Bytes,
}

impl Input {
    /// Reads a file of the emulated disk.
    pub(super) fn file(file: std::fs::File) -> Self {
        Self::File(Arc::new(Mutex::new(FileReader {
            file: tokio::fs::File::from_std(file),
            rest: Bytes::new(),
        })))
    }

    /// The next bytes, at most `max`; empty at the end.
    pub(super) async fn read(&self, max: usize) -> io::Result<Bytes> {
        // Devices and files are always ready; without this a command would never let another one run.
        tokio::task::consume_budget().await;
        let max = max.clamp(1, CHUNK);
        match self {
            Self::Null => Ok(Bytes::new()),
            Self::Zero => Ok(Bytes::from_static(&ZEROS).slice(..max)),
            Self::Random => {
                let mut bytes = vec![0; max];
                aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
                Ok(bytes.into())
            }
            Self::File(reader) => {
                let mut reader = reader.lock().await;
                if reader.rest.is_empty() {
                    let mut bytes = BytesMut::with_capacity(CHUNK);
                    reader.file.read_buf(&mut bytes).await?;
                    reader.rest = bytes.freeze();
                }
                let count = reader.rest.len().min(max);
                Ok(reader.rest.split_to(count))
            }
            Self::Pipe(reader) => {
                let mut reader = reader.lock().await;
                // A piece without bytes is not the end of input: a client may well send one.
                while reader.rest.is_empty() {
                    match reader.receiver.recv().await {
                        Some(Piece::Data(bytes)) => reader.rest = bytes,
                        Some(Piece::EndOfInput) | None => return Ok(Bytes::new()),
                    }
                }
                let count = reader.rest.len().min(max);
                Ok(reader.rest.split_to(count))
            }
        }
    }

    /// Gives bytes back that were read too far and not yet used; devices have no position to keep.
    async fn unread(&self, bytes: Bytes) {
        match self {
            Self::Pipe(reader) => put_back(&mut reader.lock().await.rest, bytes),
            Self::File(reader) => put_back(&mut reader.lock().await.rest, bytes),
            Self::Null | Self::Zero | Self::Random => {}
        }
    }

    /// One line without its end; `None` at the end of input.
    pub(super) async fn line(&self) -> io::Result<Option<String>> {
        let mut line = BytesMut::new();
        loop {
            let mut bytes = self.read(CHUNK).await?;
            if bytes.is_empty() {
                let end = line.is_empty();
                return Ok((!end).then(|| String::from_utf8_lossy(&line).into_owned()));
            }
            if let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&bytes.split_to(at));
                let rest = bytes.slice(1..);
                if !rest.is_empty() {
                    self.unread(rest).await;
                }
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            line.extend_from_slice(&bytes);
            if line.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"));
            }
        }
    }

    /// Exactly `count` bytes, or an error when the input ends before.
    pub(super) async fn exactly(&self, count: usize) -> io::Result<Bytes> {
        let mut all = BytesMut::new();
        while all.len() < count {
            let bytes = self.read(count - all.len()).await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }
}

/// A sink of bytes. Clones write to the same place.
#[derive(Debug, Clone)]
pub(super) enum Output {
    /// Swallows everything.
    Null,
    /// Another command of the pipeline, or a test.
    Pipe(mpsc::Sender<Piece>),
    /// A file of the emulated disk, and how many bytes it has.
    File(Arc<Mutex<(tokio::fs::File, u64)>>),
    /// The client's standard output or error, as the channel's window allows.
    Channel(Arc<Wire>, Stream),
    /// The client's terminal: a line feed becomes carriage return and line feed.
    Terminal(Arc<Wire>),
}

/// The writing half of a channel, and whether somebody waits for its window.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) half: ChannelWriteHalf<Msg>,
    waiting: AtomicUsize,
    /// Set when input had to be thrown away; then nothing that the command says about it is true.
    pub(super) input_lost: AtomicBool,
}

impl Wire {
    pub(super) fn new(half: ChannelWriteHalf<Msg>) -> Self {
        Self { half, waiting: AtomicUsize::new(0), input_lost: AtomicBool::new(false) }
    }

    /// Whether a write has not been taken yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    async fn send(&self, bytes: Bytes, stream: Stream) -> io::Result<()> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let sent = match stream {
            Stream::Out => self.half.data_bytes(bytes).await,
            Stream::Err => self.half.extended_data_bytes(1, bytes).await,
        };
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Which of a channel's two streams (RFC 4254 §5.2).
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    /// Ordinary data.
    Out,
    /// Extended data of type 1.
    Err,
}

impl Output {
    /// Writes all of `bytes`, waiting for room.
    pub(super) async fn write(&self, bytes: impl Into<Bytes>) -> io::Result<()> {
        let bytes = bytes.into();
        tokio::task::consume_budget().await;
        if bytes.is_empty() {
            return Ok(());
        }
        match self {
            Self::Null => Ok(()),
            Self::Pipe(sender) => {
                sender.send(Piece::Data(bytes)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
            Self::File(file) => {
                let mut file = file.lock().await;
                file.1 = file.1.saturating_add(bytes.len() as u64);
                if file.1 > MAX_FILE {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                file.0.write_all(&bytes).await
            }
            Self::Channel(wire, stream) => wire.send(bytes, *stream).await,
            Self::Terminal(wire) => wire.send(with_returns(bytes), Stream::Out).await,
        }
    }

    /// Makes sure that a file has everything that was written.
    pub(super) async fn flush(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.lock().await.0.flush().await,
            _ => Ok(()),
        }
    }
}

/// Copies `input` to `output` until the end or `limit` bytes; returns how many.
pub(super) async fn copy(input: &Input, output: &Output, limit: u64) -> io::Result<u64> {
    let mut left = limit;
    while left > 0 {
        let bytes = input.read(usize::try_from(left).unwrap_or(CHUNK)).await?;
        if bytes.is_empty() {
            break;
        }
        left -= bytes.len() as u64;
        output.write(bytes).await?;
    }
    Ok(limit - left)
}

fn put_back(rest: &mut Bytes, bytes: Bytes) {
    if rest.is_empty() {
        *rest = bytes;
    } else {
        let mut all = BytesMut::from(&bytes[..]);
        all.extend_from_slice(rest);
        *rest = all.freeze();
    }
}

fn with_returns(bytes: Bytes) -> Bytes {
    if !bytes.contains(&b'\n') {
        return bytes;
    }
    let mut out = BytesMut::with_capacity(bytes.len() + bytes.len() / 16 + 8);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.split_last() {
            Some((b'\n', text)) => {
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            _ => out.extend_from_slice(line),
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_returns_and_nothing_else_changes() {
        assert_eq!(with_returns(Bytes::from_static(b"a\nb\n\nc")), "a\r\nb\r\n\r\nc");
        assert_eq!(with_returns(Bytes::from_static(b"abc")), "abc");
    }

    #[tokio::test]
    async fn lines_come_out_of_a_pipe_however_it_was_cut() {
        let (sender, input) = pipe();
        for part in ["one\ntw", "o\nthr", "ee"] {
            sender.send(Piece::Data(Bytes::from_static(part.as_bytes()))).await.unwrap();
        }
        drop(sender);
        let mut lines = Vec::new();
        while let Some(line) = input.line().await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "two", "three"]);
    }
}
