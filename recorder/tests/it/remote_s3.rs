//! The same with a real S3 server (moto) over its real protocol: what it refuses, and what happens when it goes away.

use crate::support::*;
use cofferdam_recorder::*;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

/// A server on loopback; ended when dropped.
struct S3Server {
    process: Child,
    endpoint: String,
    access_key: String,
    secret_key: String,
}

impl S3Server {
    fn start() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = std::env::var_os("COFFERDAM_TEST_PYTHON")
            .map_or_else(|| top.join("target/peers/venv/bin/python"), PathBuf::from);
        let mut process = Command::new(python)
            .arg(top.join("tests/peers/s3_server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("the S3 server did not start ({e}); run ./test"));
        let text = |key: &str| said[key].as_str().unwrap().to_owned();
        Self {
            endpoint: text("endpoint"),
            access_key: text("access_key"),
            secret_key: text("secret_key"),
            process,
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    fn settings(&self) -> S3Settings {
        S3Settings {
            bucket: "recordings".to_owned(),
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".to_owned(),
            prefix: "plant/a".to_owned(),
            access_key: Zeroizing::new(self.access_key.clone()),
            secret_key: Zeroizing::new(self.secret_key.clone()),
            ca_pem: None,
            timeout: Duration::from_secs(20),
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn uploader(service: &RecorderService, settings: &S3Settings) -> Uploader {
    let config = UploadConfig { part_bytes: 100_000, ..UploadConfig::default() };
    Uploader::new(service, RemoteStore::s3(settings).unwrap(), config, Arc::new(|| 0.5))
}

async fn record_some(service: &RecorderService, id: &str) -> Vec<u8> {
    let session = service.start(header(id)).await.unwrap();
    let mut sent = Vec::new();
    for n in 0u32..4 {
        // Hashes do not compress.
        let block: Vec<u8> =
            (0..2048u32).flat_map(|i| sha(&[n.to_le_bytes(), i.to_le_bytes()].concat())).collect();
        session.record(Event::Output { channel: 0, data: block.clone().into() }).await.unwrap();
        session.flush().await.unwrap();
        sent.extend(block);
    }
    session.finish(End::because("closed")).await.unwrap();
    sent
}

fn sha(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

async fn assert_archived(world: &World, settings: &S3Settings, id: &str, sent: &[u8]) {
    let archive = Archive::new(RemoteStore::s3(settings).unwrap(), world.dir.path().join("copies"), 1 << 30);
    let listed = archive.list().await.unwrap();
    assert!(listed.iter().any(|(found, archived)| found.as_str() == id && archived.is_ok()), "{listed:?}");
    let path = archive.fetch(&id.parse().unwrap()).await.unwrap();
    let mut recording = Recording::open(&path).unwrap();
    recording.unlock(&world.reader).unwrap();
    let events: Vec<_> = recording.events().unwrap().map(Result::unwrap).collect();
    assert!(all_output(&events) == sent);
    assert!(verify(&path, &world.signer.public_key(), &world.anchors()).unwrap().is_whole());
}

#[tokio::test]
async fn a_recording_goes_to_an_s3_server_and_comes_back_whole() {
    let (server, world) = (S3Server::start(), World::new());
    let settings = server.settings();
    RemoteStore::s3(&settings).unwrap().probe("test").await.unwrap();
    let service = world.service();
    let sent = record_some(&service, "r1").await;
    hold(&world.path("r1"), "case 7").unwrap();
    let round = uploader(&service, &settings).round().await;
    assert_eq!(round.finished.len(), 1, "{round:?}");
    assert!(!world.path("r1").exists());
    assert_archived(&world, &settings, "r1", &sent).await;
    let archive = Archive::new(RemoteStore::s3(&settings).unwrap(), world.dir.path().join("copies"), 1 << 30);
    let id = "r1".parse().unwrap();
    assert!(matches!(archive.delete(&id).await, Err(RemoteError::Held(_))));
    archive.lift_hold(&id).await.unwrap();
    archive.delete(&id).await.unwrap();
    assert!(archive.ids().await.unwrap().is_empty());
}

#[tokio::test]
async fn keys_that_are_wrong_are_named_and_never_repeated() {
    let server = S3Server::start();
    let mut wrong_secret = server.settings();
    wrong_secret.secret_key = Zeroizing::new("not-the-secret".to_owned());
    let mut unknown_key = server.settings();
    unknown_key.access_key = Zeroizing::new("AKIAUNKNOWN".to_owned());
    for settings in [wrong_secret, unknown_key] {
        let refused = RemoteStore::s3(&settings).unwrap().probe("test").await.unwrap_err();
        assert!(matches!(refused, RemoteError::Credentials(_)), "{refused:?}");
        for text in [refused.to_string(), format!("{refused:?}")] {
            assert!(text.contains("Invalid") || text.contains("Signature"), "{text}");
            let secrets = ["not-the-secret", "AKIAUNKNOWN", &server.access_key, &server.secret_key];
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
        }
    }
    let mut no_bucket = server.settings();
    no_bucket.bucket = "nobodys".to_owned();
    let refused = RemoteStore::s3(&no_bucket).unwrap().probe("test").await.unwrap_err();
    assert!(matches!(refused, RemoteError::NoBucket), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_hangs_and_then_dies_gets_everything_from_the_next_start_on() {
    let (server, world) = (S3Server::start(), World::new());
    let mut settings = server.settings();
    let service = world.service();
    let shipper = uploader(&service, &settings);
    let first = record_some(&service, "r1").await;
    assert_eq!(shipper.round().await.finished.len(), 1);
    assert_archived(&world, &settings, "r1", &first).await;

    settings.timeout = Duration::from_millis(300);
    let impatient = uploader(&service, &settings);
    let second = record_some(&service, "r2").await;
    server.signal(Signal::SIGSTOP);
    let round = impatient.round().await;
    assert!(
        matches!(round.failures[..], [(None, RemoteError::Unreachable("no answer in time"))]),
        "{round:?}"
    );
    server.signal(Signal::SIGCONT);
    drop(server);
    let round = impatient.round().await;
    assert!(matches!(round.failures[..], [(None, RemoteError::Unreachable(_))]), "{round:?}");
    assert!(world.verify("r2").is_whole());
    drop((shipper, impatient, service));

    let server = S3Server::start();
    let service = world.service();
    assert!(service.recover().is_empty());
    assert_eq!(uploader(&service, &server.settings()).round().await.finished.len(), 1);
    assert_archived(&world, &server.settings(), "r2", &second).await;
}

/// Answers every request with a failure whose text shows what it was sent.
fn failing_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = vec![0; 8192];
                while let Ok(n @ 1..) = stream.read(&mut request) {
                    let body = String::from_utf8_lossy(&request[..n]).into_owned();
                    let head = format!(
                        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_server_that_fails_is_told_by_its_status_and_its_words_are_not_repeated() {
    let server = S3Server::start();
    let mut settings = server.settings();
    settings.endpoint = Some(failing_server());
    let world = World::new();
    let service = world.service();
    record_some(&service, "r1").await;
    let round = uploader(&service, &settings).round().await;
    let [(None, failed)] = &round.failures[..] else { panic!("{round:?}") };
    assert!(matches!(failed, RemoteError::Failed { code, .. } if code == "500"), "{failed:?}");
    for text in [failed.to_string(), format!("{round:?}")] {
        assert!(!text.contains(&server.access_key) && !text.contains("Authorization"), "{text}");
    }
    assert!(world.path("r1").exists());
}

#[tokio::test]
async fn the_thread_ships_until_it_is_dropped() {
    let (server, world) = (S3Server::start(), World::new());
    let service = world.service();
    let thread = UploaderThread::start(uploader(&service, &server.settings())).unwrap();
    let sent = record_some(&service, "r1").await;
    while world.path("r1").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(service.health().backlog.is_some());
    assert_archived(&world, &server.settings(), "r1", &sent).await;
    server.signal(Signal::SIGSTOP);
    record_some(&service, "r2").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    // Dropped in the middle of a request that is never answered, it still ends.
    drop(thread);
    server.signal(Signal::SIGCONT);
    assert!(world.verify("r2").is_whole());
}
