//! A terminal in the browser is an SSH session like any other: the gateway's own SSH server serves it, in this process,
//! with the person known already, and this is the client that it talks to. Decision, record, watch, notices and end are the
//! same code.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cofferdam_access::decision::{Device, DeviceKind};
use cofferdam_web::{Shown, Size, Terminal, TerminalRequest, Terminals, Typed};
use russh::{
    ChannelMsg, ChannelReadHalf, ChannelWriteHalf,
    client::{self, DisconnectReason},
    keys::PublicKeyOrCertificate,
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{
    gateway::Gateway,
    ssh::{PACKET, connection::Identity, front::Front, listener, wire::Wire},
};

/// Bytes between the two ends of the connection.
const PIPE: usize = 64 * 1024;
/// Flow-control window of the terminal, bytes: what a browser that does not read can hold up.
const WINDOW: u32 = 256 * 1024;
/// Packets that wait for it.
const PACKETS: usize = 16;
/// Pieces that wait for the browser, and that wait for the gateway.
const PIECES: usize = 8;
/// How long the handshake within the process may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after its last channel the gateway may take to say why.
const LAST_WORDS: Duration = Duration::from_millis(400);

/// See the module.
#[derive(Debug)]
pub(crate) struct InsideTerminals {
    gateway: Arc<Gateway>,
    tasks: TaskTracker,
}

impl InsideTerminals {
    /// Terminals of `gateway`, whose connections are among `tasks`.
    pub(crate) fn new(gateway: Arc<Gateway>, tasks: TaskTracker) -> Self {
        Self { gateway, tasks }
    }
}

#[async_trait]
impl Terminals for InsideTerminals {
    async fn open(&self, request: TerminalRequest) -> Result<Terminal, String> {
        let fault = |e: &dyn std::fmt::Display| {
            warn!(error = %e, "a terminal for the browser could not be opened");
            "the gateway cannot open a terminal at the moment; tell the site's administrator".to_owned()
        };
        if self.gateway.stopping.is_cancelled() {
            return Err("the gateway is being stopped; try again in a few minutes".into());
        }
        let config = self.gateway.jump_config(&request.asset).map_err(|e| fault(&e))?;
        let cut = CancellationToken::new();
        // Whatever ends this function or the terminal ends the connection, and with it the session.
        let guard = cut.clone().drop_guard();
        let front =
            Front::inside(self.gateway.clone(), identity(&request), request.asset.clone(), cut.clone());
        let (near, far) = tokio::io::duplex(PIPE);
        self.tasks.spawn(listener::run(config, Wire::new(near, &cut), front, cut));
        let connecting = tokio::time::timeout(PATIENCE, Client::connect(far, &request));
        let client = connecting.await.map_err(|e| fault(&e))?.map_err(|e| fault(&e))?;
        let (typed, from_person) = mpsc::channel(PIECES);
        let (to_person, shown) = mpsc::channel(PIECES);
        self.tasks.spawn(async move {
            client.carry(from_person, to_person).await;
            drop(guard);
        });
        Ok(Terminal { typed, shown })
    }
}

fn identity(request: &TerminalRequest) -> Identity {
    let kind = request.factors.first;
    Identity {
        user: request.user.clone(),
        source: request.source,
        device: Device {
            key_fingerprint: None,
            kind,
            user_verified: kind == DeviceKind::Passkey,
            client_version: "terminal of the web interface".into(),
        },
        factors: request.factors.clone(),
    }
}

/// Hears why the gateway ends the connection.
#[derive(Debug, Clone, Default)]
struct Listener(Arc<Mutex<Option<String>>>);

impl client::Handler for Listener {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // The other end is this process: there is nothing in between that could have another key.
        Ok(true)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        if let DisconnectReason::ReceivedDisconnect(said) = reason {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(said.message);
        }
        Ok(())
    }
}

/// The client's end.
struct Client {
    handle: client::Handle<Listener>,
    heard: Listener,
    read: ChannelReadHalf,
    write: ChannelWriteHalf<client::Msg>,
}

impl Client {
    /// Logs in, which asks nothing, and asks for a shell on a terminal.
    async fn connect(
        stream: tokio::io::DuplexStream,
        request: &TerminalRequest,
    ) -> Result<Self, russh::Error> {
        let config = client::Config {
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            channel_buffer_size: PACKETS,
            ..client::Config::default()
        };
        let heard = Listener::default();
        let mut handle = client::connect_stream(Arc::new(config), stream, heard.clone()).await?;
        if !handle.authenticate_none(request.login.as_str()).await?.success() {
            return Err(russh::Error::NotAuthenticated);
        }
        let (read, write) = handle.channel_open_session().await?.split();
        let Size { columns, rows } = request.size;
        write.request_pty(false, "xterm-256color", columns.into(), rows.into(), 0, 0, &[]).await?;
        write.request_shell(false).await?;
        Ok(Self { handle, heard, read, write })
    }

    /// Carries bytes until the gateway closes the terminal, which is said with its reason, or the person goes away.
    async fn carry(mut self, from_person: mpsc::Receiver<Typed>, to_person: mpsc::Sender<Shown>) {
        let ended = tokio::select! {
            ended = show(&mut self.read, &to_person) => ended,
            () = pass_on(&self.write, from_person) => None,
        };
        let Some(status) = ended else { return };
        let why = self.why(status).await;
        // A page that is gone needs no reason.
        to_person.send(Shown::Ended(why)).await.unwrap_or_default();
    }

    /// What the gateway says, else what the shell's end tells.
    async fn why(&mut self, status: Option<u32>) -> String {
        let gone = async {
            while !self.handle.is_closed() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // It says nothing where the person ended the shell.
        tokio::time::timeout(LAST_WORDS, gone).await.unwrap_or_default();
        let said = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (said, status) {
            (Some(said), _) if said != "closed" => said,
            (_, Some(0) | None) => "the session is closed".to_owned(),
            (_, Some(status)) => format!("the session is closed; the shell ended with status {status}"),
        }
    }
}

/// Until the channel closes, which answers the shell's status, or the page goes away.
async fn show(read: &mut ChannelReadHalf, to_person: &mpsc::Sender<Shown>) -> Option<Option<u32>> {
    let mut status = None;
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                to_person.send(Shown::Bytes(data)).await.ok()?;
            }
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    Some(status)
}

/// Until the page goes away; waits for ever once the channel takes nothing any more, for its end says why.
async fn pass_on(write: &ChannelWriteHalf<client::Msg>, mut from_person: mpsc::Receiver<Typed>) {
    while let Some(typed) = from_person.recv().await {
        let sent = match typed {
            Typed::Bytes(bytes) => write.data_bytes(bytes).await,
            Typed::Size(Size { columns, rows }) => {
                write.window_change(columns.into(), rows.into(), 0, 0).await
            }
        };
        if sent.is_err() {
            return std::future::pending().await;
        }
    }
}
