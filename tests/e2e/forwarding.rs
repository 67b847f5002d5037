//! Forwards: to endpoints of the window, and to nothing else.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::support::{Gateway, Live, RealSshd, run, wait_for};

/// A loopback port for the client to listen on.
fn local_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Connects to `port` once the client listens there.
fn connect(port: u16) -> TcpStream {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (stream, _) =
        wait_for("the client to listen", Duration::from_secs(30), || TcpStream::connect(address).ok());
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What comes from `stream` until its end; nothing if it was reset.
fn drain(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all));
    all
}

#[test]
fn a_forward_to_an_endpoint_of_the_window_carries_bytes() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let port = local_port();
    let forward = format!("127.0.0.1:{port}:workshop:22");
    let _tunnel = Live::start(gateway.vera().ssh("workshop", ["-N", "-L", &forward]));
    let mut stream = connect(port);
    let mut banner = [0; 8];
    stream.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
}

#[test]
fn a_forward_to_a_place_outside_the_window_is_refused_and_audited() {
    let gateway = Gateway::start();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let own = listener.local_addr().unwrap().port();
    let gateway_port = gateway.ssh_address().port();
    let places = [
        format!("127.0.0.1:{own}"),
        format!("localhost:{own}"),
        format!("[::1]:{own}"),
        format!("[::ffff:127.0.0.1]:{own}"),
        format!("0.0.0.0:{own}"),
        format!("2130706433:{own}"),
        format!("127.0.0.1:{gateway_port}"),
        "169.254.169.254:80".to_owned(),
        "[fe80::1]:80".to_owned(),
        "10.0.0.1:22".to_owned(),
        "pump-hmi:23".to_owned(),
        "no-such-asset:22".to_owned(),
    ];
    for place in &places {
        let port = local_port();
        let tunnel =
            Live::start(gateway.vera().ssh("pump-hmi", ["-N", "-L", &format!("127.0.0.1:{port}:{place}")]));
        let mut stream = connect(port);
        drop(stream.write_all(b"GET / HTTP/1.0\r\n\r\n"));
        assert_eq!(drain(stream), b"", "{place} answered:\n{}", tunnel.transcript());
        assert!(listener.accept().is_err(), "{place}: a connection arrived");
    }
    let refused = gateway.audit("forward.refused");
    assert!(refused.len() >= places.len() - 1, "{} of {} in the audit", refused.len(), places.len());
}

#[test]
fn dynamic_forwarding_is_limited_to_the_same_endpoints() {
    let gateway = Gateway::start();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let own = listener.local_addr().unwrap().port();
    let port = local_port();
    let _tunnel = Live::start(gateway.vera().ssh("pump-hmi", ["-N", "-D", &format!("127.0.0.1:{port}")]));
    let mut stream = connect(port);
    // SOCKS 4 CONNECT to 127.0.0.1.
    let [high, low] = own.to_be_bytes();
    stream.write_all(&[4, 1, high, low, 127, 0, 0, 1, 0]).unwrap();
    let answer = drain(stream);
    assert_ne!(answer.get(1), Some(&90), "granted: {answer:?}");
    assert!(listener.accept().is_err());
}

#[test]
fn agent_x11_and_remote_forwarding_are_refused() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    run(vera.ssh("workshop", ["-A", "echo agent=$SSH_AUTH_SOCK."])).ok().said("agent=.");
    let mut x11 = vera.ssh("workshop", ["-X", "echo display=$DISPLAY."]);
    x11.env("DISPLAY", "127.0.0.1:0");
    run(x11).ok().said("display=.");
    run(vera.ssh("workshop", ["-oExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22", "true"])).failed();
    run(vera.ssh(
        "workshop",
        ["-oExitOnForwardFailure=yes", "-R", "/tmp/cofferdam-e2e-remote:127.0.0.1:22", "true"],
    ))
    .failed();
}

#[test]
fn a_forward_that_never_answers_does_not_delay_the_sessions_other_channels() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let port = local_port();
    let mut shell = Live::start(
        gateway.vera().ssh("workshop", ["-tt", "-L", &format!("127.0.0.1:{port}:workshop:22"), "sh"]),
    );
    shell.expect("$ ");
    // A SIGSTOPped sshd still completes TCP's handshake in its backlog; what hangs is everything after it.
    target.freeze();
    let streams: Vec<_> = (0..5).map(|_| connect(port)).collect();
    target.thaw();
    let start = Instant::now();
    shell.send("echo quick-$((40+2))\r");
    shell.expect_within("quick-42", Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(streams);
}

#[test]
fn a_live_forward_ends_when_its_asset_is_disabled() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    // A plain TCP endpoint beside the SSH one, so that the forward is raw.
    let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let echo_port = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in echo.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut part = [0; 256];
                while let Ok(count @ 1..) = stream.read(&mut part) {
                    if stream.write_all(&part[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    gateway.change_asset("workshop", |asset| {
        let endpoint = toml::Table::from_iter([
            ("protocol".to_owned(), "tcp".into()),
            ("port".to_owned(), 7000.into()),
            ("dial_port".to_owned(), i64::from(echo_port).into()),
        ]);
        asset["endpoints"].as_array_mut().unwrap().push(endpoint.into());
    });
    let port = local_port();
    let forward = format!("127.0.0.1:{port}:workshop:7000");
    let _tunnel = Live::start(gateway.vera().ssh("workshop", ["-N", "-L", &forward]));
    let mut stream = connect(port);
    stream.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    gateway.change_asset("workshop", |asset| {
        asset.insert("disabled".to_owned(), true.into());
    });
    let start = Instant::now();
    assert_eq!(drain(stream), b"");
    assert!(start.elapsed() < Duration::from_secs(2), "cut after {:?}", start.elapsed());
}
