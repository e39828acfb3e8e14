//! `gmfs tree`: all directories and files as a tree.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args as Arguments;
use gmfs_format::tables::InodeKind;

use crate::cmd::ls::{role, tell_depth};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::open::{self, ReadArgs};
use crate::paths;
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
    let opened = open::region(&args.image, ctx)?;
    let (inodes, exit) = super::inodes(&opened.region, ctx);
    opened.unlock();
    let tree = &inodes.tree;
    let top = super::at(tree, &args.path)?;
    let path = tree.path(top.ino).unwrap_or_else(|| paths::bytes(&args.path).to_vec());
    if args.json {
        let mut entries = vec![files::Entry::new(&path, top)];
        let too_deep = paths::walk(tree, (top, &path), |step| {
            entries.push(files::Entry::new(&step.path, step.inode));
            Ok::<(), anyhow::Error>(())
        })?;
        tell_depth(too_deep, ctx);
        json::print(ctx, "tree", &files::Listing { entries, lost_pages: inodes.lost_pages })?;
        return Ok(exit);
    }
    let first = paint(ctx.colour, role(top), &paths::shown(&path));
    ctx.line(&first)?;
    let (mut directories, mut files) = (0, 0);
    let too_deep = paths::walk(tree, (top, &path), |step| {
        let file = step.inode.kind == InodeKind::File;
        *(if file { &mut files } else { &mut directories }) += 1;
        let name = paint(ctx.colour, role(step.inode), &paths::shown(&step.inode.name));
        let size = if file { format!("  {}", size::human(step.inode.size)) } else { String::new() };
        ctx.line(&format!("{}{name}{}", branch(&step.last), paint(ctx.colour, Role::Dim, &size)))
    })?;
    tell_depth(too_deep, ctx);
    let directories = if directories == 1 { "1 directory".to_owned() } else { format!("{directories} directories") };
    ctx.line(&format!("{directories}, {}", size::count(files, "file")))?;
    Ok(exit)
}

/// The lines that lead to an entry.
fn branch(last: &[bool]) -> String {
    let Some((own, above)) = last.split_last() else { return String::new() };
    let mut text: String = above.iter().map(|last| if *last { "    " } else { "│   " }).collect();
    text.push_str(if *own { "└── " } else { "├── " });
    text
}
