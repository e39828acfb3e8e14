//! `gmfs inject`: makes problems on purpose, in a region file.

use anyhow::{Context as _, Result, bail};
use clap::Args as Arguments;
use gmfs_check::Code;
use gmfs_check::inject::{Damage, Injected, Target, damage_page, inject};
use gmfs_format::native::units::{CopyId, PageNo};
use gmfs_image::Kind;

use crate::cmd::explain;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, ImageArgs};

/// Make problems on purpose, in a region file
///
/// For tests, packagers and documentation: each CODE of `gmfs explain` is made in a region that is in order, at a place
/// that is chosen or said. With --page, one copy of a metadata page is damaged instead.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs inject test.img GM0402
  gmfs inject test.img page-flipped@page:2,copy:B
  gmfs inject test.img --page 0 --copy A --how zero")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ImageArgs,
    /// Code or name of a problem, and where: page:N, copy:A, inode:N, block:N
    #[arg(value_name = "CODE[@WHERE]", required_unless_present = "page")]
    problems: Vec<String>,
    /// Damage this metadata page (0 is the superblock)
    #[arg(long, value_name = "N", requires = "how", conflicts_with = "problems")]
    page: Option<u32>,
    /// In this copy
    #[arg(long, value_name = "COPY", default_value = "A", value_parser = ["A", "B"])]
    copy: String,
    /// How: zero, overwrite, flip, tear, swap, stale, foreign, version
    #[arg(long, value_name = "HOW", requires = "page")]
    how: Option<Damage>,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let problems = args.problems.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let (kind, mut target) = open::for_writing(&args.image, ctx)?;
    if kind != Kind::File {
        bail!(Failure::new("not-a-file", "problems are made in region files only").hint("work on a copy: `gmfs save`"));
    }
    if let Some((page, how)) = args.page.zip(args.how) {
        let copy = if args.copy == "B" { CopyId::B } else { CopyId::A };
        damage_page(&mut target, PageNo(page), copy, how).context("cannot damage the page")?;
    }
    for (code, place) in problems {
        match inject(&mut target, code, place).with_context(|| format!("cannot make {code}"))? {
            Injected::Done => {}
            Injected::CutTo(size) => cut(args, size)?,
        }
        ctx.success(&format!("{code} {}: made", code.name()))?;
    }
    Ok(Exit::Done)
}

/// A code with its place.
fn parse(text: &str) -> Result<(Code, Target)> {
    let (code, place) = text.split_once('@').map_or((text, None), |(code, place)| (code, Some(place)));
    let place = place.map(str::parse).transpose()?.unwrap_or_default();
    Ok((explain::parse(code)?, place))
}

/// Makes the region's file shorter.
fn cut(args: &Args, size: u64) -> Result<()> {
    let base = args.image.region.and_then(|spec| spec.base).unwrap_or(0);
    let file = std::fs::OpenOptions::new().write(true).open(&args.image.image);
    file.and_then(|file| file.set_len(base + size))
        .with_context(|| format!("cannot cut {}", args.image.image.display()))
}
