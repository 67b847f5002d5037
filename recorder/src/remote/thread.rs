//! The thread that ships all the time.

use std::{io, thread::JoinHandle};
use tokio::sync::watch;

use super::uploader::{TICK, Uploader};

/// Ships until it is dropped. Slow hashing and a store that hangs delay nobody else: it has a thread and a runtime of its
/// own.
#[derive(Debug)]
pub struct UploaderThread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl UploaderThread {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(uploader: Uploader) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, mut stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("recorder-upload".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // What is under way is given up; the next start finds out what the store has of it.
                    _ = stopped.wait_for(|stop| *stop) => {}
                    () = ship(&uploader) => {}
                    () = measure(&uploader) => {}
                }
            });
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for UploaderThread {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            thread.join().ok();
        }
    }
}

async fn ship(uploader: &Uploader) {
    loop {
        for id in uploader.round().await.finished {
            tracing::info!(recording = %id, "a recording is in the object store, and no longer on this machine");
        }
        tokio::time::sleep(uploader.pause()).await;
    }
}

async fn measure(uploader: &Uploader) {
    loop {
        uploader.watch();
        tokio::time::sleep(TICK).await;
    }
}
