//! stub
use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};
pub(crate) struct DemoOptions { pub(crate) dir: Option<PathBuf>, pub(crate) ssh: SocketAddr, pub(crate) seconds: Option<u64> }
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let a: Vec<String> = args.into_iter().map(|s| s.into_string().unwrap()).collect();
    if a[1] == "serve" { return crate::app::serve(std::path::Path::new(&a[2])); }
    crate::demo::run(DemoOptions { dir: Some(a[2].clone().into()), ssh: a[3].parse().unwrap(), seconds: None })
}
