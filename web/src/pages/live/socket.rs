//! The WebSocket behind the page that watches a session: the screen as it stands, then what happens, at the browser's pace.

use axum::{
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::HeaderMap,
    response::Response,
};
use serde::{Deserialize, Serialize};

use super::parsed;
use crate::{
    error::Failure,
    frame::sentence,
    routes::WATCHERS,
    services::App,
    sockets::{self, Gone, Pace, Received},
    streams::{self, Place},
    viewer::Viewer,
    watching::{Watched, Watching},
};

/// Messages that may be on their way to the browser's screen.
const AHEAD: u64 = 64;

/// What the browser says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    /// So many messages more were shown.
    Ack(u64),
}

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Say<'a> {
    Screen { columns: usize, rows: usize, text: &'a str },
    Output(&'a str),
    Size((usize, usize)),
    Mark { at: String, kind: &'a str, text: &'a str },
    Cleared(bool),
    Ended(&'a str),
}

pub(super) async fn connect(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let upgrade = sockets::of_our_page(upgrade, &headers)?;
    let id = parsed(&id)?;
    let place = app.streams.enter(&viewer.user.name)?;
    // Refused before the upgrade, so that the page can tell it from a connection that broke.
    let watching = app.live.watch(&viewer.act(app.now()), &viewer.user.name, id).await;
    Ok(upgrade.on_upgrade(move |socket| serve(app, viewer, socket, watching, place)))
}

async fn serve(
    app: App,
    viewer: Viewer,
    mut socket: WebSocket,
    watching: Result<Watching, String>,
    place: Place,
) {
    let why = match watching {
        Ok(watching) => {
            let carried = carry(&mut socket, watching);
            streams::unless_over(&app, &viewer, WATCHERS, carried).await
        }
        Err(why) => Ok(why),
    };
    if let Ok(why) = why {
        sockets::end(socket, &Say::Ended(&sentence(&why))).await;
    }
    drop(place);
}

/// Until the session ends, which answers why, or the browser goes away.
async fn carry(socket: &mut WebSocket, mut watching: Watching) -> Result<String, Gone> {
    let Watching { columns, rows, .. } = watching;
    match watching.desktop.take() {
        Some(picture) => sockets::send(socket, Message::Binary(picture)).await?,
        None => sockets::say(socket, &Say::Screen { columns, rows, text: &watching.screen }).await?,
    }
    watching.screen = String::new();
    let mut pace = Pace::new(AHEAD);
    loop {
        tokio::select! {
            message = socket.recv() => match sockets::read(message)? {
                Some(Received::Said(Said::Ack(n))) => pace.shown(n),
                Some(Received::Bytes(_)) => return Err(Gone),
                None => {}
            },
            event = watching.events.recv(), if pace.open() => {
                let Some(event) = event else { return Ok("the session has ended".to_owned()) };
                let say = match &event {
                    Watched::Output(text) => {
                        pace.sent(1);
                        Say::Output(text)
                    }
                    Watched::Size { columns, rows } => Say::Size((*columns, *rows)),
                    Watched::Mark { at, kind, text } => Say::Mark { at: at.to_string(), kind, text },
                    Watched::Cleared => Say::Cleared(true),
                    Watched::Desktop(messages) => {
                        pace.sent(1);
                        sockets::send(socket, Message::Binary(messages.clone())).await?;
                        continue;
                    }
                    Watched::Failed(why) => return Ok(why.clone()),
                };
                sockets::say(socket, &say).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_those_that_the_page_knows() {
        assert!(matches!(serde_json::from_str("{\"ack\":7}"), Ok(Said::Ack(7))));
        let screen = serde_json::to_value(Say::Screen { columns: 80, rows: 24, text: "$" }).unwrap();
        assert_eq!(screen, serde_json::json!({"screen": {"columns": 80, "rows": 24, "text": "$"}}));
        assert_eq!(serde_json::to_string(&Say::Size((3, 2))).unwrap(), "{\"size\":[3,2]}");
    }
}
