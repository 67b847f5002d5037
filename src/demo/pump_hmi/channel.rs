//! One session channel: takes the client's input off the connection, runs what was asked for, and says how
//! it ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, Sig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::io::{CHUNK, Input, Output, Piece, Stream, Wire, pipe};
use super::sftp::Sftp;
use super::shell::{Flow, Shell, Streams, say};
use super::tty::{Editor, Mode, Tty};

/// Input that is kept beside the pipe, in bytes: four times the window that the client is given.
const KEPT_INPUT: usize = 8 * 1024 * 1024;
/// How long input may be stuck behind output before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// A channel on which nothing has been started yet.
#[derive(Debug)]
pub(super) struct Idle {
    wire: Arc<Wire>,
    input: Input,
    signals: mpsc::Receiver<Sig>,
    raise: mpsc::Sender<Sig>,
    size: tokio::sync::watch::Receiver<(u32, u32)>,
    closed: CancellationToken,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) tty: Option<Arc<Tty>>,
}

/// What a client asked to start.
#[derive(Debug)]
pub(super) enum Task {
    Shell,
    Exec(String),
    Sftp,
}

/// How it ended.
enum End {
    Status(u8),
    Signal(Sig),
}

impl Idle {
    /// Starts to take messages off the channel; from here on the connection is not held up by it, except by
    /// input that nobody reads.
    pub(super) fn new(channel: Channel<Msg>) -> Self {
        let (reader, half) = channel.split();
        let (stdin, input) = pipe();
        let (raise, signals) = mpsc::channel(8);
        let (resize, size) = tokio::sync::watch::channel((0, 0));
        let closed = CancellationToken::new();
        let wire = Arc::new(Wire::new(half));
        let pump = Pump {
            reader,
            stdin: Some(stdin),
            kept: VecDeque::new(),
            kept_bytes: 0,
            raise: raise.clone(),
            resize,
            wire: Arc::clone(&wire),
        };
        let guard = closed.clone().drop_guard();
        tokio::spawn(async move {
            pump.run().await;
            drop(guard);
        });
        Self { wire, input, signals, raise, size, closed, variables: BTreeMap::new(), tty: None }
    }

    /// Runs the task to its end or the channel's.
    pub(super) fn start(self, host: Arc<Host>, login: String, task: Task, connection: Handle) {
        tokio::spawn(async move {
            let (wire, closed) = (Arc::clone(&self.wire), self.closed.clone());
            let ended = async {
                let end = self.run(host, login, task).await;
                if wire.input_lost.load(Ordering::Relaxed) {
                    let err = Output::Channel(Arc::clone(&wire), Stream::Err);
                    say(&err, "input was lost: it arrived faster than it was read\n").await;
                    return End::Status(1);
                }
                end
            };
            let end = tokio::select! {
                end = ended => end,
                // Whoever waits for the window of a channel that is gone would wait for ever.
                () = closed.cancelled() => return,
            };
            let half = &wire.half;
            let id = half.id();
            let told = match end {
                End::Status(status) => half.exit_status(status.into()).await.is_ok(),
                End::Signal(signal) => {
                    let text = format!("terminated by signal {signal:?}");
                    connection.exit_signal_request(id, signal, false, text, "en".to_owned()).await.is_ok()
                }
            };
            if told && half.eof().await.is_ok() && half.close().await.is_ok() {
                tracing::trace!(target: "demo", "channel ended");
            }
        });
    }

    async fn run(self, host: Arc<Host>, login: String, task: Task) -> End {
        if let Task::Sftp = task {
            return self.sftp(Sftp::new(host, &login)).await;
        }
        let mut shell = Shell::new(host, &login, self.tty.clone());
        for (name, value) in &self.variables {
            shell.set(name, value.clone());
        }
        match self.tty.clone() {
            Some(tty) => self.with_terminal(shell, &tty, task).await,
            None => self.without_terminal(shell, task).await,
        }
    }

    async fn without_terminal(mut self, mut shell: Shell, task: Task) -> End {
        let streams = Streams {
            input: self.input.clone(),
            out: Output::Channel(Arc::clone(&self.wire), Stream::Out),
            err: Output::Channel(Arc::clone(&self.wire), Stream::Err),
        };
        let script = match task {
            Task::Exec(script) => script,
            // Standard input is the script, as for any shell.
            Task::Shell | Task::Sftp => "sh".to_owned(),
        };
        tokio::select! {
            flow = shell.run(&script, &streams) => End::Status(status(flow)),
            Some(signal) = self.signals.recv() => End::Signal(signal),
        }
    }

    async fn with_terminal(mut self, mut shell: Shell, tty: &Arc<Tty>, task: Task) -> End {
        let screen = Output::Terminal(Arc::clone(&self.wire));
        let (lines, cooked) = pipe();
        let editor = Editor::new(screen.clone(), lines, self.raise.clone());
        let streams = Streams { input: cooked, out: screen.clone(), err: screen };
        let typed = self.input.clone();
        let mut size = self.size.clone();
        let resizing = async {
            while size.changed().await.is_ok() {
                let (columns, rows) = *size.borrow_and_update();
                tty.resize(columns, rows);
            }
            std::future::pending::<()>().await;
        };
        let editing = async {
            // When the client's input ends, what runs may still finish; a shell sees the end of its input,
            // because the editor drops its end of the pipe.
            if let Err(error) = editor.run(typed, tty).await {
                tracing::trace!(target: "demo", %error, "terminal input ended");
            }
            std::future::pending::<()>().await;
        };
        let running = async {
            match task {
                Task::Exec(script) => tokio::select! {
                    flow = shell.run(&script, &streams) => End::Status(status(flow)),
                    Some(signal) = self.signals.recv() => End::Signal(signal),
                },
                Task::Shell | Task::Sftp => interact(&mut shell, tty, &streams, &mut self.signals).await,
            }
        };
        tokio::select! {
            end = running => end,
            () = editing => End::Status(1),
            () = resizing => End::Status(1),
        }
    }

    /// Joins the channel to the SFTP server by a pair of bounded buffers.
    async fn sftp(self, handler: Sftp) -> End {
        let (ours, theirs) = tokio::io::duplex(8 * CHUNK);
        russh_sftp::server::run(theirs, handler).await;
        let (mut from, mut to) = tokio::io::split(ours);
        let out = Output::Channel(Arc::clone(&self.wire), Stream::Out);
        let up = async {
            loop {
                let bytes = self.input.read(CHUNK).await?;
                if bytes.is_empty() {
                    return to.shutdown().await;
                }
                to.write_all(&bytes).await?;
            }
        };
        let down = async {
            loop {
                let mut bytes = bytes::BytesMut::with_capacity(CHUNK);
                if from.read_buf(&mut bytes).await? == 0 {
                    return Ok::<(), std::io::Error>(());
                }
                out.write(bytes).await?;
            }
        };
        // The server ends when its input does, and only then does its output.
        let (up, down) = tokio::join!(up, down);
        End::Status(u8::from(up.is_err() || down.is_err()))
    }
}

fn status(flow: Flow) -> u8 {
    let (Flow::Next(status) | Flow::Exit(status)) = flow;
    status
}

/// Takes what arrives off the channel: input into a bounded pipe, signals and sizes to whom they concern.
///
/// The library hands over messages in order and stops the whole connection while one is not taken, the
/// client's window adjustments included. A command that writes before it reads would then wait for ever, so
/// some input is kept beside the pipe; when that is full too and the command still waits to write, the rest
/// is thrown away and the command's end says so.
struct Pump {
    reader: ChannelReadHalf,
    stdin: Option<mpsc::Sender<Piece>>,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    raise: mpsc::Sender<Sig>,
    resize: tokio::sync::watch::Sender<(u32, u32)>,
    wire: Arc<Wire>,
}

impl Pump {
    async fn run(mut self) {
        let mut ended = false;
        loop {
            let full = self.kept_bytes >= KEPT_INPUT;
            // A sender of its own: the wait for room must not hold `self`.
            let stdin = self.stdin.clone().filter(|_| !self.kept.is_empty());
            tokio::select! {
                room = room(stdin.as_ref()) => match (room, self.kept.pop_front()) {
                    (Some(room), Some(bytes)) => {
                        self.kept_bytes -= cost(&bytes);
                        room.send(Piece::Data(bytes));
                    }
                    // Nobody reads any more: what still comes is thrown away, so that the connection goes on.
                    _ => self.drop_input(),
                },
                message = self.reader.wait(), if !full => match message {
                    None | Some(ChannelMsg::Close) => return,
                    Some(ChannelMsg::Eof) => ended = true,
                    Some(message) => self.take(message),
                },
                () = tokio::time::sleep(PATIENCE), if full => {
                    if self.wire.is_waiting() {
                        self.wire.input_lost.store(true, Ordering::Relaxed);
                        self.drop_input();
                    }
                }
            }
            if ended && self.kept.is_empty() {
                self.stdin = None;
            }
        }
    }

    fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::Data { data } if self.stdin.is_some() => {
                self.kept_bytes += cost(&data);
                self.kept.push_back(data);
            }
            // A full queue means that it is being signalled already.
            ChannelMsg::Signal { signal } => drop(self.raise.try_send(signal)),
            ChannelMsg::WindowChange { col_width, row_height, .. } => {
                self.resize.send_replace((col_width, row_height));
            }
            _ => {}
        }
    }

    fn drop_input(&mut self) {
        self.stdin = None;
        self.kept.clear();
        self.kept_bytes = 0;
    }
}

/// What a kept piece takes in memory, roughly; without the extra, single bytes would be nearly free.
fn cost(bytes: &Bytes) -> usize {
    bytes.len() + 256
}

/// Waits for room in the pipe; for ever when there is nothing to put in, `None` when nobody reads.
async fn room(stdin: Option<&mpsc::Sender<Piece>>) -> Option<mpsc::Permit<'_, Piece>> {
    match stdin {
        Some(stdin) => stdin.reserve().await.ok(),
        None => std::future::pending().await,
    }
}

/// The shell at a terminal: prompt, line, run, until `exit` or ^D.
async fn interact(
    shell: &mut Shell,
    tty: &Arc<Tty>,
    streams: &Streams,
    signals: &mut mpsc::Receiver<Sig>,
) -> End {
    if let Ok(motd) = shell.open_input("/etc/motd")
        && let Ok(text) = motd.read(CHUNK).await
    {
        drop(streams.out.write(text).await);
    }
    loop {
        tty.set_mode(Mode::PROMPT);
        say(&streams.out, &prompt(shell)).await;
        let line = tokio::select! {
            line = streams.input.line() => line,
            Some(signal) = signals.recv() => {
                if matches!(signal, Sig::HUP | Sig::KILL) {
                    return End::Signal(signal);
                }
                say(&streams.out, "\n").await;
                shell.last = 130;
                continue;
            }
        };
        let Ok(Some(line)) = line else {
            say(&streams.out, "logout\n").await;
            return End::Status(shell.last);
        };
        tty.set_mode(Mode::COMMAND);
        // A command that is stopped half-way must not leave the shell in another folder than it shows, so it
        // runs in the shell itself and what it had changed stays, as in every shell.
        let flow = {
            let running = shell.run(&line, streams);
            tokio::pin!(running);
            tokio::select! {
                flow = &mut running => Ok(flow),
                Some(signal) = signals.recv() => Err((signal, !tty.mode().lines)),
            }
        };
        match flow {
            Ok(Flow::Next(_)) => {}
            Ok(Flow::Exit(status)) => return End::Status(status),
            Err((signal, full_screen)) => {
                if matches!(signal, Sig::HUP | Sig::KILL) {
                    return End::Signal(signal);
                }
                if full_screen {
                    say(&streams.out, "\x1b[?25h\x1b[?1049l").await;
                }
                say(&streams.out, if matches!(signal, Sig::TERM) { "Terminated\n" } else { "\n" }).await;
                shell.interrupted(if matches!(signal, Sig::TERM) { 143 } else { 130 });
            }
        }
    }
}

/// `root@pump-hmi:~# `
fn prompt(shell: &Shell) -> String {
    let home = super::host::home(&shell.login);
    let place = match shell.cwd.strip_prefix(&home) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("~{rest}"),
        _ => shell.cwd.clone(),
    };
    let sign = if shell.login == "root" { '#' } else { '$' };
    format!("{}@{}:{place}{sign} ", shell.login, super::host::HOSTNAME)
}

/// The command line of an exec request, which should be text.
pub(super) fn command_line(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::shell::tests::host;
    use super::*;

    /// A terminal without a network: types each text, waits until the screen shows the other.
    async fn talk(script: &[(&str, &str)]) -> (String, u8) {
        let (_dir, host) = host();
        let tty = Arc::new(Tty::new("xterm".into(), 100, 30));
        let mut shell = Shell::new(host, "root", Some(Arc::clone(&tty)));
        let (screen, shown) = pipe();
        let (lines, cooked) = pipe();
        let (raise, mut signals) = mpsc::channel(8);
        let (keys, typed) = pipe();
        let editor = Editor::new(Output::Pipe(screen.clone()), lines, raise);
        let streams = Streams { input: cooked, out: Output::Pipe(screen.clone()), err: Output::Pipe(screen) };
        let person = async {
            let mut all = String::new();
            let mut seen = 0;
            for (wait, text) in script {
                while !all[seen..].contains(wait) {
                    all.push_str(&String::from_utf8_lossy(&shown.read(CHUNK).await.unwrap()));
                }
                seen = all.len();
                keys.send(Piece::Data(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
            }
            loop {
                let bytes = shown.read(CHUNK).await.unwrap();
                if bytes.is_empty() {
                    return all;
                }
                all.push_str(&String::from_utf8_lossy(&bytes));
            }
        };
        let running = async {
            let end = tokio::select! {
                end = interact(&mut shell, &tty, &streams, &mut signals) => end,
                _ = async { editor.run(typed, &tty).await.ok(); std::future::pending::<()>().await } => unreachable!(),
            };
            drop(streams);
            end
        };
        let (end, all) = tokio::join!(running, person);
        match end {
            End::Status(status) => (all, status),
            End::Signal(signal) => panic!("ended by {signal:?}"),
        }
    }

    const PROMPT: &str = "root@pump-hmi:~# ";

    #[tokio::test]
    async fn a_person_works_at_the_prompt() {
        let (all, status) =
            talk(&[(PROMPT, "stty size\r"), ("30 100", ""), (PROMPT, "false\r"), (PROMPT, "\x04")]).await;
        assert!(all.starts_with("Pump station 1"), "{all}");
        assert!(all.ends_with("logout\n"), "{all}");
        assert_eq!(status, 1);
    }

    #[tokio::test]
    async fn control_c_ends_the_command_and_not_the_shell() {
        let (all, status) = talk(&[
            (PROMPT, "sleep 3000\r"),
            ("sleep 3000\n", "\x03"),
            (PROMPT, "echo $?\r"),
            ("130", "exit 4\r"),
        ])
        .await;
        assert!(all.contains("^C"), "{all}");
        assert_eq!(status, 4);
    }

    #[tokio::test]
    async fn a_password_is_asked_for_without_echo() {
        let (all, _) = talk(&[
            (PROMPT, "passwd\r"),
            ("New password: ", "topsecret\r"),
            ("Retype new password: ", "topsecret\r"),
            ("updated", "exit\r"),
        ])
        .await;
        assert!(!all.contains("topsecret"), "{all}");
    }

    #[tokio::test]
    async fn top_draws_until_q_and_leaves_the_screen_as_it_was() {
        let (all, _) = talk(&[
            (PROMPT, "top\r"),
            ("hmi-server", "q"),
            (PROMPT, "top\r"),
            ("hmi-server", "\x03"),
            (PROMPT, "exit\r"),
        ])
        .await;
        assert_eq!(all.matches("\x1b[?1049h").count(), 2);
        assert_eq!(all.matches("\x1b[?1049l").count(), 2);
    }
}
