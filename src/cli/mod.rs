//! The command line: one file per noun. Every command works on the store that the configuration names, so it needs no
//! running gateway, and a running one notices what changed within a tenth of a second.
//!
//! Who acts: whoever the operating system says started the process. What restricts (end, suspend, refuse, revoke …) is
//! audited as that operator, with the person of `--as` beside it. What opens anything (ask for a window, approve, extend,
//! resume) needs that person's password and code, and is audited as theirs.

mod account;
mod asset;
mod audit;
mod backup;
mod config;
mod desk;
mod doctor;
mod error;
mod export;
mod init;
mod metrics;
mod output;
mod plant;
mod play;
mod policy;
mod prompt;
mod proof;
mod recording;
mod retention;
mod screen;
mod session;
mod shell;
mod site;
#[cfg(test)]
mod tests;
mod usage;
mod user;
mod vault;
mod vault_ca;
mod vault_checkout;
mod vault_discover;
mod vault_envelope;
mod vault_import;
mod vault_keys;
mod verify;
mod window;

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use cofferdam_vault::rotation::plugin::launcher_main;

use self::{desk::Desk, error::CliError, output::Reply};
use crate::{keys, rotation::PLUGIN_COMMAND};

/// Where the configuration is looked for, in this order.
const PLACES: [&str; 2] = ["/etc/cofferdam/cofferdam.toml", "cofferdam.toml"];

/// A privileged-access bastion for industrial sites.
#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// Configuration file [default: /etc/cofferdam/cofferdam.toml, then ./cofferdam.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve,
    /// Run a gateway with built-in targets and people, on loopback
    Demo(DemoOptions),
    /// Make keys, configuration, database and the first administrator
    Init(init::InitArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Bring the database to this program's schema
    Migrate,
    /// Look for what is wrong or weak
    Doctor,
    /// Make the site as a file describes it
    Apply(site::ApplyArgs),
    /// Write the site as `apply` takes it
    Export,
    /// People
    #[command(subcommand)]
    User(user::UserCommand),
    /// Organisations
    #[command(subcommand)]
    Org(site::ListCommand),
    /// Zones
    #[command(subcommand)]
    Zone(site::ListCommand),
    /// Conduits
    #[command(subcommand)]
    Conduit(site::ListCommand),
    /// Machines
    #[command(subcommand)]
    Asset(asset::AssetCommand),
    /// Privileged accounts on machines
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Access windows
    #[command(subcommand)]
    Window(window::WindowCommand),
    /// Sessions
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Recordings of sessions
    #[command(subcommand)]
    Recording(recording::RecordingCommand),
    /// The signed log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Keys and secrets
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// The plant's state, per zone
    #[command(subcommand)]
    PlantState(plant::PlantCommand),
    /// The six metrics
    Metrics(metrics::MetricsArgs),
    /// Write all that the gateway needs to exist again into one encrypted file; it may go on running
    Backup(backup::BackupArgs),
    /// Make a folder with a gateway from a backup; needs no configuration
    Restore(backup::RestoreArgs),
    /// Completions for a shell, on standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// The manual page, on standard output
    Man,
}

/// How the demo is to run.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoOptions {
    /// Folder for its keys, database and recordings [default: a fresh one that goes with it]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Where it listens for SSH; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2222")]
    pub(crate) ssh: SocketAddr,
    /// Where it listens for RDP; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3389")]
    pub(crate) rdp: SocketAddr,
    /// Where it listens for browsers; loopback only, port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub(crate) web: SocketAddr,
    /// End by itself after so many seconds
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
}

/// Parses `args`, the program's name first, and does what they say. Exit code 0 done, 1 failed, 2 misuse.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // Before anything else: what this starts must have no thread yet, and reads no configuration.
    if args.get(1).is_some_and(|command| command == PLUGIN_COMMAND) {
        return launcher_main(args.into_iter().skip(2));
    }
    // The gateway's other processes, which it starts itself.
    match args.get(1).and_then(|command| command.to_str()) {
        Some(keys::PROCESS_COMMAND) => return keys::process_main(args.into_iter().skip(2)),
        Some(keys::ROTATION_COMMAND) => return keys::rotation_main(args.into_iter().skip(2)),
        _ => {}
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let code = u8::try_from(e.exit_code()).unwrap_or(2);
            // Without an output there is nobody to tell.
            drop(e.print());
            return ExitCode::from(code);
        }
    };
    let json = cli.json;
    match cli.command {
        Command::Serve => match config_path(cli.config) {
            Ok(path) => crate::app::serve(&path),
            Err(e) => finish(Err(e), json),
        },
        Command::Demo(options) => crate::demo::run(options),
        command => finish(run(command, cli.config), json),
    }
}

/// Prints what a command answered, and turns it into the exit code.
fn finish(answer: Result<Reply, CliError>, json: bool) -> ExitCode {
    let told = answer.and_then(|reply| reply.print(json).map(|()| reply.ok));
    match told {
        Ok(true) | Err(CliError::Quiet) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("cofferdam: {}", output::clean(&e.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// Commands are short: one thread carries them.
fn run(command: Command, config: Option<PathBuf>) -> Result<Reply, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::io("the runtime"))?;
    runtime.block_on(dispatch(command, config))
}

async fn dispatch(command: Command, config: Option<PathBuf>) -> Result<Reply, CliError> {
    match command {
        Command::Init(args) => return init::run(args).await,
        Command::Completions { shell } => return shell::completions(shell),
        Command::Man => return shell::man(),
        Command::Restore(args) => return backup::restore(&args).await,
        Command::Config(config::ConfigCommand::Example) => {
            return config::run(&config::ConfigCommand::Example, Path::new("")).await;
        }
        // Both entered before the runtime was made.
        Command::Serve | Command::Demo(_) => return Ok(Reply::nothing()),
        _ => {}
    }
    let path = config_path(config)?;
    match command {
        Command::Config(command) => return config::run(&command, &path).await,
        Command::Migrate => return config::migrate(&path).await,
        Command::Doctor => return doctor::run(&path).await,
        Command::Backup(args) => return backup::back_up(&args, &path).await,
        _ => {}
    }
    let desk = Desk::open(&path).await?;
    let reply = on_store(&desk, command).await;
    desk.close().await;
    reply
}

async fn on_store(desk: &Desk, command: Command) -> Result<Reply, CliError> {
    match command {
        Command::Apply(args) => site::apply(desk, &args, &mut prompt::Terminal).await,
        Command::Export => site::export(desk),
        Command::User(command) => user::run(desk, command).await,
        Command::Org(_) => Ok(site::organisations(desk)),
        Command::Zone(_) => site::zones(desk).await,
        Command::Conduit(_) => Ok(site::conduits(desk)),
        Command::Asset(command) => asset::run(desk, command).await,
        Command::Account(command) => account::run(desk, command).await,
        Command::Policy(command) => policy::run(desk, command).await,
        Command::Window(command) => window::run(desk, command).await,
        Command::Session(command) => session::run(desk, command).await,
        Command::Recording(command) => recording::run(desk, command).await,
        Command::Audit(command) => audit::run(desk, command).await,
        Command::Vault(command) => vault::run(desk, &command).await,
        Command::PlantState(command) => plant::run(desk, command).await,
        Command::Metrics(args) => metrics::run(desk, &args).await,
        // Answered before there was a store.
        Command::Serve
        | Command::Demo(_)
        | Command::Init(_)
        | Command::Config(_)
        | Command::Migrate
        | Command::Doctor
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Completions { .. }
        | Command::Man => Ok(Reply::nothing()),
    }
}

/// The configuration to use: the one named, else the first that exists.
fn config_path(named: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let found = || PLACES.into_iter().map(Path::new).find(|p| p.exists()).map(Path::to_owned);
    named.or_else(found).ok_or_else(|| {
        CliError::failed(
            "there is no configuration: name one with --config, or make one with `cofferdam init`",
        )
    })
}
