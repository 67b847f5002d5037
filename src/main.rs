//! Cofferdam: a privileged-access bastion for industrial sites.

// Gives the memory of ended sessions back to the system; `.cargo/config.toml` says how it is set.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cofferdam::main(std::env::args_os())
}
