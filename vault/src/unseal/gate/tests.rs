use super::*;
use crate::keyring_store::FileKeyring;
use crate::seal::Context;
use crate::secret::SecretBytes;
use crate::unseal::split;
use crate::{Entropy, SystemEntropy};

const MINUTE: i64 = 60_000_000;

struct Site {
    gate: Gate,
    root: Root,
    shares: Vec<Share>,
    dir: tempfile::TempDir,
}

/// A vault whose root is in three hands, two of which open it within ten minutes.
fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::generate(&SystemEntropy).unwrap();
    let store = FileKeyring::new(dir.path().join("keyring"));
    store.replace(None, &Sealer::new_keyring(&root, &SystemEntropy, 1).unwrap()).unwrap();
    let shares = split(&root, 2, 3, &SystemEntropy).unwrap();
    Site { gate: gate_at(&dir), root, shares, dir }
}

fn gate_at(dir: &tempfile::TempDir) -> Gate {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    Gate::new(Sealer::sealed(entropy), Arc::new(FileKeyring::new(dir.path().join("keyring"))), 600)
}

impl Site {
    fn give(&self, share: usize, by: &str, now: i64) -> Result<Phase, GateError> {
        self.gate.contribute(&self.shares[share].to_code(), by, now)
    }
    fn seals(&self) -> bool {
        self.gate.sealer().seal(&Context::account("a"), &SecretBytes::from(b"x".to_vec())).is_ok()
    }
}

#[test]
fn two_of_three_people_open_it_and_the_audit_log_gets_their_names() {
    let site = site();
    let Phase::Waiting(progress) = site.give(2, "olga", 0).unwrap() else { panic!("not waiting") };
    assert_eq!((progress.needed, progress.expires), (2, 10 * MINUTE));
    assert_eq!(progress.given, [(3, "olga".to_owned())]);
    assert!(!site.seals());
    let phase = site.give(0, "sam", MINUTE).unwrap();
    assert_eq!(phase, Phase::Open { since: MINUTE, people: vec!["olga".into(), "sam".into()] });
    assert!(site.seals());
    let (events, lost) = site.gate.take_events();
    assert_eq!(lost, 0);
    let people = vec!["olga".to_owned(), "sam".to_owned()];
    assert_eq!(events.last().unwrap().what, Happened::Opened { people });
    assert_eq!(events.len(), 3);
    assert!(site.gate.take_events().0.is_empty());
}

#[test]
fn one_person_cannot_give_two_shares() {
    let site = site();
    site.give(0, "olga", 0).unwrap();
    let error = site.give(1, "olga", 1).unwrap_err();
    assert!(error.to_string().contains("another person"), "{error}");
    assert!(!site.seals());
    assert!(matches!(site.gate.take_events().0.last().unwrap().what, Happened::Refused { .. }));
}

#[test]
fn a_share_that_waited_too_long_is_dropped_and_so_are_all_when_the_clock_jumps_back() {
    let site = site();
    site.give(0, "olga", 0).unwrap();
    assert_eq!(site.gate.phase(10 * MINUTE), Phase::Sealed);
    assert!(matches!(site.give(1, "sam", 10 * MINUTE), Ok(Phase::Waiting(_))));
    assert_eq!(site.gate.phase(9 * MINUTE), Phase::Sealed);
    assert!(!site.seals());
}

#[test]
fn the_share_of_another_vault_is_refused_before_it_is_kept() {
    let (site, other) = (site(), site());
    let error = site.gate.contribute(&other.shares[0].to_code(), "olga", 0).unwrap_err();
    assert!(error.to_string().contains(&site.root.vault_id().to_string()), "{error}");
    assert_eq!(site.gate.phase(0), Phase::Sealed);
}

#[test]
fn sealing_again_closes_what_was_handed_out_before() {
    let site = site();
    site.gate.open(&site.root, "ada", 0).unwrap();
    let handed_out = site.gate.sealer().clone();
    let row = handed_out.seal(&Context::account("a"), &SecretBytes::from(b"x".to_vec())).unwrap();
    site.gate.seal("ada", 1).unwrap();
    assert!(matches!(handed_out.open(&Context::account("a"), &row), Err(SealError::Sealed)));
    assert_eq!(site.gate.phase(2), Phase::Sealed);
    site.gate.open(&site.root, "ada", 3).unwrap();
    assert!(handed_out.open(&Context::account("a"), &row).is_ok());
}

#[test]
fn an_open_vault_takes_neither_root_nor_shares() {
    let site = site();
    site.gate.open(&site.root, "ada", 0).unwrap();
    let text = site.give(0, "olga", 1).unwrap_err().to_string();
    assert!(text.contains("open already") && text.contains("ada"), "{text}");
    assert!(site.gate.open(&site.root, "ada", 1).is_err());
}

#[test]
fn the_wrong_root_opens_nothing_and_says_whose_it_is() {
    let (site, other) = (site(), site());
    let text = site.gate.open(&other.root, "ada", 0).unwrap_err().to_string();
    assert!(text.contains(&site.root.vault_id().to_string()), "{text}");
    assert!(!site.seals());
}

#[test]
fn rekeying_is_stored_before_it_is_used_and_a_second_node_follows() {
    let site = site();
    let other = gate_at(&site.dir);
    site.gate.open(&site.root, "ada", 0).unwrap();
    other.open(&site.root, "ada", 0).unwrap();
    assert_eq!(site.gate.rekey("ada", 1).unwrap(), 2);
    assert!(matches!(other.rekey("ada", 1), Err(GateError::Store(KeyringStoreError::Changed))));
    assert_eq!(other.refresh().unwrap(), 2);
    assert_eq!(other.rekey("ada", 2).unwrap(), 3);
    site.gate.refresh().unwrap();
    site.gate.retire(1, "ada", 3).unwrap();
    assert!(site.gate.retire(3, "ada", 3).is_err());
}

#[test]
fn after_a_change_of_the_root_only_the_new_one_opens() {
    let site = site();
    site.gate.open(&site.root, "ada", 0).unwrap();
    let row = site.gate.sealer().seal(&Context::account("a"), &SecretBytes::from(b"x".to_vec())).unwrap();
    let next = Root::generate(&SystemEntropy).unwrap();
    site.gate.reroot(&next, "ada", 1).unwrap();
    site.gate.seal("ada", 2).unwrap();
    assert!(site.gate.open(&site.root, "ada", 3).is_err());
    site.gate.open(&next, "ada", 4).unwrap();
    assert!(site.gate.sealer().open(&Context::account("a"), &row).is_ok());
}

#[test]
fn a_vault_that_has_lost_its_keyring_does_not_open_as_if_it_had_never_had_one() {
    let site = site();
    std::fs::remove_file(site.dir.path().join("keyring")).unwrap();
    let gate = gate_at(&site.dir).requiring_keyring();
    let text = gate.open(&site.root, "ada", 0).unwrap_err().to_string();
    assert!(text.contains("restore it"), "{text}");
    assert_eq!(gate.phase(0), Phase::Sealed);
    gate_at(&site.dir).open(&site.root, "ada", 0).unwrap();
}

#[test]
fn names_that_would_forge_a_line_of_the_log_are_refused() {
    let site = site();
    for name in ["", "sam\nopened by olga", &"x".repeat(MAX_NAME_BYTES + 1)] {
        assert!(matches!(site.gate.open(&site.root, name, 0), Err(GateError::Name)));
        assert!(matches!(site.give(0, name, 0), Err(GateError::Name)));
    }
}

#[test]
fn a_flood_of_refused_attempts_is_counted_and_pushes_nothing_out() {
    let site = site();
    site.give(0, "olga", 0).unwrap();
    for _ in 0..MAX_EVENTS + 10 {
        site.gate.contribute(&SecretString::from("hunter2"), "mallory", 1).unwrap_err();
    }
    site.give(1, "sam", 2).unwrap();
    let (events, lost) = site.gate.take_events();
    assert_eq!(events.len(), MAX_EVENTS);
    assert!(lost >= 11, "{lost}");
    assert!(matches!(events[0].what, Happened::ShareGiven { .. }));
    assert!(matches!(events.last().unwrap().what, Happened::Opened { .. }));
    assert!(!format!("{events:?}").contains("hunter2"));
}
