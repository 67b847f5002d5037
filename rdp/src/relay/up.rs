//! From the person to the target.

use bytes::Bytes;

use super::{
    hands,
    lobby::SHUTDOWN_REQUEST,
    machine::{Act, Machine, Side},
};
use crate::{
    channels::Kind,
    event::{Activation, Direction, Dropped, Event},
    mcs::{self, Data},
    rewrite::{Broken, capabilities, input, licence},
    share::{self, Share, ShareData},
    wire::{put, u16_at},
};

/// `PDUTYPE2_INPUT`.
const INPUT: u8 = 0x1c;
/// `PDUTYPE2_SUPPRESS_OUTPUT`.
const SUPPRESS_OUTPUT: u8 = 0x23;
/// Data PDUs of the client that pass as they are: control, synchronise, refresh, shutdown request, font list, frame
/// acknowledgement. Not: lists of cached bitmaps, and what nobody knows.
const PLAIN: [u8; 6] = [0x14, 0x1f, 0x21, 0x24, 0x27, 0x38];

/// `SEC_LICENSE_PKT`.
const LICENSE: u16 = 0x80;
/// `SEC_AUTODETECT_RSP`.
const AUTODETECT_RESPONSE: u16 = 0x2000;

impl Machine {
    pub(super) fn fast_input(&mut self, pdu: &Bytes, acts: &mut Vec<Act>) -> Result<(), Broken> {
        let events = input::fast_path(pdu)?;
        if self.input(events, acts) {
            acts.push(Act::Hands(pdu.clone()));
        }
        Ok(())
    }

    /// Whether it goes on: where the person can see what it does. What says only which keys are locked, some clients say before.
    fn input(&mut self, events: Vec<Event>, acts: &mut Vec<Act>) -> bool {
        let locks = events.iter().all(|event| matches!(event, Event::Locks(_)));
        let passes = !self.frozen && !self.is_blind() && (self.shows() || locks && self.desktop.is_active());
        for event in events {
            if passes {
                self.hands.act(&event);
                acts.push(Act::Tell(event));
            } else if !self.is_still_waiting() {
                self.hands.miss(&event);
            }
        }
        passes
    }

    /// A PDU of the person's hands was told, and is not sent any more.
    pub(crate) fn unsaid(&mut self, pdu: &[u8]) {
        let read = || -> Result<Vec<Event>, Broken> {
            if mcs::kind(pdu).is_none() {
                return input::fast_path(pdu);
            }
            let mut events = Vec::new();
            for pdu in share::split(mcs::data(pdu, mcs::REQUEST)?.payload)? {
                events.extend(input::slow_path(pdu.data()?.body)?);
            }
            Ok(events)
        };
        // It was read once.
        read().unwrap_or_default().iter().for_each(|event| self.hands.unsaid(event));
    }

    pub(super) fn person_data(&mut self, data: Data<'_>, acts: &mut Vec<Act>) -> Result<(), Broken> {
        // The browser's client answers licences and channels in the name of who asked, which is the server. What goes on is in the
        // client's own name.
        if data.initiator != self.user && data.initiator != mcs::SERVER {
            return Err(Broken("MCS user of the client"));
        }
        if data.channel == self.io {
            return self.person_desktop(data, acts);
        }
        if self.is_still_waiting() {
            return Ok(());
        }
        if self.is_message_channel(data.channel) {
            // Measurements of the network pass; answers about UDP do not.
            match u16_at(data.payload, 0) {
                Some(flags) if flags & AUTODETECT_RESPONSE != 0 => {
                    return self.send(Side::Target, data.channel, data.payload, acts);
                }
                _ => self.dropped(Dropped::Multitransport, acts),
            }
            return Ok(());
        }
        match self.kind_of(data.channel) {
            Some(Kind::Dynamic) => {
                let passed = self.dynamic.person(data.payload, self.frozen)?;
                self.heard(passed.unheard, passed.event, acts);
                let forward = &passed.forward;
                forward.iter().try_for_each(|chunk| self.send(Side::Target, data.channel, chunk, acts))?;
                if passed.gave_up {
                    acts.push(Act::Left(Side::Person));
                }
                Ok(())
            }
            Some(Kind::Clipboard) => self.clip(Direction::ToTarget, data, acts),
            Some(Kind::Devices) => self.device(Direction::ToTarget, data, acts),
            Some(Kind::Sound) => self.hear(Direction::ToTarget, data, acts),
            _ => {
                self.dropped(Dropped::ChannelData, acts);
                Ok(())
            }
        }
    }

    fn person_desktop(&mut self, data: Data<'_>, acts: &mut Vec<Act>) -> Result<(), Broken> {
        let waits = self.is_still_waiting();
        if waits && !share::is_share(data.payload) {
            return Ok(());
        }
        if !self.licensed && !waits {
            // Only licences may come before the first Demand Active.
            return match u16_at(data.payload, 0) {
                Some(flags) if flags & LICENSE != 0 => {
                    let asked = licence::of_client(data.payload, &self.account.user)?;
                    self.send(Side::Target, self.io, &asked, acts)
                }
                _ => Err(Broken("PDU of the client before capabilities")),
            };
        }
        // Each goes on in an envelope of its own; several are rare.
        for pdu in share::split(data.payload)? {
            match pdu.kind {
                share::CONFIRM_ACTIVE => {
                    let confirmed = self.confirm(&pdu, acts)?;
                    self.send(Side::Target, self.io, &confirmed, acts)?;
                    self.let_go(acts)?;
                }
                // That is still about the desktop at which the client waited: only its good-bye counts.
                share::DATA if waits => {
                    if pdu.data()?.kind == SHUTDOWN_REQUEST {
                        acts.push(Act::Left(Side::Person));
                    }
                }
                share::DATA => {
                    let said = pdu.data()?;
                    if !self.person_share_data(said, acts)? {
                        continue;
                    }
                    let mut kept = pdu.bytes.to_vec();
                    // Its source is the user that the target knows.
                    put(&mut kept, 4, &self.user.to_le_bytes());
                    if said.kind == INPUT {
                        let data = Data { initiator: self.user, channel: self.io, payload: &kept };
                        acts.push(Act::Hands(mcs::encode(mcs::REQUEST, data)?));
                    } else {
                        self.send(Side::Target, self.io, &kept, acts)?;
                    }
                }
                _ => self.dropped(Dropped::UnknownPdu, acts),
            }
        }
        Ok(())
    }

    fn confirm(&mut self, pdu: &Share<'_>, acts: &mut Vec<Act>) -> Result<Vec<u8>, Broken> {
        let confirmed = capabilities::confirm_active(pdu.bytes)?;
        Self::check_size(confirmed.size)?;
        if let Some((width, height)) = self.desktop.confirmed(&confirmed)? {
            Self::check_size((width, height))?;
            acts.push(Act::Tell(Event::Activated(Activation {
                width,
                height,
                io_channel: self.io,
                drdynvc_channel: self.dynamic_channel(),
                user_channel: self.user,
                share_id: confirmed.share_id,
                confirm_active: Bytes::copy_from_slice(&confirmed.pdu),
            })));
        }
        let mut pdu = confirmed.pdu;
        put(&mut pdu, 4, &self.user.to_le_bytes());
        Ok(pdu)
    }

    /// Whether it goes on.
    fn person_share_data(&mut self, data: ShareData<'_>, acts: &mut Vec<Act>) -> Result<bool, Broken> {
        match data.kind {
            INPUT => {
                let events = input::slow_path(data.body)?;
                Ok(self.input(events, acts))
            }
            // A hidden window would leave the recording without pictures of what goes on.
            SUPPRESS_OUTPUT if data.body.first() != Some(&1) => {
                self.dropped(Dropped::SuppressOutput, acts);
                Ok(false)
            }
            SUPPRESS_OUTPUT => Ok(true),
            kind if PLAIN.contains(&kind) => Ok(true),
            // Lists of what a client has kept on its disk: there is no cache.
            0x2b => Ok(false),
            _ => {
                self.dropped(Dropped::UnknownPdu, acts);
                Ok(false)
            }
        }
    }

    /// Nothing of the person goes on until [`Machine::thaw`], and everything that is down at the target is let go.
    pub(crate) fn freeze(&mut self) -> Result<Vec<Act>, Broken> {
        self.frozen = true;
        self.hands.let_go();
        let mut acts = Vec::new();
        self.let_go(&mut acts)?;
        Ok(acts)
    }

    /// Tells the target what is to be let go, as soon as it has a desktop.
    pub(super) fn let_go(&mut self, acts: &mut Vec<Act>) -> Result<(), Broken> {
        if !self.shows() {
            return Ok(());
        }
        let due = self.hands.due(!self.frozen);
        acts.extend(due.iter().cloned().map(Act::Tell));
        let pdus = self.releases(&due)?;
        acts.extend(pdus.into_iter().map(|pdu| Act::Send(Side::Target, pdu)));
        Ok(())
    }

    /// PDUs that let go of everything, at the end: also where nothing is shown at the moment.
    pub(crate) fn let_all_go(&mut self) -> Vec<Bytes> {
        self.hands.let_go();
        let due = self.hands.due(!self.frozen);
        if self.desktop.is_active() { self.releases(&due).unwrap_or_default() } else { Vec::new() }
    }

    fn releases(&self, due: &[Event]) -> Result<Vec<Bytes>, Broken> {
        hands::bodies(due).iter().map(|body| self.said(INPUT, body)).collect()
    }

    /// The person's input goes on again.
    pub(crate) fn thaw(&mut self) -> Result<Vec<Act>, Broken> {
        self.frozen = false;
        let mut acts = Vec::new();
        self.let_go(&mut acts)?;
        Ok(acts)
    }
}
