//! Connections that stay open (live listings, watching, terminals): few per person, and over when the log-in is.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cofferdam_access::{
    audit::Act,
    ids::{Name, WebSessionId},
};
use tokio_util::sync::CancellationToken;

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
    let idle_seconds = if of == Use::Works { u32::MAX } else { app.settings.idle_seconds };
    let over = CancellationToken::new();
    let open = Open { session: id, who: viewer.user.name.clone(), rule, idle_seconds, over: over.clone() };
    let _door = app.doors.enter(app, open);
    // What ended before the door was there, nobody would look at for a while.
    if matches!(app.store.web_session_stands(id, idle_seconds, app.now()).await, Ok(true)) {
        over.cancelled().await;
    }
}

/// What `carried` comes to, unless the viewer's log-in is over before: then why it is, for the person.
pub(crate) async fn unless_over<E>(
    app: &App,
    viewer: &Viewer,
    rule: Rule,
    carried: impl Future<Output = Result<String, E>>,
) -> Result<String, E> {
    tokio::select! {
        why = carried => why,
        () = over(app, viewer, rule, Use::Works) => Ok("your log-in is over: log in again".to_owned()),
    }
}

/// All open streams of this node, looked after together: with a thousand of them, each asking for itself would keep the
/// store busy with nothing else at every change.
#[derive(Debug, Default)]
pub(crate) struct Doors(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, Open>,
    next: u64,
    /// Somebody looks after them.
    watched: bool,
}

/// One open stream.
#[derive(Debug, Clone)]
struct Open {
    session: WebSessionId,
    who: Name,
    rule: Rule,
    idle_seconds: u32,
    over: CancellationToken,
}

/// A stream's place among the doors; gone with the stream.
struct Door {
    doors: Arc<Doors>,
    number: u64,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.doors.state().open.remove(&self.number);
    }
}

impl Doors {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, app: &App, open: Open) -> Door {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, open);
        if !std::mem::replace(&mut state.watched, true) {
            tokio::spawn(look_after(app.clone()));
        }
        Door { doors: self.clone(), number }
    }

    /// All that are open; where there are none, nobody looks after them any longer.
    fn open(&self) -> Vec<Open> {
        let mut state = self.state();
        state.watched = !state.open.is_empty();
        state.open.values().cloned().collect()
    }
}

/// Ends a log-in of `who`, and with it at once what it holds open here; other nodes look within half a minute. Says whether
/// there was one.
pub(crate) async fn end_log_in(
    app: &App,
    act: &Act,
    who: &Name,
    session: WebSessionId,
) -> Result<bool, Failure> {
    let ended = app.store.close_web_session(act, who, session).await?;
    if ended {
        app.doors.state().open.values().filter(|o| o.session == session).for_each(|o| o.over.cancel());
    }
    Ok(ended)
}

async fn look_after(app: App) {
    let mut snapshots = app.snapshots.clone();
    loop {
        tokio::select! {
            changed = snapshots.changed() => {
                let gone = changed.is_err();
                tokio::time::sleep(GATHER).await;
                snapshots.mark_unchanged();
                if gone {
                    app.doors.open().iter().for_each(|open| open.over.cancel());
                    return;
                }
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let open = app.doors.open();
        if open.is_empty() {
            return;
        }
        close_those_over(&app, &open).await;
    }
}

async fn close_those_over(app: &App, open: &[Open]) {
    let (now, snapshot) = (app.now(), app.snapshot());
    let sessions: BTreeSet<WebSessionId> = open.iter().map(|o| o.session).collect();
    let sessions: Vec<WebSessionId> = sessions.into_iter().collect();
    // What cannot be asked counts as over.
    let standing = app.store.web_sessions_standing(&sessions, now).await.unwrap_or_default();
    for one in open {
        let user = snapshot.site.user(&one.who);
        let admitted = user.is_some_and(|user| user.is_active(now) && one.rule.admits(user));
        let idle_since = now.plus_seconds(-i64::from(one.idle_seconds));
        let stands = standing.get(&one.session).is_some_and(|seen| *seen > idle_since);
        if !admitted || !stands {
            one.over.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routes::WATCHERS,
        testing::{Site, name},
    };

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

    #[tokio::test]
    async fn a_stream_is_over_when_its_log_in_is_or_its_person_may_no_longer() {
        let site = Site::new().await;
        let app = site.app();
        let log_in = async |who: &str, idle_seconds: u32| {
            let browser = site.log_in(who).await;
            let token =
                crate::token::Token::parse(&browser.cookie(crate::cookies::SESSION).unwrap()).unwrap();
            let session =
                site.store().web_session(&token.digest(), 1800, site.now()).await.unwrap().unwrap().id;
            Open { session, who: name(who), rule: WATCHERS, idle_seconds, over: CancellationToken::new() }
        };
        let (olga, sam) = (log_in("olga", 1800).await, log_in("sam", 1800).await);
        let (reads, works) = (log_in("sam", 1800).await, log_in("sam", u32::MAX).await);
        let vera = log_in("vera", 1800).await;
        let open = [olga, sam, reads, works, vera];
        let over = async || {
            close_those_over(&app, &open).await;
            open.iter().map(|o| o.over.is_cancelled()).collect::<Vec<_>>()
        };
        assert_eq!(over().await, [false, false, false, false, true], "vera watches nothing");
        site.store().close_web_session(&site.act("sam"), &name("sam"), open[1].session).await.unwrap();
        site.disable("olga").await;
        assert_eq!(over().await, [true, true, false, false, true]);
        site.clock().advance(1801);
        assert_eq!(over().await, [true, true, true, false, true], "work keeps a log-in from idling");
        let app = site.app();
        let door = app.doors.enter(&app, Open { over: CancellationToken::new(), ..open[3].clone() });
        assert_eq!(app.doors.open().len(), 1);
        let (act, session) = (site.act("sam"), open[3].session);
        assert!(!end_log_in(&app, &act, &name("olga"), session).await.unwrap(), "it is not hers");
        assert!(!app.doors.open()[0].over.is_cancelled());
        assert!(end_log_in(&app, &act, &name("sam"), session).await.unwrap());
        assert!(app.doors.open()[0].over.is_cancelled(), "at once");
        drop(door);
        assert!(app.doors.open().is_empty());
    }
}
