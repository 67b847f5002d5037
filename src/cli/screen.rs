//! This terminal as a place to show another one: raw keys in, rendered rows out.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    time::Duration,
};

use cofferdam_recorder::Screen;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
};

use super::{error::CliError, output::clean_line};

/// What somebody pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Leave.
    Quit,
    /// Stop or go on.
    Pause,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// Back a little.
    Back,
    /// On a little.
    Forward,
    /// The next thing that is shown.
    Step,
    /// On to the next event: a command, a file, a finding …
    NextMark,
    /// Back to the one before.
    PreviousMark,
    /// Anything else.
    Other,
}

impl Key {
    /// What the bytes of one key press mean.
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            b"q" | b"Q" | b"\x03" | b"\x04" => Self::Quit,
            b" " => Self::Pause,
            b"+" | b"=" => Self::Faster,
            b"-" => Self::Slower,
            b"\x1b[D" | b"\x1bOD" | b"h" => Self::Back,
            b"\x1b[C" | b"\x1bOC" | b"l" => Self::Forward,
            b"." => Self::Step,
            b"n" => Self::NextMark,
            b"p" => Self::PreviousMark,
            _ => Self::Other,
        }
    }

    /// Takes the first key of what was typed: several may come at once.
    fn take(typed: &mut Vec<u8>) -> Option<Self> {
        let len = match typed.as_slice() {
            [] => return None,
            // A control sequence ends with its first byte from @ to ~ (ECMA-48 §5.4).
            [0x1b, b'[', rest @ ..] => {
                rest.iter().position(|b| (0x40..=0x7e).contains(b)).map_or(typed.len(), |at| at + 3)
            }
            [0x1b, b'O', _, ..] => 3,
            _ => 1,
        };
        Some(Self::of(&typed.drain(..len).collect::<Vec<u8>>()))
    }
}

/// The terminal in raw mode, on its other screen; as it was when dropped.
pub(crate) struct Stage {
    tty: File,
    before: Termios,
    /// Typed, and not yet taken as keys.
    typed: Vec<u8>,
}

impl Stage {
    /// Takes the terminal over.
    pub(crate) fn enter() -> Result<Self, CliError> {
        let no_terminal =
            |_| CliError::failed("there is no terminal to show it on: use `cofferdam recording export`");
        let mut tty = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
        let before = tcgetattr(&tty).map_err(system)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&tty, SetArg::TCSANOW, &raw).map_err(system)?;
        tty.write_all(b"\x1b[?1049h\x1b[?25l").map_err(CliError::io("the terminal"))?;
        Ok(Self { tty, before, typed: Vec::new() })
    }

    /// Shows what `screen` shows, and a line below it. Only its text: colours are left out, and nothing that was recorded
    /// reaches this terminal as a command.
    pub(crate) fn draw(&mut self, screen: &Screen, status: &str) -> Result<(), CliError> {
        let mut picture = String::from("\x1b[H");
        for row in screen.rows() {
            picture.push_str(&clean_line(row.trim_end()));
            picture.push_str("\x1b[K\r\n");
        }
        picture.push_str("\x1b[7m");
        picture.push_str(&clean_line(status));
        picture.push_str("\x1b[0m\x1b[K\x1b[J");
        self.tty.write_all(picture.as_bytes()).map_err(CliError::io("the terminal"))
    }

    /// Waits for a key, at most so long (none: until there is one).
    pub(crate) fn key(&mut self, longest: Option<Duration>) -> Result<Option<Key>, CliError> {
        if let Some(key) = Key::take(&mut self.typed) {
            return Ok(Some(key));
        }
        let timeout = longest.map_or(PollTimeout::NONE, |d| {
            PollTimeout::try_from(d.min(Duration::from_secs(60))).unwrap_or(PollTimeout::ZERO)
        });
        let mut fds = [PollFd::new(self.tty.as_fd(), PollFlags::POLLIN)];
        let ready = match poll(&mut fds, timeout) {
            // A window that changes its size interrupts the waiting and is no fault.
            Err(nix::errno::Errno::EINTR) => 0,
            other => other.map_err(system)?,
        };
        if ready == 0 {
            return Ok(None);
        }
        let mut bytes = [0u8; 16];
        let count = self.tty.read(&mut bytes).map_err(CliError::io("the terminal"))?;
        // A terminal that is gone ends the show.
        self.typed.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(Some(Key::take(&mut self.typed).unwrap_or(Key::Quit)))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // There is nothing left to do for a terminal that takes neither.
        self.tty.write_all(b"\x1b[?25h\x1b[?1049l").unwrap_or_default();
        tcsetattr(&self.tty, SetArg::TCSANOW, &self.before).unwrap_or_default();
    }
}

fn system(e: nix::Error) -> CliError {
    CliError::io("the terminal")(e.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let pressed: [(&[u8], Key); 11] = [
            (b"q", Key::Quit),
            (b"\x03", Key::Quit),
            (b" ", Key::Pause),
            (b"+", Key::Faster),
            (b"-", Key::Slower),
            (b".", Key::Step),
            (b"n", Key::NextMark),
            (b"p", Key::PreviousMark),
            (b"\x1b[C", Key::Forward),
            (b"\x1b[D", Key::Back),
            (b"\x1b[A", Key::Other),
        ];
        for (bytes, key) in pressed {
            assert_eq!(Key::of(bytes), key);
        }
    }

    #[test]
    fn keys_that_come_together_are_taken_one_by_one() {
        let mut typed = b"--\x1b[C\x1b[1~\x1bOD n\x1b[".to_vec();
        let keys: Vec<Key> = std::iter::from_fn(|| Key::take(&mut typed)).collect();
        let wanted = [
            Key::Slower,
            Key::Slower,
            Key::Forward,
            Key::Other,
            Key::Back,
            Key::Pause,
            Key::NextMark,
            Key::Other,
        ];
        assert_eq!(keys, wanted);
    }
}
