//! `gmfs inject`: makes problems on purpose, in a region file.

use anyhow::{Context as _, Result, bail};
use clap::Args as Arguments;
use gmfs_check::Code;
use gmfs_check::inject::{Damage, Injected, Target, damage_page, inject};
use gmfs_image::Kind;
use gmfs_io::{ReadAt as _, WriteAt};
use gmfs_volume::Superblocks;

use crate::cmd::explain;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, TargetArgs};
use crate::render::json::{self, actions, region};

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
    image: TargetArgs,
    /// Code or name of a problem, and where: page:N, copy:A, inode:N, block:N
    #[arg(value_name = "CODE[@WHERE]", required_unless_present = "page")]
    problems: Vec<String>,
    /// Damage this metadata page (0 is the superblock)
    #[arg(long, value_name = "N", requires = "how", conflicts_with = "problems")]
    page: Option<u32>,
    /// In this copy [default: A]
    #[arg(long, value_name = "COPY", requires = "page", value_parser = ["A", "B"])]
    copy: Option<String>,
    /// How: zero, overwrite, flip, tear, swap, stale, foreign, version
    #[arg(long, value_name = "HOW", requires = "page")]
    how: Option<Damage>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let problems = args.problems.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let mut opening = open::whole(&args.image, None, ctx)?;
    let place = opening.place(&args.image);
    if place.kind != Kind::File {
        bail!(Failure::new("not-a-file", "problems are made in region files only").hint("work on a copy: `gmfs save`"));
    }
    let found = Superblocks::load(&opening.target).ok();
    let (undo, dry_run) = (args.image.undo.as_deref(), args.image.dry_run);
    let made = open::recorded(&mut opening.target, undo, ctx, |mut target, _| {
        let mut made = Vec::new();
        if let Some((page, how)) = args.page.zip(args.how) {
            let in_copy_b = args.copy.as_deref() == Some("B");
            damage_page(&mut target, page, in_copy_b, how).context("cannot damage the page")?;
            made.push(actions::Made { code: None, name: "damaged-page".into(), cut_to: None });
        }
        for (code, place) in problems {
            let cut_to = match inject(&mut target, code, place).with_context(|| format!("cannot make {code}"))? {
                Injected::Done => None,
                Injected::CutTo(size) => {
                    if undo.is_some() {
                        clear(target, size)?;
                    }
                    Some(size)
                }
            };
            made.push(actions::Made { code: Some(code.text().into()), name: code.name().into(), cut_to });
        }
        Ok(made)
    })?;
    for size in made.iter().filter_map(|problem| problem.cut_to).filter(|_| !dry_run) {
        cut(args, size)?;
    }
    if ctx.json {
        let store = region::Store::if_known(place.base, found.as_ref());
        let answer = actions::Inject { image: (&place).into(), store, dry_run, problems: made };
        json::print(ctx, "inject", &answer)?;
        return Ok(Exit::Done);
    }
    let done = if dry_run { "would be made; nothing was written" } else { "made" };
    for problem in &made {
        match (&problem.code, args.page) {
            (Some(code), _) => ctx.line(&format!("{code} {}: {done}", problem.name))?,
            (None, Some(page)) if dry_run => ctx.line(&format!("page {page} would be damaged; nothing was written"))?,
            _ => {}
        }
    }
    Ok(Exit::Done)
}

/// Zeros what is about to be cut off, so that the undo file has all of it.
fn clear(target: &mut dyn WriteAt, from: u64) -> Result<()> {
    static PIECE: [u8; 1 << 16] = [0; 1 << 16];
    let end = target.end().unwrap_or(from);
    let mut at = from;
    while at < end {
        let piece = usize::try_from(end - at).unwrap_or(PIECE.len()).min(PIECE.len());
        target.write_at(at, &PIECE[..piece])?;
        at += piece as u64;
    }
    Ok(target.barrier()?)
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
