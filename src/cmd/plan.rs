//! `gmfs plan`: where in a machine's memory regions fit, and by which kernel parameters they are set apart.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args as Arguments, ValueHint};
use gmfs_format::spec::format_size;
use gmfs_host::Machine;
use gmfs_host::machine::MachineError;
use gmfs_host::plan::{self, Plan, PlanError, Window};
use gmfs_kernel::cmdline::MOST_REGIONS;

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
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
    let parameters = parameters(&machine, &found);
    let notes = notes(&machine, &found);
    if ctx.json {
        let window = |window: &Window| host::PlannedWindow {
            physical: window.span.offset,
            size: window.span.len,
            numa_node: window.node,
            alignment: window.align,
        };
        let apart = found.already.iter();
        let answer = host::Plan {
            windows: found.windows.iter().map(window).collect(),
            parameters,
            host_memory: found.ram,
            host_memory_left: found.left,
            set_apart: apart
                .map(|(span, name)| host::SetApart { physical: span.offset, size: span.len, held_as: name.clone() })
                .collect(),
            notes,
        };
        json::print(ctx, "plan", &answer)?;
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

/// Whether the machine's kernel knows memmap=.
fn has_memmap(machine: &Machine) -> bool {
    let architecture = machine.architecture.as_deref().unwrap_or("x86_64");
    matches!(architecture, "x86_64" | "i686" | "i586" | "i486" | "i386" | "x86")
}

/// A word for each window, and all of them as one text.
fn words(found: &Plan, word: impl Fn(usize, &Window) -> String) -> String {
    let words: Vec<String> = found.windows.iter().enumerate().map(|(index, window)| word(index, window)).collect();
    words.join(" ")
}

/// What the kernel takes for the pages of windows that it manages.
fn managed(found: &Plan) -> u64 {
    found.windows.iter().map(|window| plan::struct_pages(window.span.len)).sum()
}

/// The ways to set the windows apart.
fn parameters(machine: &Machine, found: &Plan) -> Vec<host::KernelParameter> {
    let mut ways = Vec::new();
    let mut add = |way: &'static str, words: String, struct_pages, message| {
        let words_for_grub = words.replace('$', "\\$");
        ways.push(host::KernelParameter { way: way.into(), words, words_for_grub, struct_pages, message });
    };
    let full = managed(found);
    let sized = |window: &Window| (format_size(window.span.len), window.span.offset);
    if has_memmap(machine) {
        let edges: u64 = found.windows.iter().map(|window| plan::struct_pages_of_reserved(window.span)).sum();
        let cost = match edges {
            0 => "It costs no struct pages".to_owned(),
            edges => format!(
                "It costs at most {} of struct pages, for what shares a section of 128 MiB with the host's memory",
                size::human(edges)
            ),
        };
        let line = |window: &Window| format!("--region {}:{:#x}", sized(window).0, sized(window).1);
        let regions: Vec<String> = found.windows.iter().map(line).collect();
        add(
            "memmap-reserved",
            words(found, |_, window| format!("memmap={}${:#x}", sized(window).0, sized(window).1)),
            Some(edges),
            format!(
                "Reserved memory, which is used through /dev/mem ({}). {cost}, and the window is not in the kernel's direct map. A VMM maps it by pages of 4 KiB.",
                regions.join(", ")
            ),
        );
        add(
            "memmap-persistent",
            words(found, |_, window| format!("memmap={}!{:#x}", sized(window).0, sized(window).1)),
            Some(full),
            format!(
                "Persistent memory: a device /dev/pmemN, of which `ndctl create-namespace -f -e namespaceN.0 -m devdax` makes /dev/daxN.0 once. A VMM maps that by 2 MiB. Struct pages take 64 bytes for each 4 KiB, {} at most: out of the window with --map dev, which is ndctl's default, and out of the host's memory with --map mem and before ndctl was run.",
                size::human(full)
            ),
        );
    }
    add(
        "guestmemfs",
        words(found, |_, window| format!("guestmemfs={}:{:#x}", sized(window).0, sized(window).1)),
        None,
        "For kernels with the guestmemfs driver, which is not part of Linux, and which chose the address itself when it was posted: other kernels ignore the word, and use the memory unless memmap= sets it apart. Beside memmap= it saves --region, because gmfs reads it in /proc/cmdline. What it costs in struct pages is not known.".to_owned(),
    );
    if found.windows.len() <= MOST_REGIONS {
        add(
            "reserve_mem",
            words(found, |index, window| {
                let align = if window.span.len >= plan::LARGE { window.align } else { plan::SMALL };
                format!("reserve_mem={}:{}:gmfs{index}", sized(window).0, format_size(align))
            }),
            Some(full),
            format!(
                "Since Linux 6.12. The kernel chooses the address, so the windows above do not count; only kexec handover (kho=on) keeps the memory for sure. It stays the kernel's own: struct pages take {}, and /dev/mem lets nobody write to it. `gmfs kho compat` tells whether the next kernel keeps it.",
                size::human(full)
            ),
        );
    }
    ways
}

/// What else is to be known.
fn notes(machine: &Machine, found: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    for (span, name) in &found.already {
        notes.push(format!(
            "{} at {} is set apart already ({}): its word stays in the command line",
            size::human(span.len),
            size::hex(span.offset),
            printable(name)
        ));
    }
    if !has_memmap(machine) {
        let architecture = machine.architecture.as_deref().unwrap_or_default();
        notes.push(format!(
            "Linux on {} has no memmap=: the device tree sets memory apart, by a node in reserved-memory with no-map",
            printable(architecture)
        ));
    }
    if machine.firmware.is_empty() {
        notes.push("the firmware's map (sys/firmware/memmap) is not there: memory that was plugged in later is not told from the rest".to_owned());
    }
    if machine.nodes.is_empty() {
        notes.push("NUMA nodes (sys/devices/system/node) are not there: a window may be in two of them".to_owned());
    }
    notes
}

fn show(found: &Plan, parameters: &[host::KernelParameter], ctx: &mut Ctx) -> Result<()> {
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
        ctx.line(&wrap::hang(&format!("    {}", parameter.message), ctx.width, 4))?;
        if parameter.words_for_grub != parameter.words {
            let text = format!(
                "    In grub.cfg, and between single quotes in /etc/default/grub: {}",
                parameter.words_for_grub
            );
            ctx.line(&wrap::hang(&text, ctx.width, 4))?;
        }
    }
    Ok(())
}
