//! Cofferdam: a privileged-access bastion for industrial sites. The program's whole code; a library only so that `fuzz/`
//! reaches its parsers.

mod app;
mod authorities;
mod checkouts;
mod cli;
mod config;
mod context;
mod demo;
mod detect;
mod erasure;
mod forms;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod keys;
mod ocr;
mod privileges;
mod rdp;
mod records;
mod rotation;
mod session;
mod setup;
mod ssh;
mod transfer;
mod web;

/// Does what the command line says.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    cli::main(args)
}
