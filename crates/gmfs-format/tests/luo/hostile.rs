//! Any bytes: no panic, no walk without an end, no memory from a number.

use gmfs_format::fuzzing::{TARGETS, exercise_handover, seeds};
use proptest::prelude::*;

#[test]
fn each_seed_passes() {
    let seeds = seeds();
    assert!(seeds.len() > 500);
    seeds.iter().for_each(|(_, seed)| exercise_handover(seed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_is_read_to_an_end(form in any::<u8>(), patches in prop::collection::vec(any::<[u8; 8]>(), 0..24)) {
        let mut input = vec![form];
        input.extend(patches.concat());
        exercise_handover(&input);
    }
}

/// The targets of the fuzzer are these.
#[test]
fn each_body_is_a_fuzz_target() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let list = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(list.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
    }
}
