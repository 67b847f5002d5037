//! The terminal in the browser.

use crate::support::{Gateway, cli::state_of};

#[test]
fn a_browser_that_does_not_read_keeps_memory_flat_and_its_session_goes_on_when_it_reads_again() {
    let gateway = Gateway::start();
    gateway.browse("stalled.mjs", &[("COFFERDAM_PID", &gateway.pid().to_string())]).said("bytes ahead");
    let session = gateway.only_session();
    assert!(!session.to_string().contains("recorder_failed"), "{session:#}");
    assert!(!state_of(&session).is_empty());
}
