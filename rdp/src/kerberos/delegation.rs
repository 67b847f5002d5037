//! The account as CredSSP delegates it (MS-CSSP 2.2.1.2), in buffers that are wiped.

use cofferdam_vault::SecretString;
use zeroize::Zeroizing;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const PASSWORD: u8 = 1;

/// TSCredentials with a password. `None` for texts that are longer than any there are.
pub(super) fn credentials(domain: &str, user: &str, password: &SecretString) -> Option<Zeroizing<Vec<u8>>> {
    let texts = [domain, user, password.expose()];
    let texts =
        texts.into_iter().zip(0..).map(|(text, number)| field(number, &der(OCTETS, &[&utf16(text)])?));
    let [domain, user, password]: [_; 3] = texts.collect::<Option<Vec<_>>>()?.try_into().ok()?;
    let account = der(SEQUENCE, &[&domain, &user, &password])?;
    let kind = field(0, &der(INTEGER, &[&[PASSWORD]])?)?;
    let account = field(1, &der(OCTETS, &[&account])?)?;
    der(SEQUENCE, &[&kind, &account])
}

fn field(number: u8, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    der(0xa0 | number, &[value])
}

/// One value in DER, in one allocation.
fn der(tag: u8, content: &[&[u8]]) -> Option<Zeroizing<Vec<u8>>> {
    let len = u16::try_from(content.iter().map(|part| part.len()).sum::<usize>()).ok()?;
    let mut value = Zeroizing::new(Vec::with_capacity(usize::from(len) + 4));
    value.push(tag);
    match len.to_be_bytes() {
        [0, short] if short < 0x80 => value.push(short),
        [0, short] => value.extend([0x81, short]),
        [high, low] => value.extend([0x82, high, low]),
    }
    content.iter().for_each(|part| value.extend_from_slice(part));
    Some(value)
}

fn utf16(text: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 2));
    text.encode_utf16().for_each(|unit| bytes.extend(unit.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_delegated_is_what_another_reader_of_it_reads() {
        for password in ["p", "Vault-Secret-1", "Schlüssel 🔑", &"long".repeat(300)] {
            let written = credentials("PLANT.EXAMPLE", "eng", &password.into()).unwrap();
            let read = sspi::credssp::read_ts_credentials(written.as_slice()).unwrap();
            let account = read.to_auth_identity().unwrap();
            assert_eq!(account.user.to_string(), "eng");
            assert_eq!(account.domain.to_string(), "PLANT.EXAMPLE");
            assert_eq!(account.password.as_ref().as_ref().to_string(), password);
        }
        assert!(credentials("D", "u", &"x".repeat(40_000).into()).is_none());
    }
}
