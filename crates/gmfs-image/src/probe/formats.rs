//! Recognises formats of dumps, and of containers and compressors of dumps, by their first bytes.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use flate2::{Decompress, FlushDecompress};

use super::Content;

/// How many bytes from the start of a file are examined.
pub const HEAD: usize = 1024;

/// A format that is recognised but cannot be read, and what to do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DumpFormat {
    what: &'static str,
    hint: &'static str,
}

impl DumpFormat {
    const fn new(what: &'static str, hint: &'static str) -> Self {
        Self { what, hint }
    }

    /// What it is, with an article.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        self.what
    }

    /// What to do instead.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        self.hint
    }
}

const DECOMPRESS: &str = "decompress it first: it has no random access";
const UNPACK: &str = "unpack it first, and open the file that was in it";
const CONVERT: &str = "convert it with `qemu-img convert -O raw`, and open that";
const VMWARE: &str = "open the .vmem file beside it as raw memory: its base is 0 for memory below the PCI hole, and the size of the hole for \
     memory above it";
const NO_WRITER: &str = "no tool has written it since 2007; convert it with the tool that made it";
const VIRSH: &str = "make a dump with `virsh dump --memory-only --format elf`";
const MAKEDUMPFILE: &str = "make an ELF dump with makedumpfile";
const WITHOUT_W: &str = "make an ELF dump with `dump-guest-memory` without -w";
const EXPORT: &str = "export the memory in it as a raw file, and open that";

/// Offset, signature, and what it identifies.
const HEADS: &[(usize, &[u8], Content)] = &[
    (0, b"\x7fELF", Content::Elf),
    (0, b"KDUMP   ", Content::Kdump),
    (0, b"makedumpfile\0\0\0\0", Content::Flattened),
    // Any version is recognised, and LiME in both byte orders. The reader then refuses unknown versions.
    (0, b"EMiL", Content::Lime),
    (0, b"LiME\0\0\0", Content::Lime),
    (0, b"AVML", Content::Lime),
    (0, &crate::metadump::MAGIC, Content::MetaDump),
    (0, b"GMFSUND1", other("an undo file of gmfs", "`gmfs undo IMAGE FILE` takes back what it records")),
    (0, b"DISKDUMP", other("a diskdump", NO_WRITER)),
    (0, b"PAGEDU64", other("a Windows crash dump", WITHOUT_W)),
    (0, b"PAGEDUMP", other("a Windows crash dump", WITHOUT_W)),
    (0, b"LibvirtQemudSave", other("a saved virtual machine of libvirt", VIRSH)),
    (0, b"LibvirtQemudPart", other("a saved virtual machine of libvirt", VIRSH)),
    (0, b"QEVM", other("a migration stream of QEMU", VIRSH)),
    (0, b"LinuxGuestRecord", other("a saved domain of Xen", "dump the memory from within the guest")),
    (0, b"XenSavedDomain", other("a saved domain of Xen", "dump the memory from within the guest")),
    (0, b"Xen saved domain", other("a saved domain of Xen", "dump the memory from within the guest")),
    (0, b"\xa8\x19\x01\x73\x61\x8f\x23\xed", other("an LKCD dump", MAKEDUMPFILE)),
    (0, b"\xed\x23\x8f\x61\x73\x01\x19\xa8", other("an LKCD dump", MAKEDUMPFILE)),
    (
        0,
        b"\xa8\x19\x01\x73\x61\x8f\x23\xfd",
        other("an s390 stand-alone dump", "convert it to ELF with `zgetdump -f elf`"),
    ),
    (0, b"sadump\0\0", other("an sadump dump", MAKEDUMPFILE)),
    // VMware: .vmss and .vmsn.
    (0, b"\xd0\xbe\xd2\xbe", other("a VMware state file", VMWARE)),
    (0, b"\xd1\xba\xd1\xba", other("a VMware state file", VMWARE)),
    (0, b"\xd2\xbe\xd2\xbe", other("a VMware state file", VMWARE)),
    (0, b"\xd3\xbe\xd3\xbe", other("a VMware state file", VMWARE)),
    (
        0,
        b"\x7fVirtualBox SavedState",
        other("a saved state of VirtualBox", "make an ELF dump with `VBoxManage debugvm dumpvmcore`"),
    ),
    (0, b"EVF\x09\x0d\x0a\xff\0", other("an EnCase image", EXPORT)),
    (0, b"EVF2\x0d\x0a\x81\0", other("an EnCase image", EXPORT)),
    (0, b"AFF10\x0d\x0a\0", other("an AFF image", EXPORT)),
    // The third byte is the method (deflate). The two bytes of the magic alone are too few to refuse a raw image.
    (0, b"\x1f\x8b\x08", other("compressed by gzip", DECOMPRESS)),
    (0, b"\x28\xb5\x2f\xfd", other("compressed by zstd", DECOMPRESS)),
    (0, b"\xfd7zXZ\0", other("compressed by xz", DECOMPRESS)),
    (0, b"\x04\x22\x4d\x18", other("compressed by lz4", DECOMPRESS)),
    (0, b"\x02\x21\x4c\x18", other("compressed by lz4", DECOMPRESS)),
    (0, b"\x89LZO\0\r\n\x1a\n", other("compressed by lzop", DECOMPRESS)),
    (0, b"LZIP\x01", other("compressed by lzip", DECOMPRESS)),
    (0, b"\xff\x06\0\0sNaPpY", other("compressed by snappy", DECOMPRESS)),
    (0, b"7z\xbc\xaf\x27\x1c", other("a 7z archive", UNPACK)),
    (0, b"PK\x03\x04", other("a zip archive", UNPACK)),
    (0, b"Rar!\x1a\x07", other("a RAR archive", UNPACK)),
    (0x101, b"ustar", other("a tar archive", UNPACK)),
    (0, b"070701", other("a cpio archive", UNPACK)),
    (0, b"070702", other("a cpio archive", UNPACK)),
    (0, b"070707", other("a cpio archive", UNPACK)),
    (0, b"QFI\xfb", other("a qcow2 disk image", CONVERT)),
    (0, b"QED\0", other("a QED disk image", CONVERT)),
    (0, b"KDMV", other("a VMDK disk image", CONVERT)),
    (0, b"COWD", other("a VMDK disk image", CONVERT)),
    (0, b"# Disk DescriptorFile", other("a VMDK disk image", CONVERT)),
    (0x40, b"\x7f\x10\xda\xbe", other("a VDI disk image", CONVERT)),
    (0, b"vhdxfile", other("a VHDX disk image", CONVERT)),
    (0, b"conectix", other("a VHD disk image", CONVERT)),
    (0, b"WithoutFreeSpace", other("a Parallels disk image", CONVERT)),
    (0, b"WithouFreSpacExt", other("a Parallels disk image", CONVERT)),
];

const fn other(what: &'static str, hint: &'static str) -> Content {
    Content::Dump(DumpFormat::new(what, hint))
}

/// All formats that one signature identifies and that cannot be read: offset, signature, and format.
pub(crate) fn named() -> impl Iterator<Item = (usize, &'static [u8], DumpFormat)> {
    HEADS.iter().filter_map(|(offset, magic, content)| match content {
        Content::Dump(format) => Some((*offset, *magic, *format)),
        _ => None,
    })
}

/// What the first bytes of a file show it to be. `head` is up to [`HEAD`] bytes long, and shorter if the file is.
#[must_use]
pub fn recognise(head: &[u8]) -> Content {
    match by_magic(head) {
        Content::Plain => stream(head).unwrap_or(Content::Plain),
        content => content,
    }
}

fn by_magic(head: &[u8]) -> Content {
    let matches = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let found = HEADS.iter().find(|(offset, magic, _)| matches(*offset, magic));
    found.map_or(Content::Plain, |(_, _, content)| *content)
}

/// Recognises compressed streams with a short magic, or none. Further bytes must fit too.
fn stream(head: &[u8]) -> Option<Content> {
    match head {
        // bzip2: the block size, and the magic of the first block or of the end.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, 0x41 | 0x72, ..] => Some(other("compressed by bzip2", DECOMPRESS)),
        // compress: the maximum number of bits of a code, and block mode, with the reserved bits zero.
        [0x1f, 0x9d, flags, ..] if flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f)) => {
            Some(other("compressed by compress", DECOMPRESS))
        }
        // zstd: a small skippable frame, followed by a zstd frame or by another skippable one.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, rest @ ..] => {
            let size = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?;
            let next = rest.get(size..)?;
            let follows = next.starts_with(b"\x28\xb5\x2f\xfd") || matches!(next, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
            follows.then_some(other("compressed by zstd", DECOMPRESS))
        }
        // lzma: the usual properties, a dictionary of a power of two or one and a half times that, and a size that is
        // unknown or below 2^48.
        [0x5d, a, b, c, d, size @ ..] => {
            let dictionary = u32::from_le_bytes([*a, *b, *c, *d]);
            let half = dictionary.checked_div(3).unwrap_or(0);
            let usual = dictionary.is_power_of_two() || half.is_power_of_two() && half.saturating_mul(3) == dictionary;
            let size = size.first_chunk::<8>().map(|size| u64::from_le_bytes(*size))?;
            let sane = usual && dictionary >= 4096 && (size == u64::MAX || (1..1 << 48).contains(&size));
            sane.then_some(other("compressed by lzma", DECOMPRESS))
        }
        // zlib: the header is two bytes with a checksum of five bits, so the content must be recognised too. LiME
        // writes this with compress=1.
        [first @ (0x08 | 0x18 | 0x28 | 0x38 | 0x48 | 0x58 | 0x68 | 0x78), second, ..]
            if u16::from_be_bytes([*first, *second]).is_multiple_of(31) && second & 0x20 == 0 =>
        {
            let mut start = [0; 32];
            let mut decoder = Decompress::new(true);
            // The stream may end after these bytes, or be damaged. What was decompressed before that is examined.
            let _ = decoder.decompress(head, &mut start, FlushDecompress::None);
            let there = usize::try_from(decoder.total_out()).unwrap_or(0);
            let known = by_magic(start.get(..there).unwrap_or_default()) != Content::Plain;
            known.then_some(other("compressed by zlib (as LiME does with compress=1)", DECOMPRESS))
        }
        _ => None,
    }
}
