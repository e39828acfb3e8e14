//! The root of LUO: a device tree until 7.1, a structure from 7.2 on.

use gmfs_io::{ReadAt, ReadError};

use super::block::Layout;
use super::raw::LuoRaw;
use crate::kho::fdt::{Fdt, FdtError, MAGIC};
use crate::kho::{User, read};

/// Why there is no root of LUO.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The node of LUO does not say where it is.
    #[error("the node of LUO does not say where its root is")]
    NoAddress,
    /// It cannot be read.
    #[error("the root of LUO at {at:#x} cannot be read")]
    Read {
        /// Where it is.
        at: u64,
        /// Why.
        source: ReadError,
    },
    /// It is a device tree that is damaged.
    #[error("the root of LUO is a damaged device tree")]
    Fdt(#[from] FdtError),
    /// The bytes are something else: in a kernel that took a hand-over of 7.2 or later, somebody else has the page.
    #[error("the bytes at {at:#x} are no root of LUO")]
    Other {
        /// Where it was to be.
        at: u64,
    },
    /// A root of a version that is not known.
    #[error("the root of LUO has the version '{version}', which is not known")]
    Version {
        /// What it says.
        version: String,
    },
    /// A device tree that leads to no sessions: every kernel with LUO writes where they are, and panics without it.
    #[error("the root of LUO leads to no sessions: {why}")]
    NoSessions {
        /// What is missing or another one.
        why: &'static str,
    },
    /// A size that is not that of the root.
    #[error("the root of LUO has {size} bytes; 32 are right")]
    Size {
        /// What its node says.
        size: u64,
    },
}

impl RootError {
    /// Why the bytes cannot be read, if they may still be right.
    #[must_use]
    pub const fn unread(&self) -> Option<&ReadError> {
        match self {
            Self::Read { source, .. } | Self::Fdt(FdtError::Read { source, .. }) => Some(source),
            _ => None,
        }
    }
}

/// Why the objects that files depend on cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoFlbs {
    /// There is no node for them. 6.19 has none; later kernels do not boot without it.
    Node,
    /// Their node has another form.
    Form,
    /// It is not said where they are.
    Address,
}

impl std::fmt::Display for NoFlbs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Node => "there is no node luo-flb",
            Self::Form => "its node luo-flb is not compatible with luo-flb-v1",
            Self::Address => "it does not say where the objects are that files depend on",
        })
    }
}

/// The root of LUO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its address.
    pub at: u64,
    /// How sessions and files are laid out.
    pub layout: Layout,
    /// The number of this live update, if the root says it. No kernel takes a root that does not.
    pub number: Option<u64>,
    /// Where the sessions are; 0 if nowhere.
    pub sessions: u64,
    /// Where the objects are that files depend on, or why that is not known.
    pub flbs: Result<u64, NoFlbs>,
}

impl Root {
    /// Reads the root that the user's node leads to.
    ///
    /// # Errors
    /// There is none.
    pub fn read(source: &dyn ReadAt, user: &User) -> Result<Self, RootError> {
        let at = user.data.ok_or(RootError::NoAddress)?;
        let unreadable = |source| RootError::Read { at, source };
        let head: [u8; 8] = read(source, at).map_err(unreadable)?;
        if head.starts_with(&MAGIC) {
            return Self::from_tree(at, &Fdt::read(source, at)?);
        }
        if !head.starts_with(b"luo-v") {
            return Err(RootError::Other { at });
        }
        if head != *b"luo-v5\0\0" {
            let text = head.split(|byte| *byte == 0).next().unwrap_or_default();
            return Err(RootError::Version { version: crate::name::escape(text) });
        }
        if let Some(size) = user.size.filter(|size| *size != 32) {
            return Err(RootError::Size { size });
        }
        let raw: LuoRaw = read(source, at).map_err(unreadable)?;
        let (number, sessions) = (Some(raw.number.get()), raw.sessions.get());
        let flbs = Some(raw.flbs.get()).filter(|at| *at != 0).ok_or(NoFlbs::Address);
        Ok(Self { at, layout: Layout::Blocks, number, sessions, flbs })
    }

    fn from_tree(at: u64, fdt: &Fdt) -> Result<Self, RootError> {
        let root = fdt.root().ok_or(RootError::Other { at })?;
        if !root.is_compatible("luo-v1") {
            let text = root.text("compatible").unwrap_or_default();
            return Err(RootError::Version { version: crate::name::escape(text) });
        }
        let number = root.number("liveupdate-number");
        let no_sessions = |why| RootError::NoSessions { why };
        let node = fdt.child("luo-session").ok_or(no_sessions("there is no node luo-session"))?;
        if !node.is_compatible("luo-session-v2") {
            return Err(no_sessions("its node luo-session is not compatible with luo-session-v2"));
        }
        let sessions = node.number("luo-session-header").filter(|at| *at != 0);
        let sessions = sessions.ok_or(no_sessions("its node luo-session does not say where they are"))?;
        let flbs = match fdt.child("luo-flb") {
            None => Err(NoFlbs::Node),
            Some(node) if !node.is_compatible("luo-flb-v1") => Err(NoFlbs::Form),
            Some(node) => node.number("luo-flb-header").filter(|at| *at != 0).ok_or(NoFlbs::Address),
        };
        Ok(Self { at, layout: Layout::Arrays, number, sessions, flbs })
    }
}
