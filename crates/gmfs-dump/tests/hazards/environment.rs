//! Hazards of the file that a dump is in.

use std::os::unix::fs::FileExt as _;

use gmfs_dump::elf::ElfDump;
use gmfs_dump::flat::FlatFile;
use gmfs_dump::kdump::KdumpDump;
use gmfs_dump::lime::LimeDump;
use gmfs_image::{FileError, OpenError, RegionFile};
use gmfs_io::{Absence, ReadAt as _, Span};
use tempfile::NamedTempFile;

use crate::elf_file::{Builder, Load};
use crate::kdump::{memory, sample};
use crate::{flat, put, read};

fn file(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn opened(file: &NamedTempFile) -> RegionFile {
    RegionFile::open(file.path()).unwrap()
}

pub(crate) fn a_file_that_changes() {
    let bytes = Builder::new().loads([Load::new(0x1000, b"abcdefgh")]).bytes();
    let elf = file(&bytes);
    let dump = ElfDump::parse(opened(&elf)).unwrap();
    elf.as_file().set_len(bytes.len() as u64 - 3).unwrap();
    assert_eq!(read(&dump, 0x1002, 6), Err((Span::new(0x1005, 3), Absence::Truncated)));
    // Bytes that return, or are appended, are read as they are in the file then.
    elf.as_file().write_all_at(b"FGH more", bytes.len() as u64 - 3).unwrap();
    assert_eq!(read(&dump, 0x1000, 8).unwrap(), b"abcdeFGH");

    let bytes = sample().bytes();
    let kdump = file(&bytes);
    let dump = KdumpDump::parse(opened(&kdump)).unwrap();
    // Cuts into the data of the last page, the descriptors, and the map.
    for length in [bytes.len() as u64 - 9, 4 * 4096 + 30, 3 * 4096, 100] {
        kdump.as_file().set_len(length).unwrap();
        assert_eq!(read(&dump, 11 << 12, 4096), Err((Span::new(11 << 12, 4096), Absence::Truncated)), "{length}");
    }
    kdump.as_file().write_all_at(&bytes, 0).unwrap();
    assert_eq!(read(&dump, 11 << 12, 4096).unwrap(), memory(11));

    let stream = file(&flat::stream(&[(0, 8, b"abcdefgh")], true));
    let dump = FlatFile::parse(opened(&stream)).unwrap();
    stream.as_file().set_len(4096 + 20).unwrap();
    assert_eq!(read(&dump, 0, 8).unwrap_err().1, Absence::Truncated);

    let mut image = b"EMiL\x01\0\0\0".to_vec();
    image.extend([0x1000_u64, 0x1007, 0].map(u64::to_le_bytes).concat());
    image.extend(b"abcdefgh");
    let lime = file(&image);
    let dump = LimeDump::parse(opened(&lime)).unwrap();
    lime.as_file().set_len(36).unwrap();
    assert_eq!(read(&dump, 0x1000, 8).unwrap_err().1, Absence::Truncated);
}

pub(crate) fn sparse_files() {
    let mut builder = Builder::new().loads([Load::new(0x10_0000, &[]), Load::new(0x80_0000, b"tail")]);
    let segment = &mut builder.loads[0];
    (segment.place, segment.in_file, segment.in_memory) = (Some(0x10_0000), Some(0x40_0000), Some(0x40_1000));
    let elf = file(&builder.bytes());
    elf.as_file().set_len(0x60_0000).unwrap();
    let dump = ElfDump::parse(opened(&elf)).unwrap();
    // A hole of the file is zero; memory that was left out is not.
    assert_eq!(dump.next_data(0x10_0000..0x50_0000).unwrap(), None);
    assert_eq!(dump.next_data(0x20_0000..0x50_0800).unwrap(), Some(0x50_0000..0x50_0800));
    // Two maps of 2 GiB each describe 64 TiB of memory. None of it is present.
    let mut head = sample().bytes();
    head.truncate(8192);
    put(&mut head, 436, &(1_u32 << 20).to_le_bytes());
    put(&mut head, 440, &u32::MAX.to_le_bytes());
    put(&mut head, 4096 + 96, &u64::MAX.to_le_bytes());
    let kdump = file(&head);
    kdump.as_file().set_len(1 << 33).unwrap();
    crate::MEMORY.reset_peak_usage();
    let dump = KdumpDump::parse(opened(&kdump)).unwrap();
    assert_eq!((dump.end(), dump.ranges().count()), (Some(0), 0));
    // The index of 64 TiB takes 32 MiB, and the file has 8 GiB. It has a bound of its own here.
    assert!(crate::MEMORY.peak_usage() < 40 * crate::MIB, "{}", crate::MEMORY.peak_usage());
    drop(dump);
    crate::MEMORY.reset_peak_usage();
}

pub(crate) fn no_regular_files() {
    for device in ["/dev/null", "/dev/zero"] {
        let opened = RegionFile::open(device.as_ref());
        assert!(matches!(opened, Err(FileError::WrongKind { .. })), "{device}: {opened:?}");
    }
    // The size of these files is 0, and reading them fails or gives text. They are not dumps, and must not be mapped.
    for proc in ["/proc/self/mem", "/proc/self/maps", "/proc/version"] {
        if let Ok(file) = RegionFile::open(proc.as_ref()) {
            assert!(KdumpDump::parse(&file).is_err() && ElfDump::parse(&file).is_err(), "{proc}");
        }
    }
    let directory = gmfs_image::open("/proc".as_ref(), None);
    assert!(matches!(directory, Err(OpenError::File(FileError::WrongKind { .. }))), "{directory:?}");
}
