//! What the gateway says over a person's desktop, and when it has to be drawn.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::banner::{Area, Banner};

/// How long the target may have drawn over it.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Something else than before, or nothing any more.
    Other,
    /// The same again.
    Again,
}

/// See the module.
pub(super) struct Words {
    wanted: watch::Receiver<Option<Arc<str>>>,
    /// Whoever could say something is there.
    heard: bool,
    shown: Option<Banner>,
    again: Option<Instant>,
}

impl Words {
    pub(super) fn new(mut wanted: watch::Receiver<Option<Arc<str>>>) -> Self {
        // What is there already counts as new.
        wanted.mark_changed();
        Self { wanted, heard: true, shown: None, again: None }
    }

    /// Waits until something is to be drawn. Nothing is lost when the future is dropped.
    pub(super) async fn due(&mut self) -> Due {
        loop {
            let again = self.again;
            let pause = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.wanted.changed(), if self.heard => match changed {
                    Ok(()) => return Due::Other,
                    Err(_) => self.heard = false,
                },
                () = pause => return Due::Again,
            }
        }
    }

    /// Where something stood that no longer counts.
    pub(super) fn take_away(&mut self) -> Option<Area> {
        self.shown.take().map(|banner| banner.area)
    }

    /// What is to stand there now, for a desktop of that size.
    pub(super) fn banner(&mut self, desktop: (u16, u16)) -> Option<(Area, Vec<u8>)> {
        self.again = None;
        if self.shown.is_none() {
            let text = self.wanted.borrow_and_update().clone();
            self.shown = text.and_then(|text| Banner::new(&text, desktop));
        }
        self.shown.as_ref().map(|banner| (banner.area, banner.rgb.clone()))
    }

    /// The desktop begins anew: whatever stood there is gone.
    pub(super) fn desktop_begins(&mut self) {
        self.shown = None;
        self.later();
    }

    /// Nothing can be drawn yet.
    pub(super) fn later(&mut self) {
        self.again = Some(Instant::now() + AGAIN);
    }

    /// The target has drawn something.
    pub(super) fn drawn_over(&mut self) {
        if self.shown.is_some() && self.again.is_none() {
            self.later();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESKTOP: (u16, u16) = (1024, 768);

    #[tokio::test(start_paused = true)]
    async fn words_are_drawn_when_they_change_and_once_a_second_where_they_were_drawn_over() {
        let (say, wanted) = watch::channel(None);
        let mut words = Words::new(wanted);
        assert_eq!(words.due().await, Due::Other);
        assert!(words.banner(DESKTOP).is_none());
        say.send_replace(Some("wait".into()));
        assert_eq!(words.due().await, Due::Other);
        let (area, _) = words.banner(DESKTOP).unwrap();
        let from = Instant::now();
        (0..9).for_each(|_| words.drawn_over());
        assert_eq!((words.due().await, from.elapsed()), (Due::Again, AGAIN));
        assert_eq!(words.banner(DESKTOP).unwrap().0, area);
        say.send_replace(None);
        assert_eq!(words.due().await, Due::Other);
        assert_eq!(words.take_away(), Some(area));
        assert!(words.banner(DESKTOP).is_none());
        words.drawn_over();
        assert!(tokio::time::timeout(AGAIN * 9, words.due()).await.is_err(), "there is nothing to say");
    }

    #[tokio::test(start_paused = true)]
    async fn a_desktop_that_begins_anew_gets_them_again_and_nobody_who_speaks_is_no_fault() {
        let (say, wanted) = watch::channel(Some(Arc::from("wait")));
        let mut words = Words::new(wanted);
        drop(say);
        assert_eq!(words.due().await, Due::Other);
        words.later();
        assert_eq!(words.due().await, Due::Again);
        assert!(words.banner(DESKTOP).is_some());
        words.desktop_begins();
        assert_eq!(words.due().await, Due::Again);
        assert!(words.banner((640, 480)).is_some_and(|(area, _)| area.left + area.width <= 640));
    }
}
