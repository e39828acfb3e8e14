//! `gmfs inspect`: what a region says of itself, in several views.

mod debugfs;
mod guestmemfs;
pub(crate) mod image;
mod luo;
mod pkernfs;
mod raw;
mod unclaimed;
mod views;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueEnum};
use gmfs::open::Source;
use gmfs_check::Standings;
use gmfs_check::Verdict;
use gmfs_format::native::copies::Standing;
use gmfs_format::native::superblock::Superblock;
use gmfs_format::native::units::CopyId;
use gmfs_volume::{Region, Superblocks};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, ReadArgs};
use crate::render::json::{self, region};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::{size, time, words};
use crate::{clock, paths, repairing};
use gmfs::health::{self, Health};
use gmfs::presence;
use gmfs::{Located, Place, Store};

/// Show what a region says of itself
///
/// Nothing is written. A region that is damaged is shown as far as it can be read. The exit status is 1 if a listing is
/// incomplete because pages are lost; whether the region is sound is for `gmfs fsck` to say. IMAGE may also be a folder like
/// /sys/kernel/debug/kho, in which a running kernel shows what it took from and prepares for a kexec handover.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs inspect region.img
  gmfs inspect vmcore files --json
  gmfs inspect vmcore --image
  gmfs inspect vmcore unclaimed
  gmfs inspect region.img raw --page 1 --copy b")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// What to show
    #[arg(value_enum, default_value_t = View::Summary)]
    view: View,
    /// Show what IMAGE itself is: a dump's format, kernel and memory, and how much of the region it holds
    ///
    /// Works without a region too. How much is there is told by the index of a dump that is whole; pages that turn out to
    /// be damaged when they are read count as being there.
    #[arg(long = "image", conflicts_with_all = ["view", "page", "copy"])]
    about: bool,
    /// With raw: which metadata page of the copy, counted from 0, the superblock [default: 0]
    #[arg(long, value_name = "N")]
    page: Option<u32>,
    /// With raw: which copy [default: the one that counts]
    #[arg(long, value_name = "COPY", ignore_case = true)]
    copy: Option<Which>,
    /// With files: which processes have each file mapped
    #[arg(long)]
    in_use: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum View {
    /// Identity, size, usage and health
    Summary,
    /// Every field of the superblock; reads two pages only
    Superblock,
    /// Whose each block is, in runs
    Blocks,
    /// Every inode in use
    Inodes,
    /// Every file and directory by its path, with its extents
    Files,
    /// How both copies of each metadata page stand
    Pages,
    /// The fields of one metadata page, with offsets, whatever they hold
    Raw,
    /// Memory that a kernel took from a kexec handover, and that nobody has claimed; by the marks in page structures
    Unclaimed,
}

/// A copy of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// At the start of the region
    A,
    /// At its end
    B,
}

impl From<Which> for CopyId {
    fn from(which: Which) -> Self {
        match which {
            Which::A => Self::A,
            Which::B => Self::B,
        }
    }
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    if args.in_use && args.view != View::Files {
        let failure = Failure::new("usage", "--in-use is for the view `files`");
        return Err(failure.hint("gmfs inspect IMAGE files --in-use").into());
    }
    if args.view != View::Raw && (args.page.is_some() || args.copy.is_some()) {
        let failure = Failure::new("usage", "--page and --copy are for the view `raw`");
        return Err(failure.hint("gmfs inspect IMAGE raw --page N").into());
    }
    if args.about {
        return image::run(args, ctx);
    }
    if gmfs::debugfs::is_debugfs(&args.image.image) {
        return debugfs::run(args, ctx);
    }
    match args.view {
        View::Raw => return raw::run(args, ctx),
        View::Superblock => return superblock(args, ctx),
        _ => {}
    }
    let opened = open::store(&args.image, ctx)?;
    if args.view == View::Unclaimed && opened.luo().is_none() {
        let message =
            format!("the view `unclaimed` is for kexec handovers, and the store has the layout {}", opened.layout());
        return Err(Failure::new("layout", message)
            .hint("`gmfs scan IMAGE` lists all stores; --store N takes one")
            .into());
    }
    if let Some(found) = opened.pkernfs() {
        return pkernfs::run(args, &opened, found, ctx);
    }
    if let Some(found) = opened.guestmemfs() {
        return guestmemfs::run(args, &opened, found, ctx);
    }
    if let Some(found) = opened.luo() {
        return luo::run(args, &opened, found, ctx);
    }
    if args.view == View::Summary && !args.json {
        summary(&opened, ctx)?;
        return Ok(Exit::Done);
    }
    let answer = args.json.then(|| {
        let native = opened.native().map_err(open::told)?;
        let mut answer = region::Inspect::new(&opened.place, native.superblocks());
        answer.health = Some(assess(native)?.into());
        answer.presence = presence::of_store(&opened).as_ref().map(Into::into);
        Ok::<_, anyhow::Error>(answer)
    });
    let mut answer = answer.transpose()?;
    let lists = answer.as_mut().map(|answer| &mut answer.lists);
    let exit = match args.view {
        View::Blocks => views::blocks(&opened, lists, ctx)?,
        View::Inodes => views::inodes(&opened, lists, ctx)?,
        View::Files => views::files(&opened, args.in_use, lists, ctx)?,
        View::Pages => views::pages(&opened, lists, ctx)?,
        View::Summary | View::Superblock | View::Raw | View::Unclaimed => Exit::Done,
    };
    if let Some(answer) = answer {
        json::print(ctx, "inspect", &answer)?;
    }
    Ok(exit)
}

/// How the metadata of the region is.
fn assess(region: &Region<Source>) -> Result<Health> {
    health::assess(region, clock::now(), repairing::threads()).context("cannot check the region")
}

fn summary(opened: &Store, ctx: &mut Ctx) -> Result<()> {
    let region = opened.native().map_err(open::told)?;
    let superblock = region.superblock();
    let (geometry, raw) = (superblock.geometry(), &superblock.raw);
    let health = assess(region)?;
    let mut table = Table::bare(&[]);
    table.row(["Image", &image(&opened.place)]);
    table.row(["UUID", &superblock.uuid.to_string()]);
    table.row(["Label", &label(superblock)]);
    table.row(["Size", &size::both(geometry.size())]);
    table.row(["Physical base", &base(opened.physical_base())]);
    table.row(["Blocks", &size::blocks(geometry)]);
    for (name, count) in [
        ("  free", raw.free_blocks.get()),
        ("  data", raw.data_blocks.get()),
        ("  bad", raw.bad_blocks.get()),
        ("  reserved", raw.reserved_blocks.get()),
    ] {
        let role = if name == "  bad" && count > 0 { Role::Bad } else { Role::Plain };
        table.styled([(name, Role::Plain), (&in_blocks(count, geometry.block_bytes()), role)]);
    }
    table.row(["Inodes", &format!("{} used of {}", raw.used_inodes, geometry.inodes())]);
    table.row(["State", &words::state(raw.state.get())]);
    table.row(["Created", &time::human(raw.created.get())]);
    table.row(["Written", &written(superblock)]);
    let role = match health.verdict {
        Verdict::Clean => Role::Good,
        Verdict::Recovery | Verdict::Unknown => Role::Warn,
        Verdict::Damaged => Role::Bad,
    };
    table.styled([("Metadata", Role::Plain), (&verdict(&health), role)]);
    table.row(["  copy A", &counts(&health.pages.a)]);
    table.row(["  copy B", &counts(&health.pages.b)]);
    if let Some(found) = presence::of_store(opened) {
        table.row(["In the image", ""]);
        image::presence_rows(&found, &mut table);
    }
    Ok(table.print(ctx)?)
}

/// `12 (24 MiB)`
fn in_blocks(count: u64, block_bytes: u64) -> String {
    let bytes = count.saturating_mul(block_bytes);
    if count == 0 { "0".to_owned() } else { format!("{count} ({})", size::human(bytes)) }
}

fn image(place: &Place) -> String {
    let path = crate::failure::printable(&place.path.display().to_string());
    let at = if place.base == 0 { String::new() } else { format!(", at {:#x}", place.base) };
    format!("{path} ({}{at})", place.kind.name())
}

fn label(superblock: &Superblock) -> String {
    match superblock.label() {
        [] => "none".to_owned(),
        label => paths::shown(label),
    }
}

fn base(base: Option<u64>) -> String {
    base.map_or_else(|| "not known".to_owned(), size::hex)
}

fn written(superblock: &Superblock) -> String {
    let writer = paths::shown(superblock.writer());
    format!("{} by {writer}", time::human(superblock.raw.written.get()))
}

fn verdict(health: &Health) -> String {
    match health.verdict {
        Verdict::Clean => "clean".to_owned(),
        Verdict::Recovery => "a writer did not finish; whoever opens the region for writing recovers it".to_owned(),
        Verdict::Unknown => {
            "nothing wrong was seen, but some of it is missing: whether it is clean cannot be told".to_owned()
        }
        Verdict::Damaged => "damaged; `gmfs fsck` tells more".to_owned(),
    }
}

fn counts(counts: &Standings) -> String {
    let all = [
        (counts.good, "good"),
        (counts.recovery, "to be recovered"),
        (counts.stale, "stale"),
        (counts.damaged, "damaged"),
        (counts.absent, "not in the image"),
    ];
    let parts: Vec<String> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let pages = if all.iter().map(|(count, _)| count).sum::<u64>() == 1 { "page" } else { "pages" };
    format!("{pages}: {}", parts.join(", "))
}

/// The superblock alone: of a region whose features forbid more than that, too.
fn superblock(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let (located, superblocks) = open::superblocks(&args.image, ctx)?;
    if args.json {
        json::print(ctx, "inspect", &region::Inspect::new(&located.place, &superblocks))?;
        return Ok(Exit::Done);
    }
    let (found, judged) = (superblocks.current(), superblocks.judgement());
    let (geometry, raw) = (found.geometry(), &found.raw);
    let mut table = Table::bare(&[]);
    for (copy, standing, slot) in [("Copy A", judged.a, &superblocks.a), ("Copy B", judged.b, &superblocks.b)] {
        let role = if standing == Standing::Good { Role::Good } else { Role::Warn };
        let standing = match (standing, slot.good()) {
            (Standing::Good, _) | (_, None) => slot.to_string(),
            (other, Some(found)) => format!("{}, generation {}", other.name(), found.generation),
        };
        table.styled([(copy, Role::Plain), (&standing, role)]);
    }
    for (name, value) in [
        ("Format version", raw.version.get().to_string()),
        ("Features", words::features(found.features())),
        ("UUID", found.uuid.to_string()),
        ("Label", label(found)),
        ("Region size", size::both(geometry.size())),
        ("Base when formatted", base(Some(raw.base.get()).filter(|base| *base != 0))),
        ("Block size", size::both(geometry.block_bytes())),
        ("Blocks", geometry.blocks().to_string()),
        ("Metadata blocks", format!("{} a copy", geometry.metadata_blocks())),
        ("Block table", format!("{} of {} pages used", raw.table_used, geometry.table_pages())),
        ("Inode table", format!("{} of {} pages used", raw.inodes_used_pages, geometry.inode_pages())),
        ("Inodes", format!("{} used of {}", raw.used_inodes, geometry.inodes())),
        ("Free blocks", raw.free_blocks.to_string()),
        ("Data blocks", raw.data_blocks.to_string()),
        ("Bad blocks", raw.bad_blocks.to_string()),
        ("Reserved blocks", raw.reserved_blocks.to_string()),
        ("State", words::state(raw.state.get())),
        ("Created", time::human(raw.created.get())),
        ("Written", written(found)),
        ("Checked", time::human(raw.checked.get())),
        ("Sealed", time::human(raw.sealed.get())),
        ("Commits", raw.write_count.to_string()),
        ("Recorded problems", problems(found)),
    ] {
        table.row([name, &value]);
    }
    table.print(ctx)?;
    Ok(Exit::Done)
}

fn problems(found: &Superblock) -> String {
    let raw = &found.raw;
    if raw.error_count.get() == 0 {
        return "none".to_owned();
    }
    let one = |record: &gmfs_format::native::raw::ErrorRecord| {
        format!("GM{:04} at {}", record.code, time::human(record.time.get()))
    };
    format!("{}, first {}, last {}", raw.error_count, one(&raw.first_error), one(&raw.last_error))
}

/// The region's place in the image, or why there is none; for views that need no superblock.
fn located(args: &Args, ctx: &Ctx) -> Result<(Located, Option<Superblocks>)> {
    let located = open::locate(&args.image, ctx)?;
    let superblocks = Superblocks::load(&located.source);
    match superblocks {
        Ok(superblocks) => Ok((located, Some(superblocks))),
        // Copy A lies at the start, whatever it has come to.
        Err(_) if args.copy != Some(Which::B) => Ok((located, None)),
        Err(error) => Err(error).context("nothing says where copy B lies"),
    }
}
