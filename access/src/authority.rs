//! The SSH authorities over time: which one signs now, which are still trusted, and what counts no more.
//!
//! One is replaced in three steps. First the new one is *published*: targets (or people's `known_hosts`) are to trust both.
//! Then, when somebody says that they do or at a time that was set, the new one *signs*. Last the old one is *finished*: it
//! is published no more and stands in the revocation list. That step comes by itself when the overlap is over, but never
//! before the new one has signed for as long as a certificate lives.

use cofferdam_vault::{Krl, MAX_CERTIFICATE_SECONDS, Purpose, RevokedCertificates};

use crate::clock::Timestamp;

/// How long a single revoked certificate stays listed, seconds: longer than any certificate lives.
pub const LISTED_SECONDS: i64 = 3 * MAX_CERTIFICATE_SECONDS;

/// One authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The fingerprint of its public key.
    pub id: String,
    /// What it signs.
    pub purpose: Purpose,
    /// Its public key, one line.
    pub public_key: String,
    /// Its private key, sealed by the vault; none for that in the configured file, and when it is finished.
    pub sealed: Option<Vec<u8>>,
    /// When the store learned of it.
    pub made_at: Timestamp,
    /// From whom, as the audit log writes it.
    pub made_by: String,
    /// From when on it signs; none: until somebody says that it is trusted.
    pub signs_from: Option<Timestamp>,
    /// Of one that is replaced: until when it is trusted.
    pub trusted_until: Option<Timestamp>,
    /// When somebody finished it.
    pub finished_at: Option<Timestamp>,
}

/// Where an authority stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Published, and does not sign yet.
    Next,
    /// Signs.
    Signing,
    /// Signs no more; what it signed is still to be accepted.
    Retiring,
    /// Counts no more.
    Finished,
}

impl Stage {
    /// Its fixed name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Finished => "finished",
        }
    }
}

/// A single certificate that counts no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Of which authority.
    pub purpose: Purpose,
    /// Which one.
    pub which: Which,
    /// When it was revoked.
    pub at: Timestamp,
    /// By whom, as the audit log writes it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How a certificate is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// By its serial number.
    Serial(u64),
    /// By its key id: `cofferdam:SESSION:PERSON`, or `cofferdam:host:NAME`.
    KeyId(String),
}

/// All authorities that the store knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorities(pub Vec<Authority>);

impl Authorities {
    /// Who signs for that purpose; none before the store has heard of any.
    pub fn signing(&self, purpose: Purpose, now: Timestamp) -> Option<&Authority> {
        self.of(purpose)
            .filter(|a| a.finished_at.is_none() && a.signs_from.is_some_and(|from| from <= now))
            .max_by_key(|a| (a.signs_from, a.made_at))
    }

    /// Where one stands.
    pub fn stage(&self, one: &Authority, now: Timestamp) -> Stage {
        if one.finished_at.is_some() {
            return Stage::Finished;
        }
        match self.signing(one.purpose, now) {
            Some(signing) if signing.id == one.id => Stage::Signing,
            _ if one.signs_from.is_none_or(|from| from > now) => Stage::Next,
            _ if one.trusted_until.is_some_and(|until| until <= now) => Stage::Finished,
            _ => Stage::Retiring,
        }
    }

    /// Those to be trusted, the oldest first.
    pub fn published(&self, purpose: Purpose, now: Timestamp) -> impl Iterator<Item = &Authority> {
        self.of(purpose).filter(move |a| self.stage(a, now) != Stage::Finished)
    }

    /// The one of that purpose that stands so.
    pub fn at(&self, purpose: Purpose, stage: Stage, now: Timestamp) -> Option<&Authority> {
        self.of(purpose).find(|a| self.stage(a, now) == stage)
    }

    /// The next moment at which one takes over by itself.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.0.iter().filter(|a| a.finished_at.is_none()).filter_map(|a| a.signs_from);
        waiting.filter(|from| *from > now).min()
    }

    /// What counts no more, as a list for OpenSSH.
    pub fn krl(&self, revoked: &[Revoked], now: Timestamp) -> Krl {
        let finished = self.0.iter().filter(|a| self.stage(a, now) == Stage::Finished);
        let listed = |one: &Authority| {
            let mine = |r: &&Revoked| r.purpose == one.purpose && r.at.plus_seconds(LISTED_SECONDS) > now;
            let mut certificates =
                RevokedCertificates { authority: one.public_key.clone(), ..RevokedCertificates::default() };
            for r in revoked.iter().filter(mine) {
                match &r.which {
                    Which::Serial(serial) => certificates.serials.push(*serial),
                    Which::KeyId(id) => certificates.key_ids.push(id.clone()),
                }
            }
            certificates
        };
        Krl {
            generated_at: now.micros(),
            comment: "cofferdam".to_owned(),
            authorities: finished.map(|a| a.public_key.clone()).collect(),
            certificates: Purpose::ALL.into_iter().flat_map(|p| self.published(p, now)).map(listed).collect(),
        }
    }

    fn of(&self, purpose: Purpose) -> impl Iterator<Item = &Authority> {
        self.0.iter().filter(move |a| a.purpose == purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn authority(id: &str, signs_from: Option<Timestamp>) -> Authority {
        Authority {
            id: id.into(),
            purpose: Purpose::User,
            public_key: format!("ssh-ed25519 {id}"),
            sealed: None,
            made_at: NOW,
            made_by: "ada".into(),
            signs_from,
            trusted_until: None,
            finished_at: None,
        }
    }

    fn stages(all: &Authorities, now: Timestamp) -> Vec<Stage> {
        all.0.iter().map(|a| all.stage(a, now)).collect()
    }

    #[test]
    fn the_new_one_signs_from_its_time_on_and_the_old_one_is_trusted_until_its_end() {
        let day = |n: i64| NOW.plus_seconds(n * 86_400);
        let old = Authority { trusted_until: Some(day(30)), ..authority("old", Some(Timestamp(0))) };
        let all = Authorities(vec![old, authority("new", Some(day(7)))]);
        assert_eq!(stages(&all, NOW), [Stage::Signing, Stage::Next]);
        assert_eq!(all.next_change(NOW), Some(day(7)));
        assert_eq!(stages(&all, day(7)), [Stage::Retiring, Stage::Signing]);
        assert_eq!(all.published(Purpose::User, day(29)).count(), 2);
        assert_eq!(stages(&all, day(30)), [Stage::Finished, Stage::Signing]);
        assert_eq!(all.krl(&[], day(30)).authorities, ["ssh-ed25519 old"]);
        assert!(all.krl(&[], day(29)).authorities.is_empty());
        assert_eq!(all.published(Purpose::Host, NOW).count(), 0);
    }

    #[test]
    fn an_old_one_does_not_end_while_nothing_signs_in_its_place() {
        let old = Authority { trusted_until: Some(NOW), ..authority("old", Some(Timestamp(0))) };
        let all = Authorities(vec![old, authority("new", None)]);
        let late = NOW.plus_seconds(400 * 86_400);
        assert_eq!(stages(&all, late), [Stage::Signing, Stage::Next]);
        assert_eq!(all.next_change(late), None);
    }

    #[test]
    fn a_revoked_certificate_is_listed_for_every_trusted_authority_while_it_could_live() {
        let all = Authorities(vec![authority("one", Some(NOW)), authority("two", None)]);
        let revoked = [Which::Serial(7), Which::KeyId("cofferdam:s:vera".into())].map(|which| Revoked {
            purpose: Purpose::User,
            which,
            at: NOW,
            by: "ada".into(),
            reason: "left".into(),
        });
        let krl = all.krl(&revoked, NOW);
        assert_eq!(krl.certificates.len(), 2);
        assert!(krl.certificates.iter().all(|c| c.serials == [7] && c.key_ids == ["cofferdam:s:vera"]));
        let later = all.krl(&revoked, NOW.plus_seconds(LISTED_SECONDS));
        assert!(later.certificates.iter().all(|c| c.serials.is_empty() && c.key_ids.is_empty()));
    }
}
