//! Check-outs: a person asks to see a secret for a while, others agree where that is needed, and it is returned or ends. Pure;
//! that the rules hold in the very transaction that writes is the store's part.

use std::{collections::BTreeSet, fmt::Write as _};

use cofferdam_vault::MAX_VIEW_SECONDS;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{CheckoutId, Name},
    people::{Duty, User},
    site::AccountRef,
    window::{
        Approval, RequestDigest, RequestError,
        text::{LONGEST_FIELD, LONGEST_REMARK, text},
    },
};

/// How long a request waits for those who have to agree, and then for whoever asked, seconds: a day.
pub const WAIT_SECONDS: i64 = 86_400;
/// The shortest check-out, seconds.
pub const LEAST_SECONDS: i64 = 60;
/// How many people of as many duties have to agree where anybody has to.
pub const OTHERS: usize = cofferdam_vault::CROWN_JEWEL_PEOPLE;
/// How far a moment may lie ahead before the clock counts as set back, seconds.
const CLOCK_SLACK_SECONDS: i64 = 5;

/// A request to see exactly this secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckoutRequest {
    /// Its id, which is the check-out's.
    pub id: CheckoutId,
    /// Whose secret.
    pub account: AccountRef,
    /// Who asks, and sees it.
    pub person: Name,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// First moment at which it can no longer be agreed to or opened.
    pub expires: Timestamp,
    /// For how long from the moment at which it is seen, seconds.
    pub seconds: i64,
    /// Why, in plain words.
    pub reason: String,
}

/// What was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Since when; the second factor was proved for it then.
    pub at: Timestamp,
    /// First moment at which it is over.
    pub until: Timestamp,
    /// The version of the secret.
    pub version: u64,
}

/// What makes the secret worthless after somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Followed {
    /// The vault changes it: the number of the request.
    Rotation(u64),
    /// Nothing does by itself: a finding says so.
    ByHand,
}

/// Where a check-out stands, apart from the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CheckoutStanding {
    /// Asked for; not shown.
    Waiting,
    /// The person has seen the secret and may use it.
    Open,
    /// Returned.
    Returned {
        /// By whom, as the audit log writes it.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Its end came.
    Expired {
        /// When that was noted.
        at: Timestamp,
    },
    /// Somebody refused it, or whoever asked took it back.
    Refused {
        /// Who.
        by: Name,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
}

impl CheckoutStanding {
    /// The state's name, as kept and as listings write it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Open => "open",
            Self::Returned { .. } => "returned",
            Self::Expired { .. } => "expired",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// What was asked for.
    pub request: CheckoutRequest,
    /// Who agreed to exactly that.
    #[serde(default)]
    pub agreements: Vec<Approval>,
    /// What was shown, once it was.
    #[serde(default)]
    pub shown: Option<Shown>,
    /// What follows, once it is over.
    #[serde(default)]
    pub followed: Option<Followed>,
    /// Where it stands.
    pub standing: CheckoutStanding,
}

/// Why nothing was done with a check-out. Each text says what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckoutRefusal {
    /// The person is disabled or past their last day.
    #[error("{0} is not active: ask an administrator")]
    NotActive(Name),
    /// That duty does not agree to check-outs.
    #[error("the duty {} does not agree to check-outs: operations and security do, one of each", .0.as_str())]
    NotAnAgreeingDuty(Duty),
    /// The person does not hold that duty.
    #[error("{who} does not hold the duty {}: act with a duty that you hold", .duty.as_str())]
    DutyNotHeld {
        /// Who tried.
        who: Name,
        /// As what.
        duty: Duty,
    },
    /// The person asked for it.
    #[error("{0} asked to see it: somebody else has to agree")]
    OwnRequest(Name),
    /// The person agreed already.
    #[error("{0} agreed already: somebody else has to agree, too")]
    AgreedAlready(Name),
    /// Somebody of that duty agreed already.
    #[error("{} has agreed already: the other duty is missing", .0.as_str())]
    DutyAgreedAlready(Duty),
    /// The digest is of another request.
    #[error("that is for another text than this request: read the request again and agree to what it says")]
    OtherText,
    /// It was decided or shown already.
    #[error("the request no longer waits: see what became of it, and ask anew if needed")]
    NotWaiting,
    /// It waited too long.
    #[error("the request has lapsed: ask anew")]
    Lapsed,
    /// The person may not refuse it.
    #[error("{0} may not refuse this: whoever asked, operations, security and administrators can")]
    MayNotRefuse(Name),
    /// It asks for too long or too short a time.
    #[error("a secret is checked out for {LEAST_SECONDS} s to {} h: ask for that", MAX_VIEW_SECONDS / 3600)]
    Seconds,
    /// The request is not of this moment or person.
    #[error("a request is made by the person themselves, now: make it anew")]
    Times,
    /// A text is missing or cannot be shown.
    #[error(transparent)]
    Text(#[from] RequestError),
}

impl CheckoutRequest {
    /// A request of `person`, made at `now`.
    pub fn new(
        account: &AccountRef,
        person: &Name,
        seconds: i64,
        reason: &str,
        now: Timestamp,
        random: &mut dyn rand::RngCore,
    ) -> Self {
        Self {
            id: CheckoutId::new(now, random),
            account: account.clone(),
            person: person.clone(),
            requested_at: now,
            expires: now.plus_seconds(WAIT_SECONDS),
            seconds,
            reason: reason.trim().to_owned(),
        }
    }

    /// The text that others agree to, version 1; written as that of windows is.
    pub fn canonical_text(&self) -> String {
        let Self { id, account, person, requested_at, expires, seconds, reason } = self;
        let mut out = String::with_capacity(512);
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ignored = writeln!(out, "{key}: {value}");
        };
        line("cofferdam-secret-check-out", &1);
        line("id", id);
        line("account", account);
        line("person", person);
        line("requested-at", &format!("{requested_at} {}", requested_at.micros()));
        line("expires", &format!("{expires} {}", expires.micros()));
        line("seconds", seconds);
        line("reason", &serde_json::Value::String(reason.clone()));
        out
    }

    /// SHA-256 of the canonical text.
    pub fn digest(&self) -> RequestDigest {
        RequestDigest::of(&self.canonical_text())
    }

    /// Checks that `person` may make this request at `now`. Whether they may see the secret is policy's to say.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self, person: &User, now: Timestamp) -> Result<(), CheckoutRefusal> {
        active(person, now)?;
        text("reason", &self.reason, 1, LONGEST_FIELD)?;
        if !(LEAST_SECONDS..=MAX_VIEW_SECONDS).contains(&self.seconds) {
            return Err(CheckoutRefusal::Seconds);
        }
        let made_now = self.requested_at == now && self.person == person.name;
        if !made_now || self.expires != now.plus_seconds(WAIT_SECONDS) {
            return Err(CheckoutRefusal::Times);
        }
        Ok(())
    }
}

impl Checkout {
    /// A request that nobody has agreed to yet.
    pub const fn requested(request: CheckoutRequest) -> Self {
        Self {
            request,
            agreements: Vec::new(),
            shown: None,
            followed: None,
            standing: CheckoutStanding::Waiting,
        }
    }

    /// Its id.
    pub const fn id(&self) -> CheckoutId {
        self.request.id
    }

    /// How many people of as many duties agreed, as far as the agreements prove it: none of them asked, each for this exact
    /// text. Computed anew each time, so that a row edited in the database opens nothing. `holds` says who is still
    /// active and holds that duty.
    pub fn agreed(&self, holds: impl Fn(&Name, Duty) -> bool) -> usize {
        let digest = self.request.digest().to_string();
        let valid = self.agreements.iter().filter(|a| {
            a.duty.approves()
                && a.digest == digest
                && a.at < self.request.expires
                && a.by != self.request.person
                && holds(&a.by, a.duty)
        });
        let (people, duties): (BTreeSet<&Name>, BTreeSet<Duty>) = valid.map(|a| (&a.by, a.duty)).unzip();
        people.len().min(duties.len())
    }

    /// Whether it can still be agreed to or shown.
    ///
    /// # Errors
    /// Why not.
    pub fn waits(&self, now: Timestamp) -> Result<(), CheckoutRefusal> {
        match self.standing {
            CheckoutStanding::Waiting if now < self.request.expires => Ok(()),
            CheckoutStanding::Waiting => Err(CheckoutRefusal::Lapsed),
            _ => Err(CheckoutRefusal::NotWaiting),
        }
    }

    /// Whether its end has come: so it has when the clock was set back, too.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let slack = now.plus_seconds(CLOCK_SLACK_SECONDS);
        self.shown.as_ref().is_some_and(|shown| now >= shown.until || shown.at > slack)
    }

    /// Where it stands at `now`: `waiting`, `agreed`, `lapsed`, `open`, `returned`, `expired` or `refused`.
    pub fn phase(&self, now: Timestamp) -> &'static str {
        match self.standing {
            CheckoutStanding::Waiting if self.waits(now).is_err() => "lapsed",
            CheckoutStanding::Waiting if self.agreed(|_, _| true) >= OTHERS => "agreed",
            CheckoutStanding::Open if self.is_over(now) => "expired",
            _ => self.standing.as_str(),
        }
    }

    /// As what `person` would agree: the duty among theirs that agrees and has not yet.
    pub fn open_duty(&self, person: &User) -> Option<Duty> {
        let given = |d: &Duty| self.agreements.iter().any(|a| a.duty == *d);
        person.duties.iter().copied().find(|d| d.approves() && !given(d))
    }

    /// Records another person's yes to exactly the request behind `digest`, with a remark (empty for none).
    ///
    /// # Errors
    /// Refused unless `person` is active, holds `duty`, is not who asked, did not agree before, and is the first of that
    /// duty; unless the digest is of this very request; and unless it still waits.
    pub fn agree(
        &mut self,
        person: &User,
        duty: Duty,
        digest: RequestDigest,
        remark: &str,
        now: Timestamp,
    ) -> Result<(), CheckoutRefusal> {
        active(person, now)?;
        if !duty.approves() {
            return Err(CheckoutRefusal::NotAnAgreeingDuty(duty));
        }
        if !person.duties.contains(&duty) {
            return Err(CheckoutRefusal::DutyNotHeld { who: person.name.clone(), duty });
        }
        if person.name == self.request.person {
            return Err(CheckoutRefusal::OwnRequest(person.name.clone()));
        }
        self.waits(now)?;
        if self.agreements.iter().any(|a| a.by == person.name) {
            return Err(CheckoutRefusal::AgreedAlready(person.name.clone()));
        }
        if self.agreements.iter().any(|a| a.duty == duty) {
            return Err(CheckoutRefusal::DutyAgreedAlready(duty));
        }
        if self.request.digest() != digest {
            return Err(CheckoutRefusal::OtherText);
        }
        text("remark", remark, 0, LONGEST_REMARK)?;
        let remark = Some(remark.trim().to_owned()).filter(|r| !r.is_empty());
        let (by, digest) = (person.name.clone(), digest.to_string());
        self.agreements.push(Approval { by, duty, digest, at: now, remark });
        Ok(())
    }

    /// Records a no, or the second thoughts of whoever asked. Final.
    ///
    /// # Errors
    /// Refused unless `person` is active, asked for it or holds a duty that agrees or administers, gives a reason, and the
    /// request still waits.
    pub fn refuse(&mut self, person: &User, reason: &str, now: Timestamp) -> Result<(), CheckoutRefusal> {
        active(person, now)?;
        let entitled = person.name == self.request.person
            || person.duties.iter().any(|d| d.approves() || *d == Duty::Administrator);
        if !entitled {
            return Err(CheckoutRefusal::MayNotRefuse(person.name.clone()));
        }
        text("reason", reason, 1, LONGEST_FIELD)?;
        self.waits(now)?;
        self.standing =
            CheckoutStanding::Refused { by: person.name.clone(), reason: reason.trim().to_owned(), at: now };
        Ok(())
    }
}

fn active(person: &User, now: Timestamp) -> Result<(), CheckoutRefusal> {
    if person.is_active(now) { Ok(()) } else { Err(CheckoutRefusal::NotActive(person.name.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{NOON, account, name, person, rng};

    fn asked() -> Checkout {
        let request = CheckoutRequest::new(
            &account("root@pump-hmi"),
            &name("emil"),
            3600,
            "the panel hangs",
            NOON,
            &mut rng(1),
        );
        Checkout::requested(request)
    }

    #[test]
    fn two_others_of_two_duties_agree_to_exactly_this_text() {
        let mut checkout = asked();
        let digest = checkout.request.digest();
        let agree = |c: &mut Checkout, who: &str, duty| c.agree(&person(who), duty, digest, "", NOON);
        let no = agree(&mut checkout, "ada", Duty::Administrator);
        assert_eq!(no, Err(CheckoutRefusal::NotAnAgreeingDuty(Duty::Administrator)));
        assert!(matches!(
            agree(&mut checkout, "olga", Duty::Security),
            Err(CheckoutRefusal::DutyNotHeld { .. })
        ));
        agree(&mut checkout, "olga", Duty::Operations).unwrap();
        assert_eq!(
            agree(&mut checkout, "olga", Duty::Operations),
            Err(CheckoutRefusal::AgreedAlready(name("olga")))
        );
        let same = agree(&mut checkout, "otto", Duty::Operations);
        assert_eq!(same, Err(CheckoutRefusal::DutyAgreedAlready(Duty::Operations)));
        let other = checkout.agree(&person("sam"), Duty::Security, RequestDigest([0; 32]), "", NOON);
        assert_eq!(other, Err(CheckoutRefusal::OtherText));
        assert_eq!((checkout.agreed(|_, _| true), checkout.phase(NOON)), (1, "waiting"));
        agree(&mut checkout, "sam", Duty::Security).unwrap();
        assert_eq!((checkout.agreed(|_, _| true), checkout.phase(NOON)), (2, "agreed"));
        assert_eq!(checkout.agreed(|who, _| who.as_str() != "sam"), 1, "sam has left");
        checkout.request.seconds += 1;
        assert_eq!(checkout.agreed(|_, _| true), 0, "it is another text now");
    }

    #[test]
    fn whoever_asks_does_not_agree_and_a_lapsed_request_stays_shut() {
        let mut checkout = asked();
        checkout.request.person = name("both");
        let digest = checkout.request.digest();
        let own = checkout.agree(&person("both"), Duty::Security, digest, "", NOON);
        assert_eq!(own, Err(CheckoutRefusal::OwnRequest(name("both"))));
        let late = checkout.request.expires;
        let lapsed = checkout.agree(&person("sam"), Duty::Security, digest, "", late);
        assert_eq!((lapsed, checkout.phase(late)), (Err(CheckoutRefusal::Lapsed), "lapsed"));
        assert!(checkout.refuse(&person("vera"), "no", NOON).is_err());
        checkout.refuse(&person("olga"), "use the panel", NOON).unwrap();
        let after = checkout.agree(&person("sam"), Duty::Security, digest, "", NOON);
        assert_eq!((after, checkout.phase(NOON)), (Err(CheckoutRefusal::NotWaiting), "refused"));
    }

    #[test]
    fn a_request_is_for_a_minute_to_eight_hours_with_a_reason() {
        let emil = person("emil");
        let check = |change: fn(&mut CheckoutRequest)| {
            let mut request = asked().request;
            change(&mut request);
            request.validate(&emil, NOON)
        };
        assert_eq!(check(|_| ()), Ok(()));
        let wrong: [fn(&mut CheckoutRequest); 3] =
            [|r| r.seconds = 59, |r| r.seconds = 8 * 3600 + 1, |r| r.seconds = -1];
        for seconds in wrong {
            assert_eq!(check(seconds), Err(CheckoutRefusal::Seconds));
        }
        assert!(check(|r| r.reason = " ".into()).is_err());
        assert!(check(|r| r.reason = "a\u{202e}b".into()).is_err());
        assert_eq!(check(|r| r.person = name("olga")), Err(CheckoutRefusal::Times));
        assert_eq!(check(|r| r.expires = NOON.plus_seconds(10 * 86_400)), Err(CheckoutRefusal::Times));
    }

    #[test]
    fn a_clock_that_jumps_back_ends_a_check_out_too() {
        let mut checkout = asked();
        checkout.shown = Some(Shown { at: NOON, until: NOON.plus_seconds(3600), version: 1 });
        checkout.standing = CheckoutStanding::Open;
        assert_eq!((checkout.is_over(NOON), checkout.phase(NOON)), (false, "open"));
        assert!(checkout.is_over(NOON.plus_seconds(3600)) && checkout.is_over(NOON.plus_seconds(-6)));
        assert!(!checkout.is_over(NOON.plus_seconds(-5)));
    }
}
