//! The root of a hand-over: its device tree.

use std::fmt;

use gmfs_io::ReadAt;

use super::fdt::{Fdt, FdtError};

/// Which form a hand-over has, by the `compatible` string of its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// `kho-v1`: 6.16 to 7.0.
    V1,
    /// `kho-v2`: only between releases.
    V2,
    /// `kho-v3`: 7.1.
    V3,
    /// `kho-v4`: 7.2 and 7.3.
    V4,
    /// Another one, whose preserved map is not read.
    Other(Box<[u8]>),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V1 => f.write_str("kho-v1"),
            Self::V2 => f.write_str("kho-v2"),
            Self::V3 => f.write_str("kho-v3"),
            Self::V4 => f.write_str("kho-v4"),
            Self::Other(text) => f.write_str(&crate::name::escape(text)),
        }
    }
}

/// Why there is no root of a hand-over at an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// There is no device tree.
    #[error(transparent)]
    Fdt(#[from] FdtError),
    /// The device tree is another one.
    #[error("the device tree at {at:#x} is not of a kexec handover")]
    Other {
        /// Where it is.
        at: u64,
    },
    /// It is a hand-over as the patches of 2024 wrote it, which mainline never had.
    #[error("the device tree at {at:#x} is of the kexec handover that was posted in 2024")]
    Posted {
        /// Where it is.
        at: u64,
    },
}

/// A user of KHO, and where it left what it hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its node's name, such as `LUO` or `memblock`.
    pub name: Box<[u8]>,
    /// The physical address of what it left.
    pub data: Option<u64>,
    /// How many bytes that has. `kho-v1` does not record it.
    pub size: Option<u64>,
    /// Nodes inside of its node, which no release writes.
    pub children: usize,
}

/// The root of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Its physical address, that of a page.
    pub at: u64,
    /// Bytes that the device tree has.
    pub size: u32,
    /// Which form it has.
    pub version: Version,
    /// The physical address of the preserved map; 0 before `kho-v1` is finalised.
    pub map: Option<u64>,
    /// The users.
    pub users: Vec<User>,
}

impl Tree {
    /// Reads the root at an address.
    ///
    /// # Errors
    /// There is none.
    pub fn read(source: &dyn ReadAt, at: u64) -> Result<Self, TreeError> {
        let fdt = Fdt::read(source, at)?;
        let other = TreeError::Other { at };
        let Some(root) = fdt.root() else { return Err(other) };
        let version = match root.text("compatible") {
            Some(b"kho-v1") => Version::V1,
            Some(b"kho-v2") => Version::V2,
            Some(b"kho-v3") => Version::V3,
            Some(b"kho-v4") => Version::V4,
            Some(text) if text.starts_with(b"kho-v") => Version::Other(text.into()),
            _ => return Err(other),
        };
        let map = root.number("preserved-memory-map");
        if version == Version::V1 && root.property("preserved-memory-map").is_none() {
            return Err(TreeError::Posted { at });
        }
        let (data, size) = if version == Version::V1 { ("fdt", None) } else { ("preserved-data", Some("blob-size")) };
        let user = |(position, node): (usize, &super::fdt::Node)| User {
            name: node.name.clone(),
            data: node.number(data),
            size: size.and_then(|size| node.number(size)),
            children: fdt.nodes().iter().filter(|child| child.parent == Some(position)).count(),
        };
        let users = fdt.top().map(user).collect();
        Ok(Self { at, size: fdt.size, version, map, users })
    }

    /// A user by its node's name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| *user.name == *name.as_bytes())
    }
}
