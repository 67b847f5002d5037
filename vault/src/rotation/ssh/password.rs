//! Passwords of local accounts, by `passwd` of the account itself or `chpasswd` of another one.
//!
//! The commands are fixed texts; the passwords go to their standard input. Neither is ever an argument or in the
//! environment of a process on the target, where other users could read it.

use std::sync::Arc;

use async_trait::async_trait;

use super::link::{Credential, Finished, SshTarget, enter_as_helper, lines, opens, plain_login};
use crate::entropy::Entropy;
use crate::rotation::password::{PasswordPolicy, PolicyError};
use crate::rotation::reach::{SecretSource, words};
use crate::rotation::rotator::{Fault, Rotator, Verdict, fitting, no_helper, text};
use crate::secret::SecretBytes;

/// `env`, because a login shell may be one that knows no assignments; the C locale, because the answers are read.
const PASSWD: &str = "env LC_ALL=C passwd";
const CHPASSWD: &str = "env LC_ALL=C /usr/sbin/chpasswd";
const SUDO_CHPASSWD: &str = "env LC_ALL=C sudo -n -- /usr/sbin/chpasswd";

/// What PAM's modules and `passwd` say to a password that they find too weak.
const TOO_WEAK: [&str; 9] = [
    "bad password",
    "too short",
    "too simple",
    "too similar",
    "must choose a longer",
    "already used",
    "palindrome",
    "dictionary",
    "unchanged",
];

/// The account that may set another one's password.
#[derive(Debug, Clone)]
pub struct PasswordHelper {
    /// Its login.
    pub login: String,
    /// Its password or private key.
    pub secret: Arc<dyn SecretSource>,
    /// Whether it takes `sudo` (without a password, for `/usr/sbin/chpasswd` alone) or is root itself.
    pub sudo: bool,
}

/// How a password is changed as long as the vault's is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordWay {
    /// The account changes its own, by `passwd`.
    Itself,
    /// The other account sets it, always.
    Helper,
}

/// Rotates the password of one local account of a Unix host.
#[derive(Debug, Clone)]
pub struct SshPassword {
    /// The host.
    pub target: SshTarget,
    /// The account's login.
    pub login: String,
    /// What its passwords are made of.
    pub policy: PasswordPolicy,
    /// How it is changed.
    pub way: PasswordWay,
    /// Who can set it when nothing opens it any more.
    pub helper: Option<PasswordHelper>,
}

impl SshPassword {
    async fn by_itself(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        let (old, new) = (text(current)?, text(candidate)?);
        let link = self.target.enter_or_fault(&self.login, Credential::Password(&old)).await?;
        let input = lines(&[&[old.expose()], &[new.expose()], &[new.expose()]]);
        let finished = link.run(PASSWD, &input).await?;
        link.leave().await;
        judged(&finished, &[current, candidate])
    }

    async fn by_helper(&self, candidate: &SecretBytes) -> Result<(), Fault> {
        let helper = self.helper.as_ref().ok_or_else(no_helper)?;
        let new = text(candidate)?;
        let login = plain_login(&self.login)?;
        let link = enter_as_helper(&self.target, &helper.login, helper.secret.as_ref()).await?;
        let command = if helper.sudo { SUDO_CHPASSWD } else { CHPASSWD };
        let input = lines(&[&[login, ":", new.expose()]]);
        let finished = link.run(command, &input).await?;
        link.leave().await;
        judged(&finished, &[candidate])
    }
}

#[async_trait]
impl Rotator for SshPassword {
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError> {
        Ok(SecretBytes::from(&self.policy.generate(&self.login, entropy)?))
    }

    async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        fitting(&self.policy, candidate, &self.login)?;
        match self.way {
            PasswordWay::Itself => self.by_itself(current, candidate).await,
            PasswordWay::Helper => self.by_helper(candidate).await,
        }
    }

    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        opens(&self.target, &self.login, Credential::Password(&text(secret)?)).await
    }

    fn reconciles(&self) -> bool {
        self.helper.is_some()
    }

    async fn reconcile(&self, candidate: &SecretBytes) -> Result<(), Fault> {
        fitting(&self.policy, candidate, &self.login)?;
        self.by_helper(candidate).await
    }
}

fn judged(finished: &Finished, secrets: &[&SecretBytes]) -> Result<(), Fault> {
    if finished.status == Some(0) {
        return Ok(());
    }
    let said = [finished.out.as_slice(), b"\n", finished.err.as_slice()].concat();
    let folded = String::from_utf8_lossy(&said).to_lowercase();
    let shown = words(&said, secrets);
    if TOO_WEAK.iter().any(|words| folded.contains(words)) {
        Err(Fault::Rejected(format!("it does not take the new password: {shown}")))
    } else {
        Err(Fault::Denied(format!("it did not change the password: {shown}")))
    }
}
