//! `gmfs extract`: files and directories out of a region.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::extract::{Done, DoneFile, Error, Job, Observer, Options, Target};
use gmfs::gap_list::GapList;
use gmfs_format::Layout;
use gmfs_format::luo;
use gmfs_format::model::Inode;

use crate::ctx::{self, Ctx};
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::missing;
use crate::open::{self, ReadArgs};
use crate::output;
use crate::paths;
use crate::render::json::luo::LuoSession;
use crate::render::json::{self, actions, files};
use crate::render::progress::Progress;
use crate::render::size;

/// Copy files or directories out of the region
///
/// Holes stay holes. A range that the image does not hold, or that cannot be read, is an error that names it, unless
/// --sparse-absent is given: then it becomes a hole, the ranges are listed in a file, and the exit status is 1. A file has
/// its name when it is whole, and is called FILE.partial until then. Only their owner may read the files and directories that
/// are made, unless -p is given. A PATH that is not in the region and has *, ? or [...] in it stands for all that it matches; quote it. Symbolic links that are in DEST already are not followed; DEST itself may be one. A file or directory whose
/// name could lead out of DEST is left out and named, and the exit status is 1. Beside the files of a live-update session,
/// session.json has what is recorded of them: handler, seals, position; beside a single file, FILE.session.json has that.
#[derive(Arguments, Clone, Debug)]
#[command(after_long_help = "Examples:
  gmfs extract region.img /vms/a.mem
  gmfs extract region.img /vms/a.mem /vms/b.mem rescued/
  gmfs extract region.img '/vms/*.mem' rescued/
  gmfs extract -p region.img / copy
  gmfs extract vmcore / rescued --sparse-absent")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// The file's or directory's path in the region
    #[arg(value_parser = super::region_path())]
    path: OsString,
    /// The file or directory to make, or an existing directory to put it into [default: .]; of several paths, DEST comes
    /// last and is an existing directory
    #[arg(value_name = "PATH|DEST", value_parser = super::new_file())]
    rest: Vec<PathBuf>,
    /// Keep permission bits, owner, group, and the times of access and change
    ///
    /// A directory that is there already keeps its own. Where an owner or a group cannot be set, which only root can do, that
    /// is said, the bits setuid and setgid are left out, and the exit status is 1.
    #[arg(short, long)]
    preserve: bool,
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
    /// Print what would be made, and make nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const SPARSE_HINT: &str = "--sparse-absent leaves holes there, and lists them";

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::store(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&store, ctx);
    let (destination, more) = match args.rest.split_last() {
        // The directory that is meant if nothing is named goes without a name in what is told.
        Some((destination, more)) => (destination.as_path(), more),
        None => (Path::new(""), &[][..]),
    };
    let named: Vec<OsString> =
        std::iter::once(args.path.clone()).chain(more.iter().map(|path| path.clone().into_os_string())).collect();
    let mut tried = super::Tried::default();
    let wanted = super::expand(&inodes.tree, &named, &mut tried);
    let several = wanted.len() > 1 || named.len() > 1;
    if several && !args.rest.is_empty() && !destination.is_dir() {
        let message = format!("{} is no directory, and several paths need one", destination.display());
        return Err(Failure::new("not-directory", message).hint("make the directory first").into());
    }
    let mut tops: Vec<(&Inode, Vec<u8>)> = Vec::new();
    for path in &wanted {
        let found = super::find(&inodes.tree, path, &mut exit, ctx);
        let top = tried.add(found.with_context(|| cannot_extract(paths::bytes(path))));
        tops.extend(top.map(|top| (top, paths::bytes(path).to_vec())));
    }
    if !args.dry_run {
        output::watch()?;
    }
    let telling = Telling::new(&store, ctx);
    let mut job = Job::new((&store, &inodes.tree), tops.iter().map(|(top, _)| *top), options(args), &telling);
    for (top, named) in tops {
        let path = inodes.tree.path(top.ino).unwrap_or_else(|| named.clone());
        let done = Target::new(destination, top).and_then(|target| match args.dry_run {
            true => job.plan((top, &path), &target.path()),
            false => job.extract((top, &path), target),
        });
        tried.add(done.map_err(|error| told(error, &store).context(cannot_extract(&named))));
    }
    let done = job.done;
    if done.files.iter().any(|file| !file.gaps.is_empty()) {
        exit = Exit::No;
    }
    let list = telling.missing.into_inner();
    end(args, (&store, &done, &list), tried, exit, ctx)
}

fn cannot_extract(path: &[u8]) -> String {
    format!("cannot extract '{}'", paths::shown(path))
}

fn options(args: &Args) -> Options {
    let mut options = Options::default();
    options.replace = args.force;
    options.leave_gaps = args.sparse_absent;
    options.preserve = args.preserve;
    options.list_gaps = args.missing.is_none();
    options.inputs = args.image.files().map(Path::to_owned).collect();
    options
}

/// Tells what came of it.
fn end(
    args: &Args,
    (store, done, list): (&Store, &Done<'_>, &GapList),
    tried: super::Tried,
    mut exit: Exit,
    ctx: &mut Ctx,
) -> Result<Exit> {
    if args.dry_run && !args.json {
        for file in &done.files {
            let (to, size) = (file.output.display(), size::both(file.size));
            ctx.line(&printable(&format!("{to}: {size} would be extracted; nothing was written")))?;
        }
    }
    super::tell_hidden(&done.left_out, "extracted", &mut exit, ctx);
    super::tell_doubtful(done.doubtful.iter().map(|(inode, path)| (*inode, paths::shown(path))), &mut exit, ctx);
    if args.preserve && store.layout() != Layout::Native {
        let layout = store.layout();
        ctx.warn(&format!("a store of {layout} records no permission bits, owners and times, so that -p keeps none"));
        exit = Exit::No;
    }
    if done.not_owned > 0 {
        let several = format!("{} files and directories", done.not_owned);
        let of = if done.not_owned == 1 { "1 file or directory" } else { &several };
        ctx.warn(&format!("owner and group of {of} could not be set: only root can; the rest of -p was done"));
        exit = Exit::No;
    }
    let failed = tried.end()?;
    if let Some(to) = args.missing.as_ref().filter(|_| !args.dry_run) {
        let saved = missing::save(list, store.physical_base(), to, args.force, args.image.files());
        saved.with_context(|| cannot_extract(paths::bytes(&args.path)))?;
    }
    if args.json {
        let files = done.files.iter().map(|file| actions::Extracted::new(file, store)).collect();
        let not_shown = files::NotShown::list(&done.left_out);
        let (image, store) = ((&store.place).into(), store.into());
        let answer = actions::Extract { image, store, dry_run: args.dry_run, files, not_shown };
        json::print(ctx, "extract", &answer)?;
    }
    Ok(if failed { Exit::Failed } else { exit })
}

/// An error of the library with what to do next.
fn told(error: Error, store: &Store) -> anyhow::Error {
    match error {
        Error::Entry { path, source } => told(*source, store).context(cannot_extract(&path)),
        Error::Gaps(gaps) => missing::refuse(&gaps, store.physical_base()).hint(SPARSE_HINT).into(),
        Error::Store(error) => open::told(error),
        Error::Copy(error) => output::copying(error),
        Error::NewFile(error) => error.into(),
        Error::Folder(error) => error.into(),
        Error::NotDirectory(_) => Failure::new("not-directory", error.to_string()).into(),
        Error::IsDirectory => Failure::new("is-directory", error.to_string()).into(),
        Error::List(_) => {
            Failure::new("exists", error.to_string()).hint("--missing LIST puts the list elsewhere").into()
        }
        error => error.into(),
    }
}

/// Shows the progress of each file, and tells of what is missing in it.
struct Telling<'a> {
    store: &'a Store,
    /// Whether progress is shown at all.
    shows: bool,
    progress: RefCell<Option<Progress>>,
    /// What is missing in all files.
    missing: RefCell<GapList>,
}

impl<'a> Telling<'a> {
    fn new(store: &'a Store, ctx: &Ctx) -> Self {
        Self { store, shows: ctx.progress, progress: RefCell::default(), missing: RefCell::default() }
    }

    fn progress(&self, show: impl FnOnce(&Progress)) {
        if let Some(progress) = &*self.progress.borrow() {
            show(progress);
        }
    }
}

impl gmfs::Progress for Telling<'_> {
    fn begin(&self, _: &[u8], bytes: u64) {
        *self.progress.borrow_mut() = Some(Progress::shown(self.shows, "extracting", bytes));
    }

    fn at(&self, done: u64) {
        self.progress(|progress| progress.at(done));
    }

    fn skipped_to(&self, done: u64) {
        self.progress(|progress| progress.skip_to(done));
    }

    fn should_stop(&self) -> bool {
        crate::interrupt::asked()
    }
}

impl Observer for Telling<'_> {
    fn copied(&self, file: &DoneFile) {
        if let Some(progress) = self.progress.take() {
            progress.done();
        }
        if !file.gaps.is_empty() {
            let what = missing::describe(&file.gaps, self.store.physical_base());
            self.missing.borrow_mut().add(&file.output.to_string_lossy(), file.gaps.clone());
            ctx::warn(&format!("{}: {what}", file.output.display()));
        }
    }

    fn session(&self, session: &luo::Session, file: Option<&luo::File>) -> Option<Vec<u8>> {
        let recorded = file.map_or_else(|| LuoSession::from(session), |file| LuoSession::with_one(session, file));
        let mut text = serde_json::to_vec_pretty(&recorded).ok()?;
        text.push(b'\n');
        Some(text)
    }
}
