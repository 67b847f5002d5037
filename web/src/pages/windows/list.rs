//! Windows, the newest first: their own for everybody, all for those who oversee.

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use cofferdam_access::{
    ids::{Name, WindowId},
    store::WindowFilter,
};
use serde::Deserialize;

use super::{act, view::Line};
use crate::{
    error::Failure,
    frame::{self, Frame, WORKERS},
    services::App,
    viewer::Viewer,
};

/// Windows on one page.
const PAGE: u32 = 50;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    person: String,
    #[serde(default)]
    asset: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    before: String,
}

#[derive(Template)]
#[template(path = "windows.html")]
struct WindowsPage {
    frame: Frame,
    all: bool,
    may_ask: bool,
    wanted: Wanted,
    states: [&'static str; 5],
    lines: Vec<Line>,
    /// The query of the next page, where there is one.
    older: Option<String>,
}

pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let all = viewer.holds_any(act::OVERSEERS);
    let frame = Frame::new(&app, &viewer, "/windows");
    let filter = filter(&viewer, &wanted, all)?;
    let found = app.store.windows(&filter).await?;
    let more = found.len() > PAGE as usize;
    let shown = found.get(..PAGE as usize).unwrap_or(&found);
    let snapshot = app.snapshot();
    let older = shown.last().filter(|_| more).map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("person", &wanted.person), ("asset", &wanted.asset), ("state", &wanted.state)]
        {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.append_pair("before", &last.window.id().to_string()).finish()
    });
    let page = WindowsPage {
        lines: shown.iter().map(|w| Line::new(&frame, &snapshot.site, &w.window)).collect(),
        may_ask: WORKERS.admits(&viewer.user),
        states: act::STATES,
        frame,
        all,
        wanted,
        older,
    };
    frame::page(&page)
}

fn filter(viewer: &Viewer, wanted: &Wanted, all: bool) -> Result<WindowFilter, Failure> {
    let name = |text: &str| -> Result<Option<Name>, Failure> {
        let text = text.trim();
        if text.is_empty() { Ok(None) } else { Name::new(text).map(Some).map_err(Failure::invalid) }
    };
    let before = match wanted.before.as_str() {
        "" => None,
        id => Some(id.parse::<WindowId>().map_err(|_| Failure::NotFound)?),
    };
    let person = if all { name(&wanted.person)? } else { Some(viewer.user.name.clone()) };
    Ok(WindowFilter {
        state: act::state(&wanted.state),
        asset: name(&wanted.asset)?,
        limit: PAGE + 1,
        person,
        before,
        ..WindowFilter::default()
    })
}

#[cfg(test)]
pub(crate) fn sample_line(frame: &Frame) -> Line {
    Line {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
        short: "W-9a8057".into(),
        phase: "requested",
        pill: "p-requested",
        asker: "<script>vera</script>".into(),
        organisation: "Acme".into(),
        assets: "pump-hmi".into(),
        operations: "view".into(),
        from: frame.at(&frame.now),
        until: frame.at(&frame.now),
        waiting: "sam: <script>no</script>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_renders_what_people_wrote_as_text() {
        let frame = Frame::sample("/windows");
        let page = WindowsPage {
            lines: vec![sample_line(&frame)],
            may_ask: true,
            states: act::STATES,
            frame,
            all: true,
            wanted: Wanted { person: "\"><script>".into(), ..Wanted::default() },
            older: Some("before=x".into()),
        };
        let html = page.render().unwrap();
        assert!(html.contains("W-9a8057") && !html.contains("<script>"), "{html}");
    }
}
