//! Secrets that people see, on a real sshd with a real account, and envelopes that `age` opens.

use std::{fs, process::Command, time::Duration};

use crate::{
    rotating::{rotated, takes_the_first_password},
    support::{Gateway, RealSshd, run, run_with_input, wait_for},
};

/// The target's account with its password in the vault, which people may see, one at a time, and which is rotated.
fn seen(gateway: &Gateway, target: &RealSshd) -> String {
    let account = rotated(gateway, target, "every_days = 0");
    gateway.change_site(|site| {
        let accounts = site["accounts"].as_array_mut().unwrap();
        let account = accounts.iter_mut().find(|a| a["asset"].as_str() == Some("workshop")).unwrap();
        let account = account.as_table_mut().unwrap();
        account.insert("checkout".to_owned(), true.into());
        account.insert("exclusive".to_owned(), true.into());
    });
    account
}

fn rotations(gateway: &Gateway) -> usize {
    gateway.audit("secret.rotated").len()
}

#[test]
fn a_secret_that_a_person_saw_is_theirs_alone_until_they_return_it_and_is_changed_then() {
    let (mut gateway, target) = (Gateway::start(), RealSshd::start());
    let account = seen(&gateway, &target);
    let ask = ["vault", "checkout", &account, "--reason", "the panel hangs"];
    gateway.cofferdam_by("vera", ask).exited(1).said("own people only");
    gateway.cofferdam_by("emil", ask).exited(1).said("--to-pipe");
    let shown = gateway.cofferdam_by("emil", ask.iter().chain(&["--to-pipe"])).ok();
    assert_eq!(Some(shown.out().as_str()), target.password.as_deref(), "the password of the target");
    assert!(takes_the_first_password(&target));
    run(gateway.vera().ssh("workshop", ["true"])).failed().said("checked out by emil");
    gateway.crash_and_restart();
    run(gateway.vera().ssh("workshop", ["true"])).failed().said("checked out by emil");
    gateway.cofferdam(["vault", "checkin", &account, "--as", "emil"]).ok().said("changes it now");
    wait_for("the rotation", Duration::from_secs(30), || (rotations(&gateway) == 1).then_some(()));
    assert!(!takes_the_first_password(&target), "what emil saw opens nothing any more");
    run(gateway.vera().ssh("workshop", ["echo after-$((40+2))"])).ok().said("after-42");
    assert!(!gateway.audit_text().contains(&shown.out()) && !gateway.log().contains(&shown.out()));
    gateway.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn an_envelope_opens_with_age_alone_and_the_secret_is_changed_when_that_is_told() {
    let (mut gateway, target) = (Gateway::start(), RealSshd::start());
    let account = seen(&gateway, &target);
    let make = ["vault", "envelope", "make", &account];
    gateway.cofferdam_by("ada", make).exited(1).said("break_glass_recipients");
    let identity = gateway.scratch("identity").display().to_string();
    let mut keygen = Command::new("age-keygen");
    keygen.args(["-o", &identity]);
    run(keygen).ok();
    let mut public = Command::new("age-keygen");
    public.args(["-y", &identity]);
    let recipient = run(public).ok().out().trim().to_owned();
    let line = format!("[vault]\nbreak_glass_recipients = [\"{recipient}\"]");
    gateway.restart_with(|text| text.replacen("[vault]", &line, 1));
    let file = gateway.scratch("envelope.txt").display().to_string();
    gateway.cofferdam_by("olga", make.iter().chain(&["--out", &file])).exited(1).said("administrators can");
    gateway.cofferdam_by("ada", make.iter().chain(&["--out", &file])).ok();
    let text = fs::read_to_string(&file).unwrap();
    let password = target.password.clone().unwrap();
    assert!(text.contains(&account) && !text.contains(&password), "{text}");

    let armored = &text[text.find("-----BEGIN AGE").unwrap()..];
    let mut age = Command::new("age");
    age.args(["-d", "-i", &identity]);
    run_with_input(age, armored.as_bytes()).ok().said(&password);

    let open = ["vault", "envelope", "open", &file, "--identity", &identity, "--for", "8h"];
    gateway.cofferdam(open).exited(1).said("--to-pipe").never_said(&password);
    let opened = gateway.cofferdam(open.iter().chain(&["--to-pipe", "--as", "ada"])).ok();
    assert_eq!(opened.out(), password);
    assert!(gateway.audit_text().contains("envelope_opened"), "everybody is told by a finding");
    assert_eq!(rotations(&gateway), 0, "it is there to be used first");
    gateway.cofferdam(["vault", "envelope", "opened", &account, "--as", "ada"]).ok();
    wait_for("the rotation", Duration::from_secs(30), || (rotations(&gateway) == 1).then_some(()));
    assert!(!takes_the_first_password(&target));
    assert_eq!(gateway.list(&["vault", "envelope", "list"])[0]["outdated"], true);
    assert!(!gateway.audit_text().contains(&password));
}
