//! Programs that are talked to while they run.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::{Gateway, wait_for};

/// Longest from a cause to the cut, as seen from outside: a second, and what the observer itself takes.
pub(crate) const CUT: Duration = Duration::from_millis(1300);

/// A running program; killed when dropped.
pub(crate) struct Live {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Arc<Mutex<Vec<u8>>>,
    read_up_to: usize,
}

impl Live {
    /// Starts `command`; its standard output and standard error are heard together.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        listen(child.stdout.take().unwrap(), Arc::clone(&heard));
        listen(child.stderr.take().unwrap(), Arc::clone(&heard));
        let stdin = child.stdin.take();
        Self { child, stdin, heard, read_up_to: 0 }
    }

    /// A shell of vera's on the pump through `gateway`, with a prompt.
    pub(crate) fn on_pump(gateway: &Gateway) -> Self {
        let mut shell = Self::start(gateway.vera().ssh("pump-hmi", ["-tt"]));
        shell.expect("# ");
        shell
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Ends it as a power cut would (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Types `text`.
    pub(crate) fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits until `text` is heard after all that was expected before; gives what came up to and with it.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.expect_within(text, Duration::from_secs(40))
    }

    /// As [`Self::expect`], for at most `longest`.
    #[track_caller]
    pub(crate) fn expect_within(&mut self, text: &str, longest: Duration) -> String {
        let start = Instant::now();
        loop {
            {
                let heard = self.heard.lock().unwrap();
                let fresh = &heard[self.read_up_to..];
                if let Some(at) = fresh.windows(text.len()).position(|w| w == text.as_bytes()) {
                    let upto = at + text.len();
                    let part = String::from_utf8_lossy(&fresh[..upto]).into_owned();
                    self.read_up_to += upto;
                    return part;
                }
            }
            assert!(
                start.elapsed() < longest,
                "not heard within {longest:?}: {text:?}\n{}",
                self.transcript()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything heard so far.
    pub(crate) fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    /// Waits for the program's end, for at most `longest`; gives its exit code and how long that took.
    #[track_caller]
    pub(crate) fn ended_within(&mut self, longest: Duration) -> (Option<i32>, Duration) {
        let (status, took) = wait_for("the program's end", longest, || self.child.try_wait().unwrap());
        (status.code(), took)
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

fn listen(mut from: impl Read + Send + 'static, heard: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut part = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut part) {
            heard.lock().unwrap().extend_from_slice(&part[..count]);
        }
    });
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
