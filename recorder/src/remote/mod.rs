//! Recordings in an object store.
//!
//! A recording is written to the local folder first and only there: whether a byte is durable never depends on the network.
//! Beside the writer an [`Uploader`] brings each file to the store in parts of whole segments, and once it is sealed its
//! side files and a manifest; reads everything back; and only then removes it here. An [`Archive`] gets it back.
//!
//! Invariant: nothing is removed here that the store did not return whole, byte for byte, after the seal.
//! Invariant: what a store returns is held against the manifest's digests before it is used, and the recording proves
//! itself by its signatures, as everywhere.

mod archive;
mod buried;
mod error;
mod manifest;
mod spool;
mod store;
mod thread;
mod uploader;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use manifest::fuzz_manifest;

pub use archive::{Archive, Archived};
pub use error::RemoteError;
pub use store::{RemoteStore, S3Settings};
pub use thread::UploaderThread;
pub use uploader::{Jitter, Round, UploadConfig, Uploader};
