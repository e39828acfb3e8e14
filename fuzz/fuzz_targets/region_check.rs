//! Opens, checks and reads a region that the input has damaged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_check::fuzzing::exercise_check(data));
