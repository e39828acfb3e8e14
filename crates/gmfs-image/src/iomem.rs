//! `/proc/iomem`: what each range of physical memory is used for, and which ranges may be written through `/dev/mem`.
//!
//! [`IoMem::parse`] parses text and does no I/O. The kernel prints inclusive ends, and indents nested resources by two
//! spaces per level. To processes that are not root it prints zeros for all addresses.
//!
//! The map does not show memory that the kernel reserves from its own RAM at boot (with `reserve_mem=`, or as the
//! guestmemfs patches do on x86): it stays inside a `System RAM` entry. It cannot be distinguished from RAM in use, so
//! it is refused. A range that was carved out with `memmap=SIZE$BASE` (Reserved) or `memmap=SIZE!BASE` (Persistent
//! Memory (legacy)) can be written.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use gmfs_io::Span;

/// One line: a range and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resource {
    /// The range of physical addresses.
    pub span: Span,
    /// The nesting level; 0 for a range that is in no other one.
    pub depth: usize,
    /// The kernel's name for it.
    pub name: String,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.span, self.name)
    }
}

/// Why the text is not a list of resources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IoMemError {
    /// All addresses read as zero, as the kernel shows them to processes without CAP_SYS_ADMIN.
    #[error("the kernel hides the memory map from this process: all of its addresses are zero; run as root")]
    Hidden,
    /// The text has no resource.
    #[error("the memory map is empty")]
    Empty,
    /// A line has another form.
    #[error("cannot parse line {line} of the memory map: {text:?}")]
    Line {
        /// The number of the line, counted from 1.
        line: usize,
        /// The line itself.
        text: String,
    },
}

/// Why a range of physical memory may not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The range that was to be written.
    pub range: Span,
    /// The resources that hold part of it.
    pub by: Vec<Resource>,
    /// The parts of it that no resource covers.
    pub unknown: Vec<Span>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        write!(f, "physical memory {} may not be written; only reserved or persistent memory may", self.range)?;
        let mut separator = ": ";
        for resource in self.by.iter().take(SHOWN) {
            write!(f, "{separator}{resource}")?;
            separator = ", ";
        }
        if let Some(more) = self.by.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            write!(f, ", and {more} more")?;
        }
        for span in self.unknown.iter().take(SHOWN) {
            write!(f, "{separator}{span}: unknown")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl std::error::Error for Held {}

/// The resources of a machine, in the order of `/proc/iomem`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoMem {
    resources: Vec<Resource>,
}

impl IoMem {
    /// Reads the text of `/proc/iomem`.
    ///
    /// # Errors
    /// [`IoMemError::Hidden`] if the kernel did not show the addresses.
    pub fn parse(text: &str) -> Result<Self, IoMemError> {
        let mut resources = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let resource = parse_line(line).ok_or_else(|| IoMemError::Line {
                line: index.saturating_add(1),
                text: line.chars().take(120).collect(),
            })?;
            resources.push(resource);
        }
        if resources.is_empty() {
            return Err(IoMemError::Empty);
        }
        if resources.iter().all(|r| r.span == Span::new(0, 1)) {
            return Err(IoMemError::Hidden);
        }
        Ok(Self { resources })
    }

    /// All resources, parents before their children.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Whether all of `range` may be written. Every byte must be in a resource that is called `Reserved` (in upper or
    /// lower case), `Persistent Memory`, `Persistent Memory (legacy)` or `dax…`. No resource of another name, at any
    /// level, may overlap the range: a `reserved` part inside `System RAM` belongs to the kernel, and is refused with
    /// it.
    ///
    /// # Errors
    /// [`Held`], with the resources that overlap the range.
    pub fn writable(&self, range: Span) -> Result<(), Held> {
        let touching = || self.resources.iter().filter(|r| r.span.common(range).is_some());
        let by: Vec<_> = touching().filter(|r| !may_be_written(&r.name)).cloned().collect();
        let unknown = range.without(touching().filter(|r| r.depth == 0).map(|r| r.span));
        let real = range.len > 0 && range.offset.checked_add(range.len).is_some();
        if by.is_empty() && unknown.is_empty() && real {
            return Ok(());
        }
        Err(Held { range, by, unknown })
    }

    /// Whether all of `range` is persistent memory. Stores to it are durable only after they have been flushed out of
    /// the caches.
    #[must_use]
    pub fn is_persistent(&self, range: Span) -> bool {
        let persistent = self.resources.iter().filter(|r| r.name.starts_with("Persistent Memory"));
        range.len > 0 && range.without(persistent.map(|r| r.span)).is_empty()
    }

    /// The ranges that may be written, ascending, with neighbours joined. A region that was carved out of the memory
    /// map is in one of them.
    #[must_use]
    pub fn writable_ranges(&self) -> Vec<Span> {
        let mut found: Vec<Span> = Vec::new();
        let mut top: Vec<_> = self.resources.iter().filter(|r| r.depth == 0).collect();
        top.sort_by_key(|r| r.span);
        for resource in top.into_iter().filter(|r| may_be_written(&r.name)) {
            let others = self.resources.iter().filter(|r| !may_be_written(&r.name)).map(|r| r.span);
            for free in resource.span.without(others) {
                match found.last_mut() {
                    Some(last) if last.end() == free.offset => last.len = last.len.saturating_add(free.len),
                    _ => found.push(free),
                }
            }
        }
        found
    }
}

/// Parses a line like `  00100000-bfffffff : System RAM`.
fn parse_line(line: &str) -> Option<Resource> {
    let text = line.trim_start_matches(' ');
    let depth = line.len().saturating_sub(text.len()).checked_div(2)?;
    let (range, name) = text.split_once(" : ")?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (address(first)?, address(last)?);
    let len = last.checked_sub(first)?.saturating_add(1);
    Some(Resource { span: Span::new(first, len), depth, name: name.trim_end().to_owned() })
}

/// Parses hexadecimal digits, without a sign or anything else.
fn address(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok())?
}

fn may_be_written(name: &str) -> bool {
    name.eq_ignore_ascii_case("reserved")
        || name == "Persistent Memory"
        || name == "Persistent Memory (legacy)"
        || name.strip_prefix("dax").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
