//! Everything that an undamaged file system satisfies.

use std::collections::{BTreeMap, BTreeSet};

use super::store::{Kind, Node, Store};
use super::{
    ARRAY_BYTES, Anomaly, BITMAP_ALLOCATED, BITMAP_BYTES, BLOCK_BYTES, BlockNo, GHOST, GHOST_BEFORE, HandOver,
    INODE_BYTES, InodeNo, MAX_BLOCKS, PAGE_BYTES, PAGE_ENTRIES, Place, Remark, Span, block_offset, len64, to_u32,
    to_usize,
};
use crate::chains::Linked as _;
use crate::marks::{Bits, Runs};

/// One past the last physical address.
const ADDRESSES: u64 = 1 << 52;
/// The superblock without debugging of locks.
const SUPERBLOCK: u64 = 40;
/// Direct maps start at multiples of this.
const GIB: u64 = 1 << 30;

impl Store {
    /// What is wrong: everything that an undamaged file system satisfies is looked at, by the mappings that the device tree
    /// gives, as far as there is one. Chains come first.
    #[must_use]
    pub fn check(&self) -> Vec<Anomaly> {
        let mut found: Vec<Anomaly> = self.chain_anomalies().iter().cloned().map(Anomaly::from).collect();
        if let Some(tree) = &self.parts.tree {
            self.tree(tree, &mut found);
        } else if let Some(at) = self.parts.damaged_tree {
            found.push(Anomaly::TreeDamaged { at });
        }
        self.check_superblock(&mut found);
        self.counts(&mut found);
        self.free(&mut found);
        self.pages(&mut found);
        for node in self.files() {
            self.file(node, &mut found);
        }
        self.blocks_and_bits(&mut found);
        found
    }

    fn tree(&self, tree: &HandOver, found: &mut Vec<Anomaly>) {
        if !tree.whole {
            found.push(Anomaly::TreeCut);
        }
        if let Some(version) = &tree.other_form {
            found.push(Anomaly::OtherForm { version: version.clone() });
        }
        let (end, most) = (tree.region.offset.checked_add(tree.region.len), block_offset(BlockNo(MAX_BLOCKS)));
        if end.is_none_or(|end| end > ADDRESSES) || tree.region.len > most {
            found.push(Anomaly::RegionImpossible { region: tree.region });
        }
        if !tree.no_page_structs {
            found.push(Anomaly::RegionFlag);
        }
        let mut length = |what, span: Span, wanted: u64| {
            let small = what == "the superblock" && span.len >= wanted && span.len <= PAGE_BYTES;
            if span.len != wanted && !small {
                found.push(Anomaly::Length { what, span });
            }
        };
        length("the superblock", tree.superblock, SUPERBLOCK);
        length("the array of inodes", tree.inodes, ARRAY_BYTES);
        length("the bitmap", tree.bitmap, BITMAP_ALLOCATED);
        tree.to_inode.into_iter().for_each(|span| length("the page of inode numbers", span, PAGE_BYTES));
        let odd = tree.pages.iter().find(|span| span.len != PAGE_BYTES || !span.offset.is_multiple_of(PAGE_BYTES));
        if let Some(span) = odd {
            found.push(Anomaly::Length { what: "a page of mappings", span: *span });
        }
        match &self.table {
            Err(lack) => found.push(Anomaly::TableUnknown { lack: *lack }),
            Ok(table) => self.table(tree, table, found),
        }
        // An inode without a pointer differs, too.
        let without = self.files().filter(|node| node.mappings == 0 && self.by_tree.contains_key(&node.ino)).count();
        let differing = self.differing().count().saturating_add(without);
        if differing > 0 {
            found.push(Anomaly::MappingsDiffer { files: to_u32(len64(differing)), shifted: self.is_shifted() });
        }
    }

    /// Whether each inode has the page that the tree gives the one before it.
    fn is_shifted(&self) -> bool {
        self.by_tree.iter().all(|(ino, page)| {
            let next = ino.0.checked_add(1).and_then(|next| self.raw_inode(InodeNo(next)));
            match (next, self.direct_map) {
                (Some(Ok(next)), Some(offset)) => next.mappings.get().checked_sub(offset) == Some(*page),
                // What is unknown does not contradict.
                _ => true,
            }
        })
    }

    fn table(&self, tree: &HandOver, table: &[u32], found: &mut Vec<Anomaly>) {
        let pages = tree.pages.len();
        let unordered = table.iter().zip(table.iter().skip(1)).position(|(one, next)| one >= next);
        let beyond = (tree.whole && table.len() > pages).then_some(pages);
        if let Some(entry) = unordered.map(|at| at.saturating_add(1)).or(beyond) {
            found.push(Anomaly::TableOrder { entry: to_u32(len64(entry)) });
        }
        if !self.inodes_known() {
            return;
        }
        let named: BTreeSet<InodeNo> = table.iter().take(pages).map(|ino| InodeNo(*ino)).collect();
        let is_file = |ino: &InodeNo| self.node(*ino).is_some_and(|node| node.kind == Some(Kind::File));
        let extra: Vec<InodeNo> = named.iter().copied().filter(|ino| !is_file(ino)).collect();
        let missing = self.files().map(|node| node.ino).filter(|ino| tree.whole && !named.contains(ino));
        let missing: Vec<InodeNo> = missing.collect();
        if let Some(first) = missing.first().or(extra.first()) {
            let count = |list: &Vec<InodeNo>| to_u32(len64(list.len()));
            found.push(Anomaly::TreeFiles { missing: count(&missing), extra: count(&extra), first: *first });
        }
    }

    fn check_superblock(&self, found: &mut Vec<Anomaly>) {
        let Some(superblock) = self.superblock() else { return };
        let offset = superblock.inodes.wrapping_sub(self.parts.inodes);
        let by_bitmap = self.bitmap.at.map(|at| superblock.bitmap.wrapping_sub(at));
        if by_bitmap.is_some_and(|other| other != offset) || !offset.is_multiple_of(GIB) {
            found.push(Anomaly::Pointers { inodes: offset, bitmap: by_bitmap.unwrap_or_default() });
        }
        if self.parts.tree.is_some() && superblock.serialised.is_some_and(|flag| flag != 1) {
            found.push(Anomaly::NotSerialised);
        }
        if superblock.lock.is_some_and(|lock| lock != 0) {
            found.push(Anomaly::Locked);
        }
    }

    /// The counts of inodes in use.
    fn counts(&self, found: &mut Vec<Anomaly>) {
        if !self.inodes_known() {
            return;
        }
        let linked = len64(self.nodes().filter(|node| node.parent.is_some()).count());
        let superblock = self.superblock().map(|superblock| superblock.allocated_inodes);
        let tree = self.parts.tree.as_ref().and_then(|tree| tree.num_inodes);
        if [superblock, tree].into_iter().flatten().any(|count| count != linked) {
            found.push(Anomaly::Counts { superblock, tree, linked });
        }
    }

    /// Free inodes are zero but for their link; a file has no child, and the root no mappings.
    fn free(&self, found: &mut Vec<Anomaly>) {
        for (ino, inode) in self.inodes.all() {
            let Ok(inode) = inode else { continue };
            let odd = inode.child_ino != 0
                || inode.filename != [0; 255]
                || inode.mappings != 0
                || inode.num_mappings != 0
                || inode.padding_1 != [0; 4]
                || inode.padding_3 != [0; 4];
            if ino != InodeNo::ROOT && inode.flags == 0 && odd {
                found.push(Anomaly::FreeNotZero { ino });
            }
            if ino != InodeNo::ROOT && inode.flags == 1 && inode.child_ino != 0 {
                found.push(Anomaly::FileWithChild { ino });
            }
            // Said already if it differs in what the walk of the chains looks at.
            if ino == InodeNo::ROOT && inode.is_root() && (inode.mappings != 0 || inode.num_mappings != 0) {
                found.push(Anomaly::Inodes(crate::chains::Anomaly::RootDiffers));
            }
        }
    }

    /// Each file has a page of mappings for itself.
    fn pages(&self, found: &mut Vec<Anomaly>) {
        let mut owners: BTreeMap<u64, InodeNo> = BTreeMap::new();
        for node in self.files() {
            let ino = node.ino;
            let page = self.page(ino, None);
            match (page, self.entries(ino, None)) {
                (Some(page), Some(Err(lack))) => {
                    found.push(Anomaly::PageUnknown { ino, page: Some(page), lack: Some(lack) });
                }
                (Some(_), Some(Ok(_))) => {}
                // Where the direct map is not known, the pointer says nothing.
                (page, _) => found.push(Anomaly::PageUnknown { ino, page, lack: None }),
            }
            if let Some(page) = page
                && let Some(first) = owners.insert(page, ino)
            {
                found.push(Anomaly::PageShared { page, first, second: ino });
            }
        }
    }

    /// The entries of a file.
    fn file(&self, node: &Node, found: &mut Vec<Anomaly>) {
        let ino = node.ino;
        let Some(Ok(entries)) = self.entries(ino, None) else { return };
        let counted = node.num_mappings.min(PAGE_ENTRIES);
        if node.num_mappings > PAGE_ENTRIES {
            found.push(Anomaly::TooManyBlocks { ino, count: node.num_mappings });
        }
        if entries.len() > to_usize(counted) {
            let beyond = entries.iter().skip(to_usize(counted)).position(|entry| *entry != 0).unwrap_or_default();
            found.push(Anomaly::BeyondCount { ino, entry: counted.saturating_add(to_u32(len64(beyond))) });
        }
        let (mut past, mut blocks): (Option<(u64, u64)>, u32) = (None, 0);
        for extent in self.extents(ino, None) {
            let count = extent.length.checked_div(BLOCK_BYTES).unwrap_or_default();
            match extent.place {
                Place::PastEnd { block } => {
                    let (first, sum) = past.unwrap_or((block, 0));
                    past = Some((first, sum.saturating_add(count)));
                }
                Place::Region { .. } => {}
                _ => continue,
            }
            blocks = blocks.saturating_add(to_u32(count));
        }
        if let Some((block, count)) = past {
            found.push(Anomaly::PastEnd { ino, block, count });
        }
        if blocks < node.num_mappings && node.num_mappings <= PAGE_ENTRIES {
            found.push(Anomaly::Surplus { ino, count: node.num_mappings, blocks });
        }
    }

    /// Owners and marks of the blocks.
    fn blocks_and_bits(&self, found: &mut Vec<Anomaly>) {
        let mut owned = Bits::new(self.blocks());
        self.claims(None, |block, ino, offset| {
            if !owned.insert(block) {
                found.push(Anomaly::Blocks(Remark::Contested { block, ino, offset: Some(offset) }));
            }
        });
        if let Some(lack) = self.bitmap.lack() {
            found.push(Anomaly::BitmapUnknown { lack });
        }
        // The array mostly follows the bitmap, and then the ghost is in the bitmap's last page.
        let ghost = Span::new(self.parts.inodes.saturating_sub(GHOST_BEFORE), INODE_BYTES);
        let is_ghost =
            |rest: &Span| self.node(GHOST).is_some() && rest.offset >= ghost.offset && rest.end() <= ghost.end();
        if self.bitmap.rest.is_some_and(|rest| !is_ghost(&rest)) {
            found.push(Anomaly::Blocks(Remark::BitmapRest));
        }
        // Without all inodes a marked block may have an owner that is not known.
        let complete =
            self.inodes_known() && self.files().all(|node| matches!(self.entries(node.ino, None), Some(Ok(_))));
        let mut each = |remark: Remark| {
            if complete || !matches!(remark, Remark::Leaked { .. }) {
                found.push(Anomaly::Blocks(remark));
            }
        };
        let mut runs = Runs::new(self.blocks(), &mut each);
        for page in 0..to_u32(BITMAP_BYTES.checked_div(PAGE_BYTES).unwrap_or_default()) {
            if self.bitmap.lacks(page) {
                runs.end();
                continue;
            }
            self.page_of_bits(page, &owned, &mut runs);
        }
        runs.end();
    }

    /// Compares a page of the bitmap that could be read with the owners of its blocks.
    fn page_of_bits(&self, page: u32, owned: &Bits, runs: &mut Runs<'_>) {
        let bytes = to_u32(PAGE_BYTES);
        let first = page.saturating_mul(bytes);
        for byte in first..first.saturating_add(bytes) {
            // Most of a million blocks are neither marked nor owned.
            if self.bitmap.is_clear(byte) && !owned.any_of_byte(byte) {
                runs.end();
                continue;
            }
            for block in (0..8).map(|bit| BlockNo(byte.saturating_mul(8).saturating_add(bit))) {
                match self.bitmap.is_marked(block) {
                    Ok(marked) => runs.add(block, marked, owned.contains(block)),
                    Err(_) => runs.end(),
                }
            }
        }
    }
}
