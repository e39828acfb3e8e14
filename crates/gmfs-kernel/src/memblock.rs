//! The table of `reserve_mem=` regions that a kernel with KHO shows: a flattened device tree with a node for each.

use gmfs_io::num::small;

use crate::cmdline::{MOST_REGIONS, Region};

const MAGIC: u32 = 0xd00d_feed;
const BEGIN: u32 = 1;
const END: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;

/// The regions of the table, with their addresses; their alignment is not in it. `None` if it is none.
#[must_use]
pub fn regions(tree: &[u8]) -> Option<Vec<Region>> {
    if be32(tree, 0)? != MAGIC {
        return None;
    }
    let words = |at: usize| Some(small(be32(tree, at)?.into()));
    let (structure, strings) = (tree.get(words(8)?..)?, tree.get(words(12)?..)?);
    let mut found: Vec<Region> = Vec::new();
    let mut depth: usize = 0;
    let (mut label, mut start, mut size) = (None, None, None);
    let mut at: usize = 0;
    while let Some(token) = be32(structure, at) {
        at = at.checked_add(4)?;
        match token {
            BEGIN => {
                let name = until_zero(structure.get(at..)?)?;
                at = padded(at.checked_add(name.len())?.checked_add(1)?)?;
                depth = depth.checked_add(1)?;
                (label, start, size) = (std::str::from_utf8(name).ok(), None, None);
            }
            PROPERTY => {
                let (length, name) =
                    (small(be32(structure, at)?.into()), small(be32(structure, at.checked_add(4)?)?.into()));
                let from = at.checked_add(8)?;
                let end = from.checked_add(length)?;
                let value = structure.get(from..end)?;
                at = padded(end)?;
                let number = value.try_into().ok().map(u64::from_ne_bytes);
                match until_zero(strings.get(name..)?)? {
                    b"start" => start = number,
                    b"size" => size = number,
                    _ => {}
                }
            }
            END => {
                if let (2, Some(label), Some(size)) = (depth, label, size) {
                    found.push(Region { label: label.to_owned(), size, align: 1, address: start });
                }
                label = None;
                depth = depth.checked_sub(1)?;
            }
            NOP => {}
            _ => break,
        }
        if found.len() >= MOST_REGIONS || (depth == 0 && token == END) {
            break;
        }
    }
    Some(found)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn until_zero(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..bytes.iter().position(|byte| *byte == 0)?)
}

fn padded(at: usize) -> Option<usize> {
    at.checked_next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::made;

    #[test]
    fn regions_have_their_addresses() {
        let tree = made::memblock(&[("alpha", 0x1680_0000, 2 << 20), ("beta", 0x1790_5000, 64 << 10)]);
        let found = regions(&tree).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].label.as_str(), found[1].address, found[1].size), ("beta", Some(0x1790_5000), 64 << 10));
        for cut in 0..tree.len() {
            let _ = regions(&tree[..cut]);
        }
        assert_eq!(regions(b""), None);
        assert_eq!(regions(&[7; 100]), None);
    }
}
