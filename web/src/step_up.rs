//! A fresh second factor for one action: bound to what is done and to what it is done to, so that it can serve for nothing
//! else. The store writes with its use what it was for.

use aws_lc_rs::digest::{Context, SHA256};
use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    decision::{DeviceKind, Factors, SecondFactor, SecondFactorKind},
    login::CodeCheck,
};

use crate::{
    error::Failure,
    passkeys::{Answer, Question},
    services::App,
    viewer::Viewer,
};

/// What a step-up is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// The action's fixed name, as the audit log writes it (`window approve`).
    pub(crate) action: &'static str,
    /// SHA-256 of what it is done to, hexadecimal.
    pub(crate) digest: String,
}

impl Purpose {
    /// An action on things that have names; each part is counted, so that no two lists read the same.
    pub(crate) fn new(action: &'static str, parts: &[&str]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in std::iter::once(&action).chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        Self { action, digest: hex::encode(context.finish().as_ref()) }
    }

    /// An action on something that has a digest of its own.
    pub(crate) fn of_digest(action: &'static str, digest: String) -> Self {
        Self { action, digest }
    }
}

/// What somebody gave to prove that they are there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Proof<'a> {
    /// A code; empty where a passkey is used.
    pub(crate) code: &'a str,
    /// Which question the passkey answers.
    pub(crate) challenge: &'a str,
    /// The passkey's answer.
    pub(crate) credential: &'a str,
}

/// A step-up that was proved.
#[derive(Debug, Clone)]
pub(crate) struct Proved {
    /// The person's own act, at the moment of the proof.
    pub(crate) act: Act,
    /// The second factor that they gave.
    pub(crate) second: SecondFactor,
}

/// Asks the viewer's browser for a passkey, for this purpose alone.
pub(crate) async fn ask(app: &App, viewer: &Viewer, action: &str, digest: &str) -> Result<Question, Failure> {
    app.passkeys.ask_again(&app.store, app.now(), &viewer.user.name, &bound(action, digest)).await
}

/// Checks the proof, uses it up, and answers the person's own act. What it was for is audited with its use.
pub(crate) async fn prove(
    app: &App,
    viewer: &Viewer,
    purpose: &Purpose,
    proof: Proof<'_>,
) -> Result<Proved, Failure> {
    let now = app.now();
    let name = &viewer.user.name;
    if !app.prover.may_guess(Some(name), viewer.address(), now) {
        return Err(Failure::TooMany);
    }
    let act = viewer.act(now);
    let event = |how: &str| {
        AuditEvent::new(AuditKind::SecondFactorUsed, name)
            .with("for", purpose.action)
            .with("digest", purpose.digest.as_str())
            .with("second_factor", how)
            .with("at", "web")
    };
    let proved = |act: Act, kind| Proved {
        second: SecondFactor { kind, at: act.at, windows: Default::default() },
        act,
    };
    if !proof.credential.is_empty() {
        let answer = Answer { challenge: proof.challenge, credential: proof.credential };
        let bound = bound(purpose.action, &purpose.digest);
        app.passkeys.again(&app.store, &act, name, &bound, &answer, event("passkey")).await?;
        return Ok(proved(act, SecondFactorKind::Passkey));
    }
    if proof.code.trim().is_empty() {
        return Err(Failure::NotProved(
            "a fresh code is needed for this: enter the one that your authenticator shows now".into(),
        ));
    }
    match app.prover.code(&act, name, proof.code.trim(), event).await {
        CodeCheck::Totp => Ok(proved(act, SecondFactorKind::Totp)),
        CodeCheck::Recovery => Ok(proved(act, SecondFactorKind::Recovery)),
        CodeCheck::Wrong => {
            if let Err(e) = app.prover.refused(Some(name), viewer.address(), now, "step_up").await {
                tracing::warn!(error = %e, "a failed step-up could not be audited");
            }
            Err(Failure::NotProved(
                "the code is wrong, or was used before: wait for the next code, then try again".into(),
            ))
        }
    }
}

fn bound(action: &str, digest: &str) -> String {
    format!("step-up {action} {digest}")
}

/// The factors of a log-in with a newer second factor.
pub(crate) fn with_second(first: DeviceKind, second: SecondFactor) -> Factors {
    Factors { first, second: Some(second) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_and_to_what_both_change_the_digest() {
        let one = Purpose::new("session end", &["a", "bc"]);
        assert_ne!(one.digest, Purpose::new("session end", &["ab", "c"]).digest);
        assert_ne!(one.digest, Purpose::new("session suspend", &["a", "bc"]).digest);
        assert_eq!(one, Purpose::new("session end", &["a", "bc"]));
    }
}
