//! Roles of PostgreSQL. The server is sent a SCRAM verifier (RFC 5803), never the password, so that none comes into its log
//! or into `pg_stat_activity`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, NoTls};

use super::password::{PasswordPolicy, PolicyError};
use super::reach::{Address, SecretSource, words};
use super::rotator::{Fault, Rotator, Verdict, fitting, no_helper, of_helper};
use super::tls::{TlsTrust, impostor, is_impostor};
use crate::entropy::{Entropy, SystemEntropy};
use crate::secret::SecretBytes;

/// The role that may set another one's password.
#[derive(Debug, Clone)]
pub struct RoleHelper {
    /// Its name.
    pub role: String,
    /// Its password.
    pub secret: Arc<dyn SecretSource>,
}

/// Rotates the password of one role.
#[derive(Debug, Clone)]
pub struct PostgresRole {
    /// The server.
    pub address: Address,
    /// How its certificate is checked; none: TLS is not used, which only a path that nobody else can touch allows.
    pub tls: Option<TlsTrust>,
    /// The database to connect to; each has `postgres`, as a rule.
    pub database: String,
    /// The role.
    pub role: String,
    /// What its passwords are made of.
    pub policy: PasswordPolicy,
    /// Who can set it when nothing opens it any more.
    pub helper: Option<RoleHelper>,
}

/// A connection; what drives it ends with it.
struct Connected {
    client: Client,
    _driver: JoinSet<()>,
}

enum Entry {
    In(Connected),
    Refused,
}

impl PostgresRole {
    async fn enter(&self, role: &str, secret: &[u8]) -> Result<Entry, Fault> {
        let mut config = Config::new();
        config.user(role).password(secret).dbname(&self.database).application_name("cofferdam");
        let stream = self.address.connect().await?;
        let mut driver = JoinSet::new();
        let connected = match &self.tls {
            Some(trust) => {
                config.ssl_mode(SslMode::Require);
                let tls = Tls { config: trust.config()?, name: trust.server_name(&self.address.host)? };
                config.connect_raw(stream, tls).await.map(|(client, connection)| {
                    driver.spawn(async { drop(connection.await) });
                    client
                })
            }
            None => {
                config.ssl_mode(SslMode::Disable);
                config.connect_raw(stream, NoTls).await.map(|(client, connection)| {
                    driver.spawn(async { drop(connection.await) });
                    client
                })
            }
        };
        match connected {
            Ok(client) => Ok(Entry::In(Connected { client, _driver: driver })),
            Err(error) if error.code() == Some(&SqlState::INVALID_PASSWORD) => Ok(Entry::Refused),
            Err(error) if is_impostor(&error) => Err(impostor()),
            Err(error) => Err(match error.as_db_error() {
                Some(said) => Fault::Denied(format!(
                    "the server lets {role} not in: {}",
                    words(said.message().as_bytes(), &[])
                )),
                None => Fault::Unreachable(format!("the connection was not made: {error}")),
            }),
        }
    }

    async fn enter_or_fault(&self, role: &str, secret: &[u8]) -> Result<Connected, Fault> {
        match self.enter(role, secret).await? {
            Entry::In(connected) => Ok(connected),
            Entry::Refused => {
                Err(Fault::Refused(format!("it does not take the password that the vault has for {role}")))
            }
        }
    }

    async fn set(&self, connected: &Connected, candidate: &SecretBytes) -> Result<(), Fault> {
        let verifier = scram_sha_256(candidate.expose());
        let statement =
            format!("ALTER ROLE {} PASSWORD {}", escape_identifier(&self.role), escape_literal(&verifier));
        connected.client.batch_execute(&statement).await.map_err(|error| match error.as_db_error() {
            Some(said) if *said.code() == SqlState::INVALID_PARAMETER_VALUE => {
                Fault::Rejected(format!("it does not take the new password: {}", shown(said.message())))
            }
            Some(said) => Fault::Denied(format!("it did not change the password: {}", shown(said.message()))),
            None => Fault::Unsure("the connection broke off before it answered".into()),
        })
    }
}

#[async_trait]
impl Rotator for PostgresRole {
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError> {
        Ok(SecretBytes::from(&self.policy.generate(&self.role, entropy)?))
    }

    async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        fitting(&self.policy, candidate, &self.role)?;
        let connected = self.enter_or_fault(&self.role, current.expose()).await?;
        self.set(&connected, candidate).await
    }

    /// A server that lets everybody in (`trust` in `pg_hba.conf`) would take any password; so it is given a wrong one, too.
    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        if let Entry::Refused = self.enter(&self.role, secret.expose()).await? {
            return Ok(Verdict::Refused);
        }
        let wrong = self
            .policy
            .generate(&self.role, &SystemEntropy)
            .map_err(|e| Fault::Denied(format!("no password can be made to compare with: {e}")))?;
        match self.enter(&self.role, wrong.expose().as_bytes()).await? {
            Entry::Refused => Ok(Verdict::Opens),
            Entry::In(_) => Err(Fault::Denied(
                "the server lets this role in with any password; correct its pg_hba.conf (scram-sha-256)"
                    .into(),
            )),
        }
    }

    fn reconciles(&self) -> bool {
        self.helper.is_some()
    }

    async fn reconcile(&self, candidate: &SecretBytes) -> Result<(), Fault> {
        fitting(&self.policy, candidate, &self.role)?;
        let helper = self.helper.as_ref().ok_or_else(no_helper)?;
        let secret = helper.secret.secret().await?;
        let connected = self.enter_or_fault(&helper.role, secret.expose()).await.map_err(of_helper)?;
        self.set(&connected, candidate).await
    }
}

/// The statement holds no password, so nothing that the server says about it can.
fn shown(message: &str) -> String {
    words(message.as_bytes(), &[])
}

/// Wraps the stream once the server has agreed to TLS.
struct Tls {
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnect<TcpStream> for Tls {
    type Stream = Wrapped;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Wrapped>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let connector = tokio_rustls::TlsConnector::from(self.config);
            Ok(Wrapped(Box::new(connector.connect(self.name, stream).await?)))
        })
    }
}

struct Wrapped(Box<tokio_rustls::client::TlsStream<TcpStream>>);

impl TlsStream for Wrapped {
    /// The certificate is by an authority of the site's own, which is what binding to the channel would add.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Wrapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(self.0.as_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(self.0.as_mut()).poll_shutdown(cx)
    }
}
