//! The two superblocks: found, judged, and turned into what the rest of a region is judged by.

use gmfs_format::copies::{Found, Judgement, Phase, Standing, judge};
use gmfs_format::features::Features;
use gmfs_format::geometry::Geometry;
use gmfs_format::io::{Absence, ReadAt, ReadError};
use gmfs_format::raw::{PageHeader, SuperblockPage};
use gmfs_format::seal::{PageKind, Place, SealFault};
use gmfs_format::superblock::{STATE_ACTIVE, STATE_CLEAN, STATE_FLAGS, Superblock, SuperblockFault};
use gmfs_format::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo};
use uuid::Uuid;

/// What lies where one copy of the superblock must be.
#[derive(Debug)]
pub enum Slot {
    /// A superblock whose structure holds together.
    Good(Box<Superblock>),
    /// No usable superblock, and the page as it was found.
    Bad(SuperblockFault, Box<PageBytes>),
    /// The image does not hold the page.
    Absent(Absence),
    /// The medium could not be read.
    Unreadable(std::io::Error),
    /// Nobody knows where to look: the other copy is lost too.
    Unknown,
}

impl Slot {
    /// The superblock, if it is one.
    #[must_use]
    pub fn good(&self) -> Option<&Superblock> {
        match self {
            Self::Good(superblock) => Some(superblock),
            _ => None,
        }
    }

    /// What was found, in the terms in which pages are judged.
    #[must_use]
    pub fn found(&self) -> Found {
        match self {
            Self::Good(superblock) => Found::Good(superblock.generation),
            Self::Bad(SuperblockFault::Seal(fault), _) => Found::Bad(*fault),
            // A superblock that lies under a good seal is no page that a commit of this program wrote.
            Self::Bad(..) => Found::Bad(SealFault::Overwritten),
            Self::Absent(why) => Found::Absent(*why),
            Self::Unreadable(_) | Self::Unknown => Found::Unreadable,
        }
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good(superblock) => write!(f, "good, generation {}", superblock.generation),
            Self::Bad(fault, _) => write!(f, "{fault}"),
            Self::Absent(why) => write!(f, "absent: {why}"),
            Self::Unreadable(error) => write!(f, "unreadable: {error}"),
            Self::Unknown => f.write_str("not found"),
        }
    }
}

/// Why a region could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no region, or both of its superblocks are lost.
    #[error("no region: superblock A: {a}; superblock B: {b}")]
    NoRegion {
        /// What lies at the start.
        a: Box<Slot>,
        /// What was found of copy B.
        b: Box<Slot>,
    },
    /// Features that this program does not know forbid even reading.
    #[error("the region uses features that this program does not know (incompatible mask {0:#x}); use a newer gmfs")]
    Incompatible(u64),
    /// Features that this program does not know forbid writing.
    #[error(
        "the region uses features that this program does not know (read-only mask {0:#x}); it can be read, not changed"
    )]
    ReadOnlyFeatures(u64),
    /// The image is smaller than the region says it is, so it cannot be changed.
    #[error("the region has {region} bytes but the image holds {image}; it can be read as far as it is there")]
    Short {
        /// Region size in bytes.
        region: u64,
        /// Image size in bytes.
        image: u64,
    },
    /// Pages are damaged; nothing is changed until they are repaired.
    #[error("{pages} metadata pages are damaged (the first is page {first}): check the region before changing it")]
    Damaged {
        /// How many.
        pages: u64,
        /// The first of them.
        first: PageNo,
    },
    /// Pages behind the marks hold files or blocks of files: to write over them would lose what they tell.
    #[error(
        "{pages} metadata pages behind the marks are in use (the first is page {first}): check the region before changing it"
    )]
    BehindMarks {
        /// How many.
        pages: u64,
        /// The first of them.
        first: PageNo,
    },
    /// Reading failed.
    #[error("cannot read the region")]
    Read(#[from] ReadError),
    /// Recovery could not write.
    #[error("cannot recover the region")]
    Write(#[from] gmfs_format::io::WriteError),
}

/// Both superblocks and what follows from them.
#[derive(Debug)]
pub struct Superblocks {
    /// Copy A's.
    pub a: Slot,
    /// Copy B's.
    pub b: Slot,
    current: Superblock,
    phase: Phase,
    page_phase: Phase,
    judgement: Judgement,
    rivals: Option<[Uuid; 2]>,
    /// The copy that is as it was some commits ago, and the generation that it had then.
    went_back: Option<(CopyId, Generation)>,
}

impl Superblocks {
    /// Reads and judges both superblocks of the region that fills `source`.
    ///
    /// Copy B is looked for where copy A says; without copy A, among the places near the source's end where it can be.
    ///
    /// # Errors
    /// [`OpenError::NoRegion`] if neither can be used.
    pub fn load<S: ReadAt + ?Sized>(source: &S) -> Result<Self, OpenError> {
        let (a, b, rivals) = slots(source);
        let Some(current) = newest(&a, &b).cloned() else {
            return Err(OpenError::NoRegion { a: Box::new(a), b: Box::new(b) });
        };
        let phase = phase(&a, &b);
        let equal = || a.good().map(|sb| sb.raw) == b.good().map(|sb| sb.raw);
        let mut judgement = judge(a.found(), b.found(), current.generation, phase, equal);
        // The superblock in hand is the newest by definition; a half-written mark is known to be one.
        judgement.uncertain = false;
        let page_phase = page_phase(&a, &b, phase);
        let went_back = went_back(&a, &b, judgement);
        Ok(Self { a, b, current, phase, page_phase, judgement, rivals, went_back })
    }

    /// Judges a region both of whose superblocks are lost by one that was made anew (see [`crate::rebuild`]).
    #[must_use]
    pub fn rebuilt(a: Slot, b: Slot, superblock: Superblock) -> Self {
        let judgement = judge(a.found(), b.found(), superblock.generation, Phase::Idle, || false);
        let page_phase = Phase::Unknown;
        Self { a, b, current: superblock, phase: Phase::Idle, page_phase, judgement, rivals: None, went_back: None }
    }

    /// Whether neither copy of the superblock was there.
    #[must_use]
    pub fn are_rebuilt(&self) -> bool {
        self.a.good().is_none() && self.b.good().is_none()
    }

    /// The superblock that counts.
    #[must_use]
    pub const fn current(&self) -> &Superblock {
        &self.current
    }

    /// The region's generation.
    #[must_use]
    pub const fn committed(&self) -> Generation {
        self.current.generation
    }

    /// The region's layout.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.current.geometry()
    }

    /// What was under way when the region was written last.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// What may be under way in the pages of the tables: nothing, where it is only a mark in the superblocks.
    #[must_use]
    pub const fn page_phase(&self) -> Phase {
        self.page_phase
    }

    /// The UUIDs of copy A and copy B, if each is the whole copy of another region: nothing tells whose the range is.
    #[must_use]
    pub const fn rivals(&self) -> Option<[Uuid; 2]> {
        self.rivals
    }

    /// What the two superblock pages are worth.
    #[must_use]
    pub const fn judgement(&self) -> Judgement {
        self.judgement
    }

    /// What a table page's two copies come to. `equal` is asked as by [`judge`].
    ///
    /// A copy whose superblock went back in time is no proof of what its pages say, unless the other copy says the same.
    pub fn judge_page(&self, a: Found, b: Found, equal: impl FnOnce() -> bool) -> Judgement {
        let mut judged = judge(a, b, self.committed(), self.page_phase, equal);
        if let (Some((stale, then)), Some(take)) = (self.went_back, judged.take)
            && stale == take
            && judged.of(take.other()) != Standing::Good
        {
            let found = if take == CopyId::A { a } else { b };
            judged.uncertain |= found.generation().is_some_and(|generation| generation <= then);
        }
        judged
    }

    /// What a page must be at its place in a copy; `None` behind the last page.
    #[must_use]
    pub fn place(&self, copy: CopyId, page: PageNo) -> Option<Place> {
        let kind = self.geometry().page_kind(page)?;
        Some(Place { kind, copy, page, uuid: self.current.uuid, geometry: self.geometry() })
    }

    /// Whether the contents may be read.
    ///
    /// # Errors
    /// [`OpenError::Incompatible`].
    pub fn require_readable(&self) -> Result<(), OpenError> {
        let features: Features = self.current.features();
        if features.readable() { Ok(()) } else { Err(OpenError::Incompatible(features.unknown().incompat)) }
    }
}

/// Reads both superblocks. Of two that cannot be of one region, the one that the tables bear out stays good.
fn slots<S: ReadAt + ?Sized>(source: &S) -> (Slot, Slot, Option<[Uuid; 2]>) {
    let mut a = read_slot(source, CopyId::A, 0);
    let Some(in_a) = a.good() else { return (a, find_copy_b(source), None) };
    let mut b = read_slot(source, CopyId::B, in_a.geometry().copy_offset(CopyId::B));
    // A superblock of another region at the start would have copy B looked for in the wrong place.
    if b.good().is_none() && borne_out(source, in_a) == 0 {
        let other = find_copy_b(source);
        if other.good().is_some_and(|in_b| borne_out(source, in_b) > 0) {
            b = other;
        }
    }
    let Some((in_a, in_b)) = a.good().zip(b.good()) else { return (a, b, None) };
    let fault = if in_a.uuid != in_b.uuid {
        |loser: &Superblock| SuperblockFault::Seal(SealFault::Foreign(loser.uuid))
    } else if in_a.geometry() != in_b.geometry() {
        |_: &Superblock| SuperblockFault::Disagrees
    } else {
        return (a, b, None);
    };
    let mut rank = [in_a, in_b].map(|superblock| {
        // Generations of different filesystems say nothing about each other.
        let age = if in_a.uuid == in_b.uuid { superblock.generation } else { Generation::default() };
        (borne_out(source, superblock), age)
    });
    if rank[0] == rank[1] {
        // The one that was written over has left pages in both copies.
        rank = [in_a, in_b].map(|superblock| (left_in(source, superblock), Generation::default()));
    }
    let rivals = (rank[0] == rank[1] && in_a.uuid != in_b.uuid).then_some([in_a.uuid, in_b.uuid]);
    // A tie is read as A, whose place needs no searching; nothing is written then.
    if rank[1] > rank[0] {
        a = Slot::Bad(fault(in_a), Box::new(in_a.page(CopyId::A)));
    } else {
        b = Slot::Bad(fault(in_b), Box::new(in_b.page(CopyId::B)));
    }
    (a, b, rivals)
}

/// In how many copies any page in use, by a superblock's marks, is one of its region.
fn left_in<S: ReadAt + ?Sized>(source: &S, superblock: &Superblock) -> usize {
    let geometry = superblock.geometry();
    let is_left = |copy: CopyId, page: u32| {
        let mut bytes = [0; PAGE_SIZE];
        let kind = geometry.page_kind(PageNo(page));
        let place = kind.map(|kind| Place { kind, copy, page: PageNo(page), uuid: superblock.uuid, geometry });
        let read = source.read_at(geometry.page_offset(copy, PageNo(page)), &mut bytes);
        read.is_ok() && place.is_some_and(|place| gmfs_format::seal::check(&bytes, &place).is_ok())
    };
    let pages = || used_tables(superblock).into_iter().flat_map(|(_, pages)| pages);
    CopyId::BOTH.into_iter().filter(|copy| pages().any(|page| is_left(*copy, page))).count()
}

/// In how many copies the first page of the inode table, which every region has, lies where a superblock puts it.
pub(crate) fn borne_out<S: ReadAt + ?Sized>(source: &S, superblock: &Superblock) -> usize {
    let geometry = superblock.geometry();
    let page = geometry.first_inode_page();
    let lies_there = |copy: &CopyId| {
        let mut bytes = [0; PAGE_SIZE];
        let place = Place { kind: PageKind::InodeTable, copy: *copy, page, uuid: superblock.uuid, geometry };
        let read = source.read_at(geometry.page_offset(*copy, page), &mut bytes);
        read.is_ok() && gmfs_format::seal::check(&bytes, &place).is_ok()
    };
    CopyId::BOTH.iter().filter(|copy| lies_there(copy)).count()
}

/// Reads one superblock page.
fn read_slot<S: ReadAt + ?Sized>(source: &S, copy: CopyId, offset: u64) -> Slot {
    let mut page = Box::new([0; PAGE_SIZE]);
    match source.read_at(offset, page.as_mut_slice()) {
        Ok(()) => match Superblock::read(&page, copy) {
            Ok(superblock) => Slot::Good(Box::new(superblock)),
            Err(fault) => Slot::Bad(fault, page),
        },
        Err(ReadError::Absent { why, .. }) => Slot::Absent(why),
        Err(ReadError::Io { source, .. }) => Slot::Unreadable(source),
    }
}

/// Looks for copy B's superblock where copy A does not say where it is.
fn find_copy_b<S: ReadAt + ?Sized>(source: &S) -> Slot {
    crate::locate::copy_b(source).map_or(Slot::Unknown, |superblock| Slot::Good(Box::new(superblock)))
}

/// The superblock that counts: the newer good one.
fn newest<'a>(a: &'a Slot, b: &'a Slot) -> Option<&'a Superblock> {
    match (a.good(), b.good()) {
        (Some(in_a), Some(in_b)) => Some(if in_b.generation > in_a.generation { in_b } else { in_a }),
        (in_a, in_b) => in_a.or(in_b),
    }
}

/// What the superblocks tell of a change that was under way.
fn phase(a: &Slot, b: &Slot) -> Phase {
    let active = |sb: &Superblock| sb.raw.state.get() & STATE_ACTIVE != 0;
    match (a, b) {
        // Behind a clean superblock only the mark itself can be under way: an older one went back in time.
        (Slot::Good(in_a), Slot::Good(in_b))
            if in_a.generation > in_b.generation && !active(in_a) && in_a.raw.write_count != in_b.raw.write_count =>
        {
            Phase::Idle
        }
        (Slot::Good(in_a), Slot::Good(in_b)) if in_a.generation > in_b.generation => Phase::ToB,
        (Slot::Good(in_a), Slot::Good(in_b)) if active(in_a) || active(in_b) => Phase::ToA,
        (Slot::Good(in_a), Slot::Bad(_, page)) if active(in_a) || is_torn_mark(page, CopyId::B, in_a) => Phase::ToB,
        (Slot::Good(in_a), Slot::Absent(_) | Slot::Unreadable(_)) if active(in_a) => Phase::ToB,
        (Slot::Bad(_, page), Slot::Good(in_b)) if active(in_b) || is_torn_mark(page, CopyId::A, in_b) => Phase::ToA,
        (Slot::Absent(_) | Slot::Unreadable(_), Slot::Good(in_b)) if active(in_b) => Phase::ToA,
        _ => Phase::Idle,
    }
}

/// The copy whose superblock is older than the other one for no reason that a writer gives.
fn went_back(a: &Slot, b: &Slot, judgement: Judgement) -> Option<(CopyId, Generation)> {
    let stale = CopyId::BOTH.into_iter().find(|copy| judgement.of(*copy) == Standing::Stale)?;
    let slot = if stale == CopyId::A { a } else { b };
    slot.good().map(|superblock| (stale, superblock.generation))
}

/// What may be under way in the pages of the tables. A mark is stored only while both copies of all pages are equal: when
/// copy A's superblock is clean, or no commit lies between the two, no page is being written.
fn page_phase(a: &Slot, b: &Slot, phase: Phase) -> Phase {
    let clean = |sb: &Superblock| sb.raw.state.get() & STATE_ACTIVE == 0;
    match (phase, a.good(), b.good()) {
        (Phase::ToB, Some(in_a), Some(in_b)) if in_a.raw.write_count == in_b.raw.write_count => Phase::Idle,
        (Phase::ToB, Some(in_a), _) if clean(in_a) => Phase::Idle,
        (Phase::ToA, None, Some(in_b)) if clean(in_b) => Phase::Idle,
        _ => phase,
    }
}

/// Whether `page` is what a crash leaves while the mark "active" (or, at the end, "clean") is being stored.
///
/// Such a store changes only the header and the state flags, so both the old and the new page are known from the other
/// copy; a torn one consists of words of these two and of nothing else. Damage looks otherwise. (A power loss tears at
/// cache lines of 64 bytes, the death of the writing program at any word of its copy.)
fn is_torn_mark(page: &PageBytes, copy: CopyId, other: &Superblock) -> bool {
    /// Generations that the mark "clean" may skip: each stands for a change that was aborted and is never used again.
    const SKIPPED: u64 = 32;
    let at = |state: u32, generation: u64| {
        let mut superblock = other.clone();
        superblock.raw.state = state.into();
        superblock.generation = Generation(generation);
        superblock.page(copy)
    };
    let state = other.raw.state.get();
    let steady = state & !(STATE_CLEAN | STATE_ACTIVE);
    let generation = other.generation.0;
    // In copy A the other copy has what was before; in copy B it has what will be.
    match copy {
        CopyId::A if state & STATE_ACTIVE == 0 => {
            let next = at(steady | STATE_ACTIVE, generation.saturating_add(1));
            is_mix(page, &at(state, generation), &next)
        }
        CopyId::B if state & STATE_CLEAN != 0 => {
            let new = at(state, generation);
            let before = generation.saturating_sub(SKIPPED)..generation;
            before.rev().any(|generation| is_mix(page, &at(steady | STATE_ACTIVE, generation), &new))
        }
        _ => false,
    }
}

/// Whether each word of `page` is that of one of two pages.
fn is_mix(page: &PageBytes, old: &PageBytes, new: &PageBytes) -> bool {
    const WORD: usize = 8;
    let mut words = page.chunks(WORD).zip(old.chunks(WORD).zip(new.chunks(WORD)));
    words.all(|(word, (old, new))| word == old || word == new)
}

/// Whether state flags make sense together: exactly one of clean and active, and none that is not defined.
#[must_use]
pub fn state_is_sound(state: u32) -> bool {
    (state & STATE_CLEAN != 0) != (state & STATE_ACTIVE != 0) && state & !STATE_FLAGS == 0
}

/// What a page's two copies were found to be; reads both.
pub(crate) fn find_page<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    page: PageNo,
    bytes: [&mut PageBytes; 2],
) -> [Found; 2] {
    let mut found = [Found::Unreadable; 2];
    for ((copy, bytes), found) in CopyId::BOTH.into_iter().zip(bytes).zip(&mut found) {
        let offset = superblocks.geometry().page_offset(copy, page);
        *found = match source.read_at(offset, bytes.as_mut_slice()) {
            Ok(()) => look(superblocks, copy, page, bytes),
            Err(ReadError::Absent { why, .. }) => Found::Absent(why),
            Err(ReadError::Io { .. }) => Found::Unreadable,
        };
    }
    found
}

/// What one copy of a page, already read, is.
pub(crate) fn look(superblocks: &Superblocks, copy: CopyId, page: PageNo, bytes: &PageBytes) -> Found {
    let Some(place) = superblocks.place(copy, page) else {
        return Found::Bad(SealFault::Overwritten);
    };
    match gmfs_format::seal::check(bytes, &place) {
        Ok(generation) => Found::Good(generation),
        Err(fault) => Found::Bad(fault),
    }
}

/// Whether the payloads of two pages are the same.
pub(crate) fn same_payload(a: &PageBytes, b: &PageBytes) -> bool {
    let header = size_of::<PageHeader>();
    a[header..] == b[header..]
}

/// The kinds that are tables, with the pages of each that are in use.
#[must_use]
pub fn used_tables(superblock: &Superblock) -> [(PageKind, std::ops::Range<u32>); 2] {
    [(PageKind::BlockTable, superblock.used_table_pages()), (PageKind::InodeTable, superblock.used_inode_pages())]
}

/// The metadata pages that are in use, ascending, superblock first; all of them where nobody recorded which are.
#[must_use]
pub fn used_ranges(superblocks: &Superblocks) -> Vec<std::ops::Range<u32>> {
    if superblocks.are_rebuilt() {
        let pages = gmfs_format::units::to_u32(superblocks.geometry().pages());
        return std::iter::once(0..pages).collect();
    }
    let tables = used_tables(superblocks.current()).map(|(_, pages)| pages);
    std::iter::once(0..1).chain(tables).collect()
}

/// Whether a standing of a superblock's copy hinders writing (anything but good or recovery).
pub(crate) fn hinders(standing: Standing) -> bool {
    !matches!(standing, Standing::Good) && !standing.is_recovery()
}

/// The superblock's payload in a page, whatever the page is.
#[must_use]
pub fn payload(page: &PageBytes) -> &gmfs_format::raw::SuperblockRaw {
    &SuperblockPage::view(page).superblock
}

impl Superblocks {
    /// Both copies are now this superblock: a commit or a recovery has made them so.
    pub(crate) fn replace(&mut self, superblock: Superblock) {
        self.a = Slot::Good(Box::new(superblock.clone()));
        self.b = Slot::Good(Box::new(superblock.clone()));
        self.current = superblock;
        self.phase = phase(&self.a, &self.b);
        self.page_phase = page_phase(&self.a, &self.b, self.phase);
        let found = self.a.found();
        self.judgement = judge(found, found, self.current.generation, self.phase, || true);
        self.went_back = None;
    }
}
