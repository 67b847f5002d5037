//! Whoever changes a recording is found out.

use crate::support::*;
use cofferdam_recorder::*;
use proptest::prelude::*;
use std::sync::OnceLock;

struct Sample {
    bytes: Vec<u8>,
    /// Where each segment starts and ends.
    segments: Vec<(usize, usize)>,
    key: VerifyingKey,
    anchors: Vec<Anchor>,
    world: World,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = World::new();
        runtime.block_on(async {
            let session = world.service().start(header("r1")).await.unwrap();
            for n in 0..12 {
                world.pass(11_000_000);
                let text: String = (0..9000).map(|i| format!("{} ", (i * 7919 + n) % 100_003)).collect();
                session.record(output(&text)).await.unwrap();
                session.record(output(&text)).await.unwrap();
                session.flush().await.unwrap();
            }
            session.finish(End::because("closed")).await.unwrap();
        });
        let bytes = std::fs::read(world.path("r1")).unwrap();
        let mut starts: Vec<usize> =
            bytes.windows(4).enumerate().filter(|(_, w)| w == b"CSEG").map(|(n, _)| n).collect();
        starts.push(bytes.len() - 24);
        let segments = starts.windows(2).map(|w| (w[0], w[1])).collect();
        let (key, anchors) = (world.signer.public_key(), world.anchors());
        Sample { bytes, segments, key, anchors, world }
    })
}

fn found_out(bytes: &[u8]) -> bool {
    let sample = sample();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r1.cofrec");
    std::fs::write(&path, bytes).unwrap();
    let report = verify(&path, &sample.key, &sample.anchors);
    read_all(&path);
    report.is_err() || !report.is_ok_and(|r| r.is_whole())
}

/// Reads everything that a damaged file still gives; it must end, and not panic.
fn read_all(path: &std::path::Path) {
    let world = &sample().world;
    std::fs::copy(world.path("r1").with_extension("cofkeys"), path.with_extension("cofkeys")).unwrap();
    let Ok(mut recording) = Recording::open(path) else { return };
    if recording.unlock(&world.reader).is_ok() {
        let _count = recording.events().unwrap().take(100_000).count();
    }
}

#[test]
fn the_untouched_recording_is_whole() {
    assert!(!found_out(&sample().bytes));
    assert!(sample().segments.len() > 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_anywhere_is_found(place in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = sample().bytes.clone();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(found_out(&bytes));
    }

    #[test]
    fn a_flipped_bit_in_a_head_is_found(segment in any::<prop::sample::Index>(), byte in 0usize..76, bit in 0u8..8) {
        let mut bytes = sample().bytes.clone();
        let (start, _) = *segment.get(&sample().segments);
        bytes[start + byte] ^= 1 << bit;
        prop_assert!(found_out(&bytes));
    }

    #[test]
    fn a_cut_anywhere_is_found(place in any::<prop::sample::Index>()) {
        let bytes = &sample().bytes;
        prop_assert!(found_out(&bytes[..place.index(bytes.len())]));
    }

    #[test]
    fn segments_left_out_doubled_or_swapped_are_found(
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
        how in 0u8..3,
    ) {
        let Sample { bytes, segments, .. } = sample();
        let mut order: Vec<usize> = (0..segments.len()).collect();
        let (a, b) = (a.index(order.len()), b.index(order.len()));
        match how {
            0 => { order.remove(a); }
            1 => order.insert(b, a),
            _ if a == b => return Ok(()),
            _ => order.swap(a, b),
        }
        let mut forged = bytes[..segments[0].0].to_vec();
        for n in order {
            forged.extend_from_slice(&bytes[segments[n].0..segments[n].1]);
        }
        forged.extend_from_slice(&bytes[bytes.len() - 24..]);
        prop_assert!(found_out(&forged));
    }

    #[test]
    fn bytes_put_in_anywhere_are_found(place in any::<prop::sample::Index>(), more in prop::collection::vec(any::<u8>(), 1..200)) {
        let bytes = &sample().bytes;
        let at = place.index(bytes.len() + 1);
        prop_assert!(found_out(&[&bytes[..at], &more, &bytes[at..]].concat()));
    }
}

#[test]
fn the_report_names_the_altered_segment_and_its_time() {
    let Sample { bytes, segments, key, anchors, .. } = sample();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r1.cofrec");
    let mut forged = bytes.clone();
    forged[segments[3].0 + 200] ^= 1;
    std::fs::write(&path, &forged).unwrap();
    let report = verify(&path, key, anchors).unwrap();
    assert!(report.problems.iter().all(|p| p.seq == Some(3)), "{:?}", report.problems);
    let from = report.untrusted_from().unwrap();
    assert!(from > T0 && from < T0 + 12 * 11_000_000);
}

#[test]
fn another_servers_key_proves_nothing() {
    let other = CheckpointSigner::generate().unwrap().public_key();
    let report = verify(&sample().world.path("r1"), &other, &[]).unwrap();
    assert!(report.problems.iter().any(|p| p.kind == ProblemKind::Header));
    assert_eq!(report.signatures, 0);
}

#[test]
fn a_newer_major_version_is_refused_clearly() {
    let mut bytes = sample().bytes.clone();
    bytes[8] = 2;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r1.cofrec");
    std::fs::write(&path, &bytes).unwrap();
    let error = Recording::open(&path).unwrap_err();
    assert!(matches!(error, ReadError::NewerVersion(2)));
    assert!(error.to_string().contains("newer cofferdam"));
}
