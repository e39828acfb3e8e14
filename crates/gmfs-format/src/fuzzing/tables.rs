//! Page tables of x86-64, and page structures with marks of preserved pieces.

use super::Memory;

/// Page tables that are being made, and what they map.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The memory, with the tables in it.
    pub memory: Memory,
    /// The address of the top table.
    pub top: u64,
    /// The last page that was used for a table.
    pub next: u64,
    levels: u32,
}

impl Tables {
    /// A top table with so many levels, in this memory.
    #[must_use]
    pub fn new(memory: Memory, levels: u32) -> Self {
        let mut tables = Self { memory, top: 0, next: 0x4000_0000, levels };
        tables.top = tables.page();
        tables
    }

    /// A new page of zeros.
    pub fn page(&mut self) -> u64 {
        self.next += 4096;
        self.memory.write(self.next, &[0; 4096]);
        self.next
    }

    /// Maps an address to memory, by tables down to `level`: 0 for pages, 1 for 2 MiB.
    pub fn map(&mut self, address: u64, to: u64, level: u32) {
        let mut table = self.top;
        for above in (level + 1..self.levels).rev() {
            let slot = table + 8 * (address >> (12 + 9 * above) & 511);
            table = match self.memory.get(slot) & !0xfff {
                0 => {
                    let page = self.page();
                    self.memory.put(slot, page | 0x63);
                    page
                }
                there => there,
            };
        }
        let large = if level > 0 { 0x80 } else { 0 };
        self.memory.put(table + 8 * (address >> (12 + 9 * level) & 511), to | 0x63 | large);
    }

    /// Writes the mark of a piece into the page structure of its first page, which is somewhere from `structs` on.
    pub fn mark(&mut self, structs: u64, at: u64, order: u64) {
        self.memory.put(structs + at / 4096 * 64 + 40, 0x4b48_4f50 << 32 | order);
    }
}
