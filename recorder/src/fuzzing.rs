//! Every parser of untrusted bytes, as a function of bytes alone: what `fuzz/` drives and the tests replay.

use std::hint::black_box;

use bytes::Bytes;

use crate::{
    catalogue,
    crypt::{Opener, Sealer},
    desktop::{DesktopScreen, DesktopStream, Typed},
    event::{Event, TimedEvent},
    export, header,
    header::Header,
    index,
    keys::{Key, KeyFile},
    lines::LineReader,
    segment::{Footer, HEAD_LEN, Head},
    sign::VerifyingKey,
    verify::verify_source,
    wire::{decode, next_raw},
    writer,
};

/// Most events that one input is read as.
const MAX_EVENTS: usize = 2000;

/// The preamble of a recording.
pub fn fuzz_header(bytes: &[u8]) {
    black_box(header::decode(bytes).is_ok());
}

/// A segment's head and the footer.
pub fn fuzz_segment(bytes: &[u8]) {
    black_box(Head::parse(bytes, 0).is_ok());
    black_box(Footer::parse(bytes));
}

/// The plain text of a segment, then all that reads events: the lines for search, and every export.
pub fn fuzz_events(bytes: &[u8]) {
    exports(&events(bytes), None);
}

/// As [`fuzz_events`], with the files that moved written into `folder`, which has to be empty.
pub fn fuzz_files(bytes: &[u8], folder: &std::path::Path) {
    exports(&events(bytes), Some(folder));
    // Whatever the names were, nothing has been written beside the folder or below it.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        assert!(entry.file_type().is_ok_and(|kind| kind.is_file()), "{:?} is no file", entry.path());
    }
}

fn events(bytes: &[u8]) -> Vec<TimedEvent> {
    let source = Bytes::copy_from_slice(bytes);
    let mut rest: &[u8] = &source;
    let mut events = Vec::new();
    let mut at = 1_790_000_000_000_000_u64;
    while let Ok(Some(raw)) = next_raw(&mut rest) {
        at = at.wrapping_add(raw.delta);
        if let Ok(event) = decode(&raw, &source, None) {
            events.push(TimedEvent { at: at.cast_signed(), event });
        }
        if events.len() == MAX_EVENTS {
            break;
        }
    }
    events
}

fn exports(events: &[TimedEvent], folder: Option<&std::path::Path>) {
    let Ok(id) = "fuzz".parse() else { return };
    let text = String::new;
    let header = Header {
        id,
        session: text(),
        protocol: text(),
        user: text(),
        organisation: text(),
        asset: text(),
        zone: text(),
        account: text(),
        node: text(),
        started: 0,
        decision_sha256: text(),
        labels: Default::default(),
    };
    export::fuzzing::exports(&header, events, folder);
    let mut reader = LineReader::default();
    let mut lines = Vec::new();
    for event in events {
        reader.event(event, &mut lines);
    }
    reader.finish(&mut lines);
    black_box(lines);
}

/// The plain text of a segment as a desktop's: picture, what was typed, and the stream for browsers.
pub fn fuzz_desktop(bytes: &[u8]) {
    let (mut screen, stream) = (DesktopScreen::default(), DesktopStream::new(0));
    let (mut typed, mut lines) = (Typed::default(), Vec::new());
    for event in events(bytes) {
        // Small pictures: unpacking a large one says nothing more.
        if matches!(event.event, Event::KeyFrame { width, height, .. } if width > 512 || height > 512) {
            continue;
        }
        if screen.apply(&event.event).is_ok() {
            black_box(stream.event(&event));
        }
        let TimedEvent { at, event } = event;
        let event = match event {
            Event::Input { channel, data, .. } => Event::Input { channel, data, masked: true },
            other => other,
        };
        typed.event(&TimedEvent { at, event }, &mut lines);
    }
    typed.finish(&mut lines);
    black_box((screen.picture_with_pointer().is_ok(), stream.picture(&screen, 0), lines));
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

/// The index in a recording's trailer, and the plain text of the index beside it.
pub fn fuzz_index(bytes: &[u8]) {
    black_box(writer::parse_index(bytes));
    index::fuzz_chunks(bytes);
}

/// A catalogue.
pub fn fuzz_catalogue(bytes: &[u8]) {
    catalogue::fuzz(bytes);
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
    export::fuzzing::bundle(bytes, &VerifyingKey([0; 32]));
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

    type Target = fn(&[u8]);

    /// Every input that is kept in `fuzz/corpus` for a target: what once broke something stays tried.
    #[test]
    fn what_is_kept_for_the_fuzzer_breaks_nothing() {
        let all: [(&str, Target); 13] = [
            ("header", fuzz_header),
            ("segment", fuzz_segment),
            ("events", fuzz_events),
            ("desktop", fuzz_desktop),
            ("body", fuzz_body),
            ("keys", fuzz_keys),
            ("index", fuzz_index),
            ("catalogue", fuzz_catalogue),
            ("manifest", fuzz_manifest),
            ("journal", fuzz_journal),
            ("bundle", fuzz_bundle),
            ("render", fuzz_render),
            ("verify", fuzz_verify),
        ];
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in all {
            let mut seen = 0;
            for entry in std::fs::read_dir(corpus.join(format!("recording_{name}"))).unwrap() {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
                seen += 1;
            }
            assert!(seen > 0, "{name} has no seeds");
        }
        for entry in std::fs::read_dir(corpus.join("recording_files")).unwrap() {
            let folder = tempfile::tempdir().unwrap();
            fuzz_files(&std::fs::read(entry.unwrap().path()).unwrap(), folder.path());
        }
    }

    proptest! {
        #[test]
        fn no_parser_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for parser in [fuzz_header, fuzz_segment, fuzz_events, fuzz_desktop, fuzz_body, fuzz_keys, fuzz_index, fuzz_catalogue, fuzz_manifest, fuzz_journal, fuzz_bundle, fuzz_render, fuzz_verify] {
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
