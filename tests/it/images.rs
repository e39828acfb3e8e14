//! Makes regions and dumps with the libraries, so that every byte of them is known.

use std::path::Path;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::{CopyId, PmdShift};
use gmfs_volume::{CreateOptions, FormatOptions, PutOptions, Stamp, Superblocks, Writer, WriterOptions, format};
use uuid::Uuid;

use crate::sandbox::Sandbox;

/// The size of the sample region.
pub(crate) const SIZE: u64 = 64 << 20;
/// Its UUID.
pub(crate) const UUID: &str = "8f0e3f6a-2d41-4c55-9f0b-0123456789ab";
/// The size of a block in bytes.
pub(crate) const BLOCK: u64 = 2 << 20;

const TIME: u64 = 1_700_000_000_000_000_000;

/// The content of `/vms/first.mem`: two and a half blocks of noise.
pub(crate) fn content() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(usize::try_from(BLOCK * 5 / 2 / 8).unwrap()).flatten().collect()
}

fn new_region(base: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    let options = FormatOptions {
        geometry: Geometry::plan(SIZE, PmdShift::M2, 1024).unwrap(),
        uuid: UUID.parse::<Uuid>().unwrap(),
        birth: 0xb17,
        label: "guests".to_owned(),
        base,
        owner: (0, 0),
        stamp: Stamp { now: TIME, writer: "test".to_owned() },
        forget: Vec::new(),
    };
    format(&mut bytes, &options).unwrap();
    bytes
}

/// Writes a region to a file with holes. It does not use the image crate: a process that another test is about to start
/// inherits the file, and the locks would last as long as that process has it open.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::create_new(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (page, at) in bytes.chunks(4096).zip((0..).step_by(4096)) {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, at).unwrap();
        }
    }
}

/// A region with two directories and three files, one of them with a hole: `region.img`.
pub(crate) fn sample(sandbox: &Sandbox) {
    sample_at(&sandbox.path("region.img"), 0);
}

/// The same region, with a base in its superblock.
pub(crate) fn sample_at(path: &Path, base: u64) {
    let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || TIME };
    let (mut writer, _) = Writer::open(new_region(base), options).unwrap();
    let owner = (1000, 100);
    writer.mkdir(b"/vms", false, 0o755, owner).unwrap();
    writer.mkdir(b"/vms/old", false, 0o700, owner).unwrap();
    let create = CreateOptions { size: 0, sparse: false, align_1g: false, mode: 0o600, owner };
    let put = PutOptions { create, replace: false };
    writer.put(b"/vms/first.mem", &mut content().as_slice(), &put).unwrap();
    writer.create(b"/vms/second.mem", &CreateOptions { size: 2 * BLOCK, mode: 0o640, ..create }).unwrap();
    writer.create(b"/sparse", &CreateOptions { size: BLOCK + 5, sparse: true, ..create }).unwrap();
    writer.truncate(b"/sparse", 3 * BLOCK, false).unwrap();
    write(path, &writer.close().unwrap());
}

/// Names that a listing must not show unchanged.
pub(crate) const HOSTILE: [&[u8]; 4] =
    [b"new\nline", b"esc\x1b[2J\x07", b"\xff\xfenot-utf8", "bidi\u{202e}\u{9b}".as_bytes()];

/// A region whose files have the most hostile names that the format allows: `hostile.img`.
pub(crate) fn hostile(sandbox: &Sandbox) {
    let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || TIME };
    let (mut writer, _) = Writer::open(new_region(0), options).unwrap();
    let create = CreateOptions { size: 3, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
    let directory = b"/d\x1b]0;title\x07";
    writer.mkdir(directory, false, 0o755, (0, 0)).unwrap();
    for name in HOSTILE {
        writer.create(&[b"/", name].concat(), &create).unwrap();
        writer.create(&[&directory[..], b"/", name].concat(), &create).unwrap();
    }
    write(&sandbox.path("hostile.img"), &writer.close().unwrap());
}

/// Changes bytes of a file.
pub(crate) fn poke(sandbox: &Sandbox, name: &str, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().write(true).open(sandbox.path(name)).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// The superblock of a region file, which must be good.
pub(crate) fn superblock(sandbox: &Sandbox, name: &str) -> Superblock {
    let file = gmfs_image::RegionFile::open(&sandbox.path(name)).unwrap();
    Superblocks::load(&file).unwrap().current().clone()
}

/// Writes both superblocks of a region file with a change: false values with a good seal.
pub(crate) fn lie(sandbox: &Sandbox, name: &str, change: impl FnOnce(&mut Superblock)) {
    let mut superblock = superblock(sandbox, name);
    let offsets = CopyId::BOTH.map(|copy| superblock.geometry().copy_offset(copy));
    change(&mut superblock);
    for (copy, offset) in CopyId::BOTH.into_iter().zip(offsets) {
        poke(sandbox, name, offset, &superblock.page(copy));
    }
}

/// Changes an inode of a region file in both copies, with good seals.
pub(crate) fn edit_inode(
    sandbox: &Sandbox,
    name: &str,
    ino: u32,
    change: impl Fn(&mut gmfs_format::native::raw::InodeRaw),
) {
    use gmfs_format::native::{raw, seal, units};
    let superblock = superblock(sandbox, name);
    let geometry = superblock.geometry();
    let (page, slot) = geometry.inode_place(units::InodeNo(ino)).unwrap();
    let bytes = sandbox.read(name);
    for copy in CopyId::BOTH {
        let offset = geometry.page_offset(copy, page);
        let at = usize::try_from(offset).unwrap();
        let mut found: units::PageBytes = bytes[at..at + 4096].try_into().unwrap();
        change(&mut raw::InodeTablePage::view_mut(&mut found).inodes[slot]);
        let generation = raw::PageHeader::of(&found).generation.get();
        let place = seal::Place {
            kind: seal::PageKind::InodeTable,
            copy,
            page,
            uuid: superblock.uuid,
            birth: superblock.birth,
            geometry,
        };
        seal::seal(&mut found, &place, units::Generation(generation));
        poke(sandbox, name, offset, &found);
    }
}

/// A part of a dump: its address, its size, and the bytes of it that are in the file.
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) bytes: Vec<u8>,
}

/// An ELF core of a machine with this memory.
pub(crate) fn elf(segments: &[Segment]) -> Vec<u8> {
    let count = u16::try_from(segments.len()).unwrap();
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [4_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [0_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, count, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut offset = 64 + 56 * u64::from(count);
    for segment in segments {
        let in_file = segment.bytes.len() as u64;
        file.extend(1_u32.to_le_bytes());
        file.extend(7_u32.to_le_bytes());
        for word in [offset, 0, segment.address, in_file, segment.size, 0] {
            file.extend(word.to_le_bytes());
        }
        offset += in_file;
    }
    for segment in segments {
        file.extend_from_slice(&segment.bytes);
    }
    file
}
