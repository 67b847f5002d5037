//! The API: what the pages do, for programs. Under `/api/v1`, JSON, by tokens with a scope and an end; the person's duties
//! bind a token as they bind the person.

mod audit;
mod body;
mod checkouts;
mod desktops;
mod metrics;
mod openapi;
mod people;
mod recordings;
mod sessions;
mod site;
mod vault;
mod windows;

use crate::routes::Routes;

/// What a token may do, and how a person reads it.
pub(crate) const SCOPES: &[(&str, &str)] = &[
    ("read", "read what I may read: windows, sessions, site, metrics"),
    ("connect", "log in to desktops that are open to me (a fresh code for each)"),
    (
        "request",
        "ask for windows and for secrets to see (a fresh code for each); take back and end what I asked for",
    ),
    (
        "decide",
        "approve, refuse, shorten and revoke windows; agree that others see secrets (a fresh code for each but refusing)",
    ),
    ("control", "suspend, resume and end sessions (a fresh code for each end)"),
    ("investigate", "read recordings and the audit log"),
    ("administer", "change the site, people and plant state (a fresh code for each)"),
];

/// All of them.
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .with(windows::routes)
        .with(sessions::routes)
        .with(desktops::routes)
        .with(recordings::routes)
        .with(people::routes)
        .with(site::routes)
        .with(vault::routes)
        .with(checkouts::routes)
        .with(audit::routes)
        .with(metrics::routes)
        .with(openapi::routes)
}
