//! Commands that read a clean region.

use crate::images::{self, BLOCK, UUID};
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

#[test]
fn listings() {
    let sandbox = sandbox();
    insta::assert_snapshot!("ls", sandbox.ok("ls region.img").all());
    insta::assert_snapshot!("ls_directory", sandbox.ok("ls region.img /vms/").all());
    insta::assert_snapshot!("ls_long_recursive", sandbox.ok("ls -lR region.img").all());
    insta::assert_snapshot!("tree", sandbox.ok("tree region.img").all());
    assert_eq!(sandbox.ok("tree region.img vms/old").text(), "/vms/old\n0 directories, 0 files\n");
    assert_eq!(sandbox.ok("ls region.img /vms/old").text(), "");
    assert_eq!(sandbox.ok("ls -l region.img /vms/old").text(), "");
    assert_eq!(sandbox.ok("ls region.img /vms/first.mem /sparse").text(), "/vms/first.mem\n/sparse\n");
    for command in ["ls", "tree", "stat", "cat", "extract", "map"] {
        let done = sandbox.gmfs(&format!("{command} region.img /vms/none"));
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains("there is no '/vms/none' in the region"), "{done:?}");
    }
}

#[test]
fn stat_shows_everything() {
    let sandbox = sandbox();
    insta::assert_snapshot!("stat", sandbox.ok("stat region.img /vms/first.mem /vms").all());
}

#[test]
fn views() {
    let sandbox = sandbox();
    for view in ["summary", "superblock", "blocks", "inodes", "files", "pages", "raw"] {
        let done = sandbox.ok(&format!("inspect region.img {view}"));
        insta::assert_snapshot!(format!("inspect_{view}"), done.all());
        for line in done.text().lines() {
            assert!(line.chars().count() <= 80, "{view}: {line}");
        }
    }
    assert_eq!(sandbox.ok("inspect region.img").text(), sandbox.ok("inspect region.img summary").text());
    insta::assert_snapshot!("inspect_raw_table", sandbox.ok("inspect region.img raw --page 1 --copy b").all());
    insta::assert_snapshot!("inspect_raw_inodes", sandbox.ok("inspect region.img raw --page 2 --copy A").all());
    let behind = sandbox.gmfs("inspect region.img raw --page 999");
    assert_eq!((behind.code, behind.stderr.as_str()), (2, "gmfs: there is no page 999: the last one is page 129\n"));
}

#[test]
fn cat_gives_the_bytes() {
    let sandbox = sandbox();
    let content = images::content();
    assert!(sandbox.ok("cat region.img /vms/first.mem").stdout == content);
    assert_eq!(sandbox.ok("cat region.img /sparse").stdout, vec![0; 3 * usize::try_from(BLOCK).unwrap()]);
    let part = sandbox.ok("cat region.img /vms/first.mem --offset 2097150 --length 0x1004");
    assert!(part.stdout == content[2_097_150..2_097_150 + 0x1004]);
    assert!(sandbox.ok("cat region.img /vms/first.mem --offset 1G").stdout.is_empty());
    assert!(sandbox.ok("cat region.img /sparse /vms/second.mem --length 3").stdout == [0; 6]);
    sandbox.fails("cat region.img /vms", "it is a directory");
}

#[test]
fn extract_makes_sparse_files() {
    use std::os::unix::fs::MetadataExt as _;
    let sandbox = sandbox();
    let content = images::content();
    sandbox.ok("extract region.img /vms/first.mem");
    assert!(sandbox.read("first.mem") == content);
    sandbox.ok("extract region.img /vms/first.mem other");
    assert!(sandbox.read("other") == content);
    sandbox.fails("extract region.img /vms/first.mem other", "exists already");
    sandbox.write("other", b"x");
    sandbox.ok("extract region.img /vms/first.mem other -f");
    assert!(sandbox.read("other") == content);
    sandbox.ok("extract region.img / all");
    assert!(sandbox.read("all/vms/first.mem") == content);
    assert!(sandbox.path("all/vms/old").is_dir());
    let meta = std::fs::metadata(sandbox.path("all/vms/second.mem")).unwrap();
    assert_eq!((meta.len(), meta.blocks(), meta.mode() & 0o777, meta.mtime()), (2 * BLOCK, 0, 0o600, 1_700_000_000));
    sandbox.ok("extract region.img /vms all -f");
    assert_eq!(sandbox.ok("extract region.img /vms -f --json").json()["files"].as_array().unwrap().len(), 2);
}

#[test]
fn extract_follows_no_link() {
    let sandbox = sandbox();
    sandbox.write("victim", b"precious");
    std::fs::create_dir_all(sandbox.path("out/vms")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("victim"), sandbox.path("out/vms/first.mem")).unwrap();
    sandbox.fails("extract region.img / out", "exists already");
    std::fs::remove_file(sandbox.path("out/sparse")).ok();
    sandbox.ok("extract region.img / out --force");
    assert_eq!(sandbox.read("victim"), b"precious");
    std::fs::remove_dir_all(sandbox.path("out/vms")).unwrap();
    std::fs::create_dir(sandbox.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("elsewhere"), sandbox.path("out/vms")).unwrap();
    let done = sandbox.gmfs("extract region.img / out --force");
    assert_eq!(done.code, 2, "{done:?}");
    assert!(!sandbox.exists("elsewhere/first.mem"));
}

#[test]
fn save_copies_the_region() {
    use std::os::unix::fs::MetadataExt as _;
    let sandbox = sandbox();
    insta::assert_snapshot!("save", sandbox.ok("save region.img -o copy.img").all());
    assert!(sandbox.read("copy.img") == sandbox.read("region.img"));
    let blocks = |name: &str| std::fs::metadata(sandbox.path(name)).unwrap().blocks();
    assert!(blocks("copy.img") <= blocks("region.img"));
    sandbox.fails("save region.img -o copy.img", "it exists already");
    sandbox.fails("save region.img -o region.img -f", "it is the image itself");
    sandbox.ok("save region.img -o copy.img -f");
    sandbox.ok("save region.img -o part --region 4M:2M");
    assert!(sandbox.read("part") == sandbox.read("region.img")[2 << 20..6 << 20]);
    sandbox.fails("save region.img -o no/such/place", "no/such/place");
    sandbox.write("noise", &[7; 9000]);
    sandbox.fails("save noise -o copy.img -f", "no region");
    sandbox.ok("save noise -o piece --region 8000");
    assert_eq!(sandbox.read("piece"), [7; 8000]);
}

#[test]
fn scan_finds_what_there_is() {
    let sandbox = sandbox();
    insta::assert_snapshot!("scan", sandbox.ok("scan region.img").all());
    sandbox.write("zeros", &vec![0; 8 << 20]);
    let none = sandbox.gmfs("scan zeros");
    assert_eq!((none.code, none.text().as_str()), (1, ""));
    insta::assert_snapshot!("scan_none", none.all());
    let none = sandbox.gmfs("scan zeros --json");
    assert_eq!(none.code, 1);
    assert_eq!(none.json()["regions"], serde_json::json!([]));
    // A region at an odd offset is found only with a smaller step.
    let shifted = [vec![0; 4096], sandbox.read("region.img")].concat();
    sandbox.write("shifted", &shifted);
    assert_eq!(sandbox.gmfs("scan shifted").code, 1);
    assert_eq!(sandbox.ok("scan shifted --step 4K --json").json()["regions"][0]["base"], 4096);
    assert_eq!(sandbox.gmfs("scan shifted --step 5000").code, 2);
    assert_eq!(sandbox.gmfs("scan shifted --region 2M:4K --step 4K --json").json()["regions"][0]["uuid"], UUID);
}

#[test]
fn map_and_who_agree() {
    let sandbox = sandbox();
    insta::assert_snapshot!("map", sandbox.ok("map region.img /vms/first.mem").all());
    insta::assert_snapshot!("map_sparse", sandbox.ok("map region.img /sparse").all());
    sandbox.fails("map region.img /vms", "it is a directory");
    insta::assert_snapshot!(
        "who",
        sandbox.gmfs("who region.img 0 0x1000 0x200000 block:2 block:3 block:31 pfn:0x1000 64M").all()
    );
    let map = sandbox.ok("map region.img /vms/first.mem --json").json();
    let extent = &map["extents"][0];
    assert_eq!((&extent["physical"], &map["physical_base"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    let offset = extent["address"].as_u64().unwrap() + BLOCK + 7;
    let who = sandbox.ok(&format!("who region.img {offset} --json")).json();
    assert_eq!(who["addresses"][0]["path"], "/vms/first.mem");
    assert_eq!(who["addresses"][0]["offset"], BLOCK + 7);
}

#[test]
fn addresses_are_physical_where_the_base_is_recorded() {
    let sandbox = Sandbox::new();
    images::sample_at(&sandbox.path("region.img"), 1 << 32);
    let map = sandbox.ok("map region.img /vms/first.mem --json").json();
    let (physical, offset) =
        (map["extents"][0]["physical"].as_u64().unwrap(), map["extents"][0]["address"].as_u64().unwrap());
    assert_eq!(physical, (1 << 32) + offset);
    let who = sandbox.ok(&format!("who region.img {physical:#x} pfn:{:#x} --json", physical >> 12)).json();
    for answer in who["addresses"].as_array().unwrap() {
        assert_eq!(answer["path"], "/vms/first.mem");
        assert_eq!(answer["physical"], physical);
    }
    assert_eq!(sandbox.gmfs("who region.img 0x200000").code, 1, "below the base");
}

#[test]
fn arguments_for_a_vmm() {
    let sandbox = sandbox();
    insta::assert_snapshot!("map_qemu", sandbox.ok("map region.img /vms/second.mem --vmm qemu").all());
    insta::assert_snapshot!("map_qemu_hole", sandbox.gmfs("map region.img /sparse --vmm qemu").all());
    // There are two extents, because another file is between them.
    sandbox.ok("create region.img /wedge --size 2M");
    sandbox.ok("truncate region.img /vms/second.mem --size 6M");
    insta::assert_snapshot!("map_qemu_numa", sandbox.ok("map region.img /vms/second.mem --vmm qemu").all());
}

#[test]
fn a_reader_changes_nothing() {
    let sandbox = sandbox();
    let before = sandbox.read("region.img");
    let modified = || std::fs::metadata(sandbox.path("region.img")).unwrap().modified().unwrap();
    let stamp = modified();
    for line in [
        "inspect region.img",
        "inspect region.img files",
        "scan region.img",
        "save region.img -o copy",
        "ls -lR region.img",
        "tree region.img",
        "stat region.img /vms",
        "cat region.img /vms/first.mem",
        "extract region.img /vms",
        "map region.img /sparse",
        "who region.img 0",
        "mkfs region.img -n -f",
    ] {
        sandbox.ok(line);
    }
    assert!(sandbox.read("region.img") == before && modified() == stamp);
}
