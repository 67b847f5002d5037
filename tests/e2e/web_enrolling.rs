//! From an invitation to a log-in, in a browser with an authenticator.

use serde_json::Value;

use crate::support::Gateway;

#[test]
fn an_invitation_leads_to_a_passkey_that_logs_in_and_proves() {
    let gateway = Gateway::start();
    let made = gateway.cofferdam(["user", "invite", "vera", "--json", "--as", "ada"]).ok();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    gateway.browse("enrolling.mjs", &[("COFFERDAM_INVITATION", made["invitation"].as_str().unwrap())]);
}
