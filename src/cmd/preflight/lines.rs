//! What has to be right before a kexec, one after the other.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;
use gmfs::Store;
use gmfs::health;
use gmfs::open::Source;
use gmfs_check::Verdict as Health;
use gmfs_format::spec::format_size;
use gmfs_host::boot::{self, Keeping, Need, What, Wrong};
use gmfs_host::{Machine, device};
use gmfs_image::iomem::{Held, Resource};
use gmfs_image::{InUse, Kind};
use gmfs_io::Span;
use gmfs_kernel::compat;
use gmfs_volume::Region;

use crate::clock;
use crate::cmd::kho::{self, HandOver};
use crate::render::size;
use crate::repairing;

/// The kernel's name for memory that `memmap=SIZE!BASE` made.
const LEGACY: &str = "Persistent Memory (legacy)";

/// Whether something is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Fails,
    Unknown,
}

impl Verdict {
    /// The word for programs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fails => "fails",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that has to be right.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    pub(super) message: String,
    pub(super) advice: Option<String>,
}

impl Line {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, message: message.into(), advice: None }
    }

    fn fails(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fails, message: message.into(), advice: Some(advice.into()) }
    }

    fn unknown(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Unknown, message: message.into(), advice: Some(advice.into()) }
    }
}

/// The memory that the next kernel has to leave alone.
pub(super) enum Window {
    /// The region's own.
    Memory(Span),
    /// That of the device in which the region is.
    Device(Span),
    /// It is not known where the region is, for this reason; and what to do.
    Unknown(String, &'static str),
}

impl Window {
    pub(super) const fn span(&self) -> Option<Span> {
        match self {
            Self::Memory(span) | Self::Device(span) => Some(*span),
            Self::Unknown(..) => None,
        }
    }
}

/// Where the region is in the machine's memory.
pub(super) fn window(store: &Store, machine: &Machine, root: &Path) -> Window {
    let kind = store.place.kind;
    let own = match kind {
        Kind::DevMem => return Window::Memory(Span::new(store.place.base, store.size())),
        Kind::DevDax | Kind::BlockDevice => match device::memory(root, &store.place.path) {
            Ok(Some(span)) => span,
            Ok(None) => {
                let why = "the kernel does not say where the device's memory is".to_owned();
                return Window::Unknown(
                    why,
                    "run it as root; disks and loop devices are no memory, and survive a kexec",
                );
            }
            Err(error) => {
                return Window::Unknown(format!("the device cannot be examined: {error}"), "run it as root");
            }
        },
        Kind::File => match store.physical_base() {
            Some(base) => Span::new(base, store.size()),
            None => {
                let why = "IMAGE is a file, and its superblock records no address in memory".to_owned();
                return Window::Unknown(why, "name the device that holds the region, or /dev/mem");
            }
        },
        _ => {
            let why = "IMAGE is a copy of memory, which no kexec touches".to_owned();
            return Window::Unknown(why, "name the device that holds the region, or /dev/mem");
        }
    };
    // A device comes back only if the memory around it is the same.
    let resources = machine.iomem.as_ref().map(|iomem| iomem.resources()).unwrap_or_default();
    let around = resources.iter().find(|r| r.depth == 0 && r.span.offset <= own.offset && own.end() <= r.span.end());
    match around.filter(|around| around.name == LEGACY) {
        Some(around) => Window::Device(around.span),
        None => Window::Memory(own),
    }
}

pub(super) fn metadata(region: &Region<Source>) -> Result<Line> {
    const CHECK: &str = "metadata";
    let health = health::assess(region, clock::now(), repairing::threads())?;
    Ok(match health.verdict {
        Health::Clean => Line::ok(CHECK, "the region's metadata is clean"),
        Health::Recovery => Line::fails(
            CHECK,
            "a change of the region was interrupted",
            "`gmfs fsck -p IMAGE` completes it, or takes it back",
        ),
        Health::Unknown => Line::unknown(
            CHECK,
            "some of the region's metadata is not in the image",
            "`gmfs fsck -n IMAGE` says what is missing",
        ),
        Health::Damaged => {
            Line::fails(CHECK, "the region's metadata has problems", "`gmfs fsck IMAGE` says which, and repairs them")
        }
    })
}

pub(super) fn seals(region: &Region<Source>) -> Line {
    const CHECK: &str = "seals";
    let seals = region.seals();
    if seals.lost_pages > 0 {
        let pages = size::count(seals.lost_pages, "page");
        let message = format!("{pages} of the block table cannot be read");
        return Line::unknown(CHECK, message, "`gmfs fsck -n IMAGE` says what is wrong");
    }
    let all = seals.files.len() as u64;
    let open = seals.files.values().filter(|file| file.sealed < file.blocks).count() as u64;
    let bad: u64 = seals.files.values().map(|file| file.bad).sum();
    if open > 0 {
        let verb = if open == 1 { "is" } else { "are" };
        let message = format!("{open} of {} {verb} not sealed", size::count(all, "file"));
        return Line::fails(CHECK, message, "`gmfs seal IMAGE` seals the files once nobody writes to them any more");
    }
    let but = match bad {
        0 => String::new(),
        bad => format!(", except {} with hardware errors", size::count(bad, "block")),
    };
    match all {
        0 => Line::ok(CHECK, "no file has content"),
        all => Line::ok(CHECK, format!("{} sealed{but}", size::count(all, "file"))),
    }
}

pub(super) fn mappings(store: &Store) -> Line {
    const CHECK: &str = "mappings";
    let span = Span::new(store.place.base, store.size());
    match InUse::find(&store.place.path, span) {
        Ok(found) => match (found.mapped().first(), found.unseen()) {
            (Some(first), _) => Line::fails(
                CHECK,
                format!("{} has the region mapped", first.process),
                "stop or save that guest first: what it writes after the seal is not proven by it",
            ),
            (None, 0) => Line::ok(CHECK, "no process has the region mapped"),
            (None, _) => Line::unknown(CHECK, "not all processes may be looked at", see_all()),
        },
        Err(error) => Line::unknown(CHECK, format!("processes cannot be looked at: {error}"), see_all()),
    }
}

/// How all processes can be seen. Some sandboxes hide them from root as well.
fn see_all() -> &'static str {
    if rustix::process::geteuid().is_root() { "run it outside of the container or sandbox" } else { "run it as root" }
}

pub(super) fn loaded(machine: &Machine, kernel: Option<&Path>) -> Line {
    const CHECK: &str = "kernel";
    let named = match kernel.map(|path| (path, kho::release_of(path))) {
        Some((path, Err(error))) => {
            let message = format!("{} cannot be read: {error}", path.display());
            return Line::fails(CHECK, message, "--kernel names the image that is loaded with `kexec -s -l`");
        }
        Some((_, Ok(release))) => format!("; FILE is {release}"),
        None => String::new(),
    };
    match &machine.loaded {
        Ok(true) => Line::ok(CHECK, format!("a kernel is loaded{named}")),
        Ok(false) => Line::fails(
            CHECK,
            "no kernel is loaded: `kexec -e` would do nothing, and `systemctl kexec` would load its default",
            "`kexec -s -l KERNEL --initrd=INITRD --reuse-cmdline` loads one",
        ),
        Err(error) => {
            Line::unknown(CHECK, error.to_string(), "a kernel with CONFIG_KEXEC has /sys/kernel/kexec_loaded")
        }
    }
}

/// The next kernel's command line, and how it is called.
fn next_line<'a>(machine: &'a Machine, given: Option<&'a str>) -> Result<(&'a str, &'static str), String> {
    match (given, &machine.cmdline) {
        (Some(text), _) => Ok((text, "the next command line")),
        (None, Ok(text)) => Ok((text, "the running command line, if the next kernel gets the same,")),
        (None, Err(error)) => Err(error.to_string()),
    }
}

/// What belongs into the next command line.
fn word(window: &Window) -> Option<String> {
    let (span, sign) = match window {
        Window::Memory(span) => (span, '$'),
        Window::Device(span) => (span, '!'),
        Window::Unknown(..) => return None,
    };
    Some(format!("'memmap={}{sign}{:#x}'", format_size(span.len), span.offset))
}

pub(super) fn command_line(window: &Window, machine: &Machine, given: Option<&str>) -> Line {
    const CHECK: &str = "command line";
    let (span, need) = match window {
        Window::Memory(span) => (*span, Need::Memory),
        Window::Device(span) => (*span, Need::Device),
        Window::Unknown(why, advice) => return Line::unknown(CHECK, why.clone(), *advice),
    };
    if machine.withheld_by_firmware(span) == Some(true) {
        return Line::ok(CHECK, "the firmware itself keeps this memory from every kernel");
    }
    if machine.architecture.as_deref().is_some_and(|name| name.starts_with("aarch64") || name.starts_with("arm")) {
        return Line::unknown(
            CHECK,
            "Linux on this architecture has no memmap=, and what the next device tree sets apart is not known",
            "look for a node in reserved-memory with no-map that has this memory",
        );
    }
    let (text, name) = match next_line(machine, given) {
        Ok(found) => found,
        Err(error) => return Line::unknown(CHECK, error, "--cmdline TEXT says what the next kernel is started with"),
    };
    let line = boot::Line::parse(text);
    let put = format!(
        "load the kernel again, with {} in its command line (`kexec -s -l … --command-line=TEXT`)",
        word(window).unwrap_or_default()
    );
    if line.exact {
        let message = format!("{name} has memmap=exactmap, which replaces the firmware's map");
        return Line::unknown(CHECK, message, "leave memmap=exactmap out");
    }
    judged(line.keeps(span, need), (span, need), name, put)
}

/// What becomes of a window, as a line. `put` is what to do about it.
fn judged(keeping: Keeping, (span, need): (Span, Need), name: &str, put: String) -> Line {
    const CHECK: &str = "command line";
    let range = format!("{} at {}", size::human(span.len), size::hex(span.offset));
    match keeping {
        Keeping::Kept { word } if word.starts_with("guestmemfs=") => Line::unknown(
            CHECK,
            format!("{name} has {word}, which only a kernel with the guestmemfs driver understands"),
            put,
        ),
        Keeping::Kept { word } => Line::ok(CHECK, format!("{name} sets {range} apart ({word})")),
        Keeping::Partly { word, missing } => Line::fails(
            CHECK,
            format!("{word} leaves {} at {} to the next kernel", size::human(missing.len), size::hex(missing.offset)),
            put,
        ),
        Keeping::Other { word, what } => {
            let why = match (need, what) {
                (Need::Device, What::Persistent) => "makes a device that begins or ends elsewhere",
                (Need::Device, What::Reserved) => {
                    "makes no device of the memory, so that /dev/pmemN and /dev/daxN.0 are gone"
                }
                (_, What::Ram) => "makes the memory the next kernel's own",
                (_, What::CrashKernel) => "uses the memory for crash dumps",
                _ => "makes something else of the memory",
            };
            Line::fails(CHECK, format!("{word} {why}"), put)
        }
        Keeping::Wrong { word, why } => {
            let why = match why {
                Wrong::Backslash => {
                    "has a backslash before the dollar sign, and the kernel takes it for a limit of memory"
                }
                Wrong::NoAddress => {
                    "has lost the sign before its address (a shell or GRUB took `$0` for a variable?), and the kernel takes it for a limit of memory"
                }
                _ => "is not understood by the kernel",
            };
            Line::fails(CHECK, format!("{word} {why}"), put)
        }
        Keeping::Ends { word, at } => Line::unknown(
            CHECK,
            format!("{word} ends the next kernel's memory at {}, before {range}, which is in no word", size::hex(at)),
            put,
        ),
        _ => Line::fails(CHECK, format!("{name} does not set {range} apart: the next kernel uses it"), put),
    }
}

pub(super) fn overlaps(window: &Window, machine: &Machine, given: Option<&str>) -> Line {
    const CHECK: &str = "overlaps";
    const MOVE: &str = "`gmfs plan --size SIZE` finds memory that is free of such things";
    let span = match window {
        Window::Memory(span) | Window::Device(span) => *span,
        Window::Unknown(why, advice) => return Line::unknown(CHECK, why.clone(), *advice),
    };
    if let Ok((text, _)) = next_line(machine, given) {
        let line = boot::Line::parse(text);
        if let Some(claim) = line.conflicts(span).next() {
            let message = format!("{} of the next command line is about the same memory", claim.word);
            return Line::fails(CHECK, message, MOVE);
        }
    }
    if let Some(area) = machine.scratch.iter().flatten().find(|area| area.meets(span)) {
        let message = format!("a scratch area of kexec handover is at {}", size::hex(area.offset));
        return Line::fails(CHECK, message, MOVE);
    }
    if let Some(area) = machine.efi.iter().find(|area| area.meets(span)) {
        let message = format!("EFI's runtime services use memory at {}", size::hex(area.offset));
        return Line::fails(CHECK, message, MOVE);
    }
    let iomem = match &machine.iomem {
        Ok(iomem) => iomem,
        Err(error) => return Line::unknown(CHECK, error.to_string(), "run it as root"),
    };
    // The namespace of persistent memory is the device itself.
    let foreign = |held: &Held| {
        let others: Vec<Resource> = held.by.iter().filter(|r| !r.name.starts_with("namespace")).cloned().collect();
        let deepest = others.iter().map(|r| r.depth).max();
        others.iter().find(|r| Some(r.depth) == deepest).cloned()
    };
    let what = match iomem.writable(span) {
        Ok(()) => None,
        Err(held) => match (foreign(&held), held.unknown.first()) {
            (Some(resource), _) => {
                Some(format!("the running kernel has {} at {}", resource.name, size::hex(resource.span.offset)))
            }
            (None, Some(gap)) => Some(format!("the running kernel knows no memory at {}", size::hex(gap.offset))),
            (None, None) => None,
        },
    };
    match what {
        None => Line::ok(CHECK, "nothing else uses the memory: crash dumps, scratch areas, EFI, the running kernel"),
        Some(what) => Line::fails(
            CHECK,
            what,
            "the region has to be in memory that the running kernel, too, was told to leave alone: `gmfs plan --size SIZE`",
        ),
    }
}

pub(super) fn hand_over(root: &Path, kernel: Option<&Path>, cmdline: Option<&OsString>) -> Line {
    const CHECK: &str = "hand-over";
    match kho::of_running(root, kernel, cmdline) {
        Ok(HandOver::None(why)) => Line::ok(CHECK, why),
        Ok(HandOver::NoKernel) => Line::unknown(
            CHECK,
            "kexec handover is in use, and the next kernel is not known",
            "--kernel FILE names the next kernel; `gmfs kho compat running FILE` says more",
        ),
        Ok(HandOver::Judged { verdict, answer, advice }) => {
            let advice = advice.unwrap_or_else(|| "`gmfs kho compat running FILE` says more".to_owned());
            match verdict {
                compat::Verdict::None | compat::Verdict::Kept => Line::ok(CHECK, answer),
                compat::Verdict::NotKnown => Line::unknown(CHECK, answer, advice),
                _ => Line::fails(CHECK, answer, advice),
            }
        }
        Err(error) => Line::unknown(CHECK, format!("{error:#}"), "`gmfs kho compat running FILE` says more"),
    }
}
