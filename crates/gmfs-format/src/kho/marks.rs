//! The marks of preserved pages that nobody has claimed yet.
//!
//! From 6.18 on, a kernel that takes a hand-over writes a mark into the page structure of the first page of each preserved
//! piece, and clears it when the piece is given to its user or back to the allocator. In the bytes of the pages held memory
//! and memory that was given back look the same; only the mark tells them apart. To find it, the array of page structures
//! has to be found: through the kernel's page tables, which the registers of a CPU or VMCOREINFO lead to. This is known of
//! x86-64 with four or five levels of tables.

use std::collections::{HashMap, HashSet};

use gmfs_io::ReadAt;
use gmfs_io::num::{len64, small};

use super::{PAGE, Page, read, word};

/// The upper half of a mark: "KHOP". The lower half is the order.
const MARK: u64 = 0x4B48_4F50;
/// The largest order of a preserved piece.
const MAX_ORDER: u64 = 37;
/// Bits of an entry of a page table that are an address.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// An entry leads somewhere.
const PRESENT: u64 = 1;
/// An entry of a higher table maps memory, and leads to no other table.
const LARGE: u64 = 0x80;
/// `CR4.LA57`: five levels of tables.
const FIVE_LEVELS: u64 = 1 << 12;
/// Where the kernel's own code is mapped.
const KERNEL_MAP: u64 = 0xFFFF_FFFF_8000_0000;
/// The array of page structures begins at a multiple of this.
const VMEMMAP_ALIGN: u64 = 1 << 30;
/// Places that are tried for the array.
const MAX_PLACES: u32 = 1 << 16;
/// Lists of sections that are looked at for one that is in use.
const MAX_SECTION_LISTS: u64 = 1 << 16;

/// What a dump says of its kernel, as far as it leads to page structures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Tops of page tables, each with its number of levels.
    tops: Vec<(u64, u32)>,
    sections: Option<Sections>,
    size: Option<u64>,
    private: Option<u64>,
}

/// The kernel's sections of memory, each of which says where the array is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sections {
    lists: u64,
    count: u64,
    entry: u64,
    map: u64,
}

impl Hints {
    /// What VMCOREINFO and the registers CR3 and CR4 of CPUs say.
    #[must_use]
    pub fn new(vmcoreinfo: &str, registers: &[(u64, u64)]) -> Self {
        let value = |key: &str| {
            let lines = vmcoreinfo.lines().filter_map(|line| line.split_once('='));
            lines.filter(|(name, _)| *name == key).map(|(_, value)| value.trim()).next()
        };
        let symbol = |key: &str| u64::from_str_radix(value(key)?.trim_start_matches("0x"), 16).ok();
        let number = |key: &str| value(key)?.parse::<u64>().ok();
        let mut tops = Vec::new();
        let top = symbol("SYMBOL(init_top_pgt)").or_else(|| symbol("SYMBOL(swapper_pg_dir)"));
        let base = value("NUMBER(phys_base)").and_then(|text| text.parse::<i64>().ok());
        if let (Some(top), Some(base)) = (top, base)
            && let Some(at) = top.checked_sub(KERNEL_MAP).and_then(|offset| offset.checked_add_signed(base))
        {
            let five = value("NUMBER(pgtable_l5_enabled)") == Some("1");
            tops.push((at & ADDRESS, if five { 5 } else { 4 }));
        }
        for (top, control) in registers {
            let levels = if control & FIVE_LEVELS != 0 { 5 } else { 4 };
            // In user space with page table isolation bit 12 is set, and the kernel's own table is the page before.
            for at in [top & ADDRESS & !PAGE, top & ADDRESS] {
                if at != 0 && !tops.contains(&(at, levels)) && tops.len() < 64 {
                    tops.push((at, levels));
                }
            }
        }
        let sections = || {
            Some(Sections {
                lists: symbol("SYMBOL(mem_section)")?,
                count: number("LENGTH(mem_section)")?.min(MAX_SECTION_LISTS),
                entry: number("SIZE(mem_section)").filter(|size| (8..=PAGE).contains(size))?,
                map: number("OFFSET(mem_section.section_mem_map)").filter(|offset| *offset < PAGE)?,
            })
        };
        let size = number("SIZE(page)").filter(|size| (56..=PAGE).contains(size) && size.trailing_zeros() >= 3);
        let private = number("OFFSET(page.private)").filter(|at| *at < PAGE && at.trailing_zeros() >= 3);
        Self { tops, sections: sections(), size, private }
    }

    /// Whether nothing leads to page tables.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tops.is_empty()
    }
}

/// Where the kernel that an image shows has its page structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageStructs {
    /// The top of the page tables, and how many levels they have.
    top: u64,
    levels: u32,
    /// The virtual address of the array.
    pub at: u64,
    /// Bytes of a page structure.
    size: u64,
    /// Where in it the mark is.
    private: u64,
}

/// What an address is mapped to.
enum Step {
    /// To memory at `at`; that goes on for `len` bytes.
    Memory { at: u64, len: u64 },
    /// To nothing, for `len` bytes.
    Nothing { len: u64 },
    /// The image lacks the table that says it, for `len` bytes.
    Lacking { len: u64 },
}

impl PageStructs {
    /// Finds the array. `known` are first pages of pieces that the kernel has marked, such as the roots of hand-overs that
    /// it took. They confirm a place where nothing else does.
    #[must_use]
    pub fn find(source: &dyn ReadAt, hints: &Hints, known: &[u64]) -> Option<Self> {
        let (size, private) = (hints.size.unwrap_or(64), hints.private.unwrap_or(40));
        if private.checked_add(8).is_none_or(|end| end > size) {
            return None;
        }
        let with = |top: u64, levels, at| Self { top, levels, at, size, private };
        for (top, levels) in &hints.tops {
            let tables = with(*top, *levels, 0);
            if let Some(at) = hints.sections.and_then(|sections| tables.in_sections(source, sections)) {
                return Some(with(*top, *levels, at));
            }
        }
        for (top, levels) in &hints.tops {
            let mut tried = Tried { left: MAX_PLACES, seen: HashSet::new() };
            let marked = |at: u64| {
                let found = with(*top, *levels, at);
                known.iter().any(|page| found.order_at(source, *page).is_some())
            };
            if let Some(at) = places(source, (*top, *levels, 0), &mut tried, &marked) {
                return Some(with(*top, *levels, at));
            }
        }
        None
    }

    /// Where the array is, by the first section of memory that is in use.
    fn in_sections(&self, source: &dyn ReadAt, sections: Sections) -> Option<u64> {
        for n in 0..sections.count {
            let list = self.word(source, sections.lists.checked_add(n.checked_mul(8)?)?)?;
            if list == 0 {
                continue;
            }
            for n in 0..PAGE.checked_div(sections.entry)? {
                let at = list.checked_add(n.checked_mul(sections.entry)?)?.checked_add(sections.map)?;
                let map = self.word(source, at)?;
                // The lowest bits say that the section is there and has page structures.
                if map & 3 == 3 {
                    let at = map & !(PAGE.saturating_sub(1));
                    return (at.checked_rem(VMEMMAP_ALIGN) == Some(0) && at >> 63 == 1).then_some(at);
                }
            }
        }
        None
    }

    /// The number at a virtual address.
    fn word(&self, source: &dyn ReadAt, address: u64) -> Option<u64> {
        match self.step(source, address, None) {
            Step::Memory { at, .. } => read::<[u8; 8]>(source, at).ok().map(u64::from_le_bytes),
            Step::Nothing { .. } | Step::Lacking { .. } => None,
        }
    }

    /// What an address is mapped to. A table of the last two levels that `tables` knows from another address leads
    /// nowhere: the kernel has each once, and hostile tables that lead in circles end so.
    fn step(&self, source: &dyn ReadAt, address: u64, mut tables: Option<&mut HashMap<u64, u64>>) -> Step {
        let mut table = self.top;
        for level in (0..self.levels).rev() {
            if let Some(tables) = tables.as_deref_mut().filter(|_| level < 2) {
                let bytes = PAGE.checked_shl(level.saturating_add(1).saturating_mul(9)).unwrap_or(PAGE);
                let start = address & !(bytes.saturating_sub(1));
                if *tables.entry(table).or_insert(start) != start {
                    return Step::Nothing { len: start.saturating_add(bytes).saturating_sub(address) };
                }
            }
            let shift = level.saturating_mul(9).saturating_add(12);
            let bytes = 1_u64.checked_shl(shift).unwrap_or(PAGE);
            let offset = address & bytes.saturating_sub(1);
            let len = bytes.saturating_sub(offset);
            let index = address.checked_shr(shift).unwrap_or_default() & 511;
            let Ok(entry) = read::<[u8; 8]>(source, table.saturating_add(index.saturating_mul(8))) else {
                return Step::Lacking { len };
            };
            let entry = u64::from_le_bytes(entry);
            if entry & PRESENT == 0 {
                return Step::Nothing { len };
            }
            let at = entry & ADDRESS;
            if level == 0 || level <= 2 && entry & LARGE != 0 {
                return Step::Memory { at: (at & !(bytes.saturating_sub(1))).saturating_add(offset), len };
            }
            table = at;
        }
        Step::Nothing { len: PAGE }
    }

    /// The order in the mark of the piece that begins at a physical address; `None` if there is no mark, or no page
    /// structure in the image.
    #[must_use]
    pub fn order_at(&self, source: &dyn ReadAt, page: u64) -> Option<u32> {
        let number = page.checked_div(PAGE)?;
        let at = number.checked_mul(self.size)?.checked_add(self.private)?.checked_add(self.at)?;
        order(self.word(source, at)?, number)
    }

    /// Whether the image has the page structure of a page.
    #[must_use]
    pub fn has(&self, source: &dyn ReadAt, page: u64) -> bool {
        let at = page.checked_div(PAGE).and_then(|number| number.checked_mul(self.size));
        let at = at.and_then(|at| at.checked_add(self.private)?.checked_add(self.at));
        at.is_some_and(|at| self.word(source, at).is_some())
    }

    /// Hands each marked piece of memory below `end` to `each`, in rising order: its address and order. Gives whether all
    /// page structures could be read.
    pub fn marked(&self, source: &dyn ReadAt, end: u64, mut each: impl FnMut(u64, u32)) -> bool {
        let pages = end.min(1 << 52).div_ceil(PAGE);
        let bytes = pages.saturating_mul(self.size);
        let (mut complete, mut offset) = (true, 0);
        // A frame that is mapped again, as the kernel does to save structures of huge pages, is read once.
        let (mut seen, mut tables) = (HashSet::new(), HashMap::new());
        while offset < bytes {
            let Some(address) = self.at.checked_add(offset) else { break };
            let len = match self.step(source, address, Some(&mut tables)) {
                Step::Nothing { len } => len,
                Step::Lacking { len } => {
                    complete = false;
                    len
                }
                Step::Memory { at, len } => {
                    let len = len.min(2 << 20);
                    if seen.insert(at) {
                        let mut page: Page = [0; 4096];
                        for n in 0..len.div_ceil(PAGE) {
                            let skip = n.saturating_mul(PAGE);
                            if source.read_at(at.saturating_add(skip), &mut page).is_ok() {
                                self.in_page(offset.saturating_add(skip), &page, &mut each);
                            } else {
                                complete = false;
                            }
                        }
                    }
                    len
                }
            };
            offset = offset.saturating_add(len.max(8));
        }
        complete
    }

    /// The marks in a page of the array, which begins `offset` bytes into it.
    fn in_page(&self, offset: u64, page: &Page, each: &mut impl FnMut(u64, u32)) {
        let first = offset.saturating_sub(self.private).div_ceil(self.size.max(1));
        for number in first.. {
            let at = number.saturating_mul(self.size).saturating_add(self.private).saturating_sub(offset);
            let at = small(at);
            if at.saturating_add(8) > page.len() {
                return;
            }
            if let Some(order) = order(word(page, at), number) {
                each(number.saturating_mul(PAGE), order);
            }
        }
    }
}

/// The order in a mark.
fn order(mark: u64, number: u64) -> Option<u32> {
    let order = mark & u64::from(u32::MAX);
    if mark >> 32 != MARK || order > MAX_ORDER {
        return None;
    }
    let order = u32::try_from(order).ok()?;
    (number.trailing_zeros() >= order).then_some(order)
}

/// What was tried to find the array.
struct Tried {
    left: u32,
    seen: HashSet<u64>,
}

/// The first place of the array for which `fits` holds, among those that the tables map: where a gibibyte begins.
/// `table`: its address, how many levels it and those below it have, and the virtual address that it begins with.
fn places(source: &dyn ReadAt, table: (u64, u32, u64), tried: &mut Tried, fits: &impl Fn(u64) -> bool) -> Option<u64> {
    let (table, levels, start) = table;
    let level = levels.checked_sub(1)?;
    if level < 2 || !tried.seen.insert(table) {
        return None;
    }
    let page: Page = read(source, table).ok()?;
    let top = start == 0;
    for (n, entry) in (0_u64..).zip(page.as_chunks::<8>().0) {
        let entry = u64::from_le_bytes(*entry);
        // The lower half of the addresses is user space.
        if entry & PRESENT == 0 || top && n < len64(page.len()) / 16 {
            continue;
        }
        let shift = level.saturating_mul(9).saturating_add(12);
        let mut at = start | n.checked_shl(shift).unwrap_or_default();
        if top {
            // Addresses are extended by their highest bit.
            at |= u64::MAX.checked_shl(shift.saturating_add(9)).unwrap_or_default();
        }
        if level > 2 {
            if let Some(found) = places(source, (entry & ADDRESS, level, at), tried, fits) {
                return Some(found);
            }
        } else if entry & LARGE == 0 {
            tried.left = tried.left.checked_sub(1)?;
            if fits(at) {
                return Some(at);
            }
        }
    }
    None
}
