//! Sessions to real targets.

use std::os::unix::fs::PermissionsExt as _;

use cofferdam_rdp::{ChannelPolicy, Ending, Event, Finished, Order, Security};

use crate::{
    desktop::Xfreerdp,
    gateway::{Account, Gateway, Outcome, TOKEN, TYPED, USER},
    targets::{Display, Folder, PIXEL, Shadow, Weston, Xrdp, wait_for},
};

pub(crate) fn xrdp(target: &Xrdp) -> Account {
    Account {
        address: target.address,
        security: Security::TlsLogin,
        user: "svc-eng",
        password: Xrdp::PASSWORD,
        pin: None,
    }
}

pub(crate) fn shadow(target: &Shadow) -> Account {
    Account {
        address: target.address,
        security: Security::Nla,
        user: Shadow::USER,
        password: Shadow::PASSWORD,
        pin: None,
    }
}

pub(crate) fn contains(clear: &[u8], text: &str) -> bool {
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [text.as_bytes(), &utf16].iter().any(|wanted| clear.windows(wanted.len()).any(|window| window == *wanted))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_an_xrdp_desktop_and_never_its_secret() {
    let folder = Folder::new();
    let target = Xrdp::start(&folder);
    let gateway = Gateway::start(xrdp(&target), ChannelPolicy::default()).await;
    let client = Xfreerdp::start(
        &folder,
        gateway.address,
        USER,
        TOKEN,
        &["+clipboard", "/drive:x,/tmp", "/sound:sys:fake"],
    );
    client.shows(PIXEL);

    let seen = gateway.seen.clone();
    assert!(seen.has(|event| matches!(event, Event::Activated(at) if (at.width, at.height) == (1024, 768))));
    for refused in ["cliprdr", "rdpdr", "rdpsnd"] {
        assert!(
            seen.has(|event| matches!(event, Event::ChannelRefused { name } if name == refused)),
            "{refused}"
        );
    }
    client.display.press("a");
    wait_for("the key", 5, || {
        seen.has(|event| matches!(event, Event::Key(key) if key.code == 0x1e && !key.down)).then_some(())
    });
    assert!(*seen.screen_bytes.lock().unwrap() > 1000);

    let clear = gateway.clear.clone();
    gateway.orders.send(Order::End(Ending::Idle)).unwrap();
    client.end();
    assert!(folder.log("xfreerdp").contains("ERRINFO_IDLE_TIMEOUT"), "{}", folder.log("xfreerdp"));
    assert!(matches!(gateway.outcome().await, Outcome::Finished(Finished::Ended(Ending::Idle))));

    let clear = clear.lock().unwrap();
    assert!(contains(&clear, "rdpdr"), "what the client asked for is in what was kept");
    assert!(!contains(&clear, Xrdp::PASSWORD) && !contains(&clear, "svc-eng"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_nla_takes_the_injected_secret() {
    let folder = Folder::new();
    let target = Shadow::start(&folder);
    let gateway = Gateway::start(shadow(&target), ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    client.shows(PIXEL);
    let clear = gateway.clear.clone();
    gateway.orders.send(Order::End(Ending::TimeOver)).unwrap();
    client.end();
    assert!(folder.log("xfreerdp").contains("ERRINFO_LOGON_TIMEOUT"), "{}", folder.log("xfreerdp"));
    assert!(matches!(gateway.outcome().await, Outcome::Finished(Finished::Ended(Ending::TimeOver))));
    let clear = clear.lock().unwrap();
    assert!(!contains(&clear, Shadow::PASSWORD) && !contains(&clear, Shadow::USER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_nla_comes_to_targets_of_both_kinds_by_what_was_typed() {
    let folder = Folder::new();
    let xrdp_target = Xrdp::start(&folder);
    let shadow_target = Shadow::start(&folder);
    let targets = [(xrdp(&xrdp_target), Xrdp::PASSWORD), (shadow(&shadow_target), Shadow::PASSWORD)];
    for (account, secret) in targets {
        let policy = ChannelPolicy::default();
        let gateway = Gateway::start_without_nla(account, policy).await;
        let client = Xfreerdp::without_nla(&folder, gateway.address, USER, TYPED);
        client.shows(PIXEL);
        let seen = gateway.seen.clone();
        for refused in ["cliprdr", "rdpdr"] {
            let refused = |event: &Event| matches!(event, Event::ChannelRefused { name } if name == refused);
            assert!(seen.has(refused));
        }
        client.display.press("a");
        wait_for("the key", 5, || {
            seen.has(|event| matches!(event, Event::Key(key) if key.code == 0x1e && !key.down)).then_some(())
        });
        let clear = gateway.clear.clone();
        gateway.orders.send(Order::End(Ending::Idle)).unwrap();
        client.end();
        assert!(folder.log("xfreerdp").contains("ERRINFO_IDLE_TIMEOUT"), "{}", folder.log("xfreerdp"));
        assert!(matches!(gateway.outcome().await, Outcome::Finished(Finished::Ended(Ending::Idle))));
        let clear = clear.lock().unwrap();
        assert!(contains(&clear, "Table-7"), "what was typed is in what was kept");
        assert!(!contains(&clear, secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_works_on_a_wayland_desktop() {
    let folder = Folder::new();
    let target = Weston::start(&folder);
    let account = Account {
        address: target.address,
        security: Security::TlsLogin,
        user: "svc-eng",
        password: "it asks for none",
        pin: None,
    };
    let gateway = Gateway::start(account, ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    client.shows(PIXEL);
    let typed = folder.path("typed");
    let script = folder.path("read.sh");
    let lines = format!(
        "#!/bin/sh\ntouch '{0}.ready'\nread line\necho \"$line\" >'{0}'\nsleep 60\n",
        typed.display()
    );
    std::fs::write(&script, lines).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let _terminal = target.terminal(&folder, &script);
    wait_for("the terminal at the client", 20, || {
        let there = folder.path("typed.ready").exists() && client.display.pixel(700, 500) != Some(PIXEL);
        there.then_some(())
    });
    for key in ["a", "b", "c", "Return"] {
        client.display.press(key);
    }
    wait_for("the keys at the target", 10, || {
        (std::fs::read_to_string(&typed).ok()? == "abc\n").then_some(())
    });
    assert!(*gateway.seen.screen_bytes.lock().unwrap() > 1000);
    gateway.ends_idle(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_session_shows_and_takes_nothing() {
    let folder = Folder::new();
    let target = Xrdp::start(&folder);
    let gateway = Gateway::start(xrdp(&target), ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    client.shows(PIXEL);
    gateway.orders.send(Order::Freeze).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let before = gateway.seen.events.lock().unwrap().len();
    client.display.press("a");
    target.desktop.fill("#aa2211");
    client.shows([0xaa, 0x22, 0x11]);
    assert_eq!(gateway.seen.events.lock().unwrap().len(), before, "the key went nowhere");

    gateway.orders.send(Order::Run).unwrap();
    client.display.press("b");
    let seen = gateway.seen.clone();
    wait_for("the key", 5, || {
        seen.has(|event| matches!(event, Event::Key(key) if key.code == 0x30 && !key.down)).then_some(())
    });
    drop(client);
    assert!(matches!(gateway.outcome().await, Outcome::Finished(Finished::PersonLeft)));
}

/// The colour of the gateway's own words' box, and a place in it.
pub(crate) const BOX: ([u8; 3], (u32, u32)) = ([0x1b, 0x26, 0x31], (512, 4));

async fn words_come_and_go(account: Account, desktop: &Display, folder: &Folder) {
    let gateway = Gateway::start(account, ChannelPolicy::default()).await;
    let client = Xfreerdp::start(folder, gateway.address, USER, TOKEN, &[]);
    client.shows(PIXEL);
    let (colour, (x, y)) = BOX;
    let shows = |what: &str, pixel: [u8; 3]| {
        wait_for(what, 10, || (client.display.pixel(x, y) == Some(pixel)).then_some(()));
    };
    gateway.words.send_replace(Some("The window ends in 10 minutes".into()));
    shows("the words", colour);
    // What the target draws meanwhile hides them for a second at most, and is there when they are gone.
    desktop.fill("#aa2211");
    client.shows([0xaa, 0x22, 0x11]);
    shows("the words again", colour);
    gateway.words.send_replace(None);
    shows("what is below the words", [0xaa, 0x22, 0x11]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_words_stand_over_an_xrdp_desktop_and_leave_it_as_it_is() {
    let folder = Folder::new();
    let target = Xrdp::start(&folder);
    words_come_and_go(xrdp(&target), &target.desktop, &folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_words_stand_over_a_desktop_with_nla_and_leave_it_as_it_is() {
    let folder = Folder::new();
    let target = Shadow::start(&folder);
    words_come_and_go(shadow(&target), &target.desktop, &folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_away_ends_the_session() {
    let folder = Folder::new();
    let target = Xrdp::start(&folder);
    let gateway = Gateway::start(xrdp(&target), ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    client.shows(PIXEL);
    drop(target);
    client.end();
    assert!(matches!(gateway.outcome().await, Outcome::Finished(Finished::TargetLeft { .. })));
}
