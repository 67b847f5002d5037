//! Keys of local accounts: the new one is added, proved by logging in with it, and only then the old one is removed.
//!
//! `authorized_keys` is never written in place: a copy with the same owner and mode is filled, compared in length, brought
//! to the disk and renamed over it. Should the file have been changed since it was read, nothing is done.

use std::sync::Arc;

use async_trait::async_trait;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{PrivateKey, PublicKey};

use super::authorized_keys::{add, holds, remove};
use super::link::{Credential, Link, SshTarget, enter_as_helper, opens};
use crate::ca::fresh_key;
use crate::entropy::{Entropy, EntropyError};
use crate::rotation::password::PolicyError;
use crate::rotation::reach::{SecretSource, words};
use crate::rotation::rotator::{Fault, Rotator, Verdict, no_helper, text};
use crate::secret::SecretBytes;

/// Where sshd looks, seen from the account's home.
const USUAL_FILE: &str = ".ssh/authorized_keys";
/// The script's way to say that the file is not the one that was read.
const CHANGED: u32 = 75;
/// The script's way to say that not all of the new file arrived.
const CUT: u32 = 74;

/// The account that may edit another one's file.
#[derive(Debug, Clone)]
pub struct KeyHelper {
    /// Its login.
    pub login: String,
    /// Its password or private key.
    pub secret: Arc<dyn SecretSource>,
    /// Whether it takes `sudo` (without a password) or is root itself.
    pub sudo: bool,
    /// The whole path of the file that it edits: `/home/pump/.ssh/authorized_keys`.
    pub file: String,
}

/// Rotates the key of one local account of a Unix host.
#[derive(Debug, Clone)]
pub struct SshKeys {
    /// The host.
    pub target: SshTarget,
    /// The account's login.
    pub login: String,
    /// What marks the vault's own lines in the file, without blanks: the account's id.
    pub mark: String,
    /// The file, from the account's home or whole; none: `.ssh/authorized_keys`.
    pub file: Option<String>,
    /// Who can add a key when none opens the account any more.
    pub helper: Option<KeyHelper>,
}

/// A file on a target, and how it is reached.
struct Remote<'a> {
    link: &'a Link,
    sudo: bool,
    file: &'a str,
}

impl SshKeys {
    fn comment(&self) -> String {
        format!("cofferdam:{}", self.mark)
    }

    fn own_file(&self) -> &str {
        self.file.as_deref().unwrap_or(USUAL_FILE)
    }

    /// The public half as a line, without options.
    fn line(&self, key: &PrivateKey) -> Result<String, Fault> {
        if self.mark.is_empty() || !self.mark.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Fault::Denied("the account's mark is not one word; correct its settings".into()));
        }
        let mut public = key.public_key().clone();
        public.set_comment(self.comment());
        public.to_openssh().map_err(|_| Fault::Denied("the new key cannot be written down".into()))
    }
}

#[async_trait]
impl Rotator for SshKeys {
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError> {
        let broken = |_| PolicyError::Entropy(EntropyError);
        let key = fresh_key(entropy, &self.comment()).map_err(broken)?;
        let text = key.to_openssh(LineEnding::LF).map_err(|_| PolicyError::Entropy(EntropyError))?;
        Ok(SecretBytes::new(text.as_bytes().to_vec()))
    }

    async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        let (old, new) = (key(current)?, key(candidate)?);
        let line = self.line(&new)?;
        let link = self.target.enter_or_fault(&self.login, Credential::Key(&old)).await?;
        let remote = Remote { link: &link, sudo: false, file: self.own_file() };
        let beside = blob(old.public_key())?;
        let edited = remote.edit(|file| add(file, Some(&beside), &line)).await;
        link.leave().await;
        edited
    }

    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        opens(&self.target, &self.login, Credential::Key(&key(secret)?)).await
    }

    fn finishes(&self) -> bool {
        true
    }

    /// By the new key itself: should it not open the account after all, the old one stays.
    async fn finish(&self, current: &SecretBytes, former: &[SecretBytes]) -> Result<(), Fault> {
        let new = key(current)?;
        let kept = blob(new.public_key())?;
        let gone: Vec<String> = former
            .iter()
            .filter_map(|secret| key(secret).ok())
            .filter_map(|key| blob(key.public_key()).ok())
            .collect();
        let link = self.target.enter_or_fault(&self.login, Credential::Key(&new)).await?;
        let remote = Remote { link: &link, sudo: false, file: self.own_file() };
        let mark = self.comment();
        let edited = remote
            .edit(|file| if holds(file, &kept) { remove(file, &kept, &gone, &mark) } else { file.to_vec() })
            .await;
        link.leave().await;
        edited
    }

    fn reconciles(&self) -> bool {
        self.helper.is_some()
    }

    async fn reconcile(&self, candidate: &SecretBytes) -> Result<(), Fault> {
        let helper = self.helper.as_ref().ok_or_else(no_helper)?;
        let line = self.line(&key(candidate)?)?;
        let link = enter_as_helper(&self.target, &helper.login, helper.secret.as_ref()).await?;
        let remote = Remote { link: &link, sudo: helper.sudo, file: &helper.file };
        let edited = remote.edit(|file| add(file, None, &line)).await;
        link.leave().await;
        edited
    }
}

impl Remote<'_> {
    async fn edit(&self, change: impl FnOnce(&[u8]) -> Vec<u8> + Send) -> Result<(), Fault> {
        let path = plain_path(self.file)?;
        let sudo = if self.sudo { "sudo -n -- " } else { "" };
        let read = self.link.run(&format!("{sudo}cat -- {path}"), b"").await?;
        if read.status != Some(0) {
            let why = words(&read.err, &[]);
            return Err(Fault::Denied(format!("{path} cannot be read there: {why}")));
        }
        let new = change(&read.out);
        if new == read.out {
            return Ok(());
        }
        let command = format!("{sudo}sh -c '{}'", script(path, read.out.len(), new.len()));
        let written = self.link.run(&command, &[read.out.as_slice(), &new].concat()).await?;
        match written.status {
            Some(0) => Ok(()),
            Some(CHANGED) => {
                Err(Fault::Denied(format!("{path} was changed by somebody else at the same moment")))
            }
            Some(CUT) => {
                Err(Fault::Unsure(format!("the new {path} did not arrive whole; it was not put in place")))
            }
            _ => Err(Fault::Denied(format!("{path} cannot be written there: {}", words(&written.err, &[])))),
        }
    }
}

/// Reads the old file and the new one from its input; puts the new one in place of the old, if that is what is there.
/// No single quotes: it stands between such.
fn script(path: &str, old: usize, new: usize) -> String {
    format!(
        "set -eu; umask 077; f=$(readlink -f -- {path}); t=$(mktemp \"$f.XXXXXX\"); \
         trap \"rm -f -- \\\"$t\\\"\" EXIT HUP INT TERM; \
         head -c {old} >\"$t\"; cmp -s -- \"$t\" \"$f\" || exit {CHANGED}; \
         cp -p -- \"$f\" \"$t\"; cat >\"$t\"; [ $(wc -c <\"$t\") -eq {new} ] || exit {CUT}; \
         sync \"$t\" 2>/dev/null || sync; mv -f -- \"$t\" \"$f\""
    )
}

/// A path that a shell reads as it is.
fn plain_path(path: &str) -> Result<&str, Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@' | '+');
    if !path.is_empty() && path.len() <= 1024 && !path.starts_with('-') && path.chars().all(plain) {
        Ok(path)
    } else {
        Err(Fault::Denied("the path of authorized_keys has characters that a shell gives a meaning".into()))
    }
}

fn key(secret: &SecretBytes) -> Result<PrivateKey, Fault> {
    PrivateKey::from_openssh(text(secret)?.expose()).ok().filter(|key| !key.is_encrypted()).ok_or_else(|| {
        Fault::Denied("the stored secret is no private key without passphrase; set it again".into())
    })
}

/// The key in base64, as it stands in the file.
fn blob(key: &PublicKey) -> Result<String, Fault> {
    let line = key.to_openssh().map_err(|_| Fault::Denied("the key cannot be written down".into()))?;
    line.split(' ')
        .nth(1)
        .map(str::to_owned)
        .ok_or_else(|| Fault::Denied("the key cannot be written down".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_or_a_login_that_a_shell_would_read_otherwise_is_refused() {
        for path in ["", "-rf", "a b", "$(id)", "a;b", "a'b", "a\"b", "a\nb", "~/x", "a`b"] {
            assert!(plain_path(path).is_err(), "{path}");
            assert!(super::super::link::plain_login(path).is_err(), "{path}");
        }
        assert!(plain_path("/home/a.b/.ssh/authorized_keys2").is_ok());
        for login in ["root", "DOMAIN$", "a.b-c_d", "svc@plant.example"] {
            assert!(super::super::link::plain_login(login).is_ok(), "{login}");
        }
        assert!(super::super::link::plain_login("root:x").is_err());
        assert!(!script("a", 1, 2).contains('\''), "it is put between single quotes");
    }

    /// Runs the script as a target would, on `there`, with `input` for it.
    fn run(there: &std::path::Path, old: usize, new: usize, input: &[u8]) -> Option<i32> {
        use std::io::Write as _;
        let path = there.to_str().unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", &script(path, old, new)])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it has read all.
        drop(child.stdin.take().unwrap().write_all(input));
        child.wait().unwrap().code()
    }

    #[test]
    fn a_file_that_somebody_else_changed_meanwhile_or_that_arrives_cut_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("keys"), folder.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::fs::write(&file, "theirs\n").unwrap();
        assert_eq!(run(&file, 4, 3, b"old\nnew"), i32::try_from(CHANGED).ok());
        assert_eq!(run(&file, 7, 9, b"theirs\nnew"), i32::try_from(CUT).ok());
        assert_eq!(std::fs::read(&file).unwrap(), b"theirs\n");
        // A link stays one, and what it leads to is replaced.
        assert_eq!(run(&link, 7, 3, b"theirs\nnew"), Some(0));
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
