//! The table of `reserve_mem=` regions that a kernel with KHO shows: a flattened device tree with a node for each.

use gmfs_format::fdt::{Fdt, Node};

use crate::cmdline::{MOST_REGIONS, Region};

/// The regions of the table, with their addresses. The table does not record alignments. `None` if these bytes are no
/// such table.
#[must_use]
pub fn regions(tree: &[u8]) -> Option<Vec<Region>> {
    let tree = Fdt::parse(tree).ok()?;
    Some(tree.root().children().filter_map(region).take(MOST_REGIONS).collect())
}

/// The region of a node; `None` for a node without a label or a size.
fn region(node: Node<'_>) -> Option<Region> {
    let label = std::str::from_utf8(node.name()).ok()?.to_owned();
    // The kernel writes numbers in the byte order of the machine.
    let number = |name: &[u8]| node.property(name)?.try_into().ok().map(u64::from_ne_bytes);
    Some(Region { label, size: number(b"size")?, align: 1, address: number(b"start") })
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
