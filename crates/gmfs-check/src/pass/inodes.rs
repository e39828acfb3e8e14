//! The inode table: checks each record by itself, and builds the compact table in which later passes look up owners.

use gmfs_format::name;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::raw::{InodeRaw, InodeTablePage, OnMemory, PageHeader};
use gmfs_format::native::tables::{INODE_DOUBTFUL, INODE_FLAGS, InodeKind, MODE_BITS};
use gmfs_format::native::units::{CopyId, InodeNo, PageBytes, PageNo, len64, to_usize};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::Superblocks;
use gmfs_volume::census::Census;
use gmfs_volume::sweep::{Frame, sweep};

use crate::finding::Subject;
use crate::pass::{in_future, pages};
use crate::problem::{Mask, Problem, Text};
use crate::sink::Sink;
use crate::standings::PageStandings;

/// What later passes need to know about an inode: 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record {
    /// A hash of the name. Equal names have equal hashes.
    pub(crate) name_hash: u64,
    /// How many blocks it records.
    pub(crate) blocks: u64,
    pub(crate) parent: InodeNo,
    /// The size in blocks; 0 for anything but a file.
    pub(crate) size_blocks: u32,
    pub(crate) kind: Known,
}

/// What is known about an inode number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Known {
    /// Not in use.
    #[default]
    Free,
    File,
    Directory,
    /// In use, but neither a file nor a directory.
    Other,
    /// Its page is lost or absent.
    Lost,
}

/// The used part of the inode table.
#[derive(Debug, Default)]
pub(crate) struct Inodes {
    records: Vec<Record>,
    pub(crate) used: u64,
    pub(crate) missing_pages: u64,
    pub(crate) recovery: bool,
    pub(crate) standings: PageStandings,
    pub(crate) census: Census,
}

impl Inodes {
    /// What is known about an inode. Numbers past the used part of the table are free.
    pub(crate) fn get(&self, ino: InodeNo) -> Record {
        ino.position().and_then(|position| self.records.get(position)).copied().unwrap_or_default()
    }

    /// All inodes in the used part, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (InodeNo, &Record)> {
        (1..).map(InodeNo).zip(&self.records)
    }

    /// How many inodes are in the used part of the table.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}

/// Checks all records in the used part.
pub(crate) fn check<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, now: u64, sink: &mut Sink) -> Inodes {
    let geometry = superblocks.geometry();
    let mut inodes = Inodes::default();
    let mut seen = pages::Seen::default();
    let used = superblocks.current().used_inode_pages();
    let visit = |frame: &Frame<'_>| {
        pages::check(frame, superblocks, &mut seen, sink);
        match frame.taken() {
            Some(bytes) => check_page(geometry, frame.page, bytes, now, &mut inodes, sink),
            None => {
                let lost = Record { kind: Known::Lost, ..Record::default() };
                inodes.records.extend([lost; 8]);
            }
        }
    };
    sweep(source, superblocks, used, vec![visit]);
    inodes.records.truncate(to_usize(geometry.inodes()));
    inodes.missing_pages = seen.missing;
    inodes.recovery = seen.recovery;
    inodes.standings = seen.standings;
    inodes.census = seen.census;
    inodes
}

/// Checks the records of a page.
fn check_page(geometry: Geometry, page: PageNo, bytes: &PageBytes, now: u64, inodes: &mut Inodes, sink: &mut Sink) {
    let first = geometry.first_inode_of(page).0;
    let slots = InodeTablePage::view(bytes).inodes.iter().enumerate();
    for (ino, (slot, raw)) in (first..).map(InodeNo).zip(slots) {
        let at = slot_place(geometry, page, slot);
        if ino.0 > geometry.inodes() {
            if raw.bytes().iter().any(|byte| *byte != 0) {
                sink.add(Problem::InodeSlotPastEnd {}, Subject::Inode(ino), at);
            }
            continue;
        }
        let mut problems = Vec::new();
        let record = check_record(geometry, ino, raw, now, &mut problems);
        for problem in problems {
            sink.add(problem, Subject::Inode(ino), at);
        }
        inodes.used = inodes.used.saturating_add(u64::from(record.kind != Known::Free));
        inodes.records.push(record);
    }
}

/// Where a slot of a page of the inode table is in copy A.
pub(crate) fn slot_place(geometry: Geometry, page: PageNo, slot: usize) -> Span {
    let size = len64(size_of::<InodeRaw>());
    // A page has eight slots, and all pages are in the region, so the arithmetic is exact.
    let within = len64(size_of::<PageHeader>()).saturating_add(len64(slot).saturating_mul(size));
    Span::new(geometry.page_offset(CopyId::A, page).saturating_add(within), size)
}

/// Checks one record. Problems are added to `problems`.
fn check_record(geometry: Geometry, ino: InodeNo, raw: &InodeRaw, now: u64, problems: &mut Vec<Problem>) -> Record {
    if raw.number.get() != ino.0 {
        problems.push(Problem::InodeNumberWrong { found: raw.number.get() });
    }
    let kind = match raw.kind() {
        Some(InodeKind::Free) => {
            // The number was checked above. A free record with a wrong number may be empty apart from that.
            let mut empty = InodeRaw::free(ino, raw.generation.get());
            empty.number = raw.number;
            if empty != *raw {
                problems.push(Problem::InodeFreeNotEmpty {});
            }
            return Record::default();
        }
        Some(InodeKind::File) => Known::File,
        Some(InodeKind::Directory) => Known::Directory,
        None => {
            problems.push(Problem::InodeKindUnknown { kind: raw.kind.get() });
            Known::Other
        }
    };
    check_fields(ino, raw, now, problems);
    let size_blocks = match kind {
        Known::File => check_size(geometry, raw, problems),
        Known::Directory => {
            if raw.size.get() != 0 || raw.blocks.get() != 0 {
                let (size, blocks) = (raw.size.get(), raw.blocks.get());
                problems.push(Problem::DirectoryHasSize { size, blocks });
            }
            0
        }
        _ => 0,
    };
    Record { name_hash: hash(raw.name()), blocks: raw.blocks.get(), parent: raw.parent(), size_blocks, kind }
}

/// Checks name, mode, flags, times and reserved bytes.
fn check_fields(ino: InodeNo, raw: &InodeRaw, now: u64, problems: &mut Vec<Problem>) {
    if ino != InodeNo::ROOT
        && let Err(error) = name::check(raw.name())
    {
        problems.push(Problem::NameIllegal { why: Text::from(&error) });
    }
    if raw.name.iter().skip(usize::from(raw.name_len)).any(|byte| *byte != 0) {
        problems.push(Problem::NamePadding {});
    }
    if raw.mode.get() & !MODE_BITS != 0 {
        problems.push(Problem::ModeIllegal { mode: Mask(raw.mode.get().into()) });
    }
    if raw.flags.get() & !INODE_FLAGS != 0 {
        problems.push(Problem::InodeFlagsUnknown { flags: Mask(raw.flags.get()) });
    }
    if raw.reserved.iter().any(|byte| *byte != 0) {
        problems.push(Problem::InodeReserved {});
    }
    if raw.flags.get() & INODE_DOUBTFUL != 0 {
        problems.push(Problem::FileDoubtful {});
    }
    let times =
        [("accessed", raw.accessed), ("modified", raw.modified), ("changed", raw.changed), ("created", raw.created)];
    for (field, time) in times {
        if in_future(time.get(), now) {
            problems.push(Problem::InodeTimeFuture { field: Text(field.into()), time: time.get() });
        }
    }
}

/// A file's size in blocks.
fn check_size(geometry: Geometry, raw: &InodeRaw, problems: &mut Vec<Problem>) -> u32 {
    geometry.file_blocks(raw.size.get()).unwrap_or_else(|| {
        problems.push(Problem::SizeTooLarge { size: raw.size.get() });
        u32::MAX
    })
}

/// FNV-1a. Equal names have equal hashes; names with equal hashes are compared before anything is reported.
fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
