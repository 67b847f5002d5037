//! The same on PostgreSQL, and what only PostgreSQL can do: two gateways on one database.

use std::time::Duration;

use crate::support::{
    CUT, Gateway, Live, RealSshd,
    cli::{id_of, state_of},
    person::First,
    run, wait_for,
};

/// The session of that id once it has ended.
#[track_caller]
fn ended(gateway: &Gateway, id: &str) -> serde_json::Value {
    let (row, _) = wait_for("the session's end in the store", Duration::from_secs(10), || {
        gateway.sessions().into_iter().find(|row| id_of(row) == id && state_of(row).starts_with("ended"))
    });
    row
}

#[test]
fn a_session_on_postgresql_goes_from_log_in_to_seal() {
    let gateway = Gateway::start_on_postgres();
    let vera = gateway.vera();
    let done = vera.on_a_terminal(
        &vera.ssh("pump-hmi", ["-tt"]),
        &[("# ", "echo seen-by-$((40+2))-the-recorder\r"), ("seen-by-42", "exit\r")],
    );
    done.ok();
    let id = id_of(&gateway.only_session());
    ended(&gateway, &id);
    gateway.cofferdam(["recording", "verify", &id]).ok();
    gateway.cofferdam(["recording", "export", &id, "--format", "text"]).ok().said("seen-by-42-the-recorder");
    assert_eq!(gateway.list(&["recording", "search", "seen-by-42"]).len(), 1);
    let shown = gateway.session(&id).to_string();
    for word in ["vera", "pump-hmi", "window", "operate", "polic"] {
        assert!(shown.contains(word), "no {word:?} in {shown}");
    }
    // Who has no window gets nothing, here as well.
    run(gateway.person("emil").ssh("pump-hmi", ["true"])).failed();
    assert_eq!(gateway.sessions().len(), 1);
    gateway.cofferdam(["audit", "verify"]).ok();
    gateway.open_window(&["root@pump-hmi"], 1);
    gateway.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn a_crash_on_postgresql_leaves_an_ended_session_and_a_whole_audit() {
    let mut gateway = Gateway::start_on_postgres();
    let mut shell = Live::on_pump(&gateway);
    shell.send("echo before-$((1+1))-the-crash\r");
    shell.expect("before-2-the-crash");
    // What is older than the longest flush interval is kept.
    std::thread::sleep(Duration::from_millis(1200));
    let id = id_of(&gateway.only_session());
    gateway.crash_and_restart();
    assert!(ended(&gateway, &id).to_string().contains("crash"));
    gateway.cofferdam(["recording", "verify", &id]).ok();
    gateway.cofferdam(["recording", "export", &id, "--format", "text"]).ok().said("before-2-the-crash");
    gateway.cofferdam(["audit", "verify"]).ok();
    run(gateway.vera().ssh("pump-hmi", ["true"])).ok();
}

#[test]
fn one_code_works_once_at_two_gateways_together() {
    let first = Gateway::start_on_postgres();
    let second = first.another_node();
    let try_at = |gateway: &Gateway, code: &str| {
        // A password log-in has no device key, so nothing is remembered from one to the next.
        let mut ssh = gateway.vera().ssh_with(First::Password, "pump-hmi", ["hostname"]);
        ssh.env("COFFERDAM_CODE", code);
        run(ssh).code == Some(0)
    };
    let code = first.vera().code();
    assert!(try_at(&first, &code), "a fresh code at the first gateway");
    assert!(!try_at(&second, &code), "the same code at the second");
    let code = first.vera().code();
    let opened = std::thread::scope(|scope| {
        let tries: Vec<_> = [&first, &second, &first, &second]
            .map(|gateway| scope.spawn(|| try_at(gateway, &code)))
            .into_iter()
            .collect();
        tries.into_iter().filter_map(|t| t.join().ok()).filter(|opened| *opened).count()
    });
    assert_eq!(opened, 1, "at both at once");
    assert_eq!(first.sessions().len(), 2);
    first.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn an_order_given_at_one_gateway_cuts_the_session_at_the_other_within_a_second() {
    let first = Gateway::start_on_postgres();
    let second = first.another_node();
    let mut at_second = Live::on_pump(&second);
    let id = id_of(&first.only_session());
    first.kill_session(&id).ok();
    let (_, took) = at_second.ended_within(Duration::from_secs(10));
    assert!(took <= CUT, "killed: {took:?}");
    assert!(ended(&first, &id).to_string().contains("kill"));
    assert!(at_second.transcript().contains("kill"), "{}", at_second.transcript());
    second.cofferdam(["recording", "verify", &id]).ok();

    // What is taken away in the store is taken away everywhere.
    let (mut at_first, mut at_second) = (Live::on_pump(&first), Live::on_pump(&second));
    first
        .cofferdam(["window", "revoke", &first.demo_window(), "--as", "olga", "--reason", "leak in hall 2"])
        .ok();
    let (_, took) = at_second.ended_within(Duration::from_secs(10));
    assert!(took <= CUT, "revoked, at the other gateway: {took:?}");
    let (_, took) = at_first.ended_within(Duration::from_secs(10));
    assert!(took <= CUT, "revoked, at the same gateway: {took:?}");
    run(second.vera().ssh("pump-hmi", ["true"])).failed();
    wait_for("the sessions to end", Duration::from_secs(10), || {
        first.live_sessions().is_empty().then_some(())
    });
    first.cofferdam(["audit", "verify"]).ok();
    second.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn a_gateway_that_crashes_leaves_the_others_sessions_alone_and_settles_its_own() {
    let first = Gateway::start_on_postgres();
    let mut second = first.another_node();
    // The demo's host goes with the second gateway; this one does not.
    let target = RealSshd::start();
    target.join(&first);
    let mut at_first =
        Live::start(first.vera().ssh("workshop", ["sh", "-c", "'while read line; do echo got-$line; done'"]));
    at_first.send("one\n");
    at_first.expect("got-one");
    let stays = id_of(&first.only_session());
    let _cut = Live::on_pump(&second);
    let crashed = first.live_sessions().into_iter().find(|id| *id != stays).unwrap();
    second.crash_and_restart();
    assert!(ended(&first, &crashed).to_string().contains("crash"));
    second.cofferdam(["recording", "verify", &crashed]).ok();
    assert_eq!(first.live_sessions(), [stays]);
    at_first.send("two\n");
    at_first.expect("got-two");
    run(second.vera().ssh("workshop", ["true"])).ok();
    first.cofferdam(["audit", "verify"]).ok();
    second.cofferdam(["audit", "verify"]).ok();
}
