//! A client that has waited at a desktop of our own, and the target's desktop that follows it.

use super::{
    rebuilt::{FONT_MAP, capabilities},
    *,
};
use crate::relay::SHARE;

/// A machine whose client has waited, before the target has said anything about its desktop.
fn waited() -> Machine {
    Machine::waited(open_policy(), account())
}

#[test]
fn the_targets_desktop_follows_the_one_at_which_the_client_waited() {
    let mut machine = waited();
    let (demand, confirm) = capabilities(true, (800, 600));
    let acts = machine.target(&demand).unwrap();
    let said = sent(&acts, Side::Person);
    let shares: Vec<u16> = said
        .iter()
        .map(|pdu| share::split(mcs::data(pdu, mcs::INDICATION).unwrap().payload).unwrap()[0].kind)
        .collect();
    assert_eq!(shares, [share::DEACTIVATE_ALL, share::DEMAND_ACTIVE]);
    let over = mcs::data(&said[0], mcs::INDICATION).unwrap().payload.to_vec();
    assert_eq!(over[6..10], SHARE.to_le_bytes());
    // It is built as one that is built anew: nothing is shown before all of it can be.
    let drawn = fast(&[0, 7, 1, 2, 0, 1, 0]);
    machine.person(&confirm).unwrap();
    assert!(machine.target(&drawn).unwrap().is_empty());
    let acts = machine.target(&from_target(IO, &share_data(FONT_MAP, &[0; 8]))).unwrap();
    assert_eq!(sent(&acts, Side::Target).len(), 1, "all of it is asked for");
    assert_eq!(machine.target(&drawn).unwrap().len(), 2);
    // The next one of this target has a demand alone.
    machine.target(&from_target(IO, &rebuilt::END)).unwrap();
    assert_eq!(sent(&machine.target(&demand).unwrap(), Side::Person).len(), 1);
}

#[test]
fn what_was_done_at_the_desktop_at_which_it_waited_reaches_no_target() {
    let mut machine = waited();
    let late = [
        fast(&KEY_DOWN),
        fast(&[4, 3, 0x62]),
        from_person(IO, &share_data(0x1c, &[1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0x1e, 0, 0, 0])),
        from_person(IO, &share_data(0x21, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 9, 0])),
        from_person(IO, &share_data(0x27, &[0, 0, 0, 0, 3, 0, 50, 0])),
        from_person(IO, &[0x80, 0, 0, 0, 0x15, 3, 4, 0]),
    ];
    let passes = |machine: &mut Machine, pdu: &Pdu| {
        let acts = machine.person(pdu).unwrap_or_default();
        acts.iter().any(|act| matches!(act, Act::Send(..) | Act::Hands(_) | Act::Tell(Event::Key(_))))
    };
    assert!(late.iter().all(|pdu| !passes(&mut machine, pdu)));
    let (demand, confirm) = capabilities(true, (800, 600));
    machine.target(&demand).unwrap();
    assert!(late.iter().all(|pdu| !passes(&mut machine, pdu)));
    machine.person(&confirm).unwrap();
    assert!(passes(&mut machine, &late[4]), "its own font list");
}

#[test]
fn a_licence_is_not_the_clients_business_any_more() {
    let mut machine = waited();
    let valid = [0x80, 0, 0, 0, 0xff, 3, 0x10, 0, 7, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0];
    assert!(machine.target(&from_target(IO, &valid)).unwrap().is_empty());
    let mut refused = valid;
    refused[8] = 2;
    let mut machine = waited();
    let acts = machine.target(&from_target(IO, &refused)).unwrap();
    assert!(matches!(acts[..], [Act::Tell(Event::TargetSays { code: 0x102 })]), "{acts:?}");
    let unknown = [0x80, 0, 0, 0, 2, 3, 4, 0];
    assert!(waited().target(&from_target(IO, &unknown)).is_err());
}

#[test]
fn the_last_words_are_for_the_desktop_that_the_client_has() {
    let machine = waited();
    let words = machine.farewell(1);
    let data = mcs::data(&words[0], mcs::INDICATION).unwrap();
    let said = share::split(data.payload).unwrap()[0].data().unwrap();
    assert_eq!((said.share_id, said.kind, said.body), (SHARE, 0x2f, &[1, 0, 0, 0][..]));
}
