//! Decodes a copy of what the target draws, on a thread of its own, and records what is on the screen.
//!
//! Invariant: nothing is drawn for the person before it stands in the queue of this thread. The queue is bounded: a thread
//! that falls behind slows the relay, and one that stays behind, or cannot decode, ends the session.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cofferdam_rdp::{
    Activation, Area, ScreenPdu,
    tap::{PointerChange, Start, Tap},
};
use cofferdam_recorder::{Changed, DesktopEncoder, Event, Order, Pixels};
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, mpsc::error::TryRecvError, oneshot},
};
use tracing::warn;

use crate::session::{
    control::{Control, Ended},
    end::End,
    live::Session,
};

/// The desktop's number among the session's channels.
pub(super) const CHANNEL: u32 = 0;
/// PDUs that wait for the thread.
const PDUS: usize = 2048;
/// How long the thread lets them gather: each time that it is woken for one costs the relay, and what it does then it does
/// beside the very drawing that the person waits for.
const GATHER: Duration = Duration::from_millis(50);
/// Bytes in them.
const BYTES: u32 = 8 << 20;
/// What a desktop that begins counts for.
const DESKTOP: u32 = BYTES / 4;
/// After a desktop that began, so many times as long as that took, and at most so long: shorter than the end of a session waits.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(500);
/// How long the relay stands still for the thread before the session ends.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two frames of the recording, where little changes, and where much does.
const FRAME: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_millis(200);
/// What moves for long takes about so many bytes a second, before they are compressed.
const RATE: u64 = 120_000;

/// What the thread is told, in the order in which the person's client hears it.
enum Told {
    /// The desktop begins, or begins again with another size.
    Activated(Box<Activation>, OwnedSemaphorePermit),
    /// It may draw this.
    Drawn(ScreenPdu, OwnedSemaphorePermit),
    /// What is to be seen in a part of it: red, green and blue.
    Asked(Area, oneshot::Sender<Option<Vec<u8>>>),
}

/// Where the pointer is, and by which layout is typed: known to the relay, and part of every key frame.
#[derive(Debug, Default)]
pub(super) struct Latest {
    pointer: AtomicU64,
    layout: AtomicU32,
}

impl Latest {
    pub(super) fn set_pointer(&self, x: u16, y: u16, buttons: u8) {
        let packed = u64::from(x) << 32 | u64::from(y) << 16 | u64::from(buttons) << 8 | 1;
        self.pointer.store(packed, Ordering::Relaxed);
    }

    pub(super) fn set_layout(&self, layout: u32) {
        self.layout.store(layout, Ordering::Relaxed);
    }

    /// Tells an encoder. What it makes of that is recorded already, by the relay.
    fn tell(&self, encoder: &mut DesktopEncoder) {
        let [_, _, x1, x0, y1, y0, buttons, known] = self.pointer.load(Ordering::Relaxed).to_be_bytes();
        if known == 1 {
            drop(encoder.pointer(u16::from_be_bytes([x1, x0]), u16::from_be_bytes([y1, y0]), buttons));
        }
        match self.layout.load(Ordering::Relaxed) {
            0 => {}
            layout => drop(encoder.keyboard(layout)),
        }
    }
}

/// The relay's end of the queue. When it is dropped the thread records what is left, and ends.
#[derive(Debug)]
pub(super) struct TapQueue {
    told: mpsc::Sender<Told>,
    room: Arc<Semaphore>,
    /// Nothing more should gather.
    hurry: Arc<Notify>,
}

impl TapQueue {
    /// Starts the thread. The receiver hears when it has recorded its last frame.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        session: Arc<Session>,
        latest: Arc<Latest>,
    ) -> std::io::Result<(Self, oneshot::Receiver<()>)> {
        let (queue, hears) = Self::new();
        let hurry = queue.hurry.clone();
        let (done, over) = oneshot::channel();
        let runtime = Handle::current();
        std::thread::Builder::new().name("desktop-tap".into()).spawn(move || {
            if let Err(why) = run(&runtime, &session, &latest, (hears, &hurry))
                // What is over for another reason needs no frame any more.
                && session.control().reason().is_none()
            {
                warn!(session = %session.id(), why, "a desktop can no longer be recorded");
                session.control().end(End::RecorderFailed { why });
            }
            // Whoever waited may be gone: the session was cut.
            done.send(()).unwrap_or_default();
        })?;
        Ok((queue, over))
    }

    fn new() -> (Self, mpsc::Receiver<Told>) {
        let (told, hears) = mpsc::channel(PDUS);
        let room = Arc::new(Semaphore::new(BYTES as usize));
        (Self { told, room, hurry: Arc::default() }, hears)
    }

    /// The desktop begins.
    pub(super) async fn activated(&self, activation: Activation, control: &Control) -> Result<(), Ended> {
        let place = self.place(DESKTOP, control).await?;
        self.tell(Told::Activated(Box::new(activation), place), control).await
    }

    /// The target draws. Returns once there is room for it.
    pub(super) async fn drawn(&self, pdu: ScreenPdu, control: &Control) -> Result<(), Ended> {
        let size = u32::try_from(pdu.size()).unwrap_or(BYTES).clamp(1, BYTES);
        let place = self.place(size, control).await?;
        self.tell(Told::Drawn(pdu, place), control).await
    }

    async fn place(&self, size: u32, control: &Control) -> Result<OwnedSemaphorePermit, Ended> {
        if let Ok(place) = self.room.clone().try_acquire_many_owned(size) {
            return Ok(place);
        }
        self.hurry.notify_one();
        match tokio::time::timeout(PATIENCE, self.room.clone().acquire_many_owned(size)).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(behind(control)),
        }
    }

    /// What is to be seen in a part of the desktop once all is drawn that came before.
    pub(super) async fn picture(&self, area: Area) -> Option<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.told.send(Told::Asked(area, answer)).await.ok()?;
            self.hurry.notify_one();
            answered.await.ok()?
        };
        tokio::time::timeout(PATIENCE, asked).await.ok()?
    }

    async fn tell(&self, told: Told, control: &Control) -> Result<(), Ended> {
        if self.told.capacity() < PDUS / 2 || self.room.available_permits() < BYTES as usize / 2 {
            self.hurry.notify_one();
        }
        match tokio::time::timeout(PATIENCE, self.told.send(told)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(behind(control)),
        }
    }
}

impl Drop for TapQueue {
    fn drop(&mut self) {
        // What is left is recorded now.
        self.hurry.notify_one();
    }
}

/// The thread is too slow, or gone (then the first reason, its own, stays).
fn behind(control: &Control) -> Ended {
    control.end(End::RecorderFailed { why: "the desktop's picture was not decoded in time".into() });
    Ended
}

/// Until the relay ends. The error is why the desktop cannot be recorded any longer.
fn run(
    runtime: &Handle,
    session: &Session,
    latest: &Latest,
    (mut hears, hurry): (mpsc::Receiver<Told>, &Notify),
) -> Result<(), String> {
    let mut encoder = DesktopEncoder::new(CHANNEL);
    let mut tap: Option<Tap> = None;
    let mut next = Instant::now();
    // When another desktop may begin.
    let mut anew = next;
    // Something was drawn since the last frame.
    let mut dirty = false;
    loop {
        if let Some(tap) = tap.as_mut().filter(|_| dirty && Instant::now() >= next) {
            let bytes = record(runtime, session, latest, &mut encoder, tap)?;
            dirty = false;
            next = Instant::now() + pause(bytes);
        }
        let heard = match hears.try_recv() {
            Ok(told) => Some(Some(told)),
            Err(TryRecvError::Disconnected) => Some(None),
            Err(TryRecvError::Empty) => {
                let heard = if dirty {
                    let wait = next.saturating_duration_since(Instant::now());
                    runtime.block_on(async { tokio::time::timeout(wait, hears.recv()).await }).ok()
                } else {
                    Some(hears.blocking_recv())
                };
                gather(runtime, &heard, hurry);
                heard
            }
        };
        match heard {
            None => {}
            Some(Some(Told::Activated(activation, _place))) => {
                let mut began = Instant::now();
                // What the desktop before has shown last is recorded, too. Each costs a whole picture: who asks for one after the
                // other waits.
                if let Some(tap) = tap.as_mut().filter(|_| dirty) {
                    rest(runtime, session, anew);
                    began = Instant::now();
                    record(runtime, session, latest, &mut encoder, tap)?;
                    dirty = false;
                }
                tap = Some(begin(&activation)?.after(tap.take()));
                anew = Instant::now() + pause_after_desktop(began.elapsed());
            }
            Some(Some(Told::Drawn(pdu, _place))) => {
                // Whoever did not wait for this thread has nobody to record for.
                if let Some(End::RecorderFailed { .. }) = session.control().reason() {
                    return Ok(());
                }
                // The relay shows nothing of a desktop that has not begun.
                let tap = tap.as_mut().ok_or("something was drawn before there was a desktop")?;
                let known = tap.faults();
                tap.draw(&pdu).map_err(|e| e.to_string())?;
                dirty = true;
                if known == 0 && tap.faults() > 0 {
                    incomplete(runtime, session)?;
                }
            }
            Some(Some(Told::Asked(area, answer))) => {
                let seen = tap.as_ref().and_then(|tap| tap.image().crop(area));
                // Who no longer waits needs no answer.
                answer.send(seen).unwrap_or_default();
            }
            Some(None) => {
                return match &mut tap {
                    Some(tap) => record(runtime, session, latest, &mut encoder, tap).map(drop),
                    None => Ok(()),
                };
            }
        }
    }
}

/// Lets more gather behind the first that was heard after nothing was, unless it is to hurry.
fn gather(runtime: &Handle, heard: &Option<Option<Told>>, hurry: &Notify) {
    if let Some(Some(Told::Activated(..) | Told::Drawn(..))) = heard {
        runtime.block_on(gathered(hurry));
    }
}

async fn gathered(hurry: &Notify) {
    tokio::time::timeout(GATHER, hurry.notified()).await.unwrap_or_default();
}

/// Says in the log and in the recording that it lacks something. A few such updates are borne, as clients do.
fn incomplete(runtime: &Handle, session: &Session) -> Result<(), String> {
    warn!(session = %session.id(), "a part of what a desktop's target drew cannot be decoded");
    let text = "a part of what the desktop showed cannot be decoded, and is missing from here on".to_owned();
    runtime.block_on(session.record(Event::Notice { text })).map_err(|_| "the recorder stopped".to_owned())
}

fn begin(activation: &Activation) -> Result<Tap, String> {
    let Activation { width, height, io_channel, .. } = *activation;
    Tap::new(Start { width, height, io_channel }).map_err(|e| e.to_string())
}

/// How long after a frame of so many bytes the next one is taken. Somebody who types sees ten a second; a window that is
/// dragged about is followed at half of that, and takes half of the space.
fn pause(bytes: usize) -> Duration {
    Duration::from_millis((bytes as u64).saturating_mul(1000) / RATE).clamp(FRAME, SLOWEST)
}

/// Waits until then, or until the session ends.
fn rest(runtime: &Handle, session: &Session, until: Instant) {
    let wait = until.saturating_duration_since(Instant::now());
    let ended = async { tokio::time::timeout(wait, session.control().ended()).await };
    runtime.block_on(ended).unwrap_or_default();
}

/// How long after a desktop that took so long to begin the next one may.
fn pause_after_desktop(took: Duration) -> Duration {
    took.saturating_mul(REST).clamp(SLOWEST, LONGEST_REST)
}

/// Records what differs from the frame before; answers how many bytes of pixels that took.
fn record(
    runtime: &Handle,
    session: &Session,
    latest: &Latest,
    encoder: &mut DesktopEncoder,
    tap: &mut Tap,
) -> Result<usize, String> {
    latest.tell(encoder);
    let shapes: Vec<Event> =
        tap.take_pointer_changes().into_iter().filter_map(|change| pointer(encoder, change)).collect();
    let frame = tap.rest();
    let (width, height) = frame.image.size();
    let picture = Pixels::new(width, height, Order::Rgbx, frame.image.rgbx())
        .ok_or_else(|| format!("no desktop has {width} by {height} pixels"))?;
    let drawn = match frame.changed.as_slice() {
        [] => Vec::new(),
        changed => encoder.frame(&picture, Changed::Tiles(changed), session.now().micros()),
    };
    let bytes = drawn.iter().map(pixels).sum();
    for event in shapes.into_iter().chain(drawn) {
        // The recorder's own reason stands in the session already.
        runtime.block_on(session.record(event)).map_err(|_| "the recorder stopped".to_owned())?;
    }
    Ok(bytes)
}

fn pixels(event: &Event) -> usize {
    match event {
        Event::Tiles { data, .. } => data.len(),
        _ => 0,
    }
}

fn pointer(encoder: &mut DesktopEncoder, change: PointerChange) -> Option<Event> {
    match change {
        PointerChange::Usual => encoder.usual_pointer(),
        PointerChange::Hidden => encoder.hidden_pointer(),
        // Where the person has it is known from their side.
        PointerChange::At { .. } => None,
        PointerChange::Shape(shape) => {
            encoder.pointer_shape(shape.width, shape.height, shape.hot, &shape.rgba)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So much as one PDU may have, and more.
    fn drawn(bytes: usize) -> ScreenPdu {
        ScreenPdu::Desktop(vec![0; bytes].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_falls_behind_slows_the_relay_and_one_that_stays_behind_ends_the_session() {
        let (queue, mut hears) = TapQueue::new();
        let control = Control::default();
        let half = BYTES as usize / 2;
        let begun = tokio::time::Instant::now();
        for _ in 0..2 {
            queue.drawn(drawn(half), &control).await.unwrap();
        }
        assert!(begun.elapsed().is_zero(), "there was room");
        // It takes one in the end: what waited goes on, and only then.
        let slow = async {
            tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
            assert!(hears.recv().await.is_some());
        };
        let (waited, ()) = tokio::join!(queue.drawn(drawn(half), &control), slow);
        assert!(
            waited.is_ok() && begun.elapsed() == PATIENCE - Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        assert!(control.reason().is_none());
        // It takes nothing any more: neither what is drawn nor another desktop passes, and the session ends.
        let begun = tokio::time::Instant::now();
        assert_eq!(queue.drawn(drawn(1), &control).await, Err(Ended));
        assert_eq!(begun.elapsed(), PATIENCE);
        assert!(matches!(control.reason(), Some(End::RecorderFailed { .. })), "{:?}", control.reason());
    }

    #[tokio::test(start_paused = true)]
    async fn what_gathers_is_looked_at_at_once_where_there_is_much_of_it_or_somebody_asks_or_it_is_over() {
        let control = Control::default();
        let hurries = async |queue: &TapQueue| {
            let begun = tokio::time::Instant::now();
            gathered(&queue.hurry).await;
            begun.elapsed().is_zero()
        };
        let (queue, _hears) = TapQueue::new();
        queue.drawn(drawn(100), &control).await.unwrap();
        assert!(!hurries(&queue).await, "a little waits");
        for _ in 0..=PDUS / 2 {
            queue.drawn(drawn(1), &control).await.unwrap();
        }
        assert!(hurries(&queue).await, "many");
        let (queue, _hears) = TapQueue::new();
        queue.drawn(drawn(BYTES as usize / 2 + 1), &control).await.unwrap();
        assert!(hurries(&queue).await, "large ones");
        let waits =
            tokio::time::timeout(Duration::from_millis(1), queue.drawn(drawn(BYTES as usize), &control));
        assert!(waits.await.is_err() && hurries(&queue).await, "one for which there is no room");
        let area = Area { left: 0, top: 0, width: 4, height: 4 };
        let asked = tokio::time::timeout(Duration::from_millis(1), queue.picture(area));
        assert!(asked.await.is_err() && hurries(&queue).await, "somebody who asks");
        let hurry = queue.hurry.clone();
        drop(queue);
        let begun = tokio::time::Instant::now();
        gathered(&hurry).await;
        assert!(begun.elapsed().is_zero(), "the end");
    }

    #[tokio::test(start_paused = true)]
    async fn small_pdus_are_bounded_by_their_number_and_a_thread_that_is_gone_ends_the_session_at_once() {
        let (queue, hears) = TapQueue::new();
        let control = Control::default();
        let begun = tokio::time::Instant::now();
        for _ in 0..PDUS {
            queue.drawn(drawn(1), &control).await.unwrap();
        }
        assert_eq!(queue.drawn(drawn(1), &control).await, Err(Ended));
        assert_eq!(begun.elapsed(), PATIENCE);
        drop(hears);
        let control = Control::default();
        let begun = tokio::time::Instant::now();
        assert_eq!(queue.drawn(drawn(1), &control).await, Err(Ended));
        assert!(begun.elapsed().is_zero());
        assert!(matches!(control.reason(), Some(End::RecorderFailed { .. })), "{:?}", control.reason());
    }

    #[test]
    fn desktops_that_follow_each_other_wait_and_never_longer_than_an_end_does() {
        assert_eq!(pause_after_desktop(Duration::ZERO), SLOWEST);
        assert_eq!(pause_after_desktop(Duration::from_millis(100)), Duration::from_millis(400));
        assert_eq!(pause_after_desktop(Duration::MAX), LONGEST_REST);
        assert!(LONGEST_REST < super::super::carry::LAST_FRAME);
    }

    #[test]
    fn what_changes_much_is_looked_at_half_as_often_and_never_less() {
        assert_eq!((pause(0), pause(12_000)), (FRAME, FRAME));
        assert_eq!(pause(18_000), Duration::from_millis(150));
        assert_eq!((pause(24_000), pause(usize::MAX)), (SLOWEST, SLOWEST));
    }
}
