//! Desktops: log-in by a single-use token, the screen, and every way in which it ends.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use crate::support::{
    CUT, Gateway,
    cli::{id_of, state_of},
    desktop::{Display, FIRST_KEY, PANEL},
    noise,
    realm::{Member, Realm},
    run,
    targets::{Folder, Gnome, Shadow, Xrdp},
    wait_for,
};

/// A place on the desktops of real targets, and its colour.
pub(super) const MIDDLE: (u16, u16) = (700, 500);
pub(super) const BLUE: &str = "335577";

/// Where the gateway's own words stand on a desktop, and the colour of their box.
pub(super) const TOP: (u16, u16) = (512, 4);
pub(super) const WORDS: &str = "1B2631";

/// What the built-in desktop writes when somebody has logged in to it.
pub(super) const REACHED: &str = "somebody is at the built-in desktop";

#[track_caller]
fn ended(gateway: &Gateway, client: &mut crate::support::Live, reason: &str) {
    let (_, took) = client.ended_within(Duration::from_secs(10));
    assert!(took <= CUT, "{reason}: took {took:?}");
    let row = gateway.ended_session();
    assert!(row.to_string().to_lowercase().contains(reason), "{row:#}");
}

#[test]
fn a_vendor_works_on_a_desktop_with_a_token_and_never_sees_its_secret() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_the_desktop(&display, &api);
    let session = gateway.only_session();
    assert_eq!(session["protocol"], "rdp", "{session:#}");
    assert_eq!(display.colour(FIRST_KEY), PANEL);
    display.press("k");
    wait_for("the key's mark", Duration::from_secs(5), || (display.colour(FIRST_KEY) != PANEL).then_some(()));
    let secret = std::fs::read_to_string(gateway.config().parent().unwrap().join("eng-ws/password")).unwrap();
    for text in [gateway.log(), client.transcript()] {
        assert!(!text.contains(secret.trim()), "the target's secret is in a log");
    }
    let id = id_of(&session);
    gateway.kill_session(&id).ok();
    ended(&gateway, &mut client, "kill");
    gateway.cofferdam(["recording", "verify", &id]).ok();
}

#[test]
fn a_desktop_that_moves_by_itself_ends_when_nobody_has_hands_on_it_and_what_they_typed_is_masked() {
    let gateway = Gateway::start();
    super::ending::set_idle(&gateway, 5);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_the_desktop(&display, &api);
    let id = id_of(&gateway.only_session());
    for keys in [["s", "e", "t"], ["v", "a", "l"], ["v", "e", "space"], ["n", "o", "w"], ["x", "y", "z"]] {
        keys.iter().for_each(|key| display.press(key));
        std::thread::sleep(Duration::from_millis(1400));
    }
    assert!(client.is_running(), "hands keep it: {}", client.transcript());
    let (_, took) = client.ended_within(Duration::from_secs(12));
    assert!(took >= Duration::from_secs(2), "it had its time: {took:?}");
    assert!(client.transcript().contains("ERRINFO_IDLE_TIMEOUT"), "{}", client.transcript());
    let row = gateway.ended_session();
    assert!(row.to_string().contains("idle"), "{row:#}");
    // Keys are in the recording, for those who may read them.
    let found = || gateway.list(&["recording", "search", "setvalve now"]).len();
    assert_eq!(found(), 0, "the identity for replays reads no keys");
    let config = std::fs::read_to_string(gateway.config()).unwrap();
    let reads_all = config.replacen("keys/replay_identity", "keys/investigator_identity", 1);
    assert_ne!(config, reads_all);
    std::fs::write(gateway.config(), reads_all).unwrap();
    assert_eq!(found(), 1);
    gateway.cofferdam(["recording", "verify", &id]).ok();
}

/// A connection request that offers TLS and NLA (MS-RDPBCGR 2.2.1.1).
const ASKS: [u8; 19] = [3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0];

#[test]
fn garbage_at_the_port_of_desktops_is_hung_up_on_and_those_who_say_nothing_hold_nobody_up() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let connect = || {
        let stream = TcpStream::connect(gateway.rdp_address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    };
    let before = gateway.resident_kib();
    let noise = noise(100_000);
    let beginnings: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        &[3, 0, 0xff, 0xff, 14, 0xe0],
        &[3, 0, 0, 3],
        &[3, 0, 0, 4],
        &noise,
        // What would be the beginning of TLS lies about its length.
        &[&ASKS[..], &[22, 3, 1, 0xff, 0xff], &noise].concat(),
    ];
    for (number, said) in beginnings.iter().enumerate() {
        for _ in 0..10 {
            let mut stream = connect();
            // It may have hung up already.
            drop(stream.write_all(said));
            drop(stream.shutdown(Shutdown::Write));
            match stream.read_to_end(&mut Vec::new()) {
                Ok(heard) => assert!(heard < 100, "{number}: {heard} bytes"),
                // What it did not read any more.
                Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{number}"),
            }
        }
    }
    // Nothing, and the beginning of a request.
    let waits: Vec<TcpStream> = (0..4u8)
        .map(|number| {
            let mut stream = connect();
            stream.write_all(ASKS.get(..usize::from(number) * 3).unwrap()).unwrap();
            stream
        })
        .collect();
    let mut client = gateway.at_the_desktop(&display, &api);
    assert!(client.is_running());
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < 60_000, "{grown} KiB more");
    drop(waits);
}

#[test]
fn tokens_that_are_used_wrong_or_for_something_else_are_refused_before_the_target_is_contacted() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let (user, token) = gateway.desktop_pass(&api);
    let refused = |user: &str, password: &str| {
        run(gateway.freerdp(&display, user, password)).failed();
        assert!(!gateway.log().contains(REACHED), "the target was contacted");
    };
    refused(&user, "abcdefghijkmnpqrstuvwxyz23");
    refused("olga+eng-ws", &token);
    refused("vera+pump-hmi", &token);
    assert!(gateway.sessions().is_empty());
    let failed = gateway.audit("login.failed");
    assert!(failed.iter().any(|e| e.to_string().contains("desktop_token")), "{failed:#?}");
    // A newer token ends the older one.
    let (_, newer) = gateway.desktop_pass(&api);
    refused(&user, &token);
    let mut client = crate::support::Live::start(gateway.freerdp(&display, &user, &newer));
    wait_for("the session", Duration::from_secs(20), || {
        assert!(client.is_running(), "{}", client.transcript());
        (!gateway.live_sessions().is_empty()).then_some(())
    });
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    client.ended_within(Duration::from_secs(10));
    // Used is used.
    run(gateway.freerdp(&display, &user, &newer)).failed();
    assert_eq!(gateway.sessions().len(), 1);
}

#[test]
fn a_token_opens_nothing_by_another_window_than_it_was_asked_for() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let ((user, token), asked_by) = (gateway.desktop_pass(&api), gateway.demo_window());
    // The window that it was for is gone, and another one leads to the same desktop.
    gateway.open_window(&["eng@eng-ws"], 2);
    let revoked = ["window", "revoke", &asked_by, "--as", "olga", "--reason", "end-to-end test"];
    gateway.cofferdam(revoked).ok();
    run(gateway.freerdp(&display, &user, &token)).failed();
    assert!(!gateway.log().contains(REACHED), "the target was contacted");
    let refused = gateway.audit("desktop.token_refused");
    assert!(refused.iter().any(|e| e.to_string().contains("another_window")), "{refused:#?}");
    let row = gateway.ended_session();
    assert!(row.to_string().contains("token_for_another_window"), "{row:#}");
    // One that was asked for by the other window opens it.
    let (user, token) = gateway.desktop_pass(&api);
    let freerdp = gateway.freerdp(&display, &user, &token);
    gateway.at_the_desktop_of(&display, freerdp);
}

/// xfreerdp with TLS and no NLA, as `user`, with `password` typed.
fn without_nla(gateway: &Gateway, display: &Display, user: &str, password: &str) -> std::process::Command {
    let mut client = gateway.freerdp(display, user, password);
    client.arg("/sec:tls");
    client
}

#[test]
fn a_client_without_nla_is_refused_unless_the_site_says_otherwise() {
    let gateway = Gateway::start();
    let (display, vera) = (Display::start(), gateway.vera());
    let typed = format!("{},{}", vera.password, vera.code());
    let refused = run(without_nla(&gateway, &display, "vera+eng-ws", &typed)).failed();
    let said = format!("{}{}", refused.out(), refused.err());
    assert!(said.contains("HYBRID_REQUIRED_BY_SERVER"), "{said}");
    assert!(gateway.sessions().is_empty() && !gateway.log().contains(REACHED));
    assert!(gateway.audit("login.succeeded").iter().all(|e| !e.to_string().contains("\"rdp\"")));
}

#[test]
fn a_client_without_nla_logs_in_by_password_and_code_where_the_site_allows_it() {
    let mut gateway = Gateway::start();
    gateway.restart_with(|text| text.replacen("# allow_without_nla = false", "allow_without_nla = true", 1));
    let display = Display::start();
    let [vera, olga] = ["vera", "olga"].map(|name| gateway.person(name));
    let refused = |user: &str, typed: &str, reason: &str| {
        let before = gateway.audit("login.failed").len();
        run(without_nla(&gateway, &display, user, typed)).failed();
        let failed = gateway.audit("login.failed");
        assert_eq!(failed.len(), before + 1, "{user}: {failed:#?}");
        assert!(failed.iter().any(|e| e.to_string().contains(reason)), "{user} {reason}: {failed:#?}");
        assert!(!gateway.log().contains(REACHED), "the target was contacted");
    };
    let code = vera.code();
    let right = format!("{},{code}", vera.password);
    refused("vera+eng-ws", &format!("{},000000", vera.password), "wrong_code");
    refused("vera+eng-ws", &format!("{}x,{code}", vera.password), "wrong_password");
    refused("nobody+eng-ws", &right, "unknown_user");
    refused("vera", &right, "unknown_user");
    refused("vera+eng-ws", &vera.password, "desktop_token");
    // Somebody else's proof, and a right one of somebody who has no window: the target hears of neither.
    let olgas = format!("{},{}", olga.password, olga.code());
    refused("vera+eng-ws", &olgas, "wrong_password");
    run(without_nla(&gateway, &display, "olga+eng-ws", &olgas)).failed();
    assert!(gateway.sessions().is_empty() && !gateway.log().contains(REACHED));

    // A fresh one: on a slow machine the first is over by now.
    let code = vera.code();
    let right = format!("{},{code}", vera.password);
    let mut client =
        gateway.at_the_desktop_of(&display, without_nla(&gateway, &display, "vera+eng-ws", &right));
    display.press("k");
    wait_for("the key's mark", Duration::from_secs(5), || (display.colour(FIRST_KEY) != PANEL).then_some(()));
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    ended(&gateway, &mut client, "kill");
    gateway.cofferdam(["recording", "verify", &id]).ok();
    // A code works once.
    run(without_nla(&gateway, &display, "vera+eng-ws", &right)).failed();
    assert_eq!(gateway.sessions().len(), 1);
    for text in [gateway.log(), gateway.audit_text()] {
        let code = format!(",{code}");
        assert!(!text.contains(&vera.password) && !text.contains(&code), "what was typed is in a log");
    }
}

#[test]
fn a_token_alone_is_enough_for_a_client_without_nla_unless_a_policy_of_the_site_says_otherwise() {
    let mut gateway = Gateway::start();
    gateway.restart_with(|text| text.replacen("# allow_without_nla = false", "allow_without_nla = true", 1));
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let (user, token) = gateway.desktop_pass(&api);
    let mut client = gateway.at_the_desktop_of(&display, without_nla(&gateway, &display, &user, &token));
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    ended(&gateway, &mut client, "kill");
    run(without_nla(&gateway, &display, &user, &token)).failed();
    assert_eq!(gateway.sessions().len(), 1);

    let text = "@reason(\"this machine needs a client with NLA\")\nforbid (principal, action == Action::\"connect\", resource) \
                when { context.device.client == \"rdp without NLA\" };";
    let policy =
        toml::Table::from_iter([("name".to_owned(), "nla".into()), ("text".to_owned(), text.into())]);
    gateway.change_site(|site| {
        site.insert("policies".to_owned(), vec![toml::Value::from(policy)].into());
    });
    let reached = || gateway.log().matches(REACHED).count();
    let before = reached();
    let (user, token) = gateway.desktop_pass(&api);
    run(without_nla(&gateway, &display, &user, &token)).failed();
    assert_eq!(reached(), before, "the target was contacted");
    let mut client = gateway.at_the_desktop(&display, &api);
    assert!(client.is_running());
}

#[test]
fn revoking_the_window_cuts_its_desktop() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_the_desktop(&display, &api);
    gateway
        .cofferdam(["window", "revoke", &gateway.demo_window(), "--as", "olga", "--reason", "leak in hall 2"])
        .ok();
    ended(&gateway, &mut client, "revoked");
    gateway.ask_for_desktop(&api).failed();
}

#[test]
fn a_desktop_ends_when_the_site_takes_away_what_it_began_with() {
    let gateway = Gateway::start();
    let allow = |gateway: &Gateway, what: &[&str]| {
        gateway.change_asset("eng-ws", |asset| {
            let desktop = asset["rdp"].as_table_mut().unwrap();
            ["clipboard_to_person", "resize"].iter().for_each(|known| drop(desktop.remove(*known)));
            desktop.extend(what.iter().map(|what| ((*what).to_owned(), true.into())));
        });
    };
    allow(&gateway, &["clipboard_to_person"]);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_the_desktop(&display, &api);
    allow(&gateway, &["clipboard_to_person", "resize"]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(client.is_running(), "it may have less than others");
    allow(&gateway, &["resize"]);
    let (row, took) = wait_for("the session's end", Duration::from_secs(10), || {
        let row = gateway.only_session();
        state_of(&row).starts_with("ended").then_some(row)
    });
    assert!(took <= 2 * CUT && row.to_string().contains("asset_changed"), "{took:?}: {row:#}");
    client.ended_within(Duration::from_secs(5));
}

#[test]
fn a_suspended_desktop_shows_and_takes_nothing() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_the_desktop(&display, &api);
    let before = display.colour(TOP);
    let id = id_of(&gateway.only_session());
    gateway.cofferdam(["session", "suspend", &id, "--as", "olga"]).ok();
    wait_for("the suspension", Duration::from_secs(5), || {
        (state_of(&gateway.only_session()) == "suspended").then_some(())
    });
    wait_for("the reason on the desktop", Duration::from_secs(5), || {
        (display.colour(TOP) == WORDS).then_some(())
    });
    display.press("k");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(display.colour(FIRST_KEY), PANEL, "a key reached a suspended desktop");
    assert!(client.is_running());
    gateway.cofferdam_by("olga", ["session", "resume", &id]).ok();
    wait_for("a key's mark after the suspension", Duration::from_secs(10), || {
        display.press("k");
        (display.colour(FIRST_KEY) != PANEL).then_some(())
    });
    // That it goes on is said for a quarter of a minute; then there is what was there before.
    wait_for("the desktop without words", Duration::from_secs(30), || {
        (display.colour(TOP) == before).then_some(())
    });
}

#[test]
fn what_an_approver_writes_stands_on_the_desktop() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let _client = gateway.at_the_desktop(&display, &api);
    assert_ne!(display.colour(TOP), WORDS);
    let id = id_of(&gateway.only_session());
    gateway.cofferdam(["session", "message", &id, "stop the pump first", "--as", "olga"]).ok();
    wait_for("the message on the desktop", Duration::from_secs(5), || {
        (display.colour(TOP) == WORDS).then_some(())
    });
}

#[test]
fn a_target_with_another_key_is_sent_nothing() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    gateway.change_asset("eng-ws", |asset| {
        let other = format!("sha256:{}", "ab".repeat(32));
        asset["rdp"]["public_keys"] = toml::Value::Array(vec![other.into()]);
    });
    let (user, token) = gateway.desktop_pass(&api);
    run(gateway.freerdp(&display, &user, &token)).failed();
    assert!(!gateway.log().contains(REACHED));
    assert_eq!(gateway.audit("host_key.mismatch").len(), 1);
    // The administrator's act that mends it shows the fingerprint.
    let trusted = gateway.cofferdam(["asset", "trust", "eng-ws", "--rdp", "--as", "ada"]);
    trusted.failed().said("sha256:");
}

/// How many pixels of two pictures differ, without the corner where the pointer is.
fn differing(one: &std::path::Path, other: &std::path::Path) -> String {
    differing_by("0%", one, other)
}

/// The same of pixels that differ by more than so much.
fn differing_by(fuzz: &str, one: &std::path::Path, other: &std::path::Path) -> String {
    compared(&["-fuzz", fuzz, "-extract", "1024x700+0+0"], one, other)
}

/// How many pixels of two pictures differ by what ImageMagick is told.
pub(super) fn compared(how: &[&str], one: &std::path::Path, other: &std::path::Path) -> String {
    let mut compare = std::process::Command::new("compare");
    compare.args(how).args(["-metric", "AE"]).arg(one).arg(other).arg("null:");
    run(compare).err().trim().to_owned()
}

#[test]
fn a_real_desktop_with_tls_is_recorded_as_the_person_saw_it_pixel_by_pixel() {
    let (gateway, folder) = (Gateway::start(), Folder::new());
    let target = Xrdp::start(&folder);
    gateway.eng_ws_is(target.address, "tls", Xrdp::PASSWORD);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_a_desktop(&display, &api, MIDDLE, BLUE);
    display.move_pointer(1000, 740);
    let drawn = ["-mod", "23", "17", "-fg", "#c04020", "-bg", "#e0e8f0"];
    target.desktop.draw(&drawn);
    let [there, here, recorded] = ["there.png", "here.png", "recorded.png"].map(|name| folder.path(name));
    target.desktop.picture(&there);
    wait_for("the drawing at the client", Duration::from_secs(20), || {
        display.picture(&here);
        (differing(&there, &here) == "0").then_some(())
    });
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    ended(&gateway, &mut client, "kill");
    gateway.last_picture(&id, &recorded);
    assert_eq!(differing(&here, &recorded), "0", "pixels of the recording differ from the client's");
    for text in [gateway.log(), client.transcript(), gateway.audit_text()] {
        assert!(!text.contains(Xrdp::PASSWORD), "the target's secret is in a log");
    }
}

#[test]
fn a_desktop_that_draws_by_the_graphics_pipeline_is_recorded_as_the_person_saw_it() {
    let (gateway, folder) = (Gateway::start(), Folder::new());
    let target = Gnome::start(&folder);
    let _terminal = target.terminal(&folder, std::path::Path::new("/bin/cat"));
    gateway.eng_ws_is(target.address, "nla", Gnome::PASSWORD);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    gateway.change_asset("eng-ws", |asset| {
        asset["rdp"].as_table_mut().unwrap().insert("graphics".into(), "pipeline".into());
    });
    let (user, token) = gateway.desktop_pass(&api);
    let mut client = gateway.freerdp(&display, &user, &token);
    client.arg("/gfx");
    let mut client = crate::support::Live::start(client);
    wait_for("the desktop", Duration::from_secs(30), || {
        assert!(client.is_running(), "{}", client.transcript());
        (display.colour((20, 400)) != "000000").then_some(())
    });
    let [first, before, here, recorded] =
        ["first.png", "before.png", "here.png", "recorded.png"].map(|name| folder.path(name));
    display.move_pointer(1000, 740);
    display.picture(&first);
    for key in ["h", "e", "l", "l", "o", "Return"] {
        display.press(key);
    }
    display.move_pointer(1000, 740);
    // Two lines more than before, and nothing moves any longer.
    display.picture(&before);
    let mut alike = 0;
    wait_for("what was typed", Duration::from_secs(20), || {
        display.picture(&here);
        alike = if differing(&before, &here) == "0" { alike + 1 } else { 0 };
        std::fs::copy(&here, &before).unwrap();
        (alike > 5 && differing(&first, &here) != "0").then_some(())
    });
    let id = gateway.live_sessions()[0].clone();
    gateway.kill_session(&id).ok();
    client.ended_within(Duration::from_secs(10));
    gateway.last_picture(&id, &recorded);
    // Decoders of RemoteFX round in their own ways.
    assert_eq!(differing_by("5%", &here, &recorded), "0", "pixels of the recording differ from the client's");
}

#[test]
fn a_real_desktop_with_nla_takes_the_secret_of_the_vault_and_a_wrong_one_is_told_to_the_operator() {
    let (gateway, folder) = (Gateway::start(), Folder::new());
    let target = Shadow::start(&folder);
    gateway.eng_ws_is(target.address, "nla", Shadow::PASSWORD);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_a_desktop(&display, &api, MIDDLE, BLUE);
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    ended(&gateway, &mut client, "kill");
    gateway.eng_ws_is(target.address, "nla", "not the password");
    let (user, token) = gateway.desktop_pass(&api);
    run(gateway.freerdp(&display, &user, &token)).failed();
    let (log, _) = wait_for("the reason in the log", Duration::from_secs(5), || {
        let log = gateway.log();
        log.contains("eng-ws: log-in to the desktop as eng failed").then_some(log)
    });
    assert!(!log.contains("not the password") && !log.contains(Shadow::PASSWORD));
}

#[test]
fn a_desktop_in_a_realm_is_reached_by_a_ticket_and_in_no_other_way() {
    let (gateway, folder) = (Gateway::start(), Folder::new());
    // The password of the desktop behind it, too.
    let realm = Realm::with_password(&folder, Xrdp::PASSWORD);
    let desktop = Xrdp::start(&folder);
    let target = Member::start(&folder, &["--behind", &desktop.address.to_string()]);
    gateway.eng_ws_is(target.address, "nla", Xrdp::PASSWORD);
    let in_realm = |host: &str, kdc: &str| {
        let text = format!("realm = \"{}\"\nkdcs = [\"{kdc}\"]\nhost = \"{host}\"", Realm::NAME);
        let table: toml::Table = text.parse().unwrap();
        gateway.change_asset("eng-ws", |asset| {
            asset["rdp"].as_table_mut().unwrap().insert("kerberos".into(), table.into());
        });
    };
    let kdc = format!("tcp://{}", realm.address);
    in_realm(Realm::HOST, &kdc);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_a_desktop(&display, &api, MIDDLE, BLUE);
    let said = target.says("password");
    assert!(
        said.contains(r#""principal": "eng@PLANT.EXAMPLE""#) && !said.contains(r#""ntlm": true"#),
        "{said}"
    );
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    ended(&gateway, &mut client, "kill");

    let refused = |why: &str| {
        let (user, token) = gateway.desktop_pass(&api);
        let client = run(gateway.freerdp(&display, &user, &token)).failed();
        wait_for(why, Duration::from_secs(5), || gateway.log().contains(why).then_some(()));
        assert!(
            !format!("{}{}", client.out(), client.err()).contains(Realm::NAME),
            "the person is told of the realm"
        );
    };
    in_realm("other.plant.example", &kdc);
    refused("gives no ticket for TERMSRV/other.plant.example: it does not know that name");
    in_realm(Realm::HOST, &format!("tcp://{}", realm.stop()));
    refused("no KDC of the realm PLANT.EXAMPLE answers");
    for text in [gateway.log(), client.transcript(), gateway.audit_text()] {
        assert!(!text.contains(Xrdp::PASSWORD), "the target's secret is in a log");
    }
    assert_eq!(target.said().matches("\"password\"").count(), 1, "{}", target.said());
}
