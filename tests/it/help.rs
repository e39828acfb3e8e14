//! What the program says of itself, at 80 columns.

use crate::sandbox::Sandbox;

/// Every command that the help lists.
pub(crate) fn commands(sandbox: &Sandbox) -> Vec<String> {
    let help = sandbox.ok("--help").text();
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // What a name is followed by may go on in the next line, further to the right.
    let names =
        listed.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
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
    insta::assert_snapshot!("usage_error", sandbox.gmfs("mkfs x --size 12Q").all());
}
