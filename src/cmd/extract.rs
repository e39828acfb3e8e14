//! `gmfs extract`: files and directories out of a region.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::model::Inode;
use gmfs_format::name;
use gmfs_format::tables::InodeKind;
use gmfs_volume::content::{Piece, pieces};
use gmfs_volume::region::{Mapping, Mappings};

use crate::cmd::ls::tell_depth;
use crate::content::{Gaps, SparseFile, carry_pieces, known_gaps};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::missing::{self, Missing};
use crate::open::{self, ImageArgs, Opened};
use crate::output::NewFile;
use crate::paths;
use crate::render::json::{self, actions, files};
use crate::render::progress::Progress;

/// Copy files or directories out of the region
///
/// Holes stay holes. A range that the image does not hold, or that cannot be read, is an error that names it, unless
/// --sparse-absent is given: then it becomes a hole, the ranges are listed in a file, and the exit status is 1. A file has
/// its name when it is whole, and is called FILE.partial until then.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs extract region.img /vms/a.mem
  gmfs extract vmcore / rescued --sparse-absent")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ImageArgs,
    /// The file's or directory's path in the region
    path: OsString,
    /// The file or directory to make, or an existing directory to put it into [default: .]
    #[arg(value_name = "DEST", value_parser = super::new_file())]
    destination: Option<PathBuf>,
    /// Replace files that exist
    #[arg(short, long)]
    force: bool,
    /// Leave holes where the image does not hold the content, and list them
    ///
    /// The list is text, a line for each range: its offset and length in the file in bytes, the reason, and the physical
    /// address, or - where that is not known.
    #[arg(long)]
    sparse_absent: bool,
    /// With --sparse-absent: one list for all files, made also if nothing is missing [default: FILE.missing beside each
    /// file in which something is]
    #[arg(long, value_name = "LIST", value_parser = super::new_file(), requires = "sparse_absent")]
    missing: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A job half done.
struct Work<'a> {
    args: &'a Args,
    opened: &'a Opened,
    mappings: Mappings,
    done: Vec<actions::Extracted>,
    missing: Missing,
    gaps: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let opened = open::region(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&opened.region, ctx);
    let tree = &inodes.tree;
    let path = paths::bytes(&args.path);
    let cannot = || format!("cannot extract '{}'", paths::shown(path));
    let top = super::at(tree, &args.path).with_context(cannot)?;
    let target = target(args, top).with_context(cannot)?;
    let single = (top.kind == InodeKind::File).then_some(top.ino);
    let mappings = opened.region.mappings(|ino| single.is_none_or(|only| only == ino));
    let mut work = Work { args, opened: &opened, mappings, done: Vec::new(), missing: Missing::default(), gaps: false };
    let path = tree.path(top.ino).unwrap_or_else(|| path.to_vec());
    // A directory that was named is taken as it is, also as a link.
    if top.kind == InodeKind::File || !target.is_dir() {
        work.one(&path, top, &target, ctx).with_context(cannot)?;
    }
    if top.kind == InodeKind::Directory {
        // Names are checked as they come: what a damaged region calls a file may lead elsewhere.
        let too_deep = paths::walk(tree, (top, &path), |step| {
            let Some(relative) = step.path.strip_prefix(path.as_slice()) else { return Ok(()) };
            let relative = relative.strip_prefix(b"/").unwrap_or(relative);
            check_parts(relative)?;
            let to = target.join(OsStr::from_bytes(relative));
            work.one(&step.path, step.inode, &to, ctx)
                .with_context(|| format!("cannot extract '{}'", paths::shown(&step.path)))
        })?;
        tell_depth(too_deep, ctx);
        exit = if too_deep > 0 { Exit::No } else { exit };
    }
    exit = if work.gaps { Exit::No } else { exit };
    if let Some(list) = &args.missing {
        work.missing.save(opened.physical_base(), list, args.force, args.image.files()).with_context(cannot)?;
    }
    if args.json {
        json::print(ctx, "extract", &actions::Extract { files: work.done })?;
    }
    Ok(exit)
}

/// Where it goes: into a directory that exists, or to what was named.
fn target(args: &Args, top: &Inode) -> Result<PathBuf> {
    let named = args.destination.clone().unwrap_or_else(|| PathBuf::from("."));
    if !named.is_dir() {
        return Ok(named);
    }
    if top.ino == gmfs_format::units::InodeNo::ROOT {
        return Ok(named);
    }
    name::check(&top.name).with_context(|| format!("its name, '{}', cannot be a file's", paths::shown(&top.name)))?;
    let to = named.join(OsStr::from_bytes(&top.name));
    Ok(to.strip_prefix(".").map(Path::to_owned).unwrap_or(to))
}

/// Refuses names that lead out of the directory.
fn check_parts(relative: &[u8]) -> Result<()> {
    for part in relative.split(|byte| *byte == b'/') {
        name::check(part).with_context(|| format!("'{}' cannot be made outside", paths::shown(relative)))?;
    }
    Ok(())
}

impl Work<'_> {
    /// One file or directory.
    fn one(&mut self, path: &[u8], inode: &Inode, to: &Path, ctx: &Ctx) -> Result<()> {
        let mode = inode.attributes.map_or(0o700, |attributes| u32::from(attributes.mode) & 0o777);
        if inode.kind == InodeKind::Directory {
            return directory(to, mode);
        }
        let extents = self.mappings.files.get(&inode.ino).cloned().unwrap_or_default();
        let mapping = Mapping { extents, lost_pages: self.mappings.lost_pages };
        let pieces = pieces(self.opened.region.geometry(), inode, &mapping)?;
        let base = self.opened.physical_base();
        let hint = "--sparse-absent leaves holes there, and lists them";
        let gaps = known_gaps(self.opened.region.source(), &pieces);
        if !gaps.is_empty() && !self.args.sparse_absent {
            return Err(gaps.refuse(base).hint(hint).into());
        }
        let inputs = self.args.image.files();
        let file = NewFile::begin(to, self.args.force, mode, inputs)?;
        let gaps = copy(self.opened, inode, &pieces, file.file(), ctx)?;
        if !gaps.is_empty() && !self.args.sparse_absent {
            return Err(gaps.refuse(base).hint(hint).into());
        }
        self.done.push(actions::Extracted {
            path: files::Path::new(Some(path)),
            output: to.to_string_lossy().into_owned(),
            size: inode.size,
            absent: actions::Gap::list(&gaps, base),
        });
        // No file with holes without the list of them.
        self.list(to, gaps, ctx)?;
        file.keep()
    }

    /// Tells of what is missing in a file.
    fn list(&mut self, to: &Path, gaps: Gaps, ctx: &Ctx) -> Result<()> {
        let base = self.opened.physical_base();
        let list = missing::beside(to);
        let own = self.args.missing.is_none();
        if own && self.args.force {
            missing::forget(to);
        }
        if gaps.is_empty() {
            return Ok(());
        }
        self.gaps = true;
        let told = format!("{}: {}", to.display(), gaps.describe(base));
        self.missing.add(&to.to_string_lossy(), gaps);
        if own {
            let files = std::mem::take(&mut self.missing);
            files.save(base, &list, self.args.force, self.args.image.files())?;
        }
        ctx.warn(&told);
        Ok(())
    }
}

/// A directory, which may be there already, but not as a link.
fn directory(to: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(mode | 0o700).create(to) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let there = std::fs::symlink_metadata(to).is_ok_and(|meta| meta.is_dir());
            if there { Ok(()) } else { Err(error).with_context(|| format!("cannot make {}", to.display())) }
        }
        other => other.with_context(|| format!("cannot make {}", to.display())),
    }
}

fn copy(opened: &Opened, inode: &Inode, pieces: &[Piece], file: &File, ctx: &Ctx) -> Result<Gaps> {
    let progress = Progress::new(ctx, "extracting", inode.size);
    let mut sink = SparseFile::new(file, inode.size, &progress);
    carry_pieces(opened.region.source(), pieces, &mut sink)?;
    let (gaps, _) = sink.finish()?;
    if let Some(modified) = inode.attributes.map(|attributes| attributes.modified).filter(|time| *time != 0) {
        // A time that the filesystem outside cannot keep is no reason to fail.
        let _ = file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(modified));
    }
    Ok(gaps)
}
