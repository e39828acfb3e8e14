//! Lists of poisoned memory: whose it is, and that it is marked.

use crate::images::BLOCK;
use crate::sandbox::Sandbox;

/// A region whose superblock says that it is at 4 GiB, with a file of two blocks; and where that file begins in the region.
fn sandbox() -> (Sandbox, u64) {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 64M -N 1024 --base 4G -q");
    sandbox.ok("create region.img /vm.mem --size 4M -q");
    let file = sandbox.ok("stat region.img /vm.mem --json").json()["files"][0].clone();
    (sandbox, file["extents"][0]["address"].as_u64().unwrap())
}

const BASE: u64 = 4 << 30;

fn frame(at: u64) -> u64 {
    (BASE + at) >> 12
}

#[test]
fn the_files_that_a_kernel_log_names_are_found_and_marked() {
    let (sandbox, at) = sandbox();
    let (hit, next) = (frame(at + BLOCK + 8192), frame(at + BLOCK + 12288));
    let log = format!(
        "[    1.2] Linux version 6.12.95 \u{e4}\n\
         [ 9999.1] Memory failure: {hit:#x}: Sending SIGBUS to qemu:17 due to hardware memory corruption\n\
         [ 9999.2] Memory failure: {hit:#x}: recovery action for dirty LRU page: Recovered\n\
         [ 9999.3] Memory failure: {next:#x}: recovery action for dirty LRU page: Recovered\n\
         [ 9999.4] Memory failure: 0x20: recovery action for clean LRU page: Recovered\n"
    );
    let mut bytes = log.into_bytes();
    bytes.extend(b"[ 9999.5] \xff\xfe\n");
    sandbox.write("dmesg", &bytes);
    let done = sandbox.gmfs("who region.img --poison dmesg");
    let (address, offset) = (BASE + at + BLOCK + 8192, BLOCK + 8192);
    assert_eq!(done.code, 1);
    assert!(done.text().contains(&format!("{address:#x}+8192")), "neighbours are one: {done:?}");
    assert!(done.text().contains(&format!("/vm.mem at {offset:#x}")), "{done:?}");
    assert!(done.stderr.contains("1 entry is not in the region, out of 3 of dmesg"), "{done:?}");
    let answer = sandbox.feed("who region.img --poison - --json", &bytes).json();
    let found = &answer["addresses"][0];
    assert_eq!((&found["path"], &found["offset"], &found["what"]), (&"/vm.mem".into(), &offset.into(), &"file".into()));
    assert_eq!(answer["addresses"].as_array().unwrap().len(), 1);

    let before = sandbox.read("region.img");
    let dry = sandbox.gmfs("bad import -n region.img dmesg");
    assert!(
        dry.code == 0 && dry.text().contains("1 block would be marked as bad") && sandbox.read("region.img") == before
    );
    let done = sandbox.gmfs("bad import region.img dmesg");
    assert!(done.code == 0 && done.text().contains("1 block marked as bad"), "{done:?}");
    assert!(done.stderr.contains("1 entry of the list is not in the region"), "{done:?}");
    let listed = sandbox.ok("bad list region.img --json").json();
    assert_eq!(
        (&listed["addresses"][0]["path"], &listed["addresses"][0]["offset"]),
        (&"/vm.mem".into(), &BLOCK.into())
    );
    // The same list again changes nothing, and is no error.
    assert!(sandbox.gmfs("bad import region.img dmesg").text().contains("0 blocks marked"));
    assert_eq!(sandbox.gmfs("who region.img --poison dmesg --json").json()["addresses"][0]["path"], "/vm.mem");
}

#[test]
fn other_lists_and_what_is_hit_of_metadata() {
    let (sandbox, at) = sandbox();
    let free = at + 4 * BLOCK;
    sandbox.write("frames", format!("# free memory\n{:#x}\n", frame(free)).as_bytes());
    let done = sandbox.gmfs("who region.img --poison frames");
    assert!(done.code == 0 && done.text().contains("free"), "{done:?}");
    assert_eq!(sandbox.gmfs("who region.img --poison none").code, 2);
    sandbox.write("badblocks", format!("{} 8\n", at / 512).as_bytes());
    assert_eq!(sandbox.gmfs("who region.img --poison badblocks").code, 1);
    let json =
        format!(r#"[{{"dev":"namespace0.0","badblock_count":8,"badblocks":[{{"offset":{},"length":8}}]}}]"#, at / 512);
    sandbox.write("ndctl", json.as_bytes());
    let done = sandbox.gmfs("bad import region.img ndctl");
    assert!(done.code == 0 && done.text().contains("1 block marked"), "{done:?}");
    // Metadata cannot be marked; the rest of the list is.
    sandbox.write("frames", format!("{:#x}\n{:#x}\n", frame(4096), frame(free)).as_bytes());
    let done = sandbox.gmfs("who region.img --poison frames");
    assert!(done.code == 1 && done.text().contains("metadata"), "{done:?}");
    let done = sandbox.gmfs("bad import region.img frames");
    assert!(done.code == 1 && done.text().contains("1 block marked"), "{done:?}");
    assert!(done.stderr.contains("1 block of metadata is hit and cannot be marked"), "{done:?}");
    // A single number is an address, although it is JSON too.
    sandbox.write("one", format!("{}\n", BASE + at + 6 * BLOCK).as_bytes());
    let done = sandbox.gmfs("bad add region.img @one");
    assert!(done.code == 0 && done.text().contains("1 block marked"), "{done:?}");
    sandbox.ok("fsck -n region.img");
}

#[test]
fn nothing_that_is_hit_and_lists_that_are_none() {
    let (sandbox, _) = sandbox();
    for empty in [&b""[..], b"[ 1.0] Linux version 6.12\n", b"0x20\n", b"[]"] {
        sandbox.write("list", empty);
        let done = sandbox.gmfs("who region.img --poison list");
        assert!(done.code == 0 && done.stderr.contains("nothing in the region is hit"), "{done:?}");
        assert_eq!(sandbox.gmfs("bad import region.img list").code, 0);
        assert_eq!(sandbox.ok("bad list region.img --json").json()["addresses"].as_array().unwrap().len(), 0);
    }
    for wrong in [&b"1a2b\n"[..], b"5-7\n", b"hello\n", b"\xff\n"] {
        sandbox.write("list", wrong);
        sandbox.fails_with(2, "who region.img --poison list", "cannot use line 1 of list");
        sandbox.fails_with(2, "bad import region.img list", "one page frame number a line");
    }
    assert_eq!(sandbox.gmfs("who region.img 0 --poison list").code, 2);
    assert_eq!(sandbox.gmfs("who region.img").code, 2);
}

#[test]
fn the_kernels_flags_and_its_memory_map_are_lists_too() {
    let (sandbox, at) = sandbox();
    let hit = frame(at + BLOCK + 4096);
    // As /proc/kpageflags has it: eight bytes for each page frame of the machine.
    let flags = |frame: u64| -> u64 { if frame == hit || frame == 17 { 1 << 19 } else { 1 << 5 } };
    let bytes: Vec<u8> = (0..frame(64 << 20)).flat_map(|frame| flags(frame).to_ne_bytes()).collect();
    sandbox.write("kpageflags", &bytes);
    let done = sandbox.gmfs("who region.img --poison kpageflags");
    let offset = BLOCK + 4096;
    assert!(done.code == 1 && done.text().contains(&format!("/vm.mem at {offset:#x}")), "{done:?}");
    assert!(!done.stderr.contains("not in the region") && !done.stderr.contains("no flags"), "{done:?}");
    // Memory without struct pages is not memory without poison.
    sandbox.write("kpageflags", &bytes[..bytes.len() - 80]);
    let done = sandbox.gmfs("who region.img --poison kpageflags");
    assert!(done.code == 1 && done.stderr.contains("no flags for 10 of 16384 page frames"), "{done:?}");
    sandbox.write("kpageflags", &bytes[..800]);
    sandbox.fails_with(2, "who region.img --poison kpageflags", "no flags for 16384 of 16384 page frames");
    sandbox.fails_with(2, "bad import region.img kpageflags", "ndctl list -M");
    sandbox.write("kpageflags", &bytes);
    let done = sandbox.gmfs("bad import region.img kpageflags");
    assert!(done.code == 0 && done.text().contains("1 block marked as bad"), "{done:?}");
    sandbox.ok("mkfs other.img --size 64M -q");
    sandbox.fails_with(2, "who other.img --poison kpageflags", "where the region is there is unknown");

    let (sandbox, at) = self::sandbox();
    let (from, to) = (BASE + at + BLOCK, BASE + at + BLOCK + 8191);
    let map = format!(
        "00000000-0009ffff : System RAM\n000a0000-000fffff : Unusable memory\n100000000-{:x} : Reserved\n\
         {from:x}-{to:x} : Unusable memory\n",
        from - 1
    );
    sandbox.write("iomem", map.as_bytes());
    let done = sandbox.gmfs("who region.img --poison iomem");
    assert!(done.code == 1 && done.text().contains(&format!("{from:#x}+8192")), "{done:?}");
    assert!(done.stderr.contains("1 entry is not in the region, out of 2"), "{done:?}");
    let done = sandbox.gmfs("bad import region.img iomem");
    assert!(done.code == 0 && done.text().contains("1 block marked as bad"), "{done:?}");
    sandbox.write("iomem", b"00000000-00000000 : System RAM\n00000000-00000000 : Unusable memory\n");
    sandbox.fails_with(2, "who region.img --poison iomem", "run as root");
}
