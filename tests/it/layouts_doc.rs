//! The worked examples of `docs/LAYOUTS.md` are run, and show what gmfs prints. `GMFS_UPDATE=1` rewrites them.

use std::fs;
use std::path::Path;

use crate::dumpfiles::unpack;
use crate::sandbox::Sandbox;

/// The files that the examples name, with the captures that they are.
const FILES: [(&str, &str, &str); 5] = [
    ("pkernfs.img", "kernel-layouts/pk_flat", "main.raw"),
    ("guestmemfs.vmcore", "kernel-layouts/gm_restore", "after.mini.elf"),
    ("vmcore", "luo", "main-4-boot.mini.elf"),
    ("retrieved.vmcore", "luo", "main-6-retrieved.mini.elf"),
    ("before.vmcore", "luo", "main-1-preserved.mini.elf"),
];

#[test]
fn the_examples_of_the_layouts_are_what_gmfs_prints() {
    let sandbox = Sandbox::new();
    for (name, folder, capture) in FILES {
        let Some(dir) = gmfs_testing::fixtures(folder) else { return };
        unpack(&sandbox, &dir, capture);
        fs::rename(sandbox.path(capture), sandbox.path(name)).unwrap();
    }
    let debugfs = gmfs_testing::fixtures("luo").unwrap().join("debugfs/main-gen2-boot");
    std::os::unix::fs::symlink(debugfs.canonicalize().unwrap(), sandbox.path("debugfs")).unwrap();

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/LAYOUTS.md");
    let text = fs::read_to_string(&path).unwrap();
    let (mut made, mut rest, mut commands) = (String::new(), text.as_str(), 0);
    while let Some((before, after)) = rest.split_once("```console\n") {
        let (block, after) = after.split_once("```\n").unwrap();
        made.push_str(before);
        made.push_str("```console\n");
        for line in block.lines() {
            let Some(command) = line.strip_prefix("$ gmfs ") else { continue };
            let done = sandbox.gmfs(command);
            // What is listed may be incomplete or damaged, and an example says so; a mistake in the command is none.
            assert!(done.code != 2, "{command}: {done:?}");
            made.push_str(&format!("{line}\n{}{}", done.text(), done.stderr));
            commands += 1;
        }
        made.push_str("```\n");
        let _ = fs::remove_dir_all(sandbox.path("rescued"));
        let _ = fs::remove_file(sandbox.path("rescued"));
        rest = after;
    }
    made.push_str(rest);
    assert!(commands > 15, "{commands}");
    if std::env::var_os("GMFS_UPDATE").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert!(made == text, "docs/LAYOUTS.md does not show what gmfs prints: run with GMFS_UPDATE=1");
    }
}
