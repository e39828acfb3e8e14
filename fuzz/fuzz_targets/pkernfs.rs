//! Damages a store of pkernfs as the input says, reads it, checks it, and repairs it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_check::fuzzing::exercise_pkernfs(data));
