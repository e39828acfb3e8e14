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

/// Mode, owner, group, and time of change of what is outside.
fn outside(sandbox: &Sandbox, path: &str) -> (u32, u32, u32, i64) {
    let meta = sandbox.path(path).symlink_metadata().unwrap();
    (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime())
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let sandbox = sandbox();
    tree(&sandbox);
    sandbox.ok("put -rp region.img out /in");
    // Without -p, it is for its owner only.
    sandbox.ok("extract region.img /in plain");
    assert_eq!((outside(&sandbox, "plain/a").0, outside(&sandbox, "plain/deep").0), (0o600, 0o700));
    sandbox.ok("extract -p region.img /in copy");
    for path in ["", "/a", "/deep", "/deep/b", "/deep/empty"] {
        let (before, after) = (outside(&sandbox, &format!("out{path}")), outside(&sandbox, &format!("copy{path}")));
        // Times of what was made in this test are after the present time of the sandbox.
        let known = path.ends_with('a') || path.ends_with('b') || path.ends_with("deep");
        assert_eq!((before.0, before.1, before.2), (after.0, after.1, after.2), "{path}");
        assert!(!known || before.3 == after.3, "{path}: {before:?} {after:?}");
    }
    let accessed = std::fs::metadata(sandbox.path("copy/a")).unwrap().atime();
    assert!(accessed <= 1_700_000_000, "{accessed}");
    // Directories that are there keep their own attributes, both ways; files that are replaced do not.
    std::fs::set_permissions(sandbox.path("copy/deep"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(sandbox.path("copy/deep/b"), std::fs::Permissions::from_mode(0o666)).unwrap();
    sandbox.fails("extract -p region.img /in/deep copy", "exists already");
    sandbox.ok("extract -pf region.img /in/deep copy");
    assert_eq!((outside(&sandbox, "copy/deep").0, outside(&sandbox, "copy/deep/b").0), (0o755, 0o640));
    sandbox.ok("put -rpf region.img copy/deep /in");
    assert_eq!(access(&sandbox, "/in/deep").0, "0710");
}

#[test]
fn an_owner_that_cannot_be_set_is_said() {
    let sandbox = sandbox();
    // Bits that would make somebody else the owner of a running program, and the bit of files in the making.
    sandbox.ok("chmod region.img 7755 /vms/first.mem");
    let root = rustix::process::geteuid().is_root();
    let done = sandbox.gmfs("extract -p region.img /vms out");
    if root {
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        assert_eq!(outside(&sandbox, "out/first.mem"), (0o6755, 1000, 100, 1_700_000_000));
        assert_eq!(outside(&sandbox, "out/old"), (0o700, 1000, 100, 1_700_000_000));
    } else {
        assert!(done.code == 1 && done.stderr.contains("of 4 files and directories could not be set"), "{done:?}");
        assert_eq!(outside(&sandbox, "out/first.mem").0, 0o755);
    }
    // As a user who may not, wherever the tests run: there is a number that no file can have.
    sandbox.ok("chown region.img 4294967295 /vms/first.mem");
    let done =
        sandbox.fails_with(1, "extract -p region.img /vms/first.mem to", "owner and group of 1 file or directory");
    assert!(outside(&sandbox, "to").0 == 0o755 && outside(&sandbox, "to").3 == 1_700_000_000, "{done:?}");
}

#[test]
fn a_directory_without_rights_is_made_with_what_is_in_it() {
    let sandbox = sandbox();
    sandbox.ok("mkdir region.img -p /d/e");
    sandbox.write("f", b"x");
    sandbox.ok("put region.img f /d/e/f");
    sandbox.ok("chmod region.img 0 /d/e /d");
    sandbox.ok("chown region.img -R 0:0 /d");
    let done = sandbox.gmfs("extract -p region.img /d out");
    assert!(done.code <= 1, "{done:?}");
    assert_eq!(outside(&sandbox, "out").0, 0);
    std::fs::set_permissions(sandbox.path("out"), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(outside(&sandbox, "out/e").0, 0);
    std::fs::set_permissions(sandbox.path("out/e"), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(sandbox.read("out/e/f"), b"x");
}

#[test]
fn a_region_is_made_with_content_and_the_same_bytes_each_time() {
    let sandbox = sandbox();
    tree(&sandbox);
    let make = |name: &str| {
        let line = format!("mkfs {name} --size 16M --populate out --uuid {} --base 0x40000000", images::UUID);
        sandbox.ok(&line).text()
    };
    let told = make("one.img");
    assert!(told.contains("2 files, 2 directories, 6 bytes"), "{told}");
    // Files have been read, and time has passed.
    std::fs::File::open(sandbox.path("out/a"))
        .unwrap()
        .set_times(std::fs::FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH + Duration::from_secs(1_111_111_111)))
        .unwrap();
    make("two.img");
    let cmp =
        std::process::Command::new("cmp").args([sandbox.path("one.img"), sandbox.path("two.img")]).output().unwrap();
    assert!(cmp.status.success(), "{cmp:?}");
    std::fs::set_permissions(sandbox.path("out/a"), std::fs::Permissions::from_mode(0o600)).unwrap();
    make("three.img");
    assert!(sandbox.read("one.img") != sandbox.read("three.img"), "what is different makes a difference");
    sandbox.ok("fsck -n one.img");
    assert_eq!(sandbox.ok("cat one.img /a /deep/b").text(), "onetwo");
    sandbox.ok("extract -p one.img / back");
    for path in ["/deep", "/deep/b"] {
        assert_eq!(outside(&sandbox, &format!("back{path}")), outside(&sandbox, &format!("out{path}")), "{path}");
    }
    let json = sandbox.ok("mkfs json.img --size 16M --populate out --json").json();
    assert_eq!(json["populated"], serde_json::json!({"files": 2, "directories": 2, "bytes": 6}));
}

#[test]
fn nothing_is_made_of_content_that_does_not_fit() {
    let sandbox = sandbox();
    tree(&sandbox);
    sandbox.write("out/large", &vec![1; 13 << 20]);
    sandbox.fails("mkfs new.img --size 16M --populate out", "its files need 9 blocks of 2 MiB");
    std::fs::remove_file(sandbox.path("out/large")).unwrap();
    sandbox.fails("mkfs new.img --size 16M -N 4 --populate out", "inodes");
    sandbox.fails("mkfs new.img --size 16M --populate out/a", "no directory");
    sandbox.fails("mkfs new.img --size 16M --populate none", "none");
    symlink("/etc/passwd", sandbox.path("out/deep/link")).unwrap();
    sandbox.fails_with(2, "mkfs new.img --size 16M --populate out", "out/deep/link");
    let before = sandbox.read("region.img");
    sandbox.fails_with(2, "mkfs -f region.img --populate out", "symbolic link");
    assert!(!sandbox.exists("new.img") && sandbox.read("region.img") == before);
    // The image itself is not its own content.
    std::fs::remove_file(sandbox.path("out/deep/link")).unwrap();
    std::fs::hard_link(sandbox.path("region.img"), sandbox.path("out/region")).unwrap();
    sandbox.fails_with(2, "mkfs -f region.img --populate out", "the image itself");
    assert!(sandbox.read("region.img") == before);
}
