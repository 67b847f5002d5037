//! Users of MariaDB. The server is sent the hash that it stores (`mysql_native_password`), never the password: its logs keep
//! statements as they come.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, OptsBuilder, SslOpts};

use super::password::{PasswordPolicy, PolicyError};
use super::reach::{Address, SecretSource, words};
use super::rotator::{Fault, Rotator, Verdict, fitting, no_helper, of_helper, text};
use super::tls::{TlsTrust, impostor, is_impostor};
use crate::entropy::{Entropy, SystemEntropy};
use crate::secret::SecretBytes;

/// `ER_ACCESS_DENIED_ERROR`: the password is wrong, or the user is not known.
const ACCESS_DENIED: u16 = 1045;
/// `ER_NOT_VALID_PASSWORD`: a validation plug-in does not like it.
const NOT_VALID: u16 = 1819;

/// The user that may set another one's password.
#[derive(Debug, Clone)]
pub struct UserHelper {
    /// Its name.
    pub user: String,
    /// Its password.
    pub secret: Arc<dyn SecretSource>,
}

/// Rotates the password of one user.
#[derive(Debug, Clone)]
pub struct MariaDbUser {
    /// The server.
    pub address: Address,
    /// How its certificate is checked; none: TLS is not used, which only a path that nobody else can touch allows. To a
    /// client without TLS, a server that wants it says the same as to a wrong password.
    pub tls: Option<TlsTrust>,
    /// The user.
    pub user: String,
    /// The host part of its name, as `CREATE USER` had it: `%`.
    pub host: String,
    /// What its passwords are made of.
    pub policy: PasswordPolicy,
    /// Who can set it when nothing opens it any more.
    pub helper: Option<UserHelper>,
}

enum Entry {
    In(Box<Conn>),
    Refused,
}

impl MariaDbUser {
    async fn enter(&self, user: &str, secret: &SecretBytes) -> Result<Entry, Fault> {
        let text = text(secret)?;
        let mut last = Fault::Unreachable("the name has no address that may be dialled".into());
        for address in self.address.resolve().await? {
            let options = OptsBuilder::default()
                .ip_or_hostname(address.ip().to_string())
                .tcp_port(address.port())
                .prefer_socket(false)
                .user(Some(user))
                .pass(Some(text.expose()))
                .ssl_opts(self.trust()?);
            match Conn::new(options).await {
                Ok(connection) => return Ok(Entry::In(Box::new(connection))),
                Err(Error::Server(said)) if said.code == ACCESS_DENIED => return Ok(Entry::Refused),
                Err(Error::Server(said)) => {
                    let why = words(said.message.as_bytes(), &[secret]);
                    return Err(Fault::Denied(format!("the server lets {user} not in: {why}")));
                }
                Err(error) if is_impostor(&error) => return Err(impostor()),
                Err(error) => last = Fault::Unreachable(format!("the connection was not made: {error}")),
            }
        }
        Err(last)
    }

    async fn enter_or_fault(&self, user: &str, secret: &SecretBytes) -> Result<Conn, Fault> {
        match self.enter(user, secret).await? {
            Entry::In(connection) => Ok(*connection),
            Entry::Refused => {
                Err(Fault::Refused(format!("it does not take the password that the vault has for {user}")))
            }
        }
    }

    fn trust(&self) -> Result<Option<SslOpts>, Fault> {
        let Some(trust) = &self.tls else { return Ok(None) };
        // The library takes the process's provider; there is one only if somebody set it, or if just one was built in.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let roots = trust.certificates()?;
        let roots = roots.iter().map(|root| root.to_vec().into()).collect();
        let name = trust.expected(&self.address.host).to_owned();
        Ok(Some(
            SslOpts::default()
                .with_disable_built_in_roots(true)
                .with_root_certs(roots)
                .with_danger_tls_hostname_override(Some(name)),
        ))
    }
}

#[async_trait]
impl Rotator for MariaDbUser {
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError> {
        Ok(SecretBytes::from(&self.policy.generate(&self.user, entropy)?))
    }

    async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        fitting(&self.policy, candidate, &self.user)?;
        let connection = self.enter_or_fault(&self.user, current).await?;
        set(connection, &format!("SET PASSWORD = '{}'", stored(candidate))).await
    }

    /// A server without grant tables would take any password; so it is given a wrong one, too.
    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        match self.enter(&self.user, secret).await? {
            Entry::Refused => return Ok(Verdict::Refused),
            Entry::In(connection) => drop(connection.disconnect().await),
        }
        let wrong = self
            .policy
            .generate(&self.user, &SystemEntropy)
            .map_err(|e| Fault::Denied(format!("no password can be made to compare with: {e}")))?;
        match self.enter(&self.user, &SecretBytes::from(&wrong)).await? {
            Entry::Refused => Ok(Verdict::Opens),
            Entry::In(_) => Err(Fault::Denied(
                "the server lets this user in with any password; is it running with skip-grant-tables?"
                    .into(),
            )),
        }
    }

    fn reconciles(&self) -> bool {
        self.helper.is_some()
    }

    async fn reconcile(&self, candidate: &SecretBytes) -> Result<(), Fault> {
        fitting(&self.policy, candidate, &self.user)?;
        let helper = self.helper.as_ref().ok_or_else(no_helper)?;
        let (user, host) = (plain_name(&self.user)?, plain_name(&self.host)?);
        let secret = helper.secret.secret().await?;
        let connection = self.enter_or_fault(&helper.user, &secret).await.map_err(of_helper)?;
        set(connection, &format!("SET PASSWORD FOR '{user}'@'{host}' = '{}'", stored(candidate))).await
    }
}

async fn set(mut connection: Conn, statement: &str) -> Result<(), Fault> {
    let done = connection.query_drop(statement).await;
    // The statement holds no password, so nothing that the server says about it can.
    done.map_err(|error| match error {
        Error::Server(said) if said.code == NOT_VALID => Fault::Rejected(format!(
            "it does not take the new password: {}",
            words(said.message.as_bytes(), &[])
        )),
        Error::Server(said) => {
            Fault::Denied(format!("it did not change the password: {}", words(said.message.as_bytes(), &[])))
        }
        _ => Fault::Unsure("the connection broke off before it answered".into()),
    })?;
    drop(connection.disconnect().await);
    Ok(())
}

/// `*` and SHA-1 of SHA-1, as `mysql.global_priv` keeps it. What it lacks in strength, the length of the password has.
fn stored(password: &SecretBytes) -> String {
    let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.expose());
    let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
    format!("*{}", hex::encode_upper(twice.as_ref()))
}

/// A name that stands between quotes in any SQL mode.
fn plain_name(name: &str) -> Result<&str, Fault> {
    let trap = |c: char| c.is_control() || matches!(c, '\'' | '"' | '`' | '\\');
    if !name.is_empty() && name.len() <= 255 && !name.contains(trap) {
        Ok(name)
    } else {
        Err(Fault::Denied("the user's name has quotes or backslashes; rotate it by plug-in".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_that_of_the_server() {
        // SELECT PASSWORD('password')
        assert_eq!(
            stored(&SecretBytes::from(b"password".to_vec())),
            "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"
        );
    }

    #[test]
    fn a_name_that_could_end_its_quotes_is_refused() {
        for name in ["", "a'b", "a\\", "a\"b", "a`b", "a\nb"] {
            assert!(plain_name(name).is_err(), "{name:?}");
        }
        assert!(plain_name("app user@x").is_ok() && plain_name("10.0.%").is_ok());
    }
}
