//! How people prove who they are: password hashes, second factors, recovery codes, invitations.
//!
//! Hashing, sealing and checking are done elsewhere; here stands what must be kept, and the atomic "only once".

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::{
    Store,
    change::Change,
    db::args,
    error::StoreError,
    logins::{TallyKey, forget_tallies},
    web::{self, StoredPasskey},
};
use crate::{
    audit::{Act, AuditEvent, AuditKind},
    clock::Timestamp,
    ids::Name,
};

/// What is kept of a person's credentials.
#[derive(Clone)]
pub struct Credentials {
    /// Argon2id hash (PHC string).
    pub password_hash: Option<Zeroizing<String>>,
    /// The TOTP secret, sealed by the vault.
    pub totp_sealed: Option<Vec<u8>>,
    /// The last time step whose code was accepted (RFC 6238 §5.2); 0 before the first.
    pub totp_step: u64,
    /// When the person set up their credentials by invitation.
    pub enrolled_at: Option<Timestamp>,
    /// The last change.
    pub updated_at: Timestamp,
    /// Recovery codes not yet used.
    pub recovery_codes_left: u64,
    /// Passkeys enrolled.
    pub passkeys: u64,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("password", &self.password_hash.is_some())
            .field("totp", &self.totp_sealed.is_some())
            .field("enrolled_at", &self.enrolled_at)
            .field("recovery_codes_left", &self.recovery_codes_left)
            .finish_non_exhaustive()
    }
}

/// Whether a code that fits may count.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeUse {
    /// This is its first use, and nobody else can use it from now on, on any node.
    Accepted,
    /// It was used before, or it does not exist.
    Refused,
}

/// An invitation to enrol. Only its digest is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Who is invited.
    pub person: Name,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// First moment at which it no longer works.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

/// What a person sets up by an invitation.
pub struct Enrolment<'a> {
    /// Argon2id hash (PHC string).
    pub password_hash: &'a str,
    /// The second factor.
    pub second: SecondFactorSetUp<'a>,
    /// Digests of the recovery codes shown to the person.
    pub recovery_digests: &'a [String],
}

/// A second factor that is being set up.
pub enum SecondFactorSetUp<'a> {
    /// Time-based codes.
    Totp {
        /// The secret, sealed.
        sealed: &'a [u8],
        /// The step of the code that proved the set-up: it does not work again.
        step: u64,
    },
    /// A passkey.
    Passkey(&'a StoredPasskey),
}

impl fmt::Debug for Enrolment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Enrolment(…)")
    }
}

/// Whether an invitation worked.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolmentOutcome {
    /// The person is enrolled, and the invitation is spent.
    Enrolled(Name),
    /// Unknown, expired or spent: nothing changed.
    InvitationRefused,
}

/// What is kept of an invitation: SHA-256 of its text in lower case, hexadecimal. 160 random bits need no salt.
pub fn invitation_digest(code: &str) -> String {
    let plain = Zeroizing::new(code.trim().to_ascii_lowercase());
    hex::encode(digest(&SHA256, plain.as_bytes()).as_ref())
}

/// A new invitation: 160 random bits, 32 characters that can be read aloud.
pub fn new_invitation(random: &mut dyn rand::RngCore) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0u8; 20]);
    random.fill_bytes(bytes.as_mut_slice());
    Zeroizing::new(BASE32_NOPAD.encode(bytes.as_slice()).to_ascii_lowercase())
}

/// By what a person can log in, without anything that would let somebody do so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The person.
    pub person: Name,
    /// They have a password.
    pub password: bool,
    /// They have an authenticator app.
    pub totp: bool,
    /// Passkeys enrolled.
    pub passkeys: u64,
    /// Recovery codes not yet used.
    pub recovery_codes_left: u64,
    /// An invitation that works until then.
    pub invited_until: Option<Timestamp>,
}

impl Store {
    /// By what everybody can log in, who was ever invited or enrolled.
    pub async fn enrolled(&self, now: Timestamp) -> Result<Vec<Enrolled>, StoreError> {
        let rows = self
            .0
            .pools
            .rows(
                "SELECT p.person AS person, \
                 CAST(CASE WHEN c.password_hash IS NULL THEN 0 ELSE 1 END AS BIGINT) AS password, \
                 CAST(CASE WHEN c.totp_sealed IS NULL THEN 0 ELSE 1 END AS BIGINT) AS totp, \
                 (SELECT COUNT(*) FROM passkey k WHERE k.person = p.person) AS passkeys, \
                 (SELECT COUNT(*) FROM recovery_code r WHERE r.person = p.person AND r.used_at IS NULL) AS codes, \
                 (SELECT MAX(i.expires_at) FROM invitation i WHERE i.person = p.person AND i.used_at IS NULL \
                 AND i.expires_at > $1) AS invited_until \
                 FROM (SELECT person FROM credential UNION SELECT person FROM invitation) p \
                 LEFT JOIN credential c ON c.person = p.person ORDER BY p.person",
                args![now],
            )
            .await?;
        let one = |r: &super::db::Row| {
            Ok(Enrolled {
                person: r.parsed("person")?,
                password: r.count("password")? > 0,
                totp: r.count("totp")? > 0,
                passkeys: r.count("passkeys")?,
                recovery_codes_left: r.count("codes")?,
                invited_until: r.opt_time("invited_until")?,
            })
        };
        rows.iter().map(one).collect()
    }

    /// What is kept of the person's credentials, if anything.
    pub async fn credentials(&self, person: &Name) -> Result<Option<Credentials>, StoreError> {
        let row = self
            .0
            .pools
            .row(
                "SELECT password_hash, totp_sealed, totp_step, enrolled_at, updated_at, \
                 (SELECT COUNT(*) FROM recovery_code r WHERE r.person = c.person AND r.used_at IS NULL) AS left_over, \
                 (SELECT COUNT(*) FROM passkey k WHERE k.person = c.person) AS passkeys \
                 FROM credential c WHERE person = $1",
                args![person],
            )
            .await?;
        row.map(|r| {
            Ok(Credentials {
                password_hash: r.opt_text("password_hash")?.map(Zeroizing::new),
                totp_sealed: r.opt_bytes("totp_sealed")?,
                totp_step: r.count("totp_step")?,
                enrolled_at: r.opt_time("enrolled_at")?,
                updated_at: r.time("updated_at")?,
                recovery_codes_left: r.count("left_over")?,
                passkeys: r.count("passkeys")?,
            })
        })
        .transpose()
    }

    /// Sets the password hash (an Argon2id PHC string).
    pub async fn set_password(&self, act: &Act, person: &Name, hash: &str) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        ensure_row(&mut change, person).await?;
        change
            .execute(
                "UPDATE credential SET password_hash = $2, updated_at = $3 WHERE person = $1",
                args![person, hash, act.at],
            )
            .await?;
        web::close_all(&mut change, person).await?;
        change.policy_sees_it();
        change.commit(AuditEvent::new(AuditKind::PasswordChanged, person)).await.map(drop)
    }

    /// Sets the sealed TOTP secret. Steps already used stay used.
    pub async fn set_totp(&self, act: &Act, person: &Name, sealed: &[u8]) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        ensure_row(&mut change, person).await?;
        change
            .execute(
                "UPDATE credential SET totp_sealed = $2, updated_at = $3 WHERE person = $1",
                args![person, sealed, act.at],
            )
            .await?;
        web::close_all(&mut change, person).await?;
        forget_factors(&mut change, person).await?;
        change.policy_sees_it();
        change.commit(AuditEvent::new(AuditKind::SecondFactorChanged, person)).await.map(drop)
    }

    /// Replaces all recovery codes by these digests.
    pub async fn set_recovery_codes(
        &self,
        act: &Act,
        person: &Name,
        digests: &[String],
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        ensure_row(&mut change, person).await?;
        put_recovery_codes(&mut change, person, digests).await?;
        let event = AuditEvent::new(AuditKind::SecondFactorChanged, person)
            .with("recovery_codes", digests.len() as u64);
        change.commit(event).await.map(drop)
    }

    /// Removes password, second factor, recovery codes, invitations and remembered factors.
    pub async fn remove_credentials(&self, act: &Act, person: &Name) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        delete_credentials(&mut change, person).await?;
        change.policy_sees_it();
        change.commit(AuditEvent::new(AuditKind::CredentialsRemoved, person)).await.map(drop)
    }

    /// Uses the TOTP code of `step` for `person`: works once, and never for an earlier step than one used before,
    /// whatever node asks. A code that works also clears `tallies`. `event` says what it was for (usually
    /// [`AuditKind::LoginSucceeded`] or [`AuditKind::SecondFactorUsed`]) and is written if it works; if not,
    /// [`AuditKind::SecondFactorReplayed`] is.
    pub async fn use_totp_step(
        &self,
        act: &Act,
        person: &Name,
        step: u64,
        tallies: &[TallyKey],
        event: AuditEvent,
    ) -> Result<CodeUse, StoreError> {
        let step = super::change::to_i64(step);
        let mut change = self.change(act).await?;
        let used = change
            .execute(
                "UPDATE credential SET totp_step = $2 WHERE person = $1 AND totp_step < $2 AND totp_sealed IS NOT NULL",
                args![person, step],
            )
            .await?;
        finish_use(change, person, used, tallies, event).await
    }

    /// Uses a recovery code: works once. `event` is written if it works, together with [`AuditKind::RecoveryCodeUsed`].
    pub async fn use_recovery_code(
        &self,
        act: &Act,
        person: &Name,
        digest: &str,
        tallies: &[TallyKey],
        event: AuditEvent,
    ) -> Result<CodeUse, StoreError> {
        let mut change = self.change(act).await?;
        let used = change
            .execute(
                "UPDATE recovery_code SET used_at = $3 WHERE person = $1 AND digest = $2 AND used_at IS NULL",
                args![person, digest, act.at],
            )
            .await?;
        if used == 0 {
            return finish_use(change, person, used, tallies, event).await;
        }
        forget_tallies(&mut change, tallies).await?;
        change.commit_all(AuditEvent::new(AuditKind::RecoveryCodeUsed, person), [event]).await?;
        Ok(CodeUse::Accepted)
    }

    /// Digests of the person's unused recovery codes, for hashes that cannot be looked up.
    pub async fn recovery_digests(&self, person: &Name) -> Result<Vec<String>, StoreError> {
        let rows = self
            .0
            .pools
            .rows("SELECT digest FROM recovery_code WHERE person = $1 AND used_at IS NULL", args![person])
            .await?;
        rows.iter().map(|r| r.text("digest")).collect()
    }

    /// Keeps an invitation. Earlier invitations of the same person stop working.
    pub async fn invite(
        &self,
        act: &Act,
        person: &Name,
        digest: &str,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut change = self.change(act).await?;
        change.execute("DELETE FROM invitation WHERE person = $1 AND used_at IS NULL", args![person]).await?;
        change
            .execute(
                "INSERT INTO invitation (digest, person, created_at, created_by, expires_at) \
                 VALUES ($1, $2, $3, $4, $5)",
                args![digest, person, act.at, act.actor.as_str(), expires_at],
            )
            .await?;
        let event = AuditEvent::new(AuditKind::PersonInvited, person).with("expires_at", expires_at.micros());
        change.commit(event).await.map(drop)
    }

    /// The invitation of that digest, also when it is spent or over.
    pub async fn invitation(&self, digest: &str) -> Result<Option<Invitation>, StoreError> {
        let row = self
            .0
            .pools
            .row(
                "SELECT person, created_at, created_by, expires_at, used_at FROM invitation WHERE digest = $1",
                args![digest],
            )
            .await?;
        row.map(|r| {
            Ok(Invitation {
                person: r.parsed("person")?,
                created_at: r.time("created_at")?,
                created_by: r.text("created_by")?,
                expires_at: r.time("expires_at")?,
                used_at: r.opt_time("used_at")?,
            })
        })
        .transpose()
    }

    /// Spends an invitation and sets everything up, in one step.
    pub async fn enrol(
        &self,
        act: &Act,
        invitation_digest: &str,
        enrolment: &Enrolment<'_>,
    ) -> Result<EnrolmentOutcome, StoreError> {
        let mut change = self.change(act).await?;
        let spent = change
            .row(
                "UPDATE invitation SET used_at = $2 WHERE digest = $1 AND used_at IS NULL AND expires_at > $2 \
                 RETURNING person",
                args![invitation_digest, act.at],
            )
            .await?;
        let Some(row) = spent else {
            change.abandon().await?;
            return Ok(EnrolmentOutcome::InvitationRefused);
        };
        let person: Name = row.parsed("person")?;
        ensure_row(&mut change, &person).await?;
        change
            .execute(
                "UPDATE credential SET password_hash = $2, enrolled_at = $3, updated_at = $3 WHERE person = $1",
                args![&person, enrolment.password_hash, act.at],
            )
            .await?;
        set_up(&mut change, &person, &enrolment.second).await?;
        put_recovery_codes(&mut change, &person, enrolment.recovery_digests).await?;
        forget_factors(&mut change, &person).await?;
        change.policy_sees_it();
        change.commit(AuditEvent::new(AuditKind::PersonEnrolled, &person)).await?;
        Ok(EnrolmentOutcome::Enrolled(person))
    }
}

/// What somebody set up before by an earlier invitation is replaced: an invitation is also how a lost factor is renewed.
async fn set_up(
    change: &mut Change<'_>,
    person: &Name,
    second: &SecondFactorSetUp<'_>,
) -> Result<(), StoreError> {
    change.execute("DELETE FROM passkey WHERE person = $1", args![person]).await?;
    web::close_all(change, person).await?;
    let (sealed, step) = match second {
        SecondFactorSetUp::Totp { sealed, step } => (Some(sealed.to_vec()), *step),
        SecondFactorSetUp::Passkey(passkey) => {
            if &passkey.person != person {
                return Err(StoreError::Refused(
                    "the passkey was made for somebody else: start again".into(),
                ));
            }
            web::put_passkey(change, passkey).await?;
            (None, 0)
        }
    };
    change
        .execute(
            "UPDATE credential SET totp_sealed = $2, \
             totp_step = CASE WHEN totp_step < $3 THEN $3 ELSE totp_step END WHERE person = $1",
            args![person, sealed, super::change::to_i64(step)],
        )
        .await
        .map(drop)
}

async fn finish_use(
    mut change: Change<'_>,
    person: &Name,
    used: u64,
    tallies: &[TallyKey],
    event: AuditEvent,
) -> Result<CodeUse, StoreError> {
    if used == 0 {
        change.commit(AuditEvent::new(AuditKind::SecondFactorReplayed, person)).await?;
        return Ok(CodeUse::Refused);
    }
    forget_tallies(&mut change, tallies).await?;
    change.commit(event).await?;
    Ok(CodeUse::Accepted)
}

pub(super) async fn ensure_row(change: &mut Change<'_>, person: &Name) -> Result<(), StoreError> {
    let at = change.at();
    change
        .execute(
            "INSERT INTO credential (person, totp_step, updated_at) VALUES ($1, 0, $2) ON CONFLICT (person) DO NOTHING",
            args![person, at],
        )
        .await
        .map(drop)
}

async fn put_recovery_codes(
    change: &mut Change<'_>,
    person: &Name,
    digests: &[String],
) -> Result<(), StoreError> {
    change.execute("DELETE FROM recovery_code WHERE person = $1", args![person]).await?;
    for digest in digests {
        change
            .execute("INSERT INTO recovery_code (person, digest) VALUES ($1, $2)", args![person, digest])
            .await?;
    }
    Ok(())
}

async fn forget_factors(change: &mut Change<'_>, person: &Name) -> Result<(), StoreError> {
    change.execute("DELETE FROM remembered_factor WHERE person = $1", args![person]).await.map(drop)
}

/// Removes everything by which the person could log in, so that the same name given to somebody else starts empty.
/// The row itself stays with its last step: no code of before works again.
pub(super) async fn delete_credentials(change: &mut Change<'_>, person: &Name) -> Result<(), StoreError> {
    change
        .execute(
            "UPDATE credential SET password_hash = NULL, totp_sealed = NULL, enrolled_at = NULL, updated_at = $2 \
             WHERE person = $1",
            args![person, change.at()],
        )
        .await?;
    change.execute("DELETE FROM recovery_code WHERE person = $1", args![person]).await?;
    change.execute("DELETE FROM invitation WHERE person = $1", args![person]).await?;
    change.execute("DELETE FROM passkey WHERE person = $1", args![person]).await?;
    web::close_all(change, person).await?;
    forget_factors(change, person).await
}
