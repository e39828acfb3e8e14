//! `gmfs.inspect/1` and what other answers share with it.

use gmfs_check::Standings;
use gmfs_format::native::copies::{Judgement, Standing};
use gmfs_format::native::geometry::Geometry as Layout;
use gmfs_format::native::raw::ErrorRecord;
use gmfs_format::native::superblock::{STATE_SEALED, Superblock as Found};
use gmfs_volume::Superblocks;
use serde::Serialize;

use crate::render::json::{dump, files, mask, text};
use crate::render::{time, words};
use gmfs::Place;
use gmfs::health;

/// The image.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Image {
    kind: &'static str,
    path: String,
}

impl Image {
    pub(crate) fn new(kind: gmfs_image::Kind, path: &std::path::Path) -> Self {
        Self { kind: kind.name(), path: path.to_string_lossy().into_owned() }
    }
}

impl From<&Place> for Image {
    fn from(place: &Place) -> Self {
        Self::new(place.kind, &place.path)
    }
}

/// Which region an answer is about.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Store {
    layout: Option<&'static str>,
    uuid: Option<String>,
    base: u64,
    size: Option<u64>,
}

impl Store {
    /// A region whose superblock is known, at `base` of the image.
    pub(crate) fn new(base: u64, found: &Found) -> Self {
        Self::of(base, found.uuid, found.geometry())
    }

    /// A region of this layout.
    pub(crate) fn of(base: u64, uuid: uuid::Uuid, geometry: Layout) -> Self {
        let layout = Some(gmfs_format::Layout::Native.name());
        Self { layout, uuid: Some(uuid.to_string()), base, size: Some(geometry.size()) }
    }

    /// A region of a layout that records neither an identity nor its size.
    pub(crate) fn of_layout(layout: gmfs_format::Layout, base: u64, size: u64) -> Self {
        Self { layout: Some(layout.name()), uuid: None, base, size: Some(size) }
    }

    /// A range of the image that holds no region that can be read.
    pub(crate) const fn unknown(base: u64, size: Option<u64>) -> Self {
        Self { layout: None, uuid: None, base, size }
    }

    /// A range whose superblocks may or may not have been found.
    pub(crate) fn if_known(base: u64, found: Option<&Superblocks>) -> Self {
        found.map_or(Self::unknown(base, None), |found| Self::new(base, found.current()))
    }
}

impl From<&gmfs::Store> for Store {
    fn from(store: &gmfs::Store) -> Self {
        let uuid = store.uuid().map(|uuid| uuid.to_string());
        Self { layout: Some(store.layout().name()), uuid, base: store.base(), size: Some(store.size()) }
    }
}

/// Where the region is in the image.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Span {
    pub(crate) base: u64,
    pub(crate) size: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Features {
    compat: String,
    ro_compat: String,
    incompat: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Error {
    time: String,
    code: String,
}

impl Error {
    fn new(record: &ErrorRecord) -> Option<Self> {
        let time = time::rfc3339(record.time.get())?;
        Some(Self { time, code: format!("GM{:04}", record.code.get()) })
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Errors {
    count: u64,
    first: Option<Error>,
    last: Option<Error>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Copies {
    a: &'static str,
    b: &'static str,
}

/// The superblock that counts.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Superblock {
    uuid: String,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_bytes: Option<String>,
    version: u32,
    generation: u64,
    state: String,
    sealed: bool,
    features: Features,
    pmd_shift: u8,
    region_size: u64,
    recorded_base: Option<u64>,
    table_pages: u64,
    inode_pages: u64,
    table_used: u64,
    inodes_used_pages: u64,
    created: Option<String>,
    written: Option<String>,
    checked: Option<String>,
    sealed_at: Option<String>,
    write_count: u64,
    writer: String,
    errors: Errors,
    copies: Copies,
}

impl Superblock {
    pub(crate) fn new(found: &Found, judged: &Judgement) -> Self {
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
            copies: Copies { a: judged.a.name(), b: judged.b.name() },
        }
    }
}

/// How the region is laid out.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Geometry {
    block_size: u64,
    blocks: u32,
    data_blocks: u32,
    metadata_blocks: u32,
    table_pages: u32,
    inode_pages: u32,
    inodes: u32,
    tail: u64,
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
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Usage {
    free: u64,
    data: u64,
    bad: u64,
    reserved: u64,
    metadata: u64,
    inodes_used: u64,
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
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Statfs {
    f_bsize: u64,
    f_blocks: u64,
    f_bfree: u64,
    f_bavail: u64,
    f_files: u64,
    f_ffree: u64,
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

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Counts {
    good: u64,
    stale: u64,
    damaged: u64,
    absent: u64,
    recovery: u64,
}

impl From<Standings> for Counts {
    fn from(counts: Standings) -> Self {
        let Standings { good, recovery, stale, damaged, absent } = counts;
        Self { good, stale, damaged, absent, recovery }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PageCounts {
    a: Counts,
    b: Counts,
}

/// The state of the metadata.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Health {
    verdict: &'static str,
    pages: PageCounts,
}

impl From<health::Health> for Health {
    fn from(health: health::Health) -> Self {
        let pages = PageCounts { a: health.pages.a.into(), b: health.pages.b.into() };
        Self { verdict: health.verdict.name(), pages }
    }
}

/// A run of blocks of one state and one owner.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Blocks {
    pub(crate) block: u32,
    pub(crate) count: u64,
    pub(crate) address: u64,
    pub(crate) physical: Option<u64>,
    pub(crate) state: String,
    pub(crate) owner: Option<u32>,
    pub(crate) index: Option<u32>,
    pub(crate) flags: String,
}

/// One copy of a run of pages.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PageCopy {
    standing: &'static str,
    detail: Option<String>,
    address: u64,
}

impl PageCopy {
    pub(crate) fn new(standing: Standing, address: u64) -> Self {
        let detail = match standing {
            Standing::Damaged(fault) => Some(fault.to_string()),
            Standing::Absent(why) => Some(why.to_string()),
            _ => None,
        };
        Self { standing: standing.name(), detail, address }
    }
}

/// A run of metadata pages in the same state.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pages {
    pub(crate) page: u32,
    pub(crate) count: u64,
    pub(crate) kind: String,
    pub(crate) take: Option<String>,
    pub(crate) conflict: bool,
    pub(crate) uncertain: bool,
    pub(crate) a: PageCopy,
    pub(crate) b: PageCopy,
}

/// One field of a raw structure.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Field {
    pub(crate) name: String,
    /// From the start of the page.
    pub(crate) start: usize,
    pub(crate) size: usize,
    pub(crate) kind: &'static str,
    pub(crate) value: String,
    pub(crate) meaning: &'static str,
}

/// The fields of a metadata page, as its bytes give them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Raw {
    pub(crate) page: u32,
    pub(crate) copy: String,
    pub(crate) address: u64,
    pub(crate) structure: &'static str,
    pub(crate) seal: String,
    pub(crate) fields: Vec<Field>,
}

/// The view that was asked for, if it is a list.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Lists {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lost_pages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<Vec<Blocks>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inodes: Option<Vec<files::Inode>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<Vec<files::File>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pages: Option<Vec<Pages>>,
}

/// The answer of `inspect`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Inspect {
    pub(crate) image: Image,
    pub(crate) store: Store,
    pub(crate) region: Span,
    pub(crate) layout: &'static str,
    pub(crate) superblock: Superblock,
    pub(crate) geometry: Geometry,
    pub(crate) usage: Usage,
    pub(crate) statfs: Statfs,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<Health>,
    /// Given only for an image that may lack bytes: a dump, or a file that was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presence: Option<dump::Presence>,
    #[serde(flatten)]
    pub(crate) lists: Lists,
}

/// The answer of `inspect raw`, which needs no region.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InspectRaw {
    pub(crate) image: Image,
    pub(crate) store: Store,
    pub(crate) raw: Raw,
}
