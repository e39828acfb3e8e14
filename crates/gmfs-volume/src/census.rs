//! Collects what all pages of a region say, in one pass. These are the facts that the decision is based on.
//!
//! A *statement* is a page with a good seal at the location that its header names, before its own high-water marks. The
//! census needs 24 bytes of memory for each table page before the marks.

use std::ops::Range;

use gmfs_format::native::copies::Found;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::seal::{self, PageKind, SealFault};
use gmfs_format::native::sum::{GROUPS, Marks, Sum, Trailer, group};
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::{CopyId, Generation, PageBytes, PageNo, len64, to_u32, to_usize};
use uuid::Uuid;

use crate::sweep::{Frame, Visit};

/// Stands for the generation of a page with a magic and a broken seal, which an interrupted write may have left.
const TORN: u64 = u64::MAX;
/// The maximum number of different statements of the newest generation that are kept. More are not needed.
const WITNESSES: usize = 4;
/// The maximum number of other regions that are distinguished.
const STRANGERS: usize = 8;

/// Distinguishes a region from all others: its UUID, its birth, and its layout without the bytes past the last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The UUID.
    pub uuid: Uuid,
    /// A random number, drawn when the region was made or restored.
    pub birth: u64,
    /// Its layout.
    pub geometry: Geometry,
}

impl Identity {
    /// The identity of a superblock's region.
    #[must_use]
    pub fn of(superblock: &Superblock) -> Self {
        let (uuid, birth) = (superblock.uuid, superblock.birth);
        Self { uuid, birth, geometry: superblock.geometry().without_tail() }
    }

    /// The identity of the region that a page claims to belong to, and the copy and page number that the page claims.
    /// `None` if it has no good seal, or is not at the location that it names, `offset` bytes from the start of the
    /// region.
    #[must_use]
    pub fn claimed(bytes: &PageBytes, offset: u64) -> Option<(Self, CopyId, PageNo)> {
        let (place, _) = seal::claim(bytes)?;
        let lies_there = place.geometry.page_kind(place.page) == Some(place.kind)
            && place.geometry.page_offset(place.copy, place.page) == offset;
        let (uuid, birth, geometry) = (place.uuid, place.birth, place.geometry);
        lies_there.then_some((Self { uuid, birth, geometry }, place.copy, place.page))
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:016x}", self.uuid, self.birth)
    }
}

/// Another region with pages at this region's page locations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The identity of that region.
    pub identity: Identity,
    /// How many of its pages were seen.
    pub pages: u64,
    /// For each table of this region, the lowest mark that a page of the other region is before.
    nearest: Marks,
}

impl Stranger {
    /// Whether a page of it is before these marks of this region. Pages past the marks do not count.
    #[must_use]
    pub const fn lies_before(&self, marks: Marks) -> bool {
        self.nearest.table <= marks.table || self.nearest.inodes <= marks.inodes
    }
}

/// The statements of consecutive pages: their generations, or 0 for a page without a statement.
#[derive(Clone, Debug, Default)]
struct Column {
    first: u32,
    copies: [Vec<u64>; 2],
    /// The CRCs of the statements. By its CRC, a page that was written from a statement can be recognised.
    crcs: [Vec<u32>; 2],
}

/// The facts about one region.
#[derive(Clone, Debug, Default)]
pub struct Census {
    columns: Vec<Column>,
    /// The highest generation of any statement, superblocks included.
    top: Generation,
    /// The marks and sums in the statements of that generation.
    witnesses: Vec<(Marks, Sum)>,
    /// Whether a statement of that generation is a superblock or is in copy B.
    evidenced: bool,
    /// The highest marks in any statement, by copy.
    marks: [Marks; 2],
    /// The lowest marks that cover each location, in either copy, that has anything but zeros, whether it is a
    /// statement or not.
    occupied: Marks,
    /// Pages whose two statements have one generation and differ, in ascending order.
    conflicts: Vec<PageNo>,
    /// Regions with pages at locations of this one.
    strangers: Vec<Stranger>,
    /// Whether there were more such regions than are distinguished.
    more_strangers: bool,
    statements: u64,
    /// Pages that the image does not hold, or that the medium cannot read, by copy.
    unseen: [u64; 2],
    /// Copies that contain a statement.
    present: [bool; 2],
}

impl Visit for Census {
    fn visit(&mut self, frame: &Frame<'_>) {
        let column = match self.columns.last_mut() {
            Some(column) if column.end() == frame.page.0 => column,
            _ => {
                self.columns.push(Column { first: frame.page.0, ..Column::default() });
                // The column was pushed just now, so there is one.
                let Some(column) = self.columns.last_mut() else { return };
                column
            }
        };
        for (copy, crcs) in CopyId::BOTH.into_iter().zip(&mut column.crcs) {
            crcs.push(PageHeader::of(frame.bytes(copy)).crc.get());
        }
        for (found, generations) in frame.found.iter().zip(&mut column.copies) {
            generations.push(match found {
                Found::Good(generation) if generation.0 == TORN => 0,
                Found::Good(generation) => generation.0,
                Found::Bad(SealFault::Torn | SealFault::Flipped { .. }) => TORN,
                _ => 0,
            });
        }
        if frame.found.iter().any(|found| !matches!(found, Found::Bad(SealFault::Zeroed))) {
            self.occupied = self.occupied.higher(match frame.kind {
                PageKind::InodeTable => Marks { table: 0, inodes: frame.number },
                PageKind::BlockTable | PageKind::Superblock => Marks { table: frame.number, inodes: 0 },
            });
        }
        for (copy, found) in CopyId::BOTH.into_iter().zip(frame.found) {
            match found {
                Found::Good(generation) if generation.0 == TORN => {}
                // Two equal copies are one statement.
                Found::Good(_) if copy == CopyId::B && frame.twins => {
                    self.note(copy, frame.found[0], frame.bytes(CopyId::A));
                }
                Found::Good(_) => self.note(copy, found, frame.bytes(copy)),
                Found::Bad(
                    SealFault::Foreign(_)
                    | SealFault::OtherBirth(_)
                    | SealFault::OtherLayout { .. }
                    | SealFault::Misplaced { .. },
                ) => {
                    let place = match frame.kind {
                        PageKind::InodeTable => Marks { table: u32::MAX, inodes: frame.number },
                        PageKind::BlockTable | PageKind::Superblock => Marks { table: frame.number, inodes: u32::MAX },
                    };
                    self.note_stranger(frame.bytes(copy), *copy.pick(&frame.offsets), place);
                }
                Found::Bad(_) => {}
                Found::Absent(_) | Found::Unreadable => {
                    let unseen = copy.pick_mut(&mut self.unseen);
                    *unseen = unseen.saturating_add(1);
                }
            }
        }
        if let [Found::Good(a), Found::Good(b)] = frame.found
            && a == b
            && frame.differ
        {
            self.conflicts.push(frame.page);
        }
    }
}

impl Column {
    fn end(&self) -> u32 {
        self.first.saturating_add(to_u32(len64(self.copies[0].len())))
    }
}

impl Census {
    fn note(&mut self, copy: CopyId, found: Found, bytes: &PageBytes) {
        if let Some(generation) = found.generation() {
            let Trailer { marks, sum, .. } = Trailer::of(bytes);
            self.add(copy, generation, marks, sum, copy == CopyId::B);
        }
    }

    /// Adds a statement to the summary.
    fn add(&mut self, copy: CopyId, generation: Generation, marks: Marks, sum: Sum, evidence: bool) {
        self.statements = self.statements.saturating_add(1);
        *copy.pick_mut(&mut self.present) = true;
        let highest = copy.pick_mut(&mut self.marks);
        *highest = highest.higher(marks);
        if generation > self.top {
            self.top = generation;
            self.witnesses.clear();
            self.evidenced = false;
        }
        if generation == self.top {
            self.evidenced |= evidence;
            self.add_witness((marks, sum));
        }
    }

    fn add_witness(&mut self, witness: (Marks, Sum)) {
        if self.witnesses.len() < WITNESSES && !self.witnesses.contains(&witness) {
            self.witnesses.push(witness);
        }
    }

    /// Adds a superblock, which is a statement too.
    pub fn add_superblock(&mut self, copy: CopyId, superblock: &Superblock) {
        self.add(copy, superblock.generation, superblock.marks(), superblock.sum, true);
    }

    /// Adds the page at the location of a superblock that is not a superblock of this region.
    pub(crate) fn note_stranger_at_superblock(&mut self, bytes: &PageBytes, offset: u64) {
        self.note_stranger(bytes, offset, Marks::default());
    }

    fn note_stranger(&mut self, bytes: &PageBytes, offset: u64, nearest: Marks) {
        let Some((identity, _, _)) = Identity::claimed(bytes, offset) else { return };
        self.add_stranger(Stranger { identity, pages: 1, nearest });
    }

    fn add_stranger(&mut self, stranger: Stranger) {
        let Stranger { identity, pages, nearest } = stranger;
        if let Some(known) = self.strangers.iter_mut().find(|known| known.identity == identity) {
            known.pages = known.pages.saturating_add(pages);
            known.nearest.table = known.nearest.table.min(nearest.table);
            known.nearest.inodes = known.nearest.inodes.min(nearest.inodes);
        } else if self.strangers.len() < STRANGERS {
            self.strangers.push(stranger);
        } else {
            self.more_strangers = true;
        }
    }

    /// Adds what another pass has seen, for later pages or for the other table.
    pub fn append(&mut self, other: Self) {
        for column in other.columns {
            match self.columns.last_mut() {
                Some(last) if last.end() == column.first => {
                    for (mine, theirs) in last.copies.iter_mut().zip(column.copies) {
                        mine.extend(theirs);
                    }
                    for (mine, theirs) in last.crcs.iter_mut().zip(column.crcs) {
                        mine.extend(theirs);
                    }
                }
                _ => self.columns.push(column),
            }
        }
        if other.top > self.top {
            (self.top, self.witnesses, self.evidenced) = (other.top, other.witnesses, other.evidenced);
        } else if other.top == self.top {
            self.evidenced |= other.evidenced;
            other.witnesses.into_iter().for_each(|witness| self.add_witness(witness));
        }
        for (mine, theirs) in self.marks.iter_mut().zip(other.marks) {
            *mine = mine.higher(theirs);
        }
        self.occupied = self.occupied.higher(other.occupied);
        for (mine, theirs) in self.unseen.iter_mut().zip(other.unseen) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.present.iter_mut().zip(other.present) {
            *mine |= theirs;
        }
        self.conflicts.extend(other.conflicts);
        self.conflicts.sort_unstable();
        for stranger in other.strangers {
            self.add_stranger(stranger);
        }
        self.more_strangers |= other.more_strangers;
        self.statements = self.statements.saturating_add(other.statements);
    }

    /// Cuts marks past the ends of the tables to these ends. A page with a good seal may contain any marks.
    pub(crate) fn bound(&mut self, ends: Marks) {
        let given = self.witnesses.iter_mut().map(|(marks, _)| marks);
        for marks in self.marks.iter_mut().chain(given) {
            *marks = Marks { table: marks.table.min(ends.table), inodes: marks.inodes.min(ends.inodes) };
        }
    }

    fn at(&self, copy: CopyId, page: PageNo) -> u64 {
        self.column(page).and_then(|(column, row)| copy.pick(&column.copies).get(row)).copied().unwrap_or_default()
    }

    /// The column that contains a page, and the index of the page in it.
    fn column(&self, page: PageNo) -> Option<(&Column, usize)> {
        self.columns.iter().find_map(|column| {
            let row = page.0.checked_sub(column.first)?;
            (page.0 < column.end()).then_some((column, to_usize(row)))
        })
    }

    /// The CRC of what is at a location of a table page. It has a meaning only if there is a statement.
    #[must_use]
    pub fn crc(&self, copy: CopyId, page: PageNo) -> u32 {
        self.column(page).and_then(|(column, row)| copy.pick(&column.crcs).get(row)).copied().unwrap_or_default()
    }

    /// The statement of a table page in a copy.
    #[must_use]
    pub fn statement(&self, copy: CopyId, page: PageNo) -> Option<Generation> {
        Some(self.at(copy, page)).filter(|generation| !matches!(*generation, 0 | TORN)).map(Generation)
    }

    /// Whether a page has a magic and a broken seal, as an interrupted write leaves it.
    #[must_use]
    pub fn is_torn(&self, copy: CopyId, page: PageNo) -> bool {
        self.at(copy, page) == TORN
    }

    /// The newest statement of a table page, and the copy that it is in: copy A if both have it.
    #[must_use]
    pub fn newest(&self, page: PageNo) -> Option<(Generation, CopyId)> {
        let [a, b] = CopyId::BOTH.map(|copy| self.statement(copy, page));
        match (a, b) {
            (Some(a), Some(b)) if b > a => Some((b, CopyId::B)),
            (Some(a), _) => Some((a, CopyId::A)),
            (None, b) => b.map(|b| (b, CopyId::B)),
        }
    }

    /// The sums of the groups over the newest statements of the pages before `marks`; `None` if a page has none.
    #[must_use]
    pub fn sums(&self, geometry: Geometry, marks: Marks) -> Option<[Sum; GROUPS]> {
        let mut sums = [Sum::default(); GROUPS];
        for page in marks.pages(geometry) {
            let (generation, _) = self.newest(page)?;
            if let Some(sum) = sums.get_mut(group(page)) {
                *sum = *sum + Sum::of(page, generation);
            }
        }
        Some(sums)
    }

    /// The highest generation of any statement.
    #[must_use]
    pub const fn top(&self) -> Generation {
        self.top
    }

    /// The marks and sums in the statements of the highest generation: at most four different ones.
    #[must_use]
    pub fn witnesses(&self) -> &[(Marks, Sum)] {
        &self.witnesses
    }

    /// Whether the commit of the highest generation is known to have happened, because a superblock or a page of copy B
    /// is as new.
    #[must_use]
    pub const fn is_evidenced(&self) -> bool {
        self.evidenced
    }

    /// The highest marks in any statement.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.marks[0].higher(self.marks[1])
    }

    /// The lowest marks that cover each location, in either copy, that has anything but zeros, as far as pages have
    /// been read.
    #[must_use]
    pub const fn occupied(&self) -> Marks {
        self.occupied
    }

    /// The highest marks in any statement of copy B.
    #[must_use]
    pub const fn marks_in_b(&self) -> Marks {
        self.marks[1]
    }

    /// The pages whose copies contradict each other.
    #[must_use]
    pub fn conflicts(&self) -> &[PageNo] {
        &self.conflicts
    }

    /// Other regions with pages at locations of this one.
    #[must_use]
    pub fn strangers(&self) -> &[Stranger] {
        &self.strangers
    }

    /// Whether a page of another region is before these marks, or at a superblock's location.
    #[must_use]
    pub fn has_strangers_before(&self, marks: Marks) -> bool {
        self.more_strangers || self.strangers.iter().any(|stranger| stranger.lies_before(marks))
    }

    /// Whether there were more such regions than are distinguished.
    #[must_use]
    pub const fn has_more_strangers(&self) -> bool {
        self.more_strangers
    }

    /// How many statements there are.
    #[must_use]
    pub const fn statements(&self) -> u64 {
        self.statements
    }

    /// How many pages before the marks could not be read, by copy.
    #[must_use]
    pub const fn unseen(&self) -> [u64; 2] {
        self.unseen
    }

    /// Whether a copy contains a statement.
    #[must_use]
    pub const fn is_present(&self, copy: CopyId) -> bool {
        *copy.pick(&self.present)
    }

    /// The ranges of pages that have been read.
    pub fn seen(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.columns.iter().map(|column| column.first..column.end())
    }
}
