//! What a program sends, and how it proves that its person is there.

use axum::{
    Json,
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{header, request::Parts},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    error::{Failure, Problem},
    services::App,
    step_up::Proof,
};

/// Longest body, bytes: a whole site fits.
const LONGEST: usize = 4 << 20;

/// A body of JSON. What does not fit is told as a problem document.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let json = kind.and_then(|k| k.split(';').next()) == Some("application/json");
        let bytes = to_bytes(request.into_body(), LONGEST).await.map_err(|_| {
            Failure::Invalid(format!("the body is larger than {LONGEST} bytes, or broke off"))
        })?;
        // An empty body stands for one without fields.
        if !json && !bytes.is_empty() {
            return Err(Failure::Invalid("send JSON: content-type application/json".into()).into());
        }
        let text = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
        let value = serde_json::from_slice(text)
            .map_err(|e| Failure::Invalid(format!("a field is missing or does not fit: {e}")))?;
        Ok(Self(value))
    }
}

/// A query. What does not fit is told as a problem document.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|e| Failure::Invalid(format!("the query does not fit: {e}")).into())
    }
}

/// What stands beside an order that needs a step-up.
#[derive(Deserialize, utoipa::ToSchema)]
pub(crate) struct Code {
    /// A fresh code of the person's authenticator, or a recovery code.
    #[serde(default)]
    pub(crate) code: String,
}

impl Code {
    /// As a proof.
    pub(crate) fn proof(&self) -> Proof<'_> {
        Proof { code: &self.code, ..Proof::default() }
    }
}

/// An answer of JSON, or a problem.
pub(crate) type Reply<T> = Result<Json<T>, Problem>;
