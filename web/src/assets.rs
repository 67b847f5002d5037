//! Everything that a browser loads besides pages, embedded into the binary. An address holds the content's digest, so that a
//! browser may keep it for ever.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use crate::error::Failure;

struct Asset {
    name: &'static str,
    kind: &'static str,
    /// What is packed here is sent packed: every browser unpacks it.
    bytes: &'static [u8],
    address: String,
}

const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const WASM: &str = "application/wasm";
/// How a gzip file begins (RFC 1952 §2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

macro_rules! own {
    ($name:literal) => {
        include_bytes!(concat!("../assets/", $name))
    };
}
macro_rules! npm {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name))
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let all: [(&str, &str, &[u8]); 22] = [
        ("style.css", CSS, own!("style.css")),
        ("icon.svg", SVG, own!("icon.svg")),
        ("icons.svg", SVG, own!("icons.svg")),
        ("page.js", JS, own!("page.js")),
        ("passkey.js", JS, own!("passkey.js")),
        ("adopt-style.js", JS, own!("adopt-style.js")),
        ("screen.js", JS, own!("screen.js")),
        ("terminal.js", JS, own!("terminal.js")),
        ("watch.js", JS, own!("watch.js")),
        ("replay.js", JS, own!("replay.js")),
        ("cast-replay.js", JS, own!("cast-replay.js")),
        ("desk-replay.js", JS, own!("desk-replay.js")),
        ("desk.js", JS, own!("desk.js")),
        ("desktop.js", JS, own!("desktop.js")),
        ("htmx.js", JS, npm!("htmx.js")),
        ("xterm.js", JS, npm!("xterm.js")),
        ("xterm.css", CSS, npm!("xterm.css")),
        ("xterm-fit.js", JS, npm!("xterm-fit.js")),
        ("player.js", JS, npm!("player.js")),
        ("player.css", CSS, npm!("player.css")),
        ("rdp.js", JS, npm!("rdp.js")),
        ("rdp.wasm", WASM, npm!("rdp.wasm")),
    ];
    all.into_iter()
        .map(|(name, kind, bytes)| {
            let print = hex::encode(digest(&SHA256, bytes).as_ref());
            let address = format!("/assets/{}/{name}", print.get(..16).unwrap_or_default());
            Asset { name, kind, bytes, address }
        })
        .collect()
});

/// The address of the asset of that name. A name that is none is a fault that a test finds.
pub(crate) fn address(name: &str) -> &'static str {
    ASSETS.iter().find(|a| a.name == name).map_or("/assets/none", |a| a.address.as_str())
}

/// Serves one.
pub(crate) async fn serve(Path((print, name)): Path<(String, String)>) -> Result<Response, Failure> {
    let asked = format!("/assets/{print}/{name}");
    let asset = ASSETS.iter().find(|a| a.address == asked).ok_or(Failure::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    let mut response = (headers, asset.bytes).into_response();
    if asset.bytes.starts_with(GZIP) {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
