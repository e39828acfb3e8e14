//! Man pages and completions are what the command line's declaration makes of them. `GMFS_UPDATE=1` writes them anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::sandbox::Sandbox;

fn files(directory: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return BTreeMap::new() };
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn compare(what: &str, directory: &str) {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("generate {what} --out made"));
    let made = files(&sandbox.path("made"));
    let committed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory);
    if std::env::var_os("GMFS_UPDATE").is_some() {
        for old in files(&committed).keys().filter(|name| !made.contains_key(*name)) {
            std::fs::remove_file(committed.join(old)).unwrap();
        }
        std::fs::create_dir_all(&committed).unwrap();
        for (name, text) in &made {
            std::fs::write(committed.join(name), text).unwrap();
        }
    }
    let found = files(&committed);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&made), "{directory}: GMFS_UPDATE=1 writes them anew");
    for (name, text) in &made {
        assert!(found.get(name) == Some(text), "{directory}/{name} has drifted: GMFS_UPDATE=1 writes it anew");
    }
}

#[test]
fn man_pages_are_up_to_date() {
    compare("man", "man");
}

#[test]
fn completions_are_up_to_date() {
    compare("completions", "completions");
}

#[test]
fn every_command_has_a_page_with_its_exit_status() {
    let sandbox = Sandbox::new();
    sandbox.ok("generate man --out made");
    for (name, text) in files(&sandbox.path("made")) {
        assert!(text.starts_with(".so ") || text.contains(".SH \"EXIT STATUS\""), "{name}");
    }
}
