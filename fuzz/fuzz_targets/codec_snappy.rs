//! Decodes a page by Snappy.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::codecs::by_snappy(data));
