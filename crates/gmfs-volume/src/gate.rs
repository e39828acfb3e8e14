//! The gate between a plan and the medium. It checks every write of a repair, and lets only those pass that the laws of
//! `docs/RELIABILITY.md` allow.
//!
//! The gate does not know the plan. From the facts of the census it decides with its own code which pages are the state
//! and which are proven, and checks each write against that:
//!
//! - A write goes to the location of a superblock or of a table page, and is a page of this region, sealed for that
//!   location.
//! - A chosen statement is overwritten only after it, or its successor, is durable in the other copy. Pages of other
//!   regions are not overwritten by a repair that asks no questions, unless this region is whole.
//! - A page that is written with the generation of the chosen statement is that statement.
//! - On a page that is written with a new generation, no block becomes free unless it was free before and that is
//!   proven; the gate reserves other blocks. If something about a file is not proven and the plan forgot to flag the
//!   file *doubtful*, the gate sets the flag.
//! - Superblocks are written one at a time, when all pages before them are durable, and with the sum of the pages.

use std::borrow::Cow;
use std::ops::Range;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{
    BLOCKS_PER_PAGE, BlockRaw, BlockTablePage, INODES_PER_PAGE, InodeTablePage, PageHeader,
};
use gmfs_format::native::seal::{self, PageKind, Place};
use gmfs_format::native::sum::{GROUPS, Marks, Sum, Trailer};
use gmfs_format::native::superblock::{STATE_ACTIVE, Superblock};
use gmfs_format::native::tables::{INODE_DOUBTFUL, InodeKind};
use gmfs_format::native::units::{
    CopyId, Generation, InodeNo, PAGE_BYTES, PAGE_SIZE, PageBytes, PageNo, len64, small, to_usize,
};
use gmfs_io::{Absence, ReadAt, ReadError, Span, WriteAt, WriteError};

use crate::census::{Census, Identity};
use crate::superblocks::Superblocks;
use crate::unite::CRC_WORD;

/// What a repair may overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing that is the only record of anything.
    Safe,
    /// Also pages of other regions, because the user has agreed.
    Lossy,
}

/// The maximum number of corrections of a plan that are listed. More are only counted.
const LISTED: usize = 64;

/// A target with the gate in front of it.
#[derive(Debug)]
pub struct Gate<'s, T> {
    target: T,
    census: &'s Census,
    identity: Identity,
    class: Class,
    ruling: Ruling,
    /// The generation at each page's location in each copy, including superblocks; 0 for none.
    now: [Vec<u64>; 2],
    /// Locations that were written since the last barrier, by copy and page number.
    volatile: [Vec<bool>; 2],
    /// Whether there are any such locations.
    unsettled: bool,
    /// Files that must have the flag *doubtful*.
    shaky: Vec<bool>,
    share: u32,
    forgot: Vec<String>,
    more: u64,
}

/// What the gate has decided by itself.
#[derive(Debug)]
struct Ruling {
    marks: Marks,
    /// Statements newer than this generation were never committed.
    newest: u64,
    whole: bool,
    /// Whether the free blocks on a page are proven to be free, by page number.
    proven: Vec<bool>,
}

impl<'s, T: ReadAt> Gate<'s, T> {
    /// A gate in front of `target`, whose region is in this state. `None` if the state was never confirmed by all
    /// pages, because then nothing may be written. With `distrust`, no page counts as proven.
    pub fn new(target: T, state: &'s Superblocks, class: Class, distrust: bool) -> Option<Self> {
        let census = state.census()?;
        let identity = state.identity();
        let geometry = identity.geometry;
        let superblocks = [state.a.good(), state.b.good()];
        let mut ruling = rule(geometry, census, superblocks);
        if distrust {
            ruling.proven.fill(false);
        }
        let pages = small(geometry.pages());
        let mut now = [vec![0; pages], vec![0; pages]];
        for (copy, (superblock, now)) in CopyId::BOTH.into_iter().zip(superblocks.into_iter().zip(&mut now)) {
            for page in census.seen().flatten() {
                if let Some(place) = now.get_mut(to_usize(page)) {
                    *place = census.statement(copy, PageNo(page)).unwrap_or_default().0;
                }
            }
            if let Some(first) = now.first_mut() {
                *first = superblock.map_or(0, |superblock| superblock.generation.0);
            }
        }
        let share = seal::copy_share();
        let volatile = [vec![false; pages], vec![false; pages]];
        let (shaky, forgot) = (Vec::new(), Vec::new());
        let mut gate = Self {
            target,
            census,
            identity,
            class,
            ruling,
            now,
            volatile,
            unsettled: false,
            shaky,
            share,
            forgot,
            more: 0,
        };
        if !gate.ruling.whole || distrust || !census.conflicts().is_empty() {
            gate.shaky = gate.find_shaky();
        }
        Some(gate)
    }

    /// The corrections that the gate made because the plan forgot them, and how many more there were.
    pub fn forgot(self) -> (Vec<String>, u64) {
        (self.forgot, self.more)
    }

    fn geometry(&self) -> Geometry {
        self.identity.geometry
    }

    fn at(&self, copy: CopyId, page: PageNo) -> u64 {
        copy.pick(&self.now).get(to_usize(page.0)).copied().unwrap_or_default()
    }

    /// The generation of a page's chosen statement when the repair began, and a copy that had it.
    fn chosen(&self, page: PageNo) -> Option<(u64, CopyId)> {
        let counts = |copy: CopyId| {
            let generation = self.census.statement(copy, page)?.0;
            (generation <= self.ruling.newest).then_some((generation, copy))
        };
        match (counts(CopyId::A), counts(CopyId::B)) {
            (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    fn is_proven(&self, page: PageNo) -> bool {
        self.ruling.proven.get(to_usize(page.0)) == Some(&true)
    }

    fn read(&self, copy: CopyId, page: PageNo) -> Option<Box<PageBytes>> {
        let mut bytes = Box::new([0; PAGE_SIZE]);
        self.target.read_at(self.geometry().page_offset(copy, page), bytes.as_mut_slice()).ok()?;
        seal::check(&bytes, &self.place(copy, page)?).ok()?;
        Some(bytes)
    }

    fn place(&self, copy: CopyId, page: PageNo) -> Option<Place> {
        let Identity { uuid, birth, geometry } = self.identity;
        Some(Place { kind: geometry.page_kind(page)?, copy, page, uuid, birth, geometry })
    }

    /// The content of a page before the repair: its chosen statement, if that still exists.
    fn before(&self, page: PageNo) -> Option<Box<PageBytes>> {
        let (generation, _) = self.chosen(page)?;
        let copy = CopyId::BOTH.into_iter().find(|copy| self.at(*copy, page) == generation)?;
        self.read(copy, page)
    }

    /// Files about which something is not proven: the page of their inode, a page that describes one of their blocks,
    /// or their count of blocks; or two pages assign one of their blocks to two files.
    fn find_shaky(&self) -> Vec<bool> {
        let geometry = self.geometry();
        let [table, inodes] = self.ruling.marks.ranges(geometry);
        let mut shaky = vec![false; to_usize(geometry.inodes())];
        let mut found = vec![0_u64; shaky.len()];
        for page in table.map(PageNo) {
            let (Some(bytes), proven) = (self.before(page), self.is_proven(page)) else { continue };
            let other = self.census.conflicts().contains(&page).then(|| self.read(CopyId::B, page)).flatten();
            for (slot, entry) in BlockTablePage::view(&bytes).entries.iter().enumerate() {
                let other = other.as_ref().and_then(|other| BlockTablePage::view(other).entries.get(slot)).copied();
                let (one, two) = match other {
                    Some(other) if other != *entry && *entry == BlockRaw::FREE => (other, None),
                    Some(other) if other != *entry && other != BlockRaw::FREE => (*entry, Some(other)),
                    _ => (*entry, None),
                };
                let disputed = two.is_some();
                for entry in std::iter::once(one).chain(two).filter(BlockRaw::is_mapping) {
                    let Some(position) = entry.owner().position() else { continue };
                    if let Some(found) = found.get_mut(position).filter(|_| !disputed) {
                        *found = found.saturating_add(1);
                    }
                    if let Some(shaky) = shaky.get_mut(position) {
                        *shaky |= !proven || disputed;
                    }
                }
            }
        }
        for page in inodes.map(PageNo) {
            let (Some(bytes), proven) = (self.before(page), self.is_proven(page)) else { continue };
            let first = geometry.first_inode_of(page).0;
            for (number, raw) in (first..).zip(&InodeTablePage::view(&bytes).inodes) {
                let Some(position) = InodeNo(number).position() else { continue };
                let wrong = found.get(position).is_some_and(|found| *found != raw.blocks.get());
                if let Some(shaky) = shaky.get_mut(position) {
                    *shaky |= !proven || raw.in_use() && wrong;
                }
            }
        }
        shaky
    }

    /// Checks a page against the laws, and makes corrections that the plan forgot.
    ///
    /// Returns the page to write, if it is a corrected one.
    fn hold(&mut self, copy: CopyId, page: PageNo, bytes: &PageBytes) -> Result<Option<Box<PageBytes>>, &'static str> {
        let place = self.place(copy, page).ok_or("it is no place of the region's metadata")?;
        let generation = match seal::check(bytes, &place) {
            Ok(generation) => generation.0,
            // A page that is prepared for raised marks is not a statement.
            Err(seal::SealFault::Prepared) => 0,
            Err(_) => return Err("it is no page of this region that is sealed for its place"),
        };
        if page.0 == 0 {
            return self.hold_superblock(copy, bytes, generation).map(|()| None);
        }
        self.keep_witness(copy, page)?;
        let chosen = self.chosen(page);
        let mut mended = None;
        match chosen {
            _ if generation == 0 => {}
            Some((newest, from)) if generation == newest => {
                let crc = self.census.crc(from, page) ^ if from == copy { 0 } else { self.share };
                let merged = self.census.conflicts().contains(&page);
                let stored = PageHeader::of(bytes).crc.get();
                if stored != crc && !merged && !self.is_announced(copy, page, stored) {
                    return Err("it has the generation of the page that was chosen, and is another page");
                }
            }
            _ if self.census.conflicts().contains(&page) && generation <= self.ruling.newest => {}
            _ if generation <= self.census.top().0 => {
                return Err("its generation is neither that of the chosen page nor a new one");
            }
            _ => mended = self.hold_new(&place, bytes, generation),
        }
        if let Some(now) = copy.pick_mut(&mut self.now).get_mut(to_usize(page.0)) {
            *now = generation;
        }
        self.note_store(copy, page);
        Ok(mended)
    }

    fn note_store(&mut self, copy: CopyId, page: PageNo) {
        self.unsettled = true;
        if let Some(stored) = copy.pick_mut(&mut self.volatile).get_mut(to_usize(page.0)) {
            *stored = true;
        }
    }

    /// Whether a page is the merge of two copies that a crash interrupted: copy B is torn, and its header has the CRC
    /// of the merged page.
    fn is_announced(&self, copy: CopyId, page: PageNo, crc: u32) -> bool {
        let mut torn = [0; PAGE_SIZE];
        let offset = self.geometry().page_offset(CopyId::B, page);
        let read = self.census.is_torn(CopyId::B, page) && self.target.read_at(offset, &mut torn).is_ok();
        let share = if copy == CopyId::B { 0 } else { self.share };
        read && PageHeader::of(&torn).crc.get() == crc ^ share
    }

    /// Refuses to overwrite the last location of a statement.
    fn keep_witness(&self, copy: CopyId, page: PageNo) -> Result<(), &'static str> {
        let (here, there) = (self.at(copy, page), self.at(copy.other(), page));
        // What the repair itself has written is newer than everything that was there.
        let top = self.census.top().0;
        let newest = match here.max(there) {
            written if written > top => Some(written),
            _ => self.chosen(page).map(|(generation, _)| generation),
        };
        if newest == Some(here) {
            let durable = copy.other().pick(&self.volatile).get(to_usize(page.0)) != Some(&true);
            if there < here || !durable {
                return Err("it would overwrite the only durable copy of a page");
            }
        }
        let strangers = self.census.has_strangers_before(self.ruling.marks);
        if here == 0 && strangers && self.class == Class::Safe && !self.ruling.whole {
            let mut bytes = [0; PAGE_SIZE];
            let offset = self.geometry().page_offset(copy, page);
            let read = self.target.read_at(offset, &mut bytes).is_ok();
            if read && Identity::claimed(&bytes, offset).is_some_and(|(identity, _, _)| identity != self.identity) {
                return Err("it would overwrite a page of another region");
            }
        }
        Ok(())
    }

    /// Checks a page with a new generation: a block that is free on it must have been free before, and that must be
    /// proven. Returns the page to write if the plan forgot something.
    fn hold_new(&mut self, place: &Place, planned: &PageBytes, generation: u64) -> Option<Box<PageBytes>> {
        let Place { copy, page, .. } = *place;
        // The second copy of a page equals the first one, which was checked already.
        if self.at(copy.other(), page) == generation
            && self.read(copy.other(), page).is_some_and(|other| seal::is_turned(&other, planned, copy, self.share))
        {
            return None;
        }
        let before = self.before(page).or_else(|| self.read(copy, page)).or_else(|| self.read(copy.other(), page));
        let covered = self.ruling.marks.cover(self.geometry(), page);
        let mut bytes = Box::new(*planned);
        let mut mended = Vec::new();
        if place.kind == PageKind::BlockTable {
            let first = self.geometry().first_block_of(page).0;
            let count = self.geometry().end_data().0.saturating_sub(first).min(BLOCKS_PER_PAGE);
            let proven = self.is_proven(page) || !covered && self.ruling.whole;
            let was_free = |slot: usize| match &before {
                Some(before) => BlockTablePage::view(before).entries.get(slot) == Some(&BlockRaw::FREE),
                None => !covered,
            };
            let entries = &mut BlockTablePage::view_mut(&mut bytes).entries;
            for (block, (slot, entry)) in (first..).zip(entries.iter_mut().enumerate()).take(to_usize(count)) {
                if *entry == BlockRaw::FREE && !(proven && was_free(slot)) {
                    *entry = BlockRaw::RESERVED;
                    mended.push(format!("block {block} is reserved: nothing proves that it is free"));
                }
            }
        } else {
            let first = self.geometry().first_inode_of(page).0;
            for (number, raw) in (first..).zip(&mut InodeTablePage::view_mut(&mut bytes).inodes) {
                let shaky = InodeNo(number).position().and_then(|position| self.shaky.get(position)) == Some(&true);
                let flagged = raw.flags.get() & INODE_DOUBTFUL != 0;
                if shaky && raw.kind() == Some(InodeKind::File) && !flagged {
                    raw.flags = (raw.flags.get() | INODE_DOUBTFUL).into();
                    mended.push(format!("inode {number} is flagged doubtful: not all of it is proven"));
                }
            }
        }
        if mended.is_empty() {
            return None;
        }
        seal::seal(&mut bytes, place, Generation(generation));
        for what in mended {
            if self.forgot.len() < LISTED {
                self.forgot.push(what);
            } else {
                self.more = self.more.saturating_add(1);
            }
        }
        Some(bytes)
    }

    /// Superblocks are written one at a time, after pages that are durable, and with the sum of these pages.
    fn hold_superblock(&mut self, copy: CopyId, bytes: &PageBytes, generation: u64) -> Result<(), &'static str> {
        if self.unsettled {
            return Err("it is a superblock, and stores before it are not durable yet");
        }
        let Trailer { marks, sum, .. } = Trailer::of(bytes);
        let lower = marks.higher(self.ruling.marks) != marks;
        if lower && self.ruling.whole {
            return Err("it is a superblock with high-water marks lower than the region's");
        }
        let mut pages = Sum::default();
        for page in marks.pages(self.geometry()) {
            let newest = CopyId::BOTH.map(|copy| self.at(copy, page)).into_iter().filter(|found| *found <= generation);
            match newest.max() {
                Some(newest @ 1..) => pages = pages + Sum::of(page, Generation(newest)),
                _ => return Err("it is a superblock, and a page before its high-water marks is missing"),
            }
        }
        if pages != sum {
            return Err("it is a superblock whose sum is not that of the pages");
        }
        if let Some(first) = copy.pick_mut(&mut self.now).first_mut() {
            *first = generation;
        }
        self.note_store(copy, PageNo(0));
        Ok(())
    }

    /// Whether a write is the CRC that begins the merge of two copies that contradict each other.
    fn begins_merging(&self, offset: u64, bytes: &[u8]) -> Option<PageNo> {
        let (copy, page) = self.geometry().page_at(offset.checked_sub(len64(CRC_WORD.start))?)?;
        (copy == CopyId::B && bytes.len() == CRC_WORD.len() && self.census.conflicts().contains(&page)).then_some(page)
    }

    fn refuse(&self, span: Span, why: &str) -> WriteError {
        let message = format!("the repair was stopped before it wrote here: {why}");
        WriteError { span, source: std::io::Error::other(message) }
    }
}

impl<T: ReadAt> ReadAt for Gate<'_, T> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.target.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.target.end()
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        self.target.next_data(range)
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        self.target.next_absent(range)
    }
}

impl<T: WriteAt> WriteAt for Gate<'_, T> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, len64(bytes.len()));
        if let Some(page) = self.begins_merging(offset, bytes) {
            // The seal of copy B is broken from now until the merged page is written.
            self.note_store(CopyId::B, page);
            return self.target.write_at(offset, bytes);
        }
        let (pages, rest) = bytes.as_chunks::<PAGE_SIZE>();
        if !rest.is_empty() {
            return Err(self.refuse(span, "it is not a whole page"));
        }
        let mut out: Cow<'_, [PageBytes]> = Cow::Borrowed(pages);
        for (number, page) in pages.iter().enumerate() {
            let at = offset.saturating_add(len64(number).saturating_mul(PAGE_BYTES));
            let one = Span::new(at, PAGE_BYTES);
            let Some((copy, page_no)) = self.geometry().page_at(at) else {
                return Err(self.refuse(one, "it is no place of the region's metadata"));
            };
            let mended = self.hold(copy, page_no, page).map_err(|why| self.refuse(one, why))?;
            if let Some((mended, place)) = mended.zip(out.to_mut().get_mut(number)) {
                *place = *mended;
            }
        }
        self.target.write_at(offset, out.as_flattened())
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        Err(self.refuse(span, "a repair zeroes nothing"))
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        self.target.barrier()?;
        if std::mem::take(&mut self.unsettled) {
            self.volatile.iter_mut().for_each(|stored| stored.fill(false));
        }
        Ok(())
    }

    fn reader(&self) -> Option<Box<dyn ReadAt>> {
        self.target.reader()
    }
}

/// Performs the steps of the decision, from the facts alone.
fn rule(geometry: Geometry, census: &Census, superblocks: [Option<&Superblock>; 2]) -> Ruling {
    let facts = Facts { geometry, census, top: census.top().0 };
    if let Some(ruling) = facts.rolled_back(superblocks) {
        return ruling;
    }
    // Step 2: no page is missing, and a statement of the newest generation has the sum over all pages.
    let (marks, top) = (census.marks(), facts.top);
    let missing = facts.pages(marks).any(|page| facts.newest(page) == 0);
    let all = facts.sum(facts.pages(marks));
    if !missing && census.witnesses().iter().any(|(_, sum)| *sum == all) {
        return Ruling { marks, newest: top, whole: true, proven: vec![true; facts.total()] };
    }
    facts.page_by_page(marks, superblocks)
}

/// The facts for the steps of the decision.
struct Facts<'a> {
    geometry: Geometry,
    census: &'a Census,
    /// The newest generation of any statement.
    top: u64,
}

impl Facts<'_> {
    fn total(&self) -> usize {
        small(self.geometry.pages())
    }

    fn pages(&self, marks: Marks) -> impl Iterator<Item = PageNo> + Clone + use<> {
        marks.pages(self.geometry)
    }

    /// The generation of a page in a copy; 0 for none.
    fn at(&self, copy: CopyId, page: PageNo) -> u64 {
        self.census.statement(copy, page).map_or(0, |found| found.0)
    }

    /// The newest generation of a page; 0 for none.
    fn newest(&self, page: PageNo) -> u64 {
        let found = CopyId::BOTH.map(|copy| self.at(copy, page)).into_iter();
        found.filter(|found| *found <= self.top).max().unwrap_or(0)
    }

    /// The sum over these pages, with their newest generations.
    fn sum(&self, pages: impl Iterator<Item = PageNo>) -> Sum {
        pages.fold(Sum::default(), |sum, page| match self.newest(page) {
            0 => sum,
            found => sum + Sum::of(page, Generation(found)),
        })
    }

    /// Step 1: both superblocks are good, equal and active; everything newer is in copy A and has the next generation;
    /// and copy B, by itself, is what the superblocks record.
    fn rolled_back(&self, superblocks: [Option<&Superblock>; 2]) -> Option<Ruling> {
        let ([Some(a), Some(b)], top) = (superblocks, self.top) else { return None };
        let marks = a.marks();
        let begun = a == b
            && a.raw.state.get() & STATE_ACTIVE != 0
            && a.generation.0.checked_add(1) == Some(top)
            && self.census.conflicts().is_empty()
            && self.census.marks_in_b() == marks;
        if !begun {
            return None;
        }
        let before = a.generation.0;
        let (in_a, in_b) = (|page| self.at(CopyId::A, page), |page| self.at(CopyId::B, page));
        let own = self.pages(marks).all(|page| {
            (1..=before).contains(&in_b(page))
                && (in_a(page) == in_b(page) || in_a(page) == top || self.census.is_torn(CopyId::A, page))
        });
        let mut seen = self.census.seen().flatten().map(PageNo);
        let rest = seen.all(|page| in_b(page) <= before && (in_a(page) <= before || in_a(page) == top));
        let share = |page| Sum::of(page, Generation(in_b(page)));
        let sum = self.pages(marks).fold(Sum::default(), |sum, page| sum + share(page));
        let proven = own && rest && sum == a.sum;
        proven.then(|| Ruling { marks, newest: before, whole: true, proven: vec![true; self.total()] })
    }

    /// Step 3: finds out which pages are proven if not all are.
    fn page_by_page(&self, marks: Marks, superblocks: [Option<&Superblock>; 2]) -> Ruling {
        let (census, top) = (self.census, self.top);
        let nothing = vec![false; self.total()];
        let mut ruling = Ruling { marks: Marks::all(self.geometry), newest: top, whole: false, proven: nothing };
        let [(said, sum)] = *census.witnesses() else { return ruling };
        if said != marks {
            return ruling;
        }
        ruling.marks = marks;
        self.prove_set(self.pages(marks).collect(), sum, &mut ruling.proven);
        let mut borne_out = false;
        let witness = superblocks.into_iter().flatten();
        for superblock in witness.filter(|sb| sb.generation.0 == top && sb.marks() == marks && sb.sum == sum) {
            borne_out = true;
            for (number, sum) in superblock.group_sums().into_iter().enumerate() {
                let of_group = |page: &PageNo| to_usize(page.0) % GROUPS == number;
                self.prove_set(self.pages(marks).filter(of_group).collect(), sum, &mut ruling.proven);
            }
        }
        for page in self.pages(marks) {
            let of_top = self.newest(page) == top;
            let conflict = census.conflicts().contains(&page);
            if let Some(proven) = ruling.proven.get_mut(to_usize(page.0)) {
                // Pages of the newest commit are proven by a superblock of it. A commit that is not known to have
                // happened proves nothing.
                let holds = if of_top { (*proven || borne_out) && census.is_evidenced() } else { *proven };
                *proven = holds && !conflict;
            }
        }
        ruling
    }

    /// Proves pages by the sum over them: all of them, or all but the one that explains the difference.
    fn prove_set(&self, pages: Vec<PageNo>, sum: Sum, proven: &mut [bool]) {
        let rest = sum - self.sum(pages.iter().copied());
        let gone: Vec<PageNo> = pages.iter().copied().filter(|page| self.newest(*page) == 0).collect();
        let fits = |page: PageNo, share: Sum, above: u64| {
            share.generation(page).is_some_and(|generation| generation.0 > above && generation.0 <= self.top)
        };
        let culprit = match gone.as_slice() {
            [] if rest == Sum::default() => None,
            [] => {
                let old = |page: &&PageNo| {
                    let found = self.newest(**page);
                    fits(**page, rest + Sum::of(**page, Generation(found)), found)
                };
                match pages.iter().filter(old).collect::<Vec<_>>().as_slice() {
                    [only] => Some(**only),
                    _ => return,
                }
            }
            [only] if fits(*only, rest, 0) => Some(*only),
            _ => return,
        };
        for page in pages.into_iter().filter(|page| Some(*page) != culprit) {
            if let Some(proven) = proven.get_mut(to_usize(page.0)) {
                *proven = true;
            }
        }
    }
}

// The code for inodes processes a page as a whole.
const _: () = assert!(INODES_PER_PAGE == 8);
