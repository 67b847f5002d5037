//! How long recordings are kept, and how they are deleted: by two people of two duties, over an exact list.
//!
//! Nothing is deleted by the clock. What has been kept long enough is *due*; it goes when somebody asks for it and somebody
//! else agrees. The rules are here; that they hold in the very transaction that deletes is the store's part.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{DeletionId, Name, SessionId},
    people::{Duty, User},
    site::Site,
    window::{
        RequestDigest, RequestError,
        text::{LONGEST_PURPOSE, text},
    },
};

/// Most recordings in one request.
pub const MOST_RECORDINGS: usize = 500;
/// How long a request waits for the second person, seconds: 7 days.
pub const DELETION_SECONDS: i64 = 7 * 86_400;
const DAY: i64 = 86_400;

/// The first moment from which a recording need not be kept any longer; none: it is kept for ever.
///
/// The days of the zone, where it has its own, else the site's; for a crown jewel the longer of that and what the site says
/// for crown jewels. `crown_jewel` and `zone` are those of the asset when the session ran, as far as they are known; else
/// those that the asset has now.
pub fn kept_until(
    site: &Site,
    asset: &Name,
    zone: Option<&Name>,
    crown_jewel: Option<bool>,
    ended: Timestamp,
) -> Option<Timestamp> {
    let present = site.asset(asset);
    let zone = zone.or_else(|| present.map(|a| &a.zone));
    let own = zone.and_then(|name| site.zones.iter().find(|z| &z.name == name)?.recording_days);
    let days = own.unwrap_or(site.settings.recording_days);
    let jewel = crown_jewel.unwrap_or_else(|| present.is_some_and(|a| a.crown_jewel));
    let days = match site.settings.crown_jewel_recording_days.filter(|_| jewel) {
        Some(0) => 0,
        // Zero days stand for ever.
        Some(longer) if days != 0 => days.max(longer),
        _ => days,
    };
    (days != 0).then(|| ended.plus_seconds(i64::from(days) * DAY))
}

impl Duty {
    /// Whether holders take part in deleting recordings.
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Investigator | Self::Administrator)
    }
    /// Whether holders may lift a legal hold.
    pub const fn lifts_holds(self) -> bool {
        matches!(self, Self::Investigator | Self::Security)
    }
}

/// A request to delete exactly these recordings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletionRequest {
    /// Its id.
    pub id: DeletionId,
    /// Who asks.
    pub requested_by: Name,
    /// As what.
    pub duty: Duty,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// First moment at which it can no longer be approved.
    pub expires: Timestamp,
    /// Why, in plain words.
    pub reason: String,
    /// The recordings, each with the digest of its seal (lower-case hexadecimal) where the store knows one.
    pub recordings: BTreeMap<SessionId, Option<String>>,
}

/// Where a request stands, apart from the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DeletionStanding {
    /// Waits for the second person.
    Waiting,
    /// The second person agreed, and the recordings are deleted.
    CarriedOut {
        /// Who agreed.
        by: Name,
        /// As what.
        duty: Duty,
        /// When.
        at: Timestamp,
    },
    /// Somebody refused.
    Refused {
        /// Who refused.
        by: Name,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// What was asked for.
    pub request: DeletionRequest,
    /// Where it stands.
    pub standing: DeletionStanding,
}

/// Why somebody may not take part in a deletion. Each text says what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeletionRefusal {
    /// The person is disabled or past their last day.
    #[error("{0} is not active: ask an administrator")]
    NotActive(Name),
    /// That duty does not delete recordings.
    #[error("the duty {} does not delete recordings: investigators and administrators do, one of each", .0.as_str())]
    NotADeletingDuty(Duty),
    /// The person does not hold that duty.
    #[error("{who} does not hold the duty {}: act with a duty that you hold", .duty.as_str())]
    DutyNotHeld {
        /// Who tried.
        who: Name,
        /// As what.
        duty: Duty,
    },
    /// The person asked for it.
    #[error("{0} asked for this deletion: somebody else has to agree")]
    OwnRequest(Name),
    /// The requester acted with the same duty.
    #[error("it was asked for as {}: the second person has to act with the other duty", .0.as_str())]
    SameDuty(Duty),
    /// The digest is of another list.
    #[error(
        "the approval is for another list than this request: read the request again and approve what it says"
    )]
    OtherText,
    /// It was decided already.
    #[error("the request no longer waits: see what became of it, and ask anew if needed")]
    NotWaiting,
    /// Nobody agreed in time.
    #[error("the request has lapsed: ask anew")]
    Lapsed,
    /// The list is empty or too long.
    #[error("a request names 1 to {MOST_RECORDINGS} recordings, not {0}: split it, or name some")]
    Count(usize),
    /// The request would wait longer than it may.
    #[error("a request waits for {DELETION_SECONDS} s from when it is made: make it anew")]
    Times,
    /// A reason is missing or cannot be shown.
    #[error(transparent)]
    Reason(#[from] RequestError),
}

impl DeletionRequest {
    /// The text that the second person agrees to, version 1; written as that of windows is.
    pub fn canonical_text(&self) -> String {
        let Self { id, requested_by, duty, requested_at, expires, reason, recordings } = self;
        let mut out = String::with_capacity(256 + recordings.len() * 120);
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ignored = writeln!(out, "{key}: {value}");
        };
        line("cofferdam-recording-deletion", &1);
        line("id", id);
        line("requested-by", requested_by);
        line("duty", &duty.as_str());
        line("requested-at", &format!("{requested_at} {}", requested_at.micros()));
        line("expires", &format!("{expires} {}", expires.micros()));
        line("reason", &serde_json::Value::String(reason.clone()));
        for (session, digest) in recordings {
            line("recording", &format!("{session} {}", digest.as_deref().unwrap_or("-")));
        }
        out
    }

    /// SHA-256 of the canonical text.
    pub fn digest(&self) -> RequestDigest {
        RequestDigest::of(&self.canonical_text())
    }

    /// Checks that `person` may make this request at `now`. Whether the recordings may go is the store's to say.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self, person: &User, now: Timestamp) -> Result<(), DeletionRefusal> {
        may_take_part(person, self.duty, now)?;
        text("reason", &self.reason, 1, LONGEST_PURPOSE)?;
        if !(1..=MOST_RECORDINGS).contains(&self.recordings.len()) {
            return Err(DeletionRefusal::Count(self.recordings.len()));
        }
        let made_now = self.requested_at == now && self.requested_by == person.name;
        if !made_now || self.expires != now.plus_seconds(DELETION_SECONDS) {
            return Err(DeletionRefusal::Times);
        }
        Ok(())
    }
}

impl Deletion {
    /// Whether it can still be approved or refused.
    ///
    /// # Errors
    /// Why not.
    pub fn waits(&self, now: Timestamp) -> Result<(), DeletionRefusal> {
        match self.standing {
            DeletionStanding::Waiting if now < self.request.expires => Ok(()),
            DeletionStanding::Waiting => Err(DeletionRefusal::Lapsed),
            _ => Err(DeletionRefusal::NotWaiting),
        }
    }

    /// Where it stands at `now`: `waiting`, `lapsed`, `carried out` or `refused`.
    pub fn phase(&self, now: Timestamp) -> &'static str {
        match self.standing {
            DeletionStanding::Waiting if self.waits(now).is_err() => "lapsed",
            DeletionStanding::Waiting => "waiting",
            DeletionStanding::CarriedOut { .. } => "carried out",
            DeletionStanding::Refused { .. } => "refused",
        }
    }

    /// Records the second person's yes to exactly the list behind `digest`.
    ///
    /// # Errors
    /// Refused unless `person` is active, holds `duty`, and is another person with the other deleting duty than the
    /// requester; unless the digest is of this very request; and unless it still waits.
    pub fn approve(
        &mut self,
        person: &User,
        duty: Duty,
        digest: RequestDigest,
        now: Timestamp,
    ) -> Result<(), DeletionRefusal> {
        may_take_part(person, duty, now)?;
        if person.name == self.request.requested_by {
            return Err(DeletionRefusal::OwnRequest(person.name.clone()));
        }
        if duty == self.request.duty {
            return Err(DeletionRefusal::SameDuty(duty));
        }
        self.waits(now)?;
        if self.request.digest() != digest {
            return Err(DeletionRefusal::OtherText);
        }
        self.standing = DeletionStanding::CarriedOut { by: person.name.clone(), duty, at: now };
        Ok(())
    }

    /// Records a no, or the requester's second thoughts. Final.
    ///
    /// # Errors
    /// Refused unless `person` is active and holds a deleting duty, gives a reason, and the request still waits.
    pub fn refuse(&mut self, person: &User, reason: &str, now: Timestamp) -> Result<(), DeletionRefusal> {
        let duty = person.duties.iter().copied().find(|d| d.deletes()).unwrap_or(Duty::Investigator);
        may_take_part(person, duty, now)?;
        text("reason", reason, 1, LONGEST_PURPOSE)?;
        self.waits(now)?;
        self.standing =
            DeletionStanding::Refused { by: person.name.clone(), reason: reason.trim().to_owned(), at: now };
        Ok(())
    }
}

fn may_take_part(person: &User, duty: Duty, now: Timestamp) -> Result<(), DeletionRefusal> {
    if !person.is_active(now) {
        return Err(DeletionRefusal::NotActive(person.name.clone()));
    }
    if !duty.deletes() {
        return Err(DeletionRefusal::NotADeletingDuty(duty));
    }
    if !person.duties.contains(&duty) {
        return Err(DeletionRefusal::DutyNotHeld { who: person.name.clone(), duty });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp(1_800_000_000_000_000);

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn days(site: &Site, asset: &str, zone: Option<&str>, jewel: Option<bool>) -> Option<i64> {
        let until = kept_until(site, &name(asset), zone.map(name).as_ref(), jewel, END)?;
        Some(until.since(END) / (DAY * 1_000_000))
    }

    #[test]
    fn the_zone_speaks_for_its_recordings_and_a_crown_jewel_is_never_kept_shorter() {
        let mut site = crate::fixture::site();
        let asset = site.assets.first().unwrap().name.to_string();
        site.assets.iter_mut().for_each(|a| a.crown_jewel = false);
        assert_eq!(days(&site, &asset, None, None), Some(365));
        assert_eq!(days(&site, "a-machine-that-left", None, None), Some(365));
        let zone = site.assets.first().unwrap().zone.clone();
        site.zones.iter_mut().find(|z| z.name == zone).unwrap().recording_days = Some(30);
        assert_eq!(days(&site, &asset, None, None), Some(30));
        assert_eq!(days(&site, "a-machine-that-left", Some(zone.as_str()), None), Some(30));
        site.settings.crown_jewel_recording_days = Some(1000);
        assert_eq!(days(&site, &asset, None, Some(true)), Some(1000));
        assert_eq!(days(&site, &asset, None, Some(false)), Some(30));
        site.settings.crown_jewel_recording_days = Some(7);
        assert_eq!(days(&site, &asset, None, Some(true)), Some(30));
        site.settings.crown_jewel_recording_days = Some(0);
        assert_eq!(days(&site, &asset, None, Some(true)), None, "for ever");
        site.settings.crown_jewel_recording_days = Some(7);
        site.settings.recording_days = 0;
        assert_eq!(days(&site, "a-machine-that-left", None, Some(true)), None, "for ever");
    }
}
