//! Why a session ended, in words for a page.

/// For the code that store and audit have. One that is not known here is read as it is written.
pub(super) fn in_words(code: &str) -> String {
    match code {
        "closed" => "closed by the person",
        "target_closed" => "closed by the target",
        "idle" => "no input for too long",
        "recorder_failed" => "it could not be recorded any longer",
        "killed" => "stopped by somebody of the site",
        "finding" => "what happened in it did not fit the approved work",
        "target_failed" => "the target could not be reached, or refused or broke the connection",
        "client_failed" => "the client said what is not let through",
        "shutdown" => "the gateway was stopped",
        "crash" => "the gateway broke off",
        "internal" => "a fault in the gateway",
        "window_ended" => "the window was over",
        "window_revoked" => "the window was ended early",
        "window_shortened" => "the window was shortened",
        "token_for_another_window" => "the token was for another window",
        "user_disabled" => "the person was disabled",
        "policy" => "policy no longer allowed it",
        other => return other.replace('_', " "),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_readable() {
        assert_eq!(in_words("idle"), "no input for too long");
        assert_eq!(in_words("conduit_gone"), "conduit gone");
        assert_eq!(in_words(""), "");
    }
}
