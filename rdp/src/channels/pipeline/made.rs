//! PDUs of the graphics pipeline, for tests of those who pass them on and of those who decode them.

use ironrdp_egfx::pdu::{CreateSurfacePdu, GfxPdu, MapSurfaceToOutputPdu, PixelFormat, ResetGraphicsPdu};
use ironrdp_pdu::geometry::ExclusiveRectangle;

/// A part of a surface.
pub(crate) fn rect(left: u16, top: u16, right: u16, bottom: u16) -> ExclusiveRectangle {
    ExclusiveRectangle { left, top, right, bottom }
}

/// The desktop has this size from now on.
pub(crate) fn reset(width: u32, height: u32) -> GfxPdu {
    GfxPdu::ResetGraphics(ResetGraphicsPdu { width, height, monitors: Vec::new() })
}

/// A surface.
pub(crate) fn create(surface_id: u16, width: u16, height: u16) -> GfxPdu {
    GfxPdu::CreateSurface(CreateSurfacePdu { surface_id, width, height, pixel_format: PixelFormat::XRgb })
}

/// Where it is to be seen.
pub(crate) fn place(surface_id: u16, output_origin_x: u32, output_origin_y: u32) -> GfxPdu {
    GfxPdu::MapSurfaceToOutput(MapSurfaceToOutputPdu { surface_id, output_origin_x, output_origin_y })
}
