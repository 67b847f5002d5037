//! The panel's web page: what a forwarded port shows.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The port of the page on the host's own loopback.
pub(super) const PORT: u32 = 8080;
/// The longest request head that is read, in bytes.
const MAX_HEAD: usize = 16 * 1024;

const PAGE: &str = "<!doctype html><html lang=\"en\"><title>Pump HMI</title>\
<h1>Pump HMI: P-101 running</h1><p>Speed 640 rpm, discharge pressure 4.1 bar.</p></html>\n";

/// Whether this is the page's address, as seen from the host.
pub(super) fn is_here(host: &str, port: u32) -> bool {
    port == PORT && matches!(host, "127.0.0.1" | "localhost" | "::1" | "pump-hmi")
}

/// Answers one request (HTTP/1.1) and closes.
pub(super) async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = stream.read(&mut part).await?;
        if count == 0 || head.len() > MAX_HEAD {
            return stream.shutdown().await;
        }
        head.extend_from_slice(part.get(..count).unwrap_or_default());
    }
    let known = head.starts_with(b"GET / ") || head.starts_with(b"HEAD / ");
    let (status, body) = if known { ("200 OK", PAGE) } else { ("404 Not Found", "not here\n") };
    let kind = if known { "text/html" } else { "text/plain" };
    let shown = if head.starts_with(b"HEAD ") { "" } else { body };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{shown}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(request: &str) -> String {
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(request.as_bytes()).await.unwrap();
        answer(server).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn the_page_says_that_the_pump_runs() {
        assert!(ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.contains("Pump HMI: P-101 running"));
        assert!(ask("GET /x HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(!is_here("127.0.0.1", 22) && !is_here("10.0.0.1", PORT));
    }
}
