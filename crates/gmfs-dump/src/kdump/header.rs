//! The main header and the sub header, in each layout that a C compiler gives them.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use gmfs_io::{ReadAt, Span};

use super::KdumpError;
use crate::elf::header::Order;

/// The newest version that this module knows. A newer header may mean anything.
const NEWEST: u32 = 6;
/// Page sizes that a header may have.
const PAGES: std::ops::RangeInclusive<u32> = 512..=1 << 20;
/// The maximum number of blocks of the sub header with its notes.
const MAX_SUB: u32 = 1 << 20;
/// The size of the longest main header.
const MAIN: usize = 464;
/// The size of the longest sub header.
const SUB: usize = 104;

/// The values of the two headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) order: Order,
    pub(super) version: u32,
    pub(super) machine: String,
    pub(super) release: String,
    /// Seconds since 1970, or 0 if the writer did not record it.
    pub(super) timestamp: u64,
    pub(super) status: u32,
    pub(super) page: u64,
    pub(super) sub_blocks: u64,
    pub(super) bitmap_blocks: u64,
    /// One past the highest page number.
    pub(super) pages: u64,
    pub(super) level: u32,
    /// The page numbers of this part, if the dump was split.
    pub(super) split: Option<(u64, u64)>,
    pub(super) phys_base: u64,
    pub(super) vmcoreinfo: Span,
    pub(super) notes: Span,
}

/// One way to interpret the bytes of a main header.
#[derive(Clone, Copy)]
struct Layout {
    order: Order,
    /// Where the fields after the timestamp begin.
    fields: usize,
}

impl Layout {
    const fn new(big: bool, wide: bool) -> Self {
        Self { order: Order { big, wide }, fields: if wide { 424 } else { 412 } }
    }

    fn field(self, main: &[u8], number: usize) -> u32 {
        self.order.u32(main, self.fields.saturating_add(number.saturating_mul(4)))
    }

    /// Whether the numbers of a header make sense in this layout. `strictly` also requires that the bitmap has room for
    /// all pages.
    fn fits(self, main: &[u8], strictly: bool) -> bool {
        let page = self.field(main, 1);
        let bits = u64::from(self.field(main, 3)).saturating_mul(page.into()).saturating_mul(8);
        page.is_power_of_two()
            && PAGES.contains(&page)
            && (1..=MAX_SUB).contains(&self.field(main, 2))
            && self.order.u32(main, 8) <= 0xff
            && bits > 0
            && (!strictly || bits >= self.field(main, 4).into())
    }

    /// The layout of a header. If several are possible, that of the machine that the header names.
    fn find(main: &[u8]) -> Option<Self> {
        Self::best(main, true).or_else(|| Self::best(main, false))
    }

    fn best(main: &[u8], strictly: bool) -> Option<Self> {
        let all = [(false, true), (true, true), (false, false), (true, false)];
        let mut fitting =
            all.into_iter().map(|(big, wide)| Self::new(big, wide)).filter(|layout| layout.fits(main, strictly));
        let first = fitting.next()?;
        let named = natural(&text(main, MACHINE));
        if Some(first.order) == named {
            return Some(first);
        }
        Some(fitting.find(|layout| Some(layout.order) == named).unwrap_or(first))
    }
}

/// The offset of `utsname.machine`.
const MACHINE: usize = 272;
/// The offset of `utsname.release`.
const RELEASE: usize = 142;

/// The layout that programs have on a machine, if its name is known.
fn natural(machine: &str) -> Option<Order> {
    let (big, wide) = match machine.to_ascii_lowercase().as_str() {
        "x86_64" | "aarch64" | "ppc64le" | "riscv64" | "loongarch64" | "ia64" => (false, true),
        "s390x" | "ppc64" => (true, true),
        "ppc" => (true, false),
        "i386" | "i486" | "i586" | "i686" => (false, false),
        arm if arm.starts_with("arm") => (false, false),
        _ => return None,
    };
    Some(Order { big, wide })
}

/// A NUL-padded string of `utsname`, without characters that would control a terminal.
fn text(main: &[u8], at: usize) -> String {
    let raw = main.get(at..at.saturating_add(65)).unwrap_or_default();
    let raw = raw.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(raw).chars().filter(|c| !c.is_control()).collect()
}

/// How the writer's compiler laid out the sub header. There is one layout for 64-bit writers, and there are two for
/// 32-bit ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Wide,
    Packed,
    Padded,
}

/// The sub header's bytes, and how to interpret them.
struct Sub<'b> {
    raw: &'b [u8],
    order: Order,
    shape: Shape,
}

impl Sub<'_> {
    const fn at(&self, packed: usize, padded: usize, wide: usize) -> usize {
        match self.shape {
            Shape::Wide => wide,
            Shape::Packed => packed,
            Shape::Padded => padded,
        }
    }

    /// A field of the size of the writer's `long`.
    fn long(&self, packed: usize, padded: usize, wide: usize) -> u64 {
        let at = self.at(packed, padded, wide);
        self.order.word(self.raw, at, at)
    }

    fn u32(&self, packed: usize, padded: usize, wide: usize) -> u32 {
        self.order.u32(self.raw, self.at(packed, padded, wide))
    }

    fn u64(&self, packed: usize, padded: usize, wide: usize) -> u64 {
        self.order.u64(self.raw, self.at(packed, padded, wide))
    }

    fn pages(&self) -> u64 {
        self.u64(72, 88, 96)
    }

    /// Whether this interpretation agrees with a main header of that version.
    fn agrees(&self, version: u32, pages: u32, blocks: std::ops::Range<u64>) -> bool {
        let inside = |at: u64, len: u64| at == 0 || blocks.contains(&at) && at.saturating_add(len) <= blocks.end;
        let info = inside(self.u64(20, 24, 32), self.long(28, 32, 40));
        let notes = version < 4 || inside(self.u64(32, 40, 48), self.long(40, 48, 56));
        let same = version < 6 || self.pages() & u64::from(u32::MAX) == u64::from(pages);
        info && notes && same
    }
}

impl Header {
    /// Reads the headers of the dump in `file`, which has `size` bytes.
    pub(super) fn read(file: &impl ReadAt, size: u64) -> Result<Self, KdumpError> {
        let mut main = [0; MAIN];
        // The 32-bit header is shorter, but it fills a whole block.
        if size < u64::try_from(MAIN).unwrap_or(u64::MAX) {
            return Err(KdumpError::Short { size });
        }
        file.read_at(0, &mut main)?;
        if !main.starts_with(b"KDUMP   ") {
            return Err(KdumpError::Signature);
        }
        let layout = Layout::find(&main).ok_or(KdumpError::Damaged)?;
        let order = layout.order;
        let version = order.u32(&main, 8);
        if version > NEWEST {
            return Err(KdumpError::Version { version });
        }
        let page = u64::from(layout.field(&main, 1));
        if page.saturating_add(u64::try_from(SUB).unwrap_or(u64::MAX)) > size {
            return Err(KdumpError::Short { size });
        }
        let mut raw = [0; SUB];
        file.read_at(page, &mut raw)?;
        let short = layout.field(&main, 4);
        let sub_blocks = u64::from(layout.field(&main, 2));
        let blocks = page..page.saturating_mul(sub_blocks.saturating_add(1));
        let sub = shape(&raw, order, version, short, blocks);
        Ok(Self {
            order,
            version,
            machine: text(&main, MACHINE),
            release: text(&main, RELEASE),
            timestamp: order.word(&main, 404, 408),
            status: layout.field(&main, 0),
            page,
            sub_blocks,
            bitmap_blocks: layout.field(&main, 3).into(),
            pages: if version >= 6 && sub.pages() != 0 { sub.pages() } else { short.into() },
            level: if version >= 1 { sub.u32(4, 4, 8) } else { 0 },
            split: split(&sub, version),
            phys_base: sub.long(0, 0, 0),
            vmcoreinfo: span(version >= 3, sub.u64(20, 24, 32), sub.long(28, 32, 40)),
            notes: span(version >= 4, sub.u64(32, 40, 48), sub.long(40, 48, 56)),
        })
    }

    /// The offset of the bitmaps. The factors have 32 bits each, so the product does not overflow.
    pub(super) const fn bitmaps_at(&self) -> u64 {
        self.sub_blocks.saturating_add(1).saturating_mul(self.page)
    }

    /// The offset of the descriptors.
    pub(super) const fn descriptors_at(&self) -> u64 {
        self.bitmaps_at().saturating_add(self.bitmap_blocks.saturating_mul(self.page))
    }

    /// The size of each of the two bitmaps in bytes, or `None` if there is only one.
    pub(super) fn half(&self) -> Option<u64> {
        let needed = self.pages.div_ceil(8).div_ceil(self.page.max(1));
        // Either count of pages may be damaged. No real dump has two maps that are smaller than a block.
        let two = self.bitmap_blocks >= needed.saturating_mul(2) || self.version >= 1;
        (two && self.bitmap_blocks >= 2).then(|| (self.bitmap_blocks >> 1).saturating_mul(self.page))
    }

    /// The physical address of page 0. makedumpfile for 32-bit ARM counts pages from the start of RAM.
    pub(super) fn origin(&self) -> u64 {
        let counts_from_ram = !self.order.wide && self.machine.starts_with("arm") && !self.release.is_empty();
        let aligned = self.phys_base & self.page.saturating_sub(1) == 0;
        if counts_from_ram && aligned { self.phys_base } else { 0 }
    }

    /// Whether `other` can be the header of a part of the same dump.
    pub(super) fn akin(&self, other: &Self) -> bool {
        let mine = Self { split: None, status: 0, vmcoreinfo: other.vmcoreinfo, notes: other.notes, ..self.clone() };
        mine == Self { split: None, status: 0, ..other.clone() }
    }
}

fn shape<'b>(raw: &'b [u8], order: Order, version: u32, pages: u32, blocks: std::ops::Range<u64>) -> Sub<'b> {
    let with = |shape| Sub { raw, order, shape };
    if order.wide {
        return with(Shape::Wide);
    }
    let (packed, padded) = (with(Shape::Packed), with(Shape::Padded));
    // Before version 3, the packed and the padded layout are the same.
    if version >= 3 && !packed.agrees(version, pages, blocks.clone()) && padded.agrees(version, pages, blocks) {
        return padded;
    }
    packed
}

fn split(sub: &Sub<'_>, version: u32) -> Option<(u64, u64)> {
    if version < 2 || sub.u32(8, 8, 12) == 0 {
        return None;
    }
    Some(if version >= 6 {
        (sub.u64(56, 72, 80), sub.u64(64, 80, 88))
    } else {
        (sub.long(12, 12, 16), sub.long(16, 16, 24))
    })
}

const fn span(known: bool, at: u64, len: u64) -> Span {
    if known { Span::new(at, len) } else { Span::new(0, 0) }
}
