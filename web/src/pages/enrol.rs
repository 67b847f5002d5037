//! An invitation's link: set a password and a second factor, once.

use askama::Template;
use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use cofferdam_access::{
    audit::Act,
    clock::Timestamp,
    ids::Name,
    password::{Costs, SHORTEST, StoredPassword},
    recovery,
    store::{Enrolment, EnrolmentOutcome, Invitation, SecondFactorSetUp, StoredPasskey, invitation_digest},
    totp::TotpSecret,
};
use data_encoding::BASE64;
use qrcode::{EcLevel, QrCode, render::svg};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::login::{visit, with_cookie};
use crate::{
    error::{Failure, Problem},
    form::VisitForm,
    frame::{self, Frame, Moment},
    passkeys::{Answer, Question},
    routes::{Routes, Rule},
    services::App,
    token::Token,
    viewer::Peer,
};

/// How long the page may stay open, seconds: the secret that it shows is forgotten then.
const PATIENCE: i64 = 3600;
/// What a passkey is made for here.
const PURPOSE: &str = "enrol";

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/enrol/{invitation}", Rule::Public, show)
        .post("/enrol/{invitation}", Rule::Public, submit)
        .post("/enrol/{invitation}/passkey", Rule::Public, passkey_options)
}

#[derive(Template)]
#[template(path = "enrol.html")]
struct EnrolPage {
    frame: Frame,
    problem: Option<String>,
    invitation: String,
    person: String,
    full_name: String,
    organisation: String,
    ends: Moment,
    shortest: usize,
    passkeys: bool,
    /// Which secret this page shows.
    pending: String,
    secret: Zeroizing<String>,
    /// The QR code as a `data:` address.
    qr: Zeroizing<String>,
}

#[derive(Template)]
#[template(path = "enrolled.html")]
struct EnrolledPage {
    frame: Frame,
    person: String,
    codes: Vec<Zeroizing<String>>,
}

/// The invitation, if it still works. Every one that does not looks the same.
async fn standing(app: &App, peer: Peer, code: &str) -> Result<(String, Invitation), Failure> {
    let now = app.now();
    if !app.prover.may_guess(None, peer.0.ip(), now) {
        return Err(Failure::TooMany);
    }
    let digest = invitation_digest(code);
    let found = app.store.invitation(&digest).await?;
    let works = found.filter(|i| i.used_at.is_none() && i.expires_at > now);
    let snapshot = app.snapshot();
    let works = works.filter(|i| snapshot.site.user(&i.person).is_some_and(|u| u.is_active(now)));
    works.map(|invitation| (digest, invitation)).ok_or_else(|| {
        Failure::Invalid(
            "this invitation is unknown, used or over: ask whoever invited you for a new one".into(),
        )
    })
}

async fn show(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    Path(code): Path<String>,
) -> Result<Response, Failure> {
    let (digest, invitation) = standing(&app, peer, &code).await?;
    let secret = TotpSecret::generate(&mut rand::rng());
    page(&app, &headers, &code, &digest, &invitation, &secret, None).await
}

async fn page(
    app: &App,
    headers: &HeaderMap,
    code: &str,
    digest: &str,
    invitation: &Invitation,
    secret: &TotpSecret,
    problem: Option<String>,
) -> Result<Response, Failure> {
    let pending = keep(app, digest, &invitation.person, secret).await?;
    let snapshot = app.snapshot();
    let user = snapshot.site.user(&invitation.person).ok_or(Failure::NotFound)?;
    let (frame, cookie) = visit(app, headers, "/enrol");
    let uri = secret.otpauth_uri(&app.site, &invitation.person);
    let page = EnrolPage {
        ends: frame.at(&invitation.expires_at),
        frame,
        problem,
        invitation: code.to_owned(),
        person: user.name.to_string(),
        full_name: if user.full_name.is_empty() { user.name.to_string() } else { user.full_name.clone() },
        organisation: user.organisation.to_string(),
        shortest: SHORTEST,
        passkeys: app.passkeys.usable(),
        pending,
        secret: secret.to_base32(),
        qr: qr(&uri)?,
    };
    Ok(with_cookie(frame::page(&page)?, cookie))
}

/// The code that an authenticator's camera reads.
fn qr(uri: &str) -> Result<Zeroizing<String>, Failure> {
    let code = QrCode::with_error_correction_level(uri.as_bytes(), EcLevel::M)
        .map_err(|e| Failure::internal("QR code", e))?;
    let image = Zeroizing::new(code.render::<svg::Color<'_>>().min_dimensions(200, 200).build());
    Ok(Zeroizing::new(format!("data:image/svg+xml;base64,{}", BASE64.encode(image.as_bytes()))))
}

/// The secret waits, sealed, for the code that proves that the authenticator has it.
async fn keep(app: &App, digest: &str, person: &Name, secret: &TotpSecret) -> Result<String, Failure> {
    let now = app.now();
    let sealed = app.prover.set_aside(person, secret)?;
    let token = Token::new(&mut rand::rng());
    let until = now.plus_seconds(PATIENCE);
    app.store
        .put_challenge(now, &token.digest(), &format!("{PURPOSE} {digest}"), &hex::encode(sealed), until)
        .await?;
    Ok(token.expose().to_owned())
}

async fn kept(
    app: &App,
    digest: &str,
    person: &Name,
    pending: &str,
    now: Timestamp,
) -> Result<(Vec<u8>, TotpSecret), Failure> {
    let over = || Failure::Invalid("the page was open for too long: open the invitation again".into());
    let token = Token::parse(pending).ok_or_else(over)?;
    let body = app
        .store
        .take_challenge(now, &token.digest(), &format!("{PURPOSE} {digest}"))
        .await?
        .ok_or_else(over)?;
    let sealed = hex::decode(body).map_err(|e| Failure::internal("enrolment", e))?;
    let secret = app.prover.take_up(person, &sealed).ok_or_else(over)?;
    Ok((app.prover.seal(person, &secret)?, secret))
}

#[derive(Deserialize)]
struct Given {
    password: String,
    again: String,
    pending: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    challenge: String,
    #[serde(default)]
    credential: String,
}

/// A second factor that was proved to work.
enum Second {
    Totp { sealed: Vec<u8>, step: u64 },
    Passkey(StoredPasskey),
}

async fn submit(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    Path(code): Path<String>,
    VisitForm(given): VisitForm<Given>,
) -> Result<Response, Failure> {
    let (password, again) = (Zeroizing::new(given.password), Zeroizing::new(given.again));
    let (digest, invitation) = standing(&app, peer, &code).await?;
    let now = app.now();
    let person = &invitation.person;
    let (sealed, secret) = kept(&app, &digest, person, &given.pending, now).await?;
    let hash = if *password == *again {
        StoredPassword::new(&password, Costs::OWASP, &mut rand::rng()).map_err(|e| e.to_string())
    } else {
        Err("the two passwords differ: type the same twice".to_owned())
    };
    let hash = match hash {
        Ok(hash) => hash,
        Err(why) => return page(&app, &headers, &code, &digest, &invitation, &secret, Some(why)).await,
    };
    let second = if given.credential.is_empty() {
        match secret.check(given.code.trim(), now, None) {
            Some(step) => Second::Totp { sealed, step },
            None => {
                let why = "the code does not fit: enter the one that the app shows now, and check the clock of its device";
                return page(&app, &headers, &code, &digest, &invitation, &secret, Some(why.into())).await;
            }
        }
    } else {
        let answer = Answer { challenge: &given.challenge, credential: &given.credential };
        let purpose = format!("{PURPOSE} {digest}");
        Second::Passkey(app.passkeys.made(&app.store, now, person, &purpose, &answer, "passkey").await?)
    };
    finish(&app, peer, &headers, &digest, person, hash.as_phc(), &second).await
}

async fn finish(
    app: &App,
    peer: Peer,
    headers: &HeaderMap,
    digest: &str,
    person: &Name,
    password_hash: &str,
    second: &Second,
) -> Result<Response, Failure> {
    let codes = recovery::generate(person, &mut rand::rng());
    let digests: Vec<String> = codes.iter().map(|(_, hash)| hex::encode(hash.0)).collect();
    let enrolment = Enrolment {
        password_hash,
        second: match second {
            Second::Totp { sealed, step } => SecondFactorSetUp::Totp { sealed, step: *step },
            Second::Passkey(passkey) => SecondFactorSetUp::Passkey(passkey),
        },
        recovery_digests: &digests,
    };
    let act = Act::person(person, app.now()).from(peer.0.ip().to_canonical());
    match app.store.enrol(&act, digest, &enrolment).await? {
        EnrolmentOutcome::Enrolled(_) => {}
        EnrolmentOutcome::InvitationRefused => {
            return Err(Failure::Conflict("the invitation was used meanwhile: ask for a new one".into()));
        }
    }
    let (frame, cookie) = visit(app, headers, "/enrol");
    let codes = codes.iter().map(|(code, _)| Zeroizing::new(code.expose().to_owned())).collect();
    Ok(with_cookie(frame::page(&EnrolledPage { frame, person: person.to_string(), codes })?, cookie))
}

#[derive(Debug, Deserialize)]
struct Nothing {}

async fn passkey_options(
    State(app): State<App>,
    peer: Peer,
    Path(code): Path<String>,
    VisitForm(Nothing {}): VisitForm<Nothing>,
) -> Result<Json<Question>, Problem> {
    let (digest, invitation) = standing(&app, peer, &code).await?;
    let purpose = format!("{PURPOSE} {digest}");
    Ok(Json(app.passkeys.ask_to_make(&app.store, app.now(), &invitation.person, &purpose).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_render() {
        let frame = Frame::sample("/enrol");
        let uri = "otpauth://totp/x:vera?secret=ABC";
        let page = EnrolPage {
            ends: frame.at(&frame.now),
            frame: frame.clone(),
            problem: Some("no".into()),
            invitation: "abc".into(),
            person: "vera".into(),
            full_name: "<i>Vera</i>".into(),
            organisation: "pumpworks".into(),
            shortest: SHORTEST,
            passkeys: true,
            pending: "p".into(),
            secret: Zeroizing::new("ABC".into()),
            qr: qr(uri).unwrap(),
        };
        let html = page.render().unwrap();
        assert!(html.contains("data:image/svg") && !html.contains("<i>Vera"));
        let done = EnrolledPage { frame, person: "vera".into(), codes: vec![Zeroizing::new("AAAA".into())] };
        assert!(done.render().unwrap().contains("AAAA"));
    }
}
