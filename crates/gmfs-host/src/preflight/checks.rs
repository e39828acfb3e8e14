//! What is looked at, one after the other.

use std::num::NonZeroUsize;
use std::path::Path;

use gmfs::open::Source;
use gmfs::{Store, health};
use gmfs_check::Verdict as Health;
use gmfs_format::size;
use gmfs_image::InUse;
use gmfs_image::iomem::{Held, Resource};
use gmfs_io::num::len64;
use gmfs_io::{Span, with_causes};
use gmfs_kernel::cmdline::CommandLine;
use gmfs_kernel::compat;
use gmfs_volume::{OpenError, Region};

use super::check::{Advice, Check, Subject};
use super::window::Window;
use crate::boot::{self, Keeping, Need, What, Wrong};
use crate::kernel::read_image;
use crate::kexec::HandOver;
use crate::machine::Machine;

/// Whether the region's metadata is what a kernel may be handed.
pub(super) fn metadata(region: &Region<Source>, now: u64, threads: NonZeroUsize) -> Result<Check, OpenError> {
    const CHECK: Subject = Subject::Metadata;
    let health = health::assess(region, now, threads)?;
    Ok(match health.verdict {
        Health::Clean => Check::ok(CHECK, "the region's metadata is clean"),
        Health::Recovery => Check::fails(CHECK, "a change of the region was interrupted", Advice::CompleteChange),
        Health::Unknown => {
            Check::unknown(CHECK, "some of the region's metadata is not in the image", Advice::FindMissing)
        }
        Health::Damaged => Check::fails(CHECK, "the region's metadata has problems", Advice::Repair),
    })
}

/// Whether the content of all files is sealed.
pub(super) fn seals(region: &Region<Source>) -> Check {
    const CHECK: Subject = Subject::Seals;
    let seals = region.seals();
    if seals.lost_pages > 0 {
        let pages = size::count(seals.lost_pages, "page");
        let message = format!("{pages} of the block table cannot be read");
        return Check::unknown(CHECK, message, Advice::FindProblems);
    }
    let all = len64(seals.files.len());
    let open = len64(seals.files.values().filter(|file| file.sealed < file.blocks).count());
    let bad: u64 = seals.files.values().map(|file| file.bad).sum();
    if open > 0 {
        let verb = if open == 1 { "is" } else { "are" };
        let message = format!("{open} of {} {verb} not sealed", size::count(all, "file"));
        return Check::fails(CHECK, message, Advice::Seal);
    }
    let but = match bad {
        0 => String::new(),
        bad => format!(", except {} with hardware errors", size::count(bad, "block")),
    };
    match all {
        0 => Check::ok(CHECK, "no file has content"),
        all => Check::ok(CHECK, format!("{} sealed{but}", size::count(all, "file"))),
    }
}

/// Whether somebody still writes to the region.
pub(super) fn mappings(store: &Store) -> Check {
    const CHECK: Subject = Subject::Mappings;
    let span = Span::new(store.place.base, store.size());
    let found = match InUse::find(&store.place.path, span) {
        Ok(found) => found,
        Err(error) => {
            return Check::unknown(CHECK, format!("processes cannot be looked at: {error}"), Advice::SeeAllProcesses);
        }
    };
    if let Some(first) = found.mapped().first() {
        return Check::fails(CHECK, format!("{} has the region mapped", first.process), Advice::EndGuest);
    }
    // A VMM that gmfs has started holds a lock, even if its mappings cannot be seen.
    if let Some(first) = found.locked().first() {
        return Check::fails(CHECK, format!("{} uses memory of the region", first.by), Advice::EndGuest);
    }
    match found.unseen() {
        0 => Check::ok(CHECK, "no process has the region mapped"),
        _ => Check::unknown(CHECK, "not all processes may be looked at", Advice::SeeAllProcesses),
    }
}

/// Whether a kernel is loaded, and the file that was named is one.
pub(super) fn loaded(machine: &Machine, kernel: Option<&Path>) -> Check {
    const CHECK: Subject = Subject::Kernel;
    let named = match kernel.map(|path| (path, read_image(path))) {
        Some((path, Err(error))) => {
            let message = format!("{} cannot be read: {error}", path.display());
            return Check::fails(CHECK, message, Advice::NameLoadedKernel);
        }
        Some((_, Ok(image))) => match image.release {
            Some(release) => format!("; FILE is Linux {release}"),
            None => "; FILE is a kernel that does not say its release".to_owned(),
        },
        None => String::new(),
    };
    match &machine.loaded {
        Ok(true) => Check::ok(CHECK, format!("a kernel is loaded{named}")),
        Ok(false) => Check::fails(
            CHECK,
            "no kernel is loaded: `kexec -e` would do nothing, and `systemctl kexec` would load its default",
            Advice::LoadKernel,
        ),
        Err(error) => Check::unknown(CHECK, error.to_string(), Advice::UseKexecKernel),
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

/// Whether the next kernel leaves the region's memory alone.
pub(super) fn command_line(window: &Window, machine: &Machine, given: Option<&str>) -> Check {
    const CHECK: Subject = Subject::CommandLine;
    let (span, need) = match window {
        Window::Memory(span) => (*span, Need::Memory),
        Window::Device(span) => (*span, Need::Device),
        Window::Unknown(why) => return Check::unknown(CHECK, why.to_string(), why.advice()),
    };
    if machine.withheld_by_firmware(span) == Some(true) {
        return Check::ok(CHECK, "the firmware itself keeps this memory from every kernel");
    }
    if machine.architecture.as_deref().is_some_and(|name| name.starts_with("aarch64") || name.starts_with("arm")) {
        return Check::unknown(
            CHECK,
            "Linux on this architecture has no memmap=, and what the next device tree sets apart is not known",
            Advice::FindInDeviceTree,
        );
    }
    let (text, name) = match next_line(machine, given) {
        Ok(found) => found,
        Err(error) => return Check::unknown(CHECK, error, Advice::SayCommandLine),
    };
    let line = boot::Line::parse(text);
    let put = Advice::PutIntoLine(window.word().unwrap_or_default());
    if line.exact {
        let message = format!("{name} has memmap=exactmap, which replaces the firmware's map");
        return Check::unknown(CHECK, message, Advice::DropExactMap);
    }
    judged(line.keeps(span, need), (span, need), name, put)
}

/// What becomes of a window, as a line. `put` is what to do about it.
fn judged(keeping: Keeping, (span, need): (Span, Need), name: &str, put: Advice) -> Check {
    const CHECK: Subject = Subject::CommandLine;
    let range = format!("{} at {}", size::human(span.len), size::hex(span.offset));
    match keeping {
        Keeping::Kept { word } if word.starts_with("guestmemfs=") => Check::unknown(
            CHECK,
            format!("{name} has {word}, which only a kernel with the guestmemfs driver understands"),
            put,
        ),
        Keeping::Kept { word } => Check::ok(CHECK, format!("{name} sets {range} apart ({word})")),
        Keeping::Partly { word, missing } => Check::fails(
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
            Check::fails(CHECK, format!("{word} {why}"), put)
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
            Check::fails(CHECK, format!("{word} {why}"), put)
        }
        Keeping::Ends { word, at } => Check::unknown(
            CHECK,
            format!("{word} ends the next kernel's memory at {}, before {range}, which is in no word", size::hex(at)),
            put,
        ),
        _ => Check::fails(CHECK, format!("{name} does not set {range} apart: the next kernel uses it"), put),
    }
}

/// Whether anything else uses the region's memory.
pub(super) fn overlaps(window: &Window, machine: &Machine, given: Option<&str>) -> Check {
    const CHECK: Subject = Subject::Overlaps;
    let span = match window {
        Window::Memory(span) | Window::Device(span) => *span,
        Window::Unknown(why) => return Check::unknown(CHECK, why.to_string(), why.advice()),
    };
    if let Ok((text, _)) = next_line(machine, given) {
        let line = boot::Line::parse(text);
        if let Some(claim) = line.conflicts(span).next() {
            let message = format!("{} of the next command line is about the same memory", claim.word);
            return Check::fails(CHECK, message, Advice::MoveRegion);
        }
    }
    if let Some(area) = machine.scratch.iter().flatten().find(|area| area.meets(span)) {
        let message = format!("a scratch area of kexec handover is at {}", size::hex(area.offset));
        return Check::fails(CHECK, message, Advice::MoveRegion);
    }
    if let Some(area) = machine.efi.iter().find(|area| area.meets(span)) {
        let message = format!("EFI's runtime services use memory at {}", size::hex(area.offset));
        return Check::fails(CHECK, message, Advice::MoveRegion);
    }
    let iomem = match &machine.iomem {
        Ok(iomem) => iomem,
        Err(error) => return Check::unknown(CHECK, error.to_string(), Advice::RunAsRoot),
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
        None => Check::ok(CHECK, "nothing else uses the memory: crash dumps, scratch areas, EFI, the running kernel"),
        Some(what) => Check::fails(CHECK, what, Advice::SetApart),
    }
}

/// Whether the next kernel takes over what the running one hands over by itself.
pub(super) fn hand_over(root: &Path, kernel: Option<&Path>, given: Option<&str>) -> Check {
    const CHECK: Subject = Subject::HandOver;
    let kexec = match HandOver::of_running(root, kernel, given.map(CommandLine::parse).as_ref()) {
        Ok(HandOver::Nothing(why)) => return Check::ok(CHECK, why.to_string()),
        Ok(HandOver::NoKernel) => {
            let message = "kexec handover is in use, and the next kernel is not known";
            return Check::unknown(CHECK, message, Advice::NameNextKernel);
        }
        Ok(HandOver::Judged(kexec)) => kexec,
        Err(error) => return Check::unknown(CHECK, with_causes(&error), Advice::JudgeKexec),
    };
    let answer = kexec.words().answer(&kexec.judgement);
    match kexec.judgement.worst() {
        _ if kexec.judgement.is_kept() => Check::ok(CHECK, answer),
        None | Some(compat::Verdict::NotKnown) => Check::unknown(CHECK, answer, Advice::TakeOver(kexec)),
        Some(_) => Check::fails(CHECK, answer, Advice::TakeOver(kexec)),
    }
}
