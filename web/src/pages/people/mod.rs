//! People and organisations.

mod form;
mod show;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use cofferdam_access::{
    people::{Duty, User},
    store::Enrolled,
};
use serde::Deserialize;

use crate::{
    error::Failure,
    frame::{self, Frame, Moment, named},
    routes::{ADMINISTRATORS, Routes},
    services::App,
    viewer::Viewer,
};

/// People on one page.
const PAGE: usize = 100;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/people", ADMINISTRATORS, list).with(show::routes).with(form::routes)
}

/// What the list is narrowed to. Everything may be empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Narrowed {
    q: String,
    organisation: String,
    duty: String,
    skip: usize,
}

struct PersonRow {
    name: String,
    full_name: String,
    organisation: String,
    duties: String,
    factors: String,
    state: &'static str,
    invited_until: Option<Moment>,
}

struct OrganisationRow {
    name: String,
    title: String,
    kind: &'static str,
    people: usize,
}

#[derive(Template)]
#[template(path = "people.html")]
struct PeoplePage {
    frame: Frame,
    asked: Narrowed,
    people: Vec<PersonRow>,
    found: usize,
    older: Option<String>,
    newer: Option<String>,
    organisations: Vec<OrganisationRow>,
    duties: Vec<&'static str>,
}

async fn list(
    State(app): State<App>,
    viewer: Viewer,
    Query(asked): Query<Narrowed>,
) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/people");
    let snapshot = app.snapshot();
    let enrolled = app.store.enrolled(app.now()).await?;
    let fitting: Vec<&User> = snapshot.site.users.iter().filter(|u| asked.fits(u)).collect();
    let people = fitting
        .iter()
        .skip(asked.skip)
        .take(PAGE)
        .map(|u| person_row(&frame, u, enrolled.iter().find(|e| e.person == u.name)))
        .collect();
    let organisations = snapshot
        .site
        .organisations
        .iter()
        .map(|o| OrganisationRow {
            name: o.name.to_string(),
            title: o.title.clone(),
            kind: o.kind.as_str(),
            people: snapshot.site.users.iter().filter(|u| u.organisation == o.name).count(),
        })
        .collect();
    let found = fitting.len();
    let page = PeoplePage {
        people,
        found,
        older: (asked.skip + PAGE < found).then(|| asked.at(asked.skip + PAGE)),
        newer: (asked.skip > 0).then(|| asked.at(asked.skip.saturating_sub(PAGE))),
        organisations,
        duties: Duty::ALL.map(Duty::as_str).to_vec(),
        asked,
        frame,
    };
    frame::page(&page)
}

impl Narrowed {
    fn fits(&self, user: &User) -> bool {
        let words = self.q.trim().to_lowercase();
        (words.is_empty()
            || user.name.as_str().contains(&words)
            || user.full_name.to_lowercase().contains(&words))
            && (self.organisation.is_empty() || user.organisation.as_str() == self.organisation)
            && (self.duty.is_empty() || user.duties.iter().any(|d| d.as_str() == self.duty))
    }

    fn at(&self, skip: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("q", &self.q)
            .append_pair("organisation", &self.organisation)
            .append_pair("duty", &self.duty)
            .append_pair("skip", &skip.to_string());
        format!("/people?{}", query.finish())
    }
}

fn person_row(frame: &Frame, user: &User, kept: Option<&Enrolled>) -> PersonRow {
    let invited_until = kept.and_then(|k| k.invited_until);
    PersonRow {
        name: user.name.to_string(),
        full_name: user.full_name.clone(),
        organisation: user.organisation.to_string(),
        duties: named(&user.duties),
        factors: factors(kept),
        state: user.state(frame.now),
        invited_until: frame.zone.maybe(invited_until),
    }
}

/// By what a person can log in, in words.
fn factors(kept: Option<&Enrolled>) -> String {
    let Some(kept) = kept else { return "none yet".to_owned() };
    let all = [(kept.password, "password"), (kept.totp, "TOTP"), (kept.passkeys > 0, "passkey")];
    let words: Vec<&str> = all.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
    if words.is_empty() { "none yet".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_renders_with_what_people_typed_escaped() {
        let frame = Frame::sample("/people");
        let page = PeoplePage {
            asked: Narrowed { q: "\"><script>".into(), ..Narrowed::default() },
            people: vec![PersonRow {
                name: "vera".into(),
                full_name: "<script>alert(1)</script>".into(),
                organisation: "acme".into(),
                duties: "vendor".into(),
                factors: "TOTP".into(),
                state: "active",
                invited_until: Some(frame.at(&frame.now)),
            }],
            found: 1,
            older: Some("/people?skip=100".into()),
            newer: None,
            organisations: vec![OrganisationRow {
                name: "acme".into(),
                title: "<script>".into(),
                kind: "vendor",
                people: 1,
            }],
            duties: vec!["vendor"],
            frame,
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>") && html.contains("/people/vera"));
    }
}
