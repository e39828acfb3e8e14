//! Interprets the fuzzer's bytes as decisions.

/// Takes decisions from the front of the bytes. After the last byte each decision is 0.
pub(crate) struct Choices<'d>(&'d [u8]);

/// Numbers at which readers tend to fail.
const EDGES: [u64; 16] = [
    0,
    1,
    0xff,
    0x1000,
    0x1001,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 4096,
    u64::MAX - 23,
    u64::MAX - 1,
    u64::MAX,
];

impl<'d> Choices<'d> {
    pub(crate) const fn new(data: &'d [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % limit
    }

    pub(crate) fn one_in(&mut self, number: u8) -> bool {
        self.byte().is_multiple_of(number)
    }

    pub(crate) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Another value for a field that held `old`, in a file of `size` bytes.
    pub(crate) fn instead_of(&mut self, old: u64, size: usize) -> u64 {
        match self.byte() % 6 {
            0 => self.of(&EDGES),
            1 => old ^ 1 << (self.byte() % 64),
            2 => old.wrapping_add(u64::from(self.byte())).wrapping_sub(128),
            3 => (size as u64).wrapping_add(u64::from(self.byte())).wrapping_sub(128),
            4 => u64::from(self.byte()),
            _ => self.word(),
        }
    }

    /// Damages up to eight bytes.
    pub(crate) fn damage(&mut self, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        for _ in 0..1 + self.byte() % 8 {
            let at = self.below(bytes.len());
            bytes[at] = match self.byte() % 4 {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ 1 << (self.byte() % 8),
                _ => self.byte(),
            };
        }
    }

    /// The bytes that are left.
    pub(crate) const fn rest(&self) -> &'d [u8] {
        self.0
    }
}

/// A page of which part is compressible. It is different for each seed.
pub(crate) fn memory(seed: u64, size: usize) -> Vec<u8> {
    let mut page = vec![seed as u8; size];
    let random = size / (2 + seed as usize % 3);
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    for byte in &mut page[..random] {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = (state >> 32) as u8;
    }
    for (index, byte) in page[random..].iter_mut().enumerate() {
        if seed.is_multiple_of(4) {
            *byte = b"pages of a guest "[index % 17];
        }
    }
    page
}
