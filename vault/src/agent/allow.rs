//! Who may ask what, and when: one table, read as the security argument. What is not in it is refused.

use super::message::Request;

/// Who is at the other end of a connection. It is the socket that tells, and the kernel; never a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The process that faces the network.
    Network,
    /// A person who operates the vault, by the command line on this machine.
    Operator,
    /// The process that changes secrets on targets. It alone is given secrets to work with, for accounts that the site
    /// wants changed.
    Rotation,
}

/// Whether `role` may ask this while the vault is open, or not.
pub(super) fn allow(role: Role, open: bool, network_may_unseal: bool, request: &Request) -> bool {
    use Request as R;
    use Role::{Network, Operator, Rotation};
    match request {
        // Once, at the beginning; the server has taken that one out.
        R::Hello { .. } => false,
        // Signing goes on while the vault is sealed: that somebody tried to unseal it has to be written down. The command line
        // writes the audit log as the gateway does.
        R::Status | R::PublicKeys | R::Sign { .. } => true,
        R::TakeEvents => role == Network,
        R::Share { .. } | R::Passphrase { .. } | R::Configured { .. } => {
            !open && (role == Operator || network_may_unseal)
        }
        R::Lease(_) | R::HostCertificate { .. } => open && role == Network,
        // People prove themselves on the command line, too.
        R::CheckCode { .. } => open && role != Rotation,
        // What is out can always be given back.
        R::Return { .. } | R::Expire => role == Network,
        R::GiveBack { .. } => role != Rotation,
        // An envelope is for the recipients that the vault process knows, whoever asks for it.
        R::SealSecret { .. } => open,
        R::CheckOut { .. } | R::Envelope { .. } => open && role != Rotation,
        R::OpenSecret { .. } => open && role == Rotation,
        R::Seal { .. } => role == Operator,
        R::Rekey { .. } | R::Retire { .. } | R::Refresh | R::Rewrap { .. } | R::Held => {
            open && role == Operator
        }
    }
}
