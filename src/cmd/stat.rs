//! `gmfs stat`: all that is recorded of a file or directory.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::in_use::ByFile;
use gmfs::store::{Luo, Run, Runs, gaps};
use gmfs_format::model::{Inode, InodeNo, Kind};
use gmfs_io::Span;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use;
use crate::open::{self, ReadArgs};
use crate::paths;
use crate::render::json::{self, files, luo};
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
    #[arg(value_name = "PATH", required = true, value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Show which processes have the files mapped
    #[arg(long)]
    in_use: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::store(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&store, ctx);
    let mut tried = super::Tried::default();
    let find = |path: &OsString| tried.add(super::find(&inodes.tree, path, &mut exit, ctx));
    let wanted: Vec<&Inode> = args.paths.iter().filter_map(find).collect();
    let failed = tried.end()?;
    let mut runs = store.runs(|ino| wanted.iter().any(|inode| inode.ino == ino));
    if super::tell_lost(runs.lost_pages, "block table", "mapping", ctx) != Exit::Done {
        exit = Exit::No;
    }
    let users = args.in_use.then(|| ByFile::find(&store, &runs, in_use::tell));
    store.unlock();
    let mut answer = Vec::new();
    for (n, inode) in wanted.iter().enumerate() {
        let path = inodes.tree.path(inode.ino).unwrap_or_default();
        let lost = lost(&store, inode, &runs);
        if !lost.is_empty() || store.known_size(inode).is_none() {
            exit = Exit::No;
        }
        let extents = runs.files.remove(&inode.ino).unwrap_or_default();
        if !args.json {
            if n > 0 {
                ctx.line("")?;
            }
            show(&store, &path, inode, (&extents, &lost), users.as_ref(), ctx)?;
        }
        let status = files::Status::new(&store, &path, inode, &extents, runs.lost_pages).lost(&lost);
        answer.push(status.used(users.as_ref(), inode));
    }
    if args.json {
        let (image, store) = ((&store.place).into(), (&store).into());
        json::print(ctx, "stat", &files::Stat { image, store, files: answer })?;
    }
    let shown = |inode: &Inode| paths::shown(&inodes.tree.path(inode.ino).unwrap_or_default());
    super::tell_doubtful(wanted.iter().map(|inode| (*inode, shown(inode))), &mut exit, ctx);
    Ok(if failed { Exit::Failed } else { exit })
}

/// The parts of a file of which nothing tells any more where they are.
fn lost(store: &Store, inode: &Inode, runs: &Runs) -> Vec<Span> {
    if inode.kind != Kind::File || !store.is_lost(&store.content_of(inode, runs)) {
        return Vec::new();
    }
    gaps(runs.files.get(&inode.ino).map(Vec::as_slice).unwrap_or_default(), inode.size)
}

/// What a kernel records of a session, or of a file in one.
fn handed(store: &Store, found: &Luo, inode: &Inode, table: &mut Table) {
    if let Some(session) = found.session(inode.ino).filter(|_| inode.kind == Kind::Directory) {
        table.row(["Found by", session.origin.name()]);
        table.row(["Files", &session.count.to_string()]);
        for fault in &session.faults {
            table.styled([("Problem", Role::Bad), (&fault.to_string(), Role::Bad)]);
        }
    }
    let Some(file) = found.file(inode.ino) else { return };
    table.row(["Handler", &paths::shown(&file.handler)]);
    table.row([if file.memfd.is_some() { "Record" } else { "Data" }, &size::hex(file.data)]);
    match &file.memfd {
        None => {}
        Some(Err(fault)) => table.styled([("Problem", Role::Bad), (&fault.to_string(), Role::Bad)]),
        Some(Ok(memfd)) => {
            table.row(["Position", &memfd.position.to_string()]);
            let seals = match memfd.seals.map(luo::seals) {
                None => "not recorded".to_owned(),
                Some(seals) if seals.is_empty() => "none".to_owned(),
                Some(seals) => seals.join(", "),
            };
            table.row(["Seals", &seals]);
            table.row(["Folios", &folios(found, inode.ino, memfd.folios)]);
            if let Some((held, all)) = luo::held(store, inode.ino) {
                table.row(["Held", &held_text(held, all)]);
            }
        }
    }
}

/// `6: 2 of order 0, 4 of order 9`
fn folios(found: &Luo, ino: InodeNo, count: u64) -> String {
    let orders = found.folio_orders(ino);
    let rest = count.saturating_sub(orders.values().sum());
    let mut texts: Vec<String> = orders.iter().map(|(order, count)| format!("{count} of order {order}")).collect();
    if rest > 0 {
        texts.push(format!("{rest} of an order that is not recorded"));
    }
    if texts.is_empty() { count.to_string() } else { format!("{count}: {}", texts.join(", ")) }
}

fn show(
    store: &Store,
    path: &[u8],
    inode: &Inode,
    (extents, lost): (&[Run], &[Span]),
    users: Option<&ByFile>,
    ctx: &mut Ctx,
) -> Result<()> {
    let mut table = Table::bare(&[]);
    table.row(["Path", &paths::shown(path)]);
    table.row(["Inode", &inode.ino.to_string()]);
    table.row(["Kind", inode.kind.name()]);
    if let Some(name) = store.known_as(inode.ino) {
        table.row(["Known as", &paths::shown(name.as_bytes())]);
    }
    if let Some(found) = store.luo() {
        handed(store, found, inode, &mut table);
    }
    if inode.kind == Kind::File && store.known_size(inode).is_none() {
        table.styled([("Size", Role::Bad), ("unknown", Role::Bad)]);
    } else if inode.kind == Kind::File {
        let recorded =
            if inode.size_recorded { "" } else { ", as far as its blocks reach; the layout records no size" };
        table.row(["Size", &format!("{}{recorded}", size::both(inode.size))]);
        let mapped = extents.iter().map(|run| run.len).sum::<u64>().div_ceil(store.block_bytes());
        let extents = size::count(extents.len() as u64, "extent");
        table.row(["Blocks", &format!("{} in {extents}", inode.blocks)]);
        if mapped != inode.blocks && lost.is_empty() {
            table.styled([("Found", Role::Bad), (&format!("only {mapped} blocks name this file"), Role::Bad)]);
        }
    }
    if !lost.is_empty() {
        let bytes = size::both(lost.iter().map(|gap| gap.len).sum());
        let why = store.content_fault(inode.ino).map(|why| format!(": {why}")).unwrap_or_default();
        table.styled([("Lost", Role::Bad), (&format!("{bytes}{why}"), Role::Bad)]);
    }
    if let Some(users) = users {
        let users = in_use::shown(users, inode.ino);
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

/// Whether the folios of a file are held, in words.
fn held_text(held: u64, all: u64) -> String {
    match held {
        0 => "no: the file was claimed, or its memory was given back".to_owned(),
        held if held == all => "yes: nobody has claimed the file".to_owned(),
        held => format!("in part: {held} of {all} folios"),
    }
}
