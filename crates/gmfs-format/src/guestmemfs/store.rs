//! A file system that has been read: its inodes as a tree, and where the files are.

use std::collections::BTreeMap;

use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{
    BITMAP_ALLOCATED, BITMAP_BYTES, BLOCK_BYTES, BlockNo, Extent, HandOver, InodeNo, InodeRaw, Lack, MAX_BLOCKS,
    PAGE_BYTES, PAGE_ENTRIES, Place, ReadAt, Span, SuperblockRaw, TABLE_ENTRIES, block_offset, len64, small, to_u32,
    to_usize,
};
use crate::chains::{self, Walked};
use crate::reading::read_pages;

/// The inodes of a file system.
pub(super) type Inodes = chains::Inodes<InodeRaw>;

/// No direct map starts below: the upper half of virtual addresses.
const UPPER_HALF: u64 = 0xFF00_0000_0000_0000;

/// What an inode in use is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A file: it has a page of mappings.
    File,
    /// A directory.
    Directory,
}

impl Kind {
    /// The kind that the driver takes an inode with these flags for; `None` for a free inode, and for flags that it does not
    /// know.
    #[must_use]
    pub const fn of_flags(flags: u32) -> Option<Self> {
        match flags & 3 {
            0 => None,
            1 => Some(Self::File),
            _ => Some(Self::Directory),
        }
    }
}

/// By what a file's page of mappings is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// By the device tree: the page that the file had before the hand-over.
    Tree,
    /// By the inode's pointer, as the driver does: after a restore that is the page of the file before it.
    Inode,
}

/// Where the parts of a file system are in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// What the device tree says, if there is one.
    pub tree: Option<HandOver>,
    /// Without a tree: where one is that cannot be read.
    pub damaged_tree: Option<u64>,
    /// The superblock, if it was found. Without a tree its length is not known; 40 bytes is what most kernels give it.
    pub superblock: Option<Span>,
    /// The address of the array of inodes.
    pub inodes: u64,
}

impl From<HandOver> for Parts {
    fn from(tree: HandOver) -> Self {
        let (superblock, inodes) = (Some(tree.superblock), tree.inodes.offset);
        Self { superblock, inodes, tree: Some(tree), damaged_tree: None }
    }
}

/// What the superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Head of the list of free inodes.
    pub next_free_ino: u64,
    /// Allocated inodes, as the driver counts them: the root not, and allocations that found none.
    pub allocated_inodes: u64,
    /// Virtual address of the array of inodes.
    pub inodes: u64,
    /// Virtual address of the bitmap.
    pub bitmap: u64,
    /// The first 4 bytes of the lock: 0 is free. `None` if its place is not known.
    pub lock: Option<u32>,
    /// 1 from the hand-over to the restore. `None` if its place is not known.
    pub serialised: Option<u8>,
}

/// An inode in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number; [`GHOST`](super::GHOST) for the ghost.
    pub ino: InodeNo,
    /// The directory whose chain it is in. `None` for the root, and for an inode that no directory leads to.
    pub parent: Option<InodeNo>,
    /// What it is; `None` if the flags are none that the driver knows.
    pub kind: Option<Kind>,
    /// The flags as recorded.
    pub flags: u32,
    /// The name: the bytes before the first NUL, at most 255. Not necessarily UTF-8.
    pub name: Box<[u8]>,
    /// Virtual address of its page of mappings.
    pub mappings: u64,
    /// How many blocks were ever allocated for the file's content.
    pub num_mappings: u32,
}

/// A file system that has been read. It holds the array of inodes (2 MiB), the bitmap (128 KiB), and the pages of mappings:
/// at most two for each inode.
#[derive(Debug)]
pub struct Store {
    pub(super) parts: Parts,
    pub(super) superblock: Result<Superblock, Option<Lack>>,
    pub(super) inodes: Inodes,
    pub(super) walked: Walked,
    nodes: BTreeMap<InodeNo, Node>,
    /// Virtual less physical addresses.
    pub(super) direct_map: Option<u64>,
    pub(super) bitmap: Bitmap,
    /// The pages of the files by the tree, and whether the table with their inode numbers was read.
    pub(super) by_tree: BTreeMap<InodeNo, u64>,
    pub(super) table: Result<Vec<u32>, Option<Lack>>,
    /// Pages of mappings by their addresses, without the zeros at their ends.
    pages: BTreeMap<u64, Result<Box<[u64]>, Lack>>,
    blocks: u32,
}

/// The bitmap.
#[derive(Debug)]
pub(super) struct Bitmap {
    /// Its address, if it is known.
    pub(super) at: Option<u64>,
    /// The part that is used; bytes that could not be read are zero.
    pub(super) bytes: Box<[u8]>,
    /// Its pages that could not be read, by their numbers. All, if its address is not known.
    pub(super) missing: BTreeMap<u32, Lack>,
    /// What of the part that is not used is not zero, in bytes of the memory, from the first such byte to the last.
    pub(super) rest: Option<Span>,
}

impl Bitmap {
    fn read(memory: &dyn ReadAt, at: Option<u64>) -> Self {
        let (mut bytes, mut missing) = (vec![0; small(BITMAP_ALLOCATED)], BTreeMap::new());
        match at {
            Some(at) => read_pages(memory, at, &mut bytes, |page, lack| {
                missing.insert(page, lack);
            }),
            None => {
                let pages = to_u32(BITMAP_BYTES.checked_div(PAGE_BYTES).unwrap_or_default());
                missing.extend((0..pages).map(|page| (page, Lack::Absent(gmfs_io::Absence::NotInDump))));
            }
        }
        let rest = bytes.split_off(small(BITMAP_BYTES));
        let used = |byte: &u8| *byte != 0;
        let rest = rest.iter().position(used).zip(rest.iter().rposition(used)).map(|(first, last)| {
            let start = at.unwrap_or_default().saturating_add(BITMAP_BYTES).saturating_add(len64(first));
            Span::new(start, len64(last.saturating_sub(first)).saturating_add(1))
        });
        Self { at, bytes: bytes.into(), missing, rest }
    }

    /// Why a part of it is not known, if one is not.
    pub(super) fn lack(&self) -> Option<Lack> {
        let used = to_u32(BITMAP_BYTES.checked_div(PAGE_BYTES).unwrap_or_default());
        self.missing.range(..used).next().map(|(_, lack)| *lack)
    }

    /// Whether a page of it could not be read.
    pub(super) fn lacks(&self, page: u32) -> bool {
        self.missing.contains_key(&page)
    }

    /// Whether the bit of a block is set, or why that is unknown.
    pub(super) fn is_marked(&self, block: BlockNo) -> Result<bool, Lack> {
        let byte = block.0 >> 3;
        if let Some(lack) = self.missing.get(&(byte >> 12)) {
            return Err(*lack);
        }
        let mask = 1_u8.rotate_left(block.0 & 7);
        Ok(self.bytes.get(to_usize(byte)).is_some_and(|byte| byte & mask != 0))
    }

    /// Whether it is known that no block of a byte is marked.
    pub(super) fn is_clear(&self, byte: u32) -> bool {
        self.bytes.get(to_usize(byte)).is_none_or(|marks| *marks == 0) && !self.lacks(byte >> 12)
    }

    /// The highest block whose bit is set.
    fn highest(&self) -> Option<u32> {
        let (at, byte) = self.bytes.iter().enumerate().rfind(|(_, byte)| **byte != 0)?;
        let bit = 7_u32.saturating_sub(byte.leading_zeros());
        Some(to_u32(len64(at)).saturating_mul(8).saturating_add(bit))
    }
}

impl Superblock {
    /// Reads the superblock at a place.
    ///
    /// # Errors
    /// Its first 32 bytes are not there.
    pub fn read(memory: &dyn ReadAt, span: Span) -> Result<Self, Lack> {
        let mut raw = SuperblockRaw::new_zeroed();
        memory.read_at(span.offset, raw.as_mut_bytes()).map_err(|error| Lack::from(&error))?;
        let mut tail = [0; 4];
        let mut word = |at: u64| {
            let read = memory.read_at(span.offset.saturating_add(at), &mut tail);
            read.ok().map(|()| u32::from_le_bytes(tail))
        };
        // The byte follows the lock, whose size depends on the kernel's configuration. 40 bytes are without debugging, 64
        // with it, and then the structure ends in this byte and 7 of padding.
        let flag = match span.len {
            40 => Some(36),
            48..=PAGE_BYTES => span.len.checked_sub(8),
            _ => None,
        };
        let lock = flag.and_then(|_| word(32));
        let serialised = flag.and_then(&mut word).and_then(|word| word.to_le_bytes().first().copied());
        Ok(Self {
            next_free_ino: raw.next_free_ino.get(),
            allocated_inodes: raw.allocated_inodes.get(),
            inodes: raw.inodes.get(),
            bitmap: raw.allocator_bitmap.get(),
            lock,
            serialised,
        })
    }
}

impl Store {
    /// Reads a file system whose parts are in `memory`, by their physical addresses. What cannot be read is unknown: see
    /// [`inodes_known`](Self::inodes_known) and [`check`](Self::check).
    #[must_use]
    pub fn read(memory: &dyn ReadAt, parts: Parts) -> Self {
        let superblock = match parts.superblock {
            Some(span) => Superblock::read(memory, span).map_err(Some),
            None => Err(None),
        };
        let inodes = Inodes::read(memory, parts.inodes);
        let absent = Lack::Absent(gmfs_io::Absence::NotInDump);
        let next_free = superblock.map(|found| found.next_free_ino).map_err(|lack| lack.unwrap_or(absent));
        let walked = chains::walk(&inodes, chains::Superblock { other_magic: None, next_free });
        let nodes = nodes(&inodes, &walked);
        let table = read_table(memory, parts.tree.as_ref());
        let by_tree = by_tree(parts.tree.as_ref(), &table, &nodes);
        let direct_map = direct_map(&superblock, &parts, &by_tree, &inodes);
        let bitmap_at = parts.tree.as_ref().map(|tree| tree.bitmap.offset).or_else(|| {
            let found = superblock.as_ref().ok()?;
            found.bitmap.checked_sub(direct_map?)
        });
        let bitmap = Bitmap::read(memory, bitmap_at);
        let pages = BTreeMap::new();
        let mut store =
            Self { parts, superblock, inodes, walked, nodes, direct_map, bitmap, by_tree, table, pages, blocks: 0 };
        store.read_mappings(memory);
        store.blocks = store.count_blocks();
        store
    }

    /// Reads all pages of mappings.
    fn read_mappings(&mut self, memory: &dyn ReadAt) {
        let by = [By::Tree, By::Inode];
        let wanted = self.nodes.keys().flat_map(|ino| by.map(|by| self.page(*ino, Some(by)))).flatten();
        let wanted: std::collections::BTreeSet<u64> = wanted.collect();
        let mut bytes = [[0; 8]; 512];
        for page in wanted {
            let read = memory.read_at(page, bytes.as_flattened_mut()).map_err(|error| Lack::from(&error));
            let entries = read.map(|()| {
                let used = bytes.iter().rposition(|entry| *entry != [0; 8]).map_or(0, |last| last.saturating_add(1));
                bytes.iter().take(used).map(|entry| u64::from_le_bytes(*entry)).collect()
            });
            self.pages.insert(page, entries);
        }
    }

    /// Blocks of the region: by its size, or, where that is not recorded, as many as anything mentions.
    fn count_blocks(&self) -> u32 {
        if let Some(region) = self.region() {
            return to_u32(region.len.checked_div(BLOCK_BYTES).unwrap_or_default()).min(MAX_BLOCKS);
        }
        let named = self.pages.values().flatten().flat_map(|page| page.iter());
        let named = named.filter_map(|block| u32::try_from(*block).ok()).filter(|block| *block < MAX_BLOCKS);
        named.chain(self.bitmap.highest()).max().map_or(0, |highest| highest.saturating_add(1))
    }

    /// Where the parts are.
    #[must_use]
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The region with the content of files, by the device tree. `None` without one: nothing else records it.
    #[must_use]
    pub fn region(&self) -> Option<Span> {
        self.parts.tree.as_ref().map(|tree| tree.region)
    }

    /// Blocks of 2 MiB that the region has. Without a device tree: as many as are known to be in use.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Bytes from the region's start to the end of the last block that anything mentions.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        u64::from(self.blocks).saturating_mul(BLOCK_BYTES)
    }

    /// The superblock, if it was found and can be read.
    #[must_use]
    pub fn superblock(&self) -> Option<&Superblock> {
        self.superblock.as_ref().ok()
    }

    /// Virtual less physical addresses, if something tells.
    #[must_use]
    pub const fn direct_map(&self) -> Option<u64> {
        self.direct_map
    }

    /// Where the bitmap is, if something tells.
    #[must_use]
    pub const fn bitmap_at(&self) -> Option<u64> {
        self.bitmap.at
    }

    /// How many inodes the list of free inodes has, as far as it can be followed.
    #[must_use]
    pub const fn free_inodes(&self) -> u32 {
        self.walked.free
    }

    /// What is wrong with inodes, names and chains, and which inodes are unknown.
    #[must_use]
    pub fn chain_anomalies(&self) -> &[chains::Anomaly] {
        &self.walked.anomalies
    }

    /// Whether any inode of the array could be read.
    #[must_use]
    pub fn has_inodes(&self) -> bool {
        self.inodes.all().any(|(_, inode)| inode.is_ok())
    }

    /// Whether all inodes are known: those of the array, and the ghost if something links to it.
    #[must_use]
    pub fn inodes_known(&self) -> bool {
        !self.walked.anomalies.iter().any(|anomaly| matches!(anomaly, chains::Anomaly::UnknownInodes { .. }))
    }

    /// The inodes in use that are known, by number: those that a directory leads to, the root, and those that nothing leads
    /// to. The root is always there, even if its inode is unknown.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// An inode in use by its number.
    #[must_use]
    pub fn node(&self, ino: InodeNo) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// The files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|node| node.kind == Some(Kind::File))
    }

    /// The entries of a directory in the order of its chain: newest first.
    #[must_use]
    pub fn children(&self, directory: InodeNo) -> &[InodeNo] {
        self.walked.children.get(&directory).map_or(&[], Vec::as_slice)
    }

    /// The bytes of an inode, in use or not, or why they are unknown. `None` if there is no inode with that number.
    #[must_use]
    pub fn raw_inode(&self, ino: InodeNo) -> Option<Result<&InodeRaw, Lack>> {
        self.inodes.get(ino)
    }

    /// The address of a file's page of mappings, by one of its two names; by `None`, what the device tree says, and of files
    /// that it does not name, what the inode says. No page for directories, and for numbers that are not in use.
    #[must_use]
    pub fn page(&self, ino: InodeNo, by: Option<By>) -> Option<u64> {
        let node = self.nodes.get(&ino).filter(|node| node.kind == Some(Kind::File))?;
        let tree = self.by_tree.get(&ino).copied();
        let inode = || {
            let page = node.mappings.checked_sub(self.direct_map?)?;
            (node.mappings != 0).then_some(page)
        };
        match by {
            Some(By::Tree) => tree,
            Some(By::Inode) => inode(),
            None => tree.or_else(inode),
        }
    }

    /// The files whose page of mappings is another by the tree than by the inode, with both pages.
    pub fn differing(&self) -> impl Iterator<Item = (InodeNo, u64, u64)> {
        self.files().filter_map(|node| {
            let pages = (self.page(node.ino, Some(By::Tree))?, self.page(node.ino, Some(By::Inode))?);
            (pages.0 != pages.1).then_some((node.ino, pages.0, pages.1))
        })
    }

    /// The entries of a file's page, without the zeros at the end, or why they are unknown; `None` if it has no page.
    pub(super) fn entries(&self, ino: InodeNo, by: Option<By>) -> Option<Result<&[u64], Lack>> {
        let page = self.pages.get(&self.page(ino, by)?)?;
        Some(page.as_ref().map(|entries| &**entries).map_err(|lack| *lack))
    }

    /// The extents of a file in the order of the file. What adjoins in the file and in the region is one extent. Entries
    /// that the file's count does not cover are no part of it, and a 0 behind the first entry is no block.
    #[must_use]
    pub fn extents(&self, ino: InodeNo, by: Option<By>) -> Vec<Extent> {
        let mut extents = Vec::new();
        let Some(node) = self.nodes.get(&ino).filter(|node| node.kind == Some(Kind::File)) else { return extents };
        let counted = node.num_mappings.min(PAGE_ENTRIES);
        let bytes = |blocks: u32| block_offset(BlockNo(blocks));
        let entries = match self.entries(ino, by) {
            Some(Ok(entries)) => entries,
            _ if counted == 0 => return extents,
            Some(Err(lack)) => {
                return vec![Extent { offset: 0, length: bytes(counted), place: Place::Unknown { lack } }];
            }
            None => return vec![Extent { offset: 0, length: bytes(counted), place: Place::NoTable }],
        };
        for index in 0..counted {
            let block = entries.get(to_usize(index)).copied().unwrap_or_default();
            let place = match u32::try_from(block) {
                Ok(0) if index > 0 => Place::NoBlock,
                Ok(inside) if inside < self.blocks => Place::Region { address: bytes(inside) },
                _ => Place::PastEnd { block },
            };
            push(&mut extents, Extent { offset: bytes(index), length: BLOCK_BYTES, place });
        }
        // Entries without a block at the end are a count that is too large.
        while extents.last().is_some_and(|last| last.place == Place::NoBlock) {
            extents.pop();
        }
        if self.overflows(node, entries) {
            let more = node.num_mappings.min(MAX_BLOCKS).saturating_sub(PAGE_ENTRIES);
            extents.push(Extent { offset: bytes(PAGE_ENTRIES), length: bytes(more), place: Place::NoTable });
        }
        extents
    }

    /// Whether a file has more blocks than its page has entries. A count alone does not say so: it counts each new size.
    pub(super) fn overflows(&self, node: &Node, entries: &[u64]) -> bool {
        node.num_mappings > PAGE_ENTRIES && entries.len() == to_usize(PAGE_ENTRIES)
    }

    /// The size of a file: to the end of its last block, and whether there may be more. The driver shows
    /// `num_mappings` blocks.
    #[must_use]
    pub fn size(&self, ino: InodeNo, by: Option<By>) -> (u64, bool) {
        let (mut size, mut open) = (0_u64, false);
        for extent in self.extents(ino, by) {
            // What its count covers is lost, not absent from the file.
            size = extent.offset.saturating_add(extent.length);
            open |= matches!(extent.place, Place::Unknown { .. } | Place::NoTable);
        }
        (size, open)
    }
}

/// Adds an extent, to the last one if it continues that.
fn push(extents: &mut Vec<Extent>, next: Extent) {
    if let Some(last) = extents.last_mut() {
        let blocks = last.length.checked_div(BLOCK_BYTES).unwrap_or_default();
        let continues = match (last.place, next.place) {
            (Place::NoBlock, Place::NoBlock) => true,
            (Place::Region { address: one }, Place::Region { address }) => {
                one.checked_add(last.length) == Some(address)
            }
            (Place::PastEnd { block: one }, Place::PastEnd { block }) => one.checked_add(blocks) == Some(block),
            _ => false,
        };
        if continues {
            last.length = last.length.saturating_add(next.length);
            return;
        }
    }
    extents.push(next);
}

/// The nodes of the inodes in use.
fn nodes(inodes: &Inodes, walked: &Walked) -> BTreeMap<InodeNo, Node> {
    let node = |(ino, parent): (&InodeNo, &Option<InodeNo>)| {
        let raw = inodes.get(*ino).and_then(Result::ok).copied().unwrap_or_else(InodeRaw::new_zeroed);
        let mut node = Node {
            ino: *ino,
            parent: *parent,
            kind: Kind::of_flags(raw.flags.get()),
            flags: raw.flags.get(),
            name: raw.name().into(),
            mappings: raw.mappings.get(),
            num_mappings: raw.num_mappings.get(),
        };
        if *ino == InodeNo::ROOT {
            // Whatever its inode holds.
            node.kind = Some(Kind::Directory);
            node.name = b".".as_slice().into();
        }
        (*ino, node)
    };
    walked.parents.iter().map(node).collect()
}

/// The page with the inode numbers of the pages of mappings, without the zeros at its end.
fn read_table(memory: &dyn ReadAt, tree: Option<&HandOver>) -> Result<Vec<u32>, Option<Lack>> {
    let at = tree.and_then(|tree| tree.to_inode).ok_or(None)?;
    let mut bytes = [[0; 4]; 1024];
    memory.read_at(at.offset, bytes.as_flattened_mut()).map_err(|error| Some(Lack::from(&error)))?;
    let used = bytes.iter().rposition(|entry| *entry != [0; 4]).map_or(0, |last| last.saturating_add(1));
    Ok(bytes.iter().take(used).map(|entry| u32::from_le_bytes(*entry)).collect())
}

/// The pages of the files by the tree. Where the inode numbers cannot be read, they are those of the files in their order,
/// if there are as many.
fn by_tree(
    tree: Option<&HandOver>,
    table: &Result<Vec<u32>, Option<Lack>>,
    nodes: &BTreeMap<InodeNo, Node>,
) -> BTreeMap<InodeNo, u64> {
    let Some(tree) = tree else { return BTreeMap::new() };
    let pages = || tree.pages.iter().map(|page| page.offset).take(to_usize(TABLE_ENTRIES));
    let numbers: Vec<InodeNo> = match table {
        Ok(table) => table.iter().map(|ino| InodeNo(*ino)).collect(),
        Err(_) => {
            let files = nodes.values().filter(|node| node.kind == Some(Kind::File));
            let files: Vec<_> = files.map(|node| node.ino).filter(|ino| ino.0 <= super::LAST_HANDED_OVER).collect();
            if files.len() == tree.pages.len() && tree.whole { files } else { Vec::new() }
        }
    };
    let mut found = BTreeMap::new();
    for (ino, page) in numbers.into_iter().zip(pages()) {
        // Of two pages for one inode, the first.
        found.entry(ino).or_insert(page);
    }
    found
}

/// Virtual less physical addresses: by the superblock, else as most files have it.
fn direct_map(
    superblock: &Result<Superblock, Option<Lack>>,
    parts: &Parts,
    by_tree: &BTreeMap<InodeNo, u64>,
    inodes: &Inodes,
) -> Option<u64> {
    let possible = |offset: &u64| *offset >= UPPER_HALF;
    let said = superblock.as_ref().ok().and_then(|found| found.inodes.checked_sub(parts.inodes)).filter(possible);
    said.or_else(|| {
        let mut votes: BTreeMap<u64, u32> = BTreeMap::new();
        for (ino, page) in by_tree {
            let Some(Ok(inode)) = inodes.get(*ino) else { continue };
            if let Some(offset) = inode.mappings.get().checked_sub(*page).filter(possible) {
                let count = votes.entry(offset).or_default();
                *count = count.saturating_add(1);
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(offset, _)| offset)
    })
}
