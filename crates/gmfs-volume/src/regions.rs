//! Step 0 of the decision: chooses the region if pages of more than one are left.

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::sum::Marks;
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::CopyId;
use gmfs_io::ReadAt;

use crate::census::{Census, Identity};
use crate::decide::{Decision, Outcome, decide};
use crate::rebuild::identities;
use crate::superblocks::{Chosen, OpenError, Slot, Superblocks, add_slots, find, slots};
use crate::sweep::sweep;

/// The maximum number of regions that are examined. If there are more, nothing is written.
const MOST: usize = 16;

/// What is left of one region.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) identity: Identity,
    pub(crate) a: Slot,
    pub(crate) b: Slot,
    pub(crate) census: Census,
    pub(crate) decision: Decision,
}

impl Claim {
    /// Reads what is left of a region: the pages before the highest marks in any of its statements, and, if these do
    /// not prove themselves, the rest of both tables.
    fn take<S: ReadAt + ?Sized>(source: &S, identity: Identity) -> Self {
        let (a, b) = slots(source, &identity);
        let geometry = identity.geometry;
        let reader = Superblocks::unseen(identity);
        let mut census = Census::default();
        add_slots(&mut census, geometry, [&a, &b]);
        let known = a.good().is_some() || b.good().is_some();
        let mut read = Marks::default();
        let mut next = if known { census.marks() } else { Marks::all(geometry) };
        loop {
            for range in between(geometry, read, next) {
                let found = sweep(source, &reader, range, vec![Census::default()]);
                found.into_iter().for_each(|part| census.append(part));
            }
            // Marks past the ends of the tables are cut, because no pages reach them.
            census.bound(Marks::all(geometry));
            read = read.higher(next);
            next = census.marks();
            if next.higher(read) != read {
                continue;
            }
            let decision = decide(geometry, &census, a.good(), b.good());
            let proven = decision.outcome != Outcome::Doubt && !reader.is_newer_past(source, read, census.top());
            if proven || read == Marks::all(geometry) {
                return Self { identity, a, b, census, decision };
            }
            next = Marks::all(geometry);
        }
    }

    fn has_superblock(&self) -> bool {
        self.a.good().is_some() || self.b.good().is_some()
    }

    fn superblocks(&self) -> impl Iterator<Item = &Superblock> {
        [&self.a, &self.b].into_iter().filter_map(|slot| slot.good())
    }

    /// Whether the region counts: more is left of it than a single page that does not prove itself.
    fn counts(&self) -> bool {
        self.census.statements() > 1 || self.decision.outcome != Outcome::Doubt
    }

    /// Whether the region is whole and has a superblock and pages in both copies, and no page of another region is at
    /// its locations. The locations of an empty copy may belong to another region.
    fn is_alone(&self) -> bool {
        let both = CopyId::BOTH.into_iter().all(|copy| self.census.is_present(copy));
        self.is_whole() && self.has_superblock() && both && !self.has_strangers()
    }

    fn is_whole(&self) -> bool {
        self.decision.outcome != Outcome::Doubt
    }

    /// Whether a page of another region is at a location of this one.
    fn has_strangers(&self) -> bool {
        self.census.has_strangers_before(self.decision.marks)
    }

    /// Whether a page of another region is at a location of this one, and nothing shows which region is newer.
    fn is_disputed(&self) -> bool {
        self.has_strangers() && !self.is_whole() && !self.has_superblock()
    }

    /// Whether pages of `other` are at locations of this region, or may be.
    fn holds(&self, other: &Self) -> bool {
        let marks = self.decision.marks;
        let mut strangers = self.census.strangers().iter().filter(|stranger| stranger.lies_before(marks));
        self.census.has_more_strangers() || strangers.any(|stranger| stranger.identity == other.identity)
    }

    /// Whether two regions contend. A region without superblocks, for example the remains of an older one, contends
    /// with a region that has one only if pages of the former are at locations of the latter.
    fn contends(&self, other: &Self) -> bool {
        match (self.has_superblock(), other.has_superblock()) {
            (true, false) => self.holds(other),
            (false, true) => other.holds(self),
            _ => self.holds(other) || other.holds(self),
        }
    }

    /// Whether this region has replaced `other`, as the result of a restore, far enough to be whole.
    fn replaces(&self, other: &Self) -> bool {
        let named = |superblock: &Superblock| superblock.raw.replaces.get() == other.identity.birth;
        self.identity.uuid == other.identity.uuid
            && self.identity.birth != other.identity.birth
            && self.superblocks().any(named)
    }
}

/// The pages before `next` that are not before `read`.
fn between(geometry: Geometry, read: Marks, next: Marks) -> [std::ops::Range<u32>; 2] {
    let [[table_from, inodes_from], [table_to, inodes_to]] = [read.ranges(geometry), next.ranges(geometry)];
    [table_from.end..table_to.end.max(table_from.end), inodes_from.end..inodes_to.end.max(inodes_from.end)]
}

/// The region that was chosen.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) claim: Claim,
    /// The regions that contend with each other, this one first, if it is not certain which one is meant.
    pub(crate) rivals: Vec<Identity>,
    /// Whether there is another region that counts and does not contend.
    pub(crate) others: bool,
}

/// Chooses the region: the only one that counts, or the one that the user has named.
///
/// # Errors
/// [`OpenError::NoRegion`].
pub(crate) fn choose<S: ReadAt + ?Sized>(source: &S, chosen: Option<Chosen>) -> Result<Choice, OpenError> {
    let (mut claims, more) = claims(source, chosen);
    if let Some(chosen) = chosen {
        return named(claims, chosen).ok_or_else(|| none(source));
    }
    let counting = counting(&claims);
    let strays = counting.is_empty() && claims.len() > 1;
    let only = only(&claims, &counting);
    // The remains of a region without superblocks that do not prove themselves may be those of an older region. Then
    // even a single page of another region contends.
    let disputed = only.and_then(|number| claims.get(number)).is_some_and(Claim::is_disputed);
    let plain = only.is_some() && !more && !strays && !disputed;
    let others = counting.len() > 1;
    let all = if counting.is_empty() { (0..claims.len()).collect() } else { counting };
    let preferred = only.or_else(|| {
        let rank = |number: &usize| {
            claims.get(*number).map(|claim| (claim.is_whole(), claim.has_superblock(), claim.census.statements()))
        };
        all.iter().copied().max_by_key(rank)
    });
    let preferred = preferred.filter(|number| *number < claims.len()).ok_or_else(|| none(source))?;
    let rivals = if plain { Vec::new() } else { rivals(&claims, &all, preferred) };
    Ok(Choice { claim: claims.swap_remove(preferred), rivals, others })
}

/// Collects what is left of each region, and whether there are more regions than are examined.
fn claims<S: ReadAt + ?Sized>(source: &S, chosen: Option<Chosen>) -> (Vec<Claim>, bool) {
    let mut wanted = find(source, chosen.is_some());
    let mut claims: Vec<Claim> = Vec::new();
    let mut searched = false;
    loop {
        // Remains at other locations than those of a whole region do not contend with it, so they are not searched for.
        let settled = chosen.is_none() && wanted.len() == 1 && claims.first().is_some_and(Claim::is_alone);
        if claims.len() == MOST.min(wanted.len()) && !searched && !settled {
            searched = true;
            add_new(&mut wanted, identities(source));
        }
        if claims.len() == MOST.min(wanted.len()) {
            break;
        }
        let Some(identity) = wanted.get(claims.len()) else { break };
        let claim = Claim::take(source, *identity);
        add_new(&mut wanted, claim.census.strangers().iter().map(|stranger| stranger.identity));
        claims.push(claim);
    }
    (claims, wanted.len() > MOST)
}

/// Adds those elements that are not in the list yet.
fn add_new(list: &mut Vec<Identity>, more: impl IntoIterator<Item = Identity>) {
    for identity in more {
        if !list.contains(&identity) {
            list.push(identity);
        }
    }
}

/// The region that the user has named, or several if the name fits several.
fn named(claims: Vec<Claim>, chosen: Chosen) -> Option<Choice> {
    let mut fitting = claims.into_iter().filter(|claim| chosen.is(&claim.identity)).collect::<Vec<_>>();
    fitting.sort_by_key(|claim| (!claim.counts(), std::cmp::Reverse(claim.census.statements())));
    let rivals: Vec<Identity> = fitting.iter().map(|claim| claim.identity).collect();
    let several = fitting.iter().filter(|claim| claim.counts()).count() > 1;
    let claim = fitting.into_iter().next()?;
    Some(Choice { claim, rivals: if several { rivals } else { Vec::new() }, others: false })
}

/// The claims that count. Regions that a restore has replaced are left out, and so are regions that a restore has not
/// completed yet while the old region is still whole.
fn counting(claims: &[Claim]) -> Vec<usize> {
    let mut left: Vec<bool> = claims.iter().map(Claim::counts).collect();
    for (number, claim) in claims.iter().enumerate() {
        for (other, replaced) in claims.iter().enumerate().filter(|(_, other)| claim.replaces(other)) {
            // Until the last page of a restore is written, the region is the one that was there before.
            let gone = match (claim.is_whole(), replaced.is_whole()) {
                (true, _) => other,
                (false, true) => number,
                (false, false) => continue,
            };
            if let Some(left) = left.get_mut(gone) {
                *left = false;
            }
        }
    }
    (0..claims.len()).filter(|number| left.get(*number) == Some(&true)).collect()
}

/// The claim that is certainly the region, if there is one.
fn only(claims: &[Claim], counting: &[usize]) -> Option<usize> {
    let contend = |a: &usize, b: &usize| match (claims.get(*a), claims.get(*b)) {
        (Some(a), Some(b)) => a.contends(b),
        _ => false,
    };
    let with_superblock = |number: &&usize| claims.get(**number).is_some_and(Claim::has_superblock);
    match counting {
        [only] => Some(*only),
        [] if claims.len() == 1 => Some(0),
        // One claim has superblocks, and the others are remains that are not at its locations.
        several => {
            let mut own = several.iter().filter(with_superblock);
            match (own.next(), own.next()) {
                (Some(only), None) if several.iter().all(|other| other == only || !contend(only, other)) => Some(*only),
                _ => None,
            }
        }
    }
}

/// The regions that contend, the preferred one first: all regions that count, and those with pages at locations of the
/// preferred one.
fn rivals(claims: &[Claim], all: &[usize], preferred: usize) -> Vec<Identity> {
    let others = all.iter().copied().filter(|number| *number != preferred);
    let named = std::iter::once(preferred).chain(others);
    let mut rivals: Vec<Identity> = named.filter_map(|number| claims.get(number)).map(|claim| claim.identity).collect();
    let strangers = claims.get(preferred).into_iter().flat_map(|claim| claim.census.strangers());
    add_new(&mut rivals, strangers.map(|stranger| stranger.identity));
    rivals
}

/// The error if there is no region.
fn none<S: ReadAt + ?Sized>(source: &S) -> OpenError {
    let a = crate::superblocks::read_slot(source, CopyId::A, 0);
    OpenError::NoRegion { a: Box::new(a), b: Box::new(Slot::Unknown) }
}
