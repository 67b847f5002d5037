//! A browser as far as the interface can tell: cookies, the headers that browsers send, the proof out of the last page.

use std::{collections::BTreeMap, net::SocketAddr, sync::Mutex, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Builder,
    },
};
use futures::StreamExt as _;
use tower::ServiceExt as _;

use super::{HOST, Site, SoftKey};
use crate::viewer::Peer;

/// How long a stream that does not end is read.
const STREAM: Duration = Duration::from_millis(500);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body; of a stream of events only the first part.
    pub(crate) text: String,
}

impl Answer {
    /// Where it leads to.
    pub(crate) fn location(&self) -> &str {
        self.header("location")
    }

    /// A header; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|e| panic!("{} is not JSON ({e}): {}", self.status, self.text))
    }

    /// The value of the first field of that name in the page.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let (_, rest) = self.text.split_once(&format!("name=\"{name}\" value=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    }
}

/// See the module.
pub(crate) struct Browser {
    site: Site,
    source: SocketAddr,
    cookies: Mutex<BTreeMap<String, String>>,
    proof: Mutex<String>,
}

impl Browser {
    pub(super) fn new(site: Site, source: SocketAddr) -> Self {
        Self { site, source, cookies: Mutex::default(), proof: Mutex::default() }
    }

    /// The address that it comes from.
    pub(crate) fn source(&self) -> SocketAddr {
        self.source
    }

    /// The same person's cookies in another browser: what a thief of cookies has.
    pub(crate) fn stolen(&self) -> Self {
        let thief = self.site.browser();
        thief.cookies.lock().unwrap().clone_from(&self.cookies.lock().unwrap());
        thief
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().unwrap().get(name).cloned()
    }

    /// Sets a cookie, as somebody who can write to the browser does.
    pub(crate) fn set_cookie(&self, name: &str, value: &str) {
        self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    /// The proof that the last page's forms carry.
    pub(crate) fn proof(&self) -> String {
        self.proof.lock().unwrap().clone()
    }

    /// Asks for a page.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self.request(Method::GET, path).header("sec-fetch-site", "same-origin");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form of the last page.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let proof = self.proof();
        let fields: Vec<_> = [("form", proof.as_str())].iter().chain(fields).copied().collect();
        self.post_raw(
            path,
            &fields,
            &[("origin", &format!("https://{HOST}")), ("sec-fetch-site", "same-origin")],
        )
        .await
    }

    /// Sends exactly these fields with these headers.
    pub(crate) async fn post_raw(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Opens the log-in page and sends its form.
    pub(crate) async fn log_in(&self, person: &str, password: &str, code: &str) -> Answer {
        self.get("/login").await;
        self.post("/login", &[("user", person), ("password", password), ("code", code)]).await
    }

    /// Asks for the log-in's question and answers it with a passkey: the challenge and the credential to send.
    pub(crate) async fn answer_to_log_in(&self, key: &SoftKey) -> (String, String) {
        self.get("/login").await;
        let question = self.post("/login/passkey/options", &[]).await.json();
        (question["challenge"].as_str().unwrap().to_owned(), key.prove(&question))
    }

    /// Logs in with a passkey.
    pub(crate) async fn log_in_with(&self, key: &SoftKey) -> Answer {
        let (challenge, credential) = self.answer_to_log_in(key).await;
        self.post("/login/passkey", &[("challenge", &challenge), ("credential", &credential)]).await
    }

    /// Asks for a passkey's proof of one action.
    pub(crate) async fn question(&self, action: &str, digest: &str) -> serde_json::Value {
        self.post("/step-up", &[("action", action), ("digest", digest)]).await.json()
    }

    /// Proves with a passkey to be there, for one action: the fields `challenge` and `credential` of its form.
    pub(crate) async fn step_up(&self, key: &SoftKey, action: &str, digest: &str) -> (String, String) {
        let question = self.question(action, digest).await;
        (question["challenge"].as_str().unwrap().to_owned(), key.prove(&question))
    }

    /// What a program sends; no cookies, no form.
    pub(super) async fn api(
        &self,
        method: &str,
        token: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, HOST);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(json.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// A request with this browser's cookies, to be completed and given to [`Self::open`] or [`Self::send`].
    pub(crate) fn request(&self, method: Method, path: &str) -> Builder {
        let cookies: Vec<String> =
            self.cookies.lock().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::USER_AGENT, "Browser/1 (of the tests)");
        if cookies.is_empty() { request } else { request.header(header::COOKIE, cookies.join("; ")) }
    }

    /// Sends a request and gives back what comes, its body not read yet: for streams of events.
    pub(crate) async fn open(&self, mut request: Request<Body>) -> Response<Body> {
        self.site.refresh().await;
        request.extensions_mut().insert(Peer(self.source));
        let answer = self.site.0.router.clone().oneshot(request).await.unwrap();
        self.keep_cookies(answer.headers());
        answer
    }

    /// Sends a request and reads what comes.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.open(request).await.into_parts();
        let endless = head.headers.get(header::CONTENT_TYPE).is_some_and(|v| v == "text/event-stream");
        let mut bytes = Vec::new();
        let mut parts = body.into_data_stream();
        loop {
            let part = if endless {
                tokio::time::timeout(STREAM, parts.next()).await.ok().flatten()
            } else {
                parts.next().await
            };
            let Some(part) = part else { break };
            bytes.extend_from_slice(&part.unwrap());
            if endless {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer { status: head.status, headers: head.headers, text };
        if let Some(proof) =
            answer.field("form").filter(|_| answer.header("content-type").starts_with("text/html"))
        {
            *self.proof.lock().unwrap() = proof;
        }
        answer
    }

    fn keep_cookies(&self, headers: &HeaderMap<HeaderValue>) {
        let mut kept = self.cookies.lock().unwrap();
        for value in headers.get_all(HeaderName::from_static("set-cookie")) {
            let cookie = cookie::Cookie::parse(value.to_str().unwrap()).unwrap();
            let over = cookie.max_age().is_some_and(|age| age <= cookie::time::Duration::ZERO);
            if over {
                kept.remove(cookie.name());
            } else {
                kept.insert(cookie.name().to_owned(), cookie.value().to_owned());
            }
        }
    }
}
