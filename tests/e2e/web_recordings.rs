//! Recordings as they are taken out in a browser.

use std::{fs, path::Path};

use crate::support::{Gateway, cli::id_of, run};

#[test]
fn an_investigator_takes_the_files_of_a_recording_out_in_the_browser_and_that_is_audited() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let sent = gateway.scratch("firmware.bin");
    let bytes: Vec<u8> = (0..150_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(&sent, &bytes).unwrap();
    let mut up = vera.transfer("scp");
    up.arg("-s").arg(&sent).arg(vera.remote("pump-hmi", "/tmp/firmware.bin"));
    run(up).ok();
    let session = gateway.only_session();
    let id = id_of(&session);
    gateway.browse("files.mjs", &[("COFFERDAM_SESSION", &id), ("COFFERDAM_SENT", &sent.to_string_lossy())]);
    let taken = gateway.audit("recording.exported");
    assert!(taken.iter().any(|e| e["actor"] == "ivan" && e.to_string().contains("files")), "{taken:#?}");
    let recordings = Path::new(session["recording"]["path"].as_str().unwrap()).parent().unwrap();
    let left = fs::read_dir(recordings.join("exporting")).unwrap().count();
    assert_eq!(left, 0, "nothing of it is left on the gateway");
}
