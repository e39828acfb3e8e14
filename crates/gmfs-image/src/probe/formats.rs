//! Formats of dumps by their first bytes.

use super::Content;

/// How many bytes from the start of a file tell what it is.
pub const HEAD: usize = 32;

/// A format of dumps that is known by name and not read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DumpFormat {
    /// `DISKDUMP`: what kdump-compressed came from.
    Diskdump,
    /// `PAGEDU64`, `PAGEDUMP`
    Windows,
    /// `LibvirtQemudSave`, `LibvirtQemudPart`
    Libvirt,
    /// `QEVM`
    QemuMigration,
    /// LKCD.
    Lkcd,
    /// An s390 stand-alone dump.
    S390,
    /// sadump.
    Sadump,
    /// Anything inside gzip.
    Gzip,
    /// Anything inside zstd.
    Zstd,
    /// Anything inside xz.
    Xz,
    /// Anything inside bzip2.
    Bzip2,
}

impl DumpFormat {
    /// What it is, with its article.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Diskdump => "a diskdump",
            Self::Windows => "a Windows crash dump",
            Self::Libvirt => "a saved virtual machine of libvirt",
            Self::QemuMigration => "a migration stream of QEMU",
            Self::Lkcd => "an LKCD dump",
            Self::S390 => "an s390 stand-alone dump",
            Self::Sadump => "an sadump dump",
            Self::Gzip => "compressed by gzip",
            Self::Zstd => "compressed by zstd",
            Self::Xz => "compressed by xz",
            Self::Bzip2 => "compressed by bzip2",
        }
    }

    /// What to do instead.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Diskdump => "no tool has written it since 2007; convert it with the tool that made it",
            Self::Windows => "make an ELF dump with `dump-guest-memory` without -w",
            Self::Libvirt | Self::QemuMigration => "make a dump with `virsh dump --memory-only --format elf`",
            Self::Lkcd | Self::Sadump => "make an ELF dump with makedumpfile",
            Self::S390 => "convert it to ELF with `zgetdump -f elf`",
            Self::Gzip | Self::Zstd | Self::Xz | Self::Bzip2 => "decompress it first: it has no random access",
        }
    }
}

/// First bytes and what they mean.
const HEADS: &[(&[u8], Content)] = &[
    (b"\x7fELF", Content::Elf),
    (b"KDUMP   ", Content::Kdump),
    (b"DISKDUMP", Content::Dump(DumpFormat::Diskdump)),
    (b"makedumpfile\0\0\0\0", Content::Flattened),
    (b"EMiL\x01\0\0\0", Content::Lime),
    (b"AVML\x02\0\0\0", Content::Lime),
    (&crate::metadump::MAGIC, Content::MetaDump),
    (b"PAGEDU64", Content::Dump(DumpFormat::Windows)),
    (b"PAGEDUMP", Content::Dump(DumpFormat::Windows)),
    (b"LibvirtQemudSave", Content::Dump(DumpFormat::Libvirt)),
    (b"LibvirtQemudPart", Content::Dump(DumpFormat::Libvirt)),
    (b"QEVM", Content::Dump(DumpFormat::QemuMigration)),
    (b"\xa8\x19\x01\x73\x61\x8f\x23\xed", Content::Dump(DumpFormat::Lkcd)),
    (b"\xed\x23\x8f\x61\x73\x01\x19\xa8", Content::Dump(DumpFormat::Lkcd)),
    (b"\xa8\x19\x01\x73\x61\x8f\x23\xfd", Content::Dump(DumpFormat::S390)),
    (b"sadump\0\0", Content::Dump(DumpFormat::Sadump)),
    // The method too (deflate): two bytes alone are too few to refuse a raw image for.
    (b"\x1f\x8b\x08", Content::Dump(DumpFormat::Gzip)),
    (b"\x28\xb5\x2f\xfd", Content::Dump(DumpFormat::Zstd)),
    (b"\xfd7zXZ\0", Content::Dump(DumpFormat::Xz)),
];

/// What the first bytes of a file (up to [`HEAD`] of them; fewer if it is shorter) say that it is.
#[must_use]
pub fn recognise(head: &[u8]) -> Content {
    if let Some((_, content)) = HEADS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return *content;
    }
    match head {
        // The block size, and the magic of the first block or of the end.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, 0x41 | 0x72, ..] => Content::Dump(DumpFormat::Bzip2),
        _ => Content::Plain,
    }
}
