//! The host as a client sees it, over a real socket.

use std::sync::Arc;

use cofferdam_vault::{CertificateTerms, SshCa, SystemEntropy, Warrant};
use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{ChannelMsg, Sig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Auth, PumpHmi, serve};

/// The library checks a certificate's time by the machine's clock, whatever the host's own says.
fn now() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap()
}

struct Client;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

struct Paper(&'static str, i64);

impl Warrant for Paper {
    fn account_id(&self) -> &str {
        "acc-1"
    }
    fn session_id(&self) -> &str {
        "s-1"
    }
    fn user_name(&self) -> &str {
        "vera"
    }
    fn login_name(&self) -> &str {
        self.0
    }
    fn not_after(&self) -> i64 {
        self.1
    }
}

/// A running host: its root trusts `authority` and has the password `old`.
struct Running {
    address: std::net::SocketAddr,
    authority: SshCa,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<()>,
    _disk: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        let disk = tempfile::tempdir().unwrap();
        let authority = SshCa::generate(Arc::new(SystemEntropy)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (host_key, _) = authority
            .issue_user(&Paper("x", now() + 60_000_000), &CertificateTerms::default(), now())
            .unwrap();
        let config = PumpHmi {
            host_key,
            accounts: vec![
                ("root".into(), Auth::Password("old".into())),
                ("root".into(), Auth::TrustedCa(authority.user_public_key().clone())),
            ],
            root: disk.path().to_owned(),
            clock: Arc::new(now),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let done = tokio::spawn(async move { serve(listener, config, stopped).await.unwrap() });
        Self { address, authority, stop, done, _disk: disk }
    }

    async fn client(&self) -> Handle<Client> {
        client::connect(Arc::new(client::Config::default()), self.address, Client).await.unwrap()
    }

    async fn logged_in(&self) -> Handle<Client> {
        let mut client = self.client().await;
        assert!(client.authenticate_password("root", "old").await.unwrap().success());
        client
    }

    async fn certificate_admits(&self, principal: &'static str, issued: i64) -> bool {
        let paper = Paper(principal, issued + 60_000_000);
        let (key, certificate) =
            self.authority.issue_user(&paper, &CertificateTerms::default(), issued).unwrap();
        let mut client = self.client().await;
        client.authenticate_openssh_cert("root", Arc::new(key), certificate).await.unwrap().success()
    }
}

#[tokio::test]
async fn only_the_right_proof_logs_in() {
    let host = Running::start().await;
    assert!(!host.client().await.authenticate_password("root", "wrong").await.unwrap().success());
    assert!(!host.client().await.authenticate_password("nobody", "old").await.unwrap().success());
    assert!(host.certificate_admits("root", now()).await);
    assert!(!host.certificate_admits("operator", now()).await, "another login's certificate");
    assert!(!host.certificate_admits("root", now() - 120_000_000).await, "a certificate that has ended");
    assert!(!host.certificate_admits("root", now() + 120_000_000).await, "a certificate that has not begun");
}

#[tokio::test]
async fn a_command_reports_its_streams_and_status_apart() {
    let host = Running::start().await;
    let client = host.logged_in().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "hostname; echo oops >&2; exit 7").await.unwrap();
    let (mut out, mut err, mut status) = (Vec::new(), Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => out.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, ext: 1 } => err.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    assert_eq!((out.as_slice(), err.as_slice(), status), (&b"pump-hmi\n"[..], &b"oops\n"[..], Some(7)));
}

#[tokio::test]
async fn a_signal_ends_the_command_and_is_reported() {
    let host = Running::start().await;
    let client = host.logged_in().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "echo ready; sleep 3000").await.unwrap();
    let mut ended = None;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { .. } => channel.signal(Sig::TERM).await.unwrap(),
            ChannelMsg::ExitSignal { signal_name, .. } => ended = Some(signal_name),
            _ => {}
        }
    }
    assert!(matches!(ended, Some(Sig::TERM)), "{ended:?}");
}

#[tokio::test]
async fn a_port_is_forwarded_to_the_page_and_nowhere_else() {
    let host = Running::start().await;
    let client = host.logged_in().await;
    for (name, port) in [("127.0.0.1", 22), ("10.0.0.1", 8080), ("example.org", 80)] {
        assert!(client.channel_open_direct_tcpip(name, port, "127.0.0.1", 1).await.is_err(), "{name}:{port}");
    }
    let mut channel = client.channel_open_direct_tcpip("127.0.0.1", 8080, "127.0.0.1", 1).await.unwrap();
    channel.data(&b"GET / HTTP/1.1\r\n\r\n"[..]).await.unwrap();
    let mut page = Vec::new();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => page.extend_from_slice(&data),
            ChannelMsg::Eof | ChannelMsg::Close => break,
            _ => {}
        }
    }
    assert!(String::from_utf8_lossy(&page).contains("P-101 running"));
}

#[tokio::test]
async fn stopping_the_host_ends_its_connections() {
    let host = Running::start().await;
    let client = host.logged_in().await;
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "sleep 3000").await.unwrap();
    host.stop.cancel();
    host.done.await.unwrap();
    while channel.wait().await.is_some() {}
}
