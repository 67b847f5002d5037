//! Files beside a desktop: drives that a person shares with a real target and files on the clipboard, each way, and what is
//! never shared.

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

    /// A file of the person's machine, in a folder that is not shared.
    fn at_home(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let home = self.folder.path("home");
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join(name), bytes).unwrap();
        home.join(name)
    }

    /// Where the target shows a file that the person copied.
    fn pasted(&self, name: &str) -> PathBuf {
        self.folder.drives().join(".clipboard").join(name)
    }

    fn at_the_persons(&self) -> Command {
        self.display.command("xclip")
    }

    fn on_the_desktop(&self) -> Command {
        let mut command = Command::new("xclip");
        command.env("DISPLAY", &self.target.desktop.name);
        command
    }

    /// The person copies these files, and the desktop is offered those that may be fetched.
    #[track_caller]
    fn copied_at_home(&self, files: &[&PathBuf], offered: &[&str]) {
        wait_for("the files on the target's clipboard", Duration::from_secs(20), || {
            // Again each time: a client that has only just begun does not look yet.
            copy(self.at_the_persons(), files);
            std::thread::sleep(Duration::from_secs(1));
            let list = list_of(self.on_the_desktop());
            let names: Vec<&str> = list.lines().filter_map(|line| line.trim().rsplit('/').next()).collect();
            (names == offered).then_some(())
        });
    }

    /// Ends the session; what its recording says happened to files.
    fn ended(self, mut client: Live) -> (Gateway, Vec<Value>) {
        let id = id_of(&self.gateway.only_session());
        self.gateway.kill_session(&id).ok();
        client.ended_within(Duration::from_secs(10));
        self.gateway.ended_session();
        drop(self.target);
        self.gateway.cofferdam(["recording", "verify", &id]).ok();
        let shown = self.gateway.cofferdam(["recording", "show", &id, "--json"]).ok();
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        (self.gateway, shown["events"].as_array().unwrap().clone())
    }
}

/// Puts files on a clipboard, as file managers do.
fn copy(xclip: Command, files: &[&PathBuf]) {
    let list: String = files.iter().map(|file| format!("file://{}\r\n", file.display())).collect();
    let mut command = Command::new("sh");
    // What stays behind to serve the clipboard must not hold our pipes.
    command.args(["-c", "printf %s \"$1\" | xclip -selection clipboard -t text/uri-list -i >/dev/null 2>&1"]);
    command.args(["sh", &list]).envs(xclip.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run(command).ok();
}

/// The files on a clipboard, as file managers ask for them; nothing where there are none, or where xrdp forgets who asked.
fn list_of(xclip: Command) -> String {
    let mut command = Command::new("timeout");
    command.args(["3", "xclip", "-selection", "clipboard", "-o", "-t", "text/uri-list"]);
    command.envs(xclip.get_envs().filter_map(|(name, value)| Some((name, value?))));
    String::from_utf8_lossy(&run(command).stdout).into_owned()
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

/// The copies of files in the only recording.
fn kept(gateway: &Gateway) -> Vec<Vec<u8>> {
    let out = gateway.scratch("kept");
    let id = id_of(&gateway.only_session());
    let export = ["recording", "export", &id, "--format", "files", "--output"];
    gateway.cofferdam(export.into_iter().chain([out.to_str().unwrap()])).ok();
    fs::read_dir(&out).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
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
    let kept = kept(&gateway);
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

#[test]
fn a_file_that_the_person_copied_is_pasted_on_the_desktop_and_is_in_the_recording() {
    let scene = Scene::new("clipboard_files_to_target = true");
    let contents = noise(300_001);
    let recipe = scene.at_home("recipe.bin", &contents);
    let client = scene.connect(&["+clipboard"]);
    scene.copied_at_home(&[&recipe], &["recipe.bin"]);
    let fetched = scene.folder.path("fetched");
    at_the_target("cp", &[&scene.pasted("recipe.bin"), &fetched]).ok();
    assert!(fs::read(&fetched).unwrap() == contents, "the file changed on its way to the target");
    let (gateway, events) = scene.ended(client);
    told(&events, &["clipboard to the target: files"]);
    told(&events, &["upload", "/clipboard/recipe.bin", "300001", &sha256(&contents)]);
    assert!(kept(&gateway).contains(&contents), "no copy of what the target got");
}

#[test]
fn copied_files_are_not_even_offered_where_only_text_may_pass() {
    let scene = Scene::new("clipboard_to_target = true\nclipboard_to_person = true");
    let secret = scene.at_home("secret.txt", b"plans");
    let client = scene.connect(&["+clipboard"]);
    copy(scene.at_the_persons(), &[&secret]);
    wait_for("the refusal in the audit log", Duration::from_secs(20), || {
        let refused = scene.gateway.audit("channel.refused");
        refused.iter().any(|e| e.to_string().contains("ClipboardContent")).then_some(())
    });
    assert_eq!(list_of(scene.on_the_desktop()), "");
    assert!(!scene.pasted("secret.txt").exists());
    // Nor the other way.
    copy(scene.on_the_desktop(), &[&secret]);
    wait_for("a clipboard with nothing on it", Duration::from_secs(10), || {
        list_of(scene.at_the_persons()).is_empty().then_some(())
    });
    let (_, events) = scene.ended(client);
    assert!(!events.iter().any(|e| e.to_string().contains("secret.txt")), "{events:#?}");
}

#[test]
fn names_and_sizes_refuse_a_copied_file_and_so_do_a_suspension_and_the_sites_second_thoughts() {
    let scene = Scene::new(
        "clipboard_files_to_target = true\nclipboard_paths = [\"/clipboard/*.csv\"]\nclipboard_file_bytes = 1000",
    );
    let contents = ["one", "two", "three", "four"].map(|name| (format!("{name}.csv"), noise(900)));
    let good = contents.clone().map(|(name, contents)| scene.at_home(&name, &contents));
    let large = scene.at_home("large.csv", &noise(5000));
    let secret = scene.at_home("secret.txt", b"plans");
    let client = scene.connect(&["+clipboard"]);
    let offered: Vec<&str> = contents.iter().map(|(name, _)| name.as_str()).collect();
    let copied: Vec<&PathBuf> = [&large, &secret].into_iter().chain(&good).collect();
    scene.copied_at_home(&copied, &offered);
    let cat = |n: usize| at_the_target("cat", &[&scene.pasted(offered[n])]).stdout;
    assert!(cat(0) == contents[0].1);
    wait_for("the refusals in the audit log", Duration::from_secs(5), || {
        let refused = scene.gateway.audit("channel.refused");
        let named = |what: &str| refused.iter().any(|e| e.to_string().contains(what));
        (named("upload /clipboard/large.csv") && named("upload /clipboard/secret.txt")).then_some(())
    });
    let id = id_of(&scene.gateway.only_session());
    scene.gateway.cofferdam(["session", "suspend", &id, "--as", "olga"]).ok();
    wait_for("the suspension", Duration::from_secs(5), || {
        (state_of(&scene.gateway.only_session()) == "suspended").then_some(())
    });
    // xrdp takes a refusal for the end of the file.
    assert!(cat(1) != contents[1].1);
    scene.gateway.cofferdam_by("olga", ["session", "resume", &id]).ok();
    wait_for("the end of the suspension", Duration::from_secs(5), || {
        (state_of(&scene.gateway.only_session()) != "suspended").then_some(())
    });
    assert!(cat(2) == contents[2].1);
    scene.gateway.change_asset("eng-ws", |asset| {
        asset["rdp"].as_table_mut().unwrap().remove("clipboard_file_bytes");
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(cat(3) != contents[3].1, "other rules than those that the session began with");
    let (_, events) = scene.ended(client);
    told(&events, &["upload", "/clipboard/one.csv", &sha256(&contents[0].1)]);
    told(&events, &["/clipboard/secret.txt", "refused"]);
    told(&events, &["/clipboard/four.csv", "refused"]);
}

#[test]
fn what_was_copied_on_the_desktop_is_listed_at_the_persons_where_the_site_allows_that_way() {
    let scene = Scene::new("clipboard_files_to_person = true");
    let report = scene.folder.path("report.bin");
    fs::write(&report, noise(2000)).unwrap();
    let secret = scene.at_home("secret.txt", b"plans");
    let client = scene.connect(&["+clipboard"]);
    wait_for("the list at the person's", Duration::from_secs(20), || {
        copy(scene.on_the_desktop(), &[&report]);
        std::thread::sleep(Duration::from_secs(1));
        // This client fetches the list of files, and nothing of what is in them.
        list_of(scene.at_the_persons());
        client.transcript().contains("source format FileGroupDescriptorW").then_some(())
    });
    copy(scene.at_the_persons(), &[&secret]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(!list_of(scene.on_the_desktop()).contains("secret.txt"), "the other way is shut");
    let (_, events) = scene.ended(client);
    told(&events, &["clipboard to the person: files"]);
}
