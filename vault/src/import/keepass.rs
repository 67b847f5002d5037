//! KeePass (kdbx 3 and 4): the title is the asset, the user name the login.

use keepass::db::GroupRef;
use keepass::error::{DatabaseKeyError, DatabaseOpenError};
use keepass::{Database, DatabaseKey};

use super::{ImportError, Plan};
use crate::secret::{SecretBytes, SecretString};

/// The most memory that a database's key derivation may ask for, in bytes. It is read out of the file before the password
/// can be checked; one that somebody made to bring this machine down asks for more.
pub const MAX_KDF_MEMORY: u64 = 1024 * 1024 * 1024;
/// Groups within groups.
const MAX_DEPTH: usize = 32;
const RECYCLE_BIN: &str = "Recycle Bin";

/// Reads a plan out of a KeePass database.
///
/// # Errors
/// [`ImportError::Password`], [`ImportError::Form`], [`ImportError::TooMany`].
pub fn read_keepass(content: &SecretBytes, password: &SecretString) -> Result<Plan, ImportError> {
    if kdf_memory(content.expose()).is_some_and(|bytes| bytes > MAX_KDF_MEMORY) {
        let most = MAX_KDF_MEMORY / 1024 / 1024;
        return Err(ImportError::Form {
            expected: "KeePass database that this machine opens",
            reason: format!(
                "its key derivation asks for more than {most} MiB; lower that in KeePassXC and save it anew"
            ),
        });
    }
    let key = DatabaseKey::new().with_password(password.expose());
    let database = Database::parse(content.expose(), key).map_err(|e| match e {
        DatabaseOpenError::Key(DatabaseKeyError::IncorrectKey) => ImportError::Password,
        // The library's texts are about the form, but it is not ours to vouch for all of them.
        _ => ImportError::Form {
            expected: "KeePass database (kdbx 3 or 4)",
            reason: "it does not open; check the file, and save it anew with KeePassXC".into(),
        },
    })?;
    let mut plan = Plan::default();
    take(&mut plan, &database.root(), "", 0)?;
    Ok(plan)
}

/// What a kdbx 4 file's outer header says about memory (`M` of the Argon2 parameters, bytes). None where it says nothing, or
/// nothing that is understood: then the library says what is wrong with it.
fn kdf_memory(file: &[u8]) -> Option<u64> {
    const VERSION_4: &[u8] = &[4, 0];
    const KDF_PARAMETERS: u8 = 11;
    let (start, mut rest) = file.split_at_checked(12)?;
    if start.get(10..)? != VERSION_4 {
        return None;
    }
    loop {
        let (&field, after) = rest.split_first()?;
        let value = sized(after, &mut rest)?;
        match field {
            0 => return None,
            KDF_PARAMETERS => return memory_of(value.get(2..)?),
            _ => {}
        }
    }
}

/// A dictionary of typed values: type, then key and value, each after its length.
fn memory_of(mut dictionary: &[u8]) -> Option<u64> {
    loop {
        let (&kind, after) = dictionary.split_first()?;
        if kind == 0 {
            return None;
        }
        let mut rest = after;
        let key = sized(after, &mut rest)?;
        let value = sized(rest, &mut dictionary)?;
        if key == b"M" {
            return value.try_into().ok().map(u64::from_le_bytes);
        }
    }
}

/// What stands after its length (4 bytes, little-endian); `rest` is what follows.
fn sized<'a>(from: &'a [u8], rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = from.split_first_chunk::<4>()?;
    let (value, following) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = following;
    Some(value)
}

fn take(plan: &mut Plan, group: &GroupRef<'_>, path: &str, depth: usize) -> Result<(), ImportError> {
    if depth > MAX_DEPTH {
        return plan.refuse(path.to_owned(), format!("groups lie in each other more than {MAX_DEPTH} deep"));
    }
    for entry in group.entries() {
        let title = entry.get_title().unwrap_or_default();
        let place = format!("{path}{title}");
        let login = entry.get_username().unwrap_or_default();
        let secret = SecretBytes::new(entry.get_password().unwrap_or_default().as_bytes().to_vec());
        plan.add(place, title, login, secret)?;
    }
    for group in group.groups() {
        if group.name != RECYCLE_BIN {
            take(plan, &group, &format!("{path}{}/", group.name), depth + 1)?;
        }
    }
    Ok(())
}
