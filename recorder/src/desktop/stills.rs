//! Small pictures of a desktop, spread over its recording.

use std::io::Write;

use super::{DesktopPlayer, DesktopScreen, DesktopStream, export::png};
use crate::{error::ReadError, read::Recording};

/// Most pictures of one recording.
const MOST: u32 = 12;
/// Longest sides of one, in pixels.
const WIDTH: usize = 160;
const HEIGHT: usize = 120;

impl DesktopStream {
    /// Writes small pictures as PNG, one in the middle of each of twelve equal parts of the recording, as they are
    /// ready; of a recording of some seconds, one for each second. `enough` is asked now and then whether it has taken too long. Of what
    /// is no desktop there are none.
    ///
    /// # Errors
    /// When the recording is locked or damaged, or `out` fails. Pictures of what stands before the damage are written by then.
    pub fn write_stills(
        &self,
        recording: &Recording,
        mut enough: impl FnMut() -> bool,
        out: &mut impl Write,
    ) -> Result<(), ReadError> {
        if !DesktopPlayer::plays(recording.header()) {
            return out.flush().map_err(ReadError::Export);
        }
        let started = recording.header().started;
        let length = recording.ended().saturating_sub(started).max(1);
        let count = (length / 1_000_000).clamp(1, i64::from(MOST));
        for number in 0..count {
            if enough() {
                break;
            }
            let at = started.saturating_add(length.saturating_mul(2 * number + 1) / (2 * count));
            let mut player = DesktopPlayer::seek(recording, None, at)?;
            // A time before the first picture, or between the parts of one: what comes next.
            while !player.screen().is_whole() {
                if enough() || player.advance()?.is_none() {
                    return out.flush().map_err(ReadError::Export);
                }
            }
            let (width, height, rgb) = small(player.screen())?;
            let mut picture = Vec::new();
            png((width, height), &rgb, &mut picture)?;
            out.write_all(&self.still(at, &picture)).map_err(ReadError::Export)?;
            // A browser shows it while the next one is made.
            out.flush().map_err(ReadError::Export)?;
        }
        out.flush().map_err(ReadError::Export)
    }
}

/// The picture without its pointer, each pixel the mean of those that it stands for. Tile by tile: a whole picture may be large.
fn small(screen: &DesktopScreen) -> Result<(u32, u32, Vec<u8>), ReadError> {
    let (full_width, full_height) = (usize::from(screen.grid.width), usize::from(screen.grid.height));
    let (width, height) = fitted(full_width, full_height);
    let mut sums = vec![[0u32; 4]; width * height];
    for (number, tile) in screen.tiles.iter().enumerate() {
        let (Some(tile), Some(place)) = (tile, screen.grid.place(number)) else { continue };
        let rgb = tile.unpack(place.width, place.height)?;
        for (row, line) in rgb.chunks_exact(place.width * 3).enumerate() {
            let across = (place.y + row) * height / full_height * width;
            for (column, pixel) in line.as_chunks::<3>().0.iter().enumerate() {
                let at = across + (place.x + column) * width / full_width;
                if let Some([r, g, b, count]) = sums.get_mut(at) {
                    *r += u32::from(pixel[0]);
                    *g += u32::from(pixel[1]);
                    *b += u32::from(pixel[2]);
                    *count += 1;
                }
            }
        }
    }
    let mean = |[r, g, b, count]: [u32; 4]| [r, g, b].map(|sum| (sum / count.max(1)) as u8);
    Ok((width as u32, height as u32, sums.into_iter().flat_map(mean).collect()))
}

/// The largest size of the same form that is no larger than allowed, nor than the desktop.
fn fitted(width: usize, height: usize) -> (usize, usize) {
    let (width, height) = (width.max(1), height.max(1));
    if width <= WIDTH && height <= HEIGHT {
        (width, height)
    } else if width * HEIGHT >= height * WIDTH {
        (WIDTH, (height * WIDTH / width).max(1))
    } else {
        ((width * HEIGHT / height).max(1), HEIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desktop::{Changed, DesktopEncoder, Order, Pixels};

    #[test]
    fn a_small_picture_keeps_form_and_colours() {
        for (full, expected) in [
            ((1024, 768), (160, 120)),
            ((1920, 1080), (160, 90)),
            ((768, 1024), (90, 120)),
            ((8192, 4), (160, 1)),
            ((100, 60), (100, 60)),
        ] {
            assert_eq!(fitted(full.0, full.1), expected);
        }
        // Left half red, right half blue.
        let colour = |x: usize| if x < 320 { [200, 10, 10, 0] } else { [10, 10, 200, 0] };
        let pixels: Vec<u8> = (0..640 * 480).flat_map(|n| colour(n % 640)).collect();
        let picture = Pixels::new(640, 480, Order::Rgbx, &pixels).unwrap();
        let mut screen = DesktopScreen::default();
        for event in DesktopEncoder::new(0).frame(&picture, Changed::All, 0) {
            screen.apply(&event).unwrap();
        }
        let (width, height, rgb) = small(&screen).unwrap();
        assert_eq!((width, height, rgb.len()), (160, 120, 160 * 120 * 3));
        assert!(
            rgb.chunks_exact(480).all(|row| row.starts_with(&[200, 10, 10]) && row.ends_with(&[10, 10, 200]))
        );
        assert_eq!(rgb[79 * 3..81 * 3], [200, 10, 10, 10, 10, 200]);
    }
}
