use ironrdp_core::encode_vec;
use ironrdp_egfx::pdu::{
    CacheImportOfferPdu, CacheToSurfacePdu, CapabilitiesAdvertisePdu, CapabilitiesConfirmPdu,
    CapabilitiesV8Flags, CapabilitiesV10Flags, CapabilitiesV81Flags, CapabilitiesV104Flags,
    CapabilitiesV107Flags, CapabilitySet, Codec1Type, Codec2Type, Color, CreateSurfacePdu,
    DeleteEncodingContextPdu, DeleteSurfacePdu, EndFramePdu, EvictCacheEntryPdu, FrameAcknowledgePdu, GfxPdu,
    MapSurfaceToOutputPdu, MapSurfaceToWindowPdu, PixelFormat, Point, QoeFrameAcknowledgePdu, QueueDepth,
    ResetGraphicsPdu, SolidFillPdu, StartFramePdu, SurfaceToCachePdu, SurfaceToSurfacePdu, Timestamp,
    WireToSurface1Pdu, WireToSurface2Pdu,
};
use ironrdp_graphics::zgfx::{CompressionMode, Compressor, compress_and_wrap_egfx};
use ironrdp_pdu::geometry::ExclusiveRectangle;
use proptest::prelude::*;

use super::*;
use crate::{
    event::ScreenPdu,
    tap::{Start, Tap},
};

fn bytes(pdus: &[GfxPdu]) -> Vec<u8> {
    pdus.iter().flat_map(|pdu| encode_vec(pdu).unwrap()).collect()
}

fn rect(left: u16, top: u16, right: u16, bottom: u16) -> ExclusiveRectangle {
    ExclusiveRectangle { left, top, right, bottom }
}

fn reset(width: u32, height: u32) -> GfxPdu {
    GfxPdu::ResetGraphics(ResetGraphicsPdu { width, height, monitors: Vec::new() })
}

fn create(surface_id: u16, width: u16, height: u16) -> GfxPdu {
    GfxPdu::CreateSurface(CreateSurfacePdu { surface_id, width, height, pixel_format: PixelFormat::XRgb })
}

fn map(surface_id: u16) -> GfxPdu {
    GfxPdu::MapSurfaceToOutput(MapSurfaceToOutputPdu { surface_id, output_origin_x: 0, output_origin_y: 0 })
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

#[test]
fn of_what_a_client_offers_no_h264_reaches_the_target_and_it_hears_its_own_words_again() {
    let mut pipeline = Pipeline::new();
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

    for other in [CapabilitySet::V10_1, CapabilitySet::V10 { flags: CapabilitiesV10Flags::AVC_DISABLED }] {
        assert!(say(&mut pipeline, &[confirm(&other)]).is_err(), "not offered: {other:?}");
    }
    assert!(Pipeline::new().person(&advertise(&[CapabilitySet::V10_1])).is_err(), "nothing is left");
}

#[test]
fn a_target_draws_with_what_the_recording_knows_and_all_of_it_is_shown() {
    let mut pipeline = begun();
    let start = StartFramePdu {
        timestamp: Timestamp { milliseconds: 0, seconds: 0, minutes: 0, hours: 0 },
        frame_id: 9,
    };
    let to_self = SurfaceToSurfacePdu {
        source_surface_id: 0,
        destination_surface_id: 0,
        source_rectangle: rect(0, 0, 10, 10),
        destination_points: vec![Point { x: 5, y: 5 }, Point { x: 190, y: 90 }],
    };
    let tiles = WireToSurface2Pdu {
        surface_id: 0,
        codec_id: Codec2Type::RemoteFxProgressive,
        codec_context_id: 1,
        pixel_format: PixelFormat::ARgb,
        bitmap_data: vec![1; 9],
    };
    let all = [
        map(0),
        GfxPdu::StartFrame(start),
        fill(0, (1, 2, 3), vec![rect(0, 0, 200, 100), rect(1, 1, 2, 2)]),
        pixels(0, Codec1Type::Uncompressed, rect(1, 1, 3, 2), vec![9; 8]),
        pixels(0, Codec1Type::ClearCodec, rect(0, 0, 1, 1), vec![0; 5]),
        pixels(0, Codec1Type::Planar, rect(0, 0, 1, 1), Vec::new()),
        pixels(0, Codec1Type::RemoteFx, rect(0, 0, 200, 100), vec![3]),
        pixels(0, Codec1Type::Alpha, rect(0, 0, 1, 1), vec![3]),
        GfxPdu::WireToSurface2(tiles),
        GfxPdu::DeleteEncodingContext(DeleteEncodingContextPdu { surface_id: 0, codec_context_id: 1 }),
        GfxPdu::SurfaceToSurface(to_self),
        keep(4096, rect(0, 0, 8, 8)),
        show_kept(4096),
        GfxPdu::EvictCacheEntry(EvictCacheEntryPdu { cache_slot: 4096 }),
        GfxPdu::EndFrame(EndFramePdu { frame_id: 9 }),
        create(1, 64, 64),
        GfxPdu::DeleteSurface(DeleteSurfacePdu { surface_id: 1 }),
        reset(300, 50),
    ];
    let drawn = say(&mut pipeline, &all).unwrap();
    assert_eq!(drawn.plain, bytes(&all));
    assert_eq!((drawn.size, drawn.dropped), (Some((300, 50)), false));
    assert!(say(&mut pipeline, &[map(0)]).is_err(), "a reset takes all surfaces away");
}

#[test]
fn what_no_recording_would_show_ends_the_session_or_goes_nowhere() {
    let whole = || rect(0, 0, 200, 100);
    let broken = [
        ("h264", pixels(0, Codec1Type::Avc420, whole(), vec![0; 9])),
        ("h264 in full", pixels(0, Codec1Type::Avc444v2, whole(), vec![0; 9])),
        ("beside its surface", pixels(0, Codec1Type::ClearCodec, rect(190, 0, 201, 1), vec![0; 9])),
        ("turned around", pixels(0, Codec1Type::ClearCodec, rect(9, 0, 1, 1), vec![0; 9])),
        ("too few pixels", pixels(0, Codec1Type::Uncompressed, rect(0, 0, 2, 2), vec![0; 12])),
        ("no such surface", pixels(1, Codec1Type::ClearCodec, rect(0, 0, 1, 1), vec![0; 9])),
        ("fill of none", fill(7, (0, 0, 0), vec![whole()])),
        ("map of none", map(3)),
        ("delete of none", GfxPdu::DeleteSurface(DeleteSurfacePdu { surface_id: 3 })),
        ("one that is there", create(0, 10, 10)),
        ("an empty one", create(1, 0, 10)),
        ("a huge one", create(1, 8192, 8192)),
        ("slot 0", keep(0, whole())),
        ("a slot that a small cache has not", keep(4097, whole())),
        ("nothing of a surface", keep(1, rect(3, 3, 3, 9))),
        ("more than a surface has", keep(1, rect(0, 0, 201, 1))),
        ("an empty slot", show_kept(5)),
    ];
    for (what, pdu) in broken {
        assert!(say(&mut begun(), &[pdu]).is_err(), "{what}");
    }
    let window = MapSurfaceToWindowPdu { surface_id: 0, window_id: 1, mapped_width: 1, mapped_height: 1 };
    let drawn = say(&mut begun(), &[GfxPdu::MapSurfaceToWindow(window), map(0)]).unwrap();
    assert!(drawn.dropped);
    assert_eq!(drawn.plain, bytes(&[map(0)]));
    // Before a version is agreed on nothing is drawn.
    let early = say(&mut Pipeline::new(), &[reset(200, 100), create(0, 9, 9)]).unwrap();
    assert_eq!(early, Drawn { dropped: true, ..Drawn::default() });
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
        say(&mut pipeline, &[of(slot)]).unwrap();
    }
    assert!(say(&mut pipeline, &[of(5)]).is_err());
    say(&mut pipeline, &[GfxPdu::EvictCacheEntry(EvictCacheEntryPdu { cache_slot: 1 }), of(5)]).unwrap();

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
    let mut bad = bytes(&[fill(0, (0, 0, 0), vec![rect(0, 0, 1, 1)])]);
    bad[14] = 2;
    assert!(begun().target(&pack(&bad)).is_err(), "more rectangles than there are");
    let mut bad = bytes(&[pixels(0, Codec1Type::ClearCodec, rect(0, 0, 1, 1), vec![0; 9])]);
    bad[21] = 8;
    assert!(begun().target(&pack(&bad)).is_err(), "bytes behind the pixels");
}

#[test]
fn what_is_compressed_is_read_with_what_was_before_it_and_no_bomb_goes_off() {
    let mut pipeline = begun();
    let mut compressor = Compressor::new();
    let much = bytes(&vec![fill(0, (1, 2, 3), vec![rect(0, 0, 9, 9); 50]); 400]);
    for _ in 0..3 {
        let packed = compress_and_wrap_egfx(&much, &mut compressor, CompressionMode::Always).unwrap();
        assert!(packed.len() < much.len() / 4 && much.len() > 65_535);
        // What came before, when it was begun, is in the history of the one and not of the other; it is far away.
        assert_eq!(pipeline.target(&packed).unwrap().plain, much);
    }
    let packed = compress_and_wrap_egfx(&much, &mut compressor, CompressionMode::Always).unwrap();
    for (at, what) in [(1, "segments"), (3, "total"), (7, "segment's length")] {
        let mut bad = packed.clone();
        bad[at] = bad[at].wrapping_add(1);
        assert!(begun().target(&bad).is_err(), "{what}");
    }
    let mut bad = packed;
    bad[3..7].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(begun().target(&bad).is_err(), "4 GiB");
    // A match copies 65,536 bytes and more: 0x12, one literal, then matches of distance 1.
    assert!(begun().target(&[&[0xe0, 0x04], vec![0; 70_000].as_slice()].concat()).is_err(), "a long segment");
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
    assert_eq!(pipeline.person(&bytes(&[ack(1, 1)])).unwrap(), bytes(&[ack(1, 1)]));
    let area = Area { left: 4, top: 0, width: 8, height: 4 };
    let painted = pipeline.paint(area, &[7; 8 * 4 * 3]);
    let of_ours = pdu::split(&painted).unwrap().last().and_then(|last| u32_at(last.body, 0)).unwrap();
    assert!(pipeline.person(&bytes(&[qoe(of_ours), ack(of_ours, 2)])).unwrap().is_empty());
    assert_eq!(
        pipeline.person(&bytes(&[qoe(2), ack(2, 3)])).unwrap(),
        bytes(&[qoe(2), ack(2, 2)]),
        "ours is not counted"
    );
    // What it kept of other sessions is not offered, and it draws nothing itself.
    let offer = GfxPdu::CacheImportOffer(CacheImportOfferPdu { cache_entries: Vec::new() });
    assert!(pipeline.person(&bytes(&[offer])).unwrap().is_empty());
    assert!(pipeline.person(&bytes(&[map(0)])).is_err());
    assert!(pipeline.person(&[1]).is_err());
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
    show(&mut client, bytes(&[blue]));
    let area = Area { left: 4, top: 0, width: 8, height: 4 };
    let red = [200, 0, 0].repeat(32);
    show(&mut client, pipeline.paint(area, &red));
    assert_eq!([pixel(&client, 4, 0), pixel(&client, 11, 3)], [[200, 0, 0]; 2]);
    assert_eq!([pixel(&client, 3, 0), pixel(&client, 12, 3)], [[0, 0, 200]; 2]);
    // Again, on the same surface: it is not made anew.
    let again = pipeline.paint(area, &red);
    assert!(
        again.len() < 200 && pdu::split(&again).unwrap().iter().all(|pdu| pdu.kind != pdu::CREATE_SURFACE)
    );
    // The target's copy of that place does not have them.
    let copy = SurfaceToSurfacePdu {
        source_surface_id: 0,
        destination_surface_id: 0,
        source_rectangle: rect(4, 0, 12, 4),
        destination_points: vec![Point { x: 50, y: 50 }],
    };
    show(&mut client, bytes(&[GfxPdu::SurfaceToSurface(copy)]));
    assert_eq!(pixel(&client, 52, 51), [0, 0, 200]);
    show(&mut client, pipeline.paint(area, &[0, 0, 200].repeat(32)));
    show(&mut client, pipeline.clear());
    assert_eq!(pixel(&client, 4, 0), [0, 0, 200]);
    assert!(pipeline.clear().is_empty());
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
            drop(Pipeline::new().target(&body));
            if let Ok(drawn) = pipeline.target(&pack(&pdu::encode(kind, &body))) {
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
