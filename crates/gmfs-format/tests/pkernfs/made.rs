//! Regions that the driver would leave: what is read of them.

use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_format::pkernfs::{
    BLOCK_BYTES, Confidence, DerivedSize, Extent, GHOST, GHOST_OFFSET, INODES, INODES_OFFSET, Kind, Magic, Owner,
    Place, Remark, SizeBound, Store, StoreError, Usage, estimate_size, probe,
};
use gmfs_io::ReadAt;

use gmfs_format::fuzzing::pkernfs::{DIRECTORY, DOMAIN, IOMMU, Image, ROOT, ROOT_TABLES, Region, inode};

/// Extents as offset, length and address in blocks.
pub(crate) fn in_blocks(extents: impl Iterator<Item = Extent>) -> Vec<(u64, u64, Option<u64>)> {
    extents
        .map(|extent| {
            let address = match extent.place {
                Place::Region { address } => Some(address / BLOCK_BYTES),
                Place::PastEnd { block } => Some(block),
                _ => None,
            };
            (extent.offset / BLOCK_BYTES, extent.length / BLOCK_BYTES, address)
        })
        .collect()
}

/// The usage and the remarks.
pub(crate) fn usage(region: &Region) -> (Usage, Vec<Remark>) {
    let mut remarks = Vec::new();
    let usage = region.store().usage(&region.image, &mut |remark| remarks.push(remark));
    (usage, remarks)
}

#[test]
fn a_new_region_is_empty() {
    for base in [0, 0x1_2340_0000] {
        let region = Region::at(base, 16);
        let found = probe(&region.image, base).unwrap();
        assert_eq!((found.base, found.confidence, found.next_free_ino), (base, Confidence::RootAgrees, 2));
        assert_eq!(probe(&region.image, base + 4096), None);
        let store = region.store();
        assert_eq!(store.anomalies(), []);
        assert_eq!((store.magic(), store.free_inodes(), store.blocks()), (Magic::Right, 7280, 16));
        assert_eq!(store.nodes().map(|node| node.ino).collect::<Vec<_>>(), [ROOT]);
        assert_eq!(store.children(ROOT), []);
        assert_eq!(store.path(ROOT).unwrap(), b"/");
        let (usage, remarks) = usage(&region);
        let expected = Usage { blocks: 16, marked: 2, metadata: 2, complete: true, ..Usage::default() };
        assert_eq!((usage, remarks), (expected, vec![]));
        let estimate = estimate_size(&region.image, base).unwrap();
        assert_eq!((estimate.at_least, estimate.complete), (2 * BLOCK_BYTES, true));
    }
}

#[test]
fn the_tree_is_read_in_the_order_of_the_chains() {
    let mut region = Region::at(0x4000_0000, 40);
    let iommu = region.create(ROOT, b"iommu", IOMMU);
    let tables = region.create(iommu, b"root-pgtables", ROOT_TABLES);
    let vms = region.create(ROOT, b"vms", DIRECTORY);
    let deep = region.create(vms, b"deep", DIRECTORY);
    let file = region.file(deep, b"\xff name", 3);
    let domain = region.create(iommu, b"dom0", DOMAIN);
    let store = region.store();
    assert_eq!(store.anomalies(), []);
    assert_eq!(store.children(ROOT), [vms, iommu]);
    assert_eq!(store.children(iommu), [domain, tables]);
    assert_eq!(store.children(deep), [file]);
    assert_eq!(store.path(file).unwrap(), b"/vms/deep/\xff name");
    let kind = |ino| store.node(ino).unwrap().kind.unwrap();
    assert_eq!([kind(ROOT), kind(vms), kind(deep), kind(file)][1..], [Kind::Directory, Kind::Directory, Kind::File]);
    assert_eq!([kind(iommu), kind(tables)], [Kind::IommuDirectory, Kind::IommuRootPageTables]);
    assert_eq!(kind(domain), Kind::IommuDomainPageTables);
    let node = store.node(file).unwrap();
    assert_eq!((node.parent, &*node.name, node.num_mappings), (Some(deep), b"\xff name".as_slice(), 3));
    assert_eq!(store.node(InodeNo(100)), None);
    // Block 2 went to the root page tables, 3 to the table, 4 to 6 to the file, 7 to the domain.
    assert_eq!(in_blocks(store.extents(&region.image, file)), [(0, 3, Some(4))]);
    assert_eq!(in_blocks(store.extents(&region.image, tables)), [(0, 1, Some(2))]);
    assert_eq!(in_blocks(store.extents(&region.image, domain)), [(0, 1, Some(7))]);
    assert_eq!(in_blocks(store.extents(&region.image, vms)), []);
    let size = |ino| store.derived_size(&region.image, ino);
    assert_eq!(size(file), Some(DerivedSize { bytes: 3 * BLOCK_BYTES, bound: SizeBound::Exact }));
    assert_eq!(size(domain), Some(DerivedSize { bytes: BLOCK_BYTES, bound: SizeBound::Exact }));
    assert_eq!((size(vms), size(InodeNo(100))), (None, None));
    let (usage, remarks) = usage(&region);
    assert_eq!((usage.metadata, usage.tables, usage.data, usage.iommu), (2, 1, 3, 2));
    assert_eq!((usage.marked, usage.complete, remarks), (8, true, vec![]));
    assert_eq!(estimate_size(&region.image, region.base).unwrap().at_least, 8 * BLOCK_BYTES);
}

#[test]
fn every_byte_has_an_owner() {
    let mut region = Region::at(0x4000_0000, 40);
    let iommu = region.create(ROOT, b"iommu", IOMMU);
    let tables = region.create(iommu, b"root-pgtables", ROOT_TABLES);
    let file = region.file(ROOT, b"file", 2);
    region.file(ROOT, b"gone", 1);
    region.unlink_first(ROOT);
    region.size += 4096;
    region.image.size += 4096;
    let store = region.store();
    let block = |block: u64| block * BLOCK_BYTES;
    for (address, owner) in [
        (0, Owner::Superblock),
        (15, Owner::Superblock),
        (16, Owner::UnusedMetadata),
        (0x10_0000, Owner::Bitmap { first: BlockNo(0) }),
        (0x11_ffff, Owner::Bitmap { first: BlockNo((1 << 20) - 8) }),
        (0x12_0000, Owner::UnusedMetadata),
        (GHOST_OFFSET - 1, Owner::UnusedMetadata),
        (GHOST_OFFSET, Owner::Inode { ino: GHOST }),
        (GHOST_OFFSET + 288, Owner::UnusedMetadata),
        (INODES_OFFSET, Owner::Inode { ino: ROOT }),
        (INODES_OFFSET + 288, Owner::Inode { ino: InodeNo(2) }),
        (0x3f_ff1f, Owner::Inode { ino: InodeNo(7281) }),
        (0x3f_ff20, Owner::UnusedMetadata),
        (block(2) + 5, Owner::PageTables { ino: tables, offset: 5 }),
        (block(3) + 17, Owner::Table { ino: file, entry: 2 }),
        (block(4), Owner::File { ino: file, offset: 0 }),
        (block(6) - 1, Owner::File { ino: file, offset: block(2) - 1 }),
        (block(6), Owner::Leaked),
        (block(7), Owner::Leaked),
        (block(8), Owner::Free),
        (block(40) - 1, Owner::Free),
        (block(40), Owner::Unusable),
        (block(40) + 4096, Owner::Outside),
        (u64::MAX, Owner::Outside),
    ] {
        let found = store.owner(&region.image, address);
        assert_eq!((found.owner, found.others, found.complete), (owner, 0, true), "{address:#x}");
    }
    // Two claims to one block.
    let other = region.file(ROOT, b"other", 1);
    let entry = region.entry(other, 0);
    region.put64(entry, 5);
    let found = region.store().owner(&region.image, block(5));
    assert_eq!((found.owner, found.others), (Owner::File { ino: file, offset: block(1) }, 1));
}

#[test]
fn what_is_no_region_is_refused() {
    let image = Image::new(64 << 20);
    assert_eq!(Store::read(&image, 0, 64 << 20).unwrap_err(), StoreError::NotFound { base: 0 });
    assert_eq!(Store::read(&image, 0, 4 << 20).unwrap_err(), StoreError::NotFound { base: 0 });
    assert_eq!(Store::read(&image, 0, (4 << 20) - 1).unwrap_err(), StoreError::TooSmall { size: (4 << 20) - 1 });
    let base = u64::MAX - (4 << 20);
    let refused = Store::read(&image, base, 5 << 20).unwrap_err();
    assert_eq!(refused, StoreError::PastAddressSpace { base, size: 5 << 20 });
    assert_eq!(probe(&image, u64::MAX), None);
    assert_eq!((probe(&image, 0), estimate_size(&image, 0)), (None, None));
}

#[test]
fn the_root_makes_it_sure() {
    let mut region = Region::new(16);
    region.put(inode(ROOT) + 25, b"x");
    assert_eq!(probe(&region.image, 0).unwrap().confidence, Confidence::RootDiffers);
    let mut region = Region::new(16);
    region.image.lose(INODES_OFFSET, 1);
    assert_eq!(probe(&region.image, 0).unwrap().confidence, Confidence::RootUnknown);
    region.image.lose(0, 1);
    assert_eq!(probe(&region.image, 0), None);
}

#[test]
fn a_source_that_does_not_tell_holes_reads_alike() {
    let mut region = Region::at(0x20_0000, 64);
    let files: Vec<_> = (0..5).map(|count| region.file(ROOT, format!("f{count}").as_bytes(), count)).collect();
    region.truncate(files[3], 2);
    let read = |image: &dyn ReadAt| {
        let store = Store::read(image, region.base, region.size).unwrap();
        files.iter().map(|ino| in_blocks(store.extents(image, *ino))).collect::<Vec<_>>()
    };
    let told = read(&region.image);
    let mut plain = region.image.clone();
    plain.tells_holes = false;
    assert_eq!(told, read(&plain));
    assert_eq!((&told[0], &told[4]), (&vec![], &vec![(0, 4, Some(13))]));
}

/// Memory that can be written.
struct Target(Vec<u8>);

impl ReadAt for Target {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), gmfs_io::ReadError> {
        self.0.read_at(offset, buf)
    }
    fn end(&self) -> Option<u64> {
        self.0.end()
    }
}

impl gmfs_io::WriteAt for Target {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), gmfs_io::WriteError> {
        let at = usize::try_from(offset).unwrap();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn zero(&mut self, span: gmfs_io::Span) -> Result<(), gmfs_io::WriteError> {
        self.write_at(span.offset, &vec![0; usize::try_from(span.len).unwrap()])
    }
    fn barrier(&mut self) -> Result<(), gmfs_io::WriteError> {
        Ok(())
    }
}

/// A region that `make` made over memory full of something else.
pub(crate) fn formatted(blocks: u64) -> Vec<u8> {
    let mut target = Target(vec![0xA5; usize::try_from(blocks * BLOCK_BYTES).unwrap()]);
    gmfs_format::pkernfs::make(&mut target).unwrap();
    target.0
}

#[test]
fn an_empty_region_is_that_of_the_recipe() {
    let made = formatted(4);
    let recipe = Region::new(4);
    for at in (0..2 * BLOCK_BYTES).step_by(4096) {
        let (wanted, at) = (recipe.image.read::<4096>(at), usize::try_from(at).unwrap());
        assert!(made[at..at + 4096] == wanted[..], "page at {at:#x}");
    }
    assert!(made[2 * BLOCK_BYTES as usize..].iter().all(|byte| *byte == 0xA5));
    let store = Store::read(&made, 0, 4 * BLOCK_BYTES).unwrap();
    assert_eq!((store.anomalies(), store.free_inodes(), store.nodes().count()), (&[][..], INODES - 1, 1));
    assert!(gmfs_format::pkernfs::check_size(4 * BLOCK_BYTES - 1).is_err());
}
