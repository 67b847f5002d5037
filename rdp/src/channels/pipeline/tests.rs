use ironrdp_core::encode_vec;
use ironrdp_egfx::pdu::{
    CacheImportOfferPdu, CacheToSurfacePdu, CapabilitiesAdvertisePdu, CapabilitiesConfirmPdu,
    CapabilitiesV8Flags, CapabilitiesV10Flags, CapabilitiesV81Flags, CapabilitiesV104Flags,
    CapabilitiesV107Flags, CapabilitySet, Codec1Type, Codec2Type, Color, DeleteEncodingContextPdu,
    DeleteSurfacePdu, EndFramePdu, EvictCacheEntryPdu, FrameAcknowledgePdu, GfxPdu, MapSurfaceToWindowPdu,
    PixelFormat, Point, QoeFrameAcknowledgePdu, QueueDepth, SolidFillPdu, StartFramePdu, SurfaceToCachePdu,
    SurfaceToSurfacePdu, Timestamp, WireToSurface1Pdu, WireToSurface2Pdu,
};
use ironrdp_graphics::zgfx::{CompressionMode, Compressor, compress_and_wrap_egfx, wrap_compressed};
use ironrdp_pdu::geometry::ExclusiveRectangle;
use proptest::prelude::*;

use super::{
    made::{create, place, rect, reset},
    *,
};
use crate::{
    event::ScreenPdu,
    tap::{Start, Tap},
};

fn bytes(pdus: &[GfxPdu]) -> Vec<u8> {
    pdus.iter().flat_map(|pdu| encode_vec(pdu).unwrap()).collect()
}

fn map(surface_id: u16) -> GfxPdu {
    place(surface_id, 0, 0)
}

fn fill(surface_id: u16, (r, g, b): (u8, u8, u8), rectangles: Vec<ExclusiveRectangle>) -> GfxPdu {
    GfxPdu::SolidFill(SolidFillPdu { surface_id, fill_pixel: Color { b, g, r, xa: 0 }, rectangles })
}

fn pixels(surface_id: u16, codec_id: Codec1Type, place: ExclusiveRectangle, bitmap_data: Vec<u8>) -> GfxPdu {
    let pixel_format = PixelFormat::XRgb;
    GfxPdu::WireToSurface1(WireToSurface1Pdu {
        surface_id,
        codec_id,
        pixel_format,
        destination_rectangle: place,
        bitmap_data,
    })
}

fn keep(cache_slot: u16, source_rectangle: ExclusiveRectangle) -> GfxPdu {
    GfxPdu::SurfaceToCache(SurfaceToCachePdu { surface_id: 0, cache_key: 7, cache_slot, source_rectangle })
}

fn show_kept(cache_slot: u16) -> GfxPdu {
    let destination_points = vec![Point { x: 1, y: 2 }];
    GfxPdu::CacheToSurface(CacheToSurfacePdu { cache_slot, surface_id: 0, destination_points })
}

fn confirm(set: &CapabilitySet) -> GfxPdu {
    GfxPdu::CapabilitiesConfirm(CapabilitiesConfirmPdu(set.into()))
}

/// As FreeRDP offers them.
fn offered() -> [CapabilitySet; 5] {
    let flags = CapabilitiesV104Flags::AVC_THIN_CLIENT;
    [
        CapabilitySet::V8 { flags: CapabilitiesV8Flags::THIN_CLIENT },
        CapabilitySet::V8_1 { flags: CapabilitiesV81Flags::AVC420_ENABLED },
        CapabilitySet::V10_1,
        CapabilitySet::V10_4 { flags },
        CapabilitySet::V10_7 { flags: CapabilitiesV107Flags::empty() },
    ]
}

fn advertise(sets: &[CapabilitySet]) -> Vec<u8> {
    bytes(&[GfxPdu::CapabilitiesAdvertise(CapabilitiesAdvertisePdu::from_typed(sets))])
}

fn begun() -> Pipeline {
    Pipeline::begun()
}

fn say(pipeline: &mut Pipeline, pdus: &[GfxPdu]) -> Result<Drawn, Broken> {
    pipeline.target(&pack(&bytes(pdus)))
}

fn start(frame_id: u32) -> GfxPdu {
    let timestamp = Timestamp { milliseconds: 0, seconds: 0, minutes: 0, hours: 0 };
    GfxPdu::StartFrame(StartFramePdu { timestamp, frame_id })
}

fn end(frame_id: u32) -> GfxPdu {
    GfxPdu::EndFrame(EndFramePdu { frame_id })
}

/// The same in a frame, of a number that the one before it had not.
fn framed(pipeline: &mut Pipeline, pdus: &[GfxPdu]) -> Result<Drawn, Broken> {
    let frame = u32::try_from(pipeline.serial).unwrap() + 1;
    let all: Vec<_> = [start(frame)].into_iter().chain(pdus.iter().cloned()).chain([end(frame)]).collect();
    say(pipeline, &all)
}

fn copy(rectangle: ExclusiveRectangle, at: &[(u16, u16)]) -> GfxPdu {
    GfxPdu::SurfaceToSurface(SurfaceToSurfacePdu {
        source_surface_id: 0,
        destination_surface_id: 0,
        source_rectangle: rectangle,
        destination_points: at.iter().map(|&(x, y)| Point { x, y }).collect(),
    })
}

fn tiles(bitmap_data: Vec<u8>) -> GfxPdu {
    GfxPdu::WireToSurface2(WireToSurface2Pdu {
        surface_id: 0,
        codec_id: Codec2Type::RemoteFxProgressive,
        codec_context_id: 1,
        pixel_format: PixelFormat::ARgb,
        bitmap_data,
    })
}

fn block(kind: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 6).unwrap();
    [kind.to_le_bytes().as_slice(), &len.to_le_bytes(), body].concat()
}

/// A region of the whole surface with these tiles, as kind and place.
fn region(tiles: &[(u16, u16, u16)]) -> Vec<u8> {
    let tile = |(kind, x, y): &(u16, u16, u16)| {
        block(*kind, &[[0; 3].as_slice(), &[*x, *y].map(u16::to_le_bytes).concat(), &[0; 9]].concat())
    };
    let tiles_data: Vec<u8> = tiles.iter().flat_map(tile).collect();
    let rect = [0, 0, 200, 100].map(u16::to_le_bytes).concat();
    let len = u32::try_from(tiles_data.len()).unwrap().to_le_bytes();
    let head = [64, 1, 0, 1, 0, 0, u8::try_from(tiles.len()).unwrap(), 0];
    block(0xccc4, &[head.as_slice(), &len, &rect, &[0; 5], &tiles_data].concat())
}

fn progressive(regions: &[Vec<u8>]) -> GfxPdu {
    let begin = block(0xccc1, &[0, 0, 0, 0, 1, 0]);
    tiles([begin, regions.concat(), block(0xccc2, &[])].concat())
}

fn remote_fx(rects: &[[u16; 4]], frames: usize) -> Vec<u8> {
    let rects: Vec<u8> = rects.iter().flatten().flat_map(|side| side.to_le_bytes()).collect();
    let count = u8::try_from(rects.len() / 8).unwrap();
    let frame = [
        block(0xccc4, &[1, 0, 0, 0, 0, 0, 1, 0]),
        block(0xccc6, &[[1, 0, 1, count, 0].as_slice(), &rects].concat()),
        block(0xccc7, &[1, 0]),
        block(0xccc5, &[1, 0]),
    ];
    frame.concat().repeat(frames)
}

/// ClearCodec with a part by NSCodec that has so many bytes of transparency.
fn with_nscodec(transparency: u8) -> Vec<u8> {
    let planes = [[0; 12].as_slice(), &[transparency, 0, 0, 0], &[0; 4]].concat();
    let part = [[0; 8].as_slice(), &[20, 0, 0, 0, 1], &planes].concat();
    [[0; 10].as_slice(), &[33, 0, 0, 0], &part].concat()
}

/// ClearCodec with nothing in it but so many bytes of the first layer.
fn clear(flags: u8, sequence: u8, residual: u8) -> Vec<u8> {
    let index: &[u8] = if flags & 1 != 0 { &[9, 0] } else { &[] };
    let len = [u32::from(residual), 0, 0].map(u32::to_le_bytes).concat();
    [[flags, sequence].as_slice(), index, &len, &vec![0; residual.into()]].concat()
}

#[test]
fn of_what_a_client_offers_no_h264_reaches_the_target_and_it_hears_its_own_words_again() {
    let mut pipeline = Pipeline::new(false);
    let sent = pipeline.person(&advertise(&offered())).unwrap();
    let GfxPdu::CapabilitiesAdvertise(sent) = ironrdp_core::decode(&sent).unwrap() else { panic!() };
    let sent: Vec<_> = sent.0.iter().map(|set| set.parsed().unwrap().unwrap()).collect();
    let of107 = CapabilitiesV107Flags::AVC_DISABLED
        | CapabilitiesV107Flags::SMALL_CACHE
        | CapabilitiesV107Flags::SCALEDMAP_DISABLE;
    let of104 = CapabilitiesV104Flags::AVC_DISABLED | CapabilitiesV104Flags::SMALL_CACHE;
    let wanted = [
        CapabilitySet::V8 { flags: CapabilitiesV8Flags::THIN_CLIENT | CapabilitiesV8Flags::SMALL_CACHE },
        CapabilitySet::V8_1 { flags: CapabilitiesV81Flags::SMALL_CACHE },
        CapabilitySet::V10_4 { flags: of104 },
        CapabilitySet::V10_7 { flags: of107 },
    ];
    assert_eq!(sent, wanted);
    assert!(!pipeline.draws());
    let drawn = say(&mut pipeline, &[confirm(&CapabilitySet::V10_7 { flags: of107 })]).unwrap();
    assert_eq!(
        drawn.plain,
        bytes(&[confirm(&CapabilitySet::V10_7 { flags: CapabilitiesV107Flags::empty() })])
    );
    assert!(pipeline.draws() && pipeline.canvas().is_none());

    assert!(
        say(&mut pipeline, &[confirm(&CapabilitySet::V10_7 { flags: of107 })]).is_err(),
        "once is enough"
    );
    // A client that begins anew hears nothing until the target does.
    say(&mut pipeline, &[reset(9, 9), create(0, 9, 9)]).unwrap();
    assert!(!pipeline.person(&advertise(&offered())).unwrap().is_empty());
    assert!(pipeline.person(&advertise(&offered())).is_err(), "twice in a row");
    assert!(
        say(&mut pipeline, &[map(0)]).unwrap().dropped && pipeline.draws() && pipeline.canvas().is_none()
    );
    say(&mut pipeline, &[confirm(&CapabilitySet::V10_7 { flags: of107 }), reset(9, 9), create(0, 9, 9)])
        .unwrap();
    for other in [CapabilitySet::V10_1, CapabilitySet::V10 { flags: CapabilitiesV10Flags::AVC_DISABLED }] {
        let mut pipeline = Pipeline::new(false);
        pipeline.person(&advertise(&offered())).unwrap();
        assert!(say(&mut pipeline, &[confirm(&other)]).is_err(), "not offered: {other:?}");
    }
    assert!(Pipeline::new(false).push(&[0]).is_err(), "the client has not spoken");
    assert!(Pipeline::new(false).person(&advertise(&[CapabilitySet::V10_1])).is_err(), "nothing is left");
}

#[test]
fn a_target_draws_with_what_the_recording_knows_and_all_of_it_is_shown() {
    let mut pipeline = begun();
    let all = [
        start(9),
        fill(0, (1, 2, 3), vec![rect(0, 0, 200, 100), rect(1, 1, 2, 2)]),
        pixels(0, Codec1Type::Uncompressed, rect(1, 1, 3, 2), vec![9; 8]),
        pixels(0, Codec1Type::ClearCodec, rect(0, 0, 1, 1), clear(4, 7, 3)),
        pixels(0, Codec1Type::Planar, rect(0, 0, 1, 1), Vec::new()),
        pixels(
            0,
            Codec1Type::RemoteFx,
            rect(0, 0, 200, 100),
            remote_fx(&[[0, 0, 200, 100], [9, 9, 1, 1]], 1),
        ),
        pixels(0, Codec1Type::Alpha, rect(0, 0, 1, 1), vec![3]),
        progressive(&[region(&[(0xccc5, 0, 0), (0xccc6, 3, 1), (0xccc7, 3, 1)])]),
        progressive(&[region(&[(0xccc7, 0, 0)])]),
        GfxPdu::DeleteEncodingContext(DeleteEncodingContextPdu { surface_id: 0, codec_context_id: 1 }),
        copy(rect(0, 0, 10, 10), &[(15, 5), (190, 90)]),
        keep(4096, rect(0, 0, 8, 8)),
        show_kept(4096),
        GfxPdu::EvictCacheEntry(EvictCacheEntryPdu { cache_slot: 4096 }),
        end(9),
    ];
    let drawn = say(&mut pipeline, &all).unwrap();
    assert_eq!(drawn, Drawn { plain: bytes(&all), ..Drawn::default() });
    // A new surface is black, and one that is placed is shown, in frames of ours or with the target's.
    let kinds = |plain: &[u8]| pdu::split(plain).map(|pdu| pdu.unwrap().kind).collect::<Vec<_>>();
    let drawn = say(&mut pipeline, &[create(1, 64, 32), place(1, 300, 0)]).unwrap();
    assert_eq!(kinds(&drawn.plain), [9, 11, 4, 12, 15, 11, 5, 12]);
    let drawn = framed(&mut pipeline, &[create(2, 8, 8), place(2, 400, 0)]).unwrap();
    assert_eq!(kinds(&drawn.plain), [11, 9, 4, 15, 5, 12]);
    // None outlives a reset, and what the target takes away then is gone already.
    let gone = GfxPdu::DeleteSurface(DeleteSurfacePdu { surface_id: 1 });
    let drawn = say(&mut pipeline, &[reset(300, 50), gone]).unwrap();
    assert_eq!((kinds(&drawn.plain), drawn.size), (vec![10, 10, 10, 14], Some((300, 50))));
    assert!(say(&mut pipeline, &[map(0)]).is_err());
}

#[test]
fn what_no_recording_would_show_ends_the_session_or_goes_nowhere() {
    let whole = || rect(0, 0, 200, 100);
    let broken = [
        ("h264", pixels(0, Codec1Type::Avc420, whole(), vec![0; 9])),
        ("h264 in full", pixels(0, Codec1Type::Avc444v2, whole(), vec![0; 9])),
        ("beside its surface", pixels(0, Codec1Type::Planar, rect(190, 0, 201, 1), vec![0; 9])),
        ("turned around", pixels(0, Codec1Type::Planar, rect(9, 0, 1, 1), vec![0; 9])),
        ("too few pixels", pixels(0, Codec1Type::Uncompressed, rect(0, 0, 2, 2), vec![0; 12])),
        ("no such surface", pixels(1, Codec1Type::Planar, rect(0, 0, 1, 1), vec![0; 9])),
        ("fill of none", fill(7, (0, 0, 0), vec![whole()])),
        ("fill beyond the edge", fill(0, (0, 0, 0), vec![rect(0, 0, 201, 1)])),
        ("map of none", map(3)),
        ("one that is there", create(0, 10, 10)),
        ("an empty one", create(1, 0, 10)),
        ("a huge one", create(1, 8192, 8192)),
        ("slot 0", keep(0, whole())),
        ("a slot that a small cache has not", keep(4097, whole())),
        ("nothing of a surface", keep(1, rect(3, 3, 3, 9))),
        ("more than a surface has", keep(1, rect(0, 0, 201, 1))),
        ("an empty slot", show_kept(5)),
        ("a copy beyond the edge", copy(rect(0, 0, 10, 10), &[(191, 0)])),
        ("a copy of what a copy has left", copy(rect(0, 0, 10, 10), &[(5, 5), (50, 50)])),
        (
            "RemoteFX beside its place",
            pixels(0, Codec1Type::RemoteFx, rect(0, 0, 9, 9), remote_fx(&[[0, 0, 10, 9]], 1)),
        ),
        (
            "RemoteFX of nothing",
            pixels(0, Codec1Type::RemoteFx, rect(0, 0, 0, 0), remote_fx(&[[0, 0, 0, 0]], 1)),
        ),
        ("RemoteFX without a region", pixels(0, Codec1Type::RemoteFx, rect(0, 0, 9, 9), remote_fx(&[], 1))),
        (
            "two frames of it",
            pixels(0, Codec1Type::RemoteFx, rect(0, 0, 9, 9), remote_fx(&[[0, 0, 9, 9]], 2)),
        ),
        ("what is kept, and more", pixels(0, Codec1Type::ClearCodec, rect(0, 0, 9, 9), clear(3, 0, 0))),
        ("transparency of its own", pixels(0, Codec1Type::ClearCodec, rect(0, 0, 9, 9), with_nscodec(1))),
        ("another place", place(0, 1, 0)),
        ("a large glyph", pixels(0, Codec1Type::ClearCodec, rect(0, 0, 33, 32), clear(1, 0, 3))),
        ("other flags", pixels(0, Codec1Type::ClearCodec, rect(0, 0, 9, 9), clear(8, 0, 3))),
        ("two regions", progressive(&[region(&[(0xccc5, 0, 0)]), region(&[(0xccc5, 1, 0)])])),
        ("better than nothing", progressive(&[region(&[(0xccc7, 0, 0)])])),
        ("a tile beside the surface", progressive(&[region(&[(0xccc5, 4, 0)])])),
        ("a region without a frame", tiles(region(&[(0xccc5, 0, 0)]))),
        ("bytes behind it", tiles([block(0xccc0, &[0; 6]), vec![0]].concat())),
    ];
    for (what, pdu) in broken {
        assert!(framed(&mut begun(), &[pdu]).is_err(), "{what}");
    }
    let window = MapSurfaceToWindowPdu { surface_id: 0, window_id: 1, mapped_width: 1, mapped_height: 1 };
    let drawn = say(&mut begun(), &[GfxPdu::MapSurfaceToWindow(window), start(1), end(1)]).unwrap();
    assert!(drawn.dropped);
    assert_eq!(drawn.plain, bytes(&[start(1), end(1)]));
    // Before a version is agreed on nothing is drawn.
    let mut early = Pipeline::new(false);
    early.person(&advertise(&offered())).unwrap();
    let drawn = say(&mut early, &[reset(200, 100), create(0, 9, 9)]).unwrap();
    assert_eq!(drawn, Drawn { dropped: true, ..Drawn::default() });
    // ClearCodec counts, and a glyph is hit alone.
    let mut pipeline = begun();
    let clears = |data: &[u8]| pixels(0, Codec1Type::ClearCodec, rect(0, 0, 9, 9), data.to_vec());
    framed(&mut pipeline, &[clears(&clear(1, 255, 3)), clears(&[3, 0, 9, 0])]).unwrap();
    assert!(framed(&mut pipeline, &[clears(&clear(0, 0, 3))]).is_err(), "its number was there");
}

#[test]
fn drawing_is_in_frames_and_places_are_beside_each_other() {
    let black = || fill(0, (0, 0, 0), vec![rect(0, 0, 1, 1)]);
    let draws = |pdus: &[GfxPdu]| say(&mut begun(), pdus);
    assert!(draws(&[start(1), black(), end(1), start(2), black(), end(2)]).is_ok());
    assert!(draws(&[black()]).is_err() && draws(&[start(1), end(1), black()]).is_err());
    assert!(draws(&[start(1), start(2)]).is_err() && draws(&[start(1), end(2)]).is_err());
    assert!(draws(&[end(1)]).is_err() && draws(&[start(1), reset(9, 9)]).is_err());
    // A frame of the same number as one before is the same to some, where tiles are drawn.
    let tile = || progressive(&[region(&[(0xccc5, 0, 0)])]);
    assert!(draws(&[start(1), black(), end(1), start(1), black(), end(1)]).is_ok(), "as xrdp does");
    assert!(draws(&[start(1), tile(), tile(), end(1), start(2), tile(), end(2)]).is_ok());
    assert!(draws(&[start(1), tile(), end(1), start(2), end(2), start(1), tile()]).is_err());
    assert!(draws(&[reset(8193, 9)]).is_err() && draws(&[reset(0, 9)]).is_err());

    let mut pipeline = begun();
    say(&mut pipeline, &[create(1, 50, 50), place(1, 200, 0), place(0, 0, 0), place(1, 200, 0)]).unwrap();
    for (x, y) in [(0, 0), (199, 0), (0, 99), (150, 60), (300, 300)] {
        assert!(say(&mut pipeline, &[place(1, x, y)]).is_err(), "{x} {y}");
    }
    // One that was to be seen is black before it is gone.
    let drawn = say(&mut pipeline, &[GfxPdu::DeleteSurface(DeleteSurfacePdu { surface_id: 1 })]).unwrap();
    assert_eq!(pdu::split(&drawn.plain).map(|pdu| pdu.unwrap().kind).collect::<Vec<_>>(), [11, 4, 12, 10]);
    say(&mut pipeline, &[create(1, 50, 50), place(1, u32::MAX, u32::MAX)]).unwrap();
}

#[test]
fn work_has_a_bound_for_each_message() {
    // 16 times 4 Mi pixels, of which a fill of all the surface has 20,000.
    let fills = |count: usize| fill(0, (0, 0, 0), vec![rect(0, 0, 200, 100); count]);
    framed(&mut begun(), &[fills(3355)]).unwrap();
    assert!(framed(&mut begun(), &[fills(3356)]).is_err());
    let mut pipeline = begun();
    framed(&mut pipeline, &[keep(1, rect(0, 0, 200, 98))]).unwrap();
    let many = |count| {
        let destination_points = vec![Point { x: 0, y: 0 }; count];
        GfxPdu::CacheToSurface(CacheToSurfacePdu { cache_slot: 1, surface_id: 0, destination_points })
    };
    framed(&mut pipeline, &[many(3400)]).unwrap();
    assert!(framed(&mut pipeline, &[many(3500)]).is_err());
    // What a surface costs us counts, too.
    let gone = || GfxPdu::DeleteSurface(DeleteSurfacePdu { surface_id: 1 });
    let many = |count, side| (0..count).flat_map(|_| [create(1, side, side), gone()]).collect::<Vec<_>>();
    say(&mut begun(), &many(60, 1024)).unwrap();
    assert!(say(&mut begun(), &many(65, 1024)).is_err());
    say(&mut begun(), &many(500, 1)).unwrap();
    assert!(say(&mut begun(), &many(520, 1)).is_err());
    let region = region(&[(0xccc5, 0, 0); 100]);
    let too_many = (0..400).map(|_| progressive(std::slice::from_ref(&region))).collect::<Vec<_>>();
    assert!(framed(&mut begun(), &too_many).is_err());
}

#[test]
fn surfaces_and_cache_have_bounds_together() {
    let mut pipeline = begun();
    // 4 Mi pixels in all, of which the first surface has 20,000.
    for surface in 1..4 {
        say(&mut pipeline, &[create(surface, 1024, 1024)]).unwrap();
    }
    assert!(say(&mut pipeline, &[create(4, 1024, 1024)]).is_err());
    say(&mut pipeline, &[GfxPdu::DeleteSurface(DeleteSurfacePdu { surface_id: 1 })]).unwrap();
    say(&mut pipeline, &[create(4, 1024, 1024)]).unwrap();
    // A cache of 16 MiB: four of them.
    let of = |slot| {
        let source_rectangle = rect(0, 0, 1024, 1024);
        GfxPdu::SurfaceToCache(SurfaceToCachePdu {
            surface_id: 4,
            cache_key: 0,
            cache_slot: slot,
            source_rectangle,
        })
    };
    for slot in [1, 2, 3, 4, 4] {
        framed(&mut pipeline, &[of(slot)]).unwrap();
    }
    framed(&mut pipeline, &[GfxPdu::EvictCacheEntry(EvictCacheEntryPdu { cache_slot: 1 }), of(5)]).unwrap();
    assert!(framed(&mut pipeline, &[of(1)]).is_err());

    let mut pipeline = begun();
    for surface in 1..256 {
        say(&mut pipeline, &[create(surface, 1, 1)]).unwrap();
    }
    assert!(say(&mut pipeline, &[create(256, 1, 1)]).is_err(), "however small they are");
}

#[test]
fn lengths_that_lie_are_refused() {
    let good = bytes(&[map(0)]);
    assert!(begun().target(&pack(&good)).is_ok());
    for (at, by) in [(4, 1), (4, 0xff)] {
        let mut bad = good.clone();
        bad[at] = bad[at].wrapping_add(by);
        // What follows would be of the one and not of the other.
        bad.push(0);
        assert!(begun().target(&pack(&bad)).is_err(), "{at}");
    }
    let mut bad = good.clone();
    bad[2] = 1;
    assert!(begun().target(&pack(&bad)).is_err(), "flags");
    let in_frame = |pdu: &[u8]| begun().target(&pack(&[&bytes(&[start(1)]), pdu].concat()));
    let mut bad = bytes(&[fill(0, (0, 0, 0), vec![rect(0, 0, 1, 1)])]);
    assert!(in_frame(&bad).is_ok());
    bad[14] = 2;
    assert!(in_frame(&bad).is_err(), "more rectangles than there are");
    let mut bad = bytes(&[pixels(0, Codec1Type::Planar, rect(0, 0, 1, 1), vec![0; 9])]);
    assert!(in_frame(&bad).is_ok());
    bad[21] = 8;
    assert!(in_frame(&bad).is_err(), "bytes behind the pixels");
}

#[test]
fn what_is_compressed_is_read_with_what_was_before_it_and_no_bomb_goes_off() {
    let mut pipeline = begun();
    let mut compressor = Compressor::new();
    let much = |frame| {
        let fills = vec![fill(0, (1, 2, 3), vec![rect(0, 0, 9, 9); 50]); 400];
        bytes(&[vec![start(frame)], fills, vec![end(frame)]].concat())
    };
    for frame in 1..4 {
        let much = much(frame);
        let packed = compress_and_wrap_egfx(&much, &mut compressor, CompressionMode::Always).unwrap();
        assert!(packed.len() < much.len() / 4 && much.len() > 65_535);
        // What came before, when it was begun, is in the history of the one and not of the other; it is far away.
        assert_eq!(pipeline.target(&packed).unwrap().plain, much);
    }
    let packed = compress_and_wrap_egfx(&much(9), &mut Compressor::new(), CompressionMode::Always).unwrap();
    assert!(begun().target(&packed).is_ok());
    for (at, what) in [(1, "segments"), (3, "total"), (7, "segment's length")] {
        let mut bad = packed.clone();
        bad[at] = bad[at].wrapping_add(1);
        assert!(begun().target(&bad).is_err(), "{what}");
    }
    let mut bad = packed.clone();
    bad[3..7].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(begun().target(&bad).is_err(), "4 GiB");
    assert!(begun().target(&[&[0xe0, 0x04], vec![0; 70_000].as_slice()].concat()).is_err(), "a long segment");
    let bomb = wrap_compressed(&Compressor::new().compress(&vec![0; 3 << 20]).unwrap());
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    assert!(begun().target(&bomb).is_err(), "one that becomes 3 MiB");
    // In pieces of any length it is the same.
    let mut pipeline = begun();
    for piece in packed.chunks(7) {
        pipeline.push(piece).unwrap();
    }
    assert_eq!(pipeline.finish().unwrap().plain, much(9));
    pipeline.push(&packed[..packed.len() - 1]).unwrap();
    assert!(pipeline.finish().is_err(), "an end too early");
    assert!(begun().target(&[]).is_err() && begun().target(&[0xe2, 4]).is_err());
}

#[test]
fn acknowledgements_are_of_the_targets_own_frames() {
    let mut pipeline = begun();
    let ack = |frame_id, total_frames_decoded| {
        let queue_depth = QueueDepth::Unavailable;
        GfxPdu::FrameAcknowledge(FrameAcknowledgePdu { queue_depth, frame_id, total_frames_decoded })
    };
    let qoe = |frame_id| {
        let pdu = QoeFrameAcknowledgePdu { frame_id, timestamp: 1, time_diff_se: 2, time_diff_dr: 3 };
        GfxPdu::QoeFrameAcknowledge(pdu)
    };
    say(&mut pipeline, &[start(1), end(1), start(2), end(2)]).unwrap();
    // What is not a frame of the target's does not reach it.
    assert!(pipeline.person(&bytes(&[ack(7, 1), qoe(7)])).unwrap().is_empty());
    // Two of ours have been at the beginning: a surface that is black, and is placed.
    let ours: Vec<_> = pipeline.frames.iter().copied().collect();
    assert_eq!(ours.len(), 2);
    assert!(pipeline.person(&bytes(&[ack(ours[0], 1), ack(ours[1], 2)])).unwrap().is_empty());
    assert_eq!(pipeline.person(&bytes(&[ack(1, 3)])).unwrap(), bytes(&[ack(1, 1)]));
    assert_eq!(pipeline.silence(), None);
    let area = Area { left: 4, top: 0, width: 8, height: 4 };
    let painted = pipeline.paint(area, &[7; 8 * 4 * 3]);
    let of_ours = pdu::split(&painted).last().and_then(|last| u32_at(last.unwrap().body, 0)).unwrap();
    assert!(pipeline.person(&bytes(&[qoe(of_ours), ack(of_ours, 4)])).unwrap().is_empty());
    assert_eq!(
        pipeline.person(&bytes(&[qoe(2), ack(2, 5)])).unwrap(),
        bytes(&[qoe(2), ack(2, 3)]),
        "ours came later"
    );
    say(&mut pipeline, &[start(3), end(3)]).unwrap();
    assert_eq!(pipeline.person(&bytes(&[ack(3, 6)])).unwrap(), bytes(&[ack(3, 3)]), "and is not counted");
    // A client that says no more says so once, of whatever frame comes first.
    let queue_depth = QueueDepth::Suspend;
    let suspend = |frame_id| {
        GfxPdu::FrameAcknowledge(FrameAcknowledgePdu { queue_depth, frame_id, total_frames_decoded: 1 })
    };
    assert!(pipeline.person(&bytes(&[suspend(of_ours)])).unwrap().is_empty());
    assert_eq!((pipeline.silence(), pipeline.silence()), (Some(bytes(&[suspend(3)])), None));
    // When the target closes the channel, nothing is left at the client.
    framed(&mut pipeline, &[keep(7, rect(0, 0, 1, 1))]).unwrap();
    let gone = pipeline.forget();
    let kinds: Vec<_> = pdu::split(&gone).map(|pdu| pdu.unwrap().kind).collect();
    assert_eq!(kinds, [10, 11, 4, 12, 10, 8], "words of ours, what was to be seen, what was there");
    // What it kept of other sessions is not offered, and it draws nothing itself.
    let offer = GfxPdu::CacheImportOffer(CacheImportOfferPdu { cache_entries: Vec::new() });
    assert!(pipeline.person(&bytes(&[offer])).unwrap().is_empty());
    assert!(pipeline.person(&bytes(&[map(0)])).is_err());
    assert!(pipeline.person(&[1]).is_err());
}

fn framed_bytes(pipeline: &mut Pipeline, pdu: &[u8]) -> Result<Drawn, Broken> {
    let frame = u32::try_from(pipeline.serial).unwrap() + 1;
    pipeline.target(&pack(&[&bytes(&[start(frame)]), pdu, &bytes(&[end(frame)])].concat()))
}

fn tap() -> Tap {
    Tap::new(Start { width: 200, height: 100, io_channel: 1003 }).unwrap()
}

fn pixel(tap: &Tap, x: usize, y: usize) -> [u8; 3] {
    let at = (y * usize::from(tap.image().size().0) + x) * 4;
    tap.image().rgbx()[at..at + 3].try_into().unwrap()
}

#[test]
fn words_stand_on_a_surface_of_their_own_and_leave_the_targets_as_they_are() {
    let mut pipeline = begun();
    let mut client = tap();
    let show = |client: &mut Tap, plain: Vec<u8>| {
        assert!(!plain.is_empty());
        client.draw(&ScreenPdu::Pipeline(plain.into())).unwrap();
        assert_eq!(client.faults(), 0);
    };
    let [set, ..] = offered();
    let all = [confirm(&set), reset(200, 100), create(0, 200, 100), map(0)];
    show(&mut client, bytes(&all));
    let blue = fill(0, (0, 0, 200), vec![rect(0, 0, 200, 100)]);
    show(&mut client, bytes(&[start(1), blue, end(1)]));
    let area = Area { left: 4, top: 0, width: 8, height: 4 };
    let red = [200, 0, 0].repeat(32);
    show(&mut client, pipeline.paint(area, &red));
    assert_eq!([pixel(&client, 4, 0), pixel(&client, 11, 3)], [[200, 0, 0]; 2]);
    assert_eq!([pixel(&client, 3, 0), pixel(&client, 12, 3)], [[0, 0, 200]; 2]);
    // Again, on the same surface: it is not made anew.
    let again = pipeline.paint(area, &red);
    assert!(again.len() < 200 && pdu::split(&again).all(|pdu| pdu.unwrap().kind != pdu::CREATE_SURFACE));
    // The target's copy of that place does not have them.
    show(&mut client, bytes(&[start(2), copy(rect(4, 0, 12, 4), &[(50, 50)]), end(2)]));
    assert_eq!(pixel(&client, 52, 51), [0, 0, 200]);
    show(&mut client, pipeline.paint(area, &[0, 0, 200].repeat(32)));
    show(&mut client, pipeline.clear());
    assert_eq!(pixel(&client, 4, 0), [0, 0, 200]);
    assert!(pipeline.clear().is_empty());
    // While a frame of the target is open they come with it, and a reset takes them away.
    say(&mut pipeline, &[start(9)]).unwrap();
    let painted = pipeline.paint(area, &red);
    assert!(pdu::split(&painted).all(|pdu| !matches!(pdu.unwrap().kind, pdu::START_FRAME | pdu::END_FRAME)));
    let drawn = say(&mut pipeline, &[end(9), reset(200, 100), create(0, 200, 100)]).unwrap();
    assert_eq!(drawn.ours, own::delete(0xfff0));
    // The target may not use its number meanwhile.
    pipeline.paint(area, &red);
    assert!(say(&mut pipeline, &[create(0xfff0, 9, 9)]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_whatever_goes_on_the_recording_can_read(
        messages in prop::collection::vec((0u16..0x1a, prop::collection::vec(any::<u8>(), 0..60)), 0..12),
    ) {
        let (mut pipeline, mut tap) = (begun(), tap());
        let [set, ..] = offered();
        let first = bytes(&[confirm(&set), reset(200, 100), create(0, 200, 100), map(0)]);
        tap.draw(&ScreenPdu::Pipeline(first.into())).unwrap();
        for (kind, body) in messages {
            drop(pipeline.person(&pdu::encode(kind, &body)));
            drop(Pipeline::begun().target(&body));
            if let Ok(drawn) = framed_bytes(&mut pipeline, &pdu::encode(kind, &body)) {
                let mut rest = drawn.plain.as_slice();
                while !rest.is_empty() {
                    let mut src = ironrdp_core::ReadCursor::new(rest);
                    prop_assert!(ironrdp_core::decode_cursor::<GfxPdu>(&mut src).is_ok());
                    rest = &rest[rest.len() - src.len()..];
                }
                if tap.draw(&ScreenPdu::Pipeline(drawn.plain.into())).is_err() {
                    break;
                }
            }
        }
    }
}
