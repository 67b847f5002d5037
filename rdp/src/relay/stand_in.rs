//! A client that was answered before there was a target ([`crate::opening`]) has said all that belongs to the beginning of a
//! session. This says it again, to the target, and keeps which identifier of the one side is which of the other's.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::{
    mcs::{AttachUserRequest, ChannelJoinRequest, ConnectResponse, ErectDomainPdu, McsMessage},
    x224::{X224, X224Data},
};

use crate::{
    mcs::{self, Data},
    opening::{self, Opened},
    rewrite::Broken,
    wire::{Form, Pdu, put},
};

/// Plays the client until its Client Info is with the target.
#[derive(Debug)]
pub(super) struct StandIn {
    /// What the client says next.
    says: VecDeque<Bytes>,
    channels: usize,
    /// Channels that are still to be joined, as the target calls them.
    joins: VecDeque<u16>,
    info: Bytes,
    io: u16,
    user: u16,
    ids: Ids,
}

impl StandIn {
    /// For a client that began so. Its Client Info holds nothing that was typed any more.
    pub(super) fn new(opened: Opened) -> Self {
        Self {
            says: VecDeque::from([opened.initial]),
            channels: opened.channels,
            joins: VecDeque::new(),
            info: Bytes::copy_from_slice(&opened.info),
            io: 0,
            user: 0,
            ids: Ids::default(),
        }
    }

    /// Whether the client has something to say now.
    pub(super) fn has_more(&self) -> bool {
        !self.says.is_empty()
    }

    /// The next PDU of the client.
    pub(super) fn says(&mut self) -> Option<Pdu> {
        self.says.pop_front().map(|bytes| Pdu { form: Form::Tpkt, bytes })
    }

    /// The identifiers, once everything is said.
    pub(super) fn over(&self) -> Option<&Ids> {
        (self.info.is_empty() && self.says.is_empty()).then_some(&self.ids)
    }

    /// What the target says to the client.
    pub(super) fn hears(&mut self, pdu: &[u8]) -> Result<(), Broken> {
        if self.io == 0 {
            return self.response(pdu);
        }
        match decode::<X224<McsMessage<'_>>>(pdu).map_err(|_| Broken("MCS PDU"))?.0 {
            McsMessage::AttachUserConfirm(confirm) if self.user == 0 => {
                self.user = confirm.initiator_id;
                self.ids.add(opening::USER, self.user);
                self.joins.push_front(self.user);
                self.next()
            }
            McsMessage::ChannelJoinConfirm(_) if self.user != 0 => self.next(),
            _ => Err(Broken("MCS PDU at this point")),
        }
    }

    fn response(&mut self, pdu: &[u8]) -> Result<(), Broken> {
        let broken = |_| Broken("connect response");
        let data = decode::<X224<X224Data<'_>>>(pdu).map_err(broken)?.0.data;
        let response = decode::<ConnectResponse>(&data).map_err(broken)?;
        self.io = response.global_channel_id();
        self.ids.add(opening::IO, self.io);
        let channels = response.channel_ids();
        for (ours, theirs) in opening::channel_ids(self.channels).zip(&channels) {
            self.ids.add(ours, *theirs);
        }
        self.joins.push_back(self.io);
        self.joins.extend(channels);
        self.say(McsMessage::ErectDomainRequest(ErectDomainPdu { sub_height: 0, sub_interval: 0 }))?;
        self.say(McsMessage::AttachUserRequest(AttachUserRequest))
    }

    /// Joins the next channel, or has joined all.
    fn next(&mut self) -> Result<(), Broken> {
        if let Some(channel_id) = self.joins.pop_front() {
            let join = ChannelJoinRequest { initiator_id: self.user, channel_id };
            return self.say(McsMessage::ChannelJoinRequest(join));
        }
        let info = std::mem::take(&mut self.info);
        if info.is_empty() {
            return Err(Broken("MCS PDU at this point"));
        }
        let data = Data { initiator: self.user, channel: self.io, payload: &info };
        self.says.push_back(mcs::encode(mcs::REQUEST, data)?);
        Ok(())
    }

    fn say(&mut self, message: McsMessage<'_>) -> Result<(), Broken> {
        self.says.push_back(encode_vec(&X224(message)).map_err(|_| Broken("MCS PDU"))?.into());
        Ok(())
    }
}

/// The identifiers of user and channels, each as the person's side and as the target's side has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ids(Vec<(u16, u16)>);

/// `ChannelJoinRequest` and `ChannelJoinConfirm` (T.125).
const JOIN: u8 = 14 << 2;
const JOINED: u8 = 15 << 2;
/// Where an identifier of a user stands in an MCS PDU, and from what number it counts there.
const BASE: u16 = 1001;

impl Ids {
    fn add(&mut self, person: u16, target: u16) {
        self.0.push((person, target));
    }

    /// A PDU of the person, for the target. What the person has no name for reaches nothing.
    pub(super) fn to_target(&self, pdu: Pdu) -> Result<Pdu, Broken> {
        let find = |id| self.0.iter().find(|(person, _)| *person == id).map(|(_, target)| *target);
        Ok(Pdu { bytes: translate(pdu.form, pdu.bytes, find)?, ..pdu })
    }

    /// A PDU for the person.
    pub(super) fn to_person(&self, bytes: Bytes) -> Result<Bytes, Broken> {
        let form = if bytes.first() == Some(&3) { Form::Tpkt } else { Form::FastPath };
        translate(form, bytes, |id| {
            self.0.iter().find(|(_, target)| *target == id).map(|(person, _)| *person)
        })
    }
}

fn translate(form: Form, bytes: Bytes, find: impl Fn(u16) -> Option<u16>) -> Result<Bytes, Broken> {
    // Where the user stands, and where the channels.
    let (user, channels): (usize, &[usize]) = match mcs::kind(&bytes).filter(|_| form == Form::Tpkt) {
        Some(mcs::REQUEST | mcs::INDICATION | JOIN) => (8, &[10]),
        Some(JOINED) => (9, &[11, 13]),
        _ => return Ok(bytes),
    };
    let number = |at: usize| {
        let pair = bytes.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(*pair))
    };
    let mut out = BytesMut::from(&bytes[..]);
    let initiator = number(user).and_then(|id| id.checked_add(BASE)).ok_or(Broken("MCS user"))?;
    // The server itself is no user of ours, and is called the same on both sides.
    let initiator = match find(initiator) {
        Some(known) => known,
        None if initiator == mcs::SERVER => initiator,
        None => return Err(Broken("MCS user")),
    };
    put(&mut out, user, &initiator.wrapping_sub(BASE).to_be_bytes());
    for at in channels {
        // A confirmation may leave the last one out.
        let Some(id) = number(*at) else { break };
        put(&mut out, *at, &find(id).ok_or(Broken("MCS channel"))?.to_be_bytes());
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use ironrdp_pdu::mcs::ChannelJoinConfirm;

    use super::*;

    fn ids() -> Ids {
        Ids(vec![(1100, 1007), (1003, 1003), (1004, 1005), (1005, 1004)])
    }

    fn pdu(kind: u8, initiator: u16, channel: u16) -> Bytes {
        mcs::encode(kind, Data { initiator, channel, payload: &[7; 200] }).unwrap()
    }

    #[test]
    fn each_side_hears_its_own_identifiers() {
        let request = Pdu { form: Form::Tpkt, bytes: pdu(mcs::REQUEST, 1100, 1004) };
        assert_eq!(ids().to_target(request).unwrap().bytes, pdu(mcs::REQUEST, 1007, 1005));
        let from_server = pdu(mcs::INDICATION, mcs::SERVER, 1004);
        assert_eq!(ids().to_person(from_server).unwrap(), pdu(mcs::INDICATION, mcs::SERVER, 1005));
        let joined = |initiator_id, channel: u16| -> Bytes {
            let confirm = ChannelJoinConfirm {
                result: 0,
                initiator_id,
                requested_channel_id: channel,
                channel_id: channel,
            };
            encode_vec(&X224(McsMessage::ChannelJoinConfirm(confirm))).unwrap().into()
        };
        assert_eq!(ids().to_person(joined(1007, 1005)).unwrap(), joined(1100, 1004));
        let fast = Bytes::from_static(&[0, 7, 1, 2, 0, 9, 9]);
        assert_eq!(ids().to_person(fast.clone()).unwrap(), fast);
    }

    #[test]
    fn what_only_the_other_side_knows_is_refused() {
        for (user, channel) in [(1007, 1004), (1100, 1007), (1100, 1006)] {
            let request = Pdu { form: Form::Tpkt, bytes: pdu(mcs::REQUEST, user, channel) };
            assert!(ids().to_target(request).is_err(), "{user} {channel}");
        }
        assert!(ids().to_person(pdu(mcs::INDICATION, mcs::SERVER, 1010)).is_err());
        let short =
            Pdu { form: Form::Tpkt, bytes: Bytes::from_static(&[3, 0, 0, 9, 2, 0xf0, 0x80, 0x64, 0]) };
        assert!(ids().to_target(short).is_err());
    }
}
