//! What the relay of a desktop reports: recorded, counted and looked at before any byte of it goes on.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    store::StoreError,
};
use cofferdam_rdp::{Area, Client, Direction, Event, Pointer, ScreenPdu, SoundFormat, Stop, Watch};
use cofferdam_recorder::{
    Clipboard, ClipboardText, Decision, DesktopEncoder, Direction as Way, Event as Recorded, Key,
};
use tracing::{info, warn};

use super::{
    says,
    streams::Streams,
    tap::{CHANNEL, Latest, TapQueue},
};
use crate::{
    gateway::Gateway,
    session::{control::Ended, files::record_event, live::Session},
    transfer::{
        FileEvent, Operation, Step,
        desktop::{CHANGED, DesktopFiles},
        printable,
    },
};

/// `PTRFLAGS_DOWN`, and the buttons that it is about (MS-RDPBCGR 2.2.8.1.1.3.1.1.3).
const DOWN: u16 = 0x8000;
const BUTTONS: [(u16, u8); 3] = [(0x1000, 0), (0x2000, 1), (0x4000, 2)];
/// The same for the extended buttons (2.2.8.1.1.3.1.1.4).
const EXTENDED: [(u16, u8); 2] = [(0x0001, 3), (0x0002, 4)];
/// Both wheels: what the event says besides is no position.
const WHEELS: u16 = 0x0200 | 0x0400;
/// Longest name of a client that is kept, characters.
const NAME: usize = 64;
/// Things that were refused or taken out of which each is noted once; more kinds than there are say that a peer plays.
const NOTES: usize = 64;
/// The same for files.
const NOTES_OF_FILES: usize = 256;
/// Each how many microseconds it is written down how much of the window's bytes is used up.
const NOTED_EVERY: i64 = 10_000_000;
/// The channel, as recordings count them, of messages about devices and copied files.
const DEVICES: u32 = CHANNEL + 1;
const NOT_SHOWN: &str =
    "the asset's site file does not allow it, or another one of that name or number is shown";
const MORE: &str = "more was refused than is noted one by one";

/// What was refused and has been noted.
struct Noted {
    said: HashSet<String>,
    most: usize,
}

impl Noted {
    fn new(most: usize) -> Self {
        Self { said: HashSet::new(), most }
    }

    /// What to note of `action`: once itself; when there are too many, once that there are more.
    fn word(&self, action: &str) -> Option<String> {
        let word = if self.said.len() < self.most { action } else { MORE };
        let known = self.said.contains(action) || self.said.contains(word);
        (!known).then(|| word.to_owned())
    }
}

/// What a refusal is about. Each has a list of its own, so that names which a peer makes up hide nothing else.
#[derive(Debug, Clone, Copy)]
enum About {
    Files,
    Devices,
    Else,
}

/// See the module.
pub(super) struct Watcher {
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    encoder: DesktopEncoder,
    tap: TapQueue,
    latest: Arc<Latest>,
    place: (u16, u16),
    buttons: u8,
    noted: [Noted; 3],
    files: DesktopFiles,
    /// A refusal of a file whose event is recorded, and that is not noted yet.
    owed: Option<(String, String)>,
    /// Digests of contents of which no copy is kept.
    digests: Streams,
    /// The same of messages about devices, which are kept.
    messages: Streams,
    /// When the window's bytes were last written down.
    noted_bytes: i64,
    /// The person has been told that the rules have changed.
    told_changed: bool,
}

impl Watcher {
    /// For a session whose screens go to `tap`.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        session: Arc<Session>,
        tap: TapQueue,
        latest: Arc<Latest>,
        files: DesktopFiles,
    ) -> Self {
        let keep = session.grant().keep_full_bytes();
        Self {
            gateway,
            session,
            encoder: DesktopEncoder::new(CHANNEL),
            tap,
            latest,
            place: (0, 0),
            buttons: 0,
            noted: [Noted::new(NOTES_OF_FILES), Noted::new(NOTES), Noted::new(NOTES)],
            files,
            owed: None,
            digests: Streams::new(CHANNEL, 0),
            messages: Streams::new(DEVICES, keep),
            noted_bytes: 0,
            told_changed: false,
        }
    }

    async fn all(&self, events: Vec<Recorded>) -> Result<(), Ended> {
        for event in events {
            self.session.record(event).await?;
        }
        Ok(())
    }

    async fn client(&mut self, client: &Client) -> Result<(), Ended> {
        let name: String = client.name.chars().filter(|c| !c.is_control()).take(NAME).collect();
        let what = serde_json::json!({
            "what": "desktop", "client": name, "build": client.build, "width": client.width, "height": client.height,
        });
        self.session.record(Recorded::ChannelOpen { channel: CHANNEL, what: what.to_string() }).await?;
        self.latest.set_layout(client.keyboard_layout);
        match self.encoder.keyboard(client.keyboard_layout) {
            Some(event) => self.session.record(event).await,
            None => Ok(()),
        }
    }

    async fn key(&mut self, key: Key) -> Result<(), Ended> {
        self.all(self.encoder.keys(&[key])).await
    }

    async fn pointer(&mut self, pointer: Pointer) -> Result<(), Ended> {
        let names: &[(u16, u8)] = if pointer.extended { &EXTENDED } else { &BUTTONS };
        for (flag, bit) in names {
            if pointer.flags & flag != 0 && (pointer.extended || pointer.flags & WHEELS == 0) {
                let mask = 1 << bit;
                self.buttons =
                    if pointer.flags & DOWN != 0 { self.buttons | mask } else { self.buttons & !mask };
            }
        }
        if pointer.relative {
            // The distance is a signed number.
            let moved = |at: u16, by: u16| at.saturating_add_signed(i16::from_ne_bytes(by.to_ne_bytes()));
            self.place = (moved(self.place.0, pointer.x), moved(self.place.1, pointer.y));
        } else if pointer.flags & WHEELS == 0 || pointer.extended {
            self.place = (pointer.x, pointer.y);
        }
        let (x, y) = self.place;
        self.latest.set_pointer(x, y, self.buttons);
        match self.encoder.pointer(x, y, self.buttons) {
            Some(event) => self.session.record(event).await,
            None => Ok(()),
        }
    }

    async fn clipboard(&mut self, format: &str, direction: Direction, text: String) -> Result<(), Ended> {
        let direction = match direction {
            Direction::ToTarget => Way::ToTarget,
            Direction::ToPerson => Way::ToPerson,
        };
        let size = text.len() as u64;
        let note = Clipboard { channel: CHANNEL, direction, format: format.into(), size, refused: None };
        self.session.record(Recorded::Clipboard(Box::new(note))).await?;
        self.all(self.encoder.clipboard(&ClipboardText { direction, text })).await
    }

    /// Something did not pass: in the recording, and once in the audit log.
    async fn refused(&mut self, about: About, action: String, reason: &str) -> Result<(), Ended> {
        let Some(action) = self.noted(about).word(&action) else { return Ok(()) };
        let decision = Decision {
            action: action.clone(),
            allowed: false,
            policies: Vec::new(),
            reasons: vec![reason.to_owned()],
        };
        self.session.record(Recorded::Decision(Box::new(decision))).await?;
        if let Err(e) = self.audit(&action, reason).await {
            warn!(session = %self.session.id(), error = %e, "what a desktop was refused could not be audited");
        }
        // Only now: whoever is stopped meanwhile says it again.
        self.noted(about).said.insert(action);
        Ok(())
    }

    fn noted(&mut self, about: About) -> &mut Noted {
        let [files, devices, others] = &mut self.noted;
        match about {
            About::Files => files,
            About::Devices => devices,
            About::Else => others,
        }
    }

    /// A device of the person's machine that the target sees.
    async fn shown(&mut self, kind: &str, name: &str) -> Result<(), Ended> {
        let action = format!("{kind} {}", printable(name));
        let reasons = vec!["the asset's site file allows it".to_owned()];
        let decision = Decision { action, allowed: true, policies: Vec::new(), reasons };
        self.session.record(Recorded::Decision(Box::new(decision))).await
    }

    /// A message about devices: names, attributes and figures, which are nobody's contents and still say something.
    async fn device_message(&mut self, direction: Direction, bytes: Bytes) -> Result<(), Ended> {
        let way = match direction {
            Direction::ToTarget => Way::ToTarget,
            Direction::ToPerson => Way::ToPerson,
        };
        if self.messages.are_empty() {
            let what = serde_json::json!({ "what": "messages about devices and copied files" }).to_string();
            self.session.record(Recorded::ChannelOpen { channel: DEVICES, what }).await?;
        }
        self.messages.record(&self.session, way, &bytes).await
    }

    /// What happened to files: recorded and counted, refusals audited. A step stays the next one until it is recorded, since a
    /// kill stops this anywhere that it waits.
    async fn files(&mut self) -> Result<(), Ended> {
        self.pay().await?;
        while let Some(step) = self.files.next_step() {
            let recorded = self.file(step).await;
            self.pay().await.and(recorded)?;
        }
        Ok(())
    }

    /// The relay is over: what was not recorded yet is, and what was under way is said.
    pub(super) async fn finish_files(&mut self) {
        self.files.finish();
        // An error has ended the session already.
        while self.files.next_step().is_some() || self.owed.is_some() {
            self.files().await.unwrap_or_default();
        }
        self.digests.finish(&self.session).await;
        self.messages.finish(&self.session).await;
    }

    /// Records a step, which then is no longer the next one.
    async fn file(&mut self, step: Step) -> Result<(), Ended> {
        match step {
            Step::Keep { file, offset, data } => {
                let recorded = self.session.record(Recorded::FileContent { file, offset, data }).await;
                self.files.recorded();
                recorded
            }
            Step::Digest { operation, data } => {
                // The digest has it before this waits, and its end is recorded in any case.
                self.files.recorded();
                let to_target = operation == Operation::Upload;
                let direction = if to_target { Way::ToTarget } else { Way::ToPerson };
                self.digests.record(&self.session, direction, &data).await
            }
            Step::Event(event) => self.file_event(event).await,
            // Only channels of SSH have these.
            Step::ToTarget(_) | Step::ToPerson(_) | Step::End { .. } => {
                self.files.recorded();
                Ok(())
            }
        }
    }

    async fn file_event(&mut self, event: FileEvent) -> Result<(), Ended> {
        let (operation, bytes) = (event.operation, event.bytes);
        let refused =
            event.refused.clone().map(|why| (format!("{} {}", event.operation, printable(&event.path)), why));
        let recorded = Box::pin(record_event(&self.session, CHANNEL, event)).await;
        // Nothing waits from here on, so that it is counted once.
        self.files.recorded();
        self.owed = refused;
        self.session.add_moved(bytes);
        let bytes = usize::try_from(bytes).unwrap_or(0);
        match operation {
            Operation::Upload => self.session.heard_client(bytes),
            _ => self.session.heard_target(bytes),
        }
        recorded?;
        let now = self.session.now().micros();
        if bytes > 0 && now.saturating_sub(self.noted_bytes) >= NOTED_EVERY {
            // What a desktop moves in hours is not told only at its end.
            self.noted_bytes = now;
            self.gateway.note_files(&self.session).await;
        }
        Ok(())
    }

    /// Notes the refusal that is owed.
    async fn pay(&mut self) -> Result<(), Ended> {
        let Some((action, why)) = self.owed.clone() else { return Ok(()) };
        if why == CHANGED && !std::mem::replace(&mut self.told_changed, true) {
            self.session.say(CHANGED).await?;
        }
        let noted = self.refused(About::Files, action, &why).await;
        self.owed = None;
        noted
    }

    async fn audit(&self, action: &str, reason: &str) -> Result<(), StoreError> {
        let grant = self.session.grant();
        let act = Act::person(grant.user(), self.gateway.clock.now()).from(grant.source());
        let event = AuditEvent::new(AuditKind::ChannelRefused, self.session.id())
            .with("action", action)
            .with("reason", reason);
        self.gateway.store.record(&act, event).await.map(drop)
    }

    async fn take(&mut self, event: Event) -> Result<(), Ended> {
        if self.session.control().is_ended() {
            return Err(Ended);
        }
        if event.is_human() {
            self.session.heard_person(1);
        }
        let id = self.session.id();
        match event {
            Event::Client(client) => self.client(&client).await,
            Event::Activated(activation) => self.tap.activated(activation, self.session.control()).await,
            Event::Key(key) => {
                let code = u16::from(key.code);
                self.key(Key { code, released: !key.down, extended: key.extended, unicode: false }).await
            }
            Event::Character { unit, down } => {
                self.key(Key { code: unit, released: !down, extended: false, unicode: true }).await
            }
            Event::Pointer(pointer) => self.pointer(pointer).await,
            Event::ClipboardText { direction, text } => self.clipboard("text", direction, text).await,
            // The names are what the other side learns, so that they are kept as text is; of contents see the files.
            Event::ClipboardFiles { direction, paths } => {
                self.clipboard("files", direction, paths.join("\n")).await
            }
            Event::Files => self.files().await,
            Event::DeviceMessage { direction, bytes } => self.device_message(direction, bytes).await,
            Event::DeviceShown { kind, name } => self.shown(kind, &name).await,
            Event::DeviceRefused { kind, name } => {
                let action = format!("{kind} {}", printable(&name));
                self.refused(About::Devices, action, NOT_SHOWN).await
            }
            Event::ChannelRefused { name } => {
                self.refused(
                    About::Else,
                    format!("channel {name}"),
                    "the asset's site file does not allow it",
                )
                .await
            }
            Event::Dropped(what) => {
                self.refused(
                    About::Else,
                    format!("{what:?}"),
                    "what the client or the target sent must not pass",
                )
                .await
            }
            Event::TargetSays { code } => {
                let words = says::words(code).unwrap_or("somebody logged off");
                info!(session = %id, code, words, "the desktop's target says why it ends");
                Ok(())
            }
            Event::LogOnMessage { kind, data } => {
                let words = says::log_on(kind, data);
                warn!(session = %id, kind, data, words, "the desktop's target has a message about the log-in");
                match words {
                    Some(words) => self.session.say(&format!("the desktop's machine: {words}")).await,
                    None => Ok(()),
                }
            }
            Event::LoggedOn => {
                info!(session = %id, "the desktop's target says that the account is logged on");
                Ok(())
            }
            Event::Sound { plays, bytes } => {
                let text = match plays {
                    Some(SoundFormat { tag: 1, channels, rate, bits }) => {
                        format!("the desktop plays sound: PCM, {channels} channel(s), {rate} Hz, {bits} bits")
                    }
                    Some(SoundFormat { tag, channels, rate, .. }) => {
                        format!("the desktop plays sound: format {tag}, {channels} channel(s), {rate} Hz")
                    }
                    None => format!("the desktop plays no more sound: {bytes} bytes since it began"),
                };
                self.session.record(Recorded::Notice { text }).await
            }
            // The lock keys' lights, and what later versions of the relay may report.
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Watch for Watcher {
    async fn event(&mut self, event: Event) -> Result<(), Stop> {
        self.take(event).await.map_err(|Ended| Stop)
    }

    async fn screen(&mut self, pdu: ScreenPdu) -> Result<(), Stop> {
        self.session.heard_target(pdu.size());
        self.tap.drawn(pdu, self.session.control()).await.map_err(|Ended| Stop)
    }

    async fn picture(&mut self, area: Area) -> Option<Vec<u8>> {
        self.tap.picture(area).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_noted_once_each_and_then_once_that_there_were_more() {
        let mut noted = Noted::new(2);
        let mut said = Vec::new();
        for action in ["upload /a", "upload /a", "upload /b", "upload /c", "upload /d", "upload /a"] {
            if let Some(word) = noted.word(action) {
                assert_eq!(noted.word(action).as_ref(), Some(&word), "said again until it is noted");
                noted.said.insert(word.clone());
                said.push(word);
            }
        }
        assert_eq!(said, ["upload /a", "upload /b", MORE]);
    }
}
