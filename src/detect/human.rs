//! Which bytes of a terminal's input a person caused. A terminal also answers by itself: where the cursor stands, what
//! it is, that its window got the focus. A program that asks it again and again must not keep a session alive.
//!
//! When in doubt the person counts: this guards against a session that nobody ends, not against a client that lies.

use super::vt::{State, Token, Vt};

/// Longest answer in a string (a colour, a version) that is believed, bytes.
const MAX_STRING: usize = 1024;

/// Follows what one terminal sends.
#[derive(Debug, Default)]
pub(crate) struct HumanInput {
    vt: Vt,
    string: usize,
}

impl HumanInput {
    /// The terminal sent `data`; whether any of it came from the person.
    pub(crate) fn typed(&mut self, data: &[u8]) -> bool {
        let mut human = false;
        for byte in data {
            human |= self.byte(*byte);
        }
        // The Escape key, unless an answer was cut behind its first byte.
        human || self.vt.state() == State::Escape
    }

    fn byte(&mut self, byte: u8) -> bool {
        let before = self.vt.state();
        match self.vt.feed(byte) {
            Token::Text(_) | Token::Control(_) => true,
            Token::Sequence { mark, params, last } => !is_answer(mark, params, last),
            Token::Nothing => match before {
                // Alt with a key.
                State::Escape => self.vt.state() == State::Ground,
                State::String => self.typed_in_string(byte),
                _ => {
                    self.string = 0;
                    false
                }
            },
        }
    }

    /// Alt with `]` or `P` looks like the begin of a string. No answer holds a return, and none is long.
    fn typed_in_string(&mut self, byte: u8) -> bool {
        self.string += 1;
        let typed = self.string > MAX_STRING || (byte < 0x20 && !matches!(byte, 0x07 | 0x1b));
        if typed {
            *self = Self::default();
        }
        typed
    }
}

/// What no key sends (xterm's control sequences).
fn is_answer(mark: u8, params: [u16; 4], last: u8) -> bool {
    match (mark, last) {
        // Where the cursor stands; the window's size; the state of a mode.
        (0 | b'?', b'R' | b'n') | (_, b't' | b'y') => true,
        // What the terminal is; what it can do with keys.
        (b'?' | b'>' | b'=', b'c') | (b'?', b'u') => true,
        // The focus came or went.
        (0, b'I' | b'O') => true,
        // Around what is pasted; the text itself counts.
        (0, b'~') => matches!(params.first(), Some(200 | 201)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWERS: &[&[u8]] = &[
        b"\x1b[24;80R",
        b"\x1b[?1;1R",
        b"\x1b[0n",
        b"\x1b[?62;1;6c",
        b"\x1b[>41;354;0c",
        b"\x1b[?2004;1$y",
        b"\x1b[8;24;80t",
        b"\x1b[I",
        b"\x1b[O",
        b"\x1b[?1u",
        b"\x1b]11;rgb:0000/0000/0000\x1b\\",
        b"\x1b]10;rgb:ffff/ffff/ffff\x07",
        b"\x1bP>|XTerm(390)\x1b\\",
        b"\x1b[200~\x1b[201~",
    ];
    const KEYS: &[&[u8]] = &[
        b"a",
        b"\r",
        b"\x03",
        b"\x1b",
        b"\x1b[A",
        b"\x1bOP",
        b"\x1b[15~",
        b"\x1b[1;5C",
        b"\x1bx",
        b"\x1b[97;5u",
        b"\x1b[<0;10;10M",
        b"\x1b[200~text\x1b[201~",
        "\u{e4}".as_bytes(),
    ];

    #[test]
    fn answers_of_the_terminal_are_not_the_person() {
        let mut input = HumanInput::default();
        for answer in ANSWERS {
            assert!(!input.typed(answer), "{answer:?}");
        }
        for answer in ANSWERS {
            assert!(!HumanInput::default().typed(answer), "{answer:?}");
        }
    }

    #[test]
    fn keys_are_the_person_also_right_behind_an_answer() {
        for key in KEYS {
            for answer in ANSWERS {
                let mut input = HumanInput::default();
                input.typed(answer);
                assert!(input.typed(key), "{key:?} behind {answer:?}");
                assert!(HumanInput::default().typed(&[answer, *key].concat()), "{key:?} with {answer:?}");
            }
        }
    }

    #[test]
    fn what_begins_like_an_answer_and_goes_on_as_typing_counts() {
        let mut input = HumanInput::default();
        input.typed(b"\x1b]");
        assert!(input.typed(b"ls\r"));
        assert!(input.typed(b"l"));
        input.typed(b"\x1bP");
        assert!(input.typed(&[b'x'; MAX_STRING + 1]));
    }

    proptest! {
        #[test]
        fn an_answer_in_pieces_is_an_answer(answer in proptest::sample::select(ANSWERS), at in 2usize..9) {
            // A piece that is an escape alone is taken for the key.
            let at = at.min(answer.len());
            let piece = answer.get(..at).unwrap();
            prop_assume!(piece.last() != Some(&0x1b));
            let mut input = HumanInput::default();
            prop_assert!(!input.typed(piece));
            prop_assert!(!input.typed(answer.get(at..).unwrap()));
        }

        #[test]
        fn no_input_panics(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            HumanInput::default().typed(&data);
        }
    }
}
