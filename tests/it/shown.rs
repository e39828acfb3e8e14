//! What users see on a terminal of 80 columns.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::images;
use crate::sandbox::{Done, Sandbox, UNSEEN};
use crate::terminal::Terminal;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok("mkdir region.img -p /vms/a-directory-with-a-long-name/another-one-below-it");
    sandbox.ok("mv region.img /vms/second.mem /vms/a-directory-with-a-long-name/another-one-below-it/second.mem");
    sandbox.ok("bad add region.img block:2");
    sandbox
}

#[test]
fn tables_fit_the_terminal() {
    let sandbox = sandbox();
    for (name, line) in [
        ("ls", "ls -lR region.img"),
        ("files", "inspect region.img files"),
        ("inodes", "inspect region.img inodes"),
        ("blocks", "inspect region.img blocks"),
        ("pages", "inspect region.img pages"),
        ("who", "who region.img block:0 block:2 block:5 block:6 0x100000000"),
        ("stat", "stat region.img /vms/a-directory-with-a-long-name/another-one-below-it/second.mem"),
        ("map", "map region.img /vms/first.mem"),
        ("scan", "scan region.img"),
        ("bad", "bad list region.img"),
        ("explain", "explain"),
        ("explain_code", "explain GM0404"),
        ("fsck", "fsck -n region.img"),
    ] {
        let (_, shown) = Terminal::run(&sandbox, line, 80);
        for text in shown.lines() {
            let long_word = text.split_whitespace().any(|word| word.len() > 50);
            assert!(text.chars().count() <= 80 || long_word, "{line}: {text}");
        }
        insta::assert_snapshot!(format!("shown_{name}"), shown);
        // Without a terminal the output is complete, whatever COLUMNS says: it has every word of the narrow form, and
        // more.
        let piped = sandbox.gmfs(line);
        let wide = String::from_utf8_lossy(&piped.stdout).into_owned();
        let missing: Vec<&str> = shown.split_whitespace().filter(|word| !wide.contains(word)).collect();
        assert!(missing.is_empty() || !piped.stderr.is_empty(), "{line}: {missing:?}");
    }
}

#[test]
fn columns_says_how_wide_the_terminal_is() {
    let sandbox = sandbox();
    let width = |columns: Option<&str>| {
        let mut script = std::process::Command::new("script");
        script.args([
            "-qec",
            &format!("stty cols 200; {} inspect region.img inodes --color never", crate::sandbox::GMFS),
            "/dev/null",
        ]);
        script.current_dir(sandbox.path(".")).env_remove("COLUMNS").stdin(Stdio::null());
        if let Some(columns) = columns {
            script.env("COLUMNS", columns);
        }
        let Ok(output) = script.output() else { return None };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|line| line.trim_end().chars().count()).max()
    };
    let Some(wide) = width(None) else { return };
    assert!(wide > 80 && width(Some("80")).unwrap() <= 80 && width(Some("none")) == Some(wide), "{wide}");
}

/// What a terminal has shown, without the parts that depend on who runs the tests.
fn said(terminal: &Terminal) -> String {
    let shown = terminal.shown.replace("\r\n", "\n");
    shown.split_inclusive('\n').filter(|line| !line.starts_with(UNSEEN)).collect()
}

#[test]
fn a_question_names_the_problem_and_nothing_is_said_twice() {
    let sandbox = sandbox();
    // The file's size is smaller than its blocks: one problem that needs more than one edit.
    sandbox.ok("inject region.img GM0404");
    let before = sandbox.read("region.img");
    let mut terminal = Terminal::sized(&sandbox, "fsck region.img", 80);
    terminal.answer("[q]uit: ", "q\n");
    assert_eq!(terminal.end(), 4 + 32, "{}", terminal.shown);
    let shown = said(&terminal);
    assert_eq!(shown.matches("Repair it?").count(), 1, "{shown}");
    assert_eq!(shown.matches("GM0404 error:").count(), 1, "{shown}");
    assert!(shown.contains("GM0404 error: /vms/first.mem: bytes "), "{shown}");
    assert!(sandbox.read("region.img") == before);
    insta::assert_snapshot!("shown_fsck_quit", shown);
    let mut terminal = Terminal::sized(&sandbox, "fsck region.img", 80);
    terminal.answer("[q]uit: ", "y\n");
    while terminal.shows("[q]uit: ") {
        terminal.say("y\n");
    }
    let status = terminal.end();
    assert_eq!(status, 1, "{}", terminal.shown);
    insta::assert_snapshot!("shown_fsck_repaired", said(&terminal));
}

#[test]
fn without_a_terminal_fsck_says_that_nothing_was_written() {
    let sandbox = sandbox();
    sandbox.ok("inject region.img GM0404");
    let done = sandbox.gmfs("fsck region.img");
    insta::assert_snapshot!("shown_fsck_no_terminal", done.all());
    assert!(done.stderr.contains("nothing was written") && done.stderr.contains("fsck -y"), "{done:?}");
    // A user who asks only for a check knows that nothing is written.
    assert!(!sandbox.gmfs("fsck -n region.img").stderr.contains("nothing was written"));
    let facts = &sandbox.gmfs("fsck -n --json region.img").json()["findings"];
    let found = facts.as_array().unwrap().iter().find(|finding| finding["code"] == "GM0404").unwrap();
    assert_eq!(found["facts"]["path"], "/vms/first.mem", "{found}");
    assert!(found["facts"]["offset"].is_u64() && found["facts"]["length"].is_u64(), "{found}");
}

#[test]
fn a_closed_standard_output_is_an_error() {
    let sandbox = sandbox();
    for (line, status) in [
        ("ls region.img", 2),
        ("explain", 2),
        ("cat region.img /sparse", 2),
        ("save region.img -o -", 2),
        ("dump region.img -o -", 2),
        ("inspect region.img --json", 2),
        ("fsck -n region.img", 8),
        ("repair --plan region.img", 8),
        // These commands print nothing, so a closed standard output is not an error.
        ("mkdir region.img /new", 0),
    ] {
        let script = format!("exec \"$0\" {line} >&-");
        let output = std::process::Command::new("sh")
            .args(["-c", &script, crate::sandbox::GMFS])
            .current_dir(sandbox.path("."))
            .output()
            .unwrap();
        let done: Done = output.into();
        assert_eq!(done.code, status, "{line}: {done:?}");
        assert_eq!(done.stderr.contains("Bad file descriptor"), status != 0, "{line}: {done:?}");
    }
    // /dev/null is not a closed output, however it was opened.
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    assert!(sandbox.command(&["ls", "region.img"]).stdout(null()).status().unwrap().success());
    let closed = std::process::Command::new("sh")
        .args(["-c", "exec \"$0\" put region.img - /from-nowhere <&-", crate::sandbox::GMFS])
        .current_dir(sandbox.path("."))
        .output()
        .unwrap();
    assert_eq!(Done::from(closed).code, 2);
}

#[test]
fn progress_is_gone_when_it_is_done() {
    let sandbox = sandbox();
    let slow = |options: &str| {
        let feed = format!("{{ head -c 1M /dev/zero; sleep 1; head -c 1M /dev/zero; }} | {}", crate::sandbox::GMFS);
        let line = format!("stty cols 80; {feed} put region.img - /slow -f {options}; echo done");
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).current_dir(sandbox.path(".")).stdin(Stdio::null());
        let output = script.env("TERM", "xterm").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(shown) = slow("") else { return };
    let (bar, rest) = shown.rsplit_once("\r\u{1b}[K").unwrap();
    assert!(bar.contains("copying ") && bar.contains("MiB/s"), "{shown:?}");
    assert_eq!(rest.trim_end(), "done", "{shown:?}");
    // Without a terminal on standard error there is no progress.
    let done = slow("2>errors").unwrap();
    assert_eq!(done.trim_end(), "done");
    let errors = String::from_utf8(sandbox.read("errors")).unwrap();
    assert!(errors.lines().all(|line| line.starts_with(UNSEEN)), "{errors:?}");
    let done: Done = sandbox.command(&["fsck", "-n", "-C0", "region.img"]).output().unwrap().into();
    assert_eq!(done.stderr, "");
}

#[test]
fn what_a_killed_run_left_hinders_nobody_and_goes() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs large.img --size 160M");
    let content: Vec<u8> = images::content().iter().cycle().take(128 << 20).copied().collect();
    sandbox.write("content", &content);
    sandbox.ok("put large.img content /f");
    for (line, out) in
        [("save large.img -o out", "out"), ("extract large.img /f got", "got"), ("repair large.img -o copy", "copy")]
    {
        let partial = format!("{out}.partial");
        let args: Vec<&str> = line.split_whitespace().collect();
        // Repeats until the kill comes in time.
        for attempt in 0.. {
            let mut child = sandbox.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // The file gets its mark when it is locked; one without a mark may be anybody's, and stays.
            let mode = |found: std::fs::Metadata| found.permissions().mode();
            let marked = || std::fs::metadata(sandbox.path(&partial)).is_ok_and(|found| mode(found) & 0o1000 != 0);
            while !marked() && !sandbox.exists(out) {
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            if sandbox.exists(&partial) {
                break;
            }
            assert!(attempt < 20, "{line} is always done before the signal");
            std::fs::remove_file(sandbox.path(out)).unwrap();
        }
        let mode = std::fs::metadata(sandbox.path(&partial)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{line}");
        let done = sandbox.gmfs(line);
        assert!(done.code == 0 && done.stderr.is_empty(), "{line}: {done:?}");
        assert!(sandbox.exists(out) && !sandbox.exists(&partial), "{line}");
        assert_eq!(std::fs::metadata(sandbox.path(out)).unwrap().permissions().mode() & 0o7777, 0o600, "{line}");
    }
    assert!(sandbox.read("got") == content);
    assert!(sandbox.read("out") == sandbox.read("large.img"));
    let left: Vec<_> = std::fs::read_dir(sandbox.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
}
