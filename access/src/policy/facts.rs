//! The facts of one question, established before any policy is asked.

use std::net::IpAddr;

use crate::{
    clock::Timestamp,
    decision::{Device, Factors, Observed, SecondFactorKind},
    ids::{Name, WindowId},
    people::{Organisation, User},
    site::{Account, Asset, Direction, PlantState, Protocol},
    snapshot::Snapshot,
    window::{Operation, Phase, Standing, Target, Window},
};

/// The actions of the schema.
pub(crate) const ACTIONS: [&str; 9] =
    ["work", "connect", "shell", "exec", "sftp", "file_read", "file_write", "forward", "view_secret"];

/// How far a clock may be behind a moment that it showed before: more is a clock that jumped back.
pub(crate) const CLOCK_SLACK_SECONDS: i64 = 5;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act<'a> {
    Connect,
    Shell,
    Exec { command: &'a str },
    Sftp,
    FileRead { path: &'a str },
    FileWrite { path: &'a str, size: u64 },
    Forward { port: u16 },
    ViewSecret { agreed: usize, seconds: i64 },
}

impl<'a> Act<'a> {
    pub(crate) const fn action(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Shell => "shell",
            Self::Exec { .. } => "exec",
            Self::Sftp => "sftp",
            Self::FileRead { .. } => "file_read",
            Self::FileWrite { .. } => "file_write",
            Self::Forward { .. } => "forward",
            Self::ViewSecret { .. } => "view_secret",
        }
    }
    pub(crate) const fn path(self) -> Option<&'a str> {
        match self {
            Self::FileRead { path } | Self::FileWrite { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// Who asks, from where, with what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person<'a> {
    pub(crate) user: &'a User,
    pub(crate) organisation: Option<&'a Organisation>,
    pub(crate) active: bool,
    pub(crate) source: IpAddr,
    pub(crate) zone: Option<&'a Name>,
    pub(crate) device: &'a Device,
    pub(crate) factors: &'a Factors,
    pub(crate) observed: &'a Observed,
}

impl<'a> Person<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        user: &'a User,
        source: IpAddr,
        device: &'a Device,
        factors: &'a Factors,
        observed: &'a Observed,
        now: Timestamp,
    ) -> Self {
        Self {
            user,
            organisation: snapshot.site.organisations.iter().find(|o| o.name == user.organisation),
            active: user.is_active(now),
            source,
            zone: snapshot.site.zone_of(source),
            device,
            factors,
            observed,
        }
    }
}

/// What is to be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thing<'a> {
    pub(crate) asset: &'a Asset,
    pub(crate) account: Option<&'a Account>,
    pub(crate) protocol: Protocol,
    pub(crate) plant: PlantState,
    pub(crate) critical_zone: bool,
    pub(crate) path: Path<'a>,
}

impl<'a> Thing<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        from: Option<&'a Name>,
        asset: &'a Asset,
        account: Option<&'a Account>,
        protocol: Protocol,
    ) -> Self {
        Self {
            asset,
            account,
            protocol,
            plant: snapshot.plant_state(&asset.zone),
            critical_zone: snapshot.site.zones.iter().any(|z| z.name == asset.zone && z.critical),
            path: Path::find(snapshot, from, asset, protocol),
        }
    }
    pub(crate) fn enabled(&self) -> bool {
        !self.asset.disabled && self.account.is_none_or(|a| !a.disabled)
    }
}

/// The conduits that lead there, taken together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'a> {
    pub(crate) conduit: Option<&'a Name>,
    pub(crate) uploads: bool,
    pub(crate) downloads: bool,
}

impl<'a> Path<'a> {
    fn find(snapshot: &'a Snapshot, from: Option<&'a Name>, asset: &'a Asset, protocol: Protocol) -> Self {
        let mut found = Self::none();
        let Some(from) = from else { return found };
        for conduit in snapshot.site.conduits_to(from, asset, protocol) {
            found.conduit = found.conduit.or(Some(&conduit.name));
            found.uploads |= conduit.direction != Direction::Out;
            found.downloads |= conduit.direction != Direction::In;
        }
        found
    }

    /// Nothing is connected to.
    pub(crate) const fn none() -> Self {
        Self { conduit: None, uploads: false, downloads: false }
    }
}

/// The window that is looked at, and what it gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) window: Option<&'a Window>,
    pub(crate) open: bool,
    pub(crate) covers: bool,
    pub(crate) state_allowed: bool,
    /// The end, extensions included.
    pub(crate) end: Timestamp,
    /// The windows in force: the one looked at, and an extension that carries it on.
    last: Option<&'a Window>,
}

impl<'a> Scope<'a> {
    /// Looks at `window` for `user` and `target`.
    pub(crate) fn of(
        snapshot: &'a Snapshot,
        window: &'a Window,
        user: &Name,
        target: Target<'_>,
        plant: PlantState,
        now: Timestamp,
    ) -> Self {
        let last = last_extension(snapshot, window);
        let end = last.effective_end();
        let in_force = match window.phase(now) {
            Phase::Open => true,
            // Over by its own text, carried on by an extension that begins before that end.
            Phase::Ended => window.is_proven() && now < end && now >= window.request.start,
            _ => false,
        };
        Self {
            window: Some(window),
            open: in_force,
            covers: window.names(user, target),
            state_allowed: window.allows_plant_state(plant),
            end,
            last: Some(last),
        }
    }

    /// The window that serves `user` best at `target`: an open one before a coming one before a requested one; among
    /// the open ones, one that the plant's state allows, for which the remembered second factor counts, that allows
    /// operating, and that lasts longest.
    pub(crate) fn best(
        snapshot: &'a Snapshot,
        user: &Name,
        target: Target<'_>,
        plant: PlantState,
        remembered: impl Fn(WindowId) -> bool,
        now: Timestamp,
    ) -> Self {
        snapshot
            .windows
            .iter()
            .filter(|w| w.names(user, target))
            .map(|w| (w, Self::of(snapshot, w, user, target, plant, now)))
            .max_by_key(|(w, s)| {
                let rank = match w.phase(now) {
                    _ if s.open => 4,
                    Phase::Upcoming => 3,
                    Phase::Requested => 2,
                    Phase::Unproven => 1,
                    _ => 0,
                };
                (rank, s.state_allowed, remembered(w.id()), w.allows(Operation::Operate), s.end)
            })
            .map_or_else(Self::none, |(_, s)| s)
    }

    /// No window. Everything but the window itself counts as allowed, so that what else stands in the way can be told.
    pub(crate) const fn none() -> Self {
        Self { window: None, open: false, covers: false, state_allowed: true, end: Timestamp(0), last: None }
    }

    pub(crate) fn allows(&self, operation: Operation) -> bool {
        self.window.is_none_or(|w| w.allows(operation))
    }

    /// Whether a remembered second factor for these windows counts here.
    fn among(&self, windows: &std::collections::BTreeSet<WindowId>) -> bool {
        let ids = [self.window.map(Window::id), self.last.map(Window::id)];
        self.window.is_none() || ids.into_iter().flatten().any(|id| windows.contains(&id))
    }
}

/// The last of the approved windows that carry `first` on. A window that was shortened is not carried on: whoever
/// shortened it meant it.
fn last_extension<'a>(snapshot: &'a Snapshot, first: &'a Window) -> &'a Window {
    let mut last = first;
    // Each step ends later than the one before: the loop is bounded by the number of windows.
    while last.standing == Standing::Approved && last.shortened_to.is_none() {
        let next = snapshot
            .windows
            .iter()
            .filter(|w| last.continues_in(&w.request) && w.standing == Standing::Approved)
            .filter(|w| w.effective_end() > last.effective_end() && w.is_proven())
            .max_by_key(|w| w.effective_end());
        match next {
            Some(w) => last = w,
            None => break,
        }
    }
    last
}

/// Whether there is a second factor, whether it counts now, and its age in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freshness {
    pub(crate) present: bool,
    pub(crate) fresh: bool,
    pub(crate) age_seconds: i64,
}

impl Freshness {
    /// For a new session at `now`.
    pub(crate) fn at_start(
        snapshot: &Snapshot,
        factors: &Factors,
        scope: &Scope<'_>,
        now: Timestamp,
    ) -> Self {
        let Some(second) = &factors.second else {
            return Self { present: false, fresh: false, age_seconds: 0 };
        };
        let age_seconds = now.since(second.at).div_euclid(1_000_000);
        let counts_for = match second.kind {
            SecondFactorKind::Remembered => i64::from(snapshot.site.settings.second_factor_remember_seconds),
            _ => super::SECOND_FACTOR_FRESH_SECONDS,
        };
        let in_time = age_seconds >= -CLOCK_SLACK_SECONDS && age_seconds < counts_for;
        let here = second.kind != SecondFactorKind::Remembered || scope.among(&second.windows);
        Self { present: true, fresh: in_time && here, age_seconds: age_seconds.max(0) }
    }

    /// For a secret that is shown at `now`: proved for this, a moment ago.
    pub(crate) fn just_proved(factors: &Factors, now: Timestamp) -> Self {
        let Some(second) = &factors.second else {
            return Self { present: false, fresh: false, age_seconds: 0 };
        };
        let age_seconds = now.since(second.at).div_euclid(1_000_000);
        let in_time = (0..=cofferdam_vault::MAX_STEP_UP_SECONDS).contains(&age_seconds);
        let fresh = in_time && second.kind != SecondFactorKind::Remembered;
        Self { present: true, fresh, age_seconds: age_seconds.max(0) }
    }

    /// For a live session: the factor is bound to it, and counted when it began.
    pub(crate) fn bound(factors: &Factors, now: Timestamp) -> Self {
        let age = factors.second.as_ref().map(|s| now.since(s.at).div_euclid(1_000_000).max(0));
        Self { present: age.is_some(), fresh: age.is_some(), age_seconds: age.unwrap_or(0) }
    }
}

/// One question, complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) act: Act<'a>,
    pub(crate) person: Person<'a>,
    pub(crate) thing: Thing<'a>,
    pub(crate) scope: Scope<'a>,
    pub(crate) factor: Freshness,
    pub(crate) now: Timestamp,
}
