//! Sessions on desktops: the same decision as for a terminal, and what goes with it.

use super::*;
use crate::{fixture::account, site::Desktop};

/// Vera's window names the account on the engineering workstation; `keys` are pinned there.
fn desktop_world(keys: &[&str], operations: &[Operation]) -> Snapshot {
    let mut site = site();
    for asset in site.assets.iter_mut().filter(|a| a.name == name("eng-ws")) {
        let public_keys = keys.iter().map(|k| (*k).to_owned()).collect();
        asset.rdp = Some(Desktop { public_keys, clipboard_to_person: true, ..Desktop::default() });
    }
    let mut request = asked();
    request.accounts = [account("eng@eng-ws")].into();
    request.operations = operations.iter().copied().collect();
    snapshot(site, vec![approved(request, NOON)])
}

#[test]
fn a_desktop_is_decided_like_a_shell_and_needs_a_pinned_key_and_the_right_to_operate() {
    const KEY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let both = [Operation::View, Operation::Operate];
    let asked_for = |world: &Snapshot| {
        let request = AccessRequest { protocol: Protocol::Rdp, ..access("eng-ws", INSIDE) };
        ask(world, &request, INSIDE)
    };
    let Decision::Permit(grant, record) = asked_for(&desktop_world(&[KEY], &both)) else { panic!("refused") };
    assert_eq!((grant.protocol(), grant.dial().port), (Protocol::Rdp, 3389));
    assert_eq!(record.resource.protocol, Protocol::Rdp);
    let desktop = grant.desktop().unwrap();
    assert_eq!(desktop.public_keys, [KEY]);
    assert!(desktop.clipboard_to_person && !desktop.clipboard_to_target);
    let why = asked_for(&desktop_world(&[], &both)).record().to_string();
    assert!(why.contains("no public key of the desktop of eng-ws is trusted"), "{why}");
    let why = asked_for(&desktop_world(&[KEY], &[Operation::View])).record().to_string();
    assert!(why.contains("a desktop cannot be limited to looking"), "{why}");
}
