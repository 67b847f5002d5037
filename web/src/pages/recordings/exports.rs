//! Recordings as streams of bytes: for the player, and to be taken out.

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use cofferdam_access::ids::SessionId;
use futures::stream;
use serde::Deserialize;

use super::parsed;
use crate::{
    error::Failure,
    form,
    recordings::{Export, Exporting},
    services::App,
    viewer::Viewer,
};

/// Reading is noted in the reader's name, so no other site may cause it by a link.
fn within_our_pages(headers: &HeaderMap) -> Result<(), Failure> {
    if form::same_origin(headers) {
        return Ok(());
    }
    Err(Failure::Forbidden(
        "open this from the recording's page: a link of another site does not count".into(),
    ))
}

/// The name of a form in addresses, with the end of its file's name and its type.
fn form_of(name: &str) -> Option<(Export, &'static str, &'static str)> {
    Some(match name {
        "asciicast" => (Export::Asciicast, "cast", "application/x-asciicast"),
        "text" => (Export::Text, "txt", "text/plain; charset=utf-8"),
        "events" => (Export::Events, "jsonl", "application/x-ndjson"),
        "bundle" => (Export::Bundle, "evidence.tar", "application/x-tar"),
        "files" => (Export::Files, "files.tar", "application/x-tar"),
        _ => return None,
    })
}

/// For the player.
pub(super) async fn cast(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    shown((&app, &viewer, &headers), &id, Export::Replay, "application/x-asciicast").await
}

/// From where on.
#[derive(Debug, Deserialize)]
pub(super) struct Stretch {
    /// Milliseconds after the start.
    #[serde(default)]
    from: u32,
}

/// For the player of desktops: a stretch at a time.
pub(super) async fn desktop(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(Stretch { from }): Query<Stretch>,
) -> Result<Response, Failure> {
    shown((&app, &viewer, &headers), &id, Export::Desktop { from }, "application/octet-stream").await
}

/// Small pictures along a desktop's recording, for its timeline.
pub(super) async fn stills(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    shown((&app, &viewer, &headers), &id, Export::Stills, "application/octet-stream").await
}

/// What one of our pages shows of a recording, of that type.
async fn shown(
    (app, viewer, headers): (&App, &Viewer, &HeaderMap),
    id: &str,
    form: Export,
    kind: &'static str,
) -> Result<Response, Failure> {
    within_our_pages(headers)?;
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    Ok((kind, body(app, viewer, parsed(id)?, form).await?).into_response())
}

pub(super) async fn download(
    State(app): State<App>,
    viewer: Viewer,
    headers: HeaderMap,
    Path((id, name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    within_our_pages(&headers)?;
    send(&app, &viewer, parsed(&id)?, &name).await
}

/// A recording in the form of that name, to be kept as a file.
pub(crate) async fn send(app: &App, viewer: &Viewer, id: SessionId, name: &str) -> Result<Response, Failure> {
    let (form, end, kind) = form_of(name).ok_or(Failure::NotFound)?;
    let file = HeaderValue::from_str(&format!("attachment; filename=\"recording-{id}.{end}\""))
        .map_err(|e| Failure::internal("download", e))?;
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CONTENT_DISPOSITION, file)];
    Ok((headers, body(app, viewer, id, form).await?).into_response())
}

/// Waits for the first bytes, so that what cannot be read is said in words and not as a file that ends early.
async fn body(app: &App, viewer: &Viewer, id: SessionId, form: Export) -> Result<Body, Failure> {
    app.store.session(id).await?;
    let mut bytes: Exporting = app.recordings.export(&viewer.act(app.now()), id, form).await?;
    let first = match bytes.recv().await {
        Some(Err(why)) => return Err(Failure::Unavailable(why)),
        first => first,
    };
    let rest = stream::unfold((first, bytes), async |(next, mut bytes)| {
        let next = match next {
            Some(next) => next,
            None => bytes.recv().await?,
        };
        Some((next.map_err(std::io::Error::other), (None, bytes)))
    });
    Ok(Body::from_stream(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_forms_are_given_out() {
        assert_eq!(form_of("bundle").unwrap().0, Export::Bundle);
        assert_eq!(form_of("files").unwrap().0, Export::Files);
        assert!(form_of("../key").is_none() && form_of("replay").is_none());
    }
}
