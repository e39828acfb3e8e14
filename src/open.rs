//! From the command line's IMAGE and `--region` to a store that is open, for reading or for changing.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use gmfs::changes::Changes;
use gmfs::diagnosis::{Diagnosis, layout_instead};
use gmfs::in_use::Watch;
use gmfs::open::{DataFrom, ReadLock, Target, Unlocked, Which};
use gmfs::store::Guestmemfs;
use gmfs::{ImageSpec, Located, Observer, Place, Store};
use gmfs_check::Report;
use gmfs_format::Layout;
use gmfs_format::guestmemfs::By;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::spec::RegionSpec;
use gmfs_image::file::FileError;
use gmfs_image::undo::Recorded;
use gmfs_image::{Holes, Kind, Locking, probe};
use gmfs_io::{ReadAt as _, Span, Window, WriteAt};
use gmfs_volume::{ChangeError, OpenError, Recovery, Superblocks, Writer, WriterOptions};

use crate::clock;
use crate::ctx::Ctx;
use crate::details;
use crate::failure::Failure;
use crate::in_use::InUseOk;
use crate::lacking;
use crate::locate;
use crate::locking::{self, Wait};
use crate::render::progress::Progress;
use crate::render::size;
use crate::repairing::{self, Look, Repairable};

/// Which region.
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageArgs {
    /// Region file, block device, /dev/mem, devdax device or crash dump
    pub(crate) image: PathBuf,
    /// Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE
    ///
    /// Numbers are decimal, 0x hex or 0 octal, with K, M, G, T, P or E behind them. SIZE@BASE, SIZE$BASE and SIZE!BASE
    /// mean the same. BASE is a physical address in /dev/mem and dumps, an offset (default 0) in files and other
    /// devices. Without --region a file or device is the region as a whole; in dumps, and in /dev/mem without the
    /// kernel parameter guestmemfs=, the region is found by its superblock.
    #[arg(long, value_name = "SIZE[:BASE]", value_parser = locate::parse_region)]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    pub(crate) region: Option<RegionSpec>,
    /// Another part of the split dump that IMAGE is a part of; give all of them, in any order
    #[arg(long = "part", value_name = "FILE")]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    pub(crate) parts: Vec<PathBuf>,
    /// IMAGE is raw memory whose first byte was at this physical address
    ///
    /// For what QEMU's pmemsave wrote, memory files of virtual machines and copies of /dev/mem: nothing in them tells
    /// where they were. It makes the image a dump: BASE of --region is a physical address, and nothing is written. A
    /// file that leaves out a hole of the address space has one address for each of its pieces: cut it at the hole.
    #[arg(long, value_name = "ADDRESS", value_parser = locate::parse_address, conflicts_with = "parts")]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    pub(crate) base: Option<u64>,
    /// The store with this number, as `gmfs scan` lists those in IMAGE
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["region", "at"])]
    pub(crate) store: Option<u32>,
    /// The store at this address: where a region starts, or the device tree of a kexec handover
    ///
    /// It is read without a search of the image, unless a hand-over can only be found by one.
    #[arg(long, value_name = "ADDRESS", value_parser = locate::parse_address, conflicts_with = "region")]
    pub(crate) at: Option<u64>,
    #[command(flatten)]
    pub(crate) wait: Wait,
    /// What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)
    ///
    /// In a sparse copy holes are pages of zeros. In a differential snapshot, as Firecracker writes, they are pages
    /// that did not change since the snapshot below. What is absent is listed and never shown as zeros. Without --holes
    /// and --over, a note says how much of the region is holes.
    #[arg(long, value_name = "WHAT", requires = "base", hide_possible_values = true)]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    pub(crate) holes: Option<HolesAre>,
    /// Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it
    #[arg(long, value_name = "FILE", requires = "base")]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    pub(crate) over: Vec<PathBuf>,
    /// Read the content of files from FILE, where IMAGE has only the metadata of a guestmemfs v1
    ///
    /// FILE is the region as a file, or another dump. The region starts at BASE of it: an offset in a file (default 0),
    /// a physical address in a dump (default: the one that the metadata tells).
    #[arg(long, value_name = "FILE[@BASE]", value_parser = locate::parse_data_from)]
    pub(crate) data_from: Option<DataFrom>,
    /// What maps the files of a guestmemfs v1: fdt (the device tree), inode (the pointers in the inodes)
    ///
    /// A restore by the driver stores each pointer one inode too far. fdt gives what each file had before the restore,
    /// inode gives what the driver shows after it. The default is fdt, and inode for files that the device tree does
    /// not name.
    #[arg(long, value_name = "WHAT", hide_possible_values = true)]
    pub(crate) by: Option<MappedBy>,
}

/// An image that is read.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) of: ImageArgs,
    /// Read although another process may be changing the region
    ///
    /// At the end the region's generation is compared with the one at the beginning. If it is another one, what was
    /// read may mix two states: that is said, and the exit status is 1 (of fsck and repair: 8).
    #[arg(long)]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    pub(crate) no_lock: bool,
}

impl std::ops::Deref for ReadArgs {
    type Target = ImageArgs;

    fn deref(&self) -> &ImageArgs {
        &self.of
    }
}

/// An image that is written. No dump can be, so that nothing says here how to read one.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// Region file, block device, /dev/mem or devdax device
    pub(crate) image: PathBuf,
    /// Where in IMAGE the region is, as in guestmemfs=SIZE:BASE
    ///
    /// Numbers are decimal, 0x hex or 0 octal, followed by K, M, G, T, P or E. SIZE@BASE, SIZE$BASE and SIZE!BASE mean
    /// the same. BASE is a physical address in /dev/mem, an offset (default 0) in files and other devices. Without
    /// --region a file or device is the region as a whole; in /dev/mem without the kernel parameter guestmemfs=, the
    /// region is found by its superblock.
    #[arg(long, value_name = "SIZE[:BASE]", value_parser = locate::parse_region)]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    pub(crate) region: Option<RegionSpec>,
    #[command(flatten)]
    pub(crate) wait: Wait,
    /// Print what would be done, and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Record what is overwritten, so that `gmfs undo` can take it back
    #[arg(long, value_name = "FILE", value_parser = crate::parse::new_file(), conflicts_with = "dry_run")]
    pub(crate) undo: Option<PathBuf>,
}

impl TargetArgs {
    /// The same image, as arguments for reading.
    pub(crate) fn as_image(&self) -> ImageArgs {
        ImageArgs { region: self.region, wait: self.wait, ..ImageArgs::file(self.image.clone()) }
    }
}

/// An image in which blocks are freed, overwritten or handed out.
#[derive(Args, Clone, Debug)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) of: TargetArgs,
    #[command(flatten)]
    pub(crate) in_use: InUseOk,
}

impl std::ops::Deref for WriteArgs {
    type Target = TargetArgs;

    fn deref(&self) -> &TargetArgs {
        &self.of
    }
}

/// What holes in raw memory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HolesAre {
    /// Pages of zeros.
    Zero,
    /// Pages that the file does not hold.
    Absent,
}

/// By what files are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MappedBy {
    /// The device tree of the hand-over.
    Fdt,
    /// The pointers in the inodes.
    Inode,
}

impl ImageArgs {
    /// An image file for which no option is needed.
    pub(crate) fn file(image: PathBuf) -> Self {
        let wait = Wait { wait: 0 };
        let (parts, over) = (Vec::new(), Vec::new());
        let (store, at, data_from, by) = (None, None, None, None);
        Self { image, region: None, parts, base: None, store, at, wait, holes: None, over, data_from, by }
    }

    /// The same image, as the library names it.
    pub(crate) fn spec(&self) -> ImageSpec {
        let holes = self.holes.map(|holes| if holes == HolesAre::Absent { Holes::Absent } else { Holes::Zero });
        ImageSpec {
            path: self.image.clone(),
            region: self.region,
            parts: self.parts.clone(),
            base: self.base,
            holes,
            over: self.over.clone(),
            which: self.at.map(Which::At).or(self.store.map(|number| Which::Number(number as usize))),
            data_from: self.data_from.clone(),
            by: self.by.map(|by| if by == MappedBy::Fdt { By::Tree } else { By::Inode }),
        }
    }

    /// All files that the image consists of.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.image.as_path()).chain(self.parts.iter().chain(&self.over).map(PathBuf::as_path))
    }
}

impl ReadArgs {
    /// How the image is locked; `None` with --no-lock.
    pub(crate) fn locking(&self) -> Option<Locking<'static>> {
        (!self.no_lock).then(|| self.wait.locking(None))
    }
}

/// Shows what happens while an image is opened.
pub(crate) struct Watching<'c> {
    ctx: &'c Ctx,
    search: RefCell<Option<Progress>>,
    /// How many bytes are searched.
    length: Cell<u64>,
}

impl<'c> Watching<'c> {
    pub(crate) const fn new(ctx: &'c Ctx) -> Self {
        Self { ctx, search: RefCell::new(None), length: Cell::new(0) }
    }
}

impl Observer for Watching<'_> {
    fn searching(&self, done: u64, of: u64) {
        self.length.set(of);
        self.search.borrow_mut().get_or_insert_with(|| Progress::new(self.ctx, "searching", of)).at(done);
    }

    fn searched(&self) {
        if let Some(search) = self.search.take() {
            search.done();
        }
        self.ctx.detail(&format!("searched {} for superblocks", size::both(self.length.take())));
    }

    fn holes(&self, image: &Path, bytes: u64) {
        self.ctx.note(&format!(
            "{} of the region are holes in {}, and are read as zeros; if they are pages that did not change since another \
             snapshot, --over FILE reads them from that one, and --holes absent takes them as absent",
            size::human(bytes),
            image.display()
        ));
    }

    fn unlocked(&self, unlocked: Unlocked) {
        locking::without_lock(unlocked);
    }
}

/// Adds to an error of the library what to do next.
pub(crate) fn told(error: gmfs::Error) -> anyhow::Error {
    let several = "say where the region lies: --region SIZE:BASE";
    let failure = |code, error: &gmfs::Error, hint: &str| Failure::new(code, error.to_string()).hint(hint);
    match error {
        gmfs::Error::Image(error) => error.into(),
        gmfs::Error::File(error) => error.into(),
        gmfs::Error::Region(error) => error.into(),
        gmfs::Error::Content(error) => error.into(),
        gmfs::Error::Lacking(lacking) => lacking::failure(&lacking).into(),
        gmfs::Error::Search { path, source } => {
            anyhow::Error::new(source).context(format!("cannot search {}", path.display()))
        }
        gmfs::Error::NotFound { size } => {
            Failure::new("no-region", gmfs::error::not_found(size.map(size::both))).hint(several).into()
        }
        error @ gmfs::Error::Several(_) => {
            let hint = "say which: --store N as `gmfs scan IMAGE` numbers them, --at ADDRESS, or --region SIZE:BASE";
            failure("several-regions", &error, hint).into()
        }
        error @ (gmfs::Error::NotAt(_) | gmfs::Error::NotNumbered { .. }) => {
            failure("no-region", &error, "`gmfs scan IMAGE` lists the stores in it").into()
        }
        error @ gmfs::Error::NoContent { .. } => {
            failure("no-content", &error, "`gmfs stat IMAGE PATH` shows what is recorded of it").into()
        }
        error @ gmfs::Error::Parameters(_) => {
            failure("several-regions", &error, "choose one with --region SIZE:BASE").into()
        }
        error @ gmfs::Error::NotNative(_) => {
            let hint = match error {
                gmfs::Error::NotNative(Layout::Luo) => {
                    "gmfs reads a hand-over, by scan, inspect, fsck, ls, tree, stat, cat, extract, save, map, who and diff, and does not write it"
                }
                _ => {
                    "gmfs reads such a region, by inspect, fsck, ls, tree, stat, cat, extract, map, who and save, and does not write it"
                }
            };
            failure("layout", &error, hint).into()
        }
        error => error.into(),
    }
}

/// Opens the image for reading, finds the region in it, and locks that range. A hand-over is refused, because it is no
/// region.
pub(crate) fn locate(args: &ReadArgs, ctx: &Ctx) -> Result<Located> {
    let located = locate_any(args, ctx)?;
    if located.handover.is_some() {
        return Err(told(gmfs::Error::NotNative(Layout::Luo))).with_context(|| cannot_open(&args.image));
    }
    Ok(located)
}

/// Opens the image for reading, finds the store in it, of whatever layout, and locks it.
pub(crate) fn locate_any(args: &ReadArgs, ctx: &Ctx) -> Result<Located> {
    let located = args.spec().locate(args.locking().as_ref(), &Watching::new(ctx));
    let located = located.map_err(|error| about(told(error), "open", &args.image))?;
    if located.guestmemfs.is_none() && (args.by.is_some() || args.data_from.is_some()) {
        let option = if args.by.is_some() { "--by" } else { "--data-from" };
        let failure = Failure::new("usage", format!("{option} is for a guestmemfs v1, and none was found"));
        let failure = failure.hint("`gmfs scan IMAGE` lists what is there; raw memory needs --base ADDRESS");
        return Err(about(failure.into(), "open", &args.image));
    }
    details::located(&located, !args.no_lock, ctx);
    Ok(located)
}

/// The region's superblocks. If they are lost, the error says what helps.
fn load(located: &Located) -> Result<Superblocks> {
    located.superblocks().map_err(|error| no_superblock(located, error))
}

/// The region's superblocks. If both are lost, one that is rebuilt from what is left.
pub(crate) fn load_or_rebuild(located: &Located) -> Result<Superblocks> {
    located.superblocks_or_rebuilt().map_err(|error| no_superblock(located, error))
}

/// What to do with an image that holds something else where the region was expected.
const NOT_THIS: &str = "name the image that holds the region; if it lies elsewhere in this one, `gmfs scan IMAGE` looks for \
                        it, and --region SIZE:BASE says where it is";

/// The error for a region whose superblocks cannot be used: it says that the rest of the region is there, or what the
/// dump lacks and why.
pub(crate) fn no_superblock(located: &Located, error: OpenError) -> anyhow::Error {
    let OpenError::NoRegion { a, b } = &error else { return error.into() };
    let failure = |code, message: String, hint: &str| anyhow::Error::new(Failure::new(code, message).hint(hint));
    match located.diagnose() {
        Diagnosis::OtherLayout(layout) => told(gmfs::Error::NotNative(layout)),
        Diagnosis::Rebuildable => {
            let message = format!("both copies of the superblock are lost (A: {a}; B: {b}), and the rest is there");
            let hint = "`gmfs fsck -p IMAGE` writes the superblocks again, `gmfs repair IMAGE -o FILE` does so in a copy of the \
                        region; both take --region SIZE:BASE";
            failure("superblocks-lost", message, hint)
        }
        Diagnosis::Elsewhere { size } => {
            let message = format!("no superblock is there, but pages of a region of {size} bytes are");
            let hint = "--region SIZE:BASE with that size tells where all of it is";
            failure("region-elsewhere", message, hint).context(error.to_string())
        }
        Diagnosis::Holds { name, at } => {
            let message = format!("it holds something else: {name}, marked at offset {at:#x}");
            failure("holds-other", message, NOT_THIS)
        }
        Diagnosis::Lacking(lacking) => anyhow::Error::new(lacking::failure(&lacking)).context(error.to_string()),
        _ => error.into(),
    }
}

/// Checks the region without changing it.
pub(crate) fn check_region(located: &Located, how: Look, keep: usize, ctx: &Ctx) -> Result<Report> {
    repairing::check_region(&located.source, how, keep, ctx)
        .map_err(|error| no_superblock(located, error))
        .with_context(|| format!("cannot check {}", located.place.path.display()))
}

/// Reads the region's superblocks, and nothing else.
pub(crate) fn superblocks(args: &ReadArgs, ctx: &Ctx) -> Result<(Located, Superblocks)> {
    let located = locate(args, ctx)?;
    let superblocks = load(&located).with_context(|| cannot_open(&args.image))?;
    Ok((located, superblocks))
}

/// Opens the store for reading, whatever layout it has.
pub(crate) fn store(args: &ReadArgs, ctx: &Ctx) -> Result<Store> {
    open_located(args, locate_any(args, ctx)?, ctx)
}

/// Opens the store that was located.
pub(crate) fn open_located(args: &ReadArgs, located: Located, ctx: &Ctx) -> Result<Store> {
    let store = Store::open_or_return(located)
        .inspect(|store| details::store(store, ctx))
        .map_err(|(located, error)| match error {
            gmfs::Error::Region(error) => no_superblock(&located, error),
            error => told(error),
        })
        .with_context(|| cannot_open(&args.image))?;
    if let Some(found) = store.guestmemfs() {
        about_guestmemfs(args, found, ctx);
    }
    Ok(store)
}

/// Prints what a user has to know about a guestmemfs v1 before looking at its files.
fn about_guestmemfs(args: &ReadArgs, found: &Guestmemfs, ctx: &Ctx) {
    let store = found.store();
    if found.found().stale {
        ctx.note("this is what an earlier mount left behind: another file system in the image took its place");
    }
    if !store.has_inodes() {
        ctx.warn(&format!(
            "the inodes, at {:#x}, are not in the image: no file can be listed; `gmfs inspect IMAGE` shows what the device tree says",
            store.parts().inodes
        ));
    } else if !found.has_region() {
        ctx.note(
            "no device tree says where the content of files is, so none of it can be read; --data-from FILE@BASE reads it from there",
        );
    }
    let differing = store.differing().count() as u64;
    if differing > 0 && args.by.is_none() {
        let have = if differing == 1 { "file has" } else { "files have" };
        ctx.note(&format!(
            "{differing} {have} other blocks by the device tree than by the inode, as after a restore; the device tree is followed, --by inode follows the inodes"
        ));
    }
}

/// Opens a native region for reading.
pub(crate) fn region(args: &ReadArgs, ctx: &Ctx) -> Result<Store> {
    let store = store(args, ctx)?;
    store.native().map_err(told).with_context(|| cannot_open(&args.image))?;
    Ok(store)
}

/// Opens and locks the region, or the store of pkernfs, for repair, and records what is overwritten if that is asked for.
/// It is not checked yet. `work` is told which of the two it is.
pub(crate) fn for_repair<T>(
    args: &ImageArgs,
    in_use: InUseOk,
    undo: Option<&Path>,
    ctx: &mut Ctx,
    work: impl FnOnce(Repairable, &mut dyn WriteAt, &mut Watch, &mut Ctx) -> Result<T>,
) -> Result<(Place, T)> {
    let (kind, mut target) = for_writing(args, ctx).map_err(|error| elsewhere(error, undo.is_some()))?;
    let of = match layout_instead(&target) {
        None => Repairable::Native,
        Some(Layout::Pkernfs) => Repairable::Pkernfs { size: target.end().unwrap_or_else(|| target.size()) },
        Some(layout) => return Err(told(gmfs::Error::NotNative(layout))),
    };
    let place = Place { kind, path: args.image.clone(), base: target.base() };
    let mut watch = watch(&args.image, &target, in_use);
    let done = recorded(&mut target, undo, ctx, |target, ctx| work(of, target, &mut watch, ctx))?;
    Ok((place, done))
}

/// Looks for processes that have the region mapped.
pub(crate) fn watch(image: &Path, target: &Target, in_use: InUseOk) -> Watch {
    in_use.watch(image, Span::new(target.base(), target.size()))
}

/// Lets `work` write to a target. What it overwrites is recorded if that is asked for.
pub(crate) fn recorded<T>(
    target: &mut Target,
    undo: Option<&Path>,
    ctx: &mut Ctx,
    work: impl FnOnce(&mut dyn WriteAt, &mut Ctx) -> Result<T>,
) -> Result<T> {
    let Some(file) = undo else { return work(target, ctx) };
    let mut recorded = Recorded::new(target, file)?;
    let done = work(&mut recorded, ctx);
    // This is done even if the work failed, so that what it wrote can be taken back.
    match recorded.finish() {
        Ok((_, 0)) if done.is_err() => {}
        Ok((_, 0)) => ctx.note(&format!("nothing was written, so there is no {}", file.display())),
        Ok((_, pages)) => ctx.note(&format!("{} recorded in {}", size::count(pages, "page"), file.display())),
        Err(error) if done.is_ok() => return Err(error.into()),
        Err(_) => ctx.warn(&format!(
            "{} is incomplete; `gmfs undo -f {}` undoes what was written",
            file.display(),
            file.display()
        )),
    }
    done
}

/// Adds to the error for an image that cannot be written that a copy of it can be repaired.
fn elsewhere(error: anyhow::Error, with_undo: bool) -> anyhow::Error {
    let file = |error: &FileError| matches!(error, FileError::ReadOnly { .. } | FileError::Denied { .. });
    let for_reading = match error.downcast_ref() {
        Some(probe::OpenError::DumpForWriting { .. }) => true,
        Some(probe::OpenError::File(error)) => file(error),
        _ => error.downcast_ref().is_some_and(file),
    };
    if !for_reading {
        return error;
    }
    let undo = if with_undo { " (without --undo)" } else { "" };
    let failure = Failure::new("read-only", format!("{error:#}"));
    failure
        .hint(format!("`gmfs repair IMAGE -o FILE`{undo} repairs a copy of the region, and leaves IMAGE as it is"))
        .into()
}

/// An image that a command is about to write, or, in a dry run, one that takes writes into memory.
pub(crate) struct Opening {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    /// The lock of a dry run. An image that is open for writing holds its lock itself.
    _lock: ReadLock,
}

impl Opening {
    /// The same opening with other bytes: what `through` makes of those of the image. The region has `length` bytes.
    pub(crate) fn map(self, through: impl FnOnce(Box<dyn WriteAt>) -> Box<dyn WriteAt>, length: u64) -> Self {
        let base = self.target.base();
        Self { target: Window::new(through(self.target.into_inner()), base, length), ..self }
    }

    /// Where the region is.
    pub(crate) fn place(&self, args: &TargetArgs) -> Place {
        Place { kind: self.kind, path: args.image.clone(), base: self.target.base() }
    }
}

/// The image, open for writing and locked, cut to the range that --region names; its content is not examined. A dry run
/// opens the image for reading: writes to the metadata stay in memory, and all other writes are dropped. Metadata is
/// that of the region that is there, and that of a region with the layout `also`, which is to replace it.
pub(crate) fn whole(args: &TargetArgs, also: Option<Geometry>, ctx: &Ctx) -> Result<Opening> {
    let image = args.as_image();
    if !args.dry_run {
        let (kind, target) = for_writing(&image, ctx)?;
        return Ok(Opening { kind, target, _lock: ReadLock::default() });
    }
    let found = image.spec().locate_for_dry_run(also, &image.wait.locking(None), &Watching::new(ctx));
    let (kind, target, lock) = found.map_err(told)?;
    let opening = Opening { kind, target, _lock: lock };
    details::target(&opening.place(args), Some(opening.target.size()), true, ctx);
    Ok(opening)
}

/// Refuses to change a region that is damaged: the change would be based on wrong metadata.
fn require_sound(target: &Target, ctx: &Ctx) -> Result<()> {
    let look = Look { data: false, progress: false, region: None };
    if let Some(layout) = layout_instead(target) {
        return Err(told(gmfs::Error::NotNative(layout)));
    }
    let report = repairing::check_region(target, look, 1, ctx)?;
    let damaged = report.verdict() == gmfs_check::Verdict::Damaged;
    let Some(finding) = report.findings.iter().max_by_key(|finding| finding.severity()).filter(|_| damaged) else {
        return Ok(());
    };
    let message = format!("the region is damaged and is not changed ({} {finding})", finding.code());
    Err(Failure::new("damaged", message).hint("`gmfs fsck IMAGE` tells what is wrong and repairs it").into())
}

/// Refuses an image whose region cannot be changed, or is damaged. Nothing is kept open or locked.
pub(crate) fn require_changeable(args: &ImageArgs, ctx: &Ctx) -> Result<()> {
    clock::check()?;
    let (_, target) = for_writing(args, ctx)?;
    require_sound(&target, ctx)
}

/// A region that is being changed.
pub(crate) type Changing<'t> = Writer<&'t mut dyn WriteAt>;

/// Opens the region for changing, lets `work` change it, and closes it, even if `work` failed. What is overwritten is
/// recorded if that is asked for; a dry run changes nothing outside its own memory. Returns what `work` returns, and
/// what it changed.
pub(crate) fn for_change<T>(
    args: &TargetArgs,
    in_use: InUseOk,
    ctx: &mut Ctx,
    work: impl FnOnce(&mut Changing<'_>) -> Result<T, ChangeError>,
) -> Result<(T, Changes)> {
    clock::check()?;
    let cannot = || format!("cannot change the region in {}", args.image.display());
    let mut opening = whole(args, None, ctx).map_err(|error| about(error, "open", &args.image))?;
    let place = opening.place(args);
    require_sound(&opening.target, ctx).with_context(cannot)?;
    let watch = watch(&args.image, &opening.target, in_use);
    let dry_run = args.dry_run;
    recorded(&mut opening.target, args.undo.as_deref(), ctx, |target, ctx| {
        let options =
            WriterOptions { writer: crate::render::WRITER.to_owned(), base: place.address(), clock: clock::now };
        let (mut writer, recovery) = Writer::open(target, options).with_context(cannot)?;
        tell_recovery(&recovery, dry_run, ctx);
        writer.watch(Box::new(watch));
        // Only a JSON answer and a dry run list what has changed.
        let before = (ctx.json || dry_run).then(|| writer.tree().clone());
        let done = work(&mut writer);
        let changes = Changes::new(place, dry_run, before.as_ref(), &writer);
        details::changes(&changes, ctx);
        let closed = writer.close();
        let done = done?;
        closed.context("the change was made, but the region could not be marked as clean")?;
        Ok((done, changes))
    })
}

fn tell_recovery(recovery: &Recovery, dry_run: bool, ctx: &Ctx) {
    if recovery.interrupted || recovery.rolled_back > 0 || recovery.mirrored > 0 {
        ctx.note(&format!(
            "the region was left by a writer that did not finish; {}: {} pages of an unfinished change taken \
             back, {} pages of a finished one carried over",
            if dry_run { "this would be recovered first" } else { "recovered" },
            recovery.rolled_back,
            recovery.mirrored
        ));
    }
}

/// Adds to an error what could not be done to the image. The path is added only if the error does not name it already.
pub(crate) fn about(error: anyhow::Error, doing: &str, image: &Path) -> anyhow::Error {
    let path = image.display().to_string();
    if error.to_string().contains(&path) {
        return error.context(format!("cannot {doing} the image"));
    }
    error.context(format!("cannot {doing} {path}"))
}

fn cannot_open(image: &Path) -> String {
    format!("cannot open the region in {}", image.display())
}

/// The image, open for writing and locked, cut to the region.
pub(crate) fn for_writing(args: &ImageArgs, ctx: &Ctx) -> Result<(Kind, Target)> {
    let found = args.spec().locate_for_writing(&args.wait.locking(None), &Watching::new(ctx));
    let (kind, target) = found.map_err(told)?;
    let place = Place { kind, path: args.image.clone(), base: target.base() };
    details::target(&place, Some(target.size()), false, ctx);
    Ok((kind, target))
}

/// Swaps an image and the file that belongs to it if they were given in the other order: only the first one is such a
/// file then.
pub(crate) fn in_order(image: &mut PathBuf, file: &mut PathBuf, is_file: impl Fn(&Path) -> bool) {
    if is_file(image) && !is_file(file) {
        std::mem::swap(image, file);
    }
}

/// The error for a path that is not in the region.
pub(crate) fn not_found(path: &[u8]) -> Failure {
    let message = format!("there is no '{}' in the region", crate::paths::shown(path));
    Failure::new("not-found", message).hint("`gmfs tree IMAGE` shows what is there")
}
