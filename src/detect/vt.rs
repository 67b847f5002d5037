//! Tells text from control in terminal output (ECMA-48, as xterm reads it), one byte at a time, in constant memory.

/// Parameters of a control sequence that are kept.
const MAX_PARAMS: usize = 4;

/// What a byte completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Part of something longer, or of something that is skipped.
    Nothing,
    /// A byte of text, UTF-8 continuation bytes included.
    Text(u8),
    /// A control character.
    Control(u8),
    /// A control sequence: `ESC [`, an optional mark such as `?`, parameters, a final byte.
    Sequence { mark: u8, params: [u16; MAX_PARAMS], last: u8 },
}

/// Where in a control the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Ground,
    Escape,
    /// `ESC (` and its like: one more byte.
    Charset,
    Sequence,
    /// OSC, DCS, APC, PM, SOS: up to BEL or ST.
    String,
    StringEscape,
}

/// The reader.
#[derive(Debug, Default)]
pub(super) struct Vt {
    state: State,
    mark: u8,
    params: [u16; MAX_PARAMS],
    index: usize,
}

impl Vt {
    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn feed(&mut self, byte: u8) -> Token {
        // CAN and SUB abort anything.
        if matches!(byte, 0x18 | 0x1a) {
            self.state = State::Ground;
            return Token::Control(byte);
        }
        match self.state {
            State::Ground => match byte {
                0x1b => self.go(State::Escape),
                0x00..0x20 | 0x7f => Token::Control(byte),
                _ => Token::Text(byte),
            },
            State::Escape => match byte {
                b'[' => {
                    (self.mark, self.params, self.index) = (0, [0; MAX_PARAMS], 0);
                    self.go(State::Sequence)
                }
                b']' | b'P' | b'X' | b'^' | b'_' => self.go(State::String),
                0x20..=0x2f => self.go(State::Charset),
                0x1b => self.go(State::Escape),
                0x00..0x20 => Token::Control(byte),
                _ => self.go(State::Ground),
            },
            State::Charset => match byte {
                0x1b => self.go(State::Escape),
                0x20..=0x2f => Token::Nothing,
                _ => self.go(State::Ground),
            },
            State::Sequence => self.sequence(byte),
            State::String => match byte {
                0x07 => self.go(State::Ground),
                0x1b => self.go(State::StringEscape),
                _ => Token::Nothing,
            },
            State::StringEscape => match byte {
                b'\\' => self.go(State::Ground),
                // A new escape ends the string.
                _ => {
                    self.state = State::Escape;
                    self.feed(byte)
                }
            },
        }
    }

    fn go(&mut self, state: State) -> Token {
        self.state = state;
        Token::Nothing
    }

    fn sequence(&mut self, byte: u8) -> Token {
        match byte {
            b'0'..=b'9' => {
                if let Some(param) = self.params.get_mut(self.index) {
                    *param = param.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                }
                Token::Nothing
            }
            b';' | b':' => {
                self.index = self.index.saturating_add(1);
                Token::Nothing
            }
            0x3c..=0x3f => {
                self.mark = byte;
                Token::Nothing
            }
            0x20..=0x2f => {
                self.mark = byte;
                Token::Nothing
            }
            0x1b => self.go(State::Escape),
            0x00..0x20 => Token::Control(byte),
            0x40..=0x7e => {
                self.state = State::Ground;
                Token::Sequence { mark: self.mark, params: self.params, last: byte }
            }
            _ => self.go(State::Ground),
        }
    }
}
