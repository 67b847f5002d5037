//! People: how they stand, and how they get in. Changes of who they are go through the site.

use axum::{
    Json,
    extract::{Path, State},
};
use cofferdam_access::{people::User, store::Enrolled};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use super::body::{Body, Code, Reply};
use crate::{
    admin::people,
    routes::{ADMINISTRATORS, Routes},
    services::App,
    viewer::Viewer,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .api_get("/api/v1/people", ADMINISTRATORS, "read", list)
        .api_get("/api/v1/people/{person}", ADMINISTRATORS, "read", show)
        .api_post("/api/v1/people/{person}/invite", ADMINISTRATORS, "administer", invite)
        .api_post("/api/v1/people/{person}/credentials/remove", ADMINISTRATORS, "administer", remove)
        .api_get("/api/v1/organisations", ADMINISTRATORS, "read", organisations)
}

#[derive(OpenApi)]
#[openapi(paths(list, show, invite, remove, organisations))]
struct Document;

/// What this part of the API says of itself.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// A person.
#[derive(Debug, Serialize, ToSchema)]
struct Person {
    /// The name they log in with.
    id: String,
    full_name: String,
    email: String,
    organisation: String,
    duties: Vec<&'static str>,
    /// `active`, `disabled` or `expired`.
    state: &'static str,
    /// RFC 3339, UTC.
    valid_until: Option<String>,
    ssh_keys: Vec<String>,
    has_password: bool,
    has_totp: bool,
    passkeys: u64,
    recovery_codes_left: u64,
    /// An invitation works until then; RFC 3339, UTC.
    invited_until: Option<String>,
}

fn person(app: &App, user: &User, kept: Option<&Enrolled>) -> Person {
    Person {
        id: user.name.to_string(),
        full_name: user.full_name.clone(),
        email: user.email.clone(),
        organisation: user.organisation.to_string(),
        duties: user.duties.iter().map(|d| d.as_str()).collect(),
        state: user.state(app.now()),
        valid_until: user.valid_until.map(|t| t.to_string()),
        ssh_keys: user.ssh_keys.clone(),
        has_password: kept.is_some_and(|k| k.password),
        has_totp: kept.is_some_and(|k| k.totp),
        passkeys: kept.map_or(0, |k| k.passkeys),
        recovery_codes_left: kept.map_or(0, |k| k.recovery_codes_left),
        invited_until: kept.and_then(|k| k.invited_until).map(|t| t.to_string()),
    }
}

/// All people.
#[utoipa::path(get, path = "/api/v1/people", tag = "people", responses((status = 200, body = [Person])))]
async fn list(State(app): State<App>) -> Reply<Vec<Person>> {
    let enrolled = app.store.enrolled(app.now()).await?;
    let snapshot = app.snapshot();
    let one = |u: &User| person(&app, u, enrolled.iter().find(|e| e.person == u.name));
    Ok(Json(snapshot.site.users.iter().map(one).collect()))
}

/// One person.
#[utoipa::path(get, path = "/api/v1/people/{person}", tag = "people", params(("person" = String, Path)),
    responses((status = 200, body = Person), (status = 404)))]
async fn show(State(app): State<App>, Path(name): Path<String>) -> Reply<Person> {
    let user = people::known(&app, &name)?;
    let enrolled = app.store.enrolled(app.now()).await?;
    Ok(Json(person(&app, &user, enrolled.iter().find(|e| e.person == user.name))))
}

/// What an invitation is to be like.
#[derive(Deserialize, ToSchema)]
struct Invite {
    /// How long it works, hours.
    #[serde(default = "day")]
    hours: i64,
    #[serde(flatten)]
    code: Code,
}

fn day() -> i64 {
    24
}

/// An invitation, shown once.
#[derive(Serialize, ToSchema)]
struct Invited {
    /// The person.
    id: String,
    /// The link; works once.
    link: String,
    /// RFC 3339, UTC.
    until: String,
}

/// Invites a person who cannot log in to set up password and second factor.
#[utoipa::path(post, path = "/api/v1/people/{person}/invite", tag = "people", params(("person" = String, Path)),
    request_body = Invite,
    responses((status = 200, body = Invited), (status = 403), (status = 404), (status = 409)))]
async fn invite(
    State(app): State<App>,
    viewer: Viewer,
    Path(name): Path<String>,
    Body(asked): Body<Invite>,
) -> Reply<Invited> {
    let user = people::known(&app, &name)?;
    let invited = people::invite(&app, &viewer, &user, asked.hours, asked.code.proof()).await?;
    Ok(Json(Invited {
        id: user.name.to_string(),
        link: invited.link.to_string(),
        until: invited.until.to_string(),
    }))
}

/// What was done, to what.
#[derive(Serialize, ToSchema)]
struct Done {
    id: String,
}

/// Removes everything by which a person can log in but their SSH keys.
#[utoipa::path(post, path = "/api/v1/people/{person}/credentials/remove", tag = "people",
    params(("person" = String, Path)), request_body = Code,
    responses((status = 200, body = Done), (status = 403), (status = 404), (status = 409)))]
async fn remove(
    State(app): State<App>,
    viewer: Viewer,
    Path(name): Path<String>,
    Body(code): Body<Code>,
) -> Reply<Done> {
    let user = people::known(&app, &name)?;
    people::remove_credentials(&app, &viewer, &user, code.proof()).await?;
    Ok(Json(Done { id: user.name.to_string() }))
}

/// An organisation.
#[derive(Serialize, ToSchema)]
struct Organisation {
    id: String,
    title: String,
    /// `plant` or `vendor`.
    kind: &'static str,
    /// Names of its people.
    users: Vec<String>,
}

/// All organisations.
#[utoipa::path(get, path = "/api/v1/organisations", tag = "people", responses((status = 200, body = [Organisation])))]
async fn organisations(State(app): State<App>) -> Reply<Vec<Organisation>> {
    let snapshot = app.snapshot();
    let of = |name: &cofferdam_access::ids::Name| {
        snapshot.site.users.iter().filter(|u| &u.organisation == name).map(|u| u.name.to_string()).collect()
    };
    let all = snapshot.site.organisations.iter().map(|o| Organisation {
        id: o.name.to_string(),
        title: o.title.clone(),
        kind: o.kind.as_str(),
        users: of(&o.name),
    });
    Ok(Json(all.collect()))
}

#[cfg(test)]
mod tests {
    use crate::testing::Site;
    use serde_json::json;

    #[tokio::test]
    async fn people_are_listed_without_anything_that_lets_somebody_in() {
        let site = Site::new().await;
        let token = site.token("ada", &["read"]).await;
        let all = site.api_get(&token, "/api/v1/people").await;
        let vera = all.json().as_array().unwrap().iter().find(|p| p["id"] == "vera").cloned().unwrap();
        assert_eq!((&vera["has_totp"], &vera["state"]), (&json!(true), &json!("active")));
        assert!(!all.text.contains("argon2"));
        for person in ["vera", "olga", "sam", "ivan"] {
            let token = site.token(person, &["read", "administer"]).await;
            assert_eq!(site.api_get(&token, "/api/v1/people").await.status, 403, "{person}");
        }
    }

    #[tokio::test]
    async fn a_token_that_may_only_read_invites_nobody() {
        let site = Site::new().await;
        let token = site.token("ada", &["read"]).await;
        let body = json!({"code": site.code("ada")});
        assert_eq!(site.api_post(&token, "/api/v1/people/vera/invite", &body).await.status, 403);
    }

    #[tokio::test]
    async fn who_can_log_in_is_invited_only_after_their_credentials_are_removed() {
        let site = Site::new().await;
        let token = site.token("ada", &["administer"]).await;
        let body = json!({"code": site.code("ada"), "hours": 2});
        let refused = site.api_post(&token, "/api/v1/people/olga/invite", &body).await;
        assert_eq!(refused.status, 409, "{}", refused.text);
        let body = json!({"code": site.code("ada")});
        let removed = site.api_post(&token, "/api/v1/people/olga/credentials/remove", &body).await;
        assert_eq!(removed.status, 200, "{}", removed.text);
        let body = json!({"code": site.code("ada"), "hours": 2});
        let invited = site.api_post(&token, "/api/v1/people/olga/invite", &body).await;
        assert!(invited.json()["link"].as_str().unwrap().starts_with("https://localhost:8443/enrol/"));
        let again = site.api_post(&token, "/api/v1/people/olga/invite", &body).await;
        assert_eq!(again.status, 403, "a code works once");
    }
}
