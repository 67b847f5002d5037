//! Cofferdam: a privileged-access bastion for industrial sites.

fn main() -> std::process::ExitCode {
    cofferdam::main(std::env::args_os())
}
