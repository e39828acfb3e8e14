//! `docs/problems.md` is generated from the catalogue. `GMFS_UPDATE=1` rewrites it; otherwise a difference fails the test.

use std::fmt::Write as _;
use std::path::PathBuf;

use gmfs_check::{Code, Severity};

const HEAD: &str = "\
# The catalogue of problems

This page lists everything that a check of a store can find: GM00xx to GM06xx in native regions, the others in what kernels
leave, which gmfs only reads. It is generated from the catalogue in `gmfs-check`; do not
edit it. Each code links to its explanation, which `gmfs explain CODE` prints as well. [GLOSSARY.md](GLOSSARY.md) defines
the words.

A code is never renumbered, and never used again for another problem. Scripts may rely on code, name, severity and
repair.

**Severity**

- note: worth knowing; the region is not damaged.
- warning: something is not as it must be; no file is affected.
- error: files or the proof of their blocks are affected, or one more fault would lose something.
- fatal: the check cannot go on.

**Repair**

- safe: another copy, or the rest of the metadata, proves what is right. `-p` allows these repairs and no others.
- lossy: a choice has to be made, and something is lost; the explanation says what. `-y` allows these too.
- manual: only the user can repair it; the explanation says how.
- none: there is nothing to repair.

No repair marks a block free that may hold guest memory. Such a block becomes `reserved`: it is not allocated until `gmfs
repair --release-lost` frees it.
";

/// The topic of a group of one hundred codes.
fn group(hundred: u32) -> &'static str {
    match hundred {
        0 => "Pages and their copies",
        1 => "Superblock",
        2 => "Inodes",
        3 => "The tree",
        4 => "Block descriptors",
        5 => "Counts in the superblock",
        6 => "Contents",
        7 => "KHO: the device tree and the preserved map that a kernel hands over",
        8 => "LUO: sessions and files that a kernel hands over",
        9 => "guestmemfs v1",
        10 => "pkernfs",
        11 => "What pkernfs and guestmemfs v1 have in common: chains of inodes, and the bitmap",
        _ => panic!("codes of {hundred}00 have no heading yet: add one here"),
    }
}

/// The first sentence under "What".
fn first_sentence(explanation: &str) -> String {
    let (_, what) = explanation.split_once("\n## What\n\n").expect("every explanation has this heading");
    let paragraph = what.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let end = paragraph.find(". ").map_or(paragraph.trim_end().len(), |at| at + 1);
    paragraph[..end].replace('|', "\\|")
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut last = None;
    for code in Code::ALL {
        let hundred = *code as u32 / 100;
        if last.replace(hundred) != Some(hundred) {
            write!(page, "\n## GM{hundred:02}xx: {}\n\n", group(hundred)).unwrap();
            page.push_str("| code | name | severity | repair | since | what it means |\n");
            page.push_str("| --- | --- | --- | --- | --- | --- |\n");
        }
        let (severity, repair) = (code.severity().name(), code.repair().name());
        let link = format!("[{code}](../crates/gmfs-check/src/explain/{code}.md)");
        let what = first_sentence(code.explanation());
        writeln!(page, "| {link} | `{}` | {severity} | {repair} | {} | {what} |", code.name(), code.since()).unwrap();
    }
    page
}

#[test]
fn the_page_of_problems_is_what_the_catalogue_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/problems.md");
    let expected = page();
    if std::env::var_os("GMFS_UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/problems.md is not what the catalogue says: run with GMFS_UPDATE=1");
}

/// An explanation must name the class of the repair as the catalogue does, so that the two stay consistent.
#[test]
fn explanations_name_the_class_of_the_repair() {
    for code in Code::ALL {
        let (_, repair) = code.explanation().split_once("\n## How gmfs repairs it\n\n").unwrap();
        let start = match code.repair().name() {
            "safe" => "A safe repair",
            "lossy" => "A lossy repair",
            "manual" => "Only you can",
            _ => "There is nothing to repair",
        };
        assert!(repair.starts_with(start), "{code}: must start with '{start}'");
        // The driver of pkernfs leaves leaked blocks in normal use: no damage, and yet what is in them goes with them.
        if code.severity() == Severity::Note && *code != Code::GM1123 {
            assert!(!repair.starts_with("A lossy repair"), "{code}: a note that loses something is no note");
        }
    }
}

/// The codes that an explanation mentions must exist.
#[test]
fn explanations_mention_codes_that_exist() {
    for code in Code::ALL {
        let words = code.explanation().split(|c: char| !c.is_ascii_alphanumeric());
        for word in words.filter(|word| word.len() == 6 && word.starts_with("GM")) {
            assert!(word.parse::<Code>().is_ok(), "{code} mentions {word}");
        }
    }
}
