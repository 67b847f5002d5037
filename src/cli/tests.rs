//! Commands against a fresh installation in a folder of its own; no gateway runs, and time stands where a test puts it.

mod vault;

use std::sync::Arc;

use clap::Parser as _;
use cofferdam_access::{
    clock::{Clock as _, ManualClock, Timestamp},
    ids::Name,
    password::{Costs, StoredPassword},
    totp::TotpSecret,
};
use cofferdam_vault::SecretBytes;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Cli, Command, desk::Desk, error::CliError, on_store, output::Reply, prompt::Prompt, proof::prove,
};
use crate::{config::Config, context::Context};

const NOON: Timestamp = Timestamp::from_seconds(1_800_014_400);
const PASSWORD: &str = "correct horse battery";
const SITE: &str = r#"
[settings]
time_zone = "Europe/Berlin"
[[organisations]]
name = "plant"
kind = "plant"
[[organisations]]
name = "pumpco"
kind = "vendor"
[[users]]
name = "ada"
organisation = "plant"
duties = ["administrator"]
[[users]]
name = "vera"
organisation = "pumpco"
duties = ["vendor"]
[[users]]
name = "olga"
organisation = "plant"
duties = ["operations"]
[[users]]
name = "sam"
organisation = "plant"
duties = ["security"]
[[zones]]
name = "remote"
networks = ["127.0.0.0/8"]
[[zones]]
name = "pumps"
critical = true
[[conduits]]
name = "service"
from = "remote"
to = "pumps"
protocols = ["ssh"]
[[assets]]
name = "pump-hmi"
zone = "pumps"
address = "127.0.0.1"
criticality = "high"
endpoints = [{ protocol = "ssh", port = 22 }]
[[accounts]]
asset = "pump-hmi"
login = "root"
credential = "password"
"#;

/// An installation whose clock stands still.
struct Plant {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Plant {
    /// Made by `init`, with the site above applied.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let Command::Init(args) = parse(&["init", "--dir", home.to_str().unwrap(), "--admin", "ada"]) else {
            panic!("not init")
        };
        let made = super::init::run(args).await.unwrap();
        assert!(made.text.contains("next:"), "{}", made.text);
        // The files of `init` are of the real present; everything after it happens at noon.
        let plant = Self { folder, clock: Arc::new(ManualClock::new(NOON)) };
        std::fs::write(plant.path("site.toml"), SITE).unwrap();
        plant.done(&["apply", "--yes", plant.path("site.toml").to_str().unwrap()]).await;
        plant
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn desk(&self) -> Desk {
        let mut context = Context::new(Config::load(&self.path("home/cofferdam.toml")).unwrap());
        context.clock = self.clock.clone();
        Desk::with(context).await.unwrap()
    }

    async fn run(&self, args: &[&str]) -> Result<Reply, CliError> {
        let desk = self.desk().await;
        let reply = on_store(&desk, parse(args)).await;
        desk.close().await;
        reply
    }

    async fn done(&self, args: &[&str]) {
        assert!(self.run(args).await.unwrap().ok);
    }

    async fn json(&self, args: &[&str]) -> Value {
        self.run(args).await.unwrap().json
    }

    /// Gives `name` a password, quick to check, and a second factor.
    async fn enrol(&self, name: &str) -> TotpSecret {
        let desk = self.desk().await;
        let name = Name::new(name).unwrap();
        let quick = Costs { memory_kib: 8, passes: 1, lanes: 1 };
        let hash = StoredPassword::new(PASSWORD, quick, &mut rand::rng()).unwrap();
        desk.store.set_password(&desk.own_act(), &name, hash.as_phc()).await.unwrap();
        let secret = TotpSecret::generate(&mut rand::rng());
        let sealed = desk.context.factors().unwrap().seal(&name, &secret).unwrap();
        desk.store.set_totp(&desk.own_act(), &name, &sealed).await.unwrap();
        desk.close().await;
        secret
    }
}

fn parse(args: &[&str]) -> Command {
    Cli::try_parse_from(["cofferdam"].iter().chain(args)).unwrap_or_else(|e| panic!("{e}")).command
}

/// Somebody who types these answers.
struct Typed(Vec<String>);

impl Prompt for Typed {
    fn secret(&mut self, _: &str) -> Result<Zeroizing<String>, CliError> {
        Ok(Zeroizing::new(self.0.remove(0)))
    }
    fn agreed(&mut self, _: &str) -> Result<bool, CliError> {
        Ok(self.0.remove(0) == "y")
    }
}

#[test]
fn the_description_of_the_arguments_holds_together() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

#[test]
fn misuse_is_told_from_failure() {
    let misuse =
        |args: &[&str]| Cli::try_parse_from(["cofferdam"].iter().chain(args)).unwrap_err().exit_code();
    assert_eq!(misuse(&["nonsense"]), 2);
    assert_eq!(misuse(&["window", "approve", "not-an-id", "--as", "sam", "--duty", "security"]), 2);
    assert_eq!(misuse(&["plant-state", "set", "pumps", "sleepy"]), 2);
    let id = "01a2076a-e7f8-7749-bbcd-e7d2f67cef4a";
    assert_eq!(misuse(&["window", "approve", id, "--as", "sam", "--duty", "vendor"]), 2);
    assert_eq!(misuse(&["window", "request", "--as", "vera", "--end", "+1h", "--purpose", "x"]), 2);
    // What restricts takes no proof, what opens knows no way around it.
    assert_eq!(misuse(&["session", "resume", id]), 2);
    parse(&["session", "kill", id]);
    // Options of the whole program may stand anywhere.
    parse(&["window", "list", "--json", "--config", "x"]);
}

#[tokio::test]
async fn a_code_proves_a_person_once_and_only_with_the_password() {
    let plant = Plant::new().await;
    let secret = plant.enrol("vera").await;
    let desk = plant.desk().await;
    let vera = Name::new("vera").unwrap();
    let code = secret.code_at(NOON);
    let typed = |password: &str, code: &str| Typed(vec![password.to_owned(), code.to_owned()]);
    for (password, given) in [("wrong horse battery", code.as_str()), (PASSWORD, "000000x"), ("", "")] {
        let said = prove(&desk, &vera, "a test", &mut typed(password, given)).await.unwrap_err();
        assert!(matches!(said, CliError::NotProved(_)), "{said}");
    }
    let act = prove(&desk, &vera, "a test", &mut typed(PASSWORD, &code)).await.unwrap();
    assert_eq!((act.actor.as_str(), act.at), ("vera", NOON));
    prove(&desk, &vera, "a test", &mut typed(PASSWORD, &code)).await.unwrap_err();
    let failed = plant.json(&["audit", "tail", "--kind", "login.failed"]).await;
    assert_eq!(failed.as_array().unwrap().len(), 4);
    assert!(!failed.to_string().contains(&code) && !failed.to_string().contains("horse"));
    let used = plant.json(&["audit", "tail", "--kind", "second_factor.used"]).await;
    assert_eq!(used[0]["body"]["for"], "a test");
}

#[tokio::test]
async fn many_failures_make_the_next_attempt_wait_and_not_for_good() {
    let plant = Plant::new().await;
    let secret = plant.enrol("vera").await;
    let desk = plant.desk().await;
    let vera = Name::new("vera").unwrap();
    let typed = |password: &str, at| Typed(vec![password.to_owned(), secret.code_at(at)]);
    for _ in 0..5 {
        prove(&desk, &vera, "a test", &mut typed("wrong horse battery", NOON)).await.unwrap_err();
    }
    let said = prove(&desk, &vera, "a test", &mut typed(PASSWORD, NOON)).await.unwrap_err().to_string();
    assert!(said.contains("try again in 60 s"), "{said}");
    plant.clock.advance(61);
    prove(&desk, &vera, "a test", &mut typed(PASSWORD, plant.clock.now())).await.unwrap();
}

#[tokio::test]
async fn an_unknown_person_and_one_without_credentials_prove_nothing() {
    let plant = Plant::new().await;
    let desk = plant.desk().await;
    let mut typed = Typed(vec![PASSWORD.to_owned(), "123456".to_owned()]);
    prove(&desk, &Name::new("nobody").unwrap(), "a test", &mut typed).await.unwrap_err();
    prove(&desk, &Name::new("vera").unwrap(), "a test", &mut typed).await.unwrap_err();
}

/// Types the password and the code of now.
fn proof(secret: &TotpSecret, at: Timestamp) -> Typed {
    Typed(vec![PASSWORD.to_owned(), secret.code_at(at)])
}

async fn window(plant: &Plant, args: &[&str], secret: &TotpSecret) -> Result<Reply, CliError> {
    let Command::Window(command) = parse(&[&["window"], args].concat()) else { panic!("not window") };
    let desk = plant.desk().await;
    let mut typed = proof(secret, desk.now());
    super::window::act(&desk, command, &mut typed).await
}

#[tokio::test]
async fn a_window_opens_by_two_duties_and_is_ended_by_an_operator_for_somebody() {
    let plant = Plant::new().await;
    let (vera, olga, sam) = (plant.enrol("vera").await, plant.enrol("olga").await, plant.enrol("sam").await);
    let request = [
        "request",
        "--as",
        "vera",
        "--account",
        "root@pump-hmi",
        "--operation",
        "operate",
        "--purpose",
        "seals",
    ];
    let made = window(&plant, &[&request[..], &["--end", "tomorrow 06:00"]].concat(), &vera).await.unwrap();
    let id = made.json["id"].as_str().unwrap().to_owned();
    // Noon in UTC is 13:00 in Berlin in January; 06:00 there is 05:00 UTC.
    assert_eq!(made.json["end"], "2027-01-16T05:00:00Z");
    assert!(
        made.text.contains("2027-01-16 06:00 +01:00")
            && made.text.contains(made.json["digest"].as_str().unwrap())
    );
    let approve = |who, duty| vec!["approve", &id, "--as", who, "--duty", duty];
    window(&plant, &approve("sam", "operations"), &sam).await.unwrap_err();
    let remarking = [&approve("olga", "operations")[..], &["--remark", "mind valve 7"]].concat();
    let first = window(&plant, &remarking, &olga).await.unwrap();
    assert_eq!(
        (&first.json["phase"], first.text.contains("security is still missing")),
        (&"requested".into(), true)
    );
    window(&plant, &approve("sam", "security"), &olga).await.unwrap_err();
    let second = window(&plant, &approve("sam", "security"), &sam).await.unwrap();
    assert_eq!((&second.json["state"], &second.json["phase"]), (&"approved".into(), &"open".into()));
    assert_eq!(second.json["approvals"].as_array().unwrap().len(), 2);
    assert_eq!(second.json["approvals"][0]["remark"], "mind valve 7");
    assert!(plant.run(&["window", "show", &id]).await.unwrap().text.contains(": mind valve 7"));

    let revoke = ["window", "revoke", &id, "--reason", "leak", "--as"];
    plant.done(&[&revoke[..], &["vera"]].concat()).await;
    let listed = plant.json(&["window", "list"]).await;
    assert_eq!((&listed[0]["phase"], &listed[0]["reason"]), (&"revoked".into(), &"leak".into()));
    let entry = plant.json(&["audit", "tail", "-n", "1", "--kind", "window.revoked"]).await;
    assert_eq!(entry[0]["body"]["for"], "vera");
    assert!(plant.json(&["window", "list", "--open"]).await.as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_code_is_not_spent_on_a_request_that_cannot_be_made() {
    let plant = Plant::new().await;
    let vera = plant.enrol("vera").await;
    let request = [
        "request",
        "--as",
        "vera",
        "--account",
        "root@pump-hmi",
        "--operation",
        "operate",
        "--purpose",
        "seals",
    ];
    for end in ["+30d", "yesterday", "+0h"] {
        window(&plant, &[&request[..], &["--end", end]].concat(), &vera).await.unwrap_err();
    }
    let made = window(&plant, &[&request[..], &["--end", "+1h"]].concat(), &vera).await.unwrap();
    let (id, other) = (made.json["id"].as_str().unwrap(), "0".repeat(64));
    let sam = plant.enrol("sam").await;
    let approve = ["approve", id, "--as", "sam", "--duty", "security", "--digest"];
    let said = window(&plant, &[&approve[..], &[&other]].concat(), &sam).await.unwrap_err().to_string();
    assert!(said.contains(made.json["digest"].as_str().unwrap()), "{said}");
    let digest = made.json["digest"].as_str().unwrap();
    assert!(window(&plant, &[&approve[..], &[digest]].concat(), &sam).await.unwrap().ok);
}

#[tokio::test]
async fn disabling_a_person_is_the_operators_act_for_somebody() {
    let plant = Plant::new().await;
    plant.done(&["user", "disable", "vera", "--as", "ada"]).await;
    let shown = plant.json(&["user", "show", "vera"]).await;
    assert_eq!((&shown["state"], &shown["id"]), (&"disabled".into(), &"vera".into()));
    let entry = plant.json(&["audit", "tail", "-n", "1"]).await;
    assert!(entry[0]["actor"].as_str().unwrap().starts_with("operator:"), "{entry}");
    assert_eq!(entry[0]["body"]["for"], "ada");
    plant.done(&["user", "enable", "vera"]).await;
    assert_eq!(plant.json(&["user", "show", "vera"]).await["state"], "active");
    plant.run(&["user", "disable", "vera", "--as", "nobody"]).await.unwrap_err();
}

#[tokio::test]
async fn the_plants_state_is_set_per_zone() {
    let plant = Plant::new().await;
    plant.done(&["plant-state", "set", "pumps", "emergency", "--as", "olga", "--reason", "leak"]).await;
    let rows = plant.json(&["plant-state", "list"]).await;
    let pumps = rows.as_array().unwrap().iter().find(|r| r["id"] == "pumps").unwrap().clone();
    assert_eq!((&pumps["state"], &pumps["reason"]), (&"emergency".into(), &"leak".into()));
    plant.run(&["plant-state", "set", "no-such-zone", "emergency"]).await.unwrap_err();
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_what_is_exported_can_be_applied() {
    let plant = Plant::new().await;
    let file = plant.path("exported.toml");
    std::fs::write(&file, plant.run(&["export"]).await.unwrap().text).unwrap();
    let again = plant.json(&["apply", file.to_str().unwrap()]).await;
    assert_eq!(again["applied"], false);
    std::fs::write(&file, format!("{SITE}[[policies]]\nname = \"own\"\ntext = \"permit(\"\n")).unwrap();
    let said = plant.run(&["apply", "--yes", file.to_str().unwrap()]).await.unwrap_err().to_string();
    assert!(said.contains("own") && said.contains("pars"), "{said}");
    assert!(plant.json(&["export"]).await["policies"].as_array().unwrap().is_empty(), "nothing was written");
}

#[tokio::test]
async fn nothing_is_applied_that_nobody_agreed_to() {
    let plant = Plant::new().await;
    let file = plant.path("more.toml");
    std::fs::write(&file, format!("{SITE}[[zones]]\nname = \"more\"\n")).unwrap();
    let Command::Apply(args) = parse(&["apply", file.to_str().unwrap()]) else { panic!("not apply") };
    let desk = plant.desk().await;
    super::site::apply(&desk, &args, &mut Typed(vec!["n".to_owned()])).await.unwrap_err();
    assert_eq!(desk.store.site().await.unwrap().zones.len(), 2);
    let done = super::site::apply(&desk, &args, &mut Typed(vec!["y".to_owned()])).await.unwrap();
    assert_eq!(done.json["applied"], true);
    assert_eq!(desk.store.site().await.unwrap().zones.len(), 3);
}

#[tokio::test]
async fn a_secret_goes_in_and_is_shown_nowhere() {
    let plant = Plant::new().await;
    let file = plant.path("secret");
    cofferdam_vault::keyfile::create(&file, &SecretBytes::new(b"s3cret-of-the-pump\n".to_vec())).unwrap();
    let path = file.to_str().unwrap();
    let done = plant.run(&["account", "set-secret", "root@pump-hmi", "--password-file", path]).await.unwrap();
    let listed = plant.run(&["account", "list"]).await.unwrap();
    assert_eq!(listed.json[0]["secret_version"], 1);
    let log = plant.json(&["audit", "tail", "-n", "100"]).await.to_string();
    for text in [done.text, done.json.to_string(), listed.text, listed.json.to_string(), log] {
        assert!(!text.contains("s3cret"), "{text}");
    }
    plant.run(&["account", "set-secret", "root@pump-hmi", "--key-file", path]).await.unwrap_err();
    plant.run(&["account", "set-secret", "nobody@pump-hmi", "--password-file", path]).await.unwrap_err();
}

#[tokio::test]
async fn init_never_overwrites() {
    let plant = Plant::new().await;
    let home = plant.path("home");
    let before = std::fs::read(home.join("keys/audit_signing")).unwrap();
    let Command::Init(args) = parse(&["init", "--dir", home.to_str().unwrap()]) else { panic!("not init") };
    super::init::run(args).await.unwrap_err();
    assert_eq!(std::fs::read(home.join("keys/audit_signing")).unwrap(), before);
}

#[tokio::test]
async fn the_log_of_all_this_is_whole_and_only_writing_adds_checkpoints() {
    let plant = Plant::new().await;
    let report = plant.run(&["audit", "verify"]).await.unwrap();
    assert!(report.ok && report.json["whole"] == true, "{}", report.text);
    let size = || std::fs::metadata(plant.path("home/audit.checkpoints")).unwrap().len();
    let before = size();
    plant.done(&["session", "list"]).await;
    plant.done(&["window", "list"]).await;
    assert_eq!(size(), before);
}
