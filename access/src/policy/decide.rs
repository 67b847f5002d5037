//! The first decision of a session: may this person reach this account now.

use std::collections::BTreeSet;

use super::{
    CompiledPolicies, WINDOW_REQUIRED,
    compiled::Verdict,
    facts::{Act, CLOCK_SLACK_SECONDS, Freshness, Person, Question, Scope, Thing},
    reasons,
};
use crate::{
    clock::Timestamp,
    decision::{
        AccessRequest, BehaviourAnswer, ContextAnswer, DecisionRecord, DeviceAnswer, Observed, Outcome,
        ResourceAnswer, Who,
    },
    grant::{Grant, GrantParts},
    ids::DecisionId,
    people::User,
    site::{Account, AccountRef, Asset, Endpoint, Protocol},
    snapshot::Snapshot,
    window::{Limits, Target},
};

/// How long after a code a session may start with it, seconds: time to pick from the menu, no more.
pub const SECOND_FACTOR_FRESH_SECONDS: i64 = 600;

/// The answer to an [`AccessRequest`], with its record. The record is to be kept whatever the answer.
#[must_use]
#[derive(Debug)]
pub enum Decision {
    /// Allowed: the grant dials once.
    Permit(Box<Grant>, Box<DecisionRecord>),
    /// Everything fits but that no open window covers it: the person may ask for one.
    NeedsWindow(Box<DecisionRecord>),
    /// Refused.
    Deny(Box<DecisionRecord>),
}

impl Decision {
    /// The record.
    pub fn record(&self) -> &DecisionRecord {
        match self {
            Self::Permit(_, r) | Self::NeedsWindow(r) | Self::Deny(r) => r,
        }
    }
}

/// What the names in a request stand for.
struct Named<'a> {
    user: &'a User,
    asset: &'a Asset,
    account: &'a Account,
    endpoint: &'a Endpoint,
}

/// Decides whether the session in `request` may start at `now`. `random` makes the decision's id.
pub fn decide(
    snapshot: &Snapshot,
    request: &AccessRequest,
    now: Timestamp,
    random: &mut dyn rand::RngCore,
) -> Decision {
    let id = DecisionId::new(now, random);
    let mut record = blank(snapshot, request, id, now);
    if let Some((policy, reason)) = unfit(snapshot, now) {
        return deny(record, policy, reason);
    }
    let named = match resolve(snapshot, request) {
        Ok(named) => named,
        Err((policy, reason)) => return deny(record, policy, reason),
    };
    let question = ask_about(snapshot, request, &named, now);
    fill(&mut record, &question);
    if request.protocol == Protocol::Ssh && named.asset.host_keys.is_empty() {
        let reason = format!(
            "no host key of {} is trusted yet: an administrator has to check and trust one",
            named.asset.name
        );
        return deny(record, "structure:host-key-pinned", reason);
    }
    if request.protocol == Protocol::Rdp && named.asset.desktop_keys().is_empty() {
        let reason = format!(
            "no public key of the desktop of {} is trusted yet: an administrator has to check and trust one",
            named.asset.name
        );
        return deny(record, "structure:desktop-key-pinned", reason);
    }
    match snapshot.policies.ask(&question) {
        Verdict::Broken(reason) => deny(record, "structure:policies-usable", reason),
        Verdict::Deny(policies) => {
            record.reasons = reasons::of_refusal(&snapshot.policies, &policies, &question);
            let only_window = matches!(policies.as_slice(), [one] if one == WINDOW_REQUIRED);
            record.policies = policies;
            record.outcome = if only_window { Outcome::NeedsWindow } else { Outcome::Deny };
            if only_window { Decision::NeedsWindow(record) } else { Decision::Deny(record) }
        }
        Verdict::Allow(proof, policies) => {
            // Cedar says yes only with an open window; that the window is there is checked all the same.
            let Some(window) = question.scope.window.filter(|_| question.scope.open && question.scope.covers)
            else {
                return deny(record, WINDOW_REQUIRED, "no open window covers this: ask for one".to_owned());
            };
            record.outcome = Outcome::Permit;
            record.policies = policies;
            record.reasons = vec![permit_sentence(&snapshot.policies, &question)];
            let end = question.scope.end;
            let parts = GrantParts {
                session: request.session,
                decision: id,
                decided_at: now,
                user: named.user.name.clone(),
                account: AccountRef { asset: named.asset.name.clone(), login: named.account.login.clone() },
                protocol: request.protocol,
                dial: named.asset.dial(named.endpoint),
                host_keys: named.asset.host_keys.clone(),
                dangerous_ssh_algorithms: named.asset.dangerous_ssh_algorithms.clone(),
                desktop: named.asset.rdp.clone(),
                credential: named.account.credential,
                exclusive: named.account.exclusive,
                window: window.request.clone(),
                not_after: named.user.valid_until.map_or(end, |last| last.min(end)),
                keep_full_bytes: named
                    .asset
                    .keep_full_bytes
                    .unwrap_or(snapshot.site.settings.keep_full_bytes),
                idle_seconds: snapshot.site.settings.idle_seconds,
                source: request.source,
                device: request.device.clone(),
                factors: request.factors.clone(),
                observed: request.observed.clone(),
            };
            Decision::Permit(Box::new(Grant::new(proof, parts)), record)
        }
    }
}

/// What makes any decision impossible: a clock behind the snapshot, or policies that did not load.
pub(super) fn unfit(snapshot: &Snapshot, now: Timestamp) -> Option<(&'static str, String)> {
    if now < snapshot.taken_at.plus_seconds(-CLOCK_SLACK_SECONDS) {
        let reason =
            format!("the clock jumped back behind {}: an administrator has to set it", snapshot.taken_at);
        return Some(("structure:clock", reason));
    }
    let problem = snapshot.policies.problem()?;
    Some((
        "structure:policies-usable",
        format!("the site's policies cannot be used, so everything is refused: {problem}"),
    ))
}

/// Finds what the names stand for. Unknown names get one answer each, which tells nothing about other people's assets.
fn resolve<'a>(snapshot: &'a Snapshot, request: &AccessRequest) -> Result<Named<'a>, (&'static str, String)> {
    let site = &snapshot.site;
    let user = site.user(&request.user).ok_or_else(|| {
        (
            "structure:known-person",
            format!("{} is not a person of this site: ask an administrator", request.user),
        )
    })?;
    let asset = site.asset(&request.asset).ok_or_else(|| {
        ("structure:known-asset", format!("there is no asset {} here: pick one from the menu", request.asset))
    })?;
    let account = match &request.login {
        Some(login) => site
            .account(&AccountRef { asset: asset.name.clone(), login: login.clone() })
            .ok_or_else(|| format!("there is no account {login} on {}: pick one from the menu", asset.name)),
        None => site.default_account(&asset.name).ok_or_else(|| {
            format!("{0} has no default account: name one, as in {1}+{0}+LOGIN", asset.name, user.name)
        }),
    }
    .map_err(|reason| ("structure:known-account", reason))?;
    let endpoint = asset.endpoints.iter().find(|e| e.protocol == request.protocol).ok_or_else(|| {
        let reason = format!(
            "{} has no {} endpoint: pick another way from the menu",
            asset.name,
            request.protocol.as_str()
        );
        ("structure:known-endpoint", reason)
    })?;
    Ok(Named { user, asset, account, endpoint })
}

fn ask_about<'a>(
    snapshot: &'a Snapshot,
    request: &'a AccessRequest,
    named: &Named<'a>,
    now: Timestamp,
) -> Question<'a> {
    let person = Person::new(
        snapshot,
        named.user,
        request.source.ip(),
        &request.device,
        &request.factors,
        &request.observed,
        now,
    );
    let thing = Thing::new(snapshot, person.zone, named.asset, Some(named.account), request.protocol);
    let account = AccountRef { asset: named.asset.name.clone(), login: named.account.login.clone() };
    let remembered = |id| request.factors.second.as_ref().is_some_and(|s| s.windows.contains(&id));
    let scope =
        Scope::best(snapshot, &named.user.name, Target::Account(&account), thing.plant, remembered, now);
    let factor = Freshness::at_start(snapshot, &request.factors, &scope, now);
    Question { act: Act::Connect, person, thing, scope, factor, now }
}

/// Where an endpoint is dialled.
fn deny(mut record: Box<DecisionRecord>, policy: &str, reason: String) -> Decision {
    record.policies = vec![policy.to_owned()];
    record.reasons = vec![reason];
    Decision::Deny(record)
}

fn permit_sentence(policies: &CompiledPolicies, q: &Question<'_>) -> String {
    let until = policies.zone().map_or_else(|| q.scope.end.to_string(), |z| z.show(q.scope.end));
    let purpose = q.scope.window.map_or("", |w| &w.request.purpose);
    format!(
        "an approved window lets {} use {} until {until}: {purpose}",
        q.person.user.name,
        reasons::target(q)
    )
}

/// A record with what is known before the names are looked up. It says no until something says otherwise.
fn blank(
    snapshot: &Snapshot,
    request: &AccessRequest,
    id: DecisionId,
    now: Timestamp,
) -> Box<DecisionRecord> {
    let zone = snapshot.site.zone_of(request.source.ip()).cloned();
    Box::new(DecisionRecord {
        id,
        at: now,
        session: request.session,
        action: Act::Connect.action().to_owned(),
        outcome: Outcome::Deny,
        who: Who {
            user: request.user.clone(),
            full_name: String::new(),
            organisation: None,
            organisation_kind: None,
            duties: BTreeSet::new(),
            active: false,
            factors: request.factors.clone(),
            second_factor_fresh: false,
        },
        device: DeviceAnswer { device: request.device.clone(), source: request.source.ip(), zone },
        resource: ResourceAnswer {
            asset: request.asset.clone(),
            account: None,
            protocol: request.protocol,
            zone: None,
            criticality: None,
            crown_jewel: false,
            credential: None,
            operations: BTreeSet::new(),
            limits: Limits::default(),
        },
        context: ContextAnswer {
            plant_state: None,
            window: None,
            window_digest: None,
            approvals: Vec::new(),
            purpose: String::new(),
            work_order: String::new(),
            window_end: None,
            conduit: None,
            local_time: snapshot.policies.zone().map_or_else(|| now.to_string(), |z| z.show(now)),
        },
        behaviour: behaviour(&request.observed),
        policies: Vec::new(),
        policy_set: snapshot.policies.digest().to_owned(),
        revision: snapshot.revision,
        reasons: Vec::new(),
    })
}

/// Fills in what the names stand for.
fn fill(record: &mut DecisionRecord, q: &Question<'_>) {
    let user = q.person.user;
    record.who.full_name.clone_from(&user.full_name);
    record.who.organisation = Some(user.organisation.clone());
    record.who.organisation_kind = q.person.organisation.map(|o| o.kind);
    record.who.duties.clone_from(&user.duties);
    record.who.active = q.person.active;
    record.who.second_factor_fresh = q.factor.fresh;
    let asset = q.thing.asset;
    record.resource.zone = Some(asset.zone.clone());
    record.resource.criticality = Some(asset.criticality);
    record.resource.crown_jewel = asset.crown_jewel;
    if let Some(account) = q.thing.account {
        record.resource.account =
            Some(AccountRef { asset: asset.name.clone(), login: account.login.clone() });
        record.resource.credential = Some(account.credential);
    }
    record.context.plant_state = Some(q.thing.plant);
    record.context.conduit = q.thing.path.conduit.cloned();
    if let Some(window) = q.scope.window {
        record.resource.operations.clone_from(&window.request.operations);
        record.resource.limits = window.request.limits.clone();
        record.context.window = Some(window.id());
        record.context.window_digest = Some(window.request.digest().to_string());
        record.context.approvals.clone_from(&window.approvals);
        record.context.purpose.clone_from(&window.request.purpose);
        record.context.work_order.clone_from(&window.request.work_order);
        record.context.window_end = Some(q.scope.end);
    }
}

fn behaviour(observed: &Observed) -> BehaviourAnswer {
    let mut notes = Vec::new();
    if observed.new_source {
        notes.push("the source address is new for this person".to_owned());
    }
    if observed.elsewhere {
        notes.push("the same person has a live session from another address".to_owned());
    }
    if observed.recent_refusals > 0 {
        notes.push(format!("{} refusals for this person in the last hour", observed.recent_refusals));
    }
    BehaviourAnswer { fits: notes.is_empty(), observed: observed.clone(), notes }
}
