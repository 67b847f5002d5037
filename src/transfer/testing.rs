//! What the tests and the fuzz targets of the inspectors share: a log of steps, and feeding in any chunks.

use bytes::Bytes;

#[cfg(test)]
use super::{
    Budget, FileRules, PathRules,
    site::{Act, FilePolicy},
};
use super::{FileEvent, Inspector, Step};

/// Everything an inspector emitted, by kind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) to_target: Vec<u8>,
    pub(crate) to_person: Vec<u8>,
    pub(crate) events: Vec<FileEvent>,
    pub(crate) kept: Vec<(u32, u64, Vec<u8>)>,
    pub(crate) digested: Vec<u8>,
    pub(crate) end: Option<String>,
}

impl Log {
    pub(crate) fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            assert!(self.end.is_none(), "a step after the end: {step:?}");
            self.take_one(step);
        }
    }

    fn take_one(&mut self, step: Step) {
        match step {
            Step::ToTarget(data) => self.to_target.extend_from_slice(&data),
            Step::ToPerson(data) => self.to_person.extend_from_slice(&data),
            Step::Event(event) => self.events.push(event),
            Step::Keep { file, offset, data } => match self.kept.last_mut() {
                Some((last, at, run))
                    if *last == file && at.checked_add(run.len() as u64) == Some(offset) =>
                {
                    run.extend_from_slice(&data);
                }
                _ => self.kept.push((file, offset, data.to_vec())),
            },
            Step::Digest { data, .. } => self.digested.extend_from_slice(&data),
            Step::End { say } => self.end = Some(say),
        }
    }

    /// After the end only events follow.
    pub(crate) fn take_closing(&mut self, steps: Vec<Step>) {
        steps.into_iter().for_each(|step| self.take_one(step));
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Person,
    Target,
}

/// Feeds `script`, each part cut at every `cut` bytes, then closes.
pub(crate) fn play(inspector: &mut dyn Inspector, script: &[(From, Vec<u8>)], cut: usize) -> Log {
    let mut log = Log::default();
    for (from, data) in script {
        let data = Bytes::from(data.clone());
        let mut at = 0;
        while at < data.len() {
            let piece = data.slice(at..(at + cut).min(data.len()));
            at += piece.len();
            let mut out = Vec::new();
            match from {
                From::Person => inspector.from_person(piece, &mut out),
                From::Target => inspector.from_target(piece, &mut out),
            }
            log.take(out);
        }
    }
    let mut out = Vec::new();
    inspector.close(&mut out);
    log.take_closing(out);
    log
}

/// Rules that allow everything and keep nothing.
#[cfg(test)]
pub(crate) fn open_rules() -> FileRules {
    FileRules {
        read_only: false,
        may_upload: true,
        may_download: true,
        paths: PathRules::any(),
        max_bytes: None,
        keep_uploads: false,
        numbers: super::FileNumbers::default(),
        site: super::SitePolicy::default(),
    }
}

/// `open_rules` within `paths`.
#[cfg(test)]
pub(crate) fn rules_for(paths: &[&str]) -> FileRules {
    FileRules { paths: PathRules::parse(paths).unwrap(), ..open_rules() }
}

/// `open_rules` with `left` bytes.
#[cfg(test)]
pub(crate) fn rules_with_budget(left: u64) -> FileRules {
    FileRules { max_bytes: Some(Budget::new(left)), ..open_rules() }
}

/// `open_rules` of a site whose policies forbid reading what ends in `.key`, writing what ends in `.exe`, and writing
/// more than 1000 bytes.
#[cfg(test)]
pub(crate) fn rules_of_a_site() -> FileRules {
    struct Site;
    impl FilePolicy for Site {
        fn looks(&self) -> bool {
            true
        }
        fn looks_at_sizes(&self) -> bool {
            true
        }
        fn ask(&self, act: Act, path: &str) -> Result<(), String> {
            assert!(path.starts_with('/') && !path.contains("/.."), "{path} is not in normal form");
            match act {
                Act::Read if path.ends_with(".key") => Err("keys stay here".to_owned()),
                Act::Write { .. } if path.ends_with(".exe") => Err("no programs".to_owned()),
                Act::Write { size } if size > 1000 => Err("too much at once".to_owned()),
                _ => Ok(()),
            }
        }
    }
    FileRules { site: super::SitePolicy::new(std::sync::Arc::new(Site)), ..open_rules() }
}

/// SHA-256 of `data`.
#[cfg(test)]
pub(crate) fn sha(data: &[u8]) -> Option<[u8; 32]> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref().try_into().ok()
}
