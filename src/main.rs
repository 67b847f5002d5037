#![allow(dead_code)]
//! Cofferdam: a privileged-access bastion for industrial sites.

mod config;
mod detect;
mod gateway;
mod privileges;
mod session;
mod setup;
mod ssh;
mod transfer;
fn main() {}
