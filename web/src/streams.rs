//! Connections that stay open (live listings, watching, terminals): few per person, and over when the log-in is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cofferdam_access::ids::Name;

use crate::{
    error::Failure,
    routes::Rule,
    services::App,
    viewer::{Credential, Viewer},
};

/// Most that one person holds open at once.
const MOST: usize = 24;
/// How often it is asked whether the log-in stands, when nothing seems to change.
const LOOK: Duration = Duration::from_secs(30);
/// Changes that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(500);

/// Open streams per person.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<HashMap<Name, usize>>);

/// One place; given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Arc<Streams>,
    who: Name,
}

impl Streams {
    /// A place for one more stream of `who`.
    pub(crate) fn enter(self: &Arc<Self>, who: &Name) -> Result<Place, Failure> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(who.clone()).or_default();
        if *count >= MOST {
            return Err(Failure::Conflict(format!(
                "you have {MOST} live pages open already: close one, then load this one again"
            )));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), who: who.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.who) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.who);
            }
        }
    }
}

/// Whether an open stream still counts as use of the log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It only shows: it ends with the log-in, idle time included.
    Shows,
    /// The person works in it: the log-in does not become idle meanwhile.
    Works,
}

/// Returns when the viewer may no longer have an open stream under `rule`: logged out, log-in over, duties gone. What cannot
/// be asked counts as over.
pub(crate) async fn over(app: &App, viewer: &Viewer, rule: Rule, of: Use) {
    let Credential::Session { id, .. } = viewer.credential else { return };
    let idle = if of == Use::Works { u32::MAX } else { app.settings.idle_seconds };
    let mut snapshots = app.snapshots.clone();
    loop {
        let now = app.now();
        let admitted = app
            .snapshot()
            .site
            .user(&viewer.user.name)
            .is_some_and(|user| user.is_active(now) && rule.admits(user));
        if !admitted || !matches!(app.store.web_session_stands(id, idle, now).await, Ok(true)) {
            return;
        }
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(GATHER).await;
                snapshots.mark_unchanged();
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_gets_so_many_streams_and_their_places_back() {
        let streams = Arc::new(Streams::default());
        let (vera, olga) = (Name::new("vera").unwrap(), Name::new("olga").unwrap());
        let mut places: Vec<Place> = (0..MOST).map(|_| streams.enter(&vera).unwrap()).collect();
        assert!(streams.enter(&vera).is_err());
        assert!(streams.enter(&olga).is_ok());
        places.pop();
        assert!(streams.enter(&vera).is_ok());
        drop(places);
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
