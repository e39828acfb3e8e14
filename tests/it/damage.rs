//! Damaged regions: what is known is shown, what is lost is named, and nothing is invented.

use crate::images::{self, BLOCK, SIZE};
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

/// The offset of copy B.
const B: u64 = SIZE - BLOCK;

#[test]
fn one_lost_copy_costs_nothing() {
    let sandbox = sandbox();
    images::poke(&sandbox, "region.img", 0, &vec![0x5a; 3 * 4096]);
    assert!(sandbox.ok("cat region.img /vms/first.mem").stdout == images::content());
    let done = sandbox.ok("inspect region.img");
    insta::assert_snapshot!("damage_copy_a", done.all());
    insta::assert_snapshot!("damage_copy_a_pages", sandbox.ok("inspect region.img pages").all());
    insta::assert_snapshot!("damage_copy_a_superblock", sandbox.ok("inspect region.img superblock").all());
    insta::assert_snapshot!("damage_raw", sandbox.ok("inspect region.img raw --copy a").all());
    let found = sandbox.ok("inspect region.img --json").json();
    assert_eq!(found["health"]["verdict"], "damaged");
    assert_eq!(found["health"]["pages"]["a"]["damaged"], 3);
    assert_eq!(found["health"]["pages"]["b"]["good"], 3);
    assert_eq!(found["superblock"]["copies"]["a"], "overwritten");
    assert_eq!(sandbox.ok("scan region.img --json").json()["regions"][0]["confidence"], "possible");
}

#[test]
fn lost_inodes_make_the_listing_incomplete() {
    let sandbox = sandbox();
    for copy in [0, B] {
        images::poke(&sandbox, "region.img", copy + 2 * 4096 + 100, b"damage");
    }
    let done = sandbox.gmfs("ls region.img");
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("gmfs: the root directory is lost"), "{done:?}");
    for line in ["inspect region.img files", "inspect region.img inodes"] {
        let done = sandbox.gmfs(line);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(
            done.stderr.contains("warning: 1 page of the inode table is lost; the listing is incomplete"),
            "{done:?}"
        );
    }
    let found = sandbox.gmfs("inspect region.img files --json");
    assert_eq!((found.code, &found.json()["lost_pages"]), (1, &1.into()));
    // The owner of a block can still be shown, by number.
    let who = sandbox.gmfs("who region.img block:1");
    assert_eq!(who.code, 1);
    assert!(who.text().contains("inode 4, which no path leads to at 0x0"), "{who:?}");
}

#[test]
fn lost_mappings_are_no_holes() {
    let sandbox = sandbox();
    for copy in [0, B] {
        images::poke(&sandbox, "region.img", copy + 4096 + 100, b"damage");
    }
    sandbox.fails("cat region.img /vms/first.mem", "0x0..0x500000 lost: nothing tells any more which block held it");
    sandbox.fails("extract region.img /vms/first.mem", "0x0..0x500000 lost");
    assert!(!sandbox.exists("first.mem"));
    let map = sandbox.gmfs("map region.img /vms/first.mem");
    assert_eq!(map.code, 1);
    assert!(map.stderr.contains("1 page of the block table is lost; the mapping is incomplete"), "{map:?}");
    assert!(map.text().contains("lost") && !map.text().contains("hole"), "{map:?}");
    // What is left can be extracted, with a list of what is not.
    assert_eq!(sandbox.gmfs("extract region.img /vms/first.mem --sparse-absent").code, 1);
    assert!(String::from_utf8_lossy(&sandbox.read("first.mem.missing")).contains("0 5242880 lost -"));
    assert_eq!(sandbox.gmfs("stat region.img /vms/first.mem").code, 1);
    let who = sandbox.gmfs("who region.img block:1 --json").json();
    assert_eq!(who["addresses"][0]["what"], "lost");
    assert_eq!(sandbox.gmfs("inspect region.img blocks").code, 1);
    // A directory has no mapping, so it can be listed.
    sandbox.ok("ls region.img /vms");
}

#[test]
fn a_cut_region_is_read_as_far_as_it_is_there() {
    let sandbox = sandbox();
    let whole = sandbox.read("region.img");
    // Cut after the first block of /vms/first.mem.
    sandbox.write("region.img", &whole[..usize::try_from(2 * BLOCK + 4096).unwrap()]);
    let found = sandbox.ok("inspect region.img --json").json();
    assert_eq!(found["health"]["verdict"], "damaged");
    assert_eq!(found["health"]["pages"]["b"]["absent"], 3);
    let done = sandbox.gmfs("cat region.img /vms/first.mem");
    assert_eq!((done.code, done.stdout.len()), (2, 0), "nothing at all rather than a part");
    insta::assert_snapshot!("damage_cut_cat", done.all());
    assert!(sandbox.ok("cat region.img /vms/first.mem --length 2M").stdout == images::content()[..2 << 20]);
    sandbox.fails("extract region.img /vms/first.mem", "cannot be told");
    assert!(!sandbox.exists("first.mem"));
    let done = sandbox.gmfs("extract region.img /vms/first.mem --sparse-absent --json");
    assert_eq!(done.code, 1);
    let gaps = &done.json()["files"][0]["absent"];
    assert_eq!(
        gaps[0],
        serde_json::json!({
            "offset": BLOCK + 4096, "length": BLOCK * 3 / 2 - 4096, "reason": "beyond-end",
            "address": 2 * BLOCK + 4096, "physical": null,
        })
    );
    assert!(sandbox.read("first.mem")[..2 << 20] == images::content()[..2 << 20]);
    let done = sandbox.gmfs("save region.img -o saved --json");
    assert_eq!(done.code, 1);
    assert_eq!(done.json()["absent"][0]["reason"], "beyond-end");
    insta::assert_snapshot!("damage_cut_save", sandbox.gmfs("save region.img -o saved -f").all());
}

#[test]
fn a_block_with_a_hardware_error_is_not_read() {
    let sandbox = sandbox();
    // The descriptor of the second block of /vms/first.mem becomes invalid in both copies, with good seals.
    let superblock = images::superblock(&sandbox, "region.img");
    let bytes = sandbox.read("region.img");
    for (copy, start) in gmfs_format::native::units::CopyId::BOTH.into_iter().zip([0, B]) {
        use gmfs_format::native::{raw, seal, units};
        let offset = usize::try_from(start).unwrap() + 4096;
        let mut page: units::PageBytes = bytes[offset..offset + 4096].try_into().unwrap();
        raw::BlockTablePage::view_mut(&mut page).entries[1].state = 2;
        let generation = raw::PageHeader::of(&page).generation.get();
        let kind = seal::PageKind::BlockTable;
        let (uuid, birth, geometry) = (superblock.uuid, superblock.birth, superblock.geometry());
        let place = seal::Place { kind, copy, page: units::PageNo(1), uuid, birth, geometry };
        seal::seal(&mut page, &place, units::Generation(generation));
        images::poke(&sandbox, "region.img", start + 4096, &page);
    }
    sandbox.fails("cat region.img /vms/first.mem", "0x200000..0x400000 in a block with a hardware error");
    let done = sandbox.gmfs("extract region.img /vms/first.mem --sparse-absent");
    assert_eq!(done.code, 1, "{done:?}");
    let (found, content) = (sandbox.read("first.mem"), images::content());
    assert!(found[..2 << 20] == content[..2 << 20] && found[4 << 20..] == content[4 << 20..]);
    assert!(found[2 << 20..4 << 20].iter().all(|byte| *byte == 0));
    insta::assert_snapshot!("damage_bad_map", sandbox.ok("map region.img /vms/first.mem").all());
    sandbox.fails("map region.img /vms/first.mem --vmm qemu", "hardware error");
}
