//! Secrets nobody holds.
//!
//! What a session needs to enter a target is kept sealed ([`Sealer`]), is handed out only against a
//! [`Warrant`] ([`Vault::lease`]), and is either a stored secret or a certificate made for that one
//! session by the built-in authority ([`SshCa`]). What targets are entered with is changed, proved and mended by
//! [`rotation`]. The keys come and go by [`unseal`], and are held by a process of their own ([`agent`]). The crate does
//! no I/O except for files of keys, [`agent`], [`import`], [`backup`] and what [`rotation`] does with targets, reads no
//! clock (every `now` is an argument, in UTC microseconds) and takes its randomness from an [`Entropy`].
//!
//! Invariant: a secret leaves its type only through a method called `expose`.
//! Invariant: nothing here depends on another crate of the workspace.

pub mod agent;
mod authority;
pub mod backup;
mod ca;
mod checkout;
mod entropy;
pub mod envelope;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod import;
pub mod keyfile;
mod keyring;
mod keyring_store;
mod krl;
mod lease;
mod ledger;
mod root;
pub mod rotation;
mod seal;
mod secret;
mod signing;
mod totp;
pub mod unseal;

pub use authority::{AuthorityKey, Purpose, UnknownPurpose, authority_id};
pub use ca::{CaError, CertificateTerms, HostTerms, MAX_CERTIFICATE_SECONDS, SshCa};
pub use checkout::{
    Because, CROWN_JEWEL_PEOPLE, HeldCheckOut, MAX_STEP_UP_SECONDS, MAX_VIEW_SECONDS, RotationDue, ViewError,
    ViewTerms, ViewWarrant,
};
pub use entropy::{Entropy, EntropyError, SystemEntropy};
pub use keyfile::KeyFileError;
pub use keyring::{GenerationInfo, KeyringDocument, KeyringError, MAX_GENERATIONS};
pub use keyring_store::{FileKeyring, KeyringStore, KeyringStoreError};
pub use krl::{Krl, NotAnAuthority, RevokedCertificates};
pub use lease::{Lease, LeaseError, Material, SealedSecret, Vault, Warrant};
pub use ledger::{HeldLease, Sharing};
pub use root::{NotARoot, ROOT_BYTES, Root, VaultId};
pub use seal::{Context, KeyProcess, MAX_SECRET_BYTES, NextKeyring, SealError, Sealer};
pub use secret::{NotText, SecretBytes, SecretString};
pub use signing::{KeyId, SigningError, SigningKey, VerifyingKey};
pub use totp::{SEED_BYTES, STEP_SECONDS, check_code};
