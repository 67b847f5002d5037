//! The forms for people and organisations. What they ask for is a change of the described site: it is shown first, and done
//! on a step-up.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use cofferdam_access::{
    apply::Edit,
    ids::Name,
    people::{Duty, Organisation, OrganisationKind, User},
};
use serde::Deserialize;

use crate::{
    admin::people::known,
    error::Failure,
    form::Form,
    frame::{self, Clock, Frame},
    pages::site,
    routes::{ADMINISTRATORS, Routes},
    services::App,
    viewer::Viewer,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/add/person", ADMINISTRATORS, new_person)
        .get("/people/{person}/edit", ADMINISTRATORS, edit_person)
        .post("/people/change", ADMINISTRATORS, change_person)
        .get("/people/{person}/plan/{what}", ADMINISTRATORS, plan_person)
        .get("/add/organisation", ADMINISTRATORS, new_organisation)
        .get("/organisations/{organisation}/edit", ADMINISTRATORS, edit_organisation)
        .get("/organisations/{organisation}/plan/remove", ADMINISTRATORS, plan_organisation)
        .post("/organisations/change", ADMINISTRATORS, change_organisation)
}

/// A person as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Typed {
    /// The person exists; otherwise the name must be new.
    known: bool,
    name: String,
    full_name: String,
    email: String,
    organisation: String,
    duties: Vec<String>,
    ssh_keys: String,
    valid_until: String,
}

struct DutyChoice {
    word: &'static str,
    held: bool,
}

#[derive(Template)]
#[template(path = "person-form.html")]
struct PersonForm {
    frame: Frame,
    problem: Option<String>,
    typed: Typed,
    own: bool,
    duties: Vec<DutyChoice>,
    organisations: Vec<String>,
}

fn form(app: &App, viewer: &Viewer, typed: Typed, problem: Option<String>) -> PersonForm {
    let choice =
        |d: Duty| DutyChoice { word: d.as_str(), held: typed.duties.iter().any(|t| t == d.as_str()) };
    PersonForm {
        frame: Frame::new(app, viewer, "/people"),
        problem,
        own: typed.known && typed.name == viewer.user.name.as_str(),
        duties: Duty::ALL.into_iter().map(choice).collect(),
        organisations: app.snapshot().site.organisations.iter().map(|o| o.name.to_string()).collect(),
        typed,
    }
}

async fn new_person(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    frame::page(&form(&app, &viewer, Typed::default(), None))
}

async fn edit_person(
    State(app): State<App>,
    viewer: Viewer,
    Path(person): Path<String>,
) -> Result<Response, Failure> {
    let user = known(&app, &person)?;
    let clock = Clock::new(&app.snapshot().site.settings.time_zone);
    let typed = Typed {
        known: true,
        name: user.name.to_string(),
        full_name: user.full_name,
        email: user.email,
        organisation: user.organisation.to_string(),
        duties: user.duties.iter().map(|d| d.as_str().to_owned()).collect(),
        ssh_keys: user.ssh_keys.join("\n"),
        valid_until: match user.valid_until {
            Some(end) => clock.zone()?.show_for_fields(end),
            None => String::new(),
        },
    };
    frame::page(&form(&app, &viewer, typed, None))
}

/// Shows what the form would change. What does not make sense comes back with the form.
async fn change_person(
    State(app): State<App>,
    viewer: Viewer,
    Form(typed): Form<Typed>,
) -> Result<Response, Failure> {
    let shown = match read(&app, &typed) {
        Ok(user) => site::plan_page(&app, &viewer, Edit::User(user)).await,
        Err(failure) => Err(failure),
    };
    match shown {
        Err(Failure::Invalid(problem)) => frame::page(&form(&app, &viewer, typed, Some(problem))),
        other => other,
    }
}

fn read(app: &App, typed: &Typed) -> Result<User, Failure> {
    let name = Name::new(typed.name.trim()).map_err(Failure::invalid)?;
    let snapshot = app.snapshot();
    let before = snapshot.site.user(&name);
    if before.is_some() != typed.known {
        let why = if typed.known {
            "there is no such person any more"
        } else {
            "that name is taken already: choose another"
        };
        return Err(Failure::Invalid(why.into()));
    }
    let duty = |text: &String| Duty::ALL.into_iter().find(|d| d.as_str() == text);
    let duties: Option<BTreeSet<Duty>> = typed.duties.iter().map(duty).collect();
    let line = |text: &str| text.trim().chars().filter(|c| !c.is_control()).collect::<String>();
    Ok(User {
        full_name: line(&typed.full_name),
        email: line(&typed.email),
        organisation: Name::new(&typed.organisation)
            .map_err(|_| Failure::Invalid("choose the person's organisation".into()))?,
        duties: duties
            .ok_or_else(|| Failure::Invalid("there is no such duty: choose from the list".into()))?,
        ssh_keys: typed.ssh_keys.lines().map(line).filter(|l| !l.is_empty()).collect(),
        disabled: before.is_some_and(|b| b.disabled),
        valid_until: match typed.valid_until.trim() {
            "" => None,
            text => {
                let clock = Clock::new(&snapshot.site.settings.time_zone);
                Some(clock.zone()?.parse(text, app.now()).map_err(Failure::invalid)?)
            }
        },
        name,
    })
}

async fn plan_person(
    State(app): State<App>,
    viewer: Viewer,
    Path((person, what)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let name = known(&app, &person)?.name;
    let edit = match what.as_str() {
        "disable" => Edit::Disable(name),
        "enable" => Edit::Enable(name),
        "remove" => Edit::RemoveUser(name),
        _ => return Err(Failure::NotFound),
    };
    site::plan_page(&app, &viewer, edit).await
}

/// An organisation as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct TypedOrganisation {
    known: bool,
    name: String,
    title: String,
    kind: String,
}

#[derive(Template)]
#[template(path = "organisation-form.html")]
struct OrganisationForm {
    frame: Frame,
    problem: Option<String>,
    typed: TypedOrganisation,
    /// Nobody belongs to it, so it may go.
    empty: bool,
}

async fn new_organisation(State(app): State<App>, viewer: Viewer) -> Result<Response, Failure> {
    let frame = Frame::new(&app, &viewer, "/people");
    let typed = TypedOrganisation { kind: "vendor".into(), ..TypedOrganisation::default() };
    frame::page(&OrganisationForm { frame, problem: None, typed, empty: false })
}

fn organisation(app: &App, name: &str) -> Result<Organisation, Failure> {
    let snapshot = app.snapshot();
    let found = snapshot.site.organisations.iter().find(|o| o.name.as_str() == name);
    found.cloned().ok_or(Failure::NotFound)
}

async fn edit_organisation(
    State(app): State<App>,
    viewer: Viewer,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let one = organisation(&app, &name)?;
    let empty = !app.snapshot().site.users.iter().any(|u| u.organisation == one.name);
    let typed = TypedOrganisation {
        known: true,
        name: one.name.to_string(),
        title: one.title,
        kind: one.kind.as_str().to_owned(),
    };
    let frame = Frame::new(&app, &viewer, "/people");
    frame::page(&OrganisationForm { frame, problem: None, typed, empty })
}

async fn plan_organisation(
    State(app): State<App>,
    viewer: Viewer,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let edit = Edit::RemoveOrganisation(organisation(&app, &name)?.name);
    site::plan_page(&app, &viewer, edit).await
}

async fn change_organisation(
    State(app): State<App>,
    viewer: Viewer,
    Form(typed): Form<TypedOrganisation>,
) -> Result<Response, Failure> {
    let shown = match read_organisation(&app, &typed) {
        Ok(one) => site::plan_page(&app, &viewer, Edit::Organisation(one)).await,
        Err(failure) => Err(failure),
    };
    match shown {
        Err(Failure::Invalid(problem)) => {
            let frame = Frame::new(&app, &viewer, "/people");
            frame::page(&OrganisationForm { frame, problem: Some(problem), typed, empty: false })
        }
        other => other,
    }
}

fn read_organisation(app: &App, typed: &TypedOrganisation) -> Result<Organisation, Failure> {
    let name = Name::new(typed.name.trim()).map_err(Failure::invalid)?;
    if organisation(app, name.as_str()).is_ok() != typed.known {
        return Err(Failure::Invalid("that name is taken already, or the organisation is gone".into()));
    }
    Ok(Organisation {
        name,
        title: typed.title.trim().chars().filter(|c| !c.is_control()).collect(),
        kind: match typed.kind.as_str() {
            "plant" => OrganisationKind::Plant,
            "vendor" => OrganisationKind::Vendor,
            _ => return Err(Failure::Invalid("an organisation is the plant or a vendor".into())),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_render_with_what_people_typed_escaped() {
        let page = PersonForm {
            frame: Frame::sample("/people"),
            problem: Some("<script>".into()),
            typed: Typed {
                full_name: "\"><script>".into(),
                ssh_keys: "</textarea><script>".into(),
                ..Typed::default()
            },
            own: false,
            duties: vec![DutyChoice { word: "vendor", held: true }],
            organisations: vec!["acme".into()],
        };
        let html = page.render().unwrap();
        assert!(!html.contains("<script>") && html.contains("checked"));
        let page = OrganisationForm {
            frame: Frame::sample("/people"),
            problem: None,
            typed: TypedOrganisation { title: "\"><script>".into(), ..TypedOrganisation::default() },
            empty: true,
        };
        assert!(!page.render().unwrap().contains("<script>"));
    }
}
