//! `gmfs mkfs`: makes a region.

mod refuse;
mod target;
mod wipe;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::Layout;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::superblock::check_label;
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PmdShift};
use gmfs_format::spec::RegionSpec;
use gmfs_image::undo::Recorded;
use gmfs_io::Span;
use gmfs_volume::{FormatOptions, Stamp, format};
use uuid::Uuid;

use crate::clock;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::in_use::InUseOk;
use crate::locate::parse_region;
use crate::locking::Wait;
use crate::open;
use crate::render::json::{self, actions, region};
use crate::render::table::Table;
use crate::render::{WRITER, size};
use gmfs::Place;

/// Make a region in a file, a device or a range of memory
///
/// Writes a handful of pages at any size, and zeros what other formats left where programs look for their marks: in the
/// first 5 MiB and the last 2 MiB of the region. Refuses an image that holds a region, a filesystem, a partition table, a dump
/// or other data already, unless --force is given. With --uuid, and SOURCE_DATE_EPOCH in the environment, two runs write
/// the same bytes. As mkfs.gmfs or mkfs.guestmemfs the program is this command, and takes mkfs(8)'s size in blocks
/// behind IMAGE.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs mkfs region.img --size 1G --label guests
  gmfs mkfs /dev/mem --region 64G:0x1000000000
  gmfs mkfs /dev/dax0.0 --dry-run")]
pub(crate) struct Args {
    /// File, block device, devdax device or /dev/mem
    #[arg(value_parser = super::new_file())]
    image: PathBuf,
    /// Where in IMAGE the region is to lie; in /dev/mem BASE is a physical address
    #[arg(long, value_name = "SIZE[:BASE]", value_parser = parse_region)]
    region: Option<RegionSpec>,
    /// Size of the region: bytes, or a number with K, M, G or T, such as 1.5G; makes the file, or grows an empty one
    #[arg(short, long, value_name = "SIZE", value_parser = super::parse_size, conflicts_with = "region")]
    size: Option<u64>,
    /// Label, up to 63 bytes of UTF-8
    #[arg(short = 'L', long, default_value = "", hide_default_value = true)]
    label: String,
    /// UUID of the region [default: a random one]
    #[arg(short = 'U', long)]
    uuid: Option<Uuid>,
    /// How many files and directories it can hold, up to 1048576 [default: by size, from 1024 to 65536]
    #[arg(short = 'N', long, value_name = "COUNT")]
    inodes: Option<u32>,
    /// Block size: 2M, 32M or 512M [default: the PMD size of the running kernel]
    #[arg(long, value_name = "SIZE", value_parser = parse_pmd)]
    pmd_size: Option<PmdShift>,
    /// Physical address to record as the region's base, for a file that is to be loaded there
    #[arg(long, value_name = "ADDR", value_parser = crate::locate::parse_address)]
    base: Option<u64>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    in_use: InUseOk,
    /// Format whatever the image holds
    #[arg(short, long)]
    force: bool,
    /// Print what would be made, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Record what is overwritten, so that `gmfs undo` can take it back
    #[arg(long, value_name = "FILE", value_parser = super::new_file(), conflicts_with = "dry_run")]
    undo: Option<PathBuf>,
    /// Print more: where the parts of the region lie
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Size in blocks, as mkfs(8) hands it over, or with a suffix in bytes
    #[arg(hide = true, conflicts_with_all = ["size", "region"])]
    blocks: Option<String>,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    clock::check()?;
    check_label(&args.label).context("cannot take the label")?;
    let pmd = args.pmd_size.unwrap_or_else(running_pmd);
    let cannot = |error: anyhow::Error| open::about(error, "format", &args.image);
    let wanted = target::Wanted::new(args, pmd).map_err(cannot)?;
    let mut target = target::open(args, &wanted).map_err(cannot)?;
    let geometry = plan(args, pmd, target.size).map_err(cannot)?;
    if !args.force {
        refuse::check(&target).map_err(anyhow::Error::new).map_err(cannot)?;
    }
    refuse_in_use(args, &target).map_err(anyhow::Error::new).map_err(cannot)?;
    let base = recorded_base(args, &target, geometry).map_err(anyhow::Error::new).map_err(cannot)?;
    let uuid = args.uuid.map_or_else(random_uuid, Ok)?;
    let birth = match (args.uuid, clock::is_fixed()) {
        // The same bytes each time.
        (Some(uuid), true) => derived_birth(uuid, clock::now()),
        _ => crate::random::birth()?,
    };
    let options = FormatOptions {
        geometry,
        uuid,
        birth,
        label: args.label.clone(),
        base,
        owner: (0, 0),
        stamp: Stamp { now: clock::now(), writer: WRITER.to_owned() },
        forget: target.old_superblocks(),
    };
    if !args.dry_run {
        write(&mut target, &options, args.undo.as_deref()).map_err(cannot)?;
        target.keep();
        if let Some((name, offset)) = target.left_outside() {
            ctx.warn(&format!(
                "behind the region, the image still has the mark of something else ({name}, at offset {offset:#x}); \
                 wipefs(8) takes it away"
            ));
        }
    }
    let place = Place { kind: target.kind, path: args.image.clone(), base: target.base };
    show(args, &place, &options, ctx)?;
    Ok(Exit::Done)
}

/// Refuses memory that a process has mapped.
fn refuse_in_use(args: &Args, target: &target::Target) -> Result<(), Failure> {
    // Nobody has mapped a file that was made here.
    let Some(source) = target.source().filter(|_| !target.fresh) else { return Ok(()) };
    let reach = Span::new(target.base, u64::MAX.saturating_sub(target.base));
    let mut spans = vec![Span::new(0, target.size)];
    spans.extend(target.old_superblocks().into_iter().map(|offset| Span::new(offset, PAGE_BYTES)));
    Ok(args.in_use.watch(&args.image, reach).refuse_bytes(source, &spans)?)
}

/// Formats, with a record of what was there if that is asked for.
fn write(target: &mut target::Target, options: &FormatOptions, undo: Option<&Path>) -> Result<()> {
    let places = target.marked();
    let size = options.geometry.size();
    match undo {
        None => {
            let out = target.writable()?;
            format(out, options).map(drop)?;
            wipe::clear(out, size, &places)?;
        }
        Some(file) => {
            let mut recorded = Recorded::new(target.writable()?, file)?;
            let done = format(&mut recorded, options).map_err(anyhow::Error::new);
            let done = done.and_then(|_| wipe::clear(&mut recorded, size, &places));
            recorded.finish()?;
            done?;
        }
    }
    Ok(())
}

/// The layout, or why there is none.
fn plan(args: &Args, pmd: PmdShift, size: u64) -> Result<Geometry> {
    let inodes = args.inodes.unwrap_or_else(|| Geometry::default_inodes(size, pmd));
    Ok(Geometry::plan(size, pmd, inodes)?)
}

/// The physical base to record: where the region lies, if that is a physical address, or as told.
fn recorded_base(args: &Args, target: &target::Target, geometry: Geometry) -> Result<u64, Failure> {
    if target.kind.is_physical() {
        return Ok(target.base);
    }
    let told = args.base.unwrap_or(0);
    if told.is_multiple_of(geometry.block_bytes()) {
        return Ok(told);
    }
    let block = size::human(geometry.block_bytes());
    let message = format!("the base {told:#x} is not a multiple of the block size, {block}");
    Err(Failure::new("base", message).hint("the kernel maps whole PMD pages: align the base"))
}

fn show(args: &Args, place: &Place, options: &FormatOptions, ctx: &mut Ctx) -> Result<()> {
    let geometry = options.geometry;
    if args.json {
        let answer = actions::Mkfs {
            image: place.into(),
            store: region::Store::of(place.base, options.uuid, geometry),
            region: region::Span { base: place.base, size: geometry.size() },
            layout: Layout::Native.name(),
            uuid: options.uuid.to_string(),
            label: options.label.clone(),
            recorded_base: Some(options.base).filter(|base| *base != 0),
            geometry: geometry.into(),
            dry_run: args.dry_run,
        };
        return Ok(json::print(ctx, "mkfs", &answer)?);
    }
    if ctx.quiet {
        return Ok(());
    }
    let done = if args.dry_run { "would be formatted; nothing was written" } else { "formatted" };
    ctx.line(&crate::failure::printable(&format!("{}: {done}", place.path.display())))?;
    let mut table = Table::bare(&[]);
    table.row(["UUID", &options.uuid.to_string()]);
    if !options.label.is_empty() {
        table.row(["Label", &crate::paths::shown(options.label.as_bytes())]);
    }
    table.row(["Size", &size::both(geometry.size())]);
    let base = if options.base == 0 { "not known".to_owned() } else { size::hex(options.base) };
    table.row(["Physical base", &base]);
    table.row(["Blocks", &blocks(geometry)]);
    table.row(["Inodes", &geometry.inodes().to_string()]);
    if args.verbose {
        let copies = CopyId::BOTH.map(|copy| size::hex(place.base.saturating_add(geometry.copy_offset(copy))));
        table.row(["Metadata", &format!("copies at {} and {}", copies[0], copies[1])]);
        let page = size::human(geometry.block_bytes());
        table.row(["Block size", &format!("{page}, for kernels whose PMD pages have that size")]);
    }
    if geometry.tail() > 0 {
        table.row(["Not used", &format!("{} behind the last whole block", size::both(geometry.tail()))]);
    }
    Ok(table.print(ctx)?)
}

/// Blocks by what they are for.
pub(crate) fn blocks(geometry: Geometry) -> String {
    format!(
        "{} of {}: {} for data, {} for metadata",
        geometry.blocks(),
        size::human(geometry.block_bytes()),
        geometry.data_blocks(),
        u64::from(geometry.metadata_blocks()) * 2
    )
}

/// The PMD size of the running kernel, which its page size decides.
fn running_pmd() -> PmdShift {
    match rustix::param::page_size() {
        0x4000 => PmdShift::M32,
        0x1_0000 => PmdShift::M512,
        _ => PmdShift::M2,
    }
}

fn parse_pmd(text: &str) -> Result<PmdShift, String> {
    let bytes = super::parse_size(text)?;
    PmdShift::from_block_bytes(bytes).ok_or_else(|| "a PMD page has 2M, 32M or 512M".to_owned())
}

/// A UUID of version 4.
fn random_uuid() -> Result<Uuid> {
    Ok(uuid::Builder::from_random_bytes(crate::random::bytes()?).into_uuid())
}

/// The birth of a region that is made with a UUID and at a time that were both given.
fn derived_birth(uuid: Uuid, now: u64) -> u64 {
    let (high, low) = uuid.as_u64_pair();
    let sum = gmfs_format::native::sum::Sum::of(
        gmfs_format::native::units::PageNo(0),
        gmfs_format::native::units::Generation(high ^ now),
    );
    sum.first ^ low.rotate_left(32) ^ sum.second
}
