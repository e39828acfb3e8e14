//! `gmfs put`: files and directories from outside into the region.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::put::{self, Copying, Counted, How, Keep, Plan};
use gmfs_volume::{CreateOptions, NewAttributes, PutOptions};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, Changing, WriteArgs};
use crate::paths;
use crate::render::progress::Progress;
use crate::standard;

/// Copy files and directories into the region
///
/// The new content lies in fresh blocks and becomes the file's in one commit: a crash leaves the old content or the new.
/// Several files are copied one after the other into a directory, each in a commit of its own; if one cannot be copied, the
/// others are. With -r, directories are copied with all that is in them, except symbolic links and other things that a
/// region cannot hold: these are named, and the exit status is 2. With -p, a directory that is in the region already keeps
/// its own attributes.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs put region.img guest.mem /vms/guest.mem
  gmfs put region.img a.mem b.mem /vms
  gmfs put -rp region.img saved /vms
  zstdcat guest.mem.zst | gmfs put region.img - /vms/guest.mem --sparse")]
pub(crate) struct Args {
    #[command(flatten)]
    image: WriteArgs,
    /// The files to copy, with -r directories too; - is standard input
    #[arg(value_name = "SRC", required = true, value_parser = super::region_path(), value_hint = clap::ValueHint::FilePath)]
    sources: Vec<OsString>,
    /// The file's path in the region, or a directory there; of several files, an existing directory
    #[arg(value_name = "DEST", value_parser = super::region_path())]
    destination: OsString,
    /// Copy directories with all that is in them; one that exists in the region takes what is in its namesake
    #[arg(short, long)]
    recursive: bool,
    /// Keep permission bits, owner, group, and the times of access and change
    #[arg(short, long, conflicts_with = "mode")]
    preserve: bool,
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
    if args.recursive {
        return recursive(args, ctx);
    }
    match args.sources.as_slice() {
        [source] => one(args, source, ctx),
        sources => several(args, sources, ctx),
    }
}

fn one(args: &Args, source: &OsStr, ctx: &mut Ctx) -> Result<Exit> {
    let destination = paths::bytes(&args.destination);
    let cannot = || super::cannot_put(source, destination);
    how(args).refuse_itself(outside(source)).map_err(anyhow::Error::new).with_context(cannot)?;
    let (content, size, attributes) = content(args, source).with_context(cannot)?;
    let progress = Progress::new(ctx, "copying", size);
    let mut content = Counted::new(content, &progress, 0);
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        let path = path_of(writer, source, destination);
        if let Some(failure) = mode_of_existing(args, writer, &path) {
            return Ok(Err(failure));
        }
        writer.put_with(&path, &mut content, &how(args).options(size), attributes)?;
        Ok(Ok(super::entries(writer, &[&path])))
    })
    .and_then(|(done, changes)| Ok((done?, changes)))
    .with_context(cannot)?;
    progress.done();
    super::tell_change(ctx, "put", changed)
}

/// Copies several files into one directory. All of them are tried.
fn several(args: &Args, sources: &[OsString], ctx: &mut Ctx) -> Result<Exit> {
    let destination = paths::bytes(&args.destination);
    let cannot = || format!("cannot put them into '{}'", paths::shown(destination));
    for source in sources {
        how(args)
            .refuse_itself(outside(source))
            .map_err(anyhow::Error::new)
            .with_context(|| super::cannot_put(source, destination))?;
    }
    let length = |source: &OsString| std::fs::metadata(source).map_or(0, |meta| meta.len());
    let total = sources.iter().map(length).fold(0, u64::saturating_add);
    let progress = Progress::new(ctx, "copying", total);
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        let mut tried = super::Tried::default();
        let (mut made, mut before) = (Vec::new(), 0);
        if let Err(failure) = super::require_directory(writer.tree(), destination, "files") {
            return Ok(Err(failure));
        }
        for source in sources {
            let path = path_of(writer, source, destination);
            let cannot = || super::cannot_put(source, &path);
            let (content, size, attributes) = match content(args, source) {
                Ok(found) => found,
                Err(error) => {
                    tried.add(Err::<(), _>(error.context(cannot())));
                    continue;
                }
            };
            if source == "-" {
                let failure = Failure::new("no-name", "standard input has no name that it could have in a directory");
                tried.add(Err::<(), _>(anyhow::Error::new(failure).context(cannot())));
                continue;
            }
            if let Some(failure) = mode_of_existing(args, writer, &path) {
                tried.add(Err::<(), _>(anyhow::Error::new(failure).context(cannot())));
                continue;
            }
            let mut content = Counted::new(content, &progress, before);
            let done = writer.put_with(&path, &mut content, &how(args).options(size), attributes);
            if tried.add_change(done, cannot)?.is_some() {
                made.push(path);
            }
            before += size;
        }
        let made: Vec<&[u8]> = made.iter().map(Vec::as_slice).collect();
        Ok(Ok((super::entries(writer, &made), tried)))
    });
    let (done, changes) = changed.with_context(cannot)?;
    let (entries, tried) = done.with_context(cannot)?;
    progress.done();
    super::tell_changes(ctx, "put", tried.end(), (entries, changes))
}

/// Copies files and directories. All of them are tried.
fn recursive(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let destination = paths::bytes(&args.destination);
    let cannot = || format!("cannot put them into '{}'", paths::shown(destination));
    let sources = &args.sources;
    if sources.iter().any(|source| source == "-") {
        let failure = Failure::new("no-name", "standard input has no name that it could have in a directory");
        return Err(failure.hint("without -r, it is put as DEST")).with_context(cannot);
    }
    let how = how(args);
    let (mut plan, mut tried) = (Plan::default(), super::Tried::default());
    for source in sources {
        super::plan_put(&mut plan, &how, Path::new(source), &mut tried);
    }
    let Plan { items, total, .. } = plan;
    let progress = Progress::new(ctx, "copying", total);
    let changed = open::for_change(&args.image, args.image.in_use, ctx, |writer| {
        if sources.len() > 1
            && let Err(failure) = super::require_directory(writer.tree(), destination, "sources")
        {
            return Ok(Err(failure));
        }
        let mut copying = Copying::new(how, &progress);
        let mut top: Vec<u8> = Vec::new();
        for item in &items {
            if item.path.is_empty() {
                // What is below it has paths that start with a slash, or that go on from the root.
                top = put::path_for(writer.tree(), &item.source, destination);
                while item.meta.is_dir() && top.ends_with(b"/") {
                    top.pop();
                }
            }
            let path = [top.as_slice(), item.path.as_slice()].concat();
            let done = copying.one(writer, item, &path);
            tried.add_change(done, || super::cannot_put(item.source.as_os_str(), &path))?;
        }
        copying.finish(writer)?;
        if !copying.made.is_empty() {
            tried.succeeded();
        }
        let made: Vec<&[u8]> = copying.made.iter().map(|(path, ..)| path.as_slice()).collect();
        Ok(Ok((super::entries(writer, &made), tried)))
    });
    let (done, changes) = changed.with_context(cannot)?;
    let (entries, tried) = done.with_context(cannot)?;
    progress.done();
    super::tell_changes(ctx, "put", tried.end(), (entries, changes))
}

/// The file that an operand means.
fn outside(source: &OsStr) -> &Path {
    Path::new(if source == "-" { OsStr::new("/proc/self/fd/0") } else { source })
}

fn how(args: &Args) -> How<'_> {
    let mode = args.mode.unwrap_or(NEW_MODE);
    let create = CreateOptions { size: 0, sparse: args.sparse, align_1g: args.align_1g, mode, owner: super::owner() };
    let keep = if args.preserve { Keep::All } else { Keep::None };
    let put = PutOptions { create, replace: args.force };
    How { image: &args.image.image, region: args.image.region, put, keep }
}

/// The path in the region. Standard input has no name that it could have in a directory.
fn path_of(writer: &Changing<'_>, source: &OsStr, destination: &[u8]) -> Vec<u8> {
    match source == "-" {
        true => destination.to_vec(),
        false => put::path_for(writer.tree(), Path::new(source), destination),
    }
}

/// The mode of a new file, unless another one is named.
const NEW_MODE: u16 = 0o600;

/// A file that exists keeps its mode.
fn mode_of_existing(args: &Args, writer: &Changing<'_>, path: &[u8]) -> Option<Failure> {
    if !args.force || args.mode.is_none() || writer.tree().resolve(path).is_none() {
        return None;
    }
    let message = format!("'{}' exists and keeps its mode: --mode is for a new file", paths::shown(path));
    Some(Failure::new("usage", message).hint("leave --mode out"))
}

/// What is to be read, how long it is expected to be, and the attributes that its file gets.
fn content(args: &Args, source: &OsStr) -> Result<(Box<dyn Read>, u64, NewAttributes)> {
    if source == "-" {
        if standard::was_stdin_closed() {
            return Err(Failure::new("input", "standard input is closed").into());
        }
        if args.preserve {
            let failure = Failure::new("usage", "standard input has no attributes that -p could keep");
            return Err(failure.hint("leave -p out").into());
        }
        return Ok((Box::new(io::stdin()), 0, NewAttributes::default()));
    }
    let file = File::open(source)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        let failure = Failure::new("is-directory", "it is a directory");
        return Err(failure.hint("-r copies directories, with all that is in them").into());
    }
    let size = if meta.is_file() { meta.len() } else { 0 };
    let attributes = how(args).attributes(&meta);
    Ok((Box::new(file), size, attributes))
}
