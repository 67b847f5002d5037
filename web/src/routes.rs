//! All routes in one table, each with the rule that says who may ask. There is no other way to add one.

use axum::{
    Router,
    extract::{Request, State},
    handler::Handler,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{MethodFilter, on},
};
use cofferdam_access::people::{Duty, User};

use crate::{
    api, cookies,
    error::{Failure, Problem},
    pages,
    services::App,
    token::Token,
    viewer::{Credential, Peer, Viewer},
};

/// Who may ask for a route. The handler may narrow it further (their own windows only), never widen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Everybody, also without a log-in: the log-in itself, what browsers need to show it.
    Public,
    /// Everybody who is logged in.
    LoggedIn,
    /// Who holds one of these duties.
    AnyOf(&'static [Duty]),
}

impl Rule {
    /// Whether a person with these duties may ask.
    pub fn admits(self, user: &User) -> bool {
        match self {
            Self::Public | Self::LoggedIn => true,
            Self::AnyOf(duties) => duties.iter().any(|d| user.duties.contains(d)),
        }
    }
}

/// Those who decide on windows.
pub(crate) const APPROVERS: Rule = Rule::AnyOf(&[Duty::Operations, Duty::Security]);
/// Those who watch and stop live sessions.
pub(crate) const WATCHERS: Rule = Rule::AnyOf(&[Duty::Operations, Duty::Security]);
/// Those who look into recordings.
pub(crate) const INVESTIGATORS: Rule = Rule::AnyOf(&[Duty::Investigator, Duty::Security]);
/// Those who run the process and say what state it is in.
pub(crate) const PROCESS: Rule = Rule::AnyOf(&[Duty::Operations]);
/// Those who describe the site.
pub(crate) const ADMINISTRATORS: Rule = Rule::AnyOf(&[Duty::Administrator]);
/// Those who may see how the site is described, but not change it.
pub(crate) const SITE_READERS: Rule =
    Rule::AnyOf(&[Duty::Administrator, Duty::Security, Duty::Operations, Duty::Investigator]);
/// Those who may read the audit log.
pub(crate) const AUDITORS: Rule = Rule::AnyOf(&[Duty::Administrator, Duty::Security, Duty::Investigator]);

/// The scopes of a token that open a route of the API: one of them is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes {
    /// Enough.
    pub first: &'static str,
    /// Enough, too, where there is one; the handler narrows what may be done with which.
    pub or: Option<&'static str>,
}

impl Scopes {
    /// Whether that scope is among them.
    pub fn has(self, scope: &str) -> bool {
        self.first == scope || self.or == Some(scope)
    }
}

impl From<&'static str> for Scopes {
    fn from(first: &'static str) -> Self {
        Self { first, or: None }
    }
}

impl From<[&'static str; 2]> for Scopes {
    fn from([first, or]: [&'static str; 2]) -> Self {
        Self { first, or: Some(or) }
    }
}

/// A route as the walk in the tests sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// `GET`, `POST` …
    pub method: &'static str,
    /// The path with its parameters.
    pub path: &'static str,
    /// Who may ask.
    pub rule: Rule,
    /// For a route of the API: the scope that a token needs.
    pub scope: Option<Scopes>,
}

/// The table as it grows.
pub(crate) struct Routes {
    app: App,
    router: Router<App>,
    listed: Vec<Listed>,
}

impl Routes {
    /// Without any route.
    pub(crate) fn new(app: App) -> Self {
        Self { app, router: Router::new(), listed: Vec::new() }
    }

    /// A page that is shown.
    pub(crate) fn get<H, T>(self, path: &'static str, rule: Rule, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add(MethodFilter::GET, Listed { method: "GET", path, rule, scope: None }, handler)
    }

    /// A form that is sent.
    pub(crate) fn post<H, T>(self, path: &'static str, rule: Rule, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add(MethodFilter::POST, Listed { method: "POST", path, rule, scope: None }, handler)
    }

    /// What a program reads; `scope` is what its token needs besides the person's duties.
    pub(crate) fn api_get<H, T>(
        self,
        path: &'static str,
        rule: Rule,
        scope: impl Into<Scopes>,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let scope = scope.into();
        self.add(MethodFilter::GET, Listed { method: "GET", path, rule, scope: Some(scope) }, handler)
    }

    /// What a program does.
    pub(crate) fn api_post<H, T>(
        self,
        path: &'static str,
        rule: Rule,
        scope: impl Into<Scopes>,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let scope = scope.into();
        self.add(MethodFilter::POST, Listed { method: "POST", path, rule, scope: Some(scope) }, handler)
    }

    /// Takes the routes of a part.
    pub(crate) fn with(self, part: impl FnOnce(Self) -> Self) -> Self {
        part(self)
    }

    fn add<H, T>(mut self, method: MethodFilter, listed: Listed, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let gate = Gate { app: self.app.clone(), rule: listed.rule, scope: listed.scope };
        let guarded = on(method, handler).layer(middleware::from_fn_with_state(gate, enter));
        self.router = self.router.route(listed.path, guarded);
        self.listed.push(listed);
        self
    }
}

fn all(app: App) -> Routes {
    Routes::new(app).with(pages::routes).with(api::routes)
}

/// The whole interface.
pub(crate) fn router(app: App) -> Router {
    let routes = all(app.clone());
    routes.router.fallback(async || Failure::NotFound).with_state(app)
}

/// Every route with its rule, for the tests that walk them.
pub fn listing(services: std::sync::Arc<crate::Services>) -> Result<Vec<Listed>, crate::WebError> {
    Ok(all(crate::serve::app(services)?).listed)
}

#[derive(Clone)]
struct Gate {
    app: App,
    rule: Rule,
    scope: Option<Scopes>,
}

/// The rule, before the handler.
async fn enter(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return Failure::internal("connection", "a request without the address of its connection")
            .into_response();
    };
    let found = match gate.scope {
        Some(scope) => by_token(&gate.app, peer, request.headers(), scope).await,
        None => by_cookie(&gate.app, peer, request.headers()).await,
    };
    let viewer = match (found, gate.rule) {
        (Ok(Some(viewer)), rule) if rule.admits(&viewer.user) => Some(viewer),
        (Ok(_) | Err(Failure::LogIn), Rule::Public) if gate.scope.is_none() => None,
        (Ok(Some(_)), _) => {
            let why = "this is for other duties than yours; an administrator can say whose";
            return refused(gate.scope, Failure::Forbidden(why.into()));
        }
        (Ok(None), _) => return to_login(gate.scope, &request),
        (Err(failure), _) => return refused(gate.scope, failure),
    };
    if let Some(viewer) = viewer {
        request.extensions_mut().insert(viewer);
    }
    next.run(request).await
}

fn refused(scope: Option<Scopes>, failure: Failure) -> Response {
    if scope.is_some() { Problem(failure).into_response() } else { failure.into_response() }
}

/// A browser is led to the log-in and back; a program is told.
fn to_login(scope: Option<Scopes>, request: &Request) -> Response {
    if scope.is_some() {
        let mut response = Problem(Failure::LogIn).into_response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    let asked = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let login = pages::login::address_for(asked);
    // A part of a page cannot show the log-in in its place: the whole page goes there.
    if request.headers().contains_key("hx-request") {
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        if let Ok(value) = HeaderValue::from_str("/login") {
            response.headers_mut().insert("hx-redirect", value);
        }
        return response;
    }
    if request.method() == Method::GET && !request.headers().contains_key(header::UPGRADE) {
        return Redirect::to(&login).into_response();
    }
    Failure::LogIn.into_response()
}

async fn by_cookie(app: &App, peer: Peer, headers: &HeaderMap) -> Result<Option<Viewer>, Failure> {
    let Some(token) = cookies::read(headers, cookies::SESSION) else { return Ok(None) };
    let now = app.now();
    let Some(session) = app.store.web_session(&token.digest(), app.settings.idle_seconds, now).await? else {
        return Ok(None);
    };
    let snapshot = app.snapshot();
    let Some(user) = snapshot.site.user(&session.person).filter(|u| u.is_active(now)) else {
        return Ok(None);
    };
    Ok(Some(Viewer {
        user: user.clone(),
        credential: Credential::Session { id: session.id, factors: session.factors },
        source: peer.0,
        form: Some(token),
    }))
}

async fn by_token(
    app: &App,
    peer: Peer,
    headers: &HeaderMap,
    scope: Scopes,
) -> Result<Option<Viewer>, Failure> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .and_then(|v| Token::parse(v.trim()));
    let Some(given) = given else { return Ok(None) };
    let now = app.now();
    // Guesses at 256 bits are hopeless; what is bounded here is the load that they make.
    let Some(token) = app.store.token(&given.digest(), now).await? else {
        return if app.prover.may_guess(None, peer.0.ip(), now) { Ok(None) } else { Err(Failure::TooMany) };
    };
    let snapshot = app.snapshot();
    let Some(user) = snapshot.site.user(&token.person).filter(|u| u.is_active(now)) else { return Ok(None) };
    if !token.scopes.iter().any(|s| scope.has(s)) {
        let or = scope.or.map(|or| format!(" or {or:?}")).unwrap_or_default();
        return Err(Failure::Forbidden(format!(
            "this token may not do that: make one with the scope {:?}{or}",
            scope.first
        )));
    }
    Ok(Some(Viewer {
        user: user.clone(),
        credential: Credential::Token { id: token.id, scopes: token.scopes },
        source: peer.0,
        form: None,
    }))
}
