//! HashiCorp Vault, secrets engine KV version 2: what `vault kv get -format=json PATH` prints, one after the other, in an
//! array, or in an object by path.
//!
//! ```sh
//! for path in $(vault kv list -format=json secret/hosts | jq -r '.[]'); do
//!   vault kv get -format=json "secret/hosts/$path" | jq --arg path "hosts/$path" '. + {path: $path}'
//! done > export.json
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{ImportError, Plan};
use crate::secret::{SecretBytes, SecretString};

const ASSET: &[&str] = &["asset", "host", "hostname", "server"];
const LOGIN: &[&str] = &["login", "username", "user"];
const SECRET: &[&str] = &["secret", "password", "private_key", "ssh_private_key"];

/// Reads a plan out of an export.
///
/// # Errors
/// [`ImportError::Form`], [`ImportError::TooMany`].
pub fn read_hashicorp(content: &SecretBytes) -> Result<Plan, ImportError> {
    let mut plan = Plan::default();
    let mut number = 0;
    for document in serde_json::Deserializer::from_slice(content.expose()).into_iter::<Export>() {
        let document = document.map_err(|e| ImportError::Form {
            expected: "JSON export of HashiCorp Vault",
            // The library's text could quote what it read; the place is enough.
            reason: format!(
                "line {}, column {} does not fit; see docs/vault.md for its form",
                e.line(),
                e.column()
            ),
        })?;
        for (path, secret) in document.0 {
            number += 1;
            take(&mut plan, number, path, secret)?;
        }
    }
    if number == 0 {
        let reason = "it holds no secret".to_owned();
        return Err(ImportError::Form { expected: "JSON export of HashiCorp Vault", reason });
    }
    Ok(plan)
}

fn take(plan: &mut Plan, number: usize, key: Option<String>, read: Secret) -> Result<(), ImportError> {
    let path = read.path.or(key);
    let place = path.clone().unwrap_or_else(|| format!("secret {number}"));
    let Some(Versioned { data: Some(mut data), .. }) = read.data else {
        return plan.refuse(place, "it has no data: it was deleted, or is not of the KV engine version 2");
    };
    let mut segments: Vec<&str> =
        path.as_deref().unwrap_or_default().split('/').filter(|s| !s.is_empty()).collect();
    let mut named = |names: &[&str]| names.iter().find_map(|n| data.remove(*n));
    let (asset, login, secret) = (named(ASSET), named(LOGIN), named(SECRET));
    // What is not among the fields is the end of the path: …/ASSET/LOGIN, or …/ASSET.
    let login = login.map(|l| l.0).or_else(|| segments.pop().map(SecretString::from));
    let asset = asset.map(|a| a.0).or_else(|| segments.pop().map(SecretString::from));
    let Some(secret) = secret else {
        return plan.refuse(
            place,
            format!("it has none of the fields {}; rename the one that holds the secret", SECRET.join(", ")),
        );
    };
    let empty = SecretString::from("");
    let (asset, login) = (asset.as_ref().unwrap_or(&empty), login.as_ref().unwrap_or(&empty));
    plan.add(place, asset.expose(), login.expose(), SecretBytes::from(&secret.0))
}

/// One or many secrets, with the path that a map gives them.
struct Export(Vec<(Option<String>, Secret)>);

/// What `vault kv get` prints, as far as it is looked at. Everything may be missing: what is, is said per row.
#[derive(Default)]
struct Secret {
    path: Option<String>,
    data: Option<Versioned>,
}

#[derive(Deserialize)]
struct Versioned {
    data: Option<BTreeMap<String, Kept>>,
}

/// A value, which may be a secret: straight into a buffer that is wiped.
struct Kept(SecretString);

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Kept;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Kept, E> {
                Ok(Kept(SecretString::from(text)))
            }
            fn visit_string<E>(self, text: String) -> Result<Kept, E> {
                Ok(Kept(SecretString::new(text)))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Kept, E> {
                Ok(Kept(SecretString::new(number.to_string())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Kept, E> {
                Ok(Kept(SecretString::new(number.to_string())))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Kept, E> {
                Ok(Kept(SecretString::new(number.to_string())))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Kept, E> {
                Ok(Kept(SecretString::from("")))
            }
            fn visit_unit<E>(self) -> Result<Kept, E> {
                Ok(Kept(SecretString::from("")))
            }
            // Lists and objects are nobody's password; they are read past.
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kept, A::Error> {
                while items.next_element::<Kept>()?.is_some() {}
                Ok(Kept(SecretString::from("")))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Kept, A::Error> {
                while items.next_entry::<String, Kept>()?.is_some() {}
                Ok(Kept(SecretString::from("")))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for Export {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Documents;
        impl<'de> Visitor<'de> for Documents {
            type Value = Export;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret, an array of them, or an object by path")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Export, A::Error> {
                let mut all = Vec::new();
                while let Some(Export(some)) = items.next_element()? {
                    all.extend(some);
                }
                Ok(Export(all))
            }
            /// A secret has `data` with `data` in it; anything else is an object by path.
            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Export, A::Error> {
                let (mut one, mut by_path) = (Secret::default(), Vec::new());
                while let Some(key) = items.next_key::<String>()? {
                    match key.as_str() {
                        "data" => one.data = items.next_value()?,
                        "path" => one.path = items.next_value()?,
                        path if path.contains('/') => {
                            let Export(some) = items.next_value()?;
                            by_path.extend(some.into_iter().map(|(_, s)| (Some(path.to_owned()), s)));
                        }
                        _ => drop(items.next_value::<Kept>()?),
                    }
                }
                if one.data.is_some() || by_path.is_empty() {
                    by_path.push((None, one));
                }
                Ok(Export(by_path))
            }
        }
        deserializer.deserialize_any(Documents)
    }
}
