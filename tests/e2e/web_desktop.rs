//! Desktops in the browser, without any RDP client.

use std::{process::Command, time::Duration};

use super::rdp::compared;
use crate::support::{
    Gateway, as_json,
    cli::{id_of, state_of},
    desktop::Display,
    run,
    targets::{Folder, Running, Xrdp},
};

/// What a page may offer besides screen, keys and pointer.
const ALLOWED: [&str; 3] = ["clipboard_to_target", "clipboard_to_person", "resize"];

/// A command line of the binary against this gateway, for scripts.
fn line(gateway: &Gateway, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.args(arguments).arg("--config").arg(gateway.config());
    as_json(&command)
}

/// Where scripts leave their screenshots.
fn shots() -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    folder.to_string_lossy().into_owned()
}

#[test]
fn a_vendor_works_on_a_desktop_in_the_browser_and_reads_there_why_it_stands_still_and_why_it_ended() {
    let gateway = Gateway::start();
    let shots = shots();
    let kill = ["session", "kill", "--as", "olga", "--reason", "end-to-end test"];
    gateway
        .browse(
            "desktop.mjs",
            &[
                ("COFFERDAM_SESSIONS", &line(&gateway, &["session", "list", "--json"])),
                ("COFFERDAM_MESSAGE", &line(&gateway, &["session", "message", "--as", "olga"])),
                ("COFFERDAM_SUSPEND", &line(&gateway, &["session", "suspend", "--as", "olga"])),
                ("COFFERDAM_KILL", &line(&gateway, &kill)),
                ("COFFERDAM_SHOTS", &shots),
            ],
        )
        .said("cut shown after");
    let session = gateway.only_session();
    assert_eq!(session["protocol"], "rdp", "{session:#}");
    assert!(state_of(&session).starts_with("ended"), "{session:#}");
    gateway.cofferdam(["recording", "verify", &id_of(&session)]).ok();
    let events = gateway.cofferdam(["recording", "export", &id_of(&session), "--format", "jsonl"]).ok().out();
    let keyboard = events.lines().find(|event| event.contains("\"keyboard\""));
    assert!(keyboard.is_some_and(|event| event.contains("407") || event.contains("1031")), "{keyboard:?}");
    let secret = std::fs::read_to_string(gateway.config().parent().unwrap().join("eng-ws/password")).unwrap();
    assert!(!gateway.log().contains(secret.trim()), "the target's secret is in the log");
}

#[test]
fn a_desktop_in_the_browser_takes_a_log_in_and_a_fresh_token_of_ones_own_and_ends_with_the_log_in() {
    let gateway = Gateway::start();
    let sessions = line(&gateway, &["session", "list", "--json"]);
    gateway.browse("desktop_refused.mjs", &[("COFFERDAM_SESSIONS", &sessions)]);
    let failed = gateway.audit("login.failed");
    let tokens: Vec<_> = failed.iter().filter(|e| e.to_string().contains("desktop_token")).collect();
    assert_eq!(tokens.len(), 2, "each refusal is audited: {failed:#?}");
    assert!(tokens[0].to_string().contains("emil"), "it is whose browser it was: {tokens:#?}");
}

#[test]
fn an_approver_sees_in_the_browser_what_happens_on_a_desktop_within_a_second() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let client = gateway.at_the_desktop(&display, &api);
    let press = as_json(&display.presses("k"));
    gateway.browse("desktop_live.mjs", &[("COFFERDAM_PRESS", &press), ("COFFERDAM_SHOTS", &shots())]);
    let watched = gateway.audit("session.watched");
    assert!(watched.iter().any(|entry| entry.to_string().contains("olga")), "{watched:#?}");
    drop(client);
}

#[test]
fn an_investigator_replays_a_desktop_by_its_small_pictures_controls_marks_and_links() {
    let gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let client = gateway.at_the_desktop(&display, &api);
    // One picture for each second.
    std::thread::sleep(Duration::from_secs(4));
    display.press("k");
    std::thread::sleep(Duration::from_secs(3));
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    drop(client);
    gateway.ended_session();
    let shots = shots();
    let shots = [("COFFERDAM_RECORDING", id.as_str()), ("COFFERDAM_SHOTS", &shots)];
    gateway.browse("desktop_replay.mjs", &shots);
    let played = gateway.audit("recording.played");
    assert!(
        played.iter().any(|e| e["actor"] == "ivan" && e.to_string().contains("stills")),
        "looking at them is audited: {played:#?}"
    );
}

#[test]
fn a_desktop_in_the_browser_offers_the_clipboard_where_the_asset_allows_it_and_takes_text_from_a_phone() {
    let gateway = Gateway::start();
    gateway.eng_ws_may(&ALLOWED);
    gateway.browse("desktop_allowed.mjs", &[]);
    let session = gateway.ended_session();
    assert!(session.to_string().contains("closed"), "{session:#}");
}

/// A command line of a target's X display, for scripts.
fn on(target: &Xrdp, words: &[&str]) -> String {
    let mut command = Command::new("env");
    command.arg(format!("DISPLAY={}", target.desktop.name)).args(words);
    as_json(&command)
}

/// A real desktop (xrdp) in the browser, whose script sees the target by its own display.
fn at_a_real_desktop(script: &str, allowed: bool) -> Gateway {
    let (gateway, folder) = (Gateway::start(), Folder::new());
    let target = Xrdp::with_clipboard(&folder);
    gateway.eng_ws_is(target.address, "tls", Xrdp::PASSWORD);
    if allowed {
        gateway.eng_ws_may(&ALLOWED);
    }
    let (keys, there) = (folder.path("keys"), gateway.scratch("there.png"));
    let mut watch = Command::new("xev");
    watch.args(["-root", "-event", "keyboard"]).env("DISPLAY", &target.desktop.name);
    let _watch = Running::start(watch.stdout(std::fs::File::create(&keys).unwrap()));
    let copy = "printf %s \"$1\" | xclip -selection clipboard -i >/dev/null 2>&1";
    let shots = shots();
    gateway.browse(
        script,
        &[
            // xrdp answers the last of two programs that ask at once, and lets the other wait for ever: the display's own
            // VNC server is one that asks.
            ("COFFERDAM_COPIED", &on(&target, &["timeout", "2", "xclip", "-selection", "clipboard", "-o"])),
            ("COFFERDAM_COPY", &on(&target, &["sh", "-c", copy, "sh"])),
            ("COFFERDAM_SIZE", &on(&target, &["xdotool", "getdisplaygeometry"])),
            (
                "COFFERDAM_DRAW",
                &on(&target, &["xsetroot", "-mod", "23", "17", "-fg", "#c04020", "-bg", "#e0e8f0"]),
            ),
            (
                "COFFERDAM_PICTURE",
                &on(&target, &["import", "-silent", "-window", "root", &there.to_string_lossy()]),
            ),
            ("COFFERDAM_TARGET_SECRET", Xrdp::PASSWORD),
            ("COFFERDAM_KEYS", &keys.to_string_lossy()),
            ("COFFERDAM_SHOTS", &shots),
        ],
    );
    gateway
}

#[test]
fn a_real_desktop_in_the_browser_takes_and_gives_text_where_its_asset_allows_that() {
    let gateway = at_a_real_desktop("desktop_real.mjs", true);
    let id = id_of(&gateway.only_session());
    gateway.ended_session();
    gateway.cofferdam(["recording", "verify", &id]).ok();
    // After all those sizes the recording has what the target shows, but for the colours that 16 bits do not tell, and the
    // pointer.
    let [there, recorded] = ["there.png", "recorded.png"].map(|name| gateway.scratch(name));
    gateway.last_picture(&id, &recorded);
    let sizes = [&there, &recorded].map(|picture| {
        let mut identify = Command::new("identify");
        identify.args(["-format", "%wx%h"]).arg(picture);
        run(identify).ok().out()
    });
    assert_eq!(sizes[0], sizes[1]);
    let differ: u32 = compared(&["-fuzz", "4%"], &there, &recorded).parse().unwrap();
    assert!(differ <= 32 * 32, "{differ} pixels of {sizes:?} differ");
}

#[test]
fn a_real_desktop_in_the_browser_keeps_its_clipboard_and_its_size_where_its_asset_allows_nothing() {
    at_a_real_desktop("desktop_shut.mjs", false);
}
