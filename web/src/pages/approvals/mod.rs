//! Approving: what waits for whom, what there is to know about a request, and the decision.

mod desk;
mod facts;
mod queue;
mod show;

pub(crate) use desk::Desk;

use crate::routes::{APPROVERS, Routes};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/approvals", APPROVERS, queue::show)
        .get("/approvals/stream", APPROVERS, queue::stream)
        .get("/approvals/{id}", APPROVERS, show::show)
        .post("/approvals/{id}/approve", APPROVERS, show::approve)
        .post("/approvals/{id}/refuse", APPROVERS, show::refuse)
        .post("/approvals/{id}/suggest", APPROVERS, show::suggest)
}

#[cfg(test)]
mod tests;
