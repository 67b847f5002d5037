//! Privileged accounts of Active Directory: who is, through whatever groups, in one of those that may do everything.
//!
//! The groups are found by their security identifiers (MS-DTYP 2.4.2.4), because their names are translated.

use ldap3::{Scope, SearchEntry, ldap_escape};

use super::directory::DirectoryAccount;
use super::look::{FoundAccount, Look};
use super::rotator::{Fault, of_helper, text};

/// Groups of the domain, by the last part of their identifier: Domain Admins, Schema Admins, Enterprise Admins, Group Policy
/// Creator Owners.
const OF_THE_DOMAIN: [u32; 4] = [512, 518, 519, 520];
/// Built-in groups: Administrators, and the operators of accounts, servers, printers and backups.
const BUILT_IN: [&str; 5] = ["S-1-5-32-544", "S-1-5-32-548", "S-1-5-32-549", "S-1-5-32-550", "S-1-5-32-551"];
/// LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3): members of members, too.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";
/// ADS_UF_ACCOUNTDISABLE (MS-ADTS 2.2.16).
const DISABLED: u64 = 2;
/// Most accounts of one group that are taken.
const MOST: usize = 1000;

impl DirectoryAccount {
    /// Looks, as the helper where there is one, else as the account itself with `secret`.
    ///
    /// # Errors
    /// [`Fault`] when the directory cannot be entered or does not show its groups.
    pub async fn look(&self, secret: &crate::SecretBytes) -> Result<Look, Fault> {
        let mut connected = match &self.helper {
            Some(helper) => {
                let secret = text(&helper.secret.secret().await?)?;
                self.enter_or_fault(&helper.bind_name, &secret).await.map_err(of_helper)?
            }
            None => self.enter_or_fault(&self.bind_name, &text(secret)?).await?,
        };
        let ldap = connected.ldap();
        let root = search(ldap, "", Scope::Base, "(objectClass=*)", &["defaultNamingContext"]).await?;
        let base = root.first().and_then(|e| value(e, "defaultNamingContext"));
        let base = base.ok_or_else(|| Fault::Denied("it does not say which domain it serves".into()))?;
        let domain = search(ldap, &base, Scope::Base, "(objectClass=*)", &["objectSid"]).await?;
        let sid =
            domain.first().and_then(|e| e.bin_attrs.get("objectSid")?.first()).and_then(|b| sid_text(b));
        let mut groups: Vec<(String, Option<u32>)> =
            BUILT_IN.iter().map(|sid| ((*sid).to_owned(), None)).collect();
        let mut look = Look::default();
        match sid {
            Some(sid) => groups.extend(OF_THE_DOMAIN.iter().map(|rid| (format!("{sid}-{rid}"), Some(*rid)))),
            None => {
                look.gaps.push("the domain does not show its identifier: its own groups were left out".into())
            }
        }
        for (sid, rid) in groups {
            let found =
                search(ldap, &base, Scope::Subtree, &format!("(objectSid={sid})"), &["sAMAccountName"])
                    .await?;
            // Not every domain has every group.
            let Some(group) = found.first() else { continue };
            let name = value(group, "sAMAccountName").unwrap_or_else(|| sid.clone());
            let primary = rid.map(|rid| format!("(primaryGroupID={rid})")).unwrap_or_default();
            let filter = format!(
                "(&(objectClass=user)(!(objectClass=computer))(|(memberOf:{IN_CHAIN}:={}){primary}))",
                ldap_escape(group.dn.as_str())
            );
            let members =
                search(ldap, &base, Scope::Subtree, &filter, &["sAMAccountName", "userAccountControl"])
                    .await?;
            if members.len() >= MOST {
                look.gaps.push(format!("{name} has {MOST} members or more: not all may be listed"));
            }
            members.iter().for_each(|member| note(&mut look, member, &name));
        }
        look.found.sort_by(|a, b| a.login.cmp(&b.login));
        Ok(look)
    }
}

/// Who is in several groups stands once.
fn note(look: &mut Look, member: &SearchEntry, group: &str) {
    let Some(login) = value(member, "sAMAccountName") else { return };
    let control: u64 = value(member, "userAccountControl").and_then(|v| v.parse().ok()).unwrap_or(0);
    if control & DISABLED != 0 {
        return;
    }
    match look.found.iter_mut().find(|f| f.login == login) {
        Some(known) => known.because.push(group.to_owned()),
        None => look.found.push(FoundAccount {
            login,
            because: vec![group.to_owned()],
            keys: None,
            password: Some(true),
        }),
    }
}

async fn search(
    ldap: &mut ldap3::Ldap,
    base: &str,
    scope: Scope,
    filter: &str,
    attributes: &[&str],
) -> Result<Vec<SearchEntry>, Fault> {
    let away = |e: ldap3::LdapError| Fault::Unreachable(format!("the search broke off: {e}"));
    let found = ldap.search(base, scope, filter, attributes.to_vec()).await.map_err(away)?;
    // A size limit cuts the list and is no reason to throw away what came.
    let entries = found.0.into_iter().take(MOST).map(SearchEntry::construct).collect::<Vec<_>>();
    match found.1.rc {
        0 | 4 | 10 => Ok(entries),
        rc => Err(Fault::Denied(format!("it does not let the account search (LDAP result {rc})"))),
    }
}

fn value(entry: &SearchEntry, name: &str) -> Option<String> {
    entry.attrs.get(name)?.first().cloned()
}

/// `S-1-5-21-…` of the bytes (MS-DTYP 2.4.2.2).
fn sid_text(bytes: &[u8]) -> Option<String> {
    let (head, parts) = bytes.split_at_checked(8)?;
    let [revision, count, authority @ ..] = head else { return None };
    let authority = authority.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let (parts, rest) = parts.as_chunks::<4>();
    if parts.len() != usize::from(*count) || !rest.is_empty() || parts.len() > 15 {
        return None;
    }
    let parts = parts.iter().map(|part| u32::from_le_bytes(*part));
    Some(parts.fold(format!("S-{revision}-{authority}"), |text, part| format!("{text}-{part}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_written_as_the_directory_takes_it() {
        let bytes = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0];
        assert_eq!(sid_text(&bytes).as_deref(), Some("S-1-5-32-544"));
        for odd in [&bytes[..15], &bytes[..7], &[], &[1, 3, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0]] {
            assert_eq!(sid_text(odd), None);
        }
    }
}
