//! Surfaces and what is on them (MS-RDPEGFX 3.3.1).

use std::collections::HashMap;

use ironrdp_egfx::pdu::{
    CacheToSurfacePdu, Color, Point, SolidFillPdu, SurfaceToCachePdu, SurfaceToSurfacePdu,
};
use ironrdp_pdu::geometry::ExclusiveRectangle;

use super::super::{
    Fault,
    image::{Area, Image},
};

/// Red, green, blue, and a byte that means nothing.
type Pixel = [u8; 4];

/// Parts that changed with one PDU; beyond it the surfaces are taken as changed as a whole.
const PARTS: usize = 64;

const NO_SURFACE: Fault = "the graphics pipeline has no such surface";

/// A part of a surface. It may reach beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Part {
    pub(super) fn of(rect: &ExclusiveRectangle) -> Self {
        let span = |from: u16, to: u16| usize::from(to.saturating_sub(from));
        Self {
            left: rect.left.into(),
            top: rect.top.into(),
            width: span(rect.left, rect.right),
            height: span(rect.top, rect.bottom),
        }
    }

    fn at(point: &Point, width: usize, height: usize) -> Self {
        Self { left: point.x.into(), top: point.y.into(), width, height }
    }

    /// What of it is on something of that size.
    fn within(self, width: usize, height: usize) -> Self {
        Self {
            width: self.width.min(width.saturating_sub(self.left)),
            height: self.height.min(height.saturating_sub(self.top)),
            ..self
        }
    }
}

/// Pixels, row by row.
#[derive(Debug)]
struct Pixels {
    width: usize,
    height: usize,
    pixels: Vec<Pixel>,
}

impl Pixels {
    fn row(&self, left: usize, y: usize, width: usize) -> &[Pixel] {
        let start = y * self.width + left;
        self.pixels.get(start..start + width).unwrap_or_default()
    }

    /// Puts rows of `stride` pixels into a part; what lies beyond the edge is cut.
    fn put<'a>(&mut self, part: Part, row: impl Fn(usize) -> &'a [Pixel]) {
        self.change(part, row, |to, from| *to = *from);
    }

    fn change<'a>(
        &mut self,
        part: Part,
        row: impl Fn(usize) -> &'a [Pixel],
        each: impl Fn(&mut Pixel, &Pixel),
    ) {
        let on = part.within(self.width, self.height);
        for y in 0..on.height {
            let start = (on.top + y) * self.width + on.left;
            let to = self.pixels.get_mut(start..start + on.width).unwrap_or_default();
            to.iter_mut().zip(row(y)).for_each(|(to, from)| each(to, from));
        }
    }

    fn cut(&self, part: Part) -> Self {
        let on = part.within(self.width, self.height);
        let pixels = (0..on.height).flat_map(|y| self.row(on.left, on.top + y, on.width)).copied().collect();
        Self { width: on.width, height: on.height, pixels }
    }
}

#[derive(Debug)]
struct Surface {
    pixels: Pixels,
    /// Where on the desktop it is to be seen.
    place: Option<(usize, usize)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    surfaces: HashMap<u16, Surface>,
    cache: HashMap<u16, Pixels>,
    changed: Vec<(u16, Part)>,
    /// The decoder met something that it passes over.
    pub(super) unknown: bool,
    /// What is drawn next may have no holes.
    pub(super) glyph: bool,
}

impl Canvas {
    pub(super) fn create(&mut self, surface: u16, width: u16, height: u16) {
        let (width, height) = (usize::from(width), usize::from(height));
        let pixels = Pixels { width, height, pixels: vec![[0; 4]; width * height] };
        self.surfaces.insert(surface, Surface { pixels, place: None });
    }

    pub(super) fn delete(&mut self, surface: u16) {
        self.surfaces.remove(&surface);
    }

    /// No surface is left; the cache stays.
    pub(super) fn reset(&mut self) {
        self.surfaces.clear();
    }

    pub(super) fn place(&mut self, surface: u16, x: u32, y: u32) -> Result<(), Fault> {
        let far = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        let placed = self.surfaces.get_mut(&surface).ok_or(NO_SURFACE)?;
        placed.place = Some((far(x), far(y)));
        self.all(surface);
        Ok(())
    }

    /// Where there are `holes`, a pixel whose last byte is zero is none.
    pub(super) fn draw(&mut self, surface: u16, part: Part, pixels: &[Pixel], holes: bool) {
        let row = |y: usize| pixels.get(y * part.width..(y + 1) * part.width).unwrap_or_default();
        let Some(drawn) = self.surfaces.get_mut(&surface) else { return };
        if holes {
            self.unknown |= self.glyph && pixels.iter().any(|pixel| pixel[3] == 0);
            drawn.pixels.change(part, row, |to, from| {
                if from[3] != 0 {
                    *to = *from;
                }
            });
        } else {
            drawn.pixels.put(part, row);
        }
        self.mark(surface, part);
    }

    /// Every surface is to be shown again.
    pub(super) fn all_changed(&mut self) {
        self.changed = self.surfaces.keys().map(|surface| (*surface, ALL)).collect();
    }

    pub(super) fn fill(&mut self, fill: &SolidFillPdu) -> Result<(), Fault> {
        let Color { b, g, r, .. } = fill.fill_pixel;
        let filled = self.surfaces.get_mut(&fill.surface_id).ok_or(NO_SURFACE)?;
        let row = vec![[r, g, b, 0xff]; filled.pixels.width];
        for rect in &fill.rectangles {
            filled.pixels.put(Part::of(rect), |_| &row);
        }
        fill.rectangles.iter().for_each(|rect| self.mark(fill.surface_id, Part::of(rect)));
        Ok(())
    }

    pub(super) fn copy(&mut self, copy: &SurfaceToSurfacePdu) -> Result<(), Fault> {
        let from = self.surfaces.get(&copy.source_surface_id).ok_or(NO_SURFACE)?;
        // Of before: the two may be one, and overlap.
        let copied = from.pixels.cut(Part::of(&copy.source_rectangle));
        self.put_at(copy.destination_surface_id, &copied, &copy.destination_points)
    }

    pub(super) fn keep(&mut self, keep: &SurfaceToCachePdu) -> Result<(), Fault> {
        let from = self.surfaces.get(&keep.surface_id).ok_or(NO_SURFACE)?;
        self.cache.insert(keep.cache_slot, from.pixels.cut(Part::of(&keep.source_rectangle)));
        Ok(())
    }

    pub(super) fn show_kept(&mut self, show: &CacheToSurfacePdu) -> Result<(), Fault> {
        let kept = self
            .cache
            .remove(&show.cache_slot)
            .ok_or("the graphics pipeline has nothing in its cache there")?;
        let done = self.put_at(show.surface_id, &kept, &show.destination_points);
        self.cache.insert(show.cache_slot, kept);
        done
    }

    pub(super) fn evict(&mut self, slot: u16) {
        self.cache.remove(&slot);
    }

    fn put_at(&mut self, surface: u16, from: &Pixels, points: &[Point]) -> Result<(), Fault> {
        let to = self.surfaces.get_mut(&surface).ok_or(NO_SURFACE)?;
        let part = |point: &Point| Part::at(point, from.width, from.height);
        for point in points {
            to.pixels.put(part(point), |y| from.row(0, y, from.width));
        }
        points.iter().for_each(|point| self.mark(surface, part(point)));
        Ok(())
    }

    fn mark(&mut self, surface: u16, part: Part) {
        if self.changed.len() < PARTS {
            self.changed.push((surface, part));
        } else if self.changed.last() != Some(&(surface, ALL)) {
            self.changed.retain(|(changed, _)| *changed != surface);
            self.all(surface);
        }
    }

    fn all(&mut self, surface: u16) {
        self.changed.push((surface, ALL));
    }

    /// Shows in the picture what changed on surfaces that are to be seen.
    pub(super) fn show(&mut self, image: &mut Image) {
        let (width, height) = image.size();
        for (surface, part) in std::mem::take(&mut self.changed) {
            let Some(Surface { pixels, place: Some((x, y)) }) = self.surfaces.get(&surface) else { continue };
            let part = part.within(pixels.width, pixels.height);
            let (left, top) = (x.saturating_add(part.left), y.saturating_add(part.top));
            let seen = Part { left, top, ..part }.within(width.into(), height.into());
            let area = Area { left, top, width: seen.width, height: seen.height };
            image.put(area, |y, to| {
                to.copy_from_slice(pixels.row(part.left, part.top + y, seen.width));
            });
        }
    }
}

/// More than any surface has.
const ALL: Part = Part { left: 0, top: 0, width: usize::MAX, height: usize::MAX };
