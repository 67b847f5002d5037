#![forbid(unsafe_code)]
//! Cofferdam: a privileged-access bastion for industrial sites.
mod ssh;
mod session;
fn main() {}
