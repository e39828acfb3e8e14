//! Man pages are generated from the declaration of the command line. `GMFS_UPDATE=1` rewrites them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::help::commands;
use crate::sandbox::Sandbox;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

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

/// All pages by file name, as they are installed.
fn pages(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let page = |name: &str| sandbox.ok(&format!("man {name}")).text();
    let mut pages: BTreeMap<String, String> =
        commands(sandbox).iter().map(|name| (format!("gmfs-{name}.8"), page(name))).collect();
    pages.insert("gmfs.8".to_owned(), sandbox.ok("man").text());
    for of in ["mkfs", "fsck"] {
        pages.insert(format!("{of}.gmfs.8"), page(&format!("{of}.gmfs")));
        assert_eq!(page(&format!("{of}.guestmemfs")), page(&format!("{of}.gmfs")));
        pages.insert(format!("{of}.guestmemfs.8"), format!(".so man8/{of}.gmfs.8\n"));
    }
    pages.insert("mount.gmfs.8".to_owned(), page("mount.gmfs"));
    assert_eq!(page("mount.fuse.gmfs"), page("mount.gmfs"));
    pages.insert("mount.fuse.gmfs.8".to_owned(), ".so man8/mount.gmfs.8\n".to_owned());
    pages
}

#[test]
fn man_pages_are_up_to_date() {
    let made = pages(&Sandbox::new());
    let committed = root().join("man");
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
    assert!(found.keys().eq(made.keys()), "man: GMFS_UPDATE=1 writes the pages anew");
    for (name, text) in &made {
        assert!(found.get(name) == Some(text), "man/{name} has drifted: GMFS_UPDATE=1 writes it anew");
    }
}

#[test]
fn every_page_has_its_sections() {
    for (name, text) in pages(&Sandbox::new()) {
        if text.starts_with(".so ") {
            continue;
        }
        for section in
            ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "\"EXIT STATUS\"", "EXAMPLES", "\"SEE ALSO\""]
        {
            assert!(text.contains(&format!(".SH {section}\n")), "{name} lacks {section}");
        }
        let sum = text.contains("The sum of these:");
        assert_eq!(sum, ["gmfs-fsck.8", "gmfs-repair.8", "fsck.gmfs.8"].contains(&name.as_str()), "{name}");
    }
}

#[test]
fn a_page_of_nothing_is_an_error() {
    let done = Sandbox::new().gmfs("man frobnicate");
    assert_eq!((done.code, done.text().as_str()), (2, ""));
    assert!(done.stderr.contains("'frobnicate' is no command of gmfs"), "{done:?}");
}

#[test]
fn pages_that_a_page_names_exist() {
    let pages = pages(&Sandbox::new());
    for (name, text) in &pages {
        for named in text.lines().filter_map(|line| line.strip_prefix(".BR ")).filter(|line| line.contains("(8)")) {
            let page = named.split_whitespace().next().unwrap().replace("\\-", "-");
            // These pages are those of util-linux.
            let foreign = ["mkfs", "fsck"].contains(&page.as_str());
            assert!(foreign || pages.contains_key(&format!("{page}.8")), "{name} names {page}(8)");
        }
    }
}

#[test]
fn mandoc_finds_nothing_wrong() {
    let sandbox = Sandbox::new();
    if Command::new("mandoc").arg("-Tlocale").stdin(std::process::Stdio::null()).output().is_err() {
        eprintln!("skipped: mandoc is not installed");
        return;
    }
    for (name, text) in pages(&sandbox).into_iter().filter(|(_, text)| !text.starts_with(".so ")) {
        sandbox.write(&name, text.as_bytes());
        let lint = Command::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(sandbox.path(&name)).output().unwrap();
        let said = String::from_utf8(lint.stdout).unwrap();
        // A page without a date is the same on any day, so the warning about it is ignored.
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("missing date")).collect();
        assert!(said.is_empty(), "{name}: {said:#?}");
    }
}

/// Code that reads another variable must be added here, and to src/cmd/man.rs.
#[test]
fn pages_name_all_variables_that_are_read() {
    let mut sources = vec![root().join("src"), root().join("crates")];
    let mut found = Vec::new();
    while let Some(path) = sources.pop() {
        if ["tests", "tests.rs", "examples", "benches", "gmfs-testing"]
            .contains(&path.file_name().unwrap().to_str().unwrap())
        {
            continue;
        }
        if path.is_dir() {
            sources.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter(|line| line.contains("env::var")).count();
            if lines > 0 {
                found.push((path.file_name().unwrap().to_str().unwrap().to_owned(), lines));
            }
        }
    }
    found.sort();
    // schema.rs is of the tests only.
    let known = [("clock.rs", 1), ("ctx.rs", 3), ("line.rs", 1), ("schema.rs", 1)];
    assert!(found.iter().map(|(name, lines)| (name.as_str(), *lines)).eq(known), "{found:?}");
    let page = Sandbox::new().ok("man").text();
    for variable in ["COLUMNS", "NO_COLOR", "SOURCE_DATE_EPOCH", "TERM"] {
        assert!(page.contains(&format!(".B {variable}\n")), "{variable}");
    }
}
