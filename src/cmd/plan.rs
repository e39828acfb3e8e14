//! `gmfs plan`: where in a machine's memory regions fit, and by which kernel parameters they are set apart.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueHint};
use gmfs_format::spec::format_size;
use gmfs_host::Machine;
use gmfs_host::machine::MachineError;
use gmfs_host::plan::{self, Parameter, Plan, PlanError, Way, Window};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::json::{self, host};
use crate::render::style::{Role, paint};
use crate::render::{size, wrap};

/// Find memory for regions, and the kernel parameters that set it apart
///
/// Reads what the kernel says about the machine's memory (/proc/iomem, the firmware's map, NUMA nodes, EFI, kexec
/// handover), and finds windows that a kernel can leave alone: each in one NUMA node, at a multiple of 1 GiB if it has
/// that size and there is such a place, otherwise of 2 MiB. Windows meet nothing that the kernel names: its own code,
/// the memory for crash dumps, tables of the firmware, scratch areas, or windows that exist already. Memory above 4 GiB
/// is taken first, because devices and crash dumps need the rest. Nothing is changed: the parameters are for the
/// kernel's command line, of which one way is chosen. Only root is shown the addresses.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs plan --size 64G
  gmfs plan --size 128G --count 2
  gmfs plan --size 64G --root captured --json")]
pub(crate) struct Args {
    /// Size of each window, a multiple of 2 MiB
    #[arg(short, long, value_name = "SIZE", value_parser = super::parse_size)]
    size: u64,
    /// How many windows, each for one region
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(plan::MOST_WINDOWS)))]
    count: u32,
    /// Read proc and sys below DIR instead of those of this machine: files that were copied from another one
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true, value_hint = ValueHint::DirPath)]
    root: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let machine = Machine::read(&args.root);
    if let Err(error) = &machine.iomem {
        let failure = Failure::new("memory-map", error.to_string()).hint(match error {
            MachineError::IoMem { .. } => "run it as root; a copy of /proc/iomem has to be made by root as well",
            _ => "--root names a folder with proc/iomem in it, and sys if there is a copy of it",
        });
        return Err(failure).context("cannot plan");
    }
    let found = plan::plan(&machine, args.size, args.count).map_err(told).context("cannot plan")?;
    let parameters = found.parameters(&machine);
    let notes: Vec<String> = found.notes(&machine).iter().map(ToString::to_string).collect();
    if ctx.json {
        let said = |parameter: &Parameter| said(parameter, &found.windows);
        json::print(ctx, "plan", &host::Plan::new(&found, &parameters, said, notes))?;
        return Ok(Exit::Done);
    }
    show(&found, &parameters, ctx)?;
    for note in &notes {
        ctx.note(note);
    }
    Ok(Exit::Done)
}

/// Why there is no plan, with what to do.
fn told(error: PlanError) -> Failure {
    let message = error.to_string();
    match error {
        PlanError::Size(size) => {
            let above = size.checked_next_multiple_of(plan::SMALL).filter(|size| *size > 0).unwrap_or(plan::SMALL);
            Failure::new("size", message).hint(format!("--size {}", format_size(above)))
        }
        PlanError::NoRoom { .. } => Failure::new("no-space", message)
            .hint("ask for smaller windows, or for more of them: a region needs one contiguous window"),
        PlanError::HostStarves { .. } => {
            Failure::new("no-space", message).hint("ask for smaller windows, or for fewer")
        }
        _ => Failure::new("plan", message),
    }
}

/// What a way means, and what it costs.
fn said(parameter: &Parameter, windows: &[Window]) -> String {
    let pages = size::human(parameter.struct_pages.unwrap_or(0));
    match parameter.way {
        Way::MemmapReserved => {
            let cost = match parameter.struct_pages {
                None | Some(0) => "It costs no struct pages".to_owned(),
                Some(_) => format!(
                    "It costs at most {pages} of struct pages, for what shares a section of 128 MiB with the host's memory"
                ),
            };
            let region =
                |window: &Window| format!("--region {}:{:#x}", format_size(window.span.len), window.span.offset);
            let regions: Vec<String> = windows.iter().map(region).collect();
            format!(
                "Reserved memory, which is used through /dev/mem ({}). {cost}, and the window is not in the kernel's direct map. A VMM maps it by pages of 4 KiB.",
                regions.join(", ")
            )
        }
        Way::MemmapPersistent => format!(
            "Persistent memory: a device /dev/pmemN, of which `ndctl create-namespace -f -e namespaceN.0 -m devdax` makes /dev/daxN.0 once. A VMM maps that by 2 MiB. Struct pages take 64 bytes for each 4 KiB, {pages} at most: out of the window with --map dev, which is ndctl's default, and out of the host's memory with --map mem and before ndctl was run."
        ),
        Way::Guestmemfs => "For kernels with the guestmemfs driver, which is not part of Linux, and which chose the address itself when it was posted: other kernels ignore the word, and use the memory unless memmap= sets it apart. Beside memmap= it saves --region, because gmfs reads it in /proc/cmdline. What it costs in struct pages is not known.".to_owned(),
        Way::ReserveMem => format!(
            "Since Linux 6.12. The kernel chooses the address, so the windows above do not count; only kexec handover (kho=on) keeps the memory for sure. It stays the kernel's own: struct pages take {pages}, and /dev/mem lets nobody write to it. `gmfs kho compat` tells whether the next kernel keeps it."
        ),
        _ => String::new(),
    }
}

fn show(found: &Plan, parameters: &[Parameter], ctx: &mut Ctx) -> Result<()> {
    for window in &found.windows {
        let node = window.node.map_or_else(String::new, |node| format!(", NUMA node {node}"));
        let (from, end) = (size::hex(window.span.offset), size::hex(window.span.end()));
        let align = size::human(window.align);
        let of = size::human(window.span.len);
        ctx.line(&format!("{of} from {from} to {end}{node}, at a multiple of {align}"))?;
    }
    ctx.line(&format!("The host keeps {} of {}.", size::human(found.left), size::human(found.ram)))?;
    ctx.line("")?;
    ctx.line("One of these belongs into the kernel's command line:")?;
    for parameter in parameters {
        ctx.line("")?;
        ctx.line(&paint(ctx.colour, Role::Heading, &parameter.words))?;
        ctx.line(&wrap::hang(&format!("    {}", said(parameter, &found.windows)), ctx.width, 4))?;
        let for_grub = parameter.words_for_grub();
        if for_grub != parameter.words {
            let text = format!("    In grub.cfg, and between single quotes in /etc/default/grub: {for_grub}");
            ctx.line(&wrap::hang(&text, ctx.width, 4))?;
        }
    }
    Ok(())
}
