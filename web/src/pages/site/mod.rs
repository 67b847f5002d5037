//! The described site: zones and conduits, assets, and changes of the whole, which are shown before they are done.

mod assets;
mod map;
mod zones;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use cofferdam_access::{
    apply::{Edit, Proposal},
    audit::{AuditEvent, AuditKind},
    site::Site,
};
use serde::Deserialize;

use crate::{
    admin::change,
    error::Failure,
    form::Form,
    frame::{self, Frame},
    routes::{ADMINISTRATORS, Routes},
    services::App,
    step_up::Proof,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/site", ADMINISTRATORS, upload_form)
        .get("/site/export", ADMINISTRATORS, export)
        .post("/site/plan", ADMINISTRATORS, plan)
        .post("/site/apply", ADMINISTRATORS, apply)
        .with(zones::routes)
        .with(assets::routes)
}

struct FieldRow {
    field: String,
    before: String,
    after: String,
}

struct StepRow {
    verb: &'static str,
    kind: &'static str,
    name: String,
    cuts: bool,
    fields: Vec<FieldRow>,
}

#[derive(Template)]
#[template(path = "site-plan.html")]
struct PlanPage {
    frame: Frame,
    steps: Vec<StepRow>,
    cuts: bool,
    refusal: Option<String>,
    edit: String,
    digest: String,
    digest_parts: Vec<String>,
    action: &'static str,
    back: String,
}

#[derive(Template)]
#[template(path = "site-file.html")]
struct FilePage {
    frame: Frame,
    problem: Option<String>,
    text: String,
}

/// Shows what `edit` would change, with the step-up that does exactly that.
pub(super) async fn plan_page(app: &App, viewer: &Viewer, edit: Edit) -> Result<Response, Failure> {
    let body = serde_json::to_string(&edit).map_err(|e| Failure::internal("edit", e))?;
    let back = home_of(&edit);
    let proposal = change::propose(app, edit).await?;
    frame::page(&page_of(Frame::new(app, viewer, way_of(&back)), viewer, &proposal, body, back))
}

fn page_of(frame: Frame, viewer: &Viewer, proposal: &Proposal, edit: String, back: String) -> PlanPage {
    let digest = proposal.digest();
    let steps = proposal.plan().steps.iter().map(|step| StepRow {
        verb: step.verb.as_str(),
        kind: step.kind.as_str(),
        name: step.name.clone(),
        cuts: step.may_cut_sessions,
        fields: step
            .fields
            .iter()
            .map(|f| {
                let (before, after) = f.shown();
                FieldRow { field: f.field.clone(), before, after }
            })
            .collect(),
    });
    PlanPage {
        steps: steps.collect(),
        cuts: proposal.plan().may_cut_sessions(),
        refusal: proposal.refusal_for(&viewer.user.name),
        edit,
        digest_parts: frame::grouped(&digest),
        digest,
        action: change::ACTION,
        back,
        frame,
    }
}

/// Where somebody who made this change wants to be after it.
fn home_of(edit: &Edit) -> String {
    match edit {
        Edit::Site(_) => "/site".to_owned(),
        Edit::User(user) => format!("/people/{}", user.name),
        Edit::Disable(name) | Edit::Enable(name) => format!("/people/{name}"),
        Edit::Supervision { asset, .. } => format!("/assets/{asset}"),
        Edit::RemoveUser(_) | Edit::Organisation(_) | Edit::RemoveOrganisation(_) => "/people".to_owned(),
    }
}

fn way_of(home: &str) -> &'static str {
    ["/people", "/assets"].into_iter().find(|way| home.starts_with(way)).unwrap_or("/zones")
}

async fn upload_form(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/zones");
    frame::page(&FilePage { frame, problem: None, text: String::new() })
}

/// The site as a file, in the form that it is taken back in.
async fn export(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let text = app.store.site().await?.to_toml().map_err(|e| Failure::internal("site", e))?;
    let event = AuditEvent::new(AuditKind::SiteExported, "site").with("at", "web");
    app.store.record(&viewer.act(app.now()), event).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/toml")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"site.toml\"")),
    ];
    Ok((headers, text).into_response())
}

#[derive(Deserialize)]
struct File {
    text: String,
}

async fn plan(State(app): State<App>, viewer: Viewer, Form(file): Form<File>) -> Result<Response, Failure> {
    let shown = match Site::from_toml(&file.text) {
        Ok(site) => plan_page(&app, &viewer, Edit::Site(Box::new(site))).await,
        Err(e) => Err(Failure::Invalid(e.to_string())),
    };
    match shown {
        Err(Failure::Invalid(problem)) => {
            let frame = Frame::new(&app, &viewer, "/zones");
            frame::page(&FilePage { frame, problem: Some(problem), text: file.text })
        }
        other => other,
    }
}

#[derive(Deserialize)]
struct Apply {
    edit: String,
    digest: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

async fn apply(
    State(app): State<App>,
    viewer: Viewer,
    Form(asked): Form<Apply>,
) -> Result<Response, Failure> {
    let edit: Edit = serde_json::from_str(&asked.edit)
        .map_err(|_| Failure::Invalid("that is no change of the site: begin again at its form".into()))?;
    let home = home_of(&edit);
    let proof = Proof { code: &asked.code, challenge: &asked.challenge, credential: &asked.credential };
    change::carry_out(&app, &viewer, edit, &asked.digest, proof).await?;
    Ok(Redirect::to(&home).into_response())
}

#[cfg(test)]
mod tests;
