//! Runs a plug-in for one question: so long, so much said, and nothing of it left afterwards.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::launcher::{Identity, Order};
use super::protocol::{Answer, Request};
use crate::rotation::rotator::Fault;

/// Most bytes of an answer.
const ANSWER: usize = 64 * 1024;
/// Most bytes of complaints that are kept; more is read and thrown away.
const COMPLAINTS: usize = 16 * 1024;

/// How the sandbox is entered: our own program, and the arguments by which it calls
/// [`launcher_main`](super::launcher_main).
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The program, its whole path.
    pub program: PathBuf,
    /// What comes before the order.
    pub arguments: Vec<OsString>,
}

/// A plug-in and what it may do.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// How it is locked in.
    pub launcher: Launcher,
    /// The executable, its whole path.
    pub executable: PathBuf,
    /// The one folder that it may write to, and where it runs. The executable must not be in it.
    pub folder: PathBuf,
    /// Whether it may use the network.
    pub network: bool,
    /// What it may read besides the system's programs and libraries.
    pub readable: Vec<PathBuf>,
    /// Most memory, in bytes.
    pub memory: u64,
    /// How long it may take. The plan's patience should be longer.
    pub patience: Duration,
    /// The user it runs as; only root can choose.
    pub identity: Option<Identity>,
}

/// The process group of a plug-in; whatever is left of it is killed with this.
pub(super) struct Group(Option<Pid>);

impl Group {
    pub(super) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }
}

impl Drop for Group {
    /// Its leader has not been waited for at that time, so that the number cannot be another's.
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Gone already is as good.
            killpg(leader, Signal::SIGKILL).unwrap_or_default();
        }
    }
}

impl Plugin {
    /// Asks one question.
    pub(super) async fn ask(&self, request: &Request<'_>) -> Result<Answer, Fault> {
        let line = request.line()?;
        let mut child = self.start()?;
        let group = Group::of(&child);
        let talked = tokio::time::timeout(self.patience, talk(&mut child, &line)).await;
        drop(group);
        // Killed, it is soon gone.
        drop(child.wait().await);
        let silent = |why: String| {
            if request.operation().changes() { Fault::Unsure(why) } else { Fault::Denied(why) }
        };
        let (answer, complaints) = talked.map_err(|_| {
            silent(format!("the plug-in did not answer within {} s", self.patience.as_secs()))
        })?;
        let answer = answer.ok_or_else(|| silent("the plug-in says more than an answer can be".into()))?;
        Answer::parse(&answer, request).ok_or_else(|| {
            silent(format!("the plug-in gave no answer that can be read: {}", request.shown(&complaints)))
        })
    }

    fn start(&self) -> Result<Child, Fault> {
        let broken = |why: String| Fault::Denied(format!("the plug-in cannot be started: {why}"));
        let order = Order {
            program: self.executable.clone(),
            folder: self.folder.clone(),
            network: self.network,
            readable: self.readable.clone(),
            memory: self.memory,
            seconds: self.patience.as_secs().saturating_add(1),
            identity: self.identity,
            arguments: Vec::new(),
            environment: Vec::new(),
            gives_way: false,
            hidden: Vec::new(),
        };
        self.launcher.start(&order).map_err(|e| broken(e.to_string()))
    }
}

impl Launcher {
    pub(super) fn start(&self, order: &Order) -> std::io::Result<Child> {
        let order = serde_json::to_string(order)?;
        Command::new(&self.program)
            .args(&self.arguments)
            .arg(order)
            .env_clear()
            // A name space of its own can only be made by a process with one thread; the allocator would start another.
            .env("_RJEM_MALLOC_CONF", "background_thread:false")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Writes the question while reading; answers what was said up to the first line's end, none if that was too much.
async fn talk(child: &mut Child, line: &[u8]) -> (Option<Vec<u8>>, Vec<u8>) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let asks = async {
        if let Some(mut stdin) = stdin {
            // One that does not read its question still answers, or does not.
            drop(stdin.write_all(line).await);
        }
    };
    let answers = async {
        match stdout {
            Some(stdout) => first_line(stdout).await,
            None => None,
        }
    };
    let mut complaints = Vec::new();
    let answer = {
        let answered = async { tokio::join!(asks, answers).1 };
        let complains = async {
            if let Some(stderr) = stderr {
                collect(stderr, &mut complaints).await;
            }
        };
        tokio::pin!(answered, complains);
        // Complaints may go on for as long as a child of it lives; an answer ends the talk.
        tokio::select! {
            answer = &mut answered => {
                if answer.as_ref().is_some_and(Vec::is_empty) {
                    complains.await;
                }
                answer
            }
            () = &mut complains => answered.await,
        }
    };
    (answer, complaints)
}

async fn first_line(mut from: impl AsyncRead + Unpin) -> Option<Vec<u8>> {
    let (mut line, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { return Some(line) };
        match read.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                line.extend_from_slice(read.get(..end).unwrap_or_default());
                return (line.len() <= ANSWER).then_some(line);
            }
            None => line.extend_from_slice(read),
        }
        if line.len() > ANSWER {
            return None;
        }
    }
}

pub(super) async fn collect(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(count) = from.read(&mut buffer).await {
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { return };
        let room = COMPLAINTS.saturating_sub(into.len());
        into.extend(read.iter().take(room));
    }
}
