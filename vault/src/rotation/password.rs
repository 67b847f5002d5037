//! Passwords as each platform takes them: making one, and saying what is wrong with one.
//!
//! A password is drawn character by character without bias, and drawn anew as a whole until it keeps all rules: every
//! password that keeps them is equally likely. The characters of the presets mean nothing to a shell, to a URL, to CSV, to
//! an INI file or to `cmd.exe`, so that no tool between here and the target has to quote them right.

use std::fmt;

use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::secret::SecretString;

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";
/// What RFC 3986 §2.3 calls unreserved, without the tilde, which a shell expands.
const MARKS: &str = "-._";

/// Fewer bits than this are found by trying, at a device that does not slow anybody down.
const LEAST_BITS: f64 = 40.0;
/// More than any platform takes; a bound for what is kept in memory.
const LONGEST: usize = 512;
/// A sensible policy is met within a few draws; one that is not within these is a fault in the policy.
const DRAWS: usize = 10_000;

/// A kind of characters, of which some must be in every password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// What people call it: `digits`.
    pub name: String,
    /// Its characters, printable ASCII.
    pub characters: String,
    /// How many must be there.
    pub at_least: usize,
}

impl Class {
    fn new(name: &str, characters: &str, at_least: usize) -> Self {
        Self { name: name.to_owned(), characters: characters.to_owned(), at_least }
    }
}

/// What a platform takes as a password, and how long the ones made for it are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// For messages: `PostgreSQL`.
    pub platform: String,
    /// Length of a password that is made, in characters.
    pub length: usize,
    /// The shortest that the platform takes, in characters.
    pub shortest: usize,
    /// The longest that the platform takes, in characters.
    pub longest: usize,
    /// What a password is made of.
    pub classes: Vec<Class>,
    /// Characters that must not occur; they are left out of the classes, too.
    pub forbidden: String,
    /// Whether characters outside of the classes are wrong. Old devices cut, fold or drop what they do not know.
    pub listed_only: bool,
    /// Whether the first character must be a letter, so that no option (`-x`) or comment (`#`) comes of it.
    pub letter_first: bool,
    /// The longest run of one character; 0 for any.
    pub longest_run: usize,
}

/// Why a policy makes no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The policy contradicts itself.
    #[error("the password policy of {platform} cannot be met: {why}")]
    Impossible {
        /// Whose policy.
        platform: String,
        /// What does not fit together.
        why: String,
    },
    /// What it makes could be found by trying.
    #[error(
        "the password policy of {platform} makes passwords of {bits} bits, and fewer than {least} can be found by trying; \
         make them longer or allow more characters",
        least = LEAST_BITS
    )]
    Weak {
        /// Whose policy.
        platform: String,
        /// Bits of a password, rounded down.
        bits: u32,
    },
    /// The machine's random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// One rule that a password breaks. The text names the rule, never a character of the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Shorter than the platform takes.
    TooShort {
        /// The shortest that it takes.
        shortest: usize,
    },
    /// Longer than the platform takes; some cut such a one without saying so.
    TooLong {
        /// The longest that it takes.
        longest: usize,
    },
    /// Too few characters of a class.
    Missing {
        /// The class.
        class: String,
        /// How many must be there.
        at_least: usize,
    },
    /// A character that the platform, or a tool on the way to it, takes for something else.
    Forbidden {
        /// All that are forbidden, as people read them.
        characters: String,
    },
    /// A character that is not known to be safe there.
    Unlisted,
    /// A control character or a line end.
    Control,
    /// The first character is no letter.
    FirstNoLetter,
    /// One character too often in a row.
    Run {
        /// The longest that is allowed.
        longest: usize,
    },
    /// The account's name is part of it.
    HoldsLogin,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { shortest } => write!(f, "shorter than {shortest} characters"),
            Self::TooLong { longest } => write!(f, "longer than {longest} characters"),
            Self::Missing { class, at_least } => write!(f, "fewer than {at_least} of: {class}"),
            Self::Forbidden { characters } => write!(f, "holds one of the characters {characters}"),
            Self::Unlisted => f.write_str("holds a character that the platform may not take as it is"),
            Self::Control => f.write_str("holds a line end or another control character"),
            Self::FirstNoLetter => f.write_str("does not begin with a letter"),
            Self::Run { longest } => write!(f, "repeats one character more than {longest} times in a row"),
            Self::HoldsLogin => f.write_str("holds the account's name"),
        }
    }
}

impl PasswordPolicy {
    /// Local accounts of Unix, as `chpasswd` reads them: `:` and line ends would end the field.
    #[must_use]
    pub fn unix() -> Self {
        Self {
            platform: "Unix".to_owned(),
            length: 32,
            shortest: 1,
            // libxcrypt's limit (CRYPT_MAX_PASSPHRASE_SIZE).
            longest: 511,
            classes: usual(),
            forbidden: ":".to_owned(),
            listed_only: false,
            letter_first: true,
            longest_run: 2,
        }
    }

    /// Accounts of Windows and Active Directory with the password filter for complexity: three of four classes, no account
    /// name.
    #[must_use]
    pub fn windows() -> Self {
        Self {
            platform: "Windows".to_owned(),
            length: 32,
            shortest: 8,
            // What the dialogues of Windows still take; longer ones cannot be typed there after break-glass.
            longest: 127,
            classes: usual(),
            forbidden: "\"".to_owned(),
            listed_only: false,
            letter_first: true,
            longest_run: 2,
        }
    }

    /// Roles of PostgreSQL. No quotes and backslashes: connection strings and `.pgpass` give them a meaning.
    #[must_use]
    pub fn postgresql() -> Self {
        Self {
            platform: "PostgreSQL".to_owned(),
            length: 32,
            shortest: 1,
            longest: 255,
            classes: usual(),
            forbidden: "'\"\\:@/".to_owned(),
            listed_only: false,
            letter_first: true,
            longest_run: 2,
        }
    }

    /// Users of MariaDB. Option files (`my.cnf`) give `#`, quotes and backslashes a meaning.
    #[must_use]
    pub fn mariadb() -> Self {
        Self {
            platform: "MariaDB".to_owned(),
            length: 32,
            shortest: 1,
            // The server's replication takes no longer one.
            longest: 32,
            classes: usual(),
            forbidden: "'\"\\#@:/".to_owned(),
            listed_only: false,
            letter_first: true,
            longest_run: 2,
        }
    }

    /// An old device that takes letters and digits, at most `longest` of them.
    #[must_use]
    pub fn old_device(longest: usize) -> Self {
        Self {
            platform: "an old device".to_owned(),
            length: longest,
            shortest: 1,
            longest,
            classes: vec![
                Class::new("small letters", LOWER, 1),
                Class::new("capital letters", UPPER, 1),
                Class::new("digits", DIGITS, 1),
            ],
            forbidden: String::new(),
            listed_only: true,
            letter_first: true,
            longest_run: 0,
        }
    }

    /// The same without characters that people confuse when they type them from paper (`0O1lI`).
    #[must_use]
    pub fn readable(mut self) -> Self {
        self.forbidden.push_str("0O1lI");
        self
    }

    /// Makes a password for the account `login`.
    ///
    /// # Errors
    /// [`PolicyError`] when the policy contradicts itself, is weak, or there is no randomness.
    pub fn generate(&self, login: &str, entropy: &dyn Entropy) -> Result<SecretString, PolicyError> {
        let alphabet = self.alphabet()?;
        let mut source = Draw { entropy, bytes: Zeroizing::new([0; 64]), used: 64 };
        for _ in 0..DRAWS {
            let mut text = Zeroizing::new(String::with_capacity(self.length));
            for _ in 0..self.length {
                let at = source.below(alphabet.len())?;
                text.extend(alphabet.get(at).copied().map(char::from));
            }
            let password = SecretString::new(std::mem::take(&mut *text));
            if self.check(&password, login).is_empty() {
                return Ok(password);
            }
        }
        Err(self.impossible("no password of this length keeps all its rules; make it longer or ask for less"))
    }

    /// All rules that `password` breaks; none when the platform will take it.
    #[must_use]
    pub fn check(&self, password: &SecretString, login: &str) -> Vec<Violation> {
        let text = password.expose();
        let count = text.chars().count();
        let mut broken = Vec::new();
        if count < self.shortest {
            broken.push(Violation::TooShort { shortest: self.shortest });
        }
        if count > self.longest {
            broken.push(Violation::TooLong { longest: self.longest });
        }
        for class in &self.classes {
            if text.chars().filter(|c| class.characters.contains(*c)).count() < class.at_least {
                broken.push(Violation::Missing { class: class.name.clone(), at_least: class.at_least });
            }
        }
        if text.chars().any(|c| self.forbidden.contains(c)) {
            broken.push(Violation::Forbidden { characters: self.forbidden.clone() });
        }
        if text.chars().any(char::is_control) {
            broken.push(Violation::Control);
        } else if self.listed_only && !text.chars().all(|c| self.lists(c)) {
            broken.push(Violation::Unlisted);
        }
        if self.letter_first && !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            broken.push(Violation::FirstNoLetter);
        }
        if self.longest_run > 0 && longest_run(text) > self.longest_run {
            broken.push(Violation::Run { longest: self.longest_run });
        }
        // Shorter names occur by chance; Windows' filter begins at three, too.
        if login.chars().count() >= 3 && contains_folded(text, login) {
            broken.push(Violation::HoldsLogin);
        }
        broken
    }

    fn lists(&self, c: char) -> bool {
        self.classes.iter().any(|class| class.characters.contains(c)) && !self.forbidden.contains(c)
    }

    /// The characters to draw from, each once.
    fn alphabet(&self) -> Result<Vec<u8>, PolicyError> {
        let mut alphabet: Vec<u8> = Vec::new();
        for class in &self.classes {
            let mut usable = 0;
            for c in class.characters.chars().filter(|c| !self.forbidden.contains(*c)) {
                let byte = u8::try_from(c).ok().filter(|b| b.is_ascii_graphic());
                let byte =
                    byte.ok_or_else(|| self.impossible("a class has other characters than printable ASCII"))?;
                usable += 1;
                if !alphabet.contains(&byte) {
                    alphabet.push(byte);
                }
            }
            if usable == 0 && class.at_least > 0 {
                return Err(
                    self.impossible(&format!("all {} are forbidden, and some are asked for", class.name))
                );
            }
        }
        let asked: usize = self.classes.iter().map(|class| class.at_least).sum();
        if asked > self.length {
            return Err(self.impossible("it asks for more characters than a password has"));
        }
        if self.length < self.shortest || self.length > self.longest.min(LONGEST) {
            return Err(
                self.impossible("the length of what is made is not between the shortest and the longest")
            );
        }
        self.strong(alphabet.len())?;
        Ok(alphabet)
    }

    fn strong(&self, characters: usize) -> Result<(), PolicyError> {
        let each = f64::from(u32::try_from(characters).unwrap_or(u32::MAX)).log2();
        let bits = each * f64::from(u32::try_from(self.length).unwrap_or(u32::MAX));
        if characters < 2 || bits < LEAST_BITS {
            // Between 0 and 40 here: nothing is lost.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 40")]
            let bits = bits.max(0.0) as u32;
            return Err(PolicyError::Weak { platform: self.platform.clone(), bits });
        }
        Ok(())
    }

    fn impossible(&self, why: &str) -> PolicyError {
        PolicyError::Impossible { platform: self.platform.clone(), why: why.to_owned() }
    }
}

/// What all modern platforms get: at least two of each kind, marks without a second meaning.
fn usual() -> Vec<Class> {
    vec![
        Class::new("small letters", LOWER, 2),
        Class::new("capital letters", UPPER, 2),
        Class::new("digits", DIGITS, 2),
        Class::new("marks (- . _)", MARKS, 1),
    ]
}

/// Draws numbers without the bias of a remainder.
struct Draw<'a> {
    entropy: &'a dyn Entropy,
    bytes: Zeroizing<[u8; 64]>,
    used: usize,
}

impl Draw<'_> {
    /// A number below `n` (1 to 256), each equally likely.
    fn below(&mut self, n: usize) -> Result<usize, EntropyError> {
        // The last, incomplete stretch of a byte's range would favour the first numbers: it is drawn again.
        let whole = 256 - 256 % n;
        loop {
            let byte = usize::from(self.byte()?);
            if byte < whole {
                return Ok(byte % n);
            }
        }
    }

    fn byte(&mut self) -> Result<u8, EntropyError> {
        if self.used >= self.bytes.len() {
            self.entropy.fill(self.bytes.as_mut_slice())?;
            self.used = 0;
        }
        let byte = self.bytes.get(self.used).copied().ok_or(EntropyError)?;
        self.used += 1;
        Ok(byte)
    }
}

fn longest_run(text: &str) -> usize {
    let (mut longest, mut run, mut last) = (0, 0, None);
    for c in text.chars() {
        run = if last == Some(c) { run + 1 } else { 1 };
        last = Some(c);
        longest = longest.max(run);
    }
    longest
}

fn contains_folded(text: &str, part: &str) -> bool {
    let text = Zeroizing::new(text.to_lowercase());
    text.contains(&part.to_lowercase())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::SystemEntropy;

    /// Repeats given bytes.
    #[derive(Debug)]
    struct Given(Mutex<std::iter::Cycle<std::vec::IntoIter<u8>>>);

    impl Given {
        fn new(bytes: Vec<u8>) -> Self {
            Self(Mutex::new(bytes.into_iter().cycle()))
        }
    }

    impl Entropy for Given {
        fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
            let mut bytes = self.0.lock().unwrap();
            out.iter_mut().for_each(|to| *to = bytes.next().unwrap());
            Ok(())
        }
    }

    fn presets() -> Vec<PasswordPolicy> {
        vec![
            PasswordPolicy::unix(),
            PasswordPolicy::windows(),
            PasswordPolicy::postgresql(),
            PasswordPolicy::mariadb(),
            PasswordPolicy::old_device(8),
            PasswordPolicy::unix().readable(),
            PasswordPolicy::old_device(10).readable(),
        ]
    }

    /// What a shell, a URL, CSV, an option file, `cmd.exe` or `chpasswd` reads as something else than itself.
    const TRAPS: &str = "'\"`\\$!&|;<>()[]{}*?~#%^=,:@/+ \t\r\n";

    #[test]
    fn a_number_below_n_is_drawn_without_the_bias_of_a_remainder() {
        for n in [1, 3, 10, 65, 200, 255, 256] {
            // Every byte once: each number must come equally often, and the rest must have been drawn again.
            let entropy = Given::new((0..=255).collect());
            let mut draw = Draw { entropy: &entropy, bytes: Zeroizing::new([0; 64]), used: 64 };
            let mut seen = vec![0; n];
            for _ in 0..(256 / n) * n {
                seen[draw.below(n).unwrap()] += 1;
            }
            assert!(seen.iter().all(|count| *count == 256 / n), "below {n}: {seen:?}");
        }
    }

    #[test]
    fn a_source_without_randomness_makes_no_password() {
        #[derive(Debug)]
        struct Dry;
        impl Entropy for Dry {
            fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
                Err(EntropyError)
            }
        }
        assert_eq!(
            PasswordPolicy::unix().generate("root", &Dry).unwrap_err(),
            PolicyError::Entropy(EntropyError)
        );
    }

    #[test]
    fn a_source_that_repeats_itself_is_an_error_and_not_an_endless_loop() {
        let stuck = Given::new(vec![7]);
        let error = PasswordPolicy::unix().generate("root", &stuck).unwrap_err();
        assert!(matches!(error, PolicyError::Impossible { .. }));
    }

    #[test]
    fn a_policy_that_contradicts_itself_says_what_does_not_fit() {
        let mut all_digits_gone = PasswordPolicy::unix();
        all_digits_gone.forbidden.push_str(DIGITS);
        let text = all_digits_gone.generate("root", &SystemEntropy).unwrap_err().to_string();
        assert!(text.contains("digits") && text.contains("Unix"), "{text}");
        let too_long = PasswordPolicy { length: 40, ..PasswordPolicy::mariadb() };
        assert!(matches!(too_long.generate("a", &SystemEntropy), Err(PolicyError::Impossible { .. })));
        let foreign =
            PasswordPolicy { classes: vec![Class::new("umlauts", "äöü", 1)], ..PasswordPolicy::unix() };
        assert!(foreign.generate("a", &SystemEntropy).is_err());
    }

    #[test]
    fn a_policy_whose_passwords_could_be_guessed_is_refused() {
        let error = PasswordPolicy::old_device(6).generate("admin", &SystemEntropy).unwrap_err();
        assert!(matches!(error, PolicyError::Weak { bits: 35, .. }), "{error}");
    }

    #[test]
    fn the_checker_names_every_broken_rule_and_no_character_of_the_password() {
        let broken = PasswordPolicy::unix().check(&SecretString::from("9root:zzzQ\n"), "root");
        let text = broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        for part in ["marks", "characters :", "line end", "begin with a letter", "in a row", "account's name"]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(!text.contains('Q') && !text.contains("zz"), "{text}");
        let long = PasswordPolicy::mariadb().check(&SecretString::new("aB3-".repeat(9)), "app");
        assert_eq!(long, [Violation::TooLong { longest: 32 }]);
        let unlisted = PasswordPolicy::old_device(12).check(&SecretString::from("abcDEF123é"), "x");
        assert_eq!(unlisted, [Violation::Unlisted]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_password_keeps_the_rules_it_was_made_by_and_holds_no_trap(login in "[a-z]{1,8}", seed in any::<u64>()) {
            use rand::{RngCore as _, SeedableRng as _};
            let mut bytes = vec![0; 1 << 16];
            rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
            let entropy = Given::new(bytes);
            for policy in presets() {
                let made = policy.generate(&login, &entropy).unwrap();
                prop_assert_eq!(made.expose().len(), policy.length);
                prop_assert!(policy.check(&made, &login).is_empty());
                prop_assert!(!made.expose().contains(|c| TRAPS.contains(c)));
                prop_assert!(made.expose().starts_with(|c: char| c.is_ascii_alphabetic()));
            }
        }

        #[test]
        fn no_text_whatever_makes_the_checker_panic_or_pass_what_chpasswd_would_split(text in ".{0,80}", cut in "[:\r\n]") {
            let policy = PasswordPolicy::unix();
            prop_assert!(policy.check(&SecretString::new(text.clone()), "root").len() < 10);
            let split = SecretString::new(format!("{text}{cut}aB3-aB3-"));
            prop_assert!(!policy.check(&split, "root").is_empty());
        }
    }
}
