//! Everything that an undamaged region satisfies.

use std::fmt;

use super::{
    Anomaly, BITMAP_BYTES, BITMAP_OFFSET, BLOCK_BYTES, GHOST, GHOST_OFFSET, INODE_BYTES, INODES, INODES_OFFSET,
    InodeNo, Kind, Lack, Node, Place, ReadAt, Remark, Store, len64, small,
};
use crate::chains::inode_name as inode;
use crate::reading::read_pages;

/// Something that an undamaged region does not have, or a part of it that is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Something is wrong with inodes, names or chains, or a part of them is unknown.
    Inodes(Anomaly),
    /// A link leads to the ghost: the driver had no free inode. It cannot list the directory any more.
    Ghost,
    /// A field that is 0 in every inode of this kind is not: padding, the link to children of a file, the block of a directory,
    /// what follows a name, anything of a free inode but its link.
    NotZero {
        /// The inode.
        ino: InodeNo,
    },
    /// A file has more blocks than its count says were ever allocated.
    CountTooSmall {
        /// The file.
        ino: InodeNo,
        /// Its count.
        count: u32,
        /// Blocks that it has.
        blocks: u64,
    },
    /// A file has an entry without a block before one with a block. The driver maps block 0 there, which is the superblock.
    Hole {
        /// The file.
        ino: InodeNo,
        /// The first such entry.
        entry: u64,
        /// How many.
        count: u64,
    },
    /// Entries name blocks past the end of the region: the driver would map memory that is not its own.
    PastEnd {
        /// The file.
        ino: InodeNo,
        /// The first such entry.
        entry: u64,
        /// How many.
        count: u64,
    },
    /// Entries of a file cannot be read.
    EntriesUnknown {
        /// The file.
        ino: InodeNo,
        /// How many.
        count: u64,
        /// Why.
        lack: Lack,
    },
    /// The bitmap and the owners of blocks do not agree.
    Blocks(Remark),
    /// The bytes behind the last inode are not zero.
    Slack,
}

impl Finding {
    /// Whether the driver leaves this in normal use: it loses memory, and no content.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Blocks(remark) if remark.is_normal())
    }
}

/// Entries of a table: the first, and how many.
type Entries = Option<(u64, u64)>;

impl Store {
    /// What is wrong: everything that an undamaged region satisfies is looked at. Reads the mappings tables of all files, and
    /// the metadata at fixed places.
    #[must_use]
    pub fn check(&self, source: &dyn ReadAt) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.anomalies().iter().cloned().map(Finding::Inodes).collect();
        if self.node(GHOST).is_some() {
            found.push(Finding::Ghost);
        }
        found.extend(self.not_zero().map(|ino| Finding::NotZero { ino }));
        for node in self.nodes().filter(|node| node.kind == Some(Kind::File)) {
            self.check_table(source, node, &mut found);
        }
        self.check_blocks(source, &mut found);
        self.fixed_places(source, &mut found);
        found
    }

    /// Inodes with bytes that should be 0.
    fn not_zero(&self) -> impl Iterator<Item = InodeNo> {
        let known = self.inodes.all().filter_map(|(ino, inode)| Some((ino, inode.ok()?)));
        let odd = known.filter(|(_, inode)| {
            let kind = Kind::of_flags(inode.flags.get());
            // Most inodes are free and have no name.
            let tail = inode.filename != [0; 255]
                && inode.filename.iter().skip_while(|byte| **byte != 0).any(|byte| *byte != 0);
            let padded = inode.padding_1 != [0; 4] || inode.padding_2 != 0 || tail;
            let children = inode.child_ino != 0;
            let table = inode.mappings_block != 0 || inode.num_mappings != 0;
            let more = match kind {
                Some(Kind::Directory | Kind::IommuDirectory) => table,
                Some(Kind::File) => children,
                Some(Kind::IommuRootPageTables | Kind::IommuDomainPageTables) => children || inode.num_mappings != 0,
                // With flags that the driver does not know nothing can be said of the rest.
                None => inode.flags == 0 && (children || table || !inode.name().is_empty()),
            };
            padded || more
        });
        odd.map(|(ino, _)| ino)
    }

    /// The entries of a file.
    fn check_table(&self, source: &dyn ReadAt, node: &Node, found: &mut Vec<Finding>) {
        let ino = node.ino;
        let (mut blocks, mut hole, mut past): (u64, Entries, Entries) = (0, None, None);
        let mut unknown: Option<(u64, Lack)> = None;
        let add = |sum: &mut Entries, entry: u64, count: u64| {
            let (first, before) = sum.unwrap_or((entry, 0));
            *sum = Some((first, before.saturating_add(count)));
        };
        for extent in self.extents(source, ino) {
            let in_blocks = |bytes: u64| bytes.checked_div(BLOCK_BYTES).unwrap_or_default();
            let (entry, count) = (in_blocks(extent.offset), in_blocks(extent.length));
            match extent.place {
                Place::Region { .. } => blocks = blocks.saturating_add(count),
                Place::PastEnd { .. } => {
                    blocks = blocks.saturating_add(count);
                    add(&mut past, entry, count);
                }
                Place::NoBlock => add(&mut hole, entry, count),
                Place::Unknown { lack } => {
                    let before = unknown.map_or(0, |(before, _)| before);
                    unknown = Some((before.saturating_add(count), lack));
                }
                // Reported with the inode.
                Place::NoTable => {}
            }
        }
        found.extend(past.map(|(entry, count)| Finding::PastEnd { ino, entry, count }));
        found.extend(hole.map(|(entry, count)| Finding::Hole { ino, entry, count }));
        found.extend(unknown.map(|(count, lack)| Finding::EntriesUnknown { ino, count, lack }));
        if blocks > node.num_mappings.into() {
            found.push(Finding::CountTooSmall { ino, count: node.num_mappings, blocks });
        }
    }

    /// Owners and marks of blocks.
    fn check_blocks(&self, source: &dyn ReadAt, found: &mut Vec<Finding>) {
        let mut runs = Vec::new();
        let usage = self.usage(source, &mut |remark| runs.push(remark));
        // A block without an owner may have one that is not known.
        let told = |remark: &Remark| usage.complete || !matches!(remark, Remark::Leaked { .. });
        found.extend(runs.into_iter().filter(told).map(Finding::Blocks));
    }

    /// Parts of the metadata that are not used. The ghost is in one of them.
    fn fixed_places(&self, source: &dyn ReadAt, found: &mut Vec<Finding>) {
        let unused = BITMAP_OFFSET.saturating_add(BITMAP_BYTES);
        let mut rest = vec![0; small(INODES_OFFSET.saturating_sub(unused))];
        // What cannot be read is zero here.
        read_pages(source, self.base().saturating_add(unused), &mut rest, |_, _| {});
        if self.node(GHOST).is_some() {
            let ghost = small(GHOST_OFFSET.saturating_sub(unused));
            let end = ghost.saturating_add(small(INODE_BYTES));
            if let Some(bytes) = rest.get_mut(ghost..end) {
                bytes.fill(0);
            }
        }
        if rest.iter().any(|byte| *byte != 0) {
            found.push(Finding::Blocks(Remark::BitmapRest));
        }
        let inodes = u64::from(INODES).saturating_mul(INODE_BYTES);
        let mut slack = [[0; 8]; 28];
        debug_assert!(len64(slack.as_flattened().len()) == BLOCK_BYTES.saturating_sub(inodes));
        let at = self.base().saturating_add(INODES_OFFSET).saturating_add(inodes);
        if source.read_at(at, slack.as_flattened_mut()).is_ok() && slack != [[0; 8]; 28] {
            found.push(Finding::Slack);
        }
    }
}

/// `1 entry`, `3 entries`.
fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inodes(anomaly) => anomaly.fmt(f),
            Self::Ghost => f.write_str(
                "a file is in inode -12, which is none: the driver had no free inode, and does not list that directory any more",
            ),
            Self::NotZero { ino } => write!(f, "{} has bytes that should be 0", inode(*ino)),
            Self::CountTooSmall { ino, count, blocks } => {
                write!(f, "{} counts {count} allocated blocks, and has {blocks}", inode(*ino))
            }
            Self::Hole { ino, entry, count } => write!(
                f,
                "{}: {} from entry {entry} on have no block: the driver maps the superblock there",
                inode(*ino),
                entries(*count)
            ),
            Self::PastEnd { ino, entry, count } => write!(
                f,
                "{}: {} from entry {entry} on name blocks past the end of the region",
                inode(*ino),
                entries(*count)
            ),
            Self::EntriesUnknown { ino, count, lack } => {
                write!(f, "{}: {} cannot be read: {lack}", inode(*ino), entries(*count))
            }
            Self::Blocks(remark) => remark.fmt(f),
            Self::Slack => f.write_str("the bytes behind the last inode are not zero"),
        }
    }
}
