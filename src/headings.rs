//! The headings under which `gmfs --help` and gmfs(8) list the commands.

use clap::Command;
use clap::builder::StyledStr;

/// Each heading with its commands, in the order in which they are listed. Every command is under one of them.
pub(crate) const HEADINGS: [(&str, &[&str]); 8] = [
    ("Start here", &["mkfs", "put", "ls", "extract", "fsck"]),
    ("Make and change", &["create", "mkdir", "cp", "truncate", "mv", "rm", "chmod", "chown", "tune"]),
    ("Look", &["inspect", "scan", "tree", "stat", "df", "map", "who", "diff", "report"]),
    ("Take out", &["cat", "save", "dump", "mount", "umount"]),
    ("Check and repair", &["repair", "explain", "undo", "restore", "bad", "inject"]),
    ("Live update", &["seal", "verify", "unseal", "vm", "plan", "preflight"]),
    ("The kernel's hand-over", &["kho"]),
    ("Administration", &["metrics", "completions", "man", "help"]),
];

/// The heading for commands that are not in [`HEADINGS`]. A test checks that there are none.
const OTHERS: &str = "Other commands";

/// The subcommands that are listed, by heading, each in the order of the list.
pub(crate) fn sorted(root: &Command) -> Vec<(&'static str, Vec<&Command>)> {
    let listed = |heading: &'static str, names: &[&str]| {
        let commands = names.iter().filter_map(|name| root.find_subcommand(name));
        (heading, commands.filter(|command| !command.is_hide_set()).collect::<Vec<_>>())
    };
    let mut sorted: Vec<_> = HEADINGS.iter().map(|(heading, names)| listed(heading, names)).collect();
    let known = |command: &&Command| HEADINGS.iter().any(|(_, names)| names.contains(&command.get_name()));
    let others = root.get_subcommands().filter(|command| !command.is_hide_set() && !known(command));
    sorted.push((OTHERS, others.collect()));
    sorted.retain(|(_, commands)| !commands.is_empty());
    sorted
}

/// The declaration with a help text that lists the commands under their headings. clap itself lists all of them under
/// one heading. This takes clap's list, with its alignment and line breaks, and splits it at the headings.
pub(crate) fn with_headings(root: Command) -> Command {
    let mut built = root.clone();
    built.build();
    let mut order = Vec::new();
    for (heading, commands) in sorted(&built) {
        order.extend(commands.into_iter().map(|command| (heading, command.get_name().to_owned())));
    }
    // clap adds the command help only when it runs.
    let help = Command::new("help").about("Print this help, or that of a command");
    let mut list = root.clone().help_template("{subcommands}").disable_help_subcommand(true).subcommand(help);
    for (place, (_, name)) in order.iter().enumerate() {
        list = list.mut_subcommand(name, |command| command.display_order(place));
    }
    let listed = list.render_help();
    let style = *root.get_styles().get_header();
    let mut text = String::new();
    let mut last = "";
    let mut entries = order.iter();
    // A line that continues a command's text is indented further than its name.
    for (plain, styled) in listed.to_string().lines().zip(listed.ansi().to_string().lines()) {
        let begins = plain.strip_prefix("  ").is_some_and(|rest| !rest.starts_with(' '));
        if let Some((heading, _)) = begins.then(|| entries.next()).flatten()
            && *heading != last
        {
            let gap = if last.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}{style}{heading}:{style:#}\n"));
            last = heading;
        }
        text.push_str(styled);
        text.push('\n');
    }
    let template = format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{text}\n{style}Options:{style:#}\n{{options}}{{after-help}}"
    );
    root.help_template(StyledStr::from(template))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli;

    #[test]
    fn every_command_is_under_one_heading() {
        let mut root = cli::command();
        root.build();
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for name in HEADINGS.iter().flat_map(|(_, names)| names.iter()) {
            *times.entry(name).or_default() += 1;
            let command = root.find_subcommand(name);
            assert!(command.is_some_and(|command| !command.is_hide_set()), "{name} is no command that is shown");
        }
        for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            assert_eq!(times.get(name), Some(&1), "{name} must be under one heading of src/headings.rs");
        }
        assert_eq!(HEADINGS[0].1.len(), 5);
        assert!(sorted(&root).iter().all(|(heading, _)| *heading != OTHERS));
    }

    #[test]
    fn a_command_without_a_heading_is_listed_last() {
        let root = with_headings(cli::command().subcommand(Command::new("frobnicate").about("Does {nothing}")));
        let help = root.clone().render_help().to_string();
        let others = help.split("Other commands:\n").nth(1).unwrap();
        assert!(others.starts_with("  frobnicate"), "{help}");
    }

    #[test]
    fn help_lists_the_commands_in_order() {
        let mut root = with_headings(cli::command());
        for help in [root.render_help().to_string(), root.render_long_help().to_string()] {
            let list = help.split("Options:\n").next().unwrap();
            let mut rest = list;
            for (heading, names) in HEADINGS {
                rest = rest.split_once(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{heading}: {help}")).1;
                for name in names {
                    rest = rest.split_once(&format!("  {name} ")).unwrap_or_else(|| panic!("{name}: {help}")).1;
                }
            }
            assert_eq!(list.matches(":\n").count(), HEADINGS.len(), "{help}");
        }
    }
}
