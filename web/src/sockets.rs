//! WebSockets (RFC 6455): only from pages of ours, with small messages, and never waiting for ever on a browser that does
//! not read.

use std::time::Duration;

use axum::{
    extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    http::{HeaderMap, header},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::Failure, form};

/// Largest message from a browser, bytes.
const LARGEST: usize = 64 * 1024;
/// How long a browser may leave what it was sent in its socket.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser that went away, or does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the browser's connection is over")]
pub(crate) struct Gone;

/// What a browser sent.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// Bytes.
    Bytes(bytes::Bytes),
    /// A message.
    Said(T),
}

/// Takes the upgrade only from a page of this host. A browser always says where a WebSocket comes from (RFC 6455 §4.1).
pub(crate) fn of_our_page(
    upgrade: WebSocketUpgrade,
    headers: &HeaderMap,
) -> Result<WebSocketUpgrade, Failure> {
    if !headers.contains_key(header::ORIGIN) || !form::same_origin(headers) {
        return Err(Failure::Forbidden("the connection came from another site, so nothing was done".into()));
    }
    Ok(upgrade.max_message_size(LARGEST).max_frame_size(LARGEST))
}

/// Sends one message.
pub(crate) async fn send(socket: &mut WebSocket, message: Message) -> Result<(), Gone> {
    match tokio::time::timeout(PATIENCE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Gone),
    }
}

/// Sends several messages, together in the time for one.
pub(crate) async fn in_time(sending: impl Future<Output = Result<(), Gone>>) -> Result<(), Gone> {
    tokio::time::timeout(PATIENCE, sending).await.unwrap_or(Err(Gone))
}

/// Sends one message as JSON.
pub(crate) async fn say(socket: &mut WebSocket, what: &impl Serialize) -> Result<(), Gone> {
    let text = serde_json::to_string(what).map_err(|_| Gone)?;
    send(socket, Message::Text(Utf8Bytes::from(text))).await
}

/// Says a last word and closes in order, unless the browser is gone.
pub(crate) async fn end(mut socket: WebSocket, last: &impl Serialize) {
    if say(&mut socket, last).await.is_ok() {
        close(socket).await;
    }
}

/// Closes in order.
async fn close(mut socket: WebSocket) {
    // 1000: the purpose is fulfilled (RFC 6455 §7.4.1). A browser that is gone needs no farewell.
    let frame = CloseFrame { code: 1000, reason: Utf8Bytes::default() };
    send(&mut socket, Message::Close(Some(frame))).await.unwrap_or_default();
}

/// What one message of the browser means; `None` for those of the protocol itself.
pub(crate) fn read<T: DeserializeOwned>(
    message: Option<Result<Message, axum::Error>>,
) -> Result<Option<Received<T>>, Gone> {
    match message {
        Some(Ok(Message::Binary(bytes))) => Ok(Some(Received::Bytes(bytes))),
        Some(Ok(Message::Text(text))) => {
            serde_json::from_str(&text).map(|said| Some(Received::Said(said))).map_err(|_| Gone)
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Gone),
    }
}

/// How far ahead of the browser's screen the server may send, in whatever is counted.
#[derive(Debug)]
pub(crate) struct Pace {
    ahead: u64,
    most: u64,
}

impl Pace {
    /// At most so much.
    pub(crate) fn new(most: u64) -> Self {
        Self { ahead: 0, most }
    }

    /// Whether more may be sent.
    pub(crate) fn open(&self) -> bool {
        self.ahead < self.most
    }

    /// So much was sent.
    pub(crate) fn sent(&mut self, n: usize) {
        self.ahead = self.ahead.saturating_add(n as u64);
    }

    /// The browser has shown so much.
    pub(crate) fn shown(&mut self, n: u64) {
        self.ahead = self.ahead.saturating_sub(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_does_not_show_what_it_got_gets_no_more() {
        let mut pace = Pace::new(100);
        pace.sent(60);
        assert!(pace.open());
        pace.sent(60);
        assert!(!pace.open());
        pace.shown(30);
        assert!(pace.open());
        pace.shown(u64::MAX);
        assert!(pace.open());
    }

    #[test]
    fn what_is_no_message_of_ours_ends_the_connection() {
        #[derive(Debug, serde::Deserialize)]
        struct Ack {
            #[allow(dead_code)]
            ack: u64,
        }
        let text = |t: &str| Some(Ok(Message::Text(t.to_owned().into())));
        assert!(matches!(read::<Ack>(text("{\"ack\":3}")), Ok(Some(Received::Said(_)))));
        for wrong in ["", "{}", "[]", "{\"ack\":-1}", "nonsense"] {
            assert!(read::<Ack>(text(wrong)).is_err(), "{wrong}");
        }
        assert!(read::<Ack>(None).is_err());
    }
}
