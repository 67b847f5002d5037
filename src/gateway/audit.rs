//! Audit events for what was refused: nothing changed, but somebody tried.

use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    decision::{AccessRequest, DecisionRecord},
    ids::SessionId,
};
use tracing::error;

use super::{Gateway, kept};
use crate::session::live::Session;
use crate::ssh::{channel::forward::Wanted, connection::Identity};

impl Gateway {
    /// A refused request to connect.
    pub(super) async fn keep_refusal(
        &self,
        request: &AccessRequest,
        record: &DecisionRecord,
        now: Timestamp,
    ) {
        let act = Act::person(&request.user, now).from(request.source.ip());
        if let Err(e) = self.store.record_decisions(&act, &[kept(record)]).await {
            error!(error = %e, "a refusal could not be audited");
        }
    }

    /// A forward to a place that the window does not cover: a blocked lateral movement.
    pub(crate) async fn audit_refused_forward(
        &self,
        who: &Identity,
        session: Option<SessionId>,
        wanted: &Wanted,
        reason: &str,
    ) {
        let event = AuditEvent::new(AuditKind::ForwardRefused, format!("{}:{}", wanted.host, wanted.port))
            .with_some("session", session.map(|s| s.to_string()))
            .with("reason", reason)
            .with("lateral_movement", true);
        self.note(who, event).await;
    }

    /// A kind of forwarding that is never allowed was tried.
    pub(crate) async fn audit_forbidden(&self, who: &Identity, what: &str) {
        let event = AuditEvent::new(AuditKind::ForwardRefused, what)
            .with("reason", "this kind of forwarding is never allowed")
            .with("lateral_movement", true);
        self.note(who, event).await;
    }

    /// A channel that policy refused.
    pub(crate) async fn audit_refused_channel(
        &self,
        who: &Identity,
        session: SessionId,
        action: &str,
        reason: &str,
    ) {
        let event =
            AuditEvent::new(AuditKind::ChannelRefused, session).with("action", action).with("reason", reason);
        self.note(who, event).await;
    }

    /// A target showed a host key that is not pinned.
    pub(crate) async fn audit_impostor(&self, session: &Session, fingerprint: &str) {
        let grant = session.grant();
        let event = AuditEvent::new(AuditKind::HostKeyMismatch, &grant.account().asset)
            .with("session", session.id().to_string())
            .with("fingerprint", fingerprint);
        let act = Act::person(grant.user(), self.clock.now()).from(grant.source());
        if let Err(e) = self.store.record(&act, event).await {
            error!(error = %e, "a host key that is not pinned could not be audited");
        }
    }

    async fn note(&self, who: &Identity, event: AuditEvent) {
        let act = Act::person(&who.user, self.clock.now()).from(who.source.ip());
        if let Err(e) = self.store.record(&act, event).await {
            error!(error = %e, "an attempt could not be audited");
        }
    }
}
