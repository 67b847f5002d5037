//! Recordings: found by person, machine, time and text, replayed at the second, proved, held, and taken out. Whoever looks
//! is noted before anything is shown, and everybody who may look sees who did.

#[cfg(test)]
mod duties;
mod exports;
mod keep;
mod show;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use cofferdam_access::{
    clock::Timestamp,
    ids::{Name, SessionId},
    store::{FindingFilter, SessionFilter, SessionRecord, StoreError},
};
use futures::future::try_join_all;
use serde::Deserialize;

pub(crate) use exports::send;
pub(crate) use keep::{put, take};

use crate::{
    error::Failure,
    frame::{self, Clock, Frame, Moment},
    recordings::{Found, RecordedLine, RecordingsError, Search},
    routes::{INVESTIGATORS, Routes},
    services::App,
    viewer::Viewer,
};

/// Recordings on one page.
const PAGE: u32 = 25;
/// Hits of one recording that are shown.
const HITS: usize = 6;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/recordings", INVESTIGATORS, list)
        .get("/recordings/{id}", INVESTIGATORS, show::show)
        .get("/recordings/{id}/cast", INVESTIGATORS, exports::cast)
        .get("/recordings/{id}/desktop", INVESTIGATORS, exports::desktop)
        .get("/recordings/{id}/stills", INVESTIGATORS, exports::stills)
        .get("/recordings/{id}/download/{form}", INVESTIGATORS, exports::download)
        .post("/recordings/{id}/verify", INVESTIGATORS, show::verify)
        .post("/recordings/{id}/hold", INVESTIGATORS, keep::hold)
        .post("/recordings/{id}/lift", INVESTIGATORS, keep::lift)
}

impl From<RecordingsError> for Failure {
    fn from(e: RecordingsError) -> Self {
        match e {
            RecordingsError::NotFound => Self::NotFound,
            RecordingsError::Gone(_) => Self::Conflict(e.to_string()),
            RecordingsError::Busy => Self::Unavailable(e.to_string()),
            RecordingsError::Unreadable(_) => Self::Unavailable(e.to_string()),
        }
    }
}

/// What was asked for. All fields may be empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    pub(crate) q: String,
    pub(crate) file: String,
    pub(crate) finding: String,
    pub(crate) who: String,
    pub(crate) asset: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) before: String,
}

/// The same, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Meant {
    person: Option<Name>,
    asset: Option<Name>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    before: Option<SessionId>,
    /// Text to look for, if what was recorded is to be searched.
    text: Option<(String, Option<&'static str>)>,
}

impl Asked {
    fn meant(&self, clock: &Clock, now: Timestamp) -> Result<Meant, Failure> {
        let name = |text: &str| match text.trim() {
            "" => Ok(None),
            text => Name::new(text).map(Some).map_err(Failure::invalid),
        };
        let day = |text: &str, time: &str| match text.trim() {
            "" => Ok(None),
            // A day alone, as browsers send it, else a time.
            text if text.len() == 10 => {
                clock.zone()?.parse(&format!("{text} {time}"), now).map(Some).map_err(Failure::invalid)
            }
            text => clock.zone()?.parse(text, now).map(Some).map_err(Failure::invalid),
        };
        let words = [(&self.finding, Some("finding")), (&self.file, Some("file")), (&self.q, None)];
        let text = words.into_iter().find(|(text, _)| !text.trim().is_empty());
        Ok(Meant {
            person: name(&self.who)?,
            asset: name(&self.asset)?,
            from: day(&self.from, "00:00")?,
            // To the end of that day.
            until: day(&self.to, "00:00")?
                .map(|at| if self.to.trim().len() == 10 { at.plus_seconds(86_400) } else { at }),
            before: match self.before.trim() {
                "" => None,
                id => Some(id.parse().map_err(|_| Failure::NotFound)?),
            },
            text: text.map(|(text, kind)| (text.trim().to_owned(), kind)),
        })
    }

    /// The address of the page of older recordings.
    fn older(&self, last: SessionId) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in
            [("who", &self.who), ("asset", &self.asset), ("from", &self.from), ("to", &self.to)]
        {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.append_pair("before", &last.to_string());
        format!("/recordings?{}", query.finish())
    }
}

/// A recording as listings show it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) session: SessionRecord,
    pub(crate) held: bool,
    pub(crate) deleted: bool,
    pub(crate) severity: String,
    pub(crate) findings: usize,
    pub(crate) hits: Vec<RecordedLine>,
}

impl Listed {
    /// What is known of its proof, in one word and its tone.
    pub(crate) fn proof(&self) -> (&'static str, &'static str) {
        match (&self.session.recording_digest, self.session.ended_at) {
            _ if self.deleted => ("deleted", "t-off"),
            (Some(_), _) => ("sealed", "t-ok"),
            (None, None) => ("growing", "t-info"),
            (None, Some(_)) => ("not sealed", "t-warn"),
        }
    }
}

/// A listing, and what has to be said about it.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) listed: Vec<Listed>,
    /// Where the next page begins, for one that was not searched.
    pub(crate) next: Option<SessionId>,
    /// What is left out, and why.
    pub(crate) notes: Vec<String>,
    pub(crate) searched: bool,
}

/// Finds recordings: by what the store knows of them, or by what was recorded, which is audited.
pub(crate) async fn find(
    app: &App,
    viewer: &Viewer,
    asked: &Asked,
    clock: &Clock,
) -> Result<Listing, Failure> {
    let meant = asked.meant(clock, app.now())?;
    let Some((text, kind)) = meant.text.clone() else { return browse(app, meant).await };
    let search = Search {
        text: if kind == Some("finding") && text == "any" { String::new() } else { text },
        kind,
        person: meant.person,
        asset: meant.asset,
        from: meant.from,
        until: meant.until,
    };
    let Found { recordings, more, skipped, incomplete } =
        app.recordings.search(&viewer.act(app.now()), &search).await?;
    let mut notes: Vec<String> = incomplete.into_iter().collect();
    if more {
        notes.push(
            "there may be more: search for something that is said more seldom, or in a shorter time".into(),
        );
    }
    if skipped > 0 {
        notes.push(format!("{skipped} recordings could not be searched: verify them"));
    }
    let found =
        try_join_all(recordings.into_iter().map(async |(id, hits)| match app.store.session(id).await {
            Ok(session) => Ok(Some(Listed { hits, ..looked_up(app, session).await? })),
            // A recording that the store does not know is the verification's business.
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(Failure::from(e)),
        }));
    let listed = found.await?.into_iter().flatten().collect();
    Ok(Listing { listed, next: None, notes, searched: true })
}

async fn browse(app: &App, meant: Meant) -> Result<Listing, Failure> {
    let filter = SessionFilter {
        person: meant.person,
        asset: meant.asset,
        from: meant.from,
        until: meant.until,
        before: meant.before,
        limit: PAGE + 1,
        ..SessionFilter::default()
    };
    let mut sessions = app.store.sessions(&filter).await?;
    let more = sessions.len() > PAGE as usize;
    sessions.truncate(PAGE as usize);
    let next = sessions.last().map(|s| s.id).filter(|_| more);
    let listed = try_join_all(sessions.into_iter().map(|s| looked_up(app, s))).await?;
    Ok(Listing { listed, next, ..Listing::default() })
}

pub(crate) async fn looked_up(app: &App, session: SessionRecord) -> Result<Listed, Failure> {
    let filter = FindingFilter { session: Some(session.id), ..FindingFilter::default() };
    let (kept, findings) = tokio::join!(app.store.recording(session.id), app.store.findings(&filter));
    let (kept, findings) = (kept?, findings?);
    let worst = findings.iter().max_by_key(|f| super::live::rank(&f.severity));
    Ok(Listed {
        held: kept.hold.is_some(),
        deleted: kept.deleted.is_some(),
        severity: worst.map(|f| f.severity.clone()).unwrap_or_default(),
        findings: findings.len(),
        hits: Vec::new(),
        session,
    })
}

/// A place in a recording.
pub(super) struct At {
    pub(super) seconds: String,
    pub(super) clock: String,
    pub(super) text: String,
}

/// Where in a recording that began at `started` a moment is.
pub(super) fn place(started: Timestamp, at: Timestamp, text: &str) -> At {
    let micros = at.since(started).max(0);
    let seconds = micros / 1_000_000;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let clock = if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m:02}:{s:02}") };
    At { seconds: format!("{seconds}.{:03}", micros / 1000 % 1000), clock, text: text.to_owned() }
}

/// How long something took, for people.
pub(super) fn length(from: Timestamp, until: Option<Timestamp>) -> String {
    let Some(until) = until else { return "goes on".to_owned() };
    let seconds = until.since(from).max(0) / 1_000_000;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, m) => format!("{m} min {} s", seconds % 60),
        (h, m) => format!("{h} h {m:02} min"),
    }
}

struct Row {
    id: String,
    person: String,
    asset: String,
    protocol: &'static str,
    started: Moment,
    length: String,
    severity: String,
    findings: usize,
    proof: (&'static str, &'static str),
    held: bool,
    hits: Vec<At>,
    more_hits: usize,
}

#[derive(Template)]
#[template(path = "recordings.html")]
struct RecordingsPage {
    frame: Frame,
    asked: Asked,
    assets: Vec<String>,
    rows: Vec<Row>,
    older: Option<String>,
    notes: Vec<String>,
    searched: bool,
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/recordings");
    let found = find(&app, &viewer, &asked, &frame.zone).await?;
    let row = |listed: Listed| Row {
        proof: listed.proof(),
        hits: listed
            .hits
            .iter()
            .take(HITS)
            .map(|hit| place(listed.session.started_at, hit.at, &hit.text))
            .collect(),
        more_hits: listed.hits.len().saturating_sub(HITS),
        id: listed.session.id.to_string(),
        person: listed.session.person.to_string(),
        asset: listed.session.asset.to_string(),
        protocol: listed.session.protocol.as_str(),
        started: frame.at(&listed.session.started_at),
        length: length(listed.session.started_at, listed.session.ended_at),
        severity: listed.severity,
        findings: listed.findings,
        held: listed.held,
    };
    frame::page(&RecordingsPage {
        assets: app.snapshot().site.assets.iter().map(|a| a.name.to_string()).collect(),
        rows: found.listed.into_iter().map(row).collect(),
        older: found.next.map(|last| asked.older(last)),
        notes: found.notes,
        searched: found.searched,
        asked,
        frame,
    })
}

fn parsed(id: &str) -> Result<SessionId, Failure> {
    id.parse().map_err(|_| Failure::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_means_all_of_it_in_the_sites_zone() {
        let clock = Clock::new("Europe/Berlin");
        let asked = Asked { from: "2026-11-25".into(), to: "2026-11-25".into(), ..Asked::default() };
        let meant = asked.meant(&clock, Timestamp(0)).unwrap();
        assert_eq!(meant.from.unwrap().to_string(), "2026-11-24T23:00:00Z");
        assert_eq!(meant.until.unwrap().since(meant.from.unwrap()), 86_400_000_000);
        let wrong = Asked { who: "no name!".into(), ..Asked::default() };
        assert!(wrong.meant(&clock, Timestamp(0)).is_err());
    }

    #[test]
    fn places_and_lengths_read_well() {
        let start = Timestamp::from_seconds(1000);
        let at = place(start, start.plus_seconds(3725), "x");
        assert_eq!((at.clock.as_str(), at.seconds.as_str()), ("1:02:05", "3725.000"));
        assert_eq!(place(start, Timestamp(0), "").clock, "00:00");
        assert_eq!(length(start, Some(start.plus_seconds(75))), "1 min 15 s");
        assert_eq!(length(start, None), "goes on");
    }

    #[test]
    fn the_page_renders() {
        let frame = Frame::sample("/recordings");
        let row = Row {
            id: "r".into(),
            person: "vera".into(),
            asset: "pump-hmi".into(),
            protocol: "ssh",
            started: frame.at(&frame.now),
            length: "1 s".into(),
            severity: "high".into(),
            findings: 1,
            proof: ("sealed", "t-ok"),
            held: true,
            hits: vec![At { seconds: "4.000".into(), clock: "00:04".into(), text: "<script>typed".into() }],
            more_hits: 2,
        };
        let page = RecordingsPage {
            frame,
            asked: Asked { q: "\"><script>".into(), ..Asked::default() },
            assets: vec!["pump-hmi".into()],
            rows: vec![row],
            older: Some("/recordings?before=x".into()),
            notes: vec!["<script>".into()],
            searched: true,
        };
        let html = page.render().unwrap();
        assert!(html.contains("/recordings/r#t=4.000") && !html.contains("<script>"), "{html}");
    }
}
