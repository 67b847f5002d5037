//! Passkeys (WebAuthn Level 2): enrolled, and used to log in and to step up. The authenticator has to have verified its user
//! (PIN, finger, face), so that one counts as both factors.
//!
//! What a browser was asked stands in the store until it answers: it works once, on any node, and only for the purpose that
//! it was asked for.

use aws_lc_rs::digest::{SHA256, digest};
use cofferdam_access::{
    audit::{Act, AuditEvent},
    clock::Timestamp,
    ids::Name,
    store::{Store, StoredPasskey},
};
use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, de::DeserializeOwned};
use url::{Host, Url};
use uuid::Uuid;
use webauthn_rs::prelude::{
    DiscoverableAuthentication, Passkey, PasskeyAuthentication, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Webauthn, WebauthnBuilder,
};

use crate::{error::Failure, token::Token};

/// How long a browser may take to answer, seconds.
const PATIENCE: i64 = 300;
/// Longest name that an owner may give a passkey, characters.
const LONGEST_NAME: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Passkeys {
    /// None where the public address is a bare IP address, to which no passkey can be bound (WebAuthn §5.1.2).
    webauthn: Option<Webauthn>,
}

/// A question for a browser.
#[derive(Debug, Serialize)]
pub(crate) struct Question {
    /// Goes back with the answer.
    pub(crate) challenge: String,
    /// What `navigator.credentials` is given (JSON form).
    pub(crate) options: serde_json::Value,
}

impl Passkeys {
    /// Bound to the host of `public_url`.
    pub(crate) fn new(public_url: &Url, site: &str) -> Result<Self, String> {
        match public_url.host() {
            None => Err("it names no host".into()),
            Some(_) if public_url.scheme() != "https" => Err("it does not begin with https://".into()),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => Ok(Self { webauthn: None }),
            Some(Host::Domain(host)) => {
                let built = WebauthnBuilder::new(host, public_url).and_then(|b| b.rp_name(site).build());
                built.map(|webauthn| Self { webauthn: Some(webauthn) }).map_err(|e| e.to_string())
            }
        }
    }

    /// Whether browsers can use passkeys here.
    pub(crate) fn usable(&self) -> bool {
        self.webauthn.is_some()
    }

    fn webauthn(&self) -> Result<&Webauthn, Failure> {
        self.webauthn.as_ref().ok_or_else(|| {
            Failure::Unavailable("passkeys need a host name in web.public_url, not an IP address".into())
        })
    }

    /// Asks a browser to make a passkey for `person`.
    pub(crate) async fn ask_to_make(
        &self,
        store: &Store,
        now: Timestamp,
        person: &Name,
        purpose: &str,
    ) -> Result<Question, Failure> {
        let present = store.passkeys(person).await?;
        let known = present.iter().filter_map(|p| read(p).ok()).map(|p| p.cred_id().clone()).collect();
        let (options, state) = self
            .webauthn()?
            .start_passkey_registration(handle_of(person), person.as_str(), person.as_str(), Some(known))
            .map_err(|e| Failure::internal("passkey", e))?;
        let mut options = json(&options)?;
        // Kept on the authenticator, so that its owner need not type a name to log in.
        if let Some(selection) = options.pointer_mut("/publicKey/authenticatorSelection")
            && let Some(selection) = selection.as_object_mut()
        {
            selection.insert("residentKey".into(), "required".into());
            selection.insert("requireResidentKey".into(), true.into());
        }
        keep(store, now, &format!("{purpose} {person}"), &state, options).await
    }

    /// What the browser made, checked against what it was asked.
    pub(crate) async fn made(
        &self,
        store: &Store,
        now: Timestamp,
        person: &Name,
        purpose: &str,
        answer: &Answer<'_>,
        name: &str,
    ) -> Result<StoredPasskey, Failure> {
        let state: PasskeyRegistration = take(store, now, &format!("{purpose} {person}"), answer).await?;
        let made: RegisterPublicKeyCredential = answer.credential()?;
        let passkey = self.webauthn()?.finish_passkey_registration(&made, &state).map_err(not_proved)?;
        let name: String = name.trim().chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
        Ok(StoredPasskey {
            id: BASE64URL_NOPAD.encode(passkey.cred_id().as_ref()),
            person: person.clone(),
            name: if name.is_empty() { "passkey".to_owned() } else { name },
            body: serde_json::to_string(&passkey).map_err(|e| Failure::internal("passkey", e))?,
            created_at: now,
            used_at: None,
        })
    }

    /// Asks a browser for any passkey of this interface: its owner has not said who they are.
    pub(crate) async fn ask_who(
        &self,
        store: &Store,
        now: Timestamp,
        purpose: &str,
    ) -> Result<Question, Failure> {
        let (options, state) = self
            .webauthn()?
            .start_discoverable_authentication()
            .map_err(|e| Failure::internal("passkey", e))?;
        keep(store, now, purpose, &state, json(&options)?).await
    }

    /// Who answered [`Self::ask_who`]. The event is written with the use.
    pub(crate) async fn who(
        &self,
        store: &Store,
        act: &(dyn Fn(&Name) -> Option<(Act, AuditEvent)> + Sync),
        now: Timestamp,
        purpose: &str,
        answer: &Answer<'_>,
    ) -> Result<Name, Failure> {
        let state: DiscoverableAuthentication = take(store, now, purpose, answer).await?;
        let given: PublicKeyCredential = answer.credential()?;
        let webauthn = self.webauthn()?;
        let (handle, id) = webauthn.identify_discoverable_authentication(&given).map_err(not_proved)?;
        let kept = store.passkey(&BASE64URL_NOPAD.encode(id)).await?.ok_or_else(unknown)?;
        if handle_of(&kept.person) != handle {
            return Err(unknown());
        }
        let mut passkey = read(&kept)?;
        let result =
            webauthn.finish_discoverable_authentication_v2(&given, state, &passkey).map_err(not_proved)?;
        // Asked before anything is written: somebody who may not act has not logged in.
        let (act, event) = act(&kept.person).ok_or_else(unknown)?;
        used(store, &act, &kept, &mut passkey, &result, event).await?;
        Ok(kept.person)
    }

    /// Asks `person` for one of their own passkeys, for exactly this purpose.
    pub(crate) async fn ask_again(
        &self,
        store: &Store,
        now: Timestamp,
        person: &Name,
        purpose: &str,
    ) -> Result<Question, Failure> {
        let present = store.passkeys(person).await?;
        let keys: Vec<Passkey> = present.iter().map(read).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(Failure::Conflict(
                "you have no passkey: use a code, or add one on your account page".into(),
            ));
        }
        let (options, state) = self
            .webauthn()?
            .start_passkey_authentication(&keys)
            .map_err(|e| Failure::internal("passkey", e))?;
        keep(store, now, &format!("{purpose} {person}"), &state, json(&options)?).await
    }

    /// Checks the answer to [`Self::ask_again`] and writes `event` with the use.
    pub(crate) async fn again(
        &self,
        store: &Store,
        act: &Act,
        person: &Name,
        purpose: &str,
        answer: &Answer<'_>,
        event: AuditEvent,
    ) -> Result<(), Failure> {
        let state: PasskeyAuthentication =
            take(store, act.at, &format!("{purpose} {person}"), answer).await?;
        let given: PublicKeyCredential = answer.credential()?;
        let result = self.webauthn()?.finish_passkey_authentication(&given, &state).map_err(not_proved)?;
        let kept = store
            .passkey(&BASE64URL_NOPAD.encode(result.cred_id().as_ref()))
            .await?
            .filter(|k| &k.person == person)
            .ok_or_else(unknown)?;
        let mut passkey = read(&kept)?;
        used(store, act, &kept, &mut passkey, &result, event).await
    }
}

/// What a browser sent back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    /// Which question it answers.
    pub(crate) challenge: &'a str,
    /// The credential (JSON form).
    pub(crate) credential: &'a str,
}

impl Answer<'_> {
    fn credential<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(self.credential)
            .map_err(|_| Failure::Invalid("the browser's answer is not a passkey's: try again".into()))
    }
}

async fn used(
    store: &Store,
    act: &Act,
    kept: &StoredPasskey,
    passkey: &mut Passkey,
    result: &webauthn_rs::prelude::AuthenticationResult,
    event: AuditEvent,
) -> Result<(), Failure> {
    if !result.user_verified() {
        return Err(Failure::NotProved(
            "the passkey did not verify its user: try again, and unlock it".into(),
        ));
    }
    passkey.update_credential(result);
    let body = serde_json::to_string(&passkey).map_err(|e| Failure::internal("passkey", e))?;
    if store.use_passkey(act, kept, &body, event).await? { Ok(()) } else { Err(unknown()) }
}

async fn keep(
    store: &Store,
    now: Timestamp,
    purpose: &str,
    state: &impl Serialize,
    options: serde_json::Value,
) -> Result<Question, Failure> {
    let challenge = Token::new(&mut rand::rng());
    let body = serde_json::to_string(state).map_err(|e| Failure::internal("passkey", e))?;
    let until = now.plus_seconds(PATIENCE);
    store.put_challenge(now, &challenge.digest(), purpose, &body, until).await?;
    Ok(Question { challenge: challenge.expose().to_owned(), options })
}

async fn take<T: DeserializeOwned>(
    store: &Store,
    now: Timestamp,
    purpose: &str,
    answer: &Answer<'_>,
) -> Result<T, Failure> {
    let over = || Failure::NotProved("that took too long, or was answered before: try again".into());
    let challenge = Token::parse(answer.challenge).ok_or_else(over)?;
    let body = store.take_challenge(now, &challenge.digest(), purpose).await?.ok_or_else(over)?;
    serde_json::from_str(&body).map_err(|e| Failure::internal("passkey", e))
}

fn read(kept: &StoredPasskey) -> Result<Passkey, Failure> {
    serde_json::from_str(&kept.body).map_err(|e| Failure::internal("passkey", e))
}

fn json(value: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(value).map_err(|e| Failure::internal("passkey", e))
}

fn unknown() -> Failure {
    Failure::NotProved("this passkey opens nothing here: use another, or your password and a code".into())
}

fn not_proved(e: webauthn_rs::prelude::WebauthnError) -> Failure {
    tracing::info!(error = %e, "a passkey was refused");
    Failure::NotProved("the passkey was not accepted: try again, or use a code".into())
}

/// What authenticators keep to know whose a passkey is: derived from the name, so that nothing else has to be kept.
fn handle_of(person: &Name) -> Uuid {
    let full = digest(&SHA256, format!("cofferdam passkey {person}").as_bytes());
    let mut bytes = [0u8; 16];
    for (to, from) in bytes.iter_mut().zip(full.as_ref()) {
        *to = *from;
    }
    Uuid::from_bytes(bytes)
}
