//! Pictures and films of a desktop.

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use super::{DesktopPlayer, DesktopScreen, player::is_picture};
use crate::{
    error::ReadError,
    event::{Event, TimedEvent},
    read::Recording,
};

/// Writes the picture at a time (microseconds since 1970, UTC; before the first, the first) as PNG, with the pointer.
///
/// # Errors
/// When the recording is locked or damaged, shows no desktop, or `out` fails.
pub fn export_still(recording: &Recording, time: i64, out: &mut impl Write) -> Result<(), ReadError> {
    let mut player = DesktopPlayer::seek(recording, None, time)?;
    while !player.screen().is_whole() {
        player.advance()?.ok_or(ReadError::Missing("desktop"))?;
    }
    let (width, height) = player.screen().size();
    png((width.into(), height.into()), &player.screen().picture_with_pointer()?, out)
}

pub(super) fn png((width, height): (u32, u32), rgb: &[u8], out: &mut impl Write) -> Result<(), ReadError> {
    let mut encoder = png::Encoder::new(&mut *out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let failed = |e: png::EncodingError| ReadError::Export(e.into());
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(rgb).map_err(failed)?;
    writer.finish().map_err(failed)?;
    out.flush().map_err(ReadError::Export)
}

/// How a film is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoOptions {
    /// Pictures a second.
    pub rate: u32,
    /// Longer times in which nothing changes are shortened to this many microseconds; `None` keeps them.
    pub skip_idle: Option<i64>,
    /// The program that makes films: `ffmpeg`, or a path.
    pub program: OsString,
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self { rate: 5, skip_idle: Some(2_000_000), program: "ffmpeg".into() }
    }
}

/// Makes a film of a desktop's recording by way of ffmpeg; what kind of film, the file's ending says (`.webm`, `.mp4`). The
/// largest size that the desktop had is the film's; smaller ones have black beside them.
///
/// # Errors
/// When the recording is locked or damaged or shows no desktop, when ffmpeg is not installed, or says that it failed.
pub fn export_video(recording: &Recording, options: &VideoOptions, file: &Path) -> Result<(), ReadError> {
    let (width, height) = largest(recording.events()?)?.ok_or(ReadError::Missing("desktop"))?;
    let mut film = Film::start(options, file, width, height)?;
    let filmed = film.all(recording, options);
    // What ffmpeg says of its end explains a broken pipe better than the pipe does.
    film.finish().and(filmed)
}

/// The largest width and the largest height, made even as films want it.
fn largest(
    events: impl Iterator<Item = Result<TimedEvent, ReadError>>,
) -> Result<Option<(usize, usize)>, ReadError> {
    let mut found: Option<(usize, usize)> = None;
    for event in events {
        if let Event::KeyFrame { width, height, .. } = event?.event {
            let (w, h) = found.unwrap_or_default();
            let even = |side: u16| usize::from(side).next_multiple_of(2);
            found = Some((w.max(even(width)), h.max(even(height))));
        }
    }
    Ok(found)
}

struct Film {
    child: Child,
    pipe: Option<BufWriter<ChildStdin>>,
    width: usize,
    height: usize,
    /// The picture as ffmpeg takes it.
    frame: Vec<u8>,
}

impl Film {
    fn start(options: &VideoOptions, file: &Path, width: usize, height: usize) -> Result<Self, ReadError> {
        let mut command = Command::new(&options.program);
        command.args([
            "-hide_banner",
            "-loglevel",
            "error",
            "-nostdin",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
        ]);
        command.args([
            "-s",
            &format!("{width}x{height}"),
            "-r",
            &options.rate.max(1).to_string(),
            "-i",
            "pipe:0",
        ]);
        // The caller made the file, to be read by nobody else.
        command.args(["-pix_fmt", "yuv420p", "-y"]).arg(file);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|e| ReadError::Tool { tool: "ffmpeg", what: e.to_string() })?;
        let pipe = child.stdin.take().map(BufWriter::new);
        Ok(Self { child, pipe, width, height, frame: vec![0; width * height * 3] })
    }

    /// Shows each picture for as long as it stood.
    fn all(&mut self, recording: &Recording, options: &VideoOptions) -> Result<(), ReadError> {
        let mut player = DesktopPlayer::seek(recording, None, i64::MIN)?;
        let step = 1_000_000 / i64::from(options.rate.max(1));
        let Some(first) = player.peek()? else { return Ok(()) };
        // When the next picture of the film is due, and how much of the recording's time was left out before.
        let (mut due, mut cut, mut last) = (first, 0i64, first);
        let mut changed = true;
        while let Some(at) = player.peek()? {
            let idle = at.saturating_sub(last);
            if let Some(longest) = options.skip_idle.filter(|longest| idle > *longest) {
                cut = cut.saturating_add(idle - longest);
            }
            last = at;
            while at.saturating_sub(cut) > due {
                if changed && player.screen().is_whole() {
                    self.paint(player.screen())?;
                    changed = false;
                }
                self.show()?;
                due = due.saturating_add(step);
            }
            changed |= player.advance()?.is_some_and(|event| is_picture(&event.event));
        }
        if player.screen().is_whole() {
            self.paint(player.screen())?;
        }
        self.show()
    }

    fn paint(&mut self, screen: &DesktopScreen) -> Result<(), ReadError> {
        let (width, _) = screen.size();
        let picture = screen.picture_with_pointer()?;
        self.frame.fill(0);
        let rows =
            self.frame.chunks_exact_mut(self.width * 3).zip(picture.chunks_exact(usize::from(width) * 3));
        for (to, from) in rows.take(self.height) {
            if let Some(to) = to.get_mut(..from.len()) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn show(&mut self) -> Result<(), ReadError> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let pipe = self.pipe.as_mut().ok_or_else(gone).map_err(ReadError::Export)?;
        pipe.write_all(&self.frame).map_err(ReadError::Export)
    }

    fn finish(mut self) -> Result<(), ReadError> {
        // Closed, the pipe tells ffmpeg that this was all; whether the last bytes went through, its end says.
        if let Some(mut pipe) = self.pipe.take() {
            pipe.flush().unwrap_or_default();
        }
        let status = self.child.wait().map_err(ReadError::Export)?;
        if status.success() {
            return Ok(());
        }
        Err(ReadError::Tool { tool: "ffmpeg", what: format!("it ended with {status}") })
    }
}
