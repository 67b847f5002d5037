//! Who asks: a person logged in by cookie, a program with a token, or a browser that has not said yet.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use cofferdam_access::{
    audit::Act,
    clock::Timestamp,
    decision::Factors,
    ids::{ApiTokenId, WebSessionId},
    people::{Duty, User},
};

use crate::{error::Failure, token::Token};

/// How the viewer proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A log-in of a browser.
    Session {
        /// The log-in.
        id: WebSessionId,
        /// How the person proved who they are at it.
        factors: Factors,
    },
    /// A token of the API.
    Token {
        /// The token.
        id: ApiTokenId,
        /// What it may do.
        scopes: Vec<String>,
    },
}

/// Somebody known and active. Put into the request by the rule of its route; a handler that asks for one without such a
/// rule gets a failure, never a guess.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// The person as the site describes them now.
    pub(crate) user: User,
    /// How they proved it.
    pub(crate) credential: Credential,
    /// The address they come from.
    pub(crate) source: SocketAddr,
    /// What forms carry; none for a program.
    pub(crate) form: Option<Token>,
}

impl Viewer {
    /// Whether they hold the duty.
    pub(crate) fn holds(&self, duty: Duty) -> bool {
        self.user.duties.contains(&duty)
    }

    /// Whether they hold one of the duties.
    pub(crate) fn holds_any(&self, duties: &[Duty]) -> bool {
        duties.iter().any(|d| self.holds(*d))
    }

    /// Whether they come with a token of that scope.
    pub(crate) fn has_scope(&self, scope: &str) -> bool {
        matches!(&self.credential, Credential::Token { scopes, .. } if scopes.iter().any(|s| s == scope))
    }

    /// The approving duty that they hold, where it is one alone.
    pub(crate) fn approving_duties(&self) -> Vec<Duty> {
        self.user.duties.iter().copied().filter(|d| d.approves()).collect()
    }

    /// They act now.
    pub(crate) fn act(&self, now: Timestamp) -> Act {
        Act::person(&self.user.name, now).from(self.address())
    }

    /// Their address, IPv4 where it is one.
    pub(crate) fn address(&self) -> IpAddr {
        self.source.ip().to_canonical()
    }
}

/// The address of the connection; nothing that a client says about it counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl<S: Send + Sync> FromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or(Failure::LogIn)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Failure> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let known = parts.extensions.get::<Self>().copied();
        known
            .ok_or_else(|| Failure::internal("connection", "a request without the address of its connection"))
    }
}
