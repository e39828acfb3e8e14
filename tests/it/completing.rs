//! Completion, as shells request it.

use std::process::Command;

use crate::images;
use crate::sandbox::{GMFS, Sandbox};

/// A directory with an image, and with gmfs in a folder of programs under all of its names.
fn place() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    std::fs::create_dir(sandbox.path("bin")).unwrap();
    for name in ["gmfs", "mkfs.gmfs", "fsck.gmfs"] {
        std::os::unix::fs::symlink(GMFS, sandbox.path(format!("bin/{name}"))).unwrap();
    }
    sandbox
}

/// What gmfs offers for a line whose last word is to be completed.
fn offered(sandbox: &Sandbox, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let at = (words.len() - 1).to_string();
    let args: Vec<&str> = ["complete", &at, "--"].into_iter().chain(words).collect();
    let done = sandbox.run(&args);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
    done.text().lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn a_place_is_known_for_what_it_is() {
    let sandbox = place();
    let is = |line: &str, wanted: &[&str]| assert_eq!(offered(&sandbox, line), wanted, "{line}");
    is("gmfs insp", &["inspect"]);
    is("gmfs inspect ", &[":files"]);
    is("gmfs inspect region.img s", &["summary", "superblock"]);
    is("gmfs inspect --wait 3 region.img s", &["summary", "superblock"]);
    is("gmfs inspect --wait ", &[]);
    is("gmfs inspect --holes ", &["zero", "absent"]);
    is("gmfs inspect --holes=a", &["--holes=absent"]);
    is("gmfs inspect --color=a", &["--color=auto", "--color=always"]);
    is("gmfs inspect region.img --color n", &["never"]);
    is("gmfs save vmcore -o ", &[":files"]);
    is("gmfs report region.img -o ", &[":files"]);
    is("gmfs mkfs region.img --populate ", &[":directories"]);
    is("gmfs save vmcore -fo ", &[":files"]);
    is("gmfs put region.img ", &[":files"]);
    is("gmfs bad ", &["add", "del", "import", "list"]);
    is("gmfs bad add ", &[":files"]);
    is("gmfs man fs", &["fsck"]);
    is("gmfs man he", &[]);
    is("gmfs explain GM0402", &["GM0402"]);
    is("gmfs explain owner-mi", &["owner-missing"]);
    is("gmfs inject region.img gm0402", &["GM0402"]);
    is("gmfs completions z", &["zsh"]);
    is("fsck.gmfs --pr", &["--preen", "--progress"]);
    is("/sbin/mkfs.gmfs --lab", &["--label"]);
    is("mkfs.gmfs ", &[":files"]);
    is("gmfs frobnicate ", &[]);
    is("gmfs ls -- ", &[":files"]);
    assert!(offered(&sandbox, "gmfs explain ").len() > 40);
    // Hidden commands and options are not offered.
    assert!(offered(&sandbox, "gmfs ").iter().all(|word| word != "complete"));
    assert!(!offered(&sandbox, "gmfs mkdir --").contains(&"--base".to_owned()));
}

#[test]
fn paths_are_those_in_the_region() {
    let sandbox = place();
    let is = |line: &str, wanted: &[&str]| assert_eq!(offered(&sandbox, line), wanted, "{line}");
    is("gmfs cat region.img /v", &["/vms/"]);
    is("gmfs cat region.img /vms/f", &["/vms/first.mem"]);
    is("gmfs stat region.img /vms/first.mem /vms/f", &["/vms/first.mem"]);
    is("gmfs extract region.img /v", &["/vms/"]);
    is("gmfs cp region.img /vms/f", &["/vms/first.mem"]);
    is("gmfs cp region.img /vms/first.mem /v", &["/vms/"]);
    is("gmfs extract region.img /vms/first.mem ", &[":files"]);
    // A file that is not a region gives no suggestions and no errors.
    sandbox.write("noise", b"GMsb and then nothing");
    is("gmfs cat noise /", &[]);
    is("gmfs cat missing /", &[]);
    is("gmfs cat /dev/null /", &[]);
}

/// Runs a script of a shell in the sandbox. `None` if there is no such shell.
fn shell(sandbox: &Sandbox, shell: &[&str], script: &str) -> Option<String> {
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", sandbox.path("bin").display());
    let run = Command::new(shell[0])
        .args(&shell[1..])
        .arg(script)
        .current_dir(sandbox.path("."))
        .env_clear()
        .envs([("PATH", path.as_str()), ("HOME", sandbox.path(".").to_str().unwrap()), ("TERM", "xterm")])
        .stdin(std::process::Stdio::null())
        .output();
    let Ok(output) = run else {
        eprintln!("skipped: {} is not installed", shell[0]);
        return None;
    };
    // timeout reports with this status that there is no such program.
    if output.status.code() == Some(127) {
        eprintln!("skipped: one of {shell:?} is not installed");
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn bash_completes() {
    let sandbox = place();
    let complete = |words: &str| {
        let count = words.split(' ').count() - 1;
        let script = format!(
            "source <(gmfs completions bash) && COMP_WORDS=({words}) COMP_CWORD={count} && _gmfs && \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let printed = shell(&sandbox, &["bash", "--norc", "-c"], &script).unwrap();
        let mut words: Vec<String> = printed.lines().map(str::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(complete("gmfs insp"), ["inspect"]);
    let files = complete("gmfs inspect ''");
    assert!(["bin", "region.img"].iter().all(|name| files.iter().any(|file| file == name)), "{files:?}");
    assert_eq!(complete("gmfs inspect reg"), ["region.img"]);
    assert_eq!(complete("gmfs inspect region.img su"), ["summary", "superblock"]);
    assert!(complete("gmfs explain ''").contains(&"GM0402".to_owned()));
    assert!(complete("fsck.gmfs --").contains(&"--preen".to_owned()));
    assert_eq!(complete("gmfs cat region.img /vms/f"), ["/vms/first.mem"]);
    // bash splits --color=al and --part=reg into these words.
    assert_eq!(complete("gmfs inspect --color = al"), ["always"]);
    assert_eq!(complete("gmfs inspect --part = reg"), ["region.img"]);
}

#[test]
fn fish_completes() {
    let sandbox = place();
    let complete = |line: &str| {
        let script = format!("gmfs completions fish | source; complete -C '{line}'");
        let printed = shell(&sandbox, &["fish", "--no-config", "-c"], &script)?;
        Some(printed.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let Some(commands) = complete("gmfs insp") else { return };
    assert_eq!(commands, ["inspect"]);
    assert_eq!(complete("gmfs inspect reg").unwrap(), ["region.img"]);
    assert_eq!(complete("gmfs inspect region.img su").unwrap(), ["summary", "superblock"]);
    assert!(complete("gmfs explain ").unwrap().contains(&"GM0402".to_owned()));
    assert!(complete("fsck.gmfs --").unwrap().contains(&"--preen".to_owned()));
}

/// Zsh completes only when a user types. So it gets a terminal, on which the test types a line and a tab, and waits for
/// the completion.
const ZSH: &str = r#"
zmodload zsh/zpty && zpty z zsh -f -i
zpty -w z "fpath=($PWD \$fpath); autoload -U compinit; compinit -u -D; LISTMAX=1000; bindkey '^I' complete-word; echo REA''DY"
zpty -r z shown '*READY*'
zpty -n -w z "$LINE_TO_TYPE"$'\t'
zpty -r z shown "*$WANTED*"
print -r -- "$shown"
zpty -d z
"#;

#[test]
fn zsh_completes() {
    let sandbox = place();
    sandbox.write("_gmfs", sandbox.ok("completions zsh").text().as_bytes());
    for (line, wanted) in [
        ("gmfs insp", "ect"),
        ("gmfs inspect reg", "ion.img"),
        ("gmfs inspect region.img ", "superblock"),
        ("gmfs explain GM04", "GM0402"),
        ("fsck.gmfs --pre", "en"),
        ("gmfs cat region.img /v", "ms/"),
    ] {
        let script = format!("LINE_TO_TYPE='{line}' WANTED='{wanted}'\n{ZSH}");
        let Some(shown) = shell(&sandbox, &["timeout", "60", "zsh", "-f", "-c"], &script) else { return };
        assert!(shown.contains(wanted), "{line}: {shown}");
    }
}

/// The scripts in the repository must be those that the program prints.
#[test]
fn scripts_are_in_the_tree() {
    let sandbox = Sandbox::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    for (shell, file) in [
        ("bash", "gmfs.bash"),
        ("zsh", "_gmfs"),
        ("fish", "gmfs.fish"),
        ("elvish", "gmfs.elv"),
        ("powershell", "gmfs.ps1"),
    ] {
        let script = sandbox.ok(&format!("completions {shell}")).text();
        assert_eq!(script, std::fs::read_to_string(folder.join(file)).unwrap());
        for name in ["mkfs.gmfs", "fsck.gmfs", "mkfs.guestmemfs", "fsck.guestmemfs", "mount.gmfs", "mount.fuse.gmfs"] {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
}
