//! How a person is told that it ends, or that it never begins.

use std::time::Duration;

use bytes::Bytes;
use ironrdp_core::encode_vec;
use ironrdp_pdu::{
    mcs::{DisconnectProviderUltimatum, DisconnectReason},
    x224::X224,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    event::Ending,
    front::Accepted,
    mcs::{self, Data},
    opening::{self, IO, malformed},
    relay::SHARE,
    rewrite::Broken,
    share::{self, ShareData},
    wire::{Leg, WireError},
};

/// Time for all of it: the client answers by itself.
const TIME: Duration = Duration::from_secs(5);
/// `PDUTYPE2_SET_ERROR_INFO_PDU`.
const SET_ERROR_INFO: u8 = 0x2f;
/// "No licence is needed" (MS-RDPBCGR 2.2.1.12): `SEC_LICENSE_PKT`, then an error alert with `STATUS_VALID_CLIENT` and
/// `ST_NO_TRANSITION`, and an empty blob.
const NO_LICENCE: [u8; 20] = [0x80, 0, 0, 0, 0xff, 3, 16, 0, 7, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0];

impl<S: AsyncRead + AsyncWrite + Unpin> Accepted<S> {
    /// Tells the person that there is no session, and closes. Clients show the reason where they know of it.
    pub async fn refuse(mut self, why: Ending) {
        in_time(async {
            if let Some(lobby) = self.lobby {
                self.leg.send(&lobby.unsent).await?;
                return say(&mut self.leg, Some(SHARE), why).await;
            }
            if self.opened.is_some() {
                return say(&mut self.leg, None, why).await;
            }
            if self.early {
                // The early result has one word for everything; what is more than that needs the long way.
                let denied = why == Ending::NotAllowed;
                self.leg.send(&if denied { 5_u32 } else { 0 }.to_le_bytes()).await?;
                if denied {
                    return Ok(());
                }
            }
            opening::open(&mut self.leg, self.requested).await?;
            say(&mut self.leg, None, why).await
        })
        .await;
    }
}

/// Tells a client why, which has some seconds to listen; whether it does is its own business.
pub(crate) async fn in_time(told: impl Future<Output = Result<(), WireError>>) {
    match tokio::time::timeout(TIME, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused client did not hear why"),
        Err(_) => tracing::debug!("a refused client did not hear why in time"),
    }
}

/// Says why to a client that has sent its Client Info, and has a desktop of that share or none; and closes.
pub(crate) async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    leg: &mut Leg<S>,
    share_id: Option<u32>,
    why: Ending,
) -> Result<(), WireError> {
    for pdu in last_words(share_id, why.error_info()).map_err(malformed)? {
        leg.send(&pdu).await?;
    }
    linger(leg).await
}

/// What a client hears at the end that has sent its Client Info to us alone. Behind a licence it understands a reason, which
/// one that has a desktop of ours, of that share, has got.
pub(crate) fn last_words(share_id: Option<u32>, code: u32) -> Result<Vec<Bytes>, Broken> {
    let licence = if share_id.is_none() { vec![no_licence()?] } else { Vec::new() };
    let why = error_info(share_id.unwrap_or_default(), IO, code)?;
    Ok([licence, vec![why, disconnect(DisconnectReason::ProviderInitiated)?]].concat())
}

/// Tells a client that has sent its Client Info to us alone that it needs no licence.
pub(crate) fn no_licence() -> Result<Bytes, Broken> {
    mcs::encode(mcs::INDICATION, Data { initiator: mcs::SERVER, channel: IO, payload: &NO_LICENCE })
}

/// Waits until the client has closed, so that our close does not overtake what we said.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(leg: &mut Leg<S>) -> Result<(), WireError> {
    leg.stream.shutdown().await?;
    let mut rest = [0; 4096];
    while leg.stream.read(&mut rest).await? > 0 {}
    Ok(())
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
