//! Builds ELF cores from a description, including ones that no tool would write.

/// A PT_LOAD.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
    /// `p_filesz`, if it differs from the number of bytes.
    pub(crate) in_file: Option<u64>,
    /// `p_memsz`, if it differs from `p_filesz`.
    pub(crate) in_memory: Option<u64>,
    /// `p_offset`, if it differs from where the bytes are.
    pub(crate) place: Option<u64>,
}

impl Load {
    pub(crate) fn new(address: u64, bytes: &[u8]) -> Self {
        Self { address, bytes: bytes.to_vec(), in_file: None, in_memory: None, place: None }
    }

    pub(crate) fn memory(self, size: u64) -> Self {
        Self { in_memory: Some(size), ..self }
    }

    pub(crate) fn file(self, size: u64) -> Self {
        Self { in_file: Some(size), ..self }
    }

    pub(crate) fn at(self, place: u64) -> Self {
        Self { place: Some(place), ..self }
    }
}

/// A file: header, section 0, program headers, notes, the bytes of the segments.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    pub(crate) wide: bool,
    pub(crate) big: bool,
    pub(crate) flags: u32,
    pub(crate) kind: u16,
    pub(crate) entry: u16,
    /// Whether the count of program headers is in section 0.
    pub(crate) extended: bool,
    pub(crate) notes: Vec<u8>,
    pub(crate) loads: Vec<Load>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            wide: true,
            big: false,
            flags: 0,
            kind: 4,
            entry: 56,
            extended: false,
            notes: Vec::new(),
            loads: Vec::new(),
        }
    }

    /// Sets word size and byte order. It must be called before notes are added.
    pub(crate) fn order(self, wide: bool, big: bool) -> Self {
        Self { wide, big, entry: if wide { 56 } else { 32 }, ..self }
    }

    pub(crate) fn loads(self, loads: impl IntoIterator<Item = Load>) -> Self {
        Self { loads: loads.into_iter().collect(), ..self }
    }

    pub(crate) fn note(mut self, name: &str, text: &[u8]) -> Self {
        let sizes = [name.len() as u64 + 1, text.len() as u64, 0];
        for size in sizes {
            self.notes.extend(self.number(size, 4));
        }
        for part in [format!("{name}\0").as_bytes(), text] {
            self.notes.extend(part);
            self.notes.resize(self.notes.len().next_multiple_of(4), 0);
        }
        self
    }

    pub(crate) fn number(&self, value: u64, size: usize) -> Vec<u8> {
        if self.big { value.to_be_bytes()[8 - size..].to_vec() } else { value.to_le_bytes()[..size].to_vec() }
    }

    const fn word(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    /// The offset of the program headers.
    pub(crate) const fn table(&self) -> u64 {
        if self.wide { 64 + 64 } else { 52 + 40 }
    }

    fn count(&self) -> u64 {
        self.loads.len() as u64 + u64::from(!self.notes.is_empty())
    }

    /// The offset of the segments' bytes.
    pub(crate) fn body(&self) -> u64 {
        self.table() + self.count() * u64::from(self.entry) + self.notes.len() as u64
    }

    fn header(&self) -> Vec<u8> {
        let mut out = b"\x7fELF".to_vec();
        out.extend([if self.wide { 2 } else { 1 }, if self.big { 2 } else { 1 }, 1]);
        out.resize(16, 0);
        let count = if self.extended { 0xffff } else { self.count() };
        let word = self.word();
        let head: u64 = if self.wide { 64 } else { 52 };
        let fields = [
            (u64::from(self.kind), 2),
            (62, 2),
            (1, 4),
            (0, word),
            (self.table(), word),
            (head, word),
            (self.flags.into(), 4),
            (head, 2),
            (self.entry.into(), 2),
            (count, 2),
            (0, 2),
            (0, 2),
            (0, 2),
        ];
        out.extend(fields.into_iter().flat_map(|(value, size)| self.number(value, size)));
        // In section 0, two words follow `sh_info`, or three in the 64-bit class.
        let (before, after) = if self.wide { (44, 16) } else { (28, 8) };
        out.extend(vec![0; before]);
        out.extend(self.number(self.count(), 4));
        out.extend(vec![0; after]);
        out
    }

    fn segment(&self, kind: u64, place: u64, address: u64, in_file: u64, in_memory: u64) -> Vec<u8> {
        let w = self.word();
        let fields = if self.wide {
            vec![(kind, 4), (0, 4), (place, w), (0, w), (address, w), (in_file, w), (in_memory, w), (0, w)]
        } else {
            vec![(kind, 4), (place, w), (0, w), (address, w), (in_file, w), (in_memory, w), (0, 4), (0, w)]
        };
        let mut out: Vec<u8> = fields.into_iter().flat_map(|(value, size)| self.number(value, size)).collect();
        out.resize(self.entry.into(), 0);
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        assert_eq!(out.len() as u64, self.table());
        let mut place = self.body();
        if !self.notes.is_empty() {
            let size = self.notes.len() as u64;
            out.extend(self.segment(4, place - size, 0, size, 0));
        }
        for load in &self.loads {
            let in_file = load.in_file.unwrap_or(load.bytes.len() as u64);
            let in_memory = load.in_memory.unwrap_or(in_file);
            out.extend(self.segment(1, load.place.unwrap_or(place), load.address, in_file, in_memory));
            place += load.bytes.len() as u64;
        }
        out.extend(&self.notes);
        for load in &self.loads {
            out.extend(&load.bytes);
        }
        out
    }
}
