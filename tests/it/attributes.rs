//! Attributes of files, the label of a region, and trees that are copied with them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use crate::images;
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

/// Mode, owner and group of a path.
fn access(sandbox: &Sandbox, path: &str) -> (String, u64, u64) {
    let file = sandbox.ok(&format!("stat region.img {path} --json")).json()["files"][0].clone();
    (file["mode"].as_str().unwrap().to_owned(), file["uid"].as_u64().unwrap(), file["gid"].as_u64().unwrap())
}

fn commits(sandbox: &Sandbox) -> u64 {
    sandbox.ok("inspect region.img superblock --json").json()["superblock"]["write_count"].as_u64().unwrap()
}

#[test]
fn bits_and_owners_change_in_one_commit_for_a_whole_tree() {
    let sandbox = sandbox();
    let before = commits(&sandbox);
    sandbox.ok("chmod -R region.img u=rwX,go=rX /vms");
    assert_eq!(commits(&sandbox), before + 1);
    assert_eq!(access(&sandbox, "/vms/first.mem"), ("0644".to_owned(), 1000, 100));
    assert_eq!(access(&sandbox, "/vms/old"), ("0755".to_owned(), 1000, 100));
    sandbox.ok("chown region.img 7:8 /vms/first.mem /sparse");
    assert_eq!(access(&sandbox, "/vms/first.mem"), ("0644".to_owned(), 7, 8));
    sandbox.ok("chown region.img :9 /sparse");
    assert_eq!(access(&sandbox, "/sparse"), ("0600".to_owned(), 7, 9));
    // What is so already takes no commit.
    let before = commits(&sandbox);
    sandbox.ok("chown region.img :9 /sparse");
    assert_eq!(commits(&sandbox), before);
    let done = sandbox.ok("chmod region.img 640 /sparse --json").json();
    assert_eq!(done["changes"][0]["access_before"]["mode"], "0600");
    assert_eq!(done["changes"][0]["access_after"]["mode"], "0640");
    let dry = sandbox.ok("chown -n region.img 1:1 /sparse").text();
    assert!(dry.contains("would change '/sparse': 0640 1:1 instead of 0640 7:9"), "{dry}");
    sandbox.fails_with(2, "chmod region.img 600 /none /sparse", "'/none'");
    sandbox.fails("chown region.img no-such-user /sparse", "not in /etc/passwd");
    assert_eq!(access(&sandbox, "/sparse").0, "0600");
    sandbox.ok("fsck -n region.img");
}

#[test]
fn the_label_changes_in_both_superblocks_and_can_be_taken_back() {
    let sandbox = sandbox();
    let label = || sandbox.ok("inspect region.img superblock --json").json()["superblock"]["label"].clone();
    let before = sandbox.read("region.img");
    let dry = sandbox.ok("tune region.img -L new -n").text();
    assert!(dry.contains("would be 'new' instead of 'guests'") && sandbox.read("region.img") == before, "{dry}");
    sandbox.succeeds("tune region.img --label new --undo before.undo");
    assert_eq!(label(), "new");
    // Either superblock has it.
    let found = images::superblock(&sandbox, "region.img");
    images::poke(&sandbox, "region.img", 100, b"damage");
    assert_eq!(label(), "new");
    assert_eq!(found.label(), b"new");
    assert_eq!(sandbox.gmfs("fsck -p region.img -q").code, 1);
    sandbox.ok("tune region.img --label=");
    assert_eq!(label(), "");
    let long = "x".repeat(64);
    sandbox.fails(&format!("tune region.img --label {long}"), "64 bytes");
}

/// A tree outside, with a symbolic link in it: `out`.
fn tree(sandbox: &Sandbox) {
    std::fs::create_dir_all(sandbox.path("out/deep/empty")).unwrap();
    for (name, content, mode) in [("out/a", &b"one"[..], 0o604), ("out/deep/b", b"two", 0o640)] {
        sandbox.write(name, content);
        std::fs::set_permissions(sandbox.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        let file = std::fs::File::options().write(true).open(sandbox.path(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123)).unwrap();
    }
    std::fs::set_permissions(sandbox.path("out/deep"), std::fs::Permissions::from_mode(0o710)).unwrap();
    let file = std::fs::File::open(sandbox.path("out/deep")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(900_000_000)).unwrap();
}

#[test]
fn a_tree_goes_in_with_its_attributes() {
    let sandbox = sandbox();
    tree(&sandbox);
    sandbox.ok("put -rp region.img out /vms");
    // The files were read after the time that is the present here: that time is not kept.
    sandbox.ok("fsck -n region.img");
    let listed = sandbox.ok("ls -R region.img /vms/out").text();
    assert_eq!(listed, "/vms/out/a\n/vms/out/deep\n/vms/out/deep/b\n/vms/out/deep/empty\n", "{listed}");
    assert_eq!(sandbox.ok("cat region.img /vms/out/deep/b").stdout, b"two");
    let own = sandbox.path("out/a").metadata().unwrap();
    assert_eq!(access(&sandbox, "/vms/out/a"), ("0604".to_owned(), own.uid().into(), own.gid().into()));
    assert_eq!(access(&sandbox, "/vms/out/deep").0, "0710");
    let modified =
        |path: &str| sandbox.ok(&format!("stat region.img {path} --json")).json()["files"][0]["modified"].clone();
    assert_eq!(modified("/vms/out/a"), "2001-09-09T01:46:40.000000123Z");
    assert!(modified("/vms/out/deep").as_str().unwrap().starts_with("1998-07-09T16:00:00"));
    // A name that is not there becomes that of the copy; the root takes what is in the tree.
    sandbox.ok("put -r region.img out /copy");
    assert_eq!(sandbox.ok("ls region.img /copy").text(), "a\ndeep\n");
    assert_eq!(access(&sandbox, "/copy/a").0, "0600");
    let mut dot = sandbox.command(&["put", "-r", "../region.img", ".", "/"]);
    let dot = dot.current_dir(sandbox.path("out")).output().unwrap();
    assert!(dot.status.success(), "{dot:?}");
    assert_eq!(sandbox.ok("ls region.img /").text(), "a\ncopy\ndeep\nsparse\nvms\n");
    sandbox.ok("fsck -n region.img");
}

#[test]
fn what_a_region_cannot_hold_is_named_and_the_rest_is_copied() {
    let sandbox = sandbox();
    tree(&sandbox);
    symlink("/etc/passwd", sandbox.path("out/link")).unwrap();
    let done = sandbox.fails_with(2, "put -r region.img out /new", "out/link");
    assert!(done.stderr.contains("symbolic link"), "{done:?}");
    assert_eq!(sandbox.ok("ls region.img /new").text(), "a\ndeep\n");
    // A second time each file exists; directories are the same.
    let done = sandbox.fails_with(2, "put -r region.img out/a out/deep /new", "'/new/a' exists");
    assert!(done.stderr.contains("'/new/deep/b' exists"), "{done:?}");
    std::fs::remove_file(sandbox.path("out/link")).unwrap();
    sandbox.ok("put -rf region.img out/a out/deep /new");
    sandbox.fails("put -r region.img out out/deep /nowhere", "several sources need one");
    sandbox.fails("put region.img out /x", "it is a directory");
    sandbox.fails("put -p region.img - /x", "no attributes");
    sandbox.fails_with(2, "put -p --mode 600 region.img out/a /x", "cannot be used with");
}
