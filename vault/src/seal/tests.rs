use proptest::prelude::*;

use super::*;
use crate::SystemEntropy;

fn sealer() -> Sealer {
    Sealer::ephemeral(Arc::new(SystemEntropy))
}

#[test]
fn every_flipped_bit_of_a_sealed_secret_is_refused() {
    let sealer = sealer();
    let context = Context::account("a1");
    let sealed = sealer.seal(&context, &SecretBytes::from(b"hunter2".to_vec())).unwrap();
    for at in 0..sealed.len() {
        // Bit 5 turns letters' case, bit 0 and 7 the rest: the textual part of age is covered too.
        for bit in [0, 5, 7] {
            let mut altered = sealed.clone();
            altered[at] ^= 1 << bit;
            assert!(sealer.open(&context, &altered).is_err(), "byte {at} bit {bit} went unnoticed");
        }
    }
    for length in 0..sealed.len() {
        assert!(sealer.open(&context, &sealed[..length]).is_err(), "cut to {length}");
    }
    let mut longer = sealed;
    longer.push(0);
    assert!(sealer.open(&context, &longer).is_err());
}

#[test]
fn a_row_swapped_with_another_is_refused_and_the_error_names_the_account() {
    let sealer = sealer();
    let sealed = sealer.seal(&Context::account("a1"), &SecretBytes::from(b"hunter2".to_vec())).unwrap();
    for other in [Context::account("a2"), Context::new("totp", "a1"), Context::new("accounta", "1")] {
        let text = sealer.open(&other, &sealed).unwrap_err().to_string();
        assert!(text.contains(&other.to_string()) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn another_identity_does_not_open_it() {
    let context = Context::account("a1");
    let sealed = sealer().seal(&context, &SecretBytes::from(b"x".to_vec())).unwrap();
    assert!(matches!(sealer().open(&context, &sealed), Err(SealError::Refused { .. })));
}

#[test]
fn an_identity_survives_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vault.age");
    let context = Context::account("a1");
    let made = Sealer::create(&path, Arc::new(SystemEntropy)).unwrap();
    let sealed = made.seal(&context, &SecretBytes::from(b"pw".to_vec())).unwrap();
    let loaded = Sealer::load(&path, Arc::new(SystemEntropy)).unwrap();
    assert_eq!(loaded.open(&context, &sealed).unwrap().expose(), b"pw");
    assert_eq!(made.recipient(), loaded.recipient());
    assert!(!format!("{made:?}").contains("SECRET"));
}

#[test]
fn rekeying_seals_with_the_new_generation_and_reads_all_of_them() {
    let sealer = sealer();
    let clone = sealer.clone();
    let context = Context::account("a1");
    let secret = SecretBytes::from(b"hunter2".to_vec());
    let mut rows = vec![sealer.seal(&context, &secret).unwrap()];
    for generation in 1..=3 {
        let next = sealer.rekey(i64::from(generation)).unwrap();
        assert_eq!((next.generation(), sealer.generation().unwrap()), (generation, generation - 1));
        sealer.adopt(next);
        rows.push(clone.seal(&context, &secret).unwrap());
    }
    for (number, row) in (0..).zip(&rows) {
        assert_eq!(Sealer::generation_of(&context, row).unwrap(), number);
        assert_eq!(sealer.open(&context, row).unwrap(), secret);
    }
}

#[test]
fn rewrapping_changes_the_wrap_and_not_one_byte_of_the_ciphertext() {
    let sealer = sealer();
    let context = Context::account("a1");
    let old = sealer.seal(&context, &SecretBytes::from(b"hunter2".to_vec())).unwrap();
    assert_eq!(old[0], PLAIN, "a vault without a keyring writes the first form");
    assert!(sealer.rewrap(&context, &old).unwrap().is_none());
    sealer.adopt(sealer.rekey(1).unwrap());
    let new = sealer.rewrap(&context, &old).unwrap().unwrap();
    assert_eq!(Parts::of(&context, &new).unwrap().rest, Parts::of(&context, &old).unwrap().rest);
    assert_eq!(Sealer::generation_of(&context, &new).unwrap(), 1);
    assert!(sealer.rewrap(&context, &new).unwrap().is_none());
    sealer.adopt(sealer.retire(0).unwrap());
    assert_eq!(sealer.open(&context, &new).unwrap().expose(), b"hunter2");
    let error = sealer.open(&context, &old).unwrap_err();
    assert!(matches!(error, SealError::UnknownGeneration { generation: 0, .. }));
}

#[test]
fn a_vault_without_a_keyring_gets_one_and_its_root_can_then_be_exchanged() {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let (first, second) = (Root::generate(&SystemEntropy).unwrap(), Root::generate(&SystemEntropy).unwrap());
    let context = Context::account("a1");
    let sealer = Sealer::from_root(&first, entropy.clone()).unwrap();
    let row = sealer.seal(&context, &SecretBytes::from(b"hunter2".to_vec())).unwrap();
    let next = sealer.rekey(1).unwrap();
    let document = next.document().clone();
    sealer.adopt(next);
    let opened = Sealer::open_keyring(&first, &document, entropy.clone()).unwrap();
    assert_eq!(opened.open(&context, &row).unwrap().expose(), b"hunter2");

    let moved = opened.reroot(&second).unwrap().document().clone();
    assert!(Sealer::open_keyring(&first, &moved, entropy.clone()).is_err());
    let opened = Sealer::open_keyring(&second, &moved, entropy).unwrap();
    assert_eq!(opened.open(&context, &row).unwrap().expose(), b"hunter2");
}

#[test]
fn a_node_reads_the_keyring_that_another_one_renewed() {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let root = Root::generate(&SystemEntropy).unwrap();
    let document = Sealer::new_keyring(&root, &SystemEntropy, 1).unwrap();
    let here = Sealer::open_keyring(&root, &document, entropy.clone()).unwrap();
    let there = Sealer::open_keyring(&root, &document, entropy).unwrap();
    let next = there.rekey(2).unwrap();
    let renewed = next.document().clone();
    there.adopt(next);
    let context = Context::account("a1");
    let row = there.seal(&context, &SecretBytes::from(b"x".to_vec())).unwrap();
    assert!(matches!(here.open(&context, &row), Err(SealError::UnknownGeneration { generation: 2, .. })));
    assert_eq!(here.refresh(&renewed).unwrap(), 2);
    assert_eq!(here.open(&context, &row).unwrap().expose(), b"x");
    assert!(matches!(here.refresh(&document), Err(SealError::Keyring(KeyringError::Stale(2)))));
}

#[test]
fn a_sealed_vault_says_what_next_and_keeps_no_key_in_any_clone() {
    let sealer = Sealer::sealed(Arc::new(SystemEntropy));
    let (clone, context) = (sealer.clone(), Context::account("a1"));
    let text = clone.seal(&context, &SecretBytes::from(b"x".to_vec())).unwrap_err().to_string();
    assert!(text.starts_with("the vault is sealed:") && text.contains("vault unseal"), "{text}");
    let root = Root::generate(&SystemEntropy).unwrap();
    sealer.unlock(&root, None).unwrap();
    let row = clone.seal(&context, &SecretBytes::from(b"x".to_vec())).unwrap();
    let ring = Arc::downgrade(&clone.ring().unwrap());
    let next = clone.rekey(1).unwrap();
    sealer.lock();
    assert!(ring.upgrade().is_none(), "somebody still holds the keys");
    assert!(matches!(clone.open(&context, &row), Err(SealError::Sealed)));
    clone.adopt(next);
    assert!(matches!(clone.open(&context, &row), Err(SealError::Sealed)));
}

#[test]
fn a_newer_form_is_named_as_such() {
    let error = sealer().open(&Context::account("a1"), &[9, 0, 0]).unwrap_err();
    assert!(matches!(error, SealError::Version { version: 9, .. }));
}

#[test]
fn an_endless_secret_is_not_sealed() {
    let error = sealer().seal(&Context::account("a"), &SecretBytes::from(vec![0; MAX_SECRET_BYTES + 1]));
    assert!(matches!(error, Err(SealError::TooLong { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_sealed_opens_to_the_same_bytes(secret in proptest::collection::vec(any::<u8>(), 0..2000), id in ".{0,40}") {
        let sealer = sealer();
        let context = Context::account(id);
        let sealed = sealer.seal(&context, &SecretBytes::new(secret.clone())).unwrap();
        let opened = sealer.open(&context, &sealed).unwrap();
        prop_assert_eq!(opened.expose(), secret.as_slice());
    }

    #[test]
    fn no_bytes_whatever_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for version in [PLAIN, NUMBERED] {
            let framed = [&[version][..], &bytes].concat();
            prop_assert!(sealer().open(&Context::account("a"), &framed).is_err());
        }
    }

    #[test]
    fn a_flipped_byte_of_a_row_is_refused_and_the_row_is_named(
        secret in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), mask in 1u8..,
        rekeyed in any::<bool>(),
    ) {
        let sealer = sealer();
        if rekeyed {
            sealer.adopt(sealer.rekey(1).unwrap());
        }
        let context = Context::account("pump-hmi/root");
        let mut sealed = sealer.seal(&context, &SecretBytes::new(secret)).unwrap();
        let at = at.index(sealed.len());
        sealed[at] ^= mask;
        let text = sealer.open(&context, &sealed).unwrap_err().to_string();
        prop_assert!(text.contains("account pump-hmi/root"), "{}", text);
    }
}
