//! What a client says to a licence server (MS-RDPELE): it names its user there, too.

use super::Broken;
use crate::wire::Reader;

/// `NEW_LICENSE_REQUEST` (2.2.2.2).
const NEW_REQUEST: u8 = 0x13;
/// Before the secret of the key exchange: security header, preamble, two words and the client's random number.
const HEAD: usize = 4 + 4 + 4 + 4 + 32;
/// `BB_CLIENT_USER_NAME_BLOB`.
const USER_NAME: u16 = 0x000f;

/// The client's message for the target: with the account's name in place of the person's, where it has one.
pub(crate) fn of_client(payload: &[u8], user: &str) -> Result<Vec<u8>, Broken> {
    if payload.get(4) != Some(&NEW_REQUEST) {
        return Ok(payload.to_vec());
    }
    renamed(payload, user).ok_or(Broken("licence request"))
}

fn renamed(payload: &[u8], user: &str) -> Option<Vec<u8>> {
    let mut at = Reader(payload);
    let mut out = at.take(HEAD)?.to_vec();
    let (kind, secret) = blob(&mut at)?;
    put_blob(&mut out, kind, secret)?;
    let (kind, _) = blob(&mut at)?;
    if kind != USER_NAME {
        return None;
    }
    put_blob(&mut out, kind, &[user.as_bytes(), &[0]].concat())?;
    // The machine's name, which the target has from the Connect Initial.
    let (kind, machine) = blob(&mut at)?;
    put_blob(&mut out, kind, machine)?;
    let size = u16::try_from(out.len().checked_sub(4)?).ok()?;
    crate::wire::put(&mut out, 6, &size.to_le_bytes());
    Some(out)
}

/// A binary blob (MS-RDPBCGR 2.2.1.12.1.2): its type, and what is in it.
fn blob<'a>(at: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    let (kind, len) = (at.u16()?, at.u16()?);
    Some((kind, at.take(len.into())?))
}

fn put_blob(out: &mut Vec<u8>, kind: u16, data: &[u8]) -> Option<()> {
    out.extend(kind.to_le_bytes());
    out.extend(u16::try_from(data.len()).ok()?.to_le_bytes());
    out.extend(data);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Vec<u8> {
        let mut pdu = vec![0x80, 0, 0, 0, NEW_REQUEST, 3, 0, 0];
        pdu.extend([7; 40]);
        put_blob(&mut pdu, 2, &[9; 72]).unwrap();
        put_blob(&mut pdu, USER_NAME, b"vera+eng-ws\0").unwrap();
        put_blob(&mut pdu, 0x10, b"VERA-PC\0").unwrap();
        pdu
    }

    #[test]
    fn a_licence_is_asked_for_in_the_accounts_name() {
        let passed = of_client(&request(), "svc-eng").unwrap();
        let mut wanted = vec![0x80, 0, 0, 0, NEW_REQUEST, 3, 0, 0];
        wanted.extend([7; 40]);
        put_blob(&mut wanted, 2, &[9; 72]).unwrap();
        put_blob(&mut wanted, USER_NAME, b"svc-eng\0").unwrap();
        put_blob(&mut wanted, 0x10, b"VERA-PC\0").unwrap();
        let size = u16::try_from(wanted.len() - 4).unwrap();
        wanted[6..8].copy_from_slice(&size.to_le_bytes());
        assert_eq!(passed, wanted);
        let other = [0x80, 0, 0, 0, 0xff, 3, 16, 0, 7, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0];
        assert_eq!(of_client(&other, "svc-eng").unwrap(), other);
        for cut in 5..request().len() {
            assert!(of_client(&request()[..cut], "svc-eng").is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200, value: u8) {
            drop(of_client(&bytes, "svc-eng"));
            let mut pdu = request();
            crate::wire::put(&mut pdu, at, &[value]);
            drop(of_client(&pdu, "svc-eng"));
        }
    }
}
