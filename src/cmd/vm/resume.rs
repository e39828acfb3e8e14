//! `gmfs vm resume`: lets a guest that was saved go on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::Store;
use gmfs::changes::Changes;
use gmfs::verify::{Options, State, verify};
use gmfs_image::lock::usage::UsageLock;
use gmfs_io::Span;
use gmfs_vm::qmp::{Qmp, QmpError};
use gmfs_vm::{LoadOptions, Machine, Record, Refused, ResumeError, arguments};

use super::save::{connect, of_qmp};
use super::{InImage, Where, Which, failure};
use crate::clock;
use crate::cmd::{self, sealing};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, Changing};
use crate::paths;
use crate::render::json::{self, files, seals, vm};
use crate::render::{size, time};

/// The pause between two attempts to connect to a QEMU that starts.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a QEMU that has closed its connection may take until its process has ended.
const DYING: Duration = Duration::from_secs(1);

/// Prove that a saved guest's memory and state are unchanged, and let it go on
///
/// All of the memory is compared with its seals first. Then QEMU is started with the recorded arguments in the recorded
/// directory, or with those after -- in this one, and loads the state; that the state is used is committed before the guest runs, so that no crash lets it be used twice.
/// gmfs stays until QEMU ends, with the same exit status; with -daemonize among its arguments QEMU goes on in the
/// background. With --qmp, the guest is given to a QEMU that was started with the arguments of `gmfs map --vmm qemu`, -m, -S
/// and -incoming defer.
#[derive(Arguments, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) which: Which,
    /// Give the guest to the QEMU that listens there, instead of starting one
    #[arg(long, value_name = "SOCKET", conflicts_with = "command")]
    pub(super) qmp: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// QEMU and its arguments [default: those of `gmfs vm run`]
    #[arg(last = true, value_name = "QEMU ARGS", value_hint = clap::ValueHint::CommandWithArguments)]
    pub(super) command: Vec<OsString>,
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    resume(args, ctx).with_context(|| format!("cannot resume '{}'", args.which.shown()))
}

/// How QEMU is come by.
enum Source {
    Listens(PathBuf),
    Started { words: Vec<String>, directory: Option<PathBuf>, socket: PathBuf },
}

/// A QEMU, which ends with this unless it is kept.
struct Running {
    qmp: Qmp,
    child: Option<Child>,
}

impl Running {
    /// Ends it. Gives how it has ended, if it has done so by itself and not well.
    fn abandon(mut self, has_closed: bool) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let mut status = None;
        if has_closed {
            let began = Instant::now();
            while status.is_none() && began.elapsed() < DYING {
                std::thread::sleep(PAUSE);
                status = child.try_wait().ok()?;
            }
        } else {
            // One that has gone into the background ends by this only.
            let _ = self.qmp.quit();
        }
        let _ = child.kill();
        let _ = child.wait();
        status.filter(|status| !status.success())
    }
}

fn resume(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let which = &args.which.at;
    let machine = args.which.machine();
    let store = which.store(ctx)?;
    let record = {
        let region = store.native().map_err(open::told)?;
        let tree = region.inodes().tree;
        gmfs_vm::check(region, &tree, &machine).map_err(|error| of_refused(&error))?
    };
    let source = source(args, &record, &machine)?;
    require_same(&store, &machine)?;
    let in_image = InImage::of(&store);
    drop(store);
    let image = which.image_for_qemu()?;
    let options = LoadOptions {
        owner: cmd::owner(),
        base: in_image.place.base,
        is_image: &|path| which.is_image(path),
        now: clock::now(),
    };
    let (mut running, mut is_loaded, mut has_closed) = (None, false, false);
    let changed = which.change(ctx, |writer| {
        // It may have been changed, or resumed, since it was read.
        match gmfs_vm::check(&writer.region(), writer.tree(), &machine) {
            Ok(again) if again == record => {}
            Ok(_) => return Ok(Err(Failure::new("changed", "it was saved again meanwhile").hint("resume it again"))),
            Err(error) => return Ok(Err(of_refused(&error))),
        }
        let started = start(writer, &machine, &record, &source, &in_image, &image, which);
        let mut qemu = match started {
            Ok(qemu) => qemu,
            Err(failure) => return Ok(Err(failure)),
        };
        let loaded = gmfs_vm::load(writer, &machine, &record, &mut qemu.qmp, &options);
        running = Some(qemu);
        is_loaded = loaded.is_ok();
        has_closed = matches!(loaded, Err(ResumeError::Qmp(QmpError::Closed { .. })));
        Ok(loaded.map(drop).map_err(|error| of_resume(&error)))
    });
    let Some(mut qemu) = running else {
        changed?.0?;
        return Err(Failure::new("vm", "QEMU was not started").into());
    };
    let changed = changed.and_then(|(done, changes)| Ok(done.map(|()| changes)?));
    if !is_loaded {
        let ended = qemu.abandon(has_closed);
        let failed = changed.map(|_| Exit::Failed);
        return match ended {
            Some(status) => failed.with_context(|| format!("QEMU ended: {status}")),
            None => failed,
        };
    }
    // The state counts as used: the guest goes on, even if the region could not be closed.
    let running = record.saved.as_ref().is_some_and(|saved| saved.running);
    if running {
        qemu.qmp.go_on().map_err(|error| {
            let message = format!("the guest is loaded, its state counts as used, and it is still paused: {error}");
            Failure::new("qmp", message).hint("let it go on by QMP or QEMU's monitor: cont")
        })?;
    }
    tell(&changed?, &machine, running, ctx)?;
    stay(qemu)
}

/// Says that the guest runs again, or is paused as it was saved.
fn tell(changes: &Changes, machine: &Machine, running: bool, ctx: &mut Ctx) -> Result<()> {
    let name = paths::shown(machine.directory());
    if ctx.json {
        let (image, store) = seals::subject(changes);
        let path = files::Path::new(Some(machine.directory()));
        json::print(ctx, "vm-resume", &vm::Resumed { image, store, path, running })?;
    } else {
        ctx.success(&format!("{name}: {}", if running { "runs again" } else { "loaded, and paused as it was saved" }))?;
    }
    Ok(ctx.finish()?)
}

/// Waits until a QEMU that was started here ends.
fn stay(qemu: Running) -> Result<Exit> {
    let Running { qmp, child } = qemu;
    // Another client may talk to QEMU from here on.
    drop(qmp);
    let Some(mut child) = child else { return Ok(Exit::Done) };
    let status = child.wait().context("cannot wait for QEMU")?;
    if status.success() {
        return Ok(Exit::Done);
    }
    Err(Failure::new("qemu", format!("QEMU ended after the guest had gone on: {status}")).into())
}

/// Decides how QEMU is come by, and refuses one that is too old.
fn source(args: &Args, record: &Record, machine: &Machine) -> Result<Source> {
    if let Some(path) = &args.qmp {
        return Ok(Source::Listens(super::socket(Some(path), "", machine)?));
    }
    let (mut words, directory) = match args.command.is_empty() {
        true => (record.command.clone(), record.directory.as_ref().map(PathBuf::from)),
        false => (super::words(&args.command)?, None),
    };
    if let Some(missing) = directory.as_ref().filter(|directory| !directory.is_dir()) {
        let message = format!("there is no directory {}, in which its QEMU was started", missing.display());
        let hint = "make or mount it; or name QEMU and its arguments after --, to start it in this directory";
        return Err(Failure::new("arguments", message).hint(hint).into());
    }
    let Some(program) = words.first_mut() else {
        let failure = Failure::new("arguments", "no record says how its QEMU is started");
        return Err(failure.hint("name QEMU and its arguments after --, or its socket by --qmp SOCKET").into());
    };
    // A name with a slash is relative to the directory, and any other is looked for in PATH.
    if let Some(directory) = directory.as_ref().filter(|_| program.contains('/')) {
        *program = directory.join(&program).into_os_string().into_string().unwrap_or_default();
    }
    super::require_version(program, args.which.at.limit())?;
    let socket = record.socket.as_ref().map(PathBuf::from);
    let socket = super::socket(socket.as_deref(), &record.region, machine)?;
    if let Some(directory) = socket.parent().filter(|directory| *directory == Path::new("/run/gmfs")) {
        // A new kernel starts with an empty /run.
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    Ok(Source::Started { words, directory, socket })
}

/// Compares memory and state with their seals.
fn require_same(store: &Store, machine: &Machine) -> Result<()> {
    let region = store.native().map_err(open::told)?;
    let tree = region.inodes().tree;
    let paths = [machine.memory(), machine.state()];
    let wanted: Vec<_> = paths.iter().filter_map(|path| tree.resolve(path)).collect();
    let options = Options { threads: sealing::threads(), progress: &|_, _| {} };
    for file in verify(store, &wanted, &options).map_err(open::told)? {
        let shown = paths::shown(&tree.path(file.ino).unwrap_or_default());
        let first = file.ranges.first().map(|range| {
            let bytes = size::range(range.offset, range.offset.saturating_add(range.length));
            let address = store.place.base.saturating_add(range.at);
            format!(", first {bytes}, at {}", size::hex(address))
        });
        let message = match file.state {
            State::Same => continue,
            State::Changed => format!(
                "'{shown}' has changed since the guest was saved: {}{}",
                size::count(file.changed, "block"),
                first.unwrap_or_default()
            ),
            state => format!("'{shown}' cannot be compared with its seals: {}", state.name()),
        };
        let hint = "`gmfs verify IMAGE DIR` names all that differs; the guest is lost if its memory did not survive";
        return Err(Failure::new("changed", message).hint(hint).into());
    }
    Ok(())
}

/// Comes by a QEMU that waits for a guest, and has locked the memory.
fn start(
    writer: &Changing<'_>,
    machine: &Machine,
    record: &Record,
    source: &Source,
    in_image: &InImage,
    image: &str,
    which: &Where,
) -> Result<Running, Failure> {
    let parts = in_image.parts(writer, machine)?;
    match source {
        Source::Listens(socket) => {
            let mut qmp = connect(socket, which)?;
            lock_for(&mut qmp, in_image, &parts)?;
            Ok(Running { qmp, child: None })
        }
        Source::Started { words, directory, socket } => {
            let lock = in_image.lock(&parts)?;
            let added = in_image.arguments(image, record.memory.ino, &parts)?;
            let listen = arguments::listen(socket).map_err(|error| super::of_arguments(&error))?;
            let inherit = |error| Failure::new("lock", format!("cannot give the lock to QEMU: {error}"));
            lock.let_inherit().map_err(inherit)?;
            let (program, given) = words.split_first().ok_or_else(|| Failure::new("usage", "no program is named"))?;
            let mut command = Command::new(program);
            command.args(given).args(added).args(listen).args(arguments::RESUME);
            if let Some(directory) = directory {
                command.current_dir(directory);
            }
            let child = command.spawn();
            let mut child = child.map_err(|error| Failure::new("qemu", format!("cannot run {program}: {error}")))?;
            match wait_for(&mut child, socket, which) {
                Ok(qmp) => Ok(Running { qmp, child: Some(child) }),
                Err(failure) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    Err(failure)
                }
            }
        }
    }
}

/// Locks the memory for a QEMU that somebody else has started, which holds the lock from then on. It has the memory mapped.
fn lock_for(qmp: &mut Qmp, in_image: &InImage, parts: &[Span]) -> Result<(), Failure> {
    let lock = UsageLock::take(&in_image.place.path, in_image.whole, parts)
        .map_err(|error| failure("mapped", &error, "a guest's memory has one VMM only: end the other one first"))?;
    for (n, descriptor) in lock.descriptors().enumerate() {
        qmp.give(&format!("gmfs-usage-{n}"), descriptor).map_err(|error| of_qmp(&error))?;
    }
    Ok(())
}

/// Connects to a QEMU that starts.
fn wait_for(child: &mut Child, socket: &Path, which: &Where) -> Result<Qmp, Failure> {
    let began = Instant::now();
    loop {
        let error = match Qmp::connect(socket, which.limit()) {
            Ok(qmp) => return Ok(qmp),
            Err(error @ QmpError::Connect { .. }) if began.elapsed() < which.limit() => error,
            Err(error) => return Err(of_qmp(&error)),
        };
        match child.try_wait() {
            // It may have gone into the background.
            Ok(Some(status)) if !status.success() => {
                let message = format!("QEMU ended before it took the state, which was not used: {status}");
                return Err(Failure::new("qemu", message).hint("see what QEMU says above"));
            }
            Ok(_) => std::thread::sleep(PAUSE),
            Err(_) => return Err(of_qmp(&error)),
        }
    }
}

fn of_refused(error: &Refused) -> Failure {
    let (code, hint) = match error {
        Refused::NoMachine(_) => ("not-found", "`gmfs vm list IMAGE` shows what is there"),
        Refused::NoState => ("not-saved", "`gmfs vm run IMAGE DIR -- QEMU ARGS` starts it anew"),
        Refused::Used { at } => {
            let message = format!("{error} (since {})", time::human(*at));
            let hint = "`gmfs vm list IMAGE` shows whether it runs; `gmfs vm run` starts it anew";
            return Failure::new("used", message).hint(hint);
        }
        Refused::OtherFile(_) => ("other-memory", "put the memory back that it was saved with: no other one fits"),
        Refused::OtherSeal(_) => ("other-memory", "only what was there when the guest was saved can be resumed"),
        Refused::Record(_) => ("record", super::RECORD),
        _ => ("memory", "`gmfs fsck IMAGE` tells what is wrong"),
    };
    failure(code, error, hint)
}

fn of_resume(error: &ResumeError) -> Failure {
    let (code, hint) = match error {
        ResumeError::Unfit(cause) | ResumeError::Commit(cause) => super::of_cause(cause),
        ResumeError::Status(_) => ("guest-state", "start QEMU with -S -incoming defer"),
        ResumeError::Unseal(_) => ("region", "`gmfs fsck IMAGE` tells whether the region is sound"),
        _ => ("qmp", "look at what QEMU says; the same command tries again, once nobody uses the memory"),
    };
    Failure::new(code, error.to_string()).hint(hint)
}
