//! A live session, watched: the screen as it stands when somebody joins, and from there on what happens, less than a
//! second behind.
//!
//! Nothing here waits or starts a thread: whoever watches asks for more a few times each second, on a thread that may
//! read files.

use std::path::Path;

use crate::{
    cast::{CastCode, CastEvent, Caster},
    desktop::{DesktopPlayer, DesktopScreen, is_picture},
    error::ReadError,
    event::TimedEvent,
    header::Header,
    keys::Identity,
    lines::{LineReader, TextLine},
    read::{Events, Next, Recording},
    render::Screen,
    view::View,
};

/// How a session's terminal stands when somebody joins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The last thing in it happened then: microseconds since 1970, UTC.
    pub at: i64,
    /// What is shown; absent while nothing was shown yet.
    pub view: Option<View>,
    /// Columns.
    pub cols: usize,
    /// Rows.
    pub rows: usize,
    /// Written to an empty terminal of that size, this shows what the person sees.
    pub dump: String,
    /// The desktop, where the session has one instead of a terminal.
    pub desktop: Option<DesktopScreen>,
}

impl Joined {
    /// The same as an event: the first of a cast that begins here.
    pub fn event(&self) -> CastEvent {
        CastEvent { at: self.at, code: CastCode::Output, text: self.dump.clone() }
    }
}

/// What happens in a live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvent {
    /// On the channel that is shown.
    Cast(CastEvent),
    /// Anywhere in the session: a command, a finding, a file …
    Mark(TextLine),
    /// On the desktop that is shown.
    Desktop(TimedEvent),
    /// The session's first terminal appeared: it is shown from now on, on an empty screen.
    View(View),
}

/// What there is to say now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveNext {
    /// This happened, in that order; ask again at once.
    Events(Vec<LiveEvent>),
    /// Nothing for now: ask again in a tenth of a second.
    Waiting,
    /// The recording is sealed, and this was all.
    Ended,
}

/// A session that is followed for somebody, as the service that does it hands it out.
#[derive(Debug)]
pub struct Followed {
    /// What its recording is about.
    pub header: Header,
    /// Its screen at the moment of joining.
    pub joined: Joined,
    /// What happens from there on; closed at the session's end. An error is the last thing that comes.
    pub events: tokio::sync::mpsc::Receiver<Result<LiveEvent, ReadError>>,
}

/// Follows one recording that grows (or that has ended meanwhile).
pub struct Live {
    header: Header,
    events: Events<'static>,
    wanted: Option<u32>,
    view: Option<View>,
    caster: Option<Caster>,
    /// The session shows a desktop; its picture until somebody joined.
    desktop: Option<DesktopScreen>,
    marks: LineReader,
    lines: Vec<TextLine>,
    /// Read while joining, behind the joined screen.
    ended: bool,
}

impl Live {
    /// Joins the session whose recording lies at `path`: reads what there is, on one channel or the one that
    /// [`View::of`] would choose. Takes as long as rendering the session so far takes, 10 to 50 MB of output each second.
    ///
    /// # Errors
    /// When the recording cannot be read, or the identity is no recipient.
    pub fn join(path: &Path, identity: &Identity, channel: Option<u32>) -> Result<(Self, Joined), ReadError> {
        let mut recording = Recording::open(path)?;
        recording.unlock(identity)?;
        let header = recording.header().clone();
        let started = header.started;
        let desktop = DesktopPlayer::plays(&header).then(DesktopScreen::default);
        let events = match &desktop {
            // Hours of pictures need not be read for the one that stands.
            Some(_) => recording.into_events_from_key_frame()?,
            None => recording.into_events()?,
        };
        let mut live = Self {
            header,
            events,
            wanted: channel,
            view: None,
            caster: None,
            desktop,
            marks: LineReader::default(),
            lines: Vec::new(),
            ended: false,
        };
        let (at, screen) = live.catch_up(started)?;
        let (cols, rows) = screen.size();
        live.caster = live.view.map(|view| Caster::new(view, false, Some(&screen)));
        let desktop = live.desktop.as_mut().map(std::mem::take);
        let joined = Joined { at, view: live.view, cols, rows, dump: screen.dump(), desktop };
        Ok((live, joined))
    }

    /// What the recording is about.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What happened since the last call, at most `most` events of the recording (more than none).
    ///
    /// # Errors
    /// When a segment is damaged; the next call goes on behind it where that is possible.
    pub fn next(&mut self, most: usize) -> Result<LiveNext, ReadError> {
        let mut told = Vec::new();
        for _ in 0..most.max(1) {
            if self.ended {
                break;
            }
            match self.events.advance() {
                Ok(Next::Event(event)) => self.tell(&event, &mut told),
                Ok(Next::Waiting) => break,
                Ok(Next::Ended) => self.ended = true,
                Err(e) if told.is_empty() => return Err(e),
                Err(_) => break,
            }
        }
        Ok(match (told.is_empty(), self.ended) {
            (false, _) => LiveNext::Events(told),
            (true, true) => LiveNext::Ended,
            (true, false) => LiveNext::Waiting,
        })
    }

    fn tell(&mut self, event: &TimedEvent, told: &mut Vec<LiveEvent>) {
        if View::meet(&mut self.view, &event.event, self.wanted)
            && let Some(view) = self.view
        {
            self.caster = Some(Caster::new(view, false, None));
            told.push(LiveEvent::View(view));
        }
        if self.desktop.is_some() && is_picture(&event.event) {
            told.push(LiveEvent::Desktop(event.clone()));
        }
        if let Some(event) = self.caster.as_mut().and_then(|caster| caster.event(event)) {
            told.push(LiveEvent::Cast(event));
        }
        self.marks.event(event, &mut self.lines);
        told.extend(self.lines.drain(..).filter(|line| line.kind.is_mark()).map(LiveEvent::Mark));
    }

    /// Reads what is there already; answers the time of the last event and the screen.
    fn catch_up(&mut self, started: i64) -> Result<(i64, Screen), ReadError> {
        let mut at = started;
        let mut screen = Screen::default();
        loop {
            match self.events.advance()? {
                Next::Event(event) => {
                    at = event.at;
                    if let Some(desktop) = &mut self.desktop {
                        desktop.apply(&event.event)?;
                    }
                    self.marks.event(&event, &mut self.lines);
                    self.lines.clear();
                    if View::meet(&mut self.view, &event.event, self.wanted) {
                        screen = Screen::default();
                    }
                    if let Some(view) = self.view.filter(|view| view.shows(&event.event)) {
                        view.apply(&mut screen, &event.event);
                    }
                }
                Next::Waiting => return Ok((at, screen)),
                Next::Ended => {
                    self.ended = true;
                    return Ok((at, screen));
                }
            }
        }
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live({}, {:?})", self.header.id, self.view)
    }
}
