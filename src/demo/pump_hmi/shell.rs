//! Runs scripts: variables, redirections, pipelines, lists.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use tokio::sync::Mutex;

use super::commands;
use super::host::{Host, home};
use super::io::{Input, Output, pipe};
use super::parse::{self, Command, Part, Redirect, Script, Step, When, Word};
use super::tty::Tty;
use super::vfs::{Access, Vfs, reason};

/// How deep `sh -c` may nest.
const MAX_DEPTH: u8 = 8;
/// How many words a command may have after variables and patterns are put in.
const MAX_WORDS: usize = 4096;
/// How many variables there may be.
const MAX_VARIABLES: usize = 256;

/// The three streams of a command.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) input: Input,
    pub(super) out: Output,
    pub(super) err: Output,
}

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum Fail {
    /// It said why itself.
    Status(u8),
    /// To be said: `command: text`.
    Message(String),
    /// A stream failed; a broken pipe ends the command silently.
    Io(io::Error),
}

impl From<io::Error> for Fail {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a command returns: its exit status, or why not.
pub(super) type Outcome = Result<u8, Fail>;

/// Whether the script goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next(u8),
    Exit(u8),
}

/// One shell: who runs it, where it is, what it knows.
#[derive(Debug, Clone)]
pub(super) struct Shell {
    pub(super) host: Arc<Host>,
    pub(super) login: String,
    pub(super) cwd: String,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) tty: Option<Arc<Tty>>,
    pub(super) last: u8,
    /// Set by `exit`.
    pub(super) exit: Option<u8>,
    depth: u8,
}

impl Shell {
    pub(super) fn new(host: Arc<Host>, login: &str, tty: Option<Arc<Tty>>) -> Self {
        let mut variables = BTreeMap::from([
            ("HOME".to_owned(), home(login)),
            ("USER".to_owned(), login.to_owned()),
            ("LOGNAME".to_owned(), login.to_owned()),
            ("SHELL".to_owned(), "/bin/sh".to_owned()),
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ]);
        if let Some(tty) = &tty {
            variables.insert("TERM".to_owned(), tty.term.clone());
        }
        let start = home(login);
        let cwd = if host.vfs.is_folder(&start) { start } else { "/".to_owned() };
        Self { host, login: login.to_owned(), cwd, variables, tty, last: 0, exit: None, depth: 0 }
    }

    /// Sets a variable; false when there are too many.
    pub(super) fn set(&mut self, name: &str, value: String) -> bool {
        if self.variables.len() >= MAX_VARIABLES && !self.variables.contains_key(name) {
            return false;
        }
        self.variables.insert(name.to_owned(), value);
        true
    }

    /// A command was stopped half-way: what it nested is over.
    pub(super) fn interrupted(&mut self, status: u8) {
        self.depth = 0;
        self.exit = None;
        self.last = status;
    }

    /// A name as an absolute one.
    pub(super) fn path(&self, name: &str) -> String {
        Vfs::absolute(&self.cwd, name)
    }

    /// Opens a file or device to read.
    pub(super) fn open_input(&self, name: &str) -> io::Result<Input> {
        match self.path(name).as_str() {
            "/dev/null" => Ok(Input::Null),
            "/dev/zero" => Ok(Input::Zero),
            "/dev/urandom" | "/dev/random" => Ok(Input::Random),
            path => {
                let file = self.host.vfs.open(path, Access::READ)?;
                Ok(Input::file(file))
            }
        }
    }

    /// Opens a file or device to write.
    pub(super) fn open_output(&self, name: &str, append: bool) -> io::Result<Output> {
        match self.path(name).as_str() {
            "/dev/null" | "/dev/zero" | "/dev/urandom" | "/dev/random" => Ok(Output::Null),
            path => {
                let file = self.host.vfs.open(path, if append { Access::APPEND } else { Access::REPLACE })?;
                let length = file.metadata()?.len();
                Ok(Output::File(Arc::new(Mutex::new((tokio::fs::File::from_std(file), length)))))
            }
        }
    }

    /// Runs a script given as text.
    pub(super) fn run<'a>(&'a mut self, text: &'a str, streams: &'a Streams) -> BoxFuture<'a, Flow> {
        Box::pin(async move {
            if self.depth >= MAX_DEPTH {
                say(&streams.err, "sh: nested too deep\n").await;
                return Flow::Next(2);
            }
            match parse::parse(text) {
                Ok(script) => {
                    self.depth += 1;
                    let flow = self.script(&script, streams).await;
                    self.depth -= 1;
                    flow
                }
                Err(error) => {
                    say(&streams.err, &format!("sh: {error}\n")).await;
                    self.last = 2;
                    Flow::Next(2)
                }
            }
        })
    }

    async fn script(&mut self, script: &Script, streams: &Streams) -> Flow {
        for step in &script.0 {
            let runs = match step.when {
                When::Always => true,
                When::Success => self.last == 0,
                When::Failure => self.last != 0,
            };
            if runs {
                let status = self.step(step, streams).await;
                self.last = if step.negated { u8::from(status == 0) } else { status };
                if let Some(status) = self.exit.take() {
                    return Flow::Exit(status);
                }
            }
        }
        Flow::Next(self.last)
    }

    async fn step(&mut self, step: &Step, streams: &Streams) -> u8 {
        if let [only] = step.commands.as_slice() {
            return self.command(only, streams.clone()).await;
        }
        // As in other shells, each part has a shell of its own: what it sets or leaves is its own affair.
        let mut parts = Vec::new();
        let mut input = streams.input.clone();
        let count = step.commands.len();
        for (index, command) in step.commands.iter().enumerate() {
            let (out, next) = if index + 1 == count {
                (streams.out.clone(), Input::Null)
            } else {
                let (sender, receiver) = pipe();
                (Output::Pipe(sender), receiver)
            };
            let own = Streams { input: std::mem::replace(&mut input, next), out, err: streams.err.clone() };
            let mut shell = self.clone();
            parts.push(async move {
                let status = shell.command(command, own).await;
                shell.exit.unwrap_or(status)
            });
        }
        join_all(parts).await.last().copied().unwrap_or(0)
    }

    async fn command(&mut self, command: &Command, mut streams: Streams) -> u8 {
        let mut words = Vec::new();
        for word in &command.words {
            words.extend(self.expand(word));
            if words.len() > MAX_WORDS {
                say(&streams.err, "sh: argument list too long\n").await;
                return 2;
            }
        }
        for redirect in &command.redirects {
            if let Err((name, error)) = self.redirect(redirect, &mut streams) {
                say(&streams.err, &format!("sh: {name}: {}\n", reason(&error))).await;
                return 1;
            }
        }
        let assignments: Vec<(String, String)> = command
            .assignments
            .iter()
            .map(|(name, word)| (name.clone(), self.expand(word).join(" ")))
            .collect();
        let status = if words.is_empty() {
            for (name, value) in assignments {
                self.set(&name, value);
            }
            0
        } else {
            // `NAME=value command` sets it for that command only.
            let before: Vec<(String, Option<String>)> = assignments
                .iter()
                .map(|(name, _)| (name.clone(), self.variables.get(name).cloned()))
                .collect();
            for (name, value) in assignments {
                self.set(&name, value);
            }
            let status = self.run_words(&words, &streams).await;
            for (name, value) in before {
                match value {
                    Some(value) => self.set(&name, value),
                    None => self.variables.remove(&name).is_some(),
                };
            }
            status
        };
        for output in [&streams.out, &streams.err] {
            if let Err(error) = output.flush().await {
                say(&streams.err, &format!("sh: write error: {}\n", reason(&error))).await;
                return 1;
            }
        }
        status
    }

    async fn run_words(&mut self, words: &[String], streams: &Streams) -> u8 {
        let Some((name, arguments)) = words.split_first() else { return 0 };
        match commands::run(self, name, arguments, streams).await {
            Ok(status) => status,
            Err(Fail::Status(status)) => status,
            Err(Fail::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => 141,
            Err(Fail::Io(error)) => {
                say(&streams.err, &format!("{name}: {}\n", reason(&error))).await;
                1
            }
            Err(Fail::Message(text)) => {
                say(&streams.err, &format!("{name}: {text}\n")).await;
                1
            }
        }
    }

    fn redirect(&self, redirect: &Redirect, streams: &mut Streams) -> Result<(), (String, io::Error)> {
        match redirect {
            Redirect::Read(word) => {
                let name = self.expand(word).join(" ");
                streams.input = self.open_input(&name).map_err(|error| (name, error))?;
            }
            Redirect::Write { fd, word, append } => {
                let name = self.expand(word).join(" ");
                let output = self.open_output(&name, *append).map_err(|error| (name, error))?;
                if *fd == 1 { streams.out = output } else { streams.err = output }
            }
            Redirect::Copy { from: 1, to: 2 } => streams.out = streams.err.clone(),
            Redirect::Copy { from: 2, to: 1 } => streams.err = streams.out.clone(),
            Redirect::Copy { .. } => {}
        }
        Ok(())
    }

    /// Puts in variables, `~` and file-name patterns.
    fn expand(&self, word: &Word) -> Vec<String> {
        let mut done: Vec<String> = Vec::new();
        let mut current: Option<String> = None;
        let mut pattern = false;
        for (index, part) in word.0.iter().enumerate() {
            match part {
                Part::Text { text, quoted } => {
                    let current = current.get_or_insert_default();
                    match text.strip_prefix('~') {
                        Some(rest) if index == 0 && !quoted && (rest.is_empty() || rest.starts_with('/')) => {
                            current.push_str(&self.value("HOME"));
                            current.push_str(rest);
                        }
                        _ => current.push_str(text),
                    }
                    pattern |= !quoted && text.contains(['*', '?']);
                }
                Part::Variable { name, quoted: true } => {
                    current.get_or_insert_default().push_str(&self.value(name));
                }
                Part::Variable { name, quoted: false } => {
                    let value = self.value(name);
                    for (index, piece) in value.split(char::is_whitespace).enumerate() {
                        if index > 0 {
                            done.extend(current.take());
                        }
                        if !piece.is_empty() {
                            current.get_or_insert_default().push_str(piece);
                        }
                    }
                }
            }
        }
        done.extend(current);
        if pattern { done.into_iter().flat_map(|word| self.matches(word)).collect() } else { done }
    }

    fn value(&self, name: &str) -> String {
        match name {
            "?" => self.last.to_string(),
            "$" => "4242".to_owned(),
            "#" => "0".to_owned(),
            "PWD" => self.cwd.clone(),
            _ => self.variables.get(name).cloned().unwrap_or_default(),
        }
    }

    /// The files whose name fits, where the pattern is in the last part; the word itself when none does.
    fn matches(&self, word: String) -> Vec<String> {
        let (folder, pattern) = match word.rfind('/') {
            Some(at) => word.split_at(at + 1),
            None => ("", word.as_str()),
        };
        let entries = self.host.vfs.list(&self.path(folder)).unwrap_or_default();
        let found: Vec<String> = entries
            .into_iter()
            .filter(|(name, _)| (pattern.starts_with('.') || !name.starts_with('.')) && fits(pattern, name))
            .map(|(name, _)| format!("{folder}{name}"))
            .take(MAX_WORDS)
            .collect();
        if found.is_empty() { vec![word] } else { found }
    }
}

/// Whether a name fits a pattern of `*` and `?`. Walks back to the last `*` only: no pattern takes more than
/// the product of both lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// Writes a message; when even that fails there is nobody left to tell.
pub(super) async fn say(output: &Output, text: &str) {
    drop(output.write(text.to_owned()).await);
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::seed;
    use super::*;

    /// 2026-11-23 06:00:00 UTC, in microseconds.
    pub(crate) const NOW: i64 = 1_795_413_600_000_000;

    /// A host of its own on a temporary disk.
    pub(crate) fn host() -> (tempfile::TempDir, Arc<Host>) {
        let dir = tempfile::tempdir().unwrap();
        let vfs = Vfs::new(dir.path().to_owned());
        seed::seed(&vfs, &["root", "operator"], NOW).unwrap();
        let accounts = vec![("root".to_owned(), super::super::Auth::Password("old".into()))];
        (dir, Arc::new(Host::new(vfs, Arc::new(|| NOW), accounts)))
    }

    async fn collect(input: Input) -> String {
        let mut all = Vec::new();
        loop {
            let bytes = input.read(usize::MAX).await.unwrap();
            if bytes.is_empty() {
                return String::from_utf8_lossy(&all).into_owned();
            }
            all.extend_from_slice(&bytes);
        }
    }

    /// Runs `text` with `input` on standard input: (standard output, standard error, status).
    pub(crate) async fn run_with(host: &Arc<Host>, text: &str, input: &str) -> (String, String, u8) {
        let mut shell = Shell::new(Arc::clone(host), "root", None);
        let (out, out_end) = pipe();
        let (err, err_end) = pipe();
        let (stdin, stdin_end) = pipe();
        if !input.is_empty() {
            stdin.send(super::super::io::Piece::Data(input.as_bytes().to_vec().into())).await.unwrap();
        }
        drop(stdin);
        let streams = Streams { input: stdin_end, out: Output::Pipe(out), err: Output::Pipe(err) };
        let running = async {
            let flow = shell.run(text, &streams).await;
            drop(streams);
            flow
        };
        let (flow, out, err) = tokio::join!(running, collect(out_end), collect(err_end));
        let (Flow::Next(status) | Flow::Exit(status)) = flow;
        (out, err, status)
    }

    pub(crate) async fn run(text: &str) -> (String, String, u8) {
        let (_dir, host) = host();
        run_with(&host, text, "").await
    }

    #[tokio::test]
    async fn lists_follow_the_status_of_what_ran_before() {
        assert_eq!(run("true && echo a; false && echo b; false || echo c").await.0, "a\nc\n");
        assert_eq!(run("false; echo $?; ! false; echo $?").await.0, "1\n0\n");
        assert_eq!(run("exit 7; echo no").await, (String::new(), String::new(), 7));
        assert_eq!(run("sh -c 'exit 3'; echo $?").await.0, "3\n");
    }

    #[tokio::test]
    async fn streams_are_kept_apart_and_joined_when_asked() {
        let (out, err, status) = run("cat /nothing /etc/hostname").await;
        assert_eq!((out.as_str(), status), ("pump-hmi\n", 1));
        assert_eq!(err, "cat: /nothing: No such file or directory\n");
        assert_eq!(run("cat /nothing 2>&1 | wc -l").await.0, "1\n");
        assert_eq!(run("echo a >&2 2>/dev/null").await.1, "a\n");
    }

    #[tokio::test]
    async fn files_are_written_appended_and_read() {
        let (out, _, _) =
            run("echo one > /tmp/f; echo two >> /tmp/f; cat < /tmp/f; rm /tmp/f; ls /tmp").await;
        assert_eq!(out, "one\ntwo\n");
    }

    #[tokio::test]
    async fn a_pipeline_ends_when_its_reader_does() {
        assert_eq!(run("yes | head -n 2").await.0, "y\ny\n");
        assert_eq!(run("head -c 100000000 /dev/zero | wc -c").await.0, "100000000\n");
    }

    #[tokio::test]
    async fn variables_are_split_unless_quoted() {
        assert_eq!(
            run("A='x  y'; echo $A; echo \"$A\"; export B=1; sh -c 'echo $B'").await.0,
            "x y\nx  y\n1\n"
        );
        assert_eq!(run("A=1 sh -c 'echo $A'; echo \"[$A]\"").await.0, "1\n[]\n");
    }

    #[tokio::test]
    async fn patterns_find_files() {
        assert_eq!(run("cd /etc; echo host* 'host*' no*").await.0, "hostname host* no*\n");
    }

    #[tokio::test]
    async fn nested_shells_have_a_floor() {
        let mut text = "echo deep".to_owned();
        for _ in 0..6 {
            text = format!("sh -c {}", quote(&text));
        }
        assert_eq!(run(&text).await.0, "deep\n");
        let (_, err, _) = run("echo 'sh /tmp/x' > /tmp/x; sh /tmp/x").await;
        assert!(err.contains("too deep"), "{err}");
    }

    fn quote(text: &str) -> String {
        format!("'{}'", text.replace('\'', "'\\''"))
    }

    #[test]
    fn patterns_take_bounded_time() {
        assert!(fits("*.log", "pump.log") && fits("p?mp*", "pump.log") && !fits("*.txt", "pump.log"));
        assert!(!fits(&"*a".repeat(100), &"a".repeat(99)));
    }
}
