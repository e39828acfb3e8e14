//! `gmfs report`: a page that shows what there is to know of a region.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::report::{Options, Report};

use crate::cmd::dump::out::{self, Output};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::open::{self, ReadArgs};
use crate::output::MakeArgs;
use crate::render::json::{self, space};
use crate::render::{WRITER, size, time};
use crate::{clock, repairing};

/// Make a page that shows a region: memory, files, findings, seals, history of writes
///
/// The page is one HTML file that loads nothing. It can be searched, printed, and read on a phone. It has a picture of the
/// memory that names the files in it, the files, how fragmented they and the free memory are, what a check of the metadata
/// finds (as `gmfs fsck -n`), which content is sealed, and when what was written. No content is read. Of very many files the
/// 2000 largest are listed, of findings the worst 500.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs report region.img -o region.html
  gmfs report vmcore -o - | ssh host 'cat >region.html'")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    #[command(flatten)]
    make: MakeArgs,
    /// Print JSON: the numbers that the page has
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    clock::check()?;
    let standard = out::is_standard(&args.make.output);
    let shown = printable(&args.make.output.display().to_string());
    let cannot = || format!("cannot write a report into {shown}");
    if standard && args.json && !args.make.dry_run {
        let failure = Failure::new("usage", "the page and the JSON cannot both go to standard output");
        return Err(failure.hint("name a file with -o")).with_context(cannot);
    }
    if !standard {
        out::check(&args.make.output, args.make.force, &args.image).with_context(cannot)?;
    }
    let store = open::store(&args.image, ctx)?;
    let threads = repairing::threads();
    let options = Options { now: clock::now(), threads, program: WRITER, size: size::human, time: time::human };
    let report =
        Report::of(&store, &options).with_context(|| format!("cannot check {}", store.place.path.display()))?;
    store.unlock();
    let exit = super::tell_lost(report.lost_pages, "inode table", "list of files", ctx);
    let page = report.to_html(&options);
    if !args.make.dry_run {
        write(args, &page, ctx).with_context(cannot)?;
    }
    let length = page.len() as u64;
    if args.json {
        let output = args.make.output.display().to_string();
        json::print(ctx, "report", &space::Reported::new(&store, &report, args.make.dry_run, output, length))?;
    } else if args.make.dry_run {
        ctx.line(&format!("{shown}: a page of {} would be made; nothing was written", size::human(length)))?;
    } else if !standard {
        ctx.success(&format!("{shown}: a page of {}", size::human(length)))?;
    }
    Ok(exit)
}

fn write(args: &Args, page: &str, ctx: &mut Ctx) -> Result<()> {
    let mut output = Output::open(Some(&args.make.output), args.make.force, &args.image, ctx)?;
    let written: io::Result<()> = output.write_all(page.as_bytes());
    if let Err(error) = written {
        return Err(output.explain(error));
    }
    output.finish()
}
