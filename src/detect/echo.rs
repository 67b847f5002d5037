//! Which typed bytes may be stored readable: those that the target showed back.
//!
//! The caller records input masked. What is proven here is safe to unmask: it stands in the output anyway. When in
//! doubt a byte stays masked for good.
//!
//! - A typed character is proven when it is the very next text that the target shows. Other text in between ends
//!   the proof until the person types again, so that a busy screen cannot prove a password by chance.
//! - At a password prompt nothing is proven until the target has shown the next line feed.
//! - What was typed before a return and not echoed before the line feed that follows stays masked.
//! - Control keys (arrows, ^C, return) carry no secret and are proven at once, except at a password prompt.

use std::collections::VecDeque;

use super::vt::{Token, Vt};

/// Typed bytes that may wait for their echo; older ones stay masked.
const MAX_WAITING: usize = 4096;
/// The part of the current line that is looked at for a prompt.
const MAX_PROMPT: usize = 256;
/// Longest control key that is recognised.
const MAX_KEY: usize = 32;

/// Words that make a line a prompt for a secret, in lower case.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "kennwort",
    "pin",
    "puk",
    "verification code",
    "one-time",
    "otp",
    "token",
    "secret",
    "security code",
    "authenticator",
    "2fa",
    "mfa",
    "mot de passe",
    "contraseña",
    "clave",
    "senha",
    "palavra-passe",
    "parola d'ordine",
    "wachtwoord",
    "hasło",
    "heslo",
    "lösenord",
    "adgangskode",
    "salasana",
    "jelszó",
    "parolă",
    "şifre",
    "parola",
    "пароль",
    "密码",
    "密碼",
    "パスワード",
    "암호",
    "비밀번호",
    "geheim",
    "response",
    "challenge",
    "api key",
    "private key",
    "community string",
    "enable secret",
];

/// Typed bytes that may be stored readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proven {
    /// Where they stand in everything that was typed since the guard was made, in bytes.
    pub(crate) at: u64,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

/// Watches one terminal.
#[derive(Debug, Default)]
pub(crate) struct EchoGuard {
    vt: Vt,
    /// Typed and not yet echoed; a return stands as itself.
    waiting: VecDeque<(u64, u8)>,
    typed: u64,
    /// The next text may be an echo.
    expecting: bool,
    /// Characters that a redraw goes over again before new text comes.
    redraw: usize,
    line: Vec<u8>,
    secret: bool,
    /// A control key that has begun, with the position of its first byte.
    key: Option<(u64, Vec<u8>)>,
}

impl EchoGuard {
    /// Nothing typed, nothing shown.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Whether the target is asking for a secret now.
    #[cfg(test)]
    pub(crate) fn at_secret_prompt(&self) -> bool {
        self.secret
    }

    /// The person typed `data`. Returns the control keys in it.
    pub(crate) fn typed(&mut self, data: &[u8]) -> Vec<Proven> {
        let mut proven = Vec::new();
        for byte in data {
            let at = self.typed;
            self.typed += 1;
            if self.secret {
                self.key = None;
                continue;
            }
            self.expecting = true;
            self.redraw = 0;
            if let Some((start, mut key)) = self.key.take() {
                self.continue_key(start, &mut key, at, *byte, &mut proven);
            } else {
                self.key_or_text(at, *byte, &mut proven);
            }
        }
        proven
    }

    /// The target showed `data`. Returns what that proves.
    pub(crate) fn shown(&mut self, data: &[u8]) -> Vec<Proven> {
        let mut proven = Vec::new();
        for byte in data {
            match self.vt.feed(*byte) {
                Token::Text(byte) => self.text(byte, &mut proven),
                Token::Control(b'\n') => self.line_feed(),
                Token::Control(b'\r') => self.redraw = 0,
                Token::Control(0x08) => {
                    self.redraw += 1;
                    self.line.pop();
                }
                _ => {}
            }
        }
        proven
    }

    fn key_or_text(&mut self, at: u64, byte: u8, proven: &mut Vec<Proven>) {
        match byte {
            0x1b => self.key = Some((at, vec![byte])),
            b'\r' | b'\n' => {
                self.wait(at, b'\r');
                prove(proven, at, byte);
            }
            0x00..0x20 | 0x7f => prove(proven, at, byte),
            _ => self.wait(at, byte),
        }
    }

    /// `ESC [ … final` and `ESC O x` are keys; what else follows an ESC is text of its own.
    fn continue_key(&mut self, start: u64, key: &mut Vec<u8>, at: u64, byte: u8, proven: &mut Vec<Proven>) {
        let begun = match (key.as_slice(), byte) {
            ([_], b'[' | b'O') => true,
            ([_, b'['], b'[') => true,
            ([_, b'[', ..], 0x20..=0x3f) => key.len() < MAX_KEY,
            _ => false,
        };
        if begun {
            key.push(byte);
            self.key = Some((start, std::mem::take(key)));
            return;
        }
        let ends = matches!((key.as_slice(), byte), ([_, b'[' | b'O', ..], 0x40..=0x7e));
        if ends {
            key.push(byte);
        }
        // A key that broke off proves its ESC only.
        let known = if ends { key.len() } else { 1 };
        for (i, byte) in key.iter().take(known).enumerate() {
            prove(proven, start + i as u64, *byte);
        }
        if !ends {
            self.key_or_text(at, byte, proven);
        }
    }

    fn wait(&mut self, at: u64, byte: u8) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((at, byte));
    }

    fn text(&mut self, byte: u8, proven: &mut Vec<Proven>) {
        if self.line.len() >= MAX_PROMPT {
            self.line.drain(..MAX_PROMPT / 2);
        }
        self.line.push(byte);
        if self.redraw > 0 {
            self.redraw -= 1;
        } else if self.expecting {
            match self.waiting.front() {
                Some((at, waiting)) if *waiting == byte => {
                    prove(proven, *at, byte);
                    self.waiting.pop_front();
                }
                _ => self.expecting = false,
            }
        }
        if !self.secret && asks_for_secret(&self.line) {
            self.secret = true;
            self.waiting.clear();
            self.key = None;
        }
    }

    fn line_feed(&mut self) {
        self.line.clear();
        self.redraw = 0;
        self.secret = false;
        // Up to the return that this line feed answers; without one it is output.
        if let Some(end) = self.waiting.iter().position(|(_, byte)| *byte == b'\r') {
            self.waiting.drain(..=end);
        }
    }
}

fn prove(proven: &mut Vec<Proven>, at: u64, byte: u8) {
    match proven.last_mut() {
        Some(last) if last.at + last.bytes.len() as u64 == at => last.bytes.push(byte),
        _ => proven.push(Proven { at, bytes: vec![byte] }),
    }
}

/// A line that ends in a colon or question mark and speaks of a secret.
fn asks_for_secret(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    if !(line.ends_with(b":")
        || line.ends_with(b"?")
        || line.ends_with(b">")
        || line.ends_with("：".as_bytes()))
    {
        return false;
    }
    let line = String::from_utf8_lossy(line).to_lowercase();
    SECRET_WORDS.iter().any(|word| {
        line.match_indices(word).any(|(at, _)| {
            // Short words only as whole words: "pin" is not in "spinning".
            let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            word.len() > 5
                || !word.is_ascii()
                || !(letter(line.get(..at).and_then(|s| s.chars().next_back()))
                    || letter(line.get(at + word.len()..).and_then(|s| s.chars().next())))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(proven: Vec<Proven>) -> Vec<u8> {
        proven.into_iter().flat_map(|p| p.bytes).collect()
    }

    #[test]
    fn an_echoed_command_is_proven_and_a_password_is_not() {
        let mut guard = EchoGuard::new();
        guard.shown(b"vera@hmi:~$ ");
        assert_eq!(guard.typed(b"su"), []);
        assert_eq!(guard.shown(b"su"), [Proven { at: 0, bytes: b"su".to_vec() }]);
        assert_eq!(guard.typed(b"\r"), [Proven { at: 2, bytes: b"\r".to_vec() }]);
        assert_eq!(guard.shown(b"\r\nPassword: "), []);
        assert!(guard.at_secret_prompt());
        assert_eq!(guard.typed(b"hunter2\r"), []);
        assert_eq!(guard.shown(b"hunter2"), [], "even when a target shows it");
        guard.shown(b"\r\n# ");
        guard.typed(b"id");
        assert_eq!(guard.shown(b"id"), [Proven { at: 11, bytes: b"id".to_vec() }]);
    }

    #[test]
    fn prompts_in_several_languages_are_known() {
        for prompt in [
            "[sudo] password for vera: ",
            "Passwort: ",
            "Kennwort:",
            "Mot de passe : ",
            "Contraseña: ",
            "Enter PIN:",
            "Verification code: ",
            "One-time password (OATH) for `v': ",
            "Enter passphrase for key '/x': ",
            "密码：",
            "Token? ",
            "(current) UNIX password: ",
            "Пароль: ",
            "Geheim:",
        ] {
            let mut guard = EchoGuard::new();
            guard.shown(prompt.as_bytes());
            assert!(guard.at_secret_prompt(), "{prompt}");
        }
        for other in ["vera@hmi:~$ ", "Spinning: ", "Name: ", "password changed", "C:\\> "] {
            let mut guard = EchoGuard::new();
            guard.shown(other.as_bytes());
            assert!(!guard.at_secret_prompt(), "{other}");
        }
    }

    #[test]
    fn a_secret_typed_without_echo_or_ahead_of_its_prompt_stays_masked() {
        let mut guard = EchoGuard::new();
        guard.typed(b"s3cret\r");
        assert_eq!(guard.shown(b"\r\n"), []);
        assert_eq!(bytes(guard.shown(b"s3cret")), b"");
        guard.typed(b"early");
        guard.shown(b"Password: ");
        assert_eq!(guard.shown(b"\r\nearly"), []);
    }

    #[test]
    fn a_busy_screen_does_not_prove_by_chance() {
        let mut guard = EchoGuard::new();
        guard.typed(b"abc");
        assert_eq!(guard.shown(b"x a b c abc"), []);
        guard.typed(b"d");
        assert_eq!(bytes(guard.shown(b"a")), b"a");
    }

    #[test]
    fn control_keys_are_proven_at_once_and_a_redraw_does_not_hide_the_echo() {
        let mut guard = EchoGuard::new();
        assert_eq!(bytes(guard.typed(b"\x1b[A\x1bOP\x03\x1b[3~")), b"\x1b[A\x1bOP\x03\x1b[3~");
        assert_eq!(bytes(guard.typed(b"\x1bx")), b"\x1b");
        let mut guard = EchoGuard::new();
        guard.typed(b"l");
        assert_eq!(bytes(guard.shown(b"\x1b[4ml\x1b[0m")), b"l");
        guard.typed(b"s");
        assert_eq!(bytes(guard.shown(b"\x08\x1b[32mls\x1b[0m")), b"s");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_proven_was_typed(
            script in proptest::collection::vec((any::<bool>(), proptest::collection::vec(prop_oneof![
                Just(b'a'), Just(b'b'), Just(b'\r'), Just(b'\n'), Just(0x1b), Just(b'['), Just(8), any::<u8>()
            ], 0..20)), 0..20),
            cut in 1usize..5,
        ) {
            let mut typed = Vec::new();
            let (mut whole, mut pieces) = (EchoGuard::new(), EchoGuard::new());
            for (person, data) in script {
                let (mut one, mut two) = (Vec::new(), Vec::new());
                if person {
                    typed.extend_from_slice(&data);
                    one.extend(whole.typed(&data));
                    data.chunks(cut).for_each(|part| two.extend(pieces.typed(part)));
                } else {
                    one.extend(whole.shown(&data));
                    data.chunks(cut).for_each(|part| two.extend(pieces.shown(part)));
                }
                for proven in &one {
                    let at = proven.at as usize;
                    prop_assert_eq!(&typed[at..at + proven.bytes.len()], &proven.bytes[..]);
                }
                prop_assert_eq!(bytes(one), bytes(two));
                prop_assert!(whole.waiting.len() <= MAX_WAITING && whole.line.len() <= MAX_PROMPT);
            }
        }
    }
}
