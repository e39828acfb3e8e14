//! Makes a kernel image, damages it, and reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_kernel::fuzzing::exercise_made(data));
