#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cofferdam_vault::fuzzing::fuzz_texts(bytes));
