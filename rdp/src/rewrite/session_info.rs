//! Save Session Info (MS-RDPBCGR 2.2.10.1): the account's name and the cookie to reconnect with stay here.

use super::Broken;
use crate::wire::{Reader, u32_at};

/// `INFOTYPE_LOGON_PLAINNOTIFY`.
const PLAIN_NOTIFY: u32 = 2;
/// `INFOTYPE_LOGON_EXTENDED_INFO`.
const EXTENDED: u32 = 3;
/// `LOGON_EX_AUTORECONNECTCOOKIE`.
const COOKIE: u32 = 1;
/// `LOGON_EX_LOGONERRORS`.
const ERRORS: u32 = 2;

/// What became of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionInfo {
    /// Somebody is logged on; the client is told without a name.
    LoggedOn { body: Vec<u8> },
    /// An error of the log-on, which the client is told.
    Error { body: Vec<u8>, kind: u32, data: u32 },
    /// Nothing is left.
    Nothing,
}

/// The body for the client, and whether there was a cookie.
pub(crate) fn save_session_info(body: &[u8]) -> Result<(SessionInfo, bool), Broken> {
    let kind = u32_at(body, 0).ok_or(Broken("save session info"))?;
    match kind {
        0..=PLAIN_NOTIFY => {
            // 576 bytes of padding belong to it (MS-RDPBCGR 2.2.10.1.1.3).
            let mut body = PLAIN_NOTIFY.to_le_bytes().to_vec();
            body.resize(4 + 576, 0);
            Ok((SessionInfo::LoggedOn { body }, false))
        }
        EXTENDED => extended(body.get(4..).unwrap_or_default()).ok_or(Broken("save session info")),
        _ => Ok((SessionInfo::Nothing, false)),
    }
}

fn extended(body: &[u8]) -> Option<(SessionInfo, bool)> {
    let mut at = Reader(body);
    at.u16()?;
    let fields = at.u32()?;
    if fields & COOKIE != 0 {
        let len = at.u32()?;
        at.take(usize::try_from(len).ok()?)?;
    }
    let cookie = fields & COOKIE != 0;
    if fields & ERRORS == 0 {
        return Some((SessionInfo::Nothing, cookie));
    }
    at.u32()?;
    let (kind, data) = (at.u32()?, at.u32()?);
    let mut body = EXTENDED.to_le_bytes().to_vec();
    // Length of all fields: its own two bytes, the flags, one field of twelve; then 570 bytes of padding.
    body.extend(18_u16.to_le_bytes());
    body.extend([ERRORS, 8, kind, data].map(u32::to_le_bytes).concat());
    body.resize(4 + 18 + 570, 0);
    Some((SessionInfo::Error { body, kind, data }, cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_accounts_name_nor_the_cookie_gets_through() {
        let secret: Vec<u8> = "PLANT\\svc-eng".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for kind in [0_u32, 1, 2] {
            let body = [kind.to_le_bytes().as_slice(), &secret].concat();
            let (SessionInfo::LoggedOn { body }, false) = save_session_info(&body).unwrap() else { panic!() };
            assert_eq!(body.len(), 580);
            assert!(body[4..].iter().all(|byte| *byte == 0));
        }
        let cookie = [[28, 0, 0, 0].as_slice(), &[0xaa; 28]].concat();
        let body = [[3, 0, 0, 0, 38, 0, 1, 0, 0, 0].as_slice(), &cookie, &[0; 570]].concat();
        assert_eq!(save_session_info(&body), Ok((SessionInfo::Nothing, true)));
        let errors = [[8, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 7]].concat();
        let body = [[3, 0, 0, 0, 50, 0, 3, 0, 0, 0].as_slice(), &cookie, &errors].concat();
        let (SessionInfo::Error { body, kind, data }, true) = save_session_info(&body).unwrap() else {
            panic!()
        };
        assert_eq!((kind, data), (2, 0x0700_0000));
        assert!(!body.windows(4).any(|four| four == [0xaa; 4]));
        assert!(save_session_info(&[3, 0, 0, 0, 1]).is_err());
    }
}
