//! Every parser of untrusted bytes, as a function of bytes alone. Not part of the interface.

use std::hint::black_box;

use crate::{
    crypt::{Opener, Sealer},
    export, header,
    keys::{Key, KeyFile},
    segment::{Footer, HEAD_LEN, Head},
    sign::VerifyingKey,
    verify::verify_source,
    wire::{decode, next_raw},
    writer,
};

/// The preamble of a recording.
pub fn fuzz_header(bytes: &[u8]) {
    black_box(header::decode(bytes).is_ok());
}

/// A segment's head and the footer.
pub fn fuzz_segment(bytes: &[u8]) {
    black_box(Head::parse(bytes, 0).is_ok());
    black_box(Footer::parse(bytes));
}

/// The plain text of a segment.
pub fn fuzz_events(bytes: &[u8]) {
    let source = bytes::Bytes::copy_from_slice(bytes);
    let mut rest: &[u8] = &source;
    while let Ok(Some(raw)) = next_raw(&mut rest) {
        black_box(decode(&raw, &source, None).is_ok());
    }
}

/// A body whose encryption was passed: the first bytes are the head, the rest is compressed.
pub fn fuzz_body(bytes: &[u8]) {
    let Some((head, body)) = bytes.split_at_checked(HEAD_LEN) else { return };
    let Some(mut head) = head.get(4..).and_then(Head::parse_core) else { return };
    head.flags &= !crate::segment::ENCRYPTED;
    let Ok(key) = Key::generate() else { return };
    let Some(sealer) = Sealer::new(&key, [0; 32]) else { return };
    let Ok(mut opener) = Opener::new(sealer) else { return };
    black_box(opener.open(&head, &mut body.to_vec(), 0).is_ok());
}

/// A key file.
pub fn fuzz_keys(bytes: &[u8]) {
    black_box(KeyFile::parse(bytes).is_ok());
}

/// The index of a recording.
pub fn fuzz_index(bytes: &[u8]) {
    black_box(writer::parse_index(bytes));
}

/// The manifest of a recording in an object store.
pub fn fuzz_manifest(bytes: &[u8]) {
    crate::remote::fuzz_manifest(bytes);
}

/// A journal.
pub fn fuzz_journal(bytes: &[u8]) {
    black_box(writer::fuzz_journal(bytes));
}

/// An evidence bundle.
pub fn fuzz_bundle(bytes: &[u8]) {
    black_box(export::fuzz_bundle(bytes, &VerifyingKey([0; 32])));
}

/// Terminal output, as it is rendered for search.
pub fn fuzz_render(bytes: &[u8]) {
    let mut screen = crate::render::Screen::new(80, 24);
    screen.feed(bytes);
    black_box(screen.lines());
}

/// A whole file, as the verifier reads it.
pub fn fuzz_verify(bytes: &[u8]) {
    black_box(verify_source(&bytes, &VerifyingKey([0; 32]), &[]).is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_parser_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for parser in [fuzz_header, fuzz_segment, fuzz_events, fuzz_body, fuzz_keys, fuzz_index, fuzz_journal, fuzz_bundle, fuzz_render, fuzz_verify] {
                parser(&bytes);
            }
        }

        #[test]
        fn no_parser_panics_behind_a_right_start(bytes in prop::collection::vec(any::<u8>(), 0..300), len in 0u32..400) {
            let preamble = [b"COFFREC\0\x01\0\0\0".as_slice(), &len.to_le_bytes(), &bytes].concat();
            fuzz_header(&preamble);
            fuzz_verify(&preamble);
            let segment = [b"CSEG".as_slice(), &bytes].concat();
            fuzz_segment(&segment);
            fuzz_body(&segment);
            fuzz_journal(&[b"CJRN".as_slice(), &len.to_le_bytes(), &bytes].concat());
        }
    }
}
