//! The relay of one channel: record → detect → forward, bounded both ways.
//!
//! Invariant: nothing is written to either side before the recorder accepted it.
//! Invariant: each direction reads only as fast as the other side takes; what waits is bounded by the channel's queue.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cofferdam_recorder::{Direction, Event, StreamKeeper};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client, server};

use super::files::Files;
use super::session::{PersonEnd, TargetEnd, columns, rows};
use crate::{
    detect::{
        echo::{EchoGuard, Proven},
        human::HumanInput,
        line::LineTracker,
        triggers::Observation,
    },
    session::{
        control::Ended,
        end::End,
        live::{Session, on_screen},
    },
    transfer::Inspector,
};

/// How long the target may take to close after the person closed the channel.
const CLOSING: Duration = Duration::from_secs(5);

/// What kind of content a channel carries.
pub(crate) enum Kind {
    /// A terminal: kept in full, rendered for triggers.
    Terminal {
        /// Its width.
        cols: u16,
    },
    /// Bytes: in full up to a bound, then by digest.
    Stream {
        /// The bound, bytes of each direction.
        full: u64,
    },
    /// File transfer: understood, enforced, kept as file events; raw bytes by digest.
    Files(Box<dyn Inspector>),
}

/// What the target has said about its end.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The exit status, if it sent one.
    pub(super) exit: Option<i32>,
    /// It sends no more data, and the person has been told.
    pub(super) eof: bool,
}

/// What both directions of a terminal know.
#[derive(Debug)]
struct Screen {
    echo: EchoGuard,
    line: LineTracker,
    input: HumanInput,
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Relays until the target closes, the person leaves or the session ends; then both sides are closed.
pub(crate) async fn run(
    session: Arc<Session>,
    channel: u32,
    mut person: PersonEnd,
    mut target: TargetEnd,
    kind: Kind,
) {
    let mut outcome = Outcome::default();
    // Each kind's own future, on the heap: what waits for a quiet terminal is not as large as what moves files.
    let ended = match kind {
        Kind::Terminal { cols } => {
            Box::pin(terminal(&session, channel, cols, &mut person, &mut target, &mut outcome)).await
        }
        Kind::Stream { full } => {
            Box::pin(stream(&session, channel, full, &mut person, &mut target, &mut outcome)).await
        }
        Kind::Files(inspector) => {
            let files = Files::new(session.clone(), channel, inspector);
            let ended = {
                let up = files.up(&mut person.read, &person.write, &target.write);
                let down = files.down(&mut target.read, &person.write, &person.handle, &mut outcome);
                Box::pin(until_ended(&session, both(up, down))).await
            };
            files.close().await;
            ended
        }
    };
    session.record(Event::ChannelClose { channel, exit: outcome.exit }).await.unwrap_or_default();
    if ended && let Some(sentence) = session.control().reason().and_then(End::sentence) {
        // Nothing may follow an end of file (RFC 4254 §5.3).
        if !outcome.eof {
            person.write.extended_data_bytes(1, on_screen(&sentence)).await.unwrap_or_default();
        }
        person.write.exit_status(1).await.unwrap_or_default();
    }
    person.write.close().await.unwrap_or_default();
    target.write.close().await.unwrap_or_default();
}

/// A relay until it is over by itself (`false`), or because its session is (`true`).
async fn until_ended(session: &Session, relay: impl Future<Output = Result<(), Ended>>) -> bool {
    tokio::select! {
        biased;
        () = session.control().ended() => true,
        r = relay => r.is_err(),
    }
}

/// A terminal, with the notices that go onto its screen. Whether the session ended.
async fn terminal(
    session: &Session,
    channel: u32,
    cols: u16,
    person: &mut PersonEnd,
    target: &mut TargetEnd,
    outcome: &mut Outcome,
) -> bool {
    let screen = Mutex::new(Screen {
        echo: EchoGuard::new(),
        line: LineTracker::new(cols),
        input: HumanInput::default(),
    });
    let up = terminal_up(session, channel, &screen, &mut person.read, &target.write);
    let down =
        terminal_down(session, channel, &screen, &mut target.read, &person.write, &person.handle, outcome);
    tokio::select! {
        biased;
        () = show_notices(session, &person.write) => true,
        ended = until_ended(session, both(up, down)) => ended,
    }
}

/// A channel without a terminal. Whether the session ended.
async fn stream(
    session: &Session,
    channel: u32,
    full: u64,
    person: &mut PersonEnd,
    target: &mut TargetEnd,
    outcome: &mut Outcome,
) -> bool {
    let keeping = |direction| StreamKeeper::keeping(session.recorder().clone(), channel, direction, full);
    let (mut up_keep, mut down_keep) = (keeping(Direction::ToTarget), keeping(Direction::ToPerson));
    let ended = {
        let up = stream_up(session, channel, &mut up_keep, &mut person.read, &target.write);
        let (read, write, handle) = (&mut target.read, &person.write, &person.handle);
        let down = stream_down(session, channel, &mut down_keep, read, write, handle, outcome);
        until_ended(session, both(up, down)).await
    };
    close_keepers(session, [up_keep, down_keep]).await;
    ended
}

/// The channel is over when the target closed it; when the person did, the target gets a moment to follow.
async fn both(
    up: impl Future<Output = Result<(), Ended>>,
    down: impl Future<Output = Result<(), Ended>>,
) -> Result<(), Ended> {
    tokio::pin!(up, down);
    tokio::select! {
        over = &mut down => over,
        left = &mut up => {
            left?;
            tokio::time::timeout(CLOSING, down).await.unwrap_or(Ok(()))
        }
    }
}

/// Person → target on a terminal. What is typed is recorded masked first; what the target then shows proves that it
/// was no secret.
async fn terminal_up(
    session: &Session,
    channel: u32,
    screen: &Mutex<Screen>,
    read: &mut ChannelReadHalf,
    target: &ChannelWriteHalf<client::Msg>,
) -> Result<(), Ended> {
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if session.control().frozen().is_some() {
                    // Nobody sees what they type now; sent later, all at once, it could do harm.
                    continue;
                }
                let human = lock(screen).input.typed(&data);
                if human {
                    session.heard_person(data.len())
                } else {
                    session.heard_client(data.len())
                }
                session.record(Event::Input { channel, data: data.clone(), masked: true }).await?;
                session.control().running().await?;
                let (keys, command) = {
                    let mut screen = lock(screen);
                    if human {
                        screen.line.typed();
                    }
                    let enter = data.iter().any(|b| matches!(b, b'\r' | b'\n'));
                    let command = if enter { command_about_to_run(&screen.line, &data) } else { None };
                    (screen.echo.typed(&data), command)
                };
                readable(session, channel, keys).await?;
                if let Some(command) = command {
                    let AboutToRun { line, command } = &command;
                    Box::pin(session.observe(Observation::Command { line, command: Some(command) })).await?;
                    session.control().running().await?;
                }
                if target.data_bytes(data).await.is_err() {
                    return Ok(());
                }
            }
            other => {
                if let ChannelMsg::WindowChange { col_width, .. } = &other {
                    lock(screen).line.resize(columns(*col_width));
                }
                if !control_up(session, channel, other, target).await? {
                    return Ok(());
                }
            }
        }
    }
    target.close().await.unwrap_or_default();
    Ok(())
}

/// What Enter would run: the line as it stands on the screen, and what was pasted together with the Enter.
fn command_about_to_run(line: &LineTracker, data: &[u8]) -> Option<AboutToRun> {
    if line.alternate_screen() {
        return None;
    }
    // With the prompt: what is taken for a prompt by mistake must not hide a command.
    let shown = line.line();
    let pasted: String =
        String::from_utf8_lossy(data).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let whole = format!("{shown} {}", pasted.trim_end()).trim().to_owned();
    let command =
        format!("{} {}", line.command_at_enter().unwrap_or_default(), pasted.trim_end()).trim().to_owned();
    (!whole.is_empty()).then_some(AboutToRun { line: whole, command })
}

/// The line at the moment of Enter, with the prompt and without.
#[derive(Debug)]
struct AboutToRun {
    line: String,
    command: String,
}

/// Typed bytes that were no secret go into the recording once more, readable.
async fn readable(session: &Session, channel: u32, proven: Vec<Proven>) -> Result<(), Ended> {
    for part in proven {
        session.record(Event::Input { channel, data: part.bytes.into(), masked: false }).await?;
    }
    Ok(())
}

/// Target → person on a terminal.
async fn terminal_down(
    session: &Session,
    channel: u32,
    screen: &Mutex<Screen>,
    read: &mut ChannelReadHalf,
    person: &ChannelWriteHalf<server::Msg>,
    handle: &server::Handle,
    outcome: &mut Outcome,
) -> Result<(), Ended> {
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                session.control().running().await?;
                session.heard_target(data.len());
                session.record(Event::Output { channel, data: data.clone() }).await?;
                let echoed = {
                    let mut screen = lock(screen);
                    screen.line.shown(&data);
                    screen.echo.shown(&data)
                };
                readable(session, channel, echoed).await?;
                if person.data_bytes(data).await.is_err() {
                    return Ok(());
                }
            }
            other => {
                if !control_down(session, channel, other, person, handle, outcome).await? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Messages for the person go onto the screen as they come, also while the relay stands.
async fn show_notices(session: &Session, person: &ChannelWriteHalf<server::Msg>) {
    let mut notices = session.notices();
    loop {
        match notices.recv().await {
            Ok(text) => {
                if person.extended_data_bytes(1, on_screen(&text)).await.is_err() {
                    break;
                }
            }
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
        }
    }
    // The screen is gone; the relay notices by itself.
    std::future::pending::<()>().await;
}

async fn stream_up(
    session: &Session,
    channel: u32,
    keep: &mut StreamKeeper,
    read: &mut ChannelReadHalf,
    target: &ChannelWriteHalf<client::Msg>,
) -> Result<(), Ended> {
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                session.control().running().await?;
                session.heard_person(data.len());
                kept(session, keep.record(&data, session.now().micros()).await)?;
                if target.data_bytes(data).await.is_err() {
                    return Ok(());
                }
            }
            other => {
                if !control_up(session, channel, other, target).await? {
                    return Ok(());
                }
            }
        }
    }
    target.close().await.unwrap_or_default();
    Ok(())
}

async fn stream_down(
    session: &Session,
    channel: u32,
    keep: &mut StreamKeeper,
    read: &mut ChannelReadHalf,
    person: &ChannelWriteHalf<server::Msg>,
    handle: &server::Handle,
    outcome: &mut Outcome,
) -> Result<(), Ended> {
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                session.control().running().await?;
                session.heard_target(data.len());
                kept(session, keep.record(&data, session.now().micros()).await)?;
                if person.data_bytes(data).await.is_err() {
                    return Ok(());
                }
            }
            other => {
                if !control_down(session, channel, other, person, handle, outcome).await? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// A keeper that was not heard ends the session.
pub(super) fn kept<T, E: std::fmt::Display>(session: &Session, result: Result<T, E>) -> Result<(), Ended> {
    result.map(drop).map_err(|e| {
        session.control().end(End::RecorderFailed { why: e.to_string() });
        Ended
    })
}

/// The final digests of both directions.
pub(super) async fn close_keepers(session: &Session, keepers: [StreamKeeper; 2]) {
    for keeper in keepers {
        kept(session, keeper.finish().await).unwrap_or_default();
    }
}

/// What is not data, from the person. `false`: the channel is over.
pub(super) async fn control_up(
    session: &Session,
    channel: u32,
    message: ChannelMsg,
    target: &ChannelWriteHalf<client::Msg>,
) -> Result<bool, Ended> {
    // A target that is gone is noticed by the other direction.
    match message {
        ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
            session.control().running().await?;
            session.touch();
            let (cols, rows) = (columns(col_width), rows(row_height));
            session.record(Event::Resize { channel, cols, rows }).await?;
            target.window_change(cols.into(), rows.into(), pix_width, pix_height).await.unwrap_or_default();
        }
        ChannelMsg::Signal { signal } => {
            session.control().running().await?;
            session.touch();
            session.record(Event::Notice { text: format!("the client sent signal {signal:?}") }).await?;
            target.signal(signal).await.unwrap_or_default();
        }
        ChannelMsg::Eof => {
            session.control().running().await?;
            target.eof().await.unwrap_or_default();
        }
        ChannelMsg::Close => {
            target.close().await.unwrap_or_default();
            return Ok(false);
        }
        _ => {}
    }
    Ok(true)
}

/// What is not data, from the target. `false`: the channel is over.
pub(super) async fn control_down(
    session: &Session,
    channel: u32,
    message: ChannelMsg,
    person: &ChannelWriteHalf<server::Msg>,
    handle: &server::Handle,
    outcome: &mut Outcome,
) -> Result<bool, Ended> {
    // A person who is gone is noticed by the other direction.
    match message {
        ChannelMsg::ExtendedData { data, ext: 1 } => {
            session.control().running().await?;
            session.record(Event::Stderr { channel, data: data.clone() }).await?;
            person.extended_data_bytes(1, data).await.unwrap_or_default();
        }
        ChannelMsg::ExitStatus { exit_status } => {
            outcome.exit = i32::try_from(exit_status).ok();
            person.exit_status(exit_status).await.unwrap_or_default();
        }
        ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, lang_tag } => {
            handle
                .exit_signal_request(person.id(), signal_name, core_dumped, error_message, lang_tag)
                .await
                .unwrap_or_default();
        }
        ChannelMsg::Eof => {
            outcome.eof = true;
            person.eof().await.unwrap_or_default();
        }
        ChannelMsg::Close => return Ok(false),
        _ => {}
    }
    Ok(true)
}
