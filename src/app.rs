//! Wiring: configuration → services → listeners → orderly shutdown.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use cofferdam_access::{
    audit::{Act, AuditEvent, AuditKind},
    clock::{SharedClock, SystemClock},
    policy::DestinationRules,
    prover::Prover,
};
use cofferdam_recorder::{
    Checkpoint, RecorderConfig, RecorderService, RecoveryOutcome, UploadConfig, Uploader, UploaderThread,
};
use russh::{MethodKind, MethodSet, SshId, keys::PrivateKey, server};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    config::Config,
    context::Context,
    detect::triggers::{TriggerSettings, Triggers},
    gateway::{
        Gateway, JumpConfigs, follow_policy, keep_house, read_snapshot, watch_recorder, write_checkpoints,
        write_findings,
    },
    keys::{self, KeyProcess, KnownGate, RemoteFactors, follow_gate},
    ocr::{Tesseract, read_desktops},
    privileges,
    rdp::{self, tokens::Issuer},
    session::{end::End, registry::Registry},
    ssh::{self, algorithms, listener, login::TrustedAuthorities},
    web,
};

/// Findings that may wait for the audit log.
const FINDINGS: usize = 256;
/// Checkpoints of recordings that may wait for the audit log.
const CHECKPOINTS: usize = 4096;

/// What kept the gateway from starting, or ended it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// Something that the operator can mend.
    #[error("{0}")]
    Operator(String),
}

impl AppError {
    fn new(e: impl std::fmt::Display) -> Self {
        Self::Operator(e.to_string())
    }
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where SSH listens.
    pub(crate) ssh: SocketAddr,
    /// Where the web interface listens, if there is one.
    pub(crate) web: Option<SocketAddr>,
    /// Where RDP clients connect, if desktops are served.
    pub(crate) rdp: Option<SocketAddr>,
    gateway: Arc<Gateway>,
    /// No new connections.
    stop: CancellationToken,
    /// The end of the policy feed: only when no session lives any more.
    quit: CancellationToken,
    tasks: TaskTracker,
    patience: Duration,
    /// Brings recordings to the object store.
    uploader: Option<UploaderThread>,
    /// Comes when the vault process has ended.
    keys_ended: oneshot::Receiver<String>,
}

/// Runs a gateway until it is told to stop (SIGTERM, SIGINT).
pub(crate) fn serve(config_path: &Path) -> ExitCode {
    log_to_stderr();
    run_to_end(async {
        let config = Config::load(config_path).map_err(AppError::new)?;
        let running = start(config, config_path, privileges::Root::GivenUp).await?;
        println!("cofferdam serves SSH on {}", running.ssh);
        if let Some(web) = running.web {
            println!("cofferdam serves the web interface on {web}");
        }
        if let Some(rdp) = running.rdp {
            println!("cofferdam serves desktops on {rdp}");
        }
        running.run().await
    })
}

/// Runs `work` on the gateway's runtime; says what failed.
pub(crate) fn run_to_end(work: impl Future<Output = Result<(), AppError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("cofferdam: the runtime did not start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(2));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cofferdam: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error; `RUST_LOG` says how much. Parts that would write what people type, or secrets, are
/// silenced whatever it says.
pub(crate) fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let mut filter = EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    for silent in [
        "russh=warn",
        "sqlx=warn",
        "age=warn",
        "russh_sftp=warn",
        "cedar_policy=warn",
        // They repeat what an object store answers, which may quote signed requests; the uploader says what failed.
        "object_store=off",
        "reqwest=warn",
        "hyper=warn",
        "hyper_util=warn",
        "h2=warn",
        "rustls=warn",
    ] {
        if let Ok(directive) = silent.parse() {
            filter = filter.add_directive(directive);
        }
    }
    // They write what clients and targets of desktops prove with.
    for target in cofferdam_rdp::NOISY_LOG_TARGETS {
        if let Ok(directive) = format!("{target}=warn").parse() {
            filter = filter.add_directive(directive);
        }
    }
    // A second call (in tests) finds a logger already there.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .try_init()
        .unwrap_or_default();
}

/// The longest time there is never ends.
async fn up_to(limit: Duration) {
    if limit == Duration::MAX {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(limit).await;
}

/// Waits until somebody asks the process to stop.
async fn stop_signal() -> Result<(), AppError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::new)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::new)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Starts everything in its order: what could not be recorded or audited is never listened for. `config_file` is where
/// `config` is from: the vault process reads it, too.
pub(crate) async fn start(
    config: Config,
    config_file: &Path,
    own_user: privileges::Root,
) -> Result<Running, AppError> {
    let clock: SharedClock = Arc::new(SystemClock);
    // Bound while still privileged; served only when everything else stands.
    let socket = TcpListener::bind(config.ssh.listen).await.map_err(|e| {
        AppError::new(format!(
            "{}: {e}; choose another ssh.listen or end what listens there",
            config.ssh.listen
        ))
    })?;
    let address = socket.local_addr().map_err(AppError::new)?;
    let bound = web::bind(&config).await.map_err(AppError::new)?;
    let desktops = rdp::listener::bind(&config).await.map_err(AppError::new)?;
    privileges::raise_descriptor_limit();
    // While it still may be another user than this process, and before anything here has read a key of the vault's.
    let host_keys = read_host_keys(&config.ssh.host_key_files)?;
    let own = [Some(address), bound.as_ref().map(|b| b.address), desktops.as_ref().map(|d| d.address)];
    let own: Vec<_> = own.into_iter().flatten().collect();
    let user = privileges::vault_user(&config, own_user).map_err(AppError::new)?;
    let config_file = std::path::absolute(config_file).map_err(AppError::new)?;
    let KeyProcess { client: keys, ended: keys_ended } =
        keys::start(&config_file, &own, &host_keys, user).map_err(AppError::new)?;
    privileges::drop_to(&config, own_user).map_err(AppError::new)?;
    privileges::keep_memory_private(own_user);
    let context = Arc::new(Context::asking(config.clone(), keys.clone()));
    let store = context.open_store().await.map_err(AppError::new)?;
    let authorities = TrustedAuthorities::read(&config.ssh.trusted_user_ca_files).map_err(AppError::new)?;
    let (checkpoints, checkpoints_in) = mpsc::channel(CHECKPOINTS);
    let recorder = open_recorder(&config, &context, clock.clone(), checkpoints)?;
    let recovered = recorder.clone();
    let found = tokio::task::spawn_blocking(move || recovered.recover()).await.map_err(AppError::new)?;
    for recording in found {
        match recording.outcome {
            RecoveryOutcome::Closed { .. } => {
                warn!(recording = %recording.name, "closed a recording that a crash had left open")
            }
            RecoveryOutcome::Damaged { what } => {
                error!(recording = %recording.name, what, "a recording is damaged")
            }
        }
    }
    // After the recovery: what that closed goes there too.
    let uploader = start_uploader(&config, &context, &recorder)?;
    let now = clock.now();
    let orphans =
        store.end_orphans(&Act::system("gateway", now), &config.site.node).await.map_err(AppError::new)?;
    for session in &orphans {
        warn!(session = %session.id, "ended a session that a crash had left open");
    }
    let first = read_snapshot(&store, now, None).await.map_err(AppError::new)?;
    let (pictures, snapshots) = watch::channel(Arc::new(first));
    let (findings, findings_in) = mpsc::channel(FINDINGS);
    let base = server_config(&config, host_keys);
    let (stop, quit, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    let vault_gate = Arc::new(KnownGate::new(keys.clone(), keys::is_open(&keys)));
    let factors = RemoteFactors::new(keys.clone(), vault_gate.clone());
    let prover = Arc::new(Prover::new(store.clone(), Arc::new(factors)));
    let gateway = Arc::new(Gateway {
        node: config.site.node.clone(),
        clock,
        store,
        snapshots,
        pictures,
        recorder,
        keys: keys.clone(),
        vault_gate: vault_gate.clone(),
        aside: cofferdam_vault::Sealer::ephemeral(Arc::new(cofferdam_vault::SystemEntropy)),
        stopping: stop.clone(),
        registry: Registry::default(),
        destinations: DestinationRules { own, allow_loopback: config.dangerous.allow_loopback_targets },
        triggers: Arc::new(Mutex::new(Triggers::new(TriggerSettings::default()).map_err(AppError::new)?)),
        findings,
        banner: Some(config.ssh.banner.clone()).filter(|b| !b.is_empty()),
        ssh_config: JumpConfigs::new(base.clone()),
        prover,
        budgets: Default::default(),
        authorities,
        limits: config.limits.clone(),
    });
    let event = AuditEvent::new(AuditKind::ServiceStarted, &config.site.node)
        .with("version", env!("CARGO_PKG_VERSION"));
    gateway.store.record(&Act::system("gateway", now), event).await.map_err(AppError::new)?;

    for session in &orphans {
        // A crash is a session's end, too: its secret was out.
        gateway.used(&session.account()).await;
    }
    tokio::spawn(follow_gate(vault_gate, gateway.store.clone(), gateway.clock.clone(), quit.clone()));
    tokio::spawn(follow_policy(gateway.clone(), quit.clone()));
    tokio::spawn(write_findings(gateway.clone(), findings_in));
    tokio::spawn(write_checkpoints(gateway.clone(), checkpoints_in));
    // One client for housekeeping and pages. The uploader has its own: connections belong to the runtime that opened them,
    // and the uploader's stands still while it reads and hashes.
    let archive = context.archive().map_err(AppError::new)?;
    tokio::spawn(keep_house(gateway.clone(), config.recordings.clone(), archive.clone(), quit.clone()));
    tokio::spawn(watch_recorder(gateway.clone(), quit.clone()));
    if let Some(ocr) = &config.ocr {
        let reader = context.desktop_reader(ocr).map_err(AppError::new)?;
        let program = Tesseract::new(ocr, &config.vault);
        tokio::spawn(read_desktops(gateway.clone(), program, reader, quit.clone()));
    }
    let limits = listener::Limits {
        connections: config.ssh.max_connections as usize,
        waiting_per_source: config.ssh.max_connections_per_source as usize,
        login: Duration::from_secs(config.ssh.login_grace_seconds.into()),
    };
    tasks.spawn(listener::serve(
        gateway.clone(),
        socket,
        Arc::new(base()),
        limits,
        stop.clone(),
        tasks.clone(),
    ));
    info!(address = %address, "SSH is served");
    let browsers = bound.as_ref().map(|b| b.address);
    let clients = desktops.as_ref().map(|d| d.address);
    let entrance =
        desktops.as_ref().map(rdp::listener::Bound::entrance).transpose().map_err(AppError::new)?;
    if let Some(bound) = bound {
        let told = desktops.as_ref().map(rdp::listener::Bound::told);
        let issuer = told
            .zip(entrance.clone())
            .map(|(address, entrance)| Issuer::new(gateway.clone(), address, entrance, tasks.clone()));
        web::start(&gateway, context, archive, bound, issuer, &stop, &tasks).map_err(AppError::new)?;
        info!(address = ?browsers, "the web interface is served");
    }
    if let Some((desktops, entrance)) = desktops.zip(entrance) {
        desktops.start(entrance, &gateway, &stop, &tasks);
    }
    let patience = Duration::from_secs(config.run.shutdown_seconds.into());
    Ok(Running {
        ssh: address,
        web: browsers,
        rdp: clients,
        gateway,
        stop,
        quit,
        tasks,
        patience,
        uploader,
        keys_ended,
    })
}

impl Running {
    /// Runs until somebody asks the process to stop, or the vault process has ended: without it nothing can be signed, so
    /// nothing goes on.
    ///
    /// # Errors
    /// That the vault process ended.
    pub(crate) async fn run(self) -> Result<(), AppError> {
        self.run_for(Duration::MAX).await
    }

    /// As [`Self::run`], and not longer than `limit`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) async fn run_for(mut self, limit: Duration) -> Result<(), AppError> {
        let lost = tokio::select! {
            stopped = stop_signal() => {
                stopped?;
                None
            }
            () = up_to(limit) => None,
            how = &mut self.keys_ended => Some(how.unwrap_or_else(|_| "unknown how".to_owned())),
        };
        if let Some(how) = &lost {
            error!(how, "the vault process has ended; every session is ended, and the gateway stops");
            self.patience = Duration::ZERO;
        }
        self.stop().await;
        match lost {
            None => Ok(()),
            Some(how) => {
                Err(AppError::new(format!("the vault process ended ({how}); start the gateway anew")))
            }
        }
    }

    /// Takes no new connections, tells live sessions, gives them the configured time, ends what is left, and closes
    /// the books.
    pub(crate) async fn stop(self) {
        let Self { gateway, stop, quit, tasks, patience, uploader, ssh: _, web: _, rdp: _, keys_ended: _ } =
            self;
        stop.cancel();
        tasks.close();
        let live = gateway.registry.all();
        if !live.is_empty() {
            info!(sessions = live.len(), seconds = patience.as_secs(), "stopping; live sessions are told");
            for session in &live {
                let text =
                    format!("the gateway is being stopped: this session ends in {} s", patience.as_secs());
                session.say(&text).await.unwrap_or_default();
            }
            let empty = async {
                while gateway.registry.len() > 0 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            if tokio::time::timeout(patience, empty).await.is_err() {
                for session in gateway.registry.all() {
                    session.control().end(End::Shutdown);
                }
            }
        }
        let settle = async {
            while gateway.registry.len() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), settle).await.is_err() {
            warn!("some sessions did not close their books in time; the next start closes them");
        }
        quit.cancel();
        // What is not in the object store yet goes there after the next start.
        drop(uploader);
        let act = Act::system("gateway", gateway.clock.now());
        let event = AuditEvent::new(AuditKind::ServiceStopped, &gateway.node);
        if let Err(e) = gateway.store.record(&act, event).await {
            warn!(error = %e, "the stop could not be audited");
        }
        if let Err(e) = gateway.store.checkpoint().await {
            warn!(error = %e, "the audit log's last checkpoint could not be written");
        }
        gateway.store.close().await;
    }
}

fn open_recorder(
    config: &Config,
    context: &Context,
    clock: SharedClock,
    checkpoints: mpsc::Sender<Checkpoint>,
) -> Result<RecorderService, AppError> {
    let recipients = context.recipients().map_err(AppError::new)?;
    let mut settings = RecorderConfig::new(&config.recordings.dir, recipients);
    settings.ocr = config.ocr.is_some();
    settings.low_space = config.recordings.min_free_bytes;
    settings.fail_after = Duration::from_secs(config.recordings.freeze_seconds.into());
    settings.total_queue_bytes = usize::try_from(config.recordings.queue_bytes).unwrap_or(usize::MAX);
    settings.queue_bytes = settings.queue_bytes.min(settings.total_queue_bytes);
    settings.on_checkpoint = Some(Arc::new(move |checkpoint| {
        // Never waits on the recorder's own thread; a later checkpoint covers what a lost one covered.
        if checkpoints.try_send(checkpoint.clone()).is_err() {
            tracing::debug!("a recording's checkpoint did not reach the audit log");
        }
    }));
    let time = Arc::new(move || clock.now().micros());
    RecorderService::open(settings, Arc::new(context.recording_signer().map_err(AppError::new)?), time)
        .map_err(AppError::new)
}

fn start_uploader(
    config: &Config,
    context: &Context,
    recorder: &RecorderService,
) -> Result<Option<UploaderThread>, AppError> {
    let Some(s3) = &config.s3 else { return Ok(None) };
    let Some(store) = context.remote_store().map_err(AppError::new)? else { return Ok(None) };
    let settings = UploadConfig {
        part_bytes: s3.part_bytes,
        part_interval: Duration::from_secs(s3.part_seconds.into()),
        spool_bytes: s3.spool_bytes,
    };
    let uploader = Uploader::new(recorder, store, settings, Arc::new(rand::random::<f64>));
    UploaderThread::start(uploader).map(Some).map_err(AppError::new)
}

/// The gateway's own host keys.
fn read_host_keys(files: &[PathBuf]) -> Result<Vec<PrivateKey>, AppError> {
    files
        .iter()
        .map(|file| {
            let text = cofferdam_vault::keyfile::load(file).map_err(AppError::new)?;
            let text = text.to_text().map_err(AppError::new)?;
            PrivateKey::from_openssh(text.expose())
                .map_err(|e| AppError::new(format!("{}: {e}", file.display())))
        })
        .collect()
}

/// How the gateway speaks SSH toward people; a function, because a jump needs the same with a certificate.
fn server_config(config: &Config, keys: Vec<PrivateKey>) -> Arc<dyn Fn() -> server::Config + Send + Sync> {
    let attempts = config.limits.login_attempts as usize;
    Arc::new(move || server::Config {
        server_id: SshId::Standard("SSH-2.0-Cofferdam".into()),
        methods: MethodSet::from(
            &[MethodKind::PublicKey, MethodKind::KeyboardInteractive, MethodKind::Password][..],
        ),
        // Every refusal takes the same time, whatever it took to find out.
        auth_rejection_time: Duration::from_millis(400),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: keys.clone(),
        window_size: ssh::WINDOW,
        maximum_packet_size: ssh::PACKET,
        channel_buffer_size: ssh::CHANNEL_QUEUE,
        event_buffer_size: 64,
        preferred: algorithms::toward_people(),
        max_auth_attempts: attempts,
        // Log-in has its own bound, and idle time is the session's affair. Dead peers are found by TCP: the library's own
        // keep-alive is a global request, which clients do not take while they log in (RFC 4252 §5.1).
        inactivity_timeout: None,
        keepalive_interval: None,
        nodelay: true,
        ..server::Config::default()
    })
}
