//! `gmfs extract`: files and directories out of a region.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::attributes::{Directories, Kept};
use gmfs::content::{Gaps, known_gaps};
use gmfs::extract::{self, Entry, Extracted, Options};
use gmfs::folder::{Folder, Folders};
use gmfs::new_file::{demands_directory, folder_of};
use gmfs::store::Runs;
use gmfs_format::Layout;
use gmfs_format::model::{Inode, InodeNo, Kind, Piece, Tree};
use gmfs_format::name;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::missing::{self, Missing};
use crate::open::{self, ReadArgs};
use crate::output::{self, NewFile};
use crate::paths::{self, Why};
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

/// The file with what is recorded of a session. No token is spelled like it.
const SESSION_FILE: &str = "session.json";

const SPARSE_HINT: &str = "--sparse-absent leaves holes there, and lists them";

/// A job half done.
struct Work<'a, 't> {
    args: &'a Args,
    options: Options,
    store: &'a Store,
    tree: &'t Tree,
    runs: Runs,
    done: Vec<actions::Extracted>,
    missing: Missing,
    /// Lists of missing ranges that were made: no file of the region takes their place.
    lists: BTreeSet<PathBuf>,
    gaps: bool,
    hidden: Vec<(&'t Inode, Why)>,
    doubtful: Vec<(&'t Inode, String)>,
    /// How many could not get their owner or group.
    not_owned: u64,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::store(&args.image, ctx)?;
    let (inodes, mut exit) = super::inodes(&store, ctx);
    let (destination, more) = match args.rest.split_last() {
        Some((destination, more)) => (Some(destination.as_path()), more),
        None => (None, &[][..]),
    };
    let named: Vec<OsString> =
        std::iter::once(args.path.clone()).chain(more.iter().map(|path| path.clone().into_os_string())).collect();
    let mut tried = super::Tried::default();
    let wanted = super::expand(&inodes.tree, &named, &mut tried);
    let several = wanted.len() > 1 || named.len() > 1;
    if let Some(destination) = destination.filter(|path| several && !path.is_dir()) {
        let message = format!("{} is no directory, and several paths need one", destination.display());
        return Err(Failure::new("not-directory", message).hint("make the directory first").into());
    }
    let mut tops = Vec::new();
    for path in &wanted {
        let found = super::find(&inodes.tree, path, &mut exit, ctx);
        tops.extend(tried.add(found.with_context(|| cannot_extract(paths::bytes(path)))).map(|top| (path, top)));
    }
    // Other layouts read the content of each file by itself.
    let native = store.layout() == Layout::Native;
    let only: Option<BTreeSet<InodeNo>> =
        tops.iter().map(|(_, top)| (top.kind == Kind::File).then_some(top.ino)).collect();
    let runs = store.runs(|ino| native && only.as_ref().is_none_or(|only| only.contains(&ino)));
    let mut work = Work::new(args, &store, &inodes.tree, runs);
    for (path, top) in tops {
        tried.add(work.one(path, top, destination, ctx).with_context(|| cannot_extract(paths::bytes(path))));
    }
    work.end(tried, exit, ctx)
}

fn cannot_extract(path: &[u8]) -> String {
    format!("cannot extract '{}'", paths::shown(path))
}

fn options(args: &Args) -> Options {
    let mut options = Options::default();
    options.replace = args.force;
    options.leave_gaps = args.sparse_absent;
    options.preserve = args.preserve;
    options.inputs = args.image.files().map(Path::to_owned).collect();
    options
}

/// What is to be made. Only what the user named is followed through symbolic links; everything else is made, or entered,
/// by name in a directory that is open.
enum Target {
    /// This directory, which exists.
    Existing(Folder),
    /// An entry of this directory, and whether its name demands a directory.
    Entry { parent: Folder, name: OsString, slash: bool },
}

impl Target {
    /// Into a directory that exists, or what was named.
    fn new(destination: Option<&Path>, top: &Inode) -> Result<Self> {
        // The directory that is meant if nothing is named goes without a name in what is told.
        let named = destination.unwrap_or_else(|| Path::new(""));
        let there = named.as_os_str().is_empty() || named.is_dir();
        if there {
            let named = if named == Path::new(".") { Path::new("") } else { named };
            let parent = Folder::open(named).with_context(|| format!("cannot open {}", named.display()))?;
            if top.ino == InodeNo::ROOT {
                return Ok(Self::Existing(parent));
            }
            let shown = paths::shown(&top.name);
            name::check(&top.name).with_context(|| format!("its name, '{shown}', cannot be a file's"))?;
            let name = OsStr::from_bytes(&name::outside(&top.name)).to_owned();
            return Ok(Self::Entry { parent, name, slash: false });
        }
        let (parent, name) = folder_of(named).with_context(|| format!("cannot make {}", named.display()))?;
        Ok(Self::Entry { parent, name, slash: demands_directory(named) })
    }

    /// What is to be made, by its path; of a directory that exists, its own.
    fn path(&self) -> PathBuf {
        match self {
            Self::Existing(folder) => folder.path_of(OsStr::new("")),
            Self::Entry { parent, name, .. } => parent.path_of(name),
        }
    }

    /// The directory and the name of a file.
    fn file(self) -> Result<(Arc<Folder>, OsString)> {
        match self {
            Self::Entry { parent, name, slash: false } => Ok((Arc::new(parent), name)),
            Self::Entry { parent, name, .. } => {
                let message = format!(
                    "{} is no directory, and the slash at its end demands one",
                    parent.path_of(&name).display()
                );
                Err(Failure::new("not-directory", message).into())
            }
            Self::Existing(_) => Err(Failure::new("is-directory", "it is a directory").into()),
        }
    }

    /// The directory, made if it is not there, and whether it was.
    fn directory(self) -> Result<(Folder, bool)> {
        match self {
            Self::Existing(folder) => Ok((folder, false)),
            Self::Entry { parent, name, .. } => {
                let made = parent.make_or_enter(&name);
                made.with_context(|| format!("cannot make {}", parent.path_of(&name).display()))
            }
        }
    }
}

impl<'a, 't> Work<'a, 't> {
    fn new(args: &'a Args, store: &'a Store, tree: &'t Tree, runs: Runs) -> Self {
        Self {
            args,
            options: options(args),
            store,
            tree,
            runs,
            done: Vec::new(),
            missing: Missing::default(),
            lists: BTreeSet::new(),
            gaps: false,
            hidden: Vec::new(),
            doubtful: Vec::new(),
            not_owned: 0,
        }
    }

    /// Tells what came of it.
    fn end(self, tried: crate::cmd::Tried, exit: Exit, ctx: &mut Ctx) -> Result<Exit> {
        let Self { args, store, done, missing, gaps, hidden, doubtful, not_owned, .. } = self;
        let mut exit = if gaps { Exit::No } else { exit };
        crate::cmd::tell_hidden(&hidden, "extracted", &mut exit, ctx);
        crate::cmd::tell_doubtful(doubtful.into_iter(), &mut exit, ctx);
        if args.preserve && store.layout() != Layout::Native {
            let layout = store.layout();
            ctx.warn(&format!(
                "a store of {layout} records no permission bits, owners and times, so that -p keeps none"
            ));
            exit = Exit::No;
        }
        if not_owned > 0 {
            let several = format!("{not_owned} files and directories");
            let of = if not_owned == 1 { "1 file or directory" } else { &several };
            ctx.warn(&format!("owner and group of {of} could not be set: only root can; the rest of -p was done"));
            exit = Exit::No;
        }
        let failed = tried.end()?;
        if let Some(list) = args.missing.as_ref().filter(|_| !args.dry_run) {
            let saved = missing.save(store.physical_base(), list, args.force, args.image.files());
            saved.with_context(|| cannot_extract(paths::bytes(&args.path)))?;
        }
        if args.json {
            let not_shown = files::NotShown::list(&hidden);
            let (image, store) = ((&store.place).into(), store.into());
            let answer = actions::Extract { image, store, dry_run: args.dry_run, files: done, not_shown };
            json::print(ctx, "extract", &answer)?;
        }
        Ok(if failed { Exit::Failed } else { exit })
    }

    /// Extracts one operand.
    fn one(&mut self, named: &OsStr, top: &'t Inode, destination: Option<&Path>, ctx: &mut Ctx) -> Result<()> {
        let target = Target::new(destination, top)?;
        let path = self.tree.path(top.ino).unwrap_or_else(|| paths::bytes(named).to_vec());
        if self.args.dry_run {
            return self.plan((top, &path), &target.path(), ctx);
        }
        if top.kind == Kind::File {
            let (folder, name) = target.file()?;
            self.file(&path, top, (&folder, &name), ctx)?;
            self.session_of(top, &folder, &name)?;
            self.doubtful.push((top, paths::shown(&path)));
            return Ok(());
        }
        let (folder, new) = target.directory()?;
        let folder = Arc::new(folder);
        let mut folders = Folders::from(Arc::clone(&folder));
        let mut directories = Directories::new(folder, self.kept(top).filter(|_| new));
        self.session(top, &folders.parent(1)?)?;
        let hidden = extract::walk(self.store, self.tree, (top, &path), |entry| {
            let made = self.entry(entry, &mut folders, &mut directories, ctx);
            if made.is_ok() && entry.inode.is_doubtful() {
                self.doubtful.push((entry.inode, paths::shown(entry.path)));
            }
            made.with_context(|| cannot_extract(entry.path))
        })?;
        self.hidden.extend(hidden);
        self.not_owned = self.not_owned.saturating_add(directories.finish()?);
        Ok(())
    }

    /// The attributes that -p keeps.
    fn kept(&self, inode: &Inode) -> Option<Kept> {
        Kept::of(inode).filter(|_| self.args.preserve)
    }

    /// Tells what would be made of a file or directory, `to` being its path outside.
    fn plan(&mut self, (top, path): (&'t Inode, &[u8]), to: &Path, ctx: &mut Ctx) -> Result<()> {
        if top.kind == Kind::File {
            self.plan_file(path, top, to, ctx)?;
            self.doubtful.push((top, paths::shown(path)));
            return Ok(());
        }
        let hidden = extract::walk(self.store, self.tree, (top, path), |entry| {
            if entry.inode.kind != Kind::File {
                return Ok(());
            }
            let to = to.join(entry.names.iter().collect::<PathBuf>());
            self.plan_file(entry.path, entry.inode, &to, ctx).with_context(|| cannot_extract(entry.path))?;
            self.doubtful.push((entry.inode, paths::shown(entry.path)));
            anyhow::Ok(())
        })?;
        self.hidden.extend(hidden);
        Ok(())
    }

    fn plan_file(&mut self, path: &[u8], inode: &Inode, to: &Path, ctx: &mut Ctx) -> Result<()> {
        let (pieces, base) = (self.pieces(inode)?, self.store.physical_base());
        let gaps = known_gaps(self.store.source(), &pieces);
        if !gaps.is_empty() && !self.args.sparse_absent {
            return Err(missing::refuse(&gaps, base).hint(SPARSE_HINT).into());
        }
        // What is in a directory that is not there yet is not there either.
        if to.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.exists()) {
            output::check(to, self.args.force, self.args.image.files())?;
        }
        self.gaps |= !gaps.is_empty();
        if !self.args.json {
            let text = format!("{}: {} would be extracted; nothing was written", to.display(), size::both(inode.size));
            ctx.line(&printable(&text))?;
        }
        self.tell_done(path, inode, to, &gaps);
        Ok(())
    }

    /// What is told of a file that was extracted.
    fn tell_done(&mut self, path: &[u8], inode: &Inode, to: &Path, gaps: &Gaps) {
        let base = self.store.physical_base();
        self.done.push(actions::Extracted {
            path: files::Path::new(Some(path)),
            output: to.to_string_lossy().into_owned(),
            size: inode.size,
            doubtful: inode.is_doubtful(),
            absent: actions::Gap::list(gaps, Some(self.store.place.base), base),
        });
    }

    /// Beside the files of a session: what is recorded of them.
    fn session(&self, directory: &Inode, folder: &Arc<Folder>) -> Result<()> {
        let Some(session) = self.store.luo().and_then(|luo| luo.session(directory.ino)) else { return Ok(()) };
        self.record(&json::luo::LuoSession::from(session), folder, OsStr::new(SESSION_FILE))
    }

    /// Beside a single file of a session: what is recorded of it and of its session.
    fn session_of(&self, file: &Inode, folder: &Arc<Folder>, name: &OsStr) -> Result<()> {
        let Some(luo) = self.store.luo() else { return Ok(()) };
        let (Some(session), Some(recorded)) = (luo.session(file.ino), luo.file(file.ino)) else { return Ok(()) };
        let mut name = name.to_owned();
        name.push(".");
        name.push(SESSION_FILE);
        self.record(&json::luo::LuoSession::with_one(session, recorded), folder, &name)
    }

    fn record(&self, wire: &json::luo::LuoSession, folder: &Arc<Folder>, name: &OsStr) -> Result<()> {
        let file = NewFile::begin_in(folder, name, self.args.force, self.args.image.files())?;
        let text = serde_json::to_string_pretty(wire)?;
        let mut out = file.file();
        std::io::Write::write_all(&mut out, text.as_bytes())
            .and_then(|()| std::io::Write::write_all(&mut out, b"\n"))
            .with_context(|| format!("cannot write {}", folder.path_of(name).display()))?;
        file.keep()
    }

    fn pieces(&self, inode: &Inode) -> Result<Vec<Piece>> {
        self.store.content_of(inode, &self.runs).map_err(open::told)
    }

    /// One entry of a directory.
    fn entry(
        &mut self,
        entry: Entry<'_, '_>,
        folders: &mut Folders,
        directories: &mut Directories,
        ctx: &Ctx,
    ) -> Result<()> {
        let Entry { inode, path, names, .. } = entry;
        let parent = folders.parent(names.len())?;
        let Some(name) = names.last() else { return Ok(()) };
        match inode.kind {
            Kind::Directory => {
                extract::directory(entry, (&parent, folders, directories), self.kept(inode))?;
                self.session(inode, &folders.parent(names.len().saturating_add(1))?)
            }
            _ => self.file(path, inode, (&parent, name), ctx),
        }
    }

    /// One file.
    fn file(&mut self, path: &[u8], inode: &Inode, to: (&Arc<Folder>, &OsStr), ctx: &Ctx) -> Result<()> {
        let pieces = self.pieces(inode)?;
        let shown = to.0.path_of(to.1);
        if self.lists.contains(&shown) {
            let message = format!("{} is the list of what is missing in another file", shown.display());
            return Err(Failure::new("exists", message).hint("--missing LIST puts the list elsewhere").into());
        }
        output::watch()?;
        let progress = Progress::new(ctx, "extracting", inode.size);
        let made = extract::file(self.store, inode, &pieces, to, &self.options, &progress);
        let Extracted { file, copied, .. } = made.map_err(|error| self.told(error))?;
        progress.done();
        self.tell_done(path, inode, &shown, &copied.gaps);
        // No file with holes without the list of them.
        self.list(to, copied.gaps, ctx)?;
        output::go_on()?;
        match self.kept(inode) {
            Some(kept) => self.not_owned = self.not_owned.saturating_add(u64::from(!file.keep_as(&kept)?)),
            None => file.keep()?,
        }
        Ok(())
    }

    /// An error of the library with what to do next.
    fn told(&self, error: extract::Error) -> anyhow::Error {
        match error {
            extract::Error::Gaps(gaps) => missing::refuse(&gaps, self.store.physical_base()).hint(SPARSE_HINT).into(),
            extract::Error::Copy(error) => output::copying(error),
            extract::Error::NewFile(error) => error.into(),
            error => error.into(),
        }
    }

    /// Tells of what is missing in a file.
    fn list(&mut self, (folder, name): (&Arc<Folder>, &OsStr), gaps: Gaps, ctx: &Ctx) -> Result<()> {
        let base = self.store.physical_base();
        let own = self.args.missing.is_none();
        if own && self.args.force {
            missing::forget(folder, name);
        }
        if gaps.is_empty() {
            return Ok(());
        }
        self.gaps = true;
        let to = folder.path_of(name);
        let told = format!("{}: {}", to.display(), missing::describe(&gaps, base));
        self.missing.add(&to.to_string_lossy(), gaps);
        if own {
            let list = missing::beside(name);
            let files = std::mem::take(&mut self.missing);
            files.save_in(base, (folder, &list), self.args.force, self.args.image.files())?;
            self.lists.insert(folder.path_of(&list));
        }
        ctx.warn(&told);
        Ok(())
    }
}
