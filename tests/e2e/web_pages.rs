//! Every page, as each duty gets to it by links: legible for everybody, light, and quiet in the browser's console.

use crate::support::Gateway;

fn looked_at(people: &str) {
    let gateway = Gateway::start();
    // Something to see: a session that is over, with its recording, and a request that waits.
    let vera = gateway.vera();
    crate::support::run(vera.ssh("pump-hmi", ["echo hello from vera"])).ok();
    gateway
        .cofferdam_by(
            "vera",
            [
                "window",
                "request",
                "--account",
                "root@pump-hmi",
                "--operation",
                "operate",
                "--purpose",
                "<b>Second</b> service of P-101",
                "--end",
                "+3h",
                "--json",
            ],
        )
        .ok();
    let shots = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    gateway
        .browse("pages.mjs", &[("COFFERDAM_PEOPLE", people), ("COFFERDAM_SHOTS", &shots.to_string_lossy())]);
}

#[test]
fn the_pages_of_vendors_and_engineers_have_no_barriers() {
    looked_at("vera,emil");
}

#[test]
fn the_pages_of_approvers_have_no_barriers() {
    looked_at("olga,sam");
}

#[test]
fn the_pages_of_investigators_have_no_barriers() {
    looked_at("ivan");
}

#[test]
fn the_pages_of_administrators_have_no_barriers() {
    looked_at("ada");
}
