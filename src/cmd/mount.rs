//! `gmfs mount`: the files of a store in a directory, by FUSE.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueHint};
use gmfs::{ImageSpec, Store};
use gmfs_fuse::{Access, Files, Trouble, Writable, mounts};
use gmfs_image::OpenError;
use gmfs_io::Span;
use gmfs_volume::WriterOptions;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::clock;
use crate::ctx::{self, Ctx};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::in_use::InUseOk;
use crate::open::{self, ReadArgs};
use crate::{locate, multicall, paths};

/// Show the files of a region in a directory, by FUSE
///
/// Programs then read them as any files. It works with every image and every layout that gmfs reads. What the image does not hold, or
/// what is lost, is an error (EIO) and a line in the log, never zeros. An idle mount holds no lock, and what other commands of gmfs
/// change in the region shows in the mount.
///
/// With -o rw programs also change the files of a region of gmfs's own layout in a file or a device: they create, write, rename and
/// remove them, and set their modes, owners and times. Each change is a commit: a crash leaves it made or not made. What is written
/// where a file has memory already changes at once; the file's new size and time are recorded when it is closed or flushed by
/// fsync(2), and its seals are dropped before. Memory that a guest uses is not freed and not overwritten (EBUSY, and a line in the log).
/// There are no links and no special files.
///
/// The command returns when the directory is mounted, and a process of it stays in the background until umount(8) or `gmfs umount`. Its
/// log goes to the system's log. In /etc/fstab the type is gmfs or fuse.gmfs: mount(8) calls mount.gmfs or mount.fuse.gmfs. mount(8)
/// asks for rw unless ro is given, so give ro for what can only be read. A guest must not run from the memory that files have
/// here: a program that maps such a file gets pages of the page cache, which are copies. `gmfs map` tells where files are in memory.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs mount region.img /mnt
  gmfs mount region.img /mnt -o rw
  gmfs mount vmcore /mnt --foreground
  gmfs mount /dev/mem /mnt -o region=64G:0x1000000000,allow_other")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// The directory to mount on
    #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
    /// Stay in the foreground, with the log on standard error; an interrupt unmounts
    #[arg(long)]
    foreground: bool,
    /// Options as mount(8) has them, separated by commas
    ///
    /// ro: read-only, which is the default. rw: files can be changed. allow_other: other users may use it too, as far as the modes of
    /// the files allow. exec: programs in it can be run. no_lock, region=SIZE:BASE, wait=SECONDS, log=FILE: as the options with these
    /// names. Those that mount(8) keeps for itself, such as noauto, nofail, _netdev and x-systemd.automount, are accepted.
    #[arg(short = 'o', long = "options", value_name = "OPTION", value_delimiter = ',')]
    options: Vec<String>,
    /// Append the log to this file instead
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    log: Option<PathBuf>,
    /// The process in the background.
    #[arg(long, hide = true)]
    in_background: bool,
    /// What mount(8) hands over: be tolerant, write no mtab, do all but mount, the type.
    #[arg(short = 's', hide = true)]
    sloppy: bool,
    #[arg(short = 'n', hide = true)]
    no_mtab: bool,
    #[arg(short = 'f', hide = true)]
    fake: bool,
    #[arg(short = 't', hide = true, value_name = "TYPE")]
    kind: Option<String>,
}

/// Options of mount(8) that say nothing to a filesystem, or what a mount is anyway.
const NOTHING_TO_DO: [&str; 20] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nousers",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "nodev",
    "nosuid",
    "noexec",
    "noatime",
    "nodiratime",
    "norelatime",
    "nolazytime",
    "async",
    "",
];

/// What the options come to.
struct Wanted {
    image: ReadArgs,
    log: Option<PathBuf>,
    access: Access,
}

impl Wanted {
    fn of(args: &Args) -> Result<Self, Failure> {
        let access = Access::default();
        let mut wanted = Self { image: args.image.clone(), log: args.log.clone(), access };
        for option in &args.options {
            let (name, value) =
                option.split_once('=').map_or((option.as_str(), None), |(name, value)| (name, Some(value)));
            let bad = |why: &str| Failure::new("usage", format!("the mount option '{option}' {why}"));
            match (name, value) {
                ("ro", None) => wanted.access.writable = false,
                ("rw", None) => wanted.access.writable = true,
                ("allow_other", None) => wanted.access.everybody = true,
                ("exec", None) => wanted.access.programs = true,
                ("noexec", None) => wanted.access.programs = false,
                // The mount's user, as mount(8) hands it over.
                ("user", Some(_)) => {}
                ("remount", None) => {
                    return Err(bad("is not possible").hint("unmount it, and mount it again with other options"));
                }
                ("no_lock", None) => wanted.image.no_lock = true,
                ("region", Some(value)) => {
                    let region = locate::parse_region(value).map_err(|error| bad(&format!("is no range: {error}")))?;
                    wanted.image.of.region = Some(region);
                }
                ("wait", Some(value)) => {
                    wanted.image.of.wait.wait = value.parse().map_err(|_| bad("has no number of seconds"))?;
                }
                ("log", Some(value)) => wanted.log = Some(value.into()),
                (name, None) if NOTHING_TO_DO.contains(&name) => {}
                (name, _) if name.starts_with("x-") || name == "comment" => {}
                _ if args.sloppy => {}
                _ => return Err(bad("is not known").hint("`gmfs mount --help` lists those that are")),
            }
        }
        if wanted.access.writable && wanted.image.no_lock {
            let failure =
                Failure::new("usage", "a region is not changed without locks: rw and no_lock exclude each other");
            return Err(failure.hint("leave one of them out"));
        }
        Ok(wanted)
    }
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let cannot = || format!("cannot mount {}", args.image.image.display());
    let wanted = Wanted::of(args).with_context(cannot)?;
    let directory =
        args.directory.canonicalize().with_context(|| format!("cannot mount on {}", args.directory.display()))?;
    if !directory.is_dir() {
        let failure = Failure::new("not-directory", format!("'{}' is not a directory", args.directory.display()));
        return Err(failure).with_context(cannot);
    }
    if !args.foreground && !args.in_background && !args.fake {
        return in_background().with_context(cannot);
    }
    if wanted.access.writable {
        open::require_changeable(&wanted.image, ctx)
            .map_err(only_to_read)
            .with_context(|| format!("cannot mount {} for changing", args.image.image.display()))?;
    }
    let store = open::store(&wanted.image, ctx)?;
    let exit = tell(&store, ctx).with_context(cannot)?;
    if args.fake {
        return Ok(exit);
    }
    let log = Log::open(wanted.log.as_deref(), args.in_background)?;
    let image = wanted.image.spec().absolute().map_err(open::told)?;
    let name = image.path.to_string_lossy().into_owned();
    let wait = (!wanted.image.no_lock).then(|| Duration::from_secs(u64::from(wanted.image.wait.wait)));
    let report = Box::new(move |trouble: &Trouble| log.write(&said(trouble)));
    let writable = wanted.access.writable.then(|| writable(&image, &store));
    let mut files = Files::new(image, store, wait, super::owner(), report);
    if let Some(writable) = writable {
        files = files.writable(writable).context("cannot start a thread").with_context(cannot)?;
    }
    // Watched before others see the mount: the signal that ends a program without a handler would leave it mounted.
    let asked = asked_to_end()?;
    let mount =
        gmfs_fuse::mount(files, &directory, &name, wanted.access).map_err(|error| without_fuse(error, &directory));
    let mount = mount.with_context(cannot)?;
    mounts::read_ahead(&directory);
    unmount_when(asked, &directory)?;
    if args.in_background {
        ctx.line(MOUNTED)?;
        ctx.finish()?;
        detach()?;
    } else {
        ctx.note(&format!("{name} is mounted on {}; an interrupt unmounts it", directory.display()));
    }
    mount.run().with_context(|| format!("the mount on {} ended", directory.display()))?;
    Ok(exit)
}

/// What a mount needs to change the region.
fn writable(image: &ImageSpec, store: &Store) -> Writable {
    let span = Span::new(store.place.base, store.size());
    let watch = InUseOk { in_use_ok: false }.watch(&image.path, span);
    let base = store.place.address();
    let options = WriterOptions { writer: crate::render::WRITER.to_owned(), base, clock: clock::now };
    Writable { options, watch }
}

/// What to do with an image that cannot be changed.
fn only_to_read(error: anyhow::Error) -> anyhow::Error {
    let code = error.downcast_ref::<Failure>().map(Failure::code);
    let hint = match (code, error.downcast_ref()) {
        (Some("damaged"), _) => "`gmfs fsck IMAGE` tells what is wrong and repairs it; -o ro mounts it as it is",
        (Some("layout"), _) | (None, Some(OpenError::DumpForWriting { .. })) => "-o ro mounts it for reading",
        _ => return error,
    };
    let code = if code == Some("damaged") { "damaged" } else { "read-only" };
    Failure::new(code, format!("{error:#}")).hint(hint).into()
}

/// What the process in the background prints when the directory is mounted.
const MOUNTED: &str = "mounted";

/// Runs the same command line in a process that stays, and waits until it has mounted, or has said why not.
fn in_background() -> Result<Exit> {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_else(|| "gmfs".into());
    let mut words: Vec<OsString> = words.collect();
    let called = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let command = if multicall::command(called).is_some() {
        0
    } else {
        words.iter().position(|word| word == "mount").map_or(0, |at| at.saturating_add(1))
    };
    words.insert(command, "--in-background".into());
    let mut child = Command::new("/proc/self/exe")
        .arg0(&program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the process that stays in the background")?;
    let mut answer = String::new();
    if let Some(stdout) = child.stdout.take() {
        // A line, and not all of it: the process keeps this end of the pipe.
        BufReader::new(stdout)
            .read_line(&mut answer)
            .context("cannot read what the process in the background answers")?;
    }
    if answer.trim_end() == MOUNTED {
        return Ok(Exit::Done);
    }
    // It has said why.
    child.wait().context("cannot wait for the process in the background")?;
    Ok(Exit::Failed)
}

/// Leaves the terminal, the standard streams and the directory of whoever called.
fn detach() -> Result<()> {
    let context = "cannot go to the background";
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context(context)?;
    std::env::set_current_dir("/").context(context)?;
    // That it leads a session already is as good.
    let _ = rustix::process::setsid();
    rustix::stdio::dup2_stdout(&null).context(context)?;
    rustix::stdio::dup2_stderr(&null).context(context)?;
    Ok(())
}

/// Says what of the store the mount will not show, or shows with a doubt.
fn tell(store: &Store, ctx: &Ctx) -> Result<Exit> {
    let (inodes, mut exit) = super::inodes(store, ctx);
    let tree = &inodes.tree;
    let root = super::at(tree, "/".as_ref())?;
    let mut shown = Vec::new();
    let walked = paths::walk(tree, (root, b"/"), |step| {
        shown.push((step.inode, step.path.clone()));
        Ok::<_, anyhow::Error>(paths::Go::In)
    })?;
    super::tell_hidden(&paths::hidden(tree, root, &walked), "shown", &mut exit, ctx);
    super::tell_doubtful(shown.iter().map(|(inode, path)| (*inode, paths::shown(path))), &mut exit, ctx);
    Ok(exit)
}

/// What to do where FUSE does not work.
fn without_fuse(error: io::Error, directory: &Path) -> anyhow::Error {
    let context = format!("FUSE cannot mount on {}", directory.display());
    let hint = match error.kind() {
        ErrorKind::NotFound => {
            "FUSE needs /dev/fuse (`modprobe fuse`), and without root the program fusermount3 (Debian: fuse3)"
        }
        ErrorKind::PermissionDenied => {
            "without root, the directory must be your own; allow_other needs user_allow_other in /etc/fuse.conf"
        }
        _ => return anyhow::Error::new(error).context(context),
    };
    Failure::new("fuse", format!("{context}: {error}")).hint(hint).into()
}

/// Has a byte for each signal that asked the program to end, from now on.
fn asked_to_end() -> Result<UnixStream> {
    let context = "cannot watch for interrupts";
    let (asked, signals) = UnixStream::pair().context(context)?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, signals.try_clone().context(context)?).context(context)?;
    }
    Ok(asked)
}

/// Unmounts when the program is asked to end. If the mount is in use then, it is taken out of the directory tree the second time.
fn unmount_when(mut asked: UnixStream, directory: &Path) -> Result<()> {
    let directory = directory.to_owned();
    let wait = move || {
        let mut lazy = false;
        let mut byte = [0];
        while asked.read_exact(&mut byte).is_ok() {
            if let Err(error) = mounts::unmount(&directory, lazy) {
                ctx::warn(&format!(
                    "cannot unmount {}: {error}; a second interrupt does not wait",
                    directory.display()
                ));
            }
            lazy = true;
        }
    };
    let thread = std::thread::Builder::new().name(String::from("signals"));
    thread.spawn(wait).context("cannot start a thread that watches for interrupts")?;
    Ok(())
}

/// A line of the log.
fn said(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Damaged => format!("{trouble}: `gmfs fsck IMAGE` tells what is wrong"),
        trouble => trouble.to_string(),
    }
}

/// Where the log goes.
enum Log {
    StandardError,
    File(Mutex<File>),
    System(UnixDatagram),
}

impl Log {
    fn open(file: Option<&Path>, in_background: bool) -> Result<Self> {
        if let Some(path) = file {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.with_context(|| format!("cannot open the log {}", path.display()))?;
            return Ok(Self::File(Mutex::new(file)));
        }
        if !in_background {
            return Ok(Self::StandardError);
        }
        let system = UnixDatagram::unbound().and_then(|socket| socket.connect("/dev/log").map(|()| socket));
        if system.is_err() {
            ctx::note("there is no system log here: --log FILE keeps what could not be read");
        }
        Ok(system.map_or(Self::StandardError, Self::System))
    }

    /// That a line cannot be written is nothing that could be told.
    fn write(&self, text: &str) {
        match self {
            Self::StandardError => ctx::warn(text),
            Self::File(file) => {
                if let Ok(mut file) = file.lock() {
                    let _ = writeln!(file, "gmfs: {text}");
                }
            }
            // A warning of a daemon, as RFC 3164 numbers them.
            Self::System(socket) => {
                let _ = socket.send(format!("<28>gmfs[{}]: {text}", std::process::id()).as_bytes());
            }
        }
    }
}
