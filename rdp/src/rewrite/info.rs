//! The Client Info PDU (MS-RDPBCGR 2.2.1.11): the person's log-in goes, the account's comes.

use std::fmt;

use cofferdam_vault::SecretString;
use zeroize::Zeroizing;

use super::Broken;
use crate::{back::BackConfig, credssp::utf16, wire::Reader};

/// `SEC_INFO_PKT`.
const SEC_INFO: u16 = 0x0040;
/// `SEC_ENCRYPT`.
const SEC_ENCRYPT: u16 = 0x0008;

const UNICODE: u32 = 0x10;
const AUTOLOGON: u32 = 0x8;
const NO_AUDIO: u32 = 0x0008_0000;

/// What of the client's flags says something about a keyboard, a mouse or a desktop, and nothing about channels: mouse,
/// no Ctrl+Alt+Del, Unicode, maximised, log-on notification, Windows key, log-on errors, wheel. Not: compression, audio,
/// remote applications, smart cards, saved credentials.
const KEPT: u32 = 0x1 | 0x2 | UNICODE | 0x20 | 0x40 | 0x100 | 0x0001_0000 | 0x0002_0000;

/// A time zone (MS-RDPBCGR 2.2.1.11.1.1.1).
const TIME_ZONE: usize = 172;

/// The target's Client Info in place of the client's. Everything that the client says about a user, a shell, a folder, an
/// address or a session to come back to is left out; code page, language of the keyboard, time zone and experience stay.
pub(crate) fn client_info(
    payload: &[u8],
    account: &BackConfig,
    sound: bool,
) -> Result<Zeroizing<Vec<u8>>, Broken> {
    let theirs = parse(payload).ok_or(Broken("client info"))?;
    let mut out = Zeroizing::new(Vec::with_capacity(512));
    out.extend([SEC_INFO.to_le_bytes(), [0, 0]].concat());
    out.extend(theirs.code_page.to_le_bytes());
    let flags = (theirs.flags & KEPT) | AUTOLOGON | if sound { 0 } else { NO_AUDIO };
    out.extend(flags.to_le_bytes());
    // Domain, user, password, shell, folder: lengths first, without their ends; the ends follow each text.
    let texts = [account.domain.as_deref().unwrap_or(""), &account.user, account.password.expose(), "", ""];
    for text in texts {
        let len =
            u16::try_from(text.encode_utf16().count() * 2).map_err(|_| Broken("length of the account"))?;
        out.extend(len.to_le_bytes());
    }
    for text in texts {
        for unit in text.encode_utf16().chain([0]) {
            out.extend(unit.to_le_bytes());
        }
    }
    // The address of the client is none of the target's business: AF_INET, and two empty texts.
    out.extend([2, 0, 2, 0, 0, 0, 2, 0, 0, 0]);
    out.extend(theirs.time_zone);
    out.extend([0; 4]);
    out.extend(theirs.performance.to_le_bytes());
    // No cookie to reconnect with.
    out.extend([0; 2]);
    Ok(out)
}

/// What a client without NLA typed, and its Client Info without any of that.
pub(crate) struct Typed {
    pub(crate) user: String,
    pub(crate) password: SecretString,
    /// As [`client_info`] takes it.
    pub(crate) rest: Vec<u8>,
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Longest user name or password that is looked at, bytes of UTF-16; the document has 512.
const TYPED: usize = 512;

/// Reads what a client without NLA typed. Its domain is nobody's business.
pub(crate) fn typed(payload: &[u8]) -> Result<Typed, Broken> {
    let broken = Broken("client info");
    let theirs = parse(payload).ok_or(broken)?;
    let [_, user, password, ..] = theirs.texts;
    if user.len().max(password.len()) > TYPED {
        return Err(broken);
    }
    let password = SecretString::new(utf16(password).ok_or(broken)?);
    Ok(Typed { user: utf16(user).ok_or(broken)?, password, rest: theirs.without_texts() })
}

struct Theirs<'a> {
    code_page: u32,
    flags: u32,
    time_zone: &'a [u8],
    performance: u32,
    /// Domain, user, password, shell, folder, without their ends.
    texts: [&'a [u8]; 5],
}

impl Theirs<'_> {
    /// The PDU again, with texts that say nothing.
    fn without_texts(&self) -> Vec<u8> {
        let mut out = [SEC_INFO.to_le_bytes(), [0, 0]].concat();
        out.extend(self.code_page.to_le_bytes());
        out.extend(self.flags.to_le_bytes());
        // Five lengths, five ends, an address family and two texts of nothing.
        out.extend([0; 10 + 10 + 6]);
        out.extend(self.time_zone);
        out.extend([0; 4]);
        out.extend(self.performance.to_le_bytes());
        out.extend([0; 2]);
        out
    }
}

fn parse(payload: &[u8]) -> Option<Theirs<'_>> {
    let mut at = Reader(payload);
    let security = at.u16()?;
    at.u16()?;
    if security & SEC_INFO == 0 || security & SEC_ENCRYPT != 0 {
        return None;
    }
    let (code_page, flags) = (at.u32()?, at.u32()?);
    let end = if flags & UNICODE != 0 { 2 } else { return None };
    let lengths = [at.u16()?, at.u16()?, at.u16()?, at.u16()?, at.u16()?];
    let mut texts: [&[u8]; 5] = [&[]; 5];
    for (text, len) in texts.iter_mut().zip(lengths) {
        *text = at.take(usize::from(len))?;
        at.take(end)?;
    }
    let mut theirs = Theirs { code_page, flags, time_zone: &[0; TIME_ZONE], performance: 0, texts };
    // All of this is optional, each part behind the one before.
    let mut extra = || -> Option<()> {
        at.u16()?;
        for _ in 0..2 {
            let len = at.u16()?;
            at.take(len.into())?;
        }
        theirs.time_zone = at.take(TIME_ZONE)?;
        at.u32()?;
        theirs.performance = at.u32()?;
        Some(())
    };
    extra();
    Some(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account() -> BackConfig {
        BackConfig { domain: Some("PLANT".to_owned()), ..crate::fuzzing::account() }
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    /// A client's, with all that must not get through.
    fn theirs() -> Vec<u8> {
        let mut pdu = vec![0x40, 0, 0, 0];
        pdu.extend(0x0409_u32.to_le_bytes());
        // Compression, audio capture, remote applications, smart card, saved credentials; and what stays.
        pdu.extend(
            (0x80_u32 | 0x0600 | 0x20_0000 | 0x8000 | 0x4_0000 | 0x10_0000 | 0x3 | UNICODE | 0x100)
                .to_le_bytes(),
        );
        let texts = ["EVIL", "vera", "token", "cmd.exe", "C:\\"];
        for text in texts {
            pdu.extend(u16::try_from(text.len() * 2).unwrap().to_le_bytes());
        }
        pdu.extend(texts.iter().flat_map(|text| wide(text)));
        pdu.extend([2, 0]);
        for text in ["10.1.2.3", "C:\\client"] {
            pdu.extend(u16::try_from(wide(text).len()).unwrap().to_le_bytes());
            pdu.extend(wide(text));
        }
        pdu.extend([0x5a; TIME_ZONE]);
        pdu.extend([0, 0, 0, 0, 7, 0, 0, 0, 28, 0]);
        pdu.extend([0xcc; 28]);
        pdu
    }

    fn has(pdu: &[u8], text: &str) -> bool {
        let text: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        pdu.windows(text.len()).any(|window| window == text)
    }

    #[test]
    fn the_account_takes_the_place_of_the_person_and_of_all_that_they_ask_for() {
        let pdu = client_info(&theirs(), &account(), false).unwrap();
        for gone in ["EVIL", "vera", "token", "cmd.exe", "10.1.2.3", "client"] {
            assert!(!has(&pdu, gone), "{gone}");
        }
        assert!(!pdu.windows(28).any(|window| window == [0xcc; 28]), "the cookie");
        for there in ["PLANT", "svc-eng", "Vault-Secret-1"] {
            assert!(has(&pdu, there), "{there}");
        }
        let flags = crate::wire::u32_at(&pdu, 8).unwrap();
        assert_eq!(flags, 0x3 | UNICODE | 0x100 | AUTOLOGON | NO_AUDIO);
        let read = parse(&pdu).unwrap();
        assert_eq!(
            (read.code_page, read.time_zone, read.performance),
            (0x0409, [0x5a; TIME_ZONE].as_slice(), 7)
        );
    }

    #[test]
    fn what_is_no_client_info_is_refused() {
        let mut encrypted = theirs();
        encrypted[0] |= 8;
        assert!(client_info(&encrypted, &account(), false).is_err());
        assert!(client_info(&theirs()[..30], &account(), false).is_err());
        let mut ansi = theirs();
        ansi[8] &= !0x10;
        assert!(client_info(&ansi, &account(), false).is_err());
    }

    #[test]
    fn what_was_typed_is_read_once_and_is_in_nothing_that_is_kept() {
        let read = typed(&theirs()).unwrap();
        assert_eq!((read.user.as_str(), read.password.expose()), ("vera", "token"));
        assert!(!format!("{read:?}").contains("token"));
        for gone in ["EVIL", "vera", "token", "cmd.exe", "10.1.2.3", "client"] {
            assert!(!has(&read.rest, gone), "{gone}");
        }
        // What is kept makes the same PDU for the target as what came.
        let [kept, came] = [&read.rest, &theirs()].map(|pdu| client_info(pdu, &account(), false).unwrap());
        assert_eq!(kept, came);
        let mut endless = theirs();
        crate::wire::put(&mut endless, 16, &0xfffe_u16.to_le_bytes());
        assert!(typed(&endless).is_err());
        let mut odd = theirs();
        let at = 22 + 2 * ("EVIL".len() + 1);
        crate::wire::put(&mut odd, at, &[0, 0xd8]);
        assert!(typed(&odd).is_err(), "half a character");
    }

    #[test]
    fn the_short_form_of_old_clients_is_enough() {
        let end = 4 + 8 + 10 + 5 * 2 + 2 * "EVILveratokencmd.exeC:\\".len();
        let pdu = client_info(&theirs()[..end], &account(), false).unwrap();
        assert_eq!(parse(&pdu).unwrap().time_zone, [0; TIME_ZONE]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 0usize..400) {
            drop(client_info(&bytes, &account(), false));
            drop(client_info(&[[0x40, 0, 0, 0].as_slice(), &bytes].concat(), &account(), true));
            let theirs = theirs();
            drop(client_info(&theirs[..cut.min(theirs.len())], &account(), false));
            drop(typed(&theirs[..cut.min(theirs.len())]));
        }
    }
}
