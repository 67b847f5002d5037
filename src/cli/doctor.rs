//! What is wrong or weak: one line each, `ok`, `warn` or `fail`.

use std::path::Path;

use cofferdam_access::{
    clock::Timestamp,
    policy::CompiledPolicies,
    site::{Protocol, Site},
    store::{SCHEMA_VERSION, Store},
};
use serde_json::{Value, json};

use super::{
    error::CliError,
    output::{Reply, Table, bytes, joined},
    usage::{Room, Usage},
};
use crate::{config::Config, context::Context, ocr::Tesseract};

/// Before this no correct clock can stand: 2026-01-01.
const EARLIEST: Timestamp = Timestamp::from_seconds(1_767_225_600);
/// A clock this far behind the newest audit entry went back, seconds.
const CLOCK_SLACK: i64 = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    Warn,
    Fail,
}

impl Grade {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

struct Findings(Vec<(Grade, &'static str, String)>);

impl Findings {
    fn note(&mut self, grade: Grade, what: &'static str, text: impl Into<String>) {
        self.0.push((grade, what, text.into()));
    }

    /// `ok` with the first text, or `grade` with the list of what is not.
    fn none_of(&mut self, bad: &[String], grade: Grade, what: &'static str, ok: &str, not_ok: &str) {
        if bad.is_empty() {
            self.note(Grade::Ok, what, ok);
        } else {
            self.note(grade, what, format!("{}: {not_ok}", joined(bad)));
        }
    }
}

/// `cofferdam doctor`: goes on as far as it can after something failed.
pub(crate) async fn run(path: &Path) -> Result<Reply, CliError> {
    let mut found = Findings(Vec::new());
    match Config::load(path) {
        Ok(config) => {
            found.note(Grade::Ok, "configuration", format!("{} and the files that it names", path.display()));
            let context = Context::new(config);
            keys(&context, &mut found);
            space(&context, &mut found);
            text_on_desktops(&context, &mut found).await;
            match context.probe_remote_store().await {
                Ok(true) => {
                    found.note(Grade::Ok, "object store", "takes, lists, returns and deletes objects")
                }
                Ok(false) => {}
                Err(e) => found.note(Grade::Fail, "object store", e.to_string()),
            }
            match context.open_store().await {
                Ok(store) => {
                    found.note(Grade::Ok, "database", format!("answers, schema {SCHEMA_VERSION}"));
                    let looked = stored(&context, &store, &mut found).await;
                    store.close().await;
                    looked?;
                }
                Err(e) => found.note(Grade::Fail, "database", e.to_string()),
            }
        }
        Err(e) => found.note(Grade::Fail, "configuration", e.to_string()),
    }
    let mut table = Table::new(&["result", "what", "detail"]);
    let mut rows: Vec<Value> = Vec::new();
    for (grade, what, text) in &found.0 {
        table.row([grade.as_str(), what, text]);
        rows.push(json!({"id": what, "result": grade.as_str(), "detail": text}));
    }
    let failed = found.0.iter().any(|(grade, ..)| *grade == Grade::Fail);
    Ok(Reply::list(&table, rows).judged(!failed))
}

fn keys(context: &Context, found: &mut Findings) {
    let mut check = |what: &'static str, result: Result<String, crate::context::ContextError>| match result {
        Ok(text) => found.note(Grade::Ok, what, text),
        Err(e) => found.note(Grade::Fail, what, e.to_string()),
    };
    check(
        "audit key",
        context.audit_signer().map(|k| cofferdam_access::audit::AuditSigner::key_id(k.as_ref()).to_owned()),
    );
    check("recording key", context.recording_signer().map(|_| "signs recordings".to_owned()));
    check("vault identity", context.sealer().map(|s| s.recipient()));
    check("ssh authority", context.ssh_ca().map(|_| "user and host keys".to_owned()));
    check("recipients", context.recipients().map(|r| format!("{} can read recordings", r.read.len())));
    for file in &context.config.ssh.host_key_files {
        let readable = russh::keys::load_secret_key(file, None);
        match readable {
            Ok(key) => {
                found.note(Grade::Ok, "host key", format!("{} is {}", file.display(), key.algorithm()))
            }
            Err(e) => found.note(Grade::Fail, "host key", format!("{}: {e}", file.display())),
        }
    }
    if context.recipients().is_ok_and(|r| r.reveal.is_empty()) {
        let text = "only this machine can read recordings, so what is typed without echo is kept for nobody: add an \
                    investigators' recipient";
        found.note(Grade::Warn, "recipients", text);
    }
    if context.config.dangerous.allow_loopback_targets {
        found.note(
            Grade::Warn,
            "dangerous",
            "allow_loopback_targets is on: targets may be on this machine itself",
        );
    }
}

fn space(context: &Context, found: &mut Findings) {
    let config = &context.config.recordings;
    match Usage::measure(config, context.now()) {
        Ok(usage) => {
            let text = format!(
                "{} free for {}; {} recordings take {}; {}",
                bytes(usage.free),
                config.dir.display(),
                usage.recordings,
                bytes(usage.bytes),
                usage.outlook()
            );
            let grade = match usage.room(config) {
                Room::Enough => Grade::Ok,
                Room::Low => Grade::Warn,
                Room::None => Grade::Fail,
            };
            let least = bytes(config.min_free_bytes);
            let text = if grade == Grade::Ok {
                text
            } else {
                format!("{text}; sessions are refused below {least}: make room")
            };
            found.note(grade, "free space", text);
        }
        Err(e) => found.note(Grade::Fail, "free space", e.to_string()),
    }
}

/// Whether the text on desktops can be read, where that is wanted.
async fn text_on_desktops(context: &Context, found: &mut Findings) {
    let Some(ocr) = &context.config.ocr else { return };
    match Tesseract::new(ocr, &context.config.vault).check().await {
        Ok(()) => {
            let languages = ocr.languages.join(", ");
            found.note(Grade::Ok, "text on desktops", format!("{} reads {languages}", ocr.program.display()));
        }
        Err(why) => found.note(Grade::Fail, "text on desktops", why),
    }
}

async fn stored(context: &Context, store: &Store, found: &mut Findings) -> Result<(), CliError> {
    clock(context, store, found).await?;
    let site = store.site().await?;
    match CompiledPolicies::compile(&site).problem() {
        Some(problem) => {
            found.note(Grade::Fail, "policies", format!("{problem}; everything is refused until then"))
        }
        None => {
            found.note(Grade::Ok, "policies", format!("compile together, {} own files", site.policies.len()))
        }
    }
    assets(&site, found);
    desktops(&context.config, &site, found);
    let kept = store.secrets().await?;
    let without: Vec<String> = site
        .accounts
        .iter()
        .filter(|a| a.needs_secret() && !a.disabled)
        .map(|a| a.reference())
        .filter(|a| !kept.iter().any(|(k, ..)| k == a))
        .map(|a| a.to_string())
        .collect();
    let next = "no secret in the vault: cofferdam account set-secret LOGIN@ASSET";
    found.none_of(&without, Grade::Warn, "secrets", "every account that needs one has one", next);
    people(context, store, &site, found).await
}

async fn clock(context: &Context, store: &Store, found: &mut Findings) -> Result<(), CliError> {
    let now = context.now();
    let newest = store.head().await?.map(|h| h.at);
    if now < EARLIEST {
        found.note(Grade::Fail, "clock", format!("it shows {now}, which cannot be: set it"));
    } else if newest.is_some_and(|at| now.plus_seconds(CLOCK_SLACK) < at) {
        found.note(
            Grade::Fail,
            "clock",
            format!("it shows {now}, before the newest audit entry: it went back; set it"),
        );
    } else {
        found.note(Grade::Ok, "clock", now.to_string());
    }
    Ok(())
}

fn desktops(config: &Config, site: &Site, found: &mut Findings) {
    let some = site.assets.iter().any(|a| !a.disabled && a.speaks(Protocol::Rdp));
    if some && config.rdp.is_none() {
        let text = "there are rdp assets, and no [rdp] section: nobody gets to their desktops";
        found.note(Grade::Warn, "desktops", text);
    }
    let Some(rdp) = &config.rdp else { return };
    let (Some(chain), Some(key)) = (&rdp.certificate_file, &rdp.key_file) else { return };
    match cofferdam_web::Certificates::load(chain, key) {
        Ok(certificate) => {
            let text = format!("{} is good until {}", chain.display(), certificate.ends());
            found.note(Grade::Ok, "rdp certificate", text);
        }
        Err(e) => found.note(Grade::Fail, "rdp certificate", e.to_string()),
    }
}

fn assets(site: &Site, found: &mut Findings) {
    let enabled = || site.assets.iter().filter(|a| !a.disabled);
    let ssh = |a: &&cofferdam_access::site::Asset| a.endpoints.iter().any(|e| e.protocol == Protocol::Ssh);
    let unpinned: Vec<String> =
        enabled().filter(ssh).filter(|a| a.host_keys.is_empty()).map(|a| a.name.to_string()).collect();
    let next = "no host key is pinned, nobody can connect: cofferdam asset trust NAME";
    found.none_of(&unpinned, Grade::Warn, "host keys", "every ssh asset has a pinned key", next);
    let unpinned: Vec<String> = enabled()
        .filter(|a| a.speaks(Protocol::Rdp) && a.desktop_keys().is_empty())
        .map(|a| a.name.to_string())
        .collect();
    let next = "no key of the desktop is pinned, nobody can connect: cofferdam asset trust NAME --rdp";
    found.none_of(&unpinned, Grade::Warn, "desktop keys", "every rdp asset has a pinned key", next);
    let weak: Vec<String> = enabled()
        .filter(|a| !a.dangers().is_empty())
        .map(|a| format!("{} ({})", a.name, a.dangers().join(", ")))
        .collect();
    found.none_of(
        &weak,
        Grade::Warn,
        "dangerous",
        "no asset needs old algorithms or forwards to its own loopback",
        "weak on purpose; take it back when you can",
    );
    let cut_off: Vec<String> = enabled()
        .filter(|a| {
            !site
                .conduits
                .iter()
                .any(|c| c.to == a.zone && (c.assets.is_empty() || c.assets.contains(&a.name)))
        })
        .map(|a| a.name.to_string())
        .collect();
    found.none_of(
        &cut_off,
        Grade::Warn,
        "conduits",
        "one leads to every asset",
        "no conduit leads there, nobody can connect",
    );
}

async fn people(context: &Context, store: &Store, site: &Site, found: &mut Findings) -> Result<(), CliError> {
    let now = context.now();
    let (mut unenrolled, mut approvers) = (Vec::new(), Vec::new());
    for user in site.users.iter().filter(|u| u.is_active(now)) {
        let kept = store.credentials(&user.name).await?;
        if kept.is_none_or(|k| k.totp_sealed.is_none()) {
            unenrolled.push(user.name.to_string());
        }
        approvers
            .extend(user.duties.iter().filter(|d| d.approves()).map(|d| (d.as_str(), user.name.as_str())));
    }
    let next = "no second factor, they cannot log in: cofferdam user invite NAME";
    found.none_of(&unenrolled, Grade::Warn, "people", "everybody has a second factor", next);
    let missing: Vec<String> = ["operations", "security"]
        .into_iter()
        .filter(|duty| !approvers.iter().any(|(d, _)| d == duty))
        .map(str::to_owned)
        .collect();
    let next = "nobody active holds this duty, no window can be approved";
    found.none_of(&missing, Grade::Warn, "approvers", "both duties are held", next);
    Ok(())
}
