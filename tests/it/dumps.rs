//! Regions in dumps: they must be found and read, and what is not in the dump must be named.

use crate::images::{self, BLOCK, SIZE, Segment, UUID};
use crate::sandbox::Sandbox;

/// The address of the region in the machine's memory.
const BASE: u64 = 1 << 32;

/// A dump of a machine with some low memory and the sample region. Only `parts` (from, to) of the region are in the
/// file.
fn dump(sandbox: &Sandbox, parts: &[(u64, u64)]) {
    images::sample(sandbox);
    let region = sandbox.read("region.img");
    let mut segments = vec![Segment { address: 0, size: 1 << 20, bytes: vec![0xaa; 1 << 20] }];
    segments.extend(parts.iter().map(|(from, to)| Segment {
        address: BASE + from,
        size: to - from,
        bytes: region[usize::try_from(*from).unwrap()..usize::try_from(*to).unwrap()].to_vec(),
    }));
    // Memory continues after the region.
    segments.push(Segment { address: BASE + SIZE, size: 1 << 20, bytes: vec![0x55; 1 << 20] });
    sandbox.write("vmcore", &images::elf(&segments));
}

#[test]
fn a_region_in_a_dump_is_found_and_read() {
    let sandbox = Sandbox::new();
    dump(&sandbox, &[(0, SIZE)]);
    assert!(sandbox.ok("cat vmcore /vms/first.mem").stdout == images::content());
    insta::assert_snapshot!("dump_inspect", sandbox.ok("inspect vmcore").all());
    let found = sandbox.ok("inspect vmcore --json").json();
    assert_eq!(found["image"]["kind"], "elf");
    assert_eq!(found["region"], serde_json::json!({"base": BASE, "size": SIZE}));
    assert_eq!(found["health"]["verdict"], "clean");
    insta::assert_snapshot!("dump_map", sandbox.ok("map vmcore /vms/first.mem").all());
    let map = sandbox.ok("map vmcore /vms/first.mem --json").json();
    assert_eq!(map["extents"][0]["physical"], BASE + BLOCK);
    assert_eq!(sandbox.ok("tree vmcore").text(), sandbox.ok("tree region.img").text());
    for region in ["64M", "64M:0x100000000", "0x4000000!4G"] {
        assert_eq!(sandbox.ok(&format!("ls vmcore --region {region}")).text(), "sparse\nvms\n");
    }
    sandbox.fails("ls vmcore --region 32M", "no region of 32 MiB");
    sandbox.ok("save vmcore -o saved");
    assert!(sandbox.read("saved") == sandbox.read("region.img"));
    sandbox.fails("map vmcore /vms/second.mem --vmm qemu", "no guest can run in");
}

#[test]
fn a_dump_cannot_be_written() {
    let sandbox = Sandbox::new();
    dump(&sandbox, &[(0, SIZE)]);
    let before = sandbox.read("vmcore");
    sandbox.write("content", b"x");
    for line in [
        "mkdir vmcore /x",
        "create vmcore /x --size 1",
        "put vmcore content /x",
        "truncate vmcore /sparse --size 1",
        "mv vmcore /sparse /x",
        "rm vmcore /sparse",
        "mkdir vmcore /x --region 64M:0x100000000",
    ] {
        let done = sandbox.fails(line, "a dump cannot be written");
        assert!(done.stderr.contains("gmfs save IMAGE -o FILE"), "{done:?}");
    }
    assert!(sandbox.read("vmcore") == before);
}

#[test]
fn what_is_not_in_the_dump_is_absent() {
    let sandbox = Sandbox::new();
    // The dump lacks the second block of /vms/first.mem, and copy B.
    dump(&sandbox, &[(0, 2 * BLOCK), (3 * BLOCK, SIZE - BLOCK)]);
    let found = sandbox.ok("inspect vmcore --json").json();
    assert_eq!(found["health"]["verdict"], "clean");
    assert_eq!(found["health"]["pages"]["b"]["absent"], 3);
    let done = sandbox.fails("cat vmcore /vms/first.mem", "0x200000..0x400000 not in the dump");
    assert!(done.stdout.is_empty());
    let done = sandbox.gmfs("save vmcore -o saved --json");
    assert_eq!(done.code, 1);
    assert_eq!(
        done.json()["absent"],
        serde_json::json!([2 * BLOCK, SIZE - BLOCK].map(|offset| serde_json::json!({
            "offset": offset, "length": BLOCK, "reason": "not-in-dump",
            "address": BASE + offset, "physical": BASE + offset,
        })))
    );
    assert_eq!(sandbox.read("saved").len() as u64, SIZE);
    sandbox.ok("cat saved /vms/second.mem");
    assert_eq!(sandbox.ok("scan vmcore --json").json()["regions"][0]["confidence"], "likely");
}

#[test]
fn two_regions_are_one_too_many() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let region = sandbox.read("region.img");
    let at = |address| Segment { address, size: SIZE, bytes: region.clone() };
    sandbox.write("vmcore", &images::elf(&[at(BASE), at(2 * BASE)]));
    let done = sandbox.fails("ls vmcore", "it is not clear which region is meant: 64M:0x100000000");
    assert!(done.stderr.contains("64M:0x200000000") && done.stderr.contains(UUID), "{done:?}");
    assert_eq!(sandbox.ok("ls vmcore --region 64M:0x200000000").text(), "sparse\nvms\n");
    insta::assert_snapshot!("dump_scan", sandbox.ok("scan vmcore").all());
}

#[test]
fn a_dump_without_a_region() {
    let sandbox = Sandbox::new();
    sandbox.write("vmcore", &images::elf(&[Segment { address: 0, size: 8 << 20, bytes: vec![1; 8 << 20] }]));
    insta::assert_snapshot!("dump_none", sandbox.gmfs("ls vmcore").all());
    assert_eq!(sandbox.gmfs("scan vmcore").code, 1);
    for format in [&b"KDUMP   "[..], b"makedumpfile\0\0\0\0", b"EMiL\x01\0\0\0", b"\x28\xb5\x2f\xfd"] {
        sandbox.write("other", &[format, &[0; 8192]].concat());
        let done = sandbox.gmfs("ls other");
        assert_eq!(done.code, 2, "{done:?}");
    }
}
