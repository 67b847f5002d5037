//! The switch of one session: running, frozen, ended. Whoever wants a session to stop throws this switch, and every
//! part of the session looks at it; nothing else ends one.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::end::{End, Frozen};

/// The session has ended: nothing may be relayed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub(crate) struct Ended;

/// See the module.
#[derive(Debug)]
pub(crate) struct Control {
    end: OnceLock<End>,
    ended: CancellationToken,
    cut: CancellationToken,
    frozen: watch::Sender<Option<Frozen>>,
    /// Mirrors `frozen` so that the relay asks without a lock.
    is_frozen: AtomicBool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            end: OnceLock::new(),
            ended: CancellationToken::new(),
            cut: CancellationToken::new(),
            frozen: watch::Sender::new(None),
            is_frozen: AtomicBool::new(false),
        }
    }
}

impl Control {
    /// Ends the session for that reason. The first reason stays; says whether this was the first.
    pub(crate) fn end(&self, end: End) -> bool {
        let first = self.end.set(end).is_ok();
        self.ended.cancel();
        first
    }
    /// The reason, once ended.
    pub(crate) fn reason(&self) -> Option<&End> {
        self.end.get()
    }
    /// Whether the session has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }
    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
    /// Cancelled when both sockets must close now, whatever is still unsaid.
    pub(crate) fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }
    /// Freezes the session both ways; says whether that was new.
    pub(crate) fn freeze(&self, why: Frozen) -> bool {
        let new = self.frozen.send_replace(Some(why)).is_none();
        self.is_frozen.store(true, Ordering::SeqCst);
        new
    }
    /// Lets it go on; says whether it was frozen.
    pub(crate) fn thaw(&self) -> bool {
        self.is_frozen.store(false, Ordering::SeqCst);
        self.frozen.send_replace(None).is_some()
    }
    /// Why it is frozen, if it is.
    pub(crate) fn frozen(&self) -> Option<Frozen> {
        self.frozen.borrow().clone()
    }
    /// Why it is frozen, if it is, and every change of that.
    pub(crate) fn follow_frozen(&self) -> watch::Receiver<Option<Frozen>> {
        self.frozen.subscribe()
    }
    /// Returns at once while the session runs, waits while it is frozen, and fails once it has ended.
    pub(crate) async fn running(&self) -> Result<(), Ended> {
        if self.ended.is_cancelled() {
            return Err(Ended);
        }
        if !self.is_frozen.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut frozen = self.frozen.subscribe();
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Err(Ended),
            thawed = frozen.wait_for(Option::is_none) => thawed.map(drop).map_err(|_| Ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays() {
        let c = Control::default();
        assert!(c.end(End::Closed));
        assert!(!c.end(End::Shutdown));
        assert_eq!(c.reason(), Some(&End::Closed));
        assert_eq!(c.running().await, Err(Ended));
    }

    #[tokio::test]
    async fn a_frozen_session_goes_on_after_thaw_and_never_after_its_end() {
        let c = std::sync::Arc::new(Control::default());
        assert!(c.freeze(Frozen::Suspended { by: "olga".into(), reason: String::new() }));
        let waits = tokio::spawn({
            let c = c.clone();
            async move { c.running().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        assert!(c.thaw());
        assert_eq!(waits.await.unwrap(), Ok(()));
        c.freeze(Frozen::Suspended { by: "olga".into(), reason: String::new() });
        let waits = tokio::spawn({
            let c = c.clone();
            async move { c.running().await }
        });
        tokio::task::yield_now().await;
        c.end(End::Closed);
        assert_eq!(waits.await.unwrap(), Err(Ended));
    }
}
