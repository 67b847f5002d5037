//! Proves an evidence bundle on a machine that never saw the server.

use aws_lc_rs::digest::{Context, SHA256};
use std::{collections::BTreeSet, fs::File, io, path::Path};

use super::{
    bundle::{ANCHORS_NAME, MANIFEST_NAME, Manifest, RECORDING_NAME, SIGN_CONTEXT, SIGNATURE_NAME},
    tar::{self, Member},
};
use crate::{
    error::ReadError,
    sign::VerifyingKey,
    storage::Source,
    verify::{Anchor, Report, verify_source},
};

/// Longest list (manifest, anchors) that is read.
const MAX_LIST: u64 = 16 << 20;

/// What a bundle's verification found.
#[derive(Debug, Clone)]
pub struct BundleReport {
    /// What is wrong with the bundle itself.
    pub problems: Vec<String>,
    /// What is wrong with the recording in it; absent where there is none.
    pub recording: Option<Report>,
    /// The files that the manifest names and that fit it.
    pub files: Vec<String>,
    /// When the bundle was made: microseconds since 1970, UTC; absent where the manifest is unreadable.
    pub created: Option<i64>,
}

impl BundleReport {
    /// Whether bundle and recording are whole and unaltered.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.recording.as_ref().is_some_and(Report::is_whole)
    }
}

/// Verifies a bundle with the server's public key alone.
///
/// # Errors
/// When the file cannot be read or is no bundle at all; anything else is in the report.
pub fn verify_bundle(path: &Path, key: &VerifyingKey) -> Result<BundleReport, ReadError> {
    verify_bundle_source(&File::open(path)?, key)
}

pub(crate) fn verify_bundle_source(
    source: &impl Source,
    key: &VerifyingKey,
) -> Result<BundleReport, ReadError> {
    let members = tar::members(source)?;
    let mut report = BundleReport { problems: Vec::new(), recording: None, files: Vec::new(), created: None };
    let find = |name: &str| members.iter().find(|m| m.name == name);
    match (find(MANIFEST_NAME), find(SIGNATURE_NAME)) {
        (Some(manifest), Some(signature)) => {
            let (manifest, signature) = (small(source, manifest)?, small(source, signature)?);
            check_manifest(source, key, &members, &manifest, &signature, &mut report)?;
        }
        _ => report.problems.push("the manifest or its signature is missing".to_owned()),
    }
    let anchors: Vec<Anchor> = match find(ANCHORS_NAME).map(|m| small(source, m)).transpose()? {
        Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
            report.problems.push(format!("anchors.json is malformed: {e}"));
            Vec::new()
        }),
        None => Vec::new(),
    };
    match find(RECORDING_NAME) {
        Some(member) => {
            let part = Part { source, offset: member.offset, size: member.size };
            report.recording = Some(verify_source(&part, key, &anchors)?);
        }
        None => report.problems.push("there is no recording in the bundle".to_owned()),
    }
    Ok(report)
}

fn check_manifest(
    source: &impl Source,
    key: &VerifyingKey,
    members: &[Member],
    bytes: &[u8],
    signature: &[u8],
    report: &mut BundleReport,
) -> Result<(), ReadError> {
    let raw = hex::decode(signature).unwrap_or_default();
    let exact = hex::encode(&raw).as_bytes() == signature;
    if !exact || !key.verify(&[SIGN_CONTEXT, bytes].concat(), &raw) {
        report.problems.push("the manifest was altered or signed by another key".to_owned());
    }
    let manifest: Manifest = match serde_json::from_slice(bytes) {
        Ok(manifest) => manifest,
        Err(e) => {
            report.problems.push(format!("the manifest is malformed: {e}"));
            return Ok(());
        }
    };
    report.created = Some(manifest.created);
    let mut seen: BTreeSet<&str> = [MANIFEST_NAME, SIGNATURE_NAME].into();
    for listed in &manifest.files {
        let mut same = members.iter().filter(|m| m.name == listed.name);
        let (Some(member), None) = (same.next(), same.next()) else {
            report.problems.push(format!("{} is missing or there twice", listed.name));
            continue;
        };
        if member.size != listed.size || digest(source, member)? != listed.sha256 {
            report.problems.push(format!("{} was altered", listed.name));
        } else {
            report.files.push(listed.name.clone());
        }
        seen.insert(&listed.name);
    }
    for member in members {
        if !seen.contains(member.name.as_str()) {
            report.problems.push(format!("{} is not in the manifest", member.name));
        }
    }
    if members.len() != manifest.files.len() + 2 {
        report.problems.push("the number of files is not the manifest's".to_owned());
    }
    Ok(())
}

fn small(source: &impl Source, member: &Member) -> Result<Vec<u8>, ReadError> {
    if member.size > MAX_LIST {
        return Err(ReadError::Limit("a list in the bundle is too long"));
    }
    let mut bytes = vec![0; usize::try_from(member.size).unwrap_or(0)];
    let got = source.read_at(&mut bytes, member.offset)?;
    bytes.truncate(got);
    Ok(bytes)
}

fn digest(source: &impl Source, member: &Member) -> Result<String, ReadError> {
    let part = Part { source, offset: member.offset, size: member.size };
    let mut context = Context::new(&SHA256);
    let mut buf = vec![0; 256 * 1024];
    let mut at = 0;
    while at < member.size {
        let got = part.read_at(&mut buf, at)?;
        if got == 0 {
            break;
        }
        context.update(buf.get(..got).unwrap_or_default());
        at += got as u64;
    }
    Ok(hex::encode(context.finish()))
}

/// A stretch of a file, read as a file of its own.
struct Part<'s, S> {
    source: &'s S,
    offset: u64,
    size: u64,
}

impl<S: Source> Source for Part<'_, S> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        self.source.read_at(buf.get_mut(..len).unwrap_or_default(), self.offset + offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}
