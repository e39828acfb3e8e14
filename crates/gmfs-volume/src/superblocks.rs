//! The two superblocks. This module finds and judges them, and derives from them how the rest of a region is judged.

use gmfs_format::native::copies::{Found, Judgement, Phase, Standing, judge};
use gmfs_format::native::features::Features;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{PageHeader, PageTrailer, SuperblockPage};
use gmfs_format::native::seal::{PageKind, Place, SealFault};
use gmfs_format::native::sum::{Marks, Sum};
use gmfs_format::native::superblock::{STATE_ACTIVE, STATE_CLEAN, STATE_FLAGS, Superblock, SuperblockFault};
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageBytes, PageNo, PmdShift, round_down};
use gmfs_io::{Absence, ReadAt, ReadError};
use std::sync::Arc;

use uuid::Uuid;

use crate::census::{Census, Identity};
use crate::decide::{self, Decision, Outcome, Proven};
use crate::regions;

/// What is at the location of one copy of the superblock.
#[derive(Debug)]
pub enum Slot {
    /// A superblock with a consistent structure.
    Good(Box<Superblock>),
    /// No usable superblock. The page is kept as it was found.
    Bad(SuperblockFault, Box<PageBytes>),
    /// The image does not hold the page.
    Absent(Absence),
    /// The medium could not be read.
    Unreadable(std::io::Error),
    /// The location is unknown, because the other copy is lost too.
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

    /// What was found, as pages are judged.
    #[must_use]
    pub fn found(&self) -> Found {
        match self {
            Self::Good(superblock) => Found::Good(superblock.generation),
            Self::Bad(SuperblockFault::Seal(fault), _) => Found::Bad(*fault),
            // A superblock with a good seal and false values was not written by a commit of gmfs.
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
#[non_exhaustive]
pub enum OpenError {
    /// There is no region, or both of its superblocks are lost.
    #[error("no region: superblock A: {a}; superblock B: {b}")]
    NoRegion {
        /// What is at the start.
        a: Box<Slot>,
        /// What was found of copy B.
        b: Box<Slot>,
    },
    /// Features that gmfs does not know forbid even reading.
    #[error("the region uses features that this program does not know (incompatible mask {0:#x}); use a newer gmfs")]
    Incompatible(u64),
    /// Features that gmfs does not know forbid writing.
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
    /// Pages are damaged. Nothing may be changed until they are repaired.
    #[error("{pages} metadata pages are damaged (the first is page {first}): check the region before changing it")]
    Damaged {
        /// How many pages are damaged.
        pages: u64,
        /// The first of them.
        first: PageNo,
    },
    /// The pages that are left do not prove what the newest state of the region is.
    #[error("the pages that are left do not prove the region's newest state: check the region before changing it")]
    Doubt,
    /// Pages of several regions are at locations of one another.
    #[error("pages of several regions lie here ({regions}), and nothing tells whose this range is")]
    Contended {
        /// Their UUIDs and births.
        regions: String,
    },
    /// Reading failed.
    #[error("cannot read the region")]
    Read(#[from] ReadError),
    /// Recovery could not write.
    #[error("cannot recover the region")]
    Write(#[from] gmfs_io::WriteError),
}

/// Both superblocks, the decision about their region, and what follows from it.
#[derive(Debug)]
pub struct Superblocks {
    /// The superblock of copy A.
    pub a: Slot,
    /// The superblock of copy B.
    pub b: Slot,
    current: Superblock,
    decision: Decision,
    /// The facts on which the decision is based; none while it is only presumed.
    census: Option<Arc<Census>>,
    phase: Phase,
    page_phase: Phase,
    judgement: Judgement,
    rivals: Vec<Identity>,
    /// Whether pages are left of another region that does not contend with this one.
    others: bool,
}

/// The region that the user means, if pages of several are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its birth, if the UUID is not enough.
    pub birth: Option<u64>,
}

impl Chosen {
    /// Whether it is this region.
    pub(crate) fn is(&self, identity: &Identity) -> bool {
        self.uuid == identity.uuid && self.birth.is_none_or(|birth| birth == identity.birth)
    }
}

impl std::str::FromStr for Chosen {
    type Err = String;

    /// Parses `UUID` or `UUID.BIRTH`, which is how messages name regions.
    fn from_str(text: &str) -> Result<Self, String> {
        let (uuid, birth) = match text.split_once('.') {
            Some((uuid, birth)) => (uuid, Some(birth)),
            None => (text, None),
        };
        let uuid = Uuid::parse_str(uuid).map_err(|error| format!("'{uuid}' is no UUID: {error}"))?;
        let hex = |birth| u64::from_str_radix(birth, 16).map_err(|_| format!("'{birth}' is no birth: 16 hex digits"));
        Ok(Self { uuid, birth: birth.map(hex).transpose()? })
    }
}

impl Superblocks {
    /// Reads both superblocks of the region that fills `source`. Unless both are good, equal and clean, it also reads
    /// the pages of the tables, and decides which of them are the state of the region.
    ///
    /// # Errors
    /// [`OpenError::NoRegion`] if neither can be used, whatever is left of the tables; [`OpenError::Contended`] if
    /// pages of several regions are left, and it is unknown which one is meant.
    pub fn load<S: ReadAt + ?Sized>(source: &S) -> Result<Self, OpenError> {
        let loaded = Self::load_any(source, None)?;
        loaded.require_uncontended()?;
        if loaded.are_rebuilt() {
            return Err(OpenError::NoRegion { a: Box::new(loaded.a), b: Box::new(loaded.b) });
        }
        Ok(loaded)
    }

    /// Like [`load`](Self::load), but it also loads a region whose superblocks are both lost if the tables prove it.
    /// `chosen` selects a region if pages of several are left.
    ///
    /// # Errors
    /// [`OpenError::NoRegion`] if there is none.
    pub fn load_any<S: ReadAt + ?Sized>(source: &S, chosen: Option<Chosen>) -> Result<Self, OpenError> {
        match Self::presumed(source, chosen).filter(Self::is_plain) {
            Some(presumed) => Ok(presumed),
            None => Self::decide(source, chosen),
        }
    }

    /// Presumes that the superblocks are right, unless they contradict themselves. This is for a pass over all pages
    /// that ends with [`confirm`](Self::confirm).
    ///
    /// # Errors
    /// [`OpenError::NoRegion`] if there is none.
    pub fn presume<S: ReadAt + ?Sized>(source: &S, chosen: Option<Chosen>) -> Result<Self, OpenError> {
        match Self::presumed(source, chosen) {
            Some(presumed) => Ok(presumed),
            None => Self::decide(source, chosen),
        }
    }

    /// Whether the facts of all pages before the marks confirm what was presumed. Only then may it be used to change
    /// anything.
    #[must_use]
    pub fn confirm<S: ReadAt + ?Sized>(&mut self, source: &S, mut census: Census) -> bool {
        if self.census.is_some() {
            return true;
        }
        add_slots(&mut census, self.geometry(), [&self.a, &self.b]);
        let Decision { generation, marks, sum, .. } = self.decision;
        let fits = census.top() == generation
            && census.marks() == marks
            && census.conflicts().is_empty()
            && census.strangers().is_empty()
            && decide::decide(self.geometry(), &census, self.a.good(), self.b.good()).outcome == Outcome::Whole
            && self.current.sum == sum
            && self.current.group_sums().into_iter().fold(Sum::default(), |all, sum| all + sum) == sum
            && (CopyId::BOTH.into_iter().all(|copy| census.is_present(copy)) || self.is_cut() || self.is_alone(source))
            && !self.is_newer_past(source, marks, generation);
        if fits {
            self.census = Some(Arc::new(census));
        }
        fits
    }

    /// Whether a superblock's location is not in the image, so that nothing can be written there.
    const fn is_cut(&self) -> bool {
        matches!(self.a, Slot::Absent(_)) || matches!(self.b, Slot::Absent(_))
    }

    /// Whether no page of another region is found. If one of the copies is gone, another region may claim its location.
    fn is_alone<S: ReadAt + ?Sized>(&self, source: &S) -> bool {
        let own = self.identity();
        crate::rebuild::identities(source).iter().all(|found| *found == own)
    }

    /// Whether the first page past either mark is a statement of a later commit than `generation`. A commit that raises
    /// a mark writes every page up to the new one, so these two pages show whether any pages past the marks are newer.
    pub(crate) fn is_newer_past<S: ReadAt + ?Sized>(&self, source: &S, marks: Marks, generation: Generation) -> bool {
        let [table, inodes] = marks.ranges(self.geometry()).map(|pages| PageNo(pages.end));
        let kinds = [(table, PageKind::BlockTable), (inodes, PageKind::InodeTable)];
        let past = kinds.into_iter().filter(|(page, kind)| self.geometry().page_kind(*page) == Some(*kind));
        let (mut a, mut b) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
        past.into_iter().any(|(page, _)| {
            let found = find_page(source, self, page, [&mut a, &mut b]);
            found.into_iter().any(|found| found.generation().is_some_and(|seen| seen > generation))
        })
    }

    /// Whether the decision has not been confirmed yet.
    #[must_use]
    pub const fn is_presumed(&self) -> bool {
        self.census.is_none()
    }

    /// Reads what is left of every region, and decides.
    ///
    /// # Errors
    /// [`OpenError::NoRegion`] if there is none.
    pub fn decide<S: ReadAt + ?Sized>(source: &S, chosen: Option<Chosen>) -> Result<Self, OpenError> {
        let regions::Choice { claim, rivals, others } = regions::choose(source, chosen)?;
        let mut decided = Self::with(claim.a, claim.b, claim.identity, claim.decision, source.end());
        (decided.rivals, decided.others) = (rivals, others);
        decided.census = Some(Arc::new(claim.census));
        decided.bring_up();
        if decided.decision.outcome != Outcome::Doubt && !decided.holds_current() {
            decided.recount(source);
        }
        Ok(decided)
    }

    /// The only region that superblocks name, as they say it is. `None` if the user has chosen one.
    fn presumed<S: ReadAt + ?Sized>(source: &S, chosen: Option<Chosen>) -> Option<Self> {
        if chosen.is_some() {
            return None;
        }
        let (identity, a, b) = twins(source).or_else(|| match find(source, false).as_slice() {
            [only] => {
                let (a, b) = slots(source, only);
                Some((*only, a, b))
            }
            _ => None,
        })?;
        let newest = newest(&a, &b)?;
        let decision = Decision::all_proven(Outcome::Whole, newest.generation, newest.marks(), newest.sum);
        Some(Self::with(a, b, identity, decision, source.end()))
    }

    /// A region of which nothing has been read yet. It is used to read its pages.
    pub(crate) fn unseen(identity: Identity) -> Self {
        let decision = Decision {
            outcome: Outcome::Doubt,
            generation: Generation(u64::MAX),
            marks: Marks::all(identity.geometry),
            marks_proven: false,
            sum: Sum::default(),
            proven: Proven::Some(Vec::new()),
            conflict: false,
        };
        Self::with(Slot::Unknown, Slot::Unknown, identity, decision, None)
    }

    fn with(a: Slot, b: Slot, identity: Identity, decision: Decision, end: Option<u64>) -> Self {
        let current = match newest(&a, &b) {
            Some(newest) => newest.clone(),
            None => made_anew(identity, end),
        };
        let (phase, page_phase) = (phase(&a, &b), Phase::Idle);
        let found = Found::Unreadable;
        let judgement = judge(found, found, current.generation, phase, || true);
        let mut superblocks = Self {
            a,
            b,
            current,
            decision,
            census: None,
            phase,
            page_phase,
            judgement,
            rivals: Vec::new(),
            others: false,
        };
        superblocks.judge_slots();
        superblocks
    }

    /// Decides what the superblocks show about a change in progress.
    fn judge_slots(&mut self) {
        let (a, b) = (&self.a, &self.b);
        self.phase = phase(a, b);
        self.page_phase = page_phase(a, b, self.phase);
        let newest = newest(a, b);
        let behind = newest.is_some_and(|newest| newest.generation < self.decision.generation);
        let active = newest.is_some_and(|newest| newest.raw.state.get() & STATE_ACTIVE != 0);
        let equal = || a.good() == b.good();
        let committed = newest.map_or(Generation::default(), |newest| newest.generation);
        let mut judgement = judge(a.found(), b.found(), committed, self.phase, equal);
        if behind && self.decision.outcome == Outcome::Whole {
            // All pages of a commit may be in copy A although no superblock has its generation yet.
            let standing = if active { Standing::Lagging } else { Standing::Stale };
            for (slot, place) in [(a, &mut judgement.a), (b, &mut judgement.b)] {
                if slot.good().is_some() {
                    *place = standing;
                }
            }
            if active {
                (self.phase, self.page_phase) = (Phase::ToB, Phase::ToB);
            }
        }
        self.judgement = judgement;
    }

    /// Whether both superblocks are good, equal and clean, so that each page can be read by itself.
    fn is_plain(&self) -> bool {
        let clean = self.current.raw.state.get() & STATE_ACTIVE == 0;
        self.a.good().is_some() && self.a.good() == self.b.good() && clean
    }

    /// Updates the current superblock to the decision.
    fn bring_up(&mut self) {
        let Decision { outcome, generation, marks, .. } = self.decision;
        let current = &mut self.current;
        if generation > current.generation {
            let commits = current.raw.write_count.get().saturating_add(1);
            current.raw.write_count = commits.into();
            // The time of that commit is lost. The cache line with the time must still differ from that of the old
            // superblock, because a torn write could otherwise give the old superblock again.
            current.raw.written = current.raw.written.get().saturating_add(1).into();
        }
        current.generation = generation;
        // The commit did not happen, so the superblocks are still those from before it.
        if outcome == Outcome::RolledBack {
            return;
        }
        current.set_marks(marks);
        let sums = self.census.as_ref().and_then(|census| census.sums(self.current.geometry(), marks));
        if let Some(sums) = sums {
            self.current.set_group_sums(&sums);
        }
    }

    /// Whether the current superblock is one of the two, so that a commit has kept its counts.
    fn holds_current(&self) -> bool {
        newest(&self.a, &self.b).is_some_and(|newest| *newest == self.current)
    }

    /// Counts blocks and inodes again.
    fn recount<S: ReadAt + ?Sized>(&mut self, source: &S) {
        let raw = crate::rebuild::counted(source, self);
        self.current.raw = raw;
    }

    /// Whether both superblocks are still as they were when they were read.
    pub fn is_still_there<S: ReadAt + ?Sized>(&self, source: &S) -> bool {
        let (a, b) = slots(source, &self.identity());
        a.good() == self.a.good() && b.good() == self.b.good()
    }

    /// Whether both copies of the superblock were missing.
    #[must_use]
    pub fn are_rebuilt(&self) -> bool {
        self.a.good().is_none() && self.b.good().is_none()
    }

    /// The superblock that is used.
    #[must_use]
    pub const fn current(&self) -> &Superblock {
        &self.current
    }

    /// The region's generation.
    #[must_use]
    pub const fn committed(&self) -> Generation {
        self.decision.generation
    }

    /// The decision, or what is presumed.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The facts on which the decision is based; none while it is presumed.
    #[must_use]
    pub fn census(&self) -> Option<&Census> {
        self.census.as_deref()
    }

    /// What distinguishes the region from others.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::of(&self.current)
    }

    /// The region's layout.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.current.geometry()
    }

    /// The change that was in progress when the region was written last.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The change that may be in progress in the table pages. None if only a session mark was being written.
    #[must_use]
    pub const fn page_phase(&self) -> Phase {
        self.page_phase
    }

    /// The regions that contend for the same locations, this one first, if there are several. Nothing may be written
    /// then.
    #[must_use]
    pub fn rivals(&self) -> &[Identity] {
        &self.rivals
    }

    /// Whether more than a stray page is left of another region that does not contend with this one.
    #[must_use]
    pub const fn has_others(&self) -> bool {
        self.others
    }

    /// Whether pages that the decision needs cannot be read in either copy.
    #[must_use]
    pub fn lacks_pages(&self) -> bool {
        let unseen = self.census.as_ref().map_or([0, 0], |census| census.unseen());
        let slot = |slot: &Slot| matches!(slot, Slot::Absent(_) | Slot::Unreadable(_));
        unseen != [0, 0] || slot(&self.a) || slot(&self.b)
    }

    /// Whether each page is proven by itself, for example by the sums of groups, although the sum of all does not
    /// match. Then the superblock contradicts itself.
    #[must_use]
    pub fn contradicts_sums(&self) -> bool {
        let Decision { outcome, marks, proven, .. } = &self.decision;
        *outcome == Outcome::Doubt && marks.pages(self.geometry()).all(|page| proven.contains(page))
    }

    /// The superblock on the medium, if its marks or sums differ from those of the pages.
    #[must_use]
    pub fn misstated(&self) -> Option<&Superblock> {
        let newest = newest(&self.a, &self.b)?;
        let agrees = newest.generation < self.decision.generation
            || self.decision.outcome == Outcome::Doubt
            || newest.marks() == self.decision.marks
                && newest.sum == self.current.sum
                && newest.raw.group_sums == self.current.raw.group_sums;
        (!agrees).then_some(newest)
    }

    /// Refuses to continue if several regions contend.
    ///
    /// # Errors
    /// [`OpenError::Contended`].
    pub fn require_uncontended(&self) -> Result<(), OpenError> {
        if self.rivals.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = self.rivals.iter().map(ToString::to_string).collect();
        Err(OpenError::Contended { regions: named.join(", ") })
    }

    /// The verdict on the two superblock pages.
    #[must_use]
    pub const fn judgement(&self) -> Judgement {
        self.judgement
    }

    /// The verdict on a table page's two copies. `equal` is called as by [`judge`].
    pub fn judge_page(&self, page: PageNo, a: Found, b: Found, equal: impl FnOnce() -> bool) -> Judgement {
        let judged = judge(a, b, self.committed(), self.page_phase, equal);
        let uncertain = judged.take.is_some() && !self.decision.proven.contains(page);
        Judgement { uncertain, ..judged }
    }

    /// What a page must record at its location in a copy; `None` past the last page.
    #[must_use]
    pub fn place(&self, copy: CopyId, page: PageNo) -> Option<Place> {
        let kind = self.geometry().page_kind(page)?;
        let Superblock { uuid, birth, .. } = self.current;
        Some(Place { kind, copy, page, uuid, birth, geometry: self.geometry() })
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

/// A superblock for a region that has lost both. The label, the times and the features are lost.
fn made_anew(identity: Identity, end: Option<u64>) -> Superblock {
    let Identity { uuid, birth, geometry } = identity;
    // Bytes past the last block count as part of the region, unless something else is known.
    let with_tail = end
        .filter(|end| end >> geometry.pmd().bits() == u64::from(geometry.blocks()))
        .and_then(|end| Geometry::recorded(end, geometry.pmd(), geometry.metadata_blocks().into(), geometry.inodes()));
    Superblock::new(with_tail.unwrap_or(geometry), uuid, birth, Generation::default())
}

/// The regions that superblocks belong to. If the two superblocks of the region at the start of `source` agree,
/// anything after that region is only remains of other regions. They are searched for only if `all` is set.
pub(crate) fn find<S: ReadAt + ?Sized>(source: &S, all: bool) -> Vec<Identity> {
    let mut found: Vec<Identity> = Vec::new();
    if let Some(in_a) = read_slot(source, CopyId::A, 0).good() {
        let b = read_slot(source, CopyId::B, in_a.geometry().copy_offset(CopyId::B));
        found.push(Identity::of(in_a));
        if let Some(in_b) = b.good() {
            if Identity::of(in_b) != Identity::of(in_a) {
                found.push(Identity::of(in_b));
            } else if !all {
                return found;
            }
        }
    }
    for identity in find_copies_b(source) {
        if !found.contains(&identity) {
            found.push(identity);
        }
    }
    found
}

/// Both superblocks, if both are good and of one region: then [`find`] finds that region only. Reads each of them once.
fn twins<S: ReadAt + ?Sized>(source: &S) -> Option<(Identity, Slot, Slot)> {
    let a = read_slot(source, CopyId::A, 0);
    let (offset, identity) = a.good().map(|good| (good.geometry().copy_offset(CopyId::B), Identity::of(good)))?;
    let b = read_slot(source, CopyId::B, offset);
    let same = b.good().map(Identity::of) == Some(identity);
    same.then_some((identity, a, b))
}

/// Reads both superblocks of a region. A superblock of another region counts as bad.
pub(crate) fn slots<S: ReadAt + ?Sized>(source: &S, identity: &Identity) -> (Slot, Slot) {
    let read = |copy| match read_slot(source, copy, identity.geometry.copy_offset(copy)) {
        Slot::Good(superblock) if Identity::of(&superblock) != *identity => {
            let fault = if superblock.uuid != identity.uuid {
                SuperblockFault::Seal(SealFault::Foreign(superblock.uuid))
            } else if superblock.birth != identity.birth {
                SuperblockFault::Seal(SealFault::OtherBirth(superblock.birth))
            } else {
                SuperblockFault::Disagrees
            };
            Slot::Bad(fault, Box::new(superblock.page(copy)))
        }
        slot => slot,
    };
    (read(CopyId::A), read(CopyId::B))
}

/// Adds what is at the locations of its superblocks to the facts about a region.
pub(crate) fn add_slots(census: &mut Census, geometry: Geometry, slots: [&Slot; 2]) {
    for (copy, slot) in CopyId::BOTH.into_iter().zip(slots) {
        match slot {
            Slot::Good(superblock) => census.add_superblock(copy, superblock),
            Slot::Bad(_, page) => census.note_stranger_at_superblock(page, geometry.copy_offset(copy)),
            Slot::Absent(_) | Slot::Unreadable(_) | Slot::Unknown => {}
        }
    }
}

/// Reads one superblock page.
pub(crate) fn read_slot<S: ReadAt + ?Sized>(source: &S, copy: CopyId, offset: u64) -> Slot {
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

/// The maximum number of regions that a search finds. It bounds the work that a hostile image can cause.
const MOST_FOUND: usize = 8;

/// Searches for superblocks of copy B from the end of `source` backwards: copy B starts at a block, and metadata is
/// small. Returns the regions that they belong to, the last one first.
fn find_copies_b<S: ReadAt + ?Sized>(source: &S) -> Vec<Identity> {
    let mut found = Vec::new();
    let Some(end) = source.end() else {
        return found;
    };
    let step = PmdShift::M2.block_bytes();
    let lowest = round_down(end.saturating_sub(b_window(end)), step);
    // The end may not be that of the region, because the image may have been cut short or may have grown.
    let mut offset = end.checked_next_multiple_of(step).unwrap_or(round_down(end, step));
    // How far below a page of zeros a hole is searched for. It grows each time a hole is found.
    let mut reach = step;
    let mut page = [0; PAGE_SIZE];
    while offset > lowest && found.len() < MOST_FOUND {
        // All offsets are multiples of a step.
        offset = offset.saturating_sub(step);
        if source.read_at(offset, &mut page).is_err() {
            continue;
        }
        if let Ok(superblock) = Superblock::read(&page, CopyId::B)
            && superblock.geometry().copy_offset(CopyId::B) == offset
            && !found.contains(&Identity::of(&superblock))
        {
            found.push(Identity::of(&superblock));
        }
        let below = offset.saturating_sub(reach).max(lowest);
        if page == [0; PAGE_SIZE] && matches!(source.next_data(below..offset), Ok(None)) {
            offset = below;
            reach = reach.saturating_mul(2);
        } else {
            reach = step;
        }
    }
    found
}

/// At least this many bytes before the end of an image are searched for copy B, because the image may have grown past
/// the region.
const REACH: u64 = 16 << 30;

/// How far from the end of an image copy B's superblock can be: the largest copy, with blocks of 2 MiB, plus two of the
/// largest blocks for rounding and for a tail.
fn b_window(end: u64) -> u64 {
    let rounded = PmdShift::M512.block_bytes().saturating_mul(2);
    crate::rebuild::largest_copy(end, PmdShift::M2).saturating_add(rounded).max(REACH)
}

/// The superblock that is used: the newer good one.
fn newest<'a>(a: &'a Slot, b: &'a Slot) -> Option<&'a Superblock> {
    match (a.good(), b.good()) {
        (Some(in_a), Some(in_b)) => Some(if in_b.generation > in_a.generation { in_b } else { in_a }),
        (in_a, in_b) => in_a.or(in_b),
    }
}

/// What the superblocks show about a change in progress.
fn phase(a: &Slot, b: &Slot) -> Phase {
    let active = |sb: &Superblock| sb.raw.state.get() & STATE_ACTIVE != 0;
    match (a, b) {
        // If the newer superblock is clean, only the session mark itself can be in progress. Otherwise the older one
        // went back in time.
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

/// The change that may be in progress in the table pages. A session mark is written only while both copies of all pages
/// are equal. So if copy A's superblock is clean, or there is no commit between the two, no page is being written.
fn page_phase(a: &Slot, b: &Slot, phase: Phase) -> Phase {
    let clean = |sb: &Superblock| sb.raw.state.get() & STATE_ACTIVE == 0;
    match (phase, a.good(), b.good()) {
        (Phase::ToB, Some(in_a), Some(in_b)) if in_a.raw.write_count == in_b.raw.write_count => Phase::Idle,
        (Phase::ToB, Some(in_a), _) if clean(in_a) => Phase::Idle,
        (Phase::ToA, None, Some(in_b)) if clean(in_b) => Phase::Idle,
        _ => phase,
    }
}

/// Whether `page` is in a state that a crash leaves while a session mark (*active*, or *clean* at the end) is being
/// written.
///
/// Such a write changes only the header and the state flags, so the old and the new page can both be computed from the
/// other copy. A torn page consists of words of these two and of nothing else. Damage looks different. (A power loss
/// tears at cache lines of 64 bytes; the death of the writing program tears at any word of its copy.)
fn is_torn_mark(page: &PageBytes, copy: CopyId, other: &Superblock) -> bool {
    /// How many generations the mark *clean* may skip: one for each change that was aborted, whose generation is not
    /// reused.
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
    // For copy A, the other copy has the old state; for copy B it has the new one.
    match copy {
        CopyId::A if state & STATE_ACTIVE == 0 => {
            let old = at(state, generation);
            let first = crate::commit::session_generation(Generation(generation)).map_or(generation, |round| round.0);
            // Aborted changes may have moved the session's first generation to the next round number.
            let begins = [first, first.saturating_add(256)];
            begins.into_iter().any(|generation| is_mix(page, &old, &at(steady | STATE_ACTIVE, generation)))
        }
        CopyId::B if state & STATE_CLEAN != 0 => {
            let new = at(state, generation);
            let before = generation.saturating_sub(SKIPPED)..generation;
            before.rev().any(|generation| is_mix(page, &at(steady | STATE_ACTIVE, generation), &new))
        }
        _ => false,
    }
}

/// Whether each word of `page` equals that of one of two pages.
fn is_mix(page: &PageBytes, old: &PageBytes, new: &PageBytes) -> bool {
    const WORD: usize = 8;
    let mut words = page.chunks(WORD).zip(old.chunks(WORD).zip(new.chunks(WORD)));
    words.all(|(word, (old, new))| word == old || word == new)
}

/// Whether state flags are consistent: exactly one of clean and active, and no undefined flag.
#[must_use]
pub fn state_is_sound(state: u32) -> bool {
    (state & STATE_CLEAN != 0) != (state & STATE_ACTIVE != 0) && state & !STATE_FLAGS == 0
}

/// Reads both copies of a page, and finds what they are.
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
            Ok(()) => condition_of(superblocks, copy, page, bytes),
            Err(ReadError::Absent { why, .. }) => Found::Absent(why),
            Err(ReadError::Io { .. }) => Found::Unreadable,
        };
    }
    found
}

/// What one copy of a page, already read, is.
pub(crate) fn condition_of(superblocks: &Superblocks, copy: CopyId, page: PageNo, bytes: &PageBytes) -> Found {
    let Some(place) = superblocks.place(copy, page) else {
        return Found::Bad(SealFault::Overwritten);
    };
    match gmfs_format::native::seal::check(bytes, &place) {
        Ok(generation) => Found::Good(generation),
        Err(fault) => Found::Bad(fault),
    }
}

/// Whether the payloads and the trailers of two pages are the same.
pub(crate) fn same_payload(a: &PageBytes, b: &PageBytes) -> bool {
    part(a, HEADER_END..PAGE_SIZE) == part(b, HEADER_END..PAGE_SIZE)
}

/// Whether two pages have the same blocks or inodes, whatever their headers and trailers contain.
pub(crate) fn same_content(a: &PageBytes, b: &PageBytes) -> bool {
    part(a, HEADER_END..TRAILER) == part(b, HEADER_END..TRAILER)
}

/// The offset of the payload in a page.
const HEADER_END: usize = size_of::<PageHeader>();
/// The offset of the trailer in a page.
const TRAILER: usize = PAGE_SIZE - size_of::<PageTrailer>();
const _: () = assert!(HEADER_END < TRAILER && TRAILER < PAGE_SIZE);

/// A part of a page. No part reaches past the end of the page; if one did, the whole page would be returned.
fn part(page: &PageBytes, bytes: std::ops::Range<usize>) -> &[u8] {
    page.get(bytes).unwrap_or(page)
}

/// The kinds that are tables, with the pages of each that are in use.
#[must_use]
pub fn used_tables(superblock: &Superblock) -> [(PageKind, std::ops::Range<u32>); 2] {
    [(PageKind::BlockTable, superblock.used_table_pages()), (PageKind::InodeTable, superblock.used_inode_pages())]
}

/// The metadata pages in use, ascending, with the superblock first.
#[must_use]
pub fn used_ranges(superblocks: &Superblocks) -> Vec<std::ops::Range<u32>> {
    let tables = used_tables(superblocks.current()).map(|(_, pages)| pages);
    std::iter::once(0..1).chain(tables).collect()
}

/// Whether the state of a superblock's copy prevents writing: it is neither good nor left to recovery.
pub(crate) fn hinders(standing: Standing) -> bool {
    !matches!(standing, Standing::Good) && !standing.is_recovery()
}

/// The superblock's payload in a page, whatever the page is.
#[must_use]
pub fn payload(page: &PageBytes) -> &gmfs_format::native::raw::SuperblockRaw {
    &SuperblockPage::view(page).superblock
}

impl Superblocks {
    /// Sets both copies to this superblock. A commit or a recovery has made both copies of all pages equal.
    pub(crate) fn replace(&mut self, superblock: Superblock) {
        self.a = Slot::Good(Box::new(superblock.clone()));
        self.b = Slot::Good(Box::new(superblock.clone()));
        self.decision = Decision::all_proven(Outcome::Whole, superblock.generation, superblock.marks(), superblock.sum);
        self.current = superblock;
        self.judge_slots();
    }
}
