//! The SSH authorities for machines that fetch them: what to trust and what counts no more. Public keys, for everybody.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use cofferdam_vault::Purpose;

use crate::{
    error::Failure,
    routes::{Routes, Rule},
    services::App,
};

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.get("/ca/krl", Rule::Public, krl).get("/ca/user", Rule::Public, user).get(
        "/ca/known_hosts",
        Rule::Public,
        host,
    )
}

/// The revocation list in OpenSSH's form: for `RevokedKeys` and `RevokedHostKeys`.
async fn krl(State(app): State<App>) -> Result<Response, Failure> {
    let now = app.now();
    let (all, revoked) = (app.store.authorities().await?, app.store.revoked_certificates(now).await?);
    let list = all.krl(&revoked, now).to_bytes().map_err(|e| Failure::internal("revocation list", e))?;
    Ok(fresh("application/octet-stream", list))
}

/// Lines for `TrustedUserCAKeys`.
async fn user(State(app): State<App>) -> Result<Response, Failure> {
    lines(&app, Purpose::User, "").await
}

/// Lines for `known_hosts`.
async fn host(State(app): State<App>) -> Result<Response, Failure> {
    lines(&app, Purpose::Host, "@cert-authority * ").await
}

async fn lines(app: &App, purpose: Purpose, before: &str) -> Result<Response, Failure> {
    let all = app.store.authorities().await?;
    let keys = all.published(purpose, app.now()).map(|a| format!("{before}{}\n", a.public_key));
    Ok(fresh("text/plain; charset=utf-8", keys.collect::<String>().into_bytes()))
}

/// An old copy would say less than is revoked.
fn fresh(kind: &'static str, content: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use cofferdam_access::{authority::Which, store::NewAuthority};
    use cofferdam_vault::Purpose;

    use crate::testing::Site;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOEpNGBbiluzPlnOpV53IWeijsDsgH41gYoyiFtfGxmW one";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOhs+Be3qXA4kMB9xFLnU0Ue0275RMX86bwT4I2+4XD7 two";

    #[tokio::test]
    async fn machines_fetch_both_authorities_while_one_takes_over_and_what_is_revoked() {
        let site = Site::new().await;
        let act = site.act("ada");
        site.store().know_authority(&act, Purpose::User, "SHA256:one", ONE).await.unwrap();
        let new = NewAuthority {
            purpose: Purpose::User,
            id: "SHA256:two".into(),
            public_key: TWO.into(),
            sealed: b"sealed-hunter2".to_vec(),
            overlap_seconds: 86_400,
            signs_from: None,
        };
        site.store().rotate_authority(&act, &new).await.unwrap();
        let browser = site.browser();
        let lines = browser.get("/ca/user").await;
        assert_eq!(lines.text, format!("{ONE}\n{TWO}\n"));
        assert!(browser.get("/ca/known_hosts").await.text.is_empty());
        let id = Which::KeyId("cofferdam:s:vera".into());
        site.store().revoke_certificate(&act, Purpose::User, &id, "left").await.unwrap();
        let list = browser.get("/ca/krl").await;
        assert_eq!(list.status, 200);
        assert!(list.text.starts_with("SSHKRL\n") && list.text.contains("cofferdam:s:vera"));
        // Whoever reads the vault's page sees them, too.
        let page = site.log_in("sam").await.get("/vault").await;
        assert!(page.text.contains("SHA256:two") && page.text.contains("next"), "{}", page.text);
        assert!(!page.text.contains("hunter2"));
    }
}
