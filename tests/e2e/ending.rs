//! How sessions end: killed, revoked, disabled, suspended; each within a second, each with its own reason.

use std::{fs, time::Duration};

use cofferdam_access::clock::{Clock, SystemClock};

use crate::support::{
    CUT, Gateway, Live, RealSshd,
    cli::{id_of, state_of},
    noise, run, wait_for,
};

/// Asserts that the only session ended for that reason, and that the person was told.
#[track_caller]
fn ended_for(gateway: &Gateway, shell: &mut Live, reason: &str) {
    let (_, took) = shell.ended_within(Duration::from_secs(10));
    assert!(took <= CUT, "{reason}: took {took:?}");
    let row = gateway.ended_session();
    assert!(row.to_string().to_lowercase().contains(reason), "{row:#}");
    let told = shell.transcript().to_lowercase();
    assert!(told.contains(reason), "the person was not told {reason:?}:\n{told}");
    let closed = gateway.audit("session.closed");
    assert!(closed.iter().any(|e| e.to_string().to_lowercase().contains(reason)), "{closed:#?}");
}

#[test]
fn killing_a_session_cuts_it_within_a_second() {
    let gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    let id = id_of(&gateway.only_session());
    gateway.kill_session(&id).ok();
    ended_for(&gateway, &mut shell, "kill");
}

#[test]
fn revoking_the_window_cuts_its_live_session() {
    let gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    gateway
        .cofferdam(["window", "revoke", &gateway.demo_window(), "--as", "olga", "--reason", "leak in hall 2"])
        .ok();
    ended_for(&gateway, &mut shell, "revoked");
    run(gateway.vera().ssh("pump-hmi", ["true"])).failed();
}

#[test]
fn a_change_of_the_plants_state_cuts_what_it_does_not_allow() {
    let gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    let pump = gateway.list(&["asset", "list"]).into_iter().find(|a| a["name"] == "pump-hmi").unwrap();
    let zone = pump["zone"].as_str().unwrap();
    gateway.cofferdam(["plant-state", "set", zone, "emergency", "--as", "olga"]).ok();
    ended_for(&gateway, &mut shell, "plant");
}

#[test]
fn disabling_the_person_cuts_their_session() {
    let gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    gateway.cofferdam(["user", "disable", "vera", "--as", "ada"]).ok();
    ended_for(&gateway, &mut shell, "disabled");
}

#[test]
fn a_rule_of_the_sites_own_that_begins_to_hold_cuts_a_live_session_within_a_second() {
    let gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    let begins = SystemClock.now().plus_seconds(8);
    let since = begins.micros() / 1000;
    let text = format!(
        "@reason(\"the policy ends the shift\")\nforbid (principal, action, resource) when {{ context.now >= \
         datetime(\"1970-01-01\").offset(duration(\"{since}ms\")) }};"
    );
    let policy =
        toml::Table::from_iter([("name".to_owned(), "shift".into()), ("text".to_owned(), text.into())]);
    gateway.change_site(|site| {
        site.insert("policies".to_owned(), vec![toml::Value::from(policy)].into());
    });
    let left = u64::try_from(begins.since(SystemClock.now())).expect("the set-up was quick");
    std::thread::sleep(Duration::from_micros(left));
    ended_for(&gateway, &mut shell, "policy");
}

#[test]
fn a_suspended_session_stands_still_and_goes_on() {
    let gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    let id = id_of(&gateway.only_session());
    gateway.cofferdam(["session", "suspend", &id, "--as", "olga", "--reason", "wait"]).ok();
    wait_for("the suspension", Duration::from_secs(3), || {
        (state_of(&gateway.only_session()) == "suspended").then_some(())
    });
    let before = shell.transcript();
    shell.send("echo typed-while-$((6*7))\r");
    std::thread::sleep(Duration::from_millis(700));
    assert!(!shell.transcript()[before.len()..].contains("typed-while-42"), "input passed");
    assert!(shell.is_running());
    gateway.cofferdam(["session", "resume", &id, "--as", "olga", "--proof-stdin"]).failed();
    gateway.cofferdam_by("olga", ["session", "resume", &id]).ok();
    wait_for("the resumption", Duration::from_secs(3), || {
        (state_of(&gateway.only_session()) == "active").then_some(())
    });
    shell.send("echo after-$((6*7))\r");
    shell.expect("after-42");
}

#[test]
fn a_crash_leaves_an_ended_session_a_readable_recording_and_a_whole_audit() {
    let mut gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    shell.send("echo before-the-$((1+0))st-crash\r");
    shell.expect("before-the-1st-crash");
    // What is older than the flush interval has to survive.
    std::thread::sleep(Duration::from_millis(1500));
    drop(shell);
    gateway.crash_and_restart();
    let row = gateway.only_session();
    assert!(state_of(&row).starts_with("ended") && row.to_string().contains("crash"), "{row:#}");
    let id = id_of(&row);
    gateway.cofferdam(["recording", "export", &id, "--format", "text"]).ok().said("before-the-1st-crash");
    gateway.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn memory_and_descriptors_are_given_back() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    for _ in 0..3 {
        run(vera.ssh("pump-hmi", ["true"])).ok();
    }
    let (memory, descriptors) = (gateway.resident_kib(), gateway.descriptors());
    for _ in 0..30 {
        run(vera.ssh("pump-hmi", ["head -c 1000000 /dev/zero | wc -c"])).ok();
    }
    wait_for("the sessions to end", Duration::from_secs(10), || {
        gateway.live_sessions().is_empty().then_some(())
    });
    assert!(gateway.descriptors() <= descriptors + 2, "{descriptors} then {}", gateway.descriptors());
    assert!(gateway.resident_kib() <= memory + 16 * 1024, "{memory} KiB then {} KiB", gateway.resident_kib());
}

/// How long a session may have no input.
pub(super) fn set_idle(gateway: &Gateway, seconds: i64) {
    gateway.change_site(|site| {
        site["settings"].as_table_mut().unwrap().insert("idle_seconds".to_owned(), seconds.into());
    });
}

#[test]
fn a_chatty_program_does_not_keep_an_idle_session_alive() {
    let gateway = Gateway::start();
    set_idle(&gateway, 4);
    let mut shell = Live::on_pump(&gateway);
    // It writes each second, and nobody types.
    shell.send("top\r");
    let (_, took) = shell.ended_within(Duration::from_secs(12));
    assert!(took >= Duration::from_secs(2), "it had its time: {took:?}");
    assert!(shell.transcript().contains("no input"), "{}", shell.transcript());
    let row = gateway.ended_session();
    assert!(row.to_string().contains("idle"), "{row:#}");
}

#[test]
fn a_terminal_that_answers_by_itself_does_not_keep_an_idle_session_alive() {
    let gateway = Gateway::start();
    set_idle(&gateway, 4);
    let mut shell = Live::on_pump(&gateway);
    // Where the cursor is, what the terminal is, that its window got the focus: what programs ask for and nobody types.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(800));
        shell.send("\x1b[24;80R\x1b[?62;c\x1b[I");
    }
    // Had one of them counted, there would be four seconds more.
    shell.ended_within(Duration::from_secs(3));
    assert!(shell.transcript().contains("no input"), "{}", shell.transcript());
}

#[test]
fn typing_keeps_a_session_alive_beyond_its_idle_time() {
    let gateway = Gateway::start();
    set_idle(&gateway, 4);
    let mut shell = Live::on_pump(&gateway);
    for number in 0..4 {
        std::thread::sleep(Duration::from_millis(1500));
        shell.send(&format!("echo typed-$(({number}+100))\r"));
        shell.expect(&format!("typed-{}", number + 100));
    }
    assert!(shell.is_running());
}

#[test]
fn a_window_that_ends_cuts_the_live_session_and_opens_no_other() {
    let gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    let window = gateway.demo_window();
    gateway.cofferdam(["window", "shorten", &window, "--end", "+5s", "--as", "sam"]).ok();
    let (_, took) = shell.ended_within(Duration::from_secs(15));
    assert!(took <= Duration::from_secs(7), "cut within a second of the end: {took:?}");
    assert!(shell.transcript().contains("window"), "{}", shell.transcript());
    let refused = run(gateway.vera().ssh("pump-hmi", ["hostname"])).failed();
    assert!(!refused.out().contains("pump-hmi"), "{}", refused.out());
}

#[test]
fn a_stop_of_the_gateway_tells_people_and_closes_the_books() {
    let mut gateway = Gateway::start();
    let mut shell = Live::on_pump(&gateway);
    gateway.ask_to_stop();
    shell.expect_within("being stopped", Duration::from_secs(5));
    shell.send("exit\r");
    shell.ended_within(Duration::from_secs(10));
    gateway.stopped_within(Duration::from_secs(20));
    let row = gateway.only_session();
    assert!(state_of(&row).starts_with("ended"), "{row:#}");
    gateway.cofferdam(["audit", "verify"]).ok();
    gateway.cofferdam(["recording", "verify", &id_of(&row)]).ok();
}

#[test]
fn a_full_disk_holds_a_session_still_until_there_is_room_again() {
    let gateway = Gateway::start_with_a_disk();
    let mut shell = Live::on_pump(&gateway);
    gateway.disk().fill();
    shell.send("head -c 9000 /dev/urandom | base64; echo much-$((6*7))\r");
    shell.expect("the session stands still");
    shell.send("echo typed-$((6*7))\r");
    std::thread::sleep(Duration::from_millis(700));
    assert!(shell.is_running() && !shell.transcript().contains("typed-42"), "nothing passes");
    gateway.disk().make_room();
    shell.expect("typed-42");
    let id = id_of(&gateway.only_session());
    shell.send("exit\r");
    shell.ended_within(Duration::from_secs(10));
    gateway.ended_session();
    gateway.cofferdam(["recording", "export", &id, "--format", "text"]).ok().said("much-42").said("typed-42");
    gateway.cofferdam(["recording", "verify", &id]).ok();
}

#[test]
fn a_kill_while_the_recorder_is_behind_cuts_at_once_and_all_that_passed_is_recorded() {
    let (gateway, target) = (Gateway::start_with_a_disk(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    let (sent, place) = (gateway.scratch("firmware.bin"), target.home.join("firmware.bin"));
    let bytes = noise(100_000_000);
    fs::write(&sent, &bytes).unwrap();
    let arrived = || fs::metadata(&place).map_or(0, |file| file.len());
    // 4 MB a second.
    let mut up = vera.transfer("scp");
    up.args(["-s", "-l", "32000"]).arg(&sent).arg(vera.remote("workshop", &place.to_string_lossy()));
    let mut up = Live::start(up);
    wait_for("the upload", Duration::from_secs(20), || (arrived() > 2_000_000).then_some(()));
    gateway.disk().fill();
    wait_for("the upload to stand still", Duration::from_secs(20), || {
        let before = arrived();
        std::thread::sleep(Duration::from_secs(1));
        (arrived() == before).then_some(())
    });
    let id = id_of(&gateway.only_session());
    let since = std::time::Instant::now();
    gateway.kill_session(&id).ok();
    up.ended_within(Duration::from_secs(10));
    // The command takes its time, too.
    assert!(since.elapsed() <= 2 * CUT, "the kill took {:?}", since.elapsed());
    std::thread::sleep(Duration::from_secs(1));
    let arrived = fs::read(&place).unwrap();
    gateway.disk().make_room();
    gateway.ended_session();
    gateway.cofferdam(["recording", "verify", &id]).ok();
    let events = gateway.cofferdam(["recording", "export", &id, "--format", "jsonl"]).ok().out();
    let file = events.lines().find(|event| event.contains("sha256") && event.contains("firmware.bin"));
    assert!(file.is_some(), "no event of the file: {events}");
    assert!(events.lines().any(|event| event.contains("\"end\"") && event.contains("killed")), "{events}");
    let evidence = gateway.scratch("evidence");
    let output = evidence.to_string_lossy();
    gateway.cofferdam(["recording", "export", &id, "--format", "files", "--output", &output]).ok();
    let kept: Vec<_> =
        fs::read_dir(&evidence).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
    let whole = |kept: &Vec<u8>| kept.starts_with(&arrived) && bytes.starts_with(kept);
    assert!(kept.iter().any(whole), "{} bytes arrived, of which not all is kept", arrived.len());
}
