//! Who is entitled to what: the vault process asks for itself, and does not take the caller's word for it.

use crate::ca::CertificateTerms;
use crate::checkout::ViewTerms;
use crate::lease::SealedSecret;
use crate::ledger::Sharing;
use serde::{Deserialize, Serialize};

/// What the network-facing process says about the session that it wants a secret for. Nothing in it is believed; it says
/// where to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The session.
    pub session_id: String,
    /// The account that it is about.
    pub account_id: String,
    /// The SHA-256 of the decision record that permitted it, hexadecimal.
    pub decision_sha256: String,
    /// What the caller says the answer is; only [`dangerous::BelieveCaller`] reads it.
    pub told: Option<Told>,
}

/// The caller's own answer. See [`Claim::told`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The person's name.
    pub user_name: String,
    /// The login on the target.
    pub login_name: String,
    /// The end, in UTC microseconds.
    pub not_after: i64,
    /// Whether the account takes one session at a time.
    pub exclusive: bool,
    /// What the session logs in with.
    pub credential: Credentialed,
}

/// What an account logs in with, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credentialed {
    /// A sealed password.
    Password(Vec<u8>),
    /// A sealed private key.
    PrivateKey(Vec<u8>),
    /// A certificate that is made for the session.
    Certificate {
        /// Whether the target lets it forward ports.
        port_forwarding: bool,
        /// Addresses that the target takes it from.
        source_addresses: Vec<std::net::IpAddr>,
    },
}

impl Credentialed {
    /// In the vault's own form.
    #[must_use]
    pub fn into_sealed(self, sharing: Sharing) -> SealedSecret {
        match self {
            Self::Password(sealed) => SealedSecret::password(sealed, sharing),
            Self::PrivateKey(sealed) => SealedSecret::private_key(sealed, sharing),
            Self::Certificate { port_forwarding, source_addresses } => {
                let terms = CertificateTerms { port_forwarding, source_addresses };
                SealedSecret::certificate(terms, sharing)
            }
        }
    }
}

/// What a session is entitled to, as the registry found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlement {
    /// The person's name.
    pub user_name: String,
    /// The login on the target.
    pub login_name: String,
    /// The end, in UTC microseconds.
    pub not_after: i64,
    /// Whether several sessions may use the account.
    pub sharing: Sharing,
    /// What the session logs in with.
    pub credential: Credentialed,
}

/// Why an entitlement is not there; the text goes to the operator's log, not to the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Looks up what somebody is entitled to, in the store and not in the request. An implementation checks that the session
/// is there and has not ended, that its decision permitted exactly this account and has the digest that is claimed, that
/// its window is still approved, and that the audit log has its opening, signed.
pub trait Registry: Send + Sync {
    /// For a session that is about to dial.
    ///
    /// # Errors
    /// [`Refusal`] whenever anything is missing, or the store does not answer.
    fn session(&self, claim: &Claim, now: i64) -> Result<Entitlement, Refusal>;

    /// For a person who is about to see a secret: what was decided, and the sealed secret.
    ///
    /// # Errors
    /// [`Refusal`] whenever anything is missing, or the store does not answer.
    fn view(&self, checkout_id: &str, now: i64) -> Result<(ViewTerms, SealedSecret), Refusal>;

    /// For the process that changes secrets: whether the site wants the secret of this account changed.
    ///
    /// # Errors
    /// [`Refusal`] when it does not, or the store does not answer.
    fn rotated(&self, account_id: &str) -> Result<(), Refusal>;
}

/// What weakens the vault, and is named so that nobody takes it by mistake.
pub mod dangerous {
    use super::{Claim, Entitlement, Refusal, Registry, SealedSecret, Sharing, ViewTerms};

    /// Believes what the caller says. Right for one process that talks to itself, such as the demo; with it, a
    /// network-facing process that was taken over gets every secret whose sealed row it can read, within the bounds.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct BelieveCaller;

    impl Registry for BelieveCaller {
        fn session(&self, claim: &Claim, _: i64) -> Result<Entitlement, Refusal> {
            let told = claim.told.clone().ok_or_else(|| Refusal("the claim says nothing".into()))?;
            Ok(Entitlement {
                user_name: told.user_name,
                login_name: told.login_name,
                not_after: told.not_after,
                sharing: if told.exclusive { Sharing::Exclusive } else { Sharing::Shared },
                credential: told.credential,
            })
        }

        fn view(&self, _: &str, _: i64) -> Result<(ViewTerms, SealedSecret), Refusal> {
            Err(Refusal("nobody sees a secret in this mode; connect instead".into()))
        }

        fn rotated(&self, _: &str) -> Result<(), Refusal> {
            Err(Refusal("nothing is rotated in this mode".into()))
        }
    }
}
