//! The guests of a region, and what each of them does.

use std::borrow::Borrow;

use gmfs_format::model::Tree;
use gmfs_image::InUse;
use gmfs_io::ReadAt;
use gmfs_volume::{Region, Superblocks};

use crate::files::Machine;
use crate::in_image::{InImage, is_used};
use crate::record::Record;

/// What a guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GuestState {
    /// Its record cannot be used.
    Damaged,
    /// A VMM has its memory in use.
    Running,
    /// Its state was saved, and not used since.
    Saved,
    /// None of that.
    Stopped,
}

impl GuestState {
    /// A word for programs and people: stable, lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Running => "running",
            Self::Saved => "saved",
            Self::Stopped => "stopped",
        }
    }

    /// Of a guest with this record, if it can be used.
    #[must_use]
    pub fn of(machine: &Machine, record: Option<&Record>, tree: &Tree, is_used: bool) -> Self {
        match record {
            None => Self::Damaged,
            Some(_) if is_used => Self::Running,
            Some(record) if machine.is_saved(record, tree) => Self::Saved,
            Some(_) => Self::Stopped,
        }
    }
}

impl Machine {
    /// Whether a process uses memory of the guest.
    #[must_use]
    pub fn is_used<S: ReadAt, B: Borrow<Superblocks>>(
        &self,
        region: &Region<S, B>,
        tree: &Tree,
        in_image: &InImage,
        found: &InUse,
    ) -> bool {
        is_used(found, &in_image.memory(region, tree, self).unwrap_or_default())
    }
}
