//! `gmfs put`: a file from outside into the region.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::model::Kind;
use gmfs_io::Span;
use gmfs_volume::{CreateOptions, PutOptions};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, WriteArgs};
use crate::paths;
use crate::render::progress::{Counted, Progress};
use crate::standard;

/// Copy a file into the region
///
/// The new content lies in fresh blocks and becomes the file's in one commit: a crash leaves the old content or the new.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs put region.img guest.mem /vms/guest.mem
  zstdcat guest.mem.zst | gmfs put region.img - /vms/guest.mem --sparse")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// The file to copy; - is standard input
    #[arg(value_name = "SRC", value_parser = super::region_path(), value_hint = clap::ValueHint::FilePath)]
    source: OsString,
    /// Its path in the region, or a directory there
    #[arg(value_name = "DEST", value_parser = super::region_path())]
    destination: OsString,
    /// Replace the content of a file that exists
    #[arg(short, long)]
    force: bool,
    /// Give no blocks to stretches of zeros
    #[arg(long)]
    sparse: bool,
    /// Lay each GiB of it at a multiple of 1 GiB of physical address, so that a VMM can map PUDs
    #[arg(long = "align-1g")]
    align_1g: bool,
    /// Permission bits in octal, for a new file [default: 600]
    #[arg(long, value_parser = super::parse_mode)]
    mode: Option<u16>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let shown = if args.source == "-" { "standard input".to_owned() } else { args.source.display().to_string() };
    let destination = paths::bytes(&args.destination);
    let cannot = || format!("cannot put {shown} as '{}'", paths::shown(destination));
    refuse_itself(args).map_err(anyhow::Error::new).with_context(cannot)?;
    let (content, size) = content(args).with_context(cannot)?;
    let progress = Progress::new(ctx, "copying", size);
    let mut content = Counted::new(content, &progress);
    let mode = args.mode.unwrap_or(NEW_MODE);
    let create = CreateOptions { size, sparse: args.sparse, align_1g: args.align_1g, mode, owner: super::owner() };
    let options = PutOptions { create, replace: args.force };
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        let into = writer.tree().resolve(destination).is_some_and(|inode| inode.kind == Kind::Directory);
        let name = Path::new(&args.source).file_name().filter(|_| into && args.source != "-");
        let path = name.map_or_else(|| destination.to_vec(), |name| paths::join(destination, paths::bytes(name)));
        if args.force && args.mode.is_some() && writer.tree().resolve(&path).is_some() {
            return Ok(Err(mode_of_existing(&path)));
        }
        writer.put(&path, &mut content, &options)?;
        Ok(Ok(super::entries(writer, &[&path])))
    })
    .and_then(|(done, changes)| Ok((done?, changes)))
    .with_context(cannot)?;
    progress.done();
    super::tell_change(ctx, "put", changed)
}

/// The mode of a new file, unless another one is named.
const NEW_MODE: u16 = 0o600;

/// A file that exists keeps its mode.
fn mode_of_existing(path: &[u8]) -> Failure {
    let message = format!("'{}' exists and keeps its mode: --mode is for a new file", paths::shown(path));
    Failure::new("usage", message).hint("leave --mode out")
}

/// Refuses the image as its own content: what is written would be read, until no room is left.
fn refuse_itself(args: &Args) -> Result<(), Failure> {
    let source = if args.source == "-" { Path::new("/proc/self/fd/0") } else { Path::new(&args.source) };
    let region = args.image.region.map_or(Span::new(0, u64::MAX), |spec| Span::new(spec.base.unwrap_or(0), spec.size));
    if gmfs_image::share_bytes((source, Span::new(0, u64::MAX)), (&args.image.image, region)) {
        let failure = Failure::new("same-file", "it is the image itself, or holds the same bytes");
        return Err(failure.hint("copy the region first: gmfs save IMAGE -o FILE"));
    }
    Ok(())
}

/// What is to be read, and how long it is expected to be.
fn content(args: &Args) -> Result<(Box<dyn Read>, u64)> {
    if args.source == "-" {
        if standard::was_stdin_closed() {
            return Err(Failure::new("input", "standard input is closed").into());
        }
        return Ok((Box::new(io::stdin()), 0));
    }
    let file = File::open(&args.source)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        let failure = Failure::new("is-directory", "it is a directory");
        return Err(failure.hint("make it with `gmfs mkdir`, and put its files one by one").into());
    }
    let size = if meta.is_file() { meta.len() } else { 0 };
    Ok((Box::new(file), size))
}
