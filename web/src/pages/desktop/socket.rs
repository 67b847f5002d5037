//! The WebSocket behind a desktop in the browser. RDP goes both ways as binary messages; all else is JSON.
//!
//! Who asks is known from the log-in; which desktop it is, and that it may be opened, the token proves inside. Both ways are
//! bounded: the browser says how much its RDP client has taken, and while the gateway takes no more, nothing more is read.

use std::{pin::pin, time::Duration};

use axum::{
    extract::{
        Query, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::HeaderMap,
    response::Response,
};
use bytes::{Buf as _, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::desktops;
use crate::{
    desktops::{KEYBOARDS, OpenDesktop, Told},
    error::Failure,
    frame::{WORKERS, sentence},
    services::App,
    sockets::{self, Gone, Pace, Received},
    streams::{self, Place},
    viewer::{Credential, Viewer},
};

/// Bytes that may be on their way to the browser's RDP client: a third of a large screen without compression.
const AHEAD: u64 = 1024 * 1024;
/// Bytes from the browser that wait for the gateway; with so many, nothing more is read.
const WAITING: usize = 64 * 1024;
/// The longest message to the browser.
const PIECE: usize = 64 * 1024;
/// How long the gateway may take to say why it has closed.
const LAST_WORDS: Duration = Duration::from_secs(6);

/// The browser's messages.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    /// So many bytes more were taken.
    Ack(u64),
}

/// The server's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Say<'a> {
    /// The desktop takes nothing for now, and why; empty when it goes on.
    Frozen(&'a str),
    /// A message for who is there.
    Says(&'a str),
    /// It is over.
    Ended(&'a str),
}

/// What the page says of its person.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// The layout of their keyboard.
    keyboard: Option<u32>,
}

impl Asked {
    /// One of those that can be chosen: the number goes to the machine.
    fn known(&self) -> Option<u32> {
        self.keyboard.filter(|chosen| KEYBOARDS.iter().any(|(layout, ..)| layout == chosen))
    }
}

pub(super) async fn connect(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let upgrade = sockets::of_our_page(upgrade, &headers)?;
    // A program brings a client of its own.
    let Credential::Session { .. } = viewer.credential else { return Err(Failure::LogIn) };
    desktops(&app)?;
    let place = app.streams.enter(&viewer.user.name)?;
    Ok(upgrade.on_upgrade(move |socket| serve(app, viewer, socket, place, asked.known())))
}

async fn serve(app: App, viewer: Viewer, mut socket: WebSocket, place: Place, keyboard: Option<u32>) {
    let opened = match desktops(&app) {
        Ok(desktops) => desktops.open(viewer.user.name.clone(), viewer.source, keyboard),
        Err(e) => Err(e.to_string()),
    };
    let why = match opened {
        Ok(desktop) => {
            let carried = carry(&mut socket, desktop);
            streams::unless_over(&app, &viewer, WORKERS, carried).await
        }
        Err(why) => Ok(why),
    };
    // A browser that is gone hears nothing any more; dropping the desktop has ended its session.
    if let Ok(why) = why {
        sockets::end(socket, &Say::Ended(&sentence(&why))).await;
    }
    drop(place);
}

/// Until the desktop ends, which answers why, or the browser goes away.
async fn carry(socket: &mut WebSocket, desktop: OpenDesktop) -> Result<String, Gone> {
    let OpenDesktop { stream, mut told } = desktop;
    let (mut from, mut to) = tokio::io::split(stream);
    let mut pace = Pace::new(AHEAD);
    let mut waiting = BytesMut::new();
    let mut bounds = Bounds::default();
    let mut closed = false;
    let mut ended = None;
    loop {
        let full = waiting.len() >= WAITING;
        tokio::select! {
            next = told.recv(), if ended.is_none() => match next {
                Some(Told::Frozen(why)) => sockets::say(socket, &Say::Frozen(&sentence(&why))).await?,
                Some(Told::GoesOn) => sockets::say(socket, &Say::Frozen("")).await?,
                Some(Told::Says(text)) => sockets::say(socket, &Say::Says(&sentence(&text))).await?,
                Some(Told::Ended(why)) => ended = Some(why),
                None => break,
            },
            message = socket.recv(), if !full => match sockets::read(message)? {
                Some(Received::Bytes(_)) if closed => {}
                Some(Received::Bytes(bytes)) => waiting.extend_from_slice(&bytes),
                Some(Received::Said(Said::Ack(n))) => pace.shown(n),
                None => {}
            },
            taken = pass_on(&mut to, &mut waiting), if !waiting.is_empty() => if !taken {
                // What it said last is still to be read.
                closed = true;
                waiting.clear();
            },
            // While nothing is read from the browser, its acknowledgements cannot be waited for. The last words go to one that
            // takes nothing, too.
            piece = next_piece(&mut from), if pace.open() || full || ended.is_some() => {
                let Some(piece) = piece else { break };
                pace.sent(piece.len());
                let whole = async {
                    bounds.feed(piece);
                    while let Some(message) = bounds.next() {
                        sockets::send(socket, Message::Binary(message.freeze())).await?;
                    }
                    Ok(())
                };
                sockets::in_time(whole).await?;
            },
        }
    }
    // The gateway waits until its last words were taken, which closing tells it.
    drop((from, to));
    if let Some(why) = ended {
        return Ok(why);
    }
    let why = pin!(async {
        loop {
            match told.recv().await {
                Some(Told::Ended(why)) => return Some(why),
                Some(_) => {}
                None => return None,
            }
        }
    });
    let why = tokio::time::timeout(LAST_WORDS, why).await.ok().flatten();
    Ok(why.unwrap_or_else(|| "the desktop was closed".to_owned()))
}

/// Whether the gateway takes what the browser sent, or a part of it.
async fn pass_on(to: &mut (impl AsyncWrite + Unpin), waiting: &mut BytesMut) -> bool {
    match to.write(waiting).await {
        Ok(taken @ 1..) => {
            waiting.advance(taken);
            true
        }
        _ => false,
    }
}

/// Where PDUs end, each of which is a message of its own: the browser's client forgets what comes in one message with the last
/// of the beginning (the Font Map), and no machine says that twice. Wherever a message ends, the bytes are the same.
#[derive(Debug, Default)]
struct Bounds {
    bytes: BytesMut,
    left: usize,
    /// The log-in is over.
    begun: bool,
}

impl Bounds {
    fn feed(&mut self, piece: BytesMut) {
        if self.bytes.is_empty() {
            self.bytes = piece;
        } else {
            self.bytes.extend_from_slice(&piece);
        }
    }

    /// What there is of the PDU that has begun, or begins. A head of which a part is missing waits for it.
    fn next(&mut self) -> Option<BytesMut> {
        if self.left == 0 {
            self.left = match pdu_length(&self.bytes) {
                Length::Short if self.begun || self.bytes.is_empty() => return None,
                Length::Of(length) => length,
                Length::Short | Length::Unknown => self.bytes.len(),
            };
            self.begun |= self.bytes.starts_with(&[3, 0]);
        }
        let now = self.left.min(self.bytes.len());
        self.left -= now;
        Some(self.bytes.split_to(now)).filter(|message| !message.is_empty())
    }
}

/// What the beginning of something says about its length.
#[derive(Debug, PartialEq, Eq)]
enum Length {
    /// More of it has to come.
    Short,
    Of(usize),
    /// It is no PDU: the log-in before has other forms.
    Unknown,
}

/// The length of a PDU (TPKT, RFC 1006 section 6, or fast-path, MS-RDPBCGR 2.2.9.1.2).
fn pdu_length(bytes: &[u8]) -> Length {
    let length = match *bytes {
        [] => return Length::Short,
        [3, _, high, low, ..] => u16::from_be_bytes([high, low]),
        [3, ..] => return Length::Short,
        // DER.
        [0x30, ..] => return Length::Unknown,
        [first, ..] if first & 3 != 0 => return Length::Unknown,
        [_, length, ..] if length & 0x80 == 0 => length.into(),
        [_, high, low, ..] => u16::from_be_bytes([high & 0x7f, low]),
        _ => return Length::Short,
    };
    match usize::from(length) {
        0..=2 => Length::Unknown,
        length => Length::Of(length),
    }
}

/// What the gateway sends next; nothing once it has closed.
async fn next_piece(from: &mut (impl AsyncRead + Unpin)) -> Option<BytesMut> {
    let mut piece = BytesMut::with_capacity(PIECE);
    match from.read_buf(&mut piece).await {
        Ok(1..) => Some(piece),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_those_that_the_page_knows() {
        assert!(matches!(serde_json::from_str("{\"ack\":7}"), Ok(Said::Ack(7))));
        assert_eq!(serde_json::to_string(&Say::Frozen("")).unwrap(), "{\"frozen\":\"\"}");
        assert_eq!(serde_json::to_string(&Say::Ended("over")).unwrap(), "{\"ended\":\"over\"}");
    }

    #[test]
    fn only_keyboards_that_can_be_chosen_are_believed_in() {
        let asked = |keyboard| Asked { keyboard }.known();
        assert_eq!((asked(Some(0x0407)), asked(Some(7)), asked(None)), (Some(0x0407), None, None));
    }

    #[tokio::test]
    async fn what_the_gateway_does_not_take_waits_and_keeps_its_order() {
        let (mut near, mut far) = tokio::io::duplex(4);
        let mut waiting = BytesMut::from(&b"123456789"[..]);
        assert!(pass_on(&mut near, &mut waiting).await);
        assert_eq!(&waiting[..], b"56789");
        assert_eq!(next_piece(&mut far).await.as_deref(), Some(&b"1234"[..]));
        assert!(pass_on(&mut near, &mut waiting).await);
        assert_eq!(next_piece(&mut far).await.as_deref(), Some(&b"5678"[..]));
        drop(far);
        assert!(!pass_on(&mut near, &mut waiting).await, "it is gone");
    }

    #[test]
    fn each_pdu_is_a_message_of_its_own_and_nothing_is_lost() {
        let pdus: [&[u8]; 6] = [
            &[0x30, 2, 9, 9],
            &[3, 0, 0, 7, 1, 2, 3],
            &[3, 0, 0, 8, 1, 2, 3, 4],
            &[0, 4, 1, 2],
            &[0, 0x80, 5, 1, 2],
            &[3, 0, 0, 7, 1, 2, 3],
        ];
        let mut bounds = Bounds::default();
        let mut messages = Vec::new();
        // What ends in the midst of a PDU, of one's head, or of something of the log-in.
        let all = pdus.concat();
        for (from, to) in [(0, 3), (3, 4), (4, 16), (16, 20), (20, 28), (28, all.len())] {
            bounds.feed(BytesMut::from(&all[from..to]));
            messages.extend(std::iter::from_fn(|| bounds.next()));
        }
        let [login, rest @ ..] = &pdus;
        let first = [&login[..3], &login[3..], rest[0], &rest[1][..5], &rest[1][5..]];
        let wanted = [&first[..], &rest[2..]].concat();
        assert_eq!(messages, wanted);
    }

    #[tokio::test]
    async fn a_piece_is_never_longer_than_a_message_may_be() {
        let (mut near, mut far) = tokio::io::duplex(4 * PIECE);
        near.write_all(&vec![7; 2 * PIECE]).await.unwrap();
        assert!(next_piece(&mut far).await.is_some_and(|piece| piece.len() <= PIECE));
        drop(near);
        while next_piece(&mut far).await.is_some() {}
    }
}
