//! Where a region is in the machine's memory.

use std::fmt;
use std::io;
use std::path::Path;

use gmfs::Store;
use gmfs_format::spec::format_size;
use gmfs_image::Kind;
use gmfs_io::Span;

use super::check::Advice;
use crate::device;
use crate::machine::Machine;

/// The kernel's name for memory that `memmap=SIZE!BASE` made.
const LEGACY: &str = "Persistent Memory (legacy)";

/// The memory that the next kernel has to leave alone, in physical addresses.
#[derive(Debug)]
pub enum Window {
    /// The region's own.
    Memory(Span),
    /// That of the device in which the region is.
    Device(Span),
    /// It is not known where the region is.
    Unknown(NoWindow),
}

/// Why it is not known where a region is.
#[derive(Debug)]
#[non_exhaustive]
pub enum NoWindow {
    /// The kernel does not say where the device's memory is.
    DeviceHidden,
    /// The device cannot be examined.
    Device(io::Error),
    /// The image is a file, and the region in it records no address.
    NoAddress,
    /// The image is a copy of memory.
    Copy,
}

impl fmt::Display for NoWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceHidden => f.write_str("the kernel does not say where the device's memory is"),
            Self::Device(error) => write!(f, "the device cannot be examined: {error}"),
            Self::NoAddress => f.write_str("IMAGE is a file, and its superblock records no address in memory"),
            Self::Copy => f.write_str("IMAGE is a copy of memory, which no kexec touches"),
        }
    }
}

impl NoWindow {
    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> Advice {
        match self {
            Self::DeviceHidden => Advice::RunAsRootOnMemory,
            Self::Device(_) => Advice::RunAsRoot,
            Self::NoAddress | Self::Copy => Advice::NameDevice,
        }
    }
}

impl Window {
    /// Where the region is in the machine's memory. What sysfs says of devices is read below `root`.
    #[must_use]
    pub fn of(store: &Store, machine: &Machine, root: &Path) -> Self {
        let own = match store.place.kind {
            Kind::DevMem => return Self::Memory(Span::new(store.place.base, store.size())),
            Kind::DevDax | Kind::BlockDevice => match device::memory(root, &store.place.path) {
                Ok(Some(span)) => span,
                Ok(None) => return Self::Unknown(NoWindow::DeviceHidden),
                Err(error) => return Self::Unknown(NoWindow::Device(error)),
            },
            Kind::File => match store.physical_base() {
                Some(base) => Span::new(base, store.size()),
                None => return Self::Unknown(NoWindow::NoAddress),
            },
            _ => return Self::Unknown(NoWindow::Copy),
        };
        // A device comes back only if the memory around it is the same.
        let resources = machine.iomem.as_ref().map(|iomem| iomem.resources()).unwrap_or_default();
        let around = |span: Span| span.offset <= own.offset && own.end() <= span.end();
        let around = resources.iter().find(|resource| resource.depth == 0 && around(resource.span));
        match around.filter(|around| around.name == LEGACY) {
            Some(around) => Self::Device(around.span),
            None => Self::Memory(own),
        }
    }

    /// The memory, if it is known.
    #[must_use]
    pub const fn span(&self) -> Option<Span> {
        match self {
            Self::Memory(span) | Self::Device(span) => Some(*span),
            Self::Unknown(..) => None,
        }
    }

    /// What belongs into the next command line, so that the kernel leaves the memory alone.
    #[must_use]
    pub fn word(&self) -> Option<String> {
        let (span, sign) = match self {
            Self::Memory(span) => (span, '$'),
            Self::Device(span) => (span, '!'),
            Self::Unknown(..) => return None,
        };
        Some(format!("memmap={}{sign}{:#x}", format_size(span.len), span.offset))
    }
}
