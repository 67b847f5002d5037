//! Text on desktops, read by Tesseract after the session.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    rdp::{BLUE, MIDDLE},
    support::{
        Gateway,
        cli::id_of,
        desktop::Display,
        run,
        targets::{Folder, Shadow},
        wait_for,
    },
};

/// A mark beside the text, and its colour.
const MARK: (u16, u16) = (110, 210);
const WHITE: &str = "FFFFFF";

/// Shows a text on a target's display.
fn writes(display: &str, text: &str) {
    let mut convert = Command::new("convert");
    convert.args(["-size", "1024x768", "xc:#335577", "-fill", "white", "-draw", "rectangle 100,200 120,220"]);
    convert.args(["-font", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "-pointsize", "24"]);
    convert.args(["-annotate", "+60+120", text, "miff:-"]).stdout(Stdio::piped());
    let mut picture = convert.spawn().unwrap();
    let mut show = Command::new("display");
    show.args(["-window", "root", "-"]).env("DISPLAY", display).stdin(picture.stdout.take().unwrap());
    // How it ends says nothing; what is on the screen does.
    show.status().unwrap();
    picture.wait().unwrap();
}

/// The recording of the only session, once it is sealed and has its index.
fn recorded(gateway: &Gateway, id: &str) -> PathBuf {
    let file = gateway.session(id)["recording"]["path"].as_str().unwrap().to_owned();
    let index = Path::new(&file).with_extension("cofidx");
    wait_for("the index", Duration::from_secs(20), || index.exists().then_some(()));
    file.into()
}

#[test]
fn text_that_stood_on_a_desktop_is_found_after_the_session_where_the_site_wants_that() {
    let (mut gateway, folder) = (Gateway::start(), Folder::new());
    let target = Shadow::start(&folder);
    gateway.eng_ws_is(target.address, "nla", Shadow::PASSWORD);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_a_desktop(&display, &api, MIDDLE, BLUE);
    let id = id_of(&gateway.only_session());
    writes(&target.desktop.name, "Valve 4711 released by the operator");
    wait_for("the text at the person's", Duration::from_secs(20), || {
        (display.colour(MARK) == WHITE).then_some(())
    });
    // It stands for a while.
    std::thread::sleep(Duration::from_secs(2));
    gateway.kill_session(&id).ok();
    client.ended_within(Duration::from_secs(10));
    let read = recorded(&gateway, &id).with_extension("cofocr");
    assert!(gateway.list(&["recording", "search", "Valve 4711"]).is_empty());
    let by_ocr = |gateway: &Gateway| {
        gateway.audit("recording.played").iter().any(|entry| entry.to_string().contains("\"ocr\""))
    };
    assert!(!read.exists() && !by_ocr(&gateway), "nothing reads it unless the site wants that");

    // What was recorded before is read, too.
    gateway.restart_with(|text| text + "\n[ocr]\nevery_seconds = 1\n");
    wait_for("the text", Duration::from_secs(120), || read.exists().then_some(()));
    let found = gateway.list(&["recording", "search", "valve 4711 RELEASED by"]);
    assert_eq!((found.len(), found[0]["id"].as_str()), (1, Some(id.as_str())), "{found:#?}");
    assert_eq!(found[0]["hits"][0]["kind"], "ocr", "{found:#?}");
    assert!(by_ocr(&gateway), "it is noted who read the recording");
    gateway.cofferdam(["recording", "verify", &id]).ok();
    let said = gateway.cofferdam(["doctor"]).out();
    assert!(said.contains("/usr/bin/tesseract reads eng"), "{said}");
    // Without the identity that replays, nothing is found.
    gateway.restart_with(|text| {
        text.replace("\nreplay_identity_file", "\n# replay_identity_file")
            .replace("[ocr]", "# [ocr]")
            .replace("\nevery_seconds = 1\n", "\n")
    });
    gateway.cofferdam(["recording", "search", "valve 4711"]).failed();
}

/// Processes whose command line holds `text`.
fn running(text: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(text)).count()
}

#[test]
fn a_program_that_hangs_keeps_no_gateway_from_stopping_and_one_that_is_missing_is_named() {
    let mut gateway = Gateway::start();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_the_desktop(&display, &api);
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    client.ended_within(Duration::from_secs(10));
    recorded(&gateway, &id);
    let fake = gateway.scratch("tesseract");
    fs::write(&fake, "#!/bin/sh\ncase \"$*\" in *list-langs*) echo eng ;; *) exec sleep 4711.25 ;; esac\n")
        .unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let named = |program: &str| format!("\n[ocr]\nprogram = \"{program}\"\n");
    gateway.restart_with(|text| text + &named(&fake.display().to_string()));
    wait_for("the program", Duration::from_secs(30), || (running("sleep 4711.25") > 0).then_some(()));
    // It holds up nobody.
    run(gateway.vera().ssh("pump-hmi", ["true"])).ok();
    gateway.ask_to_stop();
    gateway.stopped_within(Duration::from_secs(20));
    wait_for("its end", Duration::from_secs(5), || (running("sleep 4711.25") == 0).then_some(()));

    gateway.restart_with(|text| text.replace(&fake.display().to_string(), "/usr/bin/no-tesseract"));
    wait_for("what to do about it", Duration::from_secs(20), || {
        gateway.log().contains("install Tesseract (package tesseract-ocr)").then_some(())
    });
    gateway.cofferdam(["doctor"]).exited(1).said("install Tesseract");
    run(gateway.vera().ssh("pump-hmi", ["true"])).ok();
    // A language that is not there is named, too.
    gateway.restart_with(|text| {
        text.replace("program = \"/usr/bin/no-tesseract\"", "languages = [\"eng\", \"tlh\"]")
    });
    gateway.cofferdam(["doctor"]).exited(1).said("tesseract-ocr-tlh");
}
