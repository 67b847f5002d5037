//! What is said before the first file (MS-RDPEFS 2.2.2, MS-RDPEPC 2.2.2): versions, capabilities, devices.

use super::path;
use crate::{
    rewrite::Broken,
    wire::{Reader, put},
};

/// `RDPDR_CTYP_CORE`.
pub(super) const CORE: u16 = 0x4472;

pub(super) const SERVER_ANNOUNCE: u16 = 0x496e;
pub(super) const CLIENT_ID: u16 = 0x4343;
pub(super) const CLIENT_NAME: u16 = 0x434e;
pub(super) const SERVER_CAPABILITIES: u16 = 0x5350;
pub(super) const CLIENT_CAPABILITIES: u16 = 0x4350;
pub(super) const LOGGED_ON: u16 = 0x554c;
pub(super) const DEVICES: u16 = 0x4441;
pub(super) const DEVICES_GONE: u16 = 0x444d;
pub(super) const DEVICE_REPLY: u16 = 0x6472;
pub(super) const REQUEST: u16 = 0x4952;
pub(super) const COMPLETION: u16 = 0x4943;

/// Bytes of an answer before contents that were read: its head, and their length.
pub(super) const ANSWERED: usize = 20;

/// `RDPDR_DTYP_PRINT` and `RDPDR_DTYP_FILESYSTEM`.
const PRINTER: u32 = 4;
const DRIVE: u32 = 8;

/// The newest version that is understood: 1.13.
const VERSION: (u16, u16) = (1, 13);
/// Most capability sets, and devices, of one message.
const MAX_SETS: u16 = 16;
const MAX_ANNOUNCED: u32 = 64;
/// Longest text about a printer, bytes.
const MAX_TEXT: usize = 512;

/// A message that starts with its head.
pub(super) fn message(packet: u16, body: &[&[u8]]) -> Vec<u8> {
    [&[CORE.to_le_bytes(), packet.to_le_bytes()].concat(), body.concat().as_slice()].concat()
}

/// Version and client's number, in an announcement or the answer to one (2.2.2.2, 2.2.2.3, 2.2.2.6).
pub(super) fn version(packet: u16, mut body: Reader<'_>) -> Result<Vec<u8>, Broken> {
    let mut read = || Some((body.u16()?, body.u16()?, body.u32()?));
    let (major, minor, client) = read().ok_or(Broken("version of device redirection"))?;
    if major != VERSION.0 {
        return Err(Broken("version of device redirection"));
    }
    let minor = minor.min(VERSION.1);
    Ok(message(packet, &[&major.to_le_bytes(), &minor.to_le_bytes(), &client.to_le_bytes()]))
}

/// The client's name for itself (2.2.2.4).
pub(super) fn name(mut body: Reader<'_>) -> Result<Vec<u8>, Broken> {
    let mut read = || {
        let (unicode, _code_page, len) = (body.u32()?, body.u32()?, body.u32()?);
        let name = body.take(usize::try_from(len).ok().filter(|len| *len <= MAX_TEXT)?)?;
        Some((unicode & 1, name))
    };
    let (unicode, name) = read().ok_or(Broken("client's name"))?;
    let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
    Ok(message(CLIENT_NAME, &[&unicode.to_le_bytes(), &[0; 4], &len.to_le_bytes(), name]))
}

/// Capabilities of one side (2.2.2.7, 2.2.2.8), cut down to what is allowed.
pub(super) fn capabilities(
    packet: u16,
    mut body: Reader<'_>,
    (drives, printers): (bool, bool),
) -> Result<Vec<u8>, Broken> {
    const WRONG: Broken = Broken("capabilities of device redirection");
    let (count, _padding) = body.u16().zip(body.u16()).ok_or(WRONG)?;
    if count > MAX_SETS {
        return Err(WRONG);
    }
    let (mut kept, mut sets) = (0u16, Vec::new());
    for _ in 0..count {
        let start = body;
        let (kind, len) = body.u16().zip(body.u16()).ok_or(WRONG)?;
        let len = usize::from(len);
        let mut set = start.0.get(..len).filter(|_| len >= 8).ok_or(WRONG)?.to_vec();
        body = Reader(start.0.get(len..).unwrap_or_default());
        match kind {
            1 => general(&mut set).ok_or(WRONG)?,
            2 | 4 if len != 8 => return Err(WRONG),
            2 if printers => {}
            4 if drives => {}
            _ => continue,
        }
        kept += 1;
        sets.extend(set);
    }
    Ok(message(packet, &[&kept.to_le_bytes(), &[0; 2], &sets]))
}

/// The general set (2.2.2.7.1): nothing that is not known, no special devices.
fn general(set: &mut [u8]) -> Option<()> {
    if set.len() != 40 && set.len() != 44 {
        return None;
    }
    let extended = crate::wire::u32_at(set, 28)? & 7;
    put(set, 28, &extended.to_le_bytes());
    let extra = crate::wire::u32_at(set, 32)? & 1;
    put(set, 32, &extra.to_le_bytes());
    put(set, 36, &[0; 4]);
    put(set, 40, &[0; 4]);
    Some(())
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Drive,
    Printer,
    /// By the name that people know.
    Other(&'static str),
}

/// A device that the person's machine offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) kind: Kind,
    pub(super) id: u32,
    /// For people, and the first name of its paths.
    pub(super) name: String,
    /// As it is announced on; empty where it cannot be.
    pub(super) bytes: Vec<u8>,
}

/// The devices of an announcement (2.2.2.9).
pub(super) fn devices(mut body: Reader<'_>) -> Result<Vec<Device>, Broken> {
    const WRONG: Broken = Broken("list of devices");
    let count = body.u32().filter(|count| *count <= MAX_ANNOUNCED).ok_or(WRONG)?;
    (0..count).map(|_| device(&mut body).ok_or(WRONG)).collect()
}

fn device(body: &mut Reader<'_>) -> Option<Device> {
    let (kind, id, dos) = (body.u32()?, body.u32()?, body.take(8)?);
    let len = usize::try_from(body.u32()?).ok()?;
    let data = body.take(len)?;
    let name = dos_name(dos);
    let (kind, name, data) = match kind {
        // The name for display says nothing that the short one does not.
        DRIVE => (Kind::Drive, name, Some(Vec::new())),
        PRINTER => match printer(Reader(data)) {
            Some((shown, data)) => (Kind::Printer, shown, Some(data)),
            None => (Kind::Printer, name, None),
        },
        1 => (Kind::Other("serial port"), name, None),
        2 => (Kind::Other("parallel port"), name, None),
        0x20 => (Kind::Other("smart card"), name, None),
        _ => (Kind::Other("device"), name, None),
    };
    let bytes = data.filter(|_| !name.is_empty()).map_or_else(Vec::new, |data| {
        let kind = if kind == Kind::Drive { DRIVE } else { PRINTER };
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let head = [kind.to_le_bytes(), id.to_le_bytes()].concat();
        [head.as_slice(), &clean(dos), &len.to_le_bytes(), &data].concat()
    });
    Some(Device { kind, id, name, bytes })
}

/// A DOS name with nothing in it but what a name may hold.
fn clean(dos: &[u8]) -> Vec<u8> {
    let end = dos.iter().position(|byte| *byte == 0).unwrap_or(dos.len()).min(7);
    let plain =
        |byte: &u8| if byte.is_ascii_alphanumeric() || b" :-_$".contains(byte) { *byte } else { b'_' };
    let mut name: Vec<u8> = dos.iter().take(end).map(plain).collect();
    name.resize(8, 0);
    name
}

/// The same for people: `C` of `C:`.
fn dos_name(dos: &[u8]) -> String {
    let name: String =
        clean(dos).into_iter().filter(|byte| ![0, b':'].contains(byte)).map(char::from).collect();
    name.trim().to_owned()
}

/// The name of a printer and what is said on about it (MS-RDPEPC 2.2.2.1): not as XPS, and nothing that a target may have
/// kept on the person's machine.
fn printer(mut data: Reader<'_>) -> Option<(String, Vec<u8>)> {
    /// `RDPDR_PRINTER_ANNOUNCE_FLAG_XPSFORMAT`.
    const XPS: u32 = 0x10;
    /// `RDPDR_PRINTER_ANNOUNCE_FLAG_ASCII`: names that are no UTF-16.
    const ASCII: u32 = 0x1;
    let (flags, _code_page) = (data.u32()? & !XPS, data.u32()?);
    if flags & ASCII != 0 {
        return None;
    }
    let mut lengths = [0usize; 4];
    for len in &mut lengths {
        *len = usize::try_from(data.u32()?).ok()?;
    }
    let [pnp, driver, print, _cached] = lengths;
    let mut field = |len: usize| if len <= MAX_TEXT { data.take(len) } else { None };
    let (pnp, driver, print) = (field(pnp)?, field(driver)?, field(print)?);
    let named = path::text(print)?;
    let keep = |c: char| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c };
    let shown: String = named.chars().map(keep).take(64).collect();
    let mut out = [flags.to_le_bytes(), [0; 4]].concat();
    for field in [pnp, driver, print] {
        out.extend(u32::try_from(field.len()).ok()?.to_le_bytes());
    }
    out.extend([0; 4]);
    for field in [pnp, driver, print] {
        out.extend(field);
    }
    Some((shown.trim_matches(['.', ' ']).to_owned(), out))
}

/// Devices as they are announced on.
pub(super) fn announce(devices: &[Device]) -> Vec<u8> {
    let count = u32::try_from(devices.len()).unwrap_or(u32::MAX).to_le_bytes();
    let all: Vec<u8> = devices.iter().flat_map(|device| device.bytes.iter().copied()).collect();
    message(DEVICES, &[&count, &all])
}

/// The numbers of devices that are gone (2.2.3.2).
pub(super) fn gone(mut body: Reader<'_>) -> Result<Vec<u32>, Broken> {
    const WRONG: Broken = Broken("list of devices");
    let count = body.u32().filter(|count| *count <= MAX_ANNOUNCED).ok_or(WRONG)?;
    (0..count).map(|_| body.u32().ok_or(WRONG)).collect()
}
