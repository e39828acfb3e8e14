#![no_main]
//! Any bytes as an image.

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_image::fuzzing::exercise_image(data));
