//! The rotation process: talks to targets, so that neither the keys nor the network-facing part is in reach of what a target
//! sends. What it may ask of the vault process stands in `cofferdam_vault::agent`.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cofferdam_access::{
    clock::{SharedClock, SystemClock},
    policy::DestinationRules,
    site::Site,
    store::{Glance, Store},
};
use cofferdam_vault::agent::{Client, harden, ignore_stop_signals, parent_socket};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::is_open;
use crate::{
    app::log_to_stderr,
    config::Config,
    context::Context,
    rotation::{Means, Rotations},
};

/// What the program is started with to be the rotation process. Not for people.
pub(crate) const ROTATION_COMMAND: &str = "rotation-process";
/// How often it is looked whether the site has changed, and the vault process lives.
const LOOK: Duration = Duration::from_secs(1);
/// How often the site is read even where nothing in the store seems to have changed.
const AT_LEAST: Duration = Duration::from_secs(5);

/// Runs as the rotation process of the vault process that started this one, until that ends. `args` as of
/// [`super::process_main`].
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    drop(harden());
    log_to_stderr();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cofferdam (rotation process): {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    ignore_stop_signals().map_err(text)?;
    let client = Arc::new(Client::over(parent_socket().map_err(text)?).map_err(text)?);
    let mut args = args.into_iter();
    let config = Config::load(&PathBuf::from(args.next().ok_or("which configuration?")?)).map_err(text)?;
    let own = args.filter_map(|a| a.to_str().and_then(|a| a.parse::<SocketAddr>().ok())).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(text)?;
    let done = runtime.block_on(rotate(config, own, client));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn rotate(config: Config, own: Vec<SocketAddr>, client: Arc<Client>) -> Result<(), String> {
    let context = Context::asking(config.clone(), Arc::clone(&client));
    let store = context.open_store().await.map_err(text)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let site = Arc::new(Mutex::new(Arc::new(store.site().await.map_err(text)?)));
    let shown = Arc::clone(&site);
    let rotations = Rotations::new(Means {
        node: config.site.node.clone(),
        store: store.clone(),
        sealer: context.sealer().map_err(text)?,
        clock,
        destinations: DestinationRules { own, allow_loopback: config.dangerous.allow_loopback_targets },
        site: Arc::new(move || Arc::clone(&shown.lock().unwrap_or_else(PoisonError::into_inner))),
        plugins: config.vault.plugins_dir.clone(),
    })
    .map_err(text)?;
    let quit = CancellationToken::new();
    let asking = client.clone();
    // A sealed vault opens nothing: no account is to fail for that.
    let ready = Arc::new(move || is_open(&asking));
    let working = tokio::spawn(rotations.run(ready, quit.clone()));
    follow(&store, &site, client).await;
    quit.cancel();
    // What is dropped in the middle goes on at the next start, from where the ledger says.
    tokio::time::timeout(Duration::from_secs(2), working).await.ok();
    store.close().await;
    Ok(())
}

/// Keeps `site` as the store has it, until the vault process has gone.
async fn follow(store: &Store, site: &Mutex<Arc<Site>>, client: Arc<Client>) {
    let mut seen = None;
    let mut glance = Glance::new(store, LOOK, AT_LEAST);
    loop {
        tokio::time::sleep(LOOK).await;
        let asking = Arc::clone(&client);
        if !matches!(tokio::task::spawn_blocking(move || asking.status()).await, Ok(Ok(_))) {
            return;
        }
        if !glance.suggests_change() {
            continue;
        }
        let read = async {
            let revision = store.revision().await?;
            let changed = seen != Some(revision);
            let new = if changed { Some(store.site().await?) } else { None };
            Ok::<_, cofferdam_access::store::StoreError>((revision, new))
        };
        match read.await {
            Ok((revision, new)) => {
                seen = Some(revision);
                let mut kept = site.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(new) = new.filter(|new| *new != **kept) {
                    *kept = Arc::new(new);
                }
            }
            Err(e) => warn!(error = %e, "the site could not be read; rotation goes on by the one before"),
        }
    }
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}
