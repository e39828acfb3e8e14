//! Any input to a reading command gives an answer or a named error, never a panic, and is not changed.

use std::os::unix::fs::PermissionsExt as _;

use crate::images::{self, BLOCK, SIZE};
use crate::sandbox::{Done, Sandbox};

/// Every command that reads an image. `IMAGE` stands for the image's name.
const READERS: [&str; 22] = [
    "inspect IMAGE",
    "inspect IMAGE --json",
    "inspect IMAGE superblock",
    "inspect IMAGE blocks",
    "inspect IMAGE inodes",
    "inspect IMAGE files",
    "inspect IMAGE pages",
    "inspect IMAGE raw",
    "inspect IMAGE raw --page 1 --copy b",
    "scan IMAGE",
    "save IMAGE -o output -f",
    "ls IMAGE -lR",
    "tree IMAGE",
    "stat IMAGE /",
    "cat IMAGE /vms/first.mem",
    "extract IMAGE / outdir -f",
    "map IMAGE /vms/first.mem",
    "who IMAGE 0 block:1 pfn:1",
    "verify IMAGE",
    "vm list IMAGE",
    "diff IMAGE IMAGE --data",
    "mkfs IMAGE -n",
];

/// Commands that change an image.
const WRITERS: [&str; 8] = [
    "mkdir IMAGE /x",
    "create IMAGE /x --size 1",
    "truncate IMAGE /vms/first.mem --size 1",
    "mv IMAGE /sparse /x",
    "rm IMAGE /sparse",
    "put IMAGE content /x",
    "seal IMAGE",
    "unseal IMAGE",
];

/// Runs every reader. Each must give an answer or a named error.
fn read_all(sandbox: &Sandbox, name: &str, mut each: impl FnMut(&str, &Done)) {
    for line in READERS {
        let done = sandbox.gmfs(&line.replace("IMAGE", name));
        assert!((0..=2).contains(&done.code), "{line} {name}: {done:?}");
        assert!(!done.stderr.contains("panicked"), "{line} {name}: {done:?}");
        if done.code == 2 && !line.contains("--json") {
            assert!(done.stderr.starts_with("gmfs: "), "{line} {name}: {done:?}");
            let told =
                |l: &&str| l.starts_with("gmfs: ") && !l.starts_with("gmfs: warning") && !l.starts_with("gmfs: note");
            assert_eq!(done.stderr.lines().filter(told).count(), 1, "{line} {name}: {done:?}");
        }
        let control = done.stdout.iter().chain(done.stderr.as_bytes()).any(|byte| *byte == 0x1b);
        assert!(!control || line.starts_with("cat"), "{line} {name}: an escape sequence");
        each(line, &done);
    }
}

/// None of these images is a region: each reader except `scan`, `raw` and the dry run must fail, and nothing may
/// change.
fn no_region(sandbox: &Sandbox, name: &str) {
    let before = sandbox.read(name);
    read_all(sandbox, name, |line, done| {
        let may_answer = ["scan", "inspect IMAGE raw", "mkfs"].iter().any(|start| line.starts_with(start));
        assert!(done.code == 2 || may_answer, "{line} {name}: {done:?}");
    });
    sandbox.write("content", b"x");
    for line in WRITERS {
        let done = sandbox.gmfs(&line.replace("IMAGE", name));
        assert_eq!(done.code, 2, "{line} {name}: {done:?}");
    }
    assert!(sandbox.read(name) == before, "{name} was changed");
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    });
    words.flatten().take(length).collect()
}

#[test]
fn what_is_no_region() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let region = sandbox.read("region.img");
    sandbox.write("empty", b"");
    sandbox.write("tiny", b"gmfs");
    sandbox.write("page", &region[..4095]);
    sandbox.write("zeros", &vec![0; 8 << 20]);
    sandbox.write("noise", &noise(1, 5 << 20));
    sandbox.write("magic", &[b"GMsb\x01\0\x01A".to_vec(), noise(2, 8 << 20)].concat());
    for name in ["empty", "tiny", "page", "zeros", "noise", "magic"] {
        no_region(&sandbox, name);
    }
    insta::assert_snapshot!("error_empty", sandbox.gmfs("ls empty").all());
    insta::assert_snapshot!("error_noise", sandbox.gmfs("ls noise").all());
    insta::assert_snapshot!("error_json", sandbox.gmfs("ls noise --json").all());
}

#[test]
fn what_looks_like_a_dump() {
    let sandbox = Sandbox::new();
    let elf = images::elf(&[images::Segment { address: 0, size: 1 << 20, bytes: noise(3, 1 << 20) }]);
    for (name, length) in [("header", 40), ("headers", 70), ("cut", 200_000), ("whole", elf.len())] {
        sandbox.write(name, &elf[..length]);
        no_region(&sandbox, name);
    }
    for (seed, magic) in [&b"\x7fELF"[..], b"\x7fELF\x02\x01\x01", b"KDUMP   ", b"DISKDUMP", b"QEVM"].iter().enumerate()
    {
        sandbox.write("noise", &[magic, noise(seed as u64, 1 << 20).as_slice()].concat());
        no_region(&sandbox, "noise");
    }
    let mut program = elf.clone();
    program[16] = 2;
    sandbox.write("program", &program);
    no_region(&sandbox, "program");
    insta::assert_snapshot!("error_elf_program", sandbox.gmfs("ls program").all());
    sandbox.write("kdump", &[b"KDUMP   ", noise(9, 8192).as_slice()].concat());
    assert_eq!(sandbox.gmfs("ls kdump").code, 2);
}

#[test]
fn what_is_no_file() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("directory")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        sandbox.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    sandbox.write("content", b"x");
    for (name, saying) in [
        ("directory", "is a directory"),
        ("fifo", "is a pipe"),
        ("/dev/null", "is a character device"),
        ("none", "does not exist"),
        ("content/x", "content/x"),
    ] {
        for line in READERS.iter().chain(&WRITERS) {
            let done = sandbox.gmfs(&line.replace("IMAGE", name));
            assert_eq!(done.code, 2, "{line} {name}: {done:?}");
            let told = if line.contains("--json") { done.text() } else { done.stderr.clone() };
            assert!(told.contains(saying), "{line} {name}: {done:?}");
        }
    }
    insta::assert_snapshot!("error_directory", sandbox.gmfs("ls directory").all());
    insta::assert_snapshot!("error_none", sandbox.gmfs("ls none").all());
}

#[test]
fn what_may_not_be_read() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let path = sandbox.path("region.img");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        // Root can read every file, so there is nothing to test.
        return;
    }
    sandbox.fails("ls region.img", "no permission");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    sandbox.ok("ls region.img");
    sandbox.fails("mkdir region.img /x", "no permission");
}

#[test]
fn superblocks_that_lie() {
    type Lie = fn(&mut gmfs_format::native::superblock::Superblock);
    const LIES: [Lie; 14] = [
        |sb| sb.raw.region_size = (1_u64 << 63).into(),
        |sb| sb.raw.region_size = u64::MAX.into(),
        |sb| sb.raw.region_size = 0.into(),
        |sb| sb.raw.region_size = (SIZE * 1024).into(),
        |sb| sb.raw.blocks = 0.into(),
        |sb| sb.raw.blocks = u64::MAX.into(),
        |sb| sb.raw.pmd_shift = 0,
        |sb| sb.raw.pmd_shift = 63,
        |sb| sb.raw.table_used = u64::MAX.into(),
        |sb| sb.raw.inodes_used_pages = 100_000.into(),
        |sb| sb.raw.inodes = u32::MAX.into(),
        |sb| sb.raw.metadata_blocks = 0.into(),
        |sb| sb.raw.root_inode = 7.into(),
        |sb| sb.raw.version = 9.into(),
    ];
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let region = sandbox.read("region.img");
    for lie in LIES {
        sandbox.write("liar", &region);
        images::lie(&sandbox, "liar", lie);
        sandbox.fails("ls liar", "superblock");
    }
}

#[test]
fn superblocks_that_lie_and_hold_together() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let region = sandbox.read("region.img");
    // The marks are those of full tables, so pages that were never written are read, and found not to be pages.
    sandbox.write("liar", &region);
    images::lie(&sandbox, "liar", |sb| {
        sb.raw.inodes_used_pages = 128.into();
        sb.raw.free_blocks = u64::MAX.into();
        sb.raw.used_inodes = u64::MAX.into();
        sb.raw.data_blocks = u64::MAX.into();
        sb.raw.generation_lies();
    });
    read_all(&sandbox, "liar", |_, _| {});
    assert_eq!(sandbox.gmfs("inspect liar --json").json()["health"]["verdict"], "damaged");
    // A region that claims 64 TiB, in a file of 64 MiB.
    sandbox.write("liar", &region);
    let huge = gmfs_format::native::geometry::Geometry::plan(64 << 40, gmfs_format::native::units::PmdShift::M2, 1024)
        .unwrap();
    let old = images::superblock(&sandbox, "liar");
    let sb = gmfs_format::native::superblock::Superblock::new(huge, old.uuid, old.birth, old.generation);
    images::poke(&sandbox, "liar", 0, &sb.page(gmfs_format::native::units::CopyId::A));
    read_all(&sandbox, "liar", |_, _| {});
    assert!(!sandbox.exists("output") || sandbox.path("output").metadata().unwrap().len() <= 64 << 40);
}

/// Makes superblocks with times and labels that no mkfs writes.
trait Lies {
    fn generation_lies(&mut self);
}

impl Lies for gmfs_format::native::raw::SuperblockRaw {
    fn generation_lies(&mut self) {
        self.created = u64::MAX.into();
        self.written = 1.into();
        self.state = u32::MAX.into();
        self.label = [0x1b; 64];
        self.writer = [0xff; 32];
        self.base = u64::MAX.into();
        self.error_count = 3.into();
        self.first_error.code = u32::MAX.into();
    }
}

#[test]
fn flipped_bytes_anywhere_in_the_metadata() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let region = sandbox.read("region.img");
    for seed in 0..12_u64 {
        sandbox.write("flipped", &region);
        for n in 0..4 {
            let place =
                noise(seed * 7 + n, 8).iter().fold(0, |sum: u64, byte| sum * 31 + u64::from(*byte)) % (3 * 4096);
            let copy = if n % 2 == 0 { 0 } else { SIZE - BLOCK };
            images::poke(&sandbox, "flipped", copy + place, &noise(seed + n, 3));
        }
        let before = sandbox.read("flipped");
        read_all(&sandbox, "flipped", |_, _| {});
        assert!(sandbox.read("flipped") == before);
    }
}
