//! `gmfs stat`: all that is recorded of a file or directory.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs_format::native::model::{Extent, Inode};
use gmfs_format::native::tables::InodeKind;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use::ByFile;
use crate::open::{self, ReadArgs};
use crate::paths;
use crate::render::json::{self, files};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::{size, time, words};

/// Show everything that is recorded of files or directories
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs stat region.img /vms/a.mem")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Their paths in the region
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    /// Show which processes have the files mapped
    #[arg(long)]
    in_use: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let opened = open::region(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&opened.region, ctx);
    let find = |path| super::find(&inodes.tree, path, &mut exit, ctx);
    let wanted = args.paths.iter().map(OsString::as_os_str).map(find).collect::<Result<Vec<&Inode>, _>>()?;
    let mut mappings = opened.region.mappings(|ino| wanted.iter().any(|inode| inode.ino == ino));
    if super::tell_lost(mappings.lost_pages, "block table", "mapping", ctx) != Exit::Done {
        exit = Exit::No;
    }
    let users = args.in_use.then(|| ByFile::look(&opened, &mappings));
    opened.unlock();
    let mut answer = Vec::new();
    for (n, inode) in wanted.iter().enumerate() {
        let path = inodes.tree.path(inode.ino).unwrap_or_default();
        let extents = mappings.files.remove(&inode.ino).unwrap_or_default();
        if !args.json {
            if n > 0 {
                ctx.line("")?;
            }
            show(&path, inode, &extents, users.as_ref(), ctx)?;
        }
        answer.push(files::Status {
            entry: files::Entry::new(&path, inode).used(users.as_ref(), inode),
            extents: extents.iter().map(|extent| files::Extent::new(extent, &opened)).collect(),
            lost_pages: mappings.lost_pages,
        });
    }
    if args.json {
        let (image, store) = ((&opened.place).into(), (&opened).into());
        json::print(ctx, "stat", &files::Stat { image, store, files: answer })?;
    }
    let shown = |inode: &Inode| paths::shown(&inodes.tree.path(inode.ino).unwrap_or_default());
    super::tell_doubtful(wanted.iter().map(|inode| (*inode, shown(inode))), &mut exit, ctx);
    Ok(exit)
}

fn show(path: &[u8], inode: &Inode, extents: &[Extent], users: Option<&ByFile>, ctx: &mut Ctx) -> Result<()> {
    let mut table = Table::bare(&[]);
    table.row(["Path", &paths::shown(path)]);
    table.row(["Inode", &inode.ino.to_string()]);
    table.row(["Kind", inode.kind.name()]);
    if inode.kind == InodeKind::File {
        table.row(["Size", &size::both(inode.size)]);
        let mapped: u64 = extents.iter().map(|extent| u64::from(extent.count)).sum();
        let extents = size::count(extents.len() as u64, "extent");
        table.row(["Blocks", &format!("{} in {extents}", inode.blocks)]);
        if mapped != inode.blocks {
            table.styled([("Found", Role::Bad), (&format!("only {mapped} blocks name this file"), Role::Bad)]);
        }
    }
    if let Some(users) = users {
        let users = users.shown(inode.ino);
        table.row(["Mapped by", if users.is_empty() { "nobody" } else { &users }]);
    }
    if let Some(attributes) = inode.attributes {
        let mode = words::mode(inode.kind, attributes.mode);
        table.row(["Mode", &format!("{mode} ({:04o})", attributes.mode)]);
        table.row(["Owner", &format!("{}:{}", attributes.uid, attributes.gid)]);
        let flags = words::inode_flags(attributes.flags);
        table.row(["Flags", if flags.is_empty() { "none" } else { &flags }]);
        table.row(["Generation", &attributes.generation.to_string()]);
        table.row(["Created", &time::human(attributes.created)]);
        table.row(["Modified", &time::human(attributes.modified)]);
        table.row(["Changed", &time::human(attributes.changed)]);
        table.row(["Accessed", &time::human(attributes.accessed)]);
    }
    Ok(table.print(ctx)?)
}
