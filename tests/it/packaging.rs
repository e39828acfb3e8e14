//! What `scripts/install.sh` installs, the test that distributions run on it, and the entry for `file`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::dumpfiles::unpack;
use crate::sandbox::{GMFS, Sandbox};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Installs the program that is tested, below `root`.
fn install(sandbox: &Sandbox) -> Output {
    let mut install = Command::new(path("scripts/install.sh"));
    install.args(["--prefix", "/opt/gmfs", "--binary", GMFS, "--destdir", "root"]).current_dir(sandbox.path("."));
    install.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_is_installed_passes_the_packaging_test() {
    let sandbox = Sandbox::new();
    let installed = install(&sandbox);
    assert!(installed.status.success(), "{}", text(&installed.stderr));
    let root = sandbox.path("root");
    let unit = root.join("opt/gmfs/lib/systemd/system/kdump-tools-dump.service.d/gmfs.conf");
    assert!(std::fs::read_to_string(unit).unwrap().contains("ExecStartPre=-/opt/gmfs/sbin/gmfs-kdump-save\n"));

    let mut test = Command::new(root.join("opt/gmfs/share/gmfs/packaging-test.sh"));
    test.env("GMFS", root.join("opt/gmfs/bin/gmfs")).current_dir(sandbox.path("."));
    if let Some(dumps) = gmfs_testing::fixtures("dumps") {
        unpack(&sandbox, &dumps, "mini_mini-kdump-raw-zlib");
        test.args(["--dump", "mini_mini-kdump-raw-zlib"]);
    }
    let done = test.output().unwrap();
    let said = text(&done.stdout);
    assert!(done.status.success(), "{said}{}", text(&done.stderr));
    assert!(said.ends_with("all is well\n") && said.contains("gmfs-kdump-save reads its settings"), "{said}");
}

#[test]
fn settings_of_the_hook_are_kept() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("root/etc/gmfs")).unwrap();
    sandbox.write("root/etc/gmfs/kdump.conf", b"COPY=no\n");
    let installed = install(&sandbox);
    assert!(installed.status.success() && text(&installed.stderr).contains("is kept"), "{installed:?}");
    assert_eq!(sandbox.read("root/etc/gmfs/kdump.conf"), b"COPY=no\n");
}

/// A broken program must not pass.
#[test]
fn the_packaging_test_can_fail() {
    let sandbox = Sandbox::new();
    for (program, saying) in [
        ("/bin/true", "the file came out differently"),
        ("/bin/false", "ended with 1 instead of 0"),
        ("/bin/none", "there is no program"),
    ] {
        let mut test = Command::new(path("scripts/packaging-test.sh"));
        let done = test.env("GMFS", program).current_dir(sandbox.path(".")).output().unwrap();
        let said = text(&done.stderr);
        assert!(!done.status.success() && said.contains("FAILED") && said.contains(saying), "{program}: {said}");
    }
}

/// Whatever installs the program's other names must know all of them.
#[test]
fn all_other_names_of_the_program_are_installed() {
    let source = std::fs::read_to_string(path("src/multicall.rs")).unwrap();
    let table = source.split("NAMES: ").nth(1).unwrap().split("];").next().unwrap();
    let names: Vec<&str> = table.split('"').filter(|text| text.contains('.') && !text.contains(' ')).collect();
    assert!(names.len() >= 4, "{names:?}");
    for file in [
        "scripts/install.sh",
        "scripts/packaging-test.sh",
        "scripts/try-packages.sh",
        "contrib/rpm/links.lua",
        "contrib/rpm/no-links.lua",
        "completions/gmfs.bash",
    ] {
        let text = std::fs::read_to_string(path(file)).unwrap();
        for name in &names {
            assert!(text.contains(name), "{file} does not have {name}");
        }
    }
}

#[test]
fn file_recognises_what_gmfs_writes() {
    let sandbox = Sandbox::new();
    if Command::new("file").arg("--version").output().is_err() {
        eprintln!("skipped: file is not installed");
        return;
    }
    sandbox.ok("mkfs region.img --size 64M --label demo --uuid 7d0f1f0a-1f07-4a8e-9d0c-2f1b0c9e5a01");
    sandbox.ok("dump region.img -o region.meta");
    sandbox.succeeds("mkdir region.img /a --undo region.undo");
    let pkernfs = [0x0070_6b65_726e_6673_u64.to_le_bytes().to_vec(), vec![0; 4096]].concat();
    sandbox.write("pkernfs.raw", &pkernfs);
    sandbox.write("other", b"GMsb and nothing else");
    let magic = path("contrib/magic");
    let says = |name: &str| {
        let mut file = Command::new("file");
        file.arg("-m").arg(&magic).arg("-b").arg(name).current_dir(sandbox.path(".")).env("LC_ALL", "C.UTF-8");
        let done = file.output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        text(&done.stdout).trim_end().to_owned()
    };
    assert_eq!(
        says("region.img"),
        "gmfs region version 2, label \"demo\", UUID 7d0f1f0a-1f07-4a8e-9d0c-2f1b0c9e5a01, 67108864 bytes in blocks of 2 MiB"
    );
    assert_eq!(says("region.meta"), "gmfs metadata dump version 2, of a region of 67108864 bytes");
    assert_eq!(says("region.undo"), "gmfs undo file");
    assert_eq!(says("pkernfs.raw"), "pkernfs region");
    assert!(!says("other").contains("gmfs"), "{}", says("other"));
}
