//! Forms that prove that they come from a page of ours, shown to whoever sends them. A handler that changes something takes
//! one of these types; there is no other form type, so that none can forget the check.

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use serde::de::DeserializeOwned;

use crate::{cookies, error::Failure, services::App, token::Token, viewer::Viewer};

/// Largest form, bytes.
const LARGEST: usize = 256 * 1024;
/// The field that carries the proof.
const FIELD: &str = "form";

/// A form of somebody who is logged in.
#[derive(Debug)]
pub(crate) struct Form<T>(pub(crate) T);

/// A form of a browser that has not logged in; bound to the visit's cookie.
#[derive(Debug)]
pub(crate) struct VisitForm<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Form<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &App) -> Result<Self, Failure> {
        let viewer = request.extensions().get::<Viewer>().cloned().ok_or(Failure::LogIn)?;
        let token = viewer.form.ok_or(Failure::LogIn)?;
        Ok(Self(verified(request, &token).await?))
    }
}

impl<T: DeserializeOwned> FromRequest<App> for VisitForm<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &App) -> Result<Self, Failure> {
        let token = cookies::read(request.headers(), cookies::VISIT).ok_or_else(stale)?;
        Ok(Self(verified(request, &token).await?))
    }
}

fn stale() -> Failure {
    Failure::Invalid("the page was open for too long, or cookies are off: load it again and repeat".into())
}

async fn verified<T: DeserializeOwned>(request: Request, token: &Token) -> Result<T, Failure> {
    if !same_origin(request.headers()) {
        return Err(Failure::Forbidden("the form came from another site, so nothing was done".into()));
    }
    let of_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(';').next() == Some("application/x-www-form-urlencoded"));
    if !of_form {
        return Err(Failure::Invalid("send this as a form of the page".into()));
    }
    let body = read(request.into_body()).await?;
    let proof = url::form_urlencoded::parse(&body).find(|(name, _)| name == FIELD);
    if !proof.is_some_and(|(_, given)| token.proves_form(&given)) {
        return Err(stale());
    }
    serde_html_form::from_bytes(&body)
        .map_err(|e| Failure::Invalid(format!("a field is missing or does not fit: {e}")))
}

async fn read(body: Body) -> Result<bytes::Bytes, Failure> {
    to_bytes(body, LARGEST)
        .await
        .map_err(|_| Failure::Invalid(format!("the form is larger than {LARGEST} bytes, or broke off")))
}

/// Whether the browser says that the request comes from a page of this very host. `Sec-Fetch-Site` where there is one,
/// `Origin` otherwise; a request without either comes from no browser, and the proof in the form decides.
pub(crate) fn same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(site) = text("sec-fetch-site")
        && site != "same-origin"
    {
        return false;
    }
    match text("origin") {
        None => true,
        Some(origin) => {
            let host = text("host").unwrap_or_default();
            !host.is_empty() && origin.strip_prefix("https://") == Some(host)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn only_this_host_over_tls_is_the_same_origin() {
        let host = ("host", "gw.example:8443");
        assert!(same_origin(&headers(&[host, ("origin", "https://gw.example:8443")])));
        assert!(same_origin(&headers(&[host])));
        for origin in [
            "https://gw.example",
            "http://gw.example:8443",
            "https://evil.example",
            "null",
            "https://gw.example:8443.evil",
        ] {
            assert!(!same_origin(&headers(&[host, ("origin", origin)])), "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert!(!same_origin(&headers(&[host, ("sec-fetch-site", site)])), "{site}");
        }
    }
}
