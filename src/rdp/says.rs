//! What a target says at the end of a desktop (`errorInfo`, MS-RDPBCGR 2.2.5.1.1), in words with what to do.

use cofferdam_access::ids::Name;
use cofferdam_rdp::{RelayError, WireError};

use crate::session::end::End;

/// How a desktop ended that its target closed, with the reason that it gave.
pub(super) fn target_left(error_info: Option<u32>) -> End {
    match error_info.and_then(|code| Some((code, words(code)?))) {
        Some((code, words)) => End::TargetFailed {
            why: format!("the target ended the connection ({code:#x}): {words}"),
            sentence: format!("session ended by the desktop's machine: {words}"),
        },
        None => End::TargetClosed,
    }
}

/// For the person and the operator; nothing where somebody logged off, or just left.
pub(super) fn words(code: u32) -> Option<&'static str> {
    Some(match code {
        0 | 0xb | 0xc => return None,
        1 | 2 => "somebody who administers it ended the session there; ask the site before you connect again",
        3 => "it ends sessions without input earlier than the window does; connect again to go on",
        4 => "its own time limit for sessions is over; connect again to go on",
        5 => "somebody else logged in with the same account; agree with them, then connect again",
        6 => "it has no memory left; tell the site",
        7 | 9 => {
            "it does not let the account log in by remote desktop; the site's administrator has to allow that there"
        }
        8 => "it could not make a session; try again, then tell the site",
        0xa => {
            "it wants credentials that are fresh; the site's administrator has to look at the account's secret"
        }
        0x10..=0x17 => "it could not start the desktop; try again, then tell the site",
        0x100..=0x10a => {
            "its licensing refuses the connection; the site's administrator has to look at its licence server"
        }
        0x400..=0x411 => {
            "its connection broker could not give a desktop; the site's administrator has to look at it"
        }
        _ => "it gave a reason that only its administrator can read; the gateway's log has the code",
    })
}

/// A target's message at log-on (MS-RDPBCGR 2.2.10.1.1.4.1.1), for the person and the operator; nothing where it only says that
/// it goes on.
pub(super) fn log_on(kind: u32, data: u32) -> Option<&'static str> {
    Some(match (kind, data) {
        (0xffff_fffe, _) => return None,
        (0xffff_fff8, _) => "the session there is busy with something else; try again in a few minutes",
        (0xffff_fff9, _) => {
            "whoever is logged in there was asked to leave and refuses; agree with them, then connect again"
        }
        (0xffff_fffa, _) => {
            "the account may not take over from whoever is logged in there; agree with them, then connect again"
        }
        (0xffff_fffb, _) => "somebody else is logged in there; its screen asks whose session ends",
        (0xffff_fffc, _) => "the account has several sessions there; choose one on its screen",
        (0xffff_fffd, _) => "it ends the session; connect again, then tell the site",
        (_, 0) => "it refuses the account's secret; the site's administrator has to look at it in the vault",
        (_, 1) => "the account's secret has expired there; the site's administrator has to have it changed",
        (_, 3) => "it shows a warning before the log-in; read it on its screen",
        _ => {
            "it could not log the account in; its screen has the reason, which the site's administrator needs"
        }
    })
}

/// How a session ended whose client was gone before there was a desktop.
pub(super) fn gone(error: WireError) -> End {
    match error {
        WireError::Malformed(what) => {
            client_broke(format!("a client that waits for its desktop: malformed {what}"))
        }
        WireError::Closed | WireError::Io(_) => End::Closed,
    }
}

/// How a session ended whose target let the account in and never came to a desktop.
pub(super) fn no_desktop(asset: &Name) -> End {
    End::TargetFailed {
        why: format!("{asset}: it let the account in, and shows no desktop"),
        sentence: format!("{asset} shows no desktop; check with the site that it is running, then try again"),
    }
}

fn client_broke(why: String) -> End {
    let sentence = "session ended: your client sent what the gateway does not let through; update it, or use another one";
    End::ClientFailed { why, sentence: sentence.to_owned() }
}

/// How a desktop ended on which one side broke the protocol.
pub(super) fn broken(error: &RelayError) -> End {
    let why = format!("the relay of a desktop: {error}");
    let sentence = match error {
        RelayError::Client(_) => return client_broke(why),
        RelayError::Target(broken) if broken.is_redirection() => {
            "session ended: the desktop's machine sends people on to another one; the site's administrator has to describe \
             that one as the asset"
        }
        RelayError::Target(_) => {
            "session ended: the desktop's machine sent what the gateway does not let through; tell the site's administrator"
        }
    };
    End::TargetFailed { why, sentence: sentence.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_hung_up_has_closed_and_a_client_that_broke_the_protocol_is_told_so() {
        assert_eq!(gone(WireError::Closed), End::Closed);
        assert!(matches!(gone(WireError::Malformed("PDU")), End::ClientFailed { .. }));
    }

    #[test]
    fn messages_at_log_on_have_words_unless_it_just_goes_on() {
        assert_eq!(log_on(0xffff_fffe, 0), None);
        assert!(log_on(2, 0).is_some_and(|words| words.contains("refuses the account's secret")));
        assert!(log_on(0xffff_fffb, 0).is_some_and(|words| words.contains("somebody else is logged in")));
        let all = (0xffff_fff0..=u32::MAX).chain(0..9).flat_map(|kind| (0..9).map(move |data| (kind, data)));
        for words in all.filter_map(|(kind, data)| log_on(kind, data)) {
            assert!(words.starts_with(char::is_lowercase) && !words.contains("0x"), "{words}");
        }
    }

    #[test]
    fn whoever_logged_off_left_and_every_other_reason_has_words() {
        for code in [None, Some(0), Some(0xc)] {
            assert!(matches!(target_left(code), End::TargetClosed), "{code:?}");
        }
        for code in [1, 5, 7, 0x104, 0x10c9] {
            let End::TargetFailed { why, sentence } = target_left(Some(code)) else { panic!("{code}") };
            assert!(why.contains(&format!("{code:#x}")) && !sentence.contains("0x"), "{why}, {sentence}");
        }
    }
}
