//! Places of files that more than one block claims.
//!
//! Only files whose places do not rise are looked at. Dense ones get one bit for each of their places; for the others
//! the claims themselves are sorted, in as many passes as keeps them within a fixed amount of memory.

use gmfs_format::io::{ReadAt, Span};
use gmfs_format::units::{BlockNo, InodeNo};
use gmfs_volume::Superblocks;
use gmfs_volume::region::page_descriptors;
use gmfs_volume::sweep::{Frame, sweep};

use crate::finding::Subject;
use crate::pass::blocks::Blocks;
use crate::pass::inodes::Inodes;
use crate::problem::Problem;
use crate::sink::Sink;

/// Claims that are sorted at once: 16 bytes each.
const CLAIMS_AT_ONCE: u64 = 1 << 18;

/// Looks for places taken twice.
pub(crate) fn check<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    inodes: &Inodes,
    blocks: &Blocks,
    sink: &mut Sink,
) {
    if blocks.disordered.is_empty() {
        return;
    }
    // One bit for each data block of the region bounds the bits that dense files can need.
    let mut budget = u64::from(superblocks.geometry().data_blocks());
    let mut dense = vec![None; inodes.len()];
    let mut bits = 0_u64;
    let mut sparse = Vec::new();
    for ino in &blocks.disordered {
        let size = u64::from(inodes.get(*ino).size_blocks);
        match ino.position().and_then(|position| dense.get_mut(position)) {
            Some(start) if size <= budget => {
                *start = Some(bits);
                bits += size;
                budget -= size;
            }
            _ => sparse.push(*ino),
        }
    }
    if bits > 0 {
        dense_files(source, superblocks, &dense, bits, sink);
    }
    sparse_files(source, superblocks, blocks, &sparse, sink);
}

/// Marks each place of the dense files; a second mark is a second claim.
fn dense_files<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    starts: &[Option<u64>],
    bits: u64,
    sink: &mut Sink,
) {
    let mut taken = vec![0_u64; bits.div_ceil(64) as usize];
    claims(source, superblocks, |block, owner, index| {
        let Some(Some(start)) = owner.position().and_then(|position| starts.get(position)) else {
            return;
        };
        let bit = start + u64::from(index);
        let (word, mask) = ((bit / 64) as usize, 1 << (bit % 64));
        let Some(word) = taken.get_mut(word) else {
            return;
        };
        if *word & mask != 0 {
            report(superblocks, block, owner, index, sink);
        }
        *word |= mask;
    });
}

/// Sorts the claims of the sparse files, a share of them at a time.
fn sparse_files<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    blocks: &Blocks,
    sparse: &[InodeNo],
    sink: &mut Sink,
) {
    let count = |ino: &InodeNo| ino.position().and_then(|at| blocks.tallies.get(at)).map_or(0, |t| u64::from(t.count));
    let total: u64 = sparse.iter().map(count).sum();
    let shares = total.div_ceil(CLAIMS_AT_ONCE);
    for share in 0..shares {
        let mut here: Vec<(u64, u32)> = Vec::new();
        claims(source, superblocks, |block, owner, index| {
            let key = u64::from(owner.0) << 32 | u64::from(index);
            if sparse.binary_search(&owner).is_ok() && spread(key) % shares == share {
                here.push((key, block.0));
            }
        });
        here.sort_unstable();
        for claim in here.windows(2) {
            if let [(first, _), (second, block)] = claim
                && first == second
            {
                let (owner, index) = (InodeNo((second >> 32) as u32), (second & 0xFFFF_FFFF) as u32);
                report(superblocks, BlockNo(*block), owner, index, sink);
            }
        }
    }
}

/// Spreads keys evenly (the finaliser of splitmix64), so that no share is much larger than another.
const fn spread(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

/// Hands out every claim of a block to a place in a file.
fn claims<S: ReadAt + ?Sized>(
    source: &S,
    superblocks: &Superblocks,
    mut each: impl FnMut(BlockNo, InodeNo, u32) + Send,
) {
    let geometry = superblocks.geometry();
    let visit = |frame: &Frame<'_>| {
        let Some(bytes) = frame.taken() else { return };
        for (block, entry) in page_descriptors(geometry, frame.page, bytes).filter(|(_, entry)| entry.is_mapping()) {
            each(block, entry.owner(), entry.index.get());
        }
    };
    sweep(source, superblocks, superblocks.current().used_table_pages(), vec![visit]);
}

fn report(superblocks: &Superblocks, block: BlockNo, owner: InodeNo, index: u32, sink: &mut Sink) {
    let geometry = superblocks.geometry();
    let at = Span::new(geometry.block_offset(block), geometry.block_bytes());
    sink.add(Problem::PlaceTakenTwice { owner, index }, Subject::Blocks { first: block, count: 1 }, at);
}
