//! A window's way through the browsers of those concerned, down to the session that it opens and its end cuts.

use serde_json::Value;

use crate::support::{Gateway, as_json, cli::id_of};

#[test]
fn a_window_asked_for_and_approved_in_browsers_opens_ssh_and_its_revocation_cuts_it_while_a_page_shows_it() {
    let gateway = Gateway::start();
    // The demo's own window would keep the session alive.
    let own = gateway.demo_window();
    gateway
        .cofferdam(["window", "revoke", &own, "--as", "olga", "--reason", "the test asks for its own"])
        .ok();
    let vera = gateway.vera();
    let shown = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    gateway
        .browse(
            "windows.mjs",
            &[
                ("COFFERDAM_SSH", &as_json(&vera.ssh("pump-hmi", ["-tt"]))),
                ("COFFERDAM_SSH_ONCE", &as_json(&vera.ssh("pump-hmi", ["true"]))),
                ("COFFERDAM_SHOTS", &shown.to_string_lossy()),
            ],
        )
        .said("cut after");
}

#[test]
fn the_requester_a_wrong_duty_the_same_person_twice_and_a_changed_text_approve_nothing_on_page_or_api() {
    let gateway = Gateway::start();
    let request = [
        "window",
        "request",
        "--account",
        "root@pump-hmi",
        "--operation",
        "operate",
        "--purpose",
        "refusals",
        "--end",
        "+3h",
        "--json",
    ];
    let made: Value = serde_json::from_slice(&gateway.cofferdam_by("vera", request).ok().stdout).unwrap();
    gateway.browse("refusals.mjs", &[("COFFERDAM_WINDOW", &id_of(&made))]);
}
