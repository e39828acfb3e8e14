//! What is found block by block is what the files' extents and all of their checksums say.

use std::collections::BTreeMap;

use gmfs_format::model::Kind;
use gmfs_format::native::extents::{Extent, Extents};
use gmfs_format::native::tables::{BLOCK_CRC_VALID, BLOCK_ZERO};
use proptest::prelude::*;

use super::*;

/// A descriptor: owner, file block, CRC if it is sealed, and whether the block is bad.
type Block = (u32, u32, Option<u32>, bool);

fn entry(block: &Block) -> BlockRaw {
    let (owner, index, crc, bad) = *block;
    let mut entry = BlockRaw::FREE;
    entry.owner.set(owner);
    entry.index.set(index);
    entry.state = if bad { BlockState::Bad.byte() } else { BlockState::Data.byte() };
    if let Some(crc) = crc {
        entry.crc.set(crc);
        entry.flags = BLOCK_CRC_VALID | if crc == 0 { BLOCK_ZERO } else { 0 };
    }
    entry
}

fn block() -> impl Strategy<Value = Block> {
    let crc = prop_oneof![6 => (0_u32..2).prop_map(Some), 1 => Just(None)];
    (1_u32..5, 0_u32..6, crc, prop_oneof![6 => Just(false), 1 => Just(true)])
}

/// A region: its descriptors by block.
type Region = BTreeMap<u32, Block>;

/// Its descriptors, in pages of some length, the first of which begins at some block.
fn list(region: &Region, (first, length): (u32, usize)) -> Vec<Page> {
    let all: Vec<BlockRaw> = (first..12).map(|number| region.get(&number).map_or(BlockRaw::FREE, entry)).collect();
    let starts = (first..).step_by(length).map(BlockNo);
    starts.zip(all.chunks(length)).map(|(first, entries)| (first, entries.into())).collect()
}

/// What is known of a file: its extents, its file blocks with their checksums, whether all are sealed.
fn of_file(region: &Region, ino: u32) -> (Vec<Extent>, Vec<(u32, Option<u32>)>) {
    let (mut extents, mut sums) = (Extents::default(), Vec::new());
    for (number, (_, index, crc, bad)) in region.iter().filter(|(_, block)| block.0 == ino) {
        extents.push(*index, BlockNo(*number), *bad);
        sums.push((*index, crc.filter(|_| !bad)));
    }
    sums.sort_unstable();
    (extents.finish(), sums)
}

fn inode(ino: u32, blocks: u64) -> Inode {
    Inode {
        ino: InodeNo(ino),
        kind: Kind::File,
        parent: InodeNo::ROOT,
        name: Box::default(),
        size: 0,
        size_recorded: true,
        blocks,
        attributes: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn block_by_block_is_as_extent_by_extent(
        first in prop::collection::btree_map(0_u32..12, block(), 0..12),
        changes in prop::collection::vec((0_u32..12, prop::option::of(block())), 0..4),
        swapped in any::<bool>(),
        wrong in prop::option::weighted(0.1, 1_u32..5),
        lost in prop::bool::weighted(0.1),
        pages in ((0_u32..3, 1_usize..7), prop_oneof![Just(None), (0_u32..3, 1_usize..7).prop_map(Some)]),
    ) {
        let pages = [pages.0, pages.1.unwrap_or(pages.0)];
        let first: Region = first.into_iter().filter(|(block, _)| *block >= pages[0].0).collect();
        let mut second = first.clone();
        for (number, block) in changes {
            match block {
                Some(block) => second.insert(number, block),
                None => second.remove(&number),
            };
        }
        second.retain(|block, _| *block >= pages[1].0);
        // Inode 4 is in no pair. In one case, two files have each other's inode in the second region.
        let pairs = [[1, 1], [2, if swapped { 3 } else { 2 }], [3, if swapped { 2 } else { 3 }]];
        if swapped {
            second.values_mut().filter(|block| (2..4).contains(&block.0)).for_each(|block| block.0 = 5 - block.0);
        }
        let mut blocks = Blocks::new(&pairs.map(|pair| pair.map(InodeNo)));
        let lost_pages = blocks.pass(list(&first, pages[0]).into_iter(), |each| {
            list(&second, pages[1]).iter().for_each(|(block, entries)| each(*block, entries));
            lost.into()
        });
        blocks.whole = lost_pages == 0;
        for (number, [one, other]) in pairs.into_iter().enumerate() {
            let (a, b) = (of_file(&first, one), of_file(&second, other));
            let more = |ino: u32| u64::from(wrong == Some(ino));
            let inodes = [inode(one, a.1.len() as u64 + more(one)), inode(other, b.1.len() as u64 + more(other))];
            let known = !lost && wrong != Some(one) && wrong != Some(other);
            let of = |same: bool| if same { Sameness::Same } else { Sameness::Differs };
            let place = |extent: &Extent| (extent.index, extent.block, extent.count);
            let extents = of(a.0.iter().map(place).eq(b.0.iter().map(place)));
            let extents = if known { extents } else { Sameness::Unknown };
            match blocks.extents(number, [&inodes[0], &inodes[1]]) {
                Some(found) => prop_assert_eq!(found, extents),
                None => prop_assert!(blocks.need_extents(number) && a.0 != b.0),
            }
            let sealed = a.1.iter().chain(&b.1).all(|(_, crc)| crc.is_some());
            let places = a.1.iter().map(|(index, _)| index).eq(b.1.iter().map(|(index, _)| index));
            let seals = if known && sealed && places { of(a.1 == b.1) } else { Sameness::Unknown };
            prop_assert_eq!(blocks.seals(number, [&inodes[0], &inodes[1]]), seals);
        }
    }
}
