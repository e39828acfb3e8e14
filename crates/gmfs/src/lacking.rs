//! What a dump does not hold, and why.

use std::fmt;

use gmfs_format::native::units::PAGE_BYTES;
use gmfs_image::{Description, DumpFacts, Image, Kind};
use gmfs_io::{Absence, ReadAt as _, Span};

use crate::error::{in_bytes, not_found};

/// At most this many ranges of memory are kept for a message.
const NAMED: usize = 3;

/// What a dump does not hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lacking {
    /// What the image is.
    pub kind: Kind,
    /// What the dump says of itself.
    pub facts: DumpFacts,
    /// What it does hold.
    pub held: Held,
    /// What is missing.
    pub missing: Missing,
}

/// What is missing of a dump's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// A range of memory.
    Range {
        /// Physical addresses.
        range: Span,
        /// Why.
        why: Absence,
        /// Only a part of the range is missing.
        partly: bool,
    },
    /// A store was searched for and not found.
    Store {
        /// The size that it was to have, in bytes.
        size: Option<u64>,
        /// Why, if the store's memory is not among what the dump holds.
        why: Absence,
    },
}

/// The memory that a dump holds: the first ranges and the sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The first ranges.
    pub ranges: Vec<Span>,
    /// How many ranges there are.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Lacking {
    fn new(kind: Kind, dump: &Description, missing: Missing) -> Self {
        let totals = dump.totals(0..u64::MAX);
        let held = Held { ranges: dump.held(NAMED), count: totals.held_ranges, bytes: totals.held };
        Self { kind, facts: dump.facts.clone(), held, missing }
    }

    /// The error for a range of which a dump lacks something that is needed, for the reason `why`.
    #[must_use]
    pub fn partly(kind: Kind, dump: &Description, range: Span, why: Absence) -> Self {
        Self::new(kind, dump, Missing::Range { range, why, partly: true })
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.missing {
            Missing::Range { range, why, partly } => {
                let which = if *partly { "all of the memory" } else { "the memory" };
                write!(f, "the dump does not hold {which} at {range}: {why}")
            }
            Missing::Store { size, .. } => f.write_str(&not_found(in_bytes(*size))),
        }
    }
}

impl std::error::Error for Lacking {}

/// Refuses a range of which a dump holds nothing.
pub(crate) fn require(image: &Image, dump: &Description, range: Span) -> Result<(), Box<Lacking>> {
    let mut at = range.offset;
    let mut first = None;
    // The steps are small at first, because a dump reads each descriptor before it can say that all of a range is there.
    let mut step = PAGE_BYTES;
    while at < range.end() {
        match image.source.next_absent(at..at.saturating_add(step).min(range.end())) {
            Some((span, why)) if span.offset <= at => {
                first.get_or_insert(why);
                at = span.end().max(at.saturating_add(1));
                step = step.saturating_mul(2);
            }
            _ => return Ok(()),
        }
    }
    let missing = |why| Missing::Range { range, why, partly: false };
    first.map_or(Ok(()), |why| Err(Box::new(Lacking::new(image.kind, dump, missing(why)))))
}

/// A dump in which no store was found.
pub(crate) fn nowhere(kind: Kind, dump: &Description, size: Option<u64>) -> Box<Lacking> {
    let facts = &dump.facts;
    let known = facts.incomplete || facts.unaddressed > 0;
    let excluded = dump.totals(0..u64::MAX).absent.get(&Absence::Excluded).copied().unwrap_or(0);
    let why = if excluded > 0 && !known { Absence::Excluded } else { Absence::NotInDump };
    Box::new(Lacking::new(kind, dump, Missing::Store { size, why }))
}
