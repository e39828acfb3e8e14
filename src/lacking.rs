//! What a dump does not hold, why, and how to take one that has it.

use std::fmt;

use gmfs_format::native::units::PAGE_BYTES;
use gmfs_image::{Description, DumpFacts, Image, Kind};
use gmfs_io::{Absence, ReadAt as _, Span};

use crate::failure::Failure;
use crate::locate::spelled;
use crate::render::{size, words};

/// So many ranges of memory are named in one message.
const NAMED: usize = 3;

/// Refuses a range of which a dump holds nothing.
pub(crate) fn require(image: &Image, dump: &Description, range: Span) -> Result<(), Failure> {
    let mut at = range.offset;
    let mut first = None;
    // Small steps at first: to say that all of a range is there, a dump looks at each descriptor.
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
    first.map_or(Ok(()), |why| Err(failure(image.kind, dump, range, why)))
}

/// The error for a range that a dump does not hold for `why`.
fn failure(kind: Kind, dump: &Description, range: Span, why: Absence) -> Failure {
    of("the memory", kind, dump, range, why)
}

/// The error for a range of which a dump does not hold what is needed, for `why`.
pub(crate) fn partly(kind: Kind, dump: &Description, range: Span, why: Absence) -> Failure {
    of("all of the memory", kind, dump, range, why)
}

fn of(which: &str, kind: Kind, dump: &Description, range: Span, why: Absence) -> Failure {
    let facts = &dump.facts;
    let message = format!(
        "the dump does not hold {which} at {range} ({}): {}; it holds {}",
        size::human(range.len),
        reason(kind, facts, why),
        held(dump)
    );
    Failure::new("not-in-dump", message).hint(remedy(kind, facts, why, Some(range)))
}

/// The error for a dump in which no region was found. `which` is empty, or says more of what was looked for.
pub(crate) fn nowhere(kind: Kind, dump: &Description, which: &str) -> Failure {
    let facts = &dump.facts;
    let held = held(dump);
    let known = facts.incomplete || facts.unaddressed > 0;
    let why = if held.excluded > 0 && !known { Absence::Excluded } else { Absence::NotInDump };
    let message = format!(
        "no region{which} was found: no superblock at any multiple of 2 MiB; the dump holds {held}; if the region's memory \
         is not among it: {}",
        reason(kind, facts, why)
    );
    let remedy = remedy(kind, facts, why, None);
    Failure::new("no-region", message)
        .hint(format!("--region SIZE:BASE says where one lies; if the dump does not hold it: {remedy}"))
}

/// The memory that a dump holds: the first ranges and the sum.
struct Held {
    ranges: Vec<Span>,
    count: u64,
    bytes: u64,
    /// What it knows and leaves out.
    excluded: u64,
}

fn held(dump: &Description) -> Held {
    let totals = dump.totals(0..u64::MAX);
    let excluded = totals.absent.get(&Absence::Excluded).copied().unwrap_or(0);
    Held { ranges: dump.held(NAMED), count: totals.held_ranges, bytes: totals.held, excluded }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ranges.is_empty() {
            return f.write_str("no memory");
        }
        let named: Vec<String> = self.ranges.iter().map(Span::to_string).collect();
        write!(f, "{} at {}", size::human(self.bytes), named.join(", "))?;
        match self.count.saturating_sub(named.len() as u64) {
            0 => Ok(()),
            more => write!(f, " and in {}", size::count(more, "more range")),
        }
    }
}

/// Why bytes are not in a dump of this kind.
fn reason(kind: Kind, facts: &DumpFacts, why: Absence) -> String {
    match why {
        Absence::Excluded => match facts.dump_level.filter(|level| *level > 0) {
            Some(level) => format!("makedumpfile left it out (dump level {level}: {})", words::dump_level(level)),
            None => "the tool that wrote the dump left it out".to_owned(),
        },
        Absence::Truncated if facts.incomplete => "the dump is incomplete: its writer ran out of space".to_owned(),
        Absence::Truncated => "the dump's file was cut short".to_owned(),
        Absence::Hole => "it is a hole in the file, and holes are taken as absent".to_owned(),
        Absence::NoData => "its writer recorded no data for it".to_owned(),
        Absence::Undecodable => "what the dump has for it is damaged".to_owned(),
        _ if facts.unaddressed > 0 => format!(
            "it was made with paging=on (-p), and {} in its file have no address",
            size::human(facts.unaddressed)
        ),
        _ if facts.incomplete => {
            "the dump is incomplete: its writer ran out of space, or its file was cut short; what was lost looks like \
             memory that was never there"
                .to_owned()
        }
        _ => match kind {
            Kind::Raw => "it is not in the file, as --base says where that was".to_owned(),
            Kind::Lime => "LiME and AVML take only what /proc/iomem calls System RAM".to_owned(),
            Kind::MetaDump => "it is a metadata dump".to_owned(),
            _ if facts.qemu => "the machine had no memory there, or the dump was limited to other memory".to_owned(),
            _ => "its writer did not take it for RAM; memory that memmap= reserves is in no /proc/vmcore".to_owned(),
        },
    }
}

/// How to come by what is missing.
fn remedy(kind: Kind, facts: &DumpFacts, why: Absence, range: Option<Span>) -> String {
    let region = range.map_or_else(|| "SIZE:BASE".to_owned(), |range| spelled(range.offset, range.len));
    let rescue = format!("in the capture kernel, `gmfs save /dev/mem --region {region} -o FILE` has the memory itself");
    let ways = "docs/DUMPS.md has the ways to take a dump that holds it";
    match (kind, why) {
        (Kind::MetaDump, _) => "use the image that it was made of".to_owned(),
        (Kind::Raw, Absence::Hole) => "--over FILE reads it from the snapshot below".to_owned(),
        (Kind::Raw, _) => "correct --base or --region".to_owned(),
        (_, Absence::Excluded) => format!("dump with makedumpfile -d 1, or without -d; {ways}"),
        (_, Absence::NoData) => format!("dump again: the tool that wrote the dump could not read it; {ways}"),
        (_, Absence::Truncated | Absence::Undecodable) => {
            format!("copy the dump again, or dump where there is room; {ways}")
        }
        _ if facts.unaddressed > 0 => format!("dump again with dump-guest-memory without -p; {ways}"),
        _ if facts.qemu => {
            format!("dump with dump-guest-memory without -p and limits, or use pmemsave and --base; {ways}")
        }
        (Kind::Lime, _) => format!("{rescue}; {ways}"),
        _ => format!(
            "{rescue}; or load the capture kernel with `kexec -p -c` where /proc/iomem calls it System RAM; {ways}"
        ),
    }
}
