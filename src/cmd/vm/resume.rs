//! `gmfs vm resume`: lets a guest that was saved go on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::changes::Changes;
use gmfs_vm::{
    InImage, LoadOptions, Machine, NotResumed, ProofError, Qemu, Record, Refused, ResumeError, SOCKETS, Source, Start,
};

use super::{Which, failure};
use crate::clock;
use crate::cmd::{self, sealing};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open;
use crate::paths;
use crate::render::json::{self, files, seals, vm};
use crate::render::time;

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
    gmfs_vm::require_unchanged(&store, &machine, sealing::threads()).map_err(of_proof)?;
    let in_image = InImage::of(&store);
    drop(store);
    super::require_name(&in_image)?;
    let options = LoadOptions { owner: cmd::owner(), in_image: &in_image, now: clock::now() };
    let (mut loaded, mut ended) = (None, None);
    let changed = which.change(ctx, |writer| {
        Ok(match gmfs_vm::resume(writer, &machine, &record, &source, which.limit(), &options) {
            Ok(qemu) => {
                loaded = Some(qemu);
                Ok(())
            }
            Err(error) => {
                ended = if let NotResumed::Load { ended, .. } = &error { *ended } else { None };
                Err(of_not_resumed(&error))
            }
        })
    });
    let changed = changed.and_then(|(done, changes)| Ok(done.map(|()| changes)?));
    let Some(mut qemu) = loaded else {
        let failed = changed.map(|_| Exit::Failed);
        return match ended {
            Some(status) => failed.with_context(|| format!("QEMU ended: {status}")),
            None => failed,
        };
    };
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
fn stay(qemu: Qemu) -> Result<Exit> {
    match qemu.stay().context("cannot wait for QEMU")? {
        Some(status) if !status.success() => {
            Err(Failure::new("qemu", format!("QEMU ended after the guest had gone on: {status}")).into())
        }
        _ => Ok(Exit::Done),
    }
}

/// Decides how QEMU is come by, and refuses one that is too old.
fn source(args: &Args, record: &Record, machine: &Machine) -> Result<Source> {
    if let Some(path) = &args.qmp {
        return Ok(Source::Listens(super::socket(Some(path), "", machine)?));
    }
    // The socket is settled last: nothing is made for a QEMU that cannot be started.
    let start = match args.command.is_empty() {
        true => Start::recorded(record, PathBuf::new()),
        false => Start::new(super::words(&args.command)?, PathBuf::new()),
    };
    let start = start.map_err(|error| super::of_launch(&error))?;
    start.require_version(args.which.at.limit()).map_err(|error| super::of_version(&error))?;
    let socket = record.socket.as_ref().map(PathBuf::from);
    let socket = super::socket(socket.as_deref(), &record.region, machine)?;
    if let Some(directory) = socket.parent().filter(|directory| *directory == Path::new(SOCKETS)) {
        // A new kernel starts with an empty /run.
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    Ok(Source::Started(Start { socket, ..start }))
}

/// Why memory and state are not proven to be what they were.
fn of_proof(error: ProofError) -> anyhow::Error {
    match error {
        ProofError::Store(error) => open::told(error),
        error => {
            let hint =
                "`gmfs verify IMAGE DIR` names all that differs; the guest is lost if its memory did not survive";
            Failure::new("changed", error.to_string()).hint(hint).into()
        }
    }
}

fn of_not_resumed(error: &NotResumed) -> Failure {
    match error {
        NotResumed::Refused(error) => of_refused(error),
        NotResumed::SavedAgain => Failure::new("changed", error.to_string()).hint("resume it again"),
        NotResumed::Parts(error) => super::of_parts(error),
        NotResumed::Launch(error) => super::of_launch(error),
        NotResumed::Load { error, .. } => of_resume(error),
        _ => Failure::new("vm", error.to_string()),
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
