//! Reads the input as a flattened stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::exercise_flat(data));
