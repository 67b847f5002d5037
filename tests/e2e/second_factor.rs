//! The second factor: always asked for, never twice, and nothing said to who does not have it.

use std::{process::Command, time::Instant};

use crate::support::{Gateway, person::First, run};

#[test]
fn a_wrong_code_is_refused_and_says_nothing() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let mut ssh = vera.ssh("pump-hmi", ["hostname"]);
    ssh.env("COFFERDAM_CODE", "000000");
    let done = run(ssh).exited(255).said("Permission denied");
    assert_eq!(done.out(), "");
    assert!(!done.err().contains("code") && !done.err().contains("factor"), "{}", done.err());
    assert!(gateway.sessions().is_empty(), "no session was opened");
    assert!(!gateway.audit("login.failed").is_empty());
}

#[test]
fn one_code_never_works_twice() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let code = vera.code();
    // A password log-in has no device key, so nothing is remembered from the first to the second.
    let with_code = || {
        let mut ssh = vera.ssh_with(First::Password, "pump-hmi", ["hostname"]);
        ssh.env("COFFERDAM_CODE", &code);
        ssh
    };
    run(with_code()).ok();
    run(with_code()).exited(255).said("Permission denied");
}

#[test]
fn two_logins_with_one_code_at_once_give_one_session() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let code = vera.code();
    let opened = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|_| {
                let mut ssh = vera.ssh_with(First::Password, "pump-hmi", ["hostname"]);
                ssh.env("COFFERDAM_CODE", &code);
                scope.spawn(move || run(ssh).code == Some(0))
            })
            .collect();
        runs.into_iter().filter_map(|r| r.join().ok()).filter(|opened| *opened).count()
    });
    assert_eq!(opened, 1);
}

#[test]
fn a_code_of_another_person_is_refused() {
    let gateway = Gateway::start();
    let (vera, emil) = (gateway.vera(), gateway.person("emil"));
    let mut ssh = vera.ssh("pump-hmi", ["hostname"]);
    ssh.env("COFFERDAM_CODE", emil.code());
    run(ssh).exited(255);
}

#[test]
fn the_second_factor_is_asked_for_on_every_path() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let wrong = |mut command: Command| {
        command.env("COFFERDAM_CODE", "000000");
        run(command).failed()
    };
    wrong(vera.ssh("pump-hmi", ["-tt"]));
    wrong(vera.ssh("pump-hmi", ["hostname"]));
    wrong(vera.ssh("pump-hmi", ["-N", "-L", "127.0.0.1:0:pump-hmi:8080"]));
    wrong(vera.ssh("pump-hmi", ["-s", "sftp"]));
    wrong(vera.ssh("", ["-W", "pump-hmi:22"]));
    wrong(vera.ssh("", ["-tt"]));
    for protocol in ["-O", "-s"] {
        let mut scp = vera.transfer("scp");
        scp.arg(protocol).arg(vera.remote("pump-hmi", "/etc/hostname")).arg(gateway.scratch("stolen"));
        wrong(scp);
    }
    assert!(!gateway.scratch("stolen").exists());
    assert!(gateway.sessions().is_empty());
}

#[test]
fn a_key_that_is_only_offered_is_no_log_in() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    // Only the public half is there: the client can offer it, and cannot sign.
    let public = gateway.scratch("only-public.pub");
    std::fs::copy(vera.key.with_extension("pub"), &public).unwrap();
    let identity = format!("-oIdentityFile={}", public.display());
    let mut ssh = Command::new("ssh");
    let options = vera.options(First::Key);
    ssh.args(options.iter().filter(|o| !o.starts_with("-oIdentityFile"))).arg(identity);
    ssh.args([
        "-oPreferredAuthentications=publickey,keyboard-interactive",
        "-oKbdInteractiveAuthentication=yes",
    ]);
    ssh.args(["-p", &gateway.ssh_address().port().to_string()]);
    ssh.arg(format!("{}@127.0.0.1", vera.login("pump-hmi"))).arg("hostname");
    vera.equip(&mut ssh);
    ssh.env("COFFERDAM_PASSWORD", "wrong");
    run(ssh).exited(255);
    assert!(gateway.sessions().is_empty());
}

#[test]
fn an_unknown_person_and_a_wrong_password_look_the_same() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let attempt = |login: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(vera.options(First::Password)).args(["-p", &gateway.ssh_address().port().to_string()]);
        ssh.arg(format!("{login}@127.0.0.1")).arg("hostname");
        vera.equip(&mut ssh);
        ssh.env("COFFERDAM_PASSWORD", "wrong").env("COFFERDAM_CODE", "000000");
        let start = Instant::now();
        let done = run(ssh).exited(255);
        (done.err().replace(login, "WHO"), start.elapsed().as_secs_f64())
    };
    // The first of all also says that it has seen the gateway's key.
    attempt("vera+pump-hmi");
    let rounds: Vec<_> = (0..5).map(|_| (attempt("vera+pump-hmi"), attempt("nobody+pump-hmi"))).collect();
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    assert!(rounds.iter().all(|(known, unknown)| known.0 == unknown.0), "{rounds:#?}");
    let known = median(rounds.iter().map(|r| r.0.1).collect());
    let unknown = median(rounds.iter().map(|r| r.1.1).collect());
    assert!((known / unknown - 1.0).abs() < 0.25, "known {known:.3} s, unknown {unknown:.3} s");
}

#[test]
fn wrong_codes_from_elsewhere_do_not_lock_the_holder_out() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    run(vera.ssh("pump-hmi", ["true"])).ok();
    for _ in 0..12 {
        // Another address of the loopback network stands for another source.
        let mut ssh = vera.ssh_with(First::Password, "pump-hmi", ["-oBindAddress=127.0.0.66", "true"]);
        ssh.env("COFFERDAM_PASSWORD", "guess").env("COFFERDAM_CODE", "123456");
        run(ssh).failed();
    }
    run(vera.ssh("pump-hmi", ["true"])).ok();
}
