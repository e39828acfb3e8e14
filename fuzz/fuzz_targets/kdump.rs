//! Reads the input as a kdump-compressed dump.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::exercise_kdump(data));
