//! Desktops: log-in by a single-use token, the screen, and every way in which it ends.

use std::time::Duration;

use crate::support::{
    CUT, Gateway,
    cli::{id_of, state_of},
    desktop::{Display, FIRST_KEY, PANEL},
    run,
    targets::{Folder, Shadow, Xrdp},
    wait_for,
};

/// A place on the desktops of real targets, and its colour.
const MIDDLE: (u16, u16) = (700, 500);
const BLUE: &str = "335577";

/// Where the gateway's own words stand on a desktop, and the colour of their box.
const TOP: (u16, u16) = (512, 4);
const WORDS: &str = "1B2631";

/// What the built-in desktop writes when somebody has logged in to it.
const REACHED: &str = "somebody is at the built-in desktop";

#[track_caller]
fn ended(gateway: &Gateway, client: &mut crate::support::Live, reason: &str) {
    let (_, took) = client.ended_within(Duration::from_secs(10));
    assert!(took <= CUT, "{reason}: took {took:?}");
    let (row, _) = wait_for("the session's end in the store", Duration::from_secs(5), || {
        let row = gateway.only_session();
        state_of(&row).starts_with("ended").then_some(row)
    });
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
    let mut compare = std::process::Command::new("compare");
    compare.args(["-metric", "AE", "-extract", "1024x700+0+0"]).arg(one).arg(other).arg("null:");
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
    let still = ["recording", "export", &id, "--format", "png", "--output"];
    gateway.cofferdam(still.into_iter().chain([recorded.to_str().unwrap()])).ok();
    assert_eq!(differing(&here, &recorded), "0", "pixels of the recording differ from the client's");
    for text in [gateway.log(), client.transcript(), gateway.audit_text()] {
        assert!(!text.contains(Xrdp::PASSWORD), "the target's secret is in a log");
    }
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
