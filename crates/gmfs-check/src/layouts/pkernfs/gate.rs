//! Judges the edits of a repair before any of them is written, by what the store is before and after. It reads the records
//! by itself, and knows nothing of the plan.

use std::collections::{BTreeMap, BTreeSet};

use gmfs_format::native::raw::OnMemory as _;
use gmfs_format::native::units::{BlockNo, InodeNo, small};
use gmfs_format::pkernfs::{
    BITMAP_BYTES, BITMAP_OFFSET, BLOCK_BYTES, FIRST_BLOCK, GHOST, INODES, INODES_OFFSET, InodeRaw, Kind, Store,
    TABLE_ENTRIES,
};
use gmfs_io::{Overlay, ReadAt, Span, WriteAt as _};

use super::edit::{PkernfsEdit, Write};

/// A law that an edit would break.
pub type Law = &'static str;

/// Bytes of a table that are read at once.
const PIECE: u64 = 64 << 10;

/// What must not be lost of a store.
struct Facts {
    blocks: u32,
    /// Blocks that any record leads to: of inodes in use, and of free ones that may have been files.
    reached: BTreeSet<u32>,
    /// The entries of each mappings table that name blocks of the region, by the block of the table.
    tables: BTreeMap<u32, Vec<(u32, u32)>>,
    /// What paths lead to: files by the block of their table, directories by their number.
    linked: BTreeSet<(bool, u32)>,
    marks: Vec<u8>,
}

/// Judges edits that are to be made together.
///
/// # Errors
/// The law that they would break.
pub fn judge(source: &dyn ReadAt, size: u64, edits: &[&PkernfsEdit]) -> Result<(), Law> {
    let before = Facts::gather(source, size)?;
    let mut after = Overlay::new(source);
    for write in edits.iter().flat_map(|edit| edit.writes()) {
        before.require_place(write)?;
        after.write_at(write.at, &write.after).map_err(|_| "what is written cannot be judged")?;
    }
    let after = Facts::gather(&after, size)?;
    for (table, entries) in &before.tables {
        if after.tables.get(table) != Some(entries) {
            return Err("each file keeps its blocks");
        }
    }
    if !before.linked.is_subset(&after.linked) {
        return Err("what a path leads to keeps a path");
    }
    let freed = |block: &&u32| before.is_marked(**block) && !after.is_marked(**block);
    if before.reached.union(&after.reached).any(|block| freed(&block)) {
        return Err("no block that a record leads to becomes free");
    }
    Ok(())
}

impl Facts {
    fn gather(source: &dyn ReadAt, size: u64) -> Result<Self, Law> {
        const UNREADABLE: Law = "all metadata can be read";
        let store = Store::read(source, 0, size).map_err(|_| "the store is still one")?;
        let mut marks = vec![0; small(BITMAP_BYTES)];
        source.read_at(BITMAP_OFFSET, &mut marks).map_err(|_| UNREADABLE)?;
        let blocks = store.blocks();
        let (mut reached, mut tables) = (BTreeSet::from([0, 1]), BTreeMap::new());
        for ino in (1..=INODES).map(InodeNo).chain([GHOST]) {
            let raw = store.raw_inode(ino).and_then(Result::ok).ok_or(UNREADABLE)?;
            let Some(block) = owned(raw, blocks) else { continue };
            reached.insert(block);
            if Kind::of_flags(raw.flags.get()).is_some_and(Kind::is_page_tables) {
                continue;
            }
            let entries = table(source, block, blocks).ok_or(UNREADABLE)?;
            reached.extend(entries.iter().map(|(_, block)| *block));
            // A record whose flags are none of a file's may be anything: its blocks are kept, its table may not be one.
            if Kind::of_flags(raw.flags.get()) == Some(Kind::File) {
                tables.insert(block, entries);
            }
        }
        let linked = store.nodes().filter(|node| store.path(node.ino).is_some());
        let linked = linked.filter_map(|node| match node.kind {
            Some(kind) if kind.is_directory() => Some((true, node.ino.0)),
            Some(_) if in_region(node.mappings_block, blocks) => Some((false, node.mappings_block.0)),
            _ => None,
        });
        let linked = linked.collect();
        Ok(Self { blocks, reached, tables, linked, marks })
    }

    fn is_marked(&self, block: u32) -> bool {
        let byte = self.marks.get(small(u64::from(block >> 3))).copied().unwrap_or_default();
        byte & 1_u8.rotate_left(block & 7) != 0
    }

    /// Metadata has fixed places. In tables only entries that name no block of the region may be cleared.
    fn require_place(&self, write: &Write) -> Result<(), Law> {
        const PLACES: Law = "only metadata is written";
        let span = write.span();
        let within = |place: Span| place.offset <= span.offset && span.end() <= place.end();
        let fixed = [
            Span::new(0, 16),
            Span::new(BITMAP_OFFSET, INODES_OFFSET.saturating_sub(BITMAP_OFFSET)),
            Span::new(INODES_OFFSET, BLOCK_BYTES),
        ];
        if write.before.len() != write.after.len() {
            return Err(PLACES);
        }
        if fixed.into_iter().any(within) {
            return Ok(());
        }
        let block = u32::try_from(span.offset.checked_div(BLOCK_BYTES).unwrap_or_default()).map_err(|_| PLACES)?;
        let whole = Span::new(u64::from(block).saturating_mul(BLOCK_BYTES), BLOCK_BYTES);
        let entries = write.before.as_chunks::<8>();
        let past = |entry: &[u8; 8]| u64::from_le_bytes(*entry) >= self.blocks.into();
        let cleared = write.after.iter().all(|byte| *byte == 0) && entries.1.is_empty() && entries.0.iter().all(past);
        let aligned = span.offset.is_multiple_of(8);
        if self.tables.contains_key(&block) && within(whole) && cleared && aligned { Ok(()) } else { Err(PLACES) }
    }
}

const fn in_region(block: BlockNo, blocks: u32) -> bool {
    block.0 >= FIRST_BLOCK.0 && block.0 < blocks
}

/// The block that a record names, if that is one that a file can have.
fn owned(raw: &InodeRaw, blocks: u32) -> Option<u32> {
    debug_assert!(raw.bytes().len() == 288);
    Some(raw.mappings_block.get()).filter(|block| in_region(BlockNo(*block), blocks))
}

/// The entries of a table that name blocks of the region that a file can have; `None` if some cannot be read.
fn table(source: &dyn ReadAt, block: u32, blocks: u32) -> Option<Vec<(u32, u32)>> {
    let start = u64::from(block).saturating_mul(BLOCK_BYTES);
    let end = start.saturating_add(BLOCK_BYTES);
    let mut found = Vec::new();
    let mut buffer = vec![0; small(PIECE)];
    let mut at = start;
    while at < end {
        match source.next_data(at..end) {
            Ok(None) => break,
            Ok(Some(data)) => {
                let skipped = data.start.saturating_sub(start).checked_div(PIECE)?.saturating_mul(PIECE);
                at = at.max(start.saturating_add(skipped));
            }
            Err(_) => {}
        }
        source.read_at(at, &mut buffer).ok()?;
        let first = u32::try_from(at.saturating_sub(start) >> 3).ok()?;
        for (entry, bytes) in (first..TABLE_ENTRIES).zip(buffer.as_chunks::<8>().0) {
            let named = u32::try_from(u64::from_le_bytes(*bytes)).ok();
            found.extend(named.filter(|block| in_region(BlockNo(*block), blocks)).map(|block| (entry, block)));
        }
        at = at.saturating_add(PIECE);
    }
    Some(found)
}
