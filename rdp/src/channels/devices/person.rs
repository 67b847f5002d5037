//! From the person's machine: its devices, and its answers.

use bytes::Bytes;

use super::{
    Devices, Handle, Key, MAX_DEVICES, Passed, Shown, Terms, Waiting, answer, completion,
    pdu::{self, Kind},
    refusal,
    request::u64_at,
    status,
    target::reply,
};
use crate::{
    event::{Direction, Event},
    rewrite::Broken,
    wire::Reader,
};

const WRONG: Broken = Broken("answer of a device");

impl Devices {
    pub(super) fn person(
        &mut self,
        packet: u16,
        message: &[u8],
        terms: &mut Terms<'_>,
        passed: &mut Passed,
    ) -> Result<(), Broken> {
        let body = Reader(message.get(4..).unwrap_or_default());
        match packet {
            // Each once, so that a beginning carries nothing but a beginning.
            pdu::CLIENT_ID if !terms.frozen && !self.agreed.known => {
                passed.to_target.push(pdu::version(packet, body)?);
                self.agreed.known = true;
            }
            pdu::CLIENT_NAME if !terms.frozen && !self.agreed.named => {
                passed.to_target.push(pdu::name(body)?);
                self.agreed.named = true;
            }
            pdu::CLIENT_CAPABILITIES if !terms.frozen && self.agreed.asked && !self.agreed.answered => {
                let allowed = (terms.policy.drives(), terms.policy.printers);
                passed.to_target.push(pdu::capabilities(packet, body, allowed)?);
                self.agreed.answered = true;
                self.tell_logged_on(passed);
            }
            pdu::DEVICES => self.announced(body, terms, passed)?,
            pdu::DEVICES_GONE => self.gone(body, terms, passed)?,
            pdu::COMPLETION => return self.completed(message, terms, passed),
            _ => passed.dropped = true,
        }
        Ok(())
    }

    fn announced(
        &mut self,
        body: Reader<'_>,
        terms: &mut Terms<'_>,
        passed: &mut Passed,
    ) -> Result<(), Broken> {
        let mut kept = Vec::new();
        let stands = terms.files.stands();
        for device in pdu::devices(body)? {
            if terms.frozen {
                // It may be offered again later; a client that is not answered waits.
                passed.to_person.push(reply(device.id, status::ACCESS_DENIED));
                passed.dropped = true;
                continue;
            }
            let (word, allowed) = match device.kind {
                Kind::Drive => ("drive", terms.policy.drives()),
                Kind::Printer => ("printer", terms.policy.printers),
                Kind::Other(word) => (word, false),
            };
            let known = self.shown.values().any(|shown| shown.name == device.name);
            let fits = !device.bytes.is_empty() && !known && self.shown.len() < MAX_DEVICES;
            let name = device.name.clone();
            if allowed && stands && fits && !self.shown.contains_key(&device.id) {
                self.shown.insert(device.id, Shown { kind: device.kind, name: name.clone() });
                passed.events.push(Event::DeviceShown { kind: word, name });
                kept.push(device);
            } else {
                // The client need not keep it ready.
                passed.to_person.push(reply(device.id, status::ACCESS_DENIED));
                passed.events.push(Event::DeviceRefused { kind: word, name });
            }
        }
        if !kept.is_empty() {
            passed.to_target.push(pdu::announce(&kept));
        }
        Ok(())
    }

    fn gone(&mut self, body: Reader<'_>, terms: &mut Terms<'_>, passed: &mut Passed) -> Result<(), Broken> {
        let known = |id: &u32| self.shown.contains_key(id);
        let ids: Vec<u32> = pdu::gone(body)?.into_iter().filter(known).collect();
        for id in &ids {
            // Who waits for it would wait for ever.
            let waiting = self.waiting.keys().filter(|key| key.0 == *id).copied();
            passed.to_target.extend(waiting.map(|key| refusal(key, status::DEVICE_GONE)));
            self.forget(Some(*id), terms.files);
        }
        if !ids.is_empty() {
            let count = u32::try_from(ids.len()).unwrap_or(u32::MAX).to_le_bytes();
            let ids: Vec<u8> = ids.into_iter().flat_map(u32::to_le_bytes).collect();
            passed.to_target.push(pdu::message(pdu::DEVICES_GONE, &[&count, &ids]));
        }
        Ok(())
    }

    fn completed(
        &mut self,
        message: &[u8],
        terms: &mut Terms<'_>,
        passed: &mut Passed,
    ) -> Result<(), Broken> {
        let mut body = Reader(message.get(4..).unwrap_or_default());
        let mut read = || Some((body.u32()?, body.u32()?, body.u32()?));
        let (device, number, status) = read().ok_or(WRONG)?;
        let key = (device, number);
        let Some(waiting) = self.waiting.remove(&key) else {
            passed.dropped = true;
            return Ok(());
        };
        let read = matches!(waiting, Waiting::Read { .. });
        passed.contents_from = read.then_some(pdu::ANSWERED);
        let answer = if status == 0 {
            self.done(key, waiting, body, terms)?
        } else {
            failed(waiting, status, terms);
            refusal(key, status)
        };
        passed.to_target.push(answer);
        Ok(())
    }

    /// All went well at the person's machine: what the target is told.
    fn done(
        &mut self,
        key: Key,
        waiting: Waiting,
        mut body: Reader<'_>,
        terms: &mut Terms<'_>,
    ) -> Result<Vec<u8>, Broken> {
        let files = &mut *terms.files;
        let denied = refusal(key, status::ACCESS_DENIED);
        let shut = terms.frozen || !files.stands();
        Ok(match waiting {
            Waiting::Open { file, path } => {
                let id = body.u32().ok_or(WRONG)?;
                let information = body.u8().unwrap_or(0);
                if self.handles.insert((key.0, id), Handle { file, path }).is_some() {
                    return Err(Broken("number of an open file"));
                }
                files.opened(file, Ok(()));
                completion(key, 0, &[&id.to_le_bytes(), &[information]])
            }
            Waiting::Read { file, offset, len } => {
                let data = counted(&mut body)?;
                let got = u32::try_from(data.len()).ok().filter(|got| *got <= len).ok_or(WRONG)?;
                if terms.frozen
                    || !files.pass(file, Direction::ToTarget, offset, &Bytes::copy_from_slice(data))
                {
                    return Ok(denied);
                }
                if got < len {
                    files.ends(file, offset.saturating_add(got.into()));
                }
                completion(key, 0, &[&got.to_le_bytes(), data])
            }
            Waiting::Write { file, len } => {
                let took = body.u32().filter(|took| *took <= len).ok_or(WRONG)?;
                files.taken(file, if took == len { Ok(()) } else { Err(status::TOO_MUCH) });
                completion(key, 0, &[&took.to_le_bytes(), &[0]])
            }
            Waiting::Look { file, class } => {
                let data = counted(&mut body)?;
                if !shut
                    && class == answer::STANDARD
                    && let Some(size) = u64_at(data, 8)
                {
                    files.size(file, size);
                }
                answer::file(class, data).filter(|_| !shut).map_or(denied, |data| listed(key, &data))
            }
            Waiting::Volume { class } => {
                let data = counted(&mut body)?;
                answer::volume(class, data).filter(|_| !shut).map_or(denied, |data| listed(key, &data))
            }
            Waiting::List { class } => {
                let data = counted(&mut body)?;
                answer::entry(class, data).filter(|_| !shut).map_or(denied, |data| listed(key, &data))
            }
            Waiting::Change { change, len, renames } => {
                if let Some((file, path)) = renames
                    && let Some(handle) = self.handles.values_mut().find(|handle| handle.file == file)
                {
                    handle.path = path;
                }
                files.changed(change, Ok(()));
                completion(key, 0, &[&len.to_le_bytes(), &[0]])
            }
            Waiting::Close { file } => {
                files.close(file, Ok(()));
                completion(key, 0, &[&[0; 5]])
            }
            Waiting::Lock => completion(key, 0, &[&[0; 5]]),
        })
    }
}

/// The person's machine said no.
fn failed(waiting: Waiting, status: u32, terms: &mut Terms<'_>) {
    let files = &mut *terms.files;
    match waiting {
        Waiting::Open { file, .. } => files.opened(file, Err(status)),
        Waiting::Read { file, offset, .. } if status == status::END_OF_FILE => files.ends(file, offset),
        Waiting::Write { file, .. } => files.taken(file, Err(status)),
        Waiting::Change { change, .. } => files.changed(change, Err(status)),
        Waiting::Close { file } => files.close(file, Err(status)),
        Waiting::Read { .. }
        | Waiting::Look { .. }
        | Waiting::Volume { .. }
        | Waiting::List { .. }
        | Waiting::Lock => {}
    }
}

/// Bytes behind their number.
fn counted<'a>(body: &mut Reader<'a>) -> Result<&'a [u8], Broken> {
    let len = body.u32().and_then(|len| usize::try_from(len).ok()).ok_or(WRONG)?;
    body.take(len).ok_or(WRONG)
}

fn listed(key: Key, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    completion(key, 0, &[&len.to_le_bytes(), data])
}
