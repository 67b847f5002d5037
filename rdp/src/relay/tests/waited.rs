//! A client that has waited at a desktop of our own, and the target's desktop that follows it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::{
    io::{DuplexStream, duplex},
    sync::watch,
    time::{Duration, Instant},
};

use super::{
    super::captured::{XFREERDP, of},
    rebuilt::{FONT_MAP, capabilities},
    *,
};
use crate::{
    event::{Ending, Order, Stop, Watch},
    opening::Opened,
    relay::{COMING, Finished, Halt, Lane, SHARE, Session, StandIn, Words},
};

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
        from_person(SOUND, &chunk(&[7, 0, 0, 0])),
        from_person(MESSAGES, &[0, 0x20, 0, 0, 6, 1, 0, 0]),
        fast(&KEY_DOWN),
        fast(&[4, 3, 0x62]),
        from_person(IO, &share_data(0x1c, &[1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0x1e, 0, 0, 0])),
        from_person(IO, &share_data(0x21, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 9, 0])),
        from_person(IO, &share_data(0x27, &[0, 0, 0, 0, 3, 0, 50, 0])),
    ];
    let licence = from_person(IO, &[0x80, 0, 0, 0, 0x15, 3, 4, 0]);
    for pdu in late.iter().chain([&licence]) {
        assert!(machine.person(pdu).unwrap().is_empty(), "{pdu:?}");
    }
    let (demand, confirm) = capabilities(true, (800, 600));
    machine.target(&demand).unwrap();
    for pdu in &late {
        assert!(machine.person(pdu).unwrap().is_empty(), "{pdu:?}");
    }
    machine.person(&confirm).unwrap();
    let font_list = late.last().unwrap();
    assert_eq!(sent(&machine.person(font_list).unwrap(), Side::Target).len(), 1, "its own font list");
    let acts = machine.target(&from_target(IO, &share_data(FONT_MAP, &[0; 8]))).unwrap();
    assert_eq!(sent(&acts, Side::Target).len(), 1, "the desktop is asked for, and nothing else comes late");
}

#[test]
fn who_closes_the_window_is_let_go_while_it_waits() {
    let mut machine = Machine::waited(open_policy(), account());
    let shutdown = from_person(IO, &share_data(0x24, &[]));
    assert!(matches!(machine.person(&shutdown).unwrap()[..], [Act::Left(Side::Person)]));
    machine.target(&capabilities(true, (800, 600)).0).unwrap();
    assert!(matches!(machine.person(&shutdown).unwrap()[..], [Act::Left(Side::Person)]));
}

#[test]
fn nothing_of_a_target_is_shown_before_its_desktop_nor_passes_for_the_one_before() {
    let mut machine = waited();
    // A pointer, a palette, and what belongs to a desktop's beginning and end.
    for pdu in [
        fast(&[0, 5, 5, 0, 0]),
        from_target(IO, &share_data(0x1b, &[1, 0, 0, 0, 0, 0, 0, 0])),
        from_target(IO, &share_data(FONT_MAP, &[0; 8])),
        from_target(IO, &share_data(0x1f, &[1, 0, 0xea, 3])),
        from_target(IO, &rebuilt::END),
    ] {
        let acts = machine.target(&pdu).unwrap();
        assert!(acts.iter().all(|act| matches!(act, Act::Tell(Event::Dropped(_)))), "{acts:?}");
    }
    let why = from_target(IO, &share_data(0x2f, &[5, 0, 0, 0]));
    assert_eq!(sent(&machine.target(&why).unwrap(), Side::Person).len(), 1, "why it ends");
    let left = Pdu { form: Form::Tpkt, bytes: Bytes::from_static(&[3, 0, 0, 9, 2, 0xf0, 0x80, 0x21, 0x80]) };
    assert!(matches!(machine.target(&left).unwrap()[..], [Act::Left(Side::Target)]));
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
    assert!(
        matches!(acts[..], [Act::Tell(Event::TargetSays { code: 0x102 }), Act::Left(Side::Target)]),
        "{acts:?}"
    );
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

/// Takes everything.
struct Anything;

#[async_trait]
impl Watch for Anything {
    async fn event(&mut self, _: Event) -> Result<(), Stop> {
        Ok(())
    }
    async fn screen(&mut self, _: ScreenPdu) -> Result<(), Stop> {
        Ok(())
    }
    async fn picture(&mut self, _: Area) -> Option<Vec<u8>> {
        None
    }
}

/// A session whose client waited, to whom so much is unsent, at its beginning.
fn begins(
    person: DuplexStream,
    unsent: BytesMut,
    target: DuplexStream,
    orders: watch::Receiver<Order>,
    words: watch::Receiver<Option<Arc<str>>>,
) -> Session<DuplexStream, DuplexStream> {
    let mut machine = Machine::new(open_policy(), Box::new(crate::NoFiles), account(), PROTOCOL, PROTOCOL);
    machine.after_lobby();
    let asked = of(XFREERDP, true);
    let info = asked.iter().rev().find(|pdu| pdu.len() == 393).unwrap();
    let opened = Opened {
        initial: asked[0].clone(),
        channels: 4,
        info: mcs::data(info, mcs::REQUEST).unwrap().payload.to_vec().into(),
    };
    Session {
        machine,
        orders,
        person: Lane::of_person(person, BytesMut::new(), unsent),
        target: Lane::of_target(target, BytesMut::new()),
        stand_in: Some(StandIn::new(opened)),
        ids: None,
        left: None,
        words: Words::new(words),
        full: None,
        comes_until: Some(Instant::now() + COMING),
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_holds_no_order_up() {
    let ((near, _client), (far, _target)) = (duplex(1024), duplex(1024));
    let (order, orders) = watch::channel(Order::Run);
    let (_say, said) = watch::channel(None);
    let mut session = begins(near, BytesMut::zeroed(700 * 1024), far, orders, said);
    let ends = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        order.send_replace(Order::End(Ending::Administrator));
    };
    let mut anything = Anything;
    let (ended, ()) = tokio::join!(session.run(&mut anything), ends);
    assert!(matches!(ended, Err(Halt::Finished(Finished::Ended(Ending::Administrator)))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_comes_to_a_desktop_is_given_up() {
    let ((near, _client), (far, _target)) = (duplex(1024), duplex(1024));
    let (_order, orders) = watch::channel(Order::Run);
    let (_say, said) = watch::channel(None);
    let begun = Instant::now();
    let ended = begins(near, BytesMut::new(), far, orders, said).run(&mut Anything).await;
    assert!(matches!(ended, Ok(Finished::NoDesktop)), "{ended:?}");
    assert_eq!(begun.elapsed(), COMING);
}
