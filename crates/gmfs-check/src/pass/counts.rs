//! Compares counts with what is recorded: the blocks of each file, and the counts in the superblock.

use gmfs_format::native::tables::BlockState;
use gmfs_volume::Superblocks;
use gmfs_volume::decide::Outcome;

use crate::finding::{Reason, Subject};
use crate::pass::blocks::Blocks;
use crate::pass::inodes::{Inodes, Known};
use crate::pass::{superblock, tree};
use crate::problem::Problem;
use crate::sink::Sink;

/// Compares counts. Those that depend on missing pages are not checked.
pub(crate) fn check(superblocks: &Superblocks, inodes: &Inodes, blocks: &Blocks, sink: &mut Sink) {
    let at = superblock::span_of(superblocks);
    // In doubt, the current superblock may be that of another commit.
    let doubt = superblocks.decision().outcome == Outcome::Doubt;
    if doubt || blocks.missing_pages > 0 || inodes.missing_pages > 0 {
        sink.skip(Subject::Superblock, at, Reason::MetadataMissing);
    }
    if doubt {
        return;
    }
    if blocks.missing_pages == 0 {
        files(superblocks, inodes, blocks, sink);
    }
    let raw = &superblocks.current().raw;
    let mut say = |problem| sink.add(problem, Subject::Superblock, at);
    // A block with a contradictory descriptor belongs to no count, so the counts can be checked only after it is
    // repaired.
    if blocks.missing_pages == 0 && blocks.contradicting == 0 {
        let (recorded, free) = (raw.free_blocks.get(), blocks.in_state(BlockState::Free));
        if recorded != free {
            say(Problem::FreeCountWrong { recorded, found: free });
        }
        let (recorded, data) = (raw.data_blocks.get(), blocks.in_state(BlockState::Data));
        if recorded != data {
            say(Problem::DataCountWrong { recorded, found: data });
        }
        let (recorded, bad) = (raw.bad_blocks.get(), blocks.in_state(BlockState::Bad));
        if recorded != bad {
            say(Problem::BadCountWrong { recorded, found: bad });
        }
        let (recorded, reserved) = (raw.reserved_blocks.get(), blocks.in_state(BlockState::Reserved));
        if recorded != reserved {
            say(Problem::ReservedCountWrong { recorded, found: reserved });
        }
    }
    let (recorded, found) = (raw.used_inodes.get(), inodes.used);
    if inodes.missing_pages == 0 && recorded != found {
        say(Problem::InodeCountWrong { recorded, found });
    }
}

/// Compares the recorded number of blocks of each file with those that name it.
fn files(superblocks: &Superblocks, inodes: &Inodes, blocks: &Blocks, sink: &mut Sink) {
    let tallies = blocks.tallies.iter().zip(&blocks.doubtful);
    for ((ino, record), (tally, doubtful)) in inodes.iter().zip(tallies).filter(|((_, r), _)| r.kind == Known::File) {
        if *doubtful {
            continue;
        }
        let (recorded, found) = (record.blocks, u64::from(tally.count));
        if recorded != found {
            let at = tree::span_of(superblocks, ino);
            sink.add(Problem::BlockCountWrong { recorded, found }, Subject::Inode(ino), at);
        }
    }
}
