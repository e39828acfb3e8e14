//! `gmfs cat`: a file's content on standard output.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::content::Gaps;
use gmfs::gap_list::GapList;
use gmfs_format::model::Kind;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::missing;
use crate::open::{self, ReadArgs};
use crate::{paths, stdout};

/// Write the content of files to standard output
///
/// Holes are written as zeros; if standard output is a file that ends there, they stay holes. If the image does not
/// hold a range, or if the range cannot be read, the command fails and names the range; it never writes zeros instead.
/// With --sparse-absent, such a range becomes a hole in standard output, which must be a file. The exit status is
/// then 1.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs cat region.img /vms/a.mem > a.mem
  gmfs cat vmcore /vms/a.mem --offset 1M --length 4K | xxd")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Their paths in the region
    #[arg(value_name = "PATH", required = true, value_parser = super::region_path())]
    paths: Vec<OsString>,
    /// Where to start in each file, in bytes, K, M, G, T
    #[arg(long, value_name = "BYTES", value_parser = super::parse_size, default_value = "0", hide_default_value = true)]
    offset: u64,
    /// How much of each file, in bytes, K, M, G, T [default: all]
    #[arg(long, value_name = "BYTES", value_parser = super::parse_size)]
    length: Option<u64>,
    /// Leave holes in standard output, which must be a file, where the image does not hold the content, and list them
    ///
    /// The list goes to standard error, or into LIST: a line for each range, with its offset and length in the file in
    /// the region in bytes, the reason, and the physical address, or - where that is not known.
    #[arg(long)]
    sparse_absent: bool,
    /// With --sparse-absent: where the list goes
    #[arg(long, value_name = "LIST", value_parser = super::new_file(), requires = "sparse_absent")]
    missing: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::store(&args.image, ctx)?;
    let (inodes, _) = super::inodes(&store, ctx);
    let mut list = GapList::default();
    let (mut exit, mut incomplete) = (Exit::Done, false);
    for path in &args.paths {
        let name = paths::shown(paths::bytes(path));
        let cannot = || format!("cannot read '{name}'");
        let inode = super::find(&inodes.tree, path, &mut exit, ctx).with_context(cannot)?;
        if inode.kind != Kind::File {
            return Err(Failure::new("is-directory", "it is a directory")).with_context(cannot);
        }
        let gaps = write(args, &store, inode, ctx).with_context(cannot)?;
        if !gaps.is_empty() {
            (exit, incomplete) = (Exit::No, true);
        }
        super::tell_doubtful(std::iter::once((inode, name.clone())), &mut exit, ctx);
        list.add(&name, gaps);
    }
    let base = store.physical_base();
    match &args.missing {
        Some(to) => missing::save(&list, base, to, false, args.image.files())?,
        None if incomplete => list.write(base, &mut std::io::stderr())?,
        None => {}
    }
    Ok(exit)
}

fn write(args: &Args, store: &Store, inode: &gmfs_format::model::Inode, ctx: &mut Ctx) -> Result<Gaps> {
    let range = args.offset..args.length.map_or(u64::MAX, |length| args.offset.saturating_add(length));
    let pieces = store.content(inode).map_err(open::told)?;
    let pieces: Vec<_> = pieces.into_iter().filter_map(|piece| piece.clip(&range)).collect();
    let base = store.physical_base();
    let allow = |gaps: &Gaps, ctx: &mut Ctx| {
        if !args.sparse_absent {
            let hint = "--sparse-absent leaves holes there, and lists them";
            return Err(missing::refuse(gaps, base).hint(hint).into());
        }
        stdout::require_holes(gaps, base, "`gmfs extract --sparse-absent` makes such a file", ctx)
    };
    stdout::write(store.source(), &pieces, allow, ctx)
}
