//! `gmfs preflight`: whether a region survives the kexec that comes next, as far as that can be told before it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args as Arguments, ValueHint};
use gmfs_host::preflight::{Advice, Options, Preflight, PreflightError, Verdict, preflight};
use gmfs_kernel::compat::Missing;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::open::{self, ReadArgs};
use crate::render::json::{self, host};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::wrap;
use crate::{clock, repairing};

/// Tell whether a region survives the next kexec
///
/// To be run right before a kexec. Looks whether the region's metadata is clean and its files are sealed; whether a process
/// has the region mapped; whether a kernel is loaded; whether the next kernel's command line sets the same memory apart
/// again, as far as gmfs knows that line; whether anything overlaps it, such as the memory for crash dumps; and, where kexec
/// handover is in use, whether the next kernel takes over what is handed over. The content of files is not read. Each line
/// says ok, fails or cannot tell, and what to do. The exit status is 0 if all is ok, 1 if anything fails, and 2 if nothing
/// fails and anything cannot be told.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs preflight /dev/dax0.0
  gmfs preflight /dev/mem --region 64G:0x1000000000 --kernel /boot/vmlinuz-6.12.95")]
pub(crate) struct Args {
    #[command(flatten)]
    image: ReadArgs,
    /// The image of the next kernel
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    kernel: Option<PathBuf>,
    /// The command line of the next kernel; the default is that of the running one, as `kexec --reuse-cmdline` takes it
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<OsString>,
    /// Read proc and sys below DIR instead of those of this machine: files that were copied from another one
    ///
    /// Processes that have the region mapped are looked for on this machine in any case.
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true, value_hint = ValueHint::DirPath)]
    root: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let store = open::region(&args.image, ctx)?;
    let line = args.cmdline.as_ref().map(|text| text.to_string_lossy());
    let (kernel, line) = (args.kernel.as_deref(), line.as_deref());
    let options = Options { root: &args.root, kernel, line, now: clock::now(), threads: repairing::threads() };
    let found = preflight(&store, &options).map_err(|error| match error {
        PreflightError::Store(error) => open::told(error),
        error => error.into(),
    })?;
    if ctx.json {
        json::print(ctx, "preflight", &host::Preflight::new(&store, &found, said))?;
    } else {
        show(&found, ctx)?;
    }
    Ok(match found.result() {
        Verdict::Ok => Exit::Done,
        Verdict::Fails => Exit::No,
        Verdict::Unknown => Exit::Failed,
    })
}

fn show(found: &Preflight, ctx: &mut Ctx) -> Result<()> {
    let mut table = Table::bare(&[]);
    for check in &found.checks {
        let (word, role) = match check.verdict {
            Verdict::Ok => ("ok", Role::Good),
            Verdict::Fails => ("fails", Role::Bad),
            Verdict::Unknown => ("cannot tell", Role::Warn),
        };
        table.styled([(check.subject.name(), Role::Plain), (word, role), (&printable(&check.message), Role::Plain)]);
    }
    table.print(ctx)?;
    let advice: Vec<&Advice> = found.checks.iter().filter_map(|check| check.advice.as_ref()).collect();
    if !advice.is_empty() {
        ctx.line("")?;
    }
    for advice in advice {
        ctx.line(&wrap::hang(&format!("next: {}", printable(&said(advice))), ctx.width, 6))?;
    }
    Ok(())
}

/// What to do, in words.
fn said(advice: &Advice) -> String {
    const MORE: &str = "`gmfs kho compat running FILE` says more";
    let text = match advice {
        Advice::CompleteChange => "`gmfs fsck -p IMAGE` completes it, or takes it back",
        Advice::FindMissing => "`gmfs fsck -n IMAGE` says what is missing",
        Advice::Repair => "`gmfs fsck IMAGE` says which, and repairs them",
        Advice::FindProblems => "`gmfs fsck -n IMAGE` says what is wrong",
        Advice::Seal => "`gmfs seal IMAGE` seals the files once nobody writes to them any more",
        Advice::EndGuest => "stop or save that guest first: what it writes after the seal is not proven by it",
        // Some sandboxes hide processes from root as well.
        Advice::SeeAllProcesses if rustix::process::geteuid().is_root() => "run it outside of the container or sandbox",
        Advice::SeeAllProcesses | Advice::RunAsRoot => "run it as root",
        Advice::RunAsRootOnMemory => "run it as root; disks and loop devices are no memory, and survive a kexec",
        Advice::NameLoadedKernel => "--kernel names the image that is loaded with `kexec -s -l`",
        Advice::LoadKernel => "`kexec -s -l KERNEL --initrd=INITRD --reuse-cmdline` loads one",
        Advice::UseKexecKernel => "a kernel with CONFIG_KEXEC has /sys/kernel/kexec_loaded",
        Advice::NameDevice => "name the device that holds the region, or /dev/mem",
        Advice::FindInDeviceTree => "look for a node in reserved-memory with no-map that has this memory",
        Advice::SayCommandLine => "--cmdline TEXT says what the next kernel is started with",
        Advice::DropExactMap => "leave memmap=exactmap out",
        Advice::PutIntoLine(word) => {
            return format!(
                "load the kernel again, with '{word}' in its command line (`kexec -s -l … --command-line=TEXT`)"
            );
        }
        Advice::MoveRegion => "`gmfs plan --size SIZE` finds memory that is free of such things",
        Advice::SetApart => {
            "the region has to be in memory that the running kernel, too, was told to leave alone: `gmfs plan --size SIZE`"
        }
        Advice::NameNextKernel => "--kernel FILE names the next kernel; `gmfs kho compat running FILE` says more",
        Advice::TakeOver(kexec) => {
            let words = kexec.words().with_missing(how_to_say_in_compat);
            return words.all_advice(&kexec.judgement).into_iter().next().unwrap_or_else(|| MORE.to_owned());
        }
        _ => MORE,
    };
    text.to_owned()
}

/// How a user says what the running kernel does not tell. `preflight` has no options for it.
fn how_to_say_in_compat(missing: Missing<'_>) -> Option<String> {
    match missing {
        Missing::Address { label } => {
            Some(format!("say where it is: `gmfs kho compat running FILE --at {label}=ADDRESS`"))
        }
        _ => None,
    }
}
