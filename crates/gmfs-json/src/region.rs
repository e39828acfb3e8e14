//! `gmfs.inspect/1` and what other answers share with it.

use gmfs_check::Standings;
use gmfs_format::native::copies::{Judgement, Standing};
use gmfs_format::native::fields::{NamedField, Value};
use gmfs_format::native::geometry::Geometry as Layout;
use gmfs_format::native::raw::ErrorRecord;
use gmfs_format::native::superblock::{STATE_SEALED, Superblock as Found};
use gmfs_format::native::units::CopyId;
use gmfs_volume::Superblocks;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::time;
use crate::{dump, files, hex, mask, text};
use gmfs::Place;
use gmfs::health;
use gmfs::raw_page::{RawPage, Seal};
use gmfs::tables::{BlockRun, PageRun};
use gmfs::words;

/// The image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Image {
    /// What kind of thing it is, in a word.
    pub kind: Word,
    /// Path: of a file in the region, from its root, null if no path leads to it; of the image, on this machine.
    pub path: String,
}

impl Image {
    /// An image of this kind, at this path.
    pub fn new(kind: gmfs_image::Kind, path: &std::path::Path) -> Self {
        Self { kind: kind.name().into(), path: path.to_string_lossy().into_owned() }
    }
}

impl From<&Place> for Image {
    fn from(place: &Place) -> Self {
        Self::new(place.kind, &place.path)
    }
}

/// Which region an answer is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Store {
    /// Layout of the region; null if no region can be read there.
    pub layout: Option<Word>,
    /// UUID of the region; null if no region can be read there.
    pub uuid: Option<String>,
    /// Where it begins in the image, in bytes: a physical address where the image has physical addresses, otherwise an
    /// offset.
    pub base: u64,
    /// Bytes in it; null if unknown.
    pub size: Option<u64>,
}

impl Store {
    /// A region whose superblock is known, at `base` of the image.
    pub fn new(base: u64, found: &Found) -> Self {
        Self::of(base, found.uuid, found.geometry())
    }

    /// A region of this layout.
    pub fn of(base: u64, uuid: uuid::Uuid, geometry: Layout) -> Self {
        let layout = Some(gmfs_format::Layout::Native.name());
        Self { layout: layout.map(Into::into), uuid: Some(uuid.to_string()), base, size: Some(geometry.size()) }
    }

    /// A region of a layout that records neither an identity nor its size.
    pub fn of_layout(layout: gmfs_format::Layout, base: u64, size: u64) -> Self {
        Self { layout: Some(layout.name().into()), uuid: None, base, size: Some(size) }
    }

    /// A range of the image that holds no region that can be read.
    pub const fn unknown(base: u64, size: Option<u64>) -> Self {
        Self { layout: None, uuid: None, base, size }
    }

    /// A range whose superblocks may or may not have been found.
    pub fn if_known(base: u64, found: Option<&Superblocks>) -> Self {
        found.map_or(Self::unknown(base, None), |found| Self::new(base, found.current()))
    }
}

impl From<&gmfs::Store> for Store {
    fn from(store: &gmfs::Store) -> Self {
        let uuid = store.uuid().map(|uuid| uuid.to_string());
        Self { layout: Some(store.layout().name().into()), uuid, base: store.base(), size: Some(store.size()) }
    }
}

/// Where the region is in the image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Span {
    /// Where it begins in the image, in bytes: a physical address where the image has physical addresses, otherwise an
    /// offset.
    pub base: u64,
    /// Bytes in it; null if unknown.
    pub size: u64,
}

/// Masks of the features that a region uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Features {
    /// Mask of features that other programs may ignore.
    pub compat: String,
    /// Mask of features without which a program must not write the region.
    pub ro_compat: String,
    /// Mask of features without which a program must not read the region.
    pub incompat: String,
}

/// A problem that the superblock records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Error {
    /// When (RFC 3339).
    pub time: String,
    /// Code of the problem, such as GM0402; of an error, a word.
    pub code: String,
}

impl Error {
    fn new(record: &ErrorRecord) -> Option<Self> {
        let time = time::rfc3339(record.time.get())?;
        Some(Self { time, code: format!("GM{:04}", record.code.get()) })
    }
}

/// The problems that the superblock records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Errors {
    /// How many there are.
    pub count: u64,
    /// The first one; null if there is none.
    pub first: Option<Error>,
    /// The last one; null if there is none.
    pub last: Option<Error>,
}

/// The state of both superblocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Copies {
    /// State of the superblock in copy A.
    pub a: Word,
    /// State of the superblock in copy B.
    pub b: Word,
}

/// The superblock that counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Superblock {
    /// UUID of the region; null if no region can be read there.
    pub uuid: String,
    /// Label of the region.
    pub label: String,
    /// The label in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_bytes: Option<String>,
    /// Version of the format; null if unknown.
    pub version: u32,
    /// Number of the commit that wrote the superblock.
    pub generation: u64,
    /// State, in a word.
    pub state: String,
    /// Whether the region is sealed.
    pub sealed: bool,
    /// Feature masks of the format.
    pub features: Features,
    /// Binary logarithm of the block size.
    pub pmd_shift: u8,
    /// Bytes in the region, as the superblock records it.
    pub region_size: u64,
    /// Physical address that the superblock records for the region; null if it records none.
    pub recorded_base: Option<u64>,
    /// How many pages the block table has.
    pub table_pages: u64,
    /// How many pages the inode table has.
    pub inode_pages: u64,
    /// How many pages of the block table are in use.
    pub table_used: u64,
    /// How many pages of the inode table are in use.
    pub inodes_used_pages: u64,
    /// When it was made (RFC 3339).
    pub created: Option<String>,
    /// When the superblock was last written (RFC 3339).
    pub written: Option<String>,
    /// When the region was last checked (RFC 3339).
    pub checked: Option<String>,
    /// When the region was sealed (RFC 3339).
    pub sealed_at: Option<String>,
    /// How many commits the region has seen.
    pub write_count: u64,
    /// Program that wrote it, with its version; null if unknown.
    pub writer: String,
    /// Problems that were recorded in the superblock.
    pub errors: Errors,
    /// State of both superblocks.
    pub copies: Copies,
}

impl Superblock {
    /// A superblock, and what was judged of both.
    pub fn new(found: &Found, judged: &Judgement) -> Self {
        let raw = &found.raw;
        let (label, label_bytes) = text(found.label());
        let features = found.features();
        Self {
            uuid: found.uuid.to_string(),
            label,
            label_bytes,
            version: raw.version.get(),
            generation: found.generation.0,
            state: words::state(raw.state.get()),
            sealed: raw.state.get() & STATE_SEALED != 0,
            features: Features {
                compat: mask(features.compat),
                ro_compat: mask(features.ro_compat),
                incompat: mask(features.incompat),
            },
            pmd_shift: raw.pmd_shift,
            region_size: raw.region_size.get(),
            recorded_base: Some(raw.base.get()).filter(|base| *base != 0),
            table_pages: raw.table_pages.get(),
            inode_pages: raw.inode_pages.get(),
            table_used: raw.table_used.get(),
            inodes_used_pages: raw.inodes_used_pages.get(),
            created: time::rfc3339(raw.created.get()),
            written: time::rfc3339(raw.written.get()),
            checked: time::rfc3339(raw.checked.get()),
            sealed_at: time::rfc3339(raw.sealed.get()),
            write_count: raw.write_count.get(),
            writer: text(found.writer()).0,
            errors: Errors {
                count: raw.error_count.get(),
                first: Error::new(&raw.first_error),
                last: Error::new(&raw.last_error),
            },
            copies: Copies { a: judged.a.name().into(), b: judged.b.name().into() },
        }
    }
}

/// How the region is laid out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Geometry {
    /// Bytes in a block.
    pub block_size: u64,
    /// How many blocks the region has.
    pub blocks: u32,
    /// How many blocks can hold contents of files.
    pub data_blocks: u32,
    /// How many blocks one copy of the metadata has.
    pub metadata_blocks: u32,
    /// How many pages the block table has.
    pub table_pages: u32,
    /// How many pages the inode table has.
    pub inode_pages: u32,
    /// How many inodes the region has.
    pub inodes: u32,
    /// Bytes past the last whole block, which are not used.
    pub tail: u64,
}

impl From<Layout> for Geometry {
    fn from(layout: Layout) -> Self {
        Self {
            block_size: layout.block_bytes(),
            blocks: layout.blocks(),
            data_blocks: layout.data_blocks(),
            metadata_blocks: layout.metadata_blocks(),
            table_pages: layout.table_pages(),
            inode_pages: layout.inode_pages(),
            inodes: layout.inodes(),
            tail: layout.tail(),
        }
    }
}

/// Blocks and inodes by what they are used for, as the superblock counts them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Usage {
    /// How many blocks are free.
    pub free: u64,
    /// How many blocks hold contents of files.
    pub data: u64,
    /// How many blocks are marked as having hardware errors.
    pub bad: u64,
    /// How many blocks are reserved because they may hold guest memory.
    pub reserved: u64,
    /// How many blocks hold metadata, both copies together.
    pub metadata: u64,
    /// How many inodes are in use.
    pub inodes_used: u64,
}

impl From<&Found> for Usage {
    fn from(found: &Found) -> Self {
        let raw = &found.raw;
        Self {
            free: raw.free_blocks.get(),
            data: raw.data_blocks.get(),
            bad: raw.bad_blocks.get(),
            reserved: raw.reserved_blocks.get(),
            metadata: u64::from(found.geometry().metadata_blocks()) * 2,
            inodes_used: raw.used_inodes.get(),
        }
    }
}

/// What statfs(2) reports of the mounted region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Statfs {
    /// As statfs(2) reports it: bytes in a block.
    pub f_bsize: u64,
    /// As statfs(2) reports it: blocks of the region.
    pub f_blocks: u64,
    /// As statfs(2) reports it: free blocks.
    pub f_bfree: u64,
    /// As statfs(2) reports it: blocks that can be given out.
    pub f_bavail: u64,
    /// As statfs(2) reports it: inodes of the region.
    pub f_files: u64,
    /// As statfs(2) reports it: free inodes.
    pub f_ffree: u64,
}

impl From<&Found> for Statfs {
    fn from(found: &Found) -> Self {
        let (geometry, raw) = (found.geometry(), &found.raw);
        let inodes = u64::from(geometry.inodes());
        Self {
            f_bsize: geometry.block_bytes(),
            f_blocks: geometry.blocks().into(),
            f_bfree: raw.free_blocks.get(),
            f_bavail: raw.free_blocks.get(),
            f_files: inodes,
            f_ffree: inodes.saturating_sub(raw.used_inodes.get()),
        }
    }
}

/// Pages of one copy, counted by their state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Counts {
    /// How many pages are good.
    pub good: u64,
    /// How many pages are older than the region.
    pub stale: u64,
    /// How many pages are damaged.
    pub damaged: u64,
    /// How many pages are not in the image.
    pub absent: u64,
    /// How many pages are left by an unfinished change, which the next writer settles.
    pub recovery: u64,
}

impl From<Standings> for Counts {
    fn from(counts: Standings) -> Self {
        let Standings { good, recovery, stale, damaged, absent } = counts;
        Self { good, stale, damaged, absent, recovery }
    }
}

/// Pages of both copies, counted by their state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PageCounts {
    /// Of copy A, at the start of the region.
    pub a: Counts,
    /// Of copy B, at the end of the region.
    pub b: Counts,
}

/// The state of the metadata.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Health {
    /// State of the region: clean, recovery, damaged or unknown.
    pub verdict: Word,
    /// How many pages of each copy are in which state.
    pub pages: PageCounts,
}

impl From<health::Health> for Health {
    fn from(health: health::Health) -> Self {
        let pages = PageCounts { a: health.pages.a.into(), b: health.pages.b.into() };
        Self { verdict: health.verdict.name().into(), pages }
    }
}

/// A run of blocks of one state and one owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Blocks {
    /// Number of a block in the region; of a run, its first.
    pub block: u32,
    /// How many there are.
    pub count: u64,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: Option<u64>,
    /// State, in a word.
    pub state: String,
    /// Inode number of the owner; null if the blocks are nobody's.
    pub owner: Option<u32>,
    /// Number of a block in its file, from 0; of a run, of its first.
    pub index: Option<u32>,
    /// Flags in words.
    pub flags: String,
}

impl Blocks {
    /// A run of blocks of a store with this geometry.
    pub fn new(run: &BlockRun, store: &gmfs::Store, geometry: Layout) -> Self {
        let (entry, at) = (&run.entry, geometry.block_offset(run.first));
        Self {
            block: run.first.0,
            count: run.count.into(),
            address: store.place.base.saturating_add(at),
            physical: store.physical_base().map(|base| base.saturating_add(at)),
            state: words::block_state(entry),
            owner: files::ino(entry.owner()),
            index: entry.is_mapping().then(|| entry.index.get()),
            flags: words::block_flags(entry.flags),
        }
    }
}

/// One copy of a run of pages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PageCopy {
    /// State of the page: good, stale, damaged, absent or recovery.
    pub standing: Word,
    /// What is wrong with the page; null if nothing is.
    pub detail: Option<String>,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
}

impl PageCopy {
    /// A page in this state, at this address of the image.
    pub fn new(standing: Standing, address: u64) -> Self {
        let detail = match standing {
            Standing::Damaged(fault) => Some(fault.to_string()),
            Standing::Absent(why) => Some(why.to_string()),
            _ => None,
        };
        Self { standing: standing.name().into(), detail, address }
    }
}

/// A run of metadata pages in the same state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Pages {
    /// Number of a metadata page, from 0, the superblock; of a run, of its first.
    pub page: u32,
    /// How many there are.
    pub count: u64,
    /// What kind of thing it is, in a word.
    pub kind: String,
    /// The copy that counts; null if none does.
    pub take: Option<String>,
    /// Whether both copies are good and do not agree.
    pub conflict: bool,
    /// Whether nothing proves which copy is current.
    pub uncertain: bool,
    /// Of copy A, at the start of the region.
    pub a: PageCopy,
    /// Of copy B, at the end of the region.
    pub b: PageCopy,
}

impl Pages {
    /// A run of pages of a region with this geometry, at `base` of the image.
    pub fn new(run: &PageRun, base: u64, geometry: Layout) -> Self {
        let judged = &run.judgement;
        let copy = |copy| PageCopy::new(judged.of(copy), base.saturating_add(geometry.page_offset(copy, run.first)));
        Self {
            page: run.first.0,
            count: run.count,
            kind: run.kind.map_or_else(String::new, |kind| kind.to_string()),
            take: judged.take.map(|copy| copy.to_string()),
            conflict: judged.conflict,
            uncertain: judged.uncertain,
            a: copy(CopyId::A),
            b: copy(CopyId::B),
        }
    }
}

/// One field of a raw structure.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Field {
    /// Name of the file, the field or the problem.
    pub name: String,
    /// Where the field begins in the page, in bytes.
    pub start: usize,
    /// Bytes in it; null if unknown.
    pub size: usize,
    /// What kind of thing it is, in a word.
    pub kind: Word,
    /// Value of the field.
    pub value: String,
    /// What the field means.
    pub meaning: Word,
}

impl From<NamedField> for Field {
    fn from(field: NamedField) -> Self {
        Self {
            value: value(&field.value),
            name: field.name,
            start: field.offset,
            size: field.field.size,
            kind: field.field.kind.into(),
            meaning: field.field.doc.trim().into(),
        }
    }
}

/// How many bytes of a field without a meaning are shown.
const BYTES_SHOWN: usize = 14;

/// The value of a field: numbers as numbers, names as text, the rest in hexadecimal, the first of it.
fn value(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Mask(mask) => format!("{mask:#x}"),
        Value::Mode(mode) => format!("{mode:#o}"),
        Value::Time(time) => format!("{time} ({})", time::to_the_second(*time)),
        Value::Letter(letter) => format!("{letter:#x} '{}'", letter.escape_ascii()),
        Value::Uuid(uuid) => uuid.to_string(),
        Value::Text(text) => format!("\"{}\"", gmfs_format::name::escape(text.as_bytes())),
        Value::Bytes(bytes) => {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            match &bytes[..end] {
                [] => "all zero".to_owned(),
                used if used.len() > BYTES_SHOWN => format!("{}… ({} bytes)", hex(&used[..BYTES_SHOWN]), bytes.len()),
                used => hex(used),
            }
        }
        _ => String::new(),
    }
}

/// The fields of a metadata page, as its bytes give them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Raw {
    /// Number of a metadata page, from 0, the superblock; of a run, of its first.
    pub page: u32,
    /// Copy of the metadata, A or B; null if the place is in neither.
    pub copy: String,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Name of the structure.
    pub structure: Word,
    /// State of the page's seal.
    pub seal: String,
    /// Fields of a structure.
    pub fields: Vec<Field>,
}

impl Raw {
    /// A page of a region at `base` of the image.
    pub fn new(base: u64, page: RawPage) -> Self {
        Self {
            page: page.page,
            copy: page.copy.to_string(),
            address: base.saturating_add(page.offset),
            structure: page.listed.structure.into(),
            seal: match page.seal {
                Seal::Good(generation) => format!("good, generation {generation}"),
                Seal::Broken(fault) => fault.to_string(),
                _ => "of a region whose layout does not agree with itself".to_owned(),
            },
            fields: page.listed.fields.into_iter().map(Field::from).collect(),
        }
    }
}

/// The view that was asked for, if it is a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Lists {
    /// How many pages of the table cannot be read: the list is incomplete if it is not 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_pages: Option<u64>,
    /// Runs of blocks that have one state and one owner; only of a native region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<Blocks>>,
    /// Every inode in use; of a hand-over, every session and file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes: Option<Vec<files::Inode>>,
    /// Files and directories, each with where its blocks are or what was made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<files::File>>,
    /// Runs of metadata pages that are in one state; only of a native region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<Vec<Pages>>,
}

/// The answer of `inspect`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Inspect {
    /// The image that the command was given.
    pub image: Image,
    /// The region that the answer is about; null if there is none.
    pub store: Store,
    /// Where the region is in the image.
    pub region: Span,
    /// Layout of the region; null if no region can be read there.
    pub layout: Word,
    /// The superblock that counts.
    pub superblock: Superblock,
    /// How the region is laid out.
    pub geometry: Geometry,
    /// Blocks and inodes by what they are used for.
    pub usage: Usage,
    /// What statfs(2) reports of the mounted region.
    pub statfs: Statfs,
    /// State of the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How much of the region is in the image; null if the image holds no region that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<dump::Presence>,
    /// The view that was asked for, if it is a list.
    #[serde(flatten)]
    pub lists: Lists,
}

impl Inspect {
    /// The answer for a native region, without its health, and without the view that was asked for.
    pub fn new(place: &Place, superblocks: &Superblocks) -> Self {
        let superblock = superblocks.current();
        let geometry = superblock.geometry();
        Self {
            image: place.into(),
            store: Store::new(place.base, superblock),
            region: Span { base: place.base, size: geometry.size() },
            layout: gmfs_format::Layout::Native.name().into(),
            superblock: Superblock::new(superblock, &superblocks.judgement()),
            geometry: geometry.into(),
            usage: superblock.into(),
            statfs: superblock.into(),
            health: None,
            presence: None,
            lists: Lists::default(),
        }
    }
}

/// The answer of `inspect raw`, which needs no region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct InspectRaw {
    /// The image that the command was given.
    pub image: Image,
    /// The region that the answer is about; null if there is none.
    pub store: Store,
    /// A metadata page as its bytes read.
    pub raw: Raw,
}
