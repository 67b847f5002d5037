//! Dynamic channels (MS-RDPEDYC): the target asks to open them by name, and most names are answered here.

use std::collections::HashSet;

use super::{ChannelPolicy, chunk, whole};
use crate::{rewrite::Broken, wire::Reader};

/// Most dynamic channels open at once.
const MAX_OPEN: usize = 32;
/// `CreationStatus` of a channel that nobody listens on: `E_FAIL`-like, negative.
const NO_LISTENER: u32 = 0xc000_0001;
/// Version 2 has no compression and no way over UDP.
const VERSION: u16 = 2;

const CREATE: u8 = 1;
const DATA_FIRST: u8 = 2;
const DATA: u8 = 3;
const CLOSE: u8 = 4;
const CAPABILITIES: u8 = 5;

/// What becomes of one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The chunk that goes on.
    pub(crate) forward: Option<Vec<u8>>,
    /// The chunk that goes back to where it came from.
    pub(crate) answer: Option<Vec<u8>>,
    /// The channel that was asked for and refused.
    pub(crate) refused: Option<String>,
    /// The message was dropped.
    pub(crate) dropped: bool,
}

/// The dynamic channels of a session.
#[derive(Debug, Default)]
pub(crate) struct Dynamic {
    open: HashSet<u32>,
}

impl Dynamic {
    /// From the target.
    pub(crate) fn target(&mut self, bytes: &[u8], policy: &ChannelPolicy) -> Result<Passed, Broken> {
        let message = whole(bytes)?;
        let (command, mut at) = command(message)?;
        if command == CAPABILITIES {
            return capabilities(message);
        }
        let head = message.first().copied().unwrap_or(0);
        let id = id(head, &mut at)?;
        match command {
            CREATE => Ok(self.create(message, (head, id), at.0, bytes, policy)),
            DATA_FIRST | DATA if self.open.contains(&id) => Ok(pass(bytes)),
            CLOSE if self.open.remove(&id) => Ok(pass(bytes)),
            _ => Ok(Passed { dropped: true, ..Passed::default() }),
        }
    }

    fn create(
        &mut self,
        message: &[u8],
        (head, id): (u8, u32),
        name: &[u8],
        bytes: &[u8],
        policy: &ChannelPolicy,
    ) -> Passed {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        let name = name.get(..end).unwrap_or_default();
        if allowed(name, policy) && self.open.len() < MAX_OPEN {
            self.open.insert(id);
            return pass(bytes);
        }
        // The identifier may have been another channel's.
        self.open.remove(&id);
        let id_len = id_len(head).unwrap_or(1);
        let mut answer = message.get(..=id_len).unwrap_or_default().to_vec();
        // Only the length of the identifier and the command remain in the first byte.
        if let Some(first) = answer.first_mut() {
            *first &= 0xf3;
        }
        answer.extend(NO_LISTENER.to_le_bytes());
        let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
        let refused = Some(name.iter().take(64).map(printable).collect());
        Passed { answer: Some(chunk(&answer)), refused, ..Passed::default() }
    }

    /// From the person.
    pub(crate) fn person(&mut self, bytes: &[u8], frozen: bool) -> Result<Passed, Broken> {
        let message = whole(bytes)?;
        let (command, mut at) = command(message)?;
        if command == CAPABILITIES {
            return capabilities(message);
        }
        let id = id(message.first().copied().unwrap_or(0), &mut at)?;
        let open = self.open.contains(&id);
        match command {
            CREATE if open => {
                let status = at.u32().ok_or(Broken("dynamic channel"))?;
                if status & 0x8000_0000 != 0 {
                    self.open.remove(&id);
                }
                Ok(pass(bytes))
            }
            DATA_FIRST | DATA if open && !frozen => Ok(pass(bytes)),
            CLOSE if self.open.remove(&id) => Ok(pass(bytes)),
            _ => Ok(Passed { dropped: true, ..Passed::default() }),
        }
    }
}

/// Names of channels that are understood. Not the graphics pipeline, nor touch input, sound, cameras, USB, WebAuthn.
fn allowed(name: &[u8], policy: &ChannelPolicy) -> bool {
    policy.resize && name == b"Microsoft::Windows::RDS::DisplayControl"
}

fn pass(bytes: &[u8]) -> Passed {
    Passed { forward: Some(bytes.to_vec()), ..Passed::default() }
}

/// Announces no more than version 2.
fn capabilities(message: &[u8]) -> Result<Passed, Broken> {
    let mut message = message.to_vec();
    let version = crate::wire::u16_at(&message, 2).ok_or(Broken("dynamic channel"))?;
    crate::wire::put(&mut message, 2, &version.min(VERSION).to_le_bytes());
    Ok(Passed { forward: Some(chunk(&message)), ..Passed::default() })
}

fn command(message: &[u8]) -> Result<(u8, Reader<'_>), Broken> {
    let mut at = Reader(message);
    Ok((at.u8().ok_or(Broken("dynamic channel"))? >> 4, at))
}

fn id_len(head: u8) -> Option<usize> {
    match head & 3 {
        0 => Some(1),
        1 => Some(2),
        2 => Some(4),
        _ => None,
    }
}

fn id(head: u8, at: &mut Reader<'_>) -> Result<u32, Broken> {
    let id = match id_len(head) {
        Some(1) => at.u8().map(u32::from),
        Some(2) => at.u16().map(u32::from),
        Some(_) => at.u32(),
        None => None,
    };
    id.ok_or(Broken("dynamic channel"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn create(id: u8, name: &str) -> Vec<u8> {
        chunk(&[[0x10, id].as_slice(), name.as_bytes(), &[0]].concat())
    }

    #[test]
    fn a_channel_that_is_not_allowed_is_answered_for_the_person_and_its_data_go_nowhere() {
        let (mut dynamic, policy) =
            (Dynamic::default(), ChannelPolicy { resize: true, ..Default::default() });
        for name in [
            "AUDIO_INPUT",
            "URBDRC",
            "Microsoft::Windows::RDS::Graphics",
            "RDCamera_Device_Enumerator",
            "WebAuthN_Channel",
        ] {
            let passed = dynamic.target(&create(3, name), &policy).unwrap();
            assert_eq!(passed.forward, None);
            assert_eq!(passed.answer, Some(chunk(&[0x10, 3, 1, 0, 0, 0xc0])));
            assert_eq!(passed.refused.as_deref(), Some(name));
            assert!(dynamic.target(&chunk(&[0x30, 3, 9]), &policy).unwrap().dropped);
            assert!(dynamic.person(&chunk(&[0x30, 3, 9]), false).unwrap().dropped);
        }
    }

    #[test]
    fn display_control_passes_where_resizing_is_allowed_and_not_while_frozen() {
        let (mut dynamic, policy) =
            (Dynamic::default(), ChannelPolicy { resize: true, ..Default::default() });
        let open = create(7, "Microsoft::Windows::RDS::DisplayControl");
        assert_eq!(dynamic.target(&open, &policy).unwrap().forward, Some(open.clone()));
        let data = chunk(&[0x30, 7, 1, 2]);
        assert_eq!(dynamic.person(&data, false).unwrap().forward, Some(data.clone()));
        assert!(dynamic.person(&data, true).unwrap().dropped);
        // Its number used again by another name takes its right away.
        dynamic.target(&create(7, "URBDRC"), &policy).unwrap();
        assert!(dynamic.person(&data, false).unwrap().dropped);
        assert!(Dynamic::default().target(&open, &ChannelPolicy::default()).unwrap().refused.is_some());
    }

    #[test]
    fn no_version_with_compression_is_agreed_on() {
        let mut dynamic = Dynamic::default();
        let passed = dynamic
            .target(&chunk(&[0x50, 0, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8]), &ChannelPolicy::default())
            .unwrap();
        assert_eq!(passed.forward, Some(chunk(&[0x50, 0, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8])));
        let compressed = chunk(&[0x70, 7, 1, 2]);
        assert!(dynamic.target(&compressed, &ChannelPolicy::default()).unwrap().dropped);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8)) {
            let (mut dynamic, policy) = (Dynamic::default(), ChannelPolicy { resize: true, ..Default::default() });
            for (target, message) in messages {
                let bytes = chunk(&message);
                drop(if target { dynamic.target(&bytes, &policy) } else { dynamic.person(&bytes, false) });
                drop(dynamic.person(&message, true));
            }
        }
    }
}
