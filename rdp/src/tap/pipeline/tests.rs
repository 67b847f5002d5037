use ironrdp_core::encode_vec;
use ironrdp_egfx::pdu::{
    CacheToSurfacePdu, CapabilitiesConfirmPdu, CapabilitiesV8Flags, CapabilitySet, Codec1Type, Codec2Type,
    Color, DeleteSurfacePdu, EndFramePdu, GfxPdu, PixelFormat, Point, SolidFillPdu, SurfaceToCachePdu,
    SurfaceToSurfacePdu, WireToSurface1Pdu, WireToSurface2Pdu,
};
use ironrdp_pdu::geometry::ExclusiveRectangle;

use crate::{
    channels::pipeline::made::{create, place, rect, reset},
    event::ScreenPdu,
    tap::{Start, Tap, TapError},
};

fn confirm() -> GfxPdu {
    let set = CapabilitySet::V8 { flags: CapabilitiesV8Flags::SMALL_CACHE };
    GfxPdu::CapabilitiesConfirm(CapabilitiesConfirmPdu((&set).into()))
}

fn fill(surface_id: u16, red: u8, part: ExclusiveRectangle) -> GfxPdu {
    let fill_pixel = Color { b: 1, g: 2, r: red, xa: 0 };
    GfxPdu::SolidFill(SolidFillPdu { surface_id, fill_pixel, rectangles: vec![part] })
}

fn copy(from: u16, to: u16, source_rectangle: ExclusiveRectangle, at: &[(u16, u16)]) -> GfxPdu {
    GfxPdu::SurfaceToSurface(SurfaceToSurfacePdu {
        source_surface_id: from,
        destination_surface_id: to,
        source_rectangle,
        destination_points: at.iter().map(|&(x, y)| Point { x, y }).collect(),
    })
}

fn pixels(codec_id: Codec1Type, bitmap_data: Vec<u8>) -> GfxPdu {
    GfxPdu::WireToSurface1(WireToSurface1Pdu {
        surface_id: 0,
        codec_id,
        pixel_format: PixelFormat::XRgb,
        destination_rectangle: rect(1, 1, 3, 2),
        bitmap_data,
    })
}

/// In a frame: what is drawn is seen at its end.
fn try_draw(tap: &mut Tap, pdus: &[GfxPdu]) -> Result<(), TapError> {
    let end = GfxPdu::EndFrame(EndFramePdu { frame_id: 1 });
    let bytes: Vec<u8> = pdus.iter().chain([&end]).flat_map(|pdu| encode_vec(pdu).unwrap()).collect();
    tap.draw(&ScreenPdu::Pipeline(bytes.into()))
}

fn draw(tap: &mut Tap, pdus: &[GfxPdu]) {
    try_draw(tap, pdus).unwrap();
}

/// 100 × 80, with a surface of 60 × 40 at 10, 20.
fn begun() -> Tap {
    let mut tap = Tap::new(Start { width: 640, height: 480, io_channel: 1003 }).unwrap();
    draw(&mut tap, &[confirm(), reset(100, 80), create(0, 60, 40), place(0, 10, 20)]);
    assert_eq!((tap.image().size(), tap.faults()), ((100, 80), 0));
    tap
}

fn red(tap: &Tap, x: usize, y: usize) -> u8 {
    tap.image().rgbx()[(y * usize::from(tap.image().size().0) + x) * 4]
}

#[test]
fn what_is_on_a_surface_is_seen_where_it_is_placed() {
    let mut tap = begun();
    tap.rest();
    draw(&mut tap, &[fill(0, 9, rect(0, 0, 1, 1)), fill(0, 8, rect(59, 39, 200, 200))]);
    assert_eq!((red(&tap, 10, 20), red(&tap, 11, 20), red(&tap, 69, 59), red(&tap, 70, 60)), (9, 0, 8, 0));
    assert_eq!(tap.rest().changed, [0, 1]);
    // What is not placed is not seen, until it is; beyond the edge it is cut.
    draw(&mut tap, &[create(1, 10, 10), fill(1, 7, rect(0, 0, 10, 10))]);
    assert!(tap.rest().changed.is_empty());
    draw(&mut tap, &[place(1, 95, 75)]);
    assert_eq!((red(&tap, 95, 75), red(&tap, 99, 79), red(&tap, 94, 75)), (7, 7, 0));
    draw(&mut tap, &[place(1, 4_000_000_000, 7), place(1, 100, 80)]);
    // It stays as it was shown when its surface goes.
    draw(&mut tap, &[GfxPdu::DeleteSurface(DeleteSurfacePdu { surface_id: 1 })]);
    assert_eq!((red(&tap, 95, 75), tap.faults()), (7, 0));
    draw(&mut tap, &[reset(100, 80)]);
    assert_eq!((red(&tap, 95, 75), tap.faults()), (7, 0));
    draw(&mut tap, &[reset(50, 50)]);
    assert_eq!((tap.image().size(), red(&tap, 10, 20)), ((50, 50), 0));
}

#[test]
fn copies_are_of_what_was_there_before_and_the_cache_outlives_surfaces() {
    let mut tap = begun();
    let row = |tap: &Tap| (10..16).map(|x| red(tap, x, 20)).collect::<Vec<_>>();
    let at = |x| rect(x, 0, x + 1, 1);
    draw(&mut tap, &[fill(0, 1, at(0)), fill(0, 2, at(1)), fill(0, 3, at(2))]);
    draw(&mut tap, &[copy(0, 0, rect(0, 0, 3, 1), &[(1, 0), (3, 0)])]);
    assert_eq!(row(&tap), [1, 1, 2, 1, 2, 3]);
    let keep =
        SurfaceToCachePdu { surface_id: 0, cache_key: 1, cache_slot: 5, source_rectangle: rect(0, 0, 3, 1) };
    draw(&mut tap, &[GfxPdu::SurfaceToCache(keep), reset(100, 80), create(0, 60, 40), place(0, 10, 20)]);
    assert_eq!(row(&tap), [0; 6], "a new surface is empty");
    let destination_points = vec![Point { x: 0, y: 0 }, Point { x: 59, y: 39 }];
    let show = CacheToSurfacePdu { cache_slot: 5, surface_id: 0, destination_points };
    draw(&mut tap, &[GfxPdu::CacheToSurface(show)]);
    assert_eq!((row(&tap), red(&tap, 69, 59), tap.faults()), (vec![1, 1, 2, 0, 0, 0], 1, 0));
    // More parts than are kept one by one: none is missed.
    let many: Vec<_> = (0..60).flat_map(|x| [(x, 7), (x, 9)]).collect();
    draw(&mut tap, &[copy(0, 0, rect(0, 0, 1, 1), &many)]);
    assert!((0..60).all(|x| red(&tap, 10 + x, 27) == 1 && red(&tap, 10 + x, 29) == 1));
    assert_eq!(red(&tap, 10, 28), 0);
}

#[test]
fn pixels_as_they_are_are_shown_and_what_cannot_be_decoded_ends_the_session() {
    let mut tap = begun();
    draw(&mut tap, &[pixels(Codec1Type::Uncompressed, vec![1, 2, 3, 0, 4, 5, 6, 0])]);
    assert_eq!((red(&tap, 11, 21), red(&tap, 12, 21), tap.faults()), (3, 6, 0));
    let tiles = WireToSurface2Pdu {
        surface_id: 0,
        codec_id: Codec2Type::RemoteFxProgressive,
        codec_context_id: 1,
        pixel_format: PixelFormat::XRgb,
        bitmap_data: vec![0xff; 9],
    };
    let broken = [
        pixels(Codec1Type::ClearCodec, vec![0xff; 3]),
        pixels(Codec1Type::Planar, vec![0xff]),
        pixels(Codec1Type::RemoteFx, vec![7; 4]),
        pixels(Codec1Type::Avc444, vec![7; 40]),
        GfxPdu::WireToSurface2(tiles),
        fill(9, 1, rect(0, 0, 1, 1)),
    ];
    for pdu in broken {
        let one = std::slice::from_ref(&pdu);
        assert!(
            matches!(try_draw(&mut begun(), one), Err(TapError::Undecodable { count: 1, .. })),
            "{pdu:?}"
        );
    }
    let whole = encode_vec(&fill(0, 1, rect(0, 0, 1, 1))).unwrap();
    assert!(tap.draw(&ScreenPdu::Pipeline(whole[..9].to_vec().into())).is_err(), "cut short");
}

#[test]
fn nothing_is_seen_before_its_frame_ends_and_what_clear_codec_leaves_open_stays() {
    let mut tap = begun();
    let one = encode_vec(&fill(0, 9, rect(0, 0, 60, 40))).unwrap();
    tap.draw(&ScreenPdu::Pipeline(one.into())).unwrap();
    assert_eq!(red(&tap, 10, 20), 0, "a client may still show what was before");
    draw(&mut tap, &[]);
    assert_eq!(red(&tap, 10, 20), 9);
    // No layer at all, for a place of two pixels.
    draw(&mut tap, &[pixels(Codec1Type::ClearCodec, vec![0; 14])]);
    assert_eq!((red(&tap, 11, 21), red(&tap, 12, 21)), (9, 9));
    // One pixel of 7, and another.
    let residual = [1, 2, 7, 1, 1, 2, 8, 1];
    let layer = [[0, 1, 8, 0, 0, 0].as_slice(), &[0; 8], &residual].concat();
    draw(&mut tap, &[pixels(Codec1Type::ClearCodec, layer)]);
    let glyph = |residual: &[u8]| {
        let len = u8::try_from(residual.len()).unwrap();
        pixels(Codec1Type::ClearCodec, [[1, 2, 5, 0, len, 0, 0, 0].as_slice(), &[0; 8], residual].concat())
    };
    draw(&mut tap, &[glyph(&residual)]);
    assert!(try_draw(&mut begun(), &[glyph(&[])]).is_err(), "a glyph with holes");
    assert_eq!((red(&tap, 11, 21), red(&tap, 12, 21)), (7, 8));
}

#[test]
fn a_desktop_that_is_built_anew_keeps_its_surfaces_and_another_agreement_does_not() {
    let before = begun();
    let mut tap = Tap::new(Start { width: 100, height: 80, io_channel: 1003 }).unwrap().after(Some(before));
    draw(&mut tap, &[fill(0, 9, rect(0, 0, 1, 1))]);
    assert_eq!((red(&tap, 10, 20), tap.faults()), (9, 0));
    assert!(try_draw(&mut tap, &[confirm(), fill(0, 7, rect(0, 0, 1, 1))]).is_err());
    // One of another size shows all that there is.
    let mut before = begun();
    draw(&mut before, &[fill(0, 9, rect(0, 0, 60, 40))]);
    let tap = Tap::new(Start { width: 50, height: 50, io_channel: 1003 }).unwrap().after(Some(before));
    assert_eq!((red(&tap, 10, 20), red(&tap, 9, 20), tap.faults()), (9, 0, 0));
    let mut tap = Tap::new(Start { width: 100, height: 80, io_channel: 1003 }).unwrap();
    assert!(try_draw(&mut tap, &[create(0, 9, 9)]).is_err(), "nothing is drawn before anything is agreed on");
    assert!(
        tap.draw(&ScreenPdu::Pipeline(encode_vec(&reset(9000, 10)).unwrap().into())).is_err(),
        "too wide"
    );
}
