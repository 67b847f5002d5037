//! What every page has around it: who is logged in, where one can go, the site and its time.

use std::collections::BTreeSet;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use cofferdam_access::{clock::Timestamp, local_time::SiteZone, people::Duty};

use crate::{
    assets,
    checkouts::INSIDE,
    error::Failure,
    routes::{ADMINISTRATORS, APPROVERS, AUDITORS, INVESTIGATORS, Rule, SITE_READERS, WATCHERS},
    services::App,
    viewer::Viewer,
};

/// One way to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// The heading it stands under.
    pub(crate) group: &'static str,
    /// The path.
    pub(crate) path: &'static str,
    /// The word for it.
    pub(crate) text: &'static str,
    /// Its picture in `icons.svg`.
    pub(crate) icon: &'static str,
}

/// Ways under one heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The heading.
    pub(crate) name: &'static str,
    /// The ways.
    pub(crate) ways: Vec<Way>,
}

/// Who reaches machines.
pub(crate) const WORKERS: Rule = Rule::AnyOf(&[Duty::Vendor, Duty::Engineer]);

const fn way(group: &'static str, path: &'static str, text: &'static str, icon: &'static str) -> Way {
    Way { group, path, text, icon }
}

/// The ways with the rule of the page that each leads to. The pages themselves check again.
const WAYS: &[(Way, Rule)] = &[
    (way("My work", "/", "Access", "home"), WORKERS),
    (way("My work", "/windows/new", "Ask for a window", "ask"), WORKERS),
    (way("Watch", "/approvals", "Approvals", "approve"), APPROVERS),
    (way("Watch", "/live", "Live", "live"), WATCHERS),
    (way("Watch", "/recordings", "Recordings", "play"), INVESTIGATORS),
    (way("Watch", "/windows", "Windows", "ask"), Rule::LoggedIn),
    (way("Plant", "/plant", "Plant state", "metrics"), SITE_READERS),
    (way("Plant", "/zones", "Zones and conduits", "home"), SITE_READERS),
    (way("Plant", "/assets", "Assets", "home"), SITE_READERS),
    (way("Plant", "/vault", "Vault", "key"), SITE_READERS),
    (way("Plant", "/checkouts", "Check-outs", "key"), INSIDE),
    (way("Plant", "/policies", "Policies", "audit"), SITE_READERS),
    (way("Plant", "/metrics", "Metrics", "metrics"), SITE_READERS),
    (way("System", "/people", "People", "people"), ADMINISTRATORS),
    (way("System", "/audit", "Audit", "audit"), AUDITORS),
    (way("System", "/health", "Health", "metrics"), ADMINISTRATORS),
];
/// Ways in the bar at the foot of a phone.
const SHORTCUTS: usize = 4;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The site's name.
    pub(crate) site: String,
    /// The name that the viewer logs in with; empty for nobody.
    pub(crate) person: String,
    /// Their full name, or the name again.
    pub(crate) full_name: String,
    /// What they are here as.
    pub(crate) duties: String,
    /// Whether browsers can use passkeys here.
    pub(crate) passkeys: bool,
    /// Where they can go.
    pub(crate) ways: Vec<Way>,
    /// The way that this page belongs to.
    pub(crate) here: &'static str,
    /// What forms carry.
    pub(crate) form: String,
    /// The site's zone.
    pub(crate) zone: Clock,
    /// When the page was made.
    pub(crate) now: Timestamp,
}

/// Shows moments in the site's zone.
#[derive(Debug, Clone)]
pub(crate) struct Clock(Option<SiteZone>);

/// A moment as pages show it: the site's time, with UTC (and, by script, the viewer's own) on hover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// RFC 3339, UTC: for machines.
    pub(crate) iso: String,
    /// In the site's zone: for people.
    pub(crate) site: String,
}

impl Clock {
    /// The zone of that name; UTC where there is none.
    pub(crate) fn new(name: &str) -> Self {
        Self(SiteZone::new(name).ok())
    }

    /// That moment.
    pub(crate) fn at(&self, at: Timestamp) -> Moment {
        let iso = at.to_string();
        let site = self.0.as_ref().map_or_else(|| iso.clone(), |z| z.show_for_people(at));
        Moment { iso, site }
    }

    /// That moment, if there is one.
    pub(crate) fn maybe(&self, at: Option<Timestamp>) -> Option<Moment> {
        at.map(|at| self.at(at))
    }

    /// The site's zone, to read what people type.
    ///
    /// # Errors
    /// When the site's description names none that exists.
    pub(crate) fn zone(&self) -> Result<&SiteZone, Failure> {
        self.0.as_ref().ok_or_else(|| {
            Failure::Unavailable("the site's time zone cannot be used: tell the site's administrator".into())
        })
    }

    /// The zone's name.
    pub(crate) fn name(&self) -> &str {
        self.0.as_ref().map_or("UTC", SiteZone::name)
    }
}

impl Frame {
    /// Around a page at `here` for `viewer`.
    pub(crate) fn new(app: &App, viewer: &Viewer, here: &'static str) -> Self {
        let user = &viewer.user;
        let full_name =
            if user.full_name.is_empty() { user.name.to_string() } else { user.full_name.clone() };
        Self {
            person: user.name.to_string(),
            full_name,
            duties: format!("{}, {}", named(&user.duties), user.organisation),
            ways: WAYS.iter().filter(|(_, rule)| rule.admits(user)).map(|(way, _)| *way).collect(),
            form: viewer.form.as_ref().map(crate::token::Token::form_proof).unwrap_or_default(),
            ..Self::empty(app, here)
        }
    }

    /// Around a page for somebody who has not logged in; `form` is what its forms carry.
    pub(crate) fn nobody(app: &App, here: &'static str, form: String) -> Self {
        Self { form, ..Self::empty(app, here) }
    }

    fn empty(app: &App, here: &'static str) -> Self {
        Self {
            site: app.site.clone(),
            person: String::new(),
            full_name: String::new(),
            duties: String::new(),
            passkeys: app.passkeys.usable(),
            ways: Vec::new(),
            here,
            form: String::new(),
            zone: Clock::new(&app.snapshot().site.settings.time_zone),
            now: app.now(),
        }
    }

    /// For tests that render templates.
    #[cfg(test)]
    pub(crate) fn sample(here: &'static str) -> Self {
        Self {
            site: "Waterworks <North>".into(),
            person: "olga".into(),
            full_name: "Olga <b>Berg</b>".into(),
            duties: "operations, plant".into(),
            passkeys: true,
            ways: WAYS.iter().map(|(way, _)| *way).collect(),
            here,
            form: "proof".into(),
            zone: Clock::new("Europe/Berlin"),
            now: Timestamp::from_seconds(1_795_600_000),
        }
    }

    /// Where they can go, under headings.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for way in &self.ways {
            match groups.last_mut() {
                Some(group) if group.name == way.group => group.ways.push(*way),
                _ => groups.push(Group { name: way.group, ways: vec![*way] }),
            }
        }
        groups
    }

    /// The first of them, for the bar at the foot of a phone.
    pub(crate) fn shortcuts(&self) -> &[Way] {
        self.ways.get(..SHORTCUTS).unwrap_or(&self.ways)
    }

    /// The program's version.
    pub(crate) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The address of an asset.
    pub(crate) fn asset(&self, name: &str) -> &'static str {
        assets::address(name)
    }

    /// That moment.
    pub(crate) fn at(&self, at: &Timestamp) -> Moment {
        self.zone.at(*at)
    }
}

/// Duties as people read them.
pub(crate) fn named(duties: &BTreeSet<Duty>) -> String {
    duties.iter().map(|d| d.as_str()).collect::<Vec<_>>().join(", ")
}

/// A composable text of an error as a sentence.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

/// A digest in groups that people can compare.
pub(crate) fn grouped(digest: &str) -> Vec<String> {
    digest.as_bytes().chunks(8).map(|c| String::from_utf8_lossy(c).into_owned()).collect()
}

/// Renders a page.
pub(crate) fn page(template: &impl Template) -> Result<Response, Failure> {
    let html = template.render().map_err(|e| Failure::internal("template", e))?;
    Ok(Html(html).into_response())
}

/// What stands where a page failed: without a frame, because what failed may be what the frame needs.
#[derive(Template)]
#[template(path = "error.html")]
pub(crate) struct ErrorPage<'a> {
    /// What happened, in two words.
    pub(crate) title: &'a str,
    /// What happened and what next.
    pub(crate) text: &'a str,
}

impl ErrorPage<'_> {
    fn style(&self) -> &'static str {
        assets::address("style.css")
    }

    /// The text as a sentence.
    fn sentence(&self) -> String {
        sentence(self.text)
    }

    fn icon(&self) -> &'static str {
        assets::address("icon.svg")
    }

    /// The page; plain text should even this fail.
    pub(crate) fn html(&self) -> String {
        self.render().unwrap_or_else(|_| self.title.to_owned())
    }
}
