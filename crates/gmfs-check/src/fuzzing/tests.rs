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
    for (name, _) in TARGETS {
        assert!(list.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
    }
}
