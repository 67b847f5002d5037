//! Forwarded connections (`ssh -L`, `-D`, `-J`; RFC 4254 §7.2): to endpoints that the window covers, and nowhere else.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use cofferdam_access::{
    policy::{ChannelDecision, ChannelPermit, ChannelRequest, ForwardPermit, Way},
    window::Operation,
};
use cofferdam_recorder::{Direction, Event, StreamKeeper};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, client, server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use super::relay::{close_keepers, kept};
use crate::{
    detect::triggers::Observation,
    session::{control::Ended, live::Session},
    ssh::{
        connection::{Brokered, Connection},
        jump, target,
    },
};

/// Longest sleep until a forward's own end is looked at again: a clock that was set is noticed within it.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);
/// Bytes read from an endpoint at a time.
const PIECE: usize = 128 * 1024;

/// Where the client wants to go.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The host as typed.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// Where the connection came from on the client's side, as the client says.
    pub(crate) origin: String,
}

/// Serves one request to open a forwarded connection. Runs on its own: nothing else waits for it.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    channel: Channel<server::Msg>,
    reply: server::ChannelOpenHandle,
    wanted: Wanted,
) {
    // SSH inside a forward is terminated here, inspected and recorded like any other session.
    if let Some(asset) = connection.gateway.ssh_asset_at(&wanted.host, wanted.port) {
        reply.accept().await;
        return Box::pin(jump::serve(connection, channel, asset)).await;
    }
    let Some(named) = connection.named.clone() else {
        let sentence = format!(
            "no forward without an asset: name one, as in `ssh -L PORT:ASSET:PORT {}+ASSET@GATEWAY`",
            connection.identity.user
        );
        Box::pin(connection.gateway.audit_refused_forward(&connection.identity, None, &wanted, &sentence))
            .await;
        return refuse(reply, sentence).await;
    };
    let brokered = match Box::pin(connection.brokered(&named)).await {
        Ok(brokered) => brokered,
        Err(refusal) => {
            Box::pin(connection.gateway.audit_refused_forward(
                &connection.identity,
                None,
                &wanted,
                &refusal.sentence,
            ))
            .await;
            return refuse(reply, refusal.sentence).await;
        }
    };
    let session = brokered.session.clone();
    let number = session.next_channel();
    let permit = match Box::pin(decide(&connection, &session, number, &wanted)).await {
        Ok(permit) => permit,
        Err(sentence) => return refuse(reply, sentence).await,
    };
    let far = match Box::pin(dial(&connection, &brokered, &permit)).await {
        Ok(far) => far,
        Err(why) => {
            let text = format!("forward to {}:{} did not come up: {why}", wanted.host, wanted.port);
            session.record(Event::Notice { text }).await.unwrap_or_default();
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    };
    let opened = Event::Forward(Box::new(event(number, &wanted, None)));
    if session.record(opened).await.is_err() {
        return refuse(reply, "session ended".into()).await;
    }
    reply.accept().await;
    let over = until_not_allowed(&connection, &session, &wanted, &permit);
    let relaying = relay(session.clone(), number, channel, far, permit.keep_full_bytes(), over);
    if let Some(why) = session.tasks.track_future(relaying).await {
        let sentence = format!("the forward to {}:{} was closed: {why}", wanted.host, wanted.port);
        Box::pin(connection.gateway.audit_refused_forward(
            &connection.identity,
            Some(session.id()),
            &wanted,
            &sentence,
        ))
        .await;
        session.say(&sentence).await.unwrap_or_default();
    }
}

async fn refuse(reply: server::ChannelOpenHandle, sentence: String) {
    reply.reject(ChannelOpenFailure::Other { code: 1, reason: sentence }).await;
}

fn event(channel: u32, wanted: &Wanted, refused: Option<String>) -> cofferdam_recorder::Forward {
    cofferdam_recorder::Forward {
        channel,
        kind: "local".into(),
        host: wanted.host.chars().filter(|c| !c.is_control()).take(255).collect(),
        port: wanted.port.into(),
        origin: wanted.origin.clone(),
        refused,
    }
}

/// Policy, for this forward. A refusal is recorded, audited and looked at before the person hears of it.
async fn decide(
    connection: &Connection,
    session: &Session,
    number: u32,
    wanted: &Wanted,
) -> Result<ForwardPermit, String> {
    let snapshot = connection.gateway.snapshots.borrow().clone();
    let request = ChannelRequest::Forward { host: &wanted.host, port: wanted.port };
    let reasons = match session.grant().decide_channel(&snapshot, request, session.now()) {
        ChannelDecision::Permit(ChannelPermit::Forward(permit)) if may_pass_unread(&permit) => {
            return Ok(permit);
        }
        ChannelDecision::Permit(ChannelPermit::Forward(permit)) => vec![format!(
            "{} is not understood by this gateway yet, so a window that only allows to look does not open it: ask for one \
             that allows to operate",
            permit.protocol().as_str()
        )],
        ChannelDecision::Permit(_) => vec!["this is no forward".to_owned()],
        ChannelDecision::Deny { reasons, .. } => reasons,
    };
    let sentence = reasons.join("; ");
    let said = async {
        session.record(Event::Forward(Box::new(event(number, wanted, Some(sentence.clone()))))).await?;
        Box::pin(connection.gateway.audit_refused_forward(
            &connection.identity,
            Some(session.id()),
            wanted,
            &sentence,
        ))
        .await;
        let to = format!("{}:{}", wanted.host, wanted.port);
        session.observe(Observation::RefusedForward { to: &to }).await
    };
    // An error means that the session ended over it; the refusal stands either way.
    said.await.unwrap_or_default();
    Err(sentence)
}

/// A forward is raw bytes: as long as no inspector tells looking from writing, only a window for more than looking may
/// carry one.
fn may_pass_unread(permit: &ForwardPermit) -> bool {
    permit.operations().iter().any(|o| matches!(o, Operation::Operate | Operation::Program))
}

/// Waits until the forward no longer qualifies: policy is asked again with every new picture, and its own end counts.
async fn until_not_allowed(
    connection: &Connection,
    session: &Session,
    wanted: &Wanted,
    first: &ForwardPermit,
) -> String {
    let mut snapshots = connection.gateway.snapshots.clone();
    let mut not_after = first.not_after();
    loop {
        let left = not_after.since(session.now());
        let sleep = Duration::from_micros(u64::try_from(left).unwrap_or(0)).min(LONGEST_SLEEP);
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() {
                return "the policy feed stopped".to_owned();
            },
            () = tokio::time::sleep(sleep) => {}
        }
        let snapshot = snapshots.borrow_and_update().clone();
        let request = ChannelRequest::Forward { host: &wanted.host, port: wanted.port };
        match session.grant().decide_channel(&snapshot, request, session.now()) {
            ChannelDecision::Permit(ChannelPermit::Forward(now)) if now.way() == first.way() => {
                not_after = now.not_after();
                if session.now() >= not_after {
                    return "its time is over".to_owned();
                }
            }
            ChannelDecision::Permit(_) => return "its description changed".to_owned(),
            ChannelDecision::Deny { reasons, .. } => return reasons.join("; "),
        }
    }
}

/// Connects to the endpoint that the permit names, the way it names. What a name resolves to is checked again: a name must
/// not lead home.
async fn dial(connection: &Connection, brokered: &Brokered, permit: &ForwardPermit) -> Result<Far, String> {
    let patience = Duration::from_secs(connection.gateway.limits.dial_timeout_seconds.into());
    let dialling = async {
        match permit.way() {
            Way::Dial(to) => {
                let stream = target::connect(&to.host, to.port, &connection.gateway.destinations).await?;
                stream.set_nodelay(true).map_err(|e| e.to_string())?;
                let (read, write) = stream.into_split();
                Ok((FromTarget::Socket(read, BytesMut::new()), ToTarget::Socket(write)))
            }
            Way::OwnLoopback(to) => {
                // There is no terminal to ask on: a target with questions of its own refuses here.
                let leg = brokered.target(None).await.map_err(|e| e.sentence)?;
                let opening =
                    leg.handle.channel_open_direct_tcpip(to.host.as_str(), to.port.into(), "127.0.0.1", 0);
                let (read, write) = opening.await.map_err(|e| e.to_string())?.split();
                Ok((FromTarget::Channel(read), ToTarget::Channel(write)))
            }
        }
    };
    tokio::select! {
        biased;
        () = brokered.session.control().ended() => Err("the session ended".into()),
        // Other channels do not wait for it.
        r = tokio::time::timeout(patience, dialling) => r.map_err(|_| "no answer in time".to_owned())?,
    }
}

/// The two directions of the endpoint's side.
type Far = (FromTarget, ToTarget);

/// What comes from the endpoint.
enum FromTarget {
    Socket(OwnedReadHalf, BytesMut),
    Channel(ChannelReadHalf),
}

impl FromTarget {
    /// The next piece; `None` at the end, however it came about.
    async fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Socket(socket, buffer) => {
                // Waits without holding a buffer: an idle forward costs nothing.
                socket.readable().await.ok()?;
                if buffer.capacity() < PIECE / 4 {
                    *buffer = BytesMut::new();
                }
                buffer.reserve(PIECE);
                let read = socket.read_buf(buffer).await.ok()?;
                (read > 0).then(|| buffer.split().freeze())
            }
            Self::Channel(channel) => loop {
                match channel.wait().await? {
                    ChannelMsg::Data { data } => return Some(data),
                    ChannelMsg::Eof | ChannelMsg::Close => return None,
                    _ => {}
                }
            },
        }
    }
}

/// What goes to the endpoint.
enum ToTarget {
    Socket(OwnedWriteHalf),
    Channel(ChannelWriteHalf<client::Msg>),
}

impl ToTarget {
    /// Whether it was taken.
    async fn write(&mut self, data: Bytes) -> bool {
        match self {
            Self::Socket(socket) => socket.write_all(&data).await.is_ok(),
            Self::Channel(channel) => channel.data_bytes(data).await.is_ok(),
        }
    }

    /// Nothing more comes from the person. An endpoint that is gone needs not be told.
    async fn finish(&mut self) {
        match self {
            Self::Socket(socket) => socket.shutdown().await.unwrap_or_default(),
            Self::Channel(channel) => channel.eof().await.unwrap_or_default(),
        }
    }

    async fn close(&mut self) {
        if let Self::Channel(channel) = self {
            channel.close().await.unwrap_or_default();
        }
    }
}

/// Relays until either side is done, the session ends, or `over` says why the forward must close; then says that.
async fn relay(
    session: Arc<Session>,
    number: u32,
    channel: Channel<server::Msg>,
    (mut from_target, mut to_target): Far,
    full: u64,
    over: impl Future<Output = String>,
) -> Option<String> {
    let (mut read, write) = channel.split();
    let keeper = |direction| StreamKeeper::keeping(session.recorder().clone(), number, direction, full);
    let (mut up_keep, mut down_keep) = (keeper(Direction::ToTarget), keeper(Direction::ToPerson));
    let closed = {
        let up = up(&session, &mut up_keep, &mut read, &mut to_target);
        let down = down(&session, &mut down_keep, &mut from_target, &write);
        let relay = async {
            tokio::pin!(up, down);
            // The client may close for writing and go on reading; once it has closed the channel nothing is left to do.
            tokio::select! {
                _ = &mut down => {}
                left = &mut up => if left == Ok(Left::HalfClosed) {
                    down.await.unwrap_or_default();
                }
            }
        };
        tokio::select! {
            biased;
            () = session.control().ended() => None,
            why = over => Some(why),
            () = relay => None,
        }
    };
    close_keepers(&session, [up_keep, down_keep]).await;
    session.record(Event::ChannelClose { channel: number, exit: None }).await.unwrap_or_default();
    to_target.close().await;
    write.close().await.unwrap_or_default();
    closed
}

/// How the person's direction came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing more comes from the person, who still listens.
    HalfClosed,
    /// The channel, or the target's side of it, is closed.
    Closed,
}

async fn up(
    session: &Session,
    keep: &mut StreamKeeper,
    read: &mut ChannelReadHalf,
    target: &mut ToTarget,
) -> Result<Left, Ended> {
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                session.control().running().await?;
                session.heard_person(data.len());
                kept(session, keep.record(&data, session.now().micros()).await)?;
                if !target.write(data).await {
                    return Ok(Left::Closed);
                }
            }
            ChannelMsg::Eof => {
                target.finish().await;
                return Ok(Left::HalfClosed);
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    target.finish().await;
    Ok(Left::Closed)
}

async fn down(
    session: &Session,
    keep: &mut StreamKeeper,
    target: &mut FromTarget,
    person: &ChannelWriteHalf<server::Msg>,
) -> Result<(), Ended> {
    while let Some(data) = target.next().await {
        session.control().running().await?;
        session.heard_target(data.len());
        kept(session, keep.record(&data, session.now().micros()).await)?;
        if person.data_bytes(data).await.is_err() {
            return Ok(());
        }
    }
    person.eof().await.unwrap_or_default();
    Ok(())
}
