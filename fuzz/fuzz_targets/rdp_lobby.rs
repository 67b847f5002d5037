#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cofferdam_rdp::fuzzing::fuzz_lobby(bytes));
