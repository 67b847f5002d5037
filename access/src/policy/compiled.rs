//! The policy set of a site: compiled once per revision, whole or not at all.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context as Sha, SHA256};
use cedar_policy::{
    Authorizer, Decision, Effect, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, Schema,
    ValidationMode, Validator,
};

use super::{entities, facts::Question};
use crate::{
    clock::Timestamp,
    local_time::{SiteZone, TimeError},
    site::Site,
};

const SCHEMA: &str = include_str!("../../policies/cofferdam.cedarschema");
const SHIPPED: &str = include_str!("../../policies/shipped.cedar");
/// In front of the ids of shipped policies. A site's ids begin with the name of their file, and no file is called so.
const SHIPPED_PREFIX: &str = "cofferdam";
/// In front of the ids of what is checked before any policy is asked.
const STRUCTURE_PREFIX: &str = "structure";
/// Largest policy file, bytes, and most policies in all: keeps a decision quick whatever somebody applies.
const LARGEST_FILE: usize = 256 << 10;
const MOST_POLICIES: usize = 1000;

/// Why a policy set cannot be used. The fault is the site file's; while it lasts, everything is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Cedar cannot read it.
    #[error("policy file {file} does not parse: {detail}; correct it and apply the site again")]
    Parse {
        /// Which file.
        file: String,
        /// Cedar's words.
        detail: String,
    },
    /// It speaks of something that the schema does not have, or compares what cannot be compared.
    #[error("policy {policy} does not fit the schema: {detail}; correct it and apply the site again")]
    Invalid {
        /// Which policy.
        policy: String,
        /// Cedar's words.
        detail: String,
    },
    /// It uses templates.
    #[error("policy file {0} holds a template: write each policy out")]
    Template(String),
    /// Two policies of one id.
    #[error("two policies have the id {0}: give each its own @id")]
    DuplicateId(String),
    /// A file is named as what is built in.
    #[error("no policy file may be called {0}: rename it")]
    ReservedName(String),
    /// Too large.
    #[error("policy file {0} is too large, or there are more than 1000 policies: write fewer, broader ones")]
    TooLarge(String),
    /// The site's time zone is unknown.
    #[error(transparent)]
    Zone(#[from] TimeError),
}

/// Cedar said yes to one question. Nothing else makes one, and a grant costs one.
#[derive(Debug)]
pub(crate) struct Allowed(());

/// What Cedar said.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Yes, by these policies.
    Allow(Allowed, Vec<String>),
    /// No, by these (none: no policy permits it).
    Deny(Vec<String>),
    /// No, because the set or a policy in it cannot be evaluated.
    Broken(String),
}

/// A policy in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// `file:id`.
    pub id: String,
    /// It came with the program; otherwise the site added it.
    pub shipped: bool,
    /// It takes away; otherwise it gives.
    pub forbids: bool,
    /// What it says to people whom it refuses.
    pub reason: Option<String>,
    /// Its Cedar text.
    pub text: String,
}

/// The shipped policies and the site's own, ready to decide. A set of which any part failed refuses everything.
#[derive(Debug)]
pub struct CompiledPolicies {
    state: Result<Engine, PolicyError>,
    digest: String,
}

#[derive(Debug)]
struct Engine {
    policies: PolicySet,
    reasons: BTreeMap<String, String>,
    authorizer: Authorizer,
    vocabulary: Vocabulary,
    zone: SiteZone,
    looks: Looks,
}

/// What the site's own policies can tell apart.
#[derive(Debug, Clone, Copy, Default)]
struct Looks {
    files: bool,
    sizes: bool,
    times: Option<Resolution>,
}

/// How finely policies can tell one time from another; the finer one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Resolution {
    /// Each moment may be another: they speak of seconds, or of the present as such.
    Seconds,
    /// Only hours and days of the site's zone, which begin with whole minutes of UTC wherever the zone lies.
    Minutes,
}

impl Resolution {
    const fn seconds(self) -> i64 {
        match self {
            Self::Seconds => 1,
            Self::Minutes => 60,
        }
    }
}

/// Names that every question needs, parsed once.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) user: EntityTypeName,
    pub(crate) organisation: EntityTypeName,
    pub(crate) duty: EntityTypeName,
    pub(crate) zone: EntityTypeName,
    pub(crate) asset: EntityTypeName,
    pub(crate) account: EntityTypeName,
    pub(crate) actions: BTreeMap<&'static str, EntityUid>,
    pub(crate) schema: Schema,
}

impl CompiledPolicies {
    /// Compiles the shipped policies and those of `site`. Never fails: a set that cannot be used refuses everything
    /// and says why ([`Self::problem`]).
    pub fn compile(site: &Site) -> Self {
        Self { state: Engine::build(site), digest: digest(site) }
    }

    /// Why the set refuses everything, if it does.
    pub fn problem(&self) -> Option<&PolicyError> {
        self.state.as_ref().err()
    }

    /// SHA-256 over the schema and every policy text, lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The ids of all policies in use, sorted; empty when the set cannot be used.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.state.iter().flat_map(|e| e.policies.policies()).map(|p| p.id().to_string()).collect();
        ids.sort();
        ids
    }

    /// All policies in use with their text, sorted by id; empty when the set cannot be used.
    pub fn texts(&self) -> Vec<PolicyText> {
        let mut all: Vec<PolicyText> = self
            .state
            .iter()
            .flat_map(|e| e.policies.policies())
            .map(|p| {
                let id = p.id().to_string();
                PolicyText {
                    shipped: id.split_once(':').is_some_and(|(file, _)| file == SHIPPED_PREFIX),
                    forbids: p.effect() == Effect::Forbid,
                    reason: p.annotation("reason").map(str::to_owned),
                    text: p.to_string(),
                    id,
                }
            })
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// The site's time zone; none when the set cannot be used.
    pub fn zone(&self) -> Option<&SiteZone> {
        self.state.as_ref().ok().map(|e| &e.zone)
    }

    /// Whether a policy of the site's own can tell one file from another. Where none can, nothing is decided by asking for
    /// each file: what the shipped ones say of files is the window's and the conduit's, which whoever moves files enforces.
    /// A set that cannot be used refuses every file.
    pub fn look_at_files(&self) -> bool {
        self.state.as_ref().map_or(true, |engine| engine.looks.files)
    }

    /// Whether a policy of the site's own can tell one size of a file from another.
    pub fn look_at_sizes(&self) -> bool {
        self.state.as_ref().map_or(true, |engine| engine.looks.sizes)
    }

    /// The first moment after `now` at which a policy of the site's own may answer otherwise only because time passes; none
    /// where it cannot. What the shipped ones say of time is the window's, and sessions know its end.
    pub fn may_change_at(&self, now: Timestamp) -> Option<Timestamp> {
        let resolution = self.state.as_ref().map_or(Some(Resolution::Seconds), |e| e.looks.times)?;
        let step = resolution.seconds();
        Some(Timestamp::from_seconds((now.seconds().div_euclid(step) + 1).saturating_mul(step)))
    }

    /// What the policy of that id says to people.
    pub(crate) fn reason(&self, id: &str) -> Option<&str> {
        self.state.as_ref().ok()?.reasons.get(id).map(String::as_str)
    }

    /// Puts one question to Cedar.
    pub(crate) fn ask(&self, question: &Question<'_>) -> Verdict {
        match &self.state {
            Ok(engine) => engine.ask(question),
            Err(problem) => Verdict::Broken(problem.to_string()),
        }
    }
}

impl Engine {
    fn build(site: &Site) -> Result<Self, PolicyError> {
        let zone = SiteZone::new(&site.settings.time_zone)?;
        let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| PolicyError::Parse {
            file: "cofferdam.cedarschema".to_owned(),
            detail: e.to_string(),
        })?;
        let mut policies = PolicySet::new();
        add_file(&mut policies, SHIPPED_PREFIX, SHIPPED)?;
        for file in &site.policies {
            if [SHIPPED_PREFIX, STRUCTURE_PREFIX].contains(&file.name.as_str()) {
                return Err(PolicyError::ReservedName(file.name.to_string()));
            }
            add_file(&mut policies, file.name.as_str(), &file.text)?;
        }
        validate(&policies, &schema)?;
        let own = policies.policies().filter(|p| !is_shipped(p));
        let looks = own.map(Looks::of).fold(Looks::default(), Looks::or);
        let reasons = policies
            .policies()
            .filter_map(|p| Some((p.id().to_string(), p.annotation("reason")?.to_owned())))
            .collect();
        Ok(Self {
            policies,
            reasons,
            authorizer: Authorizer::new(),
            vocabulary: Vocabulary::new(schema)?,
            zone,
            looks,
        })
    }

    fn ask(&self, question: &Question<'_>) -> Verdict {
        let (request, entities) = match entities::build(question, &self.vocabulary, &self.zone) {
            Ok(built) => built,
            Err(e) => return Verdict::Broken(format!("the facts do not fit the schema: {e}; report this")),
        };
        let response = self.authorizer.is_authorized(&request, &self.policies, &entities);
        // Cedar leaves a policy that fails out of the decision. Were it a forbid, that would let through what it
        // guards against: an error therefore refuses.
        if let Some(error) = response.diagnostics().errors().next() {
            return Verdict::Broken(format!("a policy could not be evaluated: {error}; correct that policy"));
        }
        let mut ids: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        ids.sort();
        match response.decision() {
            Decision::Allow => Verdict::Allow(Allowed(()), ids),
            Decision::Deny => Verdict::Deny(ids),
        }
    }
}

impl Looks {
    /// By the words of the policy, so that one too many rather than one too few is asked.
    fn of(policy: &Policy) -> Self {
        let Ok(json) = policy.to_json() else {
            return Self { files: true, sizes: true, times: Some(Resolution::Seconds) };
        };
        let part = |name: &str| json.get(name).map(ToString::to_string).unwrap_or_default();
        let (scope, conditions) = (part("action"), part("conditions"));
        let speaks = |words: &[&str]| words.iter().any(|word| conditions.contains(word));
        let named = scope.contains("file_read") || scope.contains("file_write");
        Self {
            files: named || speaks(&["path", "bytes", "size_allowed", "action"]),
            sizes: speaks(&["bytes", "size_allowed"]),
            times: if speaks(&["now", "seconds"]) {
                Some(Resolution::Seconds)
            } else {
                speaks(&["local_hour", "local_weekday"]).then_some(Resolution::Minutes)
            },
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            files: self.files || other.files,
            sizes: self.sizes || other.sizes,
            // The finer of the two, where both look.
            times: self.times.into_iter().chain(other.times).min(),
        }
    }
}

fn is_shipped(policy: &Policy) -> bool {
    policy.id().to_string().strip_prefix(SHIPPED_PREFIX).is_some_and(|rest| rest.starts_with(':'))
}

impl Vocabulary {
    fn new(schema: Schema) -> Result<Self, PolicyError> {
        let wrong = |detail: String| PolicyError::Parse { file: "cofferdam.cedarschema".to_owned(), detail };
        let named = |s: &str| s.parse::<EntityTypeName>().map_err(|e| wrong(e.to_string()));
        let action = named("Action")?;
        let actions = super::facts::ACTIONS
            .into_iter()
            .map(|a| (a, EntityUid::from_type_name_and_id(action.clone(), cedar_policy::EntityId::new(a))))
            .collect();
        Ok(Self {
            user: named("User")?,
            organisation: named("Organisation")?,
            duty: named("Duty")?,
            zone: named("Zone")?,
            asset: named("Asset")?,
            account: named("Account")?,
            actions,
            schema,
        })
    }
}

/// Adds every policy of one file under the id `file:id`, where id is its `@id` or its place in the file.
fn add_file(set: &mut PolicySet, file: &str, text: &str) -> Result<(), PolicyError> {
    if text.len() > LARGEST_FILE {
        return Err(PolicyError::TooLarge(file.to_owned()));
    }
    let parsed: PolicySet = text.parse().map_err(|e: cedar_policy::ParseErrors| PolicyError::Parse {
        file: file.to_owned(),
        detail: in_full(&e),
    })?;
    if parsed.templates().next().is_some() {
        return Err(PolicyError::Template(file.to_owned()));
    }
    for policy in parsed.policies() {
        let id = policy.annotation("id").map_or_else(|| policy.id().to_string(), str::to_owned);
        let id = format!("{file}:{id}");
        let renamed: Policy = policy.new_id(PolicyId::new(&id));
        set.add(renamed).map_err(|_| PolicyError::DuplicateId(id))?;
        if set.num_of_policies() > MOST_POLICIES {
            return Err(PolicyError::TooLarge(file.to_owned()));
        }
    }
    Ok(())
}

fn validate(policies: &PolicySet, schema: &Schema) -> Result<(), PolicyError> {
    let result = Validator::new(schema.clone()).validate(policies, ValidationMode::Strict);
    if let Some(e) = result.validation_errors().next() {
        return Err(PolicyError::Invalid { policy: e.policy_id().to_string(), detail: in_full(e) });
    }
    // A forbid that can never match guards nothing, though its author thinks so.
    let dead_forbid = result.validation_warnings().find(|w| {
        matches!(w, cedar_policy::ValidationWarning::ImpossiblePolicy(_))
            && policies.policy(w.policy_id()).is_some_and(|p| p.effect() == Effect::Forbid)
    });
    match dead_forbid {
        Some(w) => Err(PolicyError::Invalid { policy: w.policy_id().to_string(), detail: w.to_string() }),
        None => Ok(()),
    }
}

/// An error and what lies beneath it, on one line.
fn in_full(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut below = e.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        below = cause.source();
    }
    text.replace('\n', " ")
}

fn digest(site: &Site) -> String {
    let mut sha = Sha::new(&SHA256);
    let own = site.policies.iter().map(|p| (p.name.as_str(), p.text.as_str()));
    for (name, text) in [("schema", SCHEMA), (SHIPPED_PREFIX, SHIPPED)].into_iter().chain(own) {
        for part in [name, text] {
            // Lengths in front keep one text from posing as the end of another.
            sha.update(&(part.len() as u64).to_be_bytes());
            sha.update(part.as_bytes());
        }
    }
    hex::encode(sha.finish())
}
