//! The tables of a native region as runs: of blocks that have one state and one owner, and of metadata pages that are in one
//! state.

use gmfs_format::native::copies::Judgement;
use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::seal::PageKind;
use gmfs_format::native::units::{BlockNo, PageNo};
use gmfs_io::ReadAt;
use gmfs_volume::Region;
use gmfs_volume::superblocks::used_tables;
use gmfs_volume::sweep::{Frame, sweep};

/// Consecutive blocks that have one state and one owner; of a file, they are consecutive in it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockRun {
    /// The first block.
    pub first: BlockNo,
    /// How many there are.
    pub count: u32,
    /// The descriptor of the first one.
    pub entry: BlockRaw,
}

impl BlockRun {
    /// Whether these blocks continue the run: same state, and the next blocks of the same file.
    fn takes(&self, block: BlockNo, entry: &BlockRaw) -> bool {
        let (own, next) = (&self.entry, self.first.0.checked_add(self.count));
        let same =
            (own.owner, own.state, own.flags, own.reserved) == (entry.owner, entry.state, entry.flags, entry.reserved);
        let index = if entry.is_mapping() { own.index.get().checked_add(self.count) } else { Some(own.index.get()) };
        next == Some(block.0) && same && index == Some(entry.index.get())
    }
}

/// The data blocks of a region as runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockRuns {
    /// The runs, ascending. Blocks whose descriptors are lost are in none.
    pub runs: Vec<BlockRun>,
    /// Pages of the block table that cannot be read.
    pub lost_pages: u64,
}

impl BlockRuns {
    fn add(&mut self, first: BlockNo, count: u32, entry: &BlockRaw) {
        match self.runs.last_mut() {
            Some(run) if run.takes(first, entry) => run.count = run.count.saturating_add(count),
            _ => self.runs.push(BlockRun { first, count, entry: *entry }),
        }
    }
}

/// All data blocks of a region, in one pass over its block table.
pub fn blocks<S: ReadAt>(region: &Region<S>) -> BlockRuns {
    let mut found = BlockRuns::default();
    found.lost_pages = region.descriptors(|block, entry| found.add(block, 1, entry));
    // Past the high-water mark everything is free.
    let geometry = region.geometry();
    let mark = geometry.first_block_of(PageNo(region.superblock().used_table_pages().end));
    let free = geometry.end_data().0.saturating_sub(mark.0);
    if free > 0 {
        found.add(mark, free, &BlockRaw::FREE);
    }
    found
}

/// Consecutive metadata pages of one kind, of which both copies are in the same states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageRun {
    /// The first page.
    pub first: PageNo,
    /// How many there are.
    pub count: u64,
    /// What they hold.
    pub kind: Option<PageKind>,
    /// What was judged of both copies.
    pub judgement: Judgement,
}

/// All metadata pages of a region that are in use, the superblock first, in one pass over both copies.
pub fn pages<S: ReadAt>(region: &Region<S>) -> Vec<PageRun> {
    let (superblocks, geometry) = (region.superblocks(), region.geometry());
    let run = |first, judgement| PageRun { first, count: 1, kind: geometry.page_kind(first), judgement };
    let mut runs = vec![run(PageNo(0), superblocks.judgement())];
    for (_, pages) in used_tables(region.superblock()) {
        let visit = |frame: &Frame<'_>| {
            let next = run(frame.page, frame.judgement);
            match runs.last_mut() {
                Some(last)
                    if (last.judgement, last.kind) == (next.judgement, next.kind)
                        && u64::from(last.first.0).saturating_add(last.count) == u64::from(next.first.0) =>
                {
                    last.count = last.count.saturating_add(1);
                }
                _ => runs.push(next),
            }
        };
        sweep(region.source(), superblocks, pages, vec![visit]);
    }
    runs
}

#[cfg(test)]
mod tests {
    use gmfs_format::model::InodeNo;

    use super::*;

    #[test]
    fn a_run_ends_where_the_file_or_its_offset_changes() {
        let mut found = BlockRuns::default();
        for (block, owner, index) in [(4, 2, 0), (5, 2, 1), (6, 2, 5), (7, 3, 6), (9, 3, 7)] {
            found.add(BlockNo(block), 1, &BlockRaw::data(InodeNo(owner), index));
        }
        found.add(BlockNo(10), 5, &BlockRaw::FREE);
        found.add(BlockNo(15), 2, &BlockRaw::FREE);
        let runs: Vec<_> = found.runs.iter().map(|run| (run.first.0, run.count)).collect();
        assert_eq!(runs, [(4, 2), (6, 1), (7, 1), (9, 1), (10, 7)]);
    }
}
