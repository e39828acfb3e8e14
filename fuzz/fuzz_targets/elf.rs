//! Reads the input as an ELF dump.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::exercise_elf(data));
