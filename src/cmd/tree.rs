//! `gmfs tree`: all directories and files as a tree.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs_format::model::Kind;

use crate::cmd::ls::role;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, ReadArgs};
use crate::paths::{self, Go, Step};
use crate::render::json::{self, files};
use crate::render::size;
use crate::render::style::{Role, paint};

/// Show directories and files as a tree
#[derive(Arguments, Debug)]
#[command(after_long_help = "Example:
  gmfs tree vmcore")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Where in the region to start
    #[arg(default_value = "/")]
    path: OsString,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::store(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&store, ctx);
    store.unlock();
    let tree = &inodes.tree;
    let top = super::find(tree, &args.path, &mut exit, ctx)?;
    let path = tree.path(top.ino).unwrap_or_else(|| paths::bytes(&args.path).to_vec());
    let mut doubtful = Vec::new();
    let mut note = |step: &Step<'_>| {
        if step.inode.is_doubtful() {
            doubtful.push(step.inode.ino);
        }
    };
    let hidden = if args.json {
        let mut entries = vec![files::Entry::of(&store, &path, top)];
        let walked = paths::walk(tree, (top, &path), |step| {
            note(step);
            entries.push(files::Entry::of(&store, &step.path, step.inode));
            Ok::<_, anyhow::Error>(Go::In)
        })?;
        let hidden = paths::hidden(tree, top, &walked);
        json::print(ctx, "tree", &files::Listing::new(&store, entries, inodes.lost_pages, &hidden))?;
        hidden
    } else {
        let first = paint(ctx.colour, role(top), &paths::shown(&path));
        ctx.line(&first)?;
        let (mut directories, mut files) = (0, 0);
        let walked = paths::walk(tree, (top, &path), |step| {
            note(step);
            let file = step.inode.kind == Kind::File;
            *(if file { &mut files } else { &mut directories }) += 1;
            let name = paint(ctx.colour, role(step.inode), &paths::shown(&step.inode.name));
            let known = || store.known_size(step.inode).map_or_else(|| super::ls::UNKNOWN.to_owned(), size::human);
            let size = if file { format!("  {}", known()) } else { String::new() };
            let size = paint(ctx.colour, Role::Dim, &size);
            let known = super::ls::known(&store, step.inode.ino);
            ctx.line(&format!("{}{name}{known}{size}", branch(&step.last))).map(|()| Go::In)
        })?;
        let directories =
            if directories == 1 { "1 directory".to_owned() } else { format!("{directories} directories") };
        ctx.line(&format!("{directories}, {}", size::count(files, "file")))?;
        paths::hidden(tree, top, &walked)
    };
    super::tell_hidden(&hidden, "shown", &mut exit, ctx);
    let shown = |ino| Some((tree.get(ino)?, paths::shown(&tree.path(ino).unwrap_or_default())));
    super::tell_doubtful(doubtful.into_iter().filter_map(shown), &mut exit, ctx);
    Ok(exit)
}

/// The lines that lead to an entry.
fn branch(last: &[bool]) -> String {
    let Some((own, above)) = last.split_last() else { return String::new() };
    let mut text: String = above.iter().map(|last| if *last { "    " } else { "│   " }).collect();
    text.push_str(if *own { "└── " } else { "├── " });
    text
}
