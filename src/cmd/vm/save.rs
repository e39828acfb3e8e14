//! `gmfs vm save`: stops a guest, and keeps its state beside its memory.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs::Store;
use gmfs_io::Span;
use gmfs_vm::qmp::Qmp;
use gmfs_vm::{Cause, InImage, Machine, Record, SaveError, SaveOptions};
use gmfs_volume::{ChangeError, SealOptions};

use super::{Where, failure};
use crate::clock;
use crate::cmd::{self, Tried, sealing};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::interrupt;
use crate::open;
use crate::paths;
use crate::render::json::{self, files, vm};
use crate::render::progress::Progress;
use crate::render::size;
use crate::report;

/// Stop a guest, write its state to DIR/state, seal state and memory, and end QEMU
///
/// Run it right before a kexec. Before the guest is stopped, space for the state is reserved, and it is checked that QEMU is
/// new enough and has DIR/mem as its memory. Until the commit that records the saved state, whatever fails lets the guest go
/// on as it was. A guest that is paused is saved as such, and is paused when it is resumed.
///
/// With --all, every guest of the region that runs is saved, one after the other, and QEMU ends only when all are. If one
/// cannot be saved, those that were stopped already go on, and nothing is saved; with --keep-going, the others are saved, and
/// the exit status is 2.
#[derive(Arguments, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    at: Where,
    /// The virtual machine's directory in the region
    #[arg(value_name = "DIR", value_parser = cmd::region_path(), required_unless_present = "all")]
    directory: Option<OsString>,
    /// Save all guests of the region that run
    #[arg(short, long, conflicts_with_all = ["directory", "qmp"])]
    all: bool,
    /// Save the others if one cannot be saved
    #[arg(short, long, requires = "all")]
    keep_going: bool,
    /// QEMU's QMP socket [default: the recorded one]
    #[arg(long, value_name = "SOCKET")]
    qmp: Option<PathBuf>,
    /// Space to reserve for the state of each guest before it is stopped
    #[arg(long, value_name = "SIZE", value_parser = cmd::parse_size, default_value = "32M")]
    reserve: u64,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A guest that is saved, and whose QEMU is still there.
struct Held {
    machine: Machine,
    record: Record,
    qmp: Qmp,
    /// Its memory, in bytes of the image.
    parts: Vec<Span>,
    began: Instant,
}

impl Held {
    fn shown(&self) -> String {
        paths::shown(self.machine.directory())
    }

    fn saved(&self) -> (u64, bool) {
        self.record.saved.as_ref().map_or((0, false), |saved| (saved.state.size, saved.running))
    }
}

/// How far the sealing of all guests is.
struct Sealing {
    progress: Progress,
    done: Cell<u64>,
    total: u64,
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    interrupt::watch(sealing::KILLED)?;
    let store = args.at.store(ctx)?;
    let in_image = InImage::of(&store);
    let machines = match &args.directory {
        Some(directory) => vec![Machine::new(paths::bytes(directory))],
        None => running(&store, &in_image)?,
    };
    let total = {
        let tree = store.native().map_err(open::told)?.inodes().tree;
        machines.iter().filter_map(|machine| tree.resolve(&machine.memory())).map(|inode| inode.size).sum()
    };
    let subject = ((&store.place).into(), (&store).into());
    drop(store);
    let sealing = Sealing { progress: Progress::new(ctx, "sealing", 0), done: Cell::new(0), total };
    let mut tried = Tried::default();
    let mut held = Vec::new();
    for machine in machines {
        let shown = paths::shown(machine.directory());
        let saved = hold(args, machine, &in_image, &sealing, ctx);
        let saved = saved.with_context(|| format!("cannot save '{shown}'"));
        let failed = saved.is_err();
        held.extend(tried.add(saved));
        if failed && !args.keep_going {
            break;
        }
    }
    sealing.progress.done();
    if !args.keep_going && tried.has_failed() {
        for guest in held {
            let_go(args, guest, &in_image, ctx);
        }
        tried.nothing_done();
        return tried.end().map(|_| Exit::Failed);
    }
    let mut guests = Vec::new();
    for mut guest in held {
        let shown = guest.shown();
        let ended = end(&mut guest.qmp, &in_image, &guest.parts, &args.at);
        tried.add(ended.with_context(|| format!("'{shown}'")));
        let (state_size, running) = guest.saved();
        if !ctx.json {
            let paused = if running { "" } else { "; it was paused, and will be" };
            ctx.success(&format!("{shown}: saved, a state of {}{paused}", size::human(state_size)))?;
            let stopped = guest.began.elapsed().as_millis();
            ctx.detail(&format!("{shown} was stopped for {stopped} ms at most until QEMU ended"));
        }
        let path = files::Path::new(Some(guest.machine.directory()));
        guests.push(vm::SavedGuest { path, memory_size: guest.record.memory.size, state_size, running });
    }
    if guests.is_empty() && !ctx.json {
        ctx.note("no guest of the region runs");
    }
    let failed = tried.end()?;
    if ctx.json {
        let (image, store) = subject;
        json::print(ctx, "vm-save", &vm::Saved { image, store, guests })?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// The virtual machines whose memory is in use.
fn running(store: &Store, in_image: &InImage) -> Result<Vec<Machine>> {
    let region = store.native().map_err(open::told)?;
    let tree = region.inodes().tree;
    let found = in_image.users().context("cannot tell which guests run")?;
    let runs = |machine: &Machine| machine.is_used(region, &tree, in_image, &found);
    Ok(Machine::all(&tree).filter(runs).collect())
}

/// Stops and saves a guest. Its QEMU is still there.
fn hold(args: &Args, machine: Machine, in_image: &InImage, sealing: &Sealing, ctx: &mut Ctx) -> Result<Held> {
    let store = args.at.store(ctx)?;
    let recorded = super::record(&store, &machine)?.and_then(|record| record.socket);
    drop(store);
    let socket = match (&args.qmp, recorded) {
        (Some(path), _) => super::socket(Some(path), "", &machine)?,
        (None, Some(path)) => PathBuf::from(path),
        (None, None) => {
            let failure = Failure::new("no-qemu", "no record says where its QEMU listens");
            return Err(failure.hint("name QEMU's QMP socket: --qmp SOCKET").into());
        }
    };
    let mut qmp = gmfs_vm::connect(&socket, args.at.limit()).map_err(|error| super::of_launch(&error))?;
    let began = Instant::now();
    let go_on = || !interrupt::asked();
    let count = |bytes: u64| {
        sealing.done.set(sealing.done.get().saturating_add(bytes));
        sealing.progress.at_of(sealing.done.get(), sealing.total.max(sealing.done.get()));
    };
    let options = SaveOptions {
        reserve: args.reserve,
        owner: cmd::owner(),
        in_image,
        socket: &socket.display().to_string(),
        seal: SealOptions { zero: false, threads: sealing::threads(), progress: &count, go_on: &go_on },
        now: clock::now(),
    };
    let mut saved = None;
    let mut parts = Vec::new();
    let changed = args.at.change(ctx, |writer| {
        parts = in_image.memory(&writer.region(), writer.tree(), &machine).unwrap_or_default();
        let done = gmfs_vm::save(writer, &machine, &mut qmp, &options);
        saved = done.as_ref().ok().cloned();
        Ok(done)
    });
    let Some(record) = saved else {
        let (done, _) = changed?;
        return Err(done.err().map_or_else(|| Failure::new("vm", "nothing was saved"), |error| of_save(&error)).into());
    };
    if let Err(error) = changed {
        // The state is whole all the same: the guest must not run on.
        report::tell(&error);
    }
    Ok(Held { machine, record, qmp, parts, began })
}

/// Lets a guest go on that was saved, because another one was not.
fn let_go(args: &Args, mut guest: Held, in_image: &InImage, ctx: &mut Ctx) {
    let shown = guest.shown();
    let (machine, record) = (&guest.machine, &guest.record);
    let taken_back = args.at.change(ctx, |writer| {
        let done = gmfs_vm::take_back(writer, machine, record, cmd::owner());
        Ok(done.map_err(|cause| failure(super::of_cause(&cause).0, &cause, super::of_cause(&cause).1)))
    });
    let taken_back = taken_back.and_then(|(done, _)| Ok(done?));
    if let Err(error) = taken_back {
        ctx.warn(&format!("{shown} stays saved, and its QEMU ends: {}", printable(&format!("{error:#}"))));
        if let Err(error) = end(&mut guest.qmp, in_image, &guest.parts, &args.at) {
            report::tell(&error.into());
        }
        return;
    }
    let (_, running) = guest.saved();
    let after = if running { guest.qmp.go_on() } else { Ok(()) };
    // The guest goes on whether or not QEMU's settings are what they were.
    let _ = guest.qmp.take_memory();
    match after {
        Ok(()) if running => ctx.note(&format!("{shown} goes on, and is not saved")),
        Ok(()) => ctx.note(&format!("{shown} is paused as before, and is not saved")),
        Err(error) => {
            let failure = of_save(&SaveError::Stuck { cause: Cause::Change(ChangeError::Stopped), after: error });
            report::tell(&anyhow::Error::from(failure).context(format!("'{shown}'")));
        }
    }
}

fn of_save(error: &SaveError) -> Failure {
    let (code, hint) = super::of_cause(error.cause());
    let hint = match error {
        SaveError::Stuck { .. } => "let it go on by QMP or QEMU's monitor: cont",
        SaveError::StaysPaused(_) => "QEMU may refuse to save it again before it has run for a moment (cont, stop)",
        _ => hint,
    };
    Failure::new(code, error.to_string()).hint(hint)
}

/// Ends QEMU, whose guest is saved, and waits until nobody has its memory any more.
fn end(qmp: &mut Qmp, in_image: &InImage, parts: &[Span], which: &Where) -> Result<(), Failure> {
    gmfs_vm::end(qmp, in_image, parts, which.limit()).map_err(|error| {
        let message = format!("the guest is saved and stopped, but QEMU did not end: {error}");
        Failure::new("qemu-runs", message).hint("end QEMU, and do not let the guest go on: its state would be lost")
    })
}
