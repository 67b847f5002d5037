//! What exactly an approver approves, and what may be asked for at all.

use std::fmt::Write as _;

use super::{RequestDigest, WindowRequest};
use crate::{
    clock::Timestamp,
    ids::Name,
    site::{AccountRef, Site},
};

/// Most people in one request.
pub const MOST_USERS: usize = 50;
/// Most accounts, and most forwards, in one request.
pub const MOST_TARGETS: usize = 200;
/// Most path patterns in one request.
pub const MOST_PATHS: usize = 100;
/// Longest purpose, characters.
pub const LONGEST_PURPOSE: usize = 2000;
/// Longest work order number, and longest path pattern, characters.
pub const LONGEST_FIELD: usize = 256;
/// Longest remark with an approval, characters.
pub const LONGEST_REMARK: usize = 500;
/// How far in the past a start may lie, seconds: forms take a while to fill in.
pub const START_SLACK_SECONDS: i64 = 300;

/// Why a request cannot be made. The fault is the requester's; each text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A set that must name something names nothing.
    #[error("the request names no {0}: name at least one")]
    Empty(&'static str),
    /// Too many of something.
    #[error("the request names more than {most} {what}: split it into several requests")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        most: usize,
    },
    /// A text is missing, too long, or has characters that cannot be shown safely.
    #[error("the {field} {problem}")]
    Text {
        /// Which text.
        field: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The end is not after the start.
    #[error("the window would end at or before its start: give an end after {start}")]
    EndsBeforeStart {
        /// The start.
        start: Timestamp,
    },
    /// The window lies in the past.
    #[error("the window would start or end in the past: it is now {now}; ask for a later time")]
    InThePast {
        /// The present.
        now: Timestamp,
    },
    /// Longer than the site allows.
    #[error(
        "the window would last {seconds} s and the site allows {longest} s: ask for less and extend it later"
    )]
    TooLong {
        /// What was asked for.
        seconds: i64,
        /// What is allowed.
        longest: i64,
    },
    /// Somebody who does not exist, or is not active.
    #[error("{0} is not an active person of this site: check the name, or ask an administrator")]
    UnknownUser(Name),
    /// An account that does not exist or is disabled.
    #[error("{0} is not an enabled account of this site: pick one from the menu, or ask an administrator")]
    UnknownAccount(AccountRef),
    /// An asset that does not exist or is disabled.
    #[error("{0} is not an enabled asset of this site: pick one from the menu, or ask an administrator")]
    UnknownAsset(Name),
    /// The request claims to have been made at another time than now.
    #[error("the request says that it was made at {said}, and it is now {now}: make it again")]
    MadeAtAnotherTime {
        /// What it says.
        said: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// An extension must be the same request but for its times and words.
    #[error("an extension may change the end, the purpose and the work order only: ask for a new window")]
    NotAnExtension,
    /// A window of this kind cannot be extended.
    #[error(
        "only an approved window that has not ended, nor been shortened, can be extended: ask for a new window"
    )]
    NotExtendable,
}

impl WindowRequest {
    /// The text that approvers approve, version 1: UTF-8, one `key: value` per line, every field in a fixed order,
    /// sets in their sorted order one line per member, free text as JSON strings (so that a line break inside a text
    /// cannot pose as another field), times as RFC 3339 and as microseconds.
    ///
    /// The text is stable: a later version gets another first line, and old digests stay valid for old text.
    pub fn canonical_text(&self) -> String {
        // Taking the request apart by name makes a forgotten field an error of the compiler.
        let Self {
            id,
            requested_by,
            requested_at,
            users,
            accounts,
            forwards,
            operations,
            purpose,
            work_order,
            start,
            end,
            plant_states,
            limits,
            extends,
        } = self;
        let super::Limits { file_bytes, paths, read_only_files } = limits;
        let mut text = String::with_capacity(512);
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ignored = writeln!(text, "{key}: {value}");
        };
        line("cofferdam-window-request", &1);
        line("id", id);
        line("requested-by", requested_by);
        line("requested-at", &moment(*requested_at));
        users.iter().for_each(|u| line("user", u));
        accounts.iter().for_each(|a| line("account", a));
        forwards.iter().for_each(|f| line("forward", f));
        operations.iter().for_each(|o| line("operation", &o.as_str()));
        line("purpose", &quoted(purpose));
        line("work-order", &quoted(work_order));
        line("start", &moment(*start));
        line("end", &moment(*end));
        plant_states.iter().for_each(|p| line("plant-state", &p.as_str()));
        if let Some(bytes) = file_bytes {
            line("file-bytes", bytes);
        }
        paths.iter().for_each(|p| line("path", &quoted(p)));
        line("read-only-files", read_only_files);
        if let Some(old) = extends {
            line("extends", old);
        }
        text
    }

    /// SHA-256 of the canonical text.
    pub fn digest(&self) -> RequestDigest {
        RequestDigest::of(&self.canonical_text())
    }

    /// Checks that the request may be put before approvers at `now`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn validate(&self, site: &Site, now: Timestamp) -> Result<(), RequestError> {
        self.validate_counts()?;
        text("purpose", &self.purpose, 1, LONGEST_PURPOSE)?;
        text("work order", &self.work_order, 0, LONGEST_FIELD)?;
        self.limits.paths.iter().try_for_each(|p| path_pattern(p))?;
        self.validate_times(site, now)?;
        self.validate_names(site, now)
    }

    fn validate_counts(&self) -> Result<(), RequestError> {
        let filled = [
            ("person", self.users.is_empty()),
            ("account", self.accounts.is_empty()),
            ("operation", self.operations.is_empty()),
        ];
        if let Some((what, _)) = filled.into_iter().find(|(_, empty)| *empty) {
            return Err(RequestError::Empty(what));
        }
        let bounded = [
            ("people", self.users.len(), MOST_USERS),
            ("accounts", self.accounts.len(), MOST_TARGETS),
            ("forwards", self.forwards.len(), MOST_TARGETS),
            ("path patterns", self.limits.paths.len(), MOST_PATHS),
        ];
        match bounded.into_iter().find(|(_, n, most)| n > most) {
            Some((what, _, most)) => Err(RequestError::TooMany { what, most }),
            None => Ok(()),
        }
    }

    fn validate_times(&self, site: &Site, now: Timestamp) -> Result<(), RequestError> {
        if self.end <= self.start {
            return Err(RequestError::EndsBeforeStart { start: self.start });
        }
        if self.end <= now || self.start < now.plus_seconds(-START_SLACK_SECONDS) {
            return Err(RequestError::InThePast { now });
        }
        let longest = i64::from(site.settings.longest_window_seconds);
        if self.end.since(self.start) > longest.saturating_mul(1_000_000) {
            return Err(RequestError::TooLong { seconds: self.end.since(self.start) / 1_000_000, longest });
        }
        if self.requested_at.since(now).saturating_abs() > START_SLACK_SECONDS * 1_000_000 {
            return Err(RequestError::MadeAtAnotherTime { said: self.requested_at, now });
        }
        Ok(())
    }

    fn validate_names(&self, site: &Site, now: Timestamp) -> Result<(), RequestError> {
        let active = |name: &Name| site.user(name).is_some_and(|u| u.is_active(now));
        let enabled = |name: &Name| site.asset(name).is_some_and(|a| !a.disabled);
        if let Some(who) = std::iter::once(&self.requested_by).chain(&self.users).find(|u| !active(u)) {
            return Err(RequestError::UnknownUser(who.clone()));
        }
        if let Some(account) = self
            .accounts
            .iter()
            .find(|a| !enabled(&a.asset) || site.account(a).is_none_or(|account| account.disabled))
        {
            return Err(RequestError::UnknownAccount(account.clone()));
        }
        match self.forwards.iter().find(|f| !enabled(f)) {
            Some(asset) => Err(RequestError::UnknownAsset(asset.clone())),
            None => Ok(()),
        }
    }

    /// Whether both requests allow the same people the same work under the same limits; ids, words and times may differ.
    pub fn same_scope(&self, other: &Self) -> bool {
        self.users == other.users
            && self.accounts == other.accounts
            && self.forwards == other.forwards
            && self.operations == other.operations
            && self.plant_states == other.plant_states
            && self.limits == other.limits
    }
}

/// Checks a text that people will read: length, and no control or direction characters (a purpose that rewrites the
/// approver's screen is an attack).
pub(crate) fn text(field: &'static str, s: &str, least: usize, most: usize) -> Result<(), RequestError> {
    let problem = if s.trim().chars().count() < least {
        "is empty: say it in a few words".to_owned()
    } else if s.chars().count() > most {
        format!("is longer than {most} characters: shorten it")
    } else if s.chars().any(|c| unsafe_to_show(c) && c != '\n') || (field != "purpose" && s.contains('\n')) {
        "holds control characters: use plain text".to_owned()
    } else {
        return Ok(());
    };
    Err(RequestError::Text { field, problem })
}

/// A pattern that could never match would look like a permission and be none.
pub(crate) fn path_pattern(pattern: &str) -> Result<(), RequestError> {
    text("path pattern", pattern, 1, LONGEST_FIELD)?;
    let normal = |name: &str| !matches!(name, "" | "." | "..") && (name == "**" || !name.contains("**"));
    if pattern.strip_prefix('/').is_some_and(|names| names.is_empty() || names.split('/').all(normal)) {
        return Ok(());
    }
    let problem = format!(
        "{pattern:?} is not absolute, or holds an empty name, . or .., or ** inside a name: write it from / on, as in /srv/**/*.bin"
    );
    Err(RequestError::Text { field: "path pattern", problem })
}

/// Whether `c` can change how the text around it is shown: control characters (C0, C1, DEL), line and paragraph
/// separators, and the Unicode direction and invisible formatting characters.
pub(crate) fn unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

fn moment(t: Timestamp) -> String {
    format!("{t} {}", t.micros())
}

fn quoted(s: &str) -> serde_json::Value {
    serde_json::Value::String(s.to_owned())
}
