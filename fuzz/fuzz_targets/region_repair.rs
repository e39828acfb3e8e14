//! Repairs a region that the input has damaged, and holds the laws of a repair against it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_check::fuzzing::exercise_repair(data));
