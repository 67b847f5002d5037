//! What the recorder promises, seen from outside.

#![allow(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod crash;
mod desktop;
mod disk;
mod exports;
mod faulty_store;
mod ocr;
mod reindex;
mod remote;
mod remote_deleted;
mod remote_s3;
mod replay;
mod session;
mod support;
mod tamper;
