//! The host's side of a terminal: echo, line editing, history, ^C and ^D, and the window's size.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use russh::Sig;
use tokio::sync::mpsc;

use super::io::{CHUNK, Input, Output, Piece};

const MAX_LINE: usize = 4096;
const HISTORY: usize = 100;

/// How typed bytes are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    /// Lines, edited here, or each byte as it comes.
    pub(super) lines: bool,
    /// Whether typed characters appear.
    pub(super) echo: bool,
    /// Whether a line may be taken from, and goes to, the history.
    pub(super) history: bool,
}

impl Mode {
    /// At the shell's prompt.
    pub(super) const PROMPT: Self = Self { lines: true, echo: true, history: true };
    /// While a command runs.
    pub(super) const COMMAND: Self = Self { lines: true, echo: true, history: false };
}

/// What shell, commands and line editor share about one terminal.
#[derive(Debug)]
pub(super) struct Tty {
    mode: Mutex<Mode>,
    size: Mutex<(u32, u32)>,
    pub(super) term: String,
}

impl Tty {
    pub(super) fn new(term: String, columns: u32, rows: u32) -> Self {
        Self { mode: Mutex::new(Mode::COMMAND), size: Mutex::new((columns, rows)), term }
    }

    pub(super) fn mode(&self) -> Mode {
        *lock(&self.mode)
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        *lock(&self.mode) = mode;
    }

    /// Columns and rows; 80 and 24 where the client said none.
    pub(super) fn size(&self) -> (u32, u32) {
        let (columns, rows) = *lock(&self.size);
        (if columns == 0 { 80 } else { columns.min(1000) }, if rows == 0 { 24 } else { rows.min(1000) })
    }

    pub(super) fn resize(&self, columns: u32, rows: u32) {
        *lock(&self.size) = (columns, rows);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The line editor: typed bytes in; lines to the commands, echo to the terminal, ^C as a signal.
#[derive(Debug)]
pub(super) struct Editor {
    screen: Output,
    lines: mpsc::Sender<Piece>,
    signals: mpsc::Sender<Sig>,
    line: String,
    /// Bytes of a character that is not whole yet.
    partial: Vec<u8>,
    escape: Escape,
    history: VecDeque<String>,
    /// How far back in the history, 0 for the line being typed.
    back: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Started,
    Sequence,
}

impl Editor {
    pub(super) fn new(screen: Output, lines: mpsc::Sender<Piece>, signals: mpsc::Sender<Sig>) -> Self {
        Self {
            screen,
            lines,
            signals,
            line: String::new(),
            partial: Vec::new(),
            escape: Escape::None,
            history: VecDeque::new(),
            back: 0,
        }
    }

    /// Works until the client's input ends.
    pub(super) async fn run(mut self, typed: Input, tty: &Tty) -> io::Result<()> {
        loop {
            let bytes = typed.read(CHUNK).await?;
            if bytes.is_empty() {
                return Ok(());
            }
            for byte in bytes {
                self.byte(byte, tty).await?;
            }
        }
    }

    async fn byte(&mut self, byte: u8, tty: &Tty) -> io::Result<()> {
        let mode = tty.mode();
        match byte {
            0x03 => return self.interrupt(Sig::INT, "^C", mode).await,
            0x1c => return self.interrupt(Sig::QUIT, "^\\", mode).await,
            _ => {}
        }
        if !mode.lines {
            return self.deliver(Piece::Data(Bytes::copy_from_slice(&[byte]))).await;
        }
        if self.in_escape(byte, mode).await? {
            return Ok(());
        }
        match byte {
            b'\r' | b'\n' => self.enter(mode).await,
            0x04 if self.line.is_empty() => self.deliver(Piece::EndOfInput).await,
            0x08 | 0x7f => match self.line.pop() {
                Some(_) => self.echo("\x08 \x08", mode).await,
                None => Ok(()),
            },
            0x15 => self.replace(String::new(), mode).await,
            0x17 => {
                let kept = self.line.trim_end().rfind(' ').map_or(0, |at| at + 1);
                let kept = self.line.get(..kept).unwrap_or_default().to_owned();
                self.replace(kept, mode).await
            }
            0x1b => {
                self.escape = Escape::Started;
                Ok(())
            }
            0x00..=0x1f => Ok(()),
            _ => self.character(byte, mode).await,
        }
    }

    async fn interrupt(&mut self, signal: Sig, shown: &str, mode: Mode) -> io::Result<()> {
        self.line.clear();
        self.partial.clear();
        self.back = 0;
        // The signal goes first: the screen may be stalled, and a full queue means it is being interrupted.
        drop(self.signals.try_send(signal));
        self.echo(shown, mode).await
    }

    async fn enter(&mut self, mode: Mode) -> io::Result<()> {
        // The end of the line shows even when a password is typed.
        self.screen.write("\n").await?;
        self.partial.clear();
        self.back = 0;
        let line = std::mem::take(&mut self.line);
        if mode.history && !line.trim().is_empty() && self.history.front() != Some(&line) {
            self.history.push_front(line.clone());
            self.history.truncate(HISTORY);
        }
        self.deliver(Piece::Data(Bytes::from(line + "\n"))).await
    }

    async fn character(&mut self, byte: u8, mode: Mode) -> io::Result<()> {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let text = text.to_owned();
                self.partial.clear();
                if self.line.len() + text.len() > MAX_LINE {
                    return self.screen.write("\x07").await;
                }
                self.line.push_str(&text);
                self.echo(&text, mode).await
            }
            Err(error) => {
                if error.error_len().is_some() || self.partial.len() >= 4 {
                    self.partial.clear();
                }
                Ok(())
            }
        }
    }

    /// Arrow keys up and down walk the history; every other sequence is ignored.
    async fn in_escape(&mut self, byte: u8, mode: Mode) -> io::Result<bool> {
        match (self.escape, byte) {
            (Escape::None, _) => return Ok(false),
            (Escape::Started, b'[' | b'O') => self.escape = Escape::Sequence,
            (Escape::Started, _) => self.escape = Escape::None,
            (Escape::Sequence, 0x40..=0x7e) => {
                self.escape = Escape::None;
                let back = match byte {
                    b'A' => self.back + 1,
                    b'B' => self.back.saturating_sub(1),
                    _ => return Ok(true),
                };
                if mode.history && back <= self.history.len() {
                    self.back = back;
                    let line = match back.checked_sub(1) {
                        Some(index) => self.history.get(index).cloned().unwrap_or_default(),
                        None => String::new(),
                    };
                    self.replace(line, mode).await?;
                }
            }
            (Escape::Sequence, _) => {}
        }
        Ok(true)
    }

    async fn replace(&mut self, line: String, mode: Mode) -> io::Result<()> {
        let erase = "\x08 \x08".repeat(self.line.chars().count());
        self.echo(&(erase + &line), mode).await?;
        self.line = line;
        Ok(())
    }

    async fn echo(&self, text: &str, mode: Mode) -> io::Result<()> {
        if mode.echo && mode.lines { self.screen.write(text.to_owned()).await } else { Ok(()) }
    }

    /// Hands on to whoever reads. When nobody does and the queue is full, the bell rings, as on a real line;
    /// waiting here would keep ^C from being seen.
    async fn deliver(&self, piece: Piece) -> io::Result<()> {
        match self.lines.try_send(piece) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => self.screen.write("\x07").await,
            Err(mpsc::error::TrySendError::Closed(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::io::pipe;
    use super::*;

    /// Types `typed` at a prompt; what the screen shows and what the reader gets.
    async fn at_prompt(typed: &[u8], mode: Mode) -> (String, Vec<String>, Vec<Sig>) {
        let tty = Tty::new("xterm".into(), 80, 24);
        tty.set_mode(mode);
        let (screen, screen_end) = pipe();
        let (lines, lines_end) = pipe();
        let (signals, mut signals_end) = mpsc::channel(8);
        let (keys, keys_end) = pipe();
        keys.send(Piece::Data(Bytes::copy_from_slice(typed))).await.unwrap();
        drop(keys);
        let show = async {
            let mut all = Vec::new();
            loop {
                let bytes = screen_end.read(CHUNK).await.unwrap();
                if bytes.is_empty() {
                    return String::from_utf8(all).unwrap();
                }
                all.extend_from_slice(&bytes);
            }
        };
        let editor = Editor::new(Output::Pipe(screen), lines, signals);
        let (ran, shown) = tokio::join!(editor.run(keys_end, &tty), show);
        ran.unwrap();
        let mut got = Vec::new();
        while let Some(line) = lines_end.line().await.unwrap() {
            got.push(line);
        }
        let mut signalled = Vec::new();
        while let Ok(signal) = signals_end.try_recv() {
            signalled.push(signal);
        }
        (shown, got, signalled)
    }

    #[tokio::test]
    async fn a_line_is_edited_before_it_is_read() {
        let (shown, lines, _) = at_prompt(b"lx\x7fs -l\r", Mode::PROMPT).await;
        assert_eq!(lines, ["ls -l"]);
        assert_eq!(shown, "lx\x08 \x08s -l\n");
        let (_, lines, _) = at_prompt(b"rm all\x15ls one two\x17\r", Mode::PROMPT).await;
        assert_eq!(lines, ["ls one "]);
    }

    #[tokio::test]
    async fn nothing_of_a_password_is_shown() {
        let (shown, lines, _) = at_prompt(b"hunter2\r", Mode { echo: false, ..Mode::COMMAND }).await;
        assert_eq!((shown.as_str(), lines[0].as_str()), ("\n", "hunter2"));
    }

    #[tokio::test]
    async fn control_c_is_a_signal_and_throws_the_line_away() {
        let (shown, lines, signals) = at_prompt(b"rm -rf\x03ls\r", Mode::PROMPT).await;
        assert_eq!(lines, ["ls"]);
        assert!(shown.contains("^C"));
        assert!(matches!(signals.as_slice(), [Sig::INT]));
    }

    #[tokio::test]
    async fn arrow_up_brings_the_last_line_back() {
        let (_, lines, _) = at_prompt(b"one\rtwo\r\x1b[A\x1b[A\r\x1b[C\x1b[3~x\r", Mode::PROMPT).await;
        assert_eq!(lines, ["one", "two", "one", "x"]);
    }

    #[tokio::test]
    async fn letters_of_several_bytes_are_erased_whole() {
        let (_, lines, _) = at_prompt("pü\u{7f}a\r".as_bytes(), Mode::PROMPT).await;
        assert_eq!(lines, ["pa"]);
    }
}
