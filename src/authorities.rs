//! Which SSH authority signs: the one that the store says, as soon as it says so. The vault process looks for it.

use cofferdam_access::{audit::Act, clock::Timestamp, store::Store};
use cofferdam_vault::{AuthorityKey, Context as Sealed, Purpose, Sealer, SecretBytes, SshCa, authority_id};
use tracing::info;

/// What an authority's sealed private key is bound to.
pub(crate) fn authority_binding(id: &str) -> Sealed {
    Sealed::new("ssh-authority", id)
}

/// Takes note of the authorities in the configured files, where the store knows none yet.
///
/// # Errors
/// When the store or a key cannot be used.
pub(crate) async fn know(store: &Store, act: &Act, ca: &SshCa) -> Result<(), String> {
    for purpose in Purpose::ALL {
        let key = ca.public_key(purpose);
        let line = key.to_openssh().map_err(|e| e.to_string())?;
        let known = store.know_authority(act, purpose, &authority_id(&key), line.trim()).await;
        known.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Makes `ca` sign with what the store says; with nothing where that cannot be had. Answers when the next one takes over by
/// itself.
///
/// # Errors
/// When the store does not answer (who signs stays as it is), or the key cannot be opened.
pub(crate) async fn adopt(
    store: &Store,
    sealer: &Sealer,
    ca: &SshCa,
    now: Timestamp,
) -> Result<Option<Timestamp>, String> {
    let all = store.authorities().await.map_err(|e| e.to_string())?;
    for purpose in Purpose::ALL {
        let Some(signing) = all.signing(purpose, now) else { continue };
        if ca.signs(purpose).as_ref() == Some(&signing.id) {
            continue;
        }
        // The first one is in each node's own file, and signs there until another takes over.
        let Some(sealed) = &signing.sealed else { continue };
        match open(sealer, &signing.id, sealed) {
            Ok(key) => {
                ca.adopt(purpose, key);
                info!(%purpose, authority = %signing.id, "another SSH authority signs from now on");
            }
            Err(e) => {
                ca.withhold(purpose);
                return Err(format!("the {purpose} authority {} signs nothing: {e}", signing.id));
            }
        }
    }
    Ok(all.next_change(now))
}

fn open(sealer: &Sealer, id: &str, sealed: &[u8]) -> Result<AuthorityKey, String> {
    let secret: SecretBytes = sealer.open(&authority_binding(id), sealed).map_err(|e| e.to_string())?;
    AuthorityKey::from_secret(&secret).map_err(|e| e.to_string())
}
