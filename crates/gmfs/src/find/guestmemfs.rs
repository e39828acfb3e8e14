//! guestmemfs v1: finds the file systems in a memory, and what refers to each.

use std::collections::BTreeSet;
use std::ops::Range;

use gmfs_format::Layout;
use gmfs_format::guestmemfs::{
    ARRAY_BYTES, Array, HandOver, Parts, SetupData, Superblock, Words, array_at, inodes_after_root, is_damaged_tree,
    setup_data_at, tree_at,
};
use gmfs_io::{ReadAt, ReadError, Span};
use gmfs_volume::locate::{self, Confidence};

use super::{Candidate, DEFAULT_STEP};

/// The boot loader puts the device tree that it hands over at a multiple of this, at least.
const TREE_STEP: u64 = 64 << 10;
/// Bytes that are read at once when all of a memory is searched.
const PIECE: usize = 1 << 20;
/// At most this many device trees are read: no memory has so many, and each can be large.
const MOST_TREES: usize = 256;
/// At most this many arrays of inodes are searched for.
const MOST_ARRAYS: usize = 256;
/// The length of a superblock without debugging of locks.
const SUPERBLOCK: u64 = 40;
const PAGE: u64 = 4096;

/// A file system that was found, with what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its parts are.
    pub parts: Parts,
    /// The addresses of the device trees that describe it: the kernel's own, and copies for the next kernel.
    pub trees: Vec<u64>,
    /// Records in which a boot loader told a kernel where one of these device trees is.
    pub setup_data: Vec<u64>,
    /// Another file system in the same memory took its place: this one is left over from an earlier mount.
    pub stale: bool,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The places where device trees for the next kernel are; all of memory only if there are arrays of inodes, and no
    /// device tree.
    Needed,
    /// All of memory too, if there are arrays of inodes that no device tree leads to.
    Full,
}

/// What is known of the memory before the search.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Arrays of inodes, at multiples of 2 MiB.
    pub(super) arrays: Vec<Array>,
}

impl Seen {
    /// Examines a place, whose first eight bytes are given.
    pub(super) fn look(&mut self, source: &dyn ReadAt, at: u64, first: u64) {
        // An array starts with the flags of the root, and padding.
        if first == 2 && at.is_multiple_of(ARRAY_BYTES) && self.arrays.len() < MOST_ARRAYS {
            self.arrays.extend(array_at(source, at));
        }
    }
}

/// Finds the file systems in a part of a memory. `step` is the distance of the places where device trees are looked
/// for, at most 64 KiB.
pub(super) fn search(
    source: &dyn ReadAt,
    range: &Range<u64>,
    step: u64,
    seen: &Seen,
    depth: Depth,
    mut progress: impl FnMut(u64),
) -> Result<Vec<Found>, ReadError> {
    let mut trees = Trees::default();
    let magic = u32::from_le_bytes(gmfs_format::fdt::MAGIC);
    locate::scan_with(source, range.clone(), step.min(TREE_STEP), &mut progress, |at, first| {
        // The magic is the lower half.
        if first & u64::from(u32::MAX) == u64::from(magic) {
            trees.look(source, at);
        } else if at.is_multiple_of(TREE_STEP) {
            trees.record(source, at);
        }
    })?;
    let led_to = |trees: &Trees, array: &Array| trees.found.iter().any(|found| found.parts.inodes == array.at);
    let left = |trees: &Trees| seen.arrays.iter().filter(|array| !led_to(trees, array)).map(|array| array.at).collect();
    let mut alone: Vec<u64> = left(&trees);
    let mut found = Vec::new();
    if !alone.is_empty() && (depth == Depth::Full || trees.found.is_empty()) {
        let mut words = Words::new(alone);
        through(source, range, progress, |at, bytes| {
            words.look(at, bytes);
            for (page, first) in (at..).step_by(4096).zip(bytes.chunks(4096)) {
                if first.starts_with(&gmfs_format::fdt::MAGIC) {
                    trees.look(source, page);
                }
            }
        })?;
        for record in words.records() {
            trees.record(source, *record);
        }
        alone = left(&trees);
        found.extend(alone.iter().map(|array| Found {
            parts: Parts {
                tree: None,
                damaged_tree: trees.damaged,
                superblock: words.superblock_of(source, *array).map(|at| Span::new(at, SUPERBLOCK)),
                inodes: *array,
            },
            trees: Vec::new(),
            setup_data: Vec::new(),
            stale: false,
        }));
    }
    found.append(&mut trees.found);
    mark_stale(source, &mut found);
    Ok(found)
}

/// The device trees that were found, as the file systems that they describe.
#[derive(Default)]
struct Trees {
    found: Vec<Found>,
    /// The first tree that cannot be read.
    damaged: Option<u64>,
    looked_at: BTreeSet<u64>,
    records: BTreeSet<u64>,
}

impl Trees {
    /// Reads a device tree. Returns the file system that it describes.
    fn look(&mut self, source: &dyn ReadAt, at: u64) -> Option<&mut Found> {
        if !self.looked_at.contains(&at) && self.looked_at.len() < MOST_TREES {
            self.looked_at.insert(at);
            if let Some(tree) = tree_at(source, at) {
                self.add(at, tree);
            } else if self.damaged.is_none() && is_damaged_tree(source, at) {
                self.damaged = Some(at);
            }
        }
        self.found.iter_mut().find(|found| found.trees.contains(&at))
    }

    fn add(&mut self, at: u64, tree: HandOver) {
        let of = |found: &HandOver| (found.region, found.superblock.offset, found.inodes.offset, found.pages.clone());
        let same = self.found.iter_mut().find(|found| {
            // A tree of which only the first page is there says the same, but less of it.
            let known = found.parts.tree.as_ref();
            known.is_some_and(|known| of(known) == of(&tree) || !known.whole && of(known).1 == of(&tree).1)
        });
        match same {
            Some(found) => {
                found.trees.push(at);
                if tree.whole && found.parts.tree.as_ref().is_some_and(|known| !known.whole) {
                    found.parts = tree.into();
                }
            }
            None => {
                let (trees, setup_data) = (vec![at], Vec::new());
                self.found.push(Found { parts: tree.into(), trees, setup_data, stale: false });
            }
        }
    }

    /// Reads what may be a record of the boot loader.
    fn record(&mut self, source: &dyn ReadAt, at: u64) {
        let Some(SetupData { tree, .. }) = setup_data_at(source, at) else { return };
        if self.records.insert(at)
            && let Some(found) = self.look(source, tree.offset)
        {
            found.setup_data.push(at);
        }
    }
}

/// Reads a range in order, as far as it is there and not zero, and passes on its bytes with their places.
fn through(
    source: &dyn ReadAt,
    range: &Range<u64>,
    mut progress: impl FnMut(u64),
    mut each: impl FnMut(u64, &[u8]),
) -> Result<(), ReadError> {
    let end = source.end().map_or(range.end, |end| end.min(range.end));
    let mut buffer = vec![0; PIECE];
    let mut at = range.start.next_multiple_of(PAGE);
    while at < end {
        progress(at);
        let Some(data) = source.next_data(at..end)? else { break };
        at = gmfs_io::num::round_down(data.start.max(at), PAGE).max(at);
        if let Some((absent, _)) = source.next_absent(at..at.saturating_add(PAGE).min(end))
            && absent.offset <= at
        {
            let whole = source.next_absent(at..end).map_or(absent, |(span, _)| span);
            at = whole.end().max(at.saturating_add(1)).checked_next_multiple_of(PAGE).unwrap_or(end);
            continue;
        }
        let len = gmfs_io::num::small(end.saturating_sub(at)).min(PIECE);
        let Some(piece) = buffer.get_mut(..len) else { break };
        if source.read_at(at, piece).is_ok() {
            each(at, piece);
        } else {
            let pages = (at..).step_by(4096).zip(piece.chunks_mut(4096));
            for (place, page) in pages {
                if source.read_at(place, page).is_ok() {
                    each(place, page);
                }
            }
        }
        at = at.saturating_add(gmfs_io::num::len64(len));
    }
    Ok(())
}

/// Marks the file systems that earlier mounts have left behind. Of several file systems in one region, only the one
/// that was mounted last is not stale. A device tree describes the file system that was the last one when the tree was
/// written. A superblock says that its file system is handed over, until a kernel restores it. A file system whose
/// region no tree names counts as one of the same region.
fn mark_stale(source: &dyn ReadAt, found: &mut [Found]) {
    let rank = |found: &Found| {
        let superblock = found.parts.superblock.and_then(|span| Superblock::read(source, span).ok());
        let serialised = superblock.is_some_and(|superblock| superblock.serialised == Some(1));
        let region = found.parts.tree.as_ref().map(|tree| tree.region);
        (region, (region.is_some(), serialised, !found.setup_data.is_empty()))
    };
    let ranks: Vec<_> = found.iter().map(rank).collect();
    for (found, (region, rank)) in found.iter_mut().zip(&ranks) {
        found.stale = ranks.iter().any(|(other, better)| better > rank && (region.is_none() || other == region));
    }
}

impl Found {
    /// The file system as a candidate.
    pub(super) fn candidate(self, source: &dyn ReadAt) -> Candidate {
        let there = array_at(source, self.parts.inodes).is_some();
        let confidence = match (&self.parts.tree, there) {
            _ if self.stale => Confidence::Possible,
            (Some(tree), true) if tree.other_form.is_some() => Confidence::Likely,
            (Some(_), true) => Confidence::Certain,
            (Some(tree), false) => {
                // Its root is damaged, its memory is not in the image, or is used for something else now.
                let absent = source.next_absent(tree.inodes.offset..tree.inodes.end()).is_some();
                if absent || inodes_after_root(source, tree.inodes.offset) {
                    Confidence::Likely
                } else {
                    Confidence::Possible
                }
            }
            (None, _) if self.parts.superblock.is_some() => Confidence::Likely,
            (None, _) => Confidence::Possible,
        };
        let region = self.parts.tree.as_ref().map(|tree| tree.region);
        let span = region.unwrap_or(Span::new(self.parts.inodes, ARRAY_BYTES));
        Candidate {
            layout: Layout::Guestmemfs,
            base: span.offset,
            size: span.len,
            size_recorded: region.is_some(),
            uuid: None,
            label: Vec::new(),
            confidence,
            guestmemfs: Some(Box::new(self)),
            detail: None,
        }
    }

    /// Whether an address names it: that of its region, of its array of inodes, or of one of its device trees.
    #[must_use]
    pub fn is_at(&self, address: u64) -> bool {
        let region = self.parts.tree.as_ref().map(|tree| tree.region.offset);
        region == Some(address) || self.parts.inodes == address || self.trees.contains(&address)
    }
}

/// Whether a search that found these has to go on for file systems of guestmemfs.
pub(super) fn is_wanted(found: &[Candidate], seen: &Seen, depth: Depth) -> bool {
    let sure = found.iter().any(|candidate| candidate.confidence != Confidence::Possible);
    depth == Depth::Full || !seen.arrays.is_empty() || !sure
}

const _: () = assert!(DEFAULT_STEP == ARRAY_BYTES);
