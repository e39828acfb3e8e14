//! `gmfs vm run`: starts QEMU with a file of the region as the guest's memory.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args as Arguments;
use gmfs_format::model::Tree;
use gmfs_image::lock::usage::UsageLock;
use gmfs_vm::record::FileId;
use gmfs_vm::{Machine, Record, arguments};
use gmfs_volume::{ChangeError, CreateOptions};

use super::{InImage, Which, failure, resume};
use crate::cmd;
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::open::{self, Changing};
use crate::paths;

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
    super::require_version(program, at.limit())?;
    let image = at.image_for_qemu()?;
    let store = at.store(ctx)?;
    let in_image = InImage::of(&store);
    let name = store.uuid().map(|uuid| uuid.to_string()).unwrap_or_default();
    drop(store);
    let machine = args.which.machine();
    let socket = super::socket(args.qmp.as_deref(), &name, &machine)?;
    let listen = arguments::listen(&socket).map_err(|error| super::of_arguments(&error))?;
    let socket = socket.display().to_string();
    // One that cannot be recorded is the user's to go to.
    let directory = std::env::current_dir().ok().and_then(|directory| directory.into_os_string().into_string().ok());
    let record = |memory, region| {
        let (command, socket) = (words.clone(), Some(socket.clone()));
        Record { region, memory, command, directory, socket, saved: None }
    };
    let (prepared, _) = at.change(ctx, |writer| prepare(writer, &machine, args.memory, &in_image, &image, record))?;
    let (lock, added) = prepared?;
    lock.let_inherit().context("cannot give the lock to QEMU")?;
    ctx.finish()?;
    let mut command = Command::new(program);
    command.args(given).args(added).args(listen);
    let error = command.exec();
    Err(Failure::new("qemu", format!("cannot run {program}: {error}")).into())
}

/// Whether the guest was saved and has not gone on since.
fn is_saved(which: &Which, ctx: &Ctx) -> Result<bool> {
    let (store, machine) = (which.at.store(ctx)?, which.machine());
    let record = super::record(&store, &machine)?;
    let tree = store.native().map_err(open::told)?.inodes().tree;
    Ok(record.is_some_and(|record| is_kept(&record, &tree, &machine)))
}

/// Whether a state is there that was not used.
fn is_kept(record: &Record, tree: &Tree, machine: &Machine) -> bool {
    record.unused().is_some() && tree.resolve(&machine.state()).is_some()
}

type Prepared = (UsageLock, Vec<String>);

/// Makes the memory if it is not there, locks it, and records the guest.
fn prepare(
    writer: &mut Changing<'_>,
    machine: &Machine,
    memory: Option<u64>,
    in_image: &InImage,
    image: &str,
    record: impl FnOnce(FileId, String) -> Record,
) -> Result<Result<Prepared, Failure>, ChangeError> {
    let known = match machine.read_record(&writer.region(), writer.tree()) {
        Ok(known) => known,
        Err(error) => return Ok(Err(failure("record", &error, super::RECORD))),
    };
    if known.is_some_and(|record| is_kept(&record, writer.tree(), machine)) {
        let message = "the guest was saved, and starting it anew would lose its state";
        let hint = "`gmfs vm resume IMAGE DIR` or --resume lets it go on; `gmfs rm IMAGE DIR/state` gives its state up";
        return Ok(Err(Failure::new("saved", message).hint(hint)));
    }
    if let Err(failure) = make_memory(writer, machine, memory, in_image.block)? {
        return Ok(Err(failure));
    }
    let parts = match in_image.parts(writer, machine) {
        Ok(parts) => parts,
        Err(failure) => return Ok(Err(failure)),
    };
    let lock = match in_image.lock(&parts) {
        Ok(lock) => lock,
        Err(failure) => return Ok(Err(failure)),
    };
    let Some(inode) = writer.tree().resolve(&machine.memory()).cloned() else {
        return Err(ChangeError::NotFound(paths::shown(&machine.memory())));
    };
    let added = match in_image.arguments(image, inode.ino.0, &parts) {
        Ok(added) => added,
        Err(failure) => return Ok(Err(failure)),
    };
    // What the guest writes is not what was sealed.
    gmfs_vm::drop_seals(writer, inode.ino)?;
    let region = writer.superblock().uuid.to_string();
    let record = record(FileId::of(&inode), region);
    if let Err(cause) = machine.write_record(writer, &record, cmd::owner()) {
        let (code, hint) = super::of_cause(&cause);
        return Ok(Err(failure(code, &cause, hint)));
    }
    Ok(Ok((lock, added)))
}

fn make_memory(
    writer: &mut Changing<'_>,
    machine: &Machine,
    memory: Option<u64>,
    block: u64,
) -> Result<Result<(), Failure>, ChangeError> {
    let path = machine.memory();
    if let Some(inode) = writer.tree().resolve(&path) {
        let (size, shown) = (inode.size, paths::shown(&path));
        if memory.is_some_and(|memory| memory != size) {
            let message = format!("'{shown}' has {size} bytes, and --memory says something else");
            let hint = "leave --memory out, or make the file as large with `gmfs truncate`";
            return Ok(Err(Failure::new("size", message).hint(hint)));
        }
        return Ok(whole_blocks(size, block));
    }
    let Some(size) = memory else {
        let message = format!("there is no '{}' in the region", paths::shown(&path));
        return Ok(Err(Failure::new("not-found", message).hint("say how much memory the guest has: --memory SIZE")));
    };
    if let Err(failure) = whole_blocks(size, block) {
        return Ok(Err(failure));
    }
    writer.mkdir(machine.directory(), true, 0o700, cmd::owner())?;
    let options = |align_1g| CreateOptions { size, sparse: false, align_1g, mode: 0o600, owner: cmd::owner() };
    // So that the host can map it with the largest pages.
    match writer.create(&path, &options(size >= 1 << 30)) {
        Err(ChangeError::NoAlignedSpace { .. }) => writer.create(&path, &options(false)).map(drop)?,
        made => drop(made?),
    }
    Ok(Ok(()))
}

fn whole_blocks(size: u64, block: u64) -> Result<(), Failure> {
    if size > 0 && size.is_multiple_of(block) {
        return Ok(());
    }
    let message = format!("{size} bytes are not a number of whole blocks, which have {block} bytes each");
    Err(Failure::new("size", message).hint("give the guest a multiple of that"))
}
