//! Passwords: Argon2id (RFC 9106), and the same work for people who have none.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::SaltString,
};

/// Shortest password that may be set, characters.
pub const SHORTEST: usize = 12;
/// Longest password that is looked at, bytes: more is refused before any work is done.
pub const LONGEST: usize = 1024;

/// Why a password cannot be set or checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short; the person's fault.
    #[error("the password is shorter than {SHORTEST} characters: choose a longer one")]
    TooShort,
    /// Too long; the person's fault.
    #[error("the password is longer than {LONGEST} bytes: choose a shorter one")]
    TooLong,
    /// The stored text is no hash; ours, or that of whoever edited the store.
    #[error("the stored password hash is damaged: set the password again")]
    Damaged,
    /// The costs are outside Argon2's range; the operator's fault.
    #[error("the costs are outside what argon2 allows: use the default")]
    Costs,
}

/// What one hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Costs {
    /// OWASP's first choice for Argon2id: 19 MiB, two passes, one lane.
    pub const OWASP: Self = Self { memory_kib: 19 * 1024, passes: 2, lanes: 1 };

    fn argon2(self) -> Result<Argon2<'static>, PasswordError> {
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, None).map_err(|_| PasswordError::Costs)?;
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }
}

impl Default for Costs {
    fn default() -> Self {
        Self::OWASP
    }
}

/// A hash in PHC form (`$argon2id$v=19$…`), as the store keeps it. Not a password, but not for logs either.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword(String);

impl StoredPassword {
    /// Hashes a new password with a salt from `random`, which must be a cryptographic generator.
    ///
    /// # Errors
    /// When the password is too short or too long, or the costs are out of range.
    pub fn new(password: &str, costs: Costs, random: &mut dyn rand::RngCore) -> Result<Self, PasswordError> {
        if password.chars().count() < SHORTEST {
            return Err(PasswordError::TooShort);
        }
        if password.len() > LONGEST {
            return Err(PasswordError::TooLong);
        }
        let mut salt = [0u8; 16];
        random.fill_bytes(&mut salt);
        hash(password.as_bytes(), &salt, costs).map(Self)
    }

    /// Takes a stored hash.
    ///
    /// # Errors
    /// When the text is not an Argon2id hash.
    pub fn from_phc(text: String) -> Result<Self, PasswordError> {
        let sound = PasswordHash::new(&text).is_ok_and(|h| h.algorithm == argon2::ARGON2ID_IDENT);
        if sound { Ok(Self(text)) } else { Err(PasswordError::Damaged) }
    }

    /// The text to store.
    pub fn as_phc(&self) -> &str {
        &self.0
    }

    /// Whether the hash was made at other costs than `costs`: hash the password anew at the next log-in.
    pub fn needs_rehash(&self, costs: Costs) -> bool {
        let wanted = Params::new(costs.memory_kib, costs.passes, costs.lanes, None).ok();
        let made = PasswordHash::new(&self.0).ok().and_then(|h| Params::try_from(&h).ok());
        match (made, wanted) {
            (Some(m), Some(w)) => {
                (m.m_cost(), m.t_cost(), m.p_cost()) != (w.m_cost(), w.t_cost(), w.p_cost())
            }
            _ => true,
        }
    }
}

impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredPassword(…)")
    }
}

/// Whether `password` is the one behind `stored`. Without one (an unknown person, or one who has no password) the same
/// work is done at `costs` and the answer is no, so that the time taken does not tell who exists.
pub fn verify_or_dummy(stored: Option<&StoredPassword>, password: &[u8], costs: Costs) -> bool {
    // An over-long password is cut before the work rather than refused, so that it too takes the same time.
    let (looked_at, whole) = match password.get(..LONGEST) {
        Some(start) => (start, password.len() == LONGEST),
        None => (password, true),
    };
    let parsed = stored.and_then(|s| PasswordHash::new(&s.0).ok());
    let Some(known) = parsed else {
        // The result is dropped on purpose: only the work counts.
        drop(hash(looked_at, &[0x5a; 16], costs));
        return false;
    };
    // The costs of a verification are those inside the hash.
    Argon2::default().verify_password(looked_at, &known).is_ok() && whole
}

fn hash(password: &[u8], salt: &[u8], costs: Costs) -> Result<String, PasswordError> {
    let salt = SaltString::encode_b64(salt).map_err(|_| PasswordError::Costs)?;
    let hash = costs.argon2()?.hash_password(password, &salt).map_err(|_| PasswordError::Costs)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::rng;

    const QUICK: Costs = Costs { memory_kib: 8, passes: 1, lanes: 1 };

    #[test]
    fn only_the_right_password_verifies() {
        let stored = StoredPassword::new("correct horse battery", QUICK, &mut rng(1)).unwrap();
        assert!(verify_or_dummy(Some(&stored), b"correct horse battery", QUICK));
        assert!(!verify_or_dummy(Some(&stored), b"correct horse batter", QUICK));
        assert!(!verify_or_dummy(None, b"correct horse battery", QUICK));
        let again = StoredPassword::from_phc(stored.as_phc().to_owned()).unwrap();
        assert!(verify_or_dummy(Some(&again), b"correct horse battery", QUICK));
        assert!(!format!("{stored:?}").contains("argon2"));
    }

    #[test]
    fn a_salt_makes_equal_passwords_differ() {
        let a = StoredPassword::new("correct horse battery", QUICK, &mut rng(1)).unwrap();
        let b = StoredPassword::new("correct horse battery", QUICK, &mut rng(2)).unwrap();
        assert_ne!(a, b);
        assert!(!a.needs_rehash(QUICK));
        assert!(a.needs_rehash(Costs::OWASP));
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(StoredPassword::new("short", QUICK, &mut rng(1)).unwrap_err(), PasswordError::TooShort);
        let long = "x".repeat(LONGEST);
        let stored = StoredPassword::new(&long, QUICK, &mut rng(1)).unwrap();
        assert!(verify_or_dummy(Some(&stored), long.as_bytes(), QUICK));
        assert!(!verify_or_dummy(Some(&stored), format!("{long}y").as_bytes(), QUICK));
        assert_eq!(
            StoredPassword::new(&format!("{long}y"), QUICK, &mut rng(1)).unwrap_err(),
            PasswordError::TooLong
        );
    }

    #[test]
    fn what_is_no_argon2id_hash_is_refused() {
        for text in ["", "x", "$argon2i$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(StoredPassword::from_phc(text.to_owned()).unwrap_err(), PasswordError::Damaged);
        }
    }
}
