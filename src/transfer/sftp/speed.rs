//! How fast contents pass. Run by hand: `cargo test --release sftp::speed -- --ignored --nocapture`.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::transfer::testing::open_rules;

const WRITE_SIZE: usize = 32 << 10;
const TOTAL: usize = 1 << 30;

#[test]
#[ignore = "a measurement"]
fn contents_pass_nearly_as_fast_as_they_can_be_hashed() {
    let mut inspector = SftpInspector::new(open_rules());
    let mut out = Vec::new();
    inspector.from_person(Bytes::from_static(&[0, 0, 0, 5, 1, 0, 0, 0, 3]), &mut out);
    inspector.from_target(Bytes::from_static(&[0, 0, 0, 5, 2, 0, 0, 0, 3]), &mut out);
    let open = b"\x00\x00\x00\x13\x03\0\0\0\x01\0\0\0\x02/a\0\0\0\x1a\0\0\0\0";
    inspector.from_person(Bytes::from_static(open), &mut out);
    inspector.from_target(Bytes::from_static(b"\0\0\0\x0d\x66\0\0\0\x01\0\0\0\x04\0\0\0\0"), &mut out);
    // Chunks of the size that SSH channels carry, not aligned with the packets.
    let mut stream = BytesMut::with_capacity(TOTAL + TOTAL / 512);
    let mut answers = Vec::new();
    for i in 0..TOTAL / WRITE_SIZE {
        stream.put_u32(25 + WRITE_SIZE as u32);
        stream.put_u8(6);
        stream.put_u32(2 + i as u32);
        stream.put_slice(&[0, 0, 0, 4, 0, 0, 0, 0]);
        stream.put_u64((i * WRITE_SIZE) as u64);
        stream.put_u32(WRITE_SIZE as u32);
        stream.put_bytes(0xa5, WRITE_SIZE);
        answers.push(wire::status(2 + i as u32, 0, ""));
    }
    let mut stream = stream.freeze();
    let bare = Instant::now();
    crate::transfer::testing::sha(&stream).unwrap();
    let bare = bare.elapsed().as_secs_f64();
    out.clear();
    let start = Instant::now();
    let mut answers = answers.into_iter();
    let (mut steps, mut answered) = (0usize, 0usize);
    while !stream.is_empty() {
        let chunk = stream.split_to(stream.len().min(32_000));
        inspector.from_person(chunk, &mut out);
        // One answer behind every packet that has passed.
        if steps * 32_000 > (answered + 2) * (WRITE_SIZE + 29)
            && let Some(answer) = answers.next()
        {
            inspector.from_target(answer, &mut out);
            answered += 1;
        }
        steps += 1;
        assert!(!out.iter().any(|step| matches!(step, Step::End { .. })));
        out.clear();
    }
    let seconds = start.elapsed().as_secs_f64();
    let speed = |seconds| TOTAL as f64 / seconds / 1e9;
    eprintln!("{:.2} GB/s, SHA-256 alone {:.2} GB/s, {steps} chunks", speed(seconds), speed(bare));
}
