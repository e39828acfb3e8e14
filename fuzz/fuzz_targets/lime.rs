//! Reads the input as a LiME or AVML image.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::exercise_lime(data));
