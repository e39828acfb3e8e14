//! What users of KHO leave, besides LUO.

use gmfs_io::{ReadAt, ReadError};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::User;
use super::fdt::{Fdt, FdtError};
use crate::native::raw::{Field, OnMemory, on_memory};

/// Why what a user left cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The node does not say where it is.
    #[error("its node does not say where it is")]
    NoAddress,
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[from] ReadError),
    /// It is to be a device tree, and is none.
    #[error(transparent)]
    Fdt(#[from] FdtError),
    /// A region's node is not one that a kernel takes.
    #[error("{0}")]
    Region(String),
    /// It is something else.
    #[error("it is something else: {0}")]
    Other(String),
}

/// Memory that the kernel's parameter `reserve_mem=SIZE:ALIGN:LABEL` set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReserveMem {
    /// Its name.
    pub label: Box<[u8]>,
    /// Its physical address.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// What the user `memblock` hands over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// The regions whose nodes are right.
    pub regions: Vec<ReserveMem>,
    /// What is wrong with the first node that is not, in words.
    pub odd: Option<String>,
}

/// The regions that the user `memblock` hands over.
///
/// # Errors
/// Its device tree cannot be read.
pub fn reserve_mem(source: &dyn ReadAt, user: &User) -> Result<Reserved, BlobError> {
    let fdt = Fdt::read(source, user.data.ok_or(BlobError::NoAddress)?)?;
    if !fdt.root().is_some_and(|root| root.is_compatible("memblock-v1")) {
        return Err(BlobError::Other("its root is not compatible with memblock-v1".to_owned()));
    }
    let mut reserved = Reserved::default();
    for (_, node) in fdt.top() {
        let odd = match (node.is_compatible("reserve-mem-v1"), node.number("start"), node.number("size")) {
            (true, Some(start), Some(size)) => {
                reserved.regions.push(ReserveMem { label: node.name.clone(), start, size });
                continue;
            }
            (false, ..) => "is not compatible with reserve-mem-v1",
            (true, None, _) => "does not say where it starts",
            (true, _, None) => "does not say how large it is",
        };
        let label = crate::name::escape(&node.name);
        reserved.odd.get_or_insert_with(|| format!("the region '{label}' has another form: it {odd}"));
    }
    Ok(reserved)
}

on_memory! {
    /// What the user `kexec-metadata` leaves.
    MetadataRaw[73] {
        /// 1.
        version: U32,
        /// Release of the kernel that wrote it, ended by a NUL.
        release: [u8; 65],
        /// Which kernel it is, counted from the first one that was not started by a hand-over.
        kexec_count: U32,
    }
}

/// Which kernel left a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its release, as `uname -r` shows it.
    pub release: Box<[u8]>,
    /// The 1 of the first kernel; each kernel that a hand-over started adds 1.
    pub count: u32,
}

/// What the user `kexec-metadata` says.
///
/// # Errors
/// It cannot be read, or has another version.
pub fn metadata(source: &dyn ReadAt, user: &User) -> Result<Metadata, BlobError> {
    let raw: MetadataRaw = super::read(source, user.data.ok_or(BlobError::NoAddress)?)?;
    if raw.version.get() != 1 {
        return Err(BlobError::Other(format!("its version is {}", raw.version)));
    }
    let release = raw.release.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Metadata { release: release.into(), count: raw.kexec_count.get() })
}
