//! Reads two command lines of kernels, and judges kexecs from one to the other.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_kernel::fuzzing::exercise_cmdline(data));
