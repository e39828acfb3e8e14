//! Damages a guestmemfs v1 as the input says, reads it, and checks it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_check::fuzzing::exercise_guestmemfs(data));
