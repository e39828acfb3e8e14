//! Files compared with their seals: what is as it was when it was sealed, what was changed since, and what is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use gmfs_format::model::{Inode, InodeNo, Kind};
use gmfs_format::native::tables::INODE_LOST_DATA;
use gmfs_io::Absence;
use gmfs_volume::seals::{Compared, FileSeals, Verdict, compare};

use crate::diff::Sameness;
use crate::error::Error;
use crate::store::Store;

/// Ranges that are kept one by one, of all files together; the others are counted.
const KEPT: usize = 1 << 16;

/// The result for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// All of its blocks are as they were when they were sealed.
    Same,
    /// A block holds something else than when it was sealed.
    Changed,
    /// It has no seal, so that there is nothing to compare it with.
    Unsealed,
    /// No block is known to be changed, and not all of them are known to be the same.
    Unknown(Unknown),
}

/// Why it is unknown whether a file is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unknown {
    /// Blocks of it are lost, or what says where they are.
    Lost,
    /// A repair could not prove that its blocks are those of the last commit.
    Doubtful,
    /// The image does not hold all of it.
    Absent,
    /// A part of it cannot be read, or is in a block with a hardware error.
    Unreadable,
    /// Some of its blocks have no seal.
    Partly,
}

impl State {
    /// The word for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::Unsealed => "unsealed",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// The result for several files together. Without `complete`, there are others that could not be compared at all.
#[must_use]
pub fn sameness(files: &[Verified], complete: bool) -> Sameness {
    if files.iter().any(|file| file.state == State::Changed) {
        Sameness::Differs
    } else if complete && files.iter().all(|file| file.state == State::Same) {
        Sameness::Same
    } else {
        Sameness::Unknown
    }
}

/// The state of a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// It holds something else than when it was sealed.
    Changed,
    /// The image does not hold all of it.
    Absent(Absence),
    /// The medium cannot read it.
    Unreadable,
    /// Its blocks are marked as having hardware errors.
    HardwareError,
    /// It has no seal, and other blocks of the file have one.
    Unsealed,
}

/// Blocks that are consecutive in a file and in the store, and that have the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its state.
    pub what: What,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Length in bytes; it ends with the file.
    pub length: u64,
    /// Number of the first block in the store.
    pub block: u32,
    /// How many blocks.
    pub count: u64,
    /// Offset in the store, in bytes.
    pub at: u64,
}

/// A file that was compared.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Which file.
    pub ino: InodeNo,
    /// The result for it.
    pub state: State,
    /// How much of it has a seal.
    pub seals: FileSeals,
    /// Blocks that are the same.
    pub same: u64,
    /// Blocks that are changed.
    pub changed: u64,
    /// What is not the same, in the order of the store.
    pub ranges: Vec<Range>,
    /// Ranges that are not listed.
    pub more_ranges: u64,
}

/// How files are compared.
pub struct Options<'o> {
    /// Threads that read and compute checksums.
    pub threads: usize,
    /// Called with the number of bytes that have been read, and of all bytes.
    pub progress: &'o (dyn Fn(u64, u64) + Sync),
}

/// A file while it is compared.
struct Tally<'i> {
    inode: &'i Inode,
    verified: Verified,
    absent: bool,
    unreadable: bool,
    /// The last block: its position in the file and in the store, and its state.
    last: Option<(u32, u32, What)>,
}

/// Compares files with their seals; directories are left out. The result is in the order of the inodes.
///
/// # Errors
/// The store has a layout without seals.
pub fn verify(store: &Store, files: &[&Inode], options: &Options<'_>) -> Result<Vec<Verified>, Error> {
    let region = store.native()?;
    let geometry = region.geometry();
    let wanted: Vec<InodeNo> = files.iter().map(|inode| inode.ino).collect();
    let mut seals = region.seals_among(&wanted);
    let block_bytes = geometry.block_bytes();
    let mut tallies: BTreeMap<InodeNo, Tally<'_>> = BTreeMap::new();
    for inode in files.iter().filter(|inode| inode.kind == Kind::File) {
        let seals = seals.files.remove(&inode.ino).unwrap_or_default();
        let ino = inode.ino;
        let (ranges, state) = (Vec::new(), State::Same);
        let verified = Verified { ino, state, seals, same: 0, changed: 0, ranges, more_ranges: 0 };
        tallies.insert(ino, Tally { inode, verified, absent: false, unreadable: false, last: None });
    }
    let sealed: u64 = tallies.values().map(|tally| tally.verified.seals.sealed).sum();
    let total = sealed.saturating_mul(block_bytes);
    let wanted: BTreeSet<InodeNo> = tallies.keys().copied().collect();
    let (mut done, mut kept) = (0_u64, 0_usize);
    let pages = tallies.values().map(|tally| tally.verified.seals.pages.clone()).filter(|pages| !pages.is_empty());
    let pages = pages.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end));
    let lost = compare(
        region.source(),
        region.superblocks(),
        pages.unwrap_or_default(),
        |ino| wanted.contains(&ino),
        options.threads,
        |compared| {
            if let Some(tally) = tallies.get_mut(&compared.owner) {
                if compared.verdict != Verdict::Unsealed && compared.verdict != Verdict::HardwareError {
                    done = done.saturating_add(block_bytes);
                    (options.progress)(done, total);
                }
                tally.add(&compared, geometry.block_offset(compared.block), block_bytes, &mut kept);
            }
            ControlFlow::Continue(())
        },
    );
    Ok(tallies.into_values().map(|tally| tally.end(lost > 0 || seals.lost_pages > 0)).collect())
}

impl Tally<'_> {
    fn add(&mut self, compared: &Compared, at: u64, block_bytes: u64, kept: &mut usize) {
        let Compared { block, index, verdict, .. } = *compared;
        let Self { inode, verified, absent, unreadable, last } = self;
        let what = match verdict {
            Verdict::Same => {
                verified.same = verified.same.saturating_add(1);
                *last = None;
                return;
            }
            Verdict::Changed { .. } => {
                verified.changed = verified.changed.saturating_add(1);
                What::Changed
            }
            // If a file has no seal at all, that is said once.
            Verdict::Unsealed if verified.seals.sealed == 0 => return,
            Verdict::Unsealed => What::Unsealed,
            Verdict::Absent(why) => {
                *absent = true;
                What::Absent(why)
            }
            Verdict::HardwareError => {
                *unreadable = true;
                What::HardwareError
            }
            _ => {
                *unreadable = true;
                What::Unreadable
            }
        };
        let offset = u64::from(index).saturating_mul(block_bytes);
        let length = inode.size.saturating_sub(offset).min(block_bytes);
        let follows = |before: u32, now: u32| before.checked_add(1) == Some(now);
        let joins =
            last.is_some_and(|(place, number, said)| follows(place, index) && follows(number, block.0) && said == what);
        *last = Some((index, block.0, what));
        match verified.ranges.last_mut() {
            Some(range) if joins && verified.more_ranges == 0 => {
                range.length = range.length.saturating_add(length);
                range.count = range.count.saturating_add(1);
            }
            _ if joins => {}
            _ if *kept < KEPT => {
                *kept = kept.saturating_add(1);
                verified.ranges.push(Range { what, offset, length, block: block.0, count: 1, at });
            }
            _ => verified.more_ranges = verified.more_ranges.saturating_add(1),
        }
    }

    fn end(self, lost_pages: bool) -> Verified {
        let Self { inode, mut verified, absent, unreadable, .. } = self;
        let FileSeals { blocks, sealed, bad, .. } = verified.seals;
        let has_lost = inode.attributes.is_some_and(|attributes| attributes.flags & INODE_LOST_DATA != 0);
        verified.state = if verified.changed > 0 {
            State::Changed
        } else if lost_pages || has_lost || blocks.saturating_add(bad) != inode.blocks {
            State::Unknown(Unknown::Lost)
        } else if inode.is_doubtful() {
            State::Unknown(Unknown::Doubtful)
        } else if sealed == 0 && blocks > 0 {
            State::Unsealed
        } else if absent {
            State::Unknown(Unknown::Absent)
        } else if unreadable {
            State::Unknown(Unknown::Unreadable)
        } else if sealed != blocks {
            State::Unknown(Unknown::Partly)
        } else {
            State::Same
        };
        verified
    }
}
