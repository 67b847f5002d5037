//! Sessions and windows as programs read them, in JSON: the same on the command line, in evidence bundles, and wherever
//! else they are shown.

use std::collections::BTreeSet;

use cofferdam_access::{
    clock::Timestamp,
    ids::{Name, SessionId},
    store::{
        DecisionFilter, DecisionRecord, FindingFilter, FindingRecord, Order, SessionRecord, Store, StoreError,
    },
    window::{Standing, Window},
};
use serde_json::{Value, json};

use crate::context::Context;

/// A moment: RFC 3339 in UTC.
pub(crate) fn utc(at: Timestamp) -> Value {
    Value::String(at.to_string())
}

/// A moment, if there is one.
pub(crate) fn utc_or_null(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, utc)
}

/// A session.
pub(crate) fn session(context: &Context, s: &SessionRecord) -> Value {
    let recording = s.recording.as_ref().map(|id| {
        let path = id.parse().map(|id| context.recording_path(&id).display().to_string()).ok();
        json!({"id": id, "path": path, "digest": s.recording_digest})
    });
    json!({
        "id": s.id.to_string(),
        "user": s.person,
        "asset": s.asset,
        "account": format!("{}@{}", s.login, s.asset),
        "login": s.login,
        "protocol": s.protocol.as_str(),
        "state": s.state.as_str(),
        "reason": s.end_reason,
        "started": utc(s.started_at),
        "ended": utc_or_null(s.ended_at),
        "window": s.window.map(|w| w.to_string()),
        "source": s.source.to_string(),
        "device_key": s.device_key,
        "node": s.node,
        "decision": s.decision.to_string(),
        "recording": recording,
        "bytes_up": s.bytes_up,
        "bytes_down": s.bytes_down,
    })
}

/// A session with all that is kept of why it was allowed and of what was ordered and found.
pub(crate) struct SessionInFull {
    pub(crate) session: SessionRecord,
    pub(crate) decisions: Vec<DecisionRecord>,
    pub(crate) orders: Vec<Order>,
    pub(crate) findings: Vec<FindingRecord>,
}

impl SessionInFull {
    /// Reads it.
    ///
    /// # Errors
    /// When there is no such session, or the store cannot be asked.
    pub(crate) async fn read(store: &Store, id: SessionId) -> Result<Self, StoreError> {
        let session = store.session(id).await?;
        let filter = DecisionFilter { session: Some(id), ..DecisionFilter::default() };
        let mut decisions = store.decisions(&filter).await?;
        if !decisions.iter().any(|d| d.id == session.decision) {
            decisions.push(store.decision(session.decision).await?);
        }
        let orders = store.orders_of(id).await?;
        let findings =
            store.findings(&FindingFilter { session: Some(id), ..FindingFilter::default() }).await?;
        Ok(Self { session, decisions, orders, findings })
    }

    /// All of it.
    ///
    /// # Errors
    /// When a finding cannot be written as JSON.
    pub(crate) fn json(&self, context: &Context) -> Result<Value, serde_json::Error> {
        let body = |text: &str| {
            serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        };
        let mut json = session(context, &self.session);
        if let Some(object) = json.as_object_mut() {
            let deciding = self.decisions.iter().find(|d| d.id == self.session.decision);
            object.insert("decision".into(), deciding.map_or(Value::Null, |d| body(&d.body)));
            let others = self.decisions.iter().filter(|d| d.id != self.session.decision);
            object.insert("other_decisions".into(), others.map(|d| body(&d.body)).collect());
            object.insert("orders".into(), self.orders.iter().map(order).collect());
            object.insert("findings".into(), serde_json::to_value(&self.findings)?);
        }
        Ok(json)
    }
}

fn order(o: &Order) -> Value {
    json!({
        "id": o.id.to_string(), "order": o.kind.as_str(), "by": o.by, "reason": o.reason, "at": utc(o.at),
        "done": utc_or_null(o.done_at), "outcome": o.outcome,
    })
}

/// Who ended a window's request and why, where somebody did.
pub(crate) fn verdict(standing: &Standing) -> Option<(&'static str, &Name, &str)> {
    match standing {
        Standing::Refused { by, reason, .. } => Some(("refused", by, reason)),
        Standing::Revoked { by, reason, .. } => Some(("revoked", by, reason)),
        Standing::Requested | Standing::Approved | Standing::Withdrawn { .. } => None,
    }
}

/// A window, as it stands at `now`.
///
/// # Errors
/// When its limits cannot be written as JSON.
pub(crate) fn window(window: &Window, now: Timestamp) -> Result<Value, serde_json::Error> {
    let r = &window.request;
    let approvals: Vec<Value> = window
        .approvals
        .iter()
        .map(|a| {
            json!({"by": a.by, "duty": a.duty.as_str(), "digest": a.digest, "at": utc(a.at), "remark": a.remark})
        })
        .collect();
    let (by, reason) = verdict(&window.standing)
        .map_or((Value::Null, Value::Null), |(_, by, reason)| (json!(by), json!(reason)));
    let operations: BTreeSet<&str> = r.operations.iter().map(|o| o.as_str()).collect();
    Ok(json!({
        "id": r.id.to_string(),
        "state": window.standing.as_str(),
        "phase": window.phase(now).as_str(),
        "requested_by": r.requested_by,
        "requested_at": utc(r.requested_at),
        "users": r.users,
        "accounts": r.accounts,
        "forwards": r.forwards,
        "operations": operations,
        "purpose": r.purpose,
        "work_order": r.work_order,
        "start": utc(r.start),
        "end": utc(window.effective_end()),
        "requested_end": utc(r.end),
        "shortened_to": utc_or_null(window.shortened_to),
        "plant_states": r.plant_states,
        "limits": serde_json::to_value(&r.limits)?,
        "extends": r.extends.map(|w| w.to_string()),
        "digest": r.digest().to_string(),
        "approvals": approvals,
        "ended_by": by,
        "reason": reason,
    }))
}
