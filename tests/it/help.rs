//! Help texts, at 80 columns.

use crate::sandbox::{Done, Sandbox};
use crate::terminal::Terminal;

/// Every command in the help text.
pub(crate) fn commands(sandbox: &Sandbox) -> Vec<String> {
    let help = sandbox.ok("--help").text();
    let listed = help.split("\nUsage: ").nth(1).unwrap().split("\nOptions:\n").next().unwrap();
    // Headings are not indented. The text of a command may continue on the next line, which is indented further.
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn help_of_every_command() {
    let sandbox = Sandbox::new();
    let commands = commands(&sandbox);
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let long = sandbox.ok(&format!("{command} --help")).text();
        insta::assert_snapshot!(format!("help_{command}"), long);
        let short = sandbox.ok(&format!("{command} -h")).text();
        for line in long.lines().chain(short.lines()) {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn help_of_the_program_lists_commands_under_headings() {
    let sandbox = Sandbox::new();
    let help = sandbox.ok("--help").text();
    insta::assert_snapshot!("help", help);
    assert_eq!(sandbox.ok("help").text(), help);
    for line in help.lines().chain(sandbox.ok("-h").text().lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn version() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.ok("--version").text(), format!("gmfs {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(sandbox.ok("-V").text(), sandbox.ok("--version").text());
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2() {
    let sandbox = Sandbox::new();
    for line in [
        "",
        "frobnicate",
        "--frobnicate",
        "ls",
        "ls --frobnicate x",
        "mkfs",
        "mkfs x --size 12Q",
        "mkfs x --size 1G --region 1G",
        "mkfs x --pmd-size 4M",
        "mkfs x --uuid 12",
        "inspect x everything",
        "inspect x raw --copy c",
        "cat x",
        "stat x",
        "map x",
        "map x /f --vmm vmware",
        "who x",
        "who x page:1",
        "save x",
        "create x /f",
        "create x /f --size",
        "create x /f --size 1 --mode 8",
        "mkdir x",
        "put x /f",
        "truncate x /f",
        "mv x /f",
        "rm x",
        "ls x --region 0",
        "ls x --region 1G:1X",
        "ls x --color sometimes",
    ] {
        let done = sandbox.gmfs(line);
        assert_eq!(done.code, 2, "{line}: {done:?}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{line}: {done:?}");
    }
    for (line, tip) in [
        ("info", "tip: use 'gmfs inspect'"),
        ("check region.img", "tip: use 'gmfs fsck'"),
        ("inspec", "'inspect'"),
        ("resize2fs region.img", "'gmfs truncate --size'"),
    ] {
        let done = sandbox.gmfs(line);
        assert!(done.code == 2 && done.stderr.contains(tip), "{line}: {done:?}");
    }
    insta::assert_snapshot!("usage_error", sandbox.gmfs("mkfs x --size 12Q").all());
}

#[test]
fn colours_are_as_they_are_wished_also_in_errors_and_help() {
    let sandbox = Sandbox::new();
    for (line, code) in [("fsck --bogus", 16), ("frobnicate", 2), ("ls", 2), ("--help", 0), ("fsck --help", 0), ("", 2)]
    {
        let mut plain = Terminal::start(&sandbox, &format!("{line} --color never"));
        let mut unset = Terminal::coloured(&sandbox, line);
        let (plain_code, coloured_code) = (plain.end(), unset.end());
        if !line.is_empty() {
            assert_eq!(plain_code, code, "{line}: {}", plain.shown);
        }
        assert_eq!(coloured_code, code, "{line}: {}", unset.shown);
        assert!(!plain.shown.contains('\x1b'), "{line}: {:?}", plain.shown);
        assert!(unset.shown.contains('\x1b'), "{line}: {:?}", unset.shown);
        // Without a terminal there are no colours unless they are asked for.
        assert!(!sandbox.gmfs(line).all().contains('\x1b'), "{line}");
        if !line.is_empty() {
            assert!(sandbox.gmfs(&format!("{line} --color=always")).all().contains('\x1b'), "{line}");
        }
    }
    // NO_COLOR is set here.
    let mut plain = Terminal::start(&sandbox, "fsck --bogus");
    assert_eq!(plain.end(), 16);
    assert!(!plain.shown.contains('\x1b'), "{:?}", plain.shown);
}

#[test]
fn help_that_cannot_be_written_is_an_error() {
    let sandbox = Sandbox::new();
    for line in ["--version", "--help", "ls --help", "man", "completions bash"] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let done: Done = sandbox.command(&args).stdout(full).output().unwrap().into();
        assert_eq!(done.code, 2, "{line}: {done:?}");
        assert!(done.stderr.contains("cannot write to standard output"), "{line}: {done:?}");
    }
}

#[test]
fn quiet_leaves_out_success_and_notes_and_nothing_else() {
    let sandbox = Sandbox::new();
    for line in [
        "mkfs region.img --size 64M -q",
        "fsck -nq region.img",
        "-q fsck -n region.img",
        "save region.img -q -o saved.img",
        "dump region.img -o region.meta -q",
        "bad add -q region.img block:9",
    ] {
        assert_eq!(sandbox.ok(line).text(), "", "{line}");
    }
    // Errors and warnings are printed nevertheless.
    assert!(!sandbox.gmfs("ls -q missing").stderr.is_empty());
    // The output that was asked for is printed.
    assert!(sandbox.ok("inspect region.img -q").text().contains("UUID"));
    assert!(sandbox.ok("fsck -n region.img").text().contains("clean"));
}
