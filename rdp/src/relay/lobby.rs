//! A desktop of the gateway's own (MS-RDPBCGR 1.3.1.1), for a client that has to wait before there is a target: nothing is on
//! it but the gateway's words, and nothing that is done at it has any effect. The target's desktop follows it as one of
//! another size would (1.3.1.3).

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use ironrdp_core::encode_vec;
use ironrdp_pdu::rdp::{
    capability_sets::{
        Bitmap, BitmapDrawingFlags, CapabilitySet, DemandActive, General, GeneralExtraFlags, Input,
        InputFlags, Order, OrderFlags, OrderSupportExFlags, Pointer, ServerDemandActive, VirtualChannel,
        VirtualChannelFlags,
    },
    headers::{ShareControlHeader, ShareControlPdu},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use zeroize::Zeroizing;

use super::{
    lane::Lane,
    machine::{DISCONNECT, JOIN, Machine},
    words::{Due, Words},
};
use crate::{
    banner::{self, Area},
    front::Accepted,
    mcs::{self, Data},
    opening::{self, IO, Opened, USER, malformed},
    parting,
    rewrite::{
        Broken,
        connect::{self, Wanted},
        info,
    },
    share::{self, ShareData, UPDATE},
    wire::{self, Form, Pdu, WireError},
};

/// What PDUs of this desktop carry; Windows begins with the same.
pub(crate) const SHARE: u32 = 0x0001_03ea;
/// Time for a client to come to it: it answers by itself, once for each channel that it has, over whatever line.
const TIME: Duration = Duration::from_secs(60);
/// Most PDUs of a client until it has it.
const PDUS: usize = 64;
/// The longest of these: capabilities are some hundred bytes.
const LIMIT: usize = 8 * 1024;

/// What a client may say while nobody answers: its Connect Initial (MS-RDPBCGR 2.2.1.3) is a few hundred bytes.
const EARLY: usize = 16 * 1024;

/// `PDUTYPE2_CONTROL`, `PDUTYPE2_SYNCHRONIZE`, `PDUTYPE2_FONTLIST`, `PDUTYPE2_FONTMAP`.
const CONTROL: u8 = 0x14;
const SYNCHRONIZE: u8 = 0x1f;
const FONT_LIST: u8 = 0x27;
const FONT_MAP: u8 = 0x28;
/// `PDUTYPE2_SHUTDOWN_REQUEST`.
pub(super) const SHUTDOWN_REQUEST: u8 = 0x24;
/// `CTRLACTION_REQUEST_CONTROL` and `CTRLACTION_COOPERATE` of the client, `CTRLACTION_GRANTED_CONTROL` of the server.
const REQUEST_CONTROL: u8 = 1;
const GRANTED_CONTROL: u8 = 2;
const COOPERATE: u8 = 4;

/// All input that there is.
const INPUT: InputFlags = InputFlags::SCANCODES
    .union(InputFlags::MOUSEX)
    .union(InputFlags::UNICODE)
    .union(InputFlags::FASTPATH_INPUT_2)
    .union(InputFlags::MOUSE_RELATIVE)
    .union(InputFlags::TS_MOUSE_HWHEEL);

/// What a client has that waits.
#[derive(Debug)]
pub(crate) struct Lobby {
    /// In pixels, as the client wants its desktop.
    size: (u16, u16),
    /// Bits for each pixel.
    depth: u16,
    channels: usize,
    /// Its font map is sent, the last of its beginning.
    ready: bool,
    /// What the client has not taken yet.
    pub(crate) unsent: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Accepted<S> {
    /// Gives the client the desktop on which it waits, before there is a target.
    ///
    /// # Errors
    /// When the client does not come to it within a minute, hangs up, or breaks the protocol.
    pub async fn seated(mut self) -> Result<Self, WireError> {
        let opened = tokio::time::timeout(TIME, self.sit()).await;
        // Whoever does not come is not there.
        opened.map_err(|_| WireError::Closed)??;
        Ok(self)
    }

    async fn sit(&mut self) -> Result<(), WireError> {
        if std::mem::take(&mut self.early) {
            // Access granted: the person was proved.
            self.leg.send(&[0; 4]).await?;
        }
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => {
                let opened = opening::open(&mut self.leg, self.requested).await?;
                // The token in it is used up, and the target gets the account's secret.
                let info = Zeroizing::new(info::typed(&opened.info).map_err(malformed)?.rest);
                Opened { info, ..opened }
            }
        };
        let mut lobby = Lobby::new(&opened).map_err(malformed)?;
        self.opened = Some(opened);
        self.leg.send(&parting::no_licence().map_err(malformed)?).await?;
        self.leg.send(&lobby.demand().map_err(malformed)?).await?;
        for _ in 0..PDUS {
            let pdu = self.leg.pdu(LIMIT).await?;
            let heard = lobby.hears(&pdu).map_err(malformed)?;
            for answer in heard.ok_or(WireError::Closed)? {
                self.leg.send(&answer).await?;
            }
            if lobby.ready {
                self.lobby = Some(lobby);
                return Ok(());
            }
        }
        Err(WireError::Malformed("beginning of a desktop"))
    }

    /// Stays with a client until `until` has come to its end, and gives what that has brought. `words` stand over the desktop of
    /// one that is [`seated`](Self::seated).
    ///
    /// # Errors
    /// Once the client has hung up, or broken the protocol.
    pub async fn waits<T>(
        &mut self,
        words: watch::Receiver<Option<Arc<str>>>,
        until: impl Future<Output = T>,
    ) -> Result<T, WireError> {
        let mut until = pin!(until);
        let Some(lobby) = &mut self.lobby else {
            return tokio::select! {
                biased;
                brought = until => Ok(brought),
                left = self.leaves() => Err(left),
            };
        };
        let mut words = Words::new(words);
        let mut lane = Lane::of_waiting(
            &mut self.leg.stream,
            std::mem::take(&mut self.leg.inbound),
            std::mem::take(&mut lobby.unsent),
        );
        let brought = loop {
            while lane.has_room() {
                let Some(pdu) = wire::take(&mut lane.inbound)? else { break };
                let answers = lobby.hears(&pdu).map_err(malformed)?.ok_or(WireError::Closed)?;
                answers.iter().for_each(|answer| lane.queue(answer));
            }
            let (idle, room) = (lane.is_idle(), lane.has_room());
            tokio::select! {
                biased;
                brought = &mut until => break brought,
                drained = lane.out.drain(), if !idle => drained?,
                due = words.due(), if idle => {
                    let before = if due == Due::Other { words.take_away() } else { None };
                    let drawn = lobby.say(before, words.banner(lobby.size)).map_err(malformed)?;
                    drawn.into_iter().for_each(|pdu| lane.queue_hands(pdu));
                }
                read = wire::fill(&mut lane.reader, &mut lane.inbound), if room => read?,
            }
        };
        // What is drawn on that desktop counts no more, but for a PDU that has begun.
        lane.take_back();
        (self.leg.inbound, lobby.unsent) = lane.into_rest();
        Ok(brought)
    }

    /// Comes to its end once the client has hung up. What it says before it is answered is kept, up to 16 KiB; one that says
    /// more is not listened to.
    async fn leaves(&mut self) -> WireError {
        while self.leg.inbound.len() < EARLY {
            if let Err(left) = self.leg.fill().await {
                return left;
            }
        }
        std::future::pending().await
    }
}

impl Lobby {
    fn new(opened: &Opened) -> Result<Self, Broken> {
        let Wanted { size, depth } = connect::wanted(&opened.initial)?;
        Machine::check_size(size)?;
        Ok(Self { size, depth, channels: opened.channels, ready: false, unsent: BytesMut::new() })
    }

    /// Demand Active (MS-RDPBCGR 2.2.1.13.1): bitmaps without compression, and no drawing orders. Of input there is all that any
    /// target may take: what a client once heard to be missing it leaves out on the target's desktop, too.
    fn demand(&self) -> Result<Bytes, Broken> {
        let (desktop_width, desktop_height) = self.size;
        let capability_sets = vec![
            CapabilitySet::General(General {
                extra_flags: GeneralExtraFlags::FASTPATH_OUTPUT_SUPPORTED,
                refresh_rect_support: true,
                suppress_output_support: true,
                ..General::default()
            }),
            CapabilitySet::Bitmap(Bitmap {
                pref_bits_per_pix: self.depth,
                desktop_width,
                desktop_height,
                desktop_resize_flag: true,
                drawing_flags: BitmapDrawingFlags::ALLOW_SKIP_ALPHA,
            }),
            CapabilitySet::Order(Order::new(
                OrderFlags::NEGOTIATE_ORDER_SUPPORT | OrderFlags::ZERO_BOUNDS_DELTAS_SUPPORT,
                OrderSupportExFlags::empty(),
                0,
                0,
            )),
            CapabilitySet::Pointer(Pointer { color_pointer_cache_size: 20, pointer_cache_size: 20 }),
            CapabilitySet::Input(Input {
                input_flags: INPUT,
                keyboard_layout: 0,
                keyboard_type: None,
                keyboard_subtype: 0,
                keyboard_function_key: 0,
                keyboard_ime_filename: String::new(),
            }),
            CapabilitySet::VirtualChannel(VirtualChannel {
                flags: VirtualChannelFlags::NO_COMPRESSION,
                chunk_size: None,
            }),
        ];
        let pdu = DemandActive { source_descriptor: "RDP".to_owned(), capability_sets };
        let demand = ShareControlHeader {
            share_control_pdu: ShareControlPdu::ServerDemandActive(ServerDemandActive { pdu }),
            pdu_source: mcs::SERVER,
            share_id: SHARE,
        };
        indication(&encode_vec(&demand).map_err(|_| Broken("demand active"))?)
    }

    /// What is said to that; nothing where the client says good-bye.
    fn hears(&mut self, pdu: &Pdu) -> Result<Option<Vec<Bytes>>, Broken> {
        if pdu.form == Form::FastPath {
            return Ok(Some(Vec::new()));
        }
        match mcs::kind(&pdu.bytes) {
            Some(mcs::REQUEST) => {}
            Some(JOIN) => {
                let joined = opening::answer(&pdu.bytes, self.channels)?;
                return Ok(Some(joined.into_iter().map(Bytes::from).collect()));
            }
            Some(DISCONNECT) => return Ok(None),
            _ => return Err(Broken("MCS PDU of the client")),
        }
        let data = mcs::data(&pdu.bytes, mcs::REQUEST)?;
        let mut answers = Vec::new();
        if data.channel == IO && share::is_share(data.payload) {
            for pdu in share::split(data.payload)? {
                if pdu.kind != share::DATA {
                    continue;
                }
                let said = pdu.data()?;
                // Whoever closes the window asks first, and waits for us to close (1.3.1.4.1).
                if said.kind == SHUTDOWN_REQUEST {
                    return Ok(None);
                }
                answers.extend(self.answer(said)?);
            }
        }
        Ok(Some(answers))
    }

    /// Finalisation (MS-RDPBCGR 1.3.1.1); whatever else is said has no effect.
    fn answer(&mut self, said: ShareData<'_>) -> Result<Option<Bytes>, Broken> {
        let user = USER.to_le_bytes();
        let server = u32::from(mcs::SERVER).to_le_bytes();
        let (kind, body) = match (said.kind, said.body.first()) {
            (SYNCHRONIZE, _) => (SYNCHRONIZE, [[1, 0], user].concat()),
            (CONTROL, Some(&COOPERATE)) => (CONTROL, vec![COOPERATE, 0, 0, 0, 0, 0, 0, 0]),
            (CONTROL, Some(&REQUEST_CONTROL)) => {
                (CONTROL, [&[GRANTED_CONTROL, 0], &user[..], &server].concat())
            }
            (FONT_LIST, _) => {
                self.ready = true;
                // No entries, first and last of its list, and the size of one (2.2.1.22.1).
                (FONT_MAP, vec![0, 0, 0, 0, 3, 0, 4, 0])
            }
            _ => return Ok(None),
        };
        said_by_server(kind, &body).map(Some)
    }

    /// Draws what is to stand there, over where something stood before.
    fn say(&self, before: Option<Area>, banner: Option<(Area, Vec<u8>)>) -> Result<Vec<Bytes>, Broken> {
        let black = before.map(|area| {
            let pixels = usize::from(area.width) * usize::from(area.height);
            (area, vec![0; pixels * 3])
        });
        let mut pdus = Vec::new();
        for (area, rgb) in black.into_iter().chain(banner) {
            for body in banner::updates(area, &rgb, self.depth)? {
                pdus.push(said_by_server(UPDATE, &body)?);
            }
        }
        Ok(pdus)
    }
}

fn said_by_server(kind: u8, body: &[u8]) -> Result<Bytes, Broken> {
    indication(&share::encode_data(ShareData { share_id: SHARE, source: mcs::SERVER, kind, body })?)
}

fn indication(payload: &[u8]) -> Result<Bytes, Broken> {
    mcs::encode(mcs::INDICATION, Data { initiator: mcs::SERVER, channel: IO, payload })
}

#[cfg(any(test, feature = "fuzzing"))]
impl Lobby {
    /// One whose client has the whole of it.
    pub(crate) fn begun() -> Self {
        Self { size: (800, 600), depth: 32, channels: 2, ready: true, unsent: BytesMut::new() }
    }

    /// What is answered.
    pub(crate) fn said(&mut self, pdu: &Pdu) -> Result<Vec<Bytes>, Broken> {
        Ok(self.hears(pdu)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::{
        banner::Banner,
        front::{Accepted, Proof},
        person::Person,
        rewrite::capabilities::demand_active,
        wire::Leg,
    };

    fn from_client(channel: u16, payload: &[u8]) -> Pdu {
        let bytes = mcs::encode(mcs::REQUEST, Data { initiator: USER, channel, payload }).unwrap();
        Pdu { form: Form::Tpkt, bytes }
    }

    fn says(kind: u8, body: &[u8]) -> Pdu {
        let data = ShareData { share_id: SHARE, source: USER, kind, body };
        from_client(IO, &share::encode_data(data).unwrap())
    }

    fn kind_of(pdu: &Bytes) -> u8 {
        let data = mcs::data(pdu, mcs::INDICATION).unwrap();
        share::split(data.payload).unwrap()[0].data().unwrap().kind
    }

    #[test]
    fn a_client_hears_what_makes_it_ready_and_nothing_of_what_it_does_has_an_effect() {
        let mut lobby = Lobby { ready: false, ..Lobby::begun() };
        let cooperate = [COOPERATE, 0, 0, 0, 0, 0, 0, 0];
        let request = [REQUEST_CONTROL, 0, 0, 0, 0, 0, 0, 0];
        for (kind, body, answer) in [
            (SYNCHRONIZE, &[1, 0, 0xea, 3][..], SYNCHRONIZE),
            (CONTROL, &cooperate, CONTROL),
            (CONTROL, &request, CONTROL),
            (FONT_LIST, &[0; 8], FONT_MAP),
        ] {
            assert!(!lobby.ready);
            let answers = lobby.said(&says(kind, body)).unwrap();
            assert_eq!(answers.iter().map(kind_of).collect::<Vec<_>>(), [answer]);
        }
        assert!(lobby.ready);
        let key = Pdu { form: Form::FastPath, bytes: Bytes::from_static(&[4, 4, 0, 0x1e]) };
        for pdu in [
            key,
            says(0x1c, &[0; 16]),
            says(0x21, &[0; 12]),
            from_client(1004, &[1; 40]),
            from_client(IO, &[0x80, 0, 0, 0]),
        ] {
            assert!(lobby.said(&pdu).unwrap().is_empty());
        }
        assert!(lobby.said(&from_client(IO, &[4, 0, 0x17])).unwrap().is_empty(), "no share PDU");
        assert!(lobby.said(&from_client(IO, &[99, 0, 0x17, 0])).is_err(), "a length that lies");
    }

    #[test]
    fn what_is_demanded_is_what_any_target_may_demand() {
        let bytes = Lobby::begun().demand().unwrap();
        let data = mcs::data(&bytes, mcs::INDICATION).unwrap();
        let demand = demand_active(share::split(data.payload).unwrap()[0].bytes).unwrap();
        assert_eq!((demand.share_id, demand.size, demand.depth), (SHARE, (800, 600), 32));
    }

    #[test]
    fn words_are_drawn_over_the_ones_before() {
        let lobby = Lobby::begun();
        let banner = Banner::new("nobody watches yet", (800, 600)).unwrap();
        let (area, rgb) = (banner.area, banner.rgb);
        let first = lobby.say(None, Some((area, rgb.clone()))).unwrap().len();
        assert!(first > 0);
        assert_eq!(lobby.say(Some(area), Some((area, rgb))).unwrap().len(), 2 * first);
        assert!(lobby.say(None, None).unwrap().is_empty());
    }

    fn accepted(far: tokio::io::DuplexStream) -> Accepted<tokio::io::DuplexStream> {
        let mut accepted = Accepted::of(Leg::new(Person::Web(far)), Proof::Typed);
        accepted.lobby = Some(Lobby::begun());
        accepted
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_asks_without_listening_costs_a_bounded_amount_and_still_hears_nothing_of_others() {
        let (mut near, far) = duplex(16 * 1024);
        let mut accepted = accepted(far);
        let (_say, said) = watch::channel(None);
        let asks = async {
            let font_list = says(FONT_LIST, &[0; 8]).bytes;
            let flood = font_list.repeat(100);
            // Ends when nobody reads any more.
            while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), near.write_all(&flood)).await
            {
            }
            near
        };
        let (waited, near) =
            tokio::join!(accepted.waits(said, tokio::time::sleep(Duration::from_secs(60))), asks);
        assert!(waited.is_ok(), "it is a client that waits");
        let kept = accepted.lobby.as_ref().unwrap().unsent.len() + accepted.leg.inbound.len();
        assert!((200 * 1024..512 * 1024).contains(&kept), "{kept} bytes are kept");
        drop(near);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_hangs_up_or_breaks_the_protocol_is_gone() {
        for bytes in [&b""[..], b"GET / HTTP/1.1", &[3, 0, 0, 9, 2, 0xf0, 0x80, 8 << 2, 0]] {
            let (mut near, far) = duplex(1024);
            near.write_all(bytes).await.unwrap();
            let mut kept = Some(near);
            if bytes.is_empty() {
                kept = None;
            }
            let (_say, said) = watch::channel(None);
            let waited = accepted(far).waits(said, std::future::pending::<()>()).await;
            let malformed = matches!(waited, Err(WireError::Malformed(_)));
            assert!(waited.is_err() && malformed == bytes.starts_with(b"GET"), "{waited:?}");
            drop(kept);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_is_finished_before_what_comes_after() {
        let (mut near, far) = duplex(1024);
        let mut accepted = accepted(far);
        let (_say, said) = watch::channel(Some("a long line of words for somebody who waits".into()));
        accepted.waits(said, tokio::time::sleep(Duration::from_secs(1))).await.unwrap();
        let unsent = accepted.lobby.as_ref().unwrap().unsent.len();
        assert!((1024..16 * 1024).contains(&unsent), "{unsent}: what has not begun is left out");
        let reads = async {
            let mut all = Vec::new();
            near.read_to_end(&mut all).await.unwrap();
            drop(near);
            all
        };
        let (all, ()) = tokio::join!(reads, accepted.refuse(crate::Ending::Idle));
        let mut buffer = BytesMut::from(&all[..]);
        let mut pdus = Vec::new();
        while let Some(pdu) = wire::take(&mut buffer).unwrap() {
            pdus.push(pdu.bytes);
        }
        assert!(buffer.is_empty(), "half a PDU");
        let kinds: Vec<u8> = pdus[..pdus.len() - 1].iter().map(kind_of).collect();
        assert_eq!(kinds.last(), Some(&0x2f));
        assert!(kinds[..kinds.len() - 1].iter().all(|kind| *kind == UPDATE));
        assert_eq!(mcs::kind(pdus.last().unwrap()), Some(DISCONNECT));
    }
}
