//! Messages against a mail server and a listener that answer as they are told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use cofferdam_access::{
    apply::CheckedSite,
    audit::{Act, AuditKind, AuditSigner},
    clock::{ManualClock, Timestamp},
    ids::{FindingId, Name, SessionId, WindowId},
    people::Duty,
    site::Site,
    store::{AuditFilter, Database, FindingRecord, Store},
    window::{Limits, Operation, WindowRequest},
    windowing,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_795_600_000);
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const SITE: &str = r#"
settings = { time_zone = "Europe/Berlin" }
organisations = [{ name = "plant", kind = "plant" }, { name = "acme", kind = "vendor" }]
users = [
    { name = "vera", full_name = "Vera Vendor", email = "vera@acme.example", organisation = "acme", duties = ["vendor"] },
    { name = "olga", email = "olga@plant.example", organisation = "plant", duties = ["operations"] },
    { name = "sam", email = "sam@plant.example", organisation = "plant", duties = ["security"] },
    { name = "otto", organisation = "plant", duties = ["operations"] },
]
zones = [{ name = "remote", networks = ["127.0.0.0/8"] }, { name = "cell-1" }]
conduits = [{ name = "c", from = "remote", to = "cell-1", protocols = ["ssh"] }]
assets = [{ name = "pump-hmi", zone = "cell-1", address = "127.0.0.1", endpoints = [{ protocol = "ssh", port = 22 }] }]
accounts = [{ asset = "pump-hmi", login = "operator", credential = "password" }]
"#;

struct Signer(Ed25519KeyPair);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl AuditSigner for Signer {
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
    fn key_id(&self) -> &str {
        "test"
    }
    fn public_key(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }
}

struct Desk {
    store: Store,
    site: Site,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("store.db"));
        Store::migrate(&database, NOW).await.unwrap();
        let signer = Arc::new(Signer(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()));
        let store = Store::open(&database, signer, None).await.unwrap();
        let wanted = CheckedSite::new(toml::from_str(SITE).unwrap(), &|_| Ok(())).unwrap();
        let plan = store.plan_site(&wanted).await.unwrap();
        store.apply_site(&Act::system("test", NOW), &wanted, &plan).await.unwrap();
        let site = store.site().await.unwrap();
        Self { store, site, clock: Arc::new(ManualClock::new(NOW)), _folder: folder }
    }

    async fn ask(&self) -> WindowId {
        let request = WindowRequest {
            id: WindowId::new(NOW, &mut rand::rng()),
            requested_by: name("vera"),
            requested_at: NOW,
            users: [name("vera")].into(),
            accounts: ["operator@pump-hmi".to_owned().try_into().unwrap()].into(),
            forwards: Default::default(),
            operations: [Operation::View].into(),
            purpose: "service\nof the pump".into(),
            work_order: "WO-1".into(),
            start: NOW,
            end: NOW.plus_seconds(3600),
            plant_states: Default::default(),
            limits: Limits::default(),
            extends: None,
        };
        let act = Act::person(&name("vera"), NOW);
        windowing::request(&self.store, &act, &self.site, request).await.unwrap().id()
    }

    fn sender(&self, mail: Option<SocketAddr>, hook: Option<SocketAddr>) -> Sender {
        let mail = mail.map(|at| Mailer::new(&mail_settings(&at.ip().to_string(), at.port())).unwrap());
        let hook = hook.map(|at| Hook::new(&hook_settings(&format!("http://{at}/in"))).unwrap());
        Sender {
            store: self.store.clone(),
            clock: self.clock.clone(),
            public_url: "https://gw.example/".parse().unwrap(),
            mail,
            hook,
        }
    }

    async fn failures(&self) -> usize {
        let filter = AuditFilter { kind: Some(AuditKind::NotificationFailed), ..AuditFilter::default() };
        self.store.audit(&filter).await.unwrap().len()
    }
}

fn mail_settings(host: &str, port: u16) -> MailSettings {
    MailSettings {
        host: host.into(),
        port,
        protection: Protection::None,
        from: "Cofferdam <gateway@plant.example>".into(),
        log_in: None,
        ca_file: None,
    }
}

fn hook_settings(url: &str) -> HookSettings {
    HookSettings { url: url.parse().unwrap(), secret: Hidden::new(SECRET.into()), ca_file: None }
}

/// Takes mail (RFC 5321) and keeps it; answers `data` after the message.
async fn smtp(data: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, kept) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let all = kept.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let message = take_mail(stream, data).await;
            all.lock().unwrap().push(message);
        }
    });
    (address, kept)
}

async fn take_mail(stream: TcpStream, data: &str) -> String {
    let mut stream = BufReader::new(stream);
    let mut all = String::new();
    let mut inside = false;
    stream.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return all;
        }
        let answer = match line.trim_end() {
            "." if inside => {
                inside = false;
                data
            }
            _ if inside => {
                all.push_str(&line);
                continue;
            }
            "DATA" => {
                inside = true;
                "354 go on"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await.unwrap();
                return all;
            }
            command if command.starts_with("EHLO") => "250 mail.example",
            command => {
                all.push_str(command);
                all.push('\n');
                "250 ok"
            }
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
    }
}

/// Takes requests, answers each with `status`, and keeps head and body.
async fn listener(status: &'static str) -> (SocketAddr, Arc<Mutex<Vec<(String, String)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, kept) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let all = kept.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, length) = loop {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..n]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, _)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|l| l.to_lowercase().strip_prefix("content-length: ").map(str::to_owned))
                        .and_then(|l| l.parse::<usize>().ok())
                        .unwrap_or(0);
                    break (head.to_owned(), length);
                }
            };
            while bytes.len() < head.len() + 4 + length {
                let mut part = [0; 4096];
                let n = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..n]);
            }
            let body = String::from_utf8_lossy(&bytes[head.len() + 4..]).into_owned();
            all.lock().unwrap().push((head, body));
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, kept)
}

#[tokio::test]
async fn approvers_with_an_address_get_a_mail_whose_link_only_opens_the_page() {
    let desk = Desk::new().await;
    let id = desk.ask().await;
    let (server, kept) = smtp("250 taken").await;
    let sender = desk.sender(Some(server), None);
    while sender.pass().await.unwrap() > 0 {}
    let mails = kept.lock().unwrap().clone();
    assert_eq!(mails.len(), 2, "olga and sam; otto has no address and vera asked: {mails:?}");
    for mail in &mails {
        assert!(mail.contains("MAIL FROM:<gateway@plant.example>"), "{mail}");
        assert!(mail.contains("Subject: Cofferdam: a window waits for approval"), "{mail}");
        assert!(mail.contains(&format!("https://gw.example/approvals/{id}")), "{mail}");
        assert!(mail.contains("Vera Vendor (vera)") && mail.contains("2026-11-25 10:46 +01:00"), "{mail}");
    }
    assert_eq!(desk.store.notifications_waiting().await.unwrap(), 0);
}

#[tokio::test]
async fn a_program_is_told_with_a_signature_over_time_and_body() {
    let desk = Desk::new().await;
    let id = desk.ask().await;
    let (receiver, kept) = listener("204 No Content").await;
    let sender = desk.sender(None, Some(receiver));
    while sender.pass().await.unwrap() > 0 {}
    let (head, body) = kept.lock().unwrap().first().cloned().unwrap();
    let field = |name: &str| {
        let line = head.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
    };
    assert_eq!(field(TIMESTAMP), NOW.seconds().to_string());
    assert_eq!(field(SIGNATURE), signature(SECRET, &field(TIMESTAMP), &body));
    assert_ne!(field(SIGNATURE), signature(SECRET, "0", &body));
    let event: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(event["event"], "window.requested");
    assert_eq!(event["url"], format!("https://gw.example/windows/{id}"));
    assert_eq!(event["id"], field("cofferdam-id"));
    assert_eq!(event["details"]["purpose"], "service\nof the pump");
}

#[tokio::test]
async fn a_signature_is_what_the_documentation_says() {
    // Computed with: printf '1.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    let expected = "v1=1642a706b2e4d9fa8663449a8826d942c133b097231992683d5a44c2afc57499";
    assert_eq!(signature(SECRET, "1", "{}"), expected);
}

#[tokio::test]
async fn what_fails_for_now_is_tried_again_later_under_the_same_id_and_given_up_in_the_end() {
    let desk = Desk::new().await;
    desk.ask().await;
    let (receiver, kept) = listener("503 Service Unavailable").await;
    let sender = desk.sender(None, Some(receiver));
    while sender.pass().await.unwrap() > 0 {}
    assert_eq!(kept.lock().unwrap().len(), 1);
    desk.clock.advance(29);
    assert_eq!(sender.pass().await.unwrap(), 0, "not before its time");
    for _ in 0..20 {
        desk.clock.advance(3600);
        sender.pass().await.unwrap();
    }
    let ids: std::collections::BTreeSet<String> = kept
        .lock()
        .unwrap()
        .iter()
        .filter_map(|(head, _)| {
            head.lines().find_map(|l| l.strip_prefix("cofferdam-id: ").map(str::to_owned))
        })
        .collect();
    assert_eq!((kept.lock().unwrap().len(), ids.len()), (8, 1));
    assert_eq!(desk.failures().await, 1, "the audit log says that it was given up");
    assert_eq!(desk.store.notifications_waiting().await.unwrap(), 0);
}

#[tokio::test]
async fn what_will_never_be_taken_is_given_up_at_once() {
    let desk = Desk::new().await;
    desk.ask().await;
    let (receiver, kept) = listener("401 Unauthorized").await;
    let (server, _) = smtp("550 no such person").await;
    let sender = desk.sender(Some(server), Some(receiver));
    while sender.pass().await.unwrap() > 0 {}
    assert_eq!(kept.lock().unwrap().len(), 1);
    assert_eq!(desk.failures().await, 3, "the event and two mails");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let desk = Desk::new().await;
    desk.ask().await;
    let (elsewhere, reached) = listener("204 No Content").await;
    let status: &'static str =
        Box::leak(format!("307 Temporary Redirect\r\nlocation: http://{elsewhere}/").into_boxed_str());
    let (receiver, _) = listener(status).await;
    desk.sender(None, Some(receiver)).pass().await.unwrap();
    assert!(reached.lock().unwrap().is_empty());
}

#[tokio::test]
async fn two_nodes_do_not_send_the_same_message() {
    let desk = Desk::new().await;
    desk.ask().await;
    let (receiver, kept) = listener("204 No Content").await;
    let (one, two) = (desk.sender(None, Some(receiver)), desk.sender(None, Some(receiver)));
    let (first, second) = tokio::join!(one.pass(), two.pass());
    assert_eq!(first.unwrap() + second.unwrap(), 3, "an event and two mails, each taken once");
    assert_eq!(kept.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn messages_that_no_channel_takes_are_put_away_and_never_sent_late() {
    let desk = Desk::new().await;
    desk.ask().await;
    while desk.sender(None, None).pass().await.unwrap() > 0 {}
    assert_eq!(desk.store.notifications_waiting().await.unwrap(), 0);
    assert_eq!(desk.failures().await, 0);
    let (receiver, kept) = listener("204 No Content").await;
    desk.clock.advance(10);
    desk.sender(None, Some(receiver)).pass().await.unwrap();
    assert!(kept.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_message_older_than_a_day_is_given_up_unsent() {
    let desk = Desk::new().await;
    desk.ask().await;
    let (receiver, kept) = listener("204 No Content").await;
    desk.clock.advance(25 * 3600);
    desk.sender(None, Some(receiver)).pass().await.unwrap();
    assert!(kept.lock().unwrap().is_empty());
    assert_eq!(desk.failures().await, 3);
}

#[tokio::test]
async fn the_person_hears_of_approval_and_refusal_not_of_their_own_acts() {
    let desk = Desk::new().await;
    let id = desk.ask().await;
    while desk.sender(None, None).pass().await.unwrap() > 0 {}
    let olga = desk.site.user(&name("olga")).unwrap();
    let act = Act::person(&olga.name, NOW);
    windowing::refuse(&desk.store, &act, olga, id, Some(Duty::Operations), "filling", None).await.unwrap();
    let (server, kept) = smtp("250 taken").await;
    while desk.sender(Some(server), None).pass().await.unwrap() > 0 {}
    let mails = kept.lock().unwrap().clone();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(
        mails[0].contains("RCPT TO:<vera@acme.example>")
            && mails[0].contains("olga refused your window: filling")
    );
    let vera = desk.site.user(&name("vera")).unwrap();
    let other = desk.ask().await;
    while desk.sender(None, None).pass().await.unwrap() > 0 {}
    windowing::withdraw(&desk.store, &Act::person(&vera.name, NOW), vera, other).await.unwrap();
    assert_eq!(desk.store.notifications_waiting().await.unwrap(), 1, "the program's event alone");
}

impl Desk {
    async fn found(&self, at: Timestamp, session: Option<SessionId>, trigger: &str, severity: &str) {
        let finding = FindingRecord {
            id: FindingId::new(at, &mut rand::rng()),
            session,
            at,
            trigger: trigger.into(),
            severity: severity.into(),
            text: "rm -rf /".into(),
            response: "notify".into(),
        };
        self.store.record_finding(&Act::system("detect", at), &finding).await.unwrap();
    }

    /// Sends all there is; answers how many mails and events arrived.
    async fn arrived(&self, at: Timestamp) -> (Vec<String>, Vec<String>) {
        self.clock.set(at);
        let (server, mails) = smtp("250 taken").await;
        let (receiver, events) = listener("204 No Content").await;
        let sender = self.sender(Some(server), Some(receiver));
        while sender.pass().await.unwrap() > 0 {}
        let events = events.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
        (mails.lock().unwrap().clone(), events)
    }
}

#[tokio::test]
async fn a_finding_is_told_to_those_who_watch_sessions_and_not_again_for_the_same_a_moment_later() {
    let desk = Desk::new().await;
    let id = SessionId::new(NOW, &mut rand::rng());
    let session = Some(id);
    desk.found(NOW, session, "command_pattern", "high").await;
    let (mails, events) = desk.arrived(NOW).await;
    assert_eq!(mails.len(), 2, "olga and sam; otto has no address: {mails:?}");
    let page = format!("https://gw.example/live/{}", id);
    for mail in &mails {
        assert!(mail.contains("Subject: Cofferdam: a finding of high severity"), "{mail}");
        assert!(mail.contains(&page) && mail.contains("Seen: rm -rf /"), "{mail}");
    }
    let event: serde_json::Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!((&event["event"], &event["url"]), (&"finding".into(), &page.into()));
    assert_eq!(event["details"]["trigger"], "command_pattern");

    let soon = NOW.plus_seconds(30);
    desk.found(soon, session, "command_pattern", "high").await;
    desk.found(soon, session, "new_source_address", "low").await;
    let (mails, events) = desk.arrived(soon).await;
    assert_eq!(
        (mails.len(), events.len()),
        (0, 2),
        "programs hear of each, people of what is new and matters"
    );
    desk.found(soon, session, "file_volume", "medium").await;
    let later = NOW.plus_seconds(700);
    desk.found(later, session, "command_pattern", "high").await;
    assert_eq!(desk.arrived(later).await.0.len(), 4, "another trigger, and the same much later");
}

#[tokio::test]
async fn a_flood_of_findings_is_a_bounded_number_of_mails_and_the_last_says_so() {
    let desk = Desk::new().await;
    for n in 0..60 {
        let session = Some(SessionId::new(NOW.plus_seconds(n), &mut rand::rng()));
        desk.found(NOW.plus_seconds(n), session, "command_pattern", "high").await;
    }
    let end = NOW.plus_seconds(60);
    let (mails, events) = desk.arrived(end).await;
    assert_eq!((mails.len(), events.len()), (40, 60), "20 findings to two people; a program hears of all");
    let last = mails.iter().filter(|m| m.contains("no more mail about them")).count();
    assert_eq!(last, 2);
    let next = NOW.plus_seconds(3700);
    desk.found(next, Some(SessionId::new(next, &mut rand::rng())), "command_pattern", "high").await;
    assert_eq!(desk.arrived(next).await.0.len(), 2, "an hour later they go out again");
}

#[test]
fn settings_that_would_send_in_the_clear_to_another_machine_are_refused() {
    let mail = Mailer::new(&mail_settings("mail.plant.example", 25));
    assert!(matches!(mail, Err(NotifyError::Unprotected(_))));
    let hook = Hook::new(&hook_settings("http://soc.plant.example/in"));
    assert!(matches!(hook, Err(NotifyError::Unprotected(_))));
    let short = HookSettings { secret: Hidden::new("short".into()), ..hook_settings("http://127.0.0.1/in") };
    assert!(matches!(Hook::new(&short), Err(NotifyError::ShortSecret)));
    assert!(!format!("{:?}", hook_settings("http://127.0.0.1/in")).contains(SECRET));
}
