//! The beginning of a session (MS-RDPBCGR 1.3.1.1) with a client, up to its Client Info, without any target.
//!
//! A client without NLA types its log-in into that PDU, and one that is refused hears why only behind it. Identifiers are our
//! own; for a session they are brought together with the target's later ([`crate::relay`]).

use std::fmt;

use bytes::Bytes;
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::{
    gcc::{
        ConferenceCreateResponse, RdpVersion, ServerCoreData, ServerCoreOptionalData, ServerGccBlocks,
        ServerNetworkData, ServerSecurityData,
    },
    mcs::{AttachUserConfirm, ChannelJoinConfirm, ConnectResponse, DomainParameters, McsMessage},
    nego::SecurityProtocol,
    x224::{X224, X224Data},
};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::{
    mcs,
    rewrite::{Broken, connect},
    wire::{Leg, WireError},
};

/// The desktop's channel; the others follow it.
pub(crate) const IO: u16 = 1003;
/// The client's MCS user.
pub(crate) const USER: u16 = 1100;
/// Most PDUs until the Client Info: 31 channels and some.
const PDUS: usize = 64;
/// The longest Client Info; its texts have some hundred bytes each.
const INFO: usize = 8 * 1024;

/// How a client began.
pub(crate) struct Opened {
    /// Its Connect Initial, without a message channel.
    pub(crate) initial: Bytes,
    /// How many channels it has besides the desktop's.
    pub(crate) channels: usize,
    /// What its Client Info holds.
    pub(crate) info: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("channels", &self.channels).finish_non_exhaustive()
    }
}

/// Goes through it as the client's server would.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    leg: &mut Leg<S>,
    requested: SecurityProtocol,
) -> Result<Opened, WireError> {
    let initial = leg.wiped(usize::from(u16::MAX)).await?;
    let (initial, channels) = connect::without_messages(&initial).map_err(malformed)?;
    leg.send(&connect_response(channels, requested).map_err(malformed)?).await?;
    for _ in 0..PDUS {
        let pdu = leg.wiped(INFO).await?;
        if mcs::kind(&pdu) == Some(mcs::REQUEST) {
            let data = mcs::data(&pdu, mcs::REQUEST).map_err(malformed)?;
            if (data.initiator, data.channel) != (USER, IO) {
                return Err(WireError::Malformed("channel of the client info"));
            }
            return Ok(Opened { initial, channels, info: Zeroizing::new(data.payload.to_vec()) });
        }
        if let Some(answer) = answer(&pdu, channels).map_err(malformed)? {
            leg.send(&answer).await?;
        }
    }
    Err(WireError::Malformed("beginning of a session"))
}

/// What broke a PDU, as an error of the connection.
pub(crate) fn malformed(broken: Broken) -> WireError {
    WireError::Malformed(broken.0)
}

/// The channels besides the desktop's, in the order of their names.
pub(crate) fn channel_ids(channels: usize) -> impl Iterator<Item = u16> {
    (IO + 1..USER).take(channels)
}

fn connect_response(channels: usize, requested: SecurityProtocol) -> Result<Vec<u8>, Broken> {
    let broken = Broken("connect response");
    let optional_data =
        ServerCoreOptionalData { client_requested_protocols: Some(requested), early_capability_flags: None };
    let blocks = ServerGccBlocks {
        core: ServerCoreData { version: RdpVersion::V5_PLUS, optional_data },
        network: ServerNetworkData { io_channel: IO, channel_ids: channel_ids(channels).collect() },
        security: ServerSecurityData::no_security(),
        message_channel: None,
        multi_transport_channel: None,
    };
    let response = ConnectResponse {
        conference_create_response: ConferenceCreateResponse::new(1001, blocks).map_err(|_| broken)?,
        called_connect_id: 1,
        domain_parameters: DomainParameters::target(),
    };
    let data = encode_vec(&response).map_err(|_| broken)?;
    encode_vec(&X224(X224Data { data: data.into() })).map_err(|_| broken)
}

/// What is answered to a PDU by which users attach and channels are joined (T.125).
pub(crate) fn answer(pdu: &[u8], channels: usize) -> Result<Option<Vec<u8>>, Broken> {
    let broken = Broken("MCS PDU");
    let known = |id| id == USER || id == IO || channel_ids(channels).any(|channel| channel == id);
    let answer = match decode::<X224<McsMessage<'_>>>(pdu).map_err(|_| broken)?.0 {
        McsMessage::ErectDomainRequest(_) => return Ok(None),
        McsMessage::AttachUserRequest(_) => {
            McsMessage::AttachUserConfirm(AttachUserConfirm { result: 0, initiator_id: USER })
        }
        McsMessage::ChannelJoinRequest(join) if join.initiator_id == USER && known(join.channel_id) => {
            McsMessage::ChannelJoinConfirm(ChannelJoinConfirm {
                result: 0,
                initiator_id: join.initiator_id,
                requested_channel_id: join.channel_id,
                channel_id: join.channel_id,
            })
        }
        _ => return Err(broken),
    };
    encode_vec(&X224(answer)).map(Some).map_err(|_| broken)
}
