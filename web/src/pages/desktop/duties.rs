//! Who gets a token for a desktop, and what it is worth.

use cofferdam_access::site::{Conduit, Desktop, Endpoint, Protocol};

use crate::testing::{Site, account, name};

const PATH: &str = "/desktop/pump-hmi/operator";

/// The pump's panel has a desktop too, and vera's conduit lets RDP through.
async fn site() -> Site {
    Site::with(|site| {
        for conduit in &mut site.conduits {
            let Conduit { protocols, .. } = conduit;
            protocols.insert(Protocol::Rdp);
        }
        let endpoint = Endpoint { protocol: Protocol::Rdp, port: 3389, dial_host: None, dial_port: None };
        for asset in site.assets.iter_mut().filter(|a| a.name == name("pump-hmi")) {
            asset.endpoints.push(endpoint.clone());
            asset.rdp = Some(Desktop { clipboard_to_person: true, ..Desktop::default() });
        }
    })
    .await
}

#[tokio::test]
async fn a_token_takes_an_open_window_and_a_fresh_code_and_is_shown_once() {
    let site = site().await;
    let vera = site.log_in("vera").await;
    assert_eq!(vera.get(PATH).await.status, 409, "no window yet");
    let window = site.approved(|_| ()).await;
    let home = vera.get("/").await;
    assert!(home.text.contains("Open desktop"), "{}", home.text);
    assert!(!vera.get(PATH).await.text.contains("fake-token"));
    assert_eq!(vera.post(PATH, &[]).await.status, 403, "no code");
    let code = site.code("vera");
    let page = vera.post(PATH, &[("code", &code)]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("fake-token") && page.text.contains("vera+pump-hmi"), "{}", page.text);
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'self' 'wasm-unsafe-eval';") && !policy.contains("unsafe-inline"));
    assert!(!vera.get(PATH).await.header("content-security-policy").contains("wasm"), "where one runs only");
    assert!(!page.text.contains("data-paste-in") && page.text.contains("data-copy-out"), "what is allowed");
    assert_eq!(vera.post(PATH, &[("code", &code)]).await.status, 403, "a code works once");
    assert!(!vera.get(PATH).await.text.contains("fake-token"), "shown once");
    let kept = site.store().standing_desktop_tokens(&name("vera"), site.now()).await.unwrap();
    assert_eq!(kept.len(), 1);
    let token = &kept[0].token;
    assert_eq!((token.window, &token.account), (window, &account("operator@pump-hmi")));
    assert!(token.factors.second.is_some());
    assert_eq!(token.expires_at, token.created_at.plus_seconds(60));
    let used = site.audited("second_factor.used").await;
    assert!(used.iter().any(|e| e.contains("desktop open")), "{used:?}");
    assert_eq!(site.audited("desktop.token_issued").await.len(), 1);
}

#[tokio::test]
async fn the_settings_file_names_the_person_and_never_a_token() {
    let site = site().await;
    site.approved(|_| ()).await;
    let vera = site.log_in("vera").await;
    let file = vera.get(&format!("{PATH}/settings.rdp")).await;
    assert_eq!(file.status, 200);
    assert_eq!(file.header("content-disposition"), "attachment; filename=\"pump-hmi.rdp\"");
    assert!(file.text.contains("full address:s:gw.example:3389\r\nusername:s:vera+pump-hmi\r\n"));
    assert!(file.text.contains("redirectclipboard:i:1\r\n"), "{}", file.text);
}

#[tokio::test]
async fn a_program_gets_a_token_with_the_scope_and_a_fresh_code() {
    let site = site().await;
    site.approved(|_| ()).await;
    let program = site.token("vera", &["connect"]).await;
    let wanted = |code: &str| serde_json::json!({"asset": "pump-hmi", "login": "operator", "code": code});
    assert_eq!(site.api_post(&program, "/api/v1/desktops", &wanted("")).await.status, 403);
    let answer = site.api_post(&program, "/api/v1/desktops", &wanted(&site.code("vera"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    for part in
        ["\"token\":\"fake-token\"", "\"user_name\":\"vera+pump-hmi\"", "\"address\":\"gw.example:3389\""]
    {
        assert!(answer.text.contains(part), "{part} in {}", answer.text);
    }
    let other = site.token("vera", &["read", "request"]).await;
    let refused = site.api_post(&other, "/api/v1/desktops", &wanted(&site.code("vera"))).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn who_does_not_work_on_machines_gets_no_token() {
    let site = site().await;
    site.approved(|_| ()).await;
    for person in ["olga", "sam", "ivan", "ada"] {
        let browser = site.log_in(person).await;
        assert_eq!(browser.get(PATH).await.status, 403, "{person}");
        assert_eq!(browser.post(PATH, &[("code", &site.code(person))]).await.status, 403, "{person}");
    }
    // The window is vera's, and a terminal's window opens no desktop where there is none.
    let emil = site.log_in("emil").await;
    assert_ne!(emil.post(PATH, &[("code", &site.code("emil"))]).await.status, 200);
    let vera = site.log_in("vera").await;
    assert_eq!(vera.get("/desktop/plc-7/none").await.status, 404);
}
