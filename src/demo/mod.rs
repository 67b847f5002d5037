//! `cofferdam demo`: everything in one process on loopback, without any set-up. Gateway, store, built-in targets,
//! people, and one approved window.

mod eng_ws;
mod people;
mod pump_hmi;
mod site;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use cofferdam_access::{
    audit::Act,
    clock::{Clock, SystemClock},
    ids::{Login, Name},
    site::{AccountRef, PublicKeyPin},
    store::Store,
};
use cofferdam_vault::{SecretBytes, SecretString};
use russh::keys::{PrivateKey, PublicKey, ssh_key::LineEnding};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    app::{self, AppError},
    cli::DemoOptions,
    config::{Config, Template},
    context::{Context, account_binding},
    privileges, setup,
};

/// The account on `pump-hmi` that the demo's window opens.
const LOGIN: &str = "root";
/// A second one, which has no secret at all: the gateway makes a certificate for each session.
const SERVICE: &str = "service";
/// The account of the desktop.
const ENGINEER: &str = "eng";

fn fault(e: impl std::fmt::Display) -> AppError {
    AppError::Operator(e.to_string())
}

/// Runs the demo until it is told to stop, or for the given time.
pub(crate) fn run(options: DemoOptions) -> ExitCode {
    app::log_to_stderr();
    app::run_to_end(show_everything(options))
}

async fn show_everything(options: DemoOptions) -> Result<(), AppError> {
    for address in [options.ssh, options.web, options.rdp] {
        if !address.ip().is_loopback() {
            return Err(fault(format!(
                "{address} is not a loopback address: the demo is never reachable from outside"
            )));
        }
    }
    let own;
    let folder = match &options.dir {
        Some(folder) => {
            setup::private_folder(folder).map_err(fault)?;
            folder.as_path()
        }
        None => {
            own = TemporaryFolder::make().map_err(fault)?;
            own.0.as_path()
        }
    };
    let folder = std::path::absolute(folder).map_err(fault)?;
    let config_file = folder.join("cofferdam.toml");
    if !config_file.exists() {
        prepare(&folder, &options).map_err(fault)?;
    }
    let mut config = Config::load(&config_file).map_err(fault)?;
    config.ssh.listen = options.ssh;
    if let Some(web) = &mut config.web {
        web.listen = options.web;
        // A name, so that passkeys can be bound to it.
        let url = format!("https://localhost:{}/", options.web.port());
        web.public_url = url.parse().map_err(fault)?;
    }
    if let Some(rdp) = &mut config.rdp {
        rdp.listen = options.rdp;
    }
    let context = Context::new(config.clone());
    Store::migrate(&context.database().map_err(fault)?, context.now()).await.map_err(fault)?;
    let store = context.open_store().await.map_err(fault)?;

    let authority = context.ssh_ca().map_err(fault)?.user_public_key();
    let pump = start_pump(&folder, authority).await?;
    let desktop = start_desktop(&folder).map_err(fault)?;
    let people = people::load_or_make(&folder).map_err(fault)?;
    let machines = site::Machines {
        host_key: &pump.host_key,
        ssh: pump.address.port(),
        desktop_key: &desktop.key,
        rdp: desktop.address.port(),
    };
    site::describe(&context, &store, &people, &machines).await.map_err(fault)?;
    people::enrol(&context, &store, &people).await.map_err(fault)?;
    keep_secret(&context, &store, "pump-hmi", LOGIN, &pump.password).await?;
    keep_secret(&context, &store, "eng-ws", ENGINEER, &desktop.password).await?;
    site::open_window(&context, &store).await.map_err(fault)?;
    store.close().await;

    let running = app::start(config, &config_file, privileges::Root::Kept).await?;
    let ready = folder.join("demo.json");
    let reach = people::Reach {
        ssh: running.ssh,
        web: running.web.map(|a| format!("https://{a}")).unwrap_or_default(),
        rdp: running.rdp,
        ca_cert: &folder.join("web_ca.pem"),
        config: &config_file,
    };
    people::write_ready(&ready, &people, &reach).map_err(fault)?;
    show(&people, &reach, &folder);
    let limit = options.seconds.map_or(Duration::MAX, Duration::from_secs);
    let ended = running.run_for(limit).await;
    pump.stop.cancel();
    desktop.stop.cancel();
    ended
}

/// Keys, configuration and an empty database, once.
fn prepare(folder: &Path, options: &DemoOptions) -> Result<(), setup::SetupError> {
    let made = setup::make_keys(folder)?;
    let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    setup::make_web_certificate(folder, "demo", &hosts, SystemClock.now())?;
    let template = Template {
        name: "demo".to_owned(),
        ssh_listen: options.ssh,
        web_listen: options.web,
        rdp_listen: Some(options.rdp),
        recipients: vec![made.investigator_recipient],
        allow_loopback_targets: true,
        ..Template::default()
    };
    // A demo keeps running on a laptop that is nearly full.
    let text = template.render().replace("min_free_bytes = 1_073_741_824", "min_free_bytes = 67_108_864");
    setup::write_new(&folder.join("cofferdam.toml"), text.as_bytes(), 0o600)
}

struct Pump {
    address: SocketAddr,
    host_key: String,
    password: SecretString,
    stop: CancellationToken,
}

/// The built-in SSH host. Its host key, password and disk stay the same from one start to the next.
async fn start_pump(folder: &Path, authority: PublicKey) -> Result<Pump, AppError> {
    let folder = folder.join("pump-hmi");
    let disk = folder.join("disk");
    std::fs::create_dir_all(&disk).map_err(fault)?;
    let key_file = folder.join("host_key");
    if !key_file.exists() {
        let key = setup::new_ssh_key();
        let text = key.to_openssh(LineEnding::LF).map_err(fault)?;
        cofferdam_vault::keyfile::create(&key_file, &SecretBytes::new(text.as_bytes().to_vec()))
            .map_err(fault)?;
        let password = setup::random_text(24);
        cofferdam_vault::keyfile::create(&folder.join("password"), &SecretBytes::new(password.into_bytes()))
            .map_err(fault)?;
    }
    let text = cofferdam_vault::keyfile::load(&key_file).map_err(fault)?.to_text().map_err(fault)?;
    let host_key = PrivateKey::from_openssh(text.expose()).map_err(fault)?;
    let secret = || -> Result<SecretString, AppError> {
        cofferdam_vault::keyfile::load(&folder.join("password")).map_err(fault)?.to_text().map_err(fault)
    };
    let public = host_key.public_key().to_openssh().map_err(fault)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let stop = CancellationToken::new();
    let host = pump_hmi::PumpHmi {
        host_key,
        accounts: vec![
            (LOGIN.to_owned(), pump_hmi::Auth::Password(secret()?)),
            (SERVICE.to_owned(), pump_hmi::Auth::TrustedCa(authority)),
        ],
        root: disk,
        clock: Arc::new(|| SystemClock.now().micros()),
    };
    let token = stop.clone();
    tokio::spawn(async move {
        if let Err(e) = pump_hmi::serve(listener, host, token).await {
            tracing::error!(error = %e, "the built-in host ended");
        }
    });
    info!(%address, "pump-hmi runs");
    Ok(Pump { address, host_key: public, password: secret()?, stop })
}

struct Desktop {
    address: SocketAddr,
    /// The pin of its certificate's public key.
    key: String,
    password: SecretString,
    stop: CancellationToken,
}

/// The built-in desktop. Its certificate and password stay the same from one start to the next.
fn start_desktop(folder: &Path) -> Result<Desktop, AppError> {
    let folder = folder.join("eng-ws");
    let (chain, key, password) = (folder.join("chain.pem"), folder.join("tls_key"), folder.join("password"));
    if !password.exists() {
        std::fs::create_dir_all(&folder).map_err(fault)?;
        let now = SystemClock.now().seconds();
        let (_, certificate, secret) =
            cofferdam_web::make_authority("demo", &["eng-ws".to_owned()], now).map_err(fault)?;
        setup::write_new(&chain, certificate.as_bytes(), 0o644).map_err(fault)?;
        let secret = SecretBytes::new(secret.as_bytes().to_vec());
        cofferdam_vault::keyfile::create(&key, &secret).map_err(fault)?;
        let text = SecretBytes::new(setup::random_text(24).into_bytes());
        cofferdam_vault::keyfile::create(&password, &text).map_err(fault)?;
    }
    let certificate = cofferdam_web::Certificates::load(&chain, &key).map_err(fault)?.served();
    let secret = || -> Result<SecretString, AppError> {
        cofferdam_vault::keyfile::load(&password).map_err(fault)?.to_text().map_err(fault)
    };
    let key = PublicKeyPin::of(&certificate.public_key_info).to_string();
    let stop = CancellationToken::new();
    let desktop = eng_ws::EngWs { login: ENGINEER.to_owned(), password: secret()?, certificate };
    let address = eng_ws::start(desktop, stop.clone()).map_err(fault)?;
    info!(%address, "eng-ws runs");
    Ok(Desktop { address, key, password: secret()?, stop })
}

/// The vault learns a built-in machine's password, as an administrator would tell it.
async fn keep_secret(
    context: &Context,
    store: &Store,
    asset: &str,
    login: &str,
    password: &SecretString,
) -> Result<(), AppError> {
    let account =
        AccountRef { asset: Name::new(asset).map_err(fault)?, login: Login::new(login).map_err(fault)? };
    if store.secret(&account).await.map_err(fault)?.is_some() {
        return Ok(());
    }
    let secret = SecretBytes::new(password.expose().as_bytes().to_vec());
    let sealer = context.sealer().map_err(fault)?;
    let sealed = sealer.seal(&account_binding(&account), &secret).map_err(fault)?;
    let act = Act::system("demo", context.now());
    store.set_secret(&act, &account, &sealed).await.map_err(fault)?;
    Ok(())
}

fn show(people: &people::People, reach: &people::Reach<'_>, folder: &Path) {
    let Some(vera) = people.get("vera") else { return };
    let people::Reach { ssh, web, config, .. } = reach;
    let (ip, port) = (ssh.ip(), ssh.port());
    println!(
        "\nCofferdam runs on {ssh}; everything it keeps is in {folder}.\n\n\
         As the vendor vera (her window on pump-hmi is approved; key, then a code):\n\n  \
         ssh -p {port} -i {key} vera+pump-hmi@{ip}\n  \
         ssh -p {port} -i {key} vera@{ip}            # the menu\n  \
         scp -P {port} -i {key} FILE vera+pump-hmi@{ip}:/tmp/\n\n\
         Her code now:    oathtool --totp -b {totp}\n\n\
         The desktop eng-ws: *Open desktop* on her page opens it there, or gives a token for\n\n  \
         xfreerdp /v:{rdp} /u:vera+eng-ws /cert:tofu    # the token where it asks for a password\n\n\
         In a browser (trust {ca}, or click the warning away):\n\n  \
         {web}/        as vera, olga, sam, ivan or ada; passwords and codes as below\n\n\
         As an operator of the gateway, in another terminal:\n\n  \
         {program} session list --config {config}\n  \
         {program} recording list --config {config}\n  \
         {program} audit verify --config {config}\n\n\
         Everybody's passwords and codes are in {ready}. Ctrl-C ends the demo.\n",
        folder = folder.display(),
        key = vera.ssh_key.display(),
        totp = vera.totp_secret,
        rdp = reach.rdp.map_or_else(String::new, |a| a.to_string()),
        config = config.display(),
        ca = reach.ca_cert.display(),
        program =
            std::env::current_exe().map_or_else(|_| "cofferdam".to_owned(), |p| p.display().to_string()),
        ready = folder.join("demo.json").display(),
    );
}

/// A folder that goes with the demo.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn make() -> Result<Self, setup::SetupError> {
        let path = std::env::temp_dir().join(format!("cofferdam-demo-{}", setup::random_text(10)));
        setup::private_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {e}", self.0.display());
        }
    }
}
