//! Privileged accounts that nobody described, found on a real host.

use std::process::Command;

use crate::support::{Gateway, RealSshd, run};

#[test]
fn an_unknown_privileged_account_is_found_counted_and_told_once() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join_by(&gateway, "password");
    assert!(target.password.is_some(), "tests with accounts need root or sudo");
    let mut join = Command::new("usermod");
    join.args(["-aG", "disk", &target.login]);
    run(join).ok();
    let metric = || {
        let rows = gateway.list(&["metrics"]);
        rows.iter().find(|m| m["id"] == "shared_accounts").unwrap()["value"].as_f64().unwrap()
    };
    // The zone of the demo's host is critical or made so, so that it counts.
    gateway.change_site(|site| {
        for zone in site["zones"].as_array_mut().unwrap() {
            zone.as_table_mut().unwrap().insert("critical".to_owned(), true.into());
        }
    });
    let before = metric();
    let rows = gateway.list(&["vault", "discover", "workshop"]);
    let unknown = rows[0]["unknown"].as_array().unwrap();
    assert!(unknown.iter().any(|login| login == "root"), "{rows:#?}");
    assert!(!unknown.iter().any(|login| login == target.login.as_str()), "it is described");
    assert_eq!(metric(), before + unknown.len() as f64);
    assert_eq!(gateway.audit("accounts.discovered").len(), 1);
    let findings =
        || gateway.audit("finding").iter().filter(|f| f.to_string().contains("unknown_account")).count();
    assert_eq!(findings(), 1);
    gateway.list(&["vault", "discover", "workshop"]);
    assert_eq!(findings(), 1, "what was known to be there is no news");
    assert_eq!(gateway.list(&["vault", "discover", "--kept"])[0]["unknown"], rows[0]["unknown"]);
    gateway.cofferdam(["vault", "discover", "no-such-host"]).exited(1).said("describes no such");
    gateway.cofferdam(["audit", "verify"]).ok();
}
