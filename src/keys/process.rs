//! The vault process: reads the keys, opens its gate where no person is needed for that, and answers.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use cofferdam_access::{
    audit::{Act, AuditKeys, AuditKind, AuditSigner},
    clock::{SharedClock, SystemClock},
    store::{AuditFilter, Glance, Store},
};
use cofferdam_vault::{
    KeyringStore as _, Sealer, SigningKey, SshCa, SystemEntropy,
    agent::{
        Bounds, Hardening, Keys, Measure, Ports, Server, Service, bind_private, harden, ignore_stop_signals,
        parent_socket, serve_operators, spawn,
    },
    unseal::Gate,
};
use russh::keys::PublicKey;
use tokio::runtime::{Handle, Runtime};
use tracing::{error, info, warn};

use super::{
    registry::{StoreKeyring, StoreRegistry},
    rotation::ROTATION_COMMAND,
    source::Configured,
    start::this_program,
};
use crate::{
    app::log_to_stderr,
    authorities, checkouts,
    config::{Config, settings::Unseal},
    context::Context,
};

/// What the program is started with to be the vault process. Not for people.
pub(crate) const PROCESS_COMMAND: &str = "vault-process";
/// The name under which it opens its own gate.
pub(super) const ITSELF: &str = "the service";
/// How often it is looked whether another node has changed the keyring, or another SSH authority is to sign.
const LOOK: Duration = Duration::from_secs(1);
/// How often, even where nothing in the store seems to have changed: an authority takes over, and a check-out ends, by time alone.
const AT_LEAST: Duration = Duration::from_secs(5);
/// How long is waited before a rotation process that ended is started anew.
const AGAIN: Duration = Duration::from_secs(5);

/// Before the public half of each of the gateway's host keys.
pub(super) const HOST_KEY: &str = "--host-key";

/// Runs as the vault process of the gateway that started this one, until that ends. `args`: the configuration, the addresses
/// where the gateway listens, and its host keys.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Before any key is read.
    let hardening = harden();
    log_to_stderr();
    match run(args, hardening) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cofferdam (vault process): {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: impl IntoIterator<Item = OsString>, hardening: Hardening) -> Result<(), String> {
    ignore_stop_signals().map_err(text)?;
    let network = parent_socket().map_err(text)?;
    let mut args = args.into_iter();
    let config_file = PathBuf::from(args.next().ok_or("which configuration?")?);
    let (mut own, mut host_keys): (Vec<OsString>, Vec<PublicKey>) = Default::default();
    while let Some(arg) = args.next() {
        if arg == HOST_KEY {
            let line = args.next().and_then(|line| line.into_string().ok()).unwrap_or_default();
            host_keys.push(PublicKey::from_openssh(&line).map_err(text)?);
            continue;
        }
        let address = arg.to_str().unwrap_or_default();
        address.parse::<SocketAddr>().map_err(|_| format!("{address} is no address"))?;
        own.push(arg);
    }
    for (what, measure) in [
        ("core files are switched off", &hardening.no_core),
        ("other processes cannot read its memory", &hardening.not_dumpable),
        ("its memory is locked", &hardening.locked),
    ] {
        match measure {
            Measure::InForce => info!(what, "the vault process is protected"),
            Measure::Refused(why) => warn!(what, why, "the vault process is not protected"),
        }
    }
    let config = Config::load(&config_file).map_err(text)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(text)?;
    let service = service(&config, &runtime, host_keys, hardening)?;
    let server = Server::new(Arc::clone(&service));
    serve_operator_socket(&config, &server)?;
    keep_rotating(&config_file, own, server.clone())?;
    // Returns when the gateway has gone.
    server.serve_network(network).map_err(text)
}

fn service(
    config: &Config,
    runtime: &Runtime,
    host_keys: Vec<PublicKey>,
    hardening: Hardening,
) -> Result<Arc<Service>, String> {
    let context = Context::new(config.clone());
    let signer = context.audit_signer().map_err(text)?;
    let keys = AuditKeys::of(signer.as_ref() as &dyn AuditSigner);
    let store = runtime.block_on(context.open_store()).map_err(text)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let handle = runtime.handle().clone();
    let keyrings = StoreKeyring::new(store.clone(), clock.clone(), handle.clone());
    let gate = gate(config, &store, keyrings, &handle)?;
    let authority = Arc::new(context.ssh_ca().map_err(text)?);
    let act = Act::system("vault", clock.now());
    runtime.block_on(authorities::know(&store, &act, &authority))?;
    let held = Keys {
        signing: Some(SigningKey::load(&config.audit.signing_key_file).map_err(text)?),
        // Host certificates are made for these keys and for no other.
        host_keys,
        envelope_recipients: config.vault.break_glass_recipients.clone(),
    };
    let ports = Ports {
        registry: Arc::new(StoreRegistry::new(store.clone(), keys, handle.clone())),
        root: (config.vault.unseal() != Unseal::Shares)
            .then(|| Arc::new(Configured(config.vault.clone())) as Arc<_>),
    };
    let bounds = Bounds {
        network_may_unseal: config.vault.unseal_over_web,
        live_leases: config.limits.max_sessions as usize,
        ..Bounds::default()
    };
    let time = clock.clone();
    let now = move || time.now().micros();
    let service =
        Arc::new(Service::new(gate, Some(authority.clone()), held, ports, bounds, Arc::new(now), hardening));
    if config.vault.unseal().needs_a_person() {
        warn!("the vault is sealed: run `cofferdam vault unseal`");
    } else if let Err(e) = service.open_by_itself() {
        error!(error = e, "the vault stays sealed; mend that, then run `cofferdam vault unseal`");
    }
    let follower = Follower { service: Arc::clone(&service), store, authority, clock, runtime: handle };
    // Before anybody asks for a certificate.
    let mut told = String::new();
    follower.authorities(&mut told);
    // What people had before a restart they still have.
    let pass = checkouts::pass(&follower.store, service.vault(), follower.clock.now());
    follower.runtime.block_on(pass).map_err(text)?;
    std::thread::Builder::new()
        .name("vault-store".into())
        .spawn(move || follower.follow(told))
        .map_err(text)?;
    Ok(service)
}

/// A vault that has had a keyring does not open without it.
fn gate(config: &Config, store: &Store, keyrings: StoreKeyring, runtime: &Handle) -> Result<Gate, String> {
    let filter = AuditFilter { kind: Some(AuditKind::KeyringChanged), limit: 1, ..AuditFilter::default() };
    let had_one = !runtime.block_on(store.audit(&filter)).map_err(text)?.is_empty();
    let has_one = keyrings.load().map_err(text)?.is_some();
    let sealer = Sealer::sealed(Arc::new(SystemEntropy));
    let gate = Gate::new(sealer, Arc::new(keyrings), config.vault.share_seconds);
    Ok(if had_one || has_one { gate.requiring_keyring() } else { gate })
}

/// Takes into use what others change in the store: the keyring, and who signs certificates.
struct Follower {
    service: Arc<Service>,
    store: Store,
    authority: Arc<SshCa>,
    clock: SharedClock,
    runtime: Handle,
}

impl Follower {
    fn follow(&self, mut told: String) {
        let (mut stale, mut failing) = (false, false);
        let mut glance = Glance::new(&self.store, LOOK, AT_LEAST);
        loop {
            std::thread::sleep(LOOK);
            let suggested = glance.suggests_change();
            // What people have ends on time.
            if !suggested && self.service.vault().checked_out().is_empty() {
                continue;
            }
            match self.service.gate().refresh() {
                Err(e) if !stale && self.service.gate().sealer().generation().is_ok() => {
                    error!(error = %e, "the keyring in the database cannot be taken into use; unseal the vault anew");
                    stale = true;
                }
                Err(_) => {}
                Ok(_) => stale = false,
            }
            self.authorities(&mut told);
            let vault = self.service.vault();
            let looked = self.runtime.block_on(checkouts::pass(&self.store, vault, self.clock.now()));
            match looked {
                Ok(()) => failing = false,
                Err(e) if !failing => {
                    error!(error = %e, "check-outs that are over cannot be ended; it is tried again");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }

    /// What went wrong is told once, not every second.
    fn authorities(&self, told: &mut String) {
        let sealer = self.service.gate().sealer();
        let adopted = authorities::adopt(&self.store, sealer, &self.authority, self.clock.now());
        match self.runtime.block_on(adopted) {
            Ok(_) => told.clear(),
            Err(e) if *told != e => {
                error!(error = %e, "SSH authorities");
                *told = e;
            }
            Err(_) => {}
        }
    }
}

fn serve_operator_socket(config: &Config, server: &Server) -> Result<(), String> {
    let path = config.vault.operator_socket();
    let listener = bind_private(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let server = server.clone();
    let report =
        |e: &cofferdam_vault::agent::WireError| warn!(error = %e, "an operator's connection was closed");
    std::thread::Builder::new()
        .name("vault-operators".into())
        .spawn(move || serve_operators(&server, &listener, &[], report))
        .map(drop)
        .map_err(text)
}

/// The rotation process lives as long as this one; one that ends is started anew.
fn keep_rotating(config: &Path, own: Vec<OsString>, server: Server) -> Result<(), String> {
    let program = this_program().map_err(text)?;
    let config = config.to_owned();
    let keep = move || loop {
        let mut command = Command::new(&program);
        command.arg(ROTATION_COMMAND).arg(&config).args(&own).current_dir("/");
        match spawn(command, None) {
            Ok((mut spawned, stream)) => {
                if let Err(e) = server.serve_rotation(stream) {
                    error!(error = %e, "the rotation process spoke another protocol");
                }
                let how = spawned.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
                error!(how, "the rotation process has ended; it is started anew");
            }
            Err(e) => error!(error = %e, "the rotation process could not be started; it is tried again"),
        }
        std::thread::sleep(AGAIN);
    };
    std::thread::Builder::new().name("vault-rotation".into()).spawn(keep).map(drop).map_err(text)
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}
