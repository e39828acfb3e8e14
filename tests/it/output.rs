//! Standard output of other kinds: pipes that close, devices that are full, and colours.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use crate::images;
use crate::sandbox::{Done, Sandbox};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let sandbox = sandbox();
    for line in
        ["cat region.img /vms/first.mem", "inspect region.img blocks", "ls -lR region.img", "tree region.img --json"]
    {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        // The reader takes one byte, or none, and then closes the pipe.
        let _ = stdout.read(&mut [0; 1]);
        drop(stdout);
        let done: Done = child.wait_with_output().unwrap().into();
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
    }
}

#[test]
fn a_full_device_is_an_error() {
    let sandbox = sandbox();
    for line in [
        "cat region.img /vms/first.mem",
        "ls region.img",
        "inspect region.img --json",
        "inspect region.img",
        "scan region.img",
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let done: Done = sandbox.command(&args).stdout(full).output().unwrap().into();
        assert_eq!(done.code, 2, "{line}: {done:?}");
        assert!(done.stderr.contains("cannot write to standard output: No space left on device"), "{line}: {done:?}");
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_leaves_nothing() {
    let sandbox = sandbox();
    // The limit is in blocks of 512 or 1024 bytes, so a few MiB at most. The signal is ignored, as a shell does with
    // trap ''.
    for (line, made) in [("save region.img -o out", "out"), ("extract region.img /vms/first.mem out", "out")] {
        let script = format!("trap '' XFSZ; ulimit -f 2000; exec \"$0\" {line}");
        let output = std::process::Command::new("sh")
            .args(["-c", &script, crate::sandbox::GMFS])
            .current_dir(sandbox.path("."))
            .output()
            .unwrap();
        let done: Done = output.into();
        assert_eq!(done.code, 2, "{line}: {done:?}");
        assert!(done.stderr.starts_with("gmfs: cannot "), "{line}: {done:?}");
        assert!(!sandbox.exists(made) && !sandbox.exists(&format!("{made}.partial")), "{line}");
    }
}

#[test]
fn an_interrupt_leaves_no_file_that_looks_whole() {
    let sandbox = Sandbox::new();
    // The region is large enough for the copy to take a while. It does not matter whether the signal comes in time.
    sandbox.ok("mkfs large.img --size 160M");
    let noise = images::content();
    let content: Vec<u8> = noise.iter().cycle().take(128 << 20).copied().collect();
    sandbox.write("content", &content);
    sandbox.ok("put large.img content /f");
    for (line, out) in [("save large.img -o out", "out"), ("extract large.img /f got", "got")] {
        let partial = format!("{out}.partial");
        let args: Vec<&str> = line.split_whitespace().collect();
        let child = sandbox.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !sandbox.exists(&partial) && !sandbox.exists(out) {
            std::thread::yield_now();
        }
        let pid = child.id().to_string();
        std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        let done: Done = child.wait_with_output().unwrap().into();
        assert!(!sandbox.exists(&partial), "{line}: {done:?}");
        if done.code == 2 {
            assert!(!sandbox.exists(out) && done.stderr.contains("interrupted"), "{line}: {done:?}");
        } else {
            assert!(done.code == 0 && sandbox.exists(out), "{line}: {done:?}");
        }
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let sandbox = sandbox();
    let escapes = |line: &str, env: &[(&str, &str)]| {
        let args: Vec<&str> = line.split_whitespace().collect();
        let output = sandbox.command(&args).envs(env.iter().copied()).output().unwrap();
        output.stdout.contains(&0x1b)
    };
    for line in ["inspect region.img", "ls region.img", "ls -l region.img", "tree region.img", "scan region.img"] {
        assert!(!escapes(line, &[]), "{line}: no terminal");
        assert!(!escapes(&format!("{line} --color never"), &[]), "{line}");
        assert!(escapes(&format!("{line} --color always"), &[]), "{line}");
        assert!(escapes(&format!("{line} --color=always"), &[("NO_COLOR", "1")]), "{line}: asked for");
        assert!(!escapes(&format!("{line} --color auto"), &[("CLICOLOR_FORCE", "0")]), "{line}");
    }
    let json = sandbox.ok("inspect region.img --json --color always");
    assert!(!json.stdout.contains(&0x1b), "JSON has no colours");
}

/// The output on a terminal of 80 columns, by means of script(1).
fn on_a_terminal(sandbox: &Sandbox, line: &str, env: &[(&str, &str)]) -> Option<String> {
    let inner = format!("stty cols 80; {} {line}", crate::sandbox::GMFS);
    let output = std::process::Command::new("script")
        .args(["-qec", &inner, "/dev/null"])
        .current_dir(sandbox.path("."))
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_terminal_gets_colours_and_lines_that_fit() {
    let sandbox = sandbox();
    let Some(text) = on_a_terminal(&sandbox, "inspect region.img", &[]) else { return };
    assert!(text.contains("\x1b[32m") || text.contains("\x1b[38;5;2m"), "{text:?}");
    let plain = on_a_terminal(&sandbox, "ls -l region.img", &[("NO_COLOR", "1")]).unwrap();
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let long = "n".repeat(200);
    sandbox.ok(&format!("create region.img /{long} --size 0"));
    let narrow = on_a_terminal(&sandbox, "inspect region.img files --color never", &[]).unwrap();
    for line in narrow.lines() {
        assert!(line.chars().count() <= 80 || line.contains(&long), "{line}");
    }
    let piped = sandbox.ok("inspect region.img files").text();
    assert!(piped.lines().any(|line| line.contains(&long)), "nothing is cut in a pipe");
}

#[test]
fn closed_standard_streams_are_survived() {
    let sandbox = sandbox();
    let script = "exec \"$0\" ls region.img >&- 2>&- <&-";
    let status = std::process::Command::new("sh")
        .args(["-c", script, crate::sandbox::GMFS])
        .current_dir(sandbox.path("."))
        .status()
        .unwrap();
    assert!(status.code().is_some_and(|code| code == 0 || code == 2), "{status:?}");
}

/// Details go to standard error, and answers stay what they are.
#[test]
fn verbose_tells_more_on_standard_error_only() {
    let sandbox = sandbox();
    sandbox.ok("dump region.img -o metadata");
    sandbox.succeeds("mkdir region.img /x --undo undo");
    let opened = "gmfs: opened region.img (file): the region is at offset 0x0, 64 MiB (67108864 bytes); ";
    let found = "gmfs: the region has the layout gmfs2, UUID ";
    for (line, details) in [
        ("ls region.img", &[opened, found][..]),
        ("inspect region.img superblock", &[opened]),
        ("inspect region.img --json", &[opened, found]),
        ("dump --text region.img", &[opened]),
        ("map region.img /vms/first.mem", &[opened, found]),
        ("scan region.img", &["gmfs: searched 64 MiB (67108864 bytes) for superblocks"]),
        ("explain GM0402", &["gmfs: 1 of "]),
        ("completions bash", &["gmfs: bash reads it from "]),
        ("man ls", &["gmfs: the page of ls"]),
        ("fsck -n region.img", &[opened]),
        ("mkdir -n region.img /y", &[opened, "gmfs: 0 blocks taken and 0 freed; "]),
        ("undo -n region.img undo", &[opened]),
        ("restore -n region.img metadata", &[opened]),
        ("mkfs -n new.img --size 64M --uuid 01234567-89ab-4def-8123-456789abcdef", &["gmfs: opened new.img (file)"]),
    ] {
        let plain = sandbox.gmfs(line);
        let verbose = sandbox.gmfs(&format!("{line} -v"));
        assert_eq!(verbose.code, plain.code, "{line}: {verbose:?}");
        for detail in details {
            assert!(verbose.stderr.contains(detail) && !plain.stderr.contains(detail), "{line}: {verbose:?}");
        }
        let name = line.split(' ').next().unwrap();
        assert!(verbose.stderr.contains(&format!("gmfs: {name} took ")), "{line}: {verbose:?}");
        // These two have more to show as well.
        if !matches!(name, "fsck" | "mkfs") {
            assert!(verbose.stdout == plain.stdout, "{line}");
        }
    }
    let done = sandbox.gmfs("ls region.img /none -v");
    assert!(done.code == 2 && done.stderr.ends_with(" s; exit status 2\n"), "{done:?}");
    assert!(sandbox.gmfs("ls -q -v region.img").stderr.contains("cannot be used with"));
}
