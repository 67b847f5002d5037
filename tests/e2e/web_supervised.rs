//! Sessions that go on only while somebody watches them in a browser.

use crate::support::{Gateway, as_json};

#[test]
fn a_session_on_a_supervised_asset_goes_on_only_while_an_approver_watches_it_in_the_browser() {
    let gateway = Gateway::start();
    let shots = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    let ssh = as_json(&gateway.vera().ssh("pump-hmi", ["-tt"]));
    gateway
        .browse("supervised.mjs", &[("COFFERDAM_SSH", &ssh), ("COFFERDAM_SHOTS", &shots.to_string_lossy())]);
    let states = |kind| gateway.audit(kind).len();
    assert!(states("session.suspended") >= 1 && states("session.resumed") >= 2, "each change is audited");
    assert_eq!(gateway.audit("session.watched").len(), 2, "and each watching");
}
