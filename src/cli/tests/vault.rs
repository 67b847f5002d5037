//! Secrets that people see, and envelopes, on the command line.

use cofferdam_vault::{Root, SystemEntropy, envelope::Envelope, keyfile};

use super::*;
use crate::cli::{
    vault::VaultCommand,
    vault_checkout::{self, AgreeArgs, CheckoutArgs, Screen},
    vault_envelope::{self, EnvelopeCommand, MakeArgs, OpenArgs},
};

const SECRET: &str = "s3cret-of-the-pump";

/// An installation in which the pump's `root` may be seen, and is on a crown jewel where asked for.
async fn seen(jewel: bool) -> Plant {
    let plant = Plant::new().await;
    let mut site = SITE.replace("credential = \"password\"", "credential = \"password\"\ncheckout = true");
    if jewel {
        site = site.replace("criticality = \"high\"", "crown_jewel = true");
    }
    std::fs::write(plant.path("site.toml"), site).unwrap();
    plant.done(&["apply", "--yes", plant.path("site.toml").to_str().unwrap()]).await;
    let file = plant.path("secret");
    keyfile::create(&file, &SecretBytes::from(SECRET.as_bytes().to_vec())).unwrap();
    plant.done(&["account", "set-secret", "root@pump-hmi", "--password-file", file.to_str().unwrap()]).await;
    plant
}

fn vault(args: &[&str]) -> VaultCommand {
    let Command::Vault(command) = parse(&[&["vault"][..], args].concat()) else { panic!("not vault") };
    command
}

fn checkout_args(args: &[&str]) -> CheckoutArgs {
    let VaultCommand::Checkout(args) = vault(&[&["checkout"][..], args].concat()) else {
        panic!("not checkout")
    };
    args
}

fn agree_args(args: &[&str]) -> AgreeArgs {
    let VaultCommand::Agree(args) = vault(&[&["agree"][..], args].concat()) else { panic!("not agree") };
    args
}

impl Plant {
    fn typed(&self, secret: &TotpSecret) -> Typed {
        // A code serves once.
        self.clock.advance(30);
        Typed(vec![PASSWORD.to_owned(), secret.code_at(self.clock.now())])
    }

    /// What is answered, and what the screen showed.
    async fn check_out(
        &self,
        args: &[&str],
        by: &TotpSecret,
        terminal: bool,
    ) -> (Result<Reply, CliError>, String) {
        let desk = self.desk().await;
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, terminal);
        let reply =
            vault_checkout::checkout_on(&desk, &checkout_args(args), &mut self.typed(by), &mut screen).await;
        desk.close().await;
        (reply, String::from_utf8(out).unwrap())
    }
}

#[tokio::test]
async fn a_secret_is_shown_on_a_terminal_and_into_a_pipe_only_when_that_was_said() {
    let plant = seen(false).await;
    let ada = plant.enrol("ada").await;
    let ask = ["root@pump-hmi", "--reason", "the panel hangs", "--as", "ada"];
    let (refused, shown) = plant.check_out(&ask, &ada, false).await;
    assert!(refused.unwrap_err().to_string().contains("--to-pipe") && shown.is_empty());
    assert!(plant.json(&["vault", "checkouts"]).await.as_array().unwrap().is_empty(), "nothing was asked");
    let (reply, shown) = plant.check_out(&[&ask[..], &["--to-pipe"]].concat(), &ada, false).await;
    assert_eq!((reply.unwrap(), shown.as_str()), (Reply::nothing(), SECRET));
    let (again, shown) = plant.check_out(&ask, &ada, true).await;
    assert!(again.unwrap_err().to_string().contains("return that first") && shown.is_empty());
    let listed = plant.json(&["vault", "checkouts", "--open"]).await;
    let open = listed.as_array().unwrap().iter().find(|c| c["state"] == "open").unwrap();
    assert_eq!(open["user"], "ada");
    let back = plant.run(&["vault", "checkin", "root@pump-hmi", "--as", "ada"]).await.unwrap();
    assert!(back.text.contains("by hand"), "nothing rotates it: {}", back.text);
    let (reply, shown) = plant.check_out(&ask, &ada, true).await;
    assert_eq!((reply.unwrap(), shown), (Reply::nothing(), format!("{SECRET}\n")));
    let log = plant.json(&["audit", "tail", "-n", "200"]).await.to_string();
    assert!(log.contains("checkout.opened") && log.contains("secret_seen") && !log.contains(SECRET));
}

#[tokio::test]
async fn a_crown_jewels_secret_is_seen_after_two_others_agreed_to_that_text() {
    let plant = seen(true).await;
    let (ada, olga, sam) = (plant.enrol("ada").await, plant.enrol("olga").await, plant.enrol("sam").await);
    let ask = ["root@pump-hmi", "--reason", "the panel hangs", "--as", "ada", "--to-pipe"];
    let (asked, shown) = plant.check_out(&ask, &ada, false).await;
    let asked = asked.unwrap();
    assert!(shown.is_empty() && asked.text.contains("vault agree"), "{}", asked.text);
    let id = asked.json["id"].as_str().unwrap();
    let see = ["--request", id, "--as", "ada", "--to-pipe"];
    let (early, shown) = plant.check_out(&see, &ada, false).await;
    assert!(early.unwrap_err().to_string().contains("two other people") && shown.is_empty());
    for (person, secret) in [("olga", &olga), ("sam", &sam)] {
        let desk = plant.desk().await;
        let wrong = agree_args(&[id, "--as", person, "--proof-stdin", "--digest", &"0".repeat(64)]);
        vault_checkout::agree_by(&desk, &wrong, &mut Typed(vec![])).await.unwrap_err();
        let args = agree_args(&[id, "--as", person, "--proof-stdin"]);
        assert!(vault_checkout::agree_by(&desk, &args, &mut plant.typed(secret)).await.unwrap().ok);
        desk.close().await;
    }
    let own = agree_args(&[id, "--as", "ada", "--duty", "security", "--proof-stdin"]);
    let desk = plant.desk().await;
    vault_checkout::agree_by(&desk, &own, &mut Typed(vec![])).await.unwrap_err();
    desk.close().await;
    let (reply, shown) = plant.check_out(&see, &ada, false).await;
    assert_eq!((reply.unwrap(), shown.as_str()), (Reply::nothing(), SECRET));
    plant.done(&["vault", "checkin", id, "--as", "olga"]).await;
    assert_eq!(plant.json(&["vault", "checkouts"]).await[0]["state"], "returned");
}

#[tokio::test]
async fn an_envelope_is_for_the_configured_recipients_and_opening_it_is_loud() {
    let plant = seen(false).await;
    let ada = plant.enrol("ada").await;
    let make = |args: &[&str]| -> MakeArgs {
        let VaultCommand::Envelope(EnvelopeCommand::Make(args)) =
            vault(&[&["envelope", "make", "root@pump-hmi", "--as", "ada"][..], args].concat())
        else {
            panic!("not make")
        };
        args
    };
    let desk = plant.desk().await;
    let none = vault_envelope::make(&desk, &make(&[]), &mut Typed(vec![])).await.unwrap_err();
    assert!(none.to_string().contains("vault.break_glass_recipients"), "{none}");
    desk.close().await;
    let root = Root::generate(&SystemEntropy).unwrap();
    let config = std::fs::read_to_string(plant.path("home/cofferdam.toml")).unwrap();
    let with = format!("[vault]\nbreak_glass_recipients = [\"{}\"]", root.recipient());
    std::fs::write(plant.path("home/cofferdam.toml"), config.replacen("[vault]", &with, 1)).unwrap();
    let desk = plant.desk().await;
    let other = make(&["--recipient", "age1other"]);
    assert!(vault_envelope::make(&desk, &other, &mut Typed(vec![])).await.is_err());
    let made = vault_envelope::make(&desk, &make(&[]), &mut plant.typed(&ada)).await.unwrap();
    assert!(!made.text.contains(SECRET));
    assert_eq!(Envelope::parse(&made.text).unwrap().open(&root).unwrap().0.expose(), SECRET.as_bytes());
    let (file, identity) = (plant.path("envelope.txt"), plant.path("identity"));
    std::fs::write(&file, &made.text).unwrap();
    let stranger = plant.path("stranger");
    for (path, whose) in [(&identity, &root), (&stranger, &Root::generate(&SystemEntropy).unwrap())] {
        let text = whose.to_text().unwrap();
        keyfile::create(path, &SecretBytes::from(text.expose().as_bytes().to_vec())).unwrap();
    }
    let open = |identity: &std::path::Path| -> OpenArgs {
        let args = [
            "envelope",
            "open",
            file.to_str().unwrap(),
            "--identity",
            identity.to_str().unwrap(),
            "--to-pipe",
        ];
        let VaultCommand::Envelope(EnvelopeCommand::Open(args)) = vault(&args) else { panic!("not open") };
        args
    };
    let mut out = Vec::new();
    let refused = vault_envelope::open(&desk, &open(&stranger), &mut Screen::new(&mut out, false)).await;
    assert!(refused.is_err() && out.is_empty());
    let opened = vault_envelope::open(&desk, &open(&identity), &mut Screen::new(&mut out, false)).await;
    assert_eq!(opened.unwrap(), Reply::nothing());
    assert_eq!(out, SECRET.as_bytes());
    desk.close().await;
    let listed = plant.json(&["vault", "envelope", "list"]).await;
    assert_eq!(listed[0]["outdated"], false);
    assert!(listed[0]["opened_at"].is_string(), "{listed}");
    let log = plant.json(&["audit", "tail", "-n", "200"]).await.to_string();
    for kind in ["envelope.made", "envelope.refused", "envelope.opened", "envelope_opened"] {
        assert!(log.contains(kind), "{kind}");
    }
    assert!(!log.contains(SECRET));
}

#[test]
fn a_terminal_is_not_steered_by_a_secret() {
    let mut out = Vec::new();
    let evil = SecretBytes::from(b"a\x1b[2Jb".to_vec());
    Screen::new(&mut out, true).show(&evil).unwrap_err();
    assert!(out.is_empty());
    Screen::new(&mut out, false).show(&evil).unwrap();
    assert_eq!(out, b"a\x1b[2Jb");
}
