//! The object store as the recorder uses it: small whole objects, each operation bounded in time.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error as StoreError, GetOptions, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, RetryConfig, aws::AmazonS3Builder, path::Path,
};
use std::{fmt, net::IpAddr, sync::Arc, time::Duration};
use zeroize::Zeroizing;

use super::{
    error::RemoteError,
    manifest::{KEYS, MANIFEST, object},
};
use crate::header::{Hash, RecordingId, to_hash};

/// How long an operation may take where nothing else is set.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// The object that [`RemoteStore::probe`] writes, reads and removes.
const PROBE: &str = "probe";

/// How to reach an S3-compatible store.
pub struct S3Settings {
    /// The bucket; it exists already.
    pub bucket: String,
    /// `https://HOST[:PORT]`; `http://` only for this machine itself. Absent: the region's own at AWS.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// What all names start with; may be empty.
    pub prefix: String,
    /// The access key's name.
    pub access_key: Zeroizing<String>,
    /// Its secret.
    pub secret_key: Zeroizing<String>,
    /// Certificates (PEM) of the only authorities that the server's certificate may come from. Absent: the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long one operation may take.
    pub timeout: Duration,
}

impl S3Settings {
    /// Why an endpoint cannot be used; `None` where it can.
    pub fn endpoint_fault(endpoint: &str) -> Option<&'static str> {
        match is_plain(endpoint) {
            None => Some("the endpoint starts with https://"),
            Some(true) if !is_loopback(endpoint) => {
                Some("http:// is taken only for this machine itself; use https://")
            }
            Some(_) => None,
        }
    }
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// A place in an object store that takes recordings; clones are the same place.
#[derive(Clone)]
pub struct RemoteStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    timeout: Duration,
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client inside would show its credentials.
        write!(f, "RemoteStore({:?})", self.prefix.as_ref())
    }
}

/// What became of an object that must not be there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It is stored.
    Stored,
    /// There is one of that name.
    Exists,
}

impl RemoteStore {
    /// Connects to nothing yet: see [`Self::probe`].
    ///
    /// # Errors
    /// [`RemoteError::Settings`] when the settings make no sense.
    pub fn s3(settings: &S3Settings) -> Result<Self, RemoteError> {
        let unusable = |why: &str| RemoteError::Settings(why.to_owned());
        let mut options = ClientOptions::new()
            .with_timeout(settings.timeout)
            .with_connect_timeout(CONNECT.min(settings.timeout));
        if let Some(pem) = &settings.ca_pem {
            let found = Certificate::from_pem_bundle(pem).ok().filter(|all| !all.is_empty());
            options = options.with_no_system_certificates(true);
            for certificate in
                found.ok_or_else(|| unusable("the CA file holds no certificate in PEM form"))?
            {
                options = options.with_root_certificate(certificate);
            }
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(settings.access_key.as_str())
            .with_secret_access_key(settings.secret_key.as_str())
            .with_retry(RetryConfig {
                // What fails for longer is tried again by the uploader, at its own pace.
                max_retries: 2,
                retry_timeout: settings.timeout,
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(100),
                    max_backoff: Duration::from_secs(2),
                    ..BackoffConfig::default()
                },
            });
        if let Some(endpoint) = &settings.endpoint {
            if let Some(fault) = S3Settings::endpoint_fault(endpoint) {
                return Err(unusable(fault));
            }
            options = options.with_allow_http(is_plain(endpoint) == Some(true));
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        // The library's own text may show what it was given.
        let client = builder
            .with_client_options(options)
            .build()
            .map_err(|_| unusable("bucket, endpoint or region"))?;
        let mut store = Self::on(Arc::new(client), &settings.prefix)?;
        store.timeout = settings.timeout;
        Ok(store)
    }

    /// On any store that the library knows.
    ///
    /// # Errors
    /// [`RemoteError::Settings`] when `prefix` cannot start a name.
    pub fn on(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, RemoteError> {
        let prefix = Path::parse(prefix.trim_matches('/')).map_err(|_| {
            RemoteError::Settings("the prefix holds characters that no object's name has".to_owned())
        })?;
        Ok(Self { store, prefix, timeout: PATIENCE })
    }

    /// The same place, with another bound on how long one operation may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Stores, lists, reads and removes a small object: everything that recording needs. `mark` tells apart those who
    /// probe at the same time.
    ///
    /// # Errors
    /// What failed first, with what to do about it.
    pub async fn probe(&self, mark: &str) -> Result<(), RemoteError> {
        let name = format!("{PROBE}-{mark}");
        let content = format!("cofferdam probe {mark}").into_bytes();
        self.put(&name, content.clone().into()).await?;
        self.list("").await?;
        let back = self.get(&name, content.len() as u64).await?;
        self.delete(&name).await?;
        if back == content { Ok(()) } else { Err(RemoteError::Altered { name, what: "another content" }) }
    }

    fn at(&self, name: &str) -> Path {
        self.prefix.parts().chain(Path::from(name).parts()).collect()
    }

    async fn bounded<T>(
        &self,
        what: &'static str,
        name: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, RemoteError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done.map_err(|e| RemoteError::of(&e, what, name)),
            Err(_) => Err(RemoteError::Unreachable("no answer in time")),
        }
    }

    /// Stores an object, whatever was there.
    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), RemoteError> {
        let location = self.at(name);
        let work = self.store.put_opts(&location, bytes.into(), PutOptions::default());
        self.bounded("store an object", name, work).await.map(|_| ())
    }

    /// Stores an object unless there is one of that name. Where the server cannot do that in one step, it is looked for
    /// first: names are this machine's own, so nobody comes in between.
    pub(super) async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Put, RemoteError> {
        let location = self.at(name);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let work = async {
            match self.store.put_opts(&location, bytes.clone().into(), options).await {
                Ok(_) => return Ok(Put::Stored),
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    return Ok(Put::Exists);
                }
                Err(e) if !cannot(&e) => return Err(e),
                Err(_) => {}
            }
            match self.store.head(&location).await {
                Ok(_) => Ok(Put::Exists),
                Err(StoreError::NotFound { .. }) => {
                    self.store.put_opts(&location, bytes.into(), PutOptions::default()).await?;
                    Ok(Put::Stored)
                }
                Err(e) => Err(e),
            }
        };
        self.bounded("store an object", name, work).await
    }

    /// A whole object of at most `max` bytes.
    pub(super) async fn get(&self, name: &str, max: u64) -> Result<Vec<u8>, RemoteError> {
        let mut all = Vec::new();
        self.read(name, max, |bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// Length and SHA-256 of an object of at most `max` bytes; `take` gets it piece by piece.
    pub(super) async fn read(
        &self,
        name: &str,
        max: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), RemoteError>,
    ) -> Result<(u64, Hash), RemoteError> {
        let location = self.at(name);
        let what = "read an object";
        let got = self.bounded(what, name, self.store.get_opts(&location, GetOptions::default())).await?;
        let mut stream = got.into_stream();
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut len = 0u64;
        while let Some(bytes) = self.bounded(what, name, stream.try_next()).await? {
            len += bytes.len() as u64;
            if len > max {
                return Err(RemoteError::Altered { name: name.to_owned(), what: "it is longer" });
            }
            digest.update(&bytes);
            take(&bytes)?;
        }
        Ok((len, to_hash(digest.finish().as_ref())))
    }

    /// Removes an object, where there is one.
    pub(super) async fn delete(&self, name: &str) -> Result<(), RemoteError> {
        let location = self.at(name);
        match self.bounded("remove an object", name, self.store.delete(&location)).await {
            Err(RemoteError::Missing(_)) => Ok(()),
            done => done,
        }
    }

    /// Names (behind `folder`) and lengths of the objects of a folder.
    pub(super) async fn objects(&self, folder: &str) -> Result<Vec<(String, u64)>, RemoteError> {
        let prefix = self.at(folder);
        let work = self.store.list(Some(&prefix)).try_collect::<Vec<_>>();
        let found = self.bounded("list objects", folder, work).await?;
        let name = |path: &Path| -> Option<String> {
            let rest: Vec<_> = path.prefix_match(&prefix)?.map(|p| p.as_ref().to_owned()).collect();
            Some(rest.join("/"))
        };
        Ok(found.iter().filter_map(|meta| Some((name(&meta.location)?, meta.size))).collect())
    }

    /// Deletes every object of a recording; `false`: there was none. The keys go first: what a failure leaves behind nobody
    /// can read. The manifest goes last, so that what is left can be deleted again.
    pub(super) async fn erase(&self, id: &RecordingId) -> Result<bool, RemoteError> {
        let names: Vec<String> = self.objects(id.as_str()).await?.into_iter().map(|(name, _)| name).collect();
        let rest = names.iter().map(String::as_str).filter(|name| ![KEYS, MANIFEST].contains(name));
        let all = std::iter::once(KEYS).chain(rest).chain([MANIFEST]);
        for name in all.filter(|_| !names.is_empty()) {
            self.delete(&object(id, name)).await?;
        }
        Ok(!names.is_empty())
    }

    /// The names of the folders in a folder.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<String>, RemoteError> {
        let prefix = self.at(folder);
        let work = self.store.list_with_delimiter(Some(&prefix));
        let found = self.bounded("list objects", folder, work).await?;
        Ok(found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }
}

/// Whether a server says that it cannot store conditionally.
fn cannot(error: &StoreError) -> bool {
    match error {
        StoreError::NotImplemented { .. } | StoreError::NotSupported { .. } => true,
        StoreError::Generic { .. } => {
            let text = error.to_string();
            text.contains("status code: 501") || text.contains("<Code>NotImplemented</Code>")
        }
        _ => false,
    }
}

fn is_plain(endpoint: &str) -> Option<bool> {
    if endpoint.starts_with("https://") {
        return Some(false);
    }
    endpoint.starts_with("http://").then_some(true)
}

/// Whether an address is this machine itself.
fn is_loopback(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: &str) -> S3Settings {
        S3Settings {
            bucket: "recordings".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            region: "us-east-1".to_owned(),
            prefix: "site/a".to_owned(),
            access_key: Zeroizing::new("AKIA-NAME".to_owned()),
            secret_key: Zeroizing::new("very-secret".to_owned()),
            ca_pem: None,
            timeout: PATIENCE,
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in ["https://s3.example", "http://127.0.0.1:9000", "http://[::1]:9000/", "http://localhost"]
        {
            assert!(RemoteStore::s3(&settings(good)).is_ok(), "{good}");
        }
        for bad in
            ["http://s3.example", "http://127.0.0.1.example:9000", "http://127.0.0.1@evil:1/", "ftp://x", ""]
        {
            assert!(matches!(RemoteStore::s3(&settings(bad)), Err(RemoteError::Settings(_))), "{bad}");
        }
    }

    #[test]
    fn nothing_that_is_printed_shows_the_keys() {
        let settings = settings("https://s3.example");
        let store = RemoteStore::s3(&settings).unwrap();
        for text in [format!("{settings:?}"), format!("{store:?}")] {
            assert!(!text.contains("AKIA-NAME") && !text.contains("very-secret"), "{text}");
        }
    }
}
