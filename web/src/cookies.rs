//! The one place that makes cookies and reads them.
//!
//! `__Host-` (RFC 6265bis §4.1.3.2): secure, for this host alone, for all paths, so that no other host can set one over it.

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, SameSite};

use crate::token::Token;

/// Of a log-in.
pub(crate) const SESSION: &str = "__Host-cofferdam";
/// Of a browser that has not logged in: what its forms are bound to.
pub(crate) const VISIT: &str = "__Host-cofferdam-visit";
/// How long a visit may take to become a log-in, seconds.
const VISIT_SECONDS: i64 = 3600;

/// The value of the cookie of that name; none if it is not exactly one well-formed token.
pub(crate) fn read(headers: &HeaderMap, name: &str) -> Option<Token> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(n, _)| *n == name);
    let (_, value) = found.next()?;
    if found.next().is_some() { None } else { Token::parse(value) }
}

/// Sets the session's cookie; it goes when the browser is closed.
pub(crate) fn set_session(token: &Token) -> HeaderValue {
    header(SESSION, token.expose(), None)
}

/// Sets the visit's cookie.
pub(crate) fn set_visit(token: &Token) -> HeaderValue {
    header(VISIT, token.expose(), Some(VISIT_SECONDS))
}

/// Takes the cookie of that name back.
pub(crate) fn forget(name: &'static str) -> HeaderValue {
    header(name, "", Some(0))
}

fn header(name: &'static str, value: &str, seconds: Option<i64>) -> HeaderValue {
    let mut cookie = Cookie::build((name, value.to_owned()))
        .path("/")
        .secure(true)
        .http_only(true)
        // Lax: a link in a message opens the page logged in; no other site's form or script does anything with it.
        .same_site(SameSite::Lax)
        .build();
    if let Some(seconds) = seconds {
        cookie.set_max_age(cookie::time::Duration::seconds(seconds));
    }
    // A token and the fixed attributes are visible ASCII.
    HeaderValue::from_str(&cookie.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_bound_to_this_host_and_unreadable_for_scripts() {
        let token = Token::new(&mut rand::rng());
        let text = set_session(&token).to_str().unwrap().to_owned();
        for part in ["__Host-cofferdam=", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("Domain"));
    }

    #[test]
    fn two_cookies_of_one_name_are_none() {
        let (a, b) = (Token::new(&mut rand::rng()), Token::new(&mut rand::rng()));
        let mut headers = HeaderMap::new();
        let one = format!("x=1; {SESSION}={}", a.expose());
        headers.insert(header::COOKIE, one.parse().unwrap());
        assert_eq!(read(&headers, SESSION).unwrap().digest(), a.digest());
        let two = format!("{SESSION}={}; {SESSION}={}", a.expose(), b.expose());
        headers.insert(header::COOKIE, two.parse().unwrap());
        assert!(read(&headers, SESSION).is_none());
    }
}
