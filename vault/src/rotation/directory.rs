//! Accounts of Active Directory, over LDAPS: `unicodePwd` (MS-ADTS 3.1.1.3.1.5).
//!
//! The directory takes passwords over an encrypted connection only, and so do we: there is no way without TLS here.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ldap3::result::LdapResult;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Mod, StdStream};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::password::{PasswordPolicy, PolicyError};
use super::reach::{Address, SecretSource, words};
use super::rotator::{Fault, Rotator, Verdict, fitting, no_helper, of_helper, text};
use super::tls::{TlsTrust, impostor, is_impostor};
use crate::entropy::Entropy;
use crate::secret::{SecretBytes, SecretString};

const SUCCESS: u32 = 0;
/// RFC 4511 §4.1.9.
const CONSTRAINT_VIOLATION: u32 = 19;
const INVALID_CREDENTIALS: u32 = 49;
const UNWILLING: u32 = 53;
const ATTRIBUTE: &[u8] = b"unicodePwd";

/// The account that may reset another one's password.
#[derive(Clone)]
pub struct DirectoryHelper {
    /// As it logs in: `svc-vault@plant.example`, or its distinguished name.
    pub bind_name: String,
    /// Its password.
    pub secret: Arc<dyn SecretSource>,
}

impl fmt::Debug for DirectoryHelper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryHelper").field("bind_name", &self.bind_name).finish_non_exhaustive()
    }
}

/// Rotates the password of one account of a directory.
#[derive(Debug, Clone)]
pub struct DirectoryAccount {
    /// A domain controller, LDAPS (port 636).
    pub address: Address,
    /// How its certificate is checked.
    pub tls: TlsTrust,
    /// The account's distinguished name.
    pub dn: String,
    /// As the account logs in: `hmi-operator@plant.example`.
    pub bind_name: String,
    /// What its passwords are made of.
    pub policy: PasswordPolicy,
    /// Who can reset it when nothing opens it any more.
    pub helper: Option<DirectoryHelper>,
}

/// A connection; what drives it ends with it.
pub(super) struct Connected {
    ldap: Ldap,
    _driver: JoinSet<()>,
}

impl Connected {
    pub(super) fn ldap(&mut self) -> &mut Ldap {
        &mut self.ldap
    }
}

impl DirectoryAccount {
    async fn connect(&self) -> Result<Connected, Fault> {
        let stream = self.address.connect().await?;
        let stream = stream.into_std().map_err(|e| Fault::Unreachable(e.to_string()))?;
        let name = self.tls.expected(&self.address.host);
        // Checked here, because the library would take it apart as a part of a URL.
        self.tls.server_name(name)?;
        let settings =
            LdapConnSettings::new().set_config(self.tls.config()?).set_std_stream(StdStream::Tcp(stream));
        let url = if name.contains(':') { format!("ldaps://[{name}]") } else { format!("ldaps://{name}") };
        let (connection, ldap) = LdapConnAsync::with_settings(settings, &url).await.map_err(|error| {
            if is_impostor(&error) {
                impostor()
            } else {
                Fault::Unreachable(format!("the connection was not made: {error}"))
            }
        })?;
        let mut driver = JoinSet::new();
        driver.spawn(async { drop(connection.drive().await) });
        Ok(Connected { ldap, _driver: driver })
    }

    async fn enter(&self, bind_name: &str, password: &SecretString) -> Result<(Connected, Verdict), Fault> {
        // A bind without a password is anonymous and succeeds (RFC 4513 §5.1.2).
        if password.expose().is_empty() {
            return Err(Fault::Denied("the stored password is empty; set it again".into()));
        }
        let mut connected = self.connect().await?;
        let answer = connected
            .ldap
            .simple_bind(bind_name, password.expose())
            .await
            .map_err(|_| Fault::Unreachable("the connection broke off during the log-in".into()))?;
        let verdict = judged_bind(&answer)?;
        Ok((connected, verdict))
    }

    pub(super) async fn enter_or_fault(
        &self,
        bind_name: &str,
        password: &SecretString,
    ) -> Result<Connected, Fault> {
        match self.enter(bind_name, password).await? {
            (connected, Verdict::Opens) => Ok(connected),
            (_, Verdict::Refused) => Err(Fault::Refused(format!(
                "it does not take the password that the vault has for {bind_name}"
            ))),
        }
    }

    async fn modify(&self, connected: &mut Connected, mods: Vec<Mod<Vec<u8>>>) -> Result<(), Fault> {
        match connected.ldap.modify(&self.dn, mods).await {
            Ok(answer) => judged_change(&answer),
            Err(LdapError::AddNoValues) => Err(Fault::Denied("the new password is empty".into())),
            Err(_) => Err(Fault::Unsure("the connection broke off before it answered".into())),
        }
    }

    /// What must not be part of a password: the name without the domain.
    fn login(&self) -> &str {
        let name = self.bind_name.split('@').next().unwrap_or_default();
        name.rsplit('\\').next().unwrap_or_default()
    }
}

#[async_trait]
impl Rotator for DirectoryAccount {
    fn candidate(&self, entropy: &dyn Entropy) -> Result<SecretBytes, PolicyError> {
        Ok(SecretBytes::from(&self.policy.generate(self.login(), entropy)?))
    }

    /// As the account itself: the old value is removed and the new one added in one operation, which the directory takes for
    /// a change by the user, with its history and its least age.
    async fn change(&self, current: &SecretBytes, candidate: &SecretBytes) -> Result<(), Fault> {
        let (old, new) = (text(current)?, fitting(&self.policy, candidate, self.login())?);
        let mut connected = self.enter_or_fault(&self.bind_name, &old).await?;
        let mods = vec![
            Mod::Delete(ATTRIBUTE.to_vec(), HashSet::from([quoted(&old)])),
            Mod::Add(ATTRIBUTE.to_vec(), HashSet::from([quoted(&new)])),
        ];
        self.modify(&mut connected, mods).await
    }

    async fn verify(&self, secret: &SecretBytes) -> Result<Verdict, Fault> {
        Ok(self.enter(&self.bind_name, &text(secret)?).await?.1)
    }

    fn reconciles(&self) -> bool {
        self.helper.is_some()
    }

    async fn reconcile(&self, candidate: &SecretBytes) -> Result<(), Fault> {
        let new = fitting(&self.policy, candidate, self.login())?;
        let helper = self.helper.as_ref().ok_or_else(no_helper)?;
        let secret = text(&helper.secret.secret().await?)?;
        let mut connected = self.enter_or_fault(&helper.bind_name, &secret).await.map_err(of_helper)?;
        let mods = vec![Mod::Replace(ATTRIBUTE.to_vec(), HashSet::from([quoted(&new)]))];
        self.modify(&mut connected, mods).await
    }
}

/// In quotes, UTF-16, little-endian. The library takes a vector that it does not wipe.
fn quoted(password: &SecretString) -> Vec<u8> {
    let text = Zeroizing::new(format!("\"{}\"", password.expose()));
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The directory says in the text why it does not let somebody in (`data 52e`).
fn judged_bind(answer: &LdapResult) -> Result<Verdict, Fault> {
    if answer.rc == SUCCESS {
        return Ok(Verdict::Opens);
    }
    let said = words(answer.text.as_bytes(), &[]);
    if answer.rc != INVALID_CREDENTIALS {
        return Err(Fault::Denied(format!("it does not let the account in: {said}")));
    }
    let data = answer.text.split("data ").nth(1).and_then(|rest| rest.split([',', ' ', '\0']).next());
    match data {
        // Expired, or to be changed at the next log-in: said only to those who know it.
        Some("532" | "773") => Ok(Verdict::Opens),
        Some("530") => Err(Fault::Denied("the account may not log in at this time".into())),
        Some("531") => Err(Fault::Denied("the account may not log in from here".into())),
        Some("533") => Err(Fault::Denied("the account is disabled".into())),
        Some("701") => Err(Fault::Denied("the account has expired".into())),
        Some("775") => Err(Fault::Denied("the account is locked; unlock it, and find out who tried".into())),
        _ => Ok(Verdict::Refused),
    }
}

fn judged_change(answer: &LdapResult) -> Result<(), Fault> {
    if answer.rc == SUCCESS {
        return Ok(());
    }
    // The values are not repeated in the text.
    let said = words(answer.text.as_bytes(), &[]);
    let folded = answer.text.to_lowercase();
    let policy = folded.contains("0000052d") || folded.contains("password");
    match answer.rc {
        CONSTRAINT_VIOLATION if folded.contains("00000056") => {
            Err(Fault::Refused("it says that the old password is another one".into()))
        }
        CONSTRAINT_VIOLATION => Err(Fault::Rejected(format!("it does not take the new password: {said}"))),
        UNWILLING if policy => Err(Fault::Rejected(format!("it does not take the new password: {said}"))),
        rc => Err(Fault::Denied(format!("it did not change the password (LDAP result {rc}): {said}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rc: u32, text: &str) -> LdapResult {
        LdapResult { rc, matched: String::new(), text: text.into(), refs: Vec::new(), ctrls: Vec::new() }
    }

    #[test]
    fn a_password_is_sent_in_quotes_as_utf_16() {
        assert_eq!(quoted(&SecretString::from("aé")), [0x22, 0, 0x61, 0, 0xe9, 0, 0x22, 0]);
    }

    #[test]
    fn a_locked_or_disabled_account_has_not_refused_a_password() {
        let bind = |data: &str| {
            judged_bind(&answer(
                49,
                &format!(
                    "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data {data}, v2580\0"
                ),
            ))
        };
        assert_eq!(bind("52e"), Ok(Verdict::Refused));
        assert_eq!(bind("525"), Ok(Verdict::Refused));
        assert_eq!(bind("773"), Ok(Verdict::Opens));
        for data in ["530", "531", "533", "701", "775"] {
            assert!(matches!(bind(data), Err(Fault::Denied(_))), "{data}");
        }
        assert_eq!(judged_bind(&answer(49, "")), Ok(Verdict::Refused));
        assert!(judged_bind(&answer(8, "")).is_err());
    }

    #[test]
    fn policy_wrong_old_password_and_missing_rights_are_told_apart() {
        let change = |rc, text: &str| judged_change(&answer(rc, text)).unwrap_err();
        assert!(matches!(
            change(
                19,
                "0000052D: Constraint violation - check_password_restrictions: the password is too short"
            ),
            Fault::Rejected(_)
        ));
        assert!(matches!(change(19, "00000056: AtrErr: DSID-03191083, #1:"), Fault::Refused(_)));
        assert!(matches!(change(53, "0000052D: SvcErr: DSID-031A1254"), Fault::Rejected(_)));
        assert!(matches!(change(50, "insufficient access rights"), Fault::Denied(_)));
    }
}
