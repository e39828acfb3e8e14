//! Makes a flattened dump by the choices in the input, damages it, and reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::made::flat(data));
