//! Sound of a real desktop at a real client.

use std::time::Duration;

use cofferdam_rdp::{Event, Order, SoundFormat};

use crate::{
    desktop::Xfreerdp,
    gateway::{Gateway, TOKEN, USER},
    graphics::{by_pipeline, gnome},
    session::contains,
    targets::{Folder, Gnome, Running, wait_for},
};

/// A tone of so many seconds, as a WAV file: 16 bits, two channels, 44.1 kHz.
fn tone(seconds: u32) -> Vec<u8> {
    let samples = seconds * 44_100;
    let data: Vec<u8> = (0..samples)
        .flat_map(|n| if n / 50 % 2 == 0 { [0, 0x20, 0, 0x20] } else { [0, 0xe0, 0, 0xe0] })
        .collect();
    let len = u32::try_from(data.len()).unwrap();
    let head = [
        &b"RIFF"[..],
        &(36 + len).to_le_bytes(),
        b"WAVEfmt ",
        &16_u32.to_le_bytes(),
        &[1, 0, 2, 0],
        &44_100_u32.to_le_bytes(),
        &176_400_u32.to_le_bytes(),
        &[4, 0, 16, 0],
        b"data",
        &len.to_le_bytes(),
    ];
    [head.concat(), data].concat()
}

/// Gives the desktop something to play on, and has it play for some seconds.
fn plays(target: &Gnome, folder: &Folder) -> Running {
    let speaker = "{ factory.name=support.null-audio-sink node.name=speaker media.class=Audio/Sink \
                   object.linger=true audio.position=[FL FR] }";
    let made = target.pipewire(folder, "pw-cli").args(["create-node", "adapter", speaker]).status().unwrap();
    assert!(made.success());
    let file = folder.path("tone.wav");
    std::fs::write(&file, tone(20)).unwrap();
    Running::start(target.pipewire(folder, "pw-play").args(["--target", "speaker"]).arg(&file))
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_of_a_desktop_is_heard_where_it_is_allowed_and_is_told() {
    let folder = Folder::new();
    let target = Gnome::start(&folder);
    // Without the graphics pipeline this one gives no sound.
    let mut policy = by_pipeline();
    policy.sound = true;
    let gateway = Gateway::start(gnome(&target), policy).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &["/gfx", "/sound:sys:fake"]);
    let seen = gateway.seen.clone();
    wait_for("the desktop", 30, || seen.has(|event| matches!(event, Event::Activated(_))).then_some(()));
    let _plays = plays(&target, &folder);
    wait_for("that sound is told", 20, || {
        let tone = SoundFormat { tag: 1, channels: 2, rate: 44_100, bits: 16 };
        seen.has(|event| *event == Event::Sound { plays: Some(tone), bytes: 0 }).then_some(())
    });
    let clear = gateway.clear.clone();
    let bytes_of = |seconds: u64| {
        let before = clear.lock().unwrap().len();
        std::thread::sleep(Duration::from_secs(seconds));
        clear.lock().unwrap().len() - before
    };
    // 176,400 a second, in more blocks than may be unanswered: the client says that it plays them.
    let heard = bytes_of(3);
    assert!((400_000..800_000).contains(&heard), "{heard} bytes in three seconds");
    gateway.orders.send(Order::Freeze).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let heard = bytes_of(2);
    assert!(heard < 20_000, "{heard} bytes while it is suspended");
    gateway.orders.send(Order::Run).unwrap();
    let heard = bytes_of(3);
    assert!(heard > 300_000, "{heard} bytes once it goes on");
    gateway.ends_idle(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_of_a_desktop_is_not_even_offered_where_it_is_not_allowed() {
    let folder = Folder::new();
    let target = Gnome::start(&folder);
    let gateway = Gateway::start(gnome(&target), by_pipeline()).await;
    let _client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &["/gfx", "/sound:sys:fake"]);
    let seen = gateway.seen.clone();
    wait_for("the desktop", 30, || seen.screen().map(drop));
    let _plays = plays(&target, &folder);
    std::thread::sleep(Duration::from_secs(3));
    assert!(seen.has(|event| matches!(event, Event::ChannelRefused { name } if name == "rdpsnd")));
    assert!(!seen.has(|event| matches!(event, Event::Sound { .. })));
    // Not even by a way that it was not told of.
    let clear = gateway.clear.lock().unwrap();
    assert!(!contains(&clear, "AUDIO_PLAYBACK"), "the target may ask");
}
