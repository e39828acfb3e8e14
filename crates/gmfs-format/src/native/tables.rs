//! The meaning of descriptors and inodes.

use std::fmt;

use crate::native::raw::{BlockRaw, InodeRaw};
use crate::native::units::InodeNo;

/// What a data block is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockState {
    /// It belongs to no file and can be allocated.
    Free,
    /// It holds content of a file.
    Data,
    /// It has a hardware error. Its descriptor still names the file that it belonged to.
    Bad,
    /// It is neither allocated nor free, because it may hold guest memory whose owner is lost.
    Reserved,
}

impl BlockState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Free, Self::Data, Self::Bad, Self::Reserved];

    /// The number of the state in a descriptor.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Data => 1,
            Self::Bad => 2,
            Self::Reserved => 3,
        }
    }

    /// The state with this number.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Free),
            1 => Some(Self::Data),
            2 => Some(Self::Bad),
            3 => Some(Self::Reserved),
            _ => None,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Data => "data",
            Self::Bad => "bad",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for BlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Descriptor flag: the CRC-32 of the block's content is valid.
pub const BLOCK_CRC_VALID: u8 = 1;
/// Descriptor flag: the block's content is known to be zero.
pub const BLOCK_ZERO: u8 = 2;
/// All descriptor flags that are defined.
pub const BLOCK_FLAGS: u8 = BLOCK_CRC_VALID | BLOCK_ZERO;

impl BlockRaw {
    /// The descriptor of a free block: all zero.
    pub const FREE: Self = Self {
        owner: zerocopy::little_endian::U32::ZERO,
        index: zerocopy::little_endian::U32::ZERO,
        crc: zerocopy::little_endian::U32::ZERO,
        state: 0,
        flags: 0,
        reserved: zerocopy::little_endian::U16::ZERO,
    };

    /// The descriptor of a block with a hardware error that belongs to no file.
    pub const NOBODYS_BAD: Self = Self { state: BlockState::Bad.byte(), ..Self::FREE };
    /// The descriptor of a reserved block.
    pub const RESERVED: Self = Self { state: BlockState::Reserved.byte(), ..Self::FREE };

    /// The descriptor of a block that holds file block `index` of file `owner`.
    #[must_use]
    pub fn data(owner: InodeNo, index: u32) -> Self {
        Self { owner: owner.0.into(), index: index.into(), state: BlockState::Data.byte(), ..Self::FREE }
    }

    /// The state, or `None` if its number is unknown.
    #[must_use]
    pub fn state(&self) -> Option<BlockState> {
        BlockState::from_byte(self.state)
    }

    /// Whether this describes plain data, without flags and without a content CRC. This common case takes one
    /// comparison.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        // The compiler makes one load of these fields.
        let rest = u64::from(self.state) | u64::from(self.flags) << 8 | u64::from(self.reserved.get()) << 16;
        u64::from(self.crc.get()) | rest << 32 == u64::from(BlockState::Data.byte()) << 32
    }

    /// The file that the block belongs to, or [`InodeNo::NONE`].
    #[must_use]
    pub fn owner(&self) -> InodeNo {
        InodeNo(self.owner.get())
    }

    /// Whether the block holds a file block: data does, and so does a bad block that belongs to a file.
    #[must_use]
    pub fn is_mapping(&self) -> bool {
        match self.state() {
            Some(BlockState::Data) => true,
            Some(BlockState::Bad) => self.owner() != InodeNo::NONE,
            _ => false,
        }
    }

    /// The content's CRC, if it is recorded.
    #[must_use]
    pub fn content_crc(&self) -> Option<u32> {
        (self.flags & BLOCK_CRC_VALID != 0).then(|| self.crc.get())
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InodeKind {
    /// Not in use.
    Free,
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

impl InodeKind {
    /// The number of the kind in an inode.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Free => 0,
            Self::File => 1,
            Self::Directory => 2,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::Free),
            1 => Some(Self::File),
            2 => Some(Self::Directory),
            _ => None,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::File => "file",
            Self::Directory => "directory",
        }
    }
}

/// Inode flag: neither content nor name may be changed.
pub const INODE_IMMUTABLE: u64 = 1;
/// Inode flag: allocate at multiples of 1 GiB, so that a VMM can map the file with PUDs.
pub const INODE_ALIGN_1G: u64 = 2;
/// Inode flag: file blocks that no block holds are lost data, not holes.
pub const INODE_LOST_DATA: u64 = 4;
/// Inode flag: a repair could not prove that this is the newest state of the file. Its content may be older.
pub const INODE_DOUBTFUL: u64 = 8;
/// All inode flags that are defined.
pub const INODE_FLAGS: u64 = INODE_IMMUTABLE | INODE_ALIGN_1G | INODE_LOST_DATA | INODE_DOUBTFUL;
/// The mode bits that an inode may have.
pub const MODE_BITS: u16 = 0o7777;

impl InodeRaw {
    /// The kind, or `None` if its number is unknown.
    #[must_use]
    pub fn kind(&self) -> Option<InodeKind> {
        InodeKind::from_number(self.kind.get())
    }

    /// Whether the inode is in use. Inodes of an unknown kind are in use too.
    #[must_use]
    pub fn in_use(&self) -> bool {
        self.kind.get() != InodeKind::Free.number()
    }

    /// The name, with the length that the inode records.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name.get(..usize::from(self.name_len)).unwrap_or(&self.name)
    }

    /// Sets the name. It is cut at 255 bytes, and padded with NUL.
    pub fn set_name(&mut self, name: &[u8]) {
        self.name = [0; 255];
        for (place, byte) in self.name.iter_mut().zip(name) {
            *place = *byte;
        }
        self.name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    }

    /// The directory that contains the inode.
    #[must_use]
    pub fn parent(&self) -> InodeNo {
        InodeNo(self.parent.get())
    }

    /// A free inode: all zero except its number and generation.
    #[must_use]
    pub fn free(ino: InodeNo, generation: u32) -> Self {
        let mut raw: Self = zerocopy::FromZeros::new_zeroed();
        raw.number = ino.0.into();
        raw.generation = generation.into();
        raw
    }
}
