//! Recognising a file system, and what leads to it, in memory.

use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use super::{
    ARRAY_BYTES, BITMAP_ALLOCATED, HandOver, INODE_BYTES, INODES, InodeRaw, ReadAt, Span, SuperblockRaw, len64, small,
};
use crate::chains::Linked as _;
use crate::{fdt, pkernfs};

/// Inodes behind the root that have to look like inodes.
const LOOKED_AT: u64 = 40;
/// So many of them may not.
const ODD: usize = 4;
/// Direct maps start at multiples of this.
const GIB: u64 = 1 << 30;
/// No direct map starts below: the upper half of virtual addresses.
const UPPER_HALF: u64 = 0xFF00_0000_0000_0000;

/// The hand-over whose device tree starts at `at`. Reads 4 bytes, and a page where they are the magic of a tree.
#[must_use]
pub fn tree_at(source: &dyn ReadAt, at: u64) -> Option<HandOver> {
    let mut magic = [0; 4];
    source.read_at(at, &mut magic).ok()?;
    (magic == fdt::MAGIC).then(|| HandOver::read(source, at)).flatten()
}

/// Whether a device tree of a guestmemfs file system starts at `at` that cannot be read: it is damaged, or has another form.
/// Reads 4 bytes, and the page where they are the magic of a tree.
#[must_use]
pub fn is_damaged_tree(source: &dyn ReadAt, at: u64) -> bool {
    const NAME: &[u8] = b"\0guestmemfs-v";
    let mut magic = [0; 4];
    if source.read_at(at, &mut magic).is_err() || magic != fdt::MAGIC || tree_at(source, at).is_some() {
        return false;
    }
    let mut page = vec![0; small(super::PAGE_BYTES)];
    source.read_at(at, &mut page).is_ok() && page.windows(NAME.len()).any(|found| found == NAME)
}

/// An array of inodes that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// Its physical address.
    pub at: u64,
    /// How many of the first inodes are in use.
    pub in_use: u32,
}

/// The array of inodes that starts at `at`, by its looks: a root, and what follows has the distances of inodes of 296 bytes,
/// and not those of pkernfs. Reads 12 KiB.
#[must_use]
pub fn array_at(source: &dyn ReadAt, at: u64) -> Option<Array> {
    let mut head = vec![0; small(LOOKED_AT.saturating_add(1).saturating_mul(INODE_BYTES))];
    source.read_at(at, &mut head).ok()?;
    let inodes = <[InodeRaw]>::ref_from_bytes(&head).ok()?;
    let (root, others) = inodes.split_first()?;
    if !root.is_root() || root.mappings != 0 || root.num_mappings != 0 {
        return None;
    }
    let odd = others.iter().filter(|inode| !is_plausible(inode)).count();
    // A new store of pkernfs looks alike up to its second inode.
    let before = at.checked_sub(pkernfs::INODES_OFFSET).and_then(|base| pkernfs::probe(source, base));
    if odd > ODD || before.is_some() {
        return None;
    }
    let in_use = others.iter().filter(|inode| inode.flags != 0).count();
    Some(Array { at, in_use: super::to_u32(len64(in_use)) })
}

/// Whether the inodes behind a root at `at` look like the driver's, whatever the root is. Zeros are none: a free inode leads to
/// the next one.
#[must_use]
pub fn inodes_after_root(source: &dyn ReadAt, at: u64) -> bool {
    let mut head = vec![0; small(LOOKED_AT.saturating_mul(INODE_BYTES))];
    let read = at.checked_add(INODE_BYTES).is_some_and(|first| source.read_at(first, &mut head).is_ok());
    let Ok(inodes) = <[InodeRaw]>::ref_from_bytes(&head) else { return false };
    let written = |inode: &&InodeRaw| inode.sibling_ino != 0 || inode.flags != 0;
    let odd = inodes.iter().filter(|inode| !is_plausible(inode)).count();
    read && odd <= ODD && inodes.iter().filter(written).count() > inodes.len() / 2
}

/// Whether this may be an inode behind the root.
fn is_plausible(inode: &InodeRaw) -> bool {
    let link = |value: u64| value <= INODES.into() || value == super::GHOST_LINK;
    let named = inode.filename.first() != Some(&0) && inode.filename.last() == Some(&0);
    let linked = link(inode.sibling_ino.get()) && link(inode.child_ino.get()) && inode.padding_1 == [0; 4];
    match inode.flags.get() {
        // After a restore a free inode may have a pointer.
        0 => linked && inode.filename == [0; 255] && inode.num_mappings == 0,
        1 => linked && named && inode.child_ino == 0 && inode.mappings >= UPPER_HALF,
        2 => linked && named,
        _ => false,
    }
}

/// What a boot loader tells a kernel about KHO of 2024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupData {
    /// The next record; 0 = none.
    pub next: u64,
    /// The device tree.
    pub tree: Span,
    /// The memory in which the next kernel starts, which nobody keeps anything in.
    pub scratch: Span,
    /// The list of ranges that are to be kept.
    pub mem_cache: Span,
}

/// The record of the boot loader that is at `at`, if it leads to a device tree in `source`. Reads 64 bytes.
#[must_use]
pub fn setup_data_at(source: &dyn ReadAt, at: u64) -> Option<SetupData> {
    let mut words = [[0; 8]; 8];
    source.read_at(at, words.as_flattened_mut()).ok()?;
    let [next, kind, rest @ ..] = words.map(u64::from_le_bytes);
    let [dt, dt_size, scratch, scratch_size, mem_cache, mem_cache_size] = rest;
    if kind != Words::SETUP_DATA || dt_size > fdt::MAX_SIZE || fdt::claimed_size(source, dt)? > dt_size {
        return None;
    }
    let scratch = Span::new(scratch, scratch_size);
    Some(SetupData { next, tree: Span::new(dt, dt_size), scratch, mem_cache: Span::new(mem_cache, mem_cache_size) })
}

/// Looks for what can be anywhere in memory, among words of 8 bytes: superblocks, by their pointers to arrays that are known,
/// and records of the boot loader. What it finds is to be verified with [`superblock_of`](Self::superblock_of) and
/// [`setup_data_at`].
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The addresses of the arrays.
    arrays: Vec<u64>,
    /// Where a superblock may be, and for which array.
    superblocks: Vec<(u64, u64)>,
    /// Where a record may be.
    records: Vec<u64>,
}

impl Words {
    /// Type 10 and length 48 of a record, as one word.
    const SETUP_DATA: u64 = 10 | 48 << 32;
    /// More finds than that are not kept: no memory has so many.
    const MOST: usize = 1024;

    /// For superblocks of these arrays.
    #[must_use]
    pub fn new(arrays: impl Into<Vec<u64>>) -> Self {
        Self { arrays: arrays.into(), ..Self::default() }
    }

    /// Looks through bytes that are at `at` of the memory. `at` is a multiple of 8.
    pub fn look(&mut self, at: u64, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<8>();
        for (here, word) in (at..).step_by(8).zip(words) {
            let word = u64::from_le_bytes(*word);
            if word == Self::SETUP_DATA {
                if let Some(start) = here.checked_sub(8).filter(|_| self.records.len() < Self::MOST) {
                    self.records.push(start);
                }
            } else if word >= UPPER_HALF {
                let offset = |array: &&u64| word.checked_sub(**array).is_some_and(|offset| offset % GIB == 0);
                let array = self.arrays.iter().find(offset).copied();
                if let Some((start, array)) = here.checked_sub(16).zip(array)
                    && self.superblocks.len() < Self::MOST
                {
                    self.superblocks.push((start, array));
                }
            }
        }
    }

    /// Where records of the boot loader may be.
    #[must_use]
    pub fn records(&self) -> &[u64] {
        &self.records
    }

    /// The superblock that points to an array, among what was found.
    #[must_use]
    pub fn superblock_of(&self, source: &dyn ReadAt, array: u64) -> Option<u64> {
        let mut here = self.superblocks.iter().filter(|(_, of)| *of == array).map(|(at, _)| *at);
        here.find(|at| is_superblock(source, *at, array))
    }
}

/// Whether the superblock of an array is at `at`: both pointers are of one direct map, and the numbers are possible.
fn is_superblock(source: &dyn ReadAt, at: u64, array: u64) -> bool {
    let mut found = SuperblockRaw::new_zeroed();
    if source.read_at(at, found.as_mut_bytes()).is_err() {
        return false;
    }
    let offset = found.inodes.get().wrapping_sub(array);
    let bitmap = found.allocator_bitmap.get().wrapping_sub(offset);
    let most = u64::from(INODES);
    let counts = found.next_free_ino.get() <= most && found.allocated_inodes.get() <= most.saturating_mul(1024);
    let apart = !Span::new(bitmap, BITMAP_ALLOCATED).meets(Span::new(array, ARRAY_BYTES));
    counts && offset >= UPPER_HALF && bitmap.is_multiple_of(BITMAP_ALLOCATED) && bitmap <= u64::MAX >> 12 && apart
}
