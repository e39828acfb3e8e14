//! What the image itself is: a dump with its facts and its memory, or a file or a device.

use anyhow::Result;
use gmfs::presence::{Presence, Tally};
use gmfs::survey::{self, About, There};
use gmfs_image::DumpFacts;
use gmfs_io::Absence;

use super::Args;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::locate::spelled;
use crate::open::{self, Watching};
use crate::render::json::{self, dump as wire};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::{size, time, words};

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let locking = args.image.locking();
    let found = survey::region(&args.image.spec(), locking.as_ref(), &Watching::new(ctx)).map_err(open::told);
    let (about, there) = found.map_err(|error| open::about(error, "open", &args.image.image))?;
    if args.json {
        json::print(ctx, "inspect", &wire::InspectImage::new(&about, there.as_ref()))?;
        return Ok(Exit::Done);
    }
    show(&about, ctx)?;
    if let Some(there) = &there {
        show_region(there, ctx)?;
    }
    Ok(Exit::Done)
}

/// An image in one line, if it is a dump: what is known, and no more.
pub(crate) fn line(about: &About) -> Option<String> {
    let facts = about.dump.as_ref()?;
    let mut parts = vec![format(facts)];
    parts.extend(facts.architecture.clone());
    parts.extend(facts.codec.filter(|codec| *codec != "stored").map(str::to_owned));
    parts.extend(facts.release.as_ref().map(|release| format!("Linux {release}")));
    parts.push(format!("{} of memory", size::human(about.memory.whole.present)));
    if facts.incomplete {
        parts.push("incomplete".to_owned());
    }
    if facts.damaged {
        parts.push("damaged".to_owned());
    }
    Some(printable(&format!("{}: {}", about.path.display(), parts.join(", "))))
}

fn show(about: &About, ctx: &mut Ctx) -> Result<()> {
    let mut table = Table::bare(&[]);
    table.row(["Image", &printable(&format!("{} ({})", about.path.display(), about.kind.name()))]);
    match &about.dump {
        Some(facts) => {
            rows(facts, &mut table);
            let (held, left) = (&about.memory.whole, missing(&about.memory.whole));
            let ranges = size::count(about.memory.count, "range");
            let left = if left.is_empty() { left } else { format!("; besides {left}") };
            let most = if facts.incomplete || facts.damaged { "at most " } else { "" };
            table.row(["Memory", &format!("{most}{} held, in {ranges}{left}", size::both(held.present))]);
        }
        None => {
            table.row(["Size", &about.end.map_or_else(|| "not known".to_owned(), size::both)]);
            if let Some(other) = &about.other {
                table.row(["Holds", &format!("{}, marked at offset {:#x}", other.name, other.offset)]);
            }
        }
    }
    table.print(ctx)?;
    if about.memory.ranges.is_empty() {
        return Ok(());
    }
    ctx.line("")?;
    let mut table = Table::new(&["Memory from", "To", "Size", "State"]).right(&[0, 1, 2]).dispensable(&["Size"]);
    for (span, why) in &about.memory.ranges {
        let (state, role) = why.map_or(("present".to_owned(), Role::Plain), |why| (why.to_string(), Role::Warn));
        table.styled([
            (&size::hex(span.offset), Role::Plain),
            (&size::hex(span.end()), Role::Plain),
            (&size::human(span.len), Role::Plain),
            (&state, role),
        ]);
    }
    table.print(ctx)?;
    if about.memory.more() > 0 {
        ctx.line(&format!("and {} more", size::count(about.memory.more(), "range")))?;
    }
    Ok(())
}

/// `kdump-compressed, version 6, flattened`
fn format(facts: &DumpFacts) -> String {
    let mut text = facts.format.to_owned();
    if let Some(version) = facts.version {
        text.push_str(&format!(" version {version}"));
    }
    if facts.flattened.is_some() {
        text.push_str(", flattened");
    }
    if !facts.parts.is_empty() {
        text.push_str(&format!(", split into {}", size::count(facts.parts.len() as u64, "part")));
    }
    text
}

/// A dump's facts; what it could say and does not is unknown.
fn rows(facts: &DumpFacts, table: &mut Table) {
    let unknown = || "unknown".to_owned();
    let when = |seconds: Option<u64>| {
        seconds.map_or_else(unknown, |seconds| time::human(seconds.saturating_mul(1_000_000_000)))
    };
    let known = |text: Option<&str>| text.map_or_else(unknown, printable);
    table.row(["Format", &format(facts)]);
    for part in &facts.parts {
        table.row(["  part", &part.to_string()]);
    }
    table.row(["Written by", &known(facts.writer)]);
    let mut machine = vec![known(facts.architecture.as_deref())];
    machine.extend(facts.bits.map(|bits| format!("{bits}-bit")));
    machine.extend(facts.big_endian.map(|big| if big { "big-endian" } else { "little-endian" }.to_owned()));
    table.row(["Architecture", &machine.join(", ")]);
    if let Some(page) = facts.page_size {
        table.row(["Page size", &size::both(page)]);
    }
    if let Some(codec) = facts.codec {
        table.row(["Pages", if codec == "stored" { "not compressed" } else { codec }]);
    }
    if let Some(level) = facts.dump_level {
        table.row(["Dump level", &format!("{level}: leaves out {}", words::dump_level(level))]);
    }
    table.row(["Kernel", &known(facts.release.as_deref())]);
    table.row(["Crashed", &when(facts.crash_time)]);
    table.row(["Dumped", &when(facts.dump_time)]);
    let whole = match (facts.incomplete, facts.damaged) {
        (false, false) => "yes",
        (false, true) => "no: a part of its file is damaged",
        (true, false) => "no: its writer ran out of space, or its file was cut",
        (true, true) => "no: a part of its file is damaged, and its writer ran out of space, or its file was cut",
    };
    table.styled([("Complete", Role::Plain), (whole, if whole == "yes" { Role::Plain } else { Role::Bad })]);
    if facts.unaddressed > 0 {
        let text = format!("{} in the file have no address (paging=on)", size::both(facts.unaddressed));
        table.styled([("Lost memory", Role::Plain), (&text, Role::Bad)]);
    }
}

fn show_region(found: &There, ctx: &mut Ctx) -> Result<()> {
    ctx.line("")?;
    let mut table = Table::bare(&[]);
    table.row(["Region", &spelled(found.span.offset, found.span.len)]);
    table.row(["  all of it", &tally(&found.range)]);
    if let Some(holes) = found.holes.filter(|holes| *holes > 0) {
        let absent = found.range.absent.contains_key(&Absence::Hole);
        let taken = if absent {
            "taken as absent"
        } else {
            "read as zeros; --over FILE and --holes absent read them otherwise"
        };
        table.row(["  holes", &format!("{} in the file, {taken}", bytes(holes))]);
    }
    if let Some(found) = &found.presence {
        presence_rows(found, &mut table);
    }
    Ok(table.print(ctx)?)
}

/// What of a region's metadata and data is there.
pub(crate) fn presence_rows(found: &Presence, table: &mut Table) {
    table.row(["  metadata", &tally(&found.metadata)]);
    let blocks = found.blocks;
    let mut text = tally(&found.data);
    if blocks.partly + blocks.absent > 0 {
        text.push_str(&format!(
            "; blocks: {} whole, {} in part, {} missing",
            blocks.present, blocks.partly, blocks.absent
        ));
    }
    if found.lost_pages > 0 {
        let pages = size::count(found.lost_pages, "page");
        text.push_str(&format!("; {pages} of the block table lost, and what is said there is not counted"));
    }
    table.row(["  data", &text]);
}

/// `4 MiB (1024 pages) of 6 MiB are there; 2 MiB (512 pages) not in the dump`
fn tally(tally: &Tally) -> String {
    if tally.total() == 0 {
        return "none in use".to_owned();
    }
    if tally.absent.is_empty() {
        return format!("all {} there", bytes(tally.present));
    }
    format!("{} of {} there; {}", bytes(tally.present), bytes(tally.total()), missing(tally))
}

/// What is missing, reason by reason.
fn missing(tally: &Tally) -> String {
    let parts: Vec<String> = tally.absent.iter().map(|(why, len)| format!("{} {why}", bytes(*len))).collect();
    parts.join("; ")
}

/// `4 MiB (1024 pages)`
fn bytes(len: u64) -> String {
    format!("{} ({})", size::human(len), size::count(len.div_ceil(4096), "page"))
}
