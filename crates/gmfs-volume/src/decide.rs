//! The decision: which pages are the region's state, and which of them are proven.
//!
//! `docs/FORMAT.md`, "Deciding", describes the steps. This module performs steps 1 to 3 for one region. It uses the
//! facts of a [`Census`] and the two superblocks, and reads nothing. [`crate::superblocks`] performs step 0, which
//! chooses the region.

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::sum::{GROUPS, Marks, Sum, group};
use gmfs_format::native::superblock::{STATE_ACTIVE, Superblock};
use gmfs_format::native::units::{CopyId, Generation, PageNo, to_usize};

use crate::census::Census;

/// The kinds of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was only an interrupted commit. Copy B is the state, and the commit did not happen.
    RolledBack,
    /// The newest pages are the state, and all of them are proven.
    Whole,
    /// Something is missing or too old. The newest statement of each page counts, but only some are proven.
    Doubt,
}

/// The pages that are proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// All pages.
    All,
    /// Some pages: one bit for each page of a copy.
    Some(Vec<u64>),
}

impl Proven {
    fn none(geometry: Geometry) -> Self {
        Self::Some(vec![0; gmfs_format::native::units::small(geometry.pages().div_ceil(64))])
    }

    /// Whether a page is proven.
    #[must_use]
    pub fn contains(&self, page: PageNo) -> bool {
        match self {
            Self::All => true,
            Self::Some(bits) => bits.get(to_usize(page.0 / 64)).is_some_and(|word| word & 1 << (page.0 % 64) != 0),
        }
    }

    fn set(&mut self, page: PageNo, to: bool) {
        let Self::Some(bits) = self else { return };
        let Some(word) = bits.get_mut(to_usize(page.0 / 64)) else { return };
        if to {
            *word |= 1 << (page.0 % 64);
        } else {
            *word &= !(1 << (page.0 % 64));
        }
    }
}

/// The decision about one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The kind of result.
    pub outcome: Outcome,
    /// The generation of the state. Newer pages do not count.
    pub generation: Generation,
    /// The high-water marks of the state. If they are in doubt, they are the ends of the tables.
    pub marks: Marks,
    /// Whether what is past the marks is known to be free.
    pub marks_proven: bool,
    /// The sum over the chosen pages, as a statement of that generation records it.
    pub sum: Sum,
    /// Which pages are proven.
    pub proven: Proven,
    /// Whether the two copies of a page contradict each other.
    pub conflict: bool,
}

impl Decision {
    /// A state that is completely proven and without contradictions between copies.
    pub(crate) const fn all_proven(outcome: Outcome, generation: Generation, marks: Marks, sum: Sum) -> Self {
        Self { outcome, generation, marks, marks_proven: true, sum, proven: Proven::All, conflict: false }
    }

    /// Whether the whole state is proven, and no copies contradict each other.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.outcome != Outcome::Doubt && !self.conflict
    }

    /// The same state with no page proven. It is used if the state contradicts itself.
    #[must_use]
    pub fn distrusted(&self, geometry: Geometry) -> Self {
        Self { outcome: Outcome::Doubt, proven: Proven::none(geometry), ..self.clone() }
    }
}

/// Decides about the region of this census. The superblocks must be those of the region.
#[must_use]
pub fn decide(geometry: Geometry, census: &Census, a: Option<&Superblock>, b: Option<&Superblock>) -> Decision {
    rolled_back(geometry, census, a, b)
        .or_else(|| whole(geometry, census))
        .unwrap_or_else(|| doubt(geometry, census, [a, b]))
}

/// Step 1: everything is as a commit leaves it that was interrupted while it wrote to copy A.
fn rolled_back(
    geometry: Geometry,
    census: &Census,
    a: Option<&Superblock>,
    b: Option<&Superblock>,
) -> Option<Decision> {
    let (a, b) = (a?, b?);
    let before = a.generation;
    let equal = a == b && a.raw.state.get() & STATE_ACTIVE != 0;
    if !equal || census.top() != Generation(before.0.checked_add(1)?) || !census.conflicts().is_empty() {
        return None;
    }
    let marks = a.marks();
    // The commit has not touched copy B, so its marks must be those of the superblock.
    if census.marks_in_b() != marks {
        return None;
    }
    let mut sum = Sum::default();
    for page in marks.pages(geometry) {
        let in_b = census.statement(CopyId::B, page).filter(|generation| *generation <= before)?;
        sum = sum + Sum::of(page, in_b);
        let in_a = census.statement(CopyId::A, page);
        let fits = in_a == Some(in_b) || in_a == Some(census.top()) || census.is_torn(CopyId::A, page);
        if !fits {
            return None;
        }
    }
    // Every other newer page must be in copy A and belong to the interrupted commit.
    let mut seen = census.seen().flatten().map(PageNo);
    let stray = seen.any(|page| {
        let newer = |copy| census.statement(copy, page).is_some_and(|generation| generation > before);
        newer(CopyId::B) || newer(CopyId::A) && census.statement(CopyId::A, page) != Some(census.top())
    });
    (sum == a.sum && !stray).then_some(Decision::all_proven(Outcome::RolledBack, before, marks, sum))
}

/// Step 2: a statement of the newest generation records the sum over all newest pages.
fn whole(geometry: Geometry, census: &Census) -> Option<Decision> {
    // Marks only grow, so the highest marks in any statement are those of the region. The sum proves it.
    let marks = census.marks();
    let sums = census.sums(geometry, marks)?;
    let sum = sums.iter().fold(Sum::default(), |all, sum| all + *sum);
    census.witnesses().iter().any(|(_, given)| *given == sum).then(|| Decision {
        conflict: !census.conflicts().is_empty(),
        ..Decision::all_proven(Outcome::Whole, census.top(), marks, sum)
    })
}

/// Step 3: page by page.
fn doubt(geometry: Geometry, census: &Census, superblocks: [Option<&Superblock>; 2]) -> Decision {
    let top = census.top();
    let mut decision = Decision {
        outcome: Outcome::Doubt,
        generation: top,
        marks: Marks::all(geometry),
        marks_proven: false,
        sum: Sum::default(),
        proven: Proven::none(geometry),
        conflict: !census.conflicts().is_empty(),
    };
    let [(marks, sum)] = *census.witnesses() else { return decision };
    if marks != census.marks() {
        return decision;
    }
    (decision.marks, decision.marks_proven, decision.sum) = (marks, true, sum);
    // Without a superblock, later commits may have disappeared completely. Pages that they wrote past the marks are
    // then lost and not free, except where there is nothing at their locations.
    if !superblocks.into_iter().flatten().any(|superblock| superblock.generation == top) {
        decision.marks = marks.higher(census.occupied());
    }
    let pages = || marks.pages(geometry);
    let mut proven = Proven::none(geometry);
    let of_top = |page: &PageNo| census.newest(*page).is_some_and(|(generation, _)| generation == top);
    explain(census, pages(), sum, &mut proven);
    let newest = superblocks.into_iter().flatten();
    for superblock in newest.filter(|sb| sb.generation == top && sb.marks() == marks && sb.sum == sum) {
        // The newest page may be a false one with a good seal, if only the page itself says that it is the newest. A
        // superblock confirms it.
        for page in pages().filter(of_top) {
            proven.set(page, true);
        }
        for (number, sum) in superblock.group_sums().into_iter().enumerate() {
            explain(census, pages().filter(|page| group(*page) == number), sum, &mut proven);
        }
    }
    for page in census.conflicts() {
        proven.set(*page, false);
    }
    // A commit that may not have happened proves nothing.
    if !census.is_evidenced() {
        for page in pages().filter(of_top) {
            proven.set(page, false);
        }
    }
    decision.proven = proven;
    decision
}

/// Proves pages by their sum: all of them if it matches, and all but one if one page explains the difference.
fn explain(census: &Census, pages: impl Iterator<Item = PageNo> + Clone, sum: Sum, proven: &mut Proven) {
    let mut rest = sum;
    let mut lost = None;
    for page in pages.clone() {
        match census.newest(page) {
            Some((generation, _)) => rest = rest - Sum::of(page, generation),
            None if lost.is_some() => return,
            None => lost = Some(page),
        }
    }
    let top = census.top();
    let odd = match lost {
        None if rest == Sum::default() => None,
        Some(page) => match rest.generation(page) {
            Some(generation) if generation <= top => Some(page),
            _ => return,
        },
        None => {
            let is_old = |page: &PageNo| {
                let Some((generation, _)) = census.newest(*page) else { return false };
                let should = (rest + Sum::of(*page, generation)).generation(*page);
                should.is_some_and(|should| should > generation && should <= top)
            };
            let mut old = pages.clone().filter(is_old);
            match (old.next(), old.next()) {
                (Some(page), None) => Some(page),
                _ => return,
            }
        }
    };
    for page in pages.filter(|page| Some(*page) != odd) {
        proven.set(page, true);
    }
}

/// The sums of all groups over pages with these generations.
pub(crate) fn group_sums(pages: impl Iterator<Item = (PageNo, Generation)>) -> [Sum; GROUPS] {
    let mut sums = [Sum::default(); GROUPS];
    for (page, generation) in pages {
        if let Some(sum) = sums.get_mut(group(page)) {
            *sum = *sum + Sum::of(page, generation);
        }
    }
    sums
}
