//! Peers that mean harm, before and after log-in: the gateway answers or closes, and nobody else notices.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::support::{Gateway, Live, RealSshd, noise, run, wait_for};

/// A connection to the gateway that nobody has said anything on.
fn knock(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.ssh_address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// Whether a person can still work, quickly.
#[track_caller]
fn others_are_not_disturbed(gateway: &Gateway) {
    let start = Instant::now();
    run(gateway.vera().ssh("pump-hmi", ["hostname"])).ok().said("pump-hmi");
    assert!(start.elapsed() < Duration::from_secs(8), "took {:?}", start.elapsed());
}

#[test]
fn bytes_that_are_not_ssh_end_the_connection_and_nothing_else() {
    let gateway = Gateway::start();
    run(gateway.vera().ssh("pump-hmi", ["true"])).ok();
    let before = gateway.resident_kib();
    let version = b"SSH-2.0-OpenSSH_9.9\r\n".as_slice();
    let starts: Vec<Vec<u8>> = vec![
        noise(100_000),
        vec![0; 100_000],
        vec![b'A'; 1_000_000],
        b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n".to_vec(),
        b"PROXY TCP4 10.9.8.7 10.9.8.6 1 2\r\nSSH-2.0-x\r\n".to_vec(),
        b"SSH-1.5-old\r\n".to_vec(),
        // A packet length of 4 GiB, of zero, and of one byte less than the smallest packet (RFC 4253 §6).
        [version, &[0xff; 64]].concat(),
        [version, &[0; 64]].concat(),
        [version, &[0, 0, 0, 11, 4, 20], &[0; 64]].concat(),
    ];
    for bytes in starts {
        let mut stream = knock(&gateway);
        drop(stream.write_all(&bytes));
        drop(stream.read_to_end(&mut Vec::new()));
    }
    others_are_not_disturbed(&gateway);
    assert!(gateway.resident_kib() < before + 8 * 1024, "{before} KiB then {} KiB", gateway.resident_kib());
}

#[test]
fn silent_connections_are_closed_and_do_not_keep_others_out() {
    let gateway = Gateway::start();
    // More than one source may have; those beyond the bound are closed at once.
    let silent: Vec<_> = (0..300).map_while(|_| TcpStream::connect(gateway.ssh_address()).ok()).collect();
    let closed = silent.iter().filter(|s| {
        s.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut version = [0; 256];
        matches!((&**s).read(&mut version), Ok(0) | Err(_))
    });
    assert!(closed.count() > 100, "one source was given everything it asked for");
    drop(silent);
    wait_for("room for others", Duration::from_secs(5), || {
        run(gateway.vera().ssh("pump-hmi", ["true"])).code.filter(|c| *c == 0)
    });
}

#[test]
fn names_that_are_not_names_are_refused_without_a_trace_of_them_on_any_screen() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let long = "a".repeat(30_000);
    for name in [
        "vera+pump-hmi+root+x",
        "vera+../../etc",
        "vera+$(reboot)",
        "vera+pump-hmi;ls",
        "+",
        "",
        "vera+\u{1b}[2J",
        &long,
    ] {
        let mut ssh = std::process::Command::new("ssh");
        ssh.args(vera.options(crate::support::person::First::Key));
        ssh.args(["-p", &gateway.ssh_address().port().to_string(), "-l", name, "127.0.0.1", "true"]);
        vera.equip(&mut ssh);
        let done = run(ssh).failed();
        assert!(!done.err().contains('\u{1b}'), "{:?}", done.err());
    }
    assert!(!gateway.log().contains('\u{1b}'), "an escape reached the log");
    others_are_not_disturbed(&gateway);
}

#[test]
fn thousands_of_channels_meet_a_bound() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let address = gateway.ssh_address();
    let mut many = std::process::Command::new(crate::support::python());
    many.arg(crate::support::peer("many_channels.py"));
    many.args([&address.ip().to_string(), &address.port().to_string(), &vera.login("pump-hmi")])
        .arg(&vera.key)
        .arg("3000");
    vera.equip(&mut many);
    let before = gateway.resident_kib();
    let opened: usize = run(many).ok().out().trim().parse().unwrap();
    assert!(opened < 1025, "{opened} channels at once");
    assert!(gateway.resident_kib() < before + 32 * 1024);
    others_are_not_disturbed(&gateway);
}

#[test]
fn a_reader_that_stalls_costs_no_memory() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    run(vera.ssh("pump-hmi", ["true"])).ok();
    let before = gateway.resident_kib();
    let mut endless = vera.ssh("pump-hmi", ["cat /dev/zero"]);
    let mut client =
        endless.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Nobody reads the pipe: the client stops, then its window closes, then the gateway and the target must stop.
    std::thread::sleep(Duration::from_secs(4));
    let during = gateway.resident_kib();
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(during < before + 32 * 1024, "{before} KiB then {during} KiB");
    others_are_not_disturbed(&gateway);
}

#[test]
fn a_target_that_stops_reading_costs_no_memory() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    run(vera.ssh("pump-hmi", ["true"])).ok();
    let before = gateway.resident_kib();
    let mut stalled = vera.ssh("pump-hmi", ["sleep 1000"]);
    let mut client =
        stalled.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || while stdin.write_all(&[0; 65536]).is_ok() {});
    std::thread::sleep(Duration::from_secs(4));
    let during = gateway.resident_kib();
    client.kill().unwrap();
    client.wait().unwrap();
    feeder.join().unwrap();
    assert!(during < before + 32 * 1024, "{before} KiB then {during} KiB");
}

#[test]
fn a_target_that_hangs_is_given_up_with_a_reason() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    target.freeze();
    let start = Instant::now();
    let done = run(gateway.vera().ssh("workshop", ["true"])).failed();
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    assert!(done.err().contains("workshop"), "{}", done.err());
    others_are_not_disturbed(&gateway);
}

#[test]
fn a_target_with_another_host_key_is_not_given_the_secret() {
    let (gateway, first) = (Gateway::start(), RealSshd::start());
    first.join(&gateway);
    run(gateway.vera().ssh("workshop", ["true"])).ok();
    let impostor = RealSshd::start();
    let site = gateway.cofferdam(["export"]).ok().out();
    let (from, to) = (first.address.port().to_string(), impostor.address.port().to_string());
    let file = gateway.scratch("moved.toml");
    std::fs::write(&file, site.replace(&from, &to)).unwrap();
    gateway.cofferdam(["apply", "--yes", &file.to_string_lossy()]).ok();
    let done = run(gateway.vera().ssh("workshop", ["true"])).failed();
    assert!(done.err().to_lowercase().contains("host key"), "{}", done.err());
    assert!(!impostor.log().contains("Accepted"), "{}", impostor.log());
    assert_eq!(gateway.audit("host_key.mismatch").len(), 1);
}

#[test]
fn a_locked_database_stops_new_sessions_and_loses_nothing() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    run(vera.ssh("pump-hmi", ["true"])).ok();
    let mut lock = Live::start({
        let mut python = std::process::Command::new(crate::support::python());
        python.arg(crate::support::peer("lock_sqlite.py")).arg(gateway.config());
        python
    });
    lock.expect("locked");
    let during = run(vera.ssh("pump-hmi", ["true"]));
    drop(lock);
    run(vera.ssh("pump-hmi", ["true"])).ok();
    gateway.cofferdam(["audit", "verify"]).ok();
    // Whatever came through has its audit entry; what has none did not come through.
    let opened = gateway.audit("session.opened").len();
    assert_eq!(opened, if during.code == Some(0) { 3 } else { 2 });
}
