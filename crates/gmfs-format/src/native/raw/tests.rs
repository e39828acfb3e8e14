use super::*;
use proptest::prelude::*;

/// Fields must cover the structure without gaps or overlaps. Otherwise bytes would be lost or written twice.
fn covers<T: OnMemory>() {
    let mut next = 0;
    for field in T::FIELDS {
        assert_eq!(field.offset, next, "{}.{}", T::NAME, field.name);
        next += field.size;
    }
    assert_eq!(next, size_of::<T>(), "{}", T::NAME);
}

#[test]
fn fields_cover_every_byte() {
    covers::<PageHeader>();
    covers::<PageTrailer>();
    covers::<ErrorRecord>();
    covers::<SuperblockRaw>();
    covers::<BlockRaw>();
    covers::<InodeRaw>();
    covers::<SuperblockPage>();
    covers::<BlockTablePage>();
    covers::<InodeTablePage>();
}

#[test]
fn pages_are_filled_by_their_entries() {
    assert_eq!(size_of::<[BlockRaw; BLOCKS_PER_PAGE as usize]>(), PAYLOAD);
    assert_eq!(size_of::<[InodeRaw; INODES_PER_PAGE as usize]>(), PAYLOAD);
    assert_eq!(size_of::<SuperblockRaw>(), PAYLOAD);
}

/// Decodes field by field, encodes the decoded value, and compares the bytes.
fn round_trips<T: OnMemory>(bytes: &[u8]) {
    let decoded = T::read_from_bytes(&bytes[..size_of::<T>()]).unwrap();
    assert_eq!(decoded.as_bytes(), &bytes[..size_of::<T>()]);
}

proptest! {
    #[test]
    fn any_bytes_decode_and_encode_to_themselves(bytes in prop::collection::vec(any::<u8>(), PAGE_SIZE)) {
        round_trips::<SuperblockPage>(&bytes);
        round_trips::<BlockTablePage>(&bytes);
        round_trips::<InodeTablePage>(&bytes);
    }

    /// Writing a field must change the bytes of that field and no others.
    #[test]
    fn setting_a_field_leaves_the_rest(bytes in prop::collection::vec(any::<u8>(), PAGE_SIZE), value: u64) {
        let mut page: PageBytes = bytes.clone().try_into().unwrap();
        SuperblockPage::view_mut(&mut page).superblock.free_blocks = value.into();
        let field = SuperblockRaw::FIELDS.iter().find(|f| f.name == "free_blocks").unwrap();
        let at = size_of::<PageHeader>() + field.offset;
        prop_assert_eq!(&page[..at], &bytes[..at]);
        prop_assert_eq!(&page[at..at + 8], &value.to_le_bytes());
        prop_assert_eq!(&page[at + 8..], &bytes[at + 8..]);
    }
}
