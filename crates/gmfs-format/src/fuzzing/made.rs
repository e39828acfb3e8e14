//! Makes hand-overs in each form that mainline Linux has had.

use super::Memory;

const PAGE: u64 = 4096;

/// The form of a hand-over, by the version of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 6.16 and 6.17: bitmaps of 512 bytes, no LUO.
    V617,
    /// 6.18: bitmaps of a page, no LUO.
    V618,
    /// 6.19.
    V619,
    /// 7.0.
    V70,
    /// 7.1.
    V71,
    /// 7.2 and 7.3.
    V73,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 6] = [Self::V617, Self::V618, Self::V619, Self::V70, Self::V71, Self::V73];
    /// The forms with LUO.
    pub const LUO: [Self; 4] = [Self::V619, Self::V70, Self::V71, Self::V73];

    const fn tree(self) -> &'static str {
        match self {
            Self::V617 | Self::V618 | Self::V619 | Self::V70 => "kho-v1",
            Self::V71 => "kho-v3",
            Self::V73 => "kho-v4",
        }
    }

    const fn handler(self) -> &'static str {
        if matches!(self, Self::V71 | Self::V73) { "memfd-v2" } else { "memfd-v1" }
    }
}

/// How the folios of a file are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Single pages that are one run.
    Pages,
    /// Single pages in descending order of addresses.
    Backwards,
    /// Folios of 2^order pages.
    Order(u32),
}

/// A file that is to be handed over.
#[derive(Clone, Debug)]
pub struct MadeFile {
    /// Its token.
    pub token: u64,
    /// Its size.
    pub size: u64,
    /// Its position.
    pub position: u64,
    /// Its seals.
    pub seals: u32,
    /// Its folios.
    pub way: Way,
}

impl MadeFile {
    /// A file of single pages.
    #[must_use]
    pub const fn new(token: u64, size: u64) -> Self {
        Self { token, size, position: 0, seals: 1, way: Way::Pages }
    }
}

/// Memory with a hand-over in it, as it is when the old kernel starts the next one.
#[derive(Clone, Debug)]
pub struct Made {
    /// The memory.
    pub memory: Memory,
    /// The root's address.
    pub root: u64,
    /// The address of LUO's root.
    pub luo: u64,
    /// The first list of sessions.
    pub sessions: u64,
    /// The page of objects that files depend on.
    pub flbs: u64,
    /// The address of the first list of files of each session; 0 if it has no files.
    pub files: Vec<u64>,
    /// The record of each file, by session and position.
    pub records: Vec<Vec<u64>>,
    /// All folios of each file: address, index, order.
    pub folios: Vec<Vec<Vec<(u64, u64, u32)>>>,
    /// What is preserved.
    pub preserved: Vec<(u64, u32)>,
    /// The pages of the map.
    pub map: Vec<u64>,
    /// The record that hands the root over, and the array of scratch areas.
    pub setup: (u64, u64),
    next: u64,
    form: Form,
}

/// The content of one page of a file with this token.
#[must_use]
pub fn content(token: u64, page: u64) -> [u8; 4096] {
    let mut bytes = [0; 4096];
    for (n, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = (token.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ page.wrapping_mul(0x1_0001) ^ n as u64).to_le_bytes();
    }
    bytes
}

impl Made {
    /// Memory in which these sessions are handed over.
    #[must_use]
    pub fn new(form: Form, sessions: &[(&[u8], Vec<MadeFile>)]) -> Self {
        let mut made = Self {
            memory: Memory::default(),
            root: 0x10_0000,
            luo: 0,
            sessions: 0,
            flbs: 0,
            files: Vec::new(),
            records: Vec::new(),
            folios: Vec::new(),
            preserved: Vec::new(),
            map: Vec::new(),
            setup: (0x8_0050, 0x9_0000),
            next: 0x10_0000,
            form,
        };
        made.root = made.page(true);
        let metadata = made.page(true);
        let region = made.folio(9, true);
        let memblock = made.page(true);
        made.reserve_mem(memblock, &[("alpha", region, 2 << 20)]);
        if !matches!(form, Form::V617 | Form::V618) {
            made.luo = made.page(true);
            made.flbs = made.page(true);
            made.memory.put(made.flbs, 1);
            made.luo(sessions);
        }
        made.memory.write(metadata, &1_u32.to_le_bytes());
        made.memory.write(metadata + 4, b"7.3.4");
        made.memory.write(metadata + 69, &1_u32.to_le_bytes());
        made.write_map();
        made.tree(&[("memblock", memblock), ("LUO", made.luo), ("kexec-metadata", metadata)]);
        made.scratch(&[(0x4000_0000, 0x100_0000), (0x5000_0000, 0x300_0000)]);
        made
    }

    /// A page that was not used yet, zeroed. It is preserved if `preserved` is set.
    pub fn page(&mut self, preserved: bool) -> u64 {
        self.folio(0, preserved)
    }

    fn folio(&mut self, order: u32, preserved: bool) -> u64 {
        let bytes = PAGE << order;
        let at = self.next.next_multiple_of(bytes);
        self.next = at + bytes;
        if order == 0 {
            self.memory.write(at, &[0; 4096]);
        }
        if preserved {
            self.preserved.push((at, order));
        }
        at
    }

    fn reserve_mem(&mut self, at: u64, regions: &[(&str, u64, u64)]) {
        let mut fdt = Fdt::new();
        fdt.property("compatible", b"memblock-v1\0");
        for (label, start, size) in regions {
            fdt.begin(label);
            fdt.property("compatible", b"reserve-mem-v1\0");
            fdt.property("start", &start.to_le_bytes());
            fdt.property("size", &size.to_le_bytes());
            fdt.end();
        }
        self.memory.write(at, &fdt.finish());
    }

    /// Writes the root with these users.
    pub fn tree(&mut self, users: &[(&str, u64)]) {
        let old = matches!(self.form, Form::V617 | Form::V618 | Form::V619 | Form::V70);
        let mut fdt = Fdt::new();
        fdt.property("compatible", format!("{}\0", self.form.tree()).as_bytes());
        fdt.property("preserved-memory-map", &self.map.first().copied().unwrap_or(0).to_le_bytes());
        for (name, at) in users.iter().filter(|(name, at)| *at != 0 && !(old && *name == "kexec-metadata")) {
            let size = match *name {
                "LUO" if self.form == Form::V73 => 32,
                "kexec-metadata" => 73,
                _ => u64::from(u32::from_be_bytes(self.memory.get(*at).to_le_bytes()[4..].try_into().unwrap())),
            };
            fdt.begin(name);
            if old {
                fdt.property("fdt", &at.to_le_bytes());
            } else {
                fdt.property("preserved-data", &at.to_le_bytes());
                fdt.property("blob-size", &size.to_le_bytes());
            }
            fdt.end();
        }
        let root = self.root;
        self.memory.write(root, &[0; 4096]);
        self.memory.write(root, &fdt.finish());
    }

    /// Writes the record of the boot protocol and the array of scratch areas.
    pub fn scratch(&mut self, areas: &[(u64, u64)]) {
        let (record, array) = self.setup;
        self.memory.put(record, 0);
        self.memory.put(record + 8, 10 | 32 << 32);
        let numbers = [self.root, PAGE, array, 16 * areas.len() as u64];
        numbers.iter().zip(0..).for_each(|(number, n)| self.memory.put(record + 16 + 8 * n, *number));
        areas.iter().zip(0..).for_each(|((at, len), n)| {
            self.memory.put(array + 16 * n, *at);
            self.memory.put(array + 16 * n + 8, *len);
        });
    }

    fn luo(&mut self, sessions: &[(&[u8], Vec<MadeFile>)]) {
        let mut entries = Vec::new();
        for (name, files) in sessions {
            let mut list = Vec::new();
            let (mut records, mut folios) = (Vec::new(), Vec::new());
            for file in files {
                let (record, own) = self.memfd(file);
                let mut entry = vec![0; 64];
                entry[..8].copy_from_slice(self.form.handler().as_bytes());
                entry[48..56].copy_from_slice(&record.to_le_bytes());
                entry[56..].copy_from_slice(&file.token.to_le_bytes());
                list.push(entry);
                records.push(record);
                folios.push(own);
            }
            let at = self.list(&list, 63, 0);
            let mut entry = vec![0; 80];
            entry[..name.len()].copy_from_slice(name);
            entry[64..72].copy_from_slice(&at.to_le_bytes());
            entry[72..].copy_from_slice(&(files.len() as u64).to_le_bytes());
            entries.push(entry);
            self.files.push(at);
            self.records.push(records);
            self.folios.push(folios);
        }
        self.sessions = self.list(&entries, 51, 8);
        let (luo, sessions, flbs) = (self.luo, self.sessions, self.flbs);
        if self.form == Form::V73 {
            self.memory.write(luo, b"luo-v5\0\0");
            [1, sessions, flbs].iter().zip(1..).for_each(|(number, n)| self.memory.put(luo + 8 * n, *number));
            return;
        }
        let mut fdt = Fdt::new();
        fdt.property("compatible", b"luo-v1\0");
        fdt.property("liveupdate-number", &1_u64.to_le_bytes());
        fdt.begin("luo-session");
        fdt.property("compatible", b"luo-session-v2\0");
        fdt.property("luo-session-header", &sessions.to_le_bytes());
        fdt.end();
        if self.form != Form::V619 {
            fdt.begin("luo-flb");
            fdt.property("compatible", b"luo-flb-v1\0");
            fdt.property("luo-flb-header", &flbs.to_le_bytes());
            fdt.end();
        }
        self.memory.write(luo, &fdt.finish());
    }

    /// A list of entries, as the form has it: blocks, or an array whose count is in its first `head` bytes.
    fn list(&mut self, entries: &[Vec<u8>], capacity: usize, head: u64) -> u64 {
        if entries.is_empty() && (self.form == Form::V73 || head == 0) {
            return 0;
        }
        if self.form != Form::V73 {
            let order = if head == 0 { 1 } else { 4 };
            let at = self.folio(order, true);
            self.memory.write(at, &vec![0; (PAGE as usize) << order]);
            if head > 0 {
                self.memory.put(at, entries.len() as u64);
            }
            self.memory.write(at + head, &entries.concat());
            return at;
        }
        let blocks: Vec<u64> = entries.chunks(capacity).map(|_| self.page(true)).collect();
        for (n, (block, entries)) in blocks.iter().zip(entries.chunks(capacity)).enumerate() {
            self.memory.put(*block, blocks.get(n + 1).copied().unwrap_or(0));
            self.memory.put(*block + 8, entries.len() as u64);
            self.memory.write(*block + 16, &entries.concat());
        }
        blocks[0]
    }

    fn memfd(&mut self, file: &MadeFile) -> (u64, Vec<(u64, u64, u32)>) {
        let record = self.page(true);
        let pages = file.size.div_ceil(PAGE);
        let mut folios = Vec::new();
        match file.way {
            Way::Pages => folios.extend((0..pages).map(|index| (self.page(true), index, 0))),
            Way::Backwards => {
                folios.extend((0..pages).rev().map(|index| (self.page(true), index, 0)));
                folios.reverse();
            }
            Way::Order(order) => {
                let all = 0..pages.div_ceil(1 << order);
                folios.extend(all.map(|n| (self.folio(order, true), n << order, order)));
            }
        }
        for (at, index, order) in &folios {
            for n in 0..1_u64 << order {
                self.memory.write(at + n * PAGE, &content(file.token, index + n));
            }
        }
        let records: Vec<u8> = folios
            .iter()
            .flat_map(|(at, index, _)| [((at / PAGE) | (3 << 52)).to_le_bytes(), index.to_le_bytes()].concat())
            .collect();
        let array: Vec<u64> = records
            .chunks(4096)
            .map(|bytes| {
                let page = self.page(true);
                self.memory.write(page, bytes);
                page
            })
            .collect();
        let mut first = 0;
        if !array.is_empty() {
            // A chunk that is full has another one after it, even if that is empty.
            let chunks: Vec<u64> = (0..=array.len() / 511).map(|_| self.page(true)).collect();
            for (n, chunk) in chunks.iter().enumerate() {
                self.memory.put(*chunk, chunks.get(n + 1).copied().unwrap_or(0));
                let own = array.iter().skip(n * 511).take(511).zip(1..);
                own.for_each(|(page, slot)| self.memory.put(*chunk + 8 * slot, *page));
            }
            first = chunks[0];
        }
        let mut numbers = vec![file.position, file.size];
        if self.form.handler() == "memfd-v2" {
            numbers.push(file.seals.into());
        }
        let flags = if array.is_empty() { 0 } else { 1 << 32 };
        numbers.extend([folios.len() as u64, first, array.len() as u64 | flags]);
        numbers.iter().zip(0..).for_each(|(number, n)| self.memory.put(record + 8 * n, *number));
        (record, folios)
    }

    /// Writes the map of what is preserved, in the form's way.
    pub fn write_map(&mut self) {
        let preserved = self.preserved.clone();
        match self.form {
            Form::V617 => self.chunks(&preserved, 4096),
            Form::V618 | Form::V619 | Form::V70 => self.chunks(&preserved, 32768),
            Form::V71 | Form::V73 => self.radix(&preserved),
        }
    }

    fn chunks(&mut self, preserved: &[(u64, u32)], bits: u64) {
        let mut bitmaps: std::collections::BTreeMap<(u32, u64), Vec<u64>> = std::collections::BTreeMap::new();
        for (at, order) in preserved {
            let piece = PAGE << order;
            bitmaps.entry((*order, at / (piece * bits) * piece * bits)).or_default().push(*at);
        }
        let mut orders: Vec<u32> = bitmaps.keys().map(|(order, _)| *order).collect();
        orders.dedup();
        let mut entries: Vec<(u32, u64, u64)> = Vec::new();
        for (small, ((order, start), pages)) in bitmaps.iter().enumerate() {
            // Small bitmaps are eight to a page.
            let at = if bits == 32768 || small % 8 == 0 { self.page(false) } else { entries.last().unwrap().2 + 512 };
            for page in pages {
                let bit = (page - start) / (PAGE << order);
                let word = at + bit / 64 * 8;
                let value = self.memory.get(word) | 1 << (bit % 64);
                self.memory.put(word, value);
            }
            entries.push((*order, *start, at));
        }
        let chunks: Vec<u64> = orders.iter().map(|_| self.page(false)).collect();
        for (n, (chunk, order)) in chunks.iter().zip(&orders).enumerate() {
            let own: Vec<_> = entries.iter().filter(|(of, ..)| of == order).collect();
            self.memory.put(*chunk, chunks.get(n + 1).copied().unwrap_or(0));
            self.memory.put(*chunk + 8, u64::from(*order) | (own.len() as u64) << 32);
            for ((_, start, bitmap), slot) in own.iter().zip(1..) {
                self.memory.put(*chunk + 16 * slot, *start);
                self.memory.put(*chunk + 16 * slot + 8, *bitmap);
            }
        }
        self.map = chunks;
    }

    fn radix(&mut self, preserved: &[(u64, u32)]) {
        let root = self.page(false);
        self.map = vec![root];
        for (at, order) in preserved {
            let key = 1 << (52 - order) | at >> (12 + order);
            let mut table = root;
            for level in (1..=5).rev() {
                let slot = table + 8 * (key >> (15 + 9 * (level - 1)) & 511);
                table = match self.memory.get(slot) {
                    0 => {
                        let page = self.page(false);
                        self.map.push(page);
                        self.memory.put(slot, page);
                        page
                    }
                    there => there,
                };
            }
            let bit = key & 32767;
            let word = table + bit / 64 * 8;
            let value = self.memory.get(word) | 1 << (bit % 64);
            self.memory.put(word, value);
        }
    }

    /// The same memory as it is in the running kernel before the reboot system call.
    #[must_use]
    pub fn before_reboot(mut self) -> Self {
        match self.form {
            Form::V73 => self.memory.put(self.luo + 16, 0),
            _ => self.memory.put(self.sessions, 0),
        }
        let lists: Vec<u64> = self.files.iter().copied().filter(|at| *at != 0).collect();
        for at in lists {
            self.memory.write(at, &[0; 4096]);
        }
        if self.form == Form::V73 {
            self.memory.write(self.sessions, &[0; 4096]);
        }
        self
    }

    /// The same memory as it is in the next kernel, once that runs: the map is overwritten, and from 7.2 on LUO's root
    /// too.
    #[must_use]
    pub fn in_next_kernel(mut self) -> Self {
        let taken = if self.form == Form::V73 { vec![self.luo] } else { Vec::new() };
        for at in self.map.clone().into_iter().chain(taken) {
            self.memory.write(at, &content(!at, 1));
        }
        self
    }
}

/// A device tree that is being made.
struct Fdt {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Fdt {
    fn new() -> Self {
        let mut fdt = Self { structure: Vec::new(), strings: Vec::new() };
        fdt.begin("");
        fdt
    }

    fn token(&mut self, token: u32) {
        self.structure.extend(token.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.structure.extend(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    fn begin(&mut self, name: &str) {
        self.token(1);
        self.bytes(format!("{name}\0").as_bytes());
    }

    fn end(&mut self) {
        self.token(2);
    }

    fn property(&mut self, name: &str, value: &[u8]) {
        self.token(3);
        self.token(value.len() as u32);
        self.token(self.strings.len() as u32);
        self.strings.extend(format!("{name}\0").as_bytes());
        self.bytes(value);
    }

    fn finish(mut self) -> Vec<u8> {
        self.end();
        self.token(9);
        let (structure, strings) = (self.structure.len() as u32, self.strings.len() as u32);
        let total = 56 + structure + strings;
        let header = [0xd00d_feed, total, 56, 56 + structure, 40, 17, 16, 0, strings, structure];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        bytes.resize(56, 0);
        bytes.extend(self.structure);
        bytes.extend(self.strings);
        bytes
    }
}
