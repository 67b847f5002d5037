//! Access windows: asking for them, following them, changing what may be changed.

pub(crate) mod act;
pub(crate) mod events;
pub(crate) mod form;
mod list;
mod request;
mod shorten;
mod show;
pub(crate) mod view;

use crate::{
    frame::WORKERS,
    routes::{Routes, Rule},
};

#[cfg(test)]
pub(super) use list::sample_line;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/windows", Rule::LoggedIn, list::show)
        .get("/windows/new", WORKERS, request::blank)
        .post("/windows/new", WORKERS, request::check)
        .post("/windows/new/send", WORKERS, request::send)
        .get("/windows/{id}", Rule::LoggedIn, show::show)
        .post("/windows/{id}/withdraw", Rule::LoggedIn, show::withdraw)
        .post("/windows/{id}/extend", WORKERS, show::check_extension)
        .post("/windows/{id}/extend/send", WORKERS, show::extend)
        .post("/windows/{id}/shorten", Rule::LoggedIn, shorten::check)
        .post("/windows/{id}/shorten/send", Rule::LoggedIn, shorten::send)
        .post("/windows/{id}/revoke", Rule::LoggedIn, show::revoke)
}

#[cfg(test)]
mod tests;
