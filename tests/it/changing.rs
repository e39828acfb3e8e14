//! Commands that change a region: their results, and that a command that fails changes nothing.

use crate::images::{self, BLOCK};
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

fn clean(sandbox: &Sandbox) {
    let found = sandbox.ok("inspect region.img --json").json();
    assert_eq!(found["health"]["verdict"], "clean");
    assert_eq!(found["superblock"]["state"], "clean");
}

/// Runs a command line that must fail. The region must have the same files as before, and be clean.
fn refused(sandbox: &Sandbox, line: &str, saying: &str) {
    let files = |sandbox: &Sandbox| sandbox.ok("inspect region.img files --json").json()["files"].clone();
    let before = files(sandbox);
    sandbox.fails(line, saying);
    assert_eq!(files(sandbox), before, "{line}");
    clean(sandbox);
}

#[test]
fn create_and_truncate() {
    let sandbox = sandbox();
    assert_eq!(sandbox.ok("create region.img /a --size 3M").text(), "");
    assert_eq!(sandbox.ok("cat region.img /a").stdout, vec![0; 3 << 20]);
    sandbox.ok("create region.img /hole --size 1T --sparse");
    sandbox.ok("truncate region.img /a -s 1");
    assert_eq!(sandbox.ok("cat region.img /a").stdout, [0]);
    sandbox.ok("truncate region.img /a --size 8M --sparse");
    let made = sandbox.ok("stat region.img /a /hole --json").json();
    assert_eq!((&made["files"][0]["size"], &made["files"][0]["blocks"]), (&(8 << 20).into(), &1.into()));
    assert_eq!(made["files"][1]["blocks"], 0);
    let changed = sandbox.ok("create region.img /b --size 5 --mode 0644 --json").json();
    assert_eq!(changed["entries"][0]["path"], "/b");
    assert_eq!(changed["entries"][0]["mode"], "0644");
    clean(&sandbox);
    refused(&sandbox, "create region.img /a --size 1", "'/a' exists already");
    refused(&sandbox, "create region.img /none/a --size 1", "there is no '/none' in the region");
    refused(&sandbox, "create region.img /a/b --size 1", "'/a' is not a directory");
    refused(&sandbox, "create region.img / --size 1", "root directory");
    refused(&sandbox, "create region.img /.. --size 1", "'..'");
    refused(&sandbox, "create region.img /big --size 1G", "no space: 512 more blocks are needed");
    refused(&sandbox, "create region.img /big --size 8E --sparse", "more blocks than the format can number");
    refused(&sandbox, "truncate region.img /a --size 1G", "no space");
    refused(&sandbox, "truncate region.img /none --size 1", "there is no");
    refused(&sandbox, "truncate region.img /vms --size 1", "is a directory");
}

#[test]
fn what_is_freed_is_zero_for_its_next_owner() {
    let sandbox = sandbox();
    sandbox.ok("rm region.img /vms/first.mem");
    sandbox.ok("create region.img /next --size 6M");
    assert!(sandbox.ok("cat region.img /next").stdout.iter().all(|byte| *byte == 0));
}

#[test]
fn directories() {
    let sandbox = sandbox();
    sandbox.ok("mkdir region.img /a /b");
    sandbox.ok("mkdir region.img -p /a/x/y /a/x/z");
    sandbox.ok("mkdir region.img --parents /a/x/y --mode 700");
    assert_eq!(sandbox.ok("ls region.img /a/x").text(), "y\nz\n");
    refused(&sandbox, "mkdir region.img /a", "'/a' exists already");
    refused(&sandbox, "mkdir region.img /q/r", "there is no '/q'");
    refused(&sandbox, "mkdir region.img -p /sparse/x", "is not a directory");
}

#[test]
fn put() {
    let sandbox = sandbox();
    let content = images::content();
    sandbox.write("source.bin", &content);
    sandbox.ok("put region.img source.bin /copy");
    assert!(sandbox.ok("cat region.img /copy").stdout == content);
    sandbox.ok("put region.img source.bin /vms/old");
    assert!(sandbox.ok("cat region.img /vms/old/source.bin").stdout == content);
    let fed = sandbox.feed("put region.img - /fed", &content[..100]);
    assert_eq!((fed.code, fed.stderr.as_str()), (0, ""));
    assert!(sandbox.ok("cat region.img /fed").stdout == content[..100]);
    refused(&sandbox, "put region.img source.bin /fed", "exists already");
    sandbox.ok("put region.img source.bin /fed -f");
    assert!(sandbox.ok("cat region.img /fed").stdout == content);
    let mut sparse = vec![0; usize::try_from(4 * BLOCK).unwrap()];
    sparse[usize::try_from(3 * BLOCK).unwrap()] = 1;
    sandbox.write("sparse.bin", &sparse);
    sandbox.ok("put region.img sparse.bin /thin --sparse");
    assert_eq!(sandbox.ok("stat region.img /thin --json").json()["files"][0]["blocks"], 1);
    assert!(sandbox.ok("cat region.img /thin").stdout == sparse);
    sandbox.write("none", b"");
    sandbox.ok("put region.img none /none");
    assert!(sandbox.ok("cat region.img /none").stdout.is_empty());
    refused(&sandbox, "put region.img nothing /x", "cannot put nothing as '/x': No such file");
    refused(&sandbox, "put region.img . /x", "it is a directory");
    refused(&sandbox, "put region.img none /vms/none/x", "there is no '/vms/none'");
    let full = sandbox.feed("put region.img - /full", &vec![1; 64 << 20]);
    assert_eq!(full.code, 2);
    assert!(full.stderr.contains("no space"), "{full:?}");
    assert!(!sandbox.ok("ls region.img").text().contains("full"));
    clean(&sandbox);
}

#[test]
fn mv_and_rm() {
    let sandbox = sandbox();
    sandbox.ok("mv region.img /vms/first.mem /renamed");
    assert!(sandbox.ok("cat region.img /renamed").stdout == images::content());
    let moved = sandbox.ok("mv region.img /renamed /vms/old --json").json();
    assert_eq!(moved["entries"][0]["path"], "/vms/old/renamed");
    refused(&sandbox, "mv region.img /sparse /vms/second.mem", "exists already");
    sandbox.ok("mv region.img /sparse /vms/second.mem -f");
    refused(&sandbox, "mv region.img /vms /vms/old", "cannot be moved into itself");
    refused(&sandbox, "mv region.img / /vms", "root directory");
    refused(&sandbox, "mv region.img /none /x", "there is no '/none'");
    refused(&sandbox, "rm region.img /vms", "is not empty");
    refused(&sandbox, "rm region.img -r /", "root directory");
    refused(&sandbox, "rm region.img /none", "there is no '/none'");
    sandbox.ok("rm region.img /vms/second.mem");
    sandbox.ok("rm region.img -r /vms");
    assert_eq!(sandbox.ok("ls region.img").text(), "");
    let found = sandbox.ok("inspect region.img --json").json();
    assert_eq!(found["usage"]["free"], 30);
    assert_eq!(found["usage"]["inodes_used"], 1);
    clean(&sandbox);
}

#[test]
fn aligned_files_lie_at_gibibytes_of_physical_memory() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs big.img --size 4G --base 0x120000000 -q");
    sandbox.ok("create big.img /one --size 2M");
    sandbox.ok("create big.img /vm --size 2G --align-1g");
    let map = sandbox.ok("map big.img /vm --json").json();
    assert_eq!(map["extents"][0]["physical"].as_u64().unwrap() % (1 << 30), 0);
    sandbox.ok("create big.img /third --size 1G --align-1g");
    // There are 509 free blocks, but no run of 300 blocks at a multiple of 1 GiB.
    sandbox.fails("create big.img /more --size 600M --align-1g", "aligned to 1 GiB");
}

#[test]
fn out_of_inodes() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 16M --inodes 2 -q");
    sandbox.ok("create region.img /a --size 0");
    sandbox.fails("create region.img /b --size 0", "all 2 inodes are in use");
    sandbox.fails("mkdir region.img /b", "all 2 inodes are in use");
}

#[test]
fn a_region_left_by_a_writer_is_recovered_and_that_is_said() {
    let sandbox = sandbox();
    // Sets the mark "active" in both copies, as a writer leaves it that is killed between two commits.
    images::lie(&sandbox, "region.img", |superblock| superblock.raw.state = 2.into());
    let found = sandbox.ok("inspect region.img --json").json();
    assert_eq!(found["health"]["verdict"], "recovery");
    assert_eq!(found["superblock"]["state"], "active");
    let done = sandbox.gmfs("mkdir region.img /x");
    assert_eq!(done.code, 0);
    assert!(done.stderr.starts_with("gmfs: note: the region was left by a writer that did not finish"), "{done:?}");
    clean(&sandbox);
}

#[test]
fn what_must_not_be_changed_is_not() {
    let sandbox = sandbox();
    let before = sandbox.read("region.img");
    images::lie(&sandbox, "region.img", |superblock| superblock.raw.feature_ro_compat = 4.into());
    sandbox.fails("mkdir region.img /x", "0x4");
    sandbox.ok("ls region.img");
    images::lie(&sandbox, "region.img", |superblock| superblock.raw.feature_incompat = 8.into());
    sandbox.fails("mkdir region.img /x", "0x8");
    sandbox.fails("ls region.img", "incompatible mask 0x8");
    let found = sandbox.ok("inspect region.img superblock --json").json();
    assert_eq!(found["superblock"]["features"]["incompat"], "0x8");
    // Damage must be repaired before changes are possible.
    sandbox.write("region.img", &before);
    images::poke(&sandbox, "region.img", 4096 + 200, b"damage");
    sandbox.fails("mkdir region.img /x", "damaged");
    // A region that is cut short can be read as far as it goes, but not changed.
    sandbox.write("cut.img", &before[..32 << 20]);
    sandbox.fails("mkdir cut.img /x", "cannot change the region in cut.img");
}

/// A slash at the end of a path requires a directory.
#[test]
fn a_slash_at_the_end_demands_a_directory() {
    let sandbox = sandbox();
    sandbox.write("content", b"new");
    for line in [
        "put region.img content /none/",
        "put -f region.img content /sparse/",
        "create region.img /none/ --size 1",
        "create region.img /sparse/ --size 1",
        "mv region.img /sparse /none/",
        "mv -f region.img /sparse /vms/first.mem/",
        "mv region.img /sparse/ /moved",
        "truncate region.img /sparse/ --size 1",
        "rm region.img /sparse/",
    ] {
        refused(&sandbox, line, "is not a directory");
    }
    for line in ["cat region.img /sparse/", "map region.img /sparse/", "extract region.img /sparse/"] {
        sandbox.fails(line, "'/sparse/' is not a directory");
    }
    assert!(sandbox.gmfs("stat region.img /sparse/").stderr.contains("'/sparse/' is not a directory"));
    sandbox.ok("mkdir region.img /made/");
    sandbox.ok("mkdir -p region.img /made/below/");
    sandbox.ok("put region.img content /made/");
    assert_eq!(sandbox.ok("cat region.img /made/content").stdout, b"new");
    sandbox.ok("mv region.img /made/ /renamed/");
    sandbox.ok("mv region.img /sparse /renamed/");
    assert_eq!(sandbox.ok("ls region.img /renamed/").text(), "below\ncontent\nsparse\n");
    sandbox.ok("rm -r region.img /renamed/");
    clean(&sandbox);
}
