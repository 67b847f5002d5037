//! Text on recorded desktops: after a session, and as nothing else waits for it, a program that knows letters reads it off
//! the recording, so that a search finds it.
//!
//! The pictures are what a target drew, and the program is a large parser of what strangers make: it runs in the sandbox that
//! plug-ins have, without network and with nothing to read but itself, for one picture at a time.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cofferdam_access::audit::{Act, AuditEvent, AuditKind};
use cofferdam_recorder::{DesktopReader, OcrRead, ReadError, Unread};
use cofferdam_vault::rotation::plugin::{Confined, Launcher};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::{Ocr, Vault},
    gateway::Gateway,
    rotation::PLUGIN_COMMAND,
};

/// How often it is looked whether a desktop's recording was finished.
const LOOK: Duration = Duration::from_secs(15);
/// … and after something of ours failed, which would be for nothing again at once.
const LATER: Duration = Duration::from_secs(600);
/// How long one picture may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most memory of the program.
const MEMORY: u64 = 1 << 30;
/// Most that it may say of one picture, in bytes.
const ANSWER: usize = 4 << 20;
/// Pictures are read as one block of lines: what stands side by side on a screen stands in one line of the text.
const LAYOUT: &str = "6";

/// The program, as the configuration names it.
#[derive(Debug, Clone)]
pub(crate) struct Tesseract {
    program: PathBuf,
    languages: Vec<String>,
    /// Where sockets are: the program runs as our own user, and they listen to that.
    hidden: Vec<PathBuf>,
}

impl Tesseract {
    /// Starts nothing yet.
    pub(crate) fn new(ocr: &Ocr, vault: &Vault) -> Self {
        let sockets = vault.operator_socket().parent().map(ToOwned::to_owned);
        let hidden = sockets.into_iter().chain(["/run".into()]).collect();
        Self { program: ocr.program.clone(), languages: ocr.languages.clone(), hidden }
    }

    /// Whether it can be used.
    ///
    /// # Errors
    /// Why not, and what to install.
    pub(crate) async fn check(&self) -> Result<(), String> {
        crate::config::trusted(&self.program).map_err(|e| {
            format!("{e}: install Tesseract (package tesseract-ocr), or name it in ocr.program")
        })?;
        let said = self.run(&["--list-langs"], b"").await?;
        let said = String::from_utf8_lossy(&said);
        let there = |language: &&String| said.lines().any(|line| line.trim() == language.as_str());
        match self.languages.iter().find(|language| !there(language)) {
            None => Ok(()),
            Some(missing) => {
                let package = missing.to_lowercase().replace('_', "-");
                Err(format!(
                    "{} does not know the language {missing:?}: install it (package tesseract-ocr-{package}), or take it out of \
                     ocr.languages",
                    self.program.display()
                ))
            }
        }
    }

    /// The words in a picture, as a table.
    async fn words(&self, picture: &[u8]) -> Result<Vec<u8>, String> {
        let languages = self.languages.join("+");
        self.run(&["stdin", "stdout", "-l", &languages, "--psm", LAYOUT, "tsv"], picture).await
    }

    async fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        // A folder for each picture: what one target drew is nothing to the next.
        let folder = tempfile::Builder::new().prefix("cofferdam-ocr-").tempdir();
        let folder = folder.map_err(|e| format!("no folder can be made for it: {e}"))?;
        let confined = Confined {
            launcher: Launcher {
                program: std::env::current_exe().map_err(|e| e.to_string())?,
                arguments: vec![PLUGIN_COMMAND.into()],
            },
            program: self.program.clone(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            // One thread: several take more of the processor for the same.
            environment: vec![("OMP_THREAD_LIMIT".to_owned(), "1".to_owned())],
            folder: folder.path().to_owned(),
            hidden: self.hidden.clone(),
            memory: MEMORY,
            patience: PATIENCE,
        };
        let answer = confined.answer(input, ANSWER).await;
        answer.map_err(|why| format!("{}: {why}", self.program.display()))
    }
}

/// Has each desktop's recording read once it is finished, one after the other, until `stop`.
pub(crate) async fn read_desktops(
    gateway: Arc<Gateway>,
    program: Tesseract,
    reader: DesktopReader,
    stop: CancellationToken,
) {
    let reading = Reading { gateway, program, reader: Arc::new(Mutex::new(reader)), stop };
    // Broken off or not: whatever was begun is ended with this.
    reading.stop.run_until_cancelled(reading.go_on()).await;
}

/// What reads, and what is read.
struct Reading {
    gateway: Arc<Gateway>,
    program: Tesseract,
    reader: Arc<Mutex<DesktopReader>>,
    stop: CancellationToken,
}

impl Reading {
    async fn go_on(&self) {
        let mut trouble = None;
        // At the start, too, so that what is missing is said before it is needed.
        let mut wanted = true;
        loop {
            if wanted {
                let now = self.program.check().await.err();
                match &now {
                    Some(why) if now != trouble => {
                        error!(error = why, "the text on desktops is not read, and no search finds it");
                    }
                    None if trouble.is_some() => info!("the text on desktops is read again"),
                    _ => {}
                }
                trouble = now;
            }
            let pending = self.blocking(DesktopReader::pending).await.unwrap_or_else(|error| {
                warn!(%error, "it could not be seen which desktops are to be read");
                Vec::new()
            });
            wanted = !pending.is_empty();
            let mut pause = LOOK;
            for path in pending.into_iter().filter(|_| trouble.is_none()) {
                if let Err(why) = self.read(path.clone()).await {
                    warn!(path = %path.display(), error = %why, "the text on a desktop could not be kept; it is tried again");
                    pause = LATER;
                    let failed = self
                        .blocking(move |reader| {
                            reader.failed(&path);
                            Ok(())
                        })
                        .await;
                    if failed.is_err() || self.program.check().await.is_err() {
                        break;
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Has one recording read. An error is none of its own: it, and others, are tried again.
    async fn read(&self, path: PathBuf) -> Result<(), String> {
        let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let event = AuditEvent::new(AuditKind::RecordingPlayed, &id).with("as", "ocr");
        let act = Act::system("ocr", self.gateway.clock.now());
        self.gateway.store.record(&act, event).await.map_err(|e| e.to_string())?;
        let (program, stop, runtime) = (self.program.clone(), self.stop.clone(), Handle::current());
        let read = self.blocking(move |reader| {
            reader.read(&path, &mut |picture| {
                let words = runtime.block_on(stop.run_until_cancelled(program.words(picture)));
                words.ok_or(Unread::Stopped)?.map_err(Unread::Failed)
            })
        });
        match read.await {
            Ok(Some(OcrRead { pictures, lines, failed, trouble, cut })) => {
                info!(recording = %id, pictures, lines, "the text on a desktop was read");
                if failed > 0 || cut || trouble.is_some() {
                    warn!(recording = %id, failed, cut, trouble, "not all of a desktop could be read");
                }
                Ok(())
            }
            // The gateway stops: it begins anew at the next start.
            Ok(None) => Ok(()),
            Err(error @ ReadError::Export(_)) => Err(error.to_string()),
            Err(error) => {
                warn!(recording = %id, %error, "the text on a desktop cannot be read");
                Ok(())
            }
        }
    }

    /// Does work that reads files, on a thread for that.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut DesktopReader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let reader = self.reader.clone();
        let done = tokio::task::spawn_blocking(move || {
            work(&mut reader.lock().unwrap_or_else(PoisonError::into_inner))
        });
        // One that broke off: the log has its panic.
        done.await.unwrap_or_else(|e| Err(ReadError::Export(std::io::Error::other(e))))
    }
}
