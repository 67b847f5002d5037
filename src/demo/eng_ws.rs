//! The demo's built-in RDP desktop: an engineering workstation whose screen shows a tank that fills and empties, what was
//! typed as a row of marks, and where somebody clicked. It takes NLA, and nothing less.
//!
//! The protocol library's handshake is bound to one thread, so the desktop has a thread with a runtime of its own.

mod picture;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cofferdam_vault::SecretString;
use cofferdam_web::Served;
use ironrdp_acceptor::{Acceptor, BeginResult, DesktopSize, accept_begin, accept_credssp, accept_finalize};
use ironrdp_connector::{ConnectorResult, ServerName, sspi::generator::NetworkRequest};
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::{
    Action,
    input::{
        fast_path::{FastPathInput, FastPathInputEvent, KeyboardFlags},
        mouse::PointerFlags,
    },
    nego::SecurityProtocol,
    rdp::{
        capability_sets::{
            Bitmap, BitmapDrawingFlags, CapabilitySet, General, GeneralExtraFlags, Input, InputFlags,
            MajorPlatformType, MinorPlatformType, Order, OrderFlags, OrderSupportExFlags, VirtualChannel,
            VirtualChannelFlags,
        },
        client_info::Credentials,
    },
};
use ironrdp_tokio::{FramedWrite as _, NetworkClient, TokioFramed};
use tokio::{
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::MissedTickBehavior,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::picture::{HEIGHT, Picture, WIDTH};

/// Desktops at once.
const MOST: usize = 16;
/// Between two steps of what moves.
const STEP: Duration = Duration::from_millis(200);
/// How long a log-in may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The desktop before it runs.
pub(super) struct EngWs {
    /// Its account's name.
    pub(super) login: String,
    /// Its account's password.
    pub(super) password: SecretString,
    /// Its certificate.
    pub(super) certificate: Arc<Served>,
}

/// Serves desktops on a thread of its own until `stop`; answers the address.
///
/// # Errors
/// When the system gives no socket or no thread.
pub(super) fn start(desktop: EngWs, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("eng-ws".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async move {
            match TcpListener::from_std(socket) {
                Ok(socket) => serve(desktop, socket, stop).await,
                Err(e) => tracing::error!(error = %e, "the built-in desktop did not start"),
            }
        });
    })?;
    Ok(address)
}

async fn serve(desktop: EngWs, socket: TcpListener, stop: CancellationToken) {
    let desktop = Arc::new(desktop);
    let places = Arc::new(tokio::sync::Semaphore::new(MOST));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let desktop = desktop.clone();
        tokio::task::spawn_local(async move {
            if let Err(e) = one(&desktop, stream).await {
                debug!(error = %e, "a client of the built-in desktop left");
            }
            drop(place);
        });
    }
}

/// Nothing is asked of a domain: the account is the desktop's own.
struct NoDomain;

impl NetworkClient for NoDomain {
    async fn send(&mut self, _: &NetworkRequest) -> ConnectorResult<Vec<u8>> {
        Err(ironrdp_connector::general_err!("there is no domain"))
    }
}

type Fault = Box<dyn std::error::Error>;

async fn one(desktop: &EngWs, stream: TcpStream) -> Result<(), Fault> {
    let (mut framed, io, user) = tokio::time::timeout(PATIENCE, log_in(desktop, stream)).await??;
    let mut picture = Picture::new();
    for update in picture.all()? {
        framed.write_all(&update).await?;
    }
    debug!(io, user, "somebody is at the built-in desktop");
    let mut steps = tokio::time::interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = steps.tick() => picture.step(),
            pdu = framed.read_pdu() => {
                let (action, pdu) = pdu?;
                match action {
                    Action::FastPath => for event in decode::<FastPathInput>(&pdu)?.input_events() {
                        react(&mut picture, event);
                    },
                    // Only what ends the desktop matters among the rest (MCS Disconnect Provider Ultimatum).
                    Action::X224 if pdu.get(7).is_some_and(|choice| choice >> 2 == 8) => return Ok(()),
                    Action::X224 => {}
                }
            }
        }
        for update in picture.changes()? {
            framed.write_all(&update).await?;
        }
    }
}

fn react(picture: &mut Picture, event: &FastPathInputEvent) {
    match event {
        FastPathInputEvent::KeyboardEvent(flags, code) if !flags.contains(KeyboardFlags::RELEASE) => {
            picture.key(*code);
        }
        FastPathInputEvent::MouseEvent(mouse)
            if mouse.flags.contains(PointerFlags::DOWN | PointerFlags::LEFT_BUTTON) =>
        {
            picture.click(mouse.x_position, mouse.y_position);
        }
        _ => {}
    }
}

async fn log_in(
    desktop: &EngWs,
    stream: TcpStream,
) -> Result<(TokioFramed<TlsStream<TcpStream>>, u16, u16), Fault> {
    stream.set_nodelay(true)?;
    let account = Credentials {
        username: desktop.login.clone(),
        password: desktop.password.expose().to_owned(),
        domain: None,
    };
    let security = SecurityProtocol::HYBRID | SecurityProtocol::HYBRID_EX;
    let size = DesktopSize { width: WIDTH, height: HEIGHT };
    let mut acceptor = Acceptor::new(security, size, capabilities(), Some(account));
    let BeginResult::ShouldUpgrade(stream) = accept_begin(TokioFramed::new(stream), &mut acceptor).await?
    else {
        return Err("the client wants no protection".into());
    };
    let stream = TlsAcceptor::from(desktop.certificate.config.clone()).accept(stream).await?;
    acceptor.mark_security_upgrade_as_done();
    let mut framed = TokioFramed::new(stream);
    let (client, key) = (ServerName::new("eng-ws"), desktop.certificate.public_key.clone());
    accept_credssp(&mut framed, &mut acceptor, &mut NoDomain, client, key, None).await?;
    let (framed, result) = accept_finalize(framed, &mut acceptor).await?;
    Ok((framed, result.io_channel_id, result.user_channel_id))
}

/// Plain bitmaps by fast path, and nothing else.
fn capabilities() -> Vec<CapabilitySet> {
    vec![
        CapabilitySet::General(General {
            major_platform_type: MajorPlatformType::UNIX,
            minor_platform_type: MinorPlatformType::UNSPECIFIED,
            extra_flags: GeneralExtraFlags::FASTPATH_OUTPUT_SUPPORTED
                | GeneralExtraFlags::NO_BITMAP_COMPRESSION_HDR,
            ..General::default()
        }),
        CapabilitySet::Bitmap(Bitmap {
            pref_bits_per_pix: 32,
            desktop_width: WIDTH,
            desktop_height: HEIGHT,
            desktop_resize_flag: false,
            drawing_flags: BitmapDrawingFlags::empty(),
        }),
        CapabilitySet::Order(Order::new(
            OrderFlags::NEGOTIATE_ORDER_SUPPORT | OrderFlags::ZERO_BOUNDS_DELTAS_SUPPORT,
            OrderSupportExFlags::empty(),
            0,
            0,
        )),
        CapabilitySet::Input(Input {
            input_flags: InputFlags::SCANCODES
                | InputFlags::UNICODE
                | InputFlags::FASTPATH_INPUT
                | InputFlags::FASTPATH_INPUT_2,
            keyboard_layout: 0,
            keyboard_type: None,
            keyboard_subtype: 0,
            keyboard_function_key: 128,
            keyboard_ime_filename: String::new(),
        }),
        CapabilitySet::VirtualChannel(VirtualChannel {
            flags: VirtualChannelFlags::NO_COMPRESSION,
            chunk_size: None,
        }),
    ]
}

/// An update as the client reads it.
fn fast_path(data: &[u8]) -> Result<Vec<u8>, Fault> {
    use ironrdp_pdu::fast_path::{
        EncryptionFlags, FastPathHeader, FastPathUpdatePdu, Fragmentation, UpdateCode,
    };
    let update = FastPathUpdatePdu {
        fragmentation: Fragmentation::Single,
        update_code: UpdateCode::Bitmap,
        compression_flags: None,
        compression_type: None,
        data,
    };
    let body = encode_vec(&update)?;
    let mut pdu = encode_vec(&FastPathHeader::new(EncryptionFlags::empty(), body.len()))?;
    pdu.extend_from_slice(&body);
    Ok(pdu)
}
