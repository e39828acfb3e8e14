//! What stores of the drivers pkernfs and guestmemfs have in common: inodes in chains, and the bitmap of blocks.

use gmfs_format::chains::{Anomaly, Chain, inode_name};
use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_format::pkernfs::Remark;
use gmfs_io::Span;

use super::Gathered;
use crate::finding::{Reason, Subject};
use crate::problem::{Mask, Problem, Text};

/// Where the parts of a store are, and which paths its files have.
pub(super) struct Driver<'s> {
    /// The superblock.
    pub(super) superblock: Span,
    /// The first inode.
    pub(super) inodes: u64,
    /// Bytes of an inode.
    pub(super) inode_bytes: u64,
    /// The ghost inode: its number, its name, where it is.
    pub(super) ghost: (InodeNo, &'static str, u64),
    /// The bitmap.
    pub(super) bitmap: Span,
    /// Block 0.
    pub(super) blocks: u64,
    /// Bytes of a block.
    pub(super) block_bytes: u64,
    /// The path of an inode.
    pub(super) path: &'s dyn Fn(InodeNo) -> Option<Vec<u8>>,
}

impl Driver<'_> {
    /// An inode as the subject of a finding, and where it is.
    pub(super) fn inode(&self, ino: InodeNo) -> (Subject, Span) {
        let (ghost, name, at) = self.ghost;
        if ino == ghost {
            return (Subject::Part(name), Span::new(at, self.inode_bytes));
        }
        let before = u64::from(ino.0.saturating_sub(1)).saturating_mul(self.inode_bytes);
        (Subject::Inode(ino), Span::new(self.inodes.saturating_add(before), self.inode_bytes))
    }

    /// Adds a finding about an inode.
    pub(super) fn of_inode(&self, problem: Problem, ino: InodeNo, found: &mut Gathered) {
        let (subject, at) = self.inode(ino);
        found.add(problem, subject, at, (self.path)(ino));
    }

    /// Adds that something about an inode is unknown.
    pub(super) fn unknown(&self, ino: InodeNo, why: Reason, found: &mut Gathered) {
        let (subject, at) = self.inode(ino);
        found.lack(subject, at, why);
    }

    /// The inode with a link, or the superblock.
    fn holder(&self, problem: Problem, holder: Option<InodeNo>, found: &mut Gathered) {
        match holder {
            Some(ino) => self.of_inode(problem, ino, found),
            None => found.add(problem, Subject::Superblock, self.superblock, None),
        }
    }

    /// Adds what is wrong with inodes and chains.
    pub(super) fn chains(&self, anomaly: &Anomaly, found: &mut Gathered) {
        match anomaly {
            Anomaly::MagicDiffers { found: magic } => {
                let problem = Problem::PkMagicDiffers { found: Mask(*magic) };
                found.add(problem, Subject::Superblock, self.superblock, None);
            }
            Anomaly::SuperblockUnknown { lack } => found.lack(Subject::Superblock, self.superblock, *lack),
            Anomaly::RootDiffers => self.of_inode(Problem::RootInodeDiffers {}, InodeNo::ROOT, found),
            Anomaly::UnknownInodes { first, last, lack } => {
                let ((subject, start), (_, end)) = (self.inode(*first), self.inode(*last));
                let len = end.end().saturating_sub(start.offset);
                let subject = if first == last { subject } else { Subject::Part("inodes") };
                found.lack(subject, Span::new(start.offset, len), *lack);
            }
            Anomaly::BadLink { chain, holder, value } => {
                let problem = Problem::ChainLinkBad { chain: Text::from(chain), value: Mask(*value) };
                self.holder(problem, *holder, found);
            }
            Anomaly::Cycle { chain, holder, ino } => {
                let problem = Problem::ChainCycle { chain: Text::from(chain), target: Text::from(&inode_name(*ino)) };
                self.holder(problem, *holder, found);
            }
            Anomaly::LinkedTwice { ino, first, second } => {
                let problem = Problem::InodeInTwoChains { first: Text::from(first), second: Text::from(second) };
                self.of_inode(problem, *ino, found);
            }
            Anomaly::ChainLost { chain, ino, lack } => match (chain, ino) {
                (_, Some(ino)) => self.unknown(*ino, (*lack).into(), found),
                (Chain::Directory(directory), None) => self.unknown(*directory, (*lack).into(), found),
                (Chain::Free, None) => found.lack(Subject::Part("list of free inodes"), self.superblock, *lack),
            },
            Anomaly::Orphan { ino } => self.of_inode(Problem::InodeOrphaned {}, *ino, found),
            Anomaly::Unreached { ino } => self.unknown(*ino, Reason::MetadataMissing, found),
            Anomaly::FreeInDirectory { directory, first, count } => {
                let problem = Problem::FreeInodeInDirectory { first: *first, inodes: *count };
                self.of_inode(problem, *directory, found);
            }
            Anomaly::UsedInFreeList { ino } => self.of_inode(Problem::UsedInodeInFreeList {}, *ino, found),
            Anomaly::Unaccounted { first, last } => {
                let inodes = last.0.saturating_sub(first.0).saturating_add(1);
                self.of_inode(Problem::FreeInodesUnlisted { inodes }, *first, found);
            }
            Anomaly::OddFlags { ino, flags } => {
                self.of_inode(Problem::InodeFlagsOdd { flags: Mask((*flags).into()) }, *ino, found);
            }
            Anomaly::BadName { ino, fault } => {
                self.of_inode(Problem::EntryNameBad { fault: Text::from(fault) }, *ino, found);
            }
            Anomaly::DuplicateName { first, second, .. } => {
                let problem = Problem::EntryNameTwice { other: Text::from(&inode_name(*first)) };
                self.of_inode(problem, *second, found);
            }
            Anomaly::BadTable { ino, block } => {
                self.of_inode(Problem::PkTableBlockBad { block: *block }, *ino, found);
            }
            // The enumeration may grow; what has no code yet is not passed over in silence.
            _ => found.lack(Subject::Part("inodes"), Span::new(self.inodes, self.inode_bytes), Reason::UnknownForm),
        }
    }

    /// Adds where the bitmap and the owners of blocks do not agree.
    pub(super) fn blocks(&self, remark: &Remark, found: &mut Gathered) {
        let (problem, first, count) = match *remark {
            Remark::Leaked { first, count } => (Problem::BlockLeaked {}, first, count),
            Remark::Unmarked { first, count } => (Problem::BlockNotMarked {}, first, count),
            Remark::MarkedPastEnd { first, count } => (Problem::MarkPastEnd {}, first, count),
            Remark::Contested { block, ino, .. } => {
                let problem = Problem::BlockClaimedTwice { ino: Text::from(&inode_name(ino)) };
                return found.add(problem, Subject::Blocks { first: block, count: 1 }, self.block(block, 1), None);
            }
            _ => return found.add(Problem::BitmapRestNotZero {}, Subject::Part("bitmap"), self.bitmap, None),
        };
        found.add(problem, Subject::Blocks { first, count }, self.block(first, count), None);
    }

    fn block(&self, first: BlockNo, count: u32) -> Span {
        let bytes = |blocks: u32| u64::from(blocks).saturating_mul(self.block_bytes);
        Span::new(self.blocks.saturating_add(bytes(first.0)), bytes(count))
    }
}
