//! TLS: the site's own certificate by file, taken anew when the file changes, or one of an authority made at first start.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use cofferdam_access::clock::{SharedClock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::NoServerSessionStorage,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A certificate that ends within so long is spoken of, seconds: 30 days.
pub const ENDS_SOON: i64 = 30 * DAY;
const DAY: i64 = 86_400;

/// Why there is no TLS. The operator's, all of them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what should be there.
        what: String,
    },
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// Certificate and key do not fit.
    #[error("certificate and key cannot be used together: {0}; name a certificate chain and its own key")]
    Fit(#[from] rustls::Error),
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificates {
    chain_file: PathBuf,
    key_file: PathBuf,
    current: RwLock<Current>,
}

/// What is served, and until when browsers take it.
#[derive(Debug, Clone)]
struct Current {
    config: Arc<ServerConfig>,
    served: Arc<Served>,
    ends: Timestamp,
}

/// The certificate in use, for another protocol than HTTP: all of one moment.
#[derive(Debug)]
pub struct Served {
    /// Without resumption and protocol names.
    pub config: Arc<ServerConfig>,
    /// The certificate itself, DER.
    pub certificate: Vec<u8>,
    /// The certificate's SubjectPublicKeyInfo (RFC 5280 §4.1), DER.
    pub public_key_info: Vec<u8>,
    /// The key in it: the content of its bit string.
    pub public_key: Vec<u8>,
}

impl Certificates {
    /// Reads chain and key (PEM).
    ///
    /// # Errors
    /// When they cannot be read, or do not fit each other.
    pub fn load(chain_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let current = read(chain_file, key_file)?;
        Ok(Self {
            chain_file: chain_file.to_owned(),
            key_file: key_file.to_owned(),
            current: RwLock::new(current),
        })
    }

    /// What new connections are served with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// The same certificate for another protocol than HTTP.
    pub fn served(&self) -> Arc<Served> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).served.clone()
    }

    /// When the certificate in use ends; browsers refuse it from then on.
    pub fn ends(&self) -> Timestamp {
        self.current.read().unwrap_or_else(PoisonError::into_inner).ends
    }

    /// The file that holds it, for whoever has to replace it.
    pub fn chain_file(&self) -> &Path {
        &self.chain_file
    }

    /// Takes the files anew whenever they change, until `stop`. Files that cannot be used are reported, and the certificate
    /// of before stays. One that ends soon is spoken of once a day.
    pub async fn follow(self: Arc<Self>, clock: SharedClock, stop: CancellationToken) {
        let mut before = self.stamp();
        let mut warned: Option<Timestamp> = None;
        loop {
            let now = clock.now();
            let left = self.ends().since(now) / 1_000_000;
            if left < ENDS_SOON && warned.is_none_or(|at| now.since(at) >= DAY * 1_000_000) {
                warned = Some(now);
                let (file, days) = (self.chain_file.display(), left.div_euclid(DAY));
                tracing::warn!(%file, days, "the web interface's certificate ends soon: put another pair in place");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = self.stamp();
            if now == before {
                continue;
            }
            before = now;
            match read(&self.chain_file, &self.key_file) {
                Ok(current) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
                    warned = None;
                    tracing::info!("the web interface's certificate was taken anew");
                }
                Err(e) => {
                    tracing::error!(error = %e, "the web interface's new certificate cannot be used; the one of before stays")
                }
            }
        }
    }

    /// What changes when a file is replaced: when and how long.
    fn stamp(&self) -> Vec<Option<(std::time::SystemTime, u64)>> {
        [&self.chain_file, &self.key_file]
            .into_iter()
            .map(|path| {
                let meta = fs::metadata(path).ok()?;
                Some((meta.modified().ok()?, meta.len()))
            })
            .collect()
    }
}

fn read(chain_file: &Path, key_file: &Path) -> Result<Current, TlsError> {
    let content = |path: &Path, what: String| TlsError::Content { path: path.to_owned(), what };
    let text =
        fs::read(chain_file).map_err(|source| TlsError::File { path: chain_file.to_owned(), source })?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| content(chain_file, format!("not a certificate chain in PEM ({e})")))?;
    let Some(own) = chain.first() else {
        return Err(content(chain_file, "holds no certificate: name a chain in PEM".into()));
    };
    let (_, parsed) = x509_parser::parse_x509_certificate(own)
        .map_err(|e| content(chain_file, format!("its first certificate cannot be read ({e})")))?;
    let ends = Timestamp::from_seconds(parsed.validity().not_after.timestamp());
    let certificate = own.to_vec();
    let public_key_info = parsed.public_key().raw.to_vec();
    let public_key = parsed.public_key().subject_public_key.data.to_vec();
    let text = Zeroizing::new(
        fs::read(key_file).map_err(|source| TlsError::File { path: key_file.to_owned(), source })?,
    );
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|e| content(key_file, format!("not a private key in PEM ({e})")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let mut bare = config.clone();
    bare.session_storage = Arc::new(NoServerSessionStorage {});
    bare.send_tls13_tickets = 0;
    let served = Arc::new(Served { config: Arc::new(bare), certificate, public_key_info, public_key });
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Current { config: Arc::new(config), served, ends })
}

/// Makes an authority, has it sign one certificate for `hosts`, and throws its key away: nobody can ever sign another with
/// it, so that trusting it trusts this gateway alone. Answers the authority's, the chain's and the key's PEM.
///
/// # Errors
/// When a name is none.
pub fn make_authority(
    site: &str,
    hosts: &[String],
    now_seconds: i64,
) -> Result<(String, String, Zeroizing<String>), TlsError> {
    let from = moment(now_seconds - 86_400);
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name = named(&format!("Cofferdam {site}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.not_before = from;
    ca.not_after = moment(now_seconds + 10 * 365 * 86_400);
    let authority = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = named(hosts.first().map_or("localhost", String::as_str));
    for host in hosts {
        leaf.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.not_before = from;
    // Clients refuse longer ones.
    leaf.not_after = moment(now_seconds + 397 * 86_400);
    let leaf = leaf.signed_by(&key, &issuer)?;
    let chain = format!("{}{}", leaf.pem(), authority.pem());
    Ok((authority.pem(), chain, Zeroizing::new(key.serialize_pem())))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    names
}

fn moment(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_authority_made_can_be_served_and_a_wrong_pair_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let hosts = ["gw.example".to_owned(), "127.0.0.1".to_owned()];
        let (ca, chain, key) = make_authority("North", &hosts, 1_795_600_000).unwrap();
        assert!(ca.contains("BEGIN CERTIFICATE") && chain.contains(&ca));
        let (chain, key) = (file("chain.pem", &chain), file("key.pem", &key));
        let served = Certificates::load(&chain, &key).unwrap();
        assert_eq!(served.ends(), Timestamp::from_seconds(1_795_600_000 + 397 * DAY));
        let (_, other, _) = make_authority("North", &hosts, 1_795_600_000).unwrap();
        let other = file("other.pem", &other);
        assert!(matches!(Certificates::load(&other, &key), Err(TlsError::Fit(_))));
        let empty = file("empty.pem", "");
        assert!(matches!(Certificates::load(&empty, &key), Err(TlsError::Content { .. })));
    }
}
