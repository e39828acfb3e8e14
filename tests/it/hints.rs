//! Texts about options must not name options that their command does not have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::sandbox::Sandbox;

/// Hints in sources that several commands share: the option that they name, and a command that prints them.
const SHARED: &[(&str, &str)] = &[
    ("--region", "ls"),
    ("--region", "mkfs"),
    ("--base", "ls"),
    ("--part", "ls"),
    ("--no-lock", "ls"),
    ("--wait", "put"),
    ("--wait", "ls"),
    ("--in-use-ok", "rm"),
    ("--pmd-size", "mkfs"),
    ("--undo", "fsck"),
    ("--undo", "mkfs"),
    ("-f", "save"),
    ("-f", "extract"),
    ("-f", "dump"),
    ("-o", "save"),
    ("-o", "cat"),
    ("--sparse-absent", "extract"),
];

fn sources(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// The options that a text names.
fn options(text: &str) -> Vec<String> {
    let word = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        word.split(['=', '.', '[']).next().unwrap_or_default().to_owned()
    };
    let is_option = |word: &String| {
        let name = word.trim_start_matches('-');
        let dashes = word.len() - name.len();
        let letters = name.starts_with(|c: char| c.is_ascii_alphabetic());
        letters && (dashes == 2 && name.len() > 1 || dashes == 1 && name.len() == 1)
    };
    text.split_whitespace().map(word).filter(is_option).collect()
}

/// The help texts of the commands, each requested once.
struct Helps(Sandbox, BTreeMap<String, Option<String>>);

impl Helps {
    /// Whether a command has an option; `None` if there is no such command.
    fn has(&mut self, command: &str, option: &str) -> Option<bool> {
        let ask = || {
            let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
            let done = self.0.run(&words);
            (done.code == 0).then(|| done.text())
        };
        let help = self.1.entry(command.to_owned()).or_insert_with(ask).as_ref()?;
        let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        Some(words.into_iter().any(|word| word == option))
    }
}

#[test]
fn commands_in_texts_have_the_options_that_are_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("crates"), &mut files);
    let mut helps = Helps(Sandbox::new(), BTreeMap::new());
    let (mut commands, mut bare) = (0, 0);
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        let name = file.strip_prefix(root).unwrap();
        for line in text.lines() {
            let mut parts = line.split('`');
            let _ = parts.next();
            for quoted in parts.step_by(2) {
                let mut words = quoted.split_whitespace();
                let (Some("gmfs"), Some(command)) = (words.next(), words.next()) else { continue };
                if !command.chars().all(|c| c.is_ascii_lowercase()) {
                    continue;
                }
                commands += 1;
                // A command of two words has options of its own.
                let second = words.next().filter(|word| word.chars().all(|c| c.is_ascii_lowercase()));
                let command = &second.map_or_else(|| command.to_owned(), |second| format!("{command} {second}"));
                for option in options(quoted) {
                    let has = helps.has(command, &option);
                    assert_eq!(has, Some(true), "{}: `{quoted}`: {command} has no {option}", name.display());
                }
                assert!(helps.has(command, "--help").is_some(), "{}: `{quoted}`", name.display());
            }
            // Text outside of quotes is about the command that prints it.
            let Some((_, hint)) = line.split_once(".hint(\"") else { continue };
            let plain: String = hint.split("\").").next().unwrap_or(hint).split('`').step_by(2).collect();
            let plain = plain.split("gmfs ").next().unwrap_or_default();
            for option in options(plain) {
                bare += 1;
                // A file in a folder can be about a command of two words.
                let path = name.strip_prefix("src/cmd").ok().and_then(|path| path.to_str()).unwrap_or_default();
                let words = path.trim_end_matches(".rs").replace('/', " ");
                let first = words.split(' ').next().unwrap_or_default().to_owned();
                let own = [words, first].into_iter().find(|own| !own.is_empty() && helps.has(own, "--help").is_some());
                let said_by: Vec<String> = match own {
                    Some(own) => vec![own],
                    None => {
                        let shared = SHARED.iter().filter(|(named, _)| *named == option);
                        shared.map(|(_, command)| (*command).to_owned()).collect()
                    }
                };
                assert!(!said_by.is_empty(), "{}: who says {option}? {line}", name.display());
                for command in said_by {
                    assert_eq!(helps.has(&command, &option), Some(true), "{}: {option}: {line}", name.display());
                }
            }
        }
    }
    assert!(commands > 30 && bare > 5, "{commands} {bare}");
}
