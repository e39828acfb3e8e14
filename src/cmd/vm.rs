//! `gmfs vm`: virtual machines that survive a kexec of their host.

mod list;
mod resume;
mod run;
mod save;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, Subcommand};
use gmfs::Store;
use gmfs_format::spec::RegionSpec;
use gmfs_vm::arguments::{self, ArgumentsError};
use gmfs_vm::qmp::QmpError;
use gmfs_vm::version::VersionError;
use gmfs_vm::{Cause, InImage, LaunchError, LockError, Machine, NameError, PartsError, Record, SOCKETS};
use gmfs_volume::ChangeError;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::in_use::InUseOk;
use crate::locate;
use crate::locking::Wait;
use crate::open::{self, Changing, ReadArgs, TargetArgs};
use crate::paths;

/// Run virtual machines whose memory stays where it is while the host's kernel is replaced by kexec
///
/// A virtual machine is a directory of the region. `run` starts QEMU with the file DIR/mem as the guest's memory. Before a
/// kexec, `save` stops the guest, writes the state of its devices to DIR/state, and seals both. After it, `resume` proves
/// that nothing has changed, and lets the guest go on; a state is used once only. QEMU 8.2 or newer is needed.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs vm run /dev/dax0.0 /vms/a --memory 4G -- qemu-system-x86_64 -nographic -drive file=a.img,if=virtio
  gmfs vm save /dev/dax0.0 /vms/a
  gmfs vm save /dev/dax0.0 --all
  gmfs vm resume /dev/dax0.0 /vms/a
  gmfs vm list /dev/dax0.0")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Run(run::Args),
    Save(save::Args),
    Resume(resume::Args),
    List(list::Args),
}

impl Args {
    /// Whether the answer is JSON.
    pub(crate) const fn json(&self) -> bool {
        match &self.action {
            Action::Run(_) => false,
            Action::Save(args) => args.json,
            Action::Resume(args) => args.json,
            Action::List(args) => args.json,
        }
    }
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    match &args.action {
        Action::Run(args) => run::run(args, ctx),
        Action::Save(args) => save::run(args, ctx),
        Action::Resume(args) => resume::run(args, ctx),
        Action::List(args) => list::run(args, ctx),
    }
}

/// Which virtual machine.
#[derive(Arguments, Clone, Debug)]
struct Which {
    #[command(flatten)]
    at: Where,
    /// The virtual machine's directory in the region
    #[arg(value_name = "DIR", value_parser = super::region_path())]
    directory: OsString,
}

/// In which region. What is written is not recorded for `gmfs undo`: it would make a used state new again.
#[derive(Arguments, Clone, Debug)]
struct Where {
    /// Region file, block device, /dev/mem or devdax device
    image: PathBuf,
    /// Where in IMAGE the region is, as in guestmemfs=SIZE:BASE
    #[arg(long, value_name = "SIZE[:BASE]", value_parser = locate::parse_region)]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    region: Option<RegionSpec>,
    #[command(flatten)]
    wait: Wait,
    /// How long each step of the talk with QEMU may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
}

impl Which {
    fn machine(&self) -> Machine {
        Machine::new(paths::bytes(&self.directory))
    }

    fn shown(&self) -> String {
        paths::shown(paths::bytes(&self.directory))
    }
}

impl Where {
    fn target(&self) -> TargetArgs {
        let (image, region, wait) = (self.image.clone(), self.region, self.wait);
        TargetArgs { image, region, wait, dry_run: false, undo: None }
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }

    /// Opens the region for reading.
    fn store(&self, ctx: &Ctx) -> Result<Store> {
        open::region(&ReadArgs { of: self.target().as_image(), no_lock: false }, ctx)
    }

    /// Changes the region. Who has the memory mapped is asked where it matters.
    fn change<T>(
        &self,
        ctx: &mut Ctx,
        work: impl FnOnce(&mut Changing<'_>) -> Result<T, ChangeError>,
    ) -> Result<(T, gmfs::changes::Changes)> {
        open::for_change(&self.target(), InUseOk { in_use_ok: false }, ctx, work)
    }
}

/// The record of a virtual machine, read without changing anything.
fn record(store: &Store, machine: &Machine) -> Result<Option<Record>> {
    let region = store.native().map_err(open::told)?;
    let tree = region.inodes().tree;
    machine.read_record(region, &tree).map_err(|error| failure("record", &error, RECORD).into())
}

const RECORD: &str = "`gmfs rm IMAGE DIR/vm.json` forgets the guest's arguments and its state; DIR/mem stays as it is";

/// Refuses an image of which QEMU cannot be told.
fn require_name(in_image: &InImage) -> Result<()> {
    match in_image.name() {
        Err(error @ NameError::Encoding) => {
            Err(Failure::new("name", error.to_string()).hint("use another name for it").into())
        }
        named => Ok(named.map(drop)?),
    }
}

/// A failure with the causes of an error.
fn failure(code: &'static str, error: &dyn std::error::Error, hint: &str) -> Failure {
    Failure::new(code, gmfs_io::with_causes(error)).hint(hint)
}

fn of_arguments(error: &ArgumentsError) -> Failure {
    let hint = match error {
        ArgumentsError::Size(_) => "--memory takes a size such as 512M or 4G",
        ArgumentsError::Taken(_) => "leave it out: --memory says how much memory the guest has",
        _ => "use another name for it",
    };
    failure("arguments", error, hint)
}

fn of_parts(error: &PartsError) -> Failure {
    failure("memory", error, "give the guest another file as its memory")
}

fn of_lock(error: &LockError) -> Failure {
    match error {
        LockError::InUse(_) => Failure::new("mapped", printable(&error.to_string())).hint(ONE_VMM),
        error => failure("lock", error, "IMAGE must be on a filesystem that has locks"),
    }
}

const ONE_VMM: &str = "a guest's memory has one VMM only: end the other one first";

fn of_launch(error: &LaunchError) -> Failure {
    let (code, hint) = match error {
        LaunchError::NoDirectory(_) => {
            ("arguments", "make or mount it; or name QEMU and its arguments after --, to start it in this directory")
        }
        LaunchError::NoCommand => ("arguments", "name QEMU and its arguments after --, or its socket by --qmp SOCKET"),
        LaunchError::Version(error) => return of_version(error),
        LaunchError::Arguments(error) => return of_arguments(error),
        LaunchError::Lock(error) => return of_lock(error),
        LaunchError::LockMapped(_) => ("mapped", ONE_VMM),
        LaunchError::Inherit(_) => return Failure::new("lock", error.to_string()),
        LaunchError::Ended(_) => ("qemu", "see what QEMU says above"),
        LaunchError::Qmp(error) => return of_qmp(error),
        _ => return Failure::new("qemu", error.to_string()),
    };
    failure(code, error, hint)
}

fn of_qmp(error: &QmpError) -> Failure {
    let (code, hint) = match error {
        QmpError::Connect { .. } => ("no-qemu", NO_QEMU),
        QmpError::Silent { .. } => {
            ("qmp", "QEMU serves one client at a time: end the other one; --timeout SECONDS waits longer for each step")
        }
        _ => ("qmp", "look at what QEMU says, and try again"),
    };
    failure(code, error, hint)
}

fn of_version(error: &VersionError) -> Failure {
    match error {
        VersionError::TooOld(_) => {
            let hint = "start the guest with a newer QEMU: Debian 13 has 10.0, bookworm-backports too";
            failure("qemu-too-old", error, hint)
        }
        _ => failure("qemu", error, "the words after -- are QEMU's program and its arguments"),
    }
}

/// Code and hint of what prevented something.
fn of_cause(cause: &Cause) -> (&'static str, &'static str) {
    match cause {
        Cause::Version(_) => ("qemu-too-old", "start the guest with QEMU 8.2 or newer"),
        Cause::Qmp(QmpError::Connect { .. }) => ("no-qemu", NO_QEMU),
        Cause::Qmp(_) => ("qmp", "look at what QEMU says, and try again; --timeout SECONDS waits longer for each step"),
        Cause::Status(status) if status == "postmigrate" => (
            "guest-state",
            "QEMU does not save a guest again that has not run since: let it run for a moment, by QMP or QEMU's monitor (cont, stop)",
        ),
        Cause::Status(_) => (
            "guest-state",
            "bring it into a state in which it runs or is paused, by QMP or QEMU's monitor; then try again",
        ),
        Cause::OtherMemory { .. } => ("other-memory", "name the socket of the QEMU that has this memory: --qmp SOCKET"),
        Cause::Change(ChangeError::NoSpace { .. } | ChangeError::SpaceInUse { .. }) => {
            ("no-space", "`gmfs rm` frees space; --reserve SIZE reserves less")
        }
        Cause::Change(ChangeError::Stopped) => ("interrupted", "the same command does it all"),
        Cause::Record(_) => ("record", RECORD),
        Cause::Change(_) | Cause::Unsealed(_) => ("region", "`gmfs fsck IMAGE` tells whether the region is sound"),
        _ => ("memory", "`gmfs stat IMAGE DIR/mem` shows what the guest's memory is"),
    }
}

const NO_QEMU: &str = "`gmfs vm list IMAGE` shows which guests run; --qmp SOCKET names the socket of another QEMU";

/// Where QEMU listens: as the user says, or in a directory for such sockets, of which each guest of each region has its own.
fn socket(given: Option<&Path>, region: &str, machine: &Machine) -> Result<PathBuf> {
    if let Some(path) = given {
        return std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()));
    }
    let made = std::fs::create_dir_all(SOCKETS).map_err(|error| {
        let message = format!("cannot make {SOCKETS}, for QEMU's socket: {error}");
        Failure::new("socket", message).hint("say where, as in `gmfs vm save IMAGE DIR --qmp SOCKET`")
    });
    made?;
    Ok(machine.socket(region))
}

/// QEMU's program and arguments, in UTF-8.
fn words(command: &[OsString]) -> Result<Vec<String>, Failure> {
    let word = |word: &OsString| {
        let text = word.to_str().map(str::to_owned);
        text.ok_or_else(|| {
            let message = format!("'{}' is not UTF-8, and cannot be recorded", word.display());
            Failure::new("arguments", message).hint("use other names for the guest's files")
        })
    };
    let words: Vec<String> = command.iter().map(word).collect::<Result<_, _>>()?;
    arguments::refuse_taken(words.iter().skip(1).map(String::as_str)).map_err(|error| of_arguments(&error))?;
    Ok(words)
}
