//! The audit log as people look through it: what they ask for, and its download.

use axum::body::{Body, Bytes};
use cofferdam_access::{
    audit::{AuditEntry, AuditEvent, AuditKind},
    store::{AuditFilter, Store, StoreError},
};
use futures::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use crate::{error::Failure, frame::Clock, services::App, viewer::Viewer};

/// What somebody looks for. Everything may be empty.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only this kind.
    pub(crate) kind: String,
    /// Only by this actor.
    pub(crate) actor: String,
    /// Only about this subject.
    pub(crate) subject: String,
    /// Only from this moment on (RFC 3339, or a time in the site's zone).
    pub(crate) from: String,
    /// Only before this moment.
    pub(crate) until: String,
    /// Only entries with a lower number.
    pub(crate) before: Option<u64>,
    /// Only entries with a higher number, the oldest of them.
    pub(crate) after: Option<u64>,
}

impl Wanted {
    /// As the store takes it, with at most `limit` entries.
    pub(crate) fn filter(&self, app: &App, limit: u32) -> Result<AuditFilter, Failure> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|t| !t.is_empty());
        let clock = Clock::new(&app.snapshot().site.settings.time_zone);
        let moment = |text: &str| {
            let Some(text) = given(text) else { return Ok(None) };
            // A date alone is the day's first moment.
            let text = if text.len() == 10 { format!("{text} 00:00") } else { text };
            clock.zone()?.parse(&text, app.now()).map(Some).map_err(Failure::invalid)
        };
        let kind = given(&self.kind).map(|k| k.parse::<AuditKind>()).transpose().map_err(Failure::invalid)?;
        Ok(AuditFilter {
            kind,
            actor: given(&self.actor),
            subject: given(&self.subject),
            from: moment(&self.from)?,
            until: moment(&self.until)?,
            after: self.after,
            before: self.before,
            limit,
        })
    }
}

/// Entries as asked for, the newest first whichever way somebody pages.
pub(crate) async fn page(app: &App, wanted: &Wanted, limit: u32) -> Result<Vec<AuditEntry>, Failure> {
    let mut entries = app.store.audit(&wanted.filter(app, limit)?).await?;
    if wanted.after.is_some() {
        entries.reverse();
    }
    Ok(entries)
}

/// All entries as asked for, exactly as signed, one JSON object a line, the oldest first; what they ask for is noted in the
/// log before the first byte. Memory does not grow with the log.
pub(crate) async fn export(app: &App, viewer: &Viewer, wanted: &Wanted) -> Result<Body, Failure> {
    let mut filter = AuditFilter { after: Some(wanted.after.unwrap_or(0)), ..wanted.filter(app, 0)? };
    let place = app.background.download().ok_or_else(|| {
        Failure::Unavailable("others are downloading the log: try again when they have finished".into())
    })?;
    let asked = serde_json::to_value(wanted).map_err(|e| Failure::internal("audit", e))?;
    let event = AuditEvent::new(AuditKind::AuditExported, "audit").with("filter", asked).with("at", "web");
    let noted = app.store.record(&viewer.act(app.now()), event).await?;
    // Up to the note, so that it ends however fast the log grows.
    filter.before = filter.before.or(Some(noted.seq.saturating_add(1)));
    Ok(Body::from_stream(lines(app.store.clone(), filter, place)))
}

fn lines(
    store: Store,
    filter: AuditFilter,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
    stream::try_unfold((store, filter, place), async |(store, mut filter, place)| {
        let entries = store.audit(&filter).await?;
        let Some(last) = entries.last() else { return Ok(None) };
        filter.after = Some(last.seq);
        let mut text = String::new();
        for entry in &entries {
            let line = serde_json::to_string(entry).map_err(|e| StoreError::Refused(e.to_string()))?;
            text.push_str(&line);
            text.push('\n');
        }
        Ok(Some((Bytes::from(text), (store, filter, place))))
    })
}
