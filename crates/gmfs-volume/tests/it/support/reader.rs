//! A second implementation of reading, from the description of the format alone. It performs steps 1 and 2 of the
//! decision for a region at the start of the medium with at least one superblock. It shares no code with the engine, is
//! slow, keeps everything in memory, and fails where the engine would continue with step 3.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::memory::Memory;

const PAGE: u64 = 4096;
const DESCRIPTORS: u64 = 250;
const INODES: u64 = 8;
const INODE_BYTES: usize = 500;

/// A region as this implementation sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether an interrupted commit was rolled back (step 1). Otherwise the newest pages prove themselves (step 2).
    pub(crate) rolled_back: bool,
    pub(crate) generation: u64,
    /// Pages of the block table and of the inode table.
    pub(crate) marks: [u64; 2],
    /// Descriptors that are not all zero, by block.
    pub(crate) descriptors: BTreeMap<u32, [u8; 16]>,
    /// The raw inodes in use, by number.
    pub(crate) inodes: BTreeMap<u32, Vec<u8>>,
}

static TABLE: LazyLock<[u32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|n| {
        (0..8).fold(u32::try_from(n).unwrap(), |value, _| (value >> 1) ^ (0xEDB8_8320 * (value & 1)))
    })
});

/// CRC-32 (IEEE 802.3) of a page with its CRC field as zero.
fn crc(page: &[u8]) -> u32 {
    let fed = page.iter().enumerate().map(|(at, byte)| if (40..44).contains(&at) { 0 } else { *byte });
    !fed.fold(u32::MAX, |sum, byte| (sum >> 8) ^ TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)])
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What a page with a generation contributes to the two sums.
fn share(page: u64, generation: u64) -> [u64; 2] {
    let step = 0x9e37_79b9_7f4a_7c15_u64;
    let first = mix(generation ^ page.wrapping_mul(step));
    [first, mix(first.wrapping_add(step))]
}

fn sum_of(pages: impl Iterator<Item = (u64, u64)>) -> [u64; 2] {
    pages
        .map(|(page, generation)| share(page, generation))
        .fold([0; 2], |sum, share| [sum[0].wrapping_add(share[0]), sum[1].wrapping_add(share[1])])
}

/// The numbers that determine a region's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    shift: u64,
    blocks: u64,
    metadata: u64,
    inodes: u64,
}

impl Layout {
    fn table(self) -> u64 {
        (self.blocks - 2 * self.metadata).div_ceil(DESCRIPTORS)
    }

    fn pages(self) -> u64 {
        1 + self.table() + self.inodes.div_ceil(INODES)
    }

    fn offset(self, copy: u8, page: u64) -> u64 {
        if copy == b'A' { page * PAGE } else { ((self.blocks - self.metadata) << self.shift) + page * PAGE }
    }

    fn kind(self, page: u64) -> u8 {
        match page {
            0 => 1,
            page if page <= self.table() => 2,
            _ => 3,
        }
    }

    fn is_before(self, page: u64, marks: [u64; 2]) -> bool {
        page == 0 || if page <= self.table() { page <= marks[0] } else { page - self.table() <= marks[1] }
    }

    fn before(self, marks: [u64; 2]) -> impl Iterator<Item = u64> {
        (1..self.pages()).filter(move |page| self.is_before(*page, marks))
    }
}

/// A page that counts as a statement.
#[derive(Clone, Debug)]
struct Statement {
    generation: u64,
    marks: [u64; 2],
    sum: [u64; 2],
    bytes: Vec<u8>,
}

/// A region's identity.
type Identity = (Layout, Vec<u8>, u64);

/// What a sealed page says about itself, if it is at this location.
fn statement(bytes: &[u8], copy: u8, page: u64) -> Option<(Identity, Statement)> {
    if number(bytes, 40, 4) != u64::from(crc(bytes)) || number(bytes, 4, 2) != 2 {
        return None;
    }
    let layout = Layout {
        shift: u64::from(bytes[56]),
        blocks: number(bytes, 44, 4),
        metadata: number(bytes, 48, 4),
        inodes: number(bytes, 52, 4),
    };
    if ![21, 25, 29].contains(&layout.shift) || layout.blocks <= 2 * layout.metadata {
        return None;
    }
    let kind = layout.kind(page);
    let magic: &[u8] = [b"GMsb", b"GMbt", b"GMit"][usize::from(kind) - 1];
    let here = &bytes[..4] == magic && bytes[6] == kind && bytes[7] == copy && number(bytes, 8, 8) == page;
    let marks = [number(bytes, 4072, 4), number(bytes, 4076, 4)];
    (here && page < layout.pages() && layout.is_before(page, marks)).then(|| {
        let sum = [number(bytes, 4080, 8), number(bytes, 4088, 8)];
        let said = Statement { generation: number(bytes, 32, 8), marks, sum, bytes: bytes.to_vec() };
        ((layout, bytes[16..32].to_vec(), number(bytes, 4064, 8)), said)
    })
}

/// The identity in superblock B of a region that ends with the medium.
fn from_behind(memory: &Memory, size: u64) -> Option<Identity> {
    let step = 2 << 20;
    let mut places = (0..size / step).rev().map(|block| block * step);
    places.find_map(|offset| {
        let (identity, _) = statement(&memory.page(offset), b'B', 0)?;
        (identity.0.offset(b'B', 0) == offset).then_some(identity)
    })
}

/// Reads a region.
pub(crate) fn read(memory: &Memory, size: u64) -> Result<Seen, String> {
    let in_front = statement(&memory.page(0), b'A', 0).map(|(identity, _)| identity);
    let identity = in_front.or_else(|| from_behind(memory, size)).ok_or("no superblock")?;
    let layout = identity.0;
    let [a, b] = [b'A', b'B'].map(|copy| {
        let found = (0..layout.pages()).filter_map(|page| {
            let (of, said) = statement(&memory.page(layout.offset(copy, page)), copy, page)?;
            (of == identity).then_some((page, said))
        });
        found.collect::<BTreeMap<u64, Statement>>()
    });
    let torn = |page: u64| {
        let bytes = memory.page(layout.offset(b'A', page));
        bytes.starts_with(b"GM") && number(&bytes, 40, 4) != u64::from(crc(&bytes))
    };
    let step1 = interrupted(layout, &a, &b, &torn);
    let rolled_back = step1.is_some();
    let (generation, marks, chosen) = match step1 {
        Some((generation, marks)) => (generation, marks, b),
        None => newest(layout, &a, &b)?,
    };
    let (mut descriptors, mut inodes) = (BTreeMap::new(), BTreeMap::new());
    for page in layout.before(marks) {
        let payload = &chosen[&page].bytes[64..4064];
        if page <= layout.table() {
            let first = layout.metadata + (page - 1) * DESCRIPTORS;
            for (block, entry) in (u32::try_from(first).unwrap()..).zip(payload.chunks(16)) {
                if entry.iter().any(|byte| *byte != 0) {
                    descriptors.insert(block, entry.try_into().unwrap());
                }
            }
        } else {
            let first = (page - layout.table() - 1) * INODES + 1;
            for (number, inode) in (u32::try_from(first).unwrap()..).zip(payload.chunks(INODE_BYTES)) {
                if inode[8..10] != [0, 0] {
                    inodes.insert(number, inode.to_vec());
                }
            }
        }
    }
    Ok(Seen { rolled_back, generation, marks, descriptors, inodes })
}

/// Step 1: there is nothing but a commit that was interrupted before its superblock A.
fn interrupted(
    layout: Layout,
    a: &BTreeMap<u64, Statement>,
    b: &BTreeMap<u64, Statement>,
    torn: &dyn Fn(u64) -> bool,
) -> Option<(u64, [u64; 2])> {
    let (in_a, in_b) = (a.get(&0)?, b.get(&0)?);
    let (g, marks) = (in_a.generation, in_a.marks);
    // Superblocks are equal if their payloads, trailers and generations are.
    let active = number(&in_a.bytes, 64 + 152, 4) & 2 != 0;
    if in_a.generation != in_b.generation || in_a.bytes[64..] != in_b.bytes[64..] || !active {
        return None;
    }
    let newer = a.values().filter(|said| said.generation > g);
    if newer.clone().next().is_none() || newer.clone().any(|said| said.generation != g + 1) {
        return None;
    }
    if b.values().any(|said| said.generation > g || said.marks[0] > marks[0] || said.marks[1] > marks[1]) {
        return None;
    }
    let same = |page: u64| match (a.get(&page), b.get(&page)) {
        (Some(in_a), Some(in_b)) => {
            in_a.generation == g + 1 || in_a.generation == in_b.generation && in_a.bytes[64..] == in_b.bytes[64..]
        }
        (None, Some(_)) => torn(page),
        _ => false,
    };
    let fits = layout.before(marks).all(same);
    let whole = fits && sum_of(layout.before(marks).map(|page| (page, b[&page].generation))) == in_b.sum;
    whole.then_some((g, marks))
}

/// The newest statement of each page before the marks, with the generation.
type Newest = (u64, [u64; 2], BTreeMap<u64, Statement>);

/// Step 2: a statement of the newest generation has the sum over the newest statements of all pages.
fn newest(layout: Layout, a: &BTreeMap<u64, Statement>, b: &BTreeMap<u64, Statement>) -> Result<Newest, String> {
    let all = || a.values().chain(b.values());
    let top = all().map(|said| said.generation).max().ok_or("no statement")?;
    let marks = [0, 1].map(|table| all().map(|said| said.marks[table]).max().unwrap_or_default());
    let mut chosen = BTreeMap::new();
    for page in layout.before(marks) {
        let said = match (a.get(&page), b.get(&page)) {
            (Some(in_a), Some(in_b)) => {
                if in_b.generation > in_a.generation {
                    in_b
                } else {
                    in_a
                }
            }
            (in_a, in_b) => in_a.or(in_b).ok_or_else(|| format!("page {page} is lost"))?,
        };
        chosen.insert(page, said.clone());
    }
    let sum = sum_of(chosen.iter().map(|(page, said)| (*page, said.generation)));
    let proven = all().any(|said| said.generation == top && said.sum == sum);
    if proven { Ok((top, marks, chosen)) } else { Err("the newest pages do not prove themselves".to_owned()) }
}
