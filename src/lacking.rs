//! What a dump does not hold, why, and how to take one that has it, in words.

use gmfs::lacking::{Held, Lacking, Missing};
use gmfs_image::{DumpFacts, Kind};
use gmfs_io::{Absence, Span};

use crate::failure::Failure;
use crate::locate::spelled;
use crate::render::{size, words};

/// The error for memory that a dump does not hold.
pub(crate) fn failure(lacking: &Lacking) -> Failure {
    let Lacking { kind, facts, held, missing, .. } = lacking;
    let held = shown(held);
    match missing {
        Missing::Range { range, why, partly } => {
            let which = if *partly { "all of the memory" } else { "the memory" };
            let message = format!(
                "the dump does not hold {which} at {range} ({}): {}; it holds {held}",
                size::human(range.len),
                reason(*kind, facts, *why),
            );
            Failure::new("not-in-dump", message).hint(remedy(*kind, facts, *why, Some(*range)))
        }
        Missing::Store { size, why } => {
            let message = format!(
                "{}; the dump holds {held}; if the region's memory is not among it: {}",
                gmfs::error::not_found(size.map(size::both)),
                reason(*kind, facts, *why)
            );
            let remedy = remedy(*kind, facts, *why, None);
            let hint = format!("--region SIZE:BASE says where one lies; if the dump does not hold it: {remedy}");
            Failure::new("no-region", message).hint(hint)
        }
        _ => Failure::new("not-in-dump", lacking.to_string()),
    }
}

/// The memory that a dump holds.
fn shown(held: &Held) -> String {
    if held.ranges.is_empty() {
        return "no memory".to_owned();
    }
    let named: Vec<String> = held.ranges.iter().map(Span::to_string).collect();
    let more = match held.count.saturating_sub(named.len() as u64) {
        0 => String::new(),
        more => format!(" and in {}", size::count(more, "more range")),
    };
    format!("{} at {}{more}", size::human(held.bytes), named.join(", "))
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

/// How to get what is missing.
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
