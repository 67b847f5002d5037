//! Text on desktops, read off their pictures after the session: at which second it is found, by whom, and what becomes of
//! programs and recordings that misbehave.

use std::{
    convert::Infallible,
    io::Write as _,
    ops::ControlFlow,
    process::{Command, Stdio},
};

use crate::{
    remote::{MINUTE, Site, finish},
    support::*,
};
use cofferdam_recorder::*;
use embedded_graphics::{
    Drawable as _, Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Point, Size},
    mono_font::{MonoTextStyle, iso_8859_1::FONT_10X20},
    pixelcolor::BinaryColor,
    text::{Baseline, Text},
};

const S: i64 = 1_000_000;
const WIDTH: usize = 1024;
const HEIGHT: usize = 512;
/// Each pixel of a letter is so many of the desktop's, each way.
const LETTERS: usize = 2;

/// A desktop to write on.
struct Paper(Vec<u8>);

impl Paper {
    fn new() -> Self {
        Self([230, 230, 225, 0].repeat(WIDTH * HEIGHT))
    }

    /// Writes over what stands at that height.
    fn write(&mut self, y: usize, text: &str, ink: [u8; 4], paper: [u8; 4]) {
        for pixel in self.0.chunks_exact_mut(4).skip(y * WIDTH).take(20 * LETTERS * WIDTH) {
            pixel.copy_from_slice(&paper);
        }
        let mut pen = Pen { paper: self, y, ink };
        let style = MonoTextStyle::new(&FONT_10X20, BinaryColor::On);
        Text::with_baseline(text, Point::new(10, 0), style, Baseline::Top).draw(&mut pen).unwrap();
    }

    fn black(&mut self, y: usize, text: &str) {
        self.write(y, text, [10, 10, 10, 0], [230, 230, 225, 0]);
    }
}

struct Pen<'p> {
    paper: &'p mut Paper,
    y: usize,
    ink: [u8; 4],
}

impl OriginDimensions for Pen<'_> {
    fn size(&self) -> Size {
        Size::new((WIDTH / LETTERS) as u32, 20)
    }
}

impl DrawTarget for Pen<'_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(at, _) in pixels {
            for n in 0..LETTERS * LETTERS {
                let x = at.x as usize * LETTERS + n % LETTERS;
                let y = self.y + at.y as usize * LETTERS + n / LETTERS;
                self.paper.0[(y * WIDTH + x) * 4..][..4].copy_from_slice(&self.ink);
            }
        }
        Ok(())
    }
}

/// A desktop that is recorded.
struct Desk {
    session: SessionRecorder,
    encoder: DesktopEncoder,
    paper: Paper,
}

impl Desk {
    async fn start(service: &RecorderService, id: &str) -> Self {
        let session = service.start(Header { protocol: "rdp".into(), ..header(id) }).await.unwrap();
        Self { session, encoder: DesktopEncoder::new(0), paper: Paper::new() }
    }

    /// Shows the desktop as it is, for so many seconds.
    async fn stands(&mut self, world: &World, seconds: i64) {
        let now = (world.clock())();
        let pixels = Pixels::new(WIDTH as u16, HEIGHT as u16, Order::Rgbx, &self.paper.0).unwrap();
        for event in self.encoder.frame(&pixels, Changed::All, now) {
            self.session.record(event).await.unwrap();
        }
        self.session.flush().await.unwrap();
        world.pass(seconds * S);
    }
}

fn reader(world: &World, identity: &Identity, limits: OcrLimits) -> DesktopReader {
    let recipients = Recipients { read: vec![world.reader.recipient()], reveal: Vec::new() };
    DesktopReader::new(world.dir.path().join("rec"), identity.clone(), recipients, limits)
}

const USUAL: OcrLimits = OcrLimits { every: 5 * S, most: 1000 };

/// The real program, which the tests install. The product starts it in its sandbox.
fn tesseract(picture: &[u8]) -> Result<Vec<u8>, Unread> {
    let mut program = Command::new("tesseract");
    program.args(["stdin", "stdout", "-l", "eng", "--psm", "6", "tsv"]).env("OMP_THREAD_LIMIT", "1");
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = program.spawn().unwrap();
    child.stdin.take().unwrap().write_all(picture).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    Ok(done.stdout)
}

/// A program that reads one word, `word`, in the middle of every picture.
fn sees(word: &str, picture: &[u8]) -> Vec<u8> {
    let (_, height) = size_of(picture);
    let row = format!("5\t1\t1\t1\t1\t1\t20\t{}\t60\t20\t90\t{word}\n", height / 2);
    row.into_bytes()
}

fn size_of(picture: &[u8]) -> (usize, usize) {
    let head = String::from_utf8_lossy(&picture[..30]).into_owned();
    let mut words = head.split_whitespace();
    assert_eq!(words.next(), Some("P5"));
    let mut number = || words.next().unwrap().parse().unwrap();
    (number(), number())
}

/// Seconds and texts of what is found, and how many recordings could not be searched.
fn found(world: &World, identity: &Identity, text: &str) -> (Vec<(i64, String)>, usize) {
    let mut hits = Vec::new();
    let query = Query { text: text.into(), ..Query::default() };
    let searched = search(&world.dir.path().join("rec"), identity, &query, 1, |hit| {
        assert_eq!((hit.line.kind, hit.line.kind.as_str()), (LineKind::Ocr, "ocr"));
        hits.push(((hit.line.at - T0) / S, hit.line.text));
        ControlFlow::Continue(())
    });
    (hits, searched.unwrap().skipped.len())
}

/// Ten seconds of nothing, thirty of a line, thirty of a second one below it; then all is gone for twenty.
async fn written(world: &World, service: &RecorderService, id: &str) {
    let mut desk = Desk::start(service, id).await;
    desk.stands(world, 10).await;
    desk.paper.black(100, "Pump 4711 is open");
    desk.stands(world, 30).await;
    desk.paper.write(300, "Pump stopped by the operator", [240, 240, 240, 0], [25, 30, 35, 0]);
    desk.stands(world, 30).await;
    desk.paper = Paper::new();
    desk.stands(world, 20).await;
    finish(desk.session).await;
}

#[tokio::test]
async fn text_that_stood_on_a_desktop_is_found_at_its_second_by_those_who_may_replay_it_and_nobody_else() {
    let world = World::new();
    written(&world, &world.service(), "r1").await;
    let mut reader = reader(&world, &world.reader, USUAL);
    assert_eq!(found(&world, &world.reader, "pump 4711").0, []);
    let pending = reader.pending().unwrap();
    assert_eq!(pending, [world.path("r1")]);
    let read = reader.read(&pending[0], &mut tesseract).unwrap().unwrap();
    assert_eq!((read.failed, read.trouble, read.cut), (0, None, false));
    assert!(read.pictures <= 4, "{} pictures", read.pictures);
    assert_eq!(reader.pending().unwrap(), Vec::<std::path::PathBuf>::new(), "once is enough");
    // While only the second line is new, the first is not found again; the words of a line stand together.
    let (hits, _) = found(&world, &world.reader, "pump 4711 is OPEN");
    assert_eq!(hits, [(11, "Pump 4711 is open".to_owned())]);
    let (hits, _) = found(&world, &world.reader, "stopped by the operator");
    assert_eq!(hits, [(41, "Pump stopped by the operator".to_owned())]);
    // What a replay lists has it, and whoever asks for marks alone does not.
    let told = lines(&world.open("r1"), &Query::default(), 100).unwrap().lines;
    assert_eq!(told.iter().filter(|line| line.kind == LineKind::Ocr).count(), read.lines);
    assert!(marks(&world.open("r1"), 100).unwrap().lines.iter().all(|line| line.kind != LineKind::Ocr));
    let stranger = Identity::generate();
    assert_eq!(found(&world, &stranger, "pump 4711"), (Vec::new(), 1));
    let bytes = std::fs::read(world.open("r1").ocr_path()).unwrap();
    assert!(!bytes.windows(4).any(|part| part == b"4711"), "it is in clear text");
    assert!(world.verify("r1").is_whole());
    // A new index takes nothing from it, and its text stands in the catalogue.
    let folder = world.dir.path().join("rec");
    let to = Recipients { read: vec![world.reader.recipient()], reveal: Vec::new() };
    reindex(&folder, &world.reader, &to, true).unwrap();
    assert_eq!(found(&world, &world.reader, "pump 4711").0.len(), 1);
    // Deleted is deleted.
    delete(&world.path("r1")).unwrap();
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("r1")), "{left:?}");
}

#[tokio::test]
async fn a_file_of_another_recording_or_one_that_was_altered_finds_nothing() {
    let world = World::new();
    let service = world.service();
    written(&world, &service, "r1").await;
    written(&world, &service, "r2").await;
    let mut reader = reader(&world, &world.reader, USUAL);
    reader.read(&world.path("r1"), &mut |picture| Ok(sees("needle", picture))).unwrap().unwrap();
    let path = world.open("r1").ocr_path();
    let good = std::fs::read(&path).unwrap();
    assert!(!found(&world, &world.reader, "needle").0.is_empty());
    std::fs::write(world.open("r2").ocr_path(), &good).unwrap();
    let count = found(&world, &world.reader, "needle").0.len();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(found(&world, &world.reader, "needle").0, [], "it was another's, beside {count}");
    // Nor is it an index.
    std::fs::write(world.open("r1").index_path(), &good).unwrap();
    assert_eq!(found(&world, &world.reader, "needle").0, []);
    // The last eight bytes say where the screens of an index are listed, of which there are none here.
    for at in (0..good.len() - 8).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&path, bad).unwrap();
        assert_eq!(found(&world, &world.reader, "needle").0, [], "byte {at}");
    }
}

#[tokio::test]
async fn a_busy_desktop_is_looked_at_now_and_then_and_only_where_it_changes() {
    let world = World::new();
    let mut desk = Desk::start(&world.service(), "r1").await;
    for second in 0..200 {
        desk.paper.black(100, &format!("{second}"));
        desk.stands(&world, 1).await;
    }
    finish(desk.session).await;
    let pictures = |limits: OcrLimits| {
        let mut sizes = Vec::new();
        let mut reader = reader(&world, &world.reader, limits);
        let mut program = |picture: &[u8]| {
            sizes.push(size_of(picture));
            Ok(sees(&format!("at-{}", sizes.len()), picture))
        };
        let read = reader.read(&world.path("r1"), &mut program).unwrap().unwrap();
        assert_eq!((read.pictures as usize, read.lines), (sizes.len(), sizes.len()));
        sizes
    };
    let sizes = pictures(USUAL);
    assert!((38..=41).contains(&sizes.len()), "{}", sizes.len());
    assert_eq!(sizes[0], (2 * WIDTH, 2 * HEIGHT), "the first time all of it is new");
    // One or two rows of tiles, and what is around them.
    assert!(sizes[1..].iter().all(|size| size.0 == 2 * WIDTH && size.1 <= 2 * (128 + 48)), "{sizes:?}");
    // In a recording that is too long for so many, they are farther apart.
    let sizes = pictures(OcrLimits { every: S, most: 4 });
    assert!((3..=4).contains(&sizes.len()), "{sizes:?}");
    let (hits, _) = found(&world, &world.reader, "at-3");
    assert!(hits[0].0 >= 90, "{hits:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_noted_and_left_and_what_was_broken_off_is_done_again() {
    let world = World::new();
    let service = world.service();
    let mut desk = Desk::start(&service, "r1").await;
    for second in 0..120 {
        desk.paper.black(100, &format!("{second}"));
        desk.stands(&world, 1).await;
    }
    let mut reader = reader(&world, &world.reader, USUAL);
    assert!(reader.pending().unwrap().is_empty(), "it still grows");
    finish(desk.session).await;
    let shell = service.start(header("r2")).await.unwrap();
    shell.record(output("no desktop\r\n")).await.unwrap();
    finish(shell).await;
    assert_eq!(reader.pending().unwrap(), [world.path("r1")]);
    // Broken off in the middle.
    let mut left = 3;
    let stops = |picture: &[u8]| {
        left -= 1;
        if left == 0 { Err(Unread::Stopped) } else { Ok(sees("half", picture)) }
    };
    assert_eq!(reader.read(&world.path("r1"), &mut { stops }).unwrap(), None);
    assert_eq!(found(&world, &world.reader, "half").0, []);
    assert_eq!(reader.pending().unwrap().len(), 1);
    // A program that cannot read it is not asked for ever.
    let mut asked = 0;
    let fails = |_: &[u8]| {
        asked += 1;
        Err(Unread::Failed("it did not answer".into()))
    };
    let mut fails = fails;
    for _ in 0..3 {
        assert_eq!(reader.pending().unwrap(), [world.path("r1")], "it may be the machine's fault");
        let why = reader.read(&world.path("r1"), &mut fails).unwrap_err();
        assert!(why.to_string().contains("it did not answer"), "{why}");
        reader.failed(&world.path("r1"));
    }
    assert_eq!(asked, 30);
    assert!(reader.pending().unwrap().is_empty());
    assert!(!world.open("r1").ocr_path().exists(), "another reader tries it again");
    let mut reader = self::reader(&world, &world.reader, USUAL);
    // Damage in the middle: what stands before and behind it is found.
    let mut bytes = std::fs::read(world.path("r1")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(world.path("r1"), bytes).unwrap();
    let read = reader.read(&world.path("r1"), &mut |picture| Ok(sees("rest", picture))).unwrap().unwrap();
    assert!(read.trouble.unwrap().contains("damaged") && read.pictures > 2);
    assert!(reader.pending().unwrap().is_empty());
    // One that cannot be opened here is not asked for again.
    std::fs::remove_file(world.open("r1").ocr_path()).unwrap();
    let mut strange = self::reader(&world, &Identity::generate(), USUAL);
    assert_eq!(strange.pending().unwrap().len(), 1);
    strange.read(&world.path("r1"), &mut |_| panic!("nothing can be shown")).unwrap_err();
    assert!(strange.pending().unwrap().is_empty());
}

#[tokio::test]
async fn a_desktop_waits_an_hour_for_its_text_before_it_goes_to_the_object_store() {
    let site = Site::new();
    let mut config = site.world.config();
    config.ocr = true;
    let service = site.world.service_with(config);
    written(&site.world, &service, "r1").await;
    let shell = service.start(header("r2")).await.unwrap();
    shell.record(output("no desktop\r\n")).await.unwrap();
    finish(shell).await;
    written(&site.world, &service, "r3").await;
    let uploader = site.uploader(&service);
    let gone = async || {
        let round = uploader.round().await;
        assert!(round.failures.is_empty(), "{round:?}");
        round.finished.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(gone().await, ["r2"]);
    let mut reader = reader(&site.world, &site.world.reader, USUAL);
    reader.read(&site.world.path("r1"), &mut |picture| Ok(sees("needle", picture))).unwrap().unwrap();
    assert_eq!(gone().await, ["r1"]);
    site.world.pass(59 * MINUTE);
    assert!(gone().await.is_empty());
    // It went while it was read: what comes too late is not left behind.
    let mut late = |picture: &[u8]| {
        std::fs::rename(site.world.path("r3"), site.world.dir.path().join("away")).unwrap();
        Ok(sees("late", picture))
    };
    let mut once = Some(&mut late as &mut dyn FnMut(&[u8]) -> Result<Vec<u8>, Unread>);
    let mut program = |picture: &[u8]| match once.take() {
        Some(late) => late(picture),
        None => Ok(sees("late", picture)),
    };
    reader.read(&site.world.path("r3"), &mut program).unwrap().unwrap();
    assert!(!site.local_files().iter().any(|name| name.ends_with(".cofocr")), "{:?}", site.local_files());
    std::fs::rename(site.world.dir.path().join("away"), site.world.path("r3")).unwrap();
    site.world.pass(MINUTE);
    assert_eq!(gone().await, ["r3"]);
    let fetched = site.archive().fetch(&"r1".parse().unwrap()).await.unwrap();
    let mut recording = Recording::open(fetched).unwrap();
    recording.unlock(&site.world.reader).unwrap();
    let query = Query { text: "needle".into(), ..Query::default() };
    assert!(!lines(&recording, &query, 10).unwrap().lines.is_empty());
    site.archive().delete(&"r1".parse().unwrap()).await.unwrap();
    let copies = std::fs::read_dir(site.world.dir.path().join("copies")).unwrap().count();
    assert_eq!(copies, 0);
}
