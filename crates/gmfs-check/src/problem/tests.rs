use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::*;

#[test]
fn codes_are_sorted_and_names_are_unique() {
    assert!(Code::ALL.is_sorted());
    let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    for code in Code::ALL {
        assert_eq!(code.text(), format!("GM{:04}", code.number()));
        assert_eq!(code.text().parse(), Ok(*code));
        assert_eq!(code.name().parse(), Ok(*code));
    }
}

/// A change of a code, its name, severity or repair is a change of what scripts rely on: it must be seen.
#[test]
fn the_catalogue_is_as_published() {
    let mut rows = String::new();
    for code in Code::ALL {
        let (severity, repair) = (code.severity().name(), code.repair().name());
        writeln!(rows, "{code} {} {severity} {repair} since {}", code.name(), code.since()).unwrap();
    }
    insta::assert_snapshot!(rows);
}

/// What can be repaired has a stage in which it is, and nothing else is planned for.
#[test]
fn every_code_has_a_stage_that_fits_its_repair() {
    for code in Code::ALL.iter().copied() {
        let planned = code.stage() != Stage::Nothing;
        match code.repair() {
            Repair::Safe | Repair::Lossy => assert!(planned, "{code}: a repair, and no stage"),
            // Pages that only the user can repair keep the rest from being planned.
            Repair::Manual => assert!(!planned || code.stage() == Stage::Pages, "{code}"),
            Repair::None => assert!(!planned, "{code}: a stage, and no repair"),
        }
        assert!(code.coupling().is_none() || code.stage() == Stage::Records, "{code}: only records are coupled");
    }
}

#[test]
fn every_code_is_explained_under_the_same_headings() {
    const HEADINGS: [&str; 4] = ["## What", "## Why it matters", "## How gmfs repairs it", "## What may be lost"];
    for code in Code::ALL {
        let text = code.explanation();
        assert!(text.starts_with(&format!("# {code} {}\n", code.name())), "{code}: title");
        let mut at = 0;
        for heading in HEADINGS {
            let found = text[at..].find(&format!("\n{heading}\n\n"));
            assert!(found.is_some(), "{code}: {heading} is missing or out of order");
            at += found.unwrap() + heading.len();
        }
        assert!(text.lines().all(|line| line.len() <= 100), "{code}: a line of more than 100 bytes");
        assert!(text.len() > 300, "{code}: too short to explain anything");
    }
}
