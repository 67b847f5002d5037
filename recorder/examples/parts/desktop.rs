//! A desktop's recording: how large an administrator's hour and a minute of a moving window are, and how long a seek takes.

use std::{
    collections::BTreeSet,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use cofferdam_recorder::*;

use super::{Bench, MIB, Random, T0, header, outputs};

const W: usize = 1280;
const H: usize = 800;
const SECOND: i64 = 1_000_000;
/// Pictures come ten times a second.
const FRAME: i64 = 100_000;

/// A screen that is painted, and the tiles that were painted on.
pub(super) struct Paint {
    pixels: Vec<u8>,
    dirty: BTreeSet<u32>,
    pub(super) glyphs: Vec<[u8; 128]>,
}

impl Paint {
    fn new() -> Self {
        let mut random = Random(11);
        // Strokes with soft edges, other ones for each character, as smoothed fonts have them.
        let glyphs = (0..128)
            .map(|_| {
                let mut glyph = [0u8; 128];
                for _ in 0..3 {
                    let (upright, at) = (random.below(2) == 0, 2 + random.below(9) as usize);
                    for along in 2..12usize {
                        let (x, y) = if upright { (at.min(5), along) } else { (along.min(6), at) };
                        glyph[y * 8 + x] = 255;
                        glyph[y * 8 + x + 1] = glyph[y * 8 + x + 1].max(110);
                    }
                }
                glyph
            })
            .collect();
        let mut paint = Self { pixels: vec![0; W * H * 4], dirty: BTreeSet::new(), glyphs };
        paint.fill((0, 0, W, H), [0x33, 0x55, 0x77]);
        paint
    }

    fn mark(&mut self, x: usize, y: usize, width: usize, height: usize) {
        for row in y / 64..=(y + height - 1).min(H - 1) / 64 {
            for column in x / 64..=(x + width - 1).min(W - 1) / 64 {
                self.dirty.insert((row * W.div_ceil(64) + column) as u32);
            }
        }
    }

    fn dot(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if x < W && y < H {
            self.pixels[(y * W + x) * 4..][..3].copy_from_slice(&colour);
        }
    }

    fn fill(&mut self, (x, y, width, height): (usize, usize, usize, usize), colour: [u8; 3]) {
        for row in y..y + height {
            for column in x..x + width {
                self.dot(column, row, colour);
            }
        }
        self.mark(x, y, width, height);
    }

    fn letter(&mut self, x: usize, y: usize, letter: u8, on: [u8; 3], under: [u8; 3]) {
        let glyph = if letter == b' ' { [0; 128] } else { self.glyphs[usize::from(letter & 127)] };
        for (n, ink) in glyph.into_iter().enumerate() {
            let mix = |on: u8, under: u8| {
                ((u32::from(on) * u32::from(ink) + u32::from(under) * (255 - u32::from(ink))) / 255) as u8
            };
            let colour = [mix(on[0], under[0]), mix(on[1], under[1]), mix(on[2], under[2])];
            self.dot(x + n % 8, y + n / 8, colour);
        }
        self.mark(x, y, 8, 16);
    }

    fn words(&mut self, x: usize, y: usize, words: &str, on: [u8; 3], under: [u8; 3]) {
        for (n, letter) in words.bytes().enumerate() {
            self.letter(x + n * 8, y, letter, on, under);
        }
    }
}

/// A terminal window: its rows are painted where they changed.
struct Terminal {
    cols: usize,
    rows: Vec<Vec<u8>>,
    shown: Vec<Vec<u8>>,
    cursor: bool,
}

impl Terminal {
    fn new(cols: usize, rows: usize) -> Self {
        Self { cols, rows: vec![Vec::new(); rows], shown: vec![vec![0]; rows], cursor: false }
    }

    fn line(&mut self, text: &[u8]) {
        self.rows.remove(0);
        self.rows.push(text.iter().copied().take(self.cols).collect());
    }

    fn paint(&mut self, paint: &mut Paint) {
        for (n, row) in self.rows.iter().enumerate() {
            let mut row = row.clone();
            if n == self.rows.len() - 1 && self.cursor {
                row.push(127);
            }
            row.resize(self.cols, b' ');
            let before = &self.shown[n];
            for (column, letter) in row.iter().enumerate() {
                if before.get(column) != Some(letter) {
                    paint.letter(100 + column * 8, 60 + n * 16, *letter, [220, 225, 220], [16, 20, 24]);
                }
            }
            self.shown[n] = row;
        }
    }
}

/// One session that is painted and recorded.
pub(super) struct Desk<'a> {
    bench: &'a Bench,
    pub(super) session: SessionRecorder,
    encoder: DesktopEncoder,
    pub(super) paint: Paint,
    at: i64,
    took: Duration,
}

impl<'a> Desk<'a> {
    pub(super) async fn start(bench: &'a Bench, service: &RecorderService, id: &str) -> Self {
        bench.now.store(T0, Ordering::Relaxed);
        let session = service.start(Header { protocol: "rdp".into(), ..header(id) }).await.unwrap();
        Self {
            bench,
            session,
            encoder: DesktopEncoder::new(0),
            paint: Paint::new(),
            at: 0,
            took: Duration::ZERO,
        }
    }

    /// A tenth of a second passes, and what was painted in it is recorded.
    async fn frame(&mut self) {
        self.at += FRAME;
        self.bench.now.store(T0 + self.at, Ordering::Relaxed);
        let changed: Vec<u32> = std::mem::take(&mut self.paint.dirty).into_iter().collect();
        let began = Instant::now();
        let pixels = Pixels::new(W as u16, H as u16, Order::Rgbx, &self.paint.pixels).unwrap();
        let events = self.encoder.frame(&pixels, Changed::Tiles(&changed), T0 + self.at);
        self.took += began.elapsed();
        for event in events {
            self.session.record(event).await.unwrap();
        }
        // As the recorder's own clock would do it, which stands still here.
        if self.at % (FRAME * 5) == 0 {
            self.session.flush().await.unwrap();
        }
    }

    async fn pointer(&mut self, x: usize, y: usize) {
        if let Some(event) = self.encoder.pointer(x as u16, y as u16, 0) {
            self.session.record(event).await.unwrap();
        }
    }
}

/// An administrator at a terminal: commands typed key by key, what they print, time to read it, the pointer now and then, a
/// window that opens every five minutes, a clock.
pub(super) async fn hour(desk: &mut Desk<'_>, seed: u64) {
    let mut random = Random(seed);
    let (cols, rows) = (120, 40);
    let mut terminal = Terminal::new(cols, rows);
    desk.paint.fill((92, 30, cols * 8 + 16, rows * 16 + 38), [60, 66, 72]);
    desk.paint.words(110, 36, "root@pump-hmi: ~", [240; 3], [60, 66, 72]);
    desk.paint.fill((0, H - 32, W, 32), [28, 30, 34]);
    let end = desk.at + 3600 * SECOND;
    let mut window_until = 0;
    while desk.at < end {
        let (command, output) = &outputs()[random.below(outputs().len() as u64) as usize];
        terminal.line(b"root@pump-hmi:~# ");
        for letter in command.bytes() {
            terminal.rows[rows - 1].push(letter);
            wait(desk, &mut terminal, 1 + random.below(3)).await;
        }
        for lines in output.as_bytes().split(|b| *b == b'\n').collect::<Vec<_>>().chunks(20) {
            lines.iter().for_each(|line| terminal.line(line));
            wait(desk, &mut terminal, 1).await;
        }
        for n in 0..random.below(12) {
            desk.pointer(300 + n as usize * 17, 200 + (n * n) as usize).await;
            wait(desk, &mut terminal, 1).await;
        }
        let minute = desk.at / (60 * SECOND);
        desk.paint.words(
            W - 60,
            H - 24,
            &format!("{:02}:{:02}", minute / 60, minute % 60),
            [240; 3],
            [28, 30, 34],
        );
        if minute % 5 == 0 && window_until == 0 {
            window_until = desk.at + 20 * SECOND;
            desk.paint.fill((500, 300, 420, 260), [236, 238, 240]);
            for n in 0..10 {
                let words = format!("setting {n}: {:>20}", random.below(1 << 30));
                desk.paint.words(520, 320 + n * 22, &words, [20; 3], [236, 238, 240]);
            }
        } else if desk.at > window_until && window_until != 0 && minute % 5 != 0 {
            window_until = 0;
            terminal.shown = vec![vec![0]; rows];
        }
        wait(desk, &mut terminal, 30 + random.below(120)).await;
    }
}

/// Tenths of a second with nothing but a cursor that blinks.
async fn wait(desk: &mut Desk<'_>, terminal: &mut Terminal, tenths: u64) {
    for _ in 0..tenths {
        terminal.cursor = desk.at / (5 * FRAME) % 2 == 0;
        terminal.paint(&mut desk.paint);
        desk.frame().await;
    }
}

/// The load that the design was measured with: a terminal of 60x20 characters in which a loop prints the time and eight lines of a
/// listing each second, for an hour.
async fn listing(desk: &mut Desk<'_>) {
    let mut terminal = Terminal::new(60, 20);
    let (_, listing) = &outputs()[0];
    for second in 0..3600 {
        terminal
            .line(format!("Thu Nov 26 {:02}:{:02}:{:02} UTC 2026", 4, second / 60, second % 60).as_bytes());
        listing.lines().take(8).for_each(|line| terminal.line(line.as_bytes()));
        terminal.paint(&mut desk.paint);
        for _ in 0..10 {
            desk.frame().await;
        }
    }
}

/// A striped window with text that moves over the desktop all the time.
async fn moving(desk: &mut Desk<'_>, seconds: i64) {
    let end = desk.at + seconds * SECOND;
    let mut before = (0usize, 0usize);
    while desk.at < end {
        let a = desk.at as f64 / 1e6 * 25.0 * 0.05;
        let x = (260.0 + (W as f64 - 660.0) * (0.5 + 0.5 * a.sin())) as usize;
        let y = ((H as f64 - 300.0) * (0.5 + 0.5 * (a * 1.3).cos())) as usize;
        desk.paint.fill((before.0, before.1, 400, 300), [0x33, 0x55, 0x77]);
        for row in 0..300 {
            let n = row as u32;
            desk.paint.fill((x, y + row, 400, 1), [(n * 5) as u8, (n * 3 + 40) as u8, (255 - n % 256) as u8]);
        }
        for row in (0..282).step_by(18) {
            let words = format!("line {row} The quick brown fox jumps over the");
            for (n, letter) in words.bytes().enumerate() {
                let under = ((row as u32) * 5) as u8;
                desk.paint.letter(x + 10 + n * 8, y + row, letter, [255; 3], [under, 90, 90]);
            }
        }
        before = (x, y);
        desk.frame().await;
    }
}

pub(super) async fn desktop(bench: &Bench) {
    let service = bench.service("desktop", |c| {
        c.index = false;
        c.slow_after = Duration::from_secs(1 << 30);
    });
    let size = |sealed: &Sealed| sealed.bytes as f64 / 1e6;
    let mut desk = Desk::start(bench, &service, "listing").await;
    listing(&mut desk).await;
    let sealed = desk.session.finish(End::because("closed")).await.unwrap();
    println!("an hour of a listing each second in a terminal of 60x20: {:.2} MB", size(&sealed));
    let mut desk = Desk::start(bench, &service, "hour").await;
    hour(&mut desk, 7).await;
    let took = desk.took.as_secs_f64();
    let sealed = desk.session.finish(End::because("closed")).await.unwrap();
    println!(
        "an hour of commands without a rest in a terminal of 120x40: {:.2} MB ({:.2} MB of events); comparing and packing took {took:.1} s",
        size(&sealed),
        sealed.plain_bytes as f64 / 1e6
    );
    let mut desk = Desk::start(bench, &service, "moving").await;
    moving(&mut desk, 60).await;
    let took = desk.took.as_secs_f64();
    let sealed = desk.session.finish(End::because("closed")).await.unwrap();
    println!(
        "a minute of a moving window: {:.2} MB ({:.2} MB of events); comparing and packing took {took:.2} s",
        size(&sealed),
        sealed.plain_bytes as f64 / 1e6
    );
    let mut desk = Desk::start(bench, &service, "long").await;
    for n in 0..4 {
        hour(&mut desk, n + 20).await;
        moving(&mut desk, 120).await;
    }
    let length = desk.at;
    let sealed = desk.session.finish(End::because("closed")).await.unwrap();
    seeks(bench, length, &sealed);
}

fn seeks(bench: &Bench, length: i64, sealed: &Sealed) {
    let path = bench.folder.join("desktop/long.cofrec");
    let mut random = Random(3);
    let mut times: Vec<f64> = (0..100)
        .map(|_| {
            let to = T0 + random.below(length as u64 / 1000) as i64 * 1000;
            let began = Instant::now();
            let recording = bench.open(&path);
            let player = DesktopPlayer::seek(&recording, None, to).unwrap();
            let picture = player.screen().picture().unwrap();
            assert!(picture.len() == W * H * 3 && player.screen().is_whole());
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "4 hours ({:.1} MB on disk): open and show any second {:.0} ms (p50), {:.0} ms (the worst of 100)",
        sealed.bytes as f64 / MIB,
        times[50],
        times[99]
    );
}
