//! The shape of the program in `src/`: its modules use each other in one direction only, and raw structures of a layout
//! are for the code that renders them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Uses that still close a circle: module and what it uses.
const CIRCLES: [(&str, &str); 0] = [];

/// Modules of gmfs-format with the raw structures of the native layout.
const RAW: [&str; 6] = ["copies", "raw", "seal", "sum", "tables", "units"];

/// Files that may use raw structures because they show them: those whose path in `src/` starts so.
const VIEWS: [&str; 2] = ["cmd/inspect", "render/"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../src").canonicalize().unwrap()
}

/// The source files below a directory by their path in it, without comments and without tests.
fn sources(root: &Path) -> BTreeMap<String, String> {
    let (mut found, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                left.push(path);
            } else if name.ends_with(".rs") {
                found.insert(name, code(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    // A module that is only for tests.
    let tests: Vec<String> = found
        .iter()
        .flat_map(|(name, text)| {
            let folder = name.trim_end_matches("mod.rs").trim_end_matches(".rs").trim_end_matches('/');
            let modules = text.split("#[cfg(test)]\nmod ").skip(1);
            let modules = modules.filter_map(|rest| rest.split_once(';')).map(|(module, _)| module);
            modules.map(|module| format!("{folder}/{module}.rs")).collect::<Vec<_>>()
        })
        .collect();
    found.retain(|name, _| !tests.contains(name));
    assert!(found.len() > 40, "only {} source files were found", found.len());
    found
}

/// The code of a file: without comments, and up to its tests.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The module of a file: a file directly in `src/`, or a folder there with all that is in it.
fn module(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// The first part of each path that follows `prefix` in a text, those in braces included.
fn named<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    let word = |text: &'t str| text.trim_start().split(is_end).next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for rest in text.split(prefix).skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    found.insert(word(&list[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// Which modules each module uses.
fn uses(sources: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = sources.keys().map(|file| (module(file), BTreeSet::new())).collect();
    let modules: BTreeSet<&str> = uses.keys().copied().collect();
    for (file, text) in sources {
        let used = named(text, "crate::").into_iter().filter(|name| modules.contains(name) && *name != module(file));
        uses.get_mut(module(file)).unwrap().extend(used);
    }
    uses
}

/// Modules that use each other in a circle, those that only lead to one included.
fn circle<'s>(uses: &BTreeMap<&'s str, BTreeSet<&'s str>>, left_out: &[(&str, &str)]) -> BTreeSet<&'s str> {
    let mut left: BTreeSet<&str> = uses.keys().copied().collect();
    loop {
        // Whatever uses nothing that is left is in no circle.
        let ends: Vec<&str> = left
            .iter()
            .copied()
            .filter(|module| {
                !uses[module].iter().any(|used| left.contains(used) && !left_out.contains(&(module, used)))
            })
            .collect();
        if ends.is_empty() {
            return left;
        }
        left.retain(|module| !ends.contains(module));
    }
}

#[test]
fn modules_of_the_program_form_no_circle() {
    let sources = sources(&root());
    let uses = uses(&sources);
    let found = circle(&uses, &CIRCLES);
    let arrows: Vec<String> = found
        .iter()
        .map(|module| format!("{module} uses {:?}", uses[module].intersection(&found).collect::<Vec<_>>()))
        .collect();
    assert!(found.is_empty(), "modules of src/ use each other in a circle:\n{}", arrows.join("\n"));
    for (index, exception) in CIRCLES.iter().enumerate() {
        let others: Vec<_> =
            CIRCLES.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, other)| *other).collect();
        assert!(!circle(&uses, &others).is_empty(), "{exception:?} closes no circle any more: take it off the list");
    }
}

#[test]
fn raw_structures_are_for_code_that_shows_them() {
    for (file, text) in sources(&root()) {
        let raw: Vec<&str> =
            named(&text, "gmfs_format::native::").into_iter().filter(|module| RAW.contains(module)).collect();
        let may = VIEWS.iter().any(|view| file.starts_with(view));
        assert!(raw.is_empty() || may, "src/{file} uses gmfs_format::native::{raw:?}");
    }
}

#[test]
fn uses_are_found_in_every_spelling() {
    let text = code("use crate::{a, b::{c, d}, e};\nuse crate::f::g; // crate::h\nlet x = crate::i::j();\n");
    assert_eq!(named(&text, "crate::"), BTreeSet::from(["a", "b", "e", "f", "i"]));
    let circular = BTreeMap::from([
        ("a", BTreeSet::from(["b"])),
        ("b", BTreeSet::from(["c"])),
        ("c", BTreeSet::from(["b", "d"])),
        ("d", BTreeSet::new()),
    ]);
    assert_eq!(circle(&circular, &[]), BTreeSet::from(["a", "b", "c"]));
    assert_eq!(circle(&circular, &[("c", "b")]), BTreeSet::new());
}
