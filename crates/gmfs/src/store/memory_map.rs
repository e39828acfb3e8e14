//! Where a machine has memory, as far as an image or the kernel says that.

use std::path::Path;

use gmfs_image::Kind;
use gmfs_image::iomem::IoMem;
use gmfs_io::{Absence, ReadAt as _, Span};

use crate::open::{Place, Source};

/// Where the machine of an image has memory.
pub(super) enum MemoryMap<'s> {
    /// The image does not say it. What an ELF file does not hold may have been left out when it was written.
    Unknown,
    /// An index of all page frames, which tells frames without memory from pages that were left out.
    Index(&'s Source),
    /// The memory of this machine.
    Here(Vec<Span>),
}

impl<'s> MemoryMap<'s> {
    /// What is known of the memory of an image.
    pub(super) fn of(place: &Place, source: &'s Source) -> Self {
        match place.kind {
            Kind::Kdump => Self::Index(source),
            Kind::DevMem => Self::of_this_machine(),
            Kind::Elf if place.path.canonicalize().is_ok_and(|path| path == Path::new("/proc/kcore")) => {
                Self::of_this_machine()
            }
            _ => Self::Unknown,
        }
    }

    /// What the kernel that runs says.
    fn of_this_machine() -> Self {
        let map = std::fs::read_to_string("/proc/iomem").ok().and_then(|text| IoMem::parse(&text).ok());
        map.map_or(Self::Unknown, |map| Self::from_map(&map))
    }

    fn from_map(map: &IoMem) -> Self {
        let memory = map.resources().iter().filter(|resource| resource.name.starts_with("System RAM"));
        Self::Here(memory.map(|resource| resource.span).collect())
    }

    /// Whether the machine has memory in some of a span; `None` where that is unknown.
    pub(super) fn has_memory(&self, span: Span) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Index(source) => match source.next_absent(span.offset..span.end()) {
                Some((absent, Absence::NotInDump | Absence::BeyondEnd)) => {
                    Some(absent.offset > span.offset || absent.end() < span.end())
                }
                Some(_) | None => Some(true),
            },
            Self::Here(memory) => Some(memory.iter().any(|part| part.meets(span))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_where_memory_is() {
        let text = "00001000-0009ffff : System RAM\n000a0000-000fffff : Reserved\n00100000-3fffffff : System RAM\n  \
                    01000000-01ffffff : Kernel code\n";
        let map = MemoryMap::from_map(&IoMem::parse(text).unwrap());
        let asked = [(0x1000, Some(true)), (0xa_0000, Some(false)), (0x100_0000, Some(true)), (1 << 32, Some(false))];
        for (at, answer) in asked {
            assert_eq!(map.has_memory(Span::new(at, 4096)), answer, "{at:#x}");
        }
        assert_eq!(MemoryMap::Unknown.has_memory(Span::new(0, 1)), None);
    }
}
