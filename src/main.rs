//! Cofferdam: a privileged-access bastion for industrial sites.

mod app;
mod cli;
mod config;
mod context;
mod demo;
mod detect;
mod gateway;
mod privileges;
mod session;
mod setup;
mod ssh;
mod transfer;

// Gives the memory of ended sessions back to the system; `.cargo/config.toml` says how it is set.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main(std::env::args_os())
}
