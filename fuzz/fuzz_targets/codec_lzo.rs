//! Decodes a page by LZO.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::codecs::by_lzo(data));
