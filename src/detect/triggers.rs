//! The first declared set of triggers: what a session may not do unnoticed, and what follows.
//!
//! The caller reports [`Observation`]s; a trigger that fires gives a [`Finding`] with its response. A cooldown mutes
//! repeated notices only: a response that suspends or ends always comes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::transfer::printable;

/// Most command patterns.
const MAX_PATTERNS: usize = 256;
/// Memory that one compiled pattern may take, in bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// The part of a command line that is searched, in bytes.
const MAX_COMMAND: usize = 16 << 10;
/// Most refused forwards that a rule can count.
const MAX_COUNT: u32 = 1000;

/// What follows a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Response {
    /// Audit, recording and notifications only.
    Notify,
    /// Both directions freeze until a person resumes.
    Suspend,
    /// The session ends.
    End,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Worth a line.
    Low,
    /// Worth a look.
    Medium,
    /// Worth a call.
    High,
}

/// Which trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trigger {
    /// A source address that is new for this person.
    NewSourceAddress,
    /// One credential active from two addresses.
    TwoPlacesAtOnce,
    /// Several forwards refused within a short time: lateral movement.
    RepeatedRefusedForwards,
    /// A pattern found on the command line as rendered.
    CommandPattern,
    /// More bytes of files than the window allows.
    FileVolume,
    /// Work that the window does not allow.
    OutsideOperations,
}

impl Response {
    /// As written in audit, recordings and settings.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Suspend => "suspend",
            Self::End => "end",
        }
    }
}

impl Severity {
    /// As written in audit, recordings and settings.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl Trigger {
    /// As written in audit, recordings and settings.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NewSourceAddress => "new_source_address",
            Self::TwoPlacesAtOnce => "two_places_at_once",
            Self::RepeatedRefusedForwards => "repeated_refused_forwards",
            Self::CommandPattern => "command_pattern",
            Self::FileVolume => "file_volume",
            Self::OutsideOperations => "outside_operations",
        }
    }
}

/// One trigger's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Off: never fires.
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    /// What follows.
    pub(crate) response: Response,
    /// How much it matters.
    pub(crate) severity: Severity,
    /// Seconds in which the same notice of the same session is not repeated.
    #[serde(default = "five_minutes")]
    pub(crate) cooldown_seconds: u32,
}

/// Settings of `repeated_refused_forwards`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForwardsRule {
    /// Refusals that make it fire (1 to 1000).
    pub(crate) count: u32,
    /// Seconds within which they count.
    pub(crate) within_seconds: u32,
    /// What follows, and how often.
    pub(crate) rule: Rule,
}

/// One pattern on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatternRule {
    /// For findings.
    pub(crate) name: String,
    /// A regular expression, found anywhere in the line (syntax of the `regex` crate: linear time, no look-around).
    pub(crate) pattern: String,
    /// What follows, and how often.
    pub(crate) rule: Rule,
}

/// The declared set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TriggerSettings {
    /// See [`Trigger::NewSourceAddress`].
    pub(crate) new_source_address: Rule,
    /// See [`Trigger::TwoPlacesAtOnce`].
    pub(crate) two_places_at_once: Rule,
    /// See [`Trigger::RepeatedRefusedForwards`].
    pub(crate) repeated_refused_forwards: ForwardsRule,
    /// See [`Trigger::CommandPattern`].
    pub(crate) command_pattern: Vec<PatternRule>,
    /// See [`Trigger::FileVolume`].
    pub(crate) file_volume: Rule,
    /// See [`Trigger::OutsideOperations`].
    pub(crate) outside_operations: Rule,
}

fn yes() -> bool {
    true
}

fn five_minutes() -> u32 {
    300
}

fn rule(response: Response, severity: Severity) -> Rule {
    Rule { enabled: true, response, severity, cooldown_seconds: five_minutes() }
}

impl Default for TriggerSettings {
    fn default() -> Self {
        let pattern = |name: &str, pattern: &str, severity| PatternRule {
            name: name.to_owned(),
            pattern: pattern.to_owned(),
            rule: rule(Response::Notify, severity),
        };
        Self {
            new_source_address: rule(Response::Notify, Severity::Low),
            two_places_at_once: rule(Response::Suspend, Severity::High),
            repeated_refused_forwards: ForwardsRule {
                count: 3,
                within_seconds: 60,
                rule: rule(Response::Suspend, Severity::High),
            },
            command_pattern: vec![
                pattern(
                    "wipes files or disks",
                    r"\brm\s+(-\S+\s+)*-\w*[rR]\w*\s+(-\S+\s+)*/(\s|$|\*)|\bmkfs|\bdd\b.*\bof=/dev/",
                    Severity::High,
                ),
                pattern("switches the machine off", r"\b(shutdown|reboot|halt|poweroff)\b", Severity::Medium),
                pattern(
                    "hides its traces",
                    r"\bhistory\s+-c\b|\bunset\s+HISTFILE\b|\bHISTFILE=/dev/null\b",
                    Severity::High,
                ),
                pattern(
                    "opens a way out",
                    r"\b(nc|ncat|socat)\b.*\s(-e|exec:)|/dev/tcp/|\bssh\b.*\s-[RD]\b",
                    Severity::High,
                ),
                pattern(
                    "makes an account or a key",
                    r"\b(useradd|adduser|usermod)\b|authorized_keys",
                    Severity::Medium,
                ),
            ],
            file_volume: rule(Response::Suspend, Severity::Medium),
            outside_operations: rule(Response::Notify, Severity::High),
        }
    }
}

/// Settings that cannot be used. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTrigger {
    /// The regular expression does not compile or is too large.
    #[error("command pattern {name:?} cannot be used: {why}: correct its `pattern`")]
    Pattern {
        /// The pattern's name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It would match every command line, the empty one included.
    #[error("command pattern {0:?} matches an empty line and so every command: make it narrower")]
    MatchesAll(String),
    /// Too many patterns.
    #[error("more than {MAX_PATTERNS} command patterns: join some of them")]
    TooManyPatterns,
    /// A count or time that cannot fire.
    #[error("repeated_refused_forwards needs a count from 1 to {MAX_COUNT} and a time of at least 1 second")]
    Forwards,
}

/// Something that happened in a session.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Observation<'a> {
    /// The session began. `known`: the person has come from this address before.
    Opened {
        /// Names the credential, never its secret.
        credential: &'a str,
        /// Where from.
        address: IpAddr,
        /// Seen before for this person.
        known: bool,
    },
    /// The session is over; what was remembered of it is forgotten.
    Closed,
    /// A forward was refused.
    RefusedForward {
        /// `host:port`
        to: &'a str,
    },
    /// The person pressed Enter, or an exec request came.
    Command {
        /// The line as rendered, prompt included; the patterns search this.
        line: &'a str,
        /// The command without the prompt, as far as that can be told; this is shown.
        command: Option<&'a str>,
    },
    /// File contents passed.
    FileBytes {
        /// In this window so far.
        total: u64,
        /// What the window allows.
        limit: Option<u64>,
    },
    /// The caller saw an operation that the window does not allow.
    OutsideOperation {
        /// What was tried.
        operation: &'a str,
        /// What is allowed.
        allowed: &'a str,
    },
}

/// A trigger fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Which.
    pub(crate) trigger: Trigger,
    /// How much it matters.
    pub(crate) severity: Severity,
    /// What happened, safe to show.
    pub(crate) text: String,
    /// What has to follow.
    pub(crate) response: Response,
}

/// What is remembered of a live session.
#[derive(Debug, Default)]
struct Session {
    credential: Option<(String, IpAddr)>,
    refused: VecDeque<i64>,
    /// When a notice was last given, by trigger and pattern.
    noticed: HashMap<(Trigger, usize), i64>,
}

/// The triggers of one gateway. Memory grows with live sessions only; a session holds some 10 KiB at most.
#[derive(Debug)]
pub(crate) struct Triggers {
    settings: TriggerSettings,
    patterns: Vec<Regex>,
    sessions: HashMap<String, Session>,
}

impl Triggers {
    /// Compiles the settings; anything that could never fire, or always would, is an error.
    pub(crate) fn new(settings: TriggerSettings) -> Result<Self, BadTrigger> {
        if settings.command_pattern.len() > MAX_PATTERNS {
            return Err(BadTrigger::TooManyPatterns);
        }
        let forwards = &settings.repeated_refused_forwards;
        if !(1..=MAX_COUNT).contains(&forwards.count) || forwards.within_seconds == 0 {
            return Err(BadTrigger::Forwards);
        }
        let patterns = settings.command_pattern.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { settings, patterns, sessions: HashMap::new() })
    }

    /// Takes what happened in `session` at `now` (microseconds).
    #[must_use]
    pub(crate) fn observe(&mut self, session: &str, seen: Observation<'_>, now: i64) -> Vec<Finding> {
        match seen {
            Observation::Closed => {
                self.sessions.remove(session);
                Vec::new()
            }
            Observation::Opened { credential, address, known } => {
                self.opened(session, credential, address, known, now)
            }
            Observation::RefusedForward { to } => self.refused_forward(session, to, now),
            Observation::Command { line, command } => {
                self.command(session, line, command.unwrap_or(line), now)
            }
            Observation::FileBytes { total, limit } => match limit.filter(|limit| total > *limit) {
                Some(limit) => {
                    let text = format!("{total} bytes of files have passed, the window allows {limit}");
                    let rule = self.settings.file_volume.clone();
                    self.fire(session, (Trigger::FileVolume, 0), &rule, text, now).into_iter().collect()
                }
                None => Vec::new(),
            },
            Observation::OutsideOperation { operation, allowed } => {
                let text =
                    format!("{} was tried, the window allows {}", printable(operation), printable(allowed));
                let rule = self.settings.outside_operations.clone();
                self.fire(session, (Trigger::OutsideOperations, 0), &rule, text, now).into_iter().collect()
            }
        }
    }

    fn opened(
        &mut self,
        session: &str,
        credential: &str,
        address: IpAddr,
        known: bool,
        now: i64,
    ) -> Vec<Finding> {
        let address = address.to_canonical();
        self.sessions.entry(session.to_owned()).or_default().credential =
            Some((credential.to_owned(), address));
        let mut findings = Vec::new();
        if !known {
            let rule = self.settings.new_source_address.clone();
            let text = format!("first session of this person from {address}");
            findings.extend(self.fire(session, (Trigger::NewSourceAddress, 0), &rule, text, now));
        }
        let others: HashSet<IpAddr> = self
            .sessions
            .values()
            .filter_map(|other| other.credential.as_ref())
            .filter(|(name, from)| name == credential && *from != address)
            .map(|(_, from)| *from)
            .collect();
        if let Some(other) = others.iter().min() {
            let rule = self.settings.two_places_at_once.clone();
            let text = format!("the same credential is active from {address} and from {other}");
            findings.extend(self.fire(session, (Trigger::TwoPlacesAtOnce, 0), &rule, text, now));
        }
        findings
    }

    fn refused_forward(&mut self, session: &str, to: &str, now: i64) -> Vec<Finding> {
        let settings = self.settings.repeated_refused_forwards.clone();
        let oldest = now.saturating_sub(i64::from(settings.within_seconds) * 1_000_000);
        let state = self.sessions.entry(session.to_owned()).or_default();
        state.refused.push_back(now);
        // A clock that was set back must not make old refusals disappear: only what is older than the span goes.
        while state.refused.len() > settings.count as usize
            || state.refused.front().is_some_and(|first| *first < oldest)
        {
            state.refused.pop_front();
        }
        if state.refused.len() < settings.count as usize {
            return Vec::new();
        }
        let text = format!(
            "{} forwards were refused within {} s, the last one to {}",
            settings.count,
            settings.within_seconds,
            printable(to)
        );
        self.fire(session, (Trigger::RepeatedRefusedForwards, 0), &settings.rule, text, now)
            .into_iter()
            .collect()
    }

    fn command(&mut self, session: &str, line: &str, shown: &str, now: i64) -> Vec<Finding> {
        let line = line.get(..line.floor_char_boundary(MAX_COMMAND)).unwrap_or(line);
        let hits: Vec<usize> =
            self.patterns.iter().enumerate().filter(|(_, p)| p.is_match(line)).map(|(i, _)| i).collect();
        let mut findings = Vec::new();
        for index in hits {
            let Some(pattern) = self.settings.command_pattern.get(index).cloned() else { continue };
            let shown: String = printable(shown).chars().take(200).collect();
            let text = format!("{}: {shown}", printable(&pattern.name));
            findings.extend(self.fire(session, (Trigger::CommandPattern, index), &pattern.rule, text, now));
        }
        findings
    }

    fn fire(
        &mut self,
        session: &str,
        key: (Trigger, usize),
        rule: &Rule,
        text: String,
        now: i64,
    ) -> Option<Finding> {
        if !rule.enabled {
            return None;
        }
        if rule.response == Response::Notify {
            let noticed = &mut self.sessions.entry(session.to_owned()).or_default().noticed;
            let quiet = i64::from(rule.cooldown_seconds) * 1_000_000;
            // Before the last notice: the clock was set back, so that the span says nothing.
            if noticed.get(&key).is_some_and(|last| now >= *last && now.saturating_sub(*last) < quiet) {
                return None;
            }
            noticed.insert(key, now);
        }
        Some(Finding { trigger: key.0, severity: rule.severity, text, response: rule.response })
    }
}

fn compile(rule: &PatternRule) -> Result<Regex, BadTrigger> {
    let regex = RegexBuilder::new(&rule.pattern)
        .size_limit(PATTERN_SIZE)
        .dfa_size_limit(PATTERN_SIZE)
        .nest_limit(64)
        .build()
        .map_err(|error| BadTrigger::Pattern { name: rule.name.clone(), why: error.to_string() })?;
    if regex.is_match("") {
        return Err(BadTrigger::MatchesAll(rule.name.clone()));
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn triggers() -> Triggers {
        Triggers::new(TriggerSettings::default()).unwrap()
    }

    fn opened<'a>(credential: &'a str, address: &str, known: bool) -> Observation<'a> {
        Observation::Opened { credential, address: address.parse().unwrap(), known }
    }

    #[test]
    fn a_new_address_is_told_and_a_known_one_is_not() {
        let mut triggers = triggers();
        let found = triggers.observe("s", opened("key:vera", "192.0.2.1", false), 0);
        assert_eq!(found[0].trigger, Trigger::NewSourceAddress);
        assert!(triggers.observe("t", opened("key:vera", "192.0.2.1", true), 0).is_empty());
    }

    #[test]
    fn one_credential_from_two_addresses_suspends_until_one_is_closed() {
        let mut triggers = triggers();
        assert!(triggers.observe("a", opened("k", "192.0.2.1", true), 0).is_empty());
        assert!(triggers.observe("m", opened("k", "::ffff:192.0.2.1", true), 0).is_empty());
        let found = triggers.observe("b", opened("k", "192.0.2.2", true), 1);
        assert_eq!((found[0].trigger, found[0].response), (Trigger::TwoPlacesAtOnce, Response::Suspend));
        assert!(triggers.observe("c", opened("other", "192.0.2.3", true), 1).is_empty());
        for session in ["a", "m"] {
            assert!(triggers.observe(session, Observation::Closed, 2).is_empty());
        }
        assert!(triggers.observe("d", opened("k", "192.0.2.2", true), 3).is_empty());
        assert_eq!(triggers.sessions.len(), 3);
    }

    #[test]
    fn three_refused_forwards_within_a_minute_fire_and_three_in_an_hour_do_not() {
        let mut triggers = triggers();
        let refused = Observation::RefusedForward { to: "10.0.0.1:22" };
        for (at, fires) in
            [(0, false), (1000, false), (2000, false), (2010, false), (2020, true), (2030, true)]
        {
            assert_eq!(!triggers.observe("s", refused, at * SECOND).is_empty(), fires, "{at}");
        }
    }

    #[test]
    fn a_pattern_is_found_on_the_line_and_its_notice_is_not_repeated_at_once() {
        let mut triggers = triggers();
        let wiping = Observation::Command { line: "root@hmi:~# rm -r -f / \x1b", command: None };
        assert!(triggers.observe("s", Observation::Command { line: "$ ls /", command: None }, 0).is_empty());
        let found = triggers.observe("s", wiping, 0);
        assert_eq!(found[0].trigger, Trigger::CommandPattern);
        assert!(!found[0].text.contains('\x1b'));
        assert!(triggers.observe("s", wiping, 299 * SECOND).is_empty());
        assert_eq!(triggers.observe("other", wiping, 1).len(), 1);
        assert_eq!(triggers.observe("s", wiping, 300 * SECOND).len(), 1);
        assert_eq!(triggers.observe("s", wiping, -SECOND).len(), 1, "a clock set back mutes nothing");
    }

    #[test]
    fn a_response_that_suspends_is_never_muted() {
        let mut triggers = triggers();
        let over = Observation::FileBytes { total: 11, limit: Some(10) };
        assert_eq!(triggers.observe("s", over, 0).len(), 1);
        assert_eq!(triggers.observe("s", over, 1)[0].response, Response::Suspend);
        assert!(triggers.observe("s", Observation::FileBytes { total: 10, limit: Some(10) }, 2).is_empty());
        assert!(triggers.observe("s", Observation::FileBytes { total: 10, limit: None }, 2).is_empty());
    }

    #[test]
    fn work_outside_the_window_is_reported() {
        let found =
            triggers().observe("s", Observation::OutsideOperation { operation: "write", allowed: "view" }, 0);
        assert_eq!(found[0].trigger, Trigger::OutsideOperations);
        assert_eq!(found[0].text, "write was tried, the window allows view");
    }

    #[test]
    fn settings_that_cannot_work_are_errors() {
        let with = |pattern: &str| {
            let mut settings = TriggerSettings::default();
            settings.command_pattern[0].pattern = pattern.to_owned();
            Triggers::new(settings)
        };
        for bad in ["(", "a{99999999}", "(?=x)", "((a{500}){500}){500}", "", "x*"] {
            assert!(with(bad).is_err(), "{bad}");
        }
        let mut settings = TriggerSettings::default();
        settings.repeated_refused_forwards.count = 0;
        assert_eq!(Triggers::new(settings).unwrap_err(), BadTrigger::Forwards);
    }

    #[test]
    fn settings_read_from_toml_keep_the_rest_at_its_default_and_refuse_unknown_keys() {
        let text = "[[command_pattern]]\nname = \"x\"\npattern = \"x\"\nrule = { response = \"end\", severity = \"high\" }\n";
        let settings: TriggerSettings = toml::from_str(text).unwrap();
        assert_eq!(settings.command_pattern.len(), 1);
        assert_eq!(settings.command_pattern[0].rule.response, Response::End);
        assert_eq!(settings.file_volume, TriggerSettings::default().file_volume);
        assert!(toml::from_str::<TriggerSettings>("unknown = 1").is_err());
        let round = toml::to_string(&TriggerSettings::default()).unwrap();
        assert_eq!(toml::from_str::<TriggerSettings>(&round).unwrap(), TriggerSettings::default());
    }

    proptest! {
        #[test]
        fn no_observation_panics_and_memory_stays_small(seen in proptest::collection::vec((any::<String>(), any::<u64>(), any::<i64>()), 0..50)) {
            let mut triggers = triggers();
            for (text, number, now) in &seen {
                let _one = triggers.observe("s", Observation::Command { line: text, command: None }, *now);
                let _two = triggers.observe("s", Observation::RefusedForward { to: text }, *now);
                let _three = triggers.observe("s", Observation::FileBytes { total: *number, limit: Some(7) }, *now);
            }
            prop_assert!(triggers.sessions.len() <= 1);
            prop_assert!(triggers.sessions.values().all(|s| s.refused.len() <= 3 && s.noticed.len() <= 6));
        }
    }
}
