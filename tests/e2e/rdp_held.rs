//! Desktops that are held up: where nobody watches, where the recorder's disk is full, and by clients that take nothing.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::rdp::{REACHED, TOP, WORDS};
use crate::support::{
    CUT, Gateway, Live, as_json,
    cli::id_of,
    desktop::{Display, FIRST_KEY, PANEL},
    targets::{Folder, Shadow},
    wait_for,
};

/// Has the sessions on `eng-ws` watched.
fn supervise(gateway: &Gateway) {
    gateway.change_asset("eng-ws", |asset| drop(asset.insert("supervised".to_owned(), true.into())));
}

/// A client that shows why it waits, for somebody who watches, and the id of its session.
#[track_caller]
fn waits(gateway: &Gateway, display: &Display, api: &str) -> (Live, String) {
    let (user, token) = gateway.desktop_pass(api);
    let mut client = Live::start(gateway.freerdp(display, &user, &token));
    let (id, _) = wait_for("the session", Duration::from_secs(20), || {
        assert!(client.is_running(), "{}", client.transcript());
        gateway.live_sessions().first().cloned()
    });
    wait_for("the gateway's words", Duration::from_secs(10), || {
        assert!(client.is_running(), "{}", client.transcript());
        (display.colour(TOP) == WORDS).then_some(())
    });
    (client, id)
}

#[test]
fn a_supervised_desktop_is_reached_only_once_somebody_watches_and_takes_nothing_when_nobody_does() {
    let gateway = Gateway::start();
    supervise(&gateway);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let (mut client, id) = waits(&gateway, &display, &api);
    display.press("k");
    // An approver takes a while to come to a screen; by itself FreeRDP waits for nine seconds for what it has not got.
    std::thread::sleep(Duration::from_secs(12));
    assert!(client.is_running(), "{}", client.transcript());
    assert!(!gateway.log().contains(REACHED), "the target was contacted, and nobody watches");
    let (press, words) = (as_json(&display.presses("k")), as_json(&display.tells(TOP)));
    gateway.browse("desktop_supervised.mjs", &[("COFFERDAM_PRESS", &press), ("COFFERDAM_WORDS", &words)]);
    assert!(gateway.log().contains(REACHED));
    assert_eq!(gateway.audit("session.watched").len(), 2, "each watching is audited");
    gateway.kill_session(&id).ok();
    client.ended_within(Duration::from_secs(10));
    gateway.ended_session();
    gateway.cofferdam(["recording", "verify", &id]).ok();
}

/// Passes connections on to a target, each after three seconds.
fn slow_way_to(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for person in listener.incoming() {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(3));
                let (mut from, mut to) = (person?, TcpStream::connect(target)?);
                let (mut back_from, mut back_to) = (to.try_clone()?, from.try_clone()?);
                std::thread::spawn(move || {
                    std::io::copy(&mut back_from, &mut back_to)?;
                    back_to.shutdown(std::net::Shutdown::Both)
                });
                std::io::copy(&mut from, &mut to)?;
                to.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    address
}

#[test]
fn a_watcher_who_leaves_while_the_target_is_dialled_and_comes_back_finds_a_desktop() {
    let (gateway, folder) = (Gateway::start(), Folder::new());
    let target = Shadow::start(&folder);
    gateway.eng_ws_is(slow_way_to(target.address), "nla", Shadow::PASSWORD);
    supervise(&gateway);
    // Its secret is given out once at a time.
    gateway.change_site(|site| {
        let accounts = site["accounts"].as_array_mut().unwrap();
        let account = accounts.iter_mut().find(|a| a["asset"].as_str() == Some("eng-ws")).unwrap();
        account.as_table_mut().unwrap().insert("exclusive".to_owned(), true.into());
    });
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let (mut client, id) = waits(&gateway, &display, &api);
    gateway.browse("desktop_supervised_leaves.mjs", &[]);
    assert!(client.is_running(), "{}", client.transcript());
    assert_eq!(gateway.audit("session.watched").len(), 3);
    assert_eq!(gateway.log().matches("the vault answered about a lease").count(), 1);
    gateway.kill_session(&id).ok();
    client.ended_within(Duration::from_secs(10));
    gateway.ended_session();
}

#[test]
fn a_desktop_that_waits_for_a_watcher_ends_when_its_person_leaves_or_somebody_ends_it() {
    let gateway = Gateway::start();
    supervise(&gateway);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let (mut client, id) = waits(&gateway, &display, &api);
    gateway.kill_session(&id).ok();
    let (_, took) = client.ended_within(Duration::from_secs(10));
    assert!(took <= CUT, "{took:?}");
    wait_for("the end", Duration::from_secs(5), || gateway.live_sessions().is_empty().then_some(()));

    let (client, id) = waits(&gateway, &display, &api);
    drop(client);
    wait_for("the end of what nobody waits for", Duration::from_secs(10), || {
        gateway.live_sessions().is_empty().then_some(())
    });
    assert!(gateway.session(&id).to_string().contains("closed"), "{:#}", gateway.session(&id));
    assert!(!gateway.log().contains(REACHED), "the target was contacted");
}

#[test]
fn a_full_disk_holds_a_desktop_still_and_a_kill_cuts_it_at_once() {
    let gateway = Gateway::start_with_a_disk();
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let mut client = gateway.at_the_desktop(&display, &api);
    let id = id_of(&gateway.only_session());
    display.press("k");
    wait_for("the key's mark", Duration::from_secs(5), || (display.colour(FIRST_KEY) != PANEL).then_some(()));
    gateway.disk().fill();
    // Its water moves, which cannot be recorded: that stands still, too.
    wait_for("the desktop to stand still", Duration::from_secs(40), || {
        gateway.log().contains("recording stalls").then_some(())
    });
    let second = (FIRST_KEY.0 + 16, FIRST_KEY.1);
    display.press("k");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(display.colour(second), PANEL, "a key passed that was not recorded");
    assert!(client.is_running(), "{}", client.transcript());
    gateway.disk().make_room();
    wait_for("a key's mark", Duration::from_secs(20), || {
        display.press("k");
        (display.colour(second) != PANEL).then_some(())
    });
    gateway.disk().fill();
    let stalls = || gateway.log().matches("recording stalls").count();
    wait_for("the desktop to stand still once more", Duration::from_secs(40), || {
        (stalls() > 1).then_some(())
    });
    let since = Instant::now();
    gateway.kill_session(&id).ok();
    client.ended_within(Duration::from_secs(10));
    // The command takes its time, too.
    assert!(since.elapsed() <= 2 * CUT, "the kill took {:?}", since.elapsed());
    gateway.disk().make_room();
    let row = gateway.ended_session();
    assert!(row.to_string().contains("kill"), "{row:#}");
    gateway.cofferdam(["recording", "verify", &id]).ok();
}

#[test]
fn clients_that_stop_taking_anything_cost_little_memory_and_hold_nobody_up() {
    let gateway = Gateway::start();
    let api = gateway.api_token("connect");
    let displays: Vec<Display> = (0..2).map(|_| Display::start()).collect();
    let mut stopped: Vec<Live> =
        displays.iter().map(|display| gateway.at_the_desktop(display, &api)).collect();
    let before = gateway.resident_kib();
    stopped.iter().for_each(|client| client.signal(Signal::SIGSTOP));
    // The water moves all the time: what they do not take would be megabytes by now.
    std::thread::sleep(Duration::from_secs(12));
    let display = Display::start();
    let mut client = gateway.at_the_desktop(&display, &api);
    display.press("k");
    let (_, took) = wait_for("the key's mark", Duration::from_secs(5), || {
        (display.colour(FIRST_KEY) != PANEL).then_some(())
    });
    assert!(took <= 2 * CUT, "{took:?}");
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < 40_000, "{grown} KiB more");
    for id in gateway.live_sessions() {
        gateway.kill_session(&id).ok();
        wait_for("the end", 2 * CUT, || (!gateway.live_sessions().contains(&id)).then_some(()));
    }
    assert!(gateway.live_sessions().is_empty());
    client.ended_within(Duration::from_secs(5));
    stopped.iter_mut().for_each(|client| {
        client.signal(Signal::SIGCONT);
        client.ended_within(Duration::from_secs(10));
    });
}
