//! Files beside a desktop: drives that a person shares with a real target, each way, and what is never shared.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use super::rdp::{BLUE, MIDDLE};
use crate::support::{
    Done, Gateway, Live,
    cli::{id_of, state_of},
    desktop::Display,
    noise, run,
    targets::{Folder, Xrdp},
    wait_for,
};

/// A gateway, an xrdp with drives, and a client that shares a folder as `share`.
struct Scene {
    gateway: Gateway,
    folder: Folder,
    target: Xrdp,
    shared: PathBuf,
    display: Display,
    api: String,
}

impl Scene {
    /// The asset has these options in its `rdp` table.
    fn new(options: &str) -> Self {
        let (gateway, folder) = (Gateway::start(), Folder::new());
        let target = Xrdp::with_drives(&folder);
        gateway.eng_ws_is(target.address, "tls", Xrdp::PASSWORD);
        let options: toml::Table = options.parse().unwrap();
        gateway.change_asset("eng-ws", |asset| asset["rdp"].as_table_mut().unwrap().extend(options));
        let shared = folder.path("shared");
        fs::create_dir(&shared).unwrap();
        let (display, api) = (Display::start(), gateway.api_token("connect"));
        Self { gateway, folder, target, shared, display, api }
    }

    /// The desktop is on the person's screen.
    #[track_caller]
    fn connect(&self, more: &[&str]) -> Live {
        let drive = format!("/drive:share,{}", self.shared.display());
        let more: Vec<&str> = [drive.as_str()].into_iter().chain(more.iter().copied()).collect();
        self.gateway.sharing(&self.display, &self.api, MIDDLE, BLUE, &more)
    }

    /// The person's drive as the target sees it, once it is there.
    #[track_caller]
    fn drive(&self) -> PathBuf {
        let drive = self.folder.drives().join("share");
        let (drive, _) = wait_for("the drive", Duration::from_secs(20), || {
            (at_the_target("stat", &[&drive]).code == Some(0)).then_some(drive.clone())
        });
        drive
    }

    /// Ends the session; what its recording says happened to files.
    fn ended(self, mut client: Live) -> (Gateway, Vec<Value>) {
        let id = id_of(&self.gateway.only_session());
        self.gateway.kill_session(&id).ok();
        client.ended_within(Duration::from_secs(10));
        wait_for("the session's end in the store", Duration::from_secs(5), || {
            state_of(&self.gateway.only_session()).starts_with("ended").then_some(())
        });
        drop(self.target);
        self.gateway.cofferdam(["recording", "verify", &id]).ok();
        let shown = self.gateway.cofferdam(["recording", "show", &id, "--json"]).ok();
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        (self.gateway, shown["events"].as_array().unwrap().clone())
    }
}

/// A program at the target. A drive that does not answer must not hold the test.
fn at_the_target(program: &str, paths: &[&Path]) -> Done {
    let mut command = Command::new("timeout");
    command.args(["30", program]).args(paths);
    run(command)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// Whether an event of the recording says all of this.
#[track_caller]
fn told(events: &[Value], parts: &[&str]) {
    let found =
        events.iter().any(|e| parts.iter().all(|part| e["text"].as_str().unwrap_or_default().contains(part)));
    assert!(found, "no event with {parts:?}: {events:#?}");
}

#[test]
fn files_go_both_ways_over_a_drive_that_the_site_allows_and_are_in_the_recording() {
    let scene = Scene::new("drives_to_target = true\ndrives_to_person = true");
    let (up, down) = (noise(300_001), noise(200_003));
    fs::create_dir(scene.shared.join("in")).unwrap();
    fs::write(scene.shared.join("in/recipe.bin"), &up).unwrap();
    let (fetched, made) = (scene.folder.path("fetched"), scene.folder.path("made"));
    fs::write(&made, &down).unwrap();
    let client = scene.connect(&[]);
    let drive = scene.drive();
    at_the_target("ls", &[&drive]).ok().said("in");
    at_the_target("cp", &[&drive.join("in/recipe.bin"), &fetched]).ok();
    assert!(fs::read(&fetched).unwrap() == up, "the file changed on its way to the target");
    at_the_target("cp", &[&made, &drive.join("report.bin")]).ok();
    let shared = scene.shared.join("report.bin");
    wait_for("the file at the person's", Duration::from_secs(10), || {
        (fs::read(&shared).ok()? == down).then_some(())
    });
    at_the_target("mv", &[&drive.join("report.bin"), &drive.join("renamed.bin")]).ok();
    at_the_target("rm", &[&drive.join("renamed.bin")]).ok();
    assert!(!shared.exists());
    let (gateway, events) = scene.ended(client);
    told(&events, &["upload", "/share/in/recipe.bin", "300001", &sha256(&up)]);
    told(&events, &["download", "/share/report.bin", "200003", &sha256(&down)]);
    told(&events, &["rename", "/share/report.bin", "/share/renamed.bin"]);
    told(&events, &["remove", "/share/renamed.bin"]);
    // What changes the drive was in the recording before the client heard of it; and who looked around.
    for started in ["download /share/report.bin", "rename /share/report.bin", "remove /share/renamed.bin"] {
        told(&events, &[started, "started"]);
    }
    told(&events, &["list /share"]);
    // A copy of each is kept.
    let out = gateway.scratch("kept");
    let id = id_of(&gateway.only_session());
    let export = ["recording", "export", &id, "--format", "files", "--output"];
    gateway.cofferdam(export.into_iter().chain([out.to_str().unwrap()])).ok();
    let kept: Vec<Vec<u8>> =
        fs::read_dir(&out).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(kept.contains(&up), "no copy of what the target read");
    assert!(kept.contains(&down), "no copy of what the target wrote");
}

#[test]
fn no_drive_is_shown_to_a_desktop_unless_the_site_says_so() {
    let scene = Scene::new("");
    fs::write(scene.shared.join("secret"), "plans").unwrap();
    let client = scene.connect(&[]);
    let (refused, _) = wait_for("the refusal in the audit log", Duration::from_secs(5), || {
        let refused = scene.gateway.audit("channel.refused");
        refused.iter().any(|e| e.to_string().contains("rdpdr")).then_some(refused)
    });
    assert!(!refused.is_empty());
    std::thread::sleep(Duration::from_secs(3));
    at_the_target("stat", &[&scene.folder.drives().join("share")]).failed();
    scene.ended(client);
}

#[test]
fn only_what_the_site_allows_is_shown_of_what_a_client_offers() {
    // The channel is there for printers; a drive on it is not.
    let scene = Scene::new("printers = true");
    let client = scene.connect(&["/parallel:lpt,/dev/null"]);
    wait_for("the refusals in the audit log", Duration::from_secs(20), || {
        let refused = scene.gateway.audit("channel.refused");
        let named = |what: &str| refused.iter().any(|e| e.to_string().contains(what));
        (named("drive share") && named("parallel port")).then_some(())
    });
    at_the_target("stat", &[&scene.folder.drives().join("share")]).failed();
    scene.ended(client);
}

#[test]
fn patterns_sizes_and_directions_refuse_a_file_on_a_drive() {
    let scene =
        Scene::new("drives_to_target = true\ndrives_paths = [\"/share/*.csv\"]\ndrives_file_bytes = 1000");
    for (name, size) in [("good.csv", 900), ("large.csv", 5000), ("secret.txt", 10)] {
        fs::write(scene.shared.join(name), noise(size)).unwrap();
    }
    let client = scene.connect(&[]);
    let drive = scene.drive();
    at_the_target("ls", &[&drive]).ok().said("good.csv");
    assert_eq!(at_the_target("cat", &[&drive.join("good.csv")]).ok().stdout, noise(900));
    for refused in ["large.csv", "secret.txt"] {
        at_the_target("cat", &[&drive.join(refused)]).failed();
    }
    at_the_target("cp", &[&scene.folder.path("vncpasswd"), &drive.join("out.csv")]).failed();
    at_the_target("rm", &[&drive.join("good.csv")]).failed();
    assert!(scene.shared.join("good.csv").exists() && !scene.shared.join("out.csv").exists());
    wait_for("the refusals in the audit log", Duration::from_secs(5), || {
        let refused = scene.gateway.audit("channel.refused");
        let named = |what: &str| refused.iter().any(|e| e.to_string().contains(what));
        (named("upload /share/large.csv") && named("upload /share/secret.txt") && named("/share/out.csv"))
            .then_some(())
    });
    let (_, events) = scene.ended(client);
    told(&events, &["upload", "/share/good.csv", &sha256(&noise(900))]);
    told(&events, &["/share/secret.txt", "refused"]);
    assert!(!events.iter().any(|e| e.to_string().contains(&sha256(&noise(10)))));
}

#[test]
fn a_drive_gives_nothing_while_the_session_is_suspended_nor_after_the_site_took_it_away() {
    let scene = Scene::new("drives_to_target = true");
    for name in ["one", "two", "three", "four"] {
        fs::write(scene.shared.join(name), name).unwrap();
    }
    let client = scene.connect(&[]);
    let drive = scene.drive();
    assert_eq!(at_the_target("cat", &[&drive.join("one")]).ok().stdout, b"one");
    let id = id_of(&scene.gateway.only_session());
    scene.gateway.cofferdam(["session", "suspend", &id, "--as", "olga"]).ok();
    wait_for("the suspension", Duration::from_secs(5), || {
        (state_of(&scene.gateway.only_session()) == "suspended").then_some(())
    });
    at_the_target("cat", &[&drive.join("two")]).failed();
    scene.gateway.cofferdam_by("olga", ["session", "resume", &id]).ok();
    wait_for("a file after the suspension", Duration::from_secs(10), || {
        (at_the_target("cat", &[&drive.join("three")]).stdout == b"three").then_some(())
    });
    scene.gateway.change_asset("eng-ws", |asset| {
        asset["rdp"].as_table_mut().unwrap().remove("drives_to_target");
    });
    wait_for("the site's change", Duration::from_secs(5), || {
        (at_the_target("cat", &[&drive.join("four")]).code != Some(0)).then_some(())
    });
    scene.ended(client);
}
