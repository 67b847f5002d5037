//! Text on a desktop: what reading an administrator's hour costs, and how much of it is found.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io::Write as _,
    ops::ControlFlow,
    process::{Command, Stdio},
};

use cofferdam_recorder::*;
use embedded_graphics::{
    Drawable as _, Pixel,
    draw_target::DrawTarget,
    geometry::{OriginDimensions, Point, Size},
    mono_font::{MonoTextStyle, iso_8859_1::FONT_8X13},
    pixelcolor::BinaryColor,
    text::{Baseline, Text},
};
use nix::sys::resource::{UsageWho, getrusage};

use super::{
    Bench, cpu,
    desktop::{Desk, hour},
    outputs,
};

/// A letter of eight by sixteen pixels.
struct Glyph([u8; 128]);

impl OriginDimensions for Glyph {
    fn size(&self) -> Size {
        Size::new(8, 16)
    }
}

impl DrawTarget for Glyph {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(at, colour) in pixels {
            self.0[at.y as usize * 8 + at.x as usize] = if colour.is_on() { 255 } else { 0 };
        }
        Ok(())
    }
}

fn letters() -> Vec<[u8; 128]> {
    let letter = |code: u8| {
        let mut glyph = Glyph([0; 128]);
        let (text, style) = (char::from(code).to_string(), MonoTextStyle::new(&FONT_8X13, BinaryColor::On));
        Text::with_baseline(&text, Point::new(0, 2), style, Baseline::Top).draw(&mut glyph).unwrap();
        glyph.0
    };
    (0..128).map(|code| if code == 127 { [255; 128] } else { letter(code) }).collect()
}

/// Seconds of CPU that ended child processes used.
fn children() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    seconds(used.user_time()) + seconds(used.system_time())
}

fn tesseract(picture: &[u8]) -> Result<Vec<u8>, Unread> {
    let mut program = Command::new("tesseract");
    program.args(["stdin", "stdout", "-l", "eng", "--psm", "6", "tsv"]).env("OMP_THREAD_LIMIT", "1");
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = program.spawn().unwrap();
    child.stdin.take().unwrap().write_all(picture).unwrap();
    Ok(child.wait_with_output().unwrap().stdout)
}

pub(super) async fn ocr(bench: &Bench) {
    let service = bench.service("ocr", |c| {
        c.index = false;
        c.slow_after = std::time::Duration::from_secs(1 << 30);
    });
    let mut desk = Desk::start(bench, &service, "hour").await;
    desk.paint.glyphs = letters();
    hour(&mut desk, 7).await;
    desk.session.finish(End::because("closed")).await.unwrap();
    let folder = bench.folder.join("ocr");
    let path = folder.join("hour.cofrec");
    let words: BTreeSet<String> = outputs()
        .iter()
        .flat_map(|(_, text)| text.split(|c: char| !c.is_ascii_alphabetic()))
        .filter(|word| word.len() >= 6)
        .map(str::to_lowercase)
        .collect();
    for every in [5, 10, 30] {
        std::fs::remove_file(path.with_extension("cofocr")).ok();
        let recipients = Recipients { read: vec![bench.reader.recipient()], reveal: vec![] };
        let limits = OcrLimits { every: every * 1_000_000, most: 100_000 };
        let mut reader = DesktopReader::new(folder.clone(), bench.reader.clone(), recipients, limits);
        let before = (cpu(), children());
        let read = reader.read(&path, &mut tesseract).unwrap().unwrap();
        let (own, theirs) = (cpu() - before.0, children() - before.1);
        let mut text = String::new();
        let recording = bench.open(&path);
        search_recording(
            &recording,
            &Query { kinds: Kinds::Only(LineKind::Ocr), ..Query::default() },
            |line| {
                text.push_str(&line.text.to_lowercase());
                text.push('\n');
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        let commands = outputs().iter().filter(|(command, _)| text.contains(&command.to_lowercase())).count();
        let found = words.iter().filter(|word| text.contains(*word)).count();
        println!(
            "an administrator's hour read each {every} s: {} pictures, {theirs:.0} s of CPU (and {own:.0} s to choose them), {} lines, {} KB \
             on disk; {commands} of {} commands and {found} of {} words found",
            read.pictures,
            read.lines,
            std::fs::metadata(path.with_extension("cofocr")).unwrap().len() / 1000,
            outputs().len(),
            words.len()
        );
    }
}
