//! Decodes a page by zlib, in Rust and in C.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_dump::fuzzing::codecs::by_zlib(data));
