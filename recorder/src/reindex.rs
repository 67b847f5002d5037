//! Makes indexes that are missing, and the catalogue of a folder anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    catalogue::{self, Filter},
    error::ReadError,
    index::{Index, Side, build_index_and_filter},
    keys::{Identity, Recipients},
    read::{Recording, list, recipients_of},
    writer::RECORDING,
};

/// What was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reindexed {
    /// Indexes made anew.
    pub indexes: usize,
    /// Recordings that stand in the new catalogues.
    pub catalogued: usize,
    /// Catalogues that took the place of others.
    pub catalogues: usize,
    /// What was left as it is, and why: it is searched all the same, only later.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Makes the index of each sealed recording of a folder that has none that fits (with `anew`: of each), and the catalogue
/// from all of them. A recording's entry can be read by those who can read the recording *and* stand in `to`. Catalogues that
/// tell nothing more than the new ones are removed; a recorder that has one of them open starts another.
///
/// # Errors
/// When the folder cannot be read, or a catalogue cannot be written.
pub fn reindex(
    folder: &Path,
    identity: &Identity,
    to: &Recipients,
    anew: bool,
) -> Result<Reindexed, ReadError> {
    let before = catalogue::paths(folder);
    let mut done = Reindexed::default();
    let mut writers: BTreeMap<BTreeSet<String>, catalogue::Writer> = BTreeMap::new();
    let mut entered = BTreeSet::new();
    for found in list(folder)? {
        let path = found.path;
        if found.listed.as_ref().is_ok_and(|listed| listed.seal.is_none()) {
            continue;
        }
        let (id, filter, readers) = match of_one(&path, identity, to, anew, &mut done) {
            Ok(made) => made,
            Err(why) => {
                done.skipped.push((path, why.to_string()));
                continue;
            }
        };
        let key = readers.read.iter().map(ToString::to_string).collect();
        let writer = match writers.entry(key) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let made = catalogue::Writer::create(folder, &readers);
                free.insert(made.map_err(|e| ReadError::Export(std::io::Error::other(e)))?)
            }
        };
        writer.add(&id, filter)?;
        entered.insert(id.to_string());
    }
    (done.catalogued, done.catalogues) = (entered.len(), writers.len());
    for writer in writers.into_values() {
        writer.sync()?;
    }
    // One that was deleted meanwhile may have been entered after it was forgotten.
    for id in entered.iter().filter(|id| !folder.join(format!("{id}{RECORDING}")).exists()) {
        catalogue::forget(folder, id).map_err(ReadError::Export)?;
    }
    for path in before {
        catalogue::remove_if_known(&path, identity, &entered).map_err(ReadError::Export)?;
    }
    Ok(done)
}

/// The index of one recording where it is needed, and what the catalogue is to say of it to whom.
fn of_one(
    path: &Path,
    identity: &Identity,
    to: &Recipients,
    anew: bool,
    done: &mut Reindexed,
) -> Result<(crate::RecordingId, Filter, Recipients), ReadError> {
    let mut recording = Recording::open(path)?;
    recording.unlock(identity)?;
    let mut filter = match (anew, of_index(&recording)?) {
        (false, Some(filter)) => filter,
        _ => {
            done.indexes += 1;
            build_index_and_filter(&recording)?
        }
    };
    // What was read off pictures is no part of the index, and is not made anew with it.
    if let Some(read) = Index::open(&recording, Side::Ocr)? {
        read.lines(|_, _, _, text| {
            filter.add(text);
            true
        });
    }
    // What the key file lists is not signed: it can take a reader away, and never bring one in.
    let (read, reveal) = recipients_of(path)?;
    let may = |name: &String| read.contains(name) || reveal.contains(name);
    let read = to.read.iter().chain(&to.reveal).filter(|r| may(&r.to_string())).cloned().collect();
    Ok((recording.header().id.clone(), filter, Recipients { read, reveal: Vec::new() }))
}

/// What a catalogue says of a recording, from its index; `None` where that does not fit.
fn of_index(recording: &Recording) -> Result<Option<Filter>, ReadError> {
    let Some(index) = Index::open(recording, Side::Index)? else { return Ok(None) };
    let mut filter = Filter::new();
    let whole = index.lines(|_, _, _, text| {
        filter.add(text);
        true
    });
    Ok(whole.then_some(filter))
}
