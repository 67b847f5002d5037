//! How a person is told that it ends, or that it never begins.

use std::time::Duration;

use bytes::Bytes;
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::{
    gcc::{
        ConferenceCreateResponse, RdpVersion, ServerCoreData, ServerCoreOptionalData, ServerGccBlocks,
        ServerNetworkData, ServerSecurityData,
    },
    mcs::{
        AttachUserConfirm, ChannelJoinConfirm, ConnectInitial, ConnectResponse, DisconnectProviderUltimatum,
        DisconnectReason, DomainParameters, McsMessage,
    },
    nego::SecurityProtocol,
    x224::{X224, X224Data},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    event::Ending,
    front::Accepted,
    mcs::{self, Data},
    rewrite::Broken,
    share::{self, ShareData},
    wire::{Leg, WireError},
};

/// Time for all of it: the client answers by itself.
const TIME: Duration = Duration::from_secs(5);
/// Most PDUs until the Client Info: 31 channels and some.
const PDUS: usize = 64;
/// Identifiers of a session that lasts for one message.
const IO: u16 = 1003;
const USER: u16 = 1100;
/// `PDUTYPE2_SET_ERROR_INFO_PDU`.
const SET_ERROR_INFO: u8 = 0x2f;
/// "No licence is needed" (MS-RDPBCGR 2.2.1.12): `SEC_LICENSE_PKT`, then an error alert with `STATUS_VALID_CLIENT` and
/// `ST_NO_TRANSITION`, and an empty blob.
const NO_LICENCE: [u8; 20] = [0x80, 0, 0, 0, 0xff, 3, 16, 0, 7, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0];

impl<S: AsyncRead + AsyncWrite + Unpin> Accepted<S> {
    /// Tells the person that there is no session, and closes. Clients show the reason where they know of it.
    pub async fn refuse(mut self, why: Ending) {
        let told = tokio::time::timeout(TIME, async {
            if self.early {
                // The early result has one word for everything; what is more than that needs the long way.
                let denied = why == Ending::NotAllowed;
                self.leg.send(&if denied { 5_u32 } else { 0 }.to_le_bytes()).await?;
                if denied {
                    return Ok(());
                }
            }
            tell(&mut self.leg, self.requested, why).await
        });
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a refused client did not hear why"),
            Err(_) => tracing::debug!("a refused client did not hear why in time"),
        }
    }
}

/// Goes through the beginning of a session as its server would, for the sake of the one PDU that carries a reason.
async fn tell<S: AsyncRead + AsyncWrite + Unpin>(
    leg: &mut Leg<S>,
    requested: SecurityProtocol,
    why: Ending,
) -> Result<(), WireError> {
    let initial = leg.pdu(usize::from(u16::MAX)).await?;
    leg.send(&connect_response(&initial.bytes, requested).map_err(malformed)?).await?;
    for _ in 0..PDUS {
        let pdu = leg.pdu(usize::from(u16::MAX)).await?;
        if mcs::kind(&pdu.bytes) == Some(mcs::REQUEST) {
            let licence = Data { initiator: mcs::SERVER, channel: IO, payload: &NO_LICENCE };
            leg.send(&mcs::encode(mcs::INDICATION, licence).map_err(malformed)?).await?;
            leg.send(&error_info(0, IO, why.error_info()).map_err(malformed)?).await?;
            leg.send(&disconnect(DisconnectReason::ProviderInitiated).map_err(malformed)?).await?;
            return linger(leg).await;
        }
        if let Some(answer) = answer(&pdu.bytes).map_err(malformed)? {
            leg.send(&answer).await?;
        }
    }
    Err(WireError::Malformed("beginning of a session"))
}

fn malformed(broken: Broken) -> WireError {
    WireError::Malformed(broken.0)
}

/// Waits until the client has closed, so that our close does not overtake what we said.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(leg: &mut Leg<S>) -> Result<(), WireError> {
    leg.stream.shutdown().await?;
    let mut rest = [0; 4096];
    while leg.stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn connect_response(initial: &[u8], requested: SecurityProtocol) -> Result<Vec<u8>, Broken> {
    let broken = Broken("connect initial");
    let data = decode::<X224<X224Data<'_>>>(initial).map_err(|_| broken)?.0.data;
    let initial = decode::<ConnectInitial>(&data).map_err(|_| broken)?;
    let channels = initial.channel_names().map_or(0, |names| names.len());
    let optional_data =
        ServerCoreOptionalData { client_requested_protocols: Some(requested), early_capability_flags: None };
    let blocks = ServerGccBlocks {
        core: ServerCoreData { version: RdpVersion::V5_PLUS, optional_data },
        network: ServerNetworkData { io_channel: IO, channel_ids: (IO + 1..USER).take(channels).collect() },
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

fn answer(pdu: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
    let broken = Broken("MCS PDU");
    let answer = match decode::<X224<McsMessage<'_>>>(pdu).map_err(|_| broken)?.0 {
        McsMessage::ErectDomainRequest(_) => return Ok(None),
        McsMessage::AttachUserRequest(_) => {
            McsMessage::AttachUserConfirm(AttachUserConfirm { result: 0, initiator_id: USER })
        }
        McsMessage::ChannelJoinRequest(join) => McsMessage::ChannelJoinConfirm(ChannelJoinConfirm {
            result: 0,
            initiator_id: join.initiator_id,
            requested_channel_id: join.channel_id,
            channel_id: join.channel_id,
        }),
        _ => return Err(broken),
    };
    encode_vec(&X224(answer)).map(Some).map_err(|_| broken)
}

/// Set Error Info (MS-RDPBCGR 2.2.5.1) for the person.
pub(crate) fn error_info(share_id: u32, io: u16, code: u32) -> Result<Bytes, Broken> {
    let data = ShareData { share_id, source: mcs::SERVER, kind: SET_ERROR_INFO, body: &code.to_le_bytes() };
    let payload = share::encode_data(data)?;
    mcs::encode(mcs::INDICATION, Data { initiator: mcs::SERVER, channel: io, payload: &payload })
}

/// The end of an MCS connection.
pub(crate) fn disconnect(reason: DisconnectReason) -> Result<Bytes, Broken> {
    let ultimatum = encode_vec(&X224(DisconnectProviderUltimatum::from_reason(reason)));
    ultimatum.map(Bytes::from).map_err(|_| Broken("end of the connection"))
}
