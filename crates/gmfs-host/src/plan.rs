//! Where in a machine's memory regions fit.

mod parameters;

use gmfs_format::spec::format_size;
use gmfs_io::Span;

pub use parameters::{Note, Parameter, Way};

use crate::boot::Line;
use crate::machine::Machine;
use crate::spans::{joined, within};

/// What the size of a window is a multiple of, and the least alignment of its base: what one entry of a page table maps.
pub const SMALL: u64 = 2 << 20;
/// The alignment that a window of at least that size gets where that is possible.
pub const LARGE: u64 = 1 << 30;
/// The kernel describes each page of 4 KiB that it knows by a structure of 64 bytes.
const STRUCT_PAGE: u64 = 64;
const PAGE: u64 = 4096;
/// It takes those structures for so much memory at once.
const SECTION: u64 = 128 << 20;
/// Devices with addresses of 32 bits, and the kernel that takes dumps, need memory below this.
const LOW_END: u64 = 4 << 30;
/// Old devices, and the start of the kernel, need memory below this.
const LOWEST: u64 = 16 << 20;
/// So much memory is left to the host, at least.
pub const HOST_LEAST: u64 = 256 << 20;
/// So many windows are planned, at most.
pub const MOST_WINDOWS: u32 = 64;

/// A place for a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its physical memory.
    pub span: Span,
    /// The NUMA node that has it; `None` if nodes are not known.
    pub node: Option<u32>,
    /// What its base is a multiple of: [`SMALL`] or [`LARGE`].
    pub align: u64,
}

/// Places for regions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// As many as were asked for, by their addresses.
    pub windows: Vec<Window>,
    /// How much memory the kernel uses as its own now.
    pub ram: u64,
    /// How much of it is left.
    pub left: u64,
    /// Memory that the firmware calls RAM, and that the running kernel leaves alone already, with its name.
    pub already: Vec<(Span, String)>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The machine's memory is not known, for this reason.
    #[error("{0}")]
    Machine(String),
    /// The size is no size of a window.
    #[error("a window has a multiple of 2 MiB, and not {0} bytes")]
    Size(u64),
    /// More windows are wanted than a kernel command line should name.
    #[error("{0} windows are too many: at most {MOST_WINDOWS} are planned")]
    Count(u32),
    /// No range of memory is large enough.
    #[error("there is no room for window {number} of {size}: the largest range that can be used has {largest}")]
    NoRoom {
        /// Its number, counted from 1.
        number: u32,
        /// Its size, in words.
        size: String,
        /// The size of the largest range that is aligned, in words.
        largest: String,
    },
    /// The host would have too little memory.
    #[error("the host would have {left} left of {ram}, and needs {least}", least = format_size(HOST_LEAST))]
    HostStarves {
        /// What it would have, in words.
        left: String,
        /// What it has, in words.
        ram: String,
    },
}

/// How much memory the structures take by which a kernel describes the pages of `size` bytes.
#[must_use]
pub const fn struct_pages(size: u64) -> u64 {
    (size / PAGE).saturating_mul(STRUCT_PAGE)
}

/// How much memory such structures take for a window that the kernel leaves alone: none, but for what shares a section of
/// 128 MiB with memory of the kernel's own.
#[must_use]
pub fn struct_pages_of_reserved(window: Span) -> u64 {
    let first = window.offset.checked_next_multiple_of(SECTION).unwrap_or(u64::MAX).min(window.end());
    let last = (window.end() / SECTION).saturating_mul(SECTION);
    let whole = last.saturating_sub(first);
    struct_pages(window.len.saturating_sub(whole))
}

/// A range that can be used, and the node that has it.
#[derive(Clone, Copy, Debug)]
struct Free {
    span: Span,
    node: Option<u32>,
}

/// Finds places for `count` regions of `size` bytes.
///
/// A window is in memory that the kernel uses as its own, in one NUMA node, and meets nothing that the kernel names in such
/// memory: its own code and data, the memory of the kernel that takes dumps, tables of ACPI, what is reserved; nor memory of
/// EFI's runtime services, scratch areas of kexec handover, or what the command line names already. Memory above 4 GiB is
/// taken first. Windows are spread over the nodes by what is left in each.
///
/// # Errors
/// The machine's memory is not known, or there is no room.
pub fn plan(machine: &Machine, size: u64, count: u32) -> Result<Plan, PlanError> {
    if size == 0 || !size.is_multiple_of(SMALL) {
        return Err(PlanError::Size(size));
    }
    if count == 0 || count > MOST_WINDOWS {
        return Err(PlanError::Count(count));
    }
    let iomem = machine.iomem.as_ref().map_err(|error| PlanError::Machine(error.to_string()))?;
    let ram: Vec<Span> =
        iomem.resources().iter().filter(|r| r.depth == 0 && r.name == "System RAM").map(|r| r.span).collect();
    let total = ram.iter().fold(0_u64, |sum, span| sum.saturating_add(span.len));
    let left = total.saturating_sub(size.saturating_mul(count.into()));
    let mut free = free(machine, &ram, iomem.resources().iter().filter(|r| r.depth > 0).map(|r| r.span));
    let mut windows: Vec<Window> = Vec::new();
    for number in 1..=count {
        let window = place(&free, size).ok_or_else(|| {
            let largest = free.iter().filter_map(|free| usable(free.span)).map(|span| span.len).max().unwrap_or(0);
            PlanError::NoRoom { number, size: format_size(size), largest: format_size(largest) }
        })?;
        free = free
            .into_iter()
            .flat_map(|free| free.span.without([window.span]).into_iter().map(move |span| Free { span, ..free }))
            .collect();
        windows.push(window);
    }
    if left < HOST_LEAST {
        let (left, ram) = (format_size(left), format_size(total));
        return Err(PlanError::HostStarves { left, ram });
    }
    windows.sort_by_key(|window| window.span);
    let kept = iomem.resources().iter().filter(|r| r.depth == 0 && iomem.writable(r.span).is_ok());
    let already = kept
        .filter(|r| r.span.len >= SMALL)
        .filter(|r| machine.firmware.iter().any(|own| own.kind == "System RAM" && own.span.meets(r.span)))
        .map(|r| (r.span, r.name.clone()));
    Ok(Plan { windows, ram: total, left, already: already.collect() })
}

/// The ranges that can be used, by their addresses.
fn free(machine: &Machine, ram: &[Span], named: impl Iterator<Item = Span>) -> Vec<Free> {
    let mut taken: Vec<Span> = named.collect();
    taken.push(Span::new(0, LOWEST));
    taken.extend(&machine.efi);
    taken.extend(machine.scratch.iter().flatten());
    if let Ok(text) = &machine.cmdline {
        taken.extend(Line::parse(text).claims.iter().filter_map(|claim| claim.span));
    }
    let taken = joined(taken);
    let firmware: Vec<Span> =
        joined(machine.firmware.iter().filter(|own| own.kind == "System RAM").map(|own| own.span).collect());
    let mut found = Vec::new();
    for span in ram.iter().flat_map(|span| span.without(taken.iter().copied())) {
        // What the firmware does not call RAM was added later, and is not there yet when the command line is read.
        let real = if firmware.is_empty() { vec![span] } else { within(span, firmware.iter().copied()) };
        for span in real {
            if machine.nodes.is_empty() {
                found.push(Free { span, node: None });
                continue;
            }
            for node in &machine.nodes {
                let own = within(span, node.spans.iter().copied());
                found.extend(joined(own).into_iter().map(|span| Free { span, node: Some(node.id) }));
            }
        }
    }
    found.sort_by_key(|free| free.span);
    found
}

/// The part of a range between multiples of [`SMALL`].
fn usable(span: Span) -> Option<Span> {
    let start = span.offset.checked_next_multiple_of(SMALL)?;
    let end = span.end().checked_div(SMALL)?.checked_mul(SMALL)?;
    (start < end).then(|| Span::new(start, end.saturating_sub(start)))
}

/// The place for one more window.
fn place(free: &[Free], size: u64) -> Option<Window> {
    let aligned: &[u64] = if size >= LARGE { &[LARGE, SMALL] } else { &[SMALL] };
    let high = Span::new(LOW_END, u64::MAX.saturating_sub(LOW_END));
    for zone in [high, Span::new(0, LOW_END)] {
        for align in aligned {
            // In the node with the most left; of several such, in the first.
            let mut nodes: Vec<Option<u32>> = free.iter().map(|free| free.node).collect();
            nodes.sort_unstable();
            nodes.dedup();
            let left = |node: Option<u32>| {
                let own = free.iter().filter(|free| free.node == node).flat_map(|free| within(free.span, [zone]));
                own.fold(0_u64, |sum, span| sum.saturating_add(span.len))
            };
            nodes.sort_by_key(|node| std::cmp::Reverse(left(*node)));
            for node in nodes {
                let own = free.iter().filter(|free| free.node == node).flat_map(|free| within(free.span, [zone]));
                let fits = own.filter_map(|span| {
                    let start = span.offset.checked_next_multiple_of(*align)?;
                    (start.checked_add(size)? <= span.end()).then(|| Span::new(start, size))
                });
                if let Some(span) = fits.min() {
                    return Some(Window {
                        span,
                        node,
                        align: if span.offset.is_multiple_of(LARGE) { LARGE } else { *align },
                    });
                }
            }
        }
    }
    None
}
