//! The sections of the configuration file, as types.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::StoreUrl;

/// The whole configuration of one gateway process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which site this gateway guards.
    pub(crate) site: Site,
    /// The SSH listener.
    pub(crate) ssh: Ssh,
    /// The web interface; absent: there is none.
    #[serde(default)]
    pub(crate) web: Option<Web>,
    /// Desktops; absent: none are served.
    #[serde(default)]
    pub(crate) rdp: Option<Rdp>,
    /// E-mail to people; absent: none is sent.
    #[serde(default)]
    pub(crate) mail: Option<Mail>,
    /// A program that is told; absent: none is.
    #[serde(default)]
    pub(crate) webhook: Option<Webhook>,
    /// The database.
    #[serde(default)]
    pub(crate) store: Store,
    /// The signed log.
    pub(crate) audit: Audit,
    /// Recordings of sessions.
    pub(crate) recordings: Recordings,
    /// Where finished recordings go; absent: they stay in their folder.
    #[serde(default)]
    pub(crate) s3: Option<S3>,
    /// What reads the text on recorded desktops; absent: nothing does.
    #[serde(default)]
    pub(crate) ocr: Option<Ocr>,
    /// Keys that seal secrets and sign certificates.
    pub(crate) vault: Vault,
    /// Bounds on what one process carries.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// The process itself.
    #[serde(default)]
    pub(crate) run: Run,
    /// What weakens the gateway on purpose.
    #[serde(default)]
    pub(crate) dangerous: Dangerous,
}

/// `[site]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Site {
    /// The site's name, shown to people and written into recordings and certificates.
    pub(crate) name: String,
    /// This process's name among several that share one database; sessions of a crashed node are closed by it.
    #[serde(default = "default_node")]
    pub(crate) node: String,
}

/// `[ssh]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ssh {
    /// Address and port to listen on.
    #[serde(default = "default_ssh_listen")]
    pub(crate) listen: SocketAddr,
    /// The gateway's own private host keys (secret files).
    pub(crate) host_key_files: Vec<PathBuf>,
    /// Text shown before log-in (RFC 4252 §5.4); empty: none.
    #[serde(default)]
    pub(crate) banner: String,
    /// Connections at once, logged in or not.
    #[serde(default = "default_max_connections")]
    pub(crate) max_connections: u32,
    /// Connections at once from one source address.
    #[serde(default = "default_max_connections_per_source")]
    pub(crate) max_connections_per_source: u32,
    /// Time from accepting a connection to a finished log-in, seconds.
    #[serde(default = "default_login_grace_seconds")]
    pub(crate) login_grace_seconds: u32,
    /// Public keys of certificate authorities whose user certificates count as a first factor.
    #[serde(default)]
    pub(crate) trusted_user_ca_files: Vec<PathBuf>,
}

/// `[web]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Web {
    /// Address and port to listen on, TLS only.
    #[serde(default = "default_web_listen")]
    pub(crate) listen: SocketAddr,
    /// Where people reach it: `https://HOST[:PORT]/`. Links lead there, and passkeys are bound to its host.
    pub(crate) public_url: url::Url,
    /// The certificate chain (PEM); taken anew when it changes.
    pub(crate) certificate_file: PathBuf,
    /// Its private key (secret file).
    pub(crate) key_file: PathBuf,
    /// Address and port that lead people who come without TLS to `public_url`; absent: none.
    #[serde(default)]
    pub(crate) redirect_listen: Option<SocketAddr>,
    /// `HOST[:PORT]` that pages tell people to use for SSH; absent: the host of `public_url` with the port of `ssh.listen`.
    #[serde(default)]
    pub(crate) ssh_address: Option<String>,
    /// A log-in that nobody uses for so long is over, seconds.
    #[serde(default = "default_web_idle_seconds")]
    pub(crate) idle_seconds: u32,
    /// A log-in is over after so long whatever happens, seconds.
    #[serde(default = "default_web_session_seconds")]
    pub(crate) session_seconds: u32,
    /// Connections at once.
    #[serde(default = "default_web_connections")]
    pub(crate) max_connections: u32,
}

/// `[rdp]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rdp {
    /// Address and port to listen on.
    #[serde(default = "default_rdp_listen")]
    pub(crate) listen: SocketAddr,
    /// The certificate chain (PEM) that clients are shown; absent: that of `[web]`. Taken anew when it changes.
    #[serde(default)]
    pub(crate) certificate_file: Option<PathBuf>,
    /// Its private key (secret file).
    #[serde(default)]
    pub(crate) key_file: Option<PathBuf>,
    /// `HOST[:PORT]` that people are told to connect to; absent: the host of `web.public_url` with the port of `listen`.
    #[serde(default)]
    pub(crate) address: Option<String>,
    /// Connections at once, logged in or not.
    #[serde(default = "default_rdp_connections")]
    pub(crate) max_connections: u32,
    /// Connections at once from one source address that have not logged in.
    #[serde(default = "default_rdp_connections_per_source")]
    pub(crate) max_connections_per_source: u32,
    /// Time from accepting a connection to a finished log-in, seconds.
    #[serde(default = "default_login_grace_seconds")]
    pub(crate) login_grace_seconds: u32,
    /// Clients that offer TLS and no NLA may log in, by `PASSWORD,CODE` or a token.
    #[serde(default)]
    pub(crate) allow_without_nla: bool,
}

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MailProtection {
    /// TLS from the first byte.
    Tls,
    /// TLS by STARTTLS, or nothing is sent.
    Starttls,
    /// None: only to this machine itself.
    None,
}

/// `[mail]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mail {
    /// The server's host name.
    pub(crate) host: String,
    /// Its port.
    #[serde(default = "default_mail_port")]
    pub(crate) port: u16,
    /// How the connection is protected.
    #[serde(default = "default_mail_protection")]
    pub(crate) protection: MailProtection,
    /// The sender's address.
    pub(crate) from: String,
    /// The name at the server, where it asks for one.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// The password at the server (secret file).
    #[serde(default)]
    pub(crate) password_file: Option<PathBuf>,
    /// The only authorities that the server's certificate may come from (PEM).
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
}

/// `[webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// Where messages are posted.
    pub(crate) url: url::Url,
    /// The key that signs them (secret file).
    pub(crate) secret_file: PathBuf,
    /// The only authorities that the receiver's certificate may come from (PEM).
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
}

/// `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    /// Which database.
    pub(crate) url: StoreUrl,
    /// The database's password (secret file); PostgreSQL only.
    pub(crate) password_file: Option<PathBuf>,
}

/// `[audit]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Audit {
    /// The Ed25519 key that signs audit entries and recordings' checkpoints (secret file).
    pub(crate) signing_key_file: PathBuf,
    /// Where signed checkpoints of the audit chain are appended, outside the database.
    #[serde(default = "default_checkpoint_file")]
    pub(crate) checkpoint_file: PathBuf,
}

/// `[recordings]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recordings {
    /// The folder of recordings.
    #[serde(default = "default_recordings_dir")]
    pub(crate) dir: PathBuf,
    /// age X25519 recipients (`age1…`) that can read every recording: investigators and escrow.
    pub(crate) recipients: Vec<String>,
    /// Those who may also read masked input (what was typed while echo was off); none: it is not kept.
    #[serde(default)]
    pub(crate) reveal_recipients: Vec<String>,
    /// age identity with which this process may read recordings, for replay and search (secret file).
    #[serde(default)]
    pub(crate) replay_identity_file: Option<PathBuf>,
    /// New sessions are refused when the folder's file system has less than this free, bytes.
    #[serde(default = "default_min_free_bytes")]
    pub(crate) min_free_bytes: u64,
    /// Below so much free space an alarm goes to the log, the audit log and `doctor`, bytes.
    #[serde(default = "default_warn_free_bytes")]
    pub(crate) warn_free_bytes: u64,
    /// How long sessions stand still when a recording cannot be written, before they end, seconds.
    #[serde(default = "default_freeze_seconds")]
    pub(crate) freeze_seconds: u32,
    /// How much recorded data may wait for the disk, bytes, all sessions together.
    #[serde(default = "default_queue_bytes")]
    pub(crate) queue_bytes: u64,
}

/// `[s3]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3 {
    /// The bucket.
    pub(crate) bucket: String,
    /// `https://HOST[:PORT]`; absent: the region's own at AWS.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    /// The region that requests are signed for.
    #[serde(default = "default_region")]
    pub(crate) region: String,
    /// What all names start with.
    #[serde(default)]
    pub(crate) prefix: String,
    /// The access key's name (secret file).
    pub(crate) access_key_file: PathBuf,
    /// The access key's secret (secret file).
    pub(crate) secret_key_file: PathBuf,
    /// The only authorities that the server's certificate may come from (PEM).
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// How much may wait for the store, bytes, before sessions stand still.
    #[serde(default = "default_spool_bytes")]
    pub(crate) spool_bytes: u64,
    /// A part is stored once it has so many bytes …
    #[serde(default = "default_part_bytes")]
    pub(crate) part_bytes: u64,
    /// … or is so old, seconds.
    #[serde(default = "default_part_seconds")]
    pub(crate) part_seconds: u32,
    /// How long the store may take for one operation, seconds.
    #[serde(default = "default_timeout_seconds")]
    pub(crate) timeout_seconds: u32,
    /// How much of what was fetched for reading is kept, bytes.
    #[serde(default = "default_cache_bytes")]
    pub(crate) cache_bytes: u64,
}

/// `[ocr]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ocr {
    /// Tesseract's whole path.
    #[serde(default = "default_ocr_program")]
    pub(crate) program: PathBuf,
    /// What the text is written in, by Tesseract's names.
    #[serde(default = "default_ocr_languages")]
    pub(crate) languages: Vec<String>,
    /// Pictures of one recording are at least so far apart, seconds.
    #[serde(default = "default_ocr_every_seconds")]
    pub(crate) every_seconds: u32,
    /// Most pictures of one recording.
    #[serde(default = "default_ocr_max_pictures")]
    pub(crate) max_pictures: u32,
}

/// `[vault]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vault {
    /// The root of the vault's keys (secret file): an age identity, one that a passphrase opens, or one that a token does.
    pub(crate) identity_file: PathBuf,
    /// What opens the vault when it starts; `credential` where `identity_credential` is set, else `file`.
    #[serde(default)]
    unseal: Option<Unseal>,
    /// Private key of the CA that signs user certificates for one session (secret file).
    pub(crate) ssh_user_ca_file: PathBuf,
    /// Private key of the CA that signs the host certificates shown to `ssh -J` (secret file).
    pub(crate) ssh_host_ca_file: PathBuf,
    /// The identity comes from this credential of systemd, and `identity_file` is not read.
    #[serde(default)]
    pub(crate) identity_credential: Option<String>,
    /// The PKCS#11 token whose key opens `identity_file`.
    #[serde(default)]
    pub(crate) token: Option<TokenKey>,
    /// How long a share of the root waits for the others, seconds.
    #[serde(default = "default_share_seconds")]
    pub(crate) share_seconds: u32,
    /// Whether shares and the passphrase may be typed in a browser, too.
    #[serde(default)]
    pub(crate) unseal_over_web: bool,
    /// Where `cofferdam vault unseal` and the like reach the running vault; its folder is nobody else's.
    #[serde(default)]
    operator_socket: Option<PathBuf>,
    /// The user that the vault process runs as when the gateway is started as root; that of the gateway if not given.
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// Folder with the executables that rotate what the vault does not know itself.
    #[serde(default)]
    pub(crate) plugins_dir: Option<PathBuf>,
    /// Who can open break-glass envelopes (`age1…`).
    #[serde(default)]
    pub(crate) break_glass_recipients: Vec<String>,
}

/// What opens the vault when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unseal {
    /// `identity_file` as it is.
    File,
    /// `identity_credential` of systemd.
    Credential,
    /// `identity_file`, opened by the token's key.
    Token,
    /// `identity_file`, opened by a passphrase that somebody types.
    Passphrase,
    /// Shares of the root, which several people give.
    Shares,
}

impl Unseal {
    /// Whether somebody has to be there.
    pub(crate) fn needs_a_person(self) -> bool {
        matches!(self, Self::Passphrase | Self::Shares)
    }
}

/// `vault.token`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenKey {
    /// The module: a shared library, by its whole path.
    pub(crate) module: PathBuf,
    /// The token's label.
    pub(crate) label: String,
    /// The key's label.
    pub(crate) key: String,
    /// The file with the PIN (secret file).
    pub(crate) pin_file: PathBuf,
}

impl Vault {
    /// What opens the vault.
    pub(crate) fn unseal(&self) -> Unseal {
        let by_default = if self.identity_credential.is_some() { Unseal::Credential } else { Unseal::File };
        self.unseal.unwrap_or(by_default)
    }

    /// The same, as written; for the check of what contradicts it.
    pub(super) fn unseal_as_written(&self) -> Option<Unseal> {
        self.unseal
    }

    /// Where operators reach the running vault.
    pub(crate) fn operator_socket(&self) -> &Path {
        self.operator_socket.as_deref().unwrap_or(Path::new("/run/cofferdam/vault"))
    }
}

/// `[limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Sessions at once.
    pub(crate) max_sessions: u32,
    /// Sessions at once of one person.
    pub(crate) max_sessions_per_user: u32,
    /// Channels at once on one connection.
    pub(crate) max_channels_per_session: u32,
    /// Attempts to log in on one connection.
    pub(crate) login_attempts: u32,
    /// How long a target may take to answer the dial and its log-in, seconds.
    pub(crate) dial_timeout_seconds: u32,
}

/// `[run]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Run {
    /// The user to become after the sockets are open, when started as root.
    pub(crate) user: Option<String>,
    /// The group to become; the user's own group if not given.
    pub(crate) group: Option<String>,
    /// How long sessions may go on after an orderly stop was asked for, seconds.
    pub(crate) shutdown_seconds: u32,
}

/// `[dangerous]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dangerous {
    /// Targets may be on this machine itself; for the demo and tests only.
    pub(crate) allow_loopback_targets: bool,
}

fn default_node() -> String {
    "gateway".to_owned()
}
fn default_ssh_listen() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 2222))
}
fn default_mail_port() -> u16 {
    465
}
fn default_mail_protection() -> MailProtection {
    MailProtection::Tls
}
fn default_web_listen() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8443))
}
fn default_web_idle_seconds() -> u32 {
    1800
}
fn default_web_session_seconds() -> u32 {
    36_000
}
fn default_web_connections() -> u32 {
    2000
}
fn default_rdp_listen() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 3389))
}
fn default_rdp_connections() -> u32 {
    200
}
fn default_rdp_connections_per_source() -> u32 {
    16
}
fn default_max_connections() -> u32 {
    1000
}
fn default_max_connections_per_source() -> u32 {
    64
}
fn default_login_grace_seconds() -> u32 {
    60
}
fn default_checkpoint_file() -> PathBuf {
    "audit.checkpoints".into()
}
fn default_recordings_dir() -> PathBuf {
    "recordings".into()
}
fn default_min_free_bytes() -> u64 {
    1 << 30
}
fn default_warn_free_bytes() -> u64 {
    4 << 30
}
fn default_freeze_seconds() -> u32 {
    20
}
fn default_queue_bytes() -> u64 {
    64 << 20
}
fn default_region() -> String {
    "us-east-1".to_owned()
}
fn default_spool_bytes() -> u64 {
    10 << 30
}
fn default_part_bytes() -> u64 {
    4 << 20
}
fn default_part_seconds() -> u32 {
    60
}
fn default_timeout_seconds() -> u32 {
    60
}
fn default_ocr_program() -> PathBuf {
    "/usr/bin/tesseract".into()
}
fn default_ocr_languages() -> Vec<String> {
    vec!["eng".to_owned()]
}
fn default_ocr_every_seconds() -> u32 {
    10
}
fn default_ocr_max_pictures() -> u32 {
    2000
}
fn default_share_seconds() -> u32 {
    600
}
fn default_cache_bytes() -> u64 {
    4 << 30
}

impl Default for Store {
    fn default() -> Self {
        Self { url: StoreUrl::Sqlite("cofferdam.sqlite".into()), password_file: None }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 500,
            max_sessions_per_user: 20,
            max_channels_per_session: 32,
            login_attempts: 6,
            dial_timeout_seconds: 10,
        }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { user: None, group: None, shutdown_seconds: 30 }
    }
}

impl Config {
    /// Makes every path absolute, starting at `folder`.
    pub(super) fn resolve_paths(&mut self, folder: &Path) {
        let singles = [
            &mut self.audit.signing_key_file,
            &mut self.audit.checkpoint_file,
            &mut self.recordings.dir,
            &mut self.vault.identity_file,
            &mut self.vault.ssh_user_ca_file,
            &mut self.vault.ssh_host_ca_file,
        ];
        // Beside the configuration, where nothing else is said: several gateways of one machine do not meet.
        self.vault.operator_socket.get_or_insert_with(|| "vault-socket/operate".into());
        let optional = [
            &mut self.vault.operator_socket,
            &mut self.store.password_file,
            &mut self.recordings.replay_identity_file,
            &mut self.vault.plugins_dir,
        ];
        let token = self.vault.token.iter_mut().flat_map(|t| [&mut t.module, &mut t.pin_file]);
        let s3 = self.s3.iter_mut().flat_map(|s3| {
            [&mut s3.access_key_file, &mut s3.secret_key_file].into_iter().chain(s3.ca_file.as_mut())
        });
        let web = self.web.iter_mut().flat_map(|web| [&mut web.certificate_file, &mut web.key_file]);
        let rdp =
            self.rdp.iter_mut().flat_map(|rdp| rdp.certificate_file.iter_mut().chain(&mut rdp.key_file));
        let mail = self.mail.iter_mut().flat_map(|m| m.password_file.iter_mut().chain(&mut m.ca_file));
        let hook =
            self.webhook.iter_mut().flat_map(|h| std::iter::once(&mut h.secret_file).chain(&mut h.ca_file));
        let sqlite = match &mut self.store.url {
            StoreUrl::Sqlite(path) => Some(path),
            StoreUrl::Postgres(_) => None,
        };
        let all = singles
            .into_iter()
            .chain(optional.into_iter().filter_map(Option::as_mut))
            .chain(&mut self.ssh.host_key_files)
            .chain(&mut self.ssh.trusted_user_ca_files)
            .chain(token)
            .chain(s3)
            .chain(web)
            .chain(rdp)
            .chain(mail)
            .chain(hook)
            .chain(self.ocr.iter_mut().map(|ocr| &mut ocr.program))
            .chain(sqlite);
        for path in all {
            *path = folder.join(&*path);
        }
    }
}
