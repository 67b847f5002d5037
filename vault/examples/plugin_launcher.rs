//! The sandbox's way in, as a program of its own: what the product's binary does by a command. Tests start plug-ins by it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cofferdam_vault::rotation::plugin::launcher_main(std::env::args_os().skip(1))
}
