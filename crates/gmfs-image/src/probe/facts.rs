//! What a dump says about itself, in one form for all formats.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use gmfs_io::{Absence, ReadAt, Span};

use crate::metadump::{MetaDump, MetaFacts};
use gmfs_dump::Totals;
use gmfs_dump::elf::{ElfDump, ElfFacts, KernelNotes};
use gmfs_dump::flat::FlatFacts;
use gmfs_dump::kdump::{KdumpDump, KdumpFacts};
use gmfs_dump::lime::{LimeDump, LimeFacts};
use gmfs_dump::raw::RawMemory;

/// The names of programs that write dumps, as their authors spell them.
const MAKEDUMPFILE: &str = "makedumpfile";
const QEMU: &str = "QEMU";

/// What a dump says about itself. What its format cannot record is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpFacts {
    /// The name of the format: `ELF core`, `kdump-compressed`, `LiME`, `AVML`.
    pub format: &'static str,
    /// The version of the format, from the header.
    pub version: Option<u32>,
    /// The facts of the flattened stream that contains the dump, if there is one.
    pub flattened: Option<FlatFacts>,
    /// The machine, as `uname -m` prints it.
    pub architecture: Option<String>,
    /// Whether the numbers in it are big-endian.
    pub big_endian: Option<bool>,
    /// Bits per word: 32 or 64.
    pub bits: Option<u8>,
    /// Bytes per page.
    pub page_size: Option<u64>,
    /// How pages are compressed: `zlib`, `lzo`, `snappy`, `zstd`, `stored`. Single pages may differ.
    pub codec: Option<&'static str>,
    /// What makedumpfile left out, as a sum: 1 zero pages, 2 page cache, 4 private cache, 8 user pages, 16 free pages.
    pub dump_level: Option<u32>,
    /// The kernel's version, from VMCOREINFO or otherwise from the header.
    pub release: Option<String>,
    /// When the kernel crashed, in seconds since 1970, from VMCOREINFO.
    pub crash_time: Option<u64>,
    /// When the dump was written, in seconds since 1970.
    pub dump_time: Option<u64>,
    /// Whether the dump has the note that QEMU writes to its dumps and that makedumpfile keeps.
    pub qemu: bool,
    /// The program that wrote the dump, if the dump shows it.
    pub writer: Option<&'static str>,
    /// In a dump by QEMU: how many bytes of memory in the file have no address, which is the effect of `paging=on` (see
    /// [`ElfFacts::unaddressed`]).
    pub unaddressed: u64,
    /// The parts of a split dump, as ranges of physical addresses.
    pub parts: Vec<Span>,
    /// What leads to the structures of the kernel in the memory.
    pub kernel: KernelNotes,
    /// Whether part of it is missing because its writer ran out of space or its file was cut.
    pub incomplete: bool,
    /// Whether part of its file is damaged, so that the content of that part is missing.
    pub damaged: bool,
}

impl DumpFacts {
    /// Adds the facts of the flattened stream that contains the dump, if there is one.
    pub(super) fn within(self, flattened: Option<FlatFacts>) -> Self {
        let cut = flattened.as_ref().is_some_and(|stream| stream.cut);
        let damaged = flattened.as_ref().is_some_and(|stream| stream.damaged);
        // A flattened dump with a page size, which is a kdump-compressed one, may be by QEMU. A flattened ELF core is
        // by makedumpfile.
        let makedumpfile = flattened.is_some() && self.page_size.is_none();
        let writer = if makedumpfile { Some(MAKEDUMPFILE) } else { self.writer };
        Self { incomplete: self.incomplete || cut, damaged: self.damaged || damaged, flattened, writer, ..self }
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
            writer: if elf.incomplete { Some(MAKEDUMPFILE) } else { elf.notes.qemu.then_some(QEMU) },
            unaddressed: elf.unaddressed,
            kernel: elf.notes.kernel.clone(),
            incomplete: elf.incomplete || elf.missing_headers > 0,
            ..Self::default()
        }
    }
}

impl From<&KdumpFacts> for DumpFacts {
    fn from(kdump: &KdumpFacts) -> Self {
        let named = |name: &String| (!name.is_empty() && name != "Unknown").then(|| name.clone());
        // QEMU records the machine but never the release. makedumpfile records both, from the kernel.
        let qemu = kdump.notes.qemu && !kdump.machine.is_empty() && kdump.release.is_empty() && kdump.parts.is_empty();
        Self {
            format: "kdump-compressed",
            version: Some(kdump.version),
            architecture: named(&kdump.machine),
            big_endian: Some(kdump.big_endian),
            bits: Some(kdump.bits),
            page_size: Some(kdump.page_size),
            codec: Some(kdump.codec.map_or("stored", gmfs_dump::kdump::Codec::name)),
            dump_level: (kdump.version >= 1).then_some(kdump.dump_level),
            release: kdump.notes.release.clone().or_else(|| named(&kdump.release)),
            crash_time: kdump.notes.crash_time,
            dump_time: kdump.timestamp,
            qemu: kdump.notes.qemu,
            writer: Some(if qemu { QEMU } else { MAKEDUMPFILE }),
            parts: kdump.parts.clone(),
            kernel: kdump.notes.kernel.clone(),
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
            big_endian: Some(lime.big_endian),
            codec: Some(if lime.compressed { "snappy" } else { "stored" }),
            writer: lime.compressed.then_some("AVML"),
            incomplete: lime.cut,
            damaged: lime.damaged,
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
            page_size: Some(gmfs_format::native::units::PAGE_BYTES),
            ..Self::default()
        }
    }
}

/// The name of an ELF machine in `uname -m`, or its number.
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

/// What a dump says about itself and the memory in it, without its bytes.
#[derive(Clone)]
#[non_exhaustive]
pub struct Description {
    /// What it says about itself.
    pub facts: DumpFacts,
    outline: Arc<dyn Outline>,
}

impl std::fmt::Debug for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Description").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Description {
    pub(super) fn new(facts: DumpFacts, outline: Arc<dyn Outline>) -> Self {
        Self { facts, outline }
    }

    /// Like [`Image::memory`](super::Image::memory).
    #[must_use]
    pub fn memory(&self, limit: usize) -> Vec<(Span, Option<Absence>)> {
        let mut list = Vec::new();
        self.visit(0..u64::MAX, |span, why| {
            if list.len() < limit {
                list.push((span, why));
            }
            if list.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        list
    }

    /// Calls `each` with the memory that the dump describes in `range`, like [`Image::memory`](super::Image::memory)
    /// but without a limit, until `each` breaks. Ranges are cut to `range`. Memory that the dump does not describe is
    /// skipped.
    pub fn visit(&self, range: Range<u64>, mut each: impl FnMut(Span, Option<Absence>) -> ControlFlow<()>) {
        clipped(&*self.outline, &range, &mut each);
    }

    /// Counts what [`visit`](Self::visit) lists. For a kdump-compressed dump, the cost depends on the size of its
    /// bitmaps, not on the number of ranges.
    #[must_use]
    pub fn totals(&self, range: Range<u64>) -> Totals {
        self.outline.totals(&range)
    }

    /// Like [`totals`](Self::totals), but pages that have an entry in the dump and were lost do not count as held. It
    /// reads the entries of a kdump-compressed dump: 24 bytes for each page. `None` if only reading the source can show
    /// this.
    #[must_use]
    pub fn tally(&self, range: Range<u64>) -> Option<Totals> {
        self.outline.tally(&range)
    }

    /// How many bytes of `range` are holes in a file of raw memory; `None` for other dumps.
    #[must_use]
    pub fn holes(&self, range: Range<u64>) -> Option<u64> {
        self.outline.holes(&range)
    }

    /// The first ranges that the dump holds, at most `limit`. Memory that it describes but does not hold is skipped.
    #[must_use]
    pub fn held(&self, limit: usize) -> Vec<Span> {
        self.outline.held(limit)
    }

    /// The last range within `range` that the dump holds. If it is longer than `longest` bytes, the result is its end,
    /// which is at least that long.
    #[must_use]
    pub fn last_held(&self, range: Range<u64>, longest: u64) -> Option<Span> {
        self.outline.last_held(&range, longest)
    }
}

/// Calls `each` with the parts of ranges that are in `range`.
fn clipped<O: Outline + ?Sized>(
    outline: &O,
    range: &Range<u64>,
    each: &mut dyn FnMut(Span, Option<Absence>) -> ControlFlow<()>,
) {
    outline.visit(range.start, &mut |span, why| {
        let (from, to) = (span.offset.max(range.start), span.end().min(range.end));
        match (span.offset >= range.end, from < to) {
            (true, _) => ControlFlow::Break(()),
            (false, true) => each(Span::new(from, to.saturating_sub(from)), why),
            (false, false) => ControlFlow::Continue(()),
        }
    });
}

/// Lists the memory that a dump describes, ascending.
pub(super) trait Outline: Send + Sync {
    /// Calls `each` with each range until it breaks. Ranges below `from` may be left out.
    fn visit(&self, from: u64, each: &mut dyn FnMut(Span, Option<Absence>) -> ControlFlow<()>);

    /// Like [`Description::totals`].
    fn totals(&self, range: &Range<u64>) -> Totals {
        let mut sums = Totals::default();
        clipped(self, range, &mut |span, why| {
            sums.add(span.len, 1, why);
            ControlFlow::Continue(())
        });
        sums
    }

    /// Like [`Description::holes`].
    fn holes(&self, _range: &Range<u64>) -> Option<u64> {
        None
    }

    /// Like [`Description::tally`].
    fn tally(&self, _range: &Range<u64>) -> Option<Totals> {
        None
    }

    /// Like [`Description::held`].
    fn held(&self, limit: usize) -> Vec<Span> {
        let mut list = Vec::new();
        self.visit(0, &mut |span, why| {
            if why.is_none() && list.len() < limit {
                list.push(span);
            }
            if list.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        list
    }

    /// Like [`Description::last_held`].
    fn last_held(&self, range: &Range<u64>, _longest: u64) -> Option<Span> {
        let mut last = None;
        clipped(self, range, &mut |span, why| {
            last = if why.is_none() { Some(span) } else { last };
            ControlFlow::Continue(())
        });
        last
    }
}

macro_rules! outline {
    ($($dump:ident),*) => {$(
        impl<R: ReadAt> Outline for $dump<R> {
            fn visit(&self, _from: u64, each: &mut dyn FnMut(Span, Option<Absence>) -> ControlFlow<()>) {
                let _ = self.ranges().try_for_each(|(span, why)| each(span, why));
            }
        }
    )*};
}
outline!(ElfDump, LimeDump, MetaDump);

impl<R: ReadAt> Outline for KdumpDump<R> {
    fn visit(&self, from: u64, each: &mut dyn FnMut(Span, Option<Absence>) -> ControlFlow<()>) {
        let _ = self.ranges_from(from).try_for_each(|(span, why)| each(span, why));
    }

    // An error of the file ends the list of ranges early; the totals are then empty.
    fn totals(&self, range: &Range<u64>) -> Totals {
        KdumpDump::totals(self, range).unwrap_or_default()
    }

    fn held(&self, limit: usize) -> Vec<Span> {
        KdumpDump::held(self).take(limit).collect()
    }

    fn tally(&self, range: &Range<u64>) -> Option<Totals> {
        KdumpDump::tally(self, range).ok()
    }

    fn last_held(&self, range: &Range<u64>, longest: u64) -> Option<Span> {
        KdumpDump::last_held(self, range, longest).ok().flatten()
    }
}

impl<R: ReadAt> Outline for RawMemory<R> {
    fn visit(&self, _from: u64, each: &mut dyn FnMut(Span, Option<Absence>) -> ControlFlow<()>) {
        let _ = self.ranges().try_for_each(|(span, why)| each(span, why));
    }

    fn holes(&self, range: &Range<u64>) -> Option<u64> {
        self.holes_in(range.clone()).ok()
    }
}
