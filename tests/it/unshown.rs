//! Damaged trees: a listing or a copy names what it leaves out, and what is doubtful.

use gmfs_format::native::tables::INODE_DOUBTFUL;

use crate::images::edit_inode;
use crate::sandbox::Sandbox;

/// A region with /d (inode 2), /d/x (3), /d/x/f (4) and /g (5).
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 16M -q");
    sandbox.ok("mkdir region.img -p /d/x");
    sandbox.write("content", b"guest memory");
    sandbox.ok("put region.img content /d/x/f");
    sandbox.ok("put region.img content /g");
    sandbox
}

/// Runs a command that gives only part of the result, and must report this about the rest.
fn partly(sandbox: &Sandbox, line: &str, saying: &[&str]) {
    let done = sandbox.gmfs(line);
    assert_eq!(done.code, 1, "{line}: {done:?}");
    for text in saying {
        assert!(done.stderr.contains(text), "{line}: {text}: {done:?}");
    }
}

#[test]
fn directories_in_a_circle_are_named() {
    let sandbox = sandbox();
    edit_inode(&sandbox, "region.img", 2, |raw| raw.parent = 3.into());
    for line in ["ls region.img", "ls -R region.img", "ls -l region.img", "tree region.img", "extract region.img / out"]
    {
        let what = "3 files or directories are not";
        partly(&sandbox, line, &[what, "inode 2 'd' (no path leads to it", "inode 3 'x'", "inode 4 'f'"]);
    }
    assert_eq!(sandbox.read("out/g"), b"guest memory");
    for line in ["ls -R region.img --json", "tree region.img --json", "extract region.img / out -f --json"] {
        let found = sandbox.gmfs(line).json();
        assert_eq!(found["not_shown"][0], serde_json::json!({"ino": 2, "name": "d", "reason": "no-path"}), "{line}");
        assert_eq!(found["not_shown"].as_array().unwrap().len(), 3);
    }
    // A file that a path leads to is complete.
    sandbox.ok("cat region.img /g");
    assert!(sandbox.ok("inspect region.img files").text().contains("d (no path leads to it"));
}

#[test]
fn of_two_with_one_name_both_are_named() {
    let sandbox = sandbox();
    edit_inode(&sandbox, "region.img", 5, |raw| raw.set_name(b"d"));
    let same = "inode 5 'd' (inode 2 has the same name in the same directory)";
    for line in ["ls region.img", "ls -R region.img", "tree region.img", "extract region.img / out"] {
        partly(&sandbox, line, &["1 file or directory is not", same]);
    }
    let both = "'/d' names more than one inode: inode 2 is taken, not inode 5";
    for line in ["stat region.img /d", "stat region.img /d/x/f", "cat region.img /d/x/f", "map region.img /d/x/f"] {
        partly(&sandbox, line, &[both]);
    }
    partly(&sandbox, "extract region.img /d/x/f one", &[both]);
    assert_eq!(sandbox.read("one"), b"guest memory");
    partly(&sandbox, "ls region.img /d", &[both]);
}

#[test]
fn many_are_counted() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 16M -q");
    for n in 2..20 {
        sandbox.ok(&format!("mkdir region.img /d{n}"));
    }
    for n in 3..20 {
        edit_inode(&sandbox, "region.img", n, |raw| raw.set_name(b"d2"));
    }
    partly(&sandbox, "tree region.img", &["17 files or directories are not shown: inode 3 'd2'", "; and 9 more"]);
    partly(&sandbox, "stat region.img /d2", &["inode 10 and 9 more"]);
}

#[test]
fn a_doubtful_file_is_given_and_said_to_be_doubtful() {
    let sandbox = sandbox();
    edit_inode(&sandbox, "region.img", 4, |raw| raw.flags = INODE_DOUBTFUL.into());
    let said = "'/d/x/f' is doubtful: a repair could not prove";
    for line in [
        "cat region.img /d/x/f",
        "extract region.img /d/x/f one",
        "extract region.img / all",
        "stat region.img /d/x/f",
        "map region.img /d/x/f",
        "ls region.img /d/x",
        "ls -lR region.img",
        "tree region.img",
        "inspect region.img files",
        "inspect region.img inodes",
    ] {
        partly(&sandbox, line, &[said]);
    }
    assert_eq!(sandbox.gmfs("cat region.img /d/x/f").stdout, b"guest memory");
    assert!(sandbox.read("one") == b"guest memory" && sandbox.read("all/d/x/f") == b"guest memory");
    assert!(sandbox.gmfs("stat region.img /d/x/f").text().contains("doubtful"));
    assert_eq!(sandbox.gmfs("stat region.img /d/x/f --json").json()["files"][0]["doubtful"], true);
    assert_eq!(sandbox.gmfs("extract region.img /d/x/f two --json").json()["files"][0]["doubtful"], true);
    // Other files are not, and the checker knows the flag.
    sandbox.ok("cat region.img /g");
    sandbox.ok("ls region.img");
    sandbox.ok("fsck -n region.img");
    // A file that is rewritten is not doubtful any more.
    sandbox.ok("put -f region.img content /d/x/f");
    sandbox.ok("cat region.img /d/x/f");
    sandbox.ok("tree region.img");
}
