#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Without a folder there is nothing to find out.
    let Ok(folder) = tempfile::tempdir() else { return };
    cofferdam_recorder::fuzzing::fuzz_files(bytes, folder.path());
});
