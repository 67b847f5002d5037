//! Why there is no log-in by Kerberos, for the operator.

/// Why a realm or a target of it did not take the account. NTLM was not tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KerberosError {
    /// No KDC could be reached, or none answered in time.
    #[error("no KDC of the realm {realm} answers: {why}")]
    Unreachable {
        /// The realm.
        realm: String,
        /// What went wrong with each.
        why: String,
    },
    /// The KDC refused the account (AS exchange).
    #[error("the KDC of the realm {realm} refuses the account: {}", account(*code))]
    Account {
        /// The realm.
        realm: String,
        /// RFC 4120 7.5.9.
        code: u32,
    },
    /// The KDC gave no ticket for the target (TGS exchange).
    #[error("the KDC of the realm {realm} gives no ticket for {service}: {}", ticket(*code))]
    Ticket {
        /// The realm.
        realm: String,
        /// What the ticket is for.
        service: String,
        /// RFC 4120 7.5.9.
        code: u32,
    },
    /// The KDC sends us to the KDC of another realm.
    #[error(
        "the target belongs to another realm than {0}: give the realm whose KDC knows both the account and the target"
    )]
    OtherRealm(String),
    /// What the KDC answered cannot be used.
    #[error(
        "the KDC's answer cannot be used: it is malformed, too long, made with another password, or the account needs no \
         pre-authentication"
    )]
    Answer,
    /// The target chose NTLM.
    #[error(
        "the target takes NTLM alone, which is never used where a realm is configured: join it to the realm, or take \
         rdp.kerberos away from the asset"
    )]
    Ntlm,
    /// What the target answered to the ticket cannot be used.
    #[error(
        "the target's answer to the ticket cannot be used: it takes no Kerberos, or the key of its own account is another than \
         the KDC's"
    )]
    Target,
    /// It closed the connection.
    #[error(
        "the target closed the connection on the ticket: it takes no Kerberos, its clock is wrong, or the key of its own account \
         is another than the KDC's"
    )]
    Closed,
    /// It is bound to another key than the one that it showed: somebody is in between.
    #[error("the target is bound to another key than the one that it shows; somebody may be in between")]
    Binding,
    /// Its CredSSP binds itself to a key in a way that does not hold.
    #[error(
        "the target speaks version {0} of CredSSP, which does not protect the log-in: install the updates of CVE-2018-0886"
    )]
    Outdated(u32),
    /// The account is a member of too much.
    #[error("the ticket is larger than what a target takes: the account is in too many groups")]
    TicketSize,
}

fn account(code: u32) -> String {
    match code {
        6 => "it does not know it",
        12 => "its policy forbids the log-in, now or from here",
        14 => "it has no AES-256 key for it: set the account's password once more, and allow AES for it",
        18 => "it is disabled, locked, or may not log in now",
        23 => "its password has expired: rotate it",
        24 => "the password is wrong: rotate or set the secret",
        68 => "it is the KDC of another realm",
        _ => return common(code),
    }
    .to_owned()
}

fn ticket(code: u32) -> String {
    match code {
        7 => "it does not know that name: register it (setspn), or give the name that it knows as rdp.kerberos.host",
        12 => "its policy forbids it",
        14 => "it has no AES key for it: allow AES for the machine's account",
        18 | 19 => "the machine's account is disabled",
        _ => return common(code),
    }
    .to_owned()
}

fn common(code: u32) -> String {
    match code {
        37 => "the clocks of KDC and gateway differ by too much: set them".to_owned(),
        code => format!("error {code} of Kerberos"),
    }
}
