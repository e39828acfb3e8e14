//! Checks the arrows of `ARCHITECTURE.md`: which crate may use which, and where `unsafe` is allowed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each package of the workspace, and the packages of the workspace that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("gmfs-io", &[]),
    ("gmfs-dump", &["gmfs-io"]),
    ("gmfs-format", &["gmfs-io"]),
    ("gmfs-image", &["gmfs-dump", "gmfs-format", "gmfs-io"]),
    ("gmfs-kernel", &["gmfs-format", "gmfs-io"]),
    ("gmfs-volume", &["gmfs-format", "gmfs-io"]),
    ("gmfs-check", &["gmfs-format", "gmfs-io", "gmfs-volume"]),
    ("gmfs", &["gmfs-check", "gmfs-dump", "gmfs-format", "gmfs-image", "gmfs-io", "gmfs-volume"]),
    ("gmfs-host", &["gmfs", "gmfs-check", "gmfs-format", "gmfs-image", "gmfs-io", "gmfs-kernel", "gmfs-volume"]),
    ("gmfs-vm", &["gmfs", "gmfs-format", "gmfs-image", "gmfs-io", "gmfs-volume"]),
    ("gmfs-capi", &["gmfs", "gmfs-image", "gmfs-io"]),
    ("gmfs-fuse", &["gmfs", "gmfs-format", "gmfs-image", "gmfs-io", "gmfs-volume"]),
    (
        "gmfs-json",
        &["gmfs", "gmfs-check", "gmfs-format", "gmfs-host", "gmfs-image", "gmfs-io", "gmfs-kernel", "gmfs-volume"],
    ),
    (
        "gmfs-cli",
        &[
            "gmfs",
            "gmfs-check",
            "gmfs-dump",
            "gmfs-format",
            "gmfs-fuse",
            "gmfs-host",
            "gmfs-image",
            "gmfs-io",
            "gmfs-json",
            "gmfs-kernel",
            "gmfs-vm",
            "gmfs-volume",
        ],
    ),
    // For tests only.
    ("gmfs-testing", &[]),
];

/// Crates that know no files, no devices, no command line and no JSON, and have no unsafe code.
const PURE: [&str; 6] = ["gmfs-io", "gmfs-dump", "gmfs-format", "gmfs-kernel", "gmfs-volume", "gmfs-check"];

/// Dependencies that a pure crate must not have.
const NOT_PURE: [&str; 8] = ["anyhow", "clap", "comfy-table", "libc", "memmap2", "rustix", "serde", "serde_json"];

/// Unsafe code is allowed only in files whose path from the root starts with one of these: maps of memory, and functions that
/// C calls.
const UNSAFE: [&str; 2] = ["crates/gmfs-image/src/mapped", "crates/gmfs-capi/src/"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The normal and build dependencies of each package of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| members.contains(package["id"].as_str().unwrap()))
        .map(|package| {
            let used = package["dependencies"].as_array().unwrap().iter();
            // Tests may depend on anything.
            let used = used.filter(|dependency| dependency["kind"] != "dev");
            let names = used.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn arrows_point_down() {
    let found: BTreeMap<String, BTreeSet<String>> = dependencies()
        .into_iter()
        .map(|(package, used)| {
            let within = used.into_iter().filter(|name| ARROWS.iter().any(|(member, _)| member == name)).collect();
            (package, within)
        })
        .collect();
    let allowed: BTreeMap<String, BTreeSet<String>> = ARROWS
        .iter()
        .map(|(package, used)| ((*package).to_owned(), used.iter().map(|name| (*name).to_owned()).collect()))
        .collect();
    assert_eq!(found, allowed, "a new crate or arrow belongs into ARCHITECTURE.md, and then here");
}

#[test]
fn pure_crates_stay_pure() {
    let dependencies = dependencies();
    for package in PURE {
        for name in NOT_PURE {
            assert!(!dependencies[package].contains(name), "{package} must not depend on {name}");
        }
        let lib = std::fs::read_to_string(root().join("crates").join(package).join("src/lib.rs")).unwrap();
        assert!(lib.contains("\n#![forbid(unsafe_code)]\n"), "{package} must forbid unsafe code");
        assert!(lib.contains("clippy::print_stdout"), "{package} must deny printing");
    }
}

/// Every source file below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a line of code has the keyword: comments and names that contain it do not count.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

#[test]
fn unsafe_stands_in_one_place() {
    let root = root();
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for (package, _) in ARROWS {
        sources(&root.join("crates").join(package).join("src"), &mut files);
    }
    assert!(files.len() > 20, "only {} source files were found", files.len());
    let mut places = [0; UNSAFE.len()];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let relative = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| is_unsafe(line)) {
            let place = UNSAFE.iter().position(|place| relative.starts_with(place));
            places[place.unwrap_or_else(|| panic!("{relative}:{number}: {line}"))] += 1;
        }
    }
    assert!(places.iter().all(|found| *found > 0), "{places:?}: does this test still look in the right places?");
}

#[test]
fn the_keyword_is_told_from_words_that_contain_it() {
    assert!(is_unsafe("    let x = unsafe { *p };") && is_unsafe("unsafe extern \"C\" fn f() {}"));
    assert!(!is_unsafe("#![forbid(unsafe_code)]") && !is_unsafe("// unsafe") && !is_unsafe("let unsafely = 1;"));
}
