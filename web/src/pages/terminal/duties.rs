//! Who gets a ticket, and what it opens.

use super::purpose;
use crate::testing::{Site, account, name};

const PATH: &str = "/terminal/pump-hmi/operator";

fn ticket(page: &str) -> String {
    let (_, rest) = page.split_once("data-ticket=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_terminal_takes_an_open_window_and_a_fresh_code() {
    let site = Site::new().await;
    let vera = site.log_in("vera").await;
    assert_eq!(vera.get(PATH).await.status, 409, "no window yet");
    site.approved(|_| ()).await;
    assert_eq!(vera.get(PATH).await.status, 200);
    assert_eq!(vera.post(PATH, &[]).await.status, 403, "no code");
    let code = site.code("vera");
    let page = vera.post(PATH, &[("code", &code)]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(ticket(&page.text).len(), 43);
    assert_eq!(vera.post(PATH, &[("code", &code)]).await.status, 403, "a code works once");
    let used = site.audited("second_factor.used").await;
    let bound = purpose(&name("pump-hmi"), &account("operator@pump-hmi").login).digest;
    assert!(used.iter().any(|e| e.contains("terminal open") && e.contains(&bound)), "{used:?}");
}

#[tokio::test]
async fn a_ticket_works_once_within_a_minute_and_for_its_own_log_in() {
    let site = Site::new().await;
    site.approved(|_| ()).await;
    let vera = site.log_in("vera").await;
    let sessions = site.store().web_sessions(&name("vera"), site.now()).await.unwrap();
    let own = format!("terminal {}", sessions[0].id);
    let take = async |ticket: &str, purpose: &str| {
        let digest = crate::token::Token::parse(ticket).unwrap().digest();
        site.store().take_challenge(site.now(), &digest, purpose).await.unwrap()
    };
    let page = vera.post(PATH, &[("code", &site.code("vera"))]).await;
    let first = ticket(&page.text);
    assert_eq!(take(&first, "terminal of another log-in").await, None);
    assert!(take(&first, &own).await.unwrap().contains("pump-hmi"));
    assert_eq!(take(&first, &own).await, None, "twice");
    let page = vera.post(PATH, &[("code", &site.code("vera"))]).await;
    let late = ticket(&page.text);
    site.clock().advance(61);
    assert_eq!(take(&late, &own).await, None, "too late");
}

#[tokio::test]
async fn who_does_not_work_on_machines_gets_no_terminal() {
    let site = Site::new().await;
    site.approved(|_| ()).await;
    for person in ["olga", "sam", "ivan", "ada"] {
        let browser = site.log_in(person).await;
        assert_eq!(browser.get(PATH).await.status, 403, "{person}");
        assert_eq!(browser.post(PATH, &[("code", &site.code(person))]).await.status, 403, "{person}");
    }
    // The window is vera's.
    let emil = site.log_in("emil").await;
    assert_ne!(emil.post(PATH, &[("code", &site.code("emil"))]).await.status, 200);
}
