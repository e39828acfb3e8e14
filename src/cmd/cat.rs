//! `gmfs cat`: a file's content on standard output.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::io::Span;
use gmfs_format::tables::InodeKind;
use gmfs_volume::content::clip;

use crate::content::{Gaps, Sink, Why, carry_pieces, known_gaps};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, ImageArgs, Opened};
use crate::paths;

/// Write the content of files to standard output
///
/// Holes are zeros. A range that the image does not hold, or that cannot be read, is an error that names it, never
/// zeros.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs cat region.img /vms/a.mem > a.mem
  gmfs cat vmcore /vms/a.mem --offset 1M --length 4K | xxd")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ImageArgs,
    /// Their paths in the region
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    /// Where to start in each file, in bytes, K, M, G, T
    #[arg(long, value_name = "BYTES", value_parser = super::parse_size, default_value = "0", hide_default_value = true)]
    offset: u64,
    /// How much of each file, in bytes, K, M, G, T [default: all]
    #[arg(long, value_name = "BYTES", value_parser = super::parse_size)]
    length: Option<u64>,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let opened = open::region(&args.image, ctx)?;
    let (inodes, _) = super::inodes(&opened.region, ctx);
    for path in &args.paths {
        let cannot = || format!("cannot read '{}'", paths::shown(paths::bytes(path)));
        let inode = super::at(&inodes.tree, path).with_context(cannot)?;
        if inode.kind != InodeKind::File {
            return Err(Failure::new("is-directory", "it is a directory")).with_context(cannot);
        }
        write(args, &opened, inode, ctx).with_context(cannot)?;
    }
    Ok(Exit::Done)
}

fn write(args: &Args, opened: &Opened, inode: &gmfs_format::model::Inode, ctx: &mut Ctx) -> Result<()> {
    let range = args.offset..args.length.map_or(u64::MAX, |length| args.offset.saturating_add(length));
    let pieces = opened.region.content(inode)?;
    let pieces: Vec<_> = pieces.into_iter().filter_map(|piece| clip(piece, &range)).collect();
    // Before the first byte goes out.
    let gaps = known_gaps(opened.region.source(), &pieces);
    if !gaps.is_empty() {
        return Err(gaps.refuse().into());
    }
    carry_pieces(opened.region.source(), &pieces, &mut Stdout(ctx))
}

struct Stdout<'c>(&'c mut Ctx);

impl Sink for Stdout<'_> {
    fn data(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.0.bytes(bytes)?)
    }

    fn zeros(&mut self, span: Span) -> Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut left = span.len;
        while left > 0 {
            let now = left.min(ZEROS.len() as u64);
            self.0.bytes(&ZEROS[..usize::try_from(now).unwrap_or(ZEROS.len())])?;
            left -= now;
        }
        Ok(())
    }

    fn gap(&mut self, span: Span, why: Why) -> Result<()> {
        let mut gaps = Gaps::default();
        gaps.add(span, why);
        Err(gaps.refuse().into())
    }
}
