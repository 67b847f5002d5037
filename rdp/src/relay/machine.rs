//! The relay without its sockets: a PDU in, events and PDUs out.

use std::collections::HashSet;

use bytes::Bytes;
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::{
    mcs::{DisconnectReason, McsMessage},
    nego::SecurityProtocol,
    x224::X224,
};

use super::{desktop::Desktop, hands::Hands, licensing::Licensing, lobby};
use crate::{
    back::BackConfig,
    banner::{self, Area},
    channels::{ChannelPolicy, Kind, clipboard::Clipboard, devices::Devices, dynamic::Dynamic, sound::Sound},
    event::{Direction, Dropped, Event, ScreenPdu},
    files::Files,
    mcs::{self, Data},
    parting,
    rewrite::{Broken, connect},
    share::{self, ShareData, UPDATE},
    wire::{Form, Pdu},
};

/// Most pixels of a desktop: two screens of 4K.
pub(crate) const MAX_PIXELS: u32 = 2 * 3840 * 2160;

/// Most bytes that are kept while a desktop is built anew.
const LATER: usize = 256 * 1024;

/// Which side a PDU goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Person,
    Target,
}

impl From<Direction> for Side {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::ToTarget => Self::Target,
            Direction::ToPerson => Self::Person,
        }
    }
}

/// One thing to do, in order.
#[derive(Debug)]
pub(crate) enum Act {
    /// Tell the watcher.
    Tell(Event),
    /// Show the watcher what the person is about to see.
    Show(ScreenPdu),
    /// The desktop begins anew: what we drew over it is gone.
    Anew,
    /// Send.
    Send(Side, Bytes),
    /// Send to the target what the person's hands do, unless an order comes before it.
    Hands(Bytes),
    /// That side said good-bye; everything before it has been sent on.
    Left(Side),
}

/// How far the connection is (MS-RDPBCGR 1.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The person's Connect Initial comes next.
    Initial,
    /// The target's Connect Response comes next.
    Response,
    /// Users and channels are joined, until the Client Info comes.
    Joining,
    /// Licences, capabilities, desktop.
    Running,
}

/// A static channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: u16,
    pub(super) kind: Option<Kind>,
}

/// One session between two sides.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(super) policy: ChannelPolicy,
    pub(super) account: BackConfig,
    selected: SecurityProtocol,
    requested: SecurityProtocol,
    /// The keyboard of a person whose client does not know it.
    pub(super) keyboard: Option<u32>,
    stage: Stage,
    named: Vec<Option<Kind>>,
    pub(super) channels: Vec<Channel>,
    pub(super) io: u16,
    message: Option<u16>,
    pub(super) user: u16,
    /// The client understands Set Error Info.
    error_info: bool,
    pub(super) desktop: Desktop,
    /// What the person is told once the desktop is built anew, and how many bytes that is.
    later: Vec<Act>,
    later_bytes: usize,
    /// The first Demand Active came, and licences are over.
    pub(super) licensed: bool,
    /// The client waited at a desktop of our own, which the target's follows: its licences are our business.
    pub(super) licensing: Option<Licensing>,
    pub(super) frozen: bool,
    /// The person's client does not take what it is to show.
    blind: bool,
    pub(super) hands: Hands,
    pub(super) dynamic: Dynamic,
    pub(super) clipboard: Clipboard,
    pub(super) devices: Devices,
    pub(super) sound: Sound,
    pub(super) files: Box<dyn Files>,
    told: HashSet<Dropped>,
    /// How often the target has said something that is told each time.
    pub(super) reasons: u32,
    pub(super) logged_on: bool,
    /// The last reason that the target gave.
    pub(super) target_says: Option<u32>,
}

impl Machine {
    pub(crate) fn new(
        policy: ChannelPolicy,
        files: Box<dyn Files>,
        account: BackConfig,
        selected: SecurityProtocol,
        requested: SecurityProtocol,
    ) -> Self {
        Self {
            policy,
            account,
            selected,
            requested,
            keyboard: None,
            stage: Stage::Initial,
            named: Vec::new(),
            channels: Vec::new(),
            io: 0,
            message: None,
            user: 0,
            error_info: false,
            desktop: Desktop::default(),
            later: Vec::new(),
            later_bytes: 0,
            licensed: false,
            licensing: None,
            frozen: false,
            blind: false,
            hands: Hands::default(),
            dynamic: Dynamic::default(),
            clipboard: Clipboard::default(),
            devices: Devices::default(),
            sound: Sound::default(),
            files,
            told: HashSet::new(),
            reasons: 0,
            logged_on: false,
            target_says: None,
        }
    }

    /// A session in which everything is agreed on, with one channel of each kind from 1004 on, and before the last
    /// one that is denied.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn running(policy: ChannelPolicy, account: BackConfig) -> Self {
        let kinds = [Some(Kind::Dynamic), Some(Kind::Clipboard), Some(Kind::Sound), None];
        let devices = Channel { id: DEVICES, kind: Some(Kind::Devices) };
        Self {
            stage: Stage::Running,
            channels: (1004..).zip(kinds).map(|(id, kind)| Channel { id, kind }).chain([devices]).collect(),
            io: 1003,
            message: Some(1008),
            user: 1009,
            error_info: true,
            desktop: Desktop::begun((1024, 768), 32),
            licensed: true,
            ..Self::new(
                policy,
                Box::new(crate::files::NoFiles),
                account,
                SecurityProtocol::SSL,
                SecurityProtocol::SSL,
            )
        }
    }

    /// As [`Self::running`], before the target has said anything about its desktop, with a client that waits at one of ours.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn waited(policy: ChannelPolicy, account: BackConfig) -> Self {
        let mut machine = Self { licensed: false, ..Self::running(policy, account) };
        machine.after_lobby();
        machine
    }

    /// Whether there has been a desktop of the target's.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn has_desktop(&self) -> bool {
        self.desktop.has_begun()
    }

    /// For a client that waits at a desktop of our own.
    pub(super) fn after_lobby(&mut self) {
        self.licensing = Some(Licensing::default());
        self.desktop = Desktop::after_another(lobby::SHARE);
    }

    /// The share of the desktop of our own at which the client waits.
    pub(super) fn seat(&self) -> Option<u32> {
        self.has_waited().then_some(lobby::SHARE)
    }

    /// Whether the client still has that desktop: it has confirmed none of the target's.
    pub(super) fn is_still_waiting(&self) -> bool {
        self.has_waited() && !self.desktop.has_begun()
    }

    /// Whether the client waited at a desktop of our own.
    pub(super) fn has_waited(&self) -> bool {
        self.licensing.is_some()
    }

    /// What the target last gave as its reason for an end.
    pub(crate) fn target_says(&self) -> Option<u32> {
        self.target_says
    }

    /// A PDU of the person.
    pub(crate) fn person(&mut self, pdu: &Pdu) -> Result<Vec<Act>, Broken> {
        let mut acts = Vec::new();
        match (self.stage, pdu.form) {
            (Stage::Initial, Form::Tpkt) => self.initial(&pdu.bytes, &mut acts)?,
            (Stage::Joining, Form::Tpkt) => self.join(&pdu.bytes, &mut acts)?,
            (Stage::Running, Form::FastPath) => self.fast_input(&pdu.bytes, &mut acts)?,
            (Stage::Running, Form::Tpkt) => match mcs::kind(&pdu.bytes) {
                Some(mcs::REQUEST) => self.person_data(mcs::data(&pdu.bytes, mcs::REQUEST)?, &mut acts)?,
                Some(DISCONNECT) => acts.push(Act::Left(Side::Person)),
                // A channel that is joined late, as some clients do.
                Some(JOIN) => self.forward_domain(&pdu.bytes, Side::Target, &mut acts)?,
                _ => return Err(Broken("MCS PDU of the client")),
            },
            _ => return Err(Broken("PDU of the client at this point")),
        }
        Ok(acts)
    }

    /// A PDU of the target.
    pub(crate) fn target(&mut self, pdu: &Pdu) -> Result<Vec<Act>, Broken> {
        let mut acts = Vec::new();
        match (self.stage, pdu.form) {
            (Stage::Response, Form::Tpkt) => self.response(&pdu.bytes, &mut acts)?,
            (Stage::Joining | Stage::Running, Form::Tpkt) => match mcs::kind(&pdu.bytes) {
                Some(mcs::INDICATION) if self.stage == Stage::Running => {
                    self.target_data(mcs::data(&pdu.bytes, mcs::INDICATION)?, &mut acts)?;
                }
                Some(DISCONNECT) => {
                    self.go_on(&mut acts);
                    acts.push(Act::Left(Side::Target));
                }
                _ => self.forward_domain(&pdu.bytes, Side::Person, &mut acts)?,
            },
            (Stage::Running, Form::FastPath) => self.fast_output(&pdu.bytes, &mut acts)?,
            _ => return Err(Broken("PDU of the target at this point")),
        }
        Ok(acts)
    }

    fn initial(&mut self, pdu: &[u8], acts: &mut Vec<Act>) -> Result<(), Broken> {
        let initial = connect::connect_initial(pdu, self.selected, &self.policy, self.keyboard)?;
        self.error_info = initial.error_info;
        self.licensing = self.licensing.take().map(|_| Licensing::of(&initial.client.name));
        acts.push(Act::Tell(Event::Client(initial.client)));
        for (name, kind) in initial.channels {
            if kind.is_none() {
                acts.push(Act::Tell(Event::ChannelRefused { name }));
            }
            self.named.push(kind);
        }
        acts.push(Act::Send(Side::Target, initial.pdu));
        self.stage = Stage::Response;
        Ok(())
    }

    fn response(&mut self, pdu: &[u8], acts: &mut Vec<Act>) -> Result<(), Broken> {
        let response = connect::connect_response(pdu, self.requested, self.named.len())?;
        self.io = response.io_channel;
        self.message = response.message_channel;
        self.channels = response
            .channels
            .iter()
            .zip(&self.named)
            .map(|(id, kind)| Channel { id: *id, kind: *kind })
            .collect();
        acts.push(Act::Send(Side::Person, response.pdu));
        self.stage = Stage::Joining;
        Ok(())
    }

    fn join(&mut self, pdu: &[u8], acts: &mut Vec<Act>) -> Result<(), Broken> {
        match mcs::kind(pdu) {
            Some(mcs::REQUEST) => {
                let data = mcs::data(pdu, mcs::REQUEST)?;
                if data.channel != self.io || data.initiator != self.user {
                    return Err(Broken("channel of the client info"));
                }
                let sound = self.policy.sound;
                let info = crate::rewrite::info::client_info(data.payload, &self.account, sound)?;
                acts.push(Act::Send(
                    Side::Target,
                    mcs::encode(mcs::REQUEST, Data { payload: &info, ..data })?,
                ));
                self.stage = Stage::Running;
                Ok(())
            }
            Some(DISCONNECT) => {
                acts.push(Act::Left(Side::Person));
                Ok(())
            }
            _ => self.forward_domain(pdu, Side::Target, acts),
        }
    }

    /// The PDUs by which users attach and channels are joined (T.125), written anew.
    fn forward_domain(&mut self, pdu: &[u8], to: Side, acts: &mut Vec<Act>) -> Result<(), Broken> {
        let message = decode::<X224<McsMessage<'_>>>(pdu).map_err(|_| Broken("MCS PDU"))?.0;
        let fits = match (&message, to) {
            (McsMessage::ErectDomainRequest(_) | McsMessage::AttachUserRequest(_), Side::Target) => true,
            (McsMessage::ChannelJoinRequest(join), Side::Target) => {
                join.initiator_id == self.user && self.knows(join.channel_id)
            }
            (McsMessage::AttachUserConfirm(confirm), Side::Person)
                if self.stage == Stage::Joining && self.user == 0 =>
            {
                self.user = confirm.initiator_id;
                true
            }
            (McsMessage::ChannelJoinConfirm(_), Side::Person) => true,
            _ => false,
        };
        if !fits {
            return Err(Broken("MCS PDU at this point"));
        }
        let bytes = encode_vec(&X224(message)).map_err(|_| Broken("MCS PDU"))?;
        acts.push(Act::Send(to, bytes.into()));
        Ok(())
    }

    fn knows(&self, channel: u16) -> bool {
        channel == self.user
            || channel == self.io
            || Some(channel) == self.message
            || self.channels.iter().any(|known| known.id == channel)
    }

    pub(super) fn is_message_channel(&self, channel: u16) -> bool {
        Some(channel) == self.message
    }

    pub(super) fn kind_of(&self, channel: u16) -> Option<Kind> {
        self.channels.iter().find(|known| known.id == channel)?.kind
    }

    /// The channel of the dynamic channels.
    pub(super) fn dynamic_channel(&self) -> Option<u16> {
        self.channels.iter().find(|known| known.kind == Some(Kind::Dynamic)).map(|known| known.id)
    }

    /// Says once that something was taken out.
    pub(super) fn dropped(&mut self, what: Dropped, acts: &mut Vec<Act>) {
        if self.told.insert(what) {
            acts.push(Act::Tell(Event::Dropped(what)));
        }
    }

    /// Sends data to a side on a channel.
    pub(super) fn send(
        &self,
        to: Side,
        channel: u16,
        payload: &[u8],
        acts: &mut Vec<Act>,
    ) -> Result<(), Broken> {
        let (kind, initiator) = match to {
            Side::Target => (mcs::REQUEST, self.user),
            Side::Person => (mcs::INDICATION, mcs::SERVER),
        };
        acts.push(Act::Send(to, mcs::encode(kind, Data { initiator, channel, payload })?));
        Ok(())
    }

    /// Keeps what goes to the person, and what the watcher is shown of it, until the desktop is built anew. When that is too much,
    /// all of it goes on.
    pub(super) fn hold_back(&mut self, held: impl IntoIterator<Item = Act>, acts: &mut Vec<Act>) {
        for act in held {
            match act {
                Act::Send(Side::Person, ref bytes) => {
                    self.later_bytes += bytes.len() + size_of::<Act>();
                    self.later.push(act);
                }
                Act::Show(_) => self.later.push(act),
                _ => acts.push(act),
            }
        }
        if self.later_bytes > LATER {
            self.go_on(acts);
        }
    }

    /// Whether the person sees what their hands do; what they hold down is let go where not.
    pub(crate) fn see(&mut self, sees: bool) -> Result<Vec<Act>, Broken> {
        let mut acts = Vec::new();
        let was_blind = std::mem::replace(&mut self.blind, !sees);
        if self.blind && !was_blind {
            self.hands.let_go();
            self.let_go(&mut acts)?;
        }
        Ok(acts)
    }

    pub(crate) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Whether what the target draws is shown now, by whatever it draws.
    pub(super) fn shows(&self) -> bool {
        let waits = self.dynamic.pipeline().is_some() && self.desktop.is_being_rebuilt();
        self.desktop.shows() && !waits
    }

    /// What was kept goes on.
    pub(super) fn go_on(&mut self, acts: &mut Vec<Act>) {
        self.later_bytes = 0;
        acts.append(&mut self.later);
    }

    /// A data PDU of the person's desktop for the target.
    pub(super) fn said(&self, kind: u8, body: &[u8]) -> Result<Bytes, Broken> {
        let share_id = self.desktop.share_id();
        let payload = share::encode_data(ShareData { share_id, source: self.user, kind, body })?;
        mcs::encode(mcs::REQUEST, Data { initiator: self.user, channel: self.io, payload: &payload })
    }

    /// The size of a desktop on which something can be drawn now.
    pub(crate) fn canvas(&self) -> Option<(u16, u16)> {
        match self.dynamic.pipeline() {
            Some(pipeline) => pipeline.canvas().filter(|_| self.shows()),
            None => self.desktop.canvas(),
        }
    }

    /// PDUs that draw this for the person, as the target would; `rgb` row by row.
    pub(crate) fn paint(&mut self, area: Area, rgb: &[u8]) -> Result<Vec<Bytes>, Broken> {
        if self.dynamic.pipeline().is_some() {
            let chunks = self.dynamic.paint(area, rgb);
            return self.beside(&chunks);
        }
        let bodies = banner::updates(area, rgb, self.desktop.depth())?;
        let whole = |body: &Vec<u8>| {
            let share_id = self.desktop.share_id();
            let data = ShareData { share_id, source: mcs::SERVER, kind: UPDATE, body };
            let payload = share::encode_data(data)?;
            let data = Data { initiator: mcs::SERVER, channel: self.io, payload: &payload };
            mcs::encode(mcs::INDICATION, data)
        };
        bodies.iter().map(whole).collect()
    }

    /// PDUs that make the client forget what stood over the desktop, once it shows what is below.
    pub(crate) fn clear(&mut self) -> Result<Vec<Bytes>, Broken> {
        let chunks = self.dynamic.clear();
        self.beside(&chunks)
    }

    /// Chunks for the person on the channel of dynamic channels.
    fn beside(&self, chunks: &[Vec<u8>]) -> Result<Vec<Bytes>, Broken> {
        let Some(channel) = self.dynamic_channel() else { return Ok(Vec::new()) };
        let whole = |payload: &Vec<u8>| {
            mcs::encode(mcs::INDICATION, Data { initiator: mcs::SERVER, channel, payload })
        };
        chunks.iter().map(whole).collect()
    }

    /// The last PDUs for the person: the reason, where the client understands it, and the end of the connection.
    pub(crate) fn farewell(&self, error_info: u32) -> Vec<Bytes> {
        let mut out = Vec::new();
        if self.error_info && self.stage == Stage::Running {
            out.extend(parting::error_info(self.desktop.share_id(), self.io, error_info));
        }
        if self.stage != Stage::Initial {
            out.extend(parting::disconnect(DisconnectReason::ProviderInitiated));
        }
        out
    }

    /// The last PDU for the target.
    pub(crate) fn leave(&self) -> Option<Bytes> {
        if self.stage == Stage::Initial {
            None
        } else {
            parting::disconnect(DisconnectReason::UserRequested).ok()
        }
    }

    pub(super) fn check_size(size: (u16, u16)) -> Result<(), Broken> {
        let pixels = u32::from(size.0) * u32::from(size.1);
        if pixels == 0 || pixels > MAX_PIXELS { Err(Broken("size of the desktop")) } else { Ok(()) }
    }
}

/// `DisconnectProviderUltimatum`.
pub(super) const DISCONNECT: u8 = 8 << 2;
/// `ChannelJoinRequest`.
pub(super) const JOIN: u8 = 14 << 2;
/// The channel of devices in [`Machine::running`].
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) const DEVICES: u16 = 1010;
