use super::*;
use std::io::Write as _;

fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

/// The start of a file in each format, and words that its error must contain.
const KNOWN: &[(&[u8], &str, &str)] = &[
    (b"DISKDUMP\x01\0\0\0", "a diskdump", "2007"),
    (b"PAGEDU64", "Windows", "without -w"),
    (b"LibvirtQemudSave", "libvirt", "--memory-only"),
    (b"QEVM\0\0\0\x03", "migration", "--memory-only"),
    (b"\xa8\x19\x01\x73\x61\x8f\x23\xed", "LKCD", "makedumpfile"),
    (b"\xa8\x19\x01\x73\x61\x8f\x23\xfd", "s390", "zgetdump"),
    (b"sadump\0\0", "sadump", "makedumpfile"),
    (b"\xd2\xbe\xd2\xbe\x08\0\0\0", "a VMware state file", ".vmem"),
    (b"GMFSUND1", "undo file", "gmfs undo"),
    (b"QFI\xfb\0\0\0\x03", "qcow2", "qemu-img"),
    (b"PK\x03\x04", "zip", "unpack"),
    (b"\x1f\x8b\x08\0", "gzip", "decompress"),
    (b"\x28\xb5\x2f\xfd\0", "zstd", "decompress"),
    (b"\x50\x2a\x4d\x18\x02\0\0\0ab\x28\xb5\x2f\xfd", "zstd", "decompress"),
    (b"\xfd7zXZ\0\0", "xz", "decompress"),
    (b"BZh91AY&SY", "bzip2", "decompress"),
    (b"\x1f\x9d\x90KDUMP", "compress", "decompress"),
    (b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0", "lzma", "decompress"),
];

/// A zlib stream, as LiME writes it with compress=1.
fn deflated(content: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn is_named(bytes: &[u8], what: &str, hint: &str) {
    let Content::Dump(format) = recognise(&bytes[..bytes.len().min(HEAD)]) else { panic!("{what}: {bytes:?}") };
    assert!(format.describe().contains(what) && format.hint().contains(hint), "{format:?}");
    let file = file(bytes);
    let error = open(file.path(), None).unwrap_err();
    assert!(matches!(error, OpenError::Format { format: f, .. } if f == format), "{error}");
    assert!(error.to_string().contains(what) && error.to_string().contains(hint), "{error}");
    let error = open_for_writing(file.path(), None, Intent::Update, &Locking::at_once()).unwrap_err();
    assert!(matches!(error, OpenError::DumpForWriting { .. }), "{error}");
    open_for_writing(file.path(), None, Intent::Replace, &Locking::at_once()).unwrap();
    assert!(matches!(open_raw(file.path(), 0), Err(OpenError::NotRaw { .. })));
    assert!(
        crate::foreign::identify(&bytes.to_vec())
            .is_some_and(|found| found.name.contains(what.trim_start_matches("an ").trim_start_matches("a ")))
    );
}

#[test]
fn formats_that_are_not_read_are_named_with_what_to_do() {
    for (head, what, hint) in KNOWN {
        is_named(head, what, hint);
    }
    for (offset, magic, format) in formats::named() {
        let mut bytes = vec![0; offset];
        bytes.extend(magic);
        is_named(&bytes, format.describe(), format.hint());
    }
    let image = [&b"EMiL\x01\0\0\0"[..], &[7; 9000]].concat();
    for level in [1, 6, 9] {
        is_named(&deflated(&image, level), "zlib", "decompress");
        assert_eq!(recognise(&deflated(&[7; 9000], level)), Content::Plain, "it holds nothing that is known");
    }
}

#[test]
fn versions_that_are_not_known_are_named_as_such() {
    let mut flat = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02".to_vec();
    flat.resize(5000, 0);
    let mut kdump = b"KDUMP   \x07\0\0\0".to_vec();
    kdump.resize(9000, 0);
    kdump[424..444].copy_from_slice(&[0, 0, 0, 0, 0, 16, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0]);
    let images: [(&[u8], &str); 5] = [
        (b"EMiL\x02\0\0\0", "a LiME image of version 2; gmfs knows only version 1"),
        (b"LiME\0\0\0\x03", "a LiME image of version 3; gmfs knows only version 1"),
        (b"AVML\x03\0\0\0", "an AVML image of version 3; gmfs knows only version 2"),
        (&flat, "version 2"),
        (&kdump, "version 7"),
    ];
    for (head, words) in images {
        let mut bytes = head.to_vec();
        bytes.resize(bytes.len().max(64), 0);
        let error = open(file(&bytes).path(), None).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(matches!(error, OpenError::Dump { .. }) && source.contains(words), "{error}: {source}");
    }
}

#[test]
fn what_only_resembles_a_dump_is_a_file() {
    let heads: [&[u8]; 14] = [
        b"",
        b"K",
        b"KDUMP  ",
        b"\x7fEL",
        b"\x1f\x8b",
        b"BZh",
        b"BZh9xxxx",
        b"makedumpfile",
        b"LiME",
        b"\x78\x9c\x03\0\0\0\0\x01",
        b"\x1f\x9d\x60",
        b"\x5d\0\0\x81\0\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x50\x2a\x4d\x18\x02\0\0\0abcdef",
        b"\xd0\xbe\xd2\xbf",
    ];
    for head in heads {
        assert_eq!(recognise(head), Content::Plain, "{head:?}");
        let file = file(head);
        let image = open(file.path(), None).unwrap();
        assert_eq!((image.kind, image.source.end()), (Kind::File, Some(head.len() as u64)));
        assert!(image.elf.is_none() && image.ranges.is_empty());
    }
}

#[test]
fn an_elf_file_that_is_no_core_says_why() {
    let program = std::env::current_exe().unwrap();
    let error = open(&program, None).unwrap_err();
    let OpenError::Elf { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(source, ElfError::NotCore { kind: 2 | 3 }), "{source}");
    let error = open_for_writing(file(b"\x7fELF").path(), None, Intent::Update, &Locking::at_once()).unwrap_err();
    assert!(error.to_string().contains("a dump cannot be written"), "{error}");
}

#[test]
fn a_region_file_is_opened_for_writing_and_locked() {
    let file = file(&[0; 8192]);
    let mut image = open_for_writing(file.path(), None, Intent::Update, &Locking::at_once()).unwrap();
    assert_eq!(image.kind, Kind::File);
    image.target.write_at(5, b"x").unwrap();
    let error = open_for_writing(file.path(), None, Intent::Update, &Locking::at_once()).unwrap_err();
    assert!(matches!(error, OpenError::File(FileError::Locked { .. })), "{error}");
    let mut byte = [0];
    open(file.path(), None).unwrap().source.read_at(5, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn directories_and_other_devices_are_refused_for_both() {
    for path in ["/", "/dev/null", "/dev/zero"] {
        let path = Path::new(path);
        let errors = [
            open(path, None).unwrap_err(),
            open_for_writing(path, Some(Span::new(0, 4096)), Intent::Replace, &Locking::at_once()).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, OpenError::File(FileError::WrongKind { .. })), "{error}");
        }
    }
}

#[test]
fn the_memory_map_is_read_or_the_error_is_named() {
    let hidden = file(b"00000000-00000000 : System RAM\n");
    let error = memory_map(hidden.path()).unwrap_err();
    assert!(matches!(error, OpenError::IoMem(IoMemError::Hidden)), "{error}");
    let error = memory_map(Path::new("/nonexistent/iomem")).unwrap_err();
    assert!(matches!(error, OpenError::IoMemRead { .. }), "{error}");
    let map = memory_map(file(b"1000-1fff : Reserved\n").path()).unwrap();
    assert_eq!(map.writable_ranges(), [Span::new(0x1000, 0x1000)]);
}

#[test]
fn words_for_programs_are_stable() {
    let kinds =
        [Kind::File, Kind::BlockDevice, Kind::DevMem, Kind::DevDax, Kind::Elf, Kind::Kdump, Kind::Lime, Kind::Raw];
    assert_eq!(kinds.map(Kind::name), ["file", "block-device", "dev-mem", "dev-dax", "elf", "kdump", "lime", "raw"]);
    assert_eq!(kinds.map(Kind::is_physical), [false, false, true, false, true, true, true, true]);
    assert_eq!(kinds.map(Kind::is_dump), [false, false, false, false, true, true, true, true]);
}

#[test]
fn raw_memory_is_what_its_user_says_and_no_dump() {
    let memory = file(&[7; 8192]);
    let image = open_raw(memory.path(), 0x10_0000).unwrap();
    assert_eq!((image.kind, image.source.end()), (Kind::Raw, Some(0x10_2000)));
    let mut byte = [0];
    image.source.read_at(0x10_1fff, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    assert_eq!(image.memory(9), [(Span::new(0x10_0000, 0x2000), None)]);
    assert_eq!(image.dump.unwrap().format, "raw memory");
    // The memory may start with a program, but not with a dump.
    open_raw(&std::env::current_exe().unwrap(), 0).unwrap();
    for head in [&b"KDUMP   "[..], b"EMiL\x01\0\0\0", b"makedumpfile\0\0\0\0", b"\x7fELF\x02\x01", b"PAGEDU64"] {
        let error = open_raw(file(head).path(), 0).unwrap_err();
        assert!(matches!(error, OpenError::NotRaw { .. }), "{error}");
    }
}

#[test]
fn dumps_that_are_read_say_what_is_wrong_with_them() {
    for (head, word) in [
        (&b"KDUMP   \x06\0\0\0"[..], "kdump-compressed"),
        (b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01", "flattened"),
        (b"AVML\x02\0\0\0", "AVML"),
    ] {
        let file = file(head);
        let error = open(file.path(), None).unwrap_err();
        assert!(matches!(error, OpenError::Dump { .. }) && error.to_string().contains(word), "{error}");
        let error = open_for_writing(file.path(), None, Intent::Update, &Locking::at_once()).unwrap_err();
        assert!(matches!(error, OpenError::DumpForWriting { .. }), "{error}");
    }
    let (one, other) = (file(b"KDUMP   "), file(b"text"));
    let error = open_parts(&[one.path(), other.path()]).unwrap_err();
    assert!(matches!(&error, OpenError::Parts { source: KdumpError::NotSplit { number: 1 }, .. }), "{error}");
    assert!(error.to_string().contains(&format!("file 2 {}", other.path().display())), "{error}");
    assert!(matches!(open_parts(&[]), Err(OpenError::Parts { source: KdumpError::NoParts, .. })));
}

#[test]
fn a_lime_image_tells_its_memory() {
    let mut bytes = b"EMiL\x01\0\0\0".to_vec();
    bytes.extend(0x5000_u64.to_le_bytes());
    bytes.extend(0x5003_u64.to_le_bytes());
    bytes.extend(*b"\0\0\0\0\0\0\0\0data");
    let image = open(file(&bytes).path(), None).unwrap();
    assert_eq!((image.kind, image.memory(9)), (Kind::Lime, vec![(Span::new(0x5000, 4), None)]));
    assert_eq!(image.dump.unwrap().format, "LiME");
}
