//! What goes wrong, by whose fault, and how it is said: as a page to a browser, as a problem document (RFC 9457) to a
//! program. A person reads what happened and what next; details of ours go to the log alone.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use cofferdam_access::store::StoreError;

use crate::frame::ErrorPage;

/// A request that does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no such thing, or it is not for this person: the two look the same.
    #[error("there is nothing here: it may be over, or it is not yours to see")]
    NotFound,
    /// Their duties do not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// They have to log in first.
    #[error("log in to go on")]
    LogIn,
    /// What they sent does not make sense; the text says what to do.
    #[error("{0}")]
    Invalid(String),
    /// Somebody else was faster, or it is not in a state for that.
    #[error("{0}")]
    Conflict(String),
    /// The proof was wrong, or used before.
    #[error("{0}")]
    NotProved(String),
    /// Too many attempts.
    #[error("too many attempts: wait a minute, then try again")]
    TooMany,
    /// A part of the program does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// Ours.
    #[error("something went wrong in the gateway; its log says what")]
    Internal,
}

impl Failure {
    /// Something of ours went wrong: it is logged here, once.
    pub(crate) fn internal(what: &str, e: impl std::fmt::Display) -> Self {
        tracing::error!(error = %e, what, "a page failed");
        Self::Internal
    }

    /// What a person has to hear about their own input.
    pub(crate) fn invalid(e: impl std::fmt::Display) -> Self {
        Self::Invalid(e.to_string())
    }

    /// Its status code.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::LogIn => StatusCode::UNAUTHORIZED,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotProved(_) => StatusCode::FORBIDDEN,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NotFound => "Nothing here",
            Self::Forbidden(_) => "Not allowed",
            Self::LogIn => "Log in",
            Self::Invalid(_) => "That does not fit",
            Self::Conflict(_) => "Not now",
            Self::NotProved(_) => "Not proved",
            Self::TooMany => "Too many attempts",
            Self::Unavailable(_) => "Not available",
            Self::Internal => "A fault of the gateway",
        }
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::NotFound { .. } => Self::NotFound,
            StoreError::Changed { .. } | StoreError::Exists { .. } | StoreError::Refused(_) => {
                Self::Conflict(e.to_string())
            }
            e if e.is_temporary() => {
                tracing::error!(error = %e, "the store does not answer");
                Self::Unavailable("the gateway's store does not answer: try again in a moment".into())
            }
            e => Self::internal("store", e),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = ErrorPage { title: self.title(), text: &self.to_string() }.html();
        let mut response = (status, axum::response::Html(body)).into_response();
        if self == Self::TooMany {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}

/// The same for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(pub(crate) Failure);

impl<E: Into<Failure>> From<E> for Problem {
    fn from(e: E) -> Self {
        Self(e.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.0.status();
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.0.title(),
            "status": status.as_u16(),
            "detail": self.0.to_string(),
        });
        let mut response = (status, Json(body)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
