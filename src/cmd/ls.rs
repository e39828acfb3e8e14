//! `gmfs ls`: what is in a directory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::Range;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::in_use::ByFile;
use gmfs_format::model::{Inode, InodeNo, Kind, Tree};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::in_use;
use crate::open::{self, ReadArgs};
use crate::paths::{self, Go, Why};
use crate::render::json::{self, files};
use crate::render::style::{Role, paint};
use crate::render::table::Table;
use crate::render::{size, time, words};

/// List files and directories
///
/// Of several paths files come first, and each directory's list has the directory's path above it. A path that is not
/// there is an error, and the rest is listed; if it has *, ? or [...] in it, it stands for all that it matches. Names are
/// escaped: a control character or a byte that is no UTF-8 is shown as \n, \x1b, \xff.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs ls region.img
  gmfs ls -l region.img '/vms/*.mem'
  gmfs ls -lR /dev/mem /vms --region 64G:0x1000000000")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Their paths in the region [default: /]
    #[arg(value_name = "PATH", value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Show mode, owner, group, size, blocks and time of change
    #[arg(short, long)]
    long: bool,
    /// Show which processes have files mapped (with -l, or --json)
    #[arg(long)]
    in_use: bool,
    /// List directories below too, by their paths
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A line of the listing: what is shown for a name, the path, and the inode.
struct Line<'t> {
    name: String,
    path: Vec<u8>,
    inode: &'t Inode,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::store(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&store, ctx);
    let root = [OsString::from("/")];
    let mut tried = super::Tried::default();
    let wanted = if args.paths.is_empty() { &root[..] } else { &args.paths };
    let wanted = super::expand(&inodes.tree, wanted, &mut tried);
    let mut found = Vec::new();
    for path in &wanted {
        if let Some(inode) = tried.add(super::find(&inodes.tree, path, &mut exit, ctx)) {
            found.push((inode, inodes.tree.path(inode.ino).unwrap_or_else(|| paths::bytes(path).to_vec())));
        }
    }
    let failed = tried.end()?;
    // Files first, then each directory below its path.
    found.sort_by_key(|(inode, _)| inode.kind == Kind::Directory);
    let mut lines = Vec::new();
    let mut hidden = Vec::new();
    let mut groups: Vec<(Option<String>, Range<usize>)> = Vec::new();
    for (inode, path) in found {
        let (from, head) = (lines.len(), (inode.kind == Kind::Directory).then(|| paths::shown(&path)));
        hidden.extend(collect(args, &inodes.tree, (inode, path), &mut lines));
        match groups.last_mut() {
            Some((None, files)) if head.is_none() => files.end = lines.len(),
            _ => groups.push((head, from..lines.len())),
        }
    }
    for line in &mut lines {
        line.name.push_str(&known(&store, line.inode.ino));
    }
    let users = args.in_use.then(|| {
        let listed: BTreeSet<InodeNo> = lines.iter().map(|line| line.inode.ino).collect();
        ByFile::find(&store, &store.runs(|ino| listed.contains(&ino)), in_use::tell)
    });
    store.unlock();
    if args.json {
        let entry = |line: &Line<'_>| {
            let entry = files::Entry::of(&store, &line.path, line.inode);
            entry.used(users.as_ref(), line.inode)
        };
        let entries = lines.iter().map(entry).collect();
        json::print(ctx, "ls", &files::Listing::new(&store, entries, inodes.lost_pages, &hidden))?;
    } else {
        for (n, (head, range)) in groups.iter().enumerate() {
            if n > 0 {
                ctx.line("")?;
            }
            if let Some(head) = head.as_ref().filter(|_| wanted.len() > 1) {
                ctx.line(&format!("{head}:"))?;
            }
            show(args, &store, lines.get(range.clone()).unwrap_or_default(), users.as_ref(), ctx)?;
        }
    }
    super::tell_hidden(&hidden, "shown", &mut exit, ctx);
    super::tell_doubtful(lines.iter().map(|line| (line.inode, paths::shown(&line.path))), &mut exit, ctx);
    Ok(if failed { Exit::Failed } else { exit })
}

fn show(args: &Args, store: &Store, lines: &[Line<'_>], users: Option<&ByFile>, ctx: &mut Ctx) -> Result<()> {
    if args.long || args.in_use {
        return long(store, lines, users, ctx);
    }
    for line in lines {
        let text = paint(ctx.colour, role(line.inode), &line.name);
        ctx.line(&text)?;
    }
    Ok(())
}

/// Adds the lines for one path of the command line. Returns what they leave out.
fn collect<'t>(
    args: &Args,
    tree: &'t Tree,
    top: (&'t Inode, Vec<u8>),
    lines: &mut Vec<Line<'t>>,
) -> Vec<(&'t Inode, Why)> {
    let (inode, path) = top;
    if inode.kind != Kind::Directory {
        lines.push(Line { name: paths::shown(&path), path, inode });
        return Vec::new();
    }
    if args.recursive {
        let Ok(walked) = paths::walk(tree, (inode, &path), |step| {
            lines.push(Line { name: paths::shown(&step.path), path: step.path.clone(), inode: step.inode });
            Ok::<_, std::convert::Infallible>(Go::In)
        });
        return paths::hidden(tree, inode, &walked);
    }
    for child in tree.children(inode.ino) {
        let path = paths::join(&path, &child.name);
        lines.push(Line { name: paths::shown(&child.name), path, inode: child });
    }
    paths::hidden_in(tree, inode)
}

fn long(store: &Store, lines: &[Line<'_>], users: Option<&ByFile>, ctx: &mut Ctx) -> Result<()> {
    let mut heads = vec!["Mode", "UID", "GID", "Size", "Bytes", "Blocks", "Changed (UTC)", "Name"];
    if users.is_some() {
        heads.insert(7, "Mapped by");
    }
    let mut table = Table::new(&heads).right(&[1, 2, 3, 4, 5]).dispensable(&["Blocks", "Bytes", "GID", "UID", "Mode"]);
    for line in lines {
        let inode = line.inode;
        let attributes = inode.attributes;
        let mode = attributes.map_or_else(String::new, |a| words::mode(inode.kind, a.mode));
        let number = |of: Option<u32>| of.map_or_else(String::new, |n| n.to_string());
        let only = |number: Option<u64>, text: fn(u64) -> String| match number {
            _ if inode.kind != Kind::File => String::new(),
            Some(number) => text(number),
            None => UNKNOWN.to_owned(),
        };
        let (bytes, blocks) = (store.known_size(inode), store.known_blocks(inode));
        let changed = attributes.map_or_else(String::new, |a| time::short(a.modified));
        let mapped = users.map(|users| in_use::shown(users, inode.ino));
        let cells = [
            (mode, Role::Plain),
            (number(attributes.map(|a| a.uid)), Role::Plain),
            (number(attributes.map(|a| a.gid)), Role::Plain),
            (only(bytes, size::human), Role::Plain),
            (only(bytes, |bytes| bytes.to_string()), Role::Dim),
            (only(blocks, |blocks| blocks.to_string()), Role::Plain),
            (changed, Role::Plain),
        ];
        let cells = cells.iter().map(|(text, role)| (text.as_str(), *role));
        let mapped = mapped.as_deref().map(|users| (users, Role::Warn));
        table.cells(cells.chain(mapped).chain([(line.name.as_str(), role(inode))]));
    }
    if table.is_empty() {
        return Ok(());
    }
    Ok(table.print(ctx)?)
}

/// Stands for a size that nothing tells any more.
pub(crate) const UNKNOWN: &str = "?";

/// What follows a name that somebody calls otherwise: two spaces and that.
pub(crate) fn known(store: &Store, ino: InodeNo) -> String {
    store.known_as(ino).map(|name| format!("  {}", paths::shown(name.as_bytes()))).unwrap_or_default()
}

/// The style in which a name is shown.
pub(crate) fn role(inode: &Inode) -> Role {
    if inode.kind == Kind::Directory { Role::Directory } else { Role::Plain }
}
