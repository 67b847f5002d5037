//! MCS Connect Initial and Response (MS-RDPBCGR 2.2.1.3 and 2.2.1.4): which channels there are, and what each side believes
//! to have negotiated.

use bytes::Bytes;
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::{
    gcc::{
        ChannelName, ClientColorDepth, ClientEarlyCapabilityFlags, ClientGccBlocks, ConferenceCreateRequest,
        ConferenceCreateResponse, EncryptionMethod,
    },
    mcs::{ConnectInitial, ConnectResponse},
    nego::SecurityProtocol,
    x224::{X224, X224Data},
};

use super::{Broken, capabilities::Graphics};
use crate::{
    channels::{ChannelPolicy, Kind},
    event::Client,
};

/// The build of Windows XP: xrdp 0.9 takes older clients for ones that cannot follow another size. The browser's says 0.
const LEAST_BUILD: u32 = 2600;
/// The node that a conference response names (T.124 8.7); nobody reads it.
const NODE: u16 = 1001;

/// A Connect Initial as the target gets it.
#[derive(Debug)]
pub(crate) struct Initial {
    pub(crate) pdu: Bytes,
    pub(crate) client: Client,
    /// In the client's order: its name, and what it is where it is allowed.
    pub(crate) channels: Vec<(String, Option<Kind>)>,
    /// The client understands Set Error Info.
    pub(crate) error_info: bool,
}

/// The client's Connect Initial for the target: the protocol that *its* connection has, no UDP beside it, no choice of a
/// session, and the graphics pipeline and names of channels only where they are allowed. Denied channels keep their place,
/// so that identifiers agree end to end.
pub(crate) fn connect_initial(
    pdu: &[u8],
    selected: SecurityProtocol,
    policy: &ChannelPolicy,
    keyboard: Option<u32>,
) -> Result<Initial, Broken> {
    let mut initial = read(pdu)?;
    let mut blocks = initial.conference_create_request.into_gcc_blocks();
    // A browser does not know which one it has.
    if let (0, Some(layout)) = (blocks.core.keyboard_layout, keyboard) {
        blocks.core.keyboard_layout = layout;
    }
    let client = describe(&blocks);
    blocks.core.client_build = blocks.core.client_build.max(LEAST_BUILD);
    let optional = &mut blocks.core.optional_data;
    // Only writable behind its predecessors; clients that speak CredSSP send them all.
    if optional.connection_type.is_some() {
        optional.server_selected_protocol = Some(selected);
    }
    let mut error_info = false;
    if let Some(flags) = &mut optional.early_capability_flags {
        *flags &= early_flags(policy);
        error_info = flags.contains(ClientEarlyCapabilityFlags::SUPPORT_ERR_INFO_PDU);
    }
    // A way beside this one.
    blocks.multi_transport_channel = None;
    // Redirection, and the choice of another session than one's own.
    blocks.cluster = None;
    let channels = rename(&mut blocks, policy);
    initial.conference_create_request =
        ConferenceCreateRequest::new(blocks).map_err(|_| Broken("connect initial"))?;
    Ok(Initial { pdu: envelope(encode_vec(&initial))?, client, channels, error_info })
}

/// A client's Connect Initial that asks for no message channel, and its number of channels: for a client that is answered
/// before anybody knows whether the target has one.
pub(crate) fn without_messages(pdu: &[u8]) -> Result<(Bytes, usize), Broken> {
    use ClientEarlyCapabilityFlags as Flags;
    let mut initial = read(pdu)?;
    let mut blocks = initial.conference_create_request.into_gcc_blocks();
    blocks.message_channel = None;
    if let Some(flags) = &mut blocks.core.optional_data.early_capability_flags {
        flags.remove(Flags::SUPPORT_NET_CHAR_AUTODETECT | Flags::SUPPORT_HEART_BEAT_PDU);
    }
    let channels = blocks.network.as_ref().map_or(0, |network| network.channels.len());
    initial.conference_create_request =
        ConferenceCreateRequest::new(blocks).map_err(|_| Broken("connect initial"))?;
    Ok((envelope(encode_vec(&initial))?, channels))
}

/// The desktop that a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// In pixels.
    pub(crate) size: (u16, u16),
    /// Bits for each pixel.
    pub(crate) depth: u16,
}

/// Reads from a client's Connect Initial what desktop it wants.
pub(crate) fn wanted(pdu: &[u8]) -> Result<Wanted, Broken> {
    let core = read(pdu)?.conference_create_request.into_gcc_blocks().core;
    let depth = match core.client_color_depth() {
        ClientColorDepth::Bpp4 | ClientColorDepth::Bpp8 => 8,
        ClientColorDepth::Rgb555Bpp16 => 15,
        ClientColorDepth::Rgb565Bpp16 => 16,
        ClientColorDepth::Bpp24 => 24,
        ClientColorDepth::Bpp32 => 32,
    };
    Ok(Wanted { size: (core.desktop_width, core.desktop_height), depth })
}

fn read(pdu: &[u8]) -> Result<ConnectInitial, Broken> {
    let data = decode::<X224<X224Data<'_>>>(pdu).map_err(|_| Broken("connect initial"))?.0.data;
    decode::<ConnectInitial>(&data).map_err(|_| Broken("connect initial"))
}

fn early_flags(policy: &ChannelPolicy) -> ClientEarlyCapabilityFlags {
    use ClientEarlyCapabilityFlags as Flags;
    let graphics = match policy.graphics {
        Graphics::Lossless => Flags::empty(),
        Graphics::Pipeline => Flags::SUPPORT_DYN_VC_GFX_PROTOCOL,
    };
    graphics
        | Flags::SUPPORT_ERR_INFO_PDU
        | Flags::WANT_32_BPP_SESSION
        | Flags::SUPPORT_STATUS_INFO_PDU
        | Flags::STRONG_ASYMMETRIC_KEYS
        | Flags::VALID_CONNECTION_TYPE
        | Flags::SUPPORT_MONITOR_LAYOUT_PDU
        | Flags::SUPPORT_NET_CHAR_AUTODETECT
        | Flags::SUPPORT_DYNAMIC_TIME_ZONE
        | Flags::SUPPORT_HEART_BEAT_PDU
}

fn describe(blocks: &ClientGccBlocks) -> Client {
    Client {
        name: blocks.core.client_name.chars().filter(|c| !c.is_control()).take(32).collect(),
        keyboard_layout: blocks.core.keyboard_layout,
        build: blocks.core.client_build,
        width: blocks.core.desktop_width,
        height: blocks.core.desktop_height,
    }
}

fn rename(blocks: &mut ClientGccBlocks, policy: &ChannelPolicy) -> Vec<(String, Option<Kind>)> {
    let mut seen: Vec<(String, Option<Kind>)> = Vec::new();
    let Some(network) = &mut blocks.network else { return seen };
    for (place, channel) in network.channels.iter_mut().enumerate() {
        let name =
            channel.name.as_str().unwrap_or("?").chars().filter(|c| !c.is_control()).collect::<String>();
        let kind = policy.kind(&name).filter(|kind| seen.iter().all(|(_, other)| *other != Some(*kind)));
        if kind.is_none() {
            channel.name = ChannelName::from_utf8(&format!("x{place:02}"))
                .unwrap_or(ChannelName::new(*b"x\0\0\0\0\0\0\0"));
        }
        seen.push((name, kind));
    }
    seen
}

/// A Connect Response as the person gets it.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) pdu: Bytes,
    pub(crate) io_channel: u16,
    pub(crate) message_channel: Option<u16>,
    /// In the order of the names.
    pub(crate) channels: Vec<u16>,
}

/// The target's Connect Response for the client: what the client asked for at first, which it checks against a downgrade,
/// and no UDP beside the connection.
pub(crate) fn connect_response(
    pdu: &[u8],
    requested: SecurityProtocol,
    channels: usize,
) -> Result<Response, Broken> {
    let data = decode::<X224<X224Data<'_>>>(pdu).map_err(|_| Broken("connect response"))?.0.data;
    let mut response = decode::<ConnectResponse>(&data).map_err(|_| Broken("connect response"))?;
    let ids = response.channel_ids();
    let io_channel = response.global_channel_id();
    let mut blocks = response.conference_create_response.into_gcc_blocks();
    // Standard RDP security inside TLS: neither of us would understand a word.
    if blocks.security.encryption_method != EncryptionMethod::empty() {
        return Err(Broken("encryption inside TLS"));
    }
    let core = &mut blocks.core.optional_data;
    if core.client_requested_protocols.is_some() {
        core.client_requested_protocols = Some(requested);
    }
    // Joining channels is not skipped: that was not asked for.
    core.early_capability_flags = None;
    blocks.multi_transport_channel = None;
    let message_channel = blocks.message_channel.as_ref().map(|block| block.mcs_message_channel_id);
    response.conference_create_response =
        ConferenceCreateResponse::new(NODE, blocks).map_err(|_| Broken("connect response"))?;
    let mut all: Vec<u16> = ids.iter().copied().chain([io_channel]).chain(message_channel).collect();
    all.sort_unstable();
    let before = all.len();
    all.dedup();
    if all.len() != before || ids.len() != channels {
        return Err(Broken("channels of the connect response"));
    }
    Ok(Response { pdu: envelope(encode_vec(&response))?, io_channel, message_channel, channels: ids })
}

fn envelope<E>(encoded: Result<Vec<u8>, E>) -> Result<Bytes, Broken> {
    let data = encoded.map_err(|_| Broken("what was rewritten"))?;
    encode_vec(&X224(X224Data { data: data.into() }))
        .map(Bytes::from)
        .map_err(|_| Broken("what was rewritten"))
}

#[cfg(test)]
mod tests {
    use ironrdp_pdu::gcc::{
        ChannelDef, ChannelOptions, ClientClusterData, ClientCoreData, ClientCoreOptionalData,
        ClientMessageChannelData, ClientNetworkData, ClientSecurityData, ColorDepth, ConnectionType,
        KeyboardType, MultiTransportChannelData, MultiTransportFlags, RdpVersion, RedirectionFlags,
        RedirectionVersion, SecureAccessSequence, ServerCoreData, ServerCoreOptionalData, ServerGccBlocks,
        ServerNetworkData, ServerSecurityData, SupportedColorDepths,
    };
    use ironrdp_pdu::gcc::{EncryptionLevel, HighColorDepth, ServerMessageChannelData};
    use ironrdp_pdu::mcs::DomainParameters;
    use proptest::prelude::*;

    use super::*;

    fn blocks(channels: &[&str]) -> ClientGccBlocks {
        let channel = |name: &&str| ChannelDef {
            name: ChannelName::from_utf8(name).unwrap(),
            options: ChannelOptions::INITIALIZED,
        };
        ClientGccBlocks {
            core: ClientCoreData {
                version: RdpVersion::V5_PLUS,
                desktop_width: 1280,
                desktop_height: 800,
                color_depth: ColorDepth::Bpp8,
                sec_access_sequence: SecureAccessSequence::Del,
                keyboard_layout: 0x0407,
                client_build: 19041,
                client_name: "VERA-PC".to_owned(),
                keyboard_type: KeyboardType::IBM_ENHANCED,
                keyboard_subtype: 0,
                keyboard_functional_keys_count: 12,
                ime_file_name: String::new(),
                optional_data: ClientCoreOptionalData {
                    post_beta2_color_depth: Some(ColorDepth::Bpp8),
                    client_product_id: Some(1),
                    serial_number: Some(0),
                    high_color_depth: Some(HighColorDepth::Bpp24),
                    supported_color_depths: Some(SupportedColorDepths::all()),
                    early_capability_flags: Some(ClientEarlyCapabilityFlags::all()),
                    dig_product_id: Some(String::new()),
                    connection_type: Some(ConnectionType::Lan),
                    server_selected_protocol: Some(SecurityProtocol::HYBRID_EX),
                    ..ClientCoreOptionalData::default()
                },
            },
            security: ClientSecurityData::no_security(),
            network: Some(ClientNetworkData { channels: channels.iter().map(channel).collect() }),
            cluster: Some(ClientClusterData {
                flags: RedirectionFlags::REDIRECTION_SUPPORTED,
                redirection_version: RedirectionVersion::V4,
                redirected_session_id: 7,
            }),
            monitor: None,
            message_channel: None,
            multi_transport_channel: Some(MultiTransportChannelData {
                flags: MultiTransportFlags::TRANSPORT_TYPE_UDP_FECR,
            }),
            monitor_extended: None,
        }
    }

    fn initial(channels: &[&str]) -> Bytes {
        envelope(encode_vec(&ConnectInitial::with_gcc_blocks(blocks(channels)).unwrap())).unwrap()
    }

    fn read(pdu: &[u8]) -> ClientGccBlocks {
        let data = decode::<X224<X224Data<'_>>>(pdu).unwrap().0.data;
        decode::<ConnectInitial>(&data).unwrap().conference_create_request.into_gcc_blocks()
    }

    #[test]
    fn denied_channels_lose_their_name_and_keep_their_place() {
        let names = ["rdpdr", "rdpsnd", "cliprdr", "drdynvc", "EVIL", "drdynvc"];
        let mut policy =
            ChannelPolicy { resize: true, clipboard_to_target: true, ..ChannelPolicy::default() };
        let rewritten = connect_initial(&initial(&names), SecurityProtocol::SSL, &policy, None).unwrap();
        let kinds: Vec<_> = rewritten.channels.iter().map(|(_, kind)| *kind).collect();
        assert_eq!(
            kinds,
            [None, None, Some(Kind::Clipboard), Some(Kind::Dynamic), None, None],
            "a second one is none"
        );
        let network = read(&rewritten.pdu).network.unwrap();
        let sent: Vec<_> =
            network.channels.iter().map(|channel| channel.name.as_str().unwrap().to_owned()).collect();
        assert_eq!(sent, ["x00", "x01", "cliprdr", "drdynvc", "x04", "x05"]);
        policy = ChannelPolicy::default();
        let rewritten = connect_initial(&initial(&names), SecurityProtocol::SSL, &policy, None).unwrap();
        assert!(rewritten.channels.iter().all(|(_, kind)| kind.is_none()), "all off by default");
    }

    #[test]
    fn the_target_hears_of_its_own_protocol_and_of_no_way_around() {
        let rewritten =
            connect_initial(&initial(&[]), SecurityProtocol::SSL, &ChannelPolicy::default(), Some(0x0409))
                .unwrap();
        let client = Client {
            name: "VERA-PC".to_owned(),
            keyboard_layout: 0x0407,
            build: 19041,
            width: 1280,
            height: 800,
        };
        assert_eq!(rewritten.client, client);
        assert!(rewritten.error_info);
        let blocks = read(&rewritten.pdu);
        assert_eq!(blocks.core.optional_data.server_selected_protocol, Some(SecurityProtocol::SSL));
        assert!(blocks.multi_transport_channel.is_none() && blocks.cluster.is_none());
        let flags = blocks.core.optional_data.early_capability_flags.unwrap();
        assert!(!flags.intersects(
            ClientEarlyCapabilityFlags::SUPPORT_DYN_VC_GFX_PROTOCOL
                | ClientEarlyCapabilityFlags::SUPPORT_SKIP_CHANNELJOIN
        ));
        assert_eq!(blocks.core.client_color_depth(), ClientColorDepth::Bpp32);
    }

    #[test]
    fn a_client_that_does_not_know_its_keyboard_has_the_one_that_the_person_chose() {
        let policy = ChannelPolicy::default();
        let mut blocks = blocks(&[]);
        blocks.core.keyboard_layout = 0;
        let pdu = envelope(encode_vec(&ConnectInitial::with_gcc_blocks(blocks).unwrap())).unwrap();
        for (chosen, layout) in [(Some(0x0807), 0x0807), (None, 0)] {
            let rewritten = connect_initial(&pdu, SecurityProtocol::SSL, &policy, chosen).unwrap();
            assert_eq!(rewritten.client.keyboard_layout, layout);
            assert_eq!(read(&rewritten.pdu).core.keyboard_layout, layout);
        }
    }

    #[test]
    fn who_is_answered_before_the_target_gets_no_message_channel() {
        let mut blocks = blocks(&["rdpdr", "cliprdr"]);
        blocks.message_channel = Some(ClientMessageChannelData);
        let asked = envelope(encode_vec(&ConnectInitial::with_gcc_blocks(blocks).unwrap())).unwrap();
        assert!(read(&asked).message_channel.is_some());
        let (pdu, channels) = without_messages(&asked).unwrap();
        assert_eq!(channels, 2);
        let blocks = read(&pdu);
        assert!(blocks.message_channel.is_none());
        let flags = blocks.core.optional_data.early_capability_flags.unwrap();
        assert!(!flags.intersects(
            ClientEarlyCapabilityFlags::SUPPORT_NET_CHAR_AUTODETECT
                | ClientEarlyCapabilityFlags::SUPPORT_HEART_BEAT_PDU
        ));
    }

    fn response(ids: &[u16], method: EncryptionMethod) -> Bytes {
        let mut security = ServerSecurityData::no_security();
        if !method.is_empty() {
            security = ServerSecurityData {
                encryption_method: method,
                encryption_level: EncryptionLevel::High,
                server_random: Some([0; 32]),
                server_cert: vec![0; 8],
            };
        }
        let blocks = ServerGccBlocks {
            core: ServerCoreData {
                version: RdpVersion::V5_PLUS,
                optional_data: ServerCoreOptionalData {
                    client_requested_protocols: Some(SecurityProtocol::SSL),
                    early_capability_flags: None,
                },
            },
            network: ServerNetworkData { io_channel: 1003, channel_ids: ids.to_vec() },
            security,
            message_channel: Some(ServerMessageChannelData { mcs_message_channel_id: 1010 }),
            multi_transport_channel: Some(MultiTransportChannelData {
                flags: MultiTransportFlags::TRANSPORT_TYPE_UDP_FECR,
            }),
        };
        let response = ConnectResponse {
            conference_create_response: ConferenceCreateResponse::new(NODE, blocks).unwrap(),
            called_connect_id: 0,
            domain_parameters: DomainParameters::target(),
        };
        envelope(encode_vec(&response)).unwrap()
    }

    #[test]
    fn the_client_hears_what_it_asked_for_and_of_no_way_around() {
        let asked = SecurityProtocol::SSL | SecurityProtocol::HYBRID | SecurityProtocol::HYBRID_EX;
        let rewritten =
            connect_response(&response(&[1004, 1005], EncryptionMethod::empty()), asked, 2).unwrap();
        assert_eq!((rewritten.io_channel, rewritten.message_channel), (1003, Some(1010)));
        assert_eq!(rewritten.channels, [1004, 1005]);
        let data = decode::<X224<X224Data<'_>>>(&rewritten.pdu).unwrap().0.data;
        let blocks = decode::<ConnectResponse>(&data).unwrap().conference_create_response.into_gcc_blocks();
        assert_eq!(blocks.core.optional_data.client_requested_protocols, Some(asked));
        assert!(blocks.multi_transport_channel.is_none());
    }

    #[test]
    fn channels_that_collide_and_encryption_inside_tls_are_refused() {
        let none = EncryptionMethod::empty();
        for ids in [[1003, 1004], [1004, 1004], [1004, 1010]] {
            assert!(connect_response(&response(&ids, none), SecurityProtocol::SSL, 2).is_err(), "{ids:?}");
        }
        assert!(
            connect_response(&response(&[1004], none), SecurityProtocol::SSL, 2).is_err(),
            "one is missing"
        );
        let encrypted = response(&[1004, 1005], EncryptionMethod::BIT_128);
        assert!(connect_response(&encrypted, SecurityProtocol::SSL, 2).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..500, value: u8) {
            let policy = ChannelPolicy::default();
            drop(connect_initial(&bytes, SecurityProtocol::SSL, &policy, None));
            drop(without_messages(&bytes));
            drop(connect_response(&bytes, SecurityProtocol::SSL, 1));
            let mut pdu = initial(&["rdpdr", "drdynvc"]).to_vec();
            crate::wire::put(&mut pdu, at, &[value]);
            drop(connect_initial(&pdu, SecurityProtocol::SSL, &policy, None));
            let mut pdu = response(&[1004, 1005], EncryptionMethod::empty()).to_vec();
            crate::wire::put(&mut pdu, at, &[value]);
            drop(connect_response(&pdu, SecurityProtocol::SSL, 2));
        }
    }
}
