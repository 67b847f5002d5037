//! Whether a live session still qualifies.

use std::fmt;

use super::{
    compiled::Verdict,
    facts::{Act, CLOCK_SLACK_SECONDS, Freshness, Person, Question, Scope, Thing},
    reasons,
};
use crate::{
    clock::Timestamp,
    decision::AccessRequest,
    grant::Grant,
    ids::{Name, WindowId},
    site::{AccountRef, Desktop, PlantState},
    snapshot::Snapshot,
    window::{Phase, Standing, Target, Window},
};

/// Why a live session has to end now. `Display` is what the person is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The window came to its end.
    WindowEnded {
        /// When.
        at: Timestamp,
    },
    /// Somebody ended the window early.
    WindowRevoked {
        /// Which.
        window: WindowId,
        /// Who and why, where that is known.
        detail: String,
    },
    /// Somebody brought the window's end forward, and it is reached.
    WindowShortened {
        /// To when.
        to: Timestamp,
    },
    /// The person is disabled, past their last day, or gone.
    UserDisabled(Name),
    /// The asset is disabled or gone.
    AssetDisabled(Name),
    /// The asset's address or endpoint is another now.
    AssetChanged(Name),
    /// The account is disabled or gone.
    AccountDisabled(AccountRef),
    /// No conduit leads there any more.
    ConduitGone {
        /// To which asset.
        asset: Name,
    },
    /// The plant's state does not allow it.
    PlantState {
        /// In which zone.
        zone: Name,
        /// Its state.
        state: PlantState,
    },
    /// A policy forbids it now, or the policies cannot be used.
    Policy {
        /// Which, by id.
        policies: Vec<String>,
        /// Why.
        reasons: Vec<String>,
    },
    /// The clock went back behind the decision.
    ClockJumpedBack,
}

impl EndReason {
    /// Stable name for audit and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::WindowEnded { .. } => "window_ended",
            Self::WindowRevoked { .. } => "window_revoked",
            Self::WindowShortened { .. } => "window_shortened",
            Self::UserDisabled(_) => "user_disabled",
            Self::AssetDisabled(_) => "asset_disabled",
            Self::AssetChanged(_) => "asset_changed",
            Self::AccountDisabled(_) => "account_disabled",
            Self::ConduitGone { .. } => "conduit_gone",
            Self::PlantState { .. } => "plant_state",
            Self::Policy { .. } => "policy",
            Self::ClockJumpedBack => "clock_jumped_back",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WindowEnded { .. } => f.write_str("the access window has ended: ask for a new one"),
            Self::WindowRevoked { detail, .. } => {
                write!(f, "the access window was revoked{detail}: ask operations or security")
            }
            Self::WindowShortened { .. } => {
                f.write_str("the access window was shortened and has ended: ask operations or security")
            }
            Self::UserDisabled(who) => {
                write!(f, "{who} is disabled or past their last day: ask an administrator")
            }
            Self::AssetDisabled(asset) => write!(f, "{asset} is no longer enabled: ask an administrator"),
            Self::AssetChanged(asset) => write!(f, "the description of {asset} changed: connect again"),
            Self::AccountDisabled(account) => {
                write!(f, "the account {account} is no longer enabled: ask an administrator")
            }
            Self::ConduitGone { asset } => {
                write!(f, "no conduit leads to {asset} any more: ask an administrator")
            }
            Self::PlantState { zone, state } => write!(
                f,
                "the plant state of zone {zone} is now {}, and the window may not be used in that state: ask operations",
                state.as_str()
            ),
            Self::Policy { reasons, .. } => write!(f, "policy no longer allows it: {}", reasons.join("; ")),
            Self::ClockJumpedBack => {
                f.write_str("the gateway's clock jumped back: an administrator has to set it")
            }
        }
    }
}

/// The answer to whether a live session may go on.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recheck {
    /// It may, until then.
    StillGood {
        /// The moment at which it has to end, as things stand now. Replaces the one known before, earlier or later.
        not_after: Timestamp,
    },
    /// It may not.
    Ended(EndReason),
}

/// Whether the session of `grant` still qualifies at `now`: asked whenever the snapshot changes, and at its end.
pub fn recheck(grant: &Grant, snapshot: &Snapshot, now: Timestamp) -> Recheck {
    let request = grant.as_request();
    let question = match facts(grant, &request, snapshot, now) {
        Ok(question) => question,
        Err(reason) => return Recheck::Ended(reason),
    };
    match snapshot.policies.ask(&question) {
        Verdict::Allow(_proof, _) => {
            let end = question.scope.end;
            let not_after = question.person.user.valid_until.map_or(end, |last| last.min(end));
            Recheck::StillGood { not_after }
        }
        Verdict::Deny(policies) => {
            let reasons = reasons::of_refusal(&snapshot.policies, &policies, &question);
            Recheck::Ended(EndReason::Policy { policies, reasons })
        }
        Verdict::Broken(reason) => Recheck::Ended(EndReason::Policy {
            policies: vec!["structure:policies-usable".to_owned()],
            reasons: vec![reason],
        }),
    }
}

/// The facts of a live session, or the first that no longer holds. The order is that of the clearest cause.
pub(crate) fn facts<'a>(
    grant: &'a Grant,
    request: &'a AccessRequest,
    snapshot: &'a Snapshot,
    now: Timestamp,
) -> Result<Question<'a>, EndReason> {
    let parts = &grant.parts;
    let back = |then: Timestamp| now < then.plus_seconds(-CLOCK_SLACK_SECONDS);
    if back(parts.decided_at) || back(snapshot.taken_at) {
        return Err(EndReason::ClockJumpedBack);
    }
    let site = &snapshot.site;
    let user = site
        .user(&parts.user)
        .filter(|u| u.is_active(now))
        .ok_or_else(|| EndReason::UserDisabled(parts.user.clone()))?;
    let name = &parts.account.asset;
    let asset =
        site.asset(name).filter(|a| !a.disabled).ok_or_else(|| EndReason::AssetDisabled(name.clone()))?;
    let endpoint = asset.endpoints.iter().find(|e| e.protocol == parts.protocol);
    if endpoint.is_none_or(|e| asset.dial(e) != parts.dial) {
        return Err(EndReason::AssetChanged(name.clone()));
    }
    // What a desktop may carry besides screen and keys is agreed on when it begins.
    let none = Desktop::default();
    let described = asset.rdp.as_ref().unwrap_or(&none);
    if parts.desktop.as_ref().is_some_and(|begun| begun.has_more_than(described)) {
        return Err(EndReason::AssetChanged(name.clone()));
    }
    let account = site
        .account(&parts.account)
        .filter(|a| !a.disabled)
        .ok_or_else(|| EndReason::AccountDisabled(parts.account.clone()))?;
    let person = Person::new(
        snapshot,
        user,
        parts.source.ip(),
        &request.device,
        &request.factors,
        &request.observed,
        now,
    );
    let thing = Thing::new(snapshot, person.zone, asset, Some(account), parts.protocol);
    let scope = live_scope(grant, snapshot, Target::Account(&parts.account), thing.plant, now)?;
    if thing.path.conduit.is_none() {
        return Err(EndReason::ConduitGone { asset: name.clone() });
    }
    if !scope.state_allowed {
        return Err(EndReason::PlantState { zone: asset.zone.clone(), state: thing.plant });
    }
    let factor = Freshness::bound(&parts.factors, now);
    Ok(Question { act: Act::Connect, person, thing, scope, factor, now })
}

/// The grant's own window as it stands, extensions included.
pub(crate) fn live_scope<'a>(
    grant: &Grant,
    snapshot: &'a Snapshot,
    target: Target<'_>,
    plant: PlantState,
    now: Timestamp,
) -> Result<Scope<'a>, EndReason> {
    let approved = &grant.parts.window;
    let Some(window) = snapshot.window(approved.id) else {
        return Err(if now >= grant.not_after() {
            EndReason::WindowEnded { at: grant.not_after() }
        } else {
            EndReason::WindowRevoked { window: approved.id, detail: String::new() }
        });
    };
    if &window.request != approved {
        let detail = " because its text is not the one that was approved".to_owned();
        return Err(EndReason::WindowRevoked { window: approved.id, detail });
    }
    let scope = Scope::of(snapshot, window, grant.user(), target, plant, now);
    if scope.open { Ok(scope) } else { Err(why_closed(window, now, scope.end)) }
}

fn why_closed(window: &Window, now: Timestamp, end: Timestamp) -> EndReason {
    let revoked = |detail: String| EndReason::WindowRevoked { window: window.id(), detail };
    match (&window.standing, window.phase(now)) {
        (Standing::Revoked { by, reason, .. }, _) => revoked(format!(" by {by} ({reason})")),
        (_, Phase::Ended) => match window.shortened_to {
            Some(to) => EndReason::WindowShortened { to },
            None => EndReason::WindowEnded { at: end },
        },
        (_, Phase::Unproven) => revoked(" because its approvals do not prove it".to_owned()),
        (_, phase) => revoked(format!(" (it is {})", phase.as_str())),
    }
}

impl Grant {
    /// As [`recheck`].
    pub fn recheck(&self, snapshot: &Snapshot, now: Timestamp) -> Recheck {
        recheck(self, snapshot, now)
    }
}
