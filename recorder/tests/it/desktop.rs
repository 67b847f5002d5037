//! A desktop's recording: what is shown at any time is what was on the screen then, and what was typed is for few.

use std::{
    io::Write as _,
    ops::ControlFlow,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::*;
use cofferdam_recorder::*;

const S: i64 = 1_000_000;
const W: u16 = 200;
const H: u16 = 150;

fn desktop_header(id: &str) -> Header {
    Header { protocol: "rdp".into(), ..header(id) }
}

/// What is on the screen in a second: stripes that move, and a number of its own in the corner.
fn picture(width: u16, height: u16, second: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            let corner = x < 8 && y < 8;
            let stripe = (y + second) % 40 < 3;
            let colour = if corner { second as u8 } else { u8::from(stripe) * 200 };
            bytes.extend_from_slice(&[colour, (x / 50) as u8, 7, 0]);
        }
    }
    bytes
}

fn rgb(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect()
}

struct Desk {
    encoder: DesktopEncoder,
    session: SessionRecorder,
}

impl Desk {
    async fn start(service: &RecorderService, id: &str) -> Self {
        let session = service.start(desktop_header(id)).await.unwrap();
        Self { encoder: DesktopEncoder::new(0), session }
    }

    async fn show(&mut self, world: &World, width: u16, height: u16, second: i64) {
        let bytes = picture(width, height, second);
        let pixels = Pixels::new(width, height, Order::Rgbx, &bytes).unwrap();
        let now = world.now.load(std::sync::atomic::Ordering::SeqCst);
        for event in self.encoder.frame(&pixels, Changed::All, now) {
            self.session.record(event).await.unwrap();
        }
    }

    async fn types(&self, text: &str) {
        for unit in text.encode_utf16() {
            let key = Key { code: unit, released: false, extended: false, unicode: true };
            for event in self.encoder.keys(&[key]) {
                self.session.record(event).await.unwrap();
            }
        }
    }
}

/// Three minutes, one picture a second; larger from the second 100 on.
async fn minutes(world: &World, id: &str) -> Desk {
    let service = world.service();
    let mut desk = Desk::start(&service, id).await;
    for second in 0..180 {
        let (width, height) = size_at(second);
        desk.show(world, width, height, second).await;
        if second % 7 == 0 {
            desk.session.flush().await.unwrap();
        }
        world.pass(S);
    }
    desk.session.flush().await.unwrap();
    desk
}

fn size_at(second: i64) -> (u16, u16) {
    if second < 100 { (W, H) } else { (W + 70, H + 11) }
}

#[tokio::test]
async fn a_seek_shows_what_was_on_the_screen_at_that_second() {
    let world = World::new();
    let desk = minutes(&world, "r1").await;
    for sealed in [false, true] {
        if sealed {
            desk.session.finish(End::because("closed")).await.unwrap();
            assert!(world.verify("r1").is_whole());
        }
        let recording = world.open("r1");
        for second in [0, 1, 9, 10, 59, 60, 61, 99, 100, 101, 150, 179, 3, 170] {
            let player = DesktopPlayer::seek(&recording, None, T0 + second * S).unwrap();
            let (width, height) = size_at(second);
            assert_eq!(player.screen().size(), (width, height), "second {second}");
            assert!(player.screen().is_whole());
            assert!(
                player.screen().picture().unwrap() == rgb(&picture(width, height, second)),
                "second {second}"
            );
        }
        let mut player = DesktopPlayer::seek(&recording, Some(0), T0 + 50 * S + 1).unwrap();
        let next = player.advance().unwrap().unwrap();
        assert_eq!(next.at, T0 + 51 * S, "it goes on right behind the picture");
    }
    let recording = world.open("r1");
    let before = DesktopPlayer::seek(&recording, None, T0 - S).unwrap();
    assert_eq!((before.screen().size(), before.screen().is_whole()), ((0, 0), false));
    let told: Vec<_> = marks(&recording, 10).unwrap().lines.into_iter().map(|l| (l.kind, l.text)).collect();
    let resize = |text: &str| (LineKind::Resize, text.to_owned());
    assert_eq!(told, [resize("desktop of 200x150"), resize("desktop of 270x161")]);
}

#[tokio::test]
async fn whoever_joins_sees_the_desktop_as_it_stands_and_what_happens_next() {
    let world = World::new();
    let mut desk = minutes(&world, "r1").await;
    let (mut live, joined) = Live::join(&world.path("r1"), &world.reader, None).unwrap();
    let (width, height) = size_at(179);
    let mut screen = joined.desktop.unwrap();
    assert!(screen.picture().unwrap() == rgb(&picture(width, height, 179)));
    assert!(matches!(live.next(10).unwrap(), LiveNext::Waiting));
    desk.show(&world, width, height, 200).await;
    desk.types("secret").await;
    desk.session.flush().await.unwrap();
    while let LiveNext::Events(events) = live.next(100).unwrap() {
        for event in events {
            let LiveEvent::Desktop(event) = event else { panic!("{event:?}") };
            screen.apply(&event.event).unwrap();
        }
    }
    assert!(screen.picture().unwrap() == rgb(&picture(width, height, 200)));
}

#[tokio::test]
async fn what_was_typed_is_found_only_by_those_who_may_read_it() {
    let world = World::new();
    let mut config = world.config();
    config.index = true;
    let service = world.service_with(config);
    let mut desk = Desk::start(&service, "r1").await;
    desk.show(&world, W, H, 0).await;
    world.pass(20 * S);
    desk.types("valve-open-17\r").await;
    let copied = ClipboardText { direction: Direction::ToTarget, text: "pasted-words".into() };
    for event in desk.encoder.clipboard(&copied) {
        desk.session.record(event).await.unwrap();
    }
    let clipboard = Clipboard {
        channel: 0,
        direction: Direction::ToTarget,
        format: "text".into(),
        size: 12,
        refused: None,
    };
    desk.session.record(Event::Clipboard(Box::new(clipboard))).await.unwrap();
    desk.session.finish(End::because("closed")).await.unwrap();
    drop(desk);
    drop(service);
    let found = |identity: &Identity, text: &str, until: Option<i64>, user: &str| {
        let query = Query { text: text.into(), until, user: Some(user.into()), ..Query::default() };
        let mut hits = Vec::new();
        search(&world.dir.path().join("rec"), identity, &query, 1, |hit| {
            hits.push((hit.line.kind.as_str(), (hit.line.at - T0) / S, hit.line.text));
            ControlFlow::Continue(())
        })
        .unwrap();
        hits
    };
    let typed = [("typed", 20, "valve-open-17".to_owned())];
    assert_eq!(found(&world.revealer, "VALVE-open", None, "vera"), typed);
    assert_eq!(found(&world.revealer, "valve", Some(T0 + 10 * S), "vera"), []);
    assert_eq!(found(&world.revealer, "valve", None, "paul"), []);
    assert_eq!(found(&world.revealer, "pasted-words", None, "vera").len(), 1);
    for text in ["valve", "pasted-words"] {
        assert_eq!(found(&world.reader, text, None, "vera"), [], "{text}");
    }
    let clipboard = [("clipboard", 20, "clipboard to the target: text, 12 bytes".to_owned())];
    assert_eq!(found(&world.reader, "clipboard", None, "vera"), clipboard);
    // An index made by somebody who may read it holds it no more than one that the server made.
    let mut recording = Recording::open(world.path("r1")).unwrap();
    recording.unlock(&world.revealer).unwrap();
    build_index(&recording).unwrap();
    assert_eq!(found(&world.reader, "valve", None, "vera"), []);
    assert_eq!(found(&world.revealer, "valve", None, "vera"), typed);
    let mut json = Vec::new();
    export_jsonl(&world.open("r1"), &mut json).unwrap();
    assert!(!String::from_utf8(json).unwrap().contains("valve"));
}

#[tokio::test]
async fn a_still_is_the_picture_of_its_second() {
    let world = World::new();
    let desk = minutes(&world, "r1").await;
    desk.session.finish(End::because("closed")).await.unwrap();
    let recording = world.open("r1");
    for (time, second) in [(T0 + 42 * S, 42), (T0 - S, 0), (T0 + 900 * S, 179)] {
        let mut file = Vec::new();
        export_still(&recording, time, &mut file).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let (width, height) = size_at(second);
        let wanted = rgb(&picture(width, height, second));
        // The pointer stands in the corner.
        let row = usize::from(width) * 3;
        assert!(pixels[row * 12..] == wanted[row * 12..], "second {second}");
    }
    let world = World::new();
    let terminal = world.service().start(header("r2")).await.unwrap();
    terminal.record(output("text")).await.unwrap();
    terminal.finish(End::because("closed")).await.unwrap();
    let refused = export_still(&world.open("r2"), T0, &mut Vec::new()).unwrap_err();
    assert_eq!(refused.to_string(), "the recording holds no desktop; choose another form of export");
}

/// Times in milliseconds and sizes of small pictures.
fn stills(recording: &Recording, enough: impl FnMut() -> bool) -> Vec<(u32, u32, u32)> {
    let mut out = Vec::new();
    DesktopStream::new(T0).write_stills(recording, enough, &mut out).unwrap();
    let (mut rest, mut found) = (out.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (message, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        assert_eq!(message[0], 3);
        let reader = png::Decoder::new(std::io::Cursor::new(&message[5..])).read_info().unwrap();
        let millis = u32::from_le_bytes(message[1..5].try_into().unwrap());
        found.push((millis, reader.info().width, reader.info().height));
        rest = after;
    }
    found
}

#[tokio::test]
async fn small_pictures_are_spread_over_a_recording_and_their_making_has_a_bound() {
    let world = World::new();
    let desk = minutes(&world, "r1").await;
    desk.session.finish(End::because("closed")).await.unwrap();
    let recording = world.open("r1");
    let all = stills(&recording, || false);
    assert_eq!(all.len(), 12, "{all:?}");
    for (number, (millis, width, height)) in (0..).zip(&all) {
        let (wide, high) = size_at(i64::from(*millis) / 1000);
        assert!(*width <= 160 && *height <= 120 && width * u32::from(high) / u32::from(wide) <= height + 1);
        assert!(millis.abs_diff(15_000 * number + 7_500) < 1000, "{all:?}");
    }
    let mut asked = 0;
    let some = stills(&recording, || {
        asked += 1;
        asked > 3
    });
    assert_eq!(some, all[..3]);
    let world = World::new();
    let terminal = world.service().start(header("r2")).await.unwrap();
    terminal.record(output("text")).await.unwrap();
    terminal.finish(End::because("closed")).await.unwrap();
    assert_eq!(stills(&world.open("r2"), || false), []);
}

#[tokio::test]
async fn a_film_goes_through_ffmpeg_with_each_picture_in_its_time() {
    let world = World::new();
    let desk = minutes(&world, "r1").await;
    world.pass(3600 * S);
    desk.session.record(Event::Notice { text: "an hour later".into() }).await.unwrap();
    desk.session.finish(End::because("closed")).await.unwrap();
    let recording = world.open("r1");
    let folder = world.dir.path();
    // Stands for ffmpeg: keeps what it is told and given.
    let program = folder.join("film");
    let kept = "out=; for word; do out=$word; done; echo \"$@\" > \"$out.words\"; cat > \"$out\"";
    std::fs::write(&program, format!("#!/bin/sh\n{kept}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let options = VideoOptions { rate: 2, program: program.into(), ..VideoOptions::default() };
    let film = folder.join("film.webm");
    export_video(&recording, &options, &film).unwrap();
    let words = std::fs::read_to_string(folder.join("film.webm.words")).unwrap();
    assert!(words.contains("-s 270x162 -r 2 -i pipe:0"), "{words}");
    let bytes = std::fs::read(&film).unwrap();
    let frame = 270 * 162 * 3;
    assert_eq!(bytes.len() % frame, 0);
    let frames: Vec<&[u8]> = bytes.chunks_exact(frame).collect();
    // Two a second for three minutes, and of the idle hour behind them two seconds.
    assert!((360..=366).contains(&frames.len()), "{}", frames.len());
    let row =
        |frame: usize, y: usize, width: u16| frames[frame][y * 270 * 3..][..usize::from(width) * 3].to_vec();
    for second in [20i64, 150] {
        let (width, height) = size_at(second);
        let wanted = rgb(&picture(width, height, second));
        let at = usize::from(width) * 3 * 60;
        assert!(
            row(second as usize * 2 + 1, 60, width) == wanted[at..at + usize::from(width) * 3],
            "{second}"
        );
    }
    let nowhere = VideoOptions { program: "/nonexistent/ffmpeg".into(), ..VideoOptions::default() };
    let refused = export_video(&recording, &nowhere, &film).unwrap_err().to_string();
    assert!(refused.starts_with("ffmpeg could not be used (No such file"), "{refused}");
}

#[tokio::test]
async fn ffmpeg_itself_makes_films_whose_pictures_are_those_of_the_desktop() {
    let world = World::new();
    let desk = minutes(&world, "r1").await;
    desk.session.finish(End::because("closed")).await.unwrap();
    let recording = world.open("r1");
    let said = |program: &str, words: &[&str]| {
        let out = Command::new(program).args(words).stderr(Stdio::inherit()).output().unwrap();
        assert!(out.status.success(), "{program}: ./test installs it");
        out.stdout
    };
    for name in ["film.webm", "film.mp4"] {
        let film = world.dir.path().join(name);
        let options = VideoOptions { rate: 2, ..VideoOptions::default() };
        export_video(&recording, &options, &film).unwrap();
        let film = film.to_str().unwrap();
        let probe = ["-v", "error", "-count_frames", "-show_entries", "stream=width,height,nb_read_frames"];
        let size = said("ffprobe", &[&probe[..], &["-of", "csv=p=0", film]].concat());
        let size = String::from_utf8(size).unwrap();
        let numbers: Vec<usize> = size.trim().split(',').map(|n| n.parse().unwrap()).collect();
        let [width, height, frames] = numbers[..] else { panic!("{size}") };
        assert_eq!((width, height), (270, 162), "{name}");
        assert!((355..=366).contains(&frames), "{name}: {frames} frames");
        for second in [20i64, 150] {
            let at = format!("{second}.75");
            let one = [
                "-v",
                "error",
                "-ss",
                &at,
                "-i",
                film,
                "-frames:v",
                "1",
                "-f",
                "rawvideo",
                "-pix_fmt",
                "rgb24",
                "-",
            ];
            let seen = said("ffmpeg", &one);
            assert_eq!(seen.len(), width * height * 3);
            let (wide, high) = size_at(second);
            let wanted = rgb(&picture(wide, high, second));
            let row = |of: &[u8], width: usize| of[width * 3 * 60..][..usize::from(wide) * 3].to_vec();
            let far: u64 = row(&seen, width)
                .iter()
                .zip(row(&wanted, wide.into()))
                .map(|(seen, wanted)| u64::from(seen.abs_diff(wanted)))
                .sum();
            // On average, of 256: films are not without loss.
            let off = far / (u64::from(wide) * 3);
            assert!(off <= 24, "{name}, second {second}: {off}");
        }
    }
}

/// What the painter of the web's pages makes of messages: size and pixels.
fn painted(messages: &[u8]) -> (u16, u16, Vec<u8>) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("node");
    command.arg(here.join("tests/it/paint.mjs")).arg(here.join("../web/assets/desk.js"));
    let mut node = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to = node.stdin.take().unwrap();
    let messages = messages.to_vec();
    let sending = std::thread::spawn(move || to.write_all(&messages));
    let out = node.wait_with_output().unwrap();
    sending.join().unwrap().unwrap();
    assert!(out.status.success());
    let side = |at: usize| u32::from_le_bytes(out.stdout[at..at + 4].try_into().unwrap()) as u16;
    (side(0), side(4), out.stdout[8..].to_vec())
}

#[tokio::test]
async fn the_page_paints_what_was_recorded_stretch_by_stretch() {
    let world = World::new();
    let desk = minutes(&world, "r1").await;
    desk.session.finish(End::because("closed")).await.unwrap();
    let recording = world.open("r1");
    let stream = DesktopStream::new(T0);
    let stretch = |from: i64, bounds: (i64, usize)| {
        let mut out = Vec::new();
        stream.write_stretch(&recording, from, bounds, &mut out).unwrap();
        out
    };
    // The last message says where the stretch ends, and whether the recording does.
    let end = |messages: &[u8]| {
        let (head, last) = messages.split_at(messages.len() - 10);
        assert_eq!((u32::from_le_bytes(last[..4].try_into().unwrap()), last[4]), (6, 2), "{}", head.len());
        (i64::from(u32::from_le_bytes(last[5..9].try_into().unwrap())), last[9] == 1)
    };
    for (from, bounds, shown, ended) in [
        (0, (1 << 50, usize::MAX), 179, true),
        (130 * S, (20 * S, usize::MAX), 149, false),
        (170 * S, (60 * S, usize::MAX), 179, true),
        (200 * S, (60 * S, usize::MAX), 179, true),
    ] {
        let messages = stretch(T0 + from, bounds);
        let (width, height) = size_at(shown);
        let (w, h, pixels) = painted(&messages);
        assert_eq!((w, h), (width, height));
        assert!(pixels == rgb(&picture(width, height, shown)), "from {from} to the second {shown}");
        assert_eq!(end(&messages).1, ended, "from {from}");
    }
    // A bound in bytes ends at a whole picture, and the next stretch goes on behind it.
    let (mut from, mut seen) = (T0, 0);
    loop {
        let messages = stretch(from, (1 << 50, 20_000));
        let (at, ended) = end(&messages);
        seen += 1;
        let second = (at / 1000).min(179);
        let (width, height) = size_at(second);
        assert!(painted(&messages).2 == rgb(&picture(width, height, second)), "until {at} ms");
        if ended {
            break;
        }
        from = T0 + at * 1000 + 1000;
    }
    assert!(seen > 3, "{seen}");
}
