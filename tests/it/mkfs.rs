//! Making regions: the result, what is refused, and that two runs give the same result.

use gmfs_image::Locking;
use std::os::unix::fs::MetadataExt as _;

use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::seal;
use gmfs_format::native::units::{CopyId, PageBytes};

use crate::images::{self, UUID};
use crate::sandbox::Sandbox;

fn line(rest: &str) -> String {
    format!("mkfs region.img --uuid {UUID} {rest}")
}

#[test]
fn a_new_file() {
    let sandbox = Sandbox::new();
    let done = sandbox.ok(&line("--size 1G --label guests"));
    insta::assert_snapshot!("mkfs", done.all());
    let meta = std::fs::metadata(sandbox.path("region.img")).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() * 512 <= 64 << 10, "{} bytes written", meta.blocks() * 512);
    insta::assert_snapshot!("mkfs_inspect", sandbox.ok("inspect region.img").all());
}

#[test]
fn what_is_written_does_not_depend_on_the_size() {
    let sandbox = Sandbox::new();
    for size in ["16T", "64T"] {
        let done = sandbox.gmfs(&format!("mkfs {size}.img --size {size} -q"));
        if done.stderr.contains("cannot hold a file of") {
            continue;
        }
        assert_eq!(done.code, 0, "{done:?}");
        let meta = std::fs::metadata(sandbox.path(format!("{size}.img"))).unwrap();
        assert!(meta.blocks() * 512 <= 64 << 10, "{} bytes written at {size}", meta.blocks() * 512);
        assert_eq!(sandbox.ok(&format!("ls {size}.img")).text(), "");
    }
}

#[test]
fn two_runs_make_the_same_bytes() {
    let sandbox = Sandbox::new();
    let make = |name: &str| {
        sandbox.ok(&format!("mkfs {name} --size 16M --label same -q --uuid {UUID}"));
        sandbox.ok(&format!("mkdir {name} -p /a/b"));
        sandbox.ok(&format!("create {name} /a/b/c --size 2M"));
    };
    make("one");
    make("two");
    assert!(sandbox.read("one") == sandbox.read("two"));
    assert!(sandbox.ok("mkfs three --size 16M").text() != sandbox.ok("mkfs four --size 16M").text(), "random UUIDs");
}

#[test]
fn every_option() {
    let sandbox = Sandbox::new();
    let made = sandbox.ok(&line("--size 4G --inodes 40 --pmd-size 32M --base 0x100000000 --json"));
    insta::assert_snapshot!("mkfs_json", made.all());
    let found = sandbox.ok("inspect region.img superblock --json").json();
    assert_eq!(found["geometry"]["block_size"], 32 << 20);
    assert_eq!(found["geometry"]["inodes"], 40);
    assert_eq!(found["superblock"]["recorded_base"], 0x1_0000_0000_u64);
    assert_eq!(found["superblock"]["created"], "2023-11-14T22:13:20.000000000Z");
    assert_eq!(sandbox.ok(&line("--size 64M --force --quiet").replace("--size 64M", "")).text(), "");
}

#[test]
fn part_of_a_file() {
    let sandbox = Sandbox::new();
    sandbox.write("region.img", &vec![0; 32 << 20]);
    sandbox.ok("mkfs region.img --region 16M:8M -q");
    sandbox.fails("ls region.img", "no region");
    // The end of a region does not prove a larger one.
    let before = sandbox.read("region.img");
    assert_eq!(sandbox.gmfs("fsck -y region.img").code, 8);
    assert!(sandbox.read("region.img") == before);
    sandbox.ok("mkdir region.img /here --region 16M:8M");
    assert_eq!(sandbox.ok("ls region.img --region 0x1000000@0x800000").text(), "here\n");
    let found = sandbox.ok("scan region.img --json").json();
    assert_eq!(found["regions"][0]["base"], 8 << 20);
    assert_eq!(found["regions"][0]["confidence"], "certain");
    let bytes = sandbox.read("region.img");
    assert!(bytes[..8 << 20].iter().chain(&bytes[24 << 20..]).all(|byte| *byte == 0), "written outside");
}

#[test]
fn a_dry_run_writes_nothing() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!("mkfs_dry_run", sandbox.ok(&line("--size 1G --dry-run")).all());
    assert!(!sandbox.exists("region.img"));
    sandbox.write("empty", b"");
    sandbox.ok("mkfs empty --size 1G -n");
    assert_eq!(sandbox.read("empty"), b"");
    sandbox.write("zeros", &vec![0; 16 << 20]);
    assert_eq!(sandbox.ok("mkfs zeros -n --json").json()["dry_run"], true);
    assert!(sandbox.read("zeros").iter().all(|byte| *byte == 0));
    // A dry run says what the real run would do.
    images::sample(&sandbox);
    sandbox.fails("mkfs region.img -n", "holds a guestmemfs region already");
}

#[test]
fn an_empty_file_grows_and_a_larger_one_is_taken_whole() {
    let sandbox = Sandbox::new();
    sandbox.write("empty", b"");
    sandbox.ok("mkfs empty --size 16M -q");
    assert_eq!(sandbox.ok("inspect empty --json").json()["region"]["size"], 16 << 20);
    sandbox.write("zeros", &vec![0; (16 << 20) + 4096]);
    sandbox.ok("mkfs zeros");
    let found = sandbox.ok("inspect zeros --json").json();
    assert_eq!(found["geometry"]["tail"], 4096);
    assert_eq!(found["geometry"]["blocks"], 8);
}

#[test]
fn what_is_there_is_refused_and_the_override_named() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let refuse = |name: &str, saying: &str| {
        let before = sandbox.read(name);
        let done = sandbox.fails(&format!("mkfs {name}"), saying);
        assert!(done.stderr.contains("\n  next: ") && done.stderr.contains("-f formats it"), "{done:?}");
        assert!(sandbox.read(name) == before, "{name} was changed");
    };
    refuse("region.img", "it holds a guestmemfs region already: 64 MiB (67108864 bytes), UUID 8f0e3f6a");
    let mut ext4 = vec![0; 16 << 20];
    ext4[0x400..0x408].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
    ext4[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    ext4[0x460] = 0x40;
    sandbox.write("ext4", &ext4);
    refuse("ext4", "something else already: ext4 filesystem, marked at offset 0x438");
    let mut gpt = vec![0; 16 << 20];
    gpt[0x200..0x208].copy_from_slice(b"EFI PART");
    sandbox.write("gpt", &gpt);
    refuse("gpt", "GPT partition table");
    sandbox.write("elf", &[images::elf(&[]), vec![0; 16 << 20]].concat());
    refuse("elf", "ELF file");
    let mut other = vec![0; 16 << 20];
    other[9 << 20] = 1;
    sandbox.write("other", &other);
    let done = sandbox.gmfs("mkfs other");
    // The limited search cannot find a byte in the middle of a file without holes, but it finds one near the start.
    assert!(done.code == 0 || done.stderr.contains("it holds data"), "{done:?}");
    other[1 << 20] = 1;
    sandbox.write("other", &other);
    refuse("other", "it holds data: the first byte that is not zero is at offset 0x100000");
    images::poke(&sandbox, "region.img", 100, &[0xff; 400]);
    images::poke(&sandbox, "region.img", images::SIZE - images::BLOCK + 100, &[0xff; 400]);
    refuse("region.img", "it holds a damaged guestmemfs region");
}

/// The remains of a region, and a region that an older gmfs made, belong to someone.
#[test]
fn what_is_left_of_a_region_is_refused() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let copy_b = images::SIZE - images::BLOCK;
    let refuse = |sandbox: &Sandbox, saying: &str| {
        let before = sandbox.read("region.img");
        let done = sandbox.fails("mkfs region.img", saying);
        assert!(done.stderr.contains("-f formats it all the same"), "{done:?}");
        assert!(sandbox.read("region.img") == before, "the region was changed");
    };
    let zeros = vec![0; usize::try_from(images::BLOCK).unwrap()];
    images::poke(&sandbox, "region.img", 0, &zeros);
    refuse(&sandbox, "it holds a guestmemfs region already: 64 MiB (67108864 bytes), UUID 8f0e3f6a");
    images::poke(&sandbox, "region.img", copy_b, &zeros[..4096]);
    refuse(&sandbox, "it holds a damaged guestmemfs region: 64 MiB (67108864 bytes), UUID 8f0e3f6a");

    // The superblocks of a region of version 1, from both copies and from copy B alone.
    for (offset, copy) in [(0, CopyId::A), (copy_b, CopyId::B)] {
        let sandbox = Sandbox::new();
        images::sample(&sandbox);
        let image = sandbox.read("region.img");
        let at = usize::try_from(offset).unwrap();
        let mut page: PageBytes = image[at..at + 4096].try_into().unwrap();
        PageHeader::of_mut(&mut page).version = 1.into();
        seal::renew_crc(&mut page);
        sandbox.write("region.img", &vec![0; usize::try_from(images::SIZE).unwrap()]);
        images::poke(&sandbox, "region.img", offset, &page);
        refuse(&sandbox, "it holds a gmfs region of format version 1");
        let done = sandbox.gmfs("fsck region.img");
        assert!(done.code != 0, "copy {copy}: {done:?}");
    }
}

#[test]
fn force_formats_over_everything_and_leaves_no_old_region() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    // The new region ends before the old one, whose second superblock would otherwise remain.
    sandbox.ok("mkfs region.img -f -q --region 32M:0");
    let found = sandbox.ok("scan region.img --json").json();
    assert_eq!(found["regions"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["regions"][0]["size"], 32 << 20);
    sandbox.ok("mkfs region.img --force -q");
    assert_eq!(sandbox.ok("ls region.img").text(), "");
    sandbox.write("vmcore", &[images::elf(&[]), vec![0; 16 << 20]].concat());
    sandbox.ok("mkfs vmcore -fq");
    assert_eq!(sandbox.ok("ls vmcore").text(), "");
}

#[test]
fn refusals_leave_no_file_behind() {
    let sandbox = Sandbox::new();
    let cases = [
        ("mkfs new", "new does not exist"),
        ("mkfs new --region 1G:0", "new does not exist"),
        ("mkfs new --size 4M", "too small"),
        ("mkfs new --size 1G --inodes 0", "the inode count is 0"),
        ("mkfs new --size 1G --inodes 2000000", "the inode count is 2000000"),
        ("mkfs new --size 1G --pmd-size 512M", "too small"),
        ("mkfs new --size 64M --base 4097", "not a multiple of the block size"),
        ("mkfs no/such/directory --size 1G", "no/such/directory"),
        ("mkfs . --size 1G", "is a directory"),
        ("mkfs new --size 7E", "new"),
    ];
    for (line, saying) in cases {
        sandbox.fails(line, saying);
        assert!(!sandbox.exists("new"), "{line}");
    }
    let label = "x".repeat(64);
    sandbox.fails(&format!("mkfs new --size 1G --label {label}"), "the label has 64 bytes");
    sandbox.write("small", &vec![0; 1 << 20]);
    sandbox.fails("mkfs small", "too small");
    sandbox.fails("mkfs small --size 1G", "does not fit");
    sandbox.write("empty", b"");
    sandbox.fails("mkfs empty", "empty is empty");
    sandbox.fails("mkfs empty --size 64M --base 4097", "not a multiple");
    assert_eq!(sandbox.read("empty"), b"", "an empty file is empty again");
}

#[test]
fn a_locked_image_is_refused() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let held = gmfs_image::WritableFile::open(&sandbox.path("region.img"), &Locking::at_once()).unwrap();
    sandbox.fails("mkfs region.img -f --wait 0", "is locked by process");
    sandbox.fails("mkdir region.img /x --wait 0", "is locked by process");
    drop(held);
    // Processes that other tests start have inherited open files of this one until they become gmfs, so this command
    // waits for them.
    sandbox.ok("mkdir region.img /x");
}

#[test]
fn a_clock_that_is_none_is_refused() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["mkfs", "new", "--size", "64M"]);
    let output = command.env("SOURCE_DATE_EPOCH", "yesterday").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("SOURCE_DATE_EPOCH is 'yesterday'"));
    assert!(!sandbox.exists("new"));
}
