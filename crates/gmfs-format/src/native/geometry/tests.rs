use super::*;
use proptest::prelude::*;

#[test]
fn the_smallest_region_is_three_blocks() {
    let three = Geometry::plan(3 << 21, PmdShift::M2, 1024).unwrap();
    assert_eq!((three.metadata_blocks(), three.data_blocks(), three.table_pages()), (1, 1, 1));
    let two = Geometry::plan((3 << 21) - 1, PmdShift::M2, 1024);
    assert!(matches!(two, Err(GeometryError::TooSmall { needed: 6_291_456, .. })), "{two:?}");
}

/// The figures that the description of the format states.
#[test]
fn tables_are_as_small_as_the_design_says() {
    let tib = Geometry::plan(1 << 40, PmdShift::M2, 65536).unwrap();
    let table = u64::from(tib.table_pages()) * PAGE_BYTES;
    assert!((8_580_000..8_600_000).contains(&table), "{table}");
    let large = Geometry::plan(64 << 40, PmdShift::M2, 65536).unwrap();
    assert_eq!((u64::from(large.table_pages()) * PAGE_BYTES) >> 20, 524);
    assert_eq!(large.metadata_blocks(), 279);
    assert!(large.data_blocks() > 33_500_000);
}

#[test]
fn sizes_that_cannot_be_numbered_are_refused() {
    assert!(matches!(Geometry::plan(u64::MAX, PmdShift::M2, 8), Err(GeometryError::TooLarge { .. })));
    assert!(matches!(Geometry::plan(1 << 63, PmdShift::M2, 8), Err(GeometryError::TooLarge { .. })));
    assert!(matches!(Geometry::plan(0, PmdShift::M2, 8), Err(GeometryError::TooSmall { .. })));
    assert_eq!(Geometry::plan(1 << 30, PmdShift::M2, 0), Err(GeometryError::Inodes(0)));
    assert_eq!(Geometry::recorded(1 << 30, PmdShift::M2, u64::MAX, 8), None);
    assert_eq!(Geometry::recorded(1 << 30, PmdShift::M2, 256, 8), None);
    assert_eq!(Geometry::recorded(1 << 30, PmdShift::M2, 1, MAX_INODES), None);
}

proptest! {
    #[test]
    fn every_plan_is_sound(size in (3_u64 << 21)..(1 << 50), pmd in prop::sample::select(&PmdShift::ALL[..]), inodes in 1..MAX_INODES) {
        let Ok(g) = Geometry::plan(size, pmd, inodes) else { return Ok(()) };
        prop_assert_eq!(Geometry::recorded(size, pmd, g.metadata_blocks().into(), inodes), Some(g));
        prop_assert!(g.pages() * PAGE_BYTES <= u64::from(g.metadata_blocks()) * g.block_bytes());
        prop_assert_eq!(g.tail() + u64::from(g.blocks()) * g.block_bytes(), size);
        let last = BlockNo(g.end_data().0 - 1);
        let (page, slot) = g.descriptor_place(last).unwrap();
        prop_assert_eq!(g.first_block_of(page).0 + slot as u32, last.0);
        prop_assert_eq!(g.page_kind(page), Some(PageKind::BlockTable));
        prop_assert_eq!(page.0, g.table_pages());
        prop_assert_eq!(g.descriptor_place(g.end_data()), None);
        prop_assert_eq!(g.descriptor_place(BlockNo(0)), None);
        let (page, slot) = g.inode_place(InodeNo(inodes)).unwrap();
        prop_assert_eq!(g.first_inode_of(page).0 + slot as u32, inodes);
        prop_assert_eq!(g.page_kind(page), Some(PageKind::InodeTable));
        prop_assert_eq!(g.inode_place(InodeNo::NONE), None);
        prop_assert_eq!(g.inode_place(InodeNo(inodes + 1)), None);
    }
}

#[test]
fn a_page_is_found_again_by_its_offset() {
    let geometry = Geometry::plan(64 << 20, PmdShift::M2, 100).unwrap();
    for copy in CopyId::BOTH {
        for page in (0..u32::try_from(geometry.pages()).unwrap()).map(PageNo) {
            let offset = geometry.page_offset(copy, page);
            assert_eq!(geometry.page_at(offset), Some((copy, page)));
            assert_eq!(geometry.page_at(offset + 1), None);
        }
        let behind = PageNo(u32::try_from(geometry.pages()).unwrap());
        assert_eq!(geometry.page_at(geometry.page_offset(copy, behind)), None);
    }
}
