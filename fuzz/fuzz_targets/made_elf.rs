//! Makes an ELF core by the choices in the input, and reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::made::elf(data));
