//! Copies inside a region.

use serde_json::Value;

use crate::images::{self, BLOCK};
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

fn stat(sandbox: &Sandbox, path: &str) -> Value {
    sandbox.ok(&format!("stat region.img {path} --json")).json()["files"][0].clone()
}

fn commits(sandbox: &Sandbox) -> u64 {
    sandbox.ok("inspect region.img superblock --json").json()["superblock"]["write_count"].as_u64().unwrap()
}

#[test]
fn a_file_is_copied_in_one_commit_and_its_seal_is_not() {
    let sandbox = sandbox();
    sandbox.ok("seal region.img -q");
    let before = commits(&sandbox);
    sandbox.ok("cp region.img /vms/first.mem /copy");
    assert_eq!(commits(&sandbox), before + 1);
    assert!(sandbox.ok("cat region.img /copy").stdout == images::content());
    sandbox.ok("cp region.img /sparse /vms/old/");
    assert_eq!(stat(&sandbox, "/vms/old/sparse")["blocks"], stat(&sandbox, "/sparse")["blocks"], "holes stay holes");
    let verified = sandbox.gmfs("verify region.img --json").json();
    let state = |path: &str| {
        let files = verified["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).unwrap()["state"].clone()
    };
    assert_eq!((state("/vms/first.mem"), state("/copy")), ("same".into(), "unsealed".into()));
    // Bits are the file's; owner and times only with -p.
    let (file, copy) = (stat(&sandbox, "/vms/second.mem"), || stat(&sandbox, "/second"));
    sandbox.ok("cp region.img /vms/second.mem /second");
    let own = rustix::process::geteuid().as_raw();
    assert_eq!((copy()["mode"].clone(), copy()["uid"].clone()), (file["mode"].clone(), own.into()));
    sandbox.fails("cp region.img -p /vms/second.mem /second", "exists already");
    sandbox.ok("cp region.img -fp /vms/second.mem /second");
    for key in ["mode", "uid", "gid", "modified", "accessed", "size", "blocks"] {
        assert_eq!(copy()[key], file[key], "{key}");
    }
    sandbox.ok("fsck -n region.img");
}

#[test]
fn trees_are_copied_and_never_into_themselves() {
    let sandbox = sandbox();
    sandbox.fails("cp region.img /vms /copy", "'/vms' is a directory");
    let free =
        |sandbox: &Sandbox| sandbox.ok("df region.img --json").json()["stores"][0]["space"]["free_bytes"].as_u64();
    let before = free(&sandbox).unwrap();
    let done = sandbox.ok("cp region.img -rp /vms /copy --json").json();
    assert_eq!(done["entries"].as_array().unwrap().len(), 4, "{done}");
    let listed = sandbox.ok("ls -R region.img /copy").text();
    assert_eq!(listed, "/copy/first.mem\n/copy/old\n/copy/second.mem\n");
    for (path, copy) in [("/vms", "/copy"), ("/vms/old", "/copy/old"), ("/vms/first.mem", "/copy/first.mem")] {
        for key in ["mode", "uid", "gid", "modified"] {
            assert_eq!(stat(&sandbox, copy)[key], stat(&sandbox, path)[key], "{copy} {key}");
        }
    }
    assert_eq!(before - free(&sandbox).unwrap(), 5 * BLOCK);
    // A directory that is there takes the copy, or what is in its namesake.
    sandbox.fails_with(2, "cp region.img -r /vms/old /copy/first.mem /sparse", "several sources need one");
    sandbox.ok("mkdir region.img /into");
    sandbox.ok("cp region.img -r /vms /into");
    sandbox.fails_with(2, "cp region.img -r /vms /into", "'/into/vms/first.mem' exists");
    sandbox.ok("cp region.img -rf /vms /into");
    for (line, saying) in [
        ("cp region.img -r /vms /vms/new", "cannot be moved into itself"),
        ("cp region.img -r /vms /vms/old", "into itself"),
        ("cp region.img -r / /all", "into itself"),
        ("cp region.img -r / /into", "into itself"),
        ("cp region.img /sparse /sparse", "are the same file"),
        ("cp region.img /vms/first.mem /vms", "are the same file"),
        ("cp region.img /none /x", "there is no '/none'"),
        ("cp region.img /sparse /none/x", "there is no '/none'"),
    ] {
        sandbox.fails_with(2, line, saying);
    }
    assert!(!sandbox.ok("ls -R region.img").text().contains("/all"));
    sandbox.ok("fsck -n region.img");
}

#[test]
fn what_is_unknown_is_not_copied_and_doubt_is() {
    let sandbox = sandbox();
    let map = sandbox.ok("map region.img /vms/first.mem --json").json();
    let block = map["extents"][0]["block"].as_u64().unwrap();
    images::edit_inode(&sandbox, "region.img", 5, |raw| raw.flags = 8.into());
    let doubtful = sandbox.gmfs("ls region.img -R --json").json();
    let path =
        doubtful["entries"].as_array().unwrap().iter().find(|entry| entry["doubtful"] == true).unwrap()["path"].clone();
    let done =
        sandbox.fails_with(1, &format!("cp region.img {} /doubted", path.as_str().unwrap()), "'/doubted' is doubtful");
    assert_eq!(stat_of(&sandbox, "/doubted")["doubtful"], true, "{done:?}");
    sandbox.succeeds(&format!("bad add region.img block:{block}"));
    let before = sandbox.gmfs("ls region.img").text();
    sandbox.fails_with(2, "cp region.img /vms/first.mem /copy", "in a block with a hardware error");
    assert_eq!(sandbox.gmfs("ls region.img").text(), before);
}

/// The same of a file that is doubtful, of which `stat` ends with 1.
fn stat_of(sandbox: &Sandbox, path: &str) -> Value {
    sandbox.gmfs(&format!("stat region.img {path} --json")).json()["files"][0].clone()
}
