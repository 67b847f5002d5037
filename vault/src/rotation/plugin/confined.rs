//! Programs of the system that are given what strangers made (a picture of what stood on a screen): in the same sandbox, for
//! one answer.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use super::launcher::Order;
use super::run::{Group, Launcher, collect};

/// How often it is looked whether a program that has said all has ended.
const LOOK: Duration = Duration::from_millis(5);
/// Longest complaint that is passed on, characters.
const COMPLAINT: usize = 200;
const SILENT: &str = "it does not say why";

/// A program, locked in as a plug-in is, without network, and giving way to whatever else wants the processor.
#[derive(Debug, Clone)]
pub struct Confined {
    /// How it is locked in.
    pub launcher: Launcher,
    /// The program, its whole path.
    pub program: PathBuf,
    /// What it is given.
    pub arguments: Vec<String>,
    /// What its environment has besides what every plug-in's has.
    pub environment: Vec<(String, String)>,
    /// The one folder that it may write to, and where it runs.
    pub folder: PathBuf,
    /// Folders that it sees empty, such as those with sockets.
    pub hidden: Vec<PathBuf>,
    /// Most memory, in bytes.
    pub memory: u64,
    /// How long it may take, on the clock and of the processor.
    pub patience: Duration,
}

impl Confined {
    /// What the program says when it reads `input`; at most `most` bytes. Whoever stops waiting ends it, and what it started.
    ///
    /// # Errors
    /// Why there is no answer, as a clause: it did not start, took too long, said too much, or says that it failed.
    pub async fn answer(&self, input: &[u8], most: usize) -> Result<Vec<u8>, String> {
        let order = Order {
            program: self.program.clone(),
            folder: self.folder.clone(),
            network: false,
            readable: Vec::new(),
            memory: self.memory,
            seconds: self.patience.as_secs().saturating_add(1),
            identity: None,
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            gives_way: true,
            hidden: self.hidden.clone(),
        };
        let mut child = self.launcher.start(&order).map_err(|e| format!("it cannot be started: {e}"))?;
        let group = Group::of(&child);
        let talked = tokio::time::timeout(self.patience, talk(&mut child, input, most)).await;
        drop(group);
        // Killed, it is soon gone.
        drop(child.wait().await);
        let late = |_| format!("it did not answer within {} s", self.patience.as_secs());
        talked.map_err(late)?
    }
}

async fn talk(child: &mut Child, input: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let asks = async {
        if let Some(mut stdin) = stdin {
            // One that does not read all of it still answers, or does not.
            drop(stdin.write_all(input).await);
        }
    };
    let answers = async {
        match stdout {
            Some(stdout) => all(stdout, most).await,
            None => None,
        }
    };
    let complains = async {
        let mut complaints = Vec::new();
        if let Some(stderr) = stderr {
            collect(stderr, &mut complaints).await;
        }
        complaints
    };
    tokio::pin!(complains);
    let talking = async {
        tokio::pin!(asks, answers);
        // One that has said all, or too much, need not be told the rest.
        tokio::select! {
            answer = &mut answers => answer,
            () = &mut asks => answers.await,
        }
    };
    tokio::pin!(talking);
    let (answer, complaints) = tokio::select! {
        // Too much was said: nobody waits for the rest.
        answer = &mut talking => match answer {
            Some(answer) => (answer, complains.await),
            None => return Err(format!("it says more than {most} bytes")),
        },
        complaints = &mut complains => {
            (talking.await.ok_or_else(|| format!("it says more than {most} bytes"))?, complaints)
        }
    };
    match ended(leader).await {
        Some(WaitStatus::Exited(_, 0)) => Ok(answer),
        // What could not be locked in says so in the program's place. What the program says itself is content.
        _ if complaints.is_empty() => {
            Err(format!("it failed: {}", launchers(&answer).unwrap_or_else(|| SILENT.to_owned())))
        }
        _ => Err(format!("it failed: {}", complaint(&complaints))),
    }
}

/// How the program ended, without having taken that from whoever waits for it: so long its number is not another's.
async fn ended(leader: Option<Pid>) -> Option<WaitStatus> {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    loop {
        match waitid(Id::Pid(leader?), look) {
            Ok(WaitStatus::StillAlive) => tokio::time::sleep(LOOK).await,
            status => return status.ok(),
        }
    }
}

/// Everything, or nothing where that is more than `most`.
async fn all(from: impl AsyncRead + Unpin, most: usize) -> Option<Vec<u8>> {
    let mut said = Vec::new();
    // A pipe that breaks says no more.
    drop(from.take(most as u64 + 1).read_to_end(&mut said).await);
    (said.len() <= most).then_some(said)
}

/// Why the launcher did not start it, where this is its answer.
fn launchers(said: &[u8]) -> Option<String> {
    let answer = serde_json::from_slice::<serde_json::Value>(said).ok()?;
    Some(shown(answer.get("message")?.as_str()?))
}

/// The last line of what it complained of.
fn complaint(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    shown(text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(SILENT))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(COMPLAINT).collect()
}
