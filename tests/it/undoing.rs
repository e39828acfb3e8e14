//! `undo` of images that have changed since, and undo files with false content and good checksums.

use crate::images;
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

/// What `mkfs -f` overwrote comes back, whatever was done to the new region since.
#[test]
fn a_forced_undo_knows_its_image_by_what_was_not_written() {
    let sandbox = sandbox();
    let before = sandbox.read("region.img");
    for (n, line) in ["mkdir region.img /oops", "mkfs -f region.img -q"].into_iter().enumerate() {
        sandbox.write("region.img", &before);
        let undo = format!("undo-{n}");
        sandbox.succeeds(&format!("mkfs -f --undo {undo} region.img -q"));
        sandbox.succeeds(line);
        sandbox.fails(&format!("undo {undo} region.img"), "has changed at");
        let said = sandbox.succeeds(&format!("undo -f {undo} region.img")).text();
        assert_eq!(said.contains("/oops: goes"), line.contains("/oops"), "{said}");
        assert!(said.contains("/vms/first.mem: comes back"), "{said}");
        assert!(sandbox.read("region.img") == before, "{line}");
    }
}

#[test]
fn a_forced_undo_refuses_another_image() {
    let sandbox = sandbox();
    sandbox.succeeds("mkfs -f --undo undo region.img -q");
    sandbox.ok("mkfs other.img --size 64M -q");
    sandbox.write("content", &images::content()[8..]);
    sandbox.ok("put other.img content /guest");
    let other = sandbox.read("other.img");
    sandbox.fails("undo -f undo other.img", "it is another image, and nothing is undone");
    assert!(sandbox.read("other.img") == other);
}

/// A region without content has no witnesses, so the other image must have no further content either.
#[test]
fn an_empty_region_can_be_brought_back() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 64M -q");
    sandbox.ok("mkdir region.img /kept");
    let before = sandbox.read("region.img");
    sandbox.succeeds("mkfs -f --undo undo region.img -q");
    sandbox.ok("mkdir region.img /oops");
    let after = sandbox.read("region.img");
    sandbox.write("content", &images::content());
    sandbox.ok("put region.img content /guest");
    let used = sandbox.read("region.img");
    sandbox.fails("undo -f undo region.img", "it is another image, and nothing is undone");
    assert!(sandbox.read("region.img") == used);
    sandbox.write("region.img", &after);
    sandbox.succeeds("undo -f undo region.img");
    assert!(sandbox.read("region.img") == before);
}

fn crc(parts: &[&[u8]]) -> [u8; 4] {
    // CRC-32 (IEEE 802.3), bit by bit.
    let mut sum = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    (!sum).to_le_bytes()
}

/// Every checksum is right, but no command writes such a file.
#[test]
fn a_crafted_file_is_refused_before_the_first_store() {
    let sandbox = sandbox();
    sandbox.ok("dump region.img -o metadata");
    sandbox.ok("mkdir region.img /x");
    sandbox.succeeds("restore -y --undo undo metadata region.img");
    let image = sandbox.read("region.img");
    let good = sandbox.read("undo");
    let mut records = Vec::new();
    let mut at = 20;
    while good[at..at + 8] != [0xff; 8] {
        records.push(at);
        at += 16 + usize::try_from(u32::from_le_bytes(good[at + 8..at + 12].try_into().unwrap())).unwrap();
    }
    let table = at;
    assert!(records.len() > 2);
    let last = *records.last().unwrap();
    let refused = |mut file: Vec<u8>, what: &str| {
        let length = file.len();
        let sum = crc(&[&file[table..length - 4]]);
        file[length - 4..].copy_from_slice(&sum);
        sandbox.write("crafted", &file);
        for force in ["", "-f "] {
            sandbox.fails(&format!("undo {force}crafted region.img"), "is damaged at byte");
            assert!(sandbox.read("region.img") == image, "{what}");
        }
    };
    let with_offset = |offset: u64| {
        let mut file = good.clone();
        file[last..last + 8].copy_from_slice(&offset.to_le_bytes());
        let sum = crc(&[&file[last..last + 12], &file[last + 16..last + 16 + 4096]]);
        file[last + 12..last + 16].copy_from_slice(&sum);
        file
    };
    for offset in [1 << 40, u64::MAX - 4095, 64 << 20, (64 << 20) - 4095, 1] {
        refused(with_offset(offset), &format!("a record at {offset:#x}"));
    }
    // One page is recorded twice.
    let first = u64::from_le_bytes(good[records[0]..records[0] + 8].try_into().unwrap());
    refused(with_offset(first), "a page twice");
    // The table is for other pages, or is not sorted.
    let mut file = good.clone();
    file[table + 16..table + 24].copy_from_slice(&(32_u64 << 20).to_le_bytes());
    refused(file, "a table of other pages");
    let mut file = good.clone();
    let (one, two) = (good[table + 16..table + 28].to_vec(), good[table + 28..table + 40].to_vec());
    file[table + 16..table + 40].copy_from_slice(&[two, one].concat());
    refused(file, "a table in no order");
    let mut file = good.clone();
    file[table + 16] |= 3;
    refused(file, "an entry of no kind");
    sandbox.succeeds("undo undo region.img");
}

#[test]
fn a_command_that_writes_nothing_leaves_no_undo_file() {
    let sandbox = sandbox();
    let done = sandbox.succeeds("fsck -y --undo undo region.img");
    assert!(done.stderr.contains("nothing was written, so there is no undo"), "{done:?}");
    assert!(!sandbox.exists("undo"));
}

/// What is in the files tells which is the image.
#[test]
fn the_image_and_its_file_are_taken_in_either_order() {
    let sandbox = sandbox();
    let before = sandbox.read("region.img");
    sandbox.ok("dump region.img -o metadata");
    for line in ["undo region.img undo", "undo undo region.img"] {
        sandbox.succeeds("rm region.img -r /vms --undo undo");
        assert!(sandbox.read("region.img") != before);
        sandbox.ok(line);
        assert!(sandbox.read("region.img") == before, "{line}");
        std::fs::remove_file(sandbox.path("undo")).unwrap();
    }
    for line in ["restore -y region.img metadata", "restore -y metadata region.img"] {
        sandbox.ok("rm region.img -r /vms");
        sandbox.ok(line);
        assert!(sandbox.ok("tree region.img").text().contains("first.mem"), "{line}");
    }
    // Where contents do not tell, the image is the one that is named first.
    sandbox.fails("undo region.img metadata", "metadata is not an undo file");
    sandbox.fails("restore -y region.img region.img", "not a metadata dump");
    sandbox.fails("undo region.img missing", "missing");
    sandbox.succeeds("rm region.img -r /vms --undo undo");
    sandbox.fails("undo missing undo", "missing does not exist");
}
