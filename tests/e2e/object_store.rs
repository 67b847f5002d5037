//! Recordings that leave for an object store, and what happens to sessions when it does not take them.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::support::{Gateway, Live, S3Server, cli::id_of, run, wait_for};

const SOON: Duration = Duration::from_secs(40);

fn recording_file(gateway: &Gateway, id: &str) -> PathBuf {
    gateway.session(id)["recording"]["path"].as_str().unwrap().into()
}

#[test]
fn a_recording_leaves_for_the_object_store_and_is_read_from_there() {
    let (mut gateway, store) = (Gateway::start(), S3Server::start());
    let section = store.section(&gateway, "");
    gateway.restart_with(|text| text + &section);
    gateway.cofferdam(["doctor"]).ok().said("object store");
    gateway.cofferdam(["config", "check"]).ok();
    let vera = gateway.vera();
    vera.on_a_terminal(
        &vera.ssh("pump-hmi", ["-tt"]),
        &[("# ", "echo seen-by-$((40+2))-the-recorder\r"), ("seen-by-42", "exit\r")],
    )
    .ok();
    let id = id_of(&gateway.only_session());
    let file = recording_file(&gateway, &id);
    wait_for("the recording to leave", SOON, || (!file.exists()).then_some(()));
    assert!(!file.with_extension("cofkeys").exists());

    let listed = gateway.list(&["recording", "list"]);
    assert_eq!(listed.len(), 1, "{listed:#?}");
    assert_eq!((listed[0]["user"].as_str(), listed[0]["path"].as_str()), (Some("vera"), None));
    assert_eq!(listed[0]["sealed"], Value::Bool(true));
    for _ in 0..2 {
        gateway.cofferdam(["recording", "verify", &id]).ok();
        gateway.cofferdam(["recording", "show", &id]).ok().said("echo seen-by");
        gateway
            .cofferdam(["recording", "export", &id, "--format", "text"])
            .ok()
            .said("seen-by-42-the-recorder");
        assert_eq!(gateway.list(&["recording", "search", "seen-by-42"]).len(), 1);
        // The copies are no more than that: without them everything is fetched again.
        let copies = file.with_file_name("cache");
        assert!(copies.join(file.file_name().unwrap()).exists());
        fs::remove_dir_all(copies).unwrap();
    }
    let bundle = gateway.scratch("bundle.tar");
    let bundle = bundle.to_str().unwrap();
    gateway.cofferdam(["recording", "export", &id, "--format", "bundle", "--output", bundle]).ok();
    gateway.cofferdam(["recording", "hold", &id, "--reason", "case 7"]).ok();
    let nobodys = "01a00000-0000-7000-8000-000000000000";
    gateway.cofferdam(["recording", "hold", nobodys, "--reason", "case 8"]).failed().said(nobodys);

    gateway.crash_and_restart();
    gateway.cofferdam(["recording", "verify", bundle]).ok();
    gateway.cofferdam(["recording", "verify"]).ok();
    store.freeze();
    let section = section.replace("[s3]", "[s3]\ntimeout_seconds = 1");
    let config = gateway.config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.split("\n[s3]").next().unwrap().to_owned() + &section).unwrap();
    // A listing that cannot be whole says so.
    gateway.cofferdam(["recording", "list"]).failed().said("left out");
    gateway.cofferdam(["doctor"]).failed().said("does not answer");
    store.thaw();
    assert_eq!(gateway.list(&["recording", "list"]).len(), 1);

    // Held there, lifted there, and deleted there by the same two people as here.
    let ask = ["recording", "delete", "request", &id, "--reason", "kept long enough", "--json"];
    gateway.cofferdam_by("ivan", ask).failed().said("is held");
    gateway.cofferdam_by("sam", ["recording", "hold", &id, "--lift", "--reason", "case 7 is closed"]).ok();
    let request = id_of(&serde_json::from_slice(&gateway.cofferdam_by("ivan", ask).ok().stdout).unwrap());
    gateway.cofferdam_by("ada", ["recording", "delete", "approve", &request]).ok().said("erased");
    let listed = gateway.list(&["recording", "list"]);
    assert!(listed.len() == 1 && listed[0]["sealed"].is_null(), "the store still has it: {listed:#?}");
    gateway.cofferdam(["recording", "show", &id]).ok().said("by ivan and ada");
    gateway.cofferdam(["recording", "verify"]).ok().said("by ivan and ada");
    for text in [gateway.log(), gateway.audit_text()] {
        assert!(!text.contains(store.secret_key()), "the secret key was written down");
        assert!(!text.contains(store.access_key()), "the access key was written down");
    }
}

#[test]
fn keys_that_the_object_store_refuses_are_named_by_doctor_and_never_repeated() {
    let (mut gateway, store) = (Gateway::start(), S3Server::start());
    let section = store.section(&gateway, "");
    gateway.restart_with(|text| text + &section);
    fs::write(gateway.scratch("s3_secret_key"), "not-the-secret").unwrap();
    for command in [&["doctor"][..], &["config", "check"]] {
        gateway
            .cofferdam(command)
            .failed()
            .said("check access_key_file and secret_key_file")
            .never_said("not-the-secret")
            .never_said(store.access_key());
    }
}

#[test]
fn too_much_that_waits_for_the_object_store_ends_sessions_and_refuses_new_ones_until_it_takes_it() {
    let (mut gateway, store) = (Gateway::start(), S3Server::start());
    let section =
        store.section(&gateway, "spool_bytes = 1_048_576\npart_bytes = 65_536\ntimeout_seconds = 2");
    gateway.restart_with(|text| text.replace("freeze_seconds = 20", "freeze_seconds = 3") + &section);
    let mut shell = Live::start(gateway.vera().ssh("pump-hmi", ["-tt"]));
    shell.expect("# ");
    let id = id_of(&gateway.only_session());
    store.freeze();
    for _ in 0..40 {
        shell.send("head -c 100000 /dev/urandom | base64\r");
    }
    shell.ended_within(Duration::from_secs(60));
    let closed = wait_for("the session's end", SOON, || {
        let session = gateway.session(&id);
        session["state"].as_str().is_some_and(|state| state.starts_with("ended")).then_some(session)
    });
    assert!(closed.0.to_string().contains("recorder"), "{:#}", closed.0);
    let stalled = gateway.audit("recording.stalled");
    assert_eq!(stalled.len(), 1, "{stalled:#?}");
    assert!(stalled[0].to_string().contains("object store"), "{stalled:#?}");
    run(gateway.vera().ssh("pump-hmi", ["true"])).failed();
    // What was recorded is sealed all the same.
    let file = recording_file(&gateway, &id);
    assert!(file.exists());
    store.thaw();
    wait_for("the recording to leave", Duration::from_secs(90), || (!file.exists()).then_some(()));
    gateway.cofferdam(["recording", "verify", &id]).ok();
    wait_for("the end of the freeze", SOON, || {
        (!gateway.audit("recording.resumed").is_empty()).then_some(())
    });
    run(gateway.vera().ssh("pump-hmi", ["true"])).ok();
}
