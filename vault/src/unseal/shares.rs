//! The root in k of n hands (Shamir's scheme over GF(256), by `vsss-rs`).
//!
//! A share is printed and typed: base 32 in groups of four, which a person can read out. It says whose vault and which
//! splitting it belongs to, how many are needed, its own number, and a checksum, so that a mistyped, foreign or outdated
//! share is refused when it is given and not when it is too late to say which one was wrong. All that is public; a share
//! alone, and k - 1 of them together, say nothing about the root.
//!
//! ```text
//! form      1 byte   0x01
//! vault     8 bytes  the root's VaultId
//! set       4 bytes  random, one for each splitting
//! needed    1 byte   k
//! of        1 byte   n
//! number    1 byte   1 to n
//! value    32 bytes
//! checksum  4 bytes  the first of a SHA-256 over all before
//! ```

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE32_NOPAD;
use rand_core::{TryCryptoRng, TryRng};
use subtle::ConstantTimeEq as _;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy, EntropyError};
use crate::root::{ROOT_BYTES, Root, VaultId};
use crate::secret::SecretString;

/// The most shares of one splitting.
pub const MAX_SHARES: u8 = 16;
/// The fewest that can be needed: with one, each would be the root itself.
pub const MIN_THRESHOLD: u8 = 2;

const FORM: u8 = 1;
const SET_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;
const HEAD_BYTES: usize = 1 + VaultId::BYTES + SET_BYTES + 3;
const SHARE_BYTES: usize = HEAD_BYTES + ROOT_BYTES + CHECKSUM_BYTES;
/// Characters of the code, and between two hyphens.
const GROUP: usize = 4;
/// The longest text that is looked at: a code with plenty of blanks.
const MAX_TEXT: usize = 512;

/// Why a share is refused. No text holds any part of its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It is no share at all.
    #[error(
        "this is no share of a vault; a share is a code of {} letters and digits in groups of four",
        code_length()
    )]
    Form,
    /// It was mistyped.
    #[error(
        "the share's checksum does not match: it was mistyped or cut; compare it with the paper, group by group"
    )]
    Checksum,
    /// It was made by a newer program.
    #[error("the share has form {0}, which this program does not know; use the newer program that made it")]
    Version(u8),
    /// It is of another vault.
    #[error(
        "share {number} belongs to vault {found}, and this is vault {expected}; bring the share of this vault"
    )]
    Foreign {
        /// Its number.
        number: u8,
        /// Whose it is.
        found: VaultId,
        /// Whose is wanted.
        expected: VaultId,
    },
    /// It is of another splitting.
    #[error(
        "share {number} is of splitting {found}, and those given are of {expected}: shares of two splittings do not fit together; bring the newest one"
    )]
    OtherSplitting {
        /// Its number.
        number: u8,
        /// Its splitting.
        found: String,
        /// The splitting of those before.
        expected: String,
    },
    /// It was given before.
    #[error("share {0} was given already; bring another one")]
    Twice(u8),
    /// There are too few.
    #[error("{given} of {needed} shares were given; {} more are needed", .needed.saturating_sub(*.given))]
    TooFew {
        /// How many.
        given: u8,
        /// Of how many.
        needed: u8,
    },
    /// All are well-formed, and together they are not the root.
    #[error(
        "the shares do not open vault {vault}: one of them is not what was handed out; give all of them again, with another one in place of each in turn"
    )]
    WrongCombination {
        /// The vault.
        vault: VaultId,
    },
    /// Such a splitting makes no sense.
    #[error(
        "{needed} of {of} is no splitting; at least {MIN_THRESHOLD} must be needed, of at most {MAX_SHARES}, and not more than there are"
    )]
    Numbers {
        /// How many would be needed.
        needed: u8,
        /// How many there would be.
        of: u8,
    },
    /// The machine's random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

const fn code_length() -> usize {
    (SHARE_BYTES * 8).div_ceil(5)
}

/// One person's part of the root.
pub struct Share {
    vault: VaultId,
    set: [u8; SET_BYTES],
    needed: u8,
    of: u8,
    number: u8,
    value: Zeroizing<[u8; ROOT_BYTES]>,
}

impl Share {
    /// Reads a code. Case, blanks and hyphens do not matter, and the digits 0, 1 and 8 are read as the letters that they
    /// are mistaken for.
    ///
    /// # Errors
    /// [`ShareError::Form`], [`ShareError::Checksum`], [`ShareError::Version`].
    pub fn parse(text: &SecretString) -> Result<Self, ShareError> {
        if text.expose().len() > MAX_TEXT {
            return Err(ShareError::Form);
        }
        let kept = text.expose().chars().filter(|c| !c.is_whitespace() && *c != '-');
        let code = Zeroizing::new(kept.map(as_meant).collect::<String>());
        if code.len() != code_length() {
            return Err(ShareError::Form);
        }
        let bytes = BASE32_NOPAD.decode(code.as_bytes()).map(Zeroizing::new).map_err(|_| ShareError::Form)?;
        Self::from_bytes(&bytes)
    }

    /// The code, to be printed once and handed to one person.
    #[must_use]
    pub fn to_code(&self) -> SecretString {
        let code = Zeroizing::new(BASE32_NOPAD.encode(&self.to_bytes()));
        let mut out = String::with_capacity(code.len() + code.len() / GROUP);
        for (i, c) in code.chars().enumerate() {
            if i > 0 && i % GROUP == 0 {
                out.push('-');
            }
            out.push(c);
        }
        SecretString::new(out)
    }

    /// The vault that it belongs to.
    #[must_use]
    pub fn vault_id(&self) -> VaultId {
        self.vault
    }

    /// The splitting that it belongs to, as 8 hexadecimal digits.
    #[must_use]
    pub fn set(&self) -> String {
        hex::encode(self.set)
    }

    /// Its number, from 1.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// How many are needed.
    #[must_use]
    pub fn needed(&self) -> u8 {
        self.needed
    }

    /// How many there are.
    #[must_use]
    pub fn of(&self) -> u8 {
        self.of
    }

    /// Checks that this one fits to another.
    ///
    /// # Errors
    /// [`ShareError::Foreign`], [`ShareError::OtherSplitting`], [`ShareError::Twice`].
    pub fn fits(&self, other: &Self) -> Result<(), ShareError> {
        let number = self.number;
        if self.vault != other.vault {
            return Err(ShareError::Foreign { number, found: self.vault, expected: other.vault });
        }
        if (self.set, self.needed, self.of) != (other.set, other.needed, other.of) {
            return Err(ShareError::OtherSplitting { number, found: self.set(), expected: other.set() });
        }
        if number == other.number { Err(ShareError::Twice(number)) } else { Ok(()) }
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(SHARE_BYTES));
        out.push(FORM);
        out.extend_from_slice(self.vault.as_bytes());
        out.extend_from_slice(&self.set);
        out.extend_from_slice(&[self.needed, self.of, self.number]);
        out.extend_from_slice(self.value.as_ref());
        let sum = checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, ShareError> {
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(ShareError::Form)?;
        let (&form, _) = body.split_first().ok_or(ShareError::Form)?;
        if !bool::from(checksum(body).ct_eq(sum)) {
            return Err(ShareError::Checksum);
        }
        if form != FORM {
            return Err(ShareError::Version(form));
        }
        let (head, value) = body.split_first_chunk::<HEAD_BYTES>().ok_or(ShareError::Form)?;
        let (vault, head) = head[1..].split_first_chunk::<{ VaultId::BYTES }>().ok_or(ShareError::Form)?;
        let (set, head) = head.split_first_chunk::<SET_BYTES>().ok_or(ShareError::Form)?;
        let &[needed, of, number] = head else { return Err(ShareError::Form) };
        checked_numbers(needed, of)?;
        if number == 0 || number > of {
            return Err(ShareError::Form);
        }
        let value = <[u8; ROOT_BYTES]>::try_from(value).map(Zeroizing::new).map_err(|_| ShareError::Form)?;
        Ok(Self { vault: VaultId::from_bytes(*vault), set: *set, needed, of, number, value })
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of {}, vault {}, set {})", self.number, self.of, self.vault, self.set())
    }
}

/// Splits the root so that any `needed` of `of` shares give it back.
///
/// # Errors
/// [`ShareError::Numbers`]; [`ShareError::Entropy`] when there is no randomness.
pub fn split(root: &Root, needed: u8, of: u8, entropy: &dyn Entropy) -> Result<Vec<Share>, ShareError> {
    checked_numbers(needed, of)?;
    let numbers = ShareError::Numbers { needed, of };
    let set = entropy::bytes::<SET_BYTES>(entropy)?;
    let mut source = Source { entropy, failed: false };
    let made = Gf256::split_bytes(usize::from(needed), usize::from(of), root.expose(), &mut source);
    let made: Vec<Zeroizing<Vec<u8>>> =
        made.map_err(|_| numbers.clone())?.into_iter().map(Zeroizing::new).collect();
    if source.failed {
        return Err(EntropyError.into());
    }
    let share = |bytes: &Zeroizing<Vec<u8>>| {
        let (&number, value) = bytes.split_first()?;
        let value = <[u8; ROOT_BYTES]>::try_from(value).map(Zeroizing::new).ok()?;
        Some(Share { vault: root.vault_id(), set, needed, of, number, value })
    };
    made.iter().map(share).collect::<Option<Vec<_>>>().ok_or(numbers)
}

/// Puts shares together again. More than are needed do no harm.
///
/// # Errors
/// [`ShareError::TooFew`]; what [`Share::fits`] says; [`ShareError::WrongCombination`] when one of them is forged.
pub fn combine(shares: &[Share]) -> Result<Root, ShareError> {
    let first = shares.first().ok_or(ShareError::TooFew { given: 0, needed: MIN_THRESHOLD })?;
    for (i, share) in shares.iter().enumerate() {
        for other in shares.iter().take(i) {
            share.fits(other)?;
        }
    }
    if shares.len() < usize::from(first.needed) {
        let given = u8::try_from(shares.len()).unwrap_or(u8::MAX);
        return Err(ShareError::TooFew { given, needed: first.needed });
    }
    let wrong = || ShareError::WrongCombination { vault: first.vault };
    let parts: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(
        shares.iter().map(|share| [&[share.number][..], share.value.as_ref()].concat()).collect(),
    );
    let secret = Gf256::combine_bytes(&*parts).map(Zeroizing::new).map_err(|_| wrong())?;
    let root = Root::from_secret(&secret).map_err(|_| wrong())?;
    // The scheme itself does not notice a wrong share: any k values give some secret.
    if root.vault_id() == first.vault { Ok(root) } else { Err(wrong()) }
}

fn checked_numbers(needed: u8, of: u8) -> Result<(), ShareError> {
    if (MIN_THRESHOLD..=of).contains(&needed) && of <= MAX_SHARES {
        Ok(())
    } else {
        Err(ShareError::Numbers { needed, of })
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut text = Zeroizing::new(Vec::with_capacity(32 + body.len()));
    text.extend_from_slice(b"cofferdam share v1\0");
    text.extend_from_slice(body);
    let mut sum = [0; CHECKSUM_BYTES];
    for (to, from) in sum.iter_mut().zip(digest(&SHA256, &text).as_ref()) {
        *to = *from;
    }
    sum
}

fn as_meant(c: char) -> char {
    match c.to_ascii_uppercase() {
        '0' => 'O',
        '1' => 'I',
        '8' => 'B',
        c => c,
    }
}

/// Our source of randomness as `vsss-rs` wants it. That one cannot fail; ours can, and says so afterwards.
struct Source<'a> {
    entropy: &'a dyn Entropy,
    failed: bool,
}

impl TryRng for Source<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.failed |= self.entropy.fill(out).is_err();
        Ok(())
    }
}

impl TryCryptoRng for Source<'_> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SystemEntropy;

    fn root() -> Root {
        Root::generate(&SystemEntropy).unwrap()
    }

    fn again(share: &Share) -> Share {
        Share::parse(&share.to_code()).unwrap()
    }

    #[test]
    fn a_share_survives_being_typed_by_a_person() {
        let shares = split(&root(), 2, 3, &SystemEntropy).unwrap();
        let code = shares[1].to_code();
        assert_eq!(code.expose().len(), code_length() + code_length().div_ceil(GROUP) - 1);
        let sloppy = format!("  {} \n", code.expose().to_lowercase().replace('-', " ").replace('o', "0"));
        let share = Share::parse(&SecretString::new(sloppy)).unwrap();
        assert_eq!((share.number(), share.needed(), share.of()), (2, 2, 3));
        assert!(!format!("{share:?}").contains(&code.expose()[60..]));
    }

    #[test]
    fn shares_of_another_vault_or_splitting_are_refused_and_named() {
        let mine = root();
        let (a, b) =
            (split(&mine, 2, 3, &SystemEntropy).unwrap(), split(&mine, 2, 3, &SystemEntropy).unwrap());
        let other = split(&root(), 2, 3, &SystemEntropy).unwrap();
        let text = combine(&[again(&a[0]), again(&other[1])]).unwrap_err().to_string();
        assert!(text.contains("share 2") && text.contains(&mine.vault_id().to_string()), "{text}");
        let text = combine(&[again(&a[0]), again(&b[1])]).unwrap_err().to_string();
        assert!(text.contains("two splittings") && text.contains(&b[1].set()), "{text}");
        assert_eq!(combine(&[again(&a[0]), again(&a[0])]).unwrap_err(), ShareError::Twice(1));
        assert_eq!(combine(&a[..1]).unwrap_err(), ShareError::TooFew { given: 1, needed: 2 });
        assert!(combine(&[]).is_err());
    }

    #[test]
    fn a_forged_share_with_a_right_checksum_is_found_when_they_are_put_together() {
        let mut shares = split(&root(), 3, 5, &SystemEntropy).unwrap();
        shares[1].value[7] ^= 1;
        let three = [again(&shares[0]), again(&shares[1]), again(&shares[2])];
        assert!(matches!(combine(&three), Err(ShareError::WrongCombination { .. })));
    }

    #[test]
    fn splittings_that_protect_nothing_or_nobody_can_join_are_refused() {
        for (needed, of) in [(0, 0), (1, 3), (4, 3), (2, 17), (2, 1)] {
            let error = split(&root(), needed, of, &SystemEntropy).unwrap_err();
            assert_eq!(error, ShareError::Numbers { needed, of });
        }
    }

    #[test]
    fn without_randomness_there_are_no_shares() {
        /// Gives what names the splitting, and then nothing any more.
        #[derive(Debug, Default)]
        struct Dry(std::sync::atomic::AtomicBool);
        impl Entropy for Dry {
            fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
                match self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
                    true => Err(EntropyError),
                    false => Ok(()),
                }
            }
        }
        assert!(matches!(split(&root(), 2, 3, &Dry::default()), Err(ShareError::Entropy(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_k_shares_open_and_no_fewer(needed in 2u8..=6, more in 0u8..=4, order in any::<u64>()) {
            let root = root();
            let mut shares = split(&root, needed, needed + more, &SystemEntropy).unwrap();
            // Some order or other: which people come first does not matter.
            shares.sort_by_key(|s| order.rotate_left(u32::from(s.number) * 7) ^ u64::from(s.number));
            let enough: Vec<Share> = shares.iter().take(needed.into()).map(again).collect();
            let opened = combine(&enough).unwrap();
            prop_assert_eq!(opened.expose(), root.expose());
            prop_assert!(combine(&enough[1..]).is_err());
            let all: Vec<Share> = shares.iter().map(again).collect();
            let opened = combine(&all).unwrap();
            prop_assert_eq!(opened.expose(), root.expose());
        }

        #[test]
        fn one_wrong_character_is_always_noticed(at in 0usize..code_length(), to in "[A-Z2-7]") {
            let code = split(&root(), 2, 3, &SystemEntropy).unwrap()[0].to_code();
            let plain: String = code.expose().chars().filter(|c| *c != '-').collect();
            let mut wrong = plain.clone();
            wrong.replace_range(at..=at, &to);
            if wrong != plain {
                prop_assert!(Share::parse(&SecretString::new(wrong)).is_err());
            }
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,200}") {
            prop_assert!(Share::parse(&SecretString::new(text)).is_err());
        }
    }
}
