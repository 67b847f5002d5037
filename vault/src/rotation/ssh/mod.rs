//! Accounts that are entered by SSH: their passwords, and their keys.

mod authorized_keys;
mod keys;
mod link;
pub(crate) mod look;
mod password;

pub use keys::{KeyHelper, SshKeys};
pub use link::SshTarget;
pub use look::HostLook;
pub use password::{PasswordHelper, PasswordWay, SshPassword};
