//! stub
use std::{net::SocketAddr, sync::Arc, path::PathBuf};
use russh::keys::{Certificate, PublicKey};
use cofferdam_access::ids::Name;
use super::connection::{Identity, Named};
use crate::gateway::Gateway;
pub(crate) enum Answer { Accept, Reject, ThenAsk, Ask { instructions: String, prompt: String, echo: bool } }
#[derive(Debug, Default)] pub(crate) struct Throttle;
#[derive(Debug, Default)] pub(crate) struct TrustedAuthorities;
impl TrustedAuthorities { pub(crate) fn read(_: &[PathBuf]) -> Result<Self, String> { Ok(Self) } }
pub(crate) fn totp_context(name: &Name) -> cofferdam_vault::Context { cofferdam_vault::Context::new("totp", name.to_string()) }
pub(crate) struct Login;
impl Login {
 pub(crate) fn new(_: Arc<Gateway>, _: SocketAddr) -> Self { Self }
 pub(crate) fn may_sign(&self, _: &str, _: &PublicKey) -> bool { true }
 pub(crate) async fn key(&mut self, _: &str, _: &PublicKey) -> Answer { Answer::Reject }
 pub(crate) async fn certificate(&mut self, _: &str, _: &Certificate) -> Answer { Answer::Reject }
 pub(crate) async fn password(&mut self, _: &str, _: &str) -> Answer { Answer::Reject }
 pub(crate) async fn interactive(&mut self, _: &str, _: Option<&[u8]>) -> Answer { Answer::Reject }
 pub(crate) fn done(&mut self) -> Option<(Identity, Option<Named>)> { None }
}
