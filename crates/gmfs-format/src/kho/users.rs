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

/// The regions that the user `memblock` hands over.
///
/// # Errors
/// Its device tree cannot be read.
pub fn reserve_mem(source: &dyn ReadAt, user: &User) -> Result<Vec<ReserveMem>, BlobError> {
    let fdt = Fdt::read(source, user.data.ok_or(BlobError::NoAddress)?)?;
    if !fdt.root().is_some_and(|root| root.is_compatible("memblock-v1")) {
        return Err(BlobError::Other("its root is not compatible with memblock-v1".to_owned()));
    }
    let region = |(_, node): (usize, &super::fdt::Node)| {
        let (start, size) = (node.number("start")?, node.number("size")?);
        node.is_compatible("reserve-mem-v1").then(|| ReserveMem { label: node.name.clone(), start, size })
    };
    Ok(fdt.top().filter_map(region).collect())
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
