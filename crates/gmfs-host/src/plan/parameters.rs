//! The words for a kernel command line by which planned windows are set apart.

use std::fmt;

use gmfs_format::name::printable;
use gmfs_format::size;
use gmfs_format::spec::format_size;
use gmfs_io::Span;
use gmfs_kernel::cmdline::MOST_REGIONS;

use super::{LARGE, Plan, SMALL, Window, struct_pages, struct_pages_of_reserved};
use crate::machine::Machine;

/// How memory is set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Way {
    /// As reserved memory, by `memmap=SIZE$BASE`.
    MemmapReserved,
    /// As persistent memory, by `memmap=SIZE!BASE`.
    MemmapPersistent,
    /// By the guestmemfs driver.
    Guestmemfs,
    /// As a region that the kernel itself hands over, at an address that it chooses.
    ReserveMem,
}

impl Way {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemmapReserved => "memmap-reserved",
            Self::MemmapPersistent => "memmap-persistent",
            Self::Guestmemfs => "guestmemfs",
            Self::ReserveMem => "reserve_mem",
        }
    }
}

/// Kernel parameters that set all windows of a plan apart in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameter {
    /// In which way.
    pub way: Way,
    /// What belongs into the kernel's command line.
    pub words: String,
    /// Bytes at most that the kernel takes to describe the windows' pages; `None` if that is not known.
    pub struct_pages: Option<u64>,
}

impl Parameter {
    /// The words as GRUB has to read them: a dollar sign begins a variable there.
    #[must_use]
    pub fn words_for_grub(&self) -> String {
        self.words.replace('$', "\\$")
    }
}

/// Something to know of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// Memory is set apart already, and stays so.
    Already {
        /// The physical memory.
        span: Span,
        /// The kernel's name for it.
        name: String,
    },
    /// Linux on this architecture has no `memmap=`.
    NoMemmap {
        /// The architecture.
        architecture: String,
    },
    /// The firmware's map is not known.
    NoFirmware,
    /// Nodes are not known.
    NoNodes,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already { span, name } => write!(
                f,
                "{} at {} is set apart already ({}): its word stays in the command line",
                size::human(span.len),
                size::hex(span.offset),
                printable(name)
            ),
            Self::NoMemmap { architecture } => write!(
                f,
                "Linux on {} has no memmap=: the device tree sets memory apart, by a node in reserved-memory with no-map",
                printable(architecture)
            ),
            Self::NoFirmware => f.write_str("the firmware's map (sys/firmware/memmap) is not there: memory that was plugged in later is not told from the rest"),
            Self::NoNodes => f.write_str("NUMA nodes (sys/devices/system/node) are not there: a window may be in two of them"),
        }
    }
}

impl Plan {
    /// The ways to set the windows apart that a machine's kernel has, of which one is chosen.
    #[must_use]
    pub fn parameters(&self, machine: &Machine) -> Vec<Parameter> {
        let sum = |of: fn(&Window) -> u64| self.windows.iter().map(of).fold(0, u64::saturating_add);
        let managed = Some(sum(|window| struct_pages(window.span.len)));
        let edges = Some(sum(|window| struct_pages_of_reserved(window.span)));
        let memmap =
            |sign: char| self.words(|_, window| format!("memmap={}{sign}{:#x}", size_of(window), base_of(window)));
        let all = [
            (has_memmap(machine), Way::MemmapReserved, memmap('$'), edges),
            (has_memmap(machine), Way::MemmapPersistent, memmap('!'), managed),
            (
                true,
                Way::Guestmemfs,
                self.words(|_, window| format!("guestmemfs={}:{:#x}", size_of(window), base_of(window))),
                None,
            ),
            (self.windows.len() <= MOST_REGIONS, Way::ReserveMem, self.words(reserve_mem), managed),
        ];
        let is_there = all.into_iter().filter(|(is_there, ..)| *is_there);
        is_there.map(|(_, way, words, struct_pages)| Parameter { way, words, struct_pages }).collect()
    }

    /// A word for each window, in one text.
    fn words(&self, word: impl Fn(usize, &Window) -> String) -> String {
        let words: Vec<String> = self.windows.iter().enumerate().map(|(index, window)| word(index, window)).collect();
        words.join(" ")
    }

    /// What else is to be known.
    #[must_use]
    pub fn notes(&self, machine: &Machine) -> Vec<Note> {
        let already = self.already.iter().map(|(span, name)| Note::Already { span: *span, name: name.clone() });
        let architecture = || machine.architecture.clone().unwrap_or_default();
        let others = [
            (!has_memmap(machine)).then(|| Note::NoMemmap { architecture: architecture() }),
            machine.firmware.is_empty().then_some(Note::NoFirmware),
            machine.nodes.is_empty().then_some(Note::NoNodes),
        ];
        already.chain(others.into_iter().flatten()).collect()
    }
}

fn size_of(window: &Window) -> String {
    format_size(window.span.len)
}

const fn base_of(window: &Window) -> u64 {
    window.span.offset
}

fn reserve_mem(index: usize, window: &Window) -> String {
    let align = if window.span.len >= LARGE { window.align } else { SMALL };
    format!("reserve_mem={}:{}:gmfs{index}", size_of(window), format_size(align))
}

/// Whether the machine's kernel knows memmap=.
fn has_memmap(machine: &Machine) -> bool {
    let architecture = machine.architecture.as_deref().unwrap_or("x86_64");
    matches!(architecture, "x86_64" | "i686" | "i586" | "i486" | "i386" | "x86")
}
