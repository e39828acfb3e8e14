//! Damages a hand-over of KHO and LUO as the input says, and checks it across its records.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmfs_check::fuzzing::exercise_handover_check(data));
