//! What a person does at their own desk.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use super::{Done, Gateway, peer, python, run};

/// A person of the demo, with what they know and have.
pub(crate) struct Person<'g> {
    gateway: &'g Gateway,
    /// Their name.
    pub(crate) name: String,
    /// Their password at the gateway.
    pub(crate) password: String,
    /// Their TOTP secret, base 32.
    pub(crate) totp_secret: String,
    /// Their private SSH key.
    pub(crate) key: PathBuf,
}

/// Which first factor is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// Their key.
    Key,
    /// Their password.
    Password,
}

impl<'g> Person<'g> {
    pub(super) fn new(
        gateway: &'g Gateway,
        name: &str,
        password: String,
        totp_secret: String,
        key: PathBuf,
    ) -> Self {
        Self { gateway, name: name.to_owned(), password, totp_secret, key }
    }

    /// The user name for `place` (`pump-hmi`, `pump-hmi+root`); the name alone for the menu, with an empty place.
    pub(crate) fn login(&self, place: &str) -> String {
        if place.is_empty() { self.name.clone() } else { format!("{}+{place}", self.name) }
    }

    /// A code that the gateway has not seen; waits for the next one if all of now are used.
    pub(crate) fn code(&self) -> String {
        let mut command = Command::new(peer("code"));
        self.equip(&mut command);
        run(command).ok().out().trim().to_owned()
    }

    /// `ssh` to `place` with key and code, and these further options and arguments (the command last).
    pub(crate) fn ssh<A: AsRef<OsStr>>(
        &self,
        place: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        self.ssh_with(First::Key, place, arguments)
    }

    /// `ssh` with a chosen first factor.
    pub(crate) fn ssh_with<A: AsRef<OsStr>>(
        &self,
        first: First,
        place: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let address = self.gateway.ssh_address();
        let mut command = Command::new("ssh");
        command.args(self.options(first)).arg("-p").arg(address.port().to_string());
        let mut arguments = arguments.into_iter().peekable();
        // Options stand before the destination; what does not start with '-' begins the command.
        let mut takes_value = false;
        while let Some(option) =
            arguments.next_if(|a| takes_value || a.as_ref().to_string_lossy().starts_with('-'))
        {
            let text = option.as_ref().to_string_lossy().into_owned();
            takes_value = !takes_value && text.len() == 2 && "LRDWoJSceFiIlmOpQwbBE".contains(&text[1..]);
            command.arg(option);
        }
        command.arg(format!("{}@{}", self.login(place), address.ip())).args(arguments);
        self.equip(&mut command);
        command
    }

    /// Options that every OpenSSH program takes: nothing of this machine's own set-up, and no prompt on a terminal.
    pub(crate) fn options(&self, first: First) -> Vec<String> {
        let known_hosts = self.gateway.scratch("known_hosts");
        let mut options = vec![
            "-F".to_owned(),
            "/dev/null".to_owned(),
            format!("-oUserKnownHostsFile={}", known_hosts.display()),
            "-oGlobalKnownHostsFile=/dev/null".to_owned(),
            "-oStrictHostKeyChecking=accept-new".to_owned(),
            "-oIdentityAgent=none".to_owned(),
            "-oIdentitiesOnly=yes".to_owned(),
            "-oNumberOfPasswordPrompts=1".to_owned(),
            "-oConnectTimeout=30".to_owned(),
            "-oLogLevel=INFO".to_owned(),
        ];
        match first {
            First::Key => options.push(format!("-oIdentityFile={}", self.key.display())),
            First::Password => options.push("-oPubkeyAuthentication=no".to_owned()),
        }
        options
    }

    /// Gives `command` the answers to prompts.
    pub(crate) fn equip(&self, command: &mut Command) {
        command
            .env("SSH_ASKPASS", peer("askpass"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("DISPLAY", "none")
            .env_remove("SSH_AUTH_SOCK")
            // The peers' scripts import from their own folder, which belongs to the repository.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("COFFERDAM_PASSWORD", &self.password)
            .env("COFFERDAM_TOTP_SECRET", &self.totp_secret)
            .env("COFFERDAM_TOTP_STATE", self.gateway.scratch(&format!("codes-of-{}", self.name)))
            .env("COFFERDAM_PROMPTS", self.prompts_file());
    }

    /// What the clients asked this person for, in order.
    pub(crate) fn prompts(&self) -> String {
        fs::read_to_string(self.prompts_file()).unwrap_or_default()
    }

    fn prompts_file(&self) -> PathBuf {
        self.gateway.scratch(&format!("prompts-of-{}", self.name))
    }

    /// `sftp`, `scp` and `rsync` name the port in their own ways; this is the part they share.
    pub(crate) fn transfer(&self, program: &str) -> Command {
        let port = self.gateway.ssh_address().port().to_string();
        let mut command = Command::new(program);
        match program {
            "rsync" => {
                let remote_shell = format!("ssh {} -p {port}", self.options(First::Key).join(" "));
                command.arg("-e").arg(remote_shell);
            }
            _ => {
                command.args(self.options(First::Key)).arg("-P").arg(port);
            }
        }
        self.equip(&mut command);
        command
    }

    /// `USER@HOST:PATH` as scp and rsync take it.
    pub(crate) fn remote(&self, place: &str, path: &str) -> String {
        format!("{}@{}:{path}", self.login(place), self.gateway.ssh_address().ip())
    }

    /// A PuTTY program (`plink`, `psftp`) with the person's key and the gateway's pinned key, ready for arguments.
    /// PuTTY asks on a terminal only: run it through [`Self::on_a_terminal`].
    pub(crate) fn putty(&self, program: &str, place: &str) -> Command {
        let address = self.gateway.ssh_address();
        let ppk = self.gateway.scratch(&format!("{}.ppk", self.name));
        if !ppk.exists() {
            let mut puttygen = Command::new("puttygen");
            puttygen.arg(&self.key).arg("-o").arg(&ppk);
            run(puttygen).ok();
            fs::set_permissions(&ppk, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut command = Command::new(program);
        command
            .args(["-P", &address.port().to_string(), "-hostkey", &self.host_key_fingerprint(), "-i"])
            .arg(ppk);
        if program == "plink" {
            // Else it waits for Return after the log-in, so that a server cannot forge its local prompts.
            command.arg("-no-antispoof");
        }
        command.arg("-l").arg(self.login(place)).arg(address.ip().to_string());
        command.env("HOME", self.gateway.scratch(""));
        self.equip(&mut command);
        command
    }

    /// `SHA256:…` of the gateway's host key, as `ssh-keyscan` and `ssh-keygen` see it.
    pub(crate) fn host_key_fingerprint(&self) -> String {
        let address = self.gateway.ssh_address();
        let mut scan = Command::new("ssh-keyscan");
        scan.args([
            "-T",
            "20",
            "-t",
            "ed25519",
            "-p",
            &address.port().to_string(),
            &address.ip().to_string(),
        ]);
        let keys = run(scan).ok();
        let mut print = Command::new("ssh-keygen");
        print.args(["-l", "-f", "-"]);
        let printed = super::run_with_input(print, &keys.stdout).ok().out();
        printed.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
    }

    /// Runs `command` on a terminal, answering each pattern in turn; "@password" and "@code" are the person's own.
    pub(crate) fn on_a_terminal(&self, command: &Command, steps: &[(&str, &str)]) -> Done {
        let mut driver = Command::new(python());
        driver.arg(peer("drive.py")).arg(serde_json::to_string(steps).unwrap()).arg("--");
        driver.arg(command.get_program()).args(command.get_args());
        self.equip(&mut driver);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                driver.env(name, value);
            }
        }
        run(driver)
    }
}
