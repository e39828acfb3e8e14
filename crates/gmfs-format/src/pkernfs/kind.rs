//! What an inode is.

/// What an inode in use is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A file: its block is a mappings table.
    File,
    /// A directory.
    Directory,
    /// The directory of IOMMU files, `/iommu`.
    IommuDirectory,
    /// Root page tables of an IOMMU: its block holds them.
    IommuRootPageTables,
    /// Page tables of an IOMMU domain: its block holds them.
    IommuDomainPageTables,
}

impl Kind {
    /// Each kind with its flag, in the order in which the driver tests the flags.
    const FLAGS: [(u32, Self); 5] = [
        (2, Self::Directory),
        (1, Self::File),
        (4, Self::IommuDirectory),
        (8, Self::IommuRootPageTables),
        (16, Self::IommuDomainPageTables),
    ];

    /// The kind that the driver takes an inode with these flags for: the first flag that is set decides. `None` for a free
    /// inode, and for flags that the driver does not know.
    #[must_use]
    pub fn of_flags(flags: u32) -> Option<Self> {
        Self::FLAGS.into_iter().find(|(flag, _)| flags & flag != 0).map(|(_, kind)| kind)
    }

    /// The flags that the driver writes for this kind.
    #[must_use]
    pub fn flags(self) -> u32 {
        Self::FLAGS.into_iter().find(|(_, kind)| *kind == self).map_or(0, |(flag, _)| flag)
    }

    /// Whether inodes of this kind hold other inodes.
    #[must_use]
    pub const fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::IommuDirectory)
    }

    /// Whether the block of such an inode holds page tables, not mappings.
    #[must_use]
    pub const fn is_page_tables(self) -> bool {
        matches!(self, Self::IommuRootPageTables | Self::IommuDomainPageTables)
    }
}
