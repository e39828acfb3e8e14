//! Suggestions for command lines that were not understood: names that other tools have for what gmfs does.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of other tools, and the command of gmfs that does the same.
struct Other {
    names: &'static [&'static str],
    command: &'static str,
    /// The text of the tip. Without it, the tip says what the command does.
    advice: Option<&'static str>,
}

/// Names of a command in other tools.
const fn names(names: &'static [&'static str], command: &'static str) -> Other {
    Other { names, command, advice: None }
}

const OTHERS: &[Other] = &[
    names(&["format", "mke2fs", "init", "new", "mkfs.gmfs", "mkfs.guestmemfs"], "mkfs"),
    names(&["check", "e2fsck", "validate", "fsck.gmfs", "fsck.guestmemfs"], "fsck"),
    names(&["fix", "recover", "xfs_repair"], "repair"),
    names(&["info", "show", "dumpe2fs", "xfs_info", "status", "debugfs"], "inspect"),
    names(&["usage", "free", "space"], "df"),
    names(&["html", "visualize", "dashboard"], "report"),
    names(&["prometheus", "openmetrics", "monitor", "stats"], "metrics"),
    names(&["blkid", "probe", "search", "find", "detect"], "scan"),
    names(&["copy", "import", "add", "insert", "write", "upload"], "put"),
    names(&["export", "get", "copy-out", "unpack", "download"], "extract"),
    names(&["list", "dir", "ll"], "ls"),
    names(&["du"], "tree"),
    names(&["read", "type", "print"], "cat"),
    names(&["rename", "move"], "mv"),
    names(&["remove", "delete", "unlink", "rmdir"], "rm"),
    names(&["md"], "mkdir"),
    names(&["touch", "fallocate", "alloc"], "create"),
    names(&["filefrag", "fiemap", "bmap", "extents"], "map"),
    names(&["owner", "whose", "lookup"], "who"),
    names(&["checksum", "hash", "sum", "sign"], "seal"),
    names(&["cmp", "compare"], "diff"),
    names(&["backup", "rescue", "dd"], "save"),
    names(&["e2image", "xfs_metadump"], "dump"),
    names(&["xfs_mdrestore"], "restore"),
    names(&["e2undo", "revert", "rollback"], "undo"),
    names(&["badblocks"], "bad"),
    names(&["completion"], "completions"),
    names(&["manual", "manpage"], "man"),
    names(&["label", "e2label", "tune2fs", "tune.gmfs"], "tune"),
    Other {
        names: &["uuid"],
        command: "mkfs",
        advice: Some("a region gets its UUID when it is made, by --uuid of 'gmfs mkfs'"),
    },
    Other {
        names: &["resize", "resize2fs", "grow", "shrink"],
        command: "truncate",
        advice: Some(
            "a region keeps the size that it was made with; 'gmfs truncate --size' changes that of a file in it",
        ),
    },
];

/// Adds a tip that helps to an error, if one is known, and removes tips that cannot help.
pub(crate) fn improve(mut error: clap::Error, declaration: fn() -> clap::Command) -> clap::Error {
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let called = error.get(ContextKind::InvalidSubcommand).map(ToString::to_string);
            let other = called.and_then(|called| OTHERS.iter().find(|other| other.names.contains(&called.as_str())));
            if let Some(other) = other {
                error.remove(ContextKind::SuggestedSubcommand);
                error.insert(
                    ContextKind::Suggested,
                    ContextValue::StyledStrs(vec![StyledStr::from(tip(other, declaration))]),
                );
            }
        }
        // "to pass '--x' as a value, use '-- --x'" helps only with a file of that name, which hardly anybody has.
        ErrorKind::UnknownArgument => {
            let value = matches!(error.get(ContextKind::Suggested), Some(ContextValue::StyledStrs(tips))
                if tips.iter().any(|tip| tip.to_string().contains("as a value")));
            if value {
                error.remove(ContextKind::Suggested);
            }
        }
        _ => {}
    }
    error
}

fn tip(other: &Other, declaration: fn() -> clap::Command) -> String {
    if let Some(advice) = other.advice {
        return advice.to_owned();
    }
    let about = declaration().find_subcommand(other.command).and_then(|command| command.get_about().cloned());
    let mut about = about.map(|about| about.to_string()).unwrap_or_default();
    if let Some(first) = about.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    format!("use 'gmfs {}': {about}", other.command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    #[test]
    fn every_suggestion_exists() {
        let root = cli::command();
        let mut seen = std::collections::BTreeSet::new();
        for other in OTHERS {
            let command = root.find_subcommand(other.command).expect(other.command);
            assert!(!command.is_hide_set(), "{}", other.command);
            for name in other.names {
                assert!(root.find_subcommand(name).is_none(), "{name} is a command of gmfs itself");
                assert!(seen.insert(*name), "{name} is there twice");
            }
            let Some(advice) = other.advice else { continue };
            assert!(advice.contains(&format!("'gmfs {}", other.command)), "{advice}");
            for word in advice.split_whitespace().filter_map(|word| word.trim_matches('\'').strip_prefix("--")) {
                assert!(command.get_arguments().any(|arg| arg.get_long() == Some(word)), "{advice}: --{word}");
            }
        }
    }

    #[test]
    fn tips_are_what_was_asked_for() {
        let tip = |line: &[&str]| {
            let args = std::iter::once("gmfs").chain(line.iter().copied());
            let error = cli::command().try_get_matches_from(args).unwrap_err();
            let text = improve(error, cli::command).render().to_string();
            text.lines().filter_map(|line| line.trim().strip_prefix("tip: ").map(str::to_owned)).collect::<Vec<_>>()
        };
        for (asked, command) in
            [("info", "inspect"), ("check", "fsck"), ("dumpe2fs", "inspect"), ("format", "mkfs"), ("import", "put")]
        {
            let tips = tip(&[asked]);
            assert!(tips.len() == 1 && tips[0].starts_with(&format!("use 'gmfs {command}': ")), "{asked}: {tips:?}");
        }
        assert_eq!(tip(&["mkf"]), ["a similar subcommand exists: 'mkfs'"]);
        assert!(tip(&["resize2fs"])[0].contains("'gmfs truncate --size'"));
        assert_eq!(tip(&["ls", "x", "--bogus"]), [""; 0]);
        assert_eq!(tip(&["mkfs", "--lable"]), ["a similar argument exists: '--label'"]);
    }
}
