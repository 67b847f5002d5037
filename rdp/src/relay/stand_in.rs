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
    share,
    wire::{Form, Pdu, put, u16_at},
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
        Ok(Pdu { bytes: translate(pdu.form, pdu.bytes, opening::IO, find)?, ..pdu })
    }

    /// A PDU for the person.
    pub(super) fn to_person(&self, bytes: Bytes) -> Result<Bytes, Broken> {
        let form = if bytes.first() == Some(&3) { Form::Tpkt } else { Form::FastPath };
        let io = self.0.iter().find(|(person, _)| *person == opening::IO).map(|(_, target)| *target);
        translate(form, bytes, io.unwrap_or_default(), |id| {
            self.0.iter().find(|(_, target)| *target == id).map(|(person, _)| *person)
        })
    }
}

/// `io` is the desktop's own channel, as the sender has it.
fn translate(form: Form, bytes: Bytes, io: u16, find: impl Fn(u16) -> Option<u16>) -> Result<Bytes, Broken> {
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
    translate_share(&mut out, io, &find);
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

/// Identifiers in a share PDU: who sent it, whom it synchronises with, and who is given control (MS-RDPBCGR 2.2.8.1.1.1.1,
/// 2.2.1.14.1, 2.2.1.15.1). One that nobody has a name for, as the server's, is the same on both sides.
fn translate_share(pdu: &mut [u8], io: u16, find: impl Fn(u16) -> Option<u16>) {
    const SYNCHRONIZE: u8 = 0x1f;
    const CONTROL: u8 = 0x14;
    let Some(kind @ (mcs::REQUEST | mcs::INDICATION)) = mcs::kind(pdu) else { return };
    let Ok(Data { payload, channel, .. }) = mcs::data(pdu, kind) else { return };
    if channel != io || !share::is_share(payload) {
        return;
    }
    let Ok(shares) = share::split(payload) else { return };
    let mut places = Vec::new();
    let mut at = pdu.len() - payload.len();
    for share in shares {
        places.push(at + 4);
        let data = (share.kind == share::DATA).then(|| share.data().ok()).flatten();
        if data.is_some_and(|data| matches!(data.kind, SYNCHRONIZE | CONTROL)) {
            places.push(at + share::DATA_HEAD + 2);
        }
        at += share.bytes.len();
    }
    for place in places {
        if let Some(id) = u16_at(pdu, place).and_then(&find) {
            put(pdu, place, &id.to_le_bytes());
        }
    }
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
    fn identifiers_in_share_pdus_are_each_sides_own_too() {
        let share = |source: u16, kind: u8, user: u16| {
            let body = [[4, 0], user.to_le_bytes(), [0xea, 3], [0, 0]].concat();
            share::encode_data(share::ShareData { share_id: 7, source, kind, body: &body }).unwrap()
        };
        let sent = |kind, initiator, payload: &[u8]| {
            mcs::encode(kind, Data { initiator, channel: 1003, payload }).unwrap()
        };
        // Synchronize, Control, and a pointer, whose body holds no identifier.
        for (kind, translated) in [(0x1f, 1100), (0x14, 1100), (0x1b, 1007)] {
            let heard = ids().to_person(sent(mcs::INDICATION, mcs::SERVER, &share(mcs::SERVER, kind, 1007)));
            assert_eq!(
                heard.unwrap(),
                sent(mcs::INDICATION, mcs::SERVER, &share(mcs::SERVER, kind, translated))
            );
        }
        let elsewhere = |channel| {
            let payload = share(mcs::SERVER, 0x1f, 1007);
            mcs::encode(mcs::INDICATION, Data { initiator: mcs::SERVER, channel, payload: &payload }).unwrap()
        };
        assert_eq!(ids().to_person(elsewhere(1004)).unwrap(), elsewhere(1005), "another channel's contents");
        let said = Pdu { form: Form::Tpkt, bytes: sent(mcs::REQUEST, 1100, &share(1100, 0x1f, mcs::SERVER)) };
        let onward = ids().to_target(said).unwrap().bytes;
        assert_eq!(onward, sent(mcs::REQUEST, 1007, &share(1007, 0x1f, mcs::SERVER)));
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
