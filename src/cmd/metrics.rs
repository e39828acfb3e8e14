//! `gmfs metrics`: what monitoring wants to know of regions.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::metrics::{Facts, Metrics};

use crate::cmd::dump::out;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::open::{self, ReadArgs};
use crate::output::{self, NewFile};
use crate::render::json::{self, space};
use crate::render::{VERSION, size};
use crate::{clock, repairing};

/// Others read the file: node_exporter runs as a user of its own.
const READABLE: u32 = 0o644;

/// Print metrics of regions for Prometheus
///
/// The text can be read as Prometheus' text format and as OpenMetrics, and is for node_exporter's textfile collector. It has
/// usage, free runs, and what a check of the metadata comes to (as of `gmfs fsck -n`; no content is read). An image that
/// cannot be read has gmfs_region_up 0, and the exit status is 2. With -o the file is there when it is whole, replaces
/// the one before it, and can be read by all users.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs metrics region.img
  gmfs metrics /dev/mem --region 64G:0x1000000000 -o /var/lib/prometheus/node-exporter/gmfs.prom")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// Further images, with the same options
    #[arg(value_name = "IMAGE", conflicts_with_all = ["parts", "over"])]
    images: Vec<PathBuf>,
    /// The file to make or replace, - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what would be made, and make nothing
    #[arg(short = 'n', long, requires = "output")]
    dry_run: bool,
    /// Print JSON: the metrics, or with -o what was made
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    clock::check()?;
    let images: Vec<&Path> =
        std::iter::once(args.image.image.as_path()).chain(args.images.iter().map(PathBuf::as_path)).collect();
    let file = args.output.as_deref().filter(|path| !out::is_standard(path));
    let cannot = |path: &Path| format!("cannot write metrics into {}", path.display());
    let inputs = || args.image.files().chain(args.images.iter().map(PathBuf::as_path));
    if let Some(path) = file {
        output::check(path, true, inputs()).with_context(|| cannot(path))?;
    }
    let mut metrics = Metrics::new(VERSION);
    let (mut tried, mut seen) = (super::Tried::default(), BTreeSet::new());
    for image in &images {
        let name = gmfs_format::name::escape(image.as_os_str().as_encoded_bytes());
        if !seen.insert(name.clone()) {
            let failure = Failure::new("usage", format!("{} is named twice", image.display()));
            return Err(failure.hint("metrics tell images apart by their paths: name each once").into());
        }
        match tried.add(facts_of(args, image, ctx)) {
            Some(facts) => metrics.add(&name, &facts),
            None => metrics.failed(&name),
        }
    }
    let text = metrics.to_string();
    let made = file.filter(|_| !args.dry_run);
    if let Some(path) = made {
        write(path, inputs(), &text).with_context(|| cannot(path))?;
    } else if file.is_none() && !args.json {
        ctx.bytes(text.as_bytes())?;
    }
    // That it cannot be read is in the metrics too, which are whole.
    tried.succeeded();
    let failed = tried.end()?;
    if args.json {
        let output = file.map(|path| path.display().to_string());
        json::print(ctx, "metrics", &space::Metrics::new(&metrics, args.dry_run, output))?;
    } else if let Some(path) = file {
        let path = printable(&path.display().to_string());
        let of = size::count(images.len() as u64, "image");
        let text = if args.dry_run { "would be written; nothing was written" } else { "written" };
        let line = format!("{path}: metrics of {of} {text}");
        if args.dry_run { ctx.line(&line)? } else { ctx.success(&line)? }
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

fn facts_of(args: &Args, image: &Path, ctx: &Ctx) -> Result<Facts> {
    let mut of = args.image.clone();
    image.clone_into(&mut of.of.image);
    let store = open::store(&of, ctx)?;
    let facts = Facts::of(&store, clock::now(), repairing::threads());
    facts.with_context(|| format!("cannot check {}", image.display()))
}

/// Writes the file beside its name, and gives it its name when it is whole: no scraper sees a half of it.
fn write<'p>(path: &Path, inputs: impl Iterator<Item = &'p Path>, text: &str) -> Result<()> {
    let new = NewFile::begin(path, true, inputs)?;
    new.file().write_all(text.as_bytes())?;
    new.file().sync_all()?;
    new.keep_with(READABLE)
}
