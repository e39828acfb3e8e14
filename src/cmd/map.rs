//! `gmfs map`: where in physical memory a file is, and what the whole region is used for.

mod picture;

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueEnum};
use gmfs::Store;
use gmfs::store::{Run, gaps};
use gmfs_format::model::Inode;
use gmfs_format::model::Kind;
use gmfs_format::model::Piece;
use gmfs_io::Span;
use gmfs_vm::arguments::backends;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, ReadArgs};
use crate::paths;
use crate::render::json::{self, files};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

/// Show where a file is in physical memory, or draw what all of the region is used for
///
/// Without PATH the region is drawn, as wide as the terminal, with a legend, and with how long the extents of files and the
/// free runs are. A cell with memory that has errors, or of which nothing tells what it is, shows that before anything else.
/// Addresses are physical where IMAGE is /dev/mem or a dump, or where the superblock records the region's base; offsets
/// in the region else.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs map region.img
  gmfs map region.img /vms/a.mem
  qemu-system-x86_64 -m 4G $(gmfs map /dev/mem /vms/a.mem --vmm qemu) …")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// The file's path in the region [default: draw the whole region]
    #[arg(value_parser = super::region_path())]
    path: Option<OsString>,
    /// Print the arguments that make the file a guest's memory
    #[arg(long, value_name = "VMM", requires = "path")]
    vmm: Option<Vmm>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// VMMs that can map a part of a file or device as guest memory. Those that map a file from its start only (Cloud
/// Hypervisor's memory zones), or their own memory only (Firecracker), cannot be told where in a region a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Vmm {
    /// QEMU 8.1 or newer: memory-backend-file objects with an offset
    Qemu,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::store(&args.image, ctx)?;
    let Some(path) = &args.path else { return picture::run(&store, ctx) };
    let (inodes, _) = super::inodes(&store, ctx);
    let cannot = || format!("cannot map '{}'", paths::shown(paths::bytes(path)));
    let mut exit = Exit::Done;
    let inode = super::find(&inodes.tree, path, &mut exit, ctx).with_context(cannot)?;
    if inode.kind != Kind::File {
        return Err(Failure::new("is-directory", "it is a directory")).with_context(cannot);
    }
    let runs = store.runs(|ino| ino == inode.ino);
    store.unlock();
    if super::tell_lost(runs.lost_pages, "block table", "mapping", ctx) != Exit::Done {
        exit = Exit::No;
    }
    let pieces = store.content_of(inode, &runs);
    let lost = store.is_lost(&pieces);
    let pieces = pieces.map_err(open::told);
    if lost {
        exit = Exit::No;
    }
    let arguments = match args.vmm {
        Some(Vmm::Qemu) => Some(qemu(&store, inode, &pieces.with_context(cannot)?).with_context(cannot)?),
        None => None,
    };
    let runs = runs.files.get(&inode.ino).map(Vec::as_slice).unwrap_or_default();
    let mapping = Mapping { store: &store, inode, runs, lost };
    if args.json {
        let path = inodes.tree.path(inode.ino);
        let answer = files::Map::new(&store, path.as_deref(), inode, runs, lost);
        json::print(ctx, "map", &files::Map { arguments, ..answer })?;
    } else if let Some(arguments) = arguments {
        for argument in arguments {
            ctx.line(&argument)?;
        }
    } else {
        show(&mapping, ctx)?;
    }
    let shown = paths::shown(&inodes.tree.path(inode.ino).unwrap_or_default());
    super::tell_doubtful(std::iter::once((inode, shown)), &mut exit, ctx);
    Ok(exit)
}

/// The image's path as QEMU can be given it.
fn image_for_qemu(store: &Store) -> Result<String, Failure> {
    let image = store.place.path.display().to_string();
    let what = match image.contains(',') {
        true => "a comma, which QEMU takes for its own",
        false if image.contains(char::is_control) => "a control character",
        false => return Ok(image),
    };
    let message = format!("'{}' has {what}", paths::shown(image.as_bytes()));
    Err(Failure::new("name", message).hint("use another name for it"))
}

/// QEMU's arguments: an object for each extent; more than one need a NUMA node each, in the order of guest addresses.
fn qemu(store: &Store, inode: &Inode, pieces: &[Piece]) -> Result<Vec<String>, Failure> {
    let failure = |code, message: String, hint: &str| Err(Failure::new(code, message).hint(hint));
    if store.place.kind.is_dump() {
        return failure(
            "read-only",
            "it is in a dump, which no guest can run in".to_owned(),
            "`gmfs save` the region first",
        );
    }
    let image = image_for_qemu(store)?;
    let block = store.block_bytes();
    let mut objects: Vec<Span> = Vec::new();
    for piece in pieces {
        match *piece {
            Piece::Data { file, at, bad: false } => objects.push(Span::new(store.place.base + at, file.len)),
            Piece::Data { file, .. } => {
                let message = format!("bytes {file} lie in a block with a hardware error");
                return failure("bad-block", message, "extract what is left of it");
            }
            Piece::Lost { file } => {
                let message = format!("bytes {file} are lost: nothing tells any more which block held them");
                return failure("lost", message, "extract what is left of it");
            }
            Piece::Hole { file } => {
                return failure(
                    "hole",
                    format!("bytes {file} are a hole, which no memory backs"),
                    "give the file all of its blocks: make it without --sparse",
                );
            }
        }
    }
    if objects.is_empty() {
        return failure("empty", "it has no bytes".to_owned(), "`gmfs truncate` makes it larger");
    }
    let devdax = store.place.kind == gmfs_image::Kind::DevDax;
    // A device is mapped in its own granularity only, and the guest's memory in whole PMD pages.
    let align = |part: &Span| (devdax || part.len.is_multiple_of(block)).then_some(block);
    let options = backends(inode.ino, &image, &objects, align);
    Ok(options.into_iter().map(|(option, value)| format!("{option} {value}")).collect())
}

/// Where a file is.
struct Mapping<'a> {
    store: &'a Store,
    inode: &'a Inode,
    runs: &'a [Run],
    /// What no run covers is lost data, not a hole.
    lost: bool,
}

fn show(mapping: &Mapping<'_>, ctx: &mut Ctx) -> Result<()> {
    let Mapping { store, inode, runs, lost } = *mapping;
    let (block, base) = (store.block_bytes(), store.physical_base());
    let address = if base.is_some() { "Physical address" } else { "Offset in region" };
    let mut table = Table::new(&["File offset", "Length", "Blocks", "First block", address])
        .right(&[0, 1, 2, 3, 4])
        .dispensable(&["First block", "Blocks"]);
    let mut rows: Vec<(u64, Option<&Run>, u64)> = Vec::new();
    rows.extend(runs.iter().map(|run| (run.offset, Some(run), run.len)));
    rows.extend(gaps(runs, inode.size).into_iter().map(|gap| (gap.offset, None, gap.len)));
    rows.sort_by_key(|(offset, ..)| *offset);
    let gap = if lost { ("lost", Role::Bad) } else { ("hole", Role::Dim) };
    for (offset, run, length) in rows {
        let (offset, length) = (size::hex(offset), size::human(length));
        let Some(run) = run else {
            table.styled([(&offset, Role::Dim), (&length, Role::Dim), gap, ("", Role::Dim), ("", Role::Dim)]);
            continue;
        };
        let place = size::hex(base.unwrap_or(0).saturating_add(run.at));
        let role = if run.bad { Role::Bad } else { Role::Plain };
        let blocks = run.len / block;
        let count = if run.bad { format!("{blocks} bad") } else { blocks.to_string() };
        table.styled([
            (&offset, Role::Plain),
            (&length, Role::Plain),
            (&count, role),
            (&(run.at / block).to_string(), Role::Plain),
            (&place, Role::Plain),
        ]);
    }
    if store.known_size(inode).is_none() {
        let why = store.content_fault(inode.ino).unwrap_or_default();
        ctx.warn(&format!("neither its size is known nor where it is: {why}"));
        return Ok(());
    }
    if table.is_empty() {
        ctx.note("the file has no bytes");
        return Ok(());
    }
    Ok(table.print(ctx)?)
}
