//! Reads a kernel image, and judges kexecs from it and to it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_kernel::fuzzing::exercise_kernel(data));
