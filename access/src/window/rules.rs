//! What people may do to a window, and what it then covers. Nothing here reads a clock or a store.

use std::collections::BTreeSet;

use super::{
    Approval, Operation, RequestDigest, RequestError, Standing, Times, Window, WindowRequest,
    text::{self, LONGEST_FIELD, LONGEST_REMARK},
};
use crate::{
    clock::Timestamp,
    ids::{Name, WindowId},
    people::{Duty, User},
    site::{AccountRef, PlantState},
};

/// Why an act on a window is refused. The fault is the person's who tried; each text says what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The person is disabled or past their last day.
    #[error("{0} is not active: ask an administrator")]
    NotActive(Name),
    /// That duty does not approve windows.
    #[error("the duty {} does not approve windows: operations and security do", .0.as_str())]
    NotAnApprovingDuty(Duty),
    /// The person does not hold that duty.
    #[error("{who} does not hold the duty {}: act with a duty that you hold", .duty.as_str())]
    DutyNotHeld {
        /// Who tried.
        who: Name,
        /// As what.
        duty: Duty,
    },
    /// The person holds no duty that decides on windows.
    #[error("{0} holds no duty that decides on windows: operations and security do")]
    DecidesNothing(Name),
    /// The person asked for the window or would use it.
    #[error("{0} asked for this window or may use it: somebody else has to decide")]
    OwnWindow(Name),
    /// The person approved already.
    #[error("{0} approved this window already: a second approval has to come from another person")]
    AlreadyApproved(Name),
    /// Somebody approved for this duty already.
    #[error("{} has approved already: the second approval has to come from the other duty", .0.as_str())]
    DutyAlreadyApproved(Duty),
    /// The digest is of another text.
    #[error(
        "the approval is for another text than this request: read the request again and approve what it says"
    )]
    OtherText,
    /// Not a digest at all.
    #[error("that is no digest: copy the 64 hexadecimal digits that `window show` prints")]
    NotADigest,
    /// The window does not wait for approvals.
    #[error(
        "the window no longer waits for approval: see what happened to it, and ask for a new one if needed"
    )]
    NotWaiting,
    /// The window is over.
    #[error("the window has ended: ask for a new one")]
    Ended,
    /// The window is not approved.
    #[error("the window is not approved: refuse or withdraw it instead")]
    NotApproved,
    /// Only the requester may do that.
    #[error("only {0}, who asked for the window, can withdraw it: refuse it instead")]
    NotTheRequester(Name),
    /// The person may not end windows.
    #[error("{0} may not end this window: its requester, operations, security and administrators can")]
    MayNotEnd(Name),
    /// Shortening may only bring the end forward.
    #[error("the new end has to lie after now and before {end}: ask for an extension to get more time")]
    NotEarlier {
        /// The present end.
        end: Timestamp,
    },
    /// A reason is missing or cannot be shown.
    #[error(transparent)]
    Reason(#[from] RequestError),
}

/// What an approval has led to.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalStep {
    /// One approval is there; this duty's is still missing.
    Waits {
        /// Whose approval is missing.
        missing: Duty,
    },
    /// Both are there: the window holds from its start to its end.
    Approved,
}

/// Where a window stands at a moment.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits for approvals.
    Requested,
    /// Approved; its start lies ahead.
    Upcoming,
    /// Approved and running.
    Open,
    /// Approved and over.
    Ended,
    /// Its end came before its approvals did.
    Lapsed,
    /// Somebody refused it.
    Refused,
    /// The requester took it back.
    Withdrawn,
    /// Somebody ended it early for good.
    Revoked,
    /// It is marked approved, but its approvals do not prove it (two people, two duties, this exact text). Never open.
    Unproven,
}

impl Phase {
    /// As shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Upcoming => "upcoming",
            Self::Open => "open",
            Self::Ended => "ended",
            Self::Lapsed => "lapsed",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Revoked => "revoked",
            Self::Unproven => "unproven",
        }
    }
    /// Whether nothing can change any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Ended | Self::Lapsed | Self::Refused | Self::Withdrawn | Self::Revoked)
    }
}

/// What somebody wants to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// An account on an asset.
    Account(&'a AccountRef),
    /// An endpoint of an asset, through a forward.
    Asset(&'a Name),
}

/// Whether a window covers something, and if not, why.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// It does.
    Covered,
    /// The person is not named in it.
    OtherPeople,
    /// The account or asset is not named in it.
    OtherTargets,
    /// The operation is not approved in it.
    OtherOperations,
    /// It is not open.
    NotOpen(Phase),
    /// The plant is in a state in which it may not be used.
    PlantState(PlantState),
}

impl Window {
    /// A new window, waiting for approvals.
    pub fn requested(request: WindowRequest) -> Self {
        Self { request, approvals: Vec::new(), standing: Standing::Requested, shortened_to: None }
    }

    /// The id of the request.
    pub fn id(&self) -> WindowId {
        self.request.id
    }

    /// The first moment that is no longer inside: the request's end, or an earlier one that somebody set.
    pub fn effective_end(&self) -> Timestamp {
        self.shortened_to.map_or(self.request.end, |t| t.min(self.request.end))
    }

    /// Records one person's yes to exactly the text behind `digest`.
    ///
    /// # Errors
    /// Refused unless `person` is active, holds `duty`, `duty` approves, they neither asked for the window nor may use
    /// it, neither they nor that duty approved it already, the digest is of this very request, and the window still
    /// waits and has not ended.
    pub fn approve(
        &mut self,
        person: &User,
        duty: Duty,
        digest: RequestDigest,
        now: Timestamp,
    ) -> Result<ApprovalStep, Refusal> {
        self.approve_saying(person, duty, digest, "", now)
    }

    /// As [`Self::approve`], with a remark (empty for none): the second approver and those who asked read it.
    ///
    /// # Errors
    /// As [`Self::approve`]; also for a remark that is too long or cannot be shown.
    pub fn approve_saying(
        &mut self,
        person: &User,
        duty: Duty,
        digest: RequestDigest,
        remark: &str,
        now: Timestamp,
    ) -> Result<ApprovalStep, Refusal> {
        self.may_decide(person, duty, now)?;
        if self.approvals.iter().any(|a| a.by == person.name) {
            return Err(Refusal::AlreadyApproved(person.name.clone()));
        }
        if self.approvals.iter().any(|a| a.duty == duty) {
            return Err(Refusal::DutyAlreadyApproved(duty));
        }
        let ours = self.request.digest();
        if ours != digest {
            return Err(Refusal::OtherText);
        }
        let remark = checked_remark(remark)?;
        let by = person.name.clone();
        self.approvals.push(Approval { by, duty, digest: ours.to_string(), at: now, remark });
        if self.is_proven() {
            self.standing = Standing::Approved;
            return Ok(ApprovalStep::Approved);
        }
        let missing = if duty == Duty::Operations { Duty::Security } else { Duty::Operations };
        Ok(ApprovalStep::Waits { missing })
    }

    /// Records one person's no. Final. Times that would suit instead may go with it; to get them, the requester asks
    /// anew and both approvals start again.
    ///
    /// # Errors
    /// Who may not approve may not refuse either; a refusal needs a reason, and suggested times lie ahead.
    pub fn refuse(
        &mut self,
        person: &User,
        duty: Duty,
        reason: &str,
        suggested: Option<Times>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.may_decide(person, duty, now)?;
        let reason = checked_reason(reason)?;
        if let Some(times) = suggested {
            if times.end <= times.start {
                return Err(RequestError::EndsBeforeStart { start: times.start }.into());
            }
            if times.end <= now {
                return Err(RequestError::InThePast { now }.into());
            }
        }
        self.standing = Standing::Refused { by: person.name.clone(), reason, at: now, suggested };
        Ok(())
    }

    /// As what `person` would approve: the duty among theirs that approves and has not approved yet.
    pub fn open_duty(&self, person: &User) -> Option<Duty> {
        let given = |d: &Duty| self.approvals.iter().any(|a| a.duty == *d);
        person.duties.iter().copied().find(|d| d.approves() && !given(d))
    }

    /// The requester takes the request back.
    ///
    /// # Errors
    /// Refused to anybody else, and when the window no longer waits.
    pub fn withdraw(&mut self, person: &User, now: Timestamp) -> Result<(), Refusal> {
        active(person, now)?;
        if person.name != self.request.requested_by {
            return Err(Refusal::NotTheRequester(self.request.requested_by.clone()));
        }
        self.waits(now)?;
        self.standing = Standing::Withdrawn { at: now };
        Ok(())
    }

    /// Ends an approved window early for good. Its sessions are cut.
    ///
    /// # Errors
    /// Refused unless `person` is active and asked for the window, holds an approving duty, or administers the site;
    /// when the window is not approved; when it is over.
    pub fn revoke(&mut self, person: &User, reason: &str, now: Timestamp) -> Result<(), Refusal> {
        self.may_end(person, now)?;
        let reason = checked_reason(reason)?;
        self.standing = Standing::Revoked { by: person.name.clone(), reason, at: now };
        Ok(())
    }

    /// Brings the end of an approved window forward to `to`.
    ///
    /// # Errors
    /// As [`Self::revoke`]; also when `to` is not after now and before the present end.
    pub fn shorten(&mut self, person: &User, to: Timestamp, now: Timestamp) -> Result<(), Refusal> {
        self.may_end(person, now)?;
        let end = self.effective_end();
        if to >= end || to <= now {
            return Err(Refusal::NotEarlier { end });
        }
        self.shortened_to = Some(to);
        Ok(())
    }

    /// A request for the same work until `end`: fresh text, fresh digest, fresh approvals. It starts now (or with this
    /// window, if that lies ahead), so that nothing is interrupted in between.
    ///
    /// # Errors
    /// Refused unless this window is approved and not over, shortened or revoked, and `end` is later than its end.
    pub fn extension(
        &self,
        id: WindowId,
        requested_by: &Name,
        end: Timestamp,
        purpose: String,
        now: Timestamp,
    ) -> Result<WindowRequest, RequestError> {
        if !matches!(self.phase(now), Phase::Upcoming | Phase::Open) || self.shortened_to.is_some() {
            return Err(RequestError::NotExtendable);
        }
        if end <= self.request.end {
            return Err(RequestError::EndsBeforeStart { start: self.request.end });
        }
        Ok(WindowRequest {
            id,
            requested_by: requested_by.clone(),
            requested_at: now,
            purpose,
            start: self.request.start.max(now),
            end,
            extends: Some(self.request.id),
            ..self.request.clone()
        })
    }

    /// Checks a request that says it extends this window.
    ///
    /// # Errors
    /// It must be the same people, targets, operations, plant states and limits, begin before this window ends, end
    /// later, and this window must be approved, not over and not shortened.
    pub fn validate_extension(&self, request: &WindowRequest, now: Timestamp) -> Result<(), RequestError> {
        if !matches!(self.phase(now), Phase::Upcoming | Phase::Open) || self.shortened_to.is_some() {
            return Err(RequestError::NotExtendable);
        }
        if self.continues_in(request) { Ok(()) } else { Err(RequestError::NotAnExtension) }
    }

    /// Whether `request` carries this window on without a gap and without any change of scope.
    pub(crate) fn continues_in(&self, request: &WindowRequest) -> bool {
        request.extends == Some(self.request.id)
            && request.same_scope(&self.request)
            && request.start <= self.request.end
            && request.end > self.request.end
    }

    /// Whether the approvals prove what the standing may claim: two different people of the two approving duties, none
    /// of whom asked for the window or may use it, both for this exact text. Computed anew each time, so that a row
    /// edited in the database opens nothing.
    pub fn is_proven(&self) -> bool {
        let digest = self.request.digest().to_string();
        let valid = self.approvals.iter().filter(|a| {
            a.duty.approves()
                && a.digest == digest
                && a.at < self.request.end
                && a.by != self.request.requested_by
                && !self.request.users.contains(&a.by)
        });
        let (people, duties): (BTreeSet<&Name>, BTreeSet<Duty>) = valid.map(|a| (&a.by, a.duty)).unzip();
        people.len() >= 2 && duties.len() >= 2
    }

    /// Where the window stands at `now`.
    pub fn phase(&self, now: Timestamp) -> Phase {
        match &self.standing {
            Standing::Requested if now >= self.request.end => Phase::Lapsed,
            Standing::Requested => Phase::Requested,
            Standing::Refused { .. } => Phase::Refused,
            Standing::Withdrawn { .. } => Phase::Withdrawn,
            Standing::Revoked { .. } => Phase::Revoked,
            Standing::Approved if now >= self.effective_end() => Phase::Ended,
            Standing::Approved if !self.is_proven() => Phase::Unproven,
            Standing::Approved if now < self.request.start => Phase::Upcoming,
            Standing::Approved => Phase::Open,
        }
    }

    /// Whether `user` is one of those who may use it and `target` one of what they may reach, whatever the time.
    pub fn names(&self, user: &Name, target: Target<'_>) -> bool {
        self.request.users.contains(user) && self.names_target(target)
    }

    fn names_target(&self, target: Target<'_>) -> bool {
        match target {
            Target::Account(a) => self.request.accounts.contains(a),
            Target::Asset(n) => {
                self.request.forwards.contains(n) || self.request.accounts.iter().any(|a| &a.asset == n)
            }
        }
    }

    /// Whether the window may be used while the plant is in `state`: as it lists, or in any state but emergency.
    pub fn allows_plant_state(&self, state: PlantState) -> bool {
        if self.request.plant_states.is_empty() {
            state != PlantState::Emergency
        } else {
            self.request.plant_states.contains(&state)
        }
    }

    /// Whether an approved operation includes `operation`.
    pub fn allows(&self, operation: Operation) -> bool {
        self.request.operations.iter().any(|o| o.includes(operation))
    }

    /// Whether the window lets `user` do `operation` on `target` at `now` while the target's zone is in `plant`.
    pub fn covers(
        &self,
        user: &Name,
        target: Target<'_>,
        operation: Operation,
        now: Timestamp,
        plant: PlantState,
    ) -> Coverage {
        if !self.request.users.contains(user) {
            return Coverage::OtherPeople;
        }
        if !self.names_target(target) {
            return Coverage::OtherTargets;
        }
        match self.phase(now) {
            Phase::Open => {}
            other => return Coverage::NotOpen(other),
        }
        if !self.allows(operation) {
            return Coverage::OtherOperations;
        }
        if self.allows_plant_state(plant) { Coverage::Covered } else { Coverage::PlantState(plant) }
    }

    fn waits(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.phase(now) {
            Phase::Requested => Ok(()),
            Phase::Lapsed | Phase::Ended => Err(Refusal::Ended),
            _ => Err(Refusal::NotWaiting),
        }
    }

    fn may_decide(&self, person: &User, duty: Duty, now: Timestamp) -> Result<(), Refusal> {
        active(person, now)?;
        if !duty.approves() {
            return Err(Refusal::NotAnApprovingDuty(duty));
        }
        if !person.duties.contains(&duty) {
            return Err(Refusal::DutyNotHeld { who: person.name.clone(), duty });
        }
        if person.name == self.request.requested_by || self.request.users.contains(&person.name) {
            return Err(Refusal::OwnWindow(person.name.clone()));
        }
        self.waits(now)
    }

    fn may_end(&self, person: &User, now: Timestamp) -> Result<(), Refusal> {
        active(person, now)?;
        let entitled = person.name == self.request.requested_by
            || person.duties.iter().any(|d| d.approves() || *d == Duty::Administrator);
        if !entitled {
            return Err(Refusal::MayNotEnd(person.name.clone()));
        }
        match self.phase(now) {
            Phase::Upcoming | Phase::Open | Phase::Unproven => Ok(()),
            Phase::Ended | Phase::Revoked => Err(Refusal::Ended),
            _ => Err(Refusal::NotApproved),
        }
    }
}

fn active(person: &User, now: Timestamp) -> Result<(), Refusal> {
    if person.is_active(now) { Ok(()) } else { Err(Refusal::NotActive(person.name.clone())) }
}

fn checked_reason(reason: &str) -> Result<String, Refusal> {
    text::text("reason", reason, 1, LONGEST_FIELD)?;
    Ok(reason.trim().to_owned())
}

fn checked_remark(remark: &str) -> Result<Option<String>, Refusal> {
    text::text("remark", remark, 0, LONGEST_REMARK)?;
    let remark = remark.trim();
    Ok((!remark.is_empty()).then(|| remark.to_owned()))
}

#[cfg(test)]
mod tests;
