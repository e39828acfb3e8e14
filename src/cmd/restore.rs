//! `gmfs restore`: puts a metadata dump back.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::io::{ReadAt, Span, WriteAt};
use gmfs_format::model::Extent;
use gmfs_format::units::{CopyId, PAGE_BYTES, PAGE_SIZE};
use gmfs_image::RegionFile;
use gmfs_image::metadump::MetaDump;
use gmfs_volume::{Region, Superblocks};

use crate::cmd::dump::load;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::open::{self, ImageArgs};
use crate::paths;
use crate::render::size;

/// Put the metadata of a dump back
///
/// Says first what has changed since the dump was made, and asks. The contents of files are not in a dump: a file that was
/// changed since has its old blocks again, and in them whatever is there now.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs dump region.img -o region.meta
  gmfs restore --undo before.undo region.meta region.img")]
pub(crate) struct Args {
    /// The metadata dump
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    image: ImageArgs,
    /// Put it back also where there is no region, or another one
    #[arg(short, long)]
    force: bool,
    /// Do not ask
    #[arg(short = 'y', long = "yes")]
    yes: bool,
    /// Record what is overwritten, so that `gmfs undo` can take it back
    #[arg(long, value_name = "FILE")]
    undo: Option<PathBuf>,
}

type Dump = MetaDump<RegionFile>;

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let cannot = || format!("cannot restore {}", args.file.display());
    let dump = MetaDump::parse(RegionFile::open(&args.file)?).with_context(cannot)?;
    if dump.facts().obfuscated {
        let failure = Failure::new("obfuscated", "its names are obfuscated, so it is not what the region was");
        return Err(failure).with_context(cannot);
    }
    let superblocks = load(&dump).with_context(cannot)?;
    // Looked at before the undo file is made.
    {
        let target = open::whole_for_writing(&args.image, ctx)?;
        let there = compare_regions(&superblocks, &target, args.force).with_context(cannot)?;
        let pages = differing(&dump, &target)?;
        if pages == 0 {
            ctx.line("nothing has changed since the dump was made")?;
            return Ok(Exit::Done);
        }
        ctx.line(&format!("{} have changed since the dump was made", size::count(pages, "page")))?;
        if let Some(there) = there {
            let old = files(Region::with(&dump, load(&dump)?));
            tell_files(&old, &files(Region::with(&target, there)), ctx)?;
        }
        std::io::Write::flush(ctx.writer())?;
    }
    if !args.yes && !agreed()? {
        let failure = Failure::new("not-confirmed", "nothing was written: nobody said yes");
        return Err(failure.hint("-y says it")).with_context(cannot);
    }
    let work = |target: &mut dyn WriteAt, _: &mut Ctx| put_back(&dump, &superblocks, target);
    let (_, shown, pages) = open::for_repair(&args.image, args.undo.as_deref(), ctx, work).with_context(cannot)?;
    ctx.line(&printable(&format!("{shown}: {} put back", size::count(pages, "page"))))?;
    Ok(Exit::Done)
}

/// Refuses a dump of another region; gives what is in the image, if there is a region.
fn compare_regions<S: ReadAt>(dump: &Superblocks, target: &S, force: bool) -> Result<Option<Superblocks>> {
    let (geometry, uuid) = (dump.geometry(), dump.current().uuid);
    if target.end().is_some_and(|end| end < u64::from(geometry.blocks()) * geometry.block_bytes()) {
        let message = format!("the dump is of a region of {}, which IMAGE cannot hold", size::both(geometry.size()));
        return Err(Failure::new("short", message).into());
    }
    let hint = "-f puts it back nevertheless";
    let found = match load(target) {
        Ok(found) => found,
        Err(_) if force => return Ok(None),
        Err(error) => return Err(Failure::new("no-region", error.to_string()).hint(hint).into()),
    };
    let same = found.current().uuid == uuid && (found.geometry() == geometry || found.are_rebuilt());
    match (same, force) {
        (true, _) => Ok(Some(found)),
        (false, true) => Ok(None),
        (false, false) => {
            let other = found.current().uuid;
            let message = format!("the dump is of region {uuid}, IMAGE holds {other}, or one laid out otherwise");
            Err(Failure::new("other-region", message).hint(hint).into())
        }
    }
}

/// The offsets of the pages in a dump.
fn pages(dump: &Dump) -> impl Iterator<Item = u64> + '_ {
    dump.ranges()
        .flat_map(|(span, _)| (span.offset / PAGE_BYTES..span.end() / PAGE_BYTES).map(|page| page * PAGE_BYTES))
}

/// How many pages are not what they are in the dump.
fn differing<S: ReadAt>(dump: &Dump, target: &S) -> Result<u64> {
    let (mut old, mut new) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    let mut count = 0;
    for offset in pages(dump) {
        dump.read_at(offset, &mut old)?;
        count += u64::from(target.read_at(offset, &mut new).is_err() || old != new);
    }
    Ok(count)
}

/// Files by their path: size and extents.
type Files = BTreeMap<Vec<u8>, (u64, Vec<Extent>)>;

fn files<S: ReadAt>(region: Region<S>) -> Files {
    let tree = region.inodes().tree;
    let mut mappings = region.mappings(|_| true).files;
    let path = |ino| tree.path(ino).unwrap_or_else(|| format!("inode {ino}").into_bytes());
    tree.inodes()
        .map(|inode| (path(inode.ino), (inode.size, mappings.remove(&inode.ino).unwrap_or_default())))
        .collect()
}

/// Says which files come, go and change.
fn tell_files(old: &Files, new: &Files, ctx: &mut Ctx) -> Result<()> {
    for (path, then) in old {
        let what = match new.get(path) {
            None => "comes back",
            Some(now) if now.1 != then.1 => "has other blocks than in the dump",
            Some(now) if now.0 != then.0 => "has another size than in the dump",
            Some(_) => continue,
        };
        ctx.line(&format!("{}: {what}", paths::shown(path)))?;
    }
    for path in new.keys().filter(|path| !old.contains_key(*path)) {
        ctx.line(&format!("{}: is not in the dump and goes", paths::shown(path)))?;
    }
    Ok(())
}

/// Asks on a terminal; elsewhere nobody can say yes.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut terminal = std::io::stderr();
    write!(terminal, "Put the metadata back? [y]es, [n]o: ")?;
    terminal.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
    Ok(matches!(line.trim(), "y" | "yes"))
}

/// Writes one copy whole, then the other. While one is being written its superblock is zero, so that a crash leaves a
/// region that is seen to be damaged; the other copy's superblock is there all the time.
fn put_back(dump: &Dump, superblocks: &Superblocks, target: &mut dyn WriteAt) -> Result<u64> {
    let mut written = 0;
    for copy in [CopyId::B, CopyId::A] {
        let start = superblocks.geometry().copy_offset(copy);
        let own = start..start + superblocks.geometry().pages() * PAGE_BYTES;
        let mut first = [0; PAGE_SIZE];
        let superblock = dump.read_at(start, &mut first).is_ok();
        if superblock {
            target.zero(Span::new(start, PAGE_BYTES))?;
            target.barrier()?;
        }
        let mut bytes = [0; PAGE_SIZE];
        for offset in pages(dump).filter(|offset| own.contains(offset) && *offset != start) {
            dump.read_at(offset, &mut bytes)?;
            target.write_at(offset, &bytes)?;
            written += 1;
        }
        target.barrier()?;
        if superblock {
            target.write_at(start, &first)?;
            target.barrier()?;
            written += 1;
        }
    }
    Ok(written)
}
