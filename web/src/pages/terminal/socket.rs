//! The WebSocket behind the terminal's page. Bytes go both ways as binary messages; all else is JSON.
//!
//! Both ways are bounded: the browser says how much its screen has taken, and is told how much of what it sent went on. It
//! keeps the rest, so that neither a long paste nor a flood of output fills a queue here.

use std::{collections::VecDeque, pin::pin, time::Duration};

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::HeaderMap,
    response::Response,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Ticket, purpose_of_ticket};
use crate::{
    error::Failure,
    frame::{WORKERS, sentence},
    services::App,
    sockets::{self, Gone, Pace, Received},
    step_up::with_second,
    streams::{self, Place},
    terminals::{Shown, Size, Terminal, TerminalRequest, Typed},
    token::Token,
    viewer::{Credential, Viewer},
};

/// Bytes that may be on their way to the browser's screen.
const AHEAD: u64 = 256 * 1024;
/// Bytes from the browser that may wait for the target; it is told to keep more.
const WAITING: usize = 128 * 1024;
/// How long the browser may take to show its ticket.
const TICKET: Duration = Duration::from_secs(10);

/// The browser's first message.
#[derive(Deserialize)]
struct First {
    ticket: String,
    columns: u32,
    rows: u32,
}

/// Its other ones.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    /// So many bytes more were shown.
    Ack(u64),
    /// Columns and rows of the screen.
    Size((u32, u32)),
}

/// The server's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Say<'a> {
    /// The terminal is open.
    Open(bool),
    /// So many bytes more went on to the target.
    Took(usize),
    /// It is over.
    Ended(&'a str),
}

pub(super) async fn connect(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let upgrade = sockets::of_our_page(upgrade, &headers)?;
    let place = app.streams.enter(&viewer.user.name)?;
    Ok(upgrade.on_upgrade(move |socket| serve(app, viewer, socket, place)))
}

async fn serve(app: App, viewer: Viewer, mut socket: WebSocket, place: Place) {
    let why = match opened(&app, &viewer, &mut socket).await {
        Ok(terminal) => {
            let carried = carry(&mut socket, terminal);
            streams::unless_over(&app, &viewer, WORKERS, carried).await
        }
        Err(why) => Ok(why),
    };
    // A browser that is gone hears nothing any more; dropping the terminal has ended its session.
    if let Ok(why) = why {
        sockets::end(socket, &Say::Ended(&sentence(&why))).await;
    }
    drop(place);
}

/// Takes the ticket and opens what it is for. The error is for the person.
async fn opened(app: &App, viewer: &Viewer, socket: &mut WebSocket) -> Result<Terminal, String> {
    let first = tokio::time::timeout(TICKET, socket.recv()).await;
    let first = match first.map(sockets::read::<First>) {
        Ok(Ok(Some(Received::Said(first)))) => first,
        _ => return Err("the page did not show its ticket in time: open the terminal again".into()),
    };
    let stale = || "the ticket was used before, or is too old: open the terminal again".to_owned();
    let ticket = Token::parse(&first.ticket).ok_or_else(stale)?;
    let purpose = purpose_of_ticket(viewer).map_err(|e| e.to_string())?;
    let kept = app.store.take_challenge(app.now(), &ticket.digest(), &purpose).await;
    let kept = kept.map_err(|e| Failure::from(e).to_string())?.ok_or_else(stale)?;
    let opens: Ticket = serde_json::from_str(&kept).map_err(|_| stale())?;
    let Credential::Session { factors, .. } = &viewer.credential else { return Err(stale()) };
    let request = TerminalRequest {
        user: viewer.user.name.clone(),
        source: viewer.source,
        factors: with_second(factors.first, opens.second),
        asset: opens.asset,
        login: opens.login,
        size: Size::within_bounds(first.columns, first.rows),
    };
    let terminal = app.terminals.open(request).await?;
    sockets::say(socket, &Say::Open(true)).await.map_err(|e| e.to_string())?;
    Ok(terminal)
}

/// What the person did and the target has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Typed>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, typed: Typed) -> Result<(), Gone> {
        match (&typed, self.queue.back_mut()) {
            (Typed::Bytes(bytes), _) => {
                self.bytes += bytes.len();
                // The page keeps to what it was told it may send.
                if self.bytes > WAITING {
                    return Err(Gone);
                }
            }
            // Only the last of several sizes matters.
            (Typed::Size(size), Some(Typed::Size(last))) => {
                *last = *size;
                return Ok(());
            }
            (Typed::Size(_), _) => {}
        }
        self.queue.push_back(typed);
        Ok(())
    }

    fn pop(&mut self) -> Option<Typed> {
        let typed = self.queue.pop_front()?;
        if let Typed::Bytes(bytes) = &typed {
            self.bytes = self.bytes.saturating_sub(bytes.len());
        }
        Some(typed)
    }
}

/// Until the terminal ends, which answers why, or the browser goes away.
async fn carry(socket: &mut WebSocket, terminal: Terminal) -> Result<String, Gone> {
    let Terminal { typed, mut shown } = terminal;
    let mut pace = Pace::new(AHEAD);
    let mut waiting = Waiting::default();
    let mut last_words = false;
    let closed = typed.clone();
    let mut closed = pin!(closed.closed());
    loop {
        tokio::select! {
            message = socket.recv() => match sockets::read(message)? {
                Some(Received::Bytes(bytes)) if !bytes.is_empty() => waiting.push(Typed::Bytes(bytes))?,
                Some(Received::Said(Said::Ack(n))) => pace.shown(n),
                Some(Received::Said(Said::Size((columns, rows)))) => {
                    waiting.push(Typed::Size(Size::within_bounds(columns, rows)))?;
                }
                _ => {}
            },
            permit = typed.reserve(), if !waiting.queue.is_empty() && !last_words => {
                // Without a permit the terminal is over, and says why.
                if let (Ok(permit), Some(next)) = (permit, waiting.pop()) {
                    let taken = if let Typed::Bytes(bytes) = &next { bytes.len() } else { 0 };
                    permit.send(next);
                    if taken > 0 {
                        sockets::say(socket, &Say::Took(taken)).await?;
                    }
                }
            }
            // The last words go to a screen that stands still, too.
            () = &mut closed, if !last_words => last_words = true,
            next = shown.recv(), if last_words || pace.open() => match next {
                Some(Shown::Bytes(bytes)) => {
                    pace.sent(bytes.len());
                    sockets::send(socket, Message::Binary(Bytes::clone(&bytes))).await?;
                }
                Some(Shown::Ended(why)) => return Ok(why),
                None => return Ok("the terminal ended".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_sends_more_than_it_may_is_cut() {
        let mut waiting = Waiting::default();
        waiting.push(Typed::Bytes(Bytes::from(vec![0; WAITING]))).unwrap();
        assert!(waiting.push(Typed::Bytes(Bytes::from_static(b"x"))).is_err());
        let mut waiting = Waiting::default();
        for n in 1..1000 {
            waiting.push(Typed::Size(Size { columns: n, rows: n })).unwrap();
        }
        assert_eq!(waiting.queue.len(), 1);
        assert_eq!(waiting.pop(), Some(Typed::Size(Size { columns: 999, rows: 999 })));
        assert_eq!(waiting.pop(), None);
    }

    #[test]
    fn the_messages_are_those_that_the_page_knows() {
        assert!(matches!(serde_json::from_str("{\"ack\":7}"), Ok(Said::Ack(7))));
        assert!(matches!(serde_json::from_str("{\"size\":[80,24]}"), Ok(Said::Size((80, 24)))));
        assert_eq!(serde_json::to_string(&Say::Took(3)).unwrap(), "{\"took\":3}");
        assert_eq!(serde_json::to_string(&Say::Ended("over")).unwrap(), "{\"ended\":\"over\"}");
    }
}
