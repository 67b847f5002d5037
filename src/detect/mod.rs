//! stub
use std::net::IpAddr;
#[derive(Debug, Default)] pub(crate) struct EchoGuard;
impl EchoGuard { pub(crate) fn typed(&mut self, _: &[u8]) {} pub(crate) fn shown(&mut self, _: &[u8]) -> Vec<u8> { Vec::new() } }
#[derive(Debug, Default)] pub(crate) struct LineTracker;
impl LineTracker { pub(crate) fn shown(&mut self, _: &[u8]) {} pub(crate) fn command_at_enter(&mut self) -> Option<String> { None } }
#[derive(Debug, Clone, Copy)] pub(crate) enum Response { Notify, Suspend, End }
impl Response { pub(crate) fn as_str(self) -> &'static str { "notify" } }
#[derive(Debug, Clone, Copy)] pub(crate) enum Severity { Low }
impl Severity { pub(crate) fn as_str(self) -> &'static str { "low" } }
#[derive(Debug)] pub(crate) struct Finding { pub(crate) trigger: &'static str, pub(crate) severity: Severity, pub(crate) text: String, pub(crate) response: Response }
pub(crate) enum Observation<'a> { Command { text: &'a str }, RefusedFile, FileMoved { bytes: u64 }, RefusedForward, NewSource { source: IpAddr }, Elsewhere { source: IpAddr }, OutsideOperations { what: &'a str } }
#[derive(Debug, Default)] pub(crate) struct Triggers;
impl Triggers { pub(crate) fn observe(&mut self, _: Observation<'_>, _: i64) -> Vec<Finding> { Vec::new() } }
#[derive(Debug, Default)] pub(crate) struct TriggerConfig;
impl TriggerConfig { pub(crate) fn start(&self) -> Triggers { Triggers } }
