//! Each new channel of a live session is decided anew, and so is each file.

use super::{
    compiled::{Allowed, Verdict},
    facts::{Act, Person, Question, Thing},
    reasons,
    recheck::{facts, live_scope},
};
use crate::{
    clock::Timestamp,
    grant::{Dial, Grant},
    ids::Name,
    site::{Asset, Endpoint, Protocol},
    snapshot::Snapshot,
    window::{Operation, Target},
};

/// The first port that a program without privileges can listen on.
const FIRST_OF_A_PERSON: u16 = 1024;

/// What a channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelRequest<'a> {
    /// An interactive shell.
    Shell,
    /// A command.
    Exec {
        /// As the person sent it, decoded with replacement characters where it is not UTF-8.
        command: &'a str,
    },
    /// The SFTP subsystem; each file is decided by itself.
    Sftp,
    /// A file from the target.
    FileRead {
        /// Its absolute path there.
        path: &'a str,
    },
    /// A file to the target; also what creates, renames or removes one (size 0).
    FileWrite {
        /// Its absolute path there.
        path: &'a str,
        /// Its size as far as known, bytes.
        size: u64,
    },
    /// A forward.
    Forward {
        /// The host as the person named it.
        host: &'a str,
        /// The port as the person named it.
        port: u16,
    },
}

/// The answer to a [`ChannelRequest`].
#[must_use]
#[derive(Debug)]
pub enum ChannelDecision {
    /// Allowed.
    Permit(ChannelPermit),
    /// Refused.
    Deny {
        /// Why, as plain sentences.
        reasons: Vec<String>,
        /// The policies that decided, by id.
        policies: Vec<String>,
        /// The person tried to reach what the window does not cover: a blocked lateral movement.
        lateral_movement: bool,
    },
}

/// Proof that one channel, or one file, is allowed. Only the policy engine makes one.
#[derive(Debug)]
pub enum ChannelPermit {
    /// An interactive shell.
    Shell(Pass),
    /// This command.
    Exec(Pass),
    /// The SFTP subsystem.
    Sftp(Pass),
    /// This file may be read.
    FileRead(FilePermit),
    /// This file may be written.
    FileWrite(FilePermit),
    /// This forward.
    Forward(ForwardPermit),
}

/// A plain yes.
#[derive(Debug)]
pub struct Pass {
    policies: Vec<String>,
}

impl Pass {
    /// The policies that decided, by id.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }
}

/// A yes to one file.
#[derive(Debug)]
pub struct FilePermit {
    policies: Vec<String>,
    file_bytes: Option<u64>,
}

impl FilePermit {
    /// The policies that decided, by id.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }
    /// Most bytes of files in all sessions of the window together, either way. Whoever moves the bytes counts them.
    pub fn file_bytes(&self) -> Option<u64> {
        self.file_bytes
    }
}

/// How a forward reaches its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By a connection from here. Check the resolved address with [`super::DestinationRules`] before dialling.
    Dial(Dial),
    /// By the SSH connection to the asset of the session itself, whose server connects to its own loopback. Never to be
    /// dialled from here.
    OwnLoopback(Dial),
}

/// A yes to one forward, with the way to take.
#[derive(Debug)]
pub struct ForwardPermit {
    policies: Vec<String>,
    asset: Name,
    protocol: Protocol,
    way: Way,
    operations: Vec<Operation>,
    keep_full_bytes: u64,
    not_after: Timestamp,
}

impl ForwardPermit {
    /// The policies that decided, by id.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }
    /// The asset at the other end.
    pub fn asset(&self) -> &Name {
        &self.asset
    }
    /// What the endpoint speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
    /// Where to connect, and through what.
    pub fn way(&self) -> &Way {
        &self.way
    }
    /// What the window allows there.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
    /// How much of it is kept in full, bytes.
    pub fn keep_full_bytes(&self) -> u64 {
        self.keep_full_bytes
    }
    /// The moment at which it has to end, as things stand.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl Grant {
    /// Decides whether the session of this grant may do `wanted` at `now`.
    pub fn decide_channel(
        &self,
        snapshot: &Snapshot,
        wanted: ChannelRequest<'_>,
        now: Timestamp,
    ) -> ChannelDecision {
        let request = self.as_request();
        let session = match facts(self, &request, snapshot, now) {
            Ok(question) => question,
            Err(ended) => return deny("structure:session-qualifies", ended.to_string(), false),
        };
        if let Some(problem) = snapshot.policies.problem() {
            return deny("structure:policies-usable", problem.to_string(), false);
        }
        let act = match wanted {
            ChannelRequest::Forward { host, port } => {
                return self.forward(snapshot, &session, host, port, now);
            }
            ChannelRequest::Shell => Act::Shell,
            ChannelRequest::Exec { command } => Act::Exec { command },
            ChannelRequest::Sftp => Act::Sftp,
            ChannelRequest::FileRead { path } => Act::FileRead { path },
            ChannelRequest::FileWrite { path, size } => Act::FileWrite { path, size },
        };
        let question = Question { act, ..session };
        match snapshot.policies.ask(&question) {
            Verdict::Allow(proof, policies) => {
                ChannelDecision::Permit(permit(proof, act, policies, self.limits().file_bytes))
            }
            refusal => refused(snapshot, refusal, &question, false),
        }
    }

    fn forward<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        session: &Question<'a>,
        host: &str,
        port: u16,
        now: Timestamp,
    ) -> ChannelDecision {
        let shown: String =
            host.chars().take(64).filter(|c| !crate::window::text::unsafe_to_show(*c)).collect();
        let outside = |why: &str| {
            let reason =
                format!("{shown}:{port} {why}: forward to an asset of your window by its name and port");
            deny("structure:forward-within-the-window", reason, true)
        };
        let own = own_loopback(host, port).and_then(|dial| {
            let asset = snapshot.site.assets.iter().find(|a| a.name == self.account().asset)?;
            asset.dangerous_own_loopback.then_some((asset, Protocol::Tcp, Way::OwnLoopback(dial)))
        });
        let endpoint =
            || find_endpoint(snapshot, host, port).map(|(a, e)| (a, e.protocol, Way::Dial(a.dial(e))));
        let Some((asset, protocol, way)) = own.or_else(endpoint) else {
            return outside("is not an endpoint that this window covers");
        };
        let plant = snapshot.plant_state(&asset.zone);
        let target = Target::Asset(&asset.name);
        let scope = match live_scope(self, snapshot, target, plant, now) {
            Ok(scope) => scope,
            Err(ended) => return deny("structure:session-qualifies", ended.to_string(), false),
        };
        if !scope.covers {
            return outside("is not an endpoint that this window covers");
        }
        let person = Person { ..session.person };
        // What leads to a machine's own loopback is the conduit that leads to its SSH server.
        let through = if matches!(way, Way::OwnLoopback(_)) { Protocol::Ssh } else { protocol };
        let thing = Thing { protocol, ..Thing::new(snapshot, person.zone, asset, None, through) };
        if thing.path.conduit.is_none() {
            return outside("cannot be reached by any conduit from where you are");
        }
        if matches!(way, Way::OwnLoopback(_)) {
            // It gives nothing that a shell there would not give, so it takes the right to one.
            let shell = Question { act: Act::Shell, ..*session };
            let verdict = snapshot.policies.ask(&shell);
            if !matches!(verdict, Verdict::Allow(..)) {
                return refused(snapshot, verdict, &shell, false);
            }
        }
        let question = Question { act: Act::Forward { port }, thing, scope, ..*session };
        match snapshot.policies.ask(&question) {
            Verdict::Allow(_proof, policies) => {
                let end = scope.end;
                ChannelDecision::Permit(ChannelPermit::Forward(ForwardPermit {
                    policies,
                    asset: asset.name.clone(),
                    protocol,
                    way,
                    operations: Operation::ALL.into_iter().filter(|o| scope.allows(*o)).collect(),
                    keep_full_bytes: asset.keep_full_bytes.unwrap_or(snapshot.site.settings.keep_full_bytes),
                    not_after: person.user.valid_until.map_or(end, |last| last.min(end)),
                }))
            }
            refusal => refused(snapshot, refusal, &question, false),
        }
    }
}

/// A machine's own loopback as a person may name it, and a port that no system service has.
fn own_loopback(host: &str, port: u16) -> Option<Dial> {
    let named = matches!(host, "localhost" | "127.0.0.1" | "::1");
    (named && port >= FIRST_OF_A_PERSON).then(|| Dial { host: host.to_owned(), port })
}

/// The endpoint behind a host and port as a person named them: the asset's name, or its exact address. An address that
/// several assets share and that more than one answers for is none of them: nobody guesses which was approved.
fn find_endpoint<'a>(snapshot: &'a Snapshot, host: &str, port: u16) -> Option<(&'a Asset, &'a Endpoint)> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let endpoint_of = |asset: &'a Asset| asset.endpoints.iter().find(|e| e.port == port).map(|e| (asset, e));
    if let Some(asset) = snapshot.site.assets.iter().find(|a| a.name.as_str().eq_ignore_ascii_case(host)) {
        return endpoint_of(asset);
    }
    let mut by_address = snapshot
        .site
        .assets
        .iter()
        .filter(|a| a.address.eq_ignore_ascii_case(host))
        .filter_map(endpoint_of)
        .filter(|(_, e)| e.dial_host.is_none());
    let found = by_address.next()?;
    by_address.next().is_none().then_some(found)
}

fn permit(_proof: Allowed, act: Act<'_>, policies: Vec<String>, file_bytes: Option<u64>) -> ChannelPermit {
    match act {
        Act::Exec { .. } => ChannelPermit::Exec(Pass { policies }),
        Act::Sftp => ChannelPermit::Sftp(Pass { policies }),
        Act::FileRead { .. } => ChannelPermit::FileRead(FilePermit { policies, file_bytes }),
        Act::FileWrite { .. } => ChannelPermit::FileWrite(FilePermit { policies, file_bytes }),
        Act::Shell | Act::Connect | Act::Forward { .. } | Act::ViewSecret { .. } => {
            ChannelPermit::Shell(Pass { policies })
        }
    }
}

fn refused(
    snapshot: &Snapshot,
    verdict: Verdict,
    q: &Question<'_>,
    lateral_movement: bool,
) -> ChannelDecision {
    match verdict {
        Verdict::Deny(policies) => ChannelDecision::Deny {
            reasons: reasons::of_refusal(&snapshot.policies, &policies, q),
            policies,
            lateral_movement,
        },
        Verdict::Broken(reason) => deny("structure:policies-usable", reason, lateral_movement),
        Verdict::Allow(_, policies) => ChannelDecision::Deny {
            reasons: vec!["the decision contradicts itself, so it is no: report this".to_owned()],
            policies,
            lateral_movement,
        },
    }
}

fn deny(policy: &str, reason: String, lateral_movement: bool) -> ChannelDecision {
    ChannelDecision::Deny { reasons: vec![reason], policies: vec![policy.to_owned()], lateral_movement }
}

/// Whether `path` matches one of `patterns`; no patterns: any path does. `*` matches within one name, `**` any number
/// of names. A path that is not absolute, or holds `.` or `..`, matches no pattern: what it means is not ours to say.
pub(crate) fn path_is_listed(path: &str, patterns: &[String]) -> bool {
    if patterns.is_empty() {
        return true;
    }
    let names: Vec<&str> = path.split('/').filter(|n| !n.is_empty()).collect();
    let plain =
        path.starts_with('/') && !path.contains('\0') && !names.iter().any(|n| matches!(*n, "." | ".."));
    plain
        && patterns.iter().any(|p| {
            let pattern: Vec<&str> = p.split('/').filter(|n| !n.is_empty()).collect();
            p.starts_with('/') && names_match(&pattern, &names)
        })
}

/// Matches whole paths, name by name, going back to the last `**` when a name does not fit: at most the product of
/// both lengths, whatever a peer sends.
fn names_match(pattern: &[&str], names: &[&str]) -> bool {
    backtrack(pattern, names, |p| *p == "**", |p, n| name_matches(p, n))
}

fn name_matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    backtrack(&pattern, &name, |p| *p == '*', |p, n| p == n)
}

fn backtrack<P, N>(
    pattern: &[P],
    text: &[N],
    any: impl Fn(&P) -> bool,
    same: impl Fn(&P, &N) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(item) = text.get(t) {
        match pattern.get(p) {
            Some(here) if any(here) => {
                star = Some((p, t));
                p += 1;
            }
            Some(here) if same(here, item) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(any))
}
