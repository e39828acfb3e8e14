//! `gmfs vm save`: stops a guest, and keeps its state beside its memory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_image::InUse;
use gmfs_io::Span;
use gmfs_vm::qmp::{Qmp, QmpError};
use gmfs_vm::{SaveError, SaveOptions};
use gmfs_volume::SealOptions;

use super::{InImage, Which};
use crate::clock;
use crate::cmd::{self, sealing};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;
use crate::paths;
use crate::render::json::{self, files, seals, vm};
use crate::render::size;

/// Stop a guest, write its state to DIR/state, seal state and memory, and end QEMU
///
/// Run it right before a kexec. Before the guest is stopped, space for the state is reserved, and it is checked that QEMU is
/// new enough and has DIR/mem as its memory. Until the commit that records the saved state, whatever fails lets the guest go
/// on as it was. A guest that is paused is saved as such, and is paused when it is resumed.
#[derive(Arguments, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// QEMU's QMP socket [default: the recorded one]
    #[arg(long, value_name = "SOCKET")]
    qmp: Option<PathBuf>,
    /// Space to reserve for the state before the guest is stopped
    #[arg(long, value_name = "SIZE", value_parser = cmd::parse_size, default_value = "32M")]
    reserve: u64,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    save(args, ctx).with_context(|| format!("cannot save '{}'", args.which.shown()))
}

fn save(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    interrupt::watch(sealing::KILLED)?;
    let which = &args.which;
    let machine = which.machine();
    let store = which.store(ctx)?;
    let recorded = super::record(&store, &machine)?.and_then(|record| record.socket);
    let in_image = InImage::of(&store);
    drop(store);
    let socket = match (&args.qmp, recorded) {
        (Some(path), _) => super::socket(Some(path), "")?,
        (None, Some(path)) => PathBuf::from(path),
        (None, None) => {
            let failure = Failure::new("no-qemu", "no record says where its QEMU listens");
            return Err(failure.hint("name QEMU's QMP socket: --qmp SOCKET").into());
        }
    };
    let mut qmp = connect(&socket, which)?;
    let began = Instant::now();
    let go_on = || !interrupt::asked();
    let options = SaveOptions {
        reserve: args.reserve,
        owner: cmd::owner(),
        base: in_image.place.base,
        is_image: &|path| which.is_image(path),
        socket: &socket.display().to_string(),
        seal: SealOptions { zero: false, threads: sealing::threads(), progress: &|_| {}, go_on: &go_on },
        now: clock::now(),
    };
    let mut saved = None;
    let mut size = 0;
    let mut parts = Vec::new();
    let changed = which.change(ctx, |writer| {
        parts = in_image.parts(writer, &machine).unwrap_or_default();
        let done = gmfs_vm::save(writer, &machine, &mut qmp, &options);
        if let Ok(record) = &done {
            size = record.saved.as_ref().map_or(0, |saved| saved.state.size);
            saved = Some(record.clone());
        }
        Ok(done)
    });
    let Some(record) = saved else {
        let (done, _) = changed?;
        return Err(done.err().map_or_else(|| Failure::new("vm", "nothing was saved"), |error| of_save(&error)).into());
    };
    // The state is whole, even if the region could not be closed: the guest must not run on.
    end(&mut qmp, &in_image, &parts, which)?;
    let (_, changes) = changed?;
    let running = record.saved.as_ref().is_some_and(|saved| saved.running);
    if ctx.json {
        let (image, store) = seals::subject(&changes);
        let path = files::Path::new(Some(machine.directory()));
        let answer = vm::Saved { image, store, path, state_size: size, memory_size: record.memory.size, running };
        json::print(ctx, "vm-save", &answer)?;
        return Ok(Exit::Done);
    }
    let name = paths::shown(machine.directory());
    let paused = if running { "" } else { "; it was paused, and will be" };
    ctx.success(&format!("{name}: saved, a state of {}{paused}", size::human(size)))?;
    ctx.detail(&format!("the guest was stopped for {} ms at most until QEMU ended", began.elapsed().as_millis()));
    Ok(Exit::Done)
}

/// Connects to QEMU, and refuses one that is too old.
pub(super) fn connect(socket: &Path, which: &Which) -> Result<Qmp, Failure> {
    let qmp = Qmp::connect(socket, which.limit()).map_err(|error| of_qmp(&error))?;
    qmp.version().require().map_err(|error| super::of_version(&error))?;
    Ok(qmp)
}

pub(super) fn of_qmp(error: &QmpError) -> Failure {
    let (code, hint) = match error {
        QmpError::Connect { .. } => ("no-qemu", super::NO_QEMU),
        QmpError::Silent { .. } => {
            ("qmp", "QEMU serves one client at a time: end the other one; --timeout SECONDS waits longer for each step")
        }
        _ => ("qmp", "look at what QEMU says, and try again"),
    };
    super::failure(code, error, hint)
}

fn of_save(error: &SaveError) -> Failure {
    let (code, hint) = super::of_cause(error.cause());
    let hint = match error {
        SaveError::Stuck { .. } => "let it go on by QMP or QEMU's monitor: cont",
        _ => hint,
    };
    Failure::new(code, error.to_string()).hint(hint)
}

/// Ends QEMU, whose guest is saved, and waits until nobody has its memory any more.
fn end(qmp: &mut Qmp, in_image: &InImage, parts: &[Span], which: &Which) -> Result<(), Failure> {
    let still = |why: String| {
        let message = format!("the guest is saved and stopped, but QEMU did not end: {why}");
        Failure::new("qemu-runs", message).hint("end QEMU, and do not let the guest go on: its state would be lost")
    };
    qmp.quit().map_err(|error| still(error.to_string()))?;
    let began = Instant::now();
    loop {
        let found = InUse::find(&in_image.place.path, in_image.whole).unwrap_or_default();
        let user = found.mapped().iter().find(|mapped| parts.iter().any(|part| part.meets(mapped.span)));
        let Some(user) = user else { return Ok(()) };
        if began.elapsed() >= which.limit() {
            return Err(still(format!("{} has its memory mapped", user.process)));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
