//! Damages a hand-over of KHO and LUO as the input says, and reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_format::fuzzing::exercise_handover(data));
