//! `gmfs preflight`: whether a region survives the kexec that comes next, as far as that can be told before it.

mod lines;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueHint};
use gmfs_host::Machine;

use self::lines::{Line, Verdict};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::open::{self, ReadArgs};
use crate::render::json::{self, host};
use crate::render::style::Role;
use crate::render::table::Table;
use crate::render::wrap;

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
    let machine = Machine::read(&args.root);
    let window = lines::window(&store, &machine, &args.root);
    let region = store.native().map_err(open::told)?;
    let mut found = vec![lines::metadata(region).context("cannot check the region")?, lines::seals(region)];
    store.unlock();
    found.push(lines::mappings(&store));
    found.push(lines::loaded(&machine, args.kernel.as_deref()));
    let given = args.cmdline.as_ref().map(|text| text.to_string_lossy().into_owned());
    found.push(lines::command_line(&window, &machine, given.as_deref()));
    found.push(lines::overlaps(&window, &machine, given.as_deref()));
    found.push(lines::hand_over(&args.root, args.kernel.as_deref(), args.cmdline.as_ref()));
    let has = |verdict| found.iter().any(|line| line.verdict == verdict);
    let (result, exit) = match (has(Verdict::Fails), has(Verdict::Unknown)) {
        (true, _) => (Verdict::Fails, Exit::No),
        (false, true) => (Verdict::Unknown, Exit::Failed),
        (false, false) => (Verdict::Ok, Exit::Done),
    };
    if ctx.json {
        let check = |line: Line| host::PreflightCheck {
            check: line.check.into(),
            verdict: line.verdict.name().into(),
            message: line.message,
            advice: line.advice,
        };
        let answer = host::Preflight {
            image: (&store.place).into(),
            store: (&store).into(),
            result: result.name().into(),
            window: window.span().map(|span| host::KeptWindow { physical: span.offset, size: span.len }),
            checks: found.into_iter().map(check).collect(),
        };
        json::print(ctx, "preflight", &answer)?;
        return Ok(exit);
    }
    let mut table = Table::bare(&[]);
    for line in &found {
        let (word, role) = match line.verdict {
            Verdict::Ok => ("ok", Role::Good),
            Verdict::Fails => ("fails", Role::Bad),
            Verdict::Unknown => ("cannot tell", Role::Warn),
        };
        table.styled([(line.check, Role::Plain), (word, role), (&printable(&line.message), Role::Plain)]);
    }
    table.print(ctx)?;
    let advice: Vec<&String> = found.iter().filter_map(|line| line.advice.as_ref()).collect();
    if !advice.is_empty() {
        ctx.line("")?;
    }
    for advice in advice {
        ctx.line(&wrap::hang(&format!("next: {}", printable(advice)), ctx.width, 6))?;
    }
    Ok(exit)
}
