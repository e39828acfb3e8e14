//! The structures of the format, each declared once.
//!
//! From one declaration, `on_memory!` generates the type that reads and writes the bytes, and its [`Field`] table
//! (name, offset, size, meaning), which is the source for `docs/FORMAT.md` and `gmfs inspect raw`. These types are
//! *total*: any bytes are a valid value, and writing that value gives the same bytes, including reserved ones. Other
//! modules decide what a value means.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::native::units::{PAGE_SIZE, PageBytes};

/// One field of an on-memory structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// Offset in bytes from the structure's start.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
    /// Type as written in the declaration.
    pub kind: &'static str,
    /// The meaning of the field.
    pub doc: &'static str,
}

impl Field {
    /// Where its bytes are in the structure.
    #[must_use]
    pub const fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset.saturating_add(self.size)
    }
}

/// A structure as it is in memory, with its byte table.
pub trait OnMemory: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Clone {
    /// The structure's name.
    const NAME: &'static str;
    /// Its fields in order; they cover every byte.
    const FIELDS: &'static [Field];

    /// The structure's bytes.
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Declares a structure of fixed size. Its doc comments become the text of the byte table.
macro_rules! on_memory {
    (
        $(#[doc = $doc:literal])+
        $name:ident[$total:expr] {
            $( $(#[doc = $field_doc:literal])+ $field:ident: $ty:ty, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub struct $name {
            $( $(#[doc = $field_doc])+ pub $field: $ty, )+
        }

        const _: () = assert!(size_of::<$name>() == $total);

        impl OnMemory for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [Field] = &[
                $( Field {
                    name: stringify!($field),
                    offset: std::mem::offset_of!($name, $field),
                    size: size_of::<$ty>(),
                    kind: stringify!($ty),
                    doc: concat!($($field_doc),+),
                }, )+
            ];
        }
    };
}
pub(crate) use on_memory;

on_memory! {
    /// The first 64 bytes of every metadata page: what the page is, and the CRC that proves it.
    PageHeader[64] {
        /// `GMsb` superblock, `GMbt` block table, `GMit` inode table.
        magic: [u8; 4],
        /// Version of the page format: 2.
        version: U16,
        /// 1 superblock, 2 block table, 3 inode table.
        kind: u8,
        /// `A` (0x41) or `B` (0x42): the copy that the page belongs to.
        copy: u8,
        /// Index of the page within its copy.
        page: U64,

        /// UUID of the filesystem, in RFC 9562 byte order.
        uuid: [u8; 16],

        /// The commit that wrote the page.
        generation: U64,
        /// CRC-32 (IEEE 802.3) of the whole page, with this field as zero.
        crc: U32,
        /// N: blocks in the region that the page belongs to.
        blocks: U32,

        /// M: blocks of one metadata copy.
        metadata_blocks: U32,
        /// Inodes in the table.
        inodes: U32,
        /// Block size as a power of two: 21, 25 or 29.
        pmd_shift: u8,
        /// Zero.
        reserved: [u8; 7],
    }
}

on_memory! {
    /// The last 32 bytes of every metadata page. They describe all pages after the commit that wrote this one.
    PageTrailer[32] {
        /// Drawn at random when the region is made or restored. UUID and birth together are the region's identity.
        birth: U64,
        /// High-water mark of the block table after the commit that wrote the page.
        table_used: U32,
        /// High-water mark of the inode table after that commit.
        inodes_used: U32,
        /// Two sums over all table pages before these marks, after that commit.
        sum: [U64; 2],
    }
}

on_memory! {
    /// When a problem occurred, first or last, and its code.
    ErrorRecord[16] {
        /// Nanoseconds since the epoch; 0 = never.
        time: U64,
        /// Number of the problem's code (GM0123 is 123).
        code: U32,
        /// Zero.
        reserved: U32,
    }
}

on_memory! {
    /// The superblock: the payload of page 0.
    SuperblockRaw[4000] {
        /// `gmfs-rgn`, by which `file`, blkid and a scan of memory find a region.
        magic: [u8; 8],
        /// Version of the region format: 2.
        version: U32,
        /// Block size as a power of two: 21, 25 or 29.
        pmd_shift: u8,
        /// Zero.
        reserved_1: [u8; 3],

        /// Compatible features: tools that do not know a bit may read and write.
        feature_compat: U64,
        /// Read-only compatible features: tools that do not know a bit may only read.
        feature_ro_compat: U64,
        /// Incompatible features: tools that do not know a bit must not use the region.
        feature_incompat: U64,
        /// Size of the region in bytes, including the tail that is smaller than a block.
        region_size: U64,
        /// Physical base address when the region was made; 0 = not known. Informational.
        base: U64,

        /// N: blocks in the region.
        blocks: U64,
        /// M: blocks of each metadata copy.
        metadata_blocks: U64,
        /// T: pages of the block table.
        table_pages: U64,
        /// I: pages of the inode table.
        inode_pages: U64,
        /// Pages of the block table that have been written. Later pages describe only free blocks and are never read.
        table_used: U64,
        /// Pages of the inode table that have been written.
        inodes_used_pages: U64,
        /// Inodes in the table.
        inodes: U32,
        /// Inode of the root directory: 1.
        root_inode: U32,

        /// Data blocks that are free.
        free_blocks: U64,
        /// Data blocks that files own.
        data_blocks: U64,
        /// Data blocks with hardware errors.
        bad_blocks: U64,
        /// Data blocks that are reserved: neither allocated nor free.
        reserved_blocks: U64,
        /// Inodes in use.
        used_inodes: U64,

        /// State flags: 1 clean, 2 active, 4 sealed.
        state: U32,
        /// Zero.
        reserved_2: U32,
        /// Label, UTF-8, up to 63 bytes, padded with NUL.
        label: [u8; 64],

        /// Creation, nanoseconds since the epoch.
        created: U64,
        /// Last commit.
        written: U64,
        /// Last full check; 0 = never.
        checked: U64,
        /// Last seal of the contents; 0 = never.
        sealed: U64,
        /// Commits since creation.
        write_count: U64,
        /// Name and version of the last writer, padded with NUL.
        writer: [u8; 32],

        /// Problems recorded since the last repair.
        error_count: U64,
        /// The first of these problems.
        first_error: ErrorRecord,
        /// The last of these problems.
        last_error: ErrorRecord,
        /// The two sums of the trailer, computed for each of 64 groups of pages. Page `p` is in group `p mod 64`.
        group_sums: [[U64; 2]; 64],
        /// Birth of the region that a restore replaces, as long as the restore is not complete; otherwise 0.
        replaces: U64,
        /// Zero.
        reserved_3: [u8; 2632],
    }
}

on_memory! {
    /// The descriptor of one data block.
    BlockRaw[16] {
        /// Inode that the block belongs to; 0 = none.
        owner: U32,
        /// File block: where in that file the block belongs, counted in blocks.
        index: U32,
        /// CRC-32 of the block's content, valid with flag 1.
        crc: U32,
        /// 0 free, 1 data, 2 bad, 3 reserved.
        state: u8,
        /// 1 the content CRC is valid, 2 the content is known to be zero.
        flags: u8,
        /// Zero.
        reserved: U16,
    }
}

on_memory! {
    /// One inode.
    InodeRaw[500] {
        /// The inode's own number: its position in the table plus 1.
        number: U32,
        /// Grows each time the inode is reused.
        generation: U32,
        /// 0 free, 1 regular file, 2 directory.
        kind: U16,
        /// Permission bits as in `st_mode` (07777).
        mode: U16,
        /// Owner.
        uid: U32,

        /// Group.
        gid: U32,
        /// Directory that contains the inode. The root directory names itself.
        parent: U32,
        /// Size in bytes.
        size: U64,

        /// Blocks that the file owns.
        blocks: U64,
        /// Flags: 1 immutable, 2 allocate aligned to 1 GiB, 4 file blocks without a block are lost data and not holes,
        /// 8 doubtful.
        flags: U64,

        /// Last access, nanoseconds since the epoch.
        accessed: U64,
        /// Last change of the content.
        modified: U64,

        /// Last change of the inode.
        changed: U64,
        /// Creation.
        created: U64,

        /// Length of the name in bytes.
        name_len: u8,
        /// Name, padded with NUL. It contains neither NUL nor `/`. Only the root directory has the name `.`.
        name: [u8; 255],

        /// Zero.
        reserved: [u8; 164],
    }
}

/// Bytes of a page between its header and its trailer.
pub const PAYLOAD: usize = PAGE_SIZE - size_of::<PageHeader>() - size_of::<PageTrailer>();
/// Descriptors in a page of the block table.
pub const BLOCKS_PER_PAGE: u32 = 250;
/// Inodes in a page of the inode table.
pub const INODES_PER_PAGE: u32 = 8;

on_memory! {
    /// A page that holds the superblock.
    SuperblockPage[4096] {
        /// Header.
        header: PageHeader,
        /// Superblock.
        superblock: SuperblockRaw,
        /// Trailer.
        trailer: PageTrailer,
    }
}

on_memory! {
    /// A page of the block table.
    BlockTablePage[4096] {
        /// Header.
        header: PageHeader,
        /// Descriptors, in block order.
        entries: [BlockRaw; 250],
        /// Trailer.
        trailer: PageTrailer,
    }
}

on_memory! {
    /// A page of the inode table.
    InodeTablePage[4096] {
        /// Header.
        header: PageHeader,
        /// Inodes, in number order.
        inodes: [InodeRaw; 8],
        /// Trailer.
        trailer: PageTrailer,
    }
}

/// Gives a page structure its views of a page's bytes. They cannot fail, because sizes and alignment match at compile
/// time.
macro_rules! page_view {
    ($($name:ident),+) => {$(
        impl $name {
            /// The page's bytes as this structure.
            #[must_use]
            pub fn view(page: &PageBytes) -> &Self {
                zerocopy::transmute_ref!(page)
            }

            /// The page's bytes as this structure, for changes.
            #[must_use]
            pub fn view_mut(page: &mut PageBytes) -> &mut Self {
                zerocopy::transmute_mut!(page)
            }
        }
    )+};
}
page_view!(SuperblockPage, BlockTablePage, InodeTablePage);

impl PageHeader {
    /// The header of a page.
    #[must_use]
    pub fn of(page: &PageBytes) -> &Self {
        &BlockTablePage::view(page).header
    }

    /// The header of a page, for changes.
    #[must_use]
    pub fn of_mut(page: &mut PageBytes) -> &mut Self {
        &mut BlockTablePage::view_mut(page).header
    }
}

impl PageTrailer {
    /// The trailer of a page.
    #[must_use]
    pub fn of(page: &PageBytes) -> &Self {
        &BlockTablePage::view(page).trailer
    }

    /// The trailer of a page, for changes.
    #[must_use]
    pub fn of_mut(page: &mut PageBytes) -> &mut Self {
        &mut BlockTablePage::view_mut(page).trailer
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests;
