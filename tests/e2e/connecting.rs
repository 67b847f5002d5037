//! From a stock client to the target: shells, commands, and what comes back.

use std::{process::Command, time::Duration};

use crate::support::{Gateway, Live, RealSshd, noise, person::First, run, run_with_input, wait_for};

#[test]
fn a_vendor_reaches_the_pump_through_an_approved_window() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    run(vera.ssh("pump-hmi", ["hostname"])).ok().said("pump-hmi");
    let session = gateway.only_session();
    assert_eq!(session["user"], "vera");
    assert_eq!(session["asset"], "pump-hmi");
}

#[test]
fn an_account_can_be_named_after_the_machine() {
    let gateway = Gateway::start();
    run(gateway.vera().ssh("pump-hmi+root", ["id", "-un"])).ok().said("root");
}

#[test]
fn a_password_and_a_code_open_the_same_door_as_a_key_and_a_code() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    run(vera.ssh_with(First::Password, "pump-hmi", ["hostname"])).ok().said("pump-hmi");
    assert!(vera.prompts().to_lowercase().contains("password"), "{}", vera.prompts());
    assert!(vera.prompts().to_lowercase().contains("code"), "{}", vera.prompts());
}

#[test]
fn a_person_without_a_window_is_told_why_and_what_next() {
    let gateway = Gateway::start();
    let done = run(gateway.person("emil").ssh("pump-hmi", ["hostname"])).failed();
    let said = done.err().to_lowercase();
    assert!(said.contains("window"), "{said}");
    assert!(said.contains("request"), "says what to do next: {said}");
    assert!(!done.out().contains("pump-hmi"), "nothing of the target came through");
}

#[test]
fn an_asset_that_does_not_exist_and_one_that_is_closed_are_refused_alike() {
    let gateway = Gateway::start();
    let emil = gateway.person("emil");
    let closed = run(emil.ssh("pump-hmi", ["true"])).failed();
    let missing = run(emil.ssh("no-such-hmi", ["true"])).failed();
    assert_eq!(closed.code, missing.code);
    assert!(!missing.err().to_lowercase().contains("does not exist"), "{}", missing.err());
}

#[test]
fn exit_status_and_stderr_arrive_apart() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let done = run(vera.ssh("pump-hmi", ["echo out; echo err >&2; exit 7"])).exited(7);
    assert_eq!(done.out(), "out\n");
    assert!(done.err().ends_with("err\n"), "{}", done.err());
    run(vera.ssh("pump-hmi", ["true"])).exited(0);
    run(vera.ssh("pump-hmi", ["false"])).exited(1);
    run(vera.ssh("pump-hmi", ["no-such-command"])).exited(127);
}

#[test]
fn a_command_killed_by_a_signal_is_reported_as_one() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    // OpenSSH's client exits with 255 when the other side reports exit-signal (RFC 4254 §6.10).
    run(gateway.vera().ssh("workshop", ["kill -TERM $$"])).exited(255);
}

#[test]
fn the_end_of_input_reaches_the_command_and_its_last_byte_comes_back() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let input = noise(3_000_000);
    let done = run_with_input(vera.ssh("pump-hmi", ["cat"]), &input).ok();
    assert!(done.stdout == input, "{} of {} bytes came back", done.stdout.len(), input.len());
    let counted = run_with_input(vera.ssh("pump-hmi", ["wc -c"]), &input).ok();
    assert_eq!(counted.out().trim(), input.len().to_string());
}

#[test]
fn a_shell_has_a_terminal_of_the_clients_size() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let done = vera
        .on_a_terminal(&vera.ssh("pump-hmi", ["-tt"]), &[("[#$] ", "stty size\r"), ("30 100", "exit 3\r")]);
    done.exited(3);
}

#[test]
fn a_window_that_is_resized_is_resized_on_the_target() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let socket = gateway.scratch("tmux");
    let tmux = |arguments: &[&str]| {
        let mut tmux = Command::new("tmux");
        tmux.args(["-f", "/dev/null", "-S"])
            .arg(&socket)
            .args(arguments)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8");
        vera.equip(&mut tmux);
        tmux
    };
    let screen = |text: &str| {
        let what = format!("{text:?} on the screen");
        wait_for(&what, Duration::from_secs(30), || {
            run(tmux(&["capture-pane", "-p"])).out().contains(text).then_some(())
        });
    };
    let ssh = vera.ssh("pump-hmi", ["-tt"]);
    let words: Vec<_> = ssh.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    let mut start = tmux(&["new-session", "-d", "-x", "90", "-y", "25", "ssh"]);
    start.args(words);
    run(start).ok();
    // The status line takes one row of the client's; without it the sizes are the window's own.
    run(tmux(&["set-option", "-g", "status", "off"])).ok();
    // Blanks at the end of a line are not captured.
    screen("~#");
    run(tmux(&["resize-window", "-x", "117", "-y", "41"])).ok();
    run(tmux(&["send-keys", "stty size", "Enter"])).ok();
    screen("41 117");
    run(tmux(&["kill-server"])).ok();
}

#[test]
fn an_interrupt_ends_the_command_and_not_the_session() {
    let gateway = Gateway::start();
    let mut shell = Live::start(gateway.vera().ssh("pump-hmi", ["-tt"]));
    shell.expect("# ");
    shell.send("sleep 1000\r");
    shell.expect("sleep 1000");
    shell.send("\u{3}");
    shell.expect("# ");
    shell.send("echo still-$((1+1)) here\r");
    shell.expect("here");
    assert!(shell.is_running());
}

#[test]
fn only_listed_environment_variables_reach_the_target() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let mut ssh = gateway.vera().ssh("workshop", ["-oSendEnv=LC_TIME", "-oSendEnv=LD_PRELOAD", "env"]);
    ssh.env("LC_TIME", "C.UTF-8").env("LD_PRELOAD", "");
    let done = run(ssh).ok().said("LC_TIME=C.UTF-8");
    assert!(!done.out().contains("LD_PRELOAD"), "{}", done.out());
}

#[test]
fn a_jump_through_the_gateway_is_terminated_and_shows_a_certificate_of_its_ca() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let address = gateway.ssh_address();
    // The jump itself is a second ssh, which takes its options from a file only.
    let config = gateway.scratch("jump_config");
    let options: String = vera.options(First::Key)[2..]
        .iter()
        .map(|o| format!("    {}\n", o[2..].replacen('=', " ", 1)))
        .collect();
    let jump = format!(
        "Host gateway\n    HostName {}\n    Port {}\n    User vera\n{options}",
        address.ip(),
        address.port()
    );
    std::fs::write(&config, format!("{jump}Host pump-hmi\n    User root\n    ProxyJump gateway\n{options}"))
        .unwrap();
    let mut ssh = Command::new("ssh");
    ssh.arg("-v").arg("-F").arg(&config).args(["pump-hmi", "hostname"]);
    vera.equip(&mut ssh);
    run(ssh).ok().said("pump-hmi").said("ssh-ed25519-cert-v01@openssh.com");
    assert_eq!(gateway.sessions().iter().filter(|s| s["asset"] == "pump-hmi").count(), 1);
}

#[test]
fn the_menu_shows_what_is_open_and_leads_there() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let menu = vera.ssh("", ["-tt"]);
    let done =
        vera.on_a_terminal(&menu, &[("pump-hmi", "pump\r"), ("# ", "hostname\r"), ("pump-hmi", "exit\r")]);
    done.exited(0);
}

#[test]
fn several_channels_share_one_connection_and_each_is_decided_anew() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let control = gateway.scratch("control");
    let path = format!("-oControlPath={}", control.display());
    let mut master =
        Live::start(vera.ssh("pump-hmi", [&path, "-oControlMaster=yes", "-oControlPersist=no", "-N"]));
    wait_for("the control socket", Duration::from_secs(30), || control.exists().then_some(()));
    for number in 0..5 {
        run(vera.ssh("pump-hmi", [path.as_str(), &format!("echo channel {number}; exit {number}")]))
            .exited(number)
            .said(&format!("channel {number}"));
    }
    assert!(master.is_running());
    assert_eq!(gateway.sessions().len(), 1, "one connection is one session");
    gateway
        .cofferdam(["window", "revoke", &gateway.demo_window(), "--as", "olga", "--reason", "enough"])
        .ok();
    master.ended_within(Duration::from_secs(10));
}

#[test]
fn a_certificate_made_for_the_session_opens_the_target() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join_by(&gateway, "certificate");
    run(gateway.vera().ssh("workshop", ["id", "-un"])).ok().said(&target.login);
    assert!(target.log().contains("ED25519-CERT"), "{}", target.log());
    assert!(
        target.log().contains("ID cofferdam:"),
        "the certificate names session and person: {}",
        target.log()
    );
}

#[test]
fn the_targets_password_is_injected_and_never_shown() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join_by(&gateway, "password");
    let secret = target.password.clone().unwrap();
    let vera = gateway.vera();
    run(vera.ssh("workshop", ["-vvv", "id", "-un"])).ok().said(&target.login).never_said(&secret);
    assert!(!vera.prompts().contains(&secret));
    assert!(!gateway.log().contains(&secret) && !gateway.audit_text().contains(&secret));
}

#[test]
fn an_account_without_any_secret_is_entered_with_a_certificate_of_one_session() {
    let gateway = Gateway::start();
    run(gateway.vera().ssh("pump-hmi+service", ["id", "-un"])).ok().said("service");
}

#[test]
fn a_second_factor_remembered_for_one_window_does_not_open_another() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    run(vera.ssh("workshop", ["true"])).ok();
    let asked = vera.prompts().lines().count();
    // The same window again: remembered. Another window: asked again, and then it opens.
    run(vera.ssh("workshop", ["true"])).ok();
    assert_eq!(vera.prompts().lines().count(), asked, "{}", vera.prompts());
    run(vera.ssh("pump-hmi", ["hostname"])).ok().said("pump-hmi");
    assert!(vera.prompts().lines().count() > asked, "a code was asked for: {}", vera.prompts());
}

#[test]
fn a_connection_may_carry_any_number_of_channels_one_after_another() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let control = gateway.scratch("control");
    let path = format!("-oControlPath={}", control.display());
    let _master =
        Live::start(vera.ssh("pump-hmi", [&path, "-oControlMaster=yes", "-oControlPersist=no", "-N"]));
    crate::support::wait_for("the control socket", std::time::Duration::from_secs(30), || {
        control.exists().then_some(())
    });
    for _ in 0..70 {
        run(vera.ssh("pump-hmi", [path.as_str(), "true"])).ok();
    }
}

#[test]
fn a_person_who_takes_their_time_with_the_code_gets_in() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let mut ssh = vera.ssh("pump-hmi", ["hostname"]);
    ssh.env("COFFERDAM_DELAY", "35");
    run(ssh).ok().said("pump-hmi");
}
