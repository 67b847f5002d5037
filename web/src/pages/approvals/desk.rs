//! The queue as it stands: read once for everybody who looks at it, and rendered once for all who see the same of it.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use askama::Template;
use cofferdam_access::{
    clock::Timestamp,
    snapshot::Snapshot,
    store::WindowFilter,
    window::{Phase, Window},
};
use tokio::sync::OnceCell;

use super::{
    facts::{self, Past, Weight},
    queue::{Request, Rows, Tab},
};
use crate::{
    error::Failure,
    frame::Frame,
    pages::windows::{
        act,
        view::{Line, full_name},
    },
    services::App,
    viewer::Viewer,
};

/// Requests that the queue shows.
const MOST: u32 = 100;
/// Decided ones that it shows.
const DECIDED: usize = 50;
/// What was read is read again after so long, microseconds: the facts come from more than what the mark covers.
const FRESH: i64 = 2_000_000;
/// Renderings that are kept of one reading: people of the same duties mostly see the same.
const RENDERINGS: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    read: tokio::sync::Mutex<Option<Arc<Queue>>>,
    /// The mark of the picture with that revision and number of windows.
    marked: Mutex<Option<((u64, usize), u64)>>,
}

/// The queue as it was read.
#[derive(Debug)]
pub(super) struct Queue {
    mark: u64,
    at: Timestamp,
    pending: Vec<(Window, Request)>,
    /// More wait than are shown.
    more: bool,
    decided: OnceCell<Vec<Request>>,
    rendered: Mutex<HashMap<Seen, Arc<str>>>,
}

/// What a viewer sees of the queue: the tab, and which of the requests they can decide on.
type Seen = (Tab, Vec<usize>);

impl Desk {
    /// Differs when the queue could look different: requests came, went or were approved, or the plant's state changed.
    pub(super) fn mark(&self, snapshot: &Snapshot) -> u64 {
        let key = (snapshot.revision, snapshot.windows.len());
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        match *marked {
            Some((of, mark)) if of == key => mark,
            _ => {
                let mark = mark(snapshot);
                *marked = Some((key, mark));
                mark
            }
        }
    }

    /// The queue of that mark, read now or a moment ago. Who comes while it is read waits, and gets the same.
    pub(super) async fn queue(&self, app: &App, mark: u64) -> Result<Arc<Queue>, Failure> {
        let mut read = self.read.lock().await;
        let age = |queue: &Queue| app.now().since(queue.at);
        if let Some(queue) = &*read
            && queue.mark == mark
            && (0..FRESH).contains(&age(queue))
        {
            return Ok(queue.clone());
        }
        let queue = Arc::new(Queue::read(app, mark).await?);
        *read = Some(queue.clone());
        Ok(queue)
    }
}

impl Queue {
    async fn read(app: &App, mark: u64) -> Result<Self, Failure> {
        let (snapshot, at) = (app.snapshot(), app.now());
        let frame = Frame::nobody(app, "/approvals", String::new());
        let waiting = WindowFilter {
            state: Some("requested"),
            ends_after: Some(at),
            limit: MOST,
            ..WindowFilter::default()
        };
        let windows = app.store.windows(&waiting).await?;
        let more = windows.len() >= MOST as usize;
        let all: Vec<&Window> = windows.iter().map(|w| &w.window).collect();
        let past = Past::of(&app.store, &all).await?;
        let request = |window: &Window| Request {
            line: Line::new(&frame, &snapshot.site, window),
            path: format!("/approvals/{}", window.id()),
            marks: look_out(&facts::at_a_glance(&frame, &snapshot, window, &past)),
            first: window.approvals.first().map_or_else(
                || "none yet".to_owned(),
                |a| format!("{}, {}", full_name(&snapshot.site, &a.by), a.duty.as_str()),
            ),
        };
        let pending = windows.into_iter().map(|w| (request(&w.window), w.window)).map(|(r, w)| (w, r));
        Ok(Self {
            pending: pending.collect(),
            mark,
            at,
            more,
            decided: OnceCell::new(),
            rendered: Mutex::default(),
        })
    }

    /// Which of the requests the viewer could approve now.
    fn mine(&self, viewer: &Viewer) -> Vec<usize> {
        let mine = self.pending.iter().enumerate().filter(|(_, (window, _))| waits_for(viewer, window));
        mine.map(|(n, _)| n).collect()
    }

    async fn decided(&self, app: &App) -> Result<&[Request], Failure> {
        let read = async || {
            let all = app.store.windows(&WindowFilter { limit: MOST, ..WindowFilter::default() }).await?;
            let (snapshot, frame) = (app.snapshot(), Frame::nobody(app, "/approvals", String::new()));
            let decided = all.iter().map(|w| &w.window).filter(|w| w.phase(self.at) != Phase::Requested);
            let request = |window: &Window| Request {
                line: Line::new(&frame, &snapshot.site, window),
                path: format!("/windows/{}", window.id()),
                marks: Vec::new(),
                first: String::new(),
            };
            Ok::<_, Failure>(decided.take(DECIDED).map(request).collect())
        };
        Ok(self.decided.get_or_try_init(read).await?)
    }

    /// What the viewer sees.
    pub(super) async fn rows(&self, app: &App, viewer: &Viewer, tab: Tab) -> Result<Rows<'_>, Failure> {
        self.rows_of(app, &(tab, self.mine(viewer))).await
    }

    async fn rows_of(&self, app: &App, (tab, mine): &Seen) -> Result<Rows<'_>, Failure> {
        let pending = |wanted: bool| {
            let all = self.pending.iter().enumerate();
            all.filter(move |(n, _)| mine.contains(n) == wanted).map(|(_, (_, request))| request).collect()
        };
        let requests = match tab {
            Tab::Mine => pending(true),
            Tab::Others => pending(false),
            Tab::Decided => self.decided(app).await?.iter().collect(),
        };
        let others = self.pending.len().saturating_sub(mine.len());
        Ok(Rows { tab: *tab, requests, mine: mine.len(), others, more: self.more })
    }

    /// The same as HTML.
    pub(super) async fn html(&self, app: &App, viewer: &Viewer, tab: Tab) -> Result<Arc<str>, Failure> {
        let seen = (tab, self.mine(viewer));
        let known = self.rendered.lock().unwrap_or_else(PoisonError::into_inner).get(&seen).cloned();
        if let Some(html) = known {
            return Ok(html);
        }
        let rows = self.rows_of(app, &seen).await?;
        let html: Arc<str> = rows.render().map_err(|e| Failure::internal("template", e))?.into();
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if rendered.len() < RENDERINGS {
            rendered.insert(seen, html.clone());
        }
        Ok(html)
    }
}

/// Whether the viewer could approve it now.
fn waits_for(viewer: &Viewer, window: &Window) -> bool {
    !act::owns(viewer, window)
        && window.open_duty(&viewer.user).is_some()
        && window.approvals.iter().all(|a| a.by != viewer.user.name)
}

/// The marks of facts that matter, each once.
fn look_out(facts: &[facts::Fact]) -> Vec<(&'static str, &'static str)> {
    let mut marks = Vec::new();
    for fact in facts {
        if let Some(mark) = fact.mark
            && fact.weight <= Weight::Warn
            && !marks.iter().any(|(_, known)| *known == mark)
        {
            marks.push((if mark == "crown jewel" { "jewel" } else { fact.weight.class() }, mark));
        }
    }
    marks
}

fn mark(snapshot: &Snapshot) -> u64 {
    let mut hash = DefaultHasher::new();
    for window in &snapshot.windows {
        (window.id(), window.standing.as_str(), window.approvals.len()).hash(&mut hash);
    }
    snapshot.plant.iter().for_each(|state| state.hash(&mut hash));
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Site;

    #[tokio::test]
    async fn the_queue_is_read_once_for_all_who_look_and_anew_when_it_changes_or_is_old() {
        let site = Site::new().await;
        site.ask(|_| ()).await;
        let app = site.app();
        let look = async || app.desk.queue(&app, app.desk.mark(&app.snapshot())).await.unwrap();
        let first = look().await;
        assert!(Arc::ptr_eq(&first, &look().await));
        site.clock().advance(3);
        let later = look().await;
        assert!(!Arc::ptr_eq(&first, &later) && later.mark == first.mark);
        site.ask(|_| ()).await;
        let changed = look().await;
        assert_ne!(changed.mark, later.mark);
        assert_eq!((later.pending.len(), changed.pending.len()), (1, 2));
    }
}
