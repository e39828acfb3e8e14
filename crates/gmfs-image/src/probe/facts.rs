//! What any dump says of itself, in one form for all formats.

use gmfs_format::io::{Absence, ReadAt, Span};

use crate::elf::{ElfDump, ElfFacts};
use crate::flat::FlatFacts;
use crate::kdump::{KdumpDump, KdumpFacts};
use crate::lime::{LimeDump, LimeFacts};
use crate::metadump::{MetaDump, MetaFacts};

/// What a dump says of itself. Formats differ in what they can say: what they cannot is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpFacts {
    /// The format by its name: `ELF core`, `kdump-compressed`, `LiME`, `AVML`.
    pub format: &'static str,
    /// The format's version, as the header gives it.
    pub version: Option<u32>,
    /// It came as a flattened stream; what that says of itself.
    pub flattened: Option<FlatFacts>,
    /// The machine, as `uname -m` has it.
    pub architecture: Option<String>,
    /// Whether the numbers in it are big-endian.
    pub big_endian: Option<bool>,
    /// Bits per word: 32 or 64.
    pub bits: Option<u8>,
    /// Bytes per page.
    pub page_size: Option<u64>,
    /// How its pages are compressed: `zlib`, `lzo`, `snappy`, `zstd`, `stored`. Each page may differ.
    pub codec: Option<&'static str>,
    /// What makedumpfile left out: 1 zero pages, 2 page cache, 4 private cache, 8 user pages, 16 free pages.
    pub dump_level: Option<u32>,
    /// The kernel's version, from VMCOREINFO or else from the header.
    pub release: Option<String>,
    /// When the kernel crashed, in seconds since 1970, from VMCOREINFO.
    pub crash_time: Option<u64>,
    /// When the dump was written, in seconds since 1970.
    pub dump_time: Option<u64>,
    /// QEMU wrote it.
    pub qemu: bool,
    /// The parts of a split dump, by their physical addresses.
    pub parts: Vec<Span>,
    /// Something of it is missing: its writer ran out of space, its file was cut, or is damaged.
    pub incomplete: bool,
}

impl DumpFacts {
    /// The same, of a dump that came in a flattened stream, if it did.
    pub(super) fn within(self, flattened: Option<FlatFacts>) -> Self {
        let cut = flattened.as_ref().is_some_and(|stream| stream.cut);
        Self { incomplete: self.incomplete || cut, flattened, ..self }
    }
}

impl From<&ElfFacts> for DumpFacts {
    fn from(elf: &ElfFacts) -> Self {
        Self {
            format: "ELF core",
            architecture: Some(machine(elf.machine, elf.bits, elf.big_endian)),
            big_endian: Some(elf.big_endian),
            bits: Some(elf.bits),
            release: elf.notes.release.clone(),
            crash_time: elf.notes.crash_time,
            qemu: elf.notes.qemu,
            incomplete: elf.incomplete || elf.missing_headers > 0,
            ..Self::default()
        }
    }
}

impl From<&KdumpFacts> for DumpFacts {
    fn from(kdump: &KdumpFacts) -> Self {
        let named = |name: &String| (!name.is_empty() && name != "Unknown").then(|| name.clone());
        Self {
            format: "kdump-compressed",
            version: Some(kdump.version),
            architecture: named(&kdump.machine),
            big_endian: Some(kdump.big_endian),
            bits: Some(kdump.bits),
            page_size: Some(kdump.page_size),
            codec: Some(kdump.codec.map_or("stored", crate::kdump::Codec::name)),
            dump_level: (kdump.version >= 1).then_some(kdump.dump_level),
            release: kdump.notes.release.clone().or_else(|| named(&kdump.release)),
            crash_time: kdump.notes.crash_time,
            dump_time: kdump.timestamp,
            qemu: kdump.notes.qemu,
            parts: kdump.parts.clone(),
            incomplete: kdump.incomplete || kdump.cut,
            ..Self::default()
        }
    }
}

impl From<&LimeFacts> for DumpFacts {
    fn from(lime: &LimeFacts) -> Self {
        Self {
            format: if lime.compressed { "AVML" } else { "LiME" },
            version: Some(if lime.compressed { 2 } else { 1 }),
            big_endian: Some(false),
            codec: Some(if lime.compressed { "snappy" } else { "stored" }),
            incomplete: lime.cut || lime.damaged,
            ..Self::default()
        }
    }
}

impl From<&MetaFacts> for DumpFacts {
    fn from(_: &MetaFacts) -> Self {
        Self {
            format: "gmfs metadata",
            version: Some(crate::metadump::VERSION),
            big_endian: Some(false),
            page_size: Some(gmfs_format::units::PAGE_BYTES),
            ..Self::default()
        }
    }
}

/// The name that `uname -m` has for an ELF machine, or its number.
fn machine(number: u16, bits: u8, big_endian: bool) -> String {
    let name = match (number, bits, big_endian) {
        (3, ..) => "i686",
        (8, ..) => "mips",
        (20, ..) => "ppc",
        (21, _, false) => "ppc64le",
        (21, ..) => "ppc64",
        (22, 64, _) => "s390x",
        (22, ..) => "s390",
        (40, ..) => "arm",
        (50, ..) => "ia64",
        (62, ..) => "x86_64",
        (183, ..) => "aarch64",
        (243, 32, _) => "riscv32",
        (243, ..) => "riscv64",
        (258, ..) => "loongarch64",
        _ => return format!("ELF machine {number}"),
    };
    name.to_owned()
}

/// The memory that a dump describes, up to a number of ranges.
pub(super) trait Outline: Send + Sync {
    fn list(&self, limit: usize) -> Vec<(Span, Option<Absence>)>;
}

macro_rules! outline {
    ($($dump:ident),*) => {$(
        impl<R: ReadAt> Outline for $dump<R> {
            fn list(&self, limit: usize) -> Vec<(Span, Option<Absence>)> {
                self.ranges().take(limit).collect()
            }
        }
    )*};
}
outline!(ElfDump, KdumpDump, LimeDump, MetaDump);
