//! Cofferdam: a privileged-access bastion for industrial sites.

mod app;
mod cli;
mod config;
mod context;
mod demo;
mod detect;
mod erasure;
mod gateway;
mod privileges;
mod session;
mod setup;
mod ssh;
mod transfer;

fn main() -> std::process::ExitCode {
    cli::main(std::env::args_os())
}
