//! Content that is not a region: commands that read name it, and mkfs leaves no remains of it.

use std::io::Write as _;
use std::process::Command;

use crate::images;
use crate::sandbox::Sandbox;

const SIZE: u64 = 64 << 20;

/// Files in other formats: the offset and the bytes of their signature, their name, and a word of the hint.
const FORMATS: &[(usize, &[u8], &str, &str)] = &[
    (0, b"\xd2\xbe\xd2\xbe\x08\0\0\0", "a VMware state file", ".vmem"),
    (257, b"ustar\x0000", "a tar archive", "unpack"),
    (0, b"PK\x03\x04\x14\0", "a zip archive", "unpack"),
    (0, b"7z\xbc\xaf\x27\x1c\0\x04", "a 7z archive", "unpack"),
    (0, b"QFI\xfb\0\0\0\x03", "a qcow2 disk image", "qemu-img"),
    (0, b"\x04\x22\x4d\x18\x64\x40\xa7", "compressed by lz4", "decompress"),
    (0, b"\x1f\x8b\x08\0", "compressed by gzip", "decompress"),
    (0, b"\xff\x06\0\0sNaPpY", "compressed by snappy", "decompress"),
    (0, b"EMiL\x02\0\0\0", "a LiME image of version 2", "newer gmfs"),
    (0, b"AVML\x03\0\0\0", "an AVML image of version 3", "newer gmfs"),
];

#[test]
fn commands_that_read_name_what_they_do_not_read() {
    let sandbox = Sandbox::new();
    for (offset, magic, name, way_out) in FORMATS {
        let mut bytes = vec![0; 100_000];
        bytes[*offset..offset + magic.len()].copy_from_slice(magic);
        sandbox.write("image", &bytes);
        std::fs::File::options().write(true).open(sandbox.path("image")).unwrap().set_len(SIZE).unwrap();
        for (line, status) in [("inspect --image image", 2), ("scan image", 2), ("ls image", 2), ("fsck -n image", 8)] {
            let done = sandbox.fails_with(status, line, name);
            assert!(done.stderr.contains(way_out) && !done.stderr.contains("mkfs"), "{line}: {done:?}");
        }
        sandbox.fails("mkfs -n image", "it holds something else already");
    }
}

#[test]
fn commands_that_read_name_a_filesystem_where_there_is_no_region() {
    let sandbox = Sandbox::new();
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(b"XFSB");
    sandbox.write("image", &bytes);
    for (line, status) in [("ls image", 2), ("fsck -n image", 8), ("dump image -o out", 2), ("save image -o out", 2)] {
        let done = sandbox.fails_with(status, line, "it holds something else: XFS filesystem, marked at offset 0x0");
        assert!(done.stderr.contains("gmfs scan IMAGE") && !done.stderr.contains("mkfs"), "{line}: {done:?}");
    }
    sandbox.fails_with(1, "scan image", "the image holds something else: XFS filesystem");
    assert!(sandbox.ok("inspect --image image").text().contains("XFS filesystem, marked at offset 0x0"));
}

/// Signatures of other formats, with blkid(8)'s name for them, counted from the start or from the end.
fn marked() -> Vec<(&'static str, i64, Vec<u8>)> {
    let mut btrfs = vec![0; 4096];
    btrfs[0x20..0x30].fill(0x22);
    btrfs[0x30..0x38].copy_from_slice(&0x1_0000_u64.to_le_bytes());
    btrfs[0x40..0x48].copy_from_slice(b"_BHRfS_M");
    for (at, value) in [(0x48, 1_u64), (0x50, 0x150_0000), (0x58, 0x140_0000), (0x70, SIZE), (0x78, 1 << 20), (0x80, 6)]
    {
        btrfs[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    btrfs[0x88..0x90].copy_from_slice(&1_u64.to_le_bytes());
    for (at, value) in [(0x90, 4096_u32), (0x94, 16384), (0x98, 16384), (0x9c, 4096)] {
        btrfs[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    vec![
        ("btrfs", 0x1_0000, btrfs),
        ("iso9660", 0x8000, b"\x01CD001\x01".to_vec()),
        ("luks", 0x4000, b"SKUL\xba\xbe\0\x02".to_vec()),
        ("luks at 4 MiB", 0x40_0000, b"SKUL\xba\xbe\0\x02".to_vec()),
        ("swap", 0xff6, b"SWAPSPACE2".to_vec()),
        ("vmfs", 0x10_0000, b"\x0d\xd0\x01\xc0".to_vec()),
        ("jmicron", -512, b"JM".to_vec()),
        ("intel", -1024, b"Intel Raid ISM Cfg Sig. 1.3.00".to_vec()),
        ("drbd", -4096 + 0x3c, vec![0x83, 0x74, 0x02, 0x6b]),
        ("md", -8192, b"\xfc\x4e\x2b\xa9\x01\0\0\0".to_vec()),
        ("gpt", -512, b"EFI PART\0\0\x01\0\x5c\0\0\0".to_vec()),
    ]
}

/// The output of a program of util-linux for an image, or `None` and a message if there is no such program.
fn asked(program: &str, args: &[&str], sandbox: &Sandbox) -> Option<String> {
    let output = Command::new(program).args(args).arg(sandbox.path("image")).output();
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    match output {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) if !ci => {
            eprintln!("skipped: {program}: {error}");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn mkfs_leaves_nothing_that_blkid_or_wipefs_names() {
    let sandbox = Sandbox::new();
    let mut named_before = 0;
    for (name, offset, mark) in marked() {
        let mut bytes = vec![0; SIZE as usize];
        let at = usize::try_from(if offset < 0 { SIZE as i64 + offset } else { offset }).unwrap();
        bytes[at..at + mark.len()].copy_from_slice(&mark);
        let _ = std::fs::remove_file(sandbox.path("image"));
        images::write(&sandbox.path("image"), &bytes);
        sandbox.fails("mkfs image -q", "it holds");
        let Some(before) = asked("wipefs", &[], &sandbox) else { return };
        named_before += usize::from(!before.trim().is_empty());
        sandbox.ok("mkfs -f image -q --undo before");
        let after = asked("wipefs", &[], &sandbox).unwrap();
        assert_eq!(after.trim(), "", "wipefs after {name}");
        let Some(after) = asked("blkid", &["-p", "-c", "/dev/null"], &sandbox) else { return };
        assert_eq!(after.trim(), "", "blkid after {name}");
        assert_eq!(sandbox.gmfs("fsck -n image").code, 0, "{name}");
        // Everything that was overwritten has been recorded.
        sandbox.gmfs("undo before image");
        assert!(sandbox.read("image") == bytes, "{name}");
        std::fs::remove_file(sandbox.path("before")).unwrap();
    }
    assert!(named_before >= 5, "wipefs has named {named_before} of them");
}

#[test]
fn mkfs_wipes_nothing_behind_the_region() {
    let sandbox = Sandbox::new();
    let mut bytes = vec![0; SIZE as usize];
    let at = SIZE as usize - 8192;
    bytes[at..at + 8].copy_from_slice(b"\xfc\x4e\x2b\xa9\x01\0\0\0");
    bytes[(16 << 20) - 3] = 7;
    bytes[(16 << 20) + 3] = 7;
    images::write(&sandbox.path("image"), &bytes);
    let done = sandbox.gmfs("mkfs -f image -q --region 16M");
    assert!(done.code == 0 && done.stderr.contains("Linux RAID member, at offset 0x3ffe000"), "{done:?}");
    let after = sandbox.read("image");
    assert!(after[16 << 20..] == bytes[16 << 20..]);
    assert_eq!(after[(16 << 20) - 3], 0, "the end of the region is wiped");
}

#[test]
fn a_dash_is_standard_output_or_refused() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let done = sandbox.ok("save region.img -o -");
    assert!(done.stdout == sandbox.read("region.img"));
    let both = sandbox.gmfs("save region.img -o - --json");
    assert!(both.code == 2 && both.json()["error"]["code"] == "usage", "{both:?}");
    for (line, status) in [
        ("repair region.img -o -", 16),
        ("fsck -p region.img --undo -", 16),
        ("extract region.img /vms -", 2),
        ("extract region.img /vms out --sparse-absent --missing -", 2),
        ("cat region.img /vms/first.mem --sparse-absent --missing -", 2),
        ("mkfs - --size 64M", 2),
        ("mkfs -f region.img --undo -", 2),
    ] {
        sandbox.fails_with(status, line, "./-");
    }
    assert!(!sandbox.exists("-"));
    // Bytes that the image does not hold are never sent as zeros.
    let whole = sandbox.read("region.img");
    std::fs::write(sandbox.path("short.img"), &whole[..whole.len() - 4096]).unwrap();
    let size = whole.len();
    let done = sandbox.gmfs(&format!("save short.img --region {size} -o -"));
    assert!(done.code == 2 && done.stdout.is_empty() && done.stderr.contains("-o FILE"), "{done:?}");
    let mut file = std::fs::File::create(sandbox.path("out.img")).unwrap();
    let status = sandbox
        .command(&["save", "short.img", "--region", &size.to_string(), "-o", "-"])
        .stdout(file.try_clone().unwrap())
        .status()
        .unwrap();
    file.flush().unwrap();
    assert_eq!((status.code(), sandbox.read("out.img").len()), (Some(1), size));
}

#[test]
fn options_that_init_systems_hand_over() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    for options in ["-C0", "-C 0", "-C=0", "-v", "-a -C0 -v", "-p -C5", "-fyC-1", "-n -f -C 3", "-r"] {
        let done = sandbox.gmfs(&format!("fsck {options} region.img"));
        assert!(done.code == 0 && done.text().contains("region.img: clean"), "{options}: {done:?}");
        assert_eq!(done.text().contains("pages of metadata in copy B: "), options.contains('v'), "{options}: {done:?}");
    }
    let more = sandbox.succeeds("mkfs -v new.img --size 64M").text();
    assert!(more.contains("copies at 0x0 and 0x3e00000"), "{more}");
}

/// A differential snapshot of the region has its metadata and one block. The rest is a hole.
#[test]
fn holes_of_raw_memory_are_what_one_says() {
    const BASE: u64 = 0x1000_0000;
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let whole = sandbox.read("region.img");
    let file = std::fs::File::create(sandbox.path("diff.mem")).unwrap();
    file.set_len(BASE + whole.len() as u64).unwrap();
    let block = 2 << 20;
    for range in [0..block, whole.len() - block..whole.len()] {
        std::os::unix::fs::FileExt::write_all_at(&file, &whole[range.clone()], BASE + range.start as u64).unwrap();
    }
    let full = std::fs::File::create(sandbox.path("full.mem")).unwrap();
    full.set_len(BASE + whole.len() as u64).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&full, &whole, BASE).unwrap();
    drop((file, full));

    let region = format!("--base 0 --region {}:{BASE:#x}", whole.len());
    let silent = sandbox.gmfs(&format!("ls diff.mem {region}"));
    assert!(silent.code == 0 && silent.stderr.contains("of the region are holes in diff.mem"), "{silent:?}");
    sandbox.ok(&format!("ls diff.mem {region} --holes zero"));
    let told = sandbox.ok(&format!("inspect --image diff.mem {region} --json")).json();
    assert!(told["hole_bytes"].as_u64().unwrap() >= 4 << 20, "{told}");
    assert_eq!(told["range"]["absent"], serde_json::json!({}));
    assert!(sandbox.ok(&format!("inspect --image diff.mem {region}")).text().contains("in the file, read as zeros"));

    let told = sandbox.ok(&format!("inspect --image diff.mem {region} --holes absent --json")).json();
    assert_eq!(told["range"]["absent"]["hole"], told["hole_bytes"]);
    let refused =
        sandbox.fails_with(2, &format!("cat diff.mem /vms/first.mem {region} --holes absent"), "a hole in the file");
    assert!(refused.stdout.is_empty());
    let over = format!("{region} --over full.mem");
    assert!(sandbox.ok(&format!("cat diff.mem /vms/first.mem {over}")).stdout == images::content());
    assert!(
        sandbox.ok(&format!("cat diff.mem /vms/first.mem {over} --holes absent")).stdout.len()
            == images::content().len()
    );
    sandbox.fails_with(8, &format!("fsck -p diff.mem {over}"), "a dump cannot be written");
    sandbox.fails_with(2, "ls diff.mem --over full.mem", "--base");
    sandbox.fails_with(2, "ls diff.mem --holes absent", "--base");
}
