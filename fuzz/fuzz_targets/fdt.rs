//! Reads the input as a device tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_format::fuzzing::exercise_fdt(data));
