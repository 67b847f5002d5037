//! Looking at sessions: live, replayed, and by what was done.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{Gateway, Live, cli::id_of, run, wait_for};

#[test]
fn somebody_who_watches_is_about_a_second_behind() {
    let gateway = Gateway::start();
    let mut shell = Live::start(gateway.vera().ssh("pump-hmi", ["-tt"]));
    shell.expect("# ");
    let id = id_of(&gateway.only_session());
    let mut watch = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    watch.args(["session", "watch", &id, "--as", "olga", "--config"]).arg(gateway.config());
    let mut watcher = Live::start(watch);
    let mut slowest = Duration::ZERO;
    // Long enough that the journal is moved into the recording's own file in between, which takes 10 s.
    for round in 0..16 {
        shell.send(&format!("echo round-$((100+{round}))-seen\r"));
        let text = format!("round-{}-seen", 100 + round);
        shell.expect(&text);
        let shown = Instant::now();
        watcher.expect(&text);
        slowest = slowest.max(shown.elapsed());
        std::thread::sleep(Duration::from_millis(800));
    }
    println!("slowest of 16: {slowest:?} behind the person's own screen");
    assert!(slowest < Duration::from_secs(2), "{slowest:?} behind");
    let once = watcher.transcript().matches("round-107-seen").count();
    assert_eq!(once, 1, "what was moved is not shown again:\n{}", watcher.transcript());
    shell.send("exit\r");
    let (code, _) = watcher.ended_within(Duration::from_secs(20));
    assert_eq!(code, Some(0));
    assert_eq!(gateway.audit("session.watched").len(), 1, "nobody watches unseen");
}

#[test]
fn a_command_without_a_shell_is_found_with_its_second() {
    let gateway = Gateway::start();
    // Whatever the target makes of it: it was asked for.
    let _done = run(gateway.vera().ssh("pump-hmi", ["systemctl stop pump-p101"]));
    let id = id_of(&gateway.only_session());
    gateway.cofferdam(["recording", "show", &id]).ok().said("systemctl stop pump-p101");
    let find = ["recording", "search", "systemctl stop", "--user", "vera", "--asset", "pump-hmi"];
    let (hits, _) = wait_for("the command", Duration::from_secs(20), || {
        let found = gateway.list(&find);
        let hits = found.first()?["hits"].as_array()?.clone();
        (!hits.is_empty()).then_some(hits)
    });
    let hit = hits.iter().find(|h| h["kind"] == "command").unwrap();
    assert_eq!(hit["text"], "systemctl stop pump-p101");
    let started = gateway.session(&id)["started"].as_str().unwrap().to_owned();
    assert!(hit["at"].as_str().unwrap() >= started.as_str(), "{hit} after {started}");
    assert!(gateway.list(&["recording", "search", "systemctl stop", "--asset", "plc-7"]).is_empty());
}

#[test]
fn a_replay_pauses_speeds_up_seeks_steps_skips_idle_time_and_jumps_to_events() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let steps = [
        ("# ", "echo first-$((1+1))\r"),
        ("first-2", "sleep 6; echo second-$((1+1))\r"),
        ("second-2", "echo third-$((1+1))\r"),
        ("third-2", "exit\r"),
    ];
    vera.on_a_terminal(&vera.ssh("pump-hmi", ["-tt"]), &steps).ok();
    let id = id_of(&gateway.only_session());
    let socket = gateway.scratch("tmux");
    let tmux = |arguments: &[&str]| {
        let mut tmux = Command::new("tmux");
        tmux.args(["-f", "/dev/null", "-S"]).arg(&socket).args(arguments);
        tmux.env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        tmux
    };
    let play = |options: &[&str]| {
        let mut start =
            tmux(&["new-session", "-d", "-x", "110", "-y", "36", env!("CARGO_BIN_EXE_cofferdam")]);
        start.args(["recording", "play", &id]).args(options).arg("--config").arg(gateway.config());
        run(start).ok();
    };
    let shown = || run(tmux(&["capture-pane", "-p"])).out();
    let screen = |text: &str, longest: u64| {
        wait_for(&format!("{text:?} on the screen"), Duration::from_secs(longest), || {
            shown().contains(text).then_some(())
        })
        .1
    };
    let key = |key: &str| drop(run(tmux(&["send-keys", key])).ok());
    // From event to event: notices of the gateway may stand between the commands.
    let to_event = |step: &str, text: &str| {
        for _ in 0..8 {
            let before = shown();
            key(step);
            wait_for("a jump", Duration::from_secs(20), || (shown() != before).then_some(()));
            if shown().contains(&format!("q  {text}")) {
                return;
            }
        }
        panic!("{step:?} does not lead to {text:?}:\n{}", shown());
    };
    let gone = || {
        wait_for("the end of the replay", Duration::from_secs(20), || {
            (run(tmux(&["list-sessions"])).code != Some(0)).then_some(())
        })
    };

    // Pauses stand in full: at the sleep the second command is seconds away.
    play(&["--skip-idle", "1h", "--speed", "2"]);
    screen("at 200%", 20);
    key("Space");
    screen("paused at 200%", 20);
    key("+");
    screen("paused at 400%", 20);
    key("-");
    key("-");
    screen("paused at 100%", 20);
    for _ in 0..3 {
        key("Left");
    }
    screen("00:00:00  paused", 20);
    // Event by event: each command, its name in the status line, and what stood on the screen at that moment.
    to_event("n", "echo first-$((1+1))");
    to_event("n", "sleep 6; echo second-$((1+1))");
    assert!(shown().contains("first-2") && !shown().contains("second-2"), "{}", shown());
    to_event("p", "echo first-$((1+1))");
    assert!(!shown().contains("first-2"), "{}", shown());
    // One thing shown at a time, while the replay stands still.
    for _ in 0..80 {
        if shown().contains("first-2") {
            break;
        }
        key(".");
    }
    screen("first-2", 20);
    assert!(shown().contains("paused"), "{}", shown());
    // Five seconds on and back.
    for _ in 0..3 {
        key("Left");
    }
    screen("00:00:00  paused", 20);
    key("Right");
    screen("00:00:05  paused", 20);
    key("Right");
    screen("third-2", 20);
    key("q");
    gone();

    // Idle time is shortened: the six seconds take one.
    play(&["--skip-idle", "1s"]);
    screen("first-2", 20);
    let took = screen("second-2", 20);
    assert!(took < Duration::from_secs(4), "the pause took {took:?}");
    key("q");
    gone();
}
