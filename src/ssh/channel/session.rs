//! A session channel: shell, command or subsystem, from the client's request to the last byte.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cofferdam_access::{
    local_time::time_left,
    policy::{ChannelDecision, ChannelRequest},
};
use cofferdam_recorder::Event;
use cofferdam_vault::SecretString;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client, server};
use tokio::sync::mpsc;

use super::{
    relay::{self, Kind},
    start::{self, Asked, Start},
};
use crate::{
    detect::triggers::Observation,
    session::{
        control::Ended,
        end::End,
        files::record_event,
        live::{Session, on_screen},
    },
    ssh::{
        connection::{Brokered, Connection},
        menu,
        target::{Question, TargetError, TargetLeg},
    },
    transfer::{
        FileRules, Inspector, command,
        rsync::RsyncInspector,
        scp::{Refused, ScpInspector},
        sftp::SftpInspector,
    },
};

/// How long a target may take to open a channel and to answer its requests.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer to a target's own question, bytes.
const ANSWER: usize = 256;

/// The person's end of a channel.
#[derive(Debug)]
pub(crate) struct PersonEnd {
    /// From the person.
    pub(crate) read: ChannelReadHalf,
    /// To the person.
    pub(crate) write: Arc<ChannelWriteHalf<server::Msg>>,
    /// Their connection, for replies that the channel half cannot send.
    pub(crate) handle: server::Handle,
}

/// The target's end of a channel.
#[derive(Debug)]
pub(crate) struct TargetEnd {
    /// From the target.
    pub(crate) read: ChannelReadHalf,
    /// To the target.
    pub(crate) write: ChannelWriteHalf<client::Msg>,
}

/// Serves a session channel of an authenticated connection.
pub(crate) async fn serve(connection: Arc<Connection>, channel: Channel<server::Msg>) {
    let (mut read, write) = channel.split();
    let asked = start::collect(&mut read).await;
    let person = PersonEnd { read, write: Arc::new(write), handle: connection.handle.clone() };
    let Some(asked) = asked else {
        person.close().await;
        return;
    };
    match connection.named.clone() {
        Some(named) => match Box::pin(connection.brokered(&named)).await {
            Ok(brokered) => broker(&connection, &brokered, person, asked).await,
            Err(refusal) => person.refuse(&refusal.sentence).await,
        },
        None => Box::pin(menu::serve(connection, person, asked)).await,
    }
}

/// Decides the channel anew, opens it on the target and relays it.
pub(crate) async fn broker(
    connection: &Connection,
    brokered: &Arc<Brokered>,
    mut person: PersonEnd,
    asked: Asked,
) {
    let session = brokered.session.clone();
    let number = session.next_channel();
    if let Err(sentence) = Box::pin(not_frozen(connection, &session, &person)).await {
        return person.refuse(&sentence).await;
    }
    if let Err(sentence) = Box::pin(decide(connection, &session, &asked.start)).await {
        return person.refuse(&sentence).await;
    }
    // Settled before the target is asked: a transfer that the rules refuse never starts there.
    let kind = match Box::pin(kind_of(connection, &session, &asked, number)).await {
        Ok(kind) => kind,
        Err(sentence) => return person.refuse(&sentence).await,
    };
    let opened = Box::pin(open(connection, brokered, &mut person, &asked, number)).await;
    let target = match opened {
        Ok(target) => target,
        Err(e) => {
            tracing::warn!(session = %session.id(), why = e.why, "the channel did not come up");
            person.refuse(&e.sentence).await;
            if !brokered.is_connected() {
                session.control().end(End::TargetFailed { why: e.why, sentence: e.sentence });
            }
            return;
        }
    };
    if asked.terminal.is_some() {
        let text = welcome(connection, &session);
        person
            .write
            .extended_data_bytes(1, Bytes::from(format!("[cofferdam] {text}\r\n")))
            .await
            .unwrap_or_default();
    }
    let task = session.tasks.track_future(relay::run(session.clone(), number, person, target, kind));
    task.await;
    Box::pin(connection.gateway.note_files(&session)).await;
    if !brokered.is_connected() {
        session.control().end(End::TargetClosed);
    }
}

/// A session may be suspended before its first channel opens (a trigger at the start): nothing runs until somebody lets
/// it go on, and the person is told why nothing happens.
async fn not_frozen(connection: &Connection, session: &Session, person: &PersonEnd) -> Result<(), String> {
    if let Some(frozen) = session.control().frozen() {
        person.write.extended_data_bytes(1, on_screen(&frozen.sentence())).await.unwrap_or_default();
    }
    tokio::select! {
        running = session.control().running() => running.map_err(|_| ended(session)),
        () = connection.cut.cancelled() => Err("the connection is closed".to_owned()),
    }
}

/// Policy, for this channel. The error is what the person reads.
async fn decide(connection: &Connection, session: &Arc<Session>, start: &Start) -> Result<(), String> {
    let request = match start {
        Start::Shell => ChannelRequest::Shell,
        Start::Exec(command) => ChannelRequest::Exec { command },
        Start::Subsystem(name) if name == "sftp" => ChannelRequest::Sftp,
        Start::Subsystem(name) => {
            return Err(format!("the subsystem {name:?} is not offered here; shells, commands and sftp are"));
        }
        Start::Unreadable => {
            return Err("the command is not valid UTF-8 and could not be recorded as what it is".into());
        }
    };
    if let Start::Exec(command) = start {
        session
            .observe(Observation::Command { line: command, command: None })
            .await
            .map_err(|_| ended(session))?;
        session.control().running().await.map_err(|_| ended(session))?;
    }
    let snapshot = connection.gateway.snapshots.borrow().clone();
    let action = action(start);
    let decision = session.grant().decide_channel(&snapshot, request, session.now());
    let (allowed, reasons, policies) = match decision {
        ChannelDecision::Permit(_) => (true, Vec::new(), Vec::new()),
        ChannelDecision::Deny { reasons, policies, .. } => (false, reasons, policies),
    };
    let kept = session
        .record(Event::Decision(Box::new(cofferdam_recorder::Decision {
            action: action.to_owned(),
            allowed,
            policies,
            reasons: reasons.clone(),
        })))
        .await;
    if kept.is_err() {
        return Err(ended(session));
    }
    if allowed {
        return Ok(());
    }
    let sentence = reasons.join("; ");
    connection.gateway.audit_refused_channel(&connection.identity, session.id(), action, &sentence).await;
    let allowed: Vec<&str> = session.grant().operations().iter().map(|o| o.as_str()).collect();
    let seen = Observation::OutsideOperation { operation: action, allowed: &allowed.join(", ") };
    session.observe(seen).await.map_err(|_| ended(session))?;
    Err(sentence)
}

fn action(start: &Start) -> &'static str {
    match start {
        Start::Shell => "shell",
        Start::Exec(_) | Start::Unreadable => "exec",
        Start::Subsystem(_) => "sftp",
    }
}

fn ended(session: &Session) -> String {
    session
        .control()
        .reason()
        .and_then(crate::session::end::End::sentence)
        .unwrap_or_else(|| "session ended".into())
}

impl From<Ended> for TargetError {
    fn from(_: Ended) -> Self {
        Self::new("the session ended", "session ended")
    }
}

/// Opens the channel on the target with the same terminal, environment and start, and waits for the target's own
/// answers before the person hears "yes".
async fn open(
    connection: &Connection,
    brokered: &Arc<Brokered>,
    person: &mut PersonEnd,
    asked: &Asked,
    number: u32,
) -> Result<TargetEnd, TargetError> {
    let session = &brokered.session;
    session.record(Event::ChannelOpen { channel: number, what: describe(asked) }).await?;
    if let Some(t) = &asked.terminal {
        let (cols, rows) = (columns(t.cols), rows(t.rows));
        session.record(Event::Resize { channel: number, cols, rows }).await?;
    }
    let leg = reach(brokered, person, asked.terminal.is_some()).await?;
    if let (Some(banner), true) = (&leg.banner, asked.terminal.is_some()) {
        session.record(Event::Notice { text: format!("banner of the target: {banner}") }).await?;
    }
    let environment: Vec<_> = {
        let snapshot = connection.gateway.snapshots.borrow();
        let allowed = &snapshot.site.settings.environment;
        asked.environment.iter().filter(|(name, _)| start::may_pass(allowed, name)).cloned().collect()
    };
    let opening = request(&leg, asked, environment);
    let broken = |why: String| {
        TargetError::new(
            format!("channel on the target: {why}"),
            "the target did not open the channel; try again, then tell the site's administrator",
        )
    };
    match tokio::time::timeout(PATIENCE, opening).await {
        Ok(Ok(Opened::Yes(end))) => {
            person.handle.channel_success(person.write.id()).await.unwrap_or_default();
            Ok(end)
        }
        Ok(Ok(Opened::No)) => {
            // The client learns of the refusal as it would without a gateway.
            person.handle.channel_failure(person.write.id()).await.unwrap_or_default();
            Err(TargetError::new(
                format!("the target refused: {}", describe(asked)),
                "the target refused this request",
            ))
        }
        Ok(Err(e)) => Err(broken(e.to_string())),
        Err(_) => Err(broken("no answer in 30 s".into())),
    }
}

enum Opened {
    Yes(TargetEnd),
    No,
}

async fn request(
    leg: &TargetLeg,
    asked: &Asked,
    environment: Vec<(String, String)>,
) -> Result<Opened, russh::Error> {
    let (mut read, write) = leg.handle.channel_open_session().await?.split();
    for (name, value) in environment {
        write.set_env(false, name, value).await?;
    }
    let mut answers = 1;
    if let Some(t) = &asked.terminal {
        write.request_pty(true, &t.term, t.cols, t.rows, t.width, t.height, &t.modes).await?;
        answers += 1;
    }
    match &asked.start {
        Start::Shell => write.request_shell(true).await?,
        Start::Exec(line) => {
            let line = if asked.terminal.is_none() { command::for_target(line) } else { line.into() };
            write.exec(true, line.as_bytes().to_vec()).await?;
        }
        Start::Subsystem(name) => write.request_subsystem(true, name.clone()).await?,
        Start::Unreadable => return Ok(Opened::No),
    }
    while answers > 0 {
        match read.wait().await {
            Some(ChannelMsg::Success) => answers -= 1,
            Some(ChannelMsg::Failure | ChannelMsg::Close) | None => {
                // The channel is of no use; an error here means that it is gone already.
                write.close().await.unwrap_or_default();
                return Ok(Opened::No);
            }
            Some(_) => {}
        }
    }
    Ok(Opened::Yes(TargetEnd { read, write }))
}

/// Dials if need be; meanwhile the target's own questions go to the person.
async fn reach(
    brokered: &Brokered,
    person: &mut PersonEnd,
    terminal: bool,
) -> Result<Arc<TargetLeg>, TargetError> {
    let (asker, mut questions) = mpsc::channel(1);
    let dialling = brokered.target(terminal.then_some(&asker));
    tokio::pin!(dialling);
    loop {
        tokio::select! {
            done = &mut dialling => return done,
            Some(question) = questions.recv() => person.answer(question).await,
        }
    }
}

/// What the channel will carry. The error is a transfer that is refused before it starts, as the person reads it.
async fn kind_of(
    connection: &Connection,
    session: &Arc<Session>,
    asked: &Asked,
    number: u32,
) -> Result<Kind, String> {
    let transfer = match &asked.start {
        Start::Subsystem(_) => Some(command::Kind::SftpServer),
        Start::Exec(line) => command::detect(line),
        _ => None,
    };
    if transfer.is_some() && asked.terminal.is_some() {
        return Err("a file transfer needs a channel without a terminal: connect without -t".into());
    }
    let Some(transfer) = transfer else {
        return Ok(match &asked.terminal {
            Some(terminal) => Kind::Terminal { cols: columns(terminal.cols) },
            None => Kind::Stream { full: session.grant().keep_full_bytes() },
        });
    };
    let rules = connection.gateway.file_rules(session).await;
    match inspector(transfer, rules) {
        Ok(inspector) => Ok(Kind::Files(inspector)),
        Err(refused) => {
            // An error means that the session ended over it; the refusal stands either way.
            record_event(session, number, refused.event).await.unwrap_or_default();
            Err(refused.say)
        }
    }
}

fn inspector(kind: command::Kind, rules: FileRules) -> Result<Box<dyn Inspector>, Box<Refused>> {
    Ok(match kind {
        command::Kind::SftpServer => Box::new(SftpInspector::new(rules)),
        command::Kind::Scp(command) => Box::new(ScpInspector::new(command, rules, None)?),
        command::Kind::Rsync(command) => Box::new(RsyncInspector::new(command, rules, None)?),
    })
}

/// What a person reads as a terminal opens.
fn welcome(connection: &Connection, session: &Session) -> String {
    let (now, end) = (session.now(), session.not_after());
    let snapshot = connection.gateway.snapshots.borrow();
    let until = snapshot.policies.zone().map_or_else(|| end.to_string(), |zone| zone.show(end));
    format!("this session is recorded; the window is open until {until} ({} left)", time_left(now, end))
}

fn describe(asked: &Asked) -> String {
    let (what, text) = match &asked.start {
        Start::Shell => ("shell", ""),
        Start::Exec(command) => ("exec", command.as_str()),
        Start::Subsystem(name) => ("subsystem", name.as_str()),
        Start::Unreadable => ("exec", "(not UTF-8)"),
    };
    serde_json::json!({ "what": what, "text": text, "terminal": asked.terminal.as_ref().map(|t| &t.term) })
        .to_string()
}

/// Columns of a terminal, within what it can be. The size is the client's word, and zero says nothing (RFC 4254 §6.2).
pub(crate) fn columns(said: u32) -> u16 {
    within(said, 80)
}

/// Rows of a terminal, in the same way.
pub(crate) fn rows(said: u32) -> u16 {
    within(said, 24)
}

fn within(said: u32, usual: u16) -> u16 {
    if said == 0 { usual } else { u16::try_from(said.min(1000)).unwrap_or(usual) }
}

impl PersonEnd {
    /// Says why not, on the channel that asked, and closes it.
    pub(crate) async fn refuse(&self, sentence: &str) {
        // Each line fails only when the person is gone, and then there is nobody to tell.
        self.handle.channel_success(self.write.id()).await.unwrap_or_default();
        self.write.extended_data_bytes(1, on_screen(sentence)).await.unwrap_or_default();
        self.write.exit_status(1).await.unwrap_or_default();
        self.close().await;
    }

    /// Ends the channel.
    pub(crate) async fn close(&self) {
        self.write.eof().await.unwrap_or_default();
        self.write.close().await.unwrap_or_default();
    }

    /// Passes a target's question on and its answer back. What is typed is not recorded: it is a secret of the person.
    async fn answer(&mut self, question: Question) {
        let prompt: String = question.prompt.chars().filter(|c| !c.is_control()).take(512).collect();
        self.write.data_bytes(Bytes::from(format!("\r\n{prompt}"))).await.unwrap_or_default();
        let mut typed = String::new();
        loop {
            let Some(message) = self.read.wait().await else { return };
            let data = match message {
                ChannelMsg::Data { data } => data,
                ChannelMsg::Eof | ChannelMsg::Close => return,
                _ => continue,
            };
            for byte in data {
                match byte {
                    b'\r' | b'\n' => {
                        self.write.data_bytes(&b"\r\n"[..]).await.unwrap_or_default();
                        // The log-in may have ended meanwhile.
                        question.answer.send(SecretString::new(typed)).unwrap_or_default();
                        return;
                    }
                    3 | 4 => return,
                    8 | 127 => {
                        typed.pop();
                    }
                    0x20..=0x7e if typed.len() < ANSWER => {
                        typed.push(char::from(byte));
                        if question.echo {
                            self.write.data_bytes(vec![byte]).await.unwrap_or_default();
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
