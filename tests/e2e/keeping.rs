//! How long recordings stay: what is due, holds, deletion by two people, and the room they take.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;

use crate::support::{Done, Gateway, cli::id_of, peer, python, run, wait_for};

/// A session of vera's that has ended, with its recording sealed.
fn recorded(gateway: &Gateway, command: &str) -> String {
    run(gateway.vera().ssh("pump-hmi", [command])).ok();
    let (id, _) = wait_for("the end of the session", Duration::from_secs(20), || {
        let sessions = gateway.sessions();
        let open = sessions.iter().any(|s| s["state"] != "ended");
        // Ids rise with time.
        let newest = sessions.iter().max_by_key(|s| id_of(s))?;
        (!open && newest["recording"]["digest"].is_string()).then(|| id_of(newest))
    });
    id
}

fn file_of(gateway: &Gateway, id: &str) -> PathBuf {
    gateway.session(id)["recording"]["path"].as_str().unwrap().into()
}

/// Does behind the store's back what only time or a crash does.
fn stored(gateway: &Gateway, act: &str, session: &str) {
    let mut python = Command::new(python());
    python.arg(peer("stored.py")).arg(gateway.config()).args([act, session]);
    run(python).ok();
}

fn ask(gateway: &Gateway, who: &str, which: &[&str]) -> Done {
    let request = ["recording", "delete", "request", "--reason", "kept long enough", "--json"];
    gateway.cofferdam_by(who, request.iter().chain(which))
}

fn agree(gateway: &Gateway, who: &str, request: &str) -> Done {
    gateway.cofferdam_by(who, ["recording", "delete", "approve", request])
}

fn request_of(done: Done) -> String {
    id_of(&serde_json::from_slice::<Value>(&done.ok().stdout).unwrap())
}

#[test]
fn what_is_due_is_deleted_by_two_people_and_the_hole_is_explained() {
    let mut gateway = Gateway::start();
    let (old, new) = (recorded(&gateway, "echo old"), recorded(&gateway, "echo new"));
    assert!(gateway.list(&["recording", "due"]).is_empty(), "nothing is due after a moment");
    ask(&gateway, "ivan", &["--due"]).failed().said("nothing is due");
    stored(&gateway, "a-year-passes", &old);
    let due = gateway.list(&["recording", "due"]);
    assert_eq!(due.iter().map(id_of).collect::<Vec<_>>(), [old.as_str()], "{due:#?}");

    let digest = gateway.session(&old)["recording"]["digest"].as_str().unwrap().to_owned();
    let file = file_of(&gateway, &old);
    let request = request_of(ask(&gateway, "ivan", &["--due"]));
    assert!(file.exists(), "asking deletes nothing");
    agree(&gateway, "ivan", &request).failed().said("somebody else has to agree");
    agree(&gateway, "sam", &request).failed().said("holds no duty that deletes");
    assert!(file.exists());
    agree(&gateway, "ada", &request).ok().said("1 recordings are deleted");
    for side in ["cofrec", "cofkeys", "cofidx"] {
        assert!(!file.with_extension(side).exists(), "{side} is left");
    }

    let deleted = gateway.audit("recording.deleted");
    assert_eq!(deleted.len(), 1, "{deleted:#?}");
    let told = deleted[0].to_string();
    for word in [old.as_str(), &digest, "ivan", "ada", "investigator", "administrator", "kept long enough"] {
        assert!(told.contains(word), "no {word:?} in {told}");
    }
    assert_eq!(gateway.audit("recording.erased").len(), 1);
    gateway.cofferdam(["recording", "show", &old]).ok().said("by ivan and ada").said(&digest);
    gateway.cofferdam(["recording", "list"]).ok().said("by ivan and ada");
    gateway.cofferdam(["recording", "export", &old]).failed().said("was deleted on");
    gateway.cofferdam(["recording", "verify"]).ok().said("by ivan and ada");
    gateway.cofferdam(["audit", "verify"]).ok();

    // One that nobody deleted by the rules is another matter.
    let (file, away) = (file_of(&gateway, &new), gateway.scratch("away"));
    fs::rename(&file, &away).unwrap();
    gateway.cofferdam(["recording", "verify"]).exited(1).said("vanished");
    // Nor does it help to write into the database that it was deleted: nothing is erased, nothing explained.
    fs::rename(&away, &file).unwrap();
    stored(&gateway, "forge-deletion", &new);
    gateway.crash_and_restart();
    wait_for("the refusal", Duration::from_secs(20), || {
        gateway.log().contains("the audit log does not say that two people deleted it").then_some(())
    });
    assert!(file.exists());
    fs::rename(&file, &away).unwrap();
    gateway.cofferdam(["recording", "verify"]).exited(1).said("the audit log knows nothing of that");
}

#[test]
fn a_hold_beats_everybody_until_a_person_lifts_it_who_then_has_no_part_in_deleting() {
    let gateway = Gateway::start();
    let id = recorded(&gateway, "echo evidence");
    let request = request_of(ask(&gateway, "ivan", &[&id]));
    gateway.cofferdam(["recording", "hold", &id, "--reason", "case 12", "--as", "sam"]).ok();
    agree(&gateway, "ada", &request).failed().said("is held (case 12)");
    ask(&gateway, "ivan", &[&id]).failed().said("is held");
    let lift = ["recording", "hold", &id, "--lift", "--reason", "case 12 is closed"];
    gateway.cofferdam(lift).exited(2);
    gateway.cofferdam_by("ada", lift).failed().said("may not lift a hold");
    gateway.cofferdam_by("ivan", lift).ok();
    agree(&gateway, "ada", &request).failed().said("ivan lifted a hold");
    assert!(file_of(&gateway, &id).exists());
    let refuse = ["recording", "delete", "refuse", &request, "--as", "ada", "--reason", "it is evidence"];
    gateway.cofferdam(refuse).ok();
    let requests = gateway.list(&["recording", "delete", "list"]);
    assert_eq!(requests[0]["state"], "refused");
    assert_eq!(gateway.audit("recording.held").len(), 2);
}

#[test]
fn a_deletion_that_a_crash_cut_short_is_finished_by_the_next_start() {
    let mut gateway = Gateway::start();
    let id = recorded(&gateway, "echo gone");
    let file = file_of(&gateway, &id);
    let kept: Vec<_> = ["cofrec", "cofkeys"]
        .map(|side| file.with_extension(side))
        .map(|path| (fs::read(&path).unwrap(), path))
        .into();
    let request = request_of(ask(&gateway, "ada", &[&id]));
    agree(&gateway, "ivan", &request).ok();
    // As after a crash between the decision and the files.
    gateway.crash();
    for (bytes, path) in &kept {
        fs::write(path, bytes).unwrap();
    }
    stored(&gateway, "unerase", "");
    gateway.crash_and_restart();
    wait_for("the files to be erased", Duration::from_secs(20), || (!file.exists()).then_some(()));
    wait_for("the entry about it", Duration::from_secs(20), || {
        (gateway.audit("recording.erased").len() == 2).then_some(())
    });
    gateway.cofferdam(["recording", "verify"]).ok().said("by ada and ivan");
}

#[test]
fn little_space_is_said_once_and_so_is_enough() {
    let mut gateway = Gateway::start();
    recorded(&gateway, "echo something");
    let usage = |gateway: &Gateway| -> Value {
        let done = gateway.cofferdam(["recording", "usage", "--json"]).ok();
        serde_json::from_slice(&done.stdout).unwrap()
    };
    let now = usage(&gateway);
    assert_eq!((now["recordings"].as_u64(), now["state"].as_str()), (Some(1), Some("ok")), "{now}");
    assert!(now["bytes"].as_u64() > Some(100) && now["days_left"].as_u64() > Some(0), "{now}");
    let metrics = gateway.list(&["metrics"]);
    for id in ["recordings_bytes", "recordings_free_bytes", "recordings_days_left"] {
        assert!(
            metrics.iter().any(|m| m["id"] == id && m["value"].as_f64() > Some(0.0)),
            "{id}: {metrics:#?}"
        );
    }

    let config = fs::read_to_string(gateway.config()).unwrap();
    let with = |bytes: u64| {
        let line = |l: &str| match l.starts_with("warn_free_bytes") {
            true => format!("warn_free_bytes = {bytes}\n"),
            false => format!("{l}\n"),
        };
        config.lines().map(line).collect::<String>()
    };
    fs::write(gateway.config(), with(1 << 60)).unwrap();
    for _ in 0..2 {
        gateway.crash_and_restart();
        wait_for("the alarm", Duration::from_secs(30), || {
            (gateway.audit("recording.space_low").len() == 1).then_some(())
        });
    }
    assert_eq!(usage(&gateway)["state"], "low");
    gateway.cofferdam(["doctor"]).said("make room");
    // Housekeeping looks again and again, and has nothing new to say.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(gateway.audit("recording.space_low").len(), 1);
    assert!(gateway.audit("recording.space_enough").is_empty());
    fs::write(gateway.config(), with(4 << 20)).unwrap();
    gateway.crash_and_restart();
    wait_for("the end of the alarm", Duration::from_secs(30), || {
        (gateway.audit("recording.space_enough").len() == 1).then_some(())
    });
}
