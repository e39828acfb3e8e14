//! `gmfs vm run`: starts QEMU with a file of the region as the guest's memory.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_vm::{InImage, PrepareError, PrepareOptions, Version, arguments};

use super::{Which, failure, resume};
use crate::cmd;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open;

/// Start QEMU with a file of the region as the guest's memory
///
/// The file DIR/mem is made unless it exists, at a multiple of 1 GiB if there is room. gmfs locks it, records QEMU's
/// arguments and the working directory in DIR/vm.json, and becomes QEMU, with arguments for the memory (-m, -object, -machine) and for QMP added.
/// While that QEMU runs, gmfs refuses to remove, shrink or overwrite its memory, and to start a second one on it. If DIR/mem
/// exists, the guest boots with what is in it; a guest that was saved is not overwritten.
#[derive(Arguments, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// How much memory the guest has: a number with M, G or T [default: the size of DIR/mem]
    #[arg(short, long, value_name = "SIZE", value_parser = cmd::parse_size)]
    memory: Option<u64>,
    /// Where QEMU listens for QMP [default: a file in /run/gmfs]
    #[arg(long, value_name = "SOCKET")]
    qmp: Option<PathBuf>,
    /// If the guest was saved, let it go on, as `gmfs vm resume IMAGE DIR` does
    ///
    /// With this, one command line of a unit starts the guest the first time and after each kexec. QEMU then gets the recorded
    /// arguments, because the state fits no other machine.
    #[arg(long)]
    resume: bool,
    /// QEMU and its arguments
    #[arg(last = true, required = true, value_name = "QEMU ARGS", value_hint = clap::ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    if args.resume && is_saved(&args.which, ctx)? {
        let which = args.which.clone();
        return resume::run(&resume::Args { which, qmp: None, json: false, command: Vec::new() }, ctx);
    }
    start(args, ctx).with_context(|| format!("cannot run '{}'", args.which.shown()))
}

fn start(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let words = super::words(&args.command)?;
    let [program, given @ ..] = words.as_slice() else {
        return Err(Failure::new("usage", "no program is named").into());
    };
    let at = &args.which.at;
    let version = Version::of_program(Path::new(program), at.limit()).and_then(Version::require);
    version.map_err(|error| super::of_version(&error))?;
    let store = at.store(ctx)?;
    let in_image = InImage::of(&store);
    super::require_name(&in_image)?;
    let name = store.uuid().map(|uuid| uuid.to_string()).unwrap_or_default();
    drop(store);
    let machine = args.which.machine();
    let socket = super::socket(args.qmp.as_deref(), &name, &machine)?;
    arguments::listen(&socket).map_err(|error| super::of_arguments(&error))?;
    // One that cannot be recorded is the user's to go to.
    let directory = std::env::current_dir().ok().and_then(|directory| directory.into_os_string().into_string().ok());
    let (memory, command, owner) = (args.memory, words.clone(), cmd::owner());
    let options = PrepareOptions { memory, command, directory, socket: &socket, owner };
    let (prepared, _) = at.change(ctx, |writer| match gmfs_vm::prepare(writer, &machine, &in_image, options) {
        Err(PrepareError::Change(error)) => Err(error),
        done => Ok(done.map_err(|error| of_prepare(&error))),
    })?;
    let prepared = prepared?;
    prepared.lock.let_inherit().context("cannot give the lock to QEMU")?;
    ctx.finish()?;
    let mut command = Command::new(program);
    command.args(given).args(prepared.arguments);
    let error = command.exec();
    Err(Failure::new("qemu", format!("cannot run {program}: {error}")).into())
}

/// Whether the guest was saved and has not gone on since.
fn is_saved(which: &Which, ctx: &Ctx) -> Result<bool> {
    let (store, machine) = (which.at.store(ctx)?, which.machine());
    let record = super::record(&store, &machine)?;
    let tree = store.native().map_err(open::told)?.inodes().tree;
    Ok(record.is_some_and(|record| machine.is_saved(&record, &tree)))
}

fn of_prepare(error: &PrepareError) -> Failure {
    let (code, hint) = match error {
        PrepareError::Record(_) => ("record", super::RECORD),
        PrepareError::Saved => (
            "saved",
            "`gmfs vm resume IMAGE DIR` or --resume lets it go on; `gmfs rm IMAGE DIR/state` gives its state up",
        ),
        PrepareError::OtherSize { path, size } => {
            let message = format!("'{path}' has {size} bytes, and --memory says something else");
            let hint = "leave --memory out, or make the file as large with `gmfs truncate`";
            return Failure::new("size", message).hint(hint);
        }
        PrepareError::NoMemory(_) => ("not-found", "say how much memory the guest has: --memory SIZE"),
        PrepareError::NotBlocks { .. } => ("size", "give the guest a multiple of that"),
        PrepareError::Parts(error) => return super::of_parts(error),
        PrepareError::Lock(error) => return super::of_lock(error),
        PrepareError::Arguments(error) => return super::of_arguments(error),
        PrepareError::Write(cause) => super::of_cause(cause),
        _ => return Failure::new("vm", error.to_string()),
    };
    failure(code, error, hint)
}
