//! What was done or found: `gmfs.mkfs/1`, `gmfs.scan/1`, `gmfs.save/1`, `gmfs.extract/1` and the commands that change
//! files.

use gmfs::changes::{Changes, One, State};
use gmfs::content::{self, Gaps};
use gmfs::put_back;
use gmfs::{Candidate, Located, Store};
use gmfs_volume::rebuild::load_or_rebuild;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::{dump, files, guestmemfs, region, text};

/// The answer of `mkfs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Mkfs {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Where the region is in the image.
    pub region: region::Span,
    /// Layout of the region; null if no region can be read there.
    pub layout: Word,
    /// UUID of the region; null if no region can be read there.
    pub uuid: Option<String>,
    /// Label of the region.
    pub label: String,
    /// Physical address that the superblock records for the region; null if it records none.
    pub recorded_base: Option<u64>,
    /// How the region is laid out.
    pub geometry: Option<region::Geometry>,
    /// What was put into the region; null if nothing was.
    pub populated: Option<Populated>,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
}

/// What was put into a new region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Populated {
    /// How many files were put into the region.
    pub files: u64,
    /// How many directories were put into the region, its root not counted.
    pub directories: u64,
    /// Bytes in these files.
    pub bytes: u64,
}

impl From<gmfs::make::Counts> for Populated {
    fn from(counts: gmfs::make::Counts) -> Self {
        Self { files: counts.files, directories: counts.directories, bytes: counts.bytes }
    }
}

/// A region that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Region {
    /// Layout of the region; null if no region can be read there.
    pub layout: Word,
    /// Where it begins in the image, in bytes: a physical address where the image has physical addresses, otherwise an
    /// offset.
    pub base: u64,
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// Whether the layout records the size; otherwise it is how much of the store is known to be in use.
    pub size_recorded: bool,
    /// UUID of the region; null if no region can be read there.
    pub uuid: Option<String>,
    /// Label of the region.
    pub label: String,
    /// The label in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_bytes: Option<String>,
    /// How sure the find is: certain, likely or possible.
    pub confidence: Word,
    /// What led to a guestmemfs v1; not there for other layouts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guestmemfs: Option<guestmemfs::GuestmemfsFound>,
    /// What else is known of the store: of a hand-over which moment the image shows, and what is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl From<&Candidate> for Region {
    fn from(found: &Candidate) -> Self {
        let (label, label_bytes) = text(&found.label);
        Self {
            layout: found.layout.name().into(),
            base: found.base,
            size: found.size,
            size_recorded: found.size_recorded,
            uuid: found.uuid.map(|uuid| uuid.to_string()),
            label,
            label_bytes,
            confidence: found.confidence.name().into(),
            guestmemfs: found.guestmemfs.as_deref().map(Into::into),
            detail: found.detail.clone(),
        }
    }
}

/// The answer of `scan`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Scan {
    /// The image that the command was given.
    pub image: dump::ImageFacts,
    /// Regions that were found.
    pub regions: Vec<Region>,
}

/// A range that is not in the image, or cannot be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Gap {
    /// Place in the file, in bytes from its start. In what `save` and `repair -o` make, the file is the region's.
    pub offset: u64,
    /// Bytes from the offset or the address on.
    pub length: u64,
    /// Why, in a word or a sentence.
    pub reason: Word,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: Option<u64>,
    /// Physical address in the machine's memory; null if the region's base is unknown.
    pub physical: Option<u64>,
}

impl Gap {
    /// All gaps of a file, for a region at `base` of the image and at `physical` of the machine's memory.
    pub fn list(gaps: &Gaps, base: Option<u64>, physical: Option<u64>) -> Vec<Self> {
        let at = |base: Option<u64>, gap: &content::Gap| base.zip(gap.at).map(|(base, at)| base.saturating_add(at));
        let one = |gap: content::Gap| Self {
            offset: gap.span.offset,
            length: gap.span.len,
            reason: gap.why.name().into(),
            address: at(base, &gap),
            physical: at(physical, &gap),
        };
        gaps.iter().map(one).collect()
    }
}

/// The answer of `save`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Save {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Where the region is in the image.
    pub region: region::Span,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// The file that was made; null if none is.
    pub output: String,
    /// How many bytes were written as data; the rest are holes. Null in a dry run.
    pub bytes_written: Option<u64>,
    /// Ranges that the image does not hold or that cannot be read.
    pub absent: Vec<Gap>,
}

impl Save {
    /// The answer for a region; `written` bytes are in the file `output`, or `None` in a dry run.
    pub fn region(located: &Located, output: String, gaps: &Gaps, written: Option<u64>) -> Self {
        let Located { place, source, .. } = located;
        let (base, size) = (place.base, source.size());
        let superblocks = load_or_rebuild(source);
        let unknown = |_| region::Store::unknown(base, Some(size));
        Self {
            image: place.into(),
            store: superblocks.map_or_else(unknown, |found| region::Store::new(base, found.current())),
            region: region::Span { base, size },
            dry_run: written.is_none(),
            output,
            bytes_written: written,
            absent: Gap::list(gaps, Some(base), place.address()),
        }
    }

    /// The answer for a hand-over, of which `size` bytes of memory are saved.
    pub fn handover(store: &Store, size: u64, output: String, gaps: &Gaps, written: Option<u64>) -> Self {
        Self {
            image: (&store.place).into(),
            store: store.into(),
            region: region::Span { base: store.base(), size },
            dry_run: written.is_none(),
            output,
            bytes_written: written,
            absent: Gap::list(gaps, None, Some(0)),
        }
    }
}

/// A file that was extracted, and its gaps.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Extracted {
    /// Its path.
    #[serde(flatten)]
    pub path: files::Path,
    /// The file that was made; null if none is.
    pub output: String,
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// Whether a repair could not prove that the file's size and blocks are those of the last commit.
    pub doubtful: bool,
    /// Ranges that the image does not hold or that cannot be read.
    pub absent: Vec<Gap>,
}

impl Extracted {
    /// A file of a store that was extracted, or in a dry run would be.
    pub fn new(file: &gmfs::extract::DoneFile, store: &Store) -> Self {
        Self {
            path: files::Path::new(Some(&file.path)),
            output: file.output.to_string_lossy().into_owned(),
            size: file.size,
            doubtful: file.is_doubtful,
            absent: Gap::list(&file.gaps, Some(store.place.base), store.physical_base()),
        }
    }
}

/// The answer of `extract`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Extract {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// Files and directories, each with where its blocks are or what was made of it.
    pub files: Vec<Extracted>,
    /// Files and directories that are left out, each with the reason.
    pub not_shown: Vec<files::NotShown>,
}

/// What a command did to a file or directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Change {
    /// What became of the file: created, removed, moved or changed.
    pub change: Word,
    /// The file or directory before and after it.
    #[serde(flatten)]
    pub file: files::BeforeAfter,
    /// Permission bits, owner and group before the change; null if it was not there.
    pub access_before: Option<Access>,
    /// Permission bits, owner and group after the change; null if it is not there then.
    pub access_after: Option<Access>,
}

/// Who may do what with a file or directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Access {
    /// Permission bits in octal.
    pub mode: String,
    /// Number of the owning user.
    pub uid: u32,
    /// Number of the owning group.
    pub gid: u32,
}

impl From<gmfs::changes::Access> for Access {
    fn from(found: gmfs::changes::Access) -> Self {
        Self { mode: format!("{:04o}", found.mode), uid: found.uid, gid: found.gid }
    }
}

impl From<&One> for Change {
    fn from(one: &One) -> Self {
        fn side(state: &State) -> files::Side<'_> {
            files::Side { path: state.path.as_deref(), size: Some(state.size), blocks: Some(state.blocks) }
        }
        let (before, after) = (one.before.as_ref(), one.after.as_ref());
        Self {
            change: one.what.name().into(),
            file: files::BeforeAfter::new(one.ino, one.kind, before.map(side), after.map(side)),
            access_before: before.and_then(|state| state.access).map(Access::from),
            access_after: after.and_then(|state| state.access).map(Access::from),
        }
    }
}

/// The answer of a command that changed a region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Changed {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// Files and directories.
    pub entries: Vec<files::Entry>,
    /// What became of each file and directory that is not as it was; null if that is unknown.
    pub changes: Vec<Change>,
    /// How many blocks were given to files.
    pub blocks_taken: u64,
    /// How many blocks were taken from files.
    pub blocks_freed: u64,
    /// How many blocks can be given out afterwards.
    pub free_blocks: u64,
}

impl Changed {
    /// The answer for these changes, with what was changed as it is now.
    pub fn new(changes: &Changes, entries: Vec<files::Entry>) -> Self {
        Self {
            image: (&changes.place).into(),
            store: region::Store::of(changes.place.base, changes.uuid, changes.geometry),
            dry_run: changes.dry_run,
            entries,
            changes: changes.list.iter().map(Change::from).collect(),
            blocks_taken: changes.moved.taken,
            blocks_freed: changes.moved.freed,
            free_blocks: changes.free_blocks,
        }
    }
}

/// Consecutive blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Run {
    /// Number of a block in the region; of a run, its first.
    pub block: u32,
    /// How many there are.
    pub count: u64,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
}

/// The answer of `bad add`, `bad del` and `bad import`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Marked {
    /// What the command changed.
    #[serde(flatten)]
    pub changed: Changed,
    /// The blocks that were named, in runs.
    pub runs: Vec<Run>,
    /// How many blocks have a mark now that they did not have before, or lost it.
    pub blocks_marked: u64,
}

impl Marked {
    /// The answer about these blocks, of which `count` got or lost a mark.
    #[must_use]
    pub fn new(changes: &Changes, blocks: &[std::ops::Range<u32>], count: u64) -> Self {
        let (base, block_bytes) = (changes.place.base, changes.geometry.block_bytes());
        let run = |blocks: &std::ops::Range<u32>| Run {
            block: blocks.start,
            count: blocks.len() as u64,
            address: base.saturating_add(u64::from(blocks.start).saturating_mul(block_bytes)),
        };
        let runs = blocks.iter().map(run).collect();
        Self { changed: Changed::new(changes, Vec::new()), runs, blocks_marked: count }
    }
}

/// What becomes of a file whose metadata is put back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Becomes {
    /// What became of the file: created, removed, moved or changed.
    pub change: Word,
    /// Its path.
    #[serde(flatten)]
    pub path: files::Path,
    /// Bytes in the file before the change; null if it was not there.
    pub size_before: Option<u64>,
    /// Bytes in the file after the change; null if it is not there then.
    pub size_after: Option<u64>,
    /// How many blocks it had before the change; null if it was not there.
    pub blocks_before: Option<u64>,
    /// How many blocks it has after the change; null if it is not there then.
    pub blocks_after: Option<u64>,
}

impl From<&put_back::Becomes> for Becomes {
    fn from(becomes: &put_back::Becomes) -> Self {
        let size = |file: &Option<put_back::File>| file.map(|file| file.size);
        let blocks = |file: &Option<put_back::File>| file.map(|file| file.blocks);
        Self {
            change: Word::Borrowed(match (&becomes.before, &becomes.after) {
                (None, _) => "created",
                (_, None) => "removed",
                _ => "changed",
            }),
            path: files::Path::new(Some(&becomes.path)),
            size_before: size(&becomes.before),
            size_after: size(&becomes.after),
            blocks_before: blocks(&becomes.before),
            blocks_after: blocks(&becomes.after),
        }
    }
}

/// The answer of `undo` and `restore`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct PutBack {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// How many pages were written.
    pub pages_written: u64,
    /// What became of each file and directory that is not as it was; null if that is unknown.
    pub changes: Option<Vec<Becomes>>,
}

/// A problem that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Made {
    /// Code of the problem, such as GM0402; of an error, a word.
    pub code: Option<Word>,
    /// Name of the file, the field or the problem.
    pub name: Word,
    /// Bytes that the image was cut to; null if it was not cut.
    pub cut_to: Option<u64>,
}

/// The answer of `inject`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Inject {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// Problems of the catalogue.
    pub problems: Vec<Made>,
}
