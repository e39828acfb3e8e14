//! What `extract` creates, and where: nothing outside of its target, whatever names a region has and whatever is there
//! already.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

use crate::images::{self, edit_inode};
use crate::sandbox::{Done, Sandbox};

/// A region with /d (inode 2), /d/f (3) and /g (4), and a directory that extract must not touch.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 16M -q");
    sandbox.ok("mkdir region.img /d");
    sandbox.write("content", b"guest memory");
    sandbox.ok("put region.img content /d/f");
    sandbox.ok("put region.img content /g");
    std::fs::create_dir(sandbox.path("victim")).unwrap();
    sandbox.write("victim/file", b"precious");
    sandbox
}

/// Everything in the sandbox except the target `out`.
fn outside(sandbox: &Sandbox) -> Vec<String> {
    let mut found: Vec<String> = ["", "victim"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(sandbox.path(folder)).unwrap())
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| !path.ends_with("/out"))
        .collect();
    found.sort();
    assert_eq!(sandbox.read("victim/file"), b"precious");
    found
}

#[test]
fn a_name_that_leads_elsewhere_is_left_out_and_named() {
    let names: [&[u8]; 9] =
        [b"link/evil", b"link/file", b"..", b".", b"../evil", b"a/b", b"", b"x\0y", b"/proc/self/cwd/evil"];
    for name in names {
        for ino in [2, 4] {
            let sandbox = sandbox();
            edit_inode(&sandbox, "region.img", ino, |raw| raw.set_name(name));
            std::fs::create_dir(sandbox.path("out")).unwrap();
            symlink("../victim", sandbox.path("out/link")).unwrap();
            let before = outside(&sandbox);
            for force in ["", " -f"] {
                let done = sandbox.gmfs(&format!("extract region.img / out{force} --json"));
                assert_eq!(done.code, 1, "{name:?} {done:?}");
                assert!(done.stderr.contains("not extracted") && done.stderr.contains(&format!("inode {ino} '")));
                assert!(done.stderr.contains("no file can have its name"), "{done:?}");
                assert_eq!(done.json()["not_shown"][0]["reason"], "name");
                assert_eq!(outside(&sandbox), before, "{name:?}");
                // The rest has been extracted.
                assert!(sandbox.exists(if ino == 2 { "out/g" } else { "out/d/f" }), "{name:?} {done:?}");
                for made in ["out/g", "out/d/f"].iter().filter(|_| force.is_empty()) {
                    let _ = std::fs::remove_file(sandbox.path(made));
                }
            }
        }
    }
}

#[test]
fn what_is_in_the_target_already_is_not_followed() {
    let sandbox = sandbox();
    let before = outside(&sandbox);
    let fails = |line: &str, saying: &str| {
        let done = sandbox.fails(line, saying);
        assert_eq!(outside(&sandbox), before, "{line}: {done:?}");
    };
    // A link in place of a directory, also of the target directory.
    std::fs::create_dir(sandbox.path("out")).unwrap();
    symlink("../victim", sandbox.path("out/d")).unwrap();
    fails("extract region.img / out -f", "cannot make out/d: there is a symbolic link of this name");
    fails("extract region.img /d out -f", "cannot make out/d: there is a symbolic link of this name");
    std::fs::remove_file(sandbox.path("out/d")).unwrap();
    // A file in place of a directory.
    sandbox.write("out/d", b"old");
    fails("extract region.img / out -f", "cannot make out/d: Not a directory");
    std::fs::remove_file(sandbox.path("out/d")).unwrap();
    // A pipe in place of a file, and a directory.
    std::process::Command::new("mkfifo").arg(sandbox.path("out/g")).status().unwrap();
    fails("extract region.img /g out", "exists already");
    fails("extract region.img /g out -f", "no regular file");
    assert!(std::fs::metadata(sandbox.path("out/g")).unwrap().file_type().is_fifo());
    std::fs::remove_file(sandbox.path("out/g")).unwrap();
    std::fs::create_dir(sandbox.path("out/g")).unwrap();
    fails("extract region.img /g out -f", "no regular file");
    std::fs::remove_dir(sandbox.path("out/g")).unwrap();
    // A file that a link or another hard link leads to keeps its content.
    symlink("../victim/file", sandbox.path("out/g")).unwrap();
    symlink("../victim/new", sandbox.path("out/g.partial")).unwrap();
    fails("extract region.img /g out", "exists already");
    sandbox.ok("extract region.img /g out -f");
    assert!(sandbox.read("out/g") == b"guest memory" && !sandbox.path("out/g").is_symlink());
    std::fs::remove_file(sandbox.path("out/g")).unwrap();
    std::fs::hard_link(sandbox.path("victim/file"), sandbox.path("out/g")).unwrap();
    sandbox.ok("extract region.img / out -f");
    assert!(sandbox.read("out/g") == b"guest memory" && sandbox.exists("out/d/f"));
    assert_eq!(outside(&sandbox), before);
    // An existing directory is used. The target itself may be a link, because the user named it.
    sandbox.write("out/d/own", b"stays");
    symlink("out", sandbox.path("to")).unwrap();
    sandbox.ok("extract region.img / to -f");
    assert!(sandbox.exists("out/d/own") && sandbox.exists("out/d/f"));
    std::fs::remove_file(sandbox.path("to")).unwrap();
    // A slash at the end requires a directory.
    fails("extract region.img /g none/", "the slash at its end demands one");
    fails("save region.img -o none/", "the slash at its end demands a directory");
    sandbox.ok("extract region.img /d made/");
    assert!(sandbox.exists("made/f"));
}

/// Directories are open while they are walked, and a process may have only a limited number of open files.
#[test]
fn a_deep_tree_needs_few_open_files() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 16M -N 2000 -q");
    let deep = "/d".repeat(300);
    sandbox.ok(&format!("mkdir region.img -p {deep}"));
    sandbox.write("content", b"deep");
    for depth in [0, 1, 150, 299, 300] {
        sandbox.ok(&format!("put region.img content {}/z{depth}", "/d".repeat(depth)));
    }
    let script = "ulimit -n 100; exec \"$0\" extract region.img / out";
    let mut command = std::process::Command::new("sh");
    let run = command.args(["-c", script, crate::sandbox::GMFS]).current_dir(sandbox.path("."));
    let done: Done = run.output().unwrap().into();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    for depth in [0, 1, 150, 299, 300] {
        assert_eq!(sandbox.read(&format!("out{}/z{depth}", "/d".repeat(depth))), b"deep");
    }
}

/// Guest memory, and information about it, is for its owner only, whatever the umask.
#[test]
fn what_holds_guest_memory_is_private() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("cut.img", &sandbox.read("region.img")[..5 << 20]);
    let script = "umask 0
        \"$0\" mkfs made.img --size 16M -q
        \"$0\" create made.img /open --size 1 --mode 644
        \"$0\" extract made.img /open
        \"$0\" extract region.img / all
        \"$0\" extract cut.img /vms/first.mem gaps --sparse-absent
        \"$0\" extract cut.img /vms/first.mem more --sparse-absent --missing list
        \"$0\" cat cut.img /vms/first.mem --sparse-absent --missing of-cat >> /dev/null
        \"$0\" save region.img -o saved
        \"$0\" dump region.img -o metadata
        \"$0\" inject region.img GM0001
        \"$0\" repair -y region.img -o repaired
        \"$0\" fsck -p --undo undo region.img";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, crate::sandbox::GMFS]).current_dir(sandbox.path(".")).output().unwrap();
    let mode = |name: &str| std::fs::metadata(sandbox.path(name)).map(|found| found.permissions().mode() & 0o7777);
    for name in ["made.img", "open", "all/vms/first.mem", "gaps", "gaps.missing", "more", "list", "saved"] {
        assert_eq!(mode(name).unwrap(), 0o600, "{name}");
    }
    for name in ["metadata", "repaired", "undo"] {
        assert_eq!(mode(name).unwrap(), 0o600, "{name}");
    }
    for name in ["all", "all/vms"] {
        assert_eq!(mode(name).unwrap(), 0o700, "{name}");
    }
    assert_eq!(std::fs::metadata(sandbox.path("saved")).unwrap().uid(), rustix::process::geteuid().as_raw());
}
