//! From the person to the target.

use bytes::{BufMut as _, Bytes};

use super::machine::{Act, Machine, Side};
use crate::{
    channels::{self, Kind},
    event::{Activation, Direction, Dropped, Event, Key},
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

/// Most keys that are remembered as held; a keyboard has fewer.
const MAX_HELD: usize = 128;

impl Machine {
    pub(super) fn fast_input(&mut self, pdu: &Bytes, acts: &mut Vec<Act>) -> Result<(), Broken> {
        let events = input::fast_path(pdu)?;
        if self.active && !self.frozen {
            self.input(events, acts);
            acts.push(Act::Send(Side::Target, pdu.clone()));
        }
        Ok(())
    }

    fn input(&mut self, events: Vec<Event>, acts: &mut Vec<Act>) {
        for event in events {
            if let Event::Key(key) = &event {
                if !key.down {
                    self.held.remove(&(key.code, key.extended));
                } else if self.held.len() < MAX_HELD {
                    self.held.insert((key.code, key.extended));
                }
            }
            acts.push(Act::Tell(event));
        }
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
                let forward = &passed.forward;
                forward.iter().try_for_each(|chunk| self.send(Side::Target, data.channel, chunk, acts))?;
                if passed.gave_up {
                    acts.push(Act::Left(Side::Person));
                }
                Ok(())
            }
            Some(Kind::Clipboard) => self.clip(Direction::ToTarget, data, acts),
            Some(Kind::Devices) => self.device(Direction::ToTarget, data, acts),
            Some(Kind::Sound) if !channels::compressed(data.payload) => {
                self.send(Side::Target, data.channel, data.payload, acts)
            }
            _ => {
                self.dropped(Dropped::ChannelData, acts);
                Ok(())
            }
        }
    }

    fn person_desktop(&mut self, data: Data<'_>, acts: &mut Vec<Act>) -> Result<(), Broken> {
        if !self.licensed {
            // Only licences may come before the first Demand Active.
            return match u16_at(data.payload, 0) {
                Some(flags) if flags & LICENSE != 0 => {
                    let asked = licence::of_client(data.payload, &self.account.user)?;
                    self.send(Side::Target, self.io, &asked, acts)
                }
                _ => Err(Broken("PDU of the client before capabilities")),
            };
        }
        let mut kept = Vec::new();
        for pdu in share::split(data.payload)? {
            match pdu.kind {
                share::CONFIRM_ACTIVE => {
                    // What was before it goes first; it is alone in practice.
                    let confirmed = self.confirm(&pdu, acts)?;
                    kept.extend(confirmed);
                }
                share::DATA => {
                    if self.person_share_data(pdu.data()?, acts)? {
                        let at = kept.len();
                        kept.extend(pdu.bytes);
                        // Its source is the user that the target knows.
                        put(&mut kept, at + 4, &self.user.to_le_bytes());
                    }
                }
                _ => self.dropped(Dropped::UnknownPdu, acts),
            }
        }
        if kept.is_empty() { Ok(()) } else { self.send(Side::Target, self.io, &kept, acts) }
    }

    fn confirm(&mut self, pdu: &Share<'_>, acts: &mut Vec<Act>) -> Result<Vec<u8>, Broken> {
        let confirmed = capabilities::confirm_active(pdu.bytes)?;
        Self::check_size(confirmed.size)?;
        self.share_id = confirmed.share_id;
        self.set_active(true);
        self.began = true;
        self.size = confirmed.size;
        acts.push(Act::Tell(Event::Activated(Activation {
            width: confirmed.size.0,
            height: confirmed.size.1,
            io_channel: self.io,
            drdynvc_channel: self.dynamic_channel(),
            user_channel: self.user,
            share_id: confirmed.share_id,
            confirm_active: Bytes::copy_from_slice(&confirmed.pdu),
        })));
        let mut pdu = confirmed.pdu;
        put(&mut pdu, 4, &self.user.to_le_bytes());
        Ok(pdu)
    }

    /// Whether it goes on.
    fn person_share_data(&mut self, data: ShareData<'_>, acts: &mut Vec<Act>) -> Result<bool, Broken> {
        match data.kind {
            INPUT => {
                let events = input::slow_path(data.body)?;
                if self.frozen || !self.active {
                    return Ok(false);
                }
                self.input(events, acts);
                Ok(true)
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

    /// Nothing of the person goes on until [`Machine::thaw`]. Keys that are down are let go at the target: a key that stays
    /// down because its release was held back would go on acting.
    pub(crate) fn freeze(&mut self) -> Result<Vec<Act>, Broken> {
        self.frozen = true;
        let held = std::mem::take(&mut self.held);
        if held.is_empty() || !self.active {
            return Ok(Vec::new());
        }
        let mut acts = Vec::new();
        let mut body = Vec::new();
        body.put_u16_le(u16::try_from(held.len()).unwrap_or(u16::MAX));
        body.put_u16_le(0);
        for (code, extended) in held {
            acts.push(Act::Tell(Event::Key(Key { code, extended, extended1: false, down: false })));
            // A scan code event (MS-RDPBCGR 2.2.8.1.1.3.1.1.1): released after having been down.
            body.put_u32_le(0);
            body.put_u16_le(4);
            body.put_u16_le(0xc000 | if extended { 0x100 } else { 0 });
            body.put_u16_le(code.into());
            body.put_u16_le(0);
        }
        let data = ShareData { share_id: self.share_id, source: self.user, kind: INPUT, body: &body };
        let payload = share::encode_data(data)?;
        acts.push(Act::Send(
            Side::Target,
            mcs::encode(mcs::REQUEST, Data { initiator: self.user, channel: self.io, payload: &payload })?,
        ));
        Ok(acts)
    }

    /// The person's input goes on again.
    pub(crate) fn thaw(&mut self) {
        self.frozen = false;
    }
}
