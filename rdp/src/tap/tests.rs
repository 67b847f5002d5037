//! What the tap makes of PDUs: good ones, and all others.

use ironrdp_core::encode_vec;
use ironrdp_pdu::{
    bitmap::{BitmapData, Compression},
    fast_path::Fragmentation,
    geometry::{ExclusiveRectangle, InclusiveRectangle},
    pointer::{ColorPointerAttribute, Point16},
    rdp::capability_sets::{Bitmap, BitmapDrawingFlags, DemandActive, ServerDemandActive},
    surface_commands::ExtendedBitmapDataPdu,
};
use proptest::prelude::*;

use super::*;

const IO: u16 = 1003;
const UPDATE: u8 = 2;
const SHUTDOWN_DENIED: u8 = 0x25;
/// xrdp 0.9 showing a terminal, on the slow path.
const CAPTURED: [&str; 1] = ["xrdp-32"];

fn tap(width: u16, height: u16) -> Tap {
    let mut tap = Tap::new(Start { width, height, io_channel: IO }).unwrap();
    tap.rest();
    tap
}

fn fast(code: UpdateCode, fragmentation: Fragmentation, data: &[u8]) -> Vec<u8> {
    let update = FastPathUpdatePdu {
        fragmentation,
        update_code: code,
        compression_flags: None,
        compression_type: None,
        data,
    };
    let update = encode_vec(&update).unwrap();
    let mut pdu = encode_vec(&FastPathHeader::new(EncryptionFlags::empty(), update.len())).unwrap();
    pdu.extend(update);
    pdu
}

fn on_channel(channel_id: u16, pdu: ShareControlPdu) -> Vec<u8> {
    let header = ShareControlHeader { share_control_pdu: pdu, pdu_source: 1002, share_id: 0x1_03ea };
    let user_data = encode_vec(&header).unwrap().into();
    let message =
        McsMessage::SendDataIndication(SendDataIndication { initiator_id: 1002, channel_id, user_data });
    encode_vec(&X224(message)).unwrap()
}

/// Share data of a kind (MS-RDPBCGR 2.2.8.1.1.1.2), which the library reads and does not write.
fn slow(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = (18 + data.len() as u16).to_le_bytes();
    let control = [&length[..], &[0x17, 0, 0xea, 3, 0xea, 3, 1, 0]].concat();
    let user_data = [&control[..], &[0, 1], &length, &[kind, 0, 0, 0], data].concat().into();
    let message =
        McsMessage::SendDataIndication(SendDataIndication { initiator_id: 1002, channel_id: IO, user_data });
    encode_vec(&X224(message)).unwrap()
}

/// A square of one colour, 32 bits, as bitmap data.
fn square(x: u16, y: u16, side: u16, [r, g, b]: [u8; 3]) -> Vec<u8> {
    let pixels = [b, g, r, 0].repeat(usize::from(side) * usize::from(side));
    let one = BitmapData {
        rectangle: InclusiveRectangle { left: x, top: y, right: x + side - 1, bottom: y + side - 1 },
        width: side,
        height: side,
        bits_per_pixel: 32,
        compression_flags: Compression::empty(),
        compressed_data_header: None,
        bitmap_data: &pixels,
    };
    encode_vec(&BitmapUpdateData { rectangles: vec![one] }).unwrap()
}

fn pixel(tap: &Tap, x: usize, y: usize) -> [u8; 3] {
    let at = (y * usize::from(tap.image().size().0) + x) * 4;
    tap.image().rgbx()[at..at + 3].try_into().unwrap()
}

fn demand(width: u16, height: u16) -> Vec<u8> {
    let bitmap = Bitmap {
        pref_bits_per_pix: 32,
        desktop_width: width,
        desktop_height: height,
        desktop_resize_flag: true,
        drawing_flags: BitmapDrawingFlags::empty(),
    };
    let pdu = DemandActive {
        source_descriptor: "RDP".into(),
        capability_sets: vec![CapabilitySet::Bitmap(bitmap)],
    };
    on_channel(IO, ShareControlPdu::ServerDemandActive(ServerDemandActive { pdu }))
}

#[test]
fn a_bitmap_is_shown_whole_in_fragments_and_on_the_slow_path() {
    let red = [250, 0, 1];
    let data = square(60, 10, 8, red);
    let whole = vec![fast(UpdateCode::Bitmap, Fragmentation::Single, &data)];
    let (first, rest) = data.split_at(20);
    let (next, last) = rest.split_at(100);
    let pieces = vec![
        fast(UpdateCode::Bitmap, Fragmentation::First, first),
        fast(UpdateCode::Bitmap, Fragmentation::Next, next),
        fast(UpdateCode::Bitmap, Fragmentation::Last, last),
    ];
    for pdus in [whole, pieces, vec![slow(UPDATE, &data)]] {
        let mut tap = tap(200, 100);
        pdus.iter().for_each(|pdu| tap.feed(pdu).unwrap());
        assert_eq!(tap.faults(), 0);
        assert_eq!((pixel(&tap, 60, 10), pixel(&tap, 67, 17), pixel(&tap, 68, 10)), (red, red, [0; 3]));
        assert_eq!(tap.rest().changed, [0, 1]);
    }
}

#[test]
fn surface_bits_without_a_codec_are_shown_and_those_with_one_are_a_fault() {
    for (codec_id, faults) in [(0, 0), (1, 1), (3, 1)] {
        let data = [9, 8, 7, 0].repeat(4);
        let bits = SurfaceBitsPdu {
            destination: ExclusiveRectangle { left: 5, top: 6, right: 7, bottom: 8 },
            extended_bitmap_data: ExtendedBitmapDataPdu {
                bpp: 32,
                codec_id,
                width: 2,
                height: 2,
                header: None,
                data: &data,
            },
        };
        let command = encode_vec(&SurfaceCommand::SetSurfaceBits(bits)).unwrap();
        let mut tap = tap(200, 100);
        tap.feed(&fast(UpdateCode::SurfaceCommands, Fragmentation::Single, &command)).unwrap();
        assert_eq!(tap.faults(), faults);
        assert_eq!(pixel(&tap, 6, 7) == [7, 8, 9], faults == 0);
    }
}

#[test]
fn frames_come_ten_times_a_second_and_only_when_something_changed() {
    let mut tap = Tap::new(Start { width: 200, height: 100, io_channel: IO }).unwrap();
    assert_eq!(tap.frame(0).unwrap().changed.len(), 8, "the first is whole");
    assert!(tap.frame(1_000_000).is_none());
    let feed = |tap: &mut Tap, n: u8| {
        tap.feed(&fast(UpdateCode::Bitmap, Fragmentation::Single, &square(0, 0, 4, [n; 3]))).unwrap();
    };
    feed(&mut tap, 1);
    assert!(tap.frame(1_000_000).is_some());
    feed(&mut tap, 2);
    assert!(tap.frame(1_099_999).is_none());
    assert_eq!(tap.frame(1_100_000).unwrap().changed, [0]);
    feed(&mut tap, 3);
    assert_eq!(tap.rest().changed, [0], "the end does not wait");
}

#[test]
fn another_demand_active_is_a_resize() {
    let mut tap = tap(200, 100);
    tap.feed(&fast(UpdateCode::Bitmap, Fragmentation::Single, &square(0, 0, 4, [9; 3]))).unwrap();
    tap.feed(&demand(200, 100)).unwrap();
    assert_eq!(pixel(&tap, 0, 0), [9; 3], "the same size keeps the picture");
    tap.feed(&demand(320, 240)).unwrap();
    assert_eq!((tap.image().size(), pixel(&tap, 0, 0), tap.faults()), ((320, 240), [0; 3], 0));
    assert_eq!(tap.rest().changed.len(), 20);
    assert_eq!(tap.feed(&demand(9000, 10)), Err(TapError::Size { width: 9000, height: 10 }));
}

#[test]
fn a_pointer_is_told_kept_and_told_again() {
    let color = ColorPointerAttribute {
        cache_index: 3,
        hot_spot: Point16 { x: 1, y: 0 },
        width: 2,
        height: 1,
        xor_mask: &[1, 2, 3, 4, 5, 6],
        and_mask: &[0, 0],
    };
    let mut tap = tap(200, 100);
    tap.feed(&fast(UpdateCode::ColorPointer, Fragmentation::Single, &encode_vec(&color).unwrap())).unwrap();
    tap.feed(&fast(UpdateCode::HiddenPointer, Fragmentation::Single, &[])).unwrap();
    tap.feed(&fast(UpdateCode::CachedPointer, Fragmentation::Single, &[3, 0])).unwrap();
    let changes = tap.take_pointer_changes();
    let PointerChange::Shape(shape) = &changes[0] else { panic!("{changes:?}") };
    assert_eq!((shape.width, shape.height, shape.hot), (2, 1, (1, 0)));
    assert_eq!(shape.rgba, [3, 2, 1, 255, 6, 5, 4, 255]);
    assert_eq!(changes[1..], [PointerChange::Hidden, PointerChange::Shape(shape.clone())]);
    for _ in 0..1000 {
        tap.feed(&fast(UpdateCode::HiddenPointer, Fragmentation::Single, &[])).unwrap();
    }
    assert_eq!(tap.take_pointer_changes().len(), MOST_POINTER_CHANGES);
}

#[test]
fn what_cannot_be_decoded_is_counted_and_too_much_of_it_ends_the_session() {
    let orders = fast(UpdateCode::Orders, Fragmentation::Single, &[1, 0, 9, 9]);
    let mut tap = tap(200, 100);
    tap.feed(&fast(UpdateCode::Orders, Fragmentation::Single, &[0, 0])).unwrap();
    tap.feed(&fast(UpdateCode::Synchronize, Fragmentation::Single, &[])).unwrap();
    assert_eq!(tap.faults(), 0);
    for n in 1..=MOST_FAULTS {
        tap.feed(&orders).unwrap();
        assert_eq!(tap.faults(), n);
    }
    let ended = tap.feed(&orders).unwrap_err();
    assert_eq!(ended, TapError::Undecodable { count: MOST_FAULTS + 1, why: "it holds drawing orders" });
}

#[test]
fn other_channels_are_passed_over_and_other_sorts_of_share_data_change_nothing() {
    let mut tap = tap(200, 100);
    let elsewhere = on_channel(
        1005,
        ShareControlPdu::ServerDemandActive(ServerDemandActive {
            pdu: DemandActive { source_descriptor: String::new(), capability_sets: Vec::new() },
        }),
    );
    tap.feed(&elsewhere).unwrap();
    tap.feed(&slow(SHUTDOWN_DENIED, &[])).unwrap();
    assert_eq!((tap.faults(), tap.frame(0).is_none()), (0, true));
}

/// Good PDUs, one behind the other as [`fuzz_tap`] takes them.
fn session() -> Vec<Vec<u8>> {
    let data = square(60, 10, 8, [1, 2, 3]);
    vec![
        fast(UpdateCode::Bitmap, Fragmentation::Single, &data),
        slow(UPDATE, &data),
        demand(128, 64),
        fast(UpdateCode::Palette, Fragmentation::Single, &[2, 0, 0, 0, 1, 0, 0, 0, 7, 8, 9]),
        fast(UpdateCode::CachedPointer, Fragmentation::Single, &[3, 0]),
    ]
}

fn joined(pdus: &[Vec<u8>]) -> Vec<u8> {
    pdus.iter().flat_map(|pdu| [&(pdu.len() as u16).to_le_bytes()[..], pdu].concat()).collect()
}

#[test]
fn what_is_kept_for_the_fuzzer_breaks_nothing() {
    fuzz_tap(&joined(&session()));
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/rdp_tap");
    let mut seen = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        fuzz_tap(&std::fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen > 0);
}

/// PDUs of a real target, as a relay passed them on behind Font Map (each behind its length of four bytes), and the client's
/// screen at their end.
fn captured(name: &str) -> (Vec<u8>, Vec<u8>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captured");
    let pdus = std::fs::File::open(folder.join(format!("{name}.pdus.zst"))).unwrap();
    let screen = std::fs::File::open(folder.join(format!("{name}.png"))).unwrap();
    let mut decoder = png::Decoder::new(std::io::BufReader::new(screen));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    assert_eq!(reader.next_frame(&mut pixels).unwrap().color_type, png::ColorType::Rgb);
    (zstd::decode_all(pdus).unwrap(), pixels)
}

#[test]
fn the_picture_of_a_real_target_is_the_clients_screen_pixel_by_pixel() {
    for name in CAPTURED {
        let (pdus, screen) = captured(name);
        let mut tap = tap(320, 240);
        let mut rest = pdus.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (pdu, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            tap.feed(pdu).unwrap();
            rest = after;
        }
        assert_eq!(tap.faults(), 0, "{name}");
        let shown: Vec<u8> =
            tap.image().rgbx().as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect();
        let wrong = shown.chunks(3).zip(screen.chunks(3)).filter(|(a, b)| a != b).count();
        assert_eq!(wrong, 0, "{name}: pixels that differ from the client's screen");
        let changes = tap.take_pointer_changes();
        assert!(
            changes.iter().any(|change| matches!(change, PointerChange::Shape(_))),
            "{name}: {changes:?}"
        );
    }
}

/// A bitmap of any kind with any bytes.
fn any_bitmap() -> impl Strategy<Value = Vec<u8>> {
    let size = (0u16..300, 0u16..300, 0u16..300, 0u16..300, 0u16..80, 0u16..80);
    let bits = prop::sample::select(vec![8u16, 15, 16, 24, 32, 4]);
    (size, bits, any::<bool>(), prop::collection::vec(any::<u8>(), 0..600)).prop_map(
        |((left, top, right, bottom, width, height), bits_per_pixel, packed, data)| {
            let flags = Compression::BITMAP_COMPRESSION | Compression::NO_BITMAP_COMPRESSION_HDR;
            let one = BitmapData {
                rectangle: InclusiveRectangle { left, top, right, bottom },
                width,
                height,
                bits_per_pixel,
                compression_flags: if packed { flags } else { Compression::empty() },
                compressed_data_header: None,
                bitmap_data: &data,
            };
            let update = encode_vec(&BitmapUpdateData { rectangles: vec![one] }).unwrap();
            fast(UpdateCode::Bitmap, Fragmentation::Single, &update)
        },
    )
}

proptest! {
    #[test]
    fn no_bytes_make_the_tap_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz_tap(&bytes);
        let mut tap = tap(100, 100);
        for first in [0u8, 3] {
            let mut pdu = bytes.clone();
            pdu.insert(0, first);
            tap.feed(&pdu).ok();
        }
    }

    #[test]
    fn no_bitmap_makes_the_tap_panic(pdus in prop::collection::vec(any_bitmap(), 1..8)) {
        fuzz_tap(&joined(&pdus));
        for pdu in &pdus {
            // Not even inside, where a panic would be caught.
            prop_assert!(tap(200, 100).decode(pdu).is_ok());
        }
    }

    #[test]
    fn no_altered_pdu_makes_the_tap_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for mut pdu in session() {
            for (at, to) in &flips {
                let at = at.index(pdu.len());
                pdu[at] = *to;
            }
            // An error is the size's alone: what cannot be decoded is a fault at most.
            let sized = matches!(tap(200, 100).decode(&pdu), Ok(_) | Err(TapError::Size { .. }));
            prop_assert!(sized);
            pdu.truncate(cut.index(pdu.len()));
            tap(200, 100).feed(&pdu).ok();
        }
    }
}
