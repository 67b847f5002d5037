//! Programs that run to their end.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    thread,
};

/// What a program did.
pub(crate) struct Done {
    what: String,
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output, as bytes.
    pub(crate) stdout: Vec<u8>,
    /// Its standard error, as bytes.
    pub(crate) stderr: Vec<u8>,
}

impl Done {
    /// Standard output as text.
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
    /// Standard error as text.
    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
    /// Asserts that it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exited(0)
    }
    /// Asserts its exit code.
    #[track_caller]
    pub(crate) fn exited(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.story());
        self
    }
    /// Asserts that it did not end well.
    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        assert_ne!(self.code, Some(0), "{}", self.story());
        self
    }
    /// Asserts that it said `text` somewhere.
    #[track_caller]
    pub(crate) fn said(self, text: &str) -> Self {
        assert!(
            self.out().contains(text) || self.err().contains(text),
            "not said: {text:?}\n{}",
            self.story()
        );
        self
    }
    /// Asserts that it said `text` nowhere.
    #[track_caller]
    pub(crate) fn never_said(self, text: &str) -> Self {
        assert!(!self.out().contains(text) && !self.err().contains(text), "said: {text:?}\n{}", self.story());
        self
    }

    fn story(&self) -> String {
        let tail = |text: String| {
            text.chars().rev().take(4000).collect::<Vec<_>>().into_iter().rev().collect::<String>()
        };
        format!(
            "{}\ncode {:?}\n--- out\n{}\n--- err\n{}",
            self.what,
            self.code,
            tail(self.out()),
            tail(self.err())
        )
    }
}

/// Runs `command` with no input, for at most a minute and a half (`timeout` ends it, with code 124).
#[track_caller]
pub(crate) fn run(command: Command) -> Done {
    run_with_input(command, &[])
}

/// Runs `command` with `input` on its standard input.
#[track_caller]
pub(crate) fn run_with_input(command: Command, input: &[u8]) -> Done {
    let what = format!("{command:?}");
    let mut bounded = bounded(&command);
    bounded.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = bounded.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    let Output { status, stdout, stderr } = thread::scope(|scope| {
        // A program that does not read its input to the end is not wrong by that.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    });
    Done { what, code: status.code(), stdout, stderr }
}

/// The same command under `timeout`, in the foreground so that a terminal's signals still reach it.
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded
        .args(["--foreground", "--kill-after=5", "180"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bounded.current_dir(folder);
    }
    bounded
}
