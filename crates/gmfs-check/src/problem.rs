//! The catalogue of problems: one row each, from which codes, names, messages and explanations come.
//!
//! Codes are grouped by structure: GM00xx pages and their copies, 01 superblock, 02 inodes, 03 the tree, 04 block
//! descriptors, 05 counts, 06 contents; then what kernels leave: 07 KHO, 08 LUO, 09 guestmemfs v1, 10 pkernfs, 11 what the
//! last two have in common. A code is never renumbered and never used again for something else.

use std::fmt;

use gmfs_format::native::units::{BlockNo, InodeNo};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; the region is not damaged.
    Note,
    /// Something is not as it must be; no file is affected.
    Warning,
    /// Files or the proof of their blocks are affected, or one more fault would lose something.
    Error,
    /// The check cannot go on.
    Fatal,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// What a repair of a problem amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repair {
    /// Another copy, or the rest of the metadata, proves what is right.
    Safe,
    /// A choice has to be made, and something is lost.
    Lossy,
    /// Only the user can repair it.
    Manual,
    /// There is nothing to repair.
    None,
}

impl Repair {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Lossy => "lossy",
            Self::Manual => "manual",
            Self::None => "none",
        }
    }
}

/// When a repair takes a problem on, and by what: the plan and the rounds go by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Pages as such, the superblocks' included: they are written from what proves them. As long as there is such a problem
    /// nothing else is planned, because the rest is read from these pages.
    Pages,
    /// Files and blocks that contradict each other on pages that ought to be proven: nothing counts as proven from then on.
    /// Where the file is flagged doubtful already, its record is corrected, as in [`Records`](Self::Records).
    Contradictions,
    /// What a writer left unfinished: it is finished or undone when the region is opened for writing.
    Recovery,
    /// Bytes that mean nothing: their page is rewritten with zeros there.
    Rewrite,
    /// Fields of inodes, descriptors and the superblock: they are corrected, all in one commit.
    Records,
    /// There is no repair.
    Nothing,
}

/// Edits of one problem that are no repair one without the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Coupling {
    /// What becomes of blocks, and what the inode of their file records of them.
    BlocksWithInode,
}

/// The coupling that a row of the catalogue names, if it names one.
macro_rules! coupling {
    () => {
        None
    };
    ($coupling:ident) => {
        Some(Coupling::$coupling)
    };
}

/// A value that a finding carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A count, a size, an address, a number.
    Number(u64),
    /// A word, a mask, a checksum.
    Text(String),
}

/// Turns a problem's fields into facts.
trait ToFact {
    fn to_fact(&self) -> Fact;
}

macro_rules! number_facts {
    ($($ty:ty => |$value:ident| $number:expr),+ $(,)?) => {$(
        impl ToFact for $ty {
            fn to_fact(&self) -> Fact {
                let $value = self;
                Fact::Number($number)
            }
        }
    )+};
}
number_facts! {
    u8 => |v| u64::from(*v),
    u16 => |v| u64::from(*v),
    u32 => |v| u64::from(*v),
    u64 => |v| *v,
    InodeNo => |v| u64::from(v.0),
    BlockNo => |v| u64::from(v.0),
}

impl ToFact for Text {
    fn to_fact(&self) -> Fact {
        Fact::Text(self.0.to_string())
    }
}

impl ToFact for Mask {
    fn to_fact(&self) -> Fact {
        Fact::Text(self.to_string())
    }
}

/// A text among a problem's facts; safe to show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(pub Box<str>);

impl<T: fmt::Display> From<&T> for Text {
    fn from(value: &T) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Flags or a checksum among a problem's facts: shown in hexadecimal, a string in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mask(pub u64);

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl ToFact for Address {
    fn to_fact(&self) -> Fact {
        Fact::Number(self.0)
    }
}

/// An address among a problem's facts: shown in hexadecimal, a number in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(pub u64);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Declares the catalogue.
macro_rules! catalogue {
    ($(
        $code:ident = $number:literal, $name:literal, $severity:ident, $repair:ident,
        $stage:ident $(+ $coupling:ident)?, $since:literal,
        $variant:ident { $($field:ident: $ty:ty),* } => $message:literal;
    )+) => {
        /// What is wrong, with the values that show it.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each variant's text is its message and its explanation")]
        pub enum Problem {
            $( $variant { $($field: $ty),* }, )+
        }

        /// A problem's code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each code's text is its explanation")]
        pub enum Code {
            $( $code = $number, )+
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$( Self::$code, )+];

            /// The code as it is written: `GM0402`.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $( Self::$code => stringify!($code), )+ }
            }

            /// Its number: of `GM0402`, 402.
            #[must_use]
            pub(crate) const fn number(self) -> u32 {
                match self { $( Self::$code => $number, )+ }
            }

            /// The problem's name: `owner-missing`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$code => $name, )+ }
            }

            /// How bad it is.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $( Self::$code => Severity::$severity, )+ }
            }

            /// What a repair amounts to.
            #[must_use]
            pub const fn repair(self) -> Repair {
                match self { $( Self::$code => Repair::$repair, )+ }
            }

            /// When and by what a repair takes it on.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $( Self::$code => Stage::$stage, )+ }
            }

            /// Which of the edits that repair it are made together or not at all.
            #[must_use]
            pub const fn coupling(self) -> Option<Coupling> {
                match self { $( Self::$code => coupling!($($coupling)?), )+ }
            }

            /// The version of gmfs that found it first.
            #[must_use]
            pub const fn since(self) -> &'static str {
                match self { $( Self::$code => $since, )+ }
            }

            /// The explanation, in Markdown: what, why it matters, how it is repaired, what may be lost.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $( Self::$code => include_str!(concat!("explain/", stringify!($code), ".md")), )+ }
            }
        }

        impl Problem {
            /// The problem's code.
            #[must_use]
            pub const fn code(&self) -> Code {
                match self { $( Self::$variant { .. } => Code::$code, )+ }
            }

            /// The values that show the problem, by name.
            #[must_use]
            pub fn facts(&self) -> Vec<(&'static str, Fact)> {
                match self { $( Self::$variant { $($field),* } => vec![$( (stringify!($field), $field.to_fact()) ),*], )+ }
            }
        }

        impl fmt::Display for Problem {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $( Self::$variant { $($field),* } => write!(f, $message), )+ }
            }
        }
    };
}

catalogue! {
    // Pages and their copies.
    GM0001 = 1, "page-zeroed", Error, Safe, Pages, "0.1",
        PageZeroed {} => "all zero; the other copy is good";
    GM0002 = 2, "page-overwritten", Error, Safe, Pages, "0.1",
        PageOverwritten {} => "overwritten with something that is not a metadata page; the other copy is good";
    GM0003 = 3, "page-flipped", Error, Safe, Pages, "0.1",
        PageFlipped { byte: u16, bit: u8 } => "bit {bit} of byte {byte:#x} is flipped; the other copy is good";
    GM0004 = 4, "page-torn", Error, Safe, Pages, "0.1",
        PageTorn {} => "torn or partly overwritten: the CRC does not match; the other copy is good";
    GM0005 = 5, "page-foreign", Error, Safe, Pages, "0.1",
        PageForeign { uuid: Text } => "a page of another filesystem, {uuid}; the other copy is good";
    GM0006 = 6, "page-misplaced", Error, Safe, Pages, "0.1",
        PageMisplaced { found: Text } => "{found}; the other copy is good";
    GM0007 = 7, "page-stale", Error, Safe, Pages, "0.1",
        PageStale {} => "older than the other copy, and no interrupted commit explains that: it went back in time";
    GM0008 = 8, "page-version", Error, Safe, Pages, "0.1",
        PageVersion { version: u16 } => "sealed as format version {version}, which is not known; the other copy is good";
    GM0009 = 9, "page-unreadable", Error, Safe, Pages, "0.1",
        PageUnreadable {} => "the medium cannot read it; the other copy is good";
    GM0010 = 10, "page-lost", Error, Safe, Pages, "0.1",
        PageLost { a: Text, b: Text } => "no good copy: A is {a}, B is {b}";
    GM0011 = 11, "copies-conflict", Error, Safe, Pages, "0.1",
        CopiesConflict {} => "both copies are good but differ, and nothing shows which one is right";
    GM0012 = 12, "page-uncertain", Error, Safe, Pages, "0.1",
        PageUncertain {} => "good, but nothing proves that it is the newest state of the page";
    GM0013 = 13, "page-header-reserved", Warning, Safe, Rewrite, "0.1",
        PageHeaderReserved {} => "reserved bytes of the page header are not zero";
    GM0020 = 20, "change-uncommitted", Note, Safe, Recovery, "0.1",
        ChangeUncommitted {} => "part of a change that was never committed; the next writer undoes it";
    GM0021 = 21, "mirror-lagging", Note, Safe, Recovery, "0.1",
        MirrorLagging {} => "a committed change is not in copy B yet; the next writer copies it there";
    GM0022 = 22, "store-interrupted", Note, Safe, Recovery, "0.1",
        StoreInterrupted {} => "a write was interrupted; the next writer rewrites the page from the other copy";
    GM0023 = 23, "writer-active", Note, Safe, Recovery, "0.1",
        WriterActive {} => "a writer is at work, or was stopped before it finished";

    // The superblock.
    GM0101 = 101, "superblock-lies", Error, Safe, Pages, "0.1",
        SuperblockLies { fault: Text } => "its seal is valid, but its values are not: {fault}; the other copy is good";
    GM0102 = 102, "image-too-small", Error, Manual, Pages, "0.1",
        ImageTooSmall { region: u64, image: u64 } => "the region has {region} bytes, the image only {image}";
    GM0103 = 103, "feature-compat-unknown", Note, None, Nothing, "0.1",
        FeatureCompatUnknown { mask: Mask } => "unknown compatible features {mask}; they do not limit this program";
    GM0104 = 104, "feature-ro-unknown", Note, None, Nothing, "0.1",
        FeatureRoUnknown { mask: Mask } => "unknown read-only compatible features {mask}: this program does not write here";
    GM0105 = 105, "feature-incompat-unknown", Fatal, Manual, Pages, "0.1",
        FeatureIncompatUnknown { mask: Mask } => "unknown incompatible features {mask}: only a newer gmfs can check this";
    GM0106 = 106, "state-contradicts", Warning, Safe, Records, "0.1",
        StateContradicts { state: Mask } => "the state flags {state} are not exactly one of clean and active, or are unknown";
    GM0107 = 107, "label-illegal", Warning, Safe, Records, "0.1",
        LabelIllegal {} => "the label is not UTF-8, holds control characters, or is not padded with NUL";
    GM0108 = 108, "superblock-reserved", Warning, Safe, Records, "0.1",
        SuperblockReserved {} => "reserved bytes of the superblock are not zero";
    GM0109 = 109, "superblock-time-future", Warning, Safe, Records, "0.1",
        SuperblockTimeFuture { field: Text, time: u64 } => "the time '{field}' ({time} ns) is in the future";
    GM0110 = 110, "errors-recorded", Note, None, Nothing, "0.1",
        ErrorsRecorded { count: u64 } => "{count} errors have been recorded in the superblock";
    GM0111 = 111, "writer-illegal", Warning, Safe, Records, "0.1",
        WriterIllegal {} => "the writer's name is not printable text padded with NUL";

    GM0112 = 112, "superblocks-lost", Error, Safe, Pages, "0.1",
        SuperblocksLost {} => "neither copy can be used; the sealed table pages say what it was";
    GM0113 = 113, "pages-past-mark", Error, Safe, Pages, "0.1",
        PagesPastMark { table: u64, inodes: u64 } => "its high-water marks are lower than what the pages prove: {table} pages of the block table, {inodes} of the inode table";
    GM0114 = 114, "two-regions", Fatal, Manual, Pages, "0.1",
        TwoRegions { regions: Text } => "pages of several regions are at each other's locations, and nothing shows which region is the right one: {regions}";
    GM0115 = 115, "sums-wrong", Error, Safe, Pages, "0.1",
        SumsWrong {} => "its sums do not match the pages, which prove each other";

    // Inodes.
    GM0201 = 201, "inode-number-wrong", Error, Lossy, Records, "0.1",
        InodeNumberWrong { found: u32 } => "its record has the number {found}";
    GM0202 = 202, "inode-kind-unknown", Error, Lossy, Records, "0.1",
        InodeKindUnknown { kind: u16 } => "of kind {kind}, which is neither free, file nor directory";
    GM0203 = 203, "inode-free-not-empty", Warning, Safe, Records, "0.1",
        InodeFreeNotEmpty {} => "free, but its record is not empty";
    GM0204 = 204, "name-illegal", Error, Lossy, Records, "0.1",
        NameIllegal { why: Text } => "its name is not legal: {why}";
    GM0205 = 205, "name-padding", Warning, Safe, Records, "0.1",
        NamePadding {} => "bytes after its name are not zero";
    GM0206 = 206, "mode-illegal", Warning, Safe, Records, "0.1",
        ModeIllegal { mode: Mask } => "its mode {mode} has bits that are not permission bits";
    GM0207 = 207, "inode-flags-unknown", Warning, Safe, Records, "0.1",
        InodeFlagsUnknown { flags: Mask } => "its flags {flags} have bits that are not defined";
    GM0208 = 208, "inode-reserved", Warning, Safe, Records, "0.1",
        InodeReserved {} => "reserved bytes of its record are not zero";
    GM0209 = 209, "size-too-large", Error, Lossy, Records, "0.1",
        SizeTooLarge { size: u64 } => "its size of {size} bytes is more than a file can have";
    GM0210 = 210, "inode-time-future", Warning, Safe, Records, "0.1",
        InodeTimeFuture { field: Text, time: u64 } => "its time '{field}' ({time} ns) is in the future";
    GM0211 = 211, "directory-has-size", Warning, Safe, Records, "0.1",
        DirectoryHasSize { size: u64, blocks: u64 } => "a directory with a size of {size} bytes and {blocks} blocks";
    GM0212 = 212, "inode-slot-past-end", Warning, Safe, Rewrite, "0.1",
        InodeSlotPastEnd {} => "the slot is after the last inode and is not zero";
    GM0213 = 213, "file-doubtful", Note, None, Nothing, "0.1",
        FileDoubtful {} => "flagged doubtful: a repair could not prove that this is its newest state";

    // The tree.
    GM0301 = 301, "root-missing", Error, Safe, Records, "0.1",
        RootMissing {} => "the root is not a directory";
    GM0302 = 302, "root-misnamed", Warning, Safe, Records, "0.1",
        RootMisnamed {} => "the root is not named '.', or is not its own parent";
    GM0303 = 303, "parent-missing", Error, Lossy, Records, "0.1",
        ParentMissing { parent: InodeNo } => "its parent directory, inode {parent}, is not in use";
    GM0304 = 304, "parent-not-directory", Error, Lossy, Records, "0.1",
        ParentNotDirectory { parent: InodeNo } => "its parent, inode {parent}, is not a directory";
    GM0305 = 305, "parent-cycle", Error, Lossy, Records, "0.1",
        ParentCycle { parent: InodeNo } => "its parent directories form a cycle through inode {parent}";
    GM0306 = 306, "name-duplicate", Error, Lossy, Records, "0.1",
        NameDuplicate { parent: InodeNo, other: InodeNo } => "has the same name in directory {parent} as inode {other}";

    // Block descriptors.
    GM0401 = 401, "block-state-unknown", Error, Lossy, Records, "0.1",
        BlockStateUnknown { state: u8 } => "its state {state} is not defined";
    GM0402 = 402, "owner-missing", Error, Lossy, Contradictions, "0.1",
        OwnerMissing { owner: InodeNo } => "owned by inode {owner}, which is not in use";
    GM0403 = 403, "owner-not-file", Error, Lossy, Records, "0.1",
        OwnerNotFile { owner: InodeNo } => "owned by inode {owner}, which is a directory";
    GM0404 = 404, "block-past-size", Error, Lossy, Records + BlocksWithInode, "0.1",
        BlockPastSize { owner: InodeNo } => "past the end of its file, inode {owner}";
    GM0405 = 405, "place-taken-twice", Error, Lossy, Records + BlocksWithInode, "0.1",
        PlaceTakenTwice { owner: InodeNo, index: u32 } => "claims file block {index} of inode {owner}, which another block claims too";
    GM0406 = 406, "block-count-wrong", Error, Lossy, Contradictions, "0.1",
        BlockCountWrong { recorded: u64, found: u64 } => "records {recorded} blocks, but {found} blocks name it";
    GM0407 = 407, "free-block-not-empty", Error, Lossy, Records, "0.1",
        FreeBlockNotEmpty { owner: InodeNo } => "free, but its descriptor is not empty (it names inode {owner})";
    GM0408 = 408, "data-block-unowned", Error, Lossy, Records, "0.1",
        DataBlockUnowned {} => "holds data, but names no owner";
    GM0409 = 409, "reserved-block-owned", Warning, Lossy, Records, "0.1",
        ReservedBlockOwned { owner: InodeNo } => "reserved, but names inode {owner}";
    GM0410 = 410, "block-flags-unknown", Warning, Safe, Records, "0.1",
        BlockFlagsUnknown { flags: Mask } => "its flags {flags} have bits that are not defined, or that do not match its state";
    GM0411 = 411, "block-reserved", Warning, Safe, Records, "0.1",
        BlockReserved {} => "reserved bytes of its descriptor are not zero";
    GM0412 = 412, "block-slot-past-end", Warning, Safe, Rewrite, "0.1",
        BlockSlotPastEnd {} => "slots after the last data block are not zero";
    GM0413 = 413, "bad-block-in-file", Note, None, Nothing, "0.1",
        BadBlockInFile { owner: InodeNo, index: u32 } => "has a hardware error and belongs to inode {owner}, from file block {index} on";

    GM0414 = 414, "descriptor-leftover", Warning, Safe, Records, "0.1",
        DescriptorLeftover {} => "its descriptor holds a file block or a CRC that means nothing in its state";

    // Counts in the superblock.
    GM0501 = 501, "free-count-wrong", Warning, Safe, Records, "0.1",
        FreeCountWrong { recorded: u64, found: u64 } => "records {recorded} free blocks, but the tables have {found}";
    GM0502 = 502, "data-count-wrong", Warning, Safe, Records, "0.1",
        DataCountWrong { recorded: u64, found: u64 } => "records {recorded} data blocks, but the tables have {found}";
    GM0503 = 503, "bad-count-wrong", Warning, Safe, Records, "0.1",
        BadCountWrong { recorded: u64, found: u64 } => "records {recorded} bad blocks, but the tables have {found}";
    GM0504 = 504, "reserved-count-wrong", Warning, Safe, Records, "0.1",
        ReservedCountWrong { recorded: u64, found: u64 } => "records {recorded} reserved blocks, but the tables have {found}";
    GM0505 = 505, "inode-count-wrong", Warning, Safe, Records, "0.1",
        InodeCountWrong { recorded: u64, found: u64 } => "records {recorded} inodes in use, but the tables have {found}";

    // Contents.
    GM0601 = 601, "content-changed", Error, Manual, Nothing, "0.1",
        ContentChanged { owner: InodeNo, index: u32 } => "its content does not match the CRC recorded for file block {index} of inode {owner}";
    GM0602 = 602, "content-not-zero", Error, Manual, Nothing, "0.1",
        ContentNotZero { owner: InodeNo, index: u32 } => "recorded as zero, but file block {index} of inode {owner} is not zero";
    GM0603 = 603, "content-unreadable", Error, Manual, Nothing, "0.1",
        ContentUnreadable { owner: InodeNo, index: u32 } => "the medium cannot read file block {index} of inode {owner}";

    // KHO: the device tree and the preserved map that one kernel leaves to the next.
    GM0701 = 701, "kho-map-address-missing", Error, Manual, Nothing, "0.1",
        KhoMapAddressMissing {} => "does not say where the preserved map is";
    GM0702 = 702, "kho-map-not-written", Note, None, Nothing, "0.1",
        KhoMapNotWritten {} => "not written yet: the kernel has not finalised the hand-over";
    GM0703 = 703, "kho-form-unknown", Note, None, Nothing, "0.1",
        KhoFormUnknown { version: Text } => "has the form '{version}', which this program does not know";
    GM0704 = 704, "kho-map-link-bad", Error, Manual, Nothing, "0.1",
        KhoMapLinkBad { value: Address } => "links to {value}, which cannot be a page of the preserved map";
    GM0705 = 705, "kho-map-page-twice", Error, Manual, Nothing, "0.1",
        KhoMapPageTwice { page: Address } => "links to {page}, which is in the preserved map already";
    GM0706 = 706, "kho-map-count-wrong", Error, Manual, Nothing, "0.1",
        KhoMapCountWrong { count: u32 } => "this chunk of the preserved map has a count of {count}, and 255 entries fit";
    GM0707 = 707, "kho-map-entry-bad", Error, Manual, Nothing, "0.1",
        KhoMapEntryBad { value: Address } => "has an entry of the preserved map that is impossible: {value}";
    GM0708 = 708, "kho-map-entry-twice", Error, Manual, Nothing, "0.1",
        KhoMapEntryTwice { start: Address } => "is the second bitmap of the preserved map for the pages from {start}";
    GM0709 = 709, "kho-map-too-long", Error, Manual, Nothing, "0.1",
        KhoMapTooLong {} => "has more pages than this program follows";
    GM0710 = 710, "kho-user-data-bad", Error, Manual, Nothing, "0.1",
        KhoUserDataBad { user: Text, why: Text } => "what the user '{user}' hands over cannot be used: {why}";
    GM0711 = 711, "kho-preserved-in-scratch", Error, Manual, Nothing, "0.1",
        KhoPreservedInScratch { bytes: u64 } => "{bytes} preserved bytes are in scratch areas, where the next kernel allocates";
    GM0712 = 712, "kho-preserved-unowned", Note, None, Nothing, "0.1",
        KhoPreservedUnowned { bytes: u64 } => "{bytes} preserved bytes belong to no user that this program knows";
    GM0713 = 713, "kho-user-size-differs", Warning, Manual, Nothing, "0.1",
        KhoUserSizeDiffers { user: Text, recorded: u64, actual: u64 } => "the user '{user}' is said to hand over {recorded} bytes, and has {actual}";
    GM0714 = 714, "kho-scratch-odd", Warning, Manual, Nothing, "0.1",
        KhoScratchOdd { entry: u64, address: Address, length: u64, why: Text } => "entry {entry} of the array of scratch areas, with {length} bytes at {address}, {why}";
    GM0715 = 715, "kho-bitmaps-uncertain", Note, None, Nothing, "0.1",
        KhoBitmapsUncertain { taken: u32 } => "its bitmaps have 4096 bytes, as from 6.18 on, or 512: nothing tells for certain; {taken} are taken";

    // LUO: sessions, and the files that are handed over in them.
    GM0801 = 801, "luo-root-bad", Error, Manual, Nothing, "0.1",
        LuoRootBad { why: Text } => "cannot be used: {why}";
    GM0802 = 802, "luo-link-bad", Error, Manual, Nothing, "0.1",
        LuoLinkBad { holder: Address, value: Address } => "a link at {holder} leads to {value}, which cannot be a page";
    GM0803 = 803, "luo-page-twice", Error, Manual, Nothing, "0.1",
        LuoPageTwice { holder: Address, page: Address } => "a link at {holder} leads to {page}, to which another link leads already";
    GM0804 = 804, "luo-count-wrong", Error, Manual, Nothing, "0.1",
        LuoCountWrong { count: u64 } => "has a count of {count}, which is 0 or more than fits";
    GM0805 = 805, "luo-block-not-full", Warning, Manual, Nothing, "0.1",
        LuoBlockNotFull { count: u64 } => "has {count} entries and room for more, and is not the last block";
    GM0806 = 806, "luo-chain-too-long", Error, Manual, Nothing, "0.1",
        LuoChainTooLong {} => "the chain of blocks goes on past the 10000 that a kernel follows";
    GM0807 = 807, "session-count-wrong", Error, Manual, Nothing, "0.1",
        SessionCountWrong { recorded: u64, found: u64 } => "records {recorded} files, and its blocks have {found}";
    GM0808 = 808, "session-files-missing", Error, Manual, Nothing, "0.1",
        SessionFilesMissing { recorded: u64 } => "records {recorded} files, and that does not agree with whether it says where they are";
    GM0809 = 809, "record-zeroed", Note, None, Nothing, "0.1",
        RecordZeroed {} => "all zero: it is that of an empty file, or the file was taken and its record is gone";
    GM0810 = 810, "record-field-bad", Error, Manual, Nothing, "0.1",
        RecordFieldBad { field: Text, value: Address } => "{field} is {value}, which no kernel writes";
    GM0811 = 811, "folio-list-short", Error, Manual, Nothing, "0.1",
        FolioListShort { recorded: u64, room: u64 } => "has {recorded} folios, and the list of its pages has room for {room}";
    GM0812 = 812, "folio-without-page", Error, Manual, Nothing, "0.1",
        FolioWithoutPage { first: u64, folios: u64 } => "{folios} folios have no page, the first is folio {first}";
    GM0813 = 813, "folio-index-not-ascending", Error, Manual, Nothing, "0.1",
        FolioIndexNotAscending { folio: u64, index: u64 } => "folio {folio} starts at page {index} of the file, which is before the end of the one before it";
    GM0814 = 814, "folio-past-size", Error, Manual, Nothing, "0.1",
        FolioPastSize { folio: u64, index: u64 } => "folio {folio} starts at page {index} of the file, which is past its end";
    GM0815 = 815, "folio-gap", Error, Manual, Nothing, "0.1",
        FolioGap { first: u64, gaps: u64 } => "no folio covers page {first} of the file; it has {gaps} such gaps";
    GM0816 = 816, "session-name-unterminated", Error, Manual, Nothing, "0.1",
        SessionNameUnterminated {} => "its name has no NUL at its end";
    GM0817 = 817, "session-name-twice", Error, Manual, Nothing, "0.1",
        SessionNameTwice {} => "another session has the same name";
    GM0818 = 818, "token-twice", Error, Manual, Nothing, "0.1",
        TokenTwice { token: Mask } => "another file of the session has the token {token} too";
    GM0819 = 819, "handler-unknown", Note, None, Nothing, "0.1",
        HandlerUnknown { handler: Text } => "its handler is '{handler}', which this program does not know";
    GM0820 = 820, "folio-not-preserved", Error, Manual, Nothing, "0.1",
        FolioNotPreserved { first: Address, folios: u64 } => "{folios} folios are not preserved, the first at {first}: the next kernel uses that memory";
    GM0821 = 821, "folio-order-differs", Error, Manual, Nothing, "0.1",
        FolioOrderDiffers { first: Address, folios: u64 } => "{folios} folios do not agree with the preserved map on where they start or how large they are, the first at {first}";
    GM0822 = 822, "folio-shared", Error, Manual, Nothing, "0.1",
        FolioShared { first: Address, folios: u64 } => "{folios} folios belong to something else too, the first at {first}";
    GM0823 = 823, "folio-in-scratch", Error, Manual, Nothing, "0.1",
        FolioInScratch { first: Address, folios: u64 } => "{folios} folios are in a scratch area, where the next kernel allocates, the first at {first}";
    GM0824 = 824, "folio-outside-memory", Error, Manual, Nothing, "0.1",
        FolioOutsideMemory { first: Address, folios: u64 } => "{folios} folios are at addresses where the machine has no memory, the first at {first}";
    GM0825 = 825, "record-not-preserved", Error, Manual, Nothing, "0.1",
        RecordNotPreserved { what: Text } => "{what} is not preserved: the next kernel uses that memory";
    GM0826 = 826, "handler-name-bad", Error, Manual, Nothing, "0.1",
        HandlerNameBad { handler: Text, why: Text } => "the name of its handler, '{handler}', {why}";
    GM0827 = 827, "flb-name-bad", Error, Manual, Nothing, "0.1",
        FlbNameBad { name: Text, why: Text } => "the name of an object, '{name}', {why}";

    // guestmemfs v1: what only this driver has.
    GM0901 = 901, "gm-region-flag-missing", Warning, Manual, Nothing, "0.1",
        GmRegionFlagMissing {} => "the region is not marked as memory without page structures";
    GM0902 = 902, "gm-part-length-wrong", Warning, Manual, Nothing, "0.1",
        GmPartLengthWrong { length: u64 } => "has {length} bytes by the device tree, which is not its size";
    GM0903 = 903, "gm-table-missing", Warning, Manual, Nothing, "0.1",
        GmTableMissing {} => "does not say which file each page of mappings belongs to";
    GM0904 = 904, "gm-pointers-differ", Error, Manual, Nothing, "0.1",
        GmPointersDiffer { inodes: Address, bitmap: Address } => "its pointers belong to different direct maps: {inodes} by the inodes, {bitmap} by the bitmap";
    GM0905 = 905, "gm-not-serialised", Note, None, Nothing, "0.1",
        GmNotSerialised {} => "does not say that it is handed over: it was restored, or the hand-over was called off";
    GM0906 = 906, "gm-superblock-locked", Warning, Manual, Nothing, "0.1",
        GmSuperblockLocked {} => "its lock is held";
    GM0907 = 907, "gm-mappings-differ", Error, Manual, Nothing, "0.1",
        GmMappingsDiffer { files: u32, why: Text } => "{files} files have one page of mappings by the device tree and another by the inode{why}";
    GM0908 = 908, "gm-tree-files-differ", Error, Manual, Nothing, "0.1",
        GmTreeFilesDiffer { missing: u32, extra: u32, first: Text } => "does not name {missing} files, and names {extra} inodes that are no files; the first is {first}";
    GM0909 = 909, "gm-table-order-wrong", Error, Manual, Nothing, "0.1",
        GmTableOrderWrong { entry: u32 } => "the inode numbers are not ascending at entry {entry}";
    GM0910 = 910, "gm-inode-count-wrong", Warning, Manual, Nothing, "0.1",
        GmInodeCountWrong { superblock: Text, tree: Text, linked: u64 } => "inodes in use: {superblock} by the superblock, {tree} by the device tree, and directories lead to {linked}";
    GM0911 = 911, "gm-free-inode-not-zero", Warning, Manual, Nothing, "0.1",
        GmFreeInodeNotZero {} => "free, and not zero";
    GM0912 = 912, "gm-page-missing", Error, Manual, Nothing, "0.1",
        GmPageMissing { page: Text } => "its page of mappings {page}";
    GM0913 = 913, "gm-page-shared", Error, Manual, Nothing, "0.1",
        GmPageShared { page: Address, other: Text } => "has its page of mappings, at {page}, together with {other}";
    GM0914 = 914, "gm-too-many-blocks", Error, Manual, Nothing, "0.1",
        GmTooManyBlocks { count: u32 } => "counts {count} blocks, and a page of mappings has 512 entries";
    GM0915 = 915, "gm-entry-beyond-count", Warning, Manual, Nothing, "0.1",
        GmEntryBeyondCount { entry: u32 } => "entry {entry} of its page of mappings holds a block, and its count does not reach it";
    GM0916 = 916, "gm-count-surplus", Note, None, Nothing, "0.1",
        GmCountSurplus { count: u32, blocks: u32 } => "counts {count} blocks and has {blocks}: the driver shows block 0 for the rest";
    GM0917 = 917, "gm-form-unknown", Note, None, Nothing, "0.1",
        GmFormUnknown { version: Text } => "has the form '{version}', which this program does not know";
    GM0918 = 918, "gm-tree-damaged", Error, Manual, Nothing, "0.1",
        GmTreeDamaged { why: Text } => "is damaged: {why}";

    // pkernfs: what only this driver has.
    GM1001 = 1001, "pk-magic-differs", Error, Lossy, Records, "0.1",
        PkMagicDiffers { found: Mask } => "its magic is {found}: the driver formats the region when it is mounted next";
    GM1002 = 1002, "pk-ghost-inode", Error, Safe, Records, "0.1",
        PkGhostInode {} => "a file is in an inode that does not exist: the driver had no free inode, and lists that directory no longer";
    GM1003 = 1003, "pk-bytes-not-zero", Warning, Lossy, Records, "0.1",
        PkBytesNotZero {} => "has bytes that are not zero and mean nothing in an inode of its kind";
    GM1004 = 1004, "pk-block-count-small", Warning, Safe, Records, "0.1",
        PkBlockCountSmall { count: u32, blocks: u64 } => "counts {count} allocated blocks, and has {blocks}";
    GM1005 = 1005, "pk-entry-missing", Error, Manual, Nothing, "0.1",
        PkEntryMissing { entry: u64, entries: u64 } => "{entries} entries from entry {entry} on name no block: the driver maps the superblock there";
    GM1006 = 1006, "pk-slack-not-zero", Warning, Safe, Records, "0.1",
        PkSlackNotZero {} => "the bytes after the last inode are not zero";
    GM1007 = 1007, "pk-table-block-bad", Error, Lossy, Records, "0.1",
        PkTableBlockBad { block: BlockNo } => "has its table in block {block}, which is metadata or past the end of the region";

    // What the drivers of pkernfs and guestmemfs v1 have in common: inodes in chains, and the bitmap of blocks.
    GM1101 = 1101, "root-inode-differs", Error, Safe, Records, "0.1",
        RootInodeDiffers {} => "is not the root that the driver writes";
    GM1102 = 1102, "chain-link-bad", Error, Safe, Records, "0.1",
        ChainLinkBad { chain: Text, value: Mask } => "links to {value}, which is no inode; what follows in {chain} is not reached";
    GM1103 = 1103, "chain-cycle", Error, Safe, Records, "0.1",
        ChainCycle { chain: Text, target: Text } => "links back to {target}: {chain} form a circle";
    GM1104 = 1104, "inode-in-two-chains", Error, Lossy, Records, "0.1",
        InodeInTwoChains { first: Text, second: Text } => "is in {first} and in {second}";
    GM1105 = 1105, "inode-orphaned", Error, Lossy, Records, "0.1",
        InodeOrphaned {} => "in use, and in no directory";
    GM1106 = 1106, "free-inode-in-directory", Warning, Safe, Records, "0.1",
        FreeInodeInDirectory { first: InodeNo, inodes: u32 } => "has {inodes} free inodes among its entries, the first is inode {first}";
    GM1107 = 1107, "used-inode-in-free-list", Error, Safe, Records, "0.1",
        UsedInodeInFreeList {} => "in use, and in the list of free inodes: the driver will use it again";
    GM1108 = 1108, "free-inodes-unlisted", Warning, Safe, Records, "0.1",
        FreeInodesUnlisted { inodes: u32 } => "{inodes} inodes from this one on are free, and not in the list of free inodes";
    GM1109 = 1109, "inode-flags-odd", Error, Manual, Nothing, "0.1",
        InodeFlagsOdd { flags: Mask } => "its flags are {flags}, which the driver does not write";
    GM1110 = 1110, "entry-name-bad", Error, Lossy, Records, "0.1",
        EntryNameBad { fault: Text } => "its name {fault}";
    GM1111 = 1111, "entry-name-twice", Error, Lossy, Records, "0.1",
        EntryNameTwice { other: Text } => "has the same name as {other} in the same directory, which the driver finds instead";
    GM1121 = 1121, "block-claimed-twice", Error, Manual, Nothing, "0.1",
        BlockClaimedTwice { ino: Text } => "has an owner, and {ino} claims it too";
    GM1122 = 1122, "block-not-marked", Error, Safe, Records, "0.1",
        BlockNotMarked {} => "in use, and not marked in the bitmap: the driver will hand out the memory again";
    GM1123 = 1123, "block-leaked", Note, Lossy, Records, "0.1",
        BlockLeaked {} => "marked in the bitmap, and in no file";
    GM1124 = 1124, "mark-past-end", Warning, Lossy, Records, "0.1",
        MarkPastEnd {} => "marked in the bitmap, and past the end of the region";
    GM1125 = 1125, "bitmap-rest-not-zero", Warning, Lossy, Records, "0.1",
        BitmapRestNotZero {} => "the part that the driver does not use is not zero";
    GM1126 = 1126, "file-past-end", Error, Lossy, Records, "0.1",
        FilePastEnd { blocks: u64 } => "{blocks} of its blocks are past the end of the region: the driver maps memory there that is not its own";
}

impl Code {
    /// Whether it is a problem of a native region, which alone can be made on purpose.
    #[must_use]
    pub const fn is_native(self) -> bool {
        self.number() < 700
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    /// Takes a code (`GM0402`, in either case) or a name (`owner-missing`).
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let wanted = |code: &&Self| code.text().eq_ignore_ascii_case(text) || code.name() == text;
        Self::ALL.iter().find(wanted).copied().ok_or(UnknownCode)
    }
}

/// A text that is no problem's code or name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no problem has this code or name")
    }
}

impl std::error::Error for UnknownCode {}

#[cfg(test)]
mod tests;
