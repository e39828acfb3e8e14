//! `gmfs diff`: what is not the same in two images.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::diff::{Compared, Content, Difference, Options, Range, Sameness, diff};
use gmfs_format::spec::RegionSpec;

use crate::cmd::sealing;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::locate;
use crate::open::{self, ImageArgs, ReadArgs};
use crate::paths;
use crate::render::json::{self, diff as answer};
use crate::render::progress::Progress;
use crate::render::size;
use crate::report;

/// Compare the files of two images: regions, dumps, copies, in any combination
///
/// Prints which files are in only one of the images, were moved, or have another size, other attributes or other
/// blocks; with --data also which bytes of their content differ. Blocks count from the start of each region, so that a
/// copy in another place has the same blocks. What one of the images does not hold cannot be compared, and is never
/// called the same. The exit status is 0 if everything that was compared is the same, 1 if something differs, and 2 if
/// nothing is known to differ, but not all could be compared.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs diff before.img /dev/mem --data
  gmfs diff region.img vmcore --seals --json")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// The image to compare it with
    #[arg(value_name = "OTHER")]
    other: PathBuf,
    /// Read the content of the files, and compare it page by page
    #[arg(long, conflicts_with = "seals")]
    data: bool,
    /// Compare what both held when they were sealed, without reading any content
    #[arg(long)]
    seals: bool,
    /// Where in OTHER the region is, as --region says it for IMAGE
    #[arg(long, value_name = "SIZE[:BASE]", value_parser = locate::parse_region)]
    other_region: Option<RegionSpec>,
    /// Another part of the split dump that OTHER is a part of; give all of them, in any order
    #[arg(long = "other-part", value_name = "FILE")]
    other_parts: Vec<PathBuf>,
    /// OTHER is raw memory whose first byte was at this physical address
    #[arg(long, value_name = "ADDRESS", value_parser = locate::parse_address, conflicts_with = "other_parts")]
    other_base: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let a = open::store(&args.image, ctx)?;
    let of = ImageArgs {
        region: args.other_region,
        parts: args.other_parts.clone(),
        base: args.other_base,
        wait: args.image.wait,
        ..ImageArgs::file(args.other.clone())
    };
    let b = open::store(&ReadArgs { of, no_lock: args.image.no_lock }, ctx)?;
    let progress = Progress::new(ctx, "comparing", 0);
    let content = match (args.data, args.seals) {
        (true, _) => Content::Read,
        (false, true) => Content::Seals,
        (false, false) => Content::Ignored,
    };
    let show = |done, total| progress.at_of(done, total);
    let options = Options { content, threads: sealing::threads(), progress: &show };
    let found = diff(&a, &b, &options).map_err(open::told).context("cannot compare them")?;
    a.unlock();
    b.unlock();
    progress.done();
    let exit = match found.sameness() {
        Sameness::Differs => Exit::No,
        Sameness::Unknown => Exit::Failed,
        Sameness::Same | Sameness::Ignored => Exit::Done,
    };
    if ctx.json {
        json::print(ctx, "diff", &answer::Diff::new(&a, &b, content, &found))?;
        return Ok(exit);
    }
    tell(&found, ctx.verbose, ctx)?;
    let names = [&a, &b].map(|store: &Store| printable(&store.place.path.display().to_string()));
    let [one, other] = names;
    for (side, name) in found.listed.iter().zip([&one, &other]) {
        if !side {
            ctx.warn(&format!("{name} does not list all of its files; what is only in the other one may be there too"));
        }
    }
    ctx.success(&format!("{one}, {other}: {}", summary(&found, content)))?;
    if exit == Exit::Failed {
        let failure =
            Failure::new("unknown", "cannot tell of everything whether it is the same: one of the images lacks it");
        ctx.finish()?;
        report::tell(&failure.hint("--json says for each file what is unknown").into());
    }
    Ok(exit)
}

/// A line for each fact and each file that is not the same.
fn tell(found: &Difference, verbose: bool, ctx: &mut Ctx) -> Result<()> {
    for (name, [a, b]) in &found.facts {
        let [a, b] = [a, b].map(|value| value.as_deref().unwrap_or("none"));
        ctx.line(&format!("{}: {a} and {b}", name.replace('_', " ")))?;
    }
    for file in &found.files {
        let said = said(file);
        if said.is_empty() {
            if verbose {
                ctx.line(&format!("{}: the same", shown(file)))?;
            }
            continue;
        }
        ctx.line(&format!("{}: {}", shown(file), said.join("; ")))?;
        for range in &file.ranges {
            ctx.line(&format!("  {}", range_of(range)))?;
        }
        if file.more_ranges > 0 {
            ctx.line(&format!("  {}, not listed", size::count(file.more_ranges, "more range")))?;
        }
    }
    Ok(())
}

/// The name of a file in messages: its path in the first image that has it.
fn shown(file: &Compared) -> String {
    let side = file.sides.iter().flatten().next();
    side.map_or_else(String::new, |side| match &side.path {
        Some(path) => paths::shown(path),
        None => format!("inode {}", side.ino),
    })
}

/// What is not the same of a file.
fn said(file: &Compared) -> Vec<String> {
    let [Some(a), Some(b)] = &file.sides else {
        let (which, other) = if file.sides[0].is_some() { ("first", "second") } else { ("second", "first") };
        let text = format!("only in the {which} image");
        return vec![if file.listed { text } else { format!("{text}, as far as the {other} lists its files") }];
    };
    let mut said = Vec::new();
    if a.path != b.path {
        let to = b.path.as_ref().map_or_else(|| "nowhere".to_owned(), |path| paths::shown(path));
        said.push(format!("moved to {to}"));
    }
    if file.other_kind {
        said.push("a file in one image and a directory in the other".to_owned());
    }
    if a.size != b.size {
        let [a, b] = [a, b].map(|side| side.size.map_or_else(|| "unknown".to_owned(), size::both));
        said.push(format!("{a} and {b}"));
    } else if a.size.is_none() {
        said.push("its size is known in neither image".to_owned());
    }
    let mut add = |sameness: Sameness, differs: &str, unknown: &str| match sameness {
        Sameness::Differs => said.push(differs.to_owned()),
        Sameness::Unknown => said.push(unknown.to_owned()),
        Sameness::Same | Sameness::Ignored => {}
    };
    add(file.attributes, "other attributes", "attributes cannot be compared");
    add(file.extents, "in other blocks", "where its blocks are is not known in both");
    add(file.content, "other content", "not all of its content can be compared");
    said
}

fn range_of(range: &Range) -> String {
    let what = match range.lacking {
        [false, false] => "differs",
        [true, false] => "cannot be compared: the first image lacks it",
        [false, true] => "cannot be compared: the second image lacks it",
        [true, true] => "cannot be compared: both images lack it",
    };
    format!("{}: {what}", size::range(range.offset, range.offset.saturating_add(range.length)))
}

fn summary(found: &Difference, content: Content) -> String {
    let count = |of: Sameness| found.files.iter().filter(|file| file.sameness() == of).count() as u64;
    let same = found.files.len() as u64 - count(Sameness::Differs) - count(Sameness::Unknown);
    let mut parts = vec![format!("{same} the same")];
    for (of, word) in [(Sameness::Differs, "differ"), (Sameness::Unknown, "cannot be compared")] {
        if count(of) > 0 {
            parts.push(format!("{} {word}", count(of)));
        }
    }
    let how = match content {
        Content::Read => "",
        Content::Seals => "; content was not read: what it was when it was sealed was compared",
        _ => "; content was not compared (--data reads it)",
    };
    format!("files and directories: {}{how}", parts.join(", "))
}
