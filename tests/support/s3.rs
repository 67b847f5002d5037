//! An S3 server on loopback (moto), with a bucket and an access key.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Gateway, Live, peer, python};

/// Ended when dropped.
pub(crate) struct S3Server {
    process: Live,
    said: Value,
}

impl S3Server {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        let mut command = Command::new(python());
        command.arg(peer("s3_server.py"));
        let mut process = Live::start(command);
        let line = process.expect("\"}");
        let json = line.get(line.find('{').unwrap()..).unwrap();
        let said = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {line}"));
        Self { process, said }
    }

    /// The name of the access key.
    pub(crate) fn access_key(&self) -> &str {
        self.said["access_key"].as_str().unwrap()
    }

    /// Its secret.
    pub(crate) fn secret_key(&self) -> &str {
        self.said["secret_key"].as_str().unwrap()
    }

    /// The `[s3]` section for `gateway`, with `more` keys; its key files are written.
    pub(crate) fn section(&self, gateway: &Gateway, more: &str) -> String {
        let secret = |name: &str, text: &str| -> PathBuf {
            let file = gateway.scratch(name);
            fs::write(&file, format!("{text}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            file
        };
        format!(
            "\n[s3]\nbucket = \"recordings\"\nendpoint = {}\nprefix = \"site/demo\"\naccess_key_file = {:?}\n\
             secret_key_file = {:?}\n{more}\n",
            self.said["endpoint"],
            secret("s3_access_key", self.access_key()),
            secret("s3_secret_key", self.secret_key()),
        )
    }

    /// Stops it answering without closing anything.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.pid()).unwrap()), signal).unwrap();
    }
}
