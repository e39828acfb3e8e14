use std::collections::BTreeSet;

use super::*;

/// Codes that no input of the fuzzer makes: a medium that fails (GM0009, GM0603), an image that was cut (GM0102), and
/// slots past the end in a last page that the region does not use (GM0212, GM0412).
const NOT_BY_PATCHES: [&str; 5] = ["GM0009", "GM0102", "GM0212", "GM0412", "GM0603"];

#[test]
fn each_seed_makes_its_problem_and_passes_both_targets() {
    let seeds = seeds();
    let names: BTreeSet<&str> = seeds.iter().map(|(name, _)| name.as_str()).collect();
    let missing: Vec<&str> = Code::ALL
        .iter()
        .filter(|code| code.is_native())
        .map(|code| code.text())
        .filter(|code| !names.contains(code))
        .collect();
    assert_eq!(missing, NOT_BY_PATCHES);
    for (name, input) in &seeds {
        let mut image = region();
        patches(input).iter().for_each(|patch| damage(&mut image, patch));
        // Problems of contents are found only by reading data.
        let data = name.starts_with("GM06");
        let options = Options { now: NOW, threads: NonZeroUsize::MIN, data, keep: 1000, region: None };
        let report = check(&image, &options, &|_, _| {}).unwrap();
        assert!(report.findings.iter().any(|finding| finding.code().text() == name), "{name}: {:?}", report.findings);
        TARGETS.iter().for_each(|(_, body)| body(input));
    }
}

/// The targets in `fuzz/` must be these.
#[test]
fn each_body_is_a_fuzz_target() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let list = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for name in TARGETS.iter().map(|(name, _)| *name).chain(STORES.iter().map(|(name, ..)| *name)) {
        assert!(list.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
    }
}

#[test]
fn seeds_of_stores_pass_their_targets() {
    for (name, body, seeds) in STORES {
        let seeds = seeds();
        assert!(seeds.len() > 100, "{name}");
        seeds.iter().step_by(17).for_each(|(_, input)| body(input));
    }
}

/// What scripts/fuzz.sh does for longer, and guided by what inputs reach: `GMFS_STORE_CASES` inputs for each target.
#[test]
fn random_damage_passes_the_targets_of_stores() {
    let cases = std::env::var("GMFS_STORE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    for (name, body, _) in STORES {
        for case in 0..cases {
            let mut input = vec![next() as u8];
            for _ in 0..1 + next() % 6 {
                // Small numbers and the first places mean something more often than others.
                let value = if next() % 2 == 0 { next() % 32 } else { next() };
                let [low, high] = u16::to_le_bytes(if next() % 4 == 0 { next() as u16 } else { (next() % 64) as u16 });
                input.extend([next() as u8, low, high, next() as u8]);
                input.extend(value.to_le_bytes());
            }
            let done = std::panic::catch_unwind(|| body(&input));
            assert!(done.is_ok(), "{name}, case {case}: {input:?}");
        }
    }
}

/// Inputs that a fuzzer found.
#[test]
fn what_failed_once_is_tried_again() {
    // The address of the bitmap is so high that the bitmap ends past the 64-bit space.
    exercise_guestmemfs(&[1, 5, 0x1D, 0, 3, 2, 0, 0, 0]);
}
