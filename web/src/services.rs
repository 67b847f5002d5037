//! What the web interface is given to work with, and what it asks the rest of the program for.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use axum::extract::FromRef;
use cofferdam_access::{
    clock::{SharedClock, Timestamp},
    prover::Prover,
    snapshot::Snapshot,
    store::Store,
};
use tokio::sync::watch;
use url::Url;

use crate::{
    admin::Background,
    checkouts::Secrets,
    desktops::Desktops,
    pages::{Board, Desk},
    passkeys::Passkeys,
    recordings::Recordings,
    streams::{Doors, Streams},
    terminals::Terminals,
    watching::LiveSessions,
};

/// Bounds and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A log-in that nobody uses for so long is over, seconds.
    pub idle_seconds: u32,
    /// A log-in is over after so long whatever happens, seconds.
    pub session_seconds: u32,
    /// Connections at once.
    pub max_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle_seconds: 30 * 60, session_seconds: 10 * 3600, max_connections: 2000 }
    }
}

/// Everything behind the pages.
#[derive(Debug)]
pub struct Services {
    /// The site's name.
    pub site: String,
    /// This node's name.
    pub node: String,
    /// The program's version.
    pub version: &'static str,
    /// Where people reach this interface; passkeys are bound to its host.
    pub public_url: Url,
    /// Where people reach SSH: `host:port`, as their clients take it.
    pub ssh_address: String,
    /// The time.
    pub clock: SharedClock,
    /// What outlives the process.
    pub store: Store,
    /// The newest picture of everything that decides.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Checks what people prove with.
    pub prover: Arc<Prover>,
    /// Sessions that live now.
    pub live: Arc<dyn LiveSessions>,
    /// Opens terminals.
    pub terminals: Arc<dyn Terminals>,
    /// Lets people in to desktops; none where the gateway serves none.
    pub desktops: Option<Arc<dyn Desktops>>,
    /// Recordings, to be read.
    pub recordings: Arc<dyn Recordings>,
    /// Shows secrets to people.
    pub secrets: Arc<dyn Secrets>,
    /// How the process is.
    pub health: Arc<dyn Health>,
    /// Bounds and times.
    pub settings: Settings,
}

impl Services {
    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The newest picture.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }
}

/// One part of the process, and whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthItem {
    /// Which part.
    pub name: &'static str,
    /// Whether it is well.
    pub well: bool,
    /// In plain words, with what to do where it is not.
    pub text: String,
}

/// How the process is.
#[async_trait]
pub trait Health: Send + Sync + fmt::Debug {
    /// Each part.
    async fn look(&self) -> Vec<HealthItem>;
    /// When the certificate that browsers are shown ends.
    fn certificate_ends(&self) -> Timestamp;
}

/// What handlers are given.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) services: Arc<Services>,
    pub(crate) passkeys: Arc<Passkeys>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) board: Arc<Board>,
    pub(crate) background: Arc<Background>,
}

impl FromRef<App> for Arc<Services> {
    fn from_ref(app: &App) -> Self {
        app.services.clone()
    }
}

impl std::ops::Deref for App {
    type Target = Services;
    fn deref(&self) -> &Services {
        &self.services
    }
}
