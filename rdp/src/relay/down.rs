//! From the target to the person.

use bytes::Bytes;

use super::machine::{Act, Machine, Side};
use crate::{
    channels::{Kind, pipeline::Drawn},
    event::{Direction, Dropped, Event, ScreenPdu},
    mcs::{self, Data},
    rewrite::{
        Broken, capabilities,
        output::{self, Without},
        session_info::{SessionInfo, save_session_info},
    },
    share::{self, Share, ShareData, UPDATE},
    wire::{u16_at, u32_at},
};

/// `PDUTYPE2_POINTER`.
const POINTER: u8 = 0x1b;
/// `PDUTYPE2_REFRESH_RECT`.
const REFRESH_RECT: u8 = 0x21;
/// `PDUTYPE2_SAVE_SESSION_INFO`.
const SAVE_SESSION_INFO: u8 = 0x26;
/// `PDUTYPE2_SET_ERROR_INFO_PDU`.
const SET_ERROR_INFO: u8 = 0x2f;
/// `PDUTYPE2_FONTMAP`.
const FONT_MAP: u8 = 0x28;
/// What a desktop is built of: control, synchronise, font map, monitors; and the reason of an end.
const BUILDING: [u8; 5] = [0x14, 0x1f, FONT_MAP, 0x37, SET_ERROR_INFO];
/// How often a session is told what its target says.
const REASONS: u32 = 16;
/// Data PDUs of the target that pass as they are: control, synchronise, beep, shutdown denied, font map, keyboard lights,
/// input method, status, monitors. Not: the status of a reconnection, and what nobody knows.
const PLAIN: [u8; 9] = [0x14, 0x1f, 0x22, 0x25, 0x28, 0x29, 0x2d, 0x36, 0x37];

/// `SEC_LICENSE_PKT`.
const LICENSE: u16 = 0x80;
/// `SEC_AUTODETECT_REQ` and `SEC_HEARTBEAT`.
const MEASURING: u16 = 0x1000 | 0x4000;

impl Machine {
    pub(super) fn fast_output(&mut self, pdu: &Bytes, acts: &mut Vec<Act>) -> Result<(), Broken> {
        // On a desktop that has not begun, or is being built anew, nothing is to be drawn; pointers and palettes are for later.
        let hidden = !self.desktop.shows();
        let without = match self.dynamic.pipeline() {
            Some(_) => Without::Drawing,
            None if hidden => Without::Pixels,
            None => Without::Nothing,
        };
        let drawn = output::fast_path(pdu, without)?;
        if drawn.beside && !hidden {
            self.dropped(Dropped::BesidePipeline, acts);
        }
        if drawn.orders {
            self.dropped(Dropped::DrawingOrders, acts);
        }
        if drawn.unknown {
            self.dropped(Dropped::UnknownPdu, acts);
        }
        if let Some(bytes) = drawn.pdu {
            self.show(bytes, acts);
        }
        Ok(())
    }

    /// Shows it now, or once the desktop is built anew; on one that never was there is nothing to see.
    fn show(&mut self, bytes: Bytes, acts: &mut Vec<Act>) {
        let shown = [Act::Show(ScreenPdu::Desktop(bytes.clone())), Act::Send(Side::Person, bytes)];
        if self.desktop.shows() {
            acts.extend(shown);
        } else if self.desktop.is_being_rebuilt() && self.desktop.has_begun() {
            self.hold_back(shown, acts);
        }
    }

    pub(super) fn target_data(&mut self, data: Data<'_>, acts: &mut Vec<Act>) -> Result<(), Broken> {
        if data.channel == self.io {
            return self.target_desktop(data, acts);
        }
        if !self.desktop.is_being_rebuilt() {
            return self.target_beside(data, acts);
        }
        let mut held = Vec::new();
        self.target_beside(data, &mut held)?;
        self.hold_back(held, acts);
        Ok(())
    }

    /// What is not the desktop itself.
    fn target_beside(&mut self, data: Data<'_>, acts: &mut Vec<Act>) -> Result<(), Broken> {
        if self.is_message_channel(data.channel) {
            return match u16_at(data.payload, 0) {
                Some(flags) if flags & MEASURING != 0 => {
                    self.send(Side::Person, data.channel, data.payload, acts)
                }
                _ => {
                    self.dropped(Dropped::Multitransport, acts);
                    Ok(())
                }
            };
        }
        match self.kind_of(data.channel) {
            Some(Kind::Dynamic) => {
                let passed = self.dynamic.target(data.payload, &self.policy, self.frozen)?;
                self.heard(passed.unheard, passed.event, acts);
                if let Some(name) = passed.refused {
                    acts.push(Act::Tell(Event::ChannelRefused { name }));
                }
                if let Some(chunk) = passed.answer {
                    self.send(Side::Target, data.channel, &chunk, acts)?;
                }
                if let Some(drawn) = passed.drawn {
                    self.target_drawn(drawn, acts)?;
                }
                passed.forward.iter().try_for_each(|chunk| self.send(Side::Person, data.channel, chunk, acts))
            }
            Some(Kind::Clipboard) => self.clip(Direction::ToPerson, data, acts),
            Some(Kind::Devices) => self.device(Direction::ToPerson, data, acts),
            Some(Kind::Sound) => self.hear(Direction::ToPerson, data, acts),
            _ => {
                self.dropped(Dropped::ChannelData, acts);
                Ok(())
            }
        }
    }

    /// What the target draws by the graphics pipeline, before it goes on.
    fn target_drawn(&mut self, drawn: Drawn, acts: &mut Vec<Act>) -> Result<(), Broken> {
        if !self.desktop.has_begun() {
            return Err(Broken("graphics pipeline before the desktop"));
        }
        if drawn.dropped {
            self.dropped(Dropped::BesidePipeline, acts);
        }
        if let Some(size) = drawn.size {
            Self::check_size(size)?;
            self.desktop.resize(size);
            acts.push(Act::Anew);
        }
        if !drawn.plain.is_empty() {
            acts.push(Act::Show(ScreenPdu::Pipeline(drawn.plain.into())));
        }
        Ok(())
    }

    fn target_desktop(&mut self, data: Data<'_>, acts: &mut Vec<Act>) -> Result<(), Broken> {
        if !self.licensed && is_licence(data.payload) {
            let refused = licence_refused(data.payload);
            if let Some(code) = refused {
                // Who leaves after that has said why.
                self.target_says.get_or_insert(code);
                self.tell(Event::TargetSays { code }, acts);
            }
            let Some(licensing) = &mut self.licensing else {
                return self.send(Side::Person, self.io, data.payload, acts);
            };
            if refused.is_some() {
                // As a client does that gets none.
                acts.push(Act::Left(Side::Target));
                return Ok(());
            }
            return match licensing.hears(data.payload, &self.account.user)? {
                Some(answer) => self.send(Side::Target, self.io, &answer, acts),
                None => Ok(()),
            };
        }
        if !share::is_share(data.payload) {
            // A flow marker, or something of standard RDP security.
            self.dropped(Dropped::UnknownPdu, acts);
            return Ok(());
        }
        // Each goes on in an envelope of its own: what a client reads as two PDUs the tap has to read as two.
        for pdu in share::split(data.payload)? {
            let (mut kept, mut draws) = (Vec::new(), false);
            self.target_share(&pdu, &mut kept, &mut draws, acts)?;
            if kept.is_empty() {
                continue;
            }
            let data = Data { initiator: mcs::SERVER, channel: self.io, payload: &kept };
            let bytes = mcs::encode(mcs::INDICATION, data)?;
            let said = if pdu.kind == share::DATA { Some(pdu.data()?.kind) } else { None };
            let builds = said.is_none_or(|kind| BUILDING.contains(&kind));
            if draws {
                self.show(bytes, acts);
            } else if !builds && self.desktop.is_being_rebuilt() {
                self.hold_back([Act::Send(Side::Person, bytes)], acts);
            } else {
                acts.push(Act::Send(Side::Person, bytes));
            }
            if said == Some(FONT_MAP) {
                self.built(acts)?;
            }
        }
        Ok(())
    }

    /// The client has been told the last of a desktop's beginning.
    fn built(&mut self, acts: &mut Vec<Act>) -> Result<(), Broken> {
        if self.desktop.ready() {
            acts.push(Act::Send(Side::Target, self.refresh()?));
        }
        if !self.desktop.is_being_rebuilt() {
            self.go_on(acts);
            self.let_go(acts)?;
        }
        Ok(())
    }

    fn target_share(
        &mut self,
        pdu: &Share<'_>,
        kept: &mut Vec<u8>,
        draws: &mut bool,
        acts: &mut Vec<Act>,
    ) -> Result<(), Broken> {
        // To a client that waited everything else would be about the desktop that it has.
        let early = self.has_waited() && !self.licensed;
        match pdu.kind {
            share::DEMAND_ACTIVE => {
                let demanded = capabilities::demand_active(pdu.bytes)?;
                Self::check_size(demanded.size)?;
                if early {
                    // The desktop at which the client waits is over.
                    let over = share::deactivate_all(self.desktop.share_id(), mcs::SERVER);
                    self.send(Side::Person, self.io, &over, acts)?;
                }
                self.licensed = true;
                self.desktop.demanded(&demanded)?;
                kept.extend(demanded.pdu);
            }
            share::DEACTIVATE_ALL if !early => {
                self.desktop.end();
                let source = u16_at(pdu.bytes, 4).ok_or(Broken("deactivate all"))?;
                kept.extend(share::deactivate_all(self.desktop.share_id(), source));
            }
            share::DATA if !early || pdu.data()?.kind == SET_ERROR_INFO => {
                return self.target_share_data(pdu, kept, draws, acts);
            }
            // It can carry an account for another machine, which nobody decided on.
            share::SERVER_REDIRECT => return Err(Broken::REDIRECTION),
            _ => self.dropped(Dropped::UnknownPdu, acts),
        }
        Ok(())
    }

    fn target_share_data(
        &mut self,
        pdu: &Share<'_>,
        kept: &mut Vec<u8>,
        draws: &mut bool,
        acts: &mut Vec<Act>,
    ) -> Result<(), Broken> {
        let data = pdu.data()?;
        match data.kind {
            // What would be seen of it is asked for when there is a desktop.
            UPDATE if !self.desktop.shows() && !output::is_palette(data.body) => {}
            UPDATE if self.dynamic.pipeline().is_some() => self.dropped(Dropped::BesidePipeline, acts),
            UPDATE => match output::slow_path(data.body) {
                Some(true) => {
                    *draws = true;
                    kept.extend(pdu.bytes);
                }
                Some(false) => self.dropped(Dropped::DrawingOrders, acts),
                None => return Err(Broken("update")),
            },
            POINTER => {
                *draws = true;
                kept.extend(pdu.bytes);
            }
            SAVE_SESSION_INFO => kept.extend(self.session_info(data, acts)?),
            SET_ERROR_INFO => {
                let code = u32_at(data.body, 0).ok_or(Broken("error info"))?;
                if code != 0 && self.target_says.replace(code) != Some(code) {
                    self.tell(Event::TargetSays { code }, acts);
                }
                kept.extend(pdu.bytes);
            }
            kind if PLAIN.contains(&kind) => kept.extend(pdu.bytes),
            _ => self.dropped(Dropped::UnknownPdu, acts),
        }
        Ok(())
    }

    /// Tells what the target says, so often: whoever says more would fill logs and recording.
    fn tell(&mut self, event: Event, acts: &mut Vec<Act>) {
        if self.reasons < REASONS {
            self.reasons += 1;
            acts.push(Act::Tell(event));
        }
    }

    /// Asks the target to draw all of the desktop again (MS-RDPBCGR 2.2.11.2.1).
    fn refresh(&self) -> Result<Bytes, Broken> {
        let (width, height) = self.desktop.target_size();
        let all = [0, 0, width.saturating_sub(1), height.saturating_sub(1)].map(u16::to_le_bytes).concat();
        let body = [&[1, 0, 0, 0], all.as_slice()].concat();
        self.said(REFRESH_RECT, &body)
    }

    fn session_info(&mut self, data: ShareData<'_>, acts: &mut Vec<Act>) -> Result<Vec<u8>, Broken> {
        let (info, cookie) = save_session_info(data.body)?;
        if cookie {
            self.dropped(Dropped::ReconnectCookie, acts);
        }
        let body = match info {
            SessionInfo::LoggedOn { body } => {
                if !std::mem::replace(&mut self.logged_on, true) {
                    acts.push(Act::Tell(Event::LoggedOn));
                }
                body
            }
            SessionInfo::Error { body, kind, data } => {
                self.tell(Event::LogOnMessage { kind, data }, acts);
                body
            }
            SessionInfo::Nothing => return Ok(Vec::new()),
        };
        share::encode_data(ShareData { body: &body, ..data })
    }
}

/// The reason (`errorInfo`, MS-RDPBCGR 2.2.5.1.1) that an error alert of the licensing amounts to (2.2.1.12.1.3); the alert that
/// no licence is needed is none.
fn licence_refused(payload: &[u8]) -> Option<u32> {
    const ALERT: u8 = 0xff;
    const NO_LICENCE: u32 = 2;
    const NO_SERVER: u32 = 6;
    const VALID: u32 = 7;
    let code = u32_at(payload, 8).filter(|_| payload.get(4) == Some(&ALERT))?;
    match code {
        VALID => None,
        NO_SERVER => Some(0x101),
        NO_LICENCE => Some(0x102),
        _ => Some(0x100),
    }
}

/// Whether the payload is of the licensing (MS-RDPBCGR 2.2.1.12.1): a security header that says so, and a preamble with the
/// size of all that follows. The upper half of the security header's flags may hold anything, and xrdp's looks like that of a
/// share PDU: what a client could read as share PDUs is none.
fn is_licence(payload: &[u8]) -> bool {
    let size = u16_at(payload, 6).map(|size| usize::from(size) + 4);
    u16_at(payload, 0).is_some_and(|flags| flags & LICENSE != 0)
        && size == Some(payload.len())
        && !(share::is_share(payload) && share::split(payload).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As xrdp sends it: the upper half of the flags is not zero.
    const VALID_CLIENT: [u8; 20] =
        [0x80, 0, 0x10, 0, 0xff, 2, 0x10, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0x28, 0x14, 0, 0];

    #[test]
    fn a_licence_is_known_by_its_size_and_no_share_pdu_passes_for_one() {
        assert!(is_licence(&VALID_CLIENT));
        assert!(!is_licence(VALID_CLIENT.get(..19).unwrap()), "its size lies");
        assert_eq!(licence_refused(&VALID_CLIENT), None);
        for (code, reason) in [(2, 0x102), (6, 0x101), (8, 0x100)] {
            let mut refused = VALID_CLIENT;
            refused[8] = code;
            assert_eq!(licence_refused(&refused), Some(reason));
        }
        // A redirection whose length has the bit of a licence, with that size where a licence has it.
        let mut redirection = vec![0; 0x90];
        redirection[..8].copy_from_slice(&[0x90, 0, 0x1a, 0, 0, 0, 0x8c, 0]);
        assert!(!is_licence(&redirection));
        redirection[0] = 0xff;
        assert!(is_licence(&redirection), "no client can read it as one either");
    }
}
