//! The SSH authorities change while everything goes on, as targets and clients see it.

use std::{fs, process::Command, time::Duration};

use crate::support::{Gateway, RealSshd, cli::id_of, run, wait_for};

/// The lines to trust, the oldest authority's first.
fn lines(gateway: &Gateway, purpose: &str) -> Vec<String> {
    let rows = gateway.list(&["vault", "ca", "status"]);
    let of = |row: &&serde_json::Value| row["purpose"] == purpose && row["stage"] != "finished";
    rows.iter().filter(of).map(|row| row["line"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the gateway itself has noticed.
fn enters_within_a_moment(gateway: &Gateway) {
    wait_for("a session under the other authority", Duration::from_secs(20), || {
        (run(gateway.vera().ssh("workshop", ["true"])).code == Some(0)).then_some(())
    });
}

#[test]
fn the_user_authority_is_replaced_without_a_session_that_fails_and_the_old_one_ends_for_good() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join_by(&gateway, "certificate");
    let enter = || run(gateway.vera().ssh("workshop", ["true"])).code == Some(0);
    assert!(enter());
    gateway.cofferdam(["vault", "ca", "switch", "user"]).failed().said("no new user authority waits");
    gateway.cofferdam(["vault", "ca", "rotate", "user", "--overlap", "30d"]).ok().said("does not sign yet");
    gateway.cofferdam(["vault", "ca", "rotate", "user"]).failed().said("being replaced already");
    gateway.cofferdam(["vault", "ca", "finish", "user"]).failed().said("does not sign yet");
    let both = lines(&gateway, "user");
    let [old, new] = &both[..] else { panic!("{both:?}") };
    gateway.cofferdam(["vault", "status"]).ok().said(old).said(new);
    assert!(enter(), "the target trusts the old one only, which signs");
    target.trust_user_ca(&both.join("\n"));
    assert!(enter());
    gateway.cofferdam(["vault", "ca", "switch", "user"]).ok();
    enters_within_a_moment(&gateway);
    target.trust_user_ca(new);
    enters_within_a_moment(&gateway);
    assert!(enter(), "the new one signs");
    gateway.cofferdam(["vault", "ca", "finish", "user"]).ok().said("counts no more");
    let krl = target.revocations();
    gateway.cofferdam(["vault", "ca", "krl", "--out", krl.to_str().unwrap()]).ok();
    // Even where somebody forgot to take the old line away.
    target.trust_user_ca(&both.join("\n"));
    assert!(enter(), "the new one is not revoked");
    let asked = |key: &str| {
        let file = gateway.scratch("asked.pub");
        fs::write(&file, key).unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.arg("-Q").arg("-f").arg(&krl).arg(file);
        run(keygen)
    };
    asked(old).failed().said("REVOKED");
    asked(new).ok();
    // The certificate of a single session, by the session.
    let session = id_of(gateway.sessions().first().unwrap());
    let revoke = ["vault", "ca", "revoke", "user", "--session", &session, "--reason", "laptop stolen"];
    gateway.cofferdam(revoke).ok().said(&format!("cofferdam:{session}:vera"));
    gateway.cofferdam(["vault", "ca", "krl", "--out", krl.to_str().unwrap()]).ok().said("1 certificates");
    assert!(enter(), "others go on");
    for (kind, count) in [
        ("authority.known", 2),
        ("authority.rotated", 1),
        ("authority.switched", 1),
        ("authority.finished", 1),
    ] {
        assert_eq!(gateway.audit(kind).len(), count, "{kind}");
    }
    gateway.cofferdam(["audit", "verify"]).ok();
}

#[test]
fn a_node_that_starts_after_the_switch_signs_with_the_new_authority() {
    let (mut gateway, target) = (Gateway::start(), RealSshd::start());
    target.join_by(&gateway, "certificate");
    gateway.cofferdam(["vault", "ca", "rotate", "user"]).ok();
    gateway.cofferdam(["vault", "ca", "switch", "user"]).ok();
    gateway.crash_and_restart();
    target.trust_user_ca(lines(&gateway, "user").last().unwrap());
    run(gateway.vera().ssh("workshop", ["echo by-$((40+2))"])).ok().said("by-42");
    assert!(!gateway.log().contains("PRIVATE KEY") && !gateway.audit_text().contains("PRIVATE KEY"));
}

#[test]
fn clients_that_trust_both_host_authorities_notice_nothing_of_the_change() {
    let gateway = Gateway::start();
    let jump = |name: &str, known: &[String]| {
        let file = gateway.scratch(name);
        fs::write(&file, format!("{}\n", known.join("\n"))).unwrap();
        let vera = gateway.vera();
        let proxy = {
            let mut words = vec!["ssh".to_owned()];
            words.extend(vera.options(crate::support::person::First::Key));
            let address = gateway.ssh_address();
            words.push(format!("-p {} -W %h:%p vera@{}", address.port(), address.ip()));
            words.join(" ")
        };
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-oIdentityAgent=none", "-oStrictHostKeyChecking=yes"])
            .arg(format!("-oUserKnownHostsFile={}", file.display()))
            .arg("-oGlobalKnownHostsFile=/dev/null")
            .arg(format!("-oProxyCommand={proxy}"))
            .args(["root@pump-hmi", "echo through-$((40+2))"]);
        vera.equip(&mut ssh);
        run(ssh)
    };
    let first = lines(&gateway, "host");
    jump("before", &first).ok().said("through-42");
    gateway.cofferdam(["vault", "ca", "rotate", "host"]).ok();
    let both = lines(&gateway, "host");
    assert_eq!(both.len(), 2);
    jump("both", &both).ok().said("through-42");
    gateway.cofferdam(["vault", "ca", "switch", "host"]).ok();
    wait_for("the new host certificate", Duration::from_secs(20), || {
        (jump("new", &both[1..]).code == Some(0)).then_some(())
    });
    jump("both", &both).ok().said("through-42");
    jump("old", &first).failed();
}
