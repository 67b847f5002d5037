//! The relay: PDU by PDU between a person and a target, each one judged, reported, and only then sent on.
//!
//! One task, one `select!`. Each side is read only while the other side's queue has room, orders are heard even while the
//! watcher or a peer makes us wait, and at the end the person gets what was queued, the reason, and a close.

mod beside;
#[cfg(test)]
mod captured;
mod desktop;
mod down;
mod hands;
mod lane;
mod licensing;
mod lobby;
mod machine;
mod stand_in;
#[cfg(test)]
mod tests;
mod up;
mod words;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
pub(crate) use lobby::{Lobby, SHARE};
pub(crate) use machine::{Act, MAX_PIXELS, Machine, Side};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use self::{
    lane::{Lane, QUEUE},
    stand_in::{Ids, StandIn},
    words::{Due, Words},
};
use crate::{
    back::Target,
    banner::Area,
    channels::ChannelPolicy,
    event::{Ending, Event, Order, Stop, Watch},
    files::Files,
    front::Accepted,
    parting,
    rewrite::Broken,
    wire::{self, WireError},
};

/// How long a screen that takes nothing more leaves the hands free, and what it takes in that time to be only slow: such a one does
/// not hold up the keyboard.
const BLIND: Duration = Duration::from_secs(10);
const SEEING: u64 = 16 * 1024;
/// How long a target may take to come to its desktop for a client that waits at one of ours; others give up by themselves.
const COMING: Duration = Duration::from_secs(30);
/// Time that a side gets to take its last bytes.
const PARTING: Duration = Duration::from_millis(500);

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The person closed it.
    PersonLeft,
    /// The target closed it; with the reason that it gave (MS-RDPBCGR 2.2.5.1.1).
    TargetLeft {
        /// `errorInfo`.
        error_info: Option<u32>,
    },
    /// An order ended it.
    Ended(Ending),
    /// The watcher stopped it.
    Stopped,
    /// The target never came to its desktop, for which a client waited that would have waited for ever.
    NoDesktop,
}

/// Why a session could not go on. Whose fault it is, is in the name.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The person's client broke the protocol; the session was ended.
    #[error("the client broke the protocol: {0}")]
    Client(Broken),
    /// The target broke the protocol; the session was ended.
    #[error("the target broke the protocol: {0}")]
    Target(Broken),
}

/// Brings the two together and stays until one leaves or an order ends it.
///
/// `files` decides on files, where `policy` lets any pass. Every byte toward the target or the person goes on only after
/// `watch` has taken the events in it. Errors of a connection are an end like another; what breaks the protocol is an error.
///
/// `words` stand in a box over the person's desktop as long as they are there: the gateway's own, which the watcher is not shown.
pub async fn relay<A, B, W>(
    person: Accepted<A>,
    target: Target<B>,
    policy: ChannelPolicy,
    files: Box<dyn Files>,
    watch: &mut W,
    orders: watch::Receiver<Order>,
    words: watch::Receiver<Option<Arc<str>>>,
) -> Result<Finished, RelayError>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
    W: Watch,
{
    let mut machine = Machine::new(policy, files, target.account, target.selected, person.requested);
    machine.keyboard = person.keyboard;
    let seated = person.lobby.is_some();
    let mut to_person = person.lobby.map(|lobby| lobby.unsent).unwrap_or_default();
    if seated {
        machine.after_lobby();
    } else if person.early {
        // Access granted: the person was proved, and the target has taken the account.
        to_person.extend_from_slice(&[0; 4]);
    }
    let mut session = Session {
        machine,
        orders,
        person: Lane::of_person(person.leg.stream, person.leg.inbound, to_person),
        target: Lane::of_target(target.leg.stream, target.leg.inbound),
        stand_in: person.opened.map(StandIn::new),
        ids: None,
        left: None,
        words: Words::new(words),
        full: None,
        comes_until: seated.then(|| Instant::now() + COMING),
    };
    let result = session.run(watch).await;
    session.part(&result).await;
    match result {
        Ok(finished) | Err(Halt::Finished(finished)) => Ok(finished),
        Err(Halt::Broken(Side::Person, broken)) => Err(RelayError::Client(broken)),
        Err(Halt::Broken(Side::Target, broken)) => Err(RelayError::Target(broken)),
    }
}

/// What ends the loop.
#[derive(Debug)]
enum Halt {
    Finished(Finished),
    Broken(Side, Broken),
}

struct Session<A, B> {
    machine: Machine,
    orders: watch::Receiver<Order>,
    person: Lane<A>,
    target: Lane<B>,
    /// Speaks for a client that was answered before there was a target, until it has said all of the beginning.
    stand_in: Option<StandIn>,
    /// How the two sides call things in such a session.
    ids: Option<Ids>,
    left: Option<Side>,
    words: Words,
    /// Since when nothing more fits into what waits for the person's client, and how much it had taken then.
    full: Option<(Instant, u64)>,
    /// Until when the target has to have come to its desktop, where somebody waits for it who does not give up.
    comes_until: Option<Instant>,
}

impl<A, B> Session<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(&mut self, watch: &mut impl Watch) -> Result<Finished, Halt> {
        let first = *self.orders.borrow_and_update();
        self.order(first, watch).await?;
        loop {
            self.look(watch).await?;
            self.judge(watch).await?;
            if let Some(side) = self.left {
                return Ok(self.finished(side));
            }
            // Not looked at again before that, if nothing else happens.
            let comes_until = self.comes_until.filter(|_| !self.machine.licensed);
            let blind = self.full.filter(|_| !self.machine.is_blind()).map(|(since, _)| since + BLIND);
            let (person, target) = (&mut self.person, &mut self.target);
            // A side is read while the queues that its PDUs go to have room; answers go back to where they came from.
            let room = person.has_room() && target.has_room();
            let busy = (!person.is_idle(), !target.is_idle());
            let hear = (
                target.has_room_for_hands() && person.has_room_for_answers() && person.inbound.len() < QUEUE,
                room && target.inbound.len() < QUEUE,
            );
            let event = tokio::select! {
                biased;
                changed = self.orders.changed() => Woken::Order(changed.is_ok()),
                result = person.out.drain(), if busy.0 => Woken::Wire(Side::Person, result),
                result = target.out.drain(), if busy.1 => Woken::Wire(Side::Target, result),
                () = sleep_until(blind.unwrap_or_else(Instant::now)), if blind.is_some() => Woken::Nothing,
                () = sleep_until(comes_until.unwrap_or_else(Instant::now)), if comes_until.is_some() => {
                    // Where the person's client takes nothing the target was not listened to.
                    return Ok(if room { Finished::NoDesktop } else { Finished::PersonLeft });
                }
                due = self.words.due(), if person.is_idle() => Woken::Words(due),
                result = wire::fill(&mut person.reader, &mut person.inbound), if hear.0 => Woken::Wire(Side::Person, result),
                result = wire::fill(&mut target.reader, &mut target.inbound), if hear.1 => Woken::Wire(Side::Target, result),
            };
            match event {
                Woken::Order(true) => {
                    let order = *self.orders.borrow_and_update();
                    self.order(order, watch).await?;
                }
                // Who could give orders is gone: nobody watches over this session any more.
                Woken::Order(false) => return Err(Halt::Finished(Finished::Ended(Ending::Fault))),
                Woken::Wire(side, Err(WireError::Malformed(what))) => {
                    return Err(Halt::Broken(side, Broken(what)));
                }
                Woken::Wire(side, Err(_)) => return Ok(self.finished(side)),
                Woken::Wire(_, Ok(())) | Woken::Nothing => {}
                Woken::Words(due) => self.say(due, watch).await?,
            }
        }
    }

    /// Looks whether the person can have seen what their hands do.
    async fn look(&mut self, watch: &mut impl Watch) -> Result<(), Halt> {
        let sees = if self.person.has_room() {
            self.full = None;
            true
        } else {
            let (now, taken) = (Instant::now(), self.person.taken());
            let (since, _) = *self.full.insert(match self.full {
                Some((since, before)) if taken - before < SEEING => (since, before),
                _ => (now, taken),
            });
            now.duration_since(since) < BLIND
        };
        let acts = self.machine.see(sees).map_err(|broken| Halt::Broken(Side::Person, broken))?;
        self.perform(acts, watch).await
    }

    fn finished(&self, side: Side) -> Finished {
        match side {
            Side::Person => Finished::PersonLeft,
            Side::Target => Finished::TargetLeft { error_info: self.machine.target_says() },
        }
    }

    /// Looks at all that has come and may go on.
    async fn judge(&mut self, watch: &mut impl Watch) -> Result<(), Halt> {
        loop {
            let said = self.judge_person(watch).await?;
            let heard = self.judge_target(watch).await?;
            // What the target says has the stand-in say more. Where neither was looked at there is no room, or an order comes first.
            if !(said || heard) || !self.stand_in.as_ref().is_some_and(StandIn::has_more) {
                return Ok(());
            }
        }
    }

    /// An order comes before what has been read and not looked at yet.
    fn has_orders(&self) -> bool {
        self.orders.has_changed().unwrap_or(true)
    }

    /// Whether there was something to look at.
    async fn judge_person(&mut self, watch: &mut impl Watch) -> Result<bool, Halt> {
        let mut said = false;
        while self.left.is_none()
            && !self.has_orders()
            && self.target.has_room_for_hands()
            && self.person.has_room_for_answers()
        {
            let broken = |broken| Halt::Broken(Side::Person, broken);
            let Some(pdu) = self.next_of_person().map_err(broken)? else { break };
            said = true;
            let acts = self.machine.person(&pdu).map_err(broken)?;
            self.perform(acts, watch).await?;
            if let Some(ids) = self.stand_in.as_ref().and_then(StandIn::over) {
                self.ids = Some(ids.clone());
                self.stand_in = None;
            }
        }
        Ok(said)
    }

    /// Whether there was something to look at.
    async fn judge_target(&mut self, watch: &mut impl Watch) -> Result<bool, Halt> {
        let mut heard = false;
        while self.left.is_none()
            && !self.has_orders()
            && self.person.has_room()
            && self.target.has_room()
            && !self.stand_in.as_ref().is_some_and(StandIn::has_more)
        {
            let broken = |broken| Halt::Broken(Side::Target, broken);
            let Some(pdu) = take(&mut self.target.inbound).map_err(broken)? else { break };
            heard = true;
            let acts = self.machine.target(&pdu).map_err(broken)?;
            self.perform(acts, watch).await?;
            // To unpack takes time, and makes nothing to wait for.
            tokio::task::consume_budget().await;
        }
        Ok(heard)
    }

    fn next_of_person(&mut self) -> Result<Option<wire::Pdu>, Broken> {
        match (&mut self.stand_in, &self.ids) {
            (Some(stand_in), _) => Ok(stand_in.says()),
            (None, None) => take(&mut self.person.inbound),
            (None, Some(ids)) => take(&mut self.person.inbound)?.map(|pdu| ids.to_target(pdu)).transpose(),
        }
    }

    fn send_person(&mut self, bytes: Bytes) -> Result<(), Broken> {
        match (&mut self.stand_in, &self.ids) {
            (Some(stand_in), _) => return stand_in.hears(&bytes),
            (None, None) => self.person.queue(&bytes),
            (None, Some(ids)) => self.person.queue(&ids.to_person(bytes)?),
        }
        Ok(())
    }

    async fn perform(&mut self, acts: Vec<Act>, watch: &mut impl Watch) -> Result<(), Halt> {
        for act in acts {
            match act {
                Act::Tell(event) => {
                    let begins = matches!(event, Event::Activated(_));
                    unless_ended(&self.orders, watch.event(event)).await?;
                    if begins {
                        self.words.desktop_begins();
                    }
                }
                Act::Show(pdu) => {
                    unless_ended(&self.orders, watch.screen(pdu)).await?;
                    self.words.drawn_over();
                }
                Act::Anew => self.words.desktop_begins(),
                Act::Send(Side::Person, bytes) => {
                    self.send_person(bytes).map_err(|broken| Halt::Broken(Side::Target, broken))?;
                }
                Act::Send(Side::Target, bytes) => self.target.queue(&bytes),
                Act::Hands(bytes) => self.target.queue_hands(bytes),
                Act::Left(side) => self.left = Some(side),
            }
        }
        Ok(())
    }

    /// Draws what is to be said, and what is below what was said before.
    async fn say(&mut self, due: Due, watch: &mut impl Watch) -> Result<(), Halt> {
        let Some(desktop) = self.machine.canvas() else {
            self.words.later();
            return Ok(());
        };
        if let Due::Other = due
            && let Some(area) = self.words.take_away()
        {
            let below = async { Ok(watch.picture(area).await) };
            if let Some(rgb) = unless_ended(&self.orders, below).await? {
                self.paint(area, &rgb)?;
            }
            let cleared = self.machine.clear();
            self.send_words(cleared)?;
        }
        match self.words.banner(desktop) {
            Some((area, rgb)) => self.paint(area, &rgb),
            None => Ok(()),
        }
    }

    fn paint(&mut self, area: Area, rgb: &[u8]) -> Result<(), Halt> {
        let painted = self.machine.paint(area, rgb);
        self.send_words(painted)
    }

    fn send_words(&mut self, pdus: Result<Vec<Bytes>, Broken>) -> Result<(), Halt> {
        let sent = pdus.and_then(|pdus| pdus.into_iter().try_for_each(|pdu| self.send_person(pdu)));
        sent.map_err(|broken| Halt::Broken(Side::Target, broken))
    }

    async fn order(&mut self, order: Order, watch: &mut impl Watch) -> Result<(), Halt> {
        match order {
            Order::Run => {
                let acts = self.machine.thaw().map_err(|broken| Halt::Broken(Side::Person, broken))?;
                self.perform(acts, watch).await?;
            }
            Order::Freeze => {
                self.take_back();
                let acts = self.machine.freeze().map_err(|broken| Halt::Broken(Side::Person, broken))?;
                self.perform(acts, watch).await?;
            }
            Order::End(ending) => return Err(Halt::Finished(Finished::Ended(ending))),
        }
        Ok(())
    }

    /// What the person's hands did and the target has not taken does not reach it any more.
    fn take_back(&mut self) {
        for pdu in self.target.take_back() {
            self.machine.unsaid(&pdu);
        }
    }

    /// Says good-bye to both and closes. A peer that does not take its last bytes does not keep us.
    async fn part(&mut self, result: &Result<Finished, Halt>) {
        let reason = match result {
            Ok(Finished::PersonLeft) | Err(Halt::Finished(Finished::PersonLeft)) => None,
            Ok(Finished::TargetLeft { error_info })
            | Err(Halt::Finished(Finished::TargetLeft { error_info })) => {
                // The person has seen the target's own reason; one that just closed gave none.
                Some(error_info.unwrap_or(0))
            }
            Ok(Finished::Ended(ending)) | Err(Halt::Finished(Finished::Ended(ending))) => {
                Some(ending.error_info())
            }
            Ok(Finished::NoDesktop) | Err(Halt::Finished(Finished::NoDesktop)) => {
                Some(Ending::Target.error_info())
            }
            Ok(Finished::Stopped) | Err(Halt::Finished(Finished::Stopped) | Halt::Broken(..)) => {
                Some(Ending::Fault.error_info())
            }
        };
        if let Some(reason) = reason {
            let words = match self.stand_in.take() {
                Some(_) => parting::last_words(self.machine.seat(), reason).unwrap_or_default(),
                None => self.machine.farewell(reason),
            };
            for pdu in words {
                if let Err(broken) = self.send_person(pdu) {
                    tracing::debug!(%broken, "a last word had no way to the person");
                }
            }
        }
        // What waits for the person was recorded, and is shown to them. What they wanted of the target comes too late, unless they left
        // themselves.
        let by_themselves =
            matches!(result, Ok(Finished::PersonLeft) | Err(Halt::Finished(Finished::PersonLeft)));
        if !by_themselves {
            self.take_back();
            self.target.forget();
        }
        // What stayed down would go on acting on a desktop that lives on.
        for pdu in self.machine.let_all_go() {
            self.target.queue(&pdu);
        }
        if let Some(pdu) = self.machine.leave() {
            self.target.queue(&pdu);
        }
        let person = timeout(PARTING, self.person.out.close());
        let target = timeout(PARTING, self.target.out.close());
        let (person, target) = tokio::join!(person, target);
        if person.is_err() || target.is_err() {
            tracing::debug!("a side did not take its last bytes in time");
        }
    }
}

enum Woken {
    Order(bool),
    Wire(Side, Result<(), WireError>),
    Words(Due),
    Nothing,
}

fn take(inbound: &mut BytesMut) -> Result<Option<wire::Pdu>, Broken> {
    wire::take(inbound).map_err(|error| match error {
        WireError::Malformed(what) => Broken(what),
        _ => Broken("PDU"),
    })
}

/// Waits for the watcher, but not beyond an order to end.
async fn unless_ended<T>(
    orders: &watch::Receiver<Order>,
    taken: impl Future<Output = Result<T, Stop>>,
) -> Result<T, Halt> {
    // A receiver of its own: the loop still has to see every change.
    let mut ended = orders.clone();
    tokio::select! {
        biased;
        result = taken => result.map_err(|Stop| match *orders.borrow() {
            Order::End(ending) => Halt::Finished(Finished::Ended(ending)),
            _ => Halt::Finished(Finished::Stopped),
        }),
        ending = until_ended(&mut ended) => Err(Halt::Finished(Finished::Ended(ending))),
    }
}

async fn until_ended(orders: &mut watch::Receiver<Order>) -> Ending {
    match orders.wait_for(|order| matches!(order, Order::End(_))).await.as_deref() {
        Ok(Order::End(ending)) => *ending,
        _ => Ending::Fault,
    }
}
