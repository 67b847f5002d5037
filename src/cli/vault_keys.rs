//! The vault's keys: unsealing, sealing, new keys, another root. No key and no share is ever printed but where that is what
//! was asked for.

use std::{collections::HashMap, path::PathBuf};

use clap::{Args, Subcommand};
use cofferdam_vault::{
    Context as Sealed, KeyringDocument, Root, Sealer, SecretString, SystemEntropy,
    agent::Client,
    unseal::{
        PASSPHRASE_WORK, Phase, Share, Token, TokenCipher, combine, create_file, create_with_passphrase,
        split,
    },
};
use serde_json::json;

use super::{
    desk::Desk,
    error::CliError,
    output::{Reply, shown},
    prompt::{Prompt, StandardInput, Terminal},
};
use crate::{config::settings::Unseal, keys::root_of};

/// How a passphrase or a share is asked for.
#[derive(Debug, Clone, Args)]
pub(crate) struct Asked {
    /// Read the passphrase or share from standard input
    #[arg(long, global = true)]
    stdin: bool,
    /// Who gives it, where root types for several people; for anybody else it is their own name
    #[arg(long, value_name = "NAME", global = true)]
    by: Option<String>,
}

impl Asked {
    fn prompt(&self) -> Box<dyn Prompt> {
        if self.stdin { Box::new(StandardInput::new()) } else { Box::new(Terminal) }
    }
}

fn secret(prompt: &mut dyn Prompt, question: &str) -> Result<SecretString, CliError> {
    Ok(SecretString::from(prompt.secret(question)?.trim()))
}

/// What shall open the vault from now on.
#[derive(Debug, Subcommand)]
pub(crate) enum NewRoot {
    /// A file that whoever can read it opens the vault with
    File {
        /// The new file
        #[arg(long)]
        out: PathBuf,
    },
    /// A passphrase that somebody types at each start
    Passphrase {
        /// The new file, which the passphrase opens
        #[arg(long)]
        out: PathBuf,
    },
    /// The key of the PKCS#11 token that `vault.token` describes
    Token {
        /// The new file, which the token's key opens
        #[arg(long)]
        out: PathBuf,
        /// How the token wraps: rsa-oaep-sha256, rsa-oaep-sha1 (SoftHSM 2 and older tokens) or aes-gcm
        #[arg(long, default_value = "rsa-oaep-sha256", value_parser = cipher)]
        cipher: TokenCipher,
    },
    /// Shares, of which several people together open the vault
    Shares {
        /// How many open it
        #[arg(long)]
        needed: u8,
        /// How many there are
        #[arg(long)]
        of: u8,
    },
}

fn cipher(name: &str) -> Result<TokenCipher, String> {
    TokenCipher::from_name(name).ok_or_else(|| "write rsa-oaep-sha256, rsa-oaep-sha1 or aes-gcm".to_owned())
}

/// Brings the running vault what opens it.
pub(crate) fn unseal(desk: &Desk, asked: &Asked) -> Result<Reply, CliError> {
    let client = desk.context.running_vault()?;
    let by = asked.by.as_deref().unwrap_or(desk.operator());
    let phase = match desk.context.config.vault.unseal() {
        Unseal::Passphrase => {
            client.give_passphrase(&secret(asked.prompt().as_mut(), "passphrase of the vault")?, by)
        }
        Unseal::Shares => client.give_share(&secret(asked.prompt().as_mut(), "your share")?, by),
        Unseal::File | Unseal::Credential | Unseal::Token => client.unseal_as_configured(by),
    };
    Ok(told(desk, &phase.map_err(|e| CliError::failed(e.to_string()))?))
}

/// Seals the running vault.
pub(crate) fn seal(desk: &Desk) -> Result<Reply, CliError> {
    let client = desk.context.running_vault()?;
    client.seal_vault(desk.operator()).map_err(|e| CliError::failed(e.to_string()))?;
    let text = "the vault is sealed: no session starts until it is unsealed; those that live go on";
    Ok(Reply::new(text, json!({"id": "vault", "state": "sealed"})))
}

fn told(desk: &Desk, phase: &Phase) -> Reply {
    match phase {
        Phase::Sealed => Reply::new("the vault is sealed", json!({"id": "vault", "state": "sealed"})),
        Phase::Waiting(progress) => {
            let until = shown(&desk.zone, Some(cofferdam_access::clock::Timestamp(progress.expires)));
            let given: Vec<_> =
                progress.given.iter().map(|(number, by)| format!("{number} by {by}")).collect();
            let text = format!(
                "{} of {} shares are there ({}); the others have to come before {until}",
                progress.given.len(),
                progress.needed,
                given.join(", ")
            );
            let json = json!({
                "id": "vault", "state": "waiting", "given": progress.given.len(), "needed": progress.needed,
            });
            Reply::new(text, json)
        }
        Phase::Open { people, .. } => {
            let text = format!("the vault is open (by {})", people.join(", "));
            Reply::new(text, json!({"id": "vault", "state": "open", "people": people}))
        }
    }
}

/// A new key, and everything that is sealed wrapped anew for it: by the running vault, or here where none runs.
pub(crate) async fn rekey(desk: &Desk) -> Result<Reply, CliError> {
    let keys = Keys::of(desk)?;
    let generation = match &keys {
        Keys::Running(client) => {
            client.rekey(desk.operator()).map_err(|e| CliError::failed(e.to_string()))?
        }
        Keys::Here(sealer) => {
            let next = sealer.rekey(desk.now().micros())?;
            store(desk, next.document()).await?;
            let generation = next.generation();
            sealer.adopt(next);
            generation
        }
    };
    let (rewrapped, left) = rewrap(desk, &keys).await?;
    let text = format!(
        "the vault seals with generation {generation}; {rewrapped} secrets are wrapped anew, {left} are still under an \
         older one{}",
        if left == 0 {
            " (`cofferdam vault retire N` takes an old generation out of use)"
        } else {
            ": run `cofferdam vault rewrap` when no rotation is under way"
        }
    );
    let json = json!({"id": "vault", "generation": generation, "rewrapped": rewrapped, "left": left});
    Ok(Reply::new(text, json))
}

/// Wraps anew what an earlier re-keying left.
pub(crate) async fn rewrap_rest(desk: &Desk) -> Result<Reply, CliError> {
    let (rewrapped, left) = rewrap(desk, &Keys::of(desk)?).await?;
    let text = format!("{rewrapped} secrets are wrapped anew, {left} are still under an older generation");
    Ok(Reply::new(text, json!({"id": "vault", "rewrapped": rewrapped, "left": left})).judged(left == 0))
}

/// Takes a generation out of the keyring that nothing is sealed under any more.
pub(crate) async fn retire(desk: &Desk, generation: u32) -> Result<Reply, CliError> {
    let needed = sealed_under(desk, generation).await?;
    if needed > 0 {
        return Err(CliError::failed(format!(
            "{needed} secrets are still sealed under generation {generation}: run `cofferdam vault rewrap` first"
        )));
    }
    match Keys::of(desk)? {
        Keys::Running(client) => {
            client.retire(generation, desk.operator()).map_err(|e| CliError::failed(e.to_string()))?;
        }
        Keys::Here(sealer) => {
            let next = sealer.retire(generation)?;
            store(desk, next.document()).await?;
        }
    }
    let text =
        format!("generation {generation} is retired: backups from before open with their own keyring only");
    Ok(Reply::new(text, json!({"id": "vault", "retired": generation})))
}

/// What the running vault says of itself, for `vault status`.
pub(crate) fn running(desk: &Desk) -> Reply {
    let asked = desk.context.running_vault().map_err(|e| e.to_string());
    let status = asked.and_then(|client| client.status().map_err(|e| e.to_string()));
    let status = match status {
        Ok(status) => status,
        Err(why) => return Reply::new(format!("running          no: {why}\n"), json!(null)),
    };
    let phase = told(desk, &status.phase.clone().into());
    let generations: Vec<_> = status
        .generations
        .iter()
        .map(|(number, made, _)| {
            let made = shown(&desk.zone, Some(cofferdam_access::clock::Timestamp(*made)));
            if *number == 0 { "0 (the root of before)".to_owned() } else { format!("{number} (made {made})") }
        })
        .collect();
    let text = format!(
        "running          {}, process {}\ngenerations      {}\nleases out       {}\ncore files       {}\n\
         tracing          {}\nlocked memory    {}\n",
        phase.text,
        status.process_id,
        generations.join(", "),
        status.leases,
        status.hardening.no_core,
        status.hardening.not_dumpable,
        status.hardening.locked,
    );
    let json = json!({
        "state": phase.json["state"], "process_id": status.process_id, "leases": status.leases,
        "generations": status.generations.iter().map(|(number, ..)| number).collect::<Vec<_>>(),
        "no_core": status.hardening.no_core.to_string(), "not_dumpable": status.hardening.not_dumpable.to_string(),
        "locked": status.hardening.locked.to_string(),
    });
    Reply::new(text, json)
}

/// Who has the keys: the running vault, or this command for itself where none runs.
enum Keys {
    Running(std::sync::Arc<Client>),
    Here(Sealer),
}

impl Keys {
    fn of(desk: &Desk) -> Result<Self, CliError> {
        Ok(match desk.context.running_vault_if_any()? {
            Some(client) => Self::Running(client),
            None => Self::Here(desk.context.sealer()?),
        })
    }

    fn rewrap(&self, context: &Sealed, sealed: &[u8]) -> Result<Option<Vec<u8>>, CliError> {
        match self {
            Self::Running(client) => {
                client.rewrap(context, sealed).map_err(|e| CliError::failed(e.to_string()))
            }
            Self::Here(sealer) => Ok(sealer.rewrap(context, sealed)?),
        }
    }
}

async fn rewrap(desk: &Desk, keys: &Keys) -> Result<(u64, usize), CliError> {
    let mut new = Vec::new();
    // What stands in two places stays the same in both.
    let mut known: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    for row in desk.store.sealed_rows().await? {
        let context = Sealed::new(row.purpose, row.id.clone());
        let made = match known.get(&row.sealed) {
            Some(made) => Some(made.clone()),
            None => keys.rewrap(&context, &row.sealed)?,
        };
        if let Some(made) = made {
            known.insert(row.sealed.clone(), made.clone());
            new.push((row, made));
        }
    }
    let replaced = desk.store.replace_sealed(&desk.own_act(), &new).await?;
    let left = usize::try_from(replaced).map_or(0, |done| new.len().saturating_sub(done));
    Ok((replaced, left))
}

/// How many sealed rows are under that generation.
async fn sealed_under(desk: &Desk, generation: u32) -> Result<usize, CliError> {
    let mut found = 0;
    for row in desk.store.sealed_rows().await? {
        let context = Sealed::new(row.purpose, row.id.clone());
        found += usize::from(Sealer::generation_of(&context, &row.sealed)? == generation);
    }
    Ok(found)
}

async fn store(desk: &Desk, new: &KeyringDocument) -> Result<(), CliError> {
    let old = desk.context.keyring().map(KeyringDocument::as_bytes);
    if desk.store.replace_keyring(&desk.own_act(), old, new.as_bytes()).await? {
        return Ok(());
    }
    Err(CliError::failed("another process changed the keyring meanwhile; nothing was done, run this again"))
}

/// Puts the keyring under a new root, in the form that is wanted. The old root opens nothing any more.
pub(crate) async fn reroot(desk: &Desk, wanted: &NewRoot, asked: &Asked) -> Result<Reply, CliError> {
    // Everything that can be refused is refused before the keyring changes.
    let mut prompt = asked.prompt();
    let (new, told) = make(desk, wanted, prompt.as_mut())?;
    let old = present_root(desk, prompt.as_mut())?;
    let entropy = std::sync::Arc::clone(&desk.context.entropy);
    let sealer = match desk.context.keyring() {
        Some(document) => Sealer::open_keyring(&old, document, entropy)?,
        None => {
            // The first keyring: the old root becomes its generation 0 and is a root no more.
            let sealer = Sealer::from_root(&old, entropy)?;
            let next = sealer.rekey(desk.now().micros())?;
            sealer.adopt(next);
            sealer
        }
    };
    let next = sealer.reroot(&new)?;
    store(desk, next.document()).await?;
    let text = format!(
        "{told}\nThe old root opens nothing any more. Running gateways go on with the keys that they have; after their next \
         start they need the new one: set `vault.unseal` and `vault.identity_file` accordingly, and destroy the old file."
    );
    Ok(Reply::new(text, json!({"id": "vault", "vault": new.vault_id().to_string()})))
}

fn make(desk: &Desk, wanted: &NewRoot, prompt: &mut dyn Prompt) -> Result<(Root, String), CliError> {
    let failed = |e: cofferdam_vault::unseal::UnsealError| CliError::failed(e.to_string());
    let new = Root::generate(&SystemEntropy).map_err(|e| CliError::failed(e.to_string()))?;
    let told = match wanted {
        NewRoot::File { out } => {
            create_file(out, &new).map_err(failed)?;
            format!("the new root is in {}: unseal = \"file\"", out.display())
        }
        NewRoot::Passphrase { out } => {
            let passphrase = secret(prompt, "new passphrase")?;
            if secret(prompt, "again")?.expose() != passphrase.expose() {
                return Err(CliError::failed("the two passphrases differ: try again"));
            }
            create_with_passphrase(out, &new, &passphrase, PASSPHRASE_WORK).map_err(failed)?;
            format!("the passphrase opens {}: unseal = \"passphrase\"", out.display())
        }
        NewRoot::Token { out, cipher } => {
            let described = desk.context.config.vault.token.as_ref();
            let described = described.ok_or_else(|| {
                CliError::failed(
                    "vault.token is not configured: describe the token's module, label, key and PIN",
                )
            })?;
            let token = Token {
                module: described.module.clone(),
                token: described.label.clone(),
                key: described.key.clone(),
                pin_file: described.pin_file.clone(),
            };
            token.wrap(&new, *cipher, &SystemEntropy).and_then(|w| w.create(out)).map_err(failed)?;
            format!("the token's key opens {}: unseal = \"token\"", out.display())
        }
        NewRoot::Shares { needed, of } => {
            let shares =
                split(&new, *needed, *of, &SystemEntropy).map_err(|e| CliError::failed(e.to_string()))?;
            let codes: Vec<_> = shares
                .iter()
                .map(|s| format!("share {} of {}:\n  {}", s.number(), s.of(), s.to_code().expose()))
                .collect();
            format!(
                "{needed} of these open the vault: unseal = \"shares\". They are shown this once; give each to one person, on \
                 paper.\n{}",
                codes.join("\n")
            )
        }
    };
    Ok((new, told))
}

/// The root that opens the vault now, from the configured source and with the people that it takes.
fn present_root(desk: &Desk, prompt: &mut dyn Prompt) -> Result<Root, CliError> {
    let vault = &desk.context.config.vault;
    match vault.unseal() {
        Unseal::Shares => {
            let mut given: Vec<Share> = Vec::new();
            loop {
                let code = secret(prompt, &format!("share number {}", given.len() + 1))?;
                let share = Share::parse(&code).map_err(|e| CliError::failed(e.to_string()))?;
                let needed = usize::from(share.needed());
                given.push(share);
                if given.len() >= needed {
                    return combine(&given).map_err(|e| CliError::failed(e.to_string()));
                }
            }
        }
        Unseal::Passphrase => {
            let passphrase = secret(prompt, "present passphrase of the vault")?;
            root_of(vault, Some(&passphrase)).map_err(CliError::failed)
        }
        _ => root_of(vault, None).map_err(CliError::failed),
    }
}
