//! A store that is open for reading, whatever layout it has.

mod guestmemfs;
mod known_as;
mod luo;
mod memory_map;
mod native;
mod page_set;
mod pkernfs;

use std::collections::BTreeMap;
use std::ops::Range;

use gmfs_check::layouts::{check_guestmemfs, check_handover_in, check_pkernfs, examine_pkernfs};
use gmfs_check::{Checked, Plan, Policy};
use gmfs_format::Layout;
use gmfs_format::chains::{Anomaly, Chain};
use gmfs_format::kho::{Hints, PageStructs};
use gmfs_format::model::{Inode, InodeNo, Piece, Tree};
use gmfs_format::native::units::{CopyId, PageNo};
use gmfs_format::pkernfs::{self as layout, Extent};
use gmfs_image::Description;
use gmfs_io::{ReadAt, Span};
use gmfs_volume::region::Region;
use uuid::Uuid;

use crate::content::{self, Sink};
use crate::error::Error;
use crate::open::{Generations, Located, Place, ReadLock, Source, generations_of};

pub use guestmemfs::Guestmemfs;
pub use luo::{Luo, NoPageStructs, Unclaimed, record_pages};
pub use pkernfs::Pkernfs;

/// A store that is open for reading.
pub struct Store {
    /// Where it is.
    pub place: Place,
    /// What the image says of itself, if it is a dump.
    pub dump: Option<Description>,
    lock: ReadLock,
    of: Of,
}

/// The layouts. It is a closed enum, so that the compiler finds every place that has to handle a new one.
enum Of {
    Native(Box<Region<Source>>),
    Pkernfs(Box<Pkernfs>),
    Guestmemfs(Box<Guestmemfs>, Source),
    Luo(Box<Luo>),
}

/// The inodes of a store, and how much is missing in the list.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Inodes {
    /// Every inode in use.
    pub tree: Tree,
    /// Pages of the inode table that cannot be read: the inodes on them are not in the tree.
    pub lost_pages: u64,
    /// Chains of directory entries that end where they should not: what followed is not in the tree, or has no path.
    pub broken_chains: u64,
}

/// A stretch of a file that is in one piece in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Offset in the store, in bytes.
    pub at: u64,
    /// Length in bytes: whole blocks, so that the last one may reach past the end of the file.
    pub len: u64,
    /// Its blocks have hardware errors.
    pub bad: bool,
}

/// The runs of several files.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Runs {
    /// By file, in the order of the file. Files without blocks are not there.
    pub files: BTreeMap<InodeNo, Vec<Run>>,
    /// Pages of the tables that say where files are that cannot be read.
    pub lost_pages: u64,
}

/// Blocks and inodes by what they are used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Blocks that can be allocated.
    pub free: u64,
    /// Blocks of files.
    pub data: u64,
    /// Blocks with hardware errors.
    pub bad: u64,
    /// Blocks that a repair has reserved.
    pub reserved: u64,
    /// Blocks of metadata.
    pub metadata: u64,
    /// Blocks that are marked as used but that nothing owns. Always 0 in a layout that records owners.
    pub leaked: u64,
    /// Inodes in use.
    pub inodes_used: u64,
    /// Inodes that there can be.
    pub inodes: u64,
}

/// What a byte of a store is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// What its block is.
    pub what: What,
    /// The file that it belongs to, and the offset in it, in bytes.
    pub file: Option<(InodeNo, u64)>,
    /// What part of the metadata it is.
    pub metadata: Option<Metadata>,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A file has it.
    File,
    /// Metadata.
    Metadata,
    /// It can be allocated.
    Free,
    /// It has a hardware error.
    Bad,
    /// It is reserved.
    Reserved,
    /// It is marked as used, but nothing owns it.
    Leaked,
    /// Its descriptor has a state that does not exist.
    Unknown,
    /// What describes it cannot be read.
    Lost,
    /// Bytes past the last whole block.
    Tail,
    /// Memory that the kernel's parameter reserve_mem= set aside.
    ReserveMem,
    /// It is kept for the next kernel, but nothing known owns it.
    Preserved,
    /// It is not kept for the next kernel.
    NotPreserved,
    /// It is where the next kernel is put.
    Scratch,
    /// Not in the store.
    Outside,
}

impl What {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Metadata => "metadata",
            Self::Free => "free",
            Self::Bad => "bad",
            Self::Reserved => "reserved",
            Self::Leaked => "leaked",
            Self::Unknown => "unknown",
            Self::Lost => "lost",
            Self::Tail => "tail",
            Self::ReserveMem => "reserve-mem",
            Self::Preserved => "preserved",
            Self::NotPreserved => "not-preserved",
            Self::Scratch => "scratch",
            Self::Outside => "outside",
        }
    }
}

/// A part of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Which copy, in a layout that has two.
    pub copy: Option<CopyId>,
    /// Which page of the copy, in a layout that has pages.
    pub page: Option<PageNo>,
    /// What it is; `None` for what is not used.
    pub kind: Option<String>,
    /// The inode that it is about.
    pub ino: Option<InodeNo>,
}

impl Owner {
    pub(crate) const fn only(what: What) -> Self {
        Self { what, file: None, metadata: None }
    }
}

impl Store {
    /// Opens the store that was located.
    ///
    /// # Errors
    /// There is no store of any known layout, or it cannot be read.
    pub fn open(located: Located) -> Result<Self, Error> {
        Self::open_or_return(located).map_err(|(_, error)| error)
    }

    /// As [`open`](Self::open); an error comes with what was located.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_or_return(located: Located) -> Result<Self, (Box<Located>, Error)> {
        let Located { place, source, dump, lock, guestmemfs, handover } = located;
        if let Some(found) = guestmemfs {
            return Ok(Self { place, dump, lock, of: Of::Guestmemfs(found, source) });
        }
        if let Some(store) = handover {
            return Ok(Self { place, dump, lock, of: Of::Luo(Box::new(Luo::new(store, source))) });
        }
        let of = Region::open_or_return(source)
            .map(|region| Of::Native(Box::new(region)))
            .or_else(|(source, error)| Pkernfs::open(source, error).map(|store| Of::Pkernfs(Box::new(store))));
        match of {
            Ok(of) => Ok(Self { place, dump, lock, of }),
            Err((source, error)) => {
                Err((Box::new(Located { place, source, dump, lock, guestmemfs: None, handover: None }), error))
            }
        }
    }

    /// Which layout it has.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        match self.of {
            Of::Native(_) => Layout::Native,
            Of::Pkernfs(_) => Layout::Pkernfs,
            Of::Guestmemfs(..) => Layout::Guestmemfs,
            Of::Luo(_) => Layout::Luo,
        }
    }

    /// Its UUID, in a layout that has one.
    #[must_use]
    pub fn uuid(&self) -> Option<Uuid> {
        match &self.of {
            Of::Native(region) => Some(region.superblock().uuid),
            Of::Pkernfs(_) | Of::Guestmemfs(..) | Of::Luo(_) => None,
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.of {
            Of::Native(region) => region.geometry().size(),
            Of::Pkernfs(store) => store.size(),
            Of::Guestmemfs(store, _) => store.size(),
            Of::Luo(store) => store.size(),
        }
    }

    /// Bytes of a block, the unit of allocation.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        match &self.of {
            Of::Native(region) => region.geometry().block_bytes(),
            Of::Pkernfs(_) => gmfs_format::pkernfs::BLOCK_BYTES,
            Of::Guestmemfs(..) => gmfs_format::guestmemfs::BLOCK_BYTES,
            Of::Luo(_) => gmfs_format::kho::PAGE,
        }
    }

    /// Its physical address: where it was found in memory or in a dump, or what its superblock records.
    #[must_use]
    pub fn physical_base(&self) -> Option<u64> {
        match &self.of {
            Of::Native(region) => {
                let recorded = Some(region.superblock().raw.base.get()).filter(|base| *base != 0);
                self.place.address().or(recorded)
            }
            Of::Pkernfs(_) => self.place.address(),
            Of::Guestmemfs(store, _) => store.physical(),
            // Its addresses are physical, whatever the image says.
            Of::Luo(_) => self.place.address().or(Some(0)),
        }
    }

    /// Where its bytes are. Offsets count from the store's start.
    #[must_use]
    pub fn source(&self) -> &Source {
        match &self.of {
            Of::Native(region) => region.source(),
            Of::Pkernfs(store) => store.source(),
            Of::Guestmemfs(_, source) => source,
            Of::Luo(store) => store.source(),
        }
    }

    /// The generations that the image has now in its superblocks: others than before if the store was changed since.
    /// `None` in a layout without superblocks of that kind.
    #[must_use]
    pub fn generations(&self) -> Generations {
        self.native().ok().and_then(|region| generations_of(region.source()))
    }

    /// Releases the lock after everything was read, so that a user who looks at the answer, for example in a pager,
    /// keeps no writer waiting.
    pub fn unlock(&self) {
        self.lock.release();
    }

    /// The engine's view, for what only the native layout has.
    ///
    /// # Errors
    /// The store has another layout.
    pub fn native(&self) -> Result<&Region<Source>, Error> {
        match &self.of {
            Of::Native(region) => Ok(region),
            Of::Pkernfs(_) | Of::Guestmemfs(..) | Of::Luo(_) => Err(Error::NotNative(self.layout())),
        }
    }

    /// The pkernfs driver's store, if it is one.
    #[must_use]
    pub fn pkernfs(&self) -> Option<&Pkernfs> {
        match &self.of {
            Of::Pkernfs(store) => Some(store),
            Of::Native(_) | Of::Guestmemfs(..) | Of::Luo(_) => None,
        }
    }

    /// The file system of guestmemfs v1, if it is one.
    #[must_use]
    pub fn guestmemfs(&self) -> Option<&Guestmemfs> {
        match &self.of {
            Of::Native(_) | Of::Pkernfs(_) | Of::Luo(_) => None,
            Of::Guestmemfs(store, _) => Some(store),
        }
    }

    /// What a kernel hands over, if it is that.
    #[must_use]
    pub fn luo(&self) -> Option<&Luo> {
        match &self.of {
            Of::Luo(store) => Some(store),
            Of::Native(_) | Of::Pkernfs(_) | Of::Guestmemfs(..) => None,
        }
    }

    /// Where the kernel that the image shows has its page structures, which say what of a hand-over nobody has claimed;
    /// `None` if the store is none.
    #[must_use]
    pub fn page_structs(&self) -> Option<Result<PageStructs, NoPageStructs>> {
        let kernel = self.dump.as_ref().map(|dump| &dump.facts.kernel);
        let hints = kernel.map(|kernel| Hints::new(&kernel.vmcoreinfo, &kernel.registers)).unwrap_or_default();
        Some(self.luo()?.page_structs(&hints))
    }

    /// Checks it, unless it is a native region, which has a check of its own. Offsets of findings count from
    /// [`origin`](Self::origin).
    #[must_use]
    pub fn check(&self) -> Option<Checked> {
        match &self.of {
            Of::Native(_) => None,
            Of::Pkernfs(store) => Some(check_pkernfs(store.store(), store.source())),
            Of::Guestmemfs(store, _) => Some(check_guestmemfs(store.store(), store.found().trees.first().copied())),
            Of::Luo(store) => {
                let map = memory_map::MemoryMap::of(&self.place, store.source());
                Some(check_handover_in(store.store(), store.source(), &|span| map.has_memory(span)))
            }
        }
    }

    /// Checks a store of the pkernfs driver, and plans the first round of its repair; `None` if it is none.
    #[must_use]
    pub fn plan_pkernfs(&self, policy: Policy) -> Option<(Checked, Plan)> {
        let Of::Pkernfs(store) = &self.of else { return None };
        let examined = examine_pkernfs(store.store(), store.source());
        let plan = examined.plan(store.store(), store.source(), policy, false);
        Some((examined.checked, plan))
    }

    /// The address in the image from which offsets of findings count: where a region starts, and 0 where metadata is
    /// all over memory.
    #[must_use]
    pub const fn origin(&self) -> u64 {
        match &self.of {
            Of::Native(_) | Of::Pkernfs(_) => self.place.base,
            Of::Guestmemfs(..) | Of::Luo(_) => 0,
        }
    }

    /// Where it starts in the image, in bytes. A hand-over is spread over memory, so its root's address stands for it.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.luo().map_or(self.place.base, |luo| luo.store().tree.at)
    }

    /// Why the content of a file cannot be read; `None` if it can.
    #[must_use]
    pub fn content_fault(&self, ino: InodeNo) -> Option<String> {
        self.luo().and_then(|luo| luo.content_fault(ino))
    }

    /// The size of a file in bytes; `None` if nothing tells it any more.
    #[must_use]
    pub fn known_size(&self, inode: &Inode) -> Option<u64> {
        let lacking = self.luo().is_some_and(|luo| luo.lacks_size(inode.ino));
        (!lacking).then_some(inode.size)
    }

    /// How many blocks a file has; `None` if nothing tells it any more.
    #[must_use]
    pub fn known_blocks(&self, inode: &Inode) -> Option<u64> {
        self.known_size(inode).map(|_| inode.blocks)
    }

    /// Whether what no run covers of a file is lost, and not a hole; `pieces` is what [`content_of`](Self::content_of) gave.
    #[must_use]
    pub fn is_lost(&self, pieces: &Result<Vec<Piece>, Error>) -> bool {
        match pieces {
            Ok(pieces) => pieces.iter().any(|piece| matches!(piece, Piece::Lost { .. })),
            // A kernel fills holes when it hands a file over. Two blocks for the same bytes leave no pieces; the runs show
            // both of them.
            Err(_) => self.luo().is_some(),
        }
    }

    /// What somebody calls a file besides its name: systemd, of the files in its session of a hand-over.
    #[must_use]
    pub fn known_as(&self, ino: InodeNo) -> Option<&str> {
        self.luo().and_then(|luo| luo.known_as(ino))
    }

    /// Its inodes.
    #[must_use]
    pub fn inodes(&self) -> Inodes {
        match &self.of {
            Of::Native(region) => native::inodes(region),
            Of::Pkernfs(store) => store.inodes(),
            Of::Guestmemfs(store, _) => store.inodes(),
            Of::Luo(store) => store.inodes(),
        }
    }

    /// Where the files are that `wanted` names. In a layout that needs a pass over its tables, one pass finds all of
    /// them.
    #[must_use]
    pub fn runs(&self, wanted: impl Fn(InodeNo) -> bool + Send + Sync) -> Runs {
        match &self.of {
            Of::Native(region) => native::runs(region, wanted),
            Of::Pkernfs(store) => store.runs(wanted),
            Of::Guestmemfs(store, _) => store.runs(wanted),
            Of::Luo(store) => store.runs(wanted),
        }
    }

    /// The content of a file as pieces that cover it, in order.
    ///
    /// # Errors
    /// Two blocks claim the same bytes of the file.
    pub fn content(&self, inode: &Inode) -> Result<Vec<Piece>, Error> {
        match &self.of {
            Of::Native(region) => Ok(region.content(inode)?),
            Of::Pkernfs(store) => Ok(store.content(inode)),
            Of::Guestmemfs(store, _) => Ok(store.content(inode)),
            Of::Luo(store) => store.content(inode),
        }
    }

    /// As [`content`](Self::content), from runs that were read already: one pass serves many files.
    ///
    /// # Errors
    /// Two blocks claim the same bytes of the file.
    pub fn content_of(&self, inode: &Inode, runs: &Runs) -> Result<Vec<Piece>, Error> {
        match &self.of {
            Of::Native(region) => native::content_of(region, inode, runs),
            Of::Pkernfs(store) => Ok(store.content(inode)),
            Of::Guestmemfs(store, _) => Ok(store.content(inode)),
            Of::Luo(store) => store.content_of(inode, runs),
        }
    }

    /// Reads a range of a file with its gaps: what is there, what is zero and what is unknown arrives at `sink` in
    /// order. Of a range that passes the file's end, the part before the end is read.
    ///
    /// ```
    /// use gmfs::content::{Each, Part};
    /// # fn example(store: &gmfs::Store, inode: &gmfs::model::Inode) -> Result<(), gmfs::Error> {
    /// let mut missing = 0;
    /// let mut sink = Each(|part: Part<'_>| {
    ///     if let Part::Gap(gap) = part {
    ///         missing += gap.span.len;
    ///     }
    ///     Ok::<_, gmfs::Error>(())
    /// });
    /// store.read_with_gaps(inode, 0..u64::MAX, &mut sink)?;
    /// println!("{missing} bytes of {} are unknown", inode.size);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Two blocks claim the same bytes of the file, or what the sink returned.
    pub fn read_with_gaps<K>(&self, inode: &Inode, range: Range<u64>, sink: &mut K) -> Result<(), K::Error>
    where
        K: Sink + ?Sized,
        K::Error: From<Error>,
    {
        let pieces: Vec<Piece> = self.content(inode)?.into_iter().filter_map(|piece| piece.clip(&range)).collect();
        content::read(self.source(), &pieces, sink)
    }

    /// Reads from a file at an offset. The whole of `buf` is filled, or an error says why not: unknown bytes are never
    /// given as zeros.
    ///
    /// # Errors
    /// The file ends before the range does, or a part of it is absent, lost, or in a block with a hardware error.
    pub fn read(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let range = offset..offset.saturating_add(gmfs_io::num::len64(buf.len()));
        if range.end > inode.size {
            return Err(Error::PastEnd { ino: inode.ino, size: inode.size });
        }
        let mut rest = buf;
        for piece in self.content(inode)?.into_iter().filter_map(|piece| piece.clip(&range)) {
            let len = gmfs_io::num::small(piece.file().len).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            match piece {
                Piece::Hole { .. } => now.fill(0),
                Piece::Data { at, bad: false, .. } => self.source().read_at(at, now)?,
                Piece::Data { file, .. } | Piece::Lost { file } => {
                    return Err(Error::Gap { ino: inode.ino, span: file });
                }
            }
            rest = later;
        }
        Ok(())
    }

    /// What the byte at an offset in the store is used for.
    #[must_use]
    pub fn owner(&self, offset: u64) -> Owner {
        if offset >= self.size() {
            return self.luo().map_or(Owner::only(What::Outside), |luo| luo.owner_past_end(offset));
        }
        match &self.of {
            Of::Native(region) => native::owner(region, offset),
            Of::Pkernfs(store) => store.owner(offset),
            Of::Guestmemfs(store, _) => store.owner(offset),
            Of::Luo(store) => store.owner(offset),
        }
    }

    /// Blocks and inodes by what they are used for: as the superblock of a native region counts them, and as a pass
    /// over everything finds them in other layouts.
    #[must_use]
    pub fn usage(&self) -> Usage {
        match &self.of {
            Of::Native(region) => native::usage(region),
            Of::Pkernfs(store) => store.usage(),
            Of::Guestmemfs(store, _) => store.usage(),
            Of::Luo(store) => store.usage(),
        }
    }
}

/// Metadata that a layout without copies and pages has.
fn metadata(kind: Option<&str>, ino: Option<InodeNo>) -> Owner {
    let metadata = Metadata { copy: None, page: None, kind: kind.map(str::to_owned), ino };
    Owner { metadata: Some(metadata), ..Owner::only(What::Metadata) }
}

/// Pages of inodes that are lost, and chains of directory entries that end where they should not.
fn lost(anomalies: &[Anomaly], inode_bytes: u64) -> (u64, u64) {
    let (mut pages, mut chains) = (0_u64, 0_u64);
    for anomaly in anomalies {
        match anomaly {
            Anomaly::UnknownInodes { first, last, .. } => {
                let inodes = u64::from(last.0.saturating_sub(first.0)).saturating_add(1);
                pages = pages.saturating_add(inodes.saturating_mul(inode_bytes).div_ceil(4096));
            }
            Anomaly::BadLink { chain: Chain::Directory(_), .. }
            | Anomaly::Cycle { chain: Chain::Directory(_), .. }
            | Anomaly::ChainLost { chain: Chain::Directory(_), .. }
            | Anomaly::LinkedTwice { second: Chain::Directory(_), .. } => chains = chains.saturating_add(1),
            _ => {}
        }
    }
    (pages, chains)
}

/// The pieces of a file with these extents, which are in the order of the file; each extent has a place in the region,
/// or none. A part without a known place is lost, and never a hole.
fn pieces(size: u64, extents: impl IntoIterator<Item = Extent>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut next = 0_u64;
    for extent in extents {
        let end = extent.offset.saturating_add(extent.length).min(size);
        let Some(len) = end.checked_sub(extent.offset).filter(|len| *len > 0) else { continue };
        if let Some(before) = extent.offset.checked_sub(next).filter(|len| *len > 0) {
            pieces.push(Piece::Lost { file: Span::new(next, before) });
        }
        let file = Span::new(extent.offset, len);
        pieces.push(match extent.place {
            layout::Place::Region { address } => Piece::Data { file, at: address, bad: false },
            _ => Piece::Lost { file },
        });
        next = end;
    }
    if let Some(rest) = size.checked_sub(next).filter(|len| *len > 0) {
        pieces.push(Piece::Lost { file: Span::new(next, rest) });
    }
    pieces
}

/// The runs of a file whose extents are given.
fn runs_of(extents: impl IntoIterator<Item = Extent>) -> Vec<Run> {
    let run = |extent: Extent| match extent.place {
        layout::Place::Region { address } => {
            Some(Run { offset: extent.offset, at: address, len: extent.length, bad: false })
        }
        _ => None,
    };
    extents.into_iter().filter_map(run).collect()
}

/// The layout of what starts at the beginning of `source`, if it is one that is not native. Reads two pages.
#[must_use]
pub fn other_layout<S: ReadAt + ?Sized>(source: &S) -> Option<Layout> {
    let found = gmfs_format::pkernfs::probe(&source, 0);
    let certain = found.map_or_else(
        || gmfs_format::pkernfs::probe_inodes(&source, 0),
        // A root that is damaged is repaired: the inodes after it say that this is a region.
        |found| match found.confidence {
            gmfs_format::pkernfs::Confidence::RootAgrees => true,
            _ => gmfs_format::pkernfs::probe_after_root(&source, 0),
        },
    );
    certain.then_some(Layout::Pkernfs)
}

/// What no run covers of a file of `size` bytes, in order.
#[must_use]
pub fn gaps(runs: &[Run], size: u64) -> Vec<Span> {
    let mut gaps = Vec::new();
    let mut next = 0_u64;
    for run in runs {
        let start = run.offset.min(size);
        if let Some(len) = start.checked_sub(next).filter(|len| *len > 0) {
            gaps.push(Span::new(next, len));
        }
        next = next.max(run.offset.saturating_add(run.len));
    }
    if let Some(len) = size.checked_sub(next).filter(|len| *len > 0) {
        gaps.push(Span::new(next, len));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_left() {
        let run = |offset, len| Run { offset, at: 90, len, bad: false };
        assert_eq!(gaps(&[run(10, 10), run(30, 20)], 44), [Span::new(0, 10), Span::new(20, 10)]);
        assert_eq!(gaps(&[run(0, 20)], 25), [Span::new(20, 5)]);
        assert_eq!(gaps(&[run(0, 90)], 25), []);
    }
}
