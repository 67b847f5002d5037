//! Every parser of bytes that others wrote, as a function of bytes alone: what a fuzzer drives and a property test replays.

use std::hint::black_box;

use crate::agent::fuzz_messages;
use crate::envelope::Envelope;
use crate::import::{read_csv, read_hashicorp};
use crate::keyring::{KeyringDocument, Ring};
use crate::root::{ROOT_BYTES, Root};
use crate::seal::{Context, Sealer};
use crate::secret::{SecretBytes, SecretString};
use crate::unseal::{Share, WrappedRoot};

/// The same root each time: what an input finds has to be found again.
fn root() -> Option<Root> {
    Root::from_secret(&[7; ROOT_BYTES]).ok()
}

/// A frame's content, as both ends of the vault process's socket read it.
pub fn fuzz_protocol(bytes: &[u8]) {
    fuzz_messages(bytes);
}

/// A row of the store: a sealed secret.
pub fn fuzz_sealed(bytes: &[u8]) {
    let sealer = root().and_then(|r| Sealer::from_root(&r, std::sync::Arc::new(crate::SystemEntropy)).ok());
    if let Some(sealer) = sealer {
        let context = Context::account("a");
        black_box(sealer.open(&context, bytes).is_ok());
        black_box(sealer.rewrap(&context, bytes).is_ok());
    }
}

/// The keyring's document.
pub fn fuzz_keyring(bytes: &[u8]) {
    if let Some(root) = root() {
        black_box(Ring::open(&root, &KeyringDocument::from_bytes(bytes.to_vec())).is_ok());
    }
}

/// What people type or hand in as text: shares, identities, envelopes, wrapped roots.
pub fn fuzz_texts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    black_box(Envelope::parse(&text).is_ok());
    black_box(WrappedRoot::parse(&text));
    let text = SecretString::new(text);
    black_box(Share::parse(&text).is_ok());
    black_box(Root::from_text(&text).is_ok());
}

/// Files to import, but for KeePass: its key derivation is slow on purpose.
pub fn fuzz_imports(bytes: &[u8]) {
    let content = SecretBytes::new(bytes.to_vec());
    black_box(read_csv(&content).is_ok());
    black_box(read_hashicorp(&content).is_ok());
}

/// What a host answers when it is looked at.
pub fn fuzz_look(bytes: &[u8]) {
    black_box(crate::rotation::read_look(&String::from_utf8_lossy(bytes)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), head in 0u8..3) {
            // Bytes as they are, and behind what gets them past the first check.
            for bytes in [bytes.clone(), [&[head], &bytes[..]].concat()] {
                fuzz_protocol(&bytes);
                fuzz_sealed(&bytes);
                fuzz_keyring(&bytes);
                fuzz_texts(&bytes);
                fuzz_imports(&bytes);
                fuzz_look(&bytes);
            }
        }
    }
}
