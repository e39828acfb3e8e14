//! `gmfs mkfs`: makes a region.

mod content;
mod pkernfs;
mod words;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs::make::{BlockSize, Content, NewRegion, Request, Target, block_size_of_kernel, derived_birth};
use gmfs_format::Layout;
use gmfs_format::spec::{self, RegionSpec};
use gmfs_io::{Span, WriteAt};
use gmfs_volume::Stamp;
use uuid::Uuid;

use self::content::NotMade;
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
use crate::{clock, details};

/// Make a region in a file, a device or a range of memory
///
/// Writes a handful of pages at any size, and zeros what other formats left where programs look for their marks: in the
/// first 5 MiB and the last 2 MiB of the region. Refuses an image that holds a region, a filesystem, a partition table, a dump
/// or other data already, unless --force is given. With --uuid, and SOURCE_DATE_EPOCH in the environment, two runs write
/// the same bytes. As mkfs.gmfs or mkfs.guestmemfs the program is this command, and takes mkfs(8)'s size in blocks
/// behind IMAGE.
///
/// --populate DIR copies what is in DIR into the region, with permission bits, owners and times of change. Nothing is made if
/// something in DIR is neither a file nor a directory, or if it does not fit. With --uuid and SOURCE_DATE_EPOCH, the same DIR
/// gives the same bytes in a new file; a time after SOURCE_DATE_EPOCH becomes that time.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs mkfs region.img --size 1G --label guests
  gmfs mkfs region.img --size 1G --populate guests
  gmfs mkfs /dev/mem --region 64G:0x1000000000
  gmfs mkfs /dev/dax0.0 --dry-run
  gmfs mkfs old.img --size 64M --layout pkernfs")]
pub(crate) struct Args {
    /// File, block device, devdax device or /dev/mem
    #[arg(value_parser = super::new_file())]
    image: PathBuf,
    /// Where in IMAGE the region is to lie; in /dev/mem BASE is a physical address
    #[arg(long, value_name = "SIZE[:BASE]", value_parser = parse_region)]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
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
    pmd_size: Option<BlockSize>,
    /// Physical address to record as the region's base, for a file that is to be loaded there
    #[arg(long, value_name = "ADDR", value_parser = crate::locate::parse_address)]
    base: Option<u64>,
    /// Copy what is in this directory into the region
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    populate: Option<PathBuf>,
    /// Format that the region gets: gmfs2, or pkernfs, which the pkernfs driver of patched kernels reads
    #[arg(long, value_name = "LAYOUT", default_value = "gmfs2", hide_default_value = true)]
    layout: Makes,
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
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Size in blocks, as mkfs(8) hands it over, or with a suffix in bytes
    #[arg(hide = true, conflicts_with_all = ["size", "region"])]
    blocks: Option<String>,
}

/// The layouts that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Makes {
    /// The format of gmfs
    Gmfs2,
    /// That of the pkernfs driver
    Pkernfs,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    clock::check()?;
    let cannot = |error: anyhow::Error| open::about(error, "format", &args.image);
    if args.layout == Makes::Pkernfs {
        pkernfs::refuse_options(args)?;
    }
    let block_size = args.pmd_size.unwrap_or_else(|| block_size_of_kernel(rustix::param::page_size()));
    let counted = args.blocks.as_deref().map(|text| in_blocks(text, block_size)).transpose();
    let request = Request {
        size: args.size.or(counted.map_err(anyhow::Error::new).map_err(cannot)?),
        region: args.region,
        inodes: args.inodes,
        base: args.base,
        label: args.label.clone(),
        dry_run: args.dry_run,
        ..Request::new(&args.image, block_size)
    };
    let mut target = request.open(&args.wait.locking(None)).map_err(words::told).map_err(cannot)?;
    details::target(&target.place, Some(target.geometry.size()), args.dry_run, ctx);
    let content = args.populate.as_deref().map(|from| content::plan(from, args, target.geometry)).transpose();
    let content = content.map_err(cannot)?;
    if !args.force {
        target.refuse_occupied().map_err(words::occupied).map_err(anyhow::Error::new).map_err(cannot)?;
    }
    let mut watch = args.in_use.watch(&args.image, target.reach());
    target.refuse_in_use(&mut watch).map_err(anyhow::Error::new).map_err(cannot)?;
    if args.layout == Makes::Pkernfs {
        return pkernfs::make(args, &mut target, ctx).map_err(cannot);
    }
    let region = identity(args)?;
    if !args.dry_run {
        let base = target.place.address();
        let region_bytes = Span::new(target.place.base, target.geometry.size());
        let fill = |bytes: &mut dyn WriteAt| {
            let Some(content) = &content else { return Ok(()) };
            content::put(content, bytes, base, Box::new(args.in_use.watch(&args.image, region_bytes)), ctx)
        };
        let made = target.format_and_fill(&region, args.undo.as_deref(), fill);
        made.map_err(|error| match error {
            NotMade::Region(error) => cannot(words::told(error)),
            NotMade::Content(error) => error,
        })?;
        warn_outside(&target, ctx);
    }
    show(args, &target, &region, content.as_ref(), ctx)?;
    Ok(Exit::Done)
}

/// Says what programs that look at the whole image still take it for.
fn warn_outside(target: &Target, ctx: &Ctx) {
    if let Some(found) = target.left_outside() {
        ctx.warn(&format!(
            "past the region, the image still has the mark of something else ({}, at offset {:#x}); \
             wipefs(8) takes it away",
            found.name, found.offset
        ));
    }
}

/// What tells the new region apart from others.
fn identity(args: &Args) -> Result<NewRegion> {
    let uuid = args.uuid.map_or_else(random_uuid, Ok)?;
    let now = clock::now();
    let birth = match (args.uuid, clock::is_fixed()) {
        // The same bytes each time.
        (Some(uuid), true) => derived_birth(uuid, now),
        _ => crate::random::birth()?,
    };
    let stamp = Stamp { now, writer: WRITER.to_owned() };
    Ok(NewRegion { uuid, birth, label: args.label.clone(), owner: (0, 0), stamp })
}

fn show(args: &Args, target: &Target, made: &NewRegion, content: Option<&Content<'_>>, ctx: &mut Ctx) -> Result<()> {
    let (geometry, place) = (target.geometry, &target.place);
    let base = Some(target.recorded_base).filter(|base| *base != 0);
    if args.json {
        let answer = actions::Mkfs {
            image: place.into(),
            store: region::Store::of(place.base, made.uuid, geometry),
            region: region::Span { base: place.base, size: geometry.size() },
            layout: Layout::Native.name().into(),
            uuid: Some(made.uuid.to_string()),
            label: made.label.clone(),
            recorded_base: base,
            geometry: Some(geometry.into()),
            populated: content.map(|content| content.counts().into()),
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
    table.row(["UUID", &made.uuid.to_string()]);
    if !made.label.is_empty() {
        table.row(["Label", &crate::paths::shown(made.label.as_bytes())]);
    }
    table.row(["Size", &size::both(geometry.size())]);
    table.row(["Physical base", &base.map_or_else(|| "not known".to_owned(), size::hex)]);
    table.row(["Blocks", &size::blocks(geometry)]);
    table.row(["Inodes", &geometry.inodes().to_string()]);
    if let Some(content) = content {
        let counts = content.counts();
        let (files, directories, bytes) = (counts.files, counts.directories, counts.bytes);
        let directories =
            if directories == 1 { "1 directory".to_owned() } else { format!("{directories} directories") };
        table.row(["Content", &format!("{}, {directories}, {}", size::count(files, "file"), size::both(bytes))]);
    }
    if ctx.verbose {
        let copies = target.copies().map(size::hex);
        table.row(["Metadata", &format!("copies at {} and {}", copies[0], copies[1])]);
        let page = size::human(geometry.block_bytes());
        table.row(["Block size", &format!("{page}, for kernels whose PMD pages have that size")]);
    }
    if geometry.tail() > 0 {
        table.row(["Not used", &format!("{} after the last whole block", size::both(geometry.tail()))]);
    }
    Ok(table.print(ctx)?)
}

/// mkfs(8) counts in blocks; with a suffix, or in hexadecimal, it is bytes.
fn in_blocks(text: &str, block_size: BlockSize) -> Result<u64, Failure> {
    let wrong = |message: String| Failure::new("size", message);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let count: Option<u64> = text.parse().ok();
        let bytes = count.and_then(|count| count.checked_mul(block_size.block_bytes()));
        return bytes.ok_or_else(|| wrong(format!("{text} blocks are too many")));
    }
    spec::parse_amount(text).map_err(|error| wrong(error.to_string()))
}

fn parse_pmd(text: &str) -> Result<BlockSize, String> {
    let bytes = super::parse_size(text)?;
    BlockSize::from_block_bytes(bytes).ok_or_else(|| "a PMD page has 2M, 32M or 512M".to_owned())
}

/// A UUID of version 4.
fn random_uuid() -> Result<Uuid> {
    Ok(uuid::Builder::from_random_bytes(crate::random::bytes()?).into_uuid())
}
