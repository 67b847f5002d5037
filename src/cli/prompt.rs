//! Asking on the terminal: yes or no, and secrets without echo.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::error::CliError;

/// Longest secret that is read, bytes; the vault's own bound.
const LONGEST: u64 = 64 * 1024;

/// Where answers come from. Tests give their own.
pub(crate) trait Prompt {
    /// Asks for a secret.
    fn secret(&mut self, question: &str) -> Result<Zeroizing<String>, CliError>;
    /// Asks for yes or no.
    fn agreed(&mut self, question: &str) -> Result<bool, CliError>;
}

/// The controlling terminal, whatever standard input is.
#[derive(Debug, Default)]
pub(crate) struct Terminal;

fn terminal() -> Result<File, CliError> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| {
        CliError::failed(
            "there is no terminal to ask on: use the option that reads from standard input, or --yes",
        )
    })
}

impl Prompt for Terminal {
    fn secret(&mut self, question: &str) -> Result<Zeroizing<String>, CliError> {
        let mut tty = terminal()?;
        let system = |e: nix::Error| CliError::io("the terminal")(e.into());
        let before = tcgetattr(&tty).map_err(system)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        silent.local_flags.insert(LocalFlags::ECHONL);
        write!(tty, "{question}: ").map_err(CliError::io("the terminal"))?;
        tcsetattr(&tty, SetArg::TCSAFLUSH, &silent).map_err(system)?;
        let line = read_line(&mut tty.try_clone().map_err(CliError::io("the terminal"))?);
        // Echo comes back whatever the reading gave.
        tcsetattr(&tty, SetArg::TCSAFLUSH, &before).map_err(system)?;
        line
    }

    fn agreed(&mut self, question: &str) -> Result<bool, CliError> {
        let mut tty = terminal()?;
        write!(tty, "{question} [y/N] ").map_err(CliError::io("the terminal"))?;
        let answer = read_line(&mut tty)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

/// Lines of standard input, one secret each: for scripts. Agrees to nothing.
pub(crate) struct StandardInput(BufReader<Box<dyn std::io::Read>>);

impl StandardInput {
    /// The process's own.
    pub(crate) fn new() -> Self {
        Self::of(std::io::stdin())
    }
    /// Another source.
    pub(crate) fn of(source: impl std::io::Read + 'static) -> Self {
        Self(BufReader::new(Box::new(source)))
    }
}

impl Prompt for StandardInput {
    fn secret(&mut self, question: &str) -> Result<Zeroizing<String>, CliError> {
        let mut line = Zeroizing::new(String::with_capacity(1024));
        let read =
            (&mut self.0).take(LONGEST).read_line(&mut line).map_err(CliError::io("standard input"))?;
        if read == 0 {
            return Err(CliError::failed(format!(
                "standard input ended before the {question}: give it as a line"
            )));
        }
        trim_end(&mut line);
        Ok(line)
    }

    fn agreed(&mut self, _question: &str) -> Result<bool, CliError> {
        Ok(false)
    }
}

fn read_line(from: &mut File) -> Result<Zeroizing<String>, CliError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let mut one = [0u8];
    while bytes.len() < 4096 && from.read(&mut one).map_err(CliError::io("the terminal"))? == 1 {
        let [byte] = one;
        if byte == b'\n' {
            break;
        }
        bytes.push(byte);
    }
    let text =
        std::str::from_utf8(&bytes).map_err(|_| CliError::failed("that is not text: type it again"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn trim_end(line: &mut String) {
    while line.ends_with(['\n', '\r']) {
        line.pop();
    }
}

/// Asks for a new password, twice on a terminal.
pub(crate) fn new_password(from_stdin: bool) -> Result<Zeroizing<String>, CliError> {
    if from_stdin {
        return StandardInput::new().secret("password");
    }
    let first = Terminal.secret("new password")?;
    if first == Terminal.secret("again")? {
        Ok(first)
    } else {
        Err(CliError::failed("the two passwords differ: try again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_gives_one_secret_a_line_and_then_says_what_is_missing() {
        let mut input = StandardInput::of(&b"pass word\r\n123456\n"[..]);
        assert_eq!(input.secret("password").unwrap().as_str(), "pass word");
        assert_eq!(input.secret("code").unwrap().as_str(), "123456");
        assert!(input.secret("code").unwrap_err().to_string().contains("before the code"));
    }
}
