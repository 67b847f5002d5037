//! What clients of one's own do besides showing a desktop: read settings, follow a window's size, share text; and those that crawl.

use std::{process::Command, time::Duration};

use super::rdp::{BLUE, MIDDLE};
use crate::support::{
    Done, Gateway, Live,
    cli::id_of,
    desktop::Display,
    peer, python, run,
    targets::{Folder, Xrdp},
    wait_for,
};

#[test]
fn those_who_crawl_inside_tls_are_hung_up_on_and_hold_nobody_up() {
    let mut gateway = Gateway::start();
    gateway.restart_with(|text| {
        let (before, after) = text.split_once("[rdp]").expect("no desktops");
        format!("{before}[rdp]{}", after.replacen("# login_grace_seconds = 60", "login_grace_seconds = 6", 1))
    });
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let before = gateway.resident_kib();
    let address = gateway.rdp_address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut crawls = Command::new(python());
    crawls.arg(peer("crawl.py")).args([host, port]);
    let crawls = std::thread::spawn(move || run(crawls));
    let mut client = gateway.at_the_desktop(&display, &api);
    assert!(client.is_running());
    let done = crawls.join().unwrap().ok();
    let out = done.out();
    let took = |name: &str| {
        let line = out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{out}"));
        line.trim().parse::<f64>().unwrap()
    };
    for name in ["silent", "bytewise", "promising"] {
        assert!((3.0..12.0).contains(&took(name)), "{out}");
    }
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < 60_000, "{grown} KiB more");
    gateway.kill_session(&id_of(&gateway.only_session())).ok();
    client.ended_within(Duration::from_secs(10));
}

#[test]
fn the_settings_of_the_page_are_all_that_a_client_needs_besides_its_token() {
    let gateway = Gateway::start();
    let display = Display::start();
    let file = gateway.scratch("eng-ws.rdp");
    let done = gateway.browse("desktop_settings.mjs", &[("COFFERDAM_TO", &file.to_string_lossy())]);
    let out = done.out();
    let token = out.lines().find_map(|line| line.strip_prefix("token: ")).expect("no token");
    let mut client = display.command("xfreerdp");
    client.arg(&file).args([&format!("/p:{token}"), "/cert:ignore", "-decorations", "/log-level:INFO"]);
    let mut client = gateway.at_the_desktop_of(&display, client);
    gateway.kill_session(&id_of(&gateway.only_session())).ok();
    client.ended_within(Duration::from_secs(10));
}

/// A gateway whose desktop is an xrdp with a clipboard, and may have more than screen, keys and pointer.
struct Scene {
    gateway: Gateway,
    target: Xrdp,
    folder: Folder,
    display: Display,
    api: String,
}

impl Scene {
    fn new(allowed: &[&str]) -> Self {
        let (gateway, folder) = (Gateway::start(), Folder::new());
        let target = Xrdp::with_clipboard(&folder);
        gateway.eng_ws_is(target.address, "tls", Xrdp::PASSWORD);
        gateway.eng_ws_may(allowed);
        let (display, api) = (Display::start(), gateway.api_token("connect"));
        Self { gateway, target, folder, display, api }
    }

    #[track_caller]
    fn connect(&self, more: &[&str]) -> Live {
        self.gateway.sharing(&self.display, &self.api, MIDDLE, BLUE, more)
    }

    fn at_the_target(&self, words: &[&str]) -> Done {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DISPLAY", &self.target.desktop.name);
        run(command)
    }

    fn at_the_client(&self, words: &[&str]) -> Done {
        let mut command = self.display.command(words[0]);
        command.args(&words[1..]);
        run(command)
    }

    /// Ends the session, whose recording is whole.
    #[track_caller]
    fn ended(&self, client: &mut Live) -> String {
        let id = id_of(&self.gateway.only_session());
        self.gateway.kill_session(&id).ok();
        client.ended_within(Duration::from_secs(10));
        self.gateway.ended_session();
        self.gateway.cofferdam(["recording", "verify", &id]).ok();
        id
    }
}

/// Puts a text on a clipboard. What stays behind to serve it must not hold our pipes.
const COPY: [&str; 3] = ["sh", "-c", "printf %s \"$1\" | xclip -selection clipboard -i >/dev/null 2>&1"];
/// The text on a clipboard; xrdp answers the last of two programs that ask, and lets the other wait for ever.
const PASTE: [&str; 6] = ["timeout", "2", "xclip", "-selection", "clipboard", "-o"];

#[test]
fn text_is_copied_each_way_between_a_client_and_a_desktop_only_where_the_asset_allows_that_way() {
    let scene = Scene::new(&["clipboard_to_target"]);
    let mut client = scene.connect(&["+clipboard"]);
    let copied = |text: &'static str| [&COPY[..], &["sh", text]].concat();
    wait_for("the text on the target's clipboard", Duration::from_secs(20), || {
        // Again each time: a client that has only just begun does not look yet.
        scene.at_the_client(&copied("valve 7 to 42 %")).ok();
        std::thread::sleep(Duration::from_secs(1));
        (scene.at_the_target(&PASTE).out() == "valve 7 to 42 %").then_some(())
    });
    scene.at_the_target(&copied("recipe-of-the-house")).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!scene.at_the_client(&PASTE).out().contains("recipe"), "it passed the other way");
    let id = scene.ended(&mut client);
    let shown = scene.gateway.cofferdam(["recording", "show", &id]).ok().out();
    assert!(shown.contains("clipboard to the target") && !shown.contains("valve 7"), "{shown}");
    drop(scene);

    let scene = Scene::new(&["clipboard_to_person"]);
    let mut client = scene.connect(&["+clipboard"]);
    wait_for("the text on the person's clipboard", Duration::from_secs(20), || {
        scene.at_the_target(&copied("recipe-of-the-house")).ok();
        std::thread::sleep(Duration::from_secs(1));
        (scene.at_the_client(&PASTE).out() == "recipe-of-the-house").then_some(())
    });
    scene.at_the_client(&copied("valve 7 to 42 %")).ok();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!scene.at_the_target(&PASTE).out().contains("valve"), "it passed the other way");
    scene.ended(&mut client);
}

#[test]
fn a_desktop_follows_the_window_of_a_client_where_the_asset_allows_it_and_so_does_its_recording() {
    let scene = Scene::new(&["resize"]);
    let mut client = scene.connect(&["/size:1024x768", "/dynamic-resolution"]);
    let size = || scene.at_the_target(&["xdotool", "getdisplaygeometry"]).out().trim().to_owned();
    assert_eq!(size(), "1024 768");
    wait_for("the smaller desktop", Duration::from_secs(30), || {
        let resize = "xdotool search --onlyvisible --name '.' windowsize 960 600";
        scene.at_the_client(&["sh", "-c", resize]);
        std::thread::sleep(Duration::from_secs(2));
        (size() == "960 600").then_some(())
    });
    scene.target.desktop.fill("#aa2211");
    wait_for("what it shows", Duration::from_secs(10), || {
        (scene.display.colour((500, 300)) == "AA2211").then_some(())
    });
    let id = scene.ended(&mut client);
    let picture = scene.folder.path("last.png");
    scene.gateway.last_picture(&id, &picture);
    let mut identify = Command::new("identify");
    identify.args(["-format", "%w %h"]).arg(&picture);
    assert_eq!(run(identify).ok().out().trim(), "960 600");
}

#[test]
fn a_secret_that_a_desktop_without_nla_refuses_opens_nothing_and_stands_nowhere() {
    let scene = Scene::new(&[]);
    scene.gateway.eng_ws_is(scene.target.address, "tls", "not-the-password");
    let (user, token) = scene.gateway.desktop_pass(&scene.api);
    let mut client = Live::start(scene.gateway.freerdp(&scene.display, &user, &token));
    // Such a machine says so on its own screen, in a box, and nowhere else.
    wait_for("the machine's own words", Duration::from_secs(20), || {
        (scene.display.colour((200, 300)) == "C0C0C0").then_some(())
    });
    assert_ne!(scene.display.colour(MIDDLE), BLUE, "it is the desktop");
    let id = scene.ended(&mut client);
    let shown = scene.gateway.cofferdam(["recording", "show", &id, "--json"]).ok().out();
    for text in [scene.gateway.log(), client.transcript(), scene.gateway.audit_text(), shown] {
        assert!(!text.contains("not-the-password"), "{text}");
    }
}
