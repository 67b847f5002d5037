//! What a person at a desktop is told while it goes on: that it stands still, that it ends soon, what an approver writes to
//! them. All of it is in the recording already.

use std::{future::pending, sync::Arc, time::Duration};

use cofferdam_web::Told;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::session::{end::Frozen, live::Session};

/// How long a message stays on the desktop.
const STAYS: Duration = Duration::from_secs(15);

/// Keeps `shown`, which the relay shows over the desktop, as the session has it, until the session ends. Where there is nothing
/// else to say it is `usual`.
pub(super) async fn over(
    session: &Session,
    shown: &watch::Sender<Option<Arc<str>>>,
    usual: Option<Arc<str>>,
) {
    let (mut frozen, mut notices) = (session.control().follow_frozen(), session.notices());
    let mut said: Option<(Arc<str>, Instant)> = None;
    loop {
        let stands = frozen.borrow_and_update().as_ref().map(|why| Arc::from(why.sentence()));
        let text = said.as_ref().map(|(text, _)| text.clone()).or(stands).or_else(|| usual.clone());
        shown.send_if_modified(|now| std::mem::replace(now, text.clone()) != text);
        let until = said.as_ref().map(|(_, until)| *until);
        tokio::select! {
            biased;
            () = session.control().ended() => return,
            heard = notices.recv() => match heard {
                Ok(text) => said = Some((text, Instant::now() + STAYS)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            changed = frozen.changed() => if changed.is_err() { return },
            () = async { match until { Some(at) => sleep_until(at).await, None => pending().await } } => said = None,
        }
    }
}

/// Says the same to who is at a page, which shows it beside the desktop.
pub(super) async fn beside(session: &Session, tell: Option<&mpsc::Sender<Told>>) {
    let Some(tell) = tell else { return pending().await };
    let (mut frozen, mut notices) = (session.control().follow_frozen(), session.notices());
    let mut stood: Option<String> = None;
    loop {
        let stands = frozen.borrow_and_update().as_ref().map(Frozen::sentence);
        if stands != stood {
            stood = stands.clone();
            // The page shows the last of what it heard; one that hears nothing shows nothing.
            tell.send(stands.map_or(Told::GoesOn, Told::Frozen)).await.unwrap_or_default();
        }
        tokio::select! {
            biased;
            changed = frozen.changed() => if changed.is_err() { return pending().await },
            heard = notices.recv() => match heard {
                Ok(text) if stood.as_deref() == Some(&*text) => {}
                Ok(text) => tell.send(Told::Says(text.to_string())).await.unwrap_or_default(),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return pending().await,
            },
        }
    }
}
