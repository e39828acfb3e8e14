//! What the image itself is: a dump with its facts and its memory, or a file or a device.

use std::path::{Path, PathBuf};

use anyhow::Result;
use gmfs::{Located, find};
use gmfs_format::native::superblock::Superblock;
use gmfs_image::foreign::{self, Foreign};
use gmfs_image::{Description, DumpFacts, Image, Kind, probe};
use gmfs_io::{Absence, ReadAt as _, Span};
use gmfs_volume::{Region, Superblocks};

use super::Args;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::locate::spelled;
use crate::open::{self, Watching};
use crate::render::json::{self, dump as wire, region};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::{size, time, words};
use gmfs::presence::{self, Index, Presence, Tally};

/// So many ranges of memory are listed.
const LISTED: usize = 64;

/// The memory that a dump describes: the first ranges, and how many there are.
#[derive(Default)]
struct Memory {
    ranges: Vec<(Span, Option<Absence>)>,
    count: u64,
    whole: Tally,
}

impl Memory {
    fn of(dump: &Description) -> Self {
        let totals = dump.totals(0..u64::MAX);
        let whole = Tally { present: totals.held, absent: totals.absent };
        Self { ranges: dump.memory(LISTED), count: totals.ranges, whole }
    }

    fn more(&self) -> u64 {
        self.count.saturating_sub(self.ranges.len() as u64)
    }
}

/// The region that was named or found, and how much of it is there.
struct Found {
    span: Span,
    superblock: Option<Superblock>,
    range: Tally,
    presence: Option<Presence>,
    /// How much of it is holes in a file of raw memory.
    holes: Option<u64>,
}

impl Found {
    fn store(&self) -> region::Store {
        let Span { offset, len } = self.span;
        self.superblock
            .as_ref()
            .map_or(region::Store::unknown(offset, Some(len)), |found| region::Store::new(offset, found))
    }
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let (about, found) = survey(args, ctx).map_err(|error| open::about(error, "open", &args.image.image))?;
    if args.json {
        let answer = wire::InspectImage {
            image: about.wire(),
            store: found.as_ref().map(Found::store),
            memory: about.memory.ranges.iter().map(|(span, why)| wire::Memory::new(*span, *why)).collect(),
            more_memory: about.memory.more(),
            region: found.as_ref().map(|found| region::Span { base: found.span.offset, size: found.span.len }),
            presence: found.as_ref().and_then(|found| found.presence.as_ref()).map(Into::into),
            range: found.as_ref().map(|found| (&found.range).into()),
            hole_bytes: found.as_ref().and_then(|found| found.holes),
        };
        json::print(ctx, "inspect", &answer)?;
        return Ok(Exit::Done);
    }
    about.show(ctx)?;
    if let Some(found) = &found {
        show_region(found, ctx)?;
    }
    Ok(Exit::Done)
}

/// What the image is, and its region, if there is one: an image without any is looked at too.
fn survey(args: &Args, ctx: &Ctx) -> Result<(About, Option<Found>)> {
    let asked = args.image.region;
    let exact = asked.and_then(|spec| Some(Span::new(spec.base?, spec.size)));
    let image = match args.image.open(exact) {
        Err(probe::OpenError::WindowNeeded { .. }) => {
            return Ok((About::memory(&args.image.image), None));
        }
        other => other?,
    };
    let about = About::of(&image);
    let span = match exact {
        Some(span) => Some(span),
        None if find::must_search(image.kind) => {
            find::only(&image, asked.map(|spec| spec.size), &Watching::new(ctx)).map_err(open::told)?
        }
        None => asked.map(|spec| Span::new(0, spec.size)).or(image.source.end().map(|end| Span::new(0, end))),
    };
    let Some(span) = span else { return Ok((about, None)) };
    let lock = args.image.lock_range(&image, span, asked.is_some(), ctx)?;
    Ok((about, presence_of(Located::new(image, span, lock), span, exact.is_some())))
}

/// How much of the region is there. A file without a region has none, unless somebody said where.
fn presence_of(located: Located, mut span: Span, named: bool) -> Option<Found> {
    let Located { place, source, dump, lock: _lock, .. } = located;
    let superblocks = Superblocks::load(&source).ok().filter(|found| found.require_readable().is_ok());
    if let Some(found) = &superblocks {
        span.len = if named { span.len } else { found.geometry().size() };
    } else if !named {
        return None;
    }
    let index = Index::new(&place, &source, dump.as_ref());
    let range = presence::of_range(&index, 0..span.len);
    let superblock = superblocks.as_ref().map(|found| found.current().clone());
    let presence = superblocks.map(|found| presence::of_region(&index, &Region::with(&source, found)));
    let holes = dump.as_ref().and_then(|dump| dump.holes(span.offset..span.end()));
    Some(Found { span, superblock, range, presence, holes })
}

/// What an image is.
pub(crate) struct About {
    kind: Kind,
    path: PathBuf,
    end: Option<u64>,
    dump: Option<DumpFacts>,
    memory: Memory,
    /// What else it holds, if it is no dump.
    other: Option<Foreign>,
}

impl About {
    pub(crate) fn of(image: &Image) -> Self {
        let memory = image.description().map(|dump| Memory::of(&dump)).unwrap_or_default();
        // What is not looked at without its size being known is memory.
        let looked_at = !image.kind.is_dump() && image.kind != Kind::DevMem;
        Self {
            kind: image.kind,
            path: image.path.clone(),
            end: image.source.end(),
            dump: image.dump.clone(),
            memory,
            other: looked_at.then(|| foreign::identify(&*image.source)).flatten(),
        }
    }

    /// All of a running machine's memory.
    pub(crate) fn memory(path: &Path) -> Self {
        Self {
            kind: Kind::DevMem,
            path: path.to_owned(),
            end: None,
            dump: None,
            memory: Memory::default(),
            other: None,
        }
    }

    /// What programs are told.
    pub(crate) fn wire(&self) -> wire::ImageFacts {
        wire::ImageFacts {
            image: region::Image::new(self.kind, &self.path),
            end: self.end,
            dump: self.dump.as_ref().map(Into::into),
        }
    }

    /// In one line, if it is a dump: what is known, and no more.
    pub(crate) fn line(&self) -> Option<String> {
        let facts = self.dump.as_ref()?;
        let mut parts = vec![format(facts)];
        parts.extend(facts.architecture.clone());
        parts.extend(facts.codec.filter(|codec| *codec != "stored").map(str::to_owned));
        parts.extend(facts.release.as_ref().map(|release| format!("Linux {release}")));
        parts.push(format!("{} of memory", size::human(self.memory.whole.present)));
        if facts.incomplete {
            parts.push("incomplete".to_owned());
        }
        if facts.damaged {
            parts.push("damaged".to_owned());
        }
        Some(printable(&format!("{}: {}", self.path.display(), parts.join(", "))))
    }

    fn show(&self, ctx: &mut Ctx) -> Result<()> {
        let mut table = Table::bare(&[]);
        table.row(["Image", &printable(&format!("{} ({})", self.path.display(), self.kind.name()))]);
        match &self.dump {
            Some(facts) => {
                rows(facts, &mut table);
                let (held, left) = (&self.memory.whole, missing(&self.memory.whole));
                let ranges = size::count(self.memory.count, "range");
                let left = if left.is_empty() { left } else { format!("; besides {left}") };
                let most = if facts.incomplete || facts.damaged { "at most " } else { "" };
                table.row(["Memory", &format!("{most}{} held, in {ranges}{left}", size::both(held.present))]);
            }
            None => {
                table.row(["Size", &self.end.map_or_else(|| "not known".to_owned(), size::both)]);
                if let Some(other) = &self.other {
                    table.row(["Holds", &format!("{}, marked at offset {:#x}", other.name, other.offset)]);
                }
            }
        }
        table.print(ctx)?;
        if self.memory.ranges.is_empty() {
            return Ok(());
        }
        ctx.line("")?;
        let mut table = Table::new(&["Memory from", "To", "Size", "State"]).right(&[0, 1, 2]).dispensable(&["Size"]);
        for (span, why) in &self.memory.ranges {
            let (state, role) = why.map_or(("present".to_owned(), Role::Plain), |why| (why.to_string(), Role::Warn));
            table.styled([
                (&size::hex(span.offset), Role::Plain),
                (&size::hex(span.end()), Role::Plain),
                (&size::human(span.len), Role::Plain),
                (&state, role),
            ]);
        }
        table.print(ctx)?;
        if self.memory.more() > 0 {
            ctx.line(&format!("and {} more", size::count(self.memory.more(), "range")))?;
        }
        Ok(())
    }
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

fn show_region(found: &Found, ctx: &mut Ctx) -> Result<()> {
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
