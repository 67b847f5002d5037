//! A key revocation list as OpenSSH reads it (PROTOCOL.krl): for sshd's `RevokedKeys` and clients' `RevokedHostKeys`.

use russh::keys::PublicKey;

const MAGIC: u64 = 0x5353_484b_524c_0a00;
const FORMAT_VERSION: u32 = 1;
const SECTION_CERTIFICATES: u8 = 1;
const SECTION_EXPLICIT_KEY: u8 = 2;
const CERTIFICATES_SERIAL_LIST: u8 = 0x20;
const CERTIFICATES_KEY_ID: u8 = 0x23;
const MICROSECONDS: i64 = 1_000_000;

/// A line that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the authority {0:?} is no OpenSSH public key, so no revocation list is made; restore the store from a backup"
)]
pub struct NotAnAuthority(String);

/// Certificates of one authority that count no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevokedCertificates {
    /// The authority's public key, one line.
    pub authority: String,
    /// By serial number.
    pub serials: Vec<u64>,
    /// By key id.
    pub key_ids: Vec<String>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Krl {
    /// When it was made, UTC microseconds; also its version, so that a later one counts as newer.
    pub generated_at: i64,
    /// Says whose it is.
    pub comment: String,
    /// Authorities that count no more, with all that they ever signed; public keys, a line each.
    pub authorities: Vec<String>,
    /// Single certificates.
    pub certificates: Vec<RevokedCertificates>,
}

impl Krl {
    /// The bytes of the file.
    ///
    /// # Errors
    /// [`NotAnAuthority`] for a line that is no key: a list with a hole would say less than it should.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NotAnAuthority> {
        let made = u64::try_from(self.generated_at.div_euclid(MICROSECONDS)).unwrap_or(0);
        let mut out = Vec::new();
        out.extend(MAGIC.to_be_bytes());
        out.extend(FORMAT_VERSION.to_be_bytes());
        out.extend(made.to_be_bytes());
        out.extend(made.to_be_bytes());
        out.extend(0u64.to_be_bytes());
        string(&mut out, b"");
        string(&mut out, self.comment.as_bytes());
        if !self.authorities.is_empty() {
            let mut keys = Vec::new();
            for line in &self.authorities {
                string(&mut keys, &blob(line)?);
            }
            section(&mut out, SECTION_EXPLICIT_KEY, &keys);
        }
        for one in &self.certificates {
            if one.serials.is_empty() && one.key_ids.is_empty() {
                continue;
            }
            let mut content = Vec::new();
            string(&mut content, &blob(&one.authority)?);
            string(&mut content, b"");
            if !one.serials.is_empty() {
                let serials: Vec<u8> = one.serials.iter().flat_map(|s| s.to_be_bytes()).collect();
                section(&mut content, CERTIFICATES_SERIAL_LIST, &serials);
            }
            if !one.key_ids.is_empty() {
                let mut ids = Vec::new();
                one.key_ids.iter().for_each(|id| string(&mut ids, id.as_bytes()));
                section(&mut content, CERTIFICATES_KEY_ID, &ids);
            }
            section(&mut out, SECTION_CERTIFICATES, &content);
        }
        Ok(out)
    }
}

fn blob(line: &str) -> Result<Vec<u8>, NotAnAuthority> {
    let key = PublicKey::from_openssh(line.trim()).and_then(|key| key.to_bytes());
    key.map_err(|_| NotAnAuthority(line.chars().take(80).collect()))
}

fn section(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    out.push(kind);
    string(out, content);
}

/// RFC 4251 §5. What goes in is bounded by what the store keeps, far below four gigabytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_its_head_alone() {
        let krl = Krl { generated_at: 7_000_000, comment: "c".into(), ..Krl::default() };
        let mut wanted = b"SSHKRL\n\0".to_vec();
        wanted.extend([0, 0, 0, 1]);
        wanted.extend([0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([0, 0, 0, 0, 0, 0, 0, 1, b'c']);
        assert_eq!(krl.to_bytes().unwrap(), wanted);
    }

    #[test]
    fn an_authority_that_is_no_key_makes_no_list_with_a_hole() {
        let krl = Krl { authorities: vec!["ssh-ed25519 AAAA".into()], ..Krl::default() };
        assert!(krl.to_bytes().unwrap_err().to_string().contains("ssh-ed25519 AAAA"));
    }
}
