//! The program under its other names, as util-linux calls it.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::sandbox::{Done, GMFS, Sandbox};

fn called(sandbox: &Sandbox, name: &str, args: &[&str]) -> Done {
    let link = sandbox.path(name);
    if !sandbox.exists(name) {
        symlink(GMFS, &link).unwrap();
    }
    Command::new(link).args(args).current_dir(sandbox.path(".")).output().unwrap().into()
}

#[test]
fn mkfs_by_name() {
    let sandbox = Sandbox::new();
    for name in ["mkfs.gmfs", "mkfs.guestmemfs"] {
        let done = called(&sandbox, name, &["-f", "-q", "region.img", "--size", "64M", "-L", "by name"]);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{name}");
        let version = called(&sandbox, name, &["-V"]);
        assert_eq!(version.text(), format!("gmfs {}\n", env!("CARGO_PKG_VERSION")));
        std::fs::remove_file(sandbox.path("region.img")).unwrap();
    }
}

#[test]
fn the_size_behind_the_device_is_in_blocks() {
    let sandbox = Sandbox::new();
    let sized = |text: &str| {
        sandbox.write("region.img", &vec![0; 64 << 20]);
        let done = called(&sandbox, "mkfs.gmfs", &["-q", "region.img", text]);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{text}");
        sandbox.ok("inspect region.img --json").json()["region"]["size"].as_u64().unwrap()
    };
    assert_eq!(sized("16"), 32 << 20);
    assert_eq!(sized("16M"), 16 << 20);
    for wrong in ["16X", "99999999999999999999"] {
        assert_eq!(called(&sandbox, "mkfs.gmfs", &["region.img", wrong]).code, 2, "{wrong}");
    }
}
