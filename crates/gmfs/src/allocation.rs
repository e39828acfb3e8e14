//! What the blocks of a store are used for, as stretches, and how large a guest its free memory can take.
//!
//! ```
//! # fn example(store: &gmfs::Store) -> Result<(), Box<dyn std::error::Error>> {
//! use gmfs::allocation::{Fits, FreeSpace};
//! if let Some(free) = FreeSpace::of(store) {
//!     println!("{} bytes are free, {} of them in one piece", free.bytes, free.largest.map_or(0, |run| run.len));
//!     let Fits { pieces, aligned, .. } = free.fits(64 << 30);
//!     println!("a guest of 64 GiB fits: {pieces}; mapped by pages of 1 GiB: {aligned}");
//! }
//! # Ok(())
//! # }
//! ```

use gmfs_format::guestmemfs::BLOCK_BYTES as GUESTMEMFS_BLOCK;
use gmfs_format::model::InodeNo;
use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::tables::BlockState;
use gmfs_format::native::units::{BlockNo, PageNo};
use gmfs_format::pkernfs::{BLOCK_BYTES as PKERNFS_BLOCK, FIRST_BLOCK, Kind};
use gmfs_io::num::{round_down, small};
use gmfs_volume::alloc::PUD_BYTES;
use gmfs_volume::region::Region;

use crate::open::Source;
use crate::store::{Guestmemfs, Pkernfs, Store, What};

/// Adjacent bytes of a store that are used for the same purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stretch {
    /// Offset in the store, in bytes.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
    /// What it is used for.
    pub what: What,
    /// The file that has it. Its blocks may be anywhere in the file, in any order.
    pub ino: Option<InodeNo>,
}

impl Stretch {
    /// Where it ends.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.at.saturating_add(self.len)
    }
}

/// Joins neighbouring stretches that have the same use, and passes them on.
struct Join<F> {
    open: Option<Stretch>,
    each: F,
}

impl<F: FnMut(Stretch)> Join<F> {
    fn add(&mut self, next: Stretch) {
        if next.len == 0 {
            return;
        }
        match &mut self.open {
            Some(open) if open.end() == next.at && (open.what, open.ino) == (next.what, next.ino) => {
                open.len = open.len.saturating_add(next.len);
            }
            open => {
                if let Some(done) = open.replace(next) {
                    (self.each)(done);
                }
            }
        }
    }

    fn end(mut self) {
        if let Some(done) = self.open.take() {
            (self.each)(done);
        }
    }
}

impl Store {
    /// Calls `each` with what every byte of the store is used for, in order and without gaps. In a store of the native
    /// layout, this is one pass over its block table, and its memory does not grow with the region. Returns `false` for
    /// a hand-over, which has no memory of its own: `each` is not called then.
    #[must_use]
    pub fn stretches(&self, each: impl FnMut(Stretch) + Send) -> bool {
        let mut join = Join { open: None, each };
        if let Ok(region) = self.native() {
            native(region, &mut join);
        } else if let Some(store) = self.pkernfs() {
            pkernfs(self, store, &mut join);
        } else if let Some(store) = self.guestmemfs() {
            guestmemfs(self, store, &mut join);
        } else {
            return false;
        }
        join.end();
        true
    }
}

fn native<F: FnMut(Stretch) + Send>(region: &Region<Source>, join: &mut Join<F>) {
    let geometry = region.geometry();
    let stretch = |from: BlockNo, to: BlockNo, what, ino| {
        let at = geometry.block_offset(from);
        Stretch { at, len: geometry.block_offset(to).saturating_sub(at), what, ino }
    };
    let next = |block: BlockNo| BlockNo(block.0.saturating_add(1));
    join.add(stretch(BlockNo(0), geometry.first_data(), What::Metadata, None));
    let mut reached = geometry.first_data();
    region.descriptors(|block, entry| {
        // Pages of the table that cannot be read are left out of the pass, so that their blocks are lost.
        join.add(stretch(reached, block.max(reached), What::Lost, None));
        let what = match entry.state() {
            Some(BlockState::Data) => What::File,
            Some(BlockState::Free) if *entry == BlockRaw::FREE => What::Free,
            Some(BlockState::Bad) => What::Bad,
            Some(BlockState::Reserved) => What::Reserved,
            Some(BlockState::Free) | None => What::Unknown,
        };
        join.add(stretch(block, next(block), what, entry.is_mapping().then(|| entry.owner())));
        reached = next(block);
    });
    let mark = geometry.first_block_of(PageNo(region.superblock().used_table_pages().end)).min(geometry.end_data());
    join.add(stretch(reached, mark.max(reached), What::Lost, None));
    join.add(stretch(mark.max(reached), geometry.end_data(), What::Free, None));
    join.add(stretch(geometry.end_data(), BlockNo(geometry.blocks()), What::Metadata, None));
    let end = geometry.block_offset(BlockNo(geometry.blocks()));
    join.add(Stretch { at: end, len: geometry.size().saturating_sub(end), what: What::Tail, ino: None });
}

/// The blocks of a store that has a bitmap. The bitmap bounds their number.
struct Blocks {
    bytes: u64,
    cells: Vec<(What, Option<InodeNo>)>,
}

impl Blocks {
    fn new(bytes: u64, count: u32) -> Self {
        Self { bytes, cells: vec![(What::Lost, None); small(count.into())] }
    }

    fn marked(&mut self, block: u64, marked: Option<bool>) {
        if let Some(cell) = self.cells.get_mut(small(block)) {
            cell.0 = match marked {
                Some(true) => What::Leaked,
                Some(false) => What::Free,
                None => What::Lost,
            };
        }
    }

    /// Gives a block to its first owner.
    fn own(&mut self, block: u64, what: What, ino: Option<InodeNo>) {
        if let Some(cell) =
            self.cells.get_mut(small(block)).filter(|cell| !matches!(cell.0, What::File | What::Metadata))
        {
            *cell = (what, ino);
        }
    }

    fn files(&mut self, files: impl IntoIterator<Item = (InodeNo, Vec<crate::store::Run>)>) {
        for (ino, run) in files.into_iter().flat_map(|(ino, runs)| runs.into_iter().map(move |run| (ino, run))) {
            let first = run.at.checked_div(self.bytes).unwrap_or_default();
            let count = run.len.checked_div(self.bytes).unwrap_or_default();
            for block in (first..first.saturating_add(count)).take(self.cells.len()) {
                self.own(block, What::File, Some(ino));
            }
        }
    }

    fn hand_out<F: FnMut(Stretch)>(self, size: u64, join: &mut Join<F>) {
        let mut at = 0_u64;
        for (what, ino) in self.cells {
            let len = self.bytes.min(size.saturating_sub(at));
            join.add(Stretch { at, len, what, ino });
            at = at.saturating_add(len);
        }
        join.add(Stretch { at, len: size.saturating_sub(at), what: What::Tail, ino: None });
    }
}

fn pkernfs<F: FnMut(Stretch)>(all: &Store, of: &Pkernfs, join: &mut Join<F>) {
    let store = of.store();
    let mut blocks = Blocks::new(PKERNFS_BLOCK, store.blocks());
    store.marks(all.source(), |block, marked| blocks.marked(block.0.into(), marked));
    for block in 0..FIRST_BLOCK.0 {
        blocks.own(block.into(), What::Metadata, None);
    }
    let directory = |kind| matches!(kind, Some(Kind::Directory | Kind::IommuDirectory) | None);
    for node in store.nodes().filter(|node| !directory(node.kind) && node.mappings_block >= FIRST_BLOCK) {
        // A page table is content of its file. The table of a regular file is metadata.
        let (what, ino) = match node.kind {
            Some(Kind::File) => (What::Metadata, None),
            _ => (What::File, Some(node.ino)),
        };
        blocks.own(node.mappings_block.0.into(), what, ino);
    }
    blocks.files(all.runs(|_| true).files);
    blocks.hand_out(store.size(), join);
}

fn guestmemfs<F: FnMut(Stretch)>(all: &Store, of: &Guestmemfs, join: &mut Join<F>) {
    let store = of.store();
    let mut blocks = Blocks::new(GUESTMEMFS_BLOCK, store.blocks());
    for block in (0..store.blocks()).map(BlockNo) {
        blocks.marked(block.0.into(), store.is_marked(block));
    }
    blocks.files(all.runs(|_| true).files);
    blocks.hand_out(all.size(), join);
}

/// A stretch of free memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FreeRun {
    /// Offset in the store, in bytes.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
}

impl FreeRun {
    /// The longer one; of equal ones, the first.
    fn longer(one: Option<Self>, other: Self) -> Option<Self> {
        one.filter(|one| one.len >= other.len).or_else(|| Some(other).filter(|other| other.len > 0))
    }
}

/// The free memory of a store, in runs that are as long as possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FreeSpace {
    /// All of it, in bytes.
    pub bytes: u64,
    /// In how many runs.
    pub runs: u64,
    /// The longest run.
    pub largest: Option<FreeRun>,
    /// In how many runs there is at least one whole GiB that starts at a multiple of 1 GiB of physical address.
    pub aligned_runs: u64,
    /// How many such GiB there are.
    pub aligned_gib: u64,
    /// The longest run of them.
    pub largest_aligned: Option<FreeRun>,
    /// The longest piece of less than 1 GiB that starts at a multiple of 1 GiB, in bytes: room for the rest of a guest.
    aligned_rest: u64,
    /// How many bytes may be free or not: what describes them cannot be read, or contradicts itself.
    pub unknown: u64,
}

/// Whether the free memory takes a guest of some size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fits {
    /// There is enough of it, in one run or in several.
    pub pieces: bool,
    /// There is a run that is long enough.
    pub one_run: bool,
    /// Each whole GiB of it, and the rest, can start at a multiple of 1 GiB of physical address.
    pub aligned: bool,
}

impl FreeSpace {
    /// The free memory of a store; `None` for a hand-over, which has no memory of its own.
    ///
    /// Addresses are physical if it is known where the store is in memory. Otherwise the start of the store counts as a
    /// multiple of 1 GiB, as it does when files are allocated.
    #[must_use]
    pub fn of(store: &Store) -> Option<Self> {
        let base = store.physical_base().unwrap_or(0);
        let mut found = Self::default();
        let known = store.stretches(|stretch| found.add(&stretch, base));
        known.then_some(found)
    }

    /// Counts a stretch of a store that is at this physical address.
    pub fn add(&mut self, stretch: &Stretch, base: u64) {
        match stretch.what {
            What::Free => {}
            What::Lost | What::Unknown => {
                self.unknown = self.unknown.saturating_add(stretch.len);
                return;
            }
            _ => return,
        }
        self.bytes = self.bytes.saturating_add(stretch.len);
        self.runs = self.runs.saturating_add(1);
        self.largest = FreeRun::longer(self.largest, FreeRun { at: stretch.at, len: stretch.len });
        let (from, to) = (base.saturating_add(stretch.at), base.saturating_add(stretch.end()));
        let Some(first) = from.checked_next_multiple_of(PUD_BYTES).filter(|first| *first < to) else { return };
        let last = round_down(to, PUD_BYTES);
        self.aligned_rest = self.aligned_rest.max(to.saturating_sub(last));
        let len = last.saturating_sub(first);
        let gib = len.checked_div(PUD_BYTES).unwrap_or_default();
        self.aligned_gib = self.aligned_gib.saturating_add(gib);
        self.aligned_runs = self.aligned_runs.saturating_add(u64::from(gib > 0));
        let at = first.saturating_sub(base);
        self.largest_aligned = FreeRun::longer(self.largest_aligned, FreeRun { at, len });
    }

    /// Whether a file of `size` bytes can be made. Free memory comes in whole blocks, so that the rest of the last
    /// block needs no room of its own.
    #[must_use]
    pub fn fits(&self, size: u64) -> Fits {
        let whole = size.checked_div(PUD_BYTES).unwrap_or_default();
        let rest = size.checked_rem(PUD_BYTES).unwrap_or_default();
        let rest_fits = rest == 0 || self.aligned_gib > whole || self.aligned_rest >= rest;
        Fits {
            pieces: self.bytes >= size,
            one_run: size == 0 || self.largest.is_some_and(|run| run.len >= size),
            aligned: self.aligned_gib >= whole && rest_fits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const GIB: u64 = 1 << 30;

    fn free(at: u64, len: u64) -> Stretch {
        Stretch { at, len, what: What::Free, ino: None }
    }

    #[test]
    fn stretches_cover_a_region_without_gaps() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(&testing::region(dir.path())).unwrap();
        let mut found = Vec::new();
        assert!(store.stretches(|stretch| found.push(stretch)));
        let mut at = 0;
        for stretch in &found {
            assert_eq!(stretch.at, at);
            at = stretch.end();
            // The same is said of each byte.
            let owner = store.owner(stretch.at);
            assert_eq!((owner.what, owner.file.map(|file| file.0)), (stretch.what, stretch.ino));
        }
        assert_eq!(at, store.size());
        let usage = store.usage();
        let blocks = |what| {
            let bytes: u64 = found.iter().filter(|one| one.what == what).map(|one| one.len).sum();
            bytes / store.block_bytes()
        };
        assert_eq!(
            (blocks(What::Free), blocks(What::File), blocks(What::Metadata)),
            (usage.free, usage.data, usage.metadata)
        );
        assert_eq!(FreeSpace::of(&store).unwrap().bytes, usage.free * store.block_bytes());
    }

    #[test]
    fn whole_gibibytes_are_counted_by_physical_address() {
        let mut space = FreeSpace::default();
        let base = 4 * GIB + (GIB / 2);
        for stretch in [free(0, GIB), free(2 * GIB, 3 * GIB), Stretch { what: What::File, ..free(5 * GIB, GIB) }] {
            space.add(&stretch, base);
        }
        assert_eq!((space.bytes, space.runs, space.largest), (4 * GIB, 2, Some(FreeRun { at: 2 * GIB, len: 3 * GIB })));
        assert_eq!((space.aligned_runs, space.aligned_gib), (1, 2));
        assert_eq!(space.largest_aligned, Some(FreeRun { at: 2 * GIB + GIB / 2, len: 2 * GIB }));
        let fits = |size| {
            let Fits { pieces, one_run, aligned } = space.fits(size);
            (pieces, one_run, aligned)
        };
        assert_eq!(fits(0), (true, true, true));
        assert_eq!(fits(2 * GIB), (true, true, true));
        // The half GiB that starts at a multiple takes the rest, and no more.
        assert_eq!(fits(2 * GIB + GIB / 2), (true, true, true));
        assert_eq!(fits(2 * GIB + GIB / 2 + 1), (true, true, false));
        assert_eq!(fits(4 * GIB), (true, false, false));
        assert_eq!(fits(4 * GIB + 1), (false, false, false));
    }

    #[test]
    fn nothing_free_takes_nothing() {
        let Fits { pieces, one_run, aligned } = FreeSpace::default().fits(1);
        assert_eq!((pieces, one_run, aligned), (false, false, false));
        assert_eq!(FreeSpace::default().largest, None);
    }
}
