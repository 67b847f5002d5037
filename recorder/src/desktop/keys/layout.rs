//! From scan codes (set 1) to text. Layouts that are not known here are read as the American one, whose letters most share.

use super::Key;

/// What a key does to the text.
pub(super) enum Pressed {
    Text(char),
    Back,
    Enter,
    Named(&'static str),
}

/// The keys that change others.
#[derive(Default)]
pub(super) struct State {
    shift: [bool; 2],
    control: bool,
    alt_gr: bool,
    caps: bool,
    /// The first half of a character beyond UTF-16's first plane.
    high: Option<u16>,
}

/// The keys of the four rows from their first scan code on: plain and shifted.
type Rows = [(u16, &'static str, &'static str); 5];

const AMERICAN: Rows = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (0x56, "\\", "|"),
];
const BRITISH: Rows = [
    (0x02, "1234567890-=", "!\"£$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:@¬"),
    (0x2b, "#zxcvbnm,./", "~ZXCVBNM<>?"),
    (0x56, "\\", "|"),
];
const GERMAN: Rows = [
    (0x02, "1234567890ß´", "!\"§$%&/()=?`"),
    (0x10, "qwertzuiopü+", "QWERTZUIOPÜ*"),
    (0x1e, "asdfghjklöä^", "ASDFGHJKLÖÄ°"),
    (0x2b, "#yxcvbnm,.-", "'YXCVBNM;:_"),
    (0x56, "<", ">"),
];
const FRENCH: Rows = [
    (0x02, "&é\"'(-è_çà)=", "1234567890°+"),
    (0x10, "azertyuiop^$", "AZERTYUIOP¨£"),
    (0x1e, "qsdfghjklmù²", "QSDFGHJKLM%²"),
    (0x2b, "*wxcvbn,;:!", "µWXCVBN?./§"),
    (0x56, "<", ">"),
];
/// What AltGr makes of keys, by layout.
const GERMAN_ALT: [(u16, char); 11] = [
    (0x10, '@'),
    (0x12, '€'),
    (0x08, '{'),
    (0x09, '['),
    (0x0a, ']'),
    (0x0b, '}'),
    (0x0c, '\\'),
    (0x1b, '~'),
    (0x56, '|'),
    (0x03, '²'),
    (0x32, 'µ'),
];
const FRENCH_ALT: [(u16, char); 11] = [
    (0x03, '~'),
    (0x04, '#'),
    (0x05, '{'),
    (0x06, '['),
    (0x07, '|'),
    (0x08, '`'),
    (0x09, '\\'),
    (0x0a, '^'),
    (0x0b, '@'),
    (0x0c, ']'),
    (0x0d, '}'),
];
const NUMBERS: [(u16, char); 13] = [
    (0x37, '*'),
    (0x47, '7'),
    (0x48, '8'),
    (0x49, '9'),
    (0x4a, '-'),
    (0x4b, '4'),
    (0x4c, '5'),
    (0x4d, '6'),
    (0x4e, '+'),
    (0x4f, '1'),
    (0x50, '2'),
    (0x51, '3'),
    (0x52, '0'),
];
const NAMES: [(u16, &str); 12] = [
    (0x47, "Home"),
    (0x48, "Up"),
    (0x49, "PageUp"),
    (0x4b, "Left"),
    (0x4d, "Right"),
    (0x4f, "End"),
    (0x50, "Down"),
    (0x51, "PageDown"),
    (0x52, "Insert"),
    (0x53, "Delete"),
    (0x5b, "Win"),
    (0x5c, "Win"),
];
const FUNCTIONS: [&str; 10] = ["F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "F10"];

/// Rows and AltGr of a layout: the language is in the low ten bits of the number.
fn of(layout: u32) -> (&'static Rows, &'static [(u16, char)]) {
    match (layout & 0xffff, layout & 0x3ff) {
        (0x809, _) => (&BRITISH, &[]),
        // Swiss German has the French signs in other places; its letters are the German ones.
        (_, 0x07) => (&GERMAN, &GERMAN_ALT),
        (_, 0x0c) => (&FRENCH, &FRENCH_ALT),
        _ => (&AMERICAN, &[]),
    }
}

/// What a character does that came as such.
fn of_text(c: char) -> Pressed {
    match c {
        '\r' | '\n' => Pressed::Enter,
        '\u{8}' => Pressed::Back,
        '\t' => Pressed::Named("Tab"),
        c => Pressed::Text(c),
    }
}

fn find<T: Copy>(list: &[(u16, T)], code: u16) -> Option<T> {
    list.iter().find(|(at, _)| *at == code).map(|(_, value)| *value)
}

impl State {
    /// What a key does to the text, if anything.
    pub(super) fn press(&mut self, layout: u32, key: Key) -> Option<Pressed> {
        if key.unicode {
            return if key.released { None } else { self.unit(key.code).map(of_text) };
        }
        let down = !key.released;
        match (key.extended, key.code) {
            (false, 0x2a) => self.shift[0] = down,
            (false, 0x36) => self.shift[1] = down,
            (_, 0x1d) => self.control = down,
            (true, 0x38) => self.alt_gr = down,
            (false, 0x3a) => self.caps ^= down,
            _ if down => return self.stroke(layout, key),
            _ => {}
        }
        None
    }

    fn stroke(&self, layout: u32, key: Key) -> Option<Pressed> {
        Some(match (key.extended, key.code) {
            (_, 0x1c) => Pressed::Enter,
            (true, 0x35) => Pressed::Text('/'),
            (true, code) => Pressed::Named(find(&NAMES, code)?),
            (false, 0x01) => Pressed::Named("Esc"),
            (false, 0x0e) => Pressed::Back,
            (false, 0x0f) => Pressed::Named("Tab"),
            (false, 0x39) => Pressed::Text(' '),
            (false, code @ 0x3b..=0x44) => Pressed::Named(FUNCTIONS.get(usize::from(code - 0x3b))?),
            (false, code) => self.letter(layout, code)?,
        })
    }

    fn letter(&self, layout: u32, code: u16) -> Option<Pressed> {
        let (rows, alt) = of(layout);
        if self.alt_gr || (self.control && find(alt, code).is_some()) {
            return find(alt, code).map(Pressed::Text);
        }
        if let Some(digit) = find(&NUMBERS, code) {
            return Some(Pressed::Text(digit));
        }
        let shift = self.shift[0] || self.shift[1];
        let (plain, shifted) = rows.iter().rev().find_map(|(first, plain, shifted)| {
            let at = usize::from(code.checked_sub(*first)?);
            Some((plain.chars().nth(at)?, shifted.chars().nth(at)?))
        })?;
        if self.control {
            return plain.is_ascii_alphabetic().then_some(Pressed::Named(control(plain)));
        }
        let upper = shift != (self.caps && plain.is_alphabetic());
        Some(Pressed::Text(if upper { shifted } else { plain }))
    }

    fn unit(&mut self, unit: u16) -> Option<char> {
        let whole = char::decode_utf16(self.high.take().into_iter().chain([unit])).last();
        match whole {
            Some(Ok(c)) => Some(c),
            _ => {
                self.high = Some(unit);
                None
            }
        }
    }
}

/// How a letter typed with Control is written.
fn control(letter: char) -> &'static str {
    const ALL: &str = "C-aC-bC-cC-dC-eC-fC-gC-hC-iC-jC-kC-lC-mC-nC-oC-pC-qC-rC-sC-tC-uC-vC-wC-xC-yC-z";
    let at = (letter.to_ascii_lowercase() as usize).saturating_sub('a' as usize) * 3;
    ALL.get(at..at + 3).unwrap_or("C-?")
}
