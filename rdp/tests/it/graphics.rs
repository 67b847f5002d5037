//! The graphics pipeline, by a desktop that draws with it where it may.

use std::os::unix::fs::PermissionsExt as _;

use cofferdam_rdp::{ChannelPolicy, Dropped, Event, Graphics, Security};

use crate::{
    desktop::Xfreerdp,
    gateway::{Account, Gateway, Seen, TOKEN, USER},
    session::contains,
    targets::{Folder, Gnome, wait_for},
};

pub(crate) fn gnome(target: &Gnome) -> Account {
    Account {
        address: target.address,
        security: Security::Nla,
        user: Gnome::USER,
        password: Gnome::PASSWORD,
        pin: Some(target.pin.parse().unwrap()),
    }
}

pub(crate) fn by_pipeline() -> ChannelPolicy {
    let mut policy = ChannelPolicy::default();
    policy.graphics = Graphics::Pipeline;
    policy
}

/// A terminal that shows a line, and then each line that is typed into it.
pub(crate) fn terminal(target: &Gnome, folder: &Folder) -> crate::targets::Running {
    let script = folder.path("echo.sh");
    std::fs::write(&script, "#!/bin/sh\necho ready\nwhile read -r line; do echo \"got $line\"; done\n")
        .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    target.terminal(folder, &script)
}

/// How far apart decoders of RemoteFX may be in one colour: FreeRDP and IronRDP are both up to 8 off what was there.
pub(crate) const ROUNDED: u8 = 12;

/// How far apart two pictures are: the most that one colour of a pixel differs, and how many pixels do.
fn apart(one: &[u8], other: &[u8]) -> (u8, usize) {
    assert_eq!(one.len(), other.len());
    let most = |(a, b): (&[u8], &[u8])| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let all: Vec<u8> = one.chunks(3).zip(other.chunks(3)).map(most).collect();
    (all.iter().copied().max().unwrap(), all.iter().filter(|most| **most > 0).count())
}

/// Waits until what the client shows is what would be recorded, but for so much in each colour.
pub(crate) fn same(client: &Xfreerdp, seen: &Seen, rounded: u8) -> Vec<u8> {
    let mut last = None;
    wait_for("one picture on both sides", 15, || {
        let (size, recorded) = seen.screen()?;
        assert_eq!(size, (1024, 768));
        let (most, differ) = apart(&client.display.rgb(), &recorded);
        if last != Some((most, differ)) {
            eprintln!("apart by {most} at most, {differ} pixels");
        }
        last = Some((most, differ));
        let colours = recorded.chunks(3).collect::<std::collections::HashSet<_>>().len();
        (most <= rounded && colours > 16).then_some(recorded)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_desktop_that_draws_by_the_pipeline_is_recorded_as_it_is_shown() {
    let folder = Folder::new();
    let target = Gnome::start(&folder);
    let _terminal = terminal(&target, &folder);
    let gateway = Gateway::start(gnome(&target), by_pipeline()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &["/gfx"]);
    let seen = gateway.seen.clone();
    wait_for("the desktop", 30, || {
        let (_, rgb) = seen.screen()?;
        rgb.iter().any(|colour| *colour != 0).then_some(())
    });
    assert!(seen.by_pipeline());
    let before = same(&client, &seen, ROUNDED);
    for key in ["o", "r", "e", "Return"] {
        client.display.press(key);
    }
    wait_for("what was typed", 20, || {
        let (_, now) = seen.screen()?;
        (apart(&before, &now).1 > 200).then_some(())
    });
    let after = same(&client, &seen, ROUNDED);
    assert!(!seen.has(|event| matches!(event, Event::Dropped(Dropped::BesidePipeline))));

    // Words over it, on a surface of their own, and what is below them again.
    gateway.words.send_replace(Some("The window ends in 10 minutes".into()));
    wait_for("the words", 10, || (client.display.pixel(512, 4) == Some([0x1b, 0x26, 0x31])).then_some(()));
    client.display.press("x");
    wait_for("a key meanwhile", 10, || {
        let (_, now) = seen.screen()?;
        (apart(&after, &now).1 > 0).then_some(())
    });
    gateway.words.send_replace(None);
    same(&client, &seen, ROUNDED);
    client.display.press("Return");
    wait_for("that the target still draws", 10, || {
        let (_, now) = seen.screen()?;
        (apart(&after, &now).1 > 200).then_some(())
    });
    same(&client, &seen, ROUNDED);

    let clear = gateway.clear.clone();
    gateway.ends_idle(client).await;
    let clear = clear.lock().unwrap();
    assert!(contains(&clear, USER), "what the client says is in what was kept");
    assert!(!contains(&clear, Gnome::PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_pipeline_is_not_allowed_the_same_desktop_draws_by_bitmaps() {
    let folder = Folder::new();
    let target = Gnome::start(&folder);
    let _terminal = terminal(&target, &folder);
    let gateway = Gateway::start(gnome(&target), ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &["/gfx"]);
    let seen = gateway.seen.clone();
    same(&client, &seen, 0);
    assert!(
        !seen.by_pipeline()
            && !seen
                .has(|event| matches!(event, Event::ChannelRefused { name } if name.contains("Graphics")))
    );
}
