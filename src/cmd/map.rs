//! `gmfs map`: where in physical memory a file lies.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueEnum};
use gmfs_format::native::model::{Extent, Inode};
use gmfs_format::native::tables::InodeKind;
use gmfs_image::Kind;
use gmfs_volume::content::{Piece, has_lost, pieces};
use gmfs_volume::region::Mapping;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, Opened, ReadArgs};
use crate::paths;
use crate::render::json::{self, files};
use crate::render::size;
use crate::render::style::Role;
use crate::render::table::Table;

/// Show where a file lies in physical memory, also as arguments for a VMM
///
/// Addresses are physical where IMAGE is /dev/mem or a dump, or where the superblock records the region's base; offsets
/// in the region else.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs map region.img /vms/a.mem
  qemu-system-x86_64 -m 4G $(gmfs map /dev/mem /vms/a.mem --vmm qemu) …")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// The file's path in the region
    path: OsString,
    /// Print the arguments that make the file a guest's memory
    #[arg(long, value_name = "VMM")]
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
    let opened = open::region(&args.image, ctx)?;
    let (inodes, _) = super::inodes(&opened.region, ctx);
    let cannot = || format!("cannot map '{}'", paths::shown(paths::bytes(&args.path)));
    let mut exit = Exit::Done;
    let inode = super::find(&inodes.tree, &args.path, &mut exit, ctx).with_context(cannot)?;
    if inode.kind != InodeKind::File {
        return Err(Failure::new("is-directory", "it is a directory")).with_context(cannot);
    }
    let mapping = opened.region.mapping(inode.ino);
    opened.unlock();
    if super::tell_lost(mapping.lost_pages, "block table", "mapping", ctx) != Exit::Done {
        exit = Exit::No;
    }
    let arguments = match args.vmm {
        Some(Vmm::Qemu) => {
            let pieces = pieces(opened.region.geometry(), inode, &mapping).with_context(cannot)?;
            Some(qemu(&opened, inode, &pieces).with_context(cannot)?)
        }
        None => None,
    };
    if args.json {
        let path = inodes.tree.path(inode.ino);
        let answer = answer(&opened, inode, path.as_deref(), &mapping, arguments);
        json::print(ctx, "map", &answer)?;
    } else if let Some(arguments) = arguments {
        for argument in arguments {
            ctx.line(&argument)?;
        }
    } else {
        show(&opened, inode, &mapping, ctx)?;
    }
    let shown = paths::shown(&inodes.tree.path(inode.ino).unwrap_or_default());
    super::tell_doubtful(std::iter::once((inode, shown)), &mut exit, ctx);
    Ok(exit)
}

/// The image's path as QEMU can be given it.
fn image_for_qemu(opened: &Opened) -> Result<String, Failure> {
    let image = opened.place.path.display().to_string();
    let what = match image.contains(',') {
        true => "a comma, which QEMU takes for its own",
        false if image.contains(char::is_control) => "a control character",
        false => return Ok(image),
    };
    let message = format!("'{}' has {what}", paths::shown(image.as_bytes()));
    Err(Failure::new("name", message).hint("use another name for it"))
}

/// QEMU's arguments: an object for each extent; more than one need a NUMA node each, in the order of guest addresses.
fn qemu(opened: &Opened, inode: &Inode, pieces: &[Piece]) -> Result<Vec<String>, Failure> {
    let failure = |code, message: String, hint: &str| Err(Failure::new(code, message).hint(hint));
    if opened.place.kind.is_dump() {
        return failure(
            "read-only",
            "it is in a dump, which no guest can run in".to_owned(),
            "`gmfs save` the region first",
        );
    }
    let image = image_for_qemu(opened)?;
    let block = opened.region.geometry().block_bytes();
    let mut objects: Vec<(u64, u64)> = Vec::new();
    for piece in pieces {
        match *piece {
            Piece::Data { file, at, bad: false } => objects.push((opened.place.base + at, file.len)),
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
                    format!("bytes {file} are a hole, which no memory stands behind"),
                    "give the file all of its blocks: make it without --sparse",
                );
            }
        }
    }
    if objects.is_empty() {
        return failure("empty", "it has no bytes".to_owned(), "`gmfs truncate` makes it larger");
    }
    let single = objects.len() == 1;
    let devdax = opened.place.kind == Kind::DevDax;
    let mut arguments = Vec::new();
    for (n, (offset, length)) in objects.iter().enumerate() {
        let name = if single { format!("gmfs{}", inode.ino) } else { format!("gmfs{}.{n}", inode.ino) };
        // A device is mapped in its own granularity only, and the guest's memory in whole PMD pages.
        let align = if devdax || length % block == 0 { format!(",align={block}") } else { String::new() };
        arguments.push(format!(
            "-object memory-backend-file,id={name},mem-path={image},offset={offset:#x},size={length},share=on{align}"
        ));
        arguments.push(if single {
            format!("-machine memory-backend={name}")
        } else {
            format!("-numa node,memdev={name}")
        });
    }
    Ok(arguments)
}

fn answer(
    opened: &Opened,
    inode: &Inode,
    path: Option<&[u8]>,
    mapping: &Mapping,
    arguments: Option<Vec<String>>,
) -> files::Map {
    let (geometry, extents) = (opened.region.geometry(), &mapping.extents);
    let runs = extents.iter().map(|extent| files::Extent::new(extent, opened)).collect();
    let holes = holes(extents, inode.size, geometry.block_bytes());
    let holes: Vec<_> = holes.into_iter().map(|(offset, length)| files::Hole { offset, length }).collect();
    let (holes, lost) = if has_lost(geometry, inode, mapping) { (Vec::new(), holes) } else { (holes, Vec::new()) };
    files::Map {
        image: (&opened.place).into(),
        store: opened.into(),
        file: files::File::new(path, inode, runs),
        block_size: geometry.block_bytes(),
        physical_base: opened.physical_base(),
        holes,
        lost,
        arguments,
    }
}

/// What no extent covers: offset and length.
fn holes(extents: &[Extent], size: u64, block: u64) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut next = 0;
    for extent in extents {
        let start = (u64::from(extent.index) * block).min(size);
        if start > next {
            holes.push((next, start - next));
        }
        next = next.max(u64::from(extent.end_index()) * block);
    }
    if next < size {
        holes.push((next, size - next));
    }
    holes
}

fn show(opened: &Opened, inode: &Inode, mapping: &Mapping, ctx: &mut Ctx) -> Result<()> {
    let (geometry, base, extents) = (opened.region.geometry(), opened.physical_base(), &mapping.extents);
    let block = geometry.block_bytes();
    let address = if base.is_some() { "Physical address" } else { "Offset in region" };
    let mut table = Table::new(&["File offset", "Length", "Blocks", "First block", address]).right(&[0, 1, 2, 3, 4]);
    let mut rows: Vec<(u64, Option<&Extent>, u64)> = Vec::new();
    rows.extend(extents.iter().map(|e| (u64::from(e.index) * block, Some(e), u64::from(e.count) * block)));
    rows.extend(holes(extents, inode.size, block).into_iter().map(|(offset, length)| (offset, None, length)));
    rows.sort_by_key(|(offset, ..)| *offset);
    let gap = if has_lost(geometry, inode, mapping) { ("lost", Role::Bad) } else { ("hole", Role::Dim) };
    for (offset, extent, length) in rows {
        let (offset, length) = (size::hex(offset), size::human(length));
        let Some(extent) = extent else {
            table.styled([(&offset, Role::Dim), (&length, Role::Dim), gap, ("", Role::Dim), ("", Role::Dim)]);
            continue;
        };
        let place = size::hex(base.unwrap_or(0).saturating_add(geometry.block_offset(extent.block)));
        let role = if extent.bad { Role::Bad } else { Role::Plain };
        let count = if extent.bad { format!("{} bad", extent.count) } else { extent.count.to_string() };
        table.styled([
            (&offset, Role::Plain),
            (&length, Role::Plain),
            (&count, role),
            (&extent.block.to_string(), Role::Plain),
            (&place, Role::Plain),
        ]);
    }
    if table.is_empty() {
        ctx.note("the file has no bytes");
        return Ok(());
    }
    Ok(table.print(ctx)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_format::native::units::BlockNo;

    #[test]
    fn holes_are_what_is_left() {
        let extent = |index, count| Extent { index, block: BlockNo(9), count, bad: false };
        assert_eq!(holes(&[extent(1, 1), extent(3, 2)], 44, 10), [(0, 10), (20, 10)]);
        assert_eq!(holes(&[extent(0, 2)], 25, 10), [(20, 5)]);
        assert_eq!(holes(&[extent(0, 9)], 25, 10), []);
    }
}
