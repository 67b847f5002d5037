//! Clients that wait at a desktop of the gateway's own before there is a target, and then come to the target's.

use cofferdam_rdp::{ChannelPolicy, Ending, Event, Finished, Order};

use crate::{
    desktop::Xfreerdp,
    gateway::{Account, Gateway, Outcome, TOKEN, TYPED, USER},
    graphics::{ROUNDED, by_pipeline, gnome, same, terminal},
    session::{BOX, contains, shadow, xrdp},
    targets::{Display, Folder, Gnome, PIXEL, Shadow, Xrdp, wait_for},
};

/// A key as the watcher hears of it once it was let go.
fn key(code: u16) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Key(key) if u16::from(key.code) == code && !key.down)
}

/// Waits until a text is written at the top of what the client shows.
fn reads(client: &Xfreerdp, (x, y): (u32, u32)) {
    wait_for("the gateway's words", 10, || (client.display.pixel(x, y) == Some(BOX.0)).then_some(()));
}

/// What no client and no target has to do with: the client waits, is told why, and what it does has no effect.
fn waits(gateway: &Gateway, client: &Xfreerdp, place: (u32, u32)) {
    assert!(gateway.seen.events.lock().unwrap().is_empty());
    gateway.words.send_replace(Some("nobody watches yet".into()));
    reads(client, place);
    client.display.press("a");
    gateway.words.send_replace(Some("this takes somewhat longer".into()));
    gateway.words.send_replace(None);
    wait_for("the words to go", 10, || {
        (client.display.pixel(place.0, place.1) == Some([0; 3])).then_some(())
    });
    gateway.words.send_replace(Some("connecting".into()));
    reads(client, place);
    gateway.words.send_replace(None);
    gateway.goes_on();
}

/// The client is at the target's desktop, where it is heard.
fn arrives(gateway: &Gateway, client: &Xfreerdp, desktop: &Display) {
    client.shows(PIXEL);
    // What is drawn from now on comes, too.
    desktop.fill("#aa2211");
    client.shows([0xaa, 0x22, 0x11]);
    client.display.press("b");
    wait_for("the key", 5, || gateway.seen.has(key(0x30)).then_some(()));
    assert!(!gateway.seen.has(key(0x1e)), "what was typed while it waited was sent");
}

async fn waits_and_arrives(
    account: Account,
    desktop: &Display,
    client: impl FnOnce(&Gateway) -> Xfreerdp,
    without_nla: bool,
) -> Vec<u8> {
    let gateway = Gateway::start_waiting(account, ChannelPolicy::default(), without_nla).await;
    let client = client(&gateway);
    waits(&gateway, &client, BOX.1);
    arrives(&gateway, &client, desktop);
    let clear = gateway.clear.clone();
    gateway.ends_idle(client).await;
    std::mem::take(&mut *clear.lock().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_and_comes_to_an_xrdp_desktop_at_another_colour_depth() {
    let folder = Folder::new();
    let target = Xrdp::start(&folder);
    let client = |gateway: &Gateway| Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &["/bpp:24"]);
    let clear = waits_and_arrives(xrdp(&target), &target.desktop, client, false).await;
    assert!(folder.log("xfreerdp").contains("ERRINFO_IDLE_TIMEOUT"), "{}", folder.log("xfreerdp"));
    assert!(!contains(&clear, Xrdp::PASSWORD) && !contains(&clear, "svc-eng"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_and_comes_to_a_desktop_with_nla() {
    let folder = Folder::new();
    let target = Shadow::start(&folder);
    let client = |gateway: &Gateway| Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    let clear = waits_and_arrives(shadow(&target), &target.desktop, client, false).await;
    assert!(!contains(&clear, Shadow::PASSWORD) && !contains(&clear, Shadow::USER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_nla_waits_and_comes_to_its_target() {
    let folder = Folder::new();
    let target = Shadow::start(&folder);
    let client = |gateway: &Gateway| Xfreerdp::without_nla(&folder, gateway.address, USER, TYPED);
    let clear = waits_and_arrives(shadow(&target), &target.desktop, client, true).await;
    assert!(!contains(&clear, Shadow::PASSWORD) && !contains(&clear, Shadow::USER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_waits_and_comes_to_a_desktop_of_another_size_that_draws_by_the_pipeline() {
    let folder = Folder::new();
    let target = Gnome::start(&folder);
    let _terminal = terminal(&target, &folder);
    let gateway = Gateway::start_waiting(gnome(&target), by_pipeline(), false).await;
    let more = ["/gfx", "/size:800x600"];
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &more);
    waits(&gateway, &client, (400, 4));
    let seen = gateway.seen.clone();
    wait_for("the desktop", 30, || {
        let (_, rgb) = seen.screen()?;
        rgb.iter().any(|colour| *colour != 0).then_some(())
    });
    assert!(seen.by_pipeline());
    same(&client, &seen, ROUNDED);
    gateway.ends_idle(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_is_told_why_it_ends_and_may_leave() {
    let folder = Folder::new();
    let target = Shadow::start(&folder);
    let gateway = Gateway::start_waiting(shadow(&target), ChannelPolicy::default(), false).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    gateway.words.send_replace(Some("nobody watches yet".into()));
    reads(&client, BOX.1);
    gateway.orders.send(Order::End(Ending::TimeOver)).unwrap();
    client.end();
    assert!(folder.log("xfreerdp").contains("ERRINFO_LOGON_TIMEOUT"), "{}", folder.log("xfreerdp"));
    assert!(matches!(gateway.outcome().await, Outcome::Finished(Finished::Ended(Ending::TimeOver))));

    let gateway = Gateway::start_waiting(shadow(&target), ChannelPolicy::default(), false).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    gateway.words.send_replace(Some("nobody watches yet".into()));
    reads(&client, BOX.1);
    drop(client);
    assert!(matches!(gateway.outcome().await, Outcome::Finished(Finished::PersonLeft)));
}
