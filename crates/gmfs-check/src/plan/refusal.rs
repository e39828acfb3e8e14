//! Why a finding is left as it is, as data; [`fmt::Display`] puts it into words.

use std::fmt;

use crate::problem::Problem;

/// Why a finding is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The repair loses something, and only repairs that lose nothing are allowed.
    Lossy,
    /// The region has features that forbid writing.
    UnknownFeatures,
    /// Pages of several regions are left, and it is unknown which one is meant.
    SeveralRegions,
    /// The image ends before the region does.
    ImageTooSmall {
        /// Bytes of the region.
        region: u64,
        /// Bytes of the image.
        image: u64,
    },
    /// Only a newer version of gmfs understands the region.
    NewerFormat,
    /// Pages that might prove the region's state are not in the image, or cannot be read.
    PagesMissing,
    /// Pages of another region would be overwritten.
    OtherRegion,
    /// One copy holds no page of the region, and pages of another region are left.
    EmptyCopy,
    /// Pages that should be proven contradict each other.
    Contradiction,
    /// It is unknown what the content of a block was.
    ContentUnknown,
    /// The medium cannot read the content of a block.
    ContentUnreadable,
    /// Nothing proves what is right.
    Unproven,
    /// The inode cannot be read.
    InodeUnreadable,
    /// The descriptor of a block cannot be read.
    DescriptorUnreadable,
    /// What the finding is about is not in the region. A check never makes such a finding.
    NotThere,
    /// No repair is known. A check never makes such a finding.
    NoRepair,
    /// A store of pkernfs has no free inode for a file.
    NoFreeInode,
    /// A free inode may be all that is left of a file.
    MayBeFile,
    /// Other problems have to be repaired first.
    RepairFirst,
    /// The edit would break a law.
    Forbidden {
        /// The law.
        law: &'static str,
        /// What was not written, in words.
        edit: String,
    },
    /// The edit is not wanted: [`Decide`](crate::Decide) left the problem as it is, or the policy does not allow the
    /// whole repair.
    Declined {
        /// What was not written, in words.
        edit: String,
    },
    /// Somebody uses what would be written.
    InUse {
        /// What is in use, as the subject of a sentence.
        what: String,
        /// Who uses it.
        by: String,
        /// What was not written, in words.
        edit: String,
    },
}

impl Refusal {
    /// The reason for a problem that only the user can repair. It says what the user has to do.
    pub(crate) const fn of_manual(problem: &Problem) -> Self {
        match problem {
            Problem::ImageTooSmall { region, image } => Self::ImageTooSmall { region: *region, image: *image },
            Problem::TwoRegions { .. } => Self::SeveralRegions,
            Problem::FeatureIncompatUnknown { .. } => Self::NewerFormat,
            Problem::ContentChanged { .. } | Problem::ContentNotZero { .. } => Self::ContentUnknown,
            Problem::ContentUnreadable { .. } => Self::ContentUnreadable,
            _ => Self::Unproven,
        }
    }

    /// A name for programs, which never changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Lossy => "lossy",
            Self::UnknownFeatures => "unknown-features",
            Self::SeveralRegions => "several-regions",
            Self::ImageTooSmall { .. } => "image-too-small",
            Self::NewerFormat => "newer-format",
            Self::PagesMissing => "pages-missing",
            Self::OtherRegion => "other-region",
            Self::EmptyCopy => "empty-copy",
            Self::Contradiction => "contradiction",
            Self::ContentUnknown => "content-unknown",
            Self::ContentUnreadable => "content-unreadable",
            Self::Unproven => "unproven",
            Self::InodeUnreadable => "inode-unreadable",
            Self::DescriptorUnreadable => "descriptor-unreadable",
            Self::NotThere => "not-there",
            Self::NoRepair => "no-repair",
            Self::NoFreeInode => "no-free-inode",
            Self::MayBeFile => "may-be-file",
            Self::RepairFirst => "repair-first",
            Self::Forbidden { .. } => "forbidden",
            Self::Declined { .. } => "declined",
            Self::InUse { .. } => "in-use",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lossy => "the repair loses something, and only repairs that lose nothing were asked for",
            Self::UnknownFeatures => {
                "the region has features that this program does not know, so that it does not write here"
            }
            Self::SeveralRegions => "only you can tell which region this is: name it by its UUID",
            Self::ImageTooSmall { region, image } => {
                return write!(
                    f,
                    "the region has {region} bytes, and the image {image}: make it as large as the region again"
                );
            }
            Self::NewerFormat => "use a newer gmfs",
            Self::PagesMissing => {
                "pages that might prove the region's state are missing or cannot be read, and nothing is concluded \
                 without them"
            }
            Self::OtherRegion => {
                "pages of another region are at this region's locations, and a repair that loses nothing does not \
                 overwrite them"
            }
            Self::EmptyCopy => {
                "this copy holds no page of the region, and pages of another region are left: name the region by its UUID"
            }
            Self::Contradiction => {
                "it contradicts pages that ought to be proven, so that none of them is; a repair that may lose something \
                 keeps all there is, and takes nothing for proven"
            }
            Self::ContentUnknown => {
                "nothing tells what the content was; restore the guest, or seal the content as it is"
            }
            Self::ContentUnreadable => "mark the block as bad and restore the guest",
            Self::Unproven => "nothing can be proven",
            Self::InodeUnreadable => "the inode cannot be read",
            Self::DescriptorUnreadable => "its descriptor cannot be read",
            Self::NotThere => "it is not in the region",
            Self::NoRepair => "no repair is known",
            Self::NoFreeInode => "no inode is free: delete a file, then repair again",
            Self::MayBeFile => "it may be all that is left of a file, and nothing proves what it was",
            Self::RepairFirst => {
                "other problems may hide what it belongs to: look at the files when these are repaired, then repair again"
            }
            Self::Forbidden { law, edit } => return write!(f, "it would break a law ({law}); not done: {edit}"),
            Self::Declined { edit } => return write!(f, "not wanted: {edit}"),
            Self::InUse { what, by, edit } => return write!(f, "{what} is mapped by {by}; not done: {edit}"),
        })
    }
}
