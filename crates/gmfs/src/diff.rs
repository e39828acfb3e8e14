//! Compares two stores, whatever their layouts: which files are in one of them only, and which have another size, other
//! blocks or other content. Bytes that either store does not hold are never called the same.

mod blocks;

use std::collections::BTreeSet;

use gmfs_format::model::{Inode, InodeNo, Kind, Piece};
use gmfs_io::in_order::{Step, steps_in_order};
use gmfs_io::num::{len64, small};
use gmfs_io::{ReadAt, ReadError};

use self::blocks::Blocks;
use crate::error::Error;
use crate::store::{Inodes, Run, Runs, Store};
use crate::walk::Paths;

/// Content is compared in pages of this many bytes.
const PAGE: u64 = 4096;
/// Bytes that one thread compares at once: a page for each bit of a word.
const CHUNK: u64 = 64 * PAGE;
/// Bytes of a record of [`Pair`]: three words.
const RECORD: u64 = 24;
/// Ranges that are kept one by one, of all files together; the others are counted.
const KEPT: usize = 1 << 16;

/// How the content of files is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// It is not.
    Ignored,
    /// By what both held when they were sealed; no content is read.
    Seals,
    /// It is read.
    Read,
}

/// How two stores are compared.
pub struct Options<'o> {
    /// How the content of files is compared.
    pub content: Content,
    /// Threads that read and compare.
    pub threads: usize,
    /// Called with the number of bytes that have been compared, and of all bytes.
    pub progress: &'o dyn Fn(u64, u64),
}

/// Whether something is the same in both stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sameness {
    /// It is.
    Same,
    /// It is not.
    Differs,
    /// One of the stores lacks what would show it.
    Unknown,
    /// It was not compared.
    Ignored,
}

impl Sameness {
    /// The word for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "changed",
            Self::Unknown => "unknown",
            Self::Ignored => "not-compared",
        }
    }

    /// The sameness of two parts together.
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Differs, _) | (_, Self::Differs) => Self::Differs,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Ignored, other) => other,
            (same, _) => same,
        }
    }
}

/// A part of a file that differs, or that cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Whether the first store lacks it, and whether the second one does. If neither lacks it, it differs.
    pub lacking: [bool; 2],
}

/// A file or directory in one of the stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its inode.
    pub ino: InodeNo,
    /// Its path; `None` if no path leads to it.
    pub path: Option<Vec<u8>>,
    /// Its size in bytes; `None` if the store does not tell it any more.
    pub size: Option<u64>,
    /// How many blocks it records; `None` if the store does not tell it any more.
    pub blocks: Option<u64>,
}

/// A file or directory that is in one of the stores or in both.
#[derive(Clone, Debug)]
pub struct Compared {
    /// A file or a directory, in the first store that has it.
    pub kind: Kind,
    /// As it is in the first store and in the second.
    pub sides: [Option<Side>; 2],
    /// Of a file that is in one store only: whether the other store lists all of its files. Otherwise it may be there
    /// too.
    pub listed: bool,
    /// Whether it is a file in one and a directory in the other.
    pub other_kind: bool,
    /// Permission bits, owner, and flags; of layouts that have them.
    pub attributes: Sameness,
    /// Where its blocks are, counted from the start of the store.
    pub extents: Sameness,
    /// Its content, up to the smaller of the two sizes.
    pub content: Sameness,
    /// What differs in its content or cannot be compared, in order.
    pub ranges: Vec<Range>,
    /// Ranges that are not listed.
    pub more_ranges: u64,
}

impl Compared {
    /// Its inodes, if it is a file in both.
    fn pair(&self) -> Option<[InodeNo; 2]> {
        let [Some(a), Some(b)] = &self.sides else { return None };
        (self.kind == Kind::File && !self.other_kind).then_some([a.ino, b.ino])
    }

    /// Whether its size is the same in both.
    #[must_use]
    pub fn sizes(&self) -> Sameness {
        let [one, other] = &self.sides;
        match [one, other].map(|side| side.as_ref().and_then(|side| side.size)) {
            [Some(a), Some(b)] if a == b => Sameness::Same,
            [Some(_), Some(_)] => Sameness::Differs,
            _ => Sameness::Unknown,
        }
    }

    /// Whether it is the same in both.
    #[must_use]
    pub fn sameness(&self) -> Sameness {
        let [Some(a), Some(b)] = &self.sides else {
            return if self.listed { Sameness::Differs } else { Sameness::Unknown };
        };
        let shape = if a.path == b.path && !self.other_kind { Sameness::Same } else { Sameness::Differs };
        shape.and(self.sizes()).and(self.attributes).and(self.extents).and(self.content)
    }
}

/// The result of comparing two stores.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Every file and directory of both, those of the first store first.
    pub files: Vec<Compared>,
    /// Facts about the stores that are not the same: which, and how each states it.
    pub facts: Vec<(&'static str, [Option<String>; 2])>,
    /// Whether each lists all of its files.
    pub listed: [bool; 2],
}

impl Difference {
    /// Whether everything is the same in both.
    #[must_use]
    pub fn sameness(&self) -> Sameness {
        let facts = if self.facts.is_empty() { Sameness::Same } else { Sameness::Differs };
        let listed = if self.listed == [true; 2] { Sameness::Same } else { Sameness::Unknown };
        self.files.iter().map(Compared::sameness).fold(facts.and(listed), Sameness::and)
    }
}

/// One of the two stores, with what was read of it.
struct Half<'s> {
    store: &'s Store,
    inodes: Inodes,
    /// Where its files are, as far as it is needed.
    runs: Runs,
}

/// Compares two stores. Their files are matched by inode in two states of one region, and by path otherwise.
///
/// # Errors
/// Seals are asked for, and one of the stores has a layout without them.
pub fn diff(a: &Store, b: &Store, options: &Options<'_>) -> Result<Difference, Error> {
    if options.content == Content::Seals {
        a.native()?;
        b.native()?;
    }
    let mut halves = [a, b].map(Half::new);
    let listed = [halves[0].is_listed(), halves[1].is_listed()];
    let mut files = matched(&halves);
    let pairs: Vec<[InodeNo; 2]> = files.iter().filter_map(Compared::pair).collect();
    let blocks = side_by_side([a, b], &pairs, options.content);
    for (side, half) in halves.iter_mut().enumerate() {
        half.find_runs(blocks.as_ref(), pairs.iter().filter_map(|pair| pair.get(side).copied()));
    }
    let [first, second] = &halves;
    let total: u64 = files.iter().filter(|file| file.kind == Kind::File).map(common_size).sum();
    let (mut done, mut kept, mut number) = (0_u64, 0_usize, 0_usize..);
    for file in &mut files {
        let Some(number) = file.pair().and_then(|_| number.next()) else { continue };
        let [Some(one), Some(other)] = &file.sides else { continue };
        let inodes = [first.inodes.tree.get(one.ino), second.inodes.tree.get(other.ino)];
        let [Some(one), Some(other)] = inodes else { continue };
        let seen = blocks.as_ref().and_then(|blocks| blocks.extents(number, [one, other]));
        file.extents = seen.unwrap_or_else(|| extents(&halves, [one, other]));
        let size = common_size(file);
        match (options.content, &blocks) {
            (Content::Ignored, _) => {}
            _ if file.sizes() == Sameness::Unknown => file.content = Sameness::Unknown,
            (Content::Seals, Some(blocks)) => file.content = blocks.seals(number, [one, other]),
            // Blocks of two sizes have no checksums that could be compared.
            (Content::Seals, None) => file.content = Sameness::Unknown,
            (Content::Read, _) => {
                let mut told = |at: u64| (options.progress)(done.saturating_add(at), total);
                read(&halves, [one, other], size, options.threads, file, &mut kept, &mut told)?;
            }
        }
        done = done.saturating_add(size);
    }
    Ok(Difference { files, facts: facts(a, b), listed })
}

/// Compares the descriptors of two regions. `None` if their content is to be read, which takes the extents of all files, or
/// if they cannot be compared block by block.
fn side_by_side(stores: [&Store; 2], pairs: &[[InodeNo; 2]], content: Content) -> Option<Blocks> {
    let [a, b] = stores;
    let (Ok(a), Ok(b)) = (a.native(), b.native()) else { return None };
    if content == Content::Read { None } else { Blocks::compare([a, b], pairs) }
}

/// How many bytes of a file both stores have.
fn common_size(file: &Compared) -> u64 {
    match &file.sides {
        [Some(a), Some(b)] => a.size.unwrap_or(0).min(b.size.unwrap_or(0)),
        _ => 0,
    }
}

impl<'s> Half<'s> {
    fn new(store: &'s Store) -> Self {
        Self { store, inodes: store.inodes(), runs: Runs::default() }
    }

    /// Finds where files are: all, or those of which their descriptors do not tell enough. `inodes`: the files that are
    /// compared, in the order of their pairs.
    fn find_runs(&mut self, blocks: Option<&Blocks>, inodes: impl Iterator<Item = InodeNo>) {
        let Some(blocks) = blocks else {
            self.runs = self.store.runs(|_| true);
            return;
        };
        let needed: BTreeSet<InodeNo> =
            inodes.enumerate().filter(|(number, _)| blocks.need_extents(*number)).map(|(_, ino)| ino).collect();
        if !needed.is_empty() {
            self.runs = self.store.runs(|ino| needed.contains(&ino));
        }
    }

    /// Whether all files are listed.
    const fn is_listed(&self) -> bool {
        self.inodes.lost_pages == 0 && self.inodes.broken_chains == 0
    }

    fn side(&self, paths: &mut Paths<'_>, inode: &Inode) -> Side {
        let (size, blocks) = (self.store.known_size(inode), self.store.known_blocks(inode));
        Side { ino: inode.ino, path: paths.of(inode.ino), size, blocks }
    }

    /// Whether all blocks of a file were found.
    fn is_mapped(&self, inode: &Inode) -> bool {
        let runs = self.runs.files.get(&inode.ino).map(Vec::as_slice).unwrap_or_default();
        let found: u64 = runs.iter().map(|run| run.len.checked_div(self.store.block_bytes()).unwrap_or(0)).sum();
        self.runs.lost_pages == 0 && self.store.known_blocks(inode) == Some(found)
    }
}

/// The facts that the stores state differently about themselves.
fn facts(a: &Store, b: &Store) -> Vec<(&'static str, [Option<String>; 2])> {
    let of = |store: &Store| {
        let label = store.native().ok().map(|region| {
            let raw = region.superblock().raw.label;
            let label: Vec<u8> = raw.iter().copied().take_while(|byte| *byte != 0).collect();
            gmfs_format::name::escape(&label)
        });
        [
            ("layout", Some(store.layout().name().to_owned())),
            ("uuid", store.uuid().map(|uuid| uuid.to_string())),
            ("label", label),
            ("size", Some(store.size().to_string())),
            ("block_size", Some(store.block_bytes().to_string())),
        ]
    };
    let both = of(a).into_iter().zip(of(b));
    both.filter(|(a, b)| a.1 != b.1).map(|((name, a), (_, b))| (name, [a, b])).collect()
}

/// Matches the files of both stores.
fn matched(halves: &[Half<'_>; 2]) -> Vec<Compared> {
    let [first, second] = halves;
    let trees = [&first.inodes.tree, &second.inodes.tree];
    let [mut paths_a, mut paths_b] = trees.map(Paths::new);
    // An inode stands for the same file until its number is used again.
    let same_region = first.store.uuid().is_some() && first.store.uuid() == second.store.uuid();
    let generation = |inode: &Inode| inode.attributes.map(|attributes| attributes.generation);
    let mut taken: BTreeSet<InodeNo> = BTreeSet::new();
    let mut pairs: Vec<(&Inode, Option<&Inode>)> = Vec::new();
    for one in trees[0].inodes() {
        let by_number = trees[1]
            .get(one.ino)
            .filter(|other| same_region && other.kind == one.kind && generation(other) == generation(one));
        let by_path = || paths_a.of(one.ino).and_then(|path| trees[1].resolve(&path));
        let other = by_number.or_else(by_path).filter(|other| taken.insert(other.ino));
        pairs.push((one, other));
    }
    let mut files: Vec<Compared> = Vec::new();
    for (one, other) in pairs {
        let sides = [Some(first.side(&mut paths_a, one)), other.map(|other| second.side(&mut paths_b, other))];
        let attributes = other.map_or(Sameness::Ignored, |other| attributes(one, other));
        files.push(Compared {
            other_kind: other.is_some_and(|other| other.kind != one.kind),
            attributes,
            ..only(one.kind, sides, second.is_listed())
        });
    }
    for other in trees[1].inodes().filter(|other| !taken.contains(&other.ino)) {
        let sides = [None, Some(second.side(&mut paths_b, other))];
        files.push(only(other.kind, sides, first.is_listed()));
    }
    files
}

/// A file of which nothing is compared yet.
const fn only(kind: Kind, sides: [Option<Side>; 2], listed: bool) -> Compared {
    Compared {
        kind,
        sides,
        listed,
        other_kind: false,
        attributes: Sameness::Ignored,
        extents: Sameness::Ignored,
        content: Sameness::Ignored,
        ranges: Vec::new(),
        more_ranges: 0,
    }
}

fn attributes(a: &Inode, b: &Inode) -> Sameness {
    let of = |inode: &Inode| {
        inode.attributes.map(|attributes| (attributes.mode, attributes.uid, attributes.gid, attributes.flags))
    };
    match (of(a), of(b)) {
        (Some(a), Some(b)) if a != b => Sameness::Differs,
        (Some(_), Some(_)) => Sameness::Same,
        _ => Sameness::Ignored,
    }
}

/// Whether a file's blocks are in the same places.
fn extents(halves: &[Half<'_>; 2], inodes: [&Inode; 2]) -> Sameness {
    let [first, second] = halves;
    let runs =
        |half: &Half<'_>, inode: &Inode| -> Vec<Run> { half.runs.files.get(&inode.ino).cloned().unwrap_or_default() };
    let [one, other] = inodes;
    if !first.is_mapped(one) || !second.is_mapped(other) {
        return Sameness::Unknown;
    }
    let place = |run: &Run| (run.offset, run.at, run.len);
    let same = runs(first, one).iter().map(place).eq(runs(second, other).iter().map(place));
    if same { Sameness::Same } else { Sameness::Differs }
}

/// Reads a file in both stores, and compares.
fn read(
    halves: &[Half<'_>; 2],
    inodes: [&Inode; 2],
    size: u64,
    threads: usize,
    file: &mut Compared,
    kept: &mut usize,
    told: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let [first, second] = halves;
    let [one, other] = inodes;
    let content = |half: &Half<'_>, inode: &Inode| match half.store.content_of(inode, &half.runs) {
        Ok(pieces) => pieces,
        // Two blocks claim the same bytes: which of them counts is unknown.
        Err(_) => vec![Piece::Lost { file: gmfs_io::Span::new(0, inode.size) }],
    };
    let pair = Pair {
        sources: [first.store.source(), second.store.source()],
        pieces: [content(first, one), content(second, other)],
        size,
    };
    file.content = Sameness::Same;
    let mut at = 0_u64;
    let steps = std::iter::from_fn(|| {
        at = pair.past_holes(at);
        let from = Some(at).filter(|at| *at < size)?;
        if let Some(lacking) = pair.lacking_from(from) {
            at = from.saturating_add(lacking.length);
            return Some(Step { read: None, what: lacking });
        }
        at = from.saturating_add(CHUNK);
        let chunk = Range { offset: from, length: CHUNK, lacking: [false; 2] };
        let record = from.checked_div(CHUNK)?.checked_mul(RECORD)?;
        Some(Step { read: Some(record..record.saturating_add(RECORD)), what: chunk })
    });
    steps_in_order(&pair, steps, threads, |part, bytes| {
        let from = part.offset;
        let Some(words) = bytes else {
            file.add(part, kept);
            told(from);
            return Ok(());
        };
        let words = words?;
        let word = |n: usize| {
            let bytes = words.get(n.saturating_mul(8)..n.saturating_add(1).saturating_mul(8)).unwrap_or_default();
            bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte))
        };
        let (differs, lacks_a, lacks_b) = (word(0), word(1), word(2));
        if differs | lacks_a | lacks_b != 0 {
            for page in 0..64_u64 {
                let is = |mask: u64| mask >> page & 1 != 0;
                let lacking = [is(lacks_a), is(lacks_b)];
                if lacking == [false; 2] && !is(differs) {
                    continue;
                }
                let offset = from.saturating_add(page.saturating_mul(PAGE));
                let length = size.saturating_sub(offset).min(PAGE);
                file.add(Range { offset, length, lacking }, kept);
            }
        }
        told(from);
        Ok::<_, ReadError>(())
    })?;
    Ok(())
}

impl Compared {
    /// Adds a page that differs, or that cannot be compared.
    fn add(&mut self, page: Range, kept: &mut usize) {
        let what = if page.lacking == [false; 2] { Sameness::Differs } else { Sameness::Unknown };
        self.content = self.content.and(what);
        match self.ranges.last_mut() {
            Some(last) if last.offset.saturating_add(last.length) == page.offset && last.lacking == page.lacking => {
                last.length = last.length.saturating_add(page.length);
            }
            _ if *kept < KEPT => {
                *kept = kept.saturating_add(1);
                self.ranges.push(page);
            }
            _ => self.more_ranges = self.more_ranges.saturating_add(1),
        }
    }
}

/// A source whose bytes are the result of comparing two contents of a file, so that the threads that read ahead do the
/// comparing. Record `n` is about the pages of chunk `n`. It has three words with a bit for each page: whether the page
/// differs, whether the first side lacks it, and whether the second side does.
struct Pair<'s, S> {
    sources: [&'s S; 2],
    pieces: [Vec<Piece>; 2],
    /// How much of both is compared.
    size: u64,
}

impl<S: ReadAt> Pair<'_, S> {
    /// The first chunk at or past `at` that is not all a hole on both sides.
    fn past_holes(&self, at: u64) -> u64 {
        let end = |pieces: &Vec<Piece>| match pieces_from(pieces, at).first() {
            Some(Piece::Hole { file }) => file.end(),
            _ => at,
        };
        let [a, b] = &self.pieces;
        let end = end(a).min(end(b)).min(self.size);
        if end == self.size { end } else { at.max(end.saturating_sub(end.checked_rem(CHUNK).unwrap_or(0))) }
    }

    /// Whether a side lacks what is at `at`, and how far that goes, as far as the image says so without reading. `None` if the
    /// side has bytes there.
    fn lacks(&self, side: usize, at: u64) -> Option<(bool, u64)> {
        match *pieces_from(self.pieces.get(side)?, at).first()? {
            Piece::Hole { file } => Some((false, file.end())),
            Piece::Lost { file } | Piece::Data { file, bad: true, .. } => Some((true, file.end())),
            Piece::Data { file, at: place, .. } => {
                let source = self.sources.get(side)?;
                let from = place.saturating_add(at.saturating_sub(file.offset));
                // Whether the first byte is there is a short question; how far a gap goes is a long one.
                source.next_absent(from..from.saturating_add(1))?;
                let (gap, _) = source.next_absent(from..place.saturating_add(file.len))?;
                Some((true, at.saturating_add(gap.end().saturating_sub(from)).min(file.end())))
            }
        }
    }

    /// The chunks from `at` on that one side lacks, or both, in one way. `None` if the chunk has to be read.
    fn lacking_from(&self, at: u64) -> Option<Range> {
        let (mut end, mut lacking) = (at, None);
        while end < self.size {
            let (Some((a, to_a)), Some((b, to_b))) = (self.lacks(0, end), self.lacks(1, end)) else { break };
            let next = to_a.min(to_b).min(self.size);
            if *lacking.get_or_insert([a, b]) != [a, b] || next <= end {
                break;
            }
            end = next;
        }
        if end < self.size {
            end = end.saturating_sub(end.checked_rem(CHUNK).unwrap_or(0));
        }
        let length = end.checked_sub(at).filter(|length| *length > 0)?;
        lacking.filter(|lacking| *lacking != [false; 2]).map(|lacking| Range { offset: at, length, lacking })
    }

    /// Fills a buffer with what one side has from `at` on. Returns the pages that the side lacks, and whether all of
    /// the buffer is zeros that did not have to be read.
    fn fill(&self, side: usize, at: u64, buf: &mut [u8]) -> (u64, bool) {
        let end = at.saturating_add(len64(buf.len()));
        let (mut lacks, mut zeros) = (0_u64, true);
        let (Some(pieces), Some(source)) = (self.pieces.get(side), self.sources.get(side)) else {
            return (u64::MAX, false);
        };
        for piece in pieces_from(pieces, at).iter().filter_map(|piece| piece.clip(&(at..end))) {
            let file = piece.file();
            let inside = small(file.offset.saturating_sub(at));
            let now = buf.get_mut(inside..inside.saturating_add(small(file.len))).unwrap_or_default();
            match piece {
                Piece::Hole { .. } => now.fill(0),
                Piece::Data { at: place, bad: false, .. } => {
                    if let Ok(None) = source.next_data(place..place.saturating_add(file.len)) {
                        now.fill(0);
                        continue;
                    }
                    zeros = false;
                    if source.read_at(place, now).is_err() {
                        lacks |= by_page(*source, place, now, file.offset.saturating_sub(at));
                    }
                }
                Piece::Data { .. } | Piece::Lost { .. } => {
                    zeros = false;
                    lacks |= pages(file.offset.saturating_sub(at), file.len);
                }
            }
        }
        (lacks, zeros)
    }
}

/// The pieces from the one that holds `at` on.
fn pieces_from(pieces: &[Piece], at: u64) -> &[Piece] {
    let first = pieces.partition_point(|piece| piece.file().end() <= at);
    pieces.get(first..).unwrap_or_default()
}

/// Reads page by page what could not be read at once; gives the pages that are lacking. `inside` is where in the chunk
/// it begins.
fn by_page<S: ReadAt>(source: &S, place: u64, buf: &mut [u8], inside: u64) -> u64 {
    let mut lacks = 0;
    let (mut place, mut inside, mut rest) = (place, inside, buf);
    while !rest.is_empty() {
        let left = PAGE.saturating_sub(inside.checked_rem(PAGE).unwrap_or(0));
        let (now, later) = rest.split_at_mut(small(left).min(rest.len()));
        if source.read_at(place, now).is_err() {
            lacks |= pages(inside, len64(now.len()));
        }
        (place, inside) = (place.saturating_add(len64(now.len())), inside.saturating_add(len64(now.len())));
        rest = later;
    }
    lacks
}

/// The pages of a chunk that a stretch touches, a bit each.
fn pages(inside: u64, len: u64) -> u64 {
    let first = inside.checked_div(PAGE).unwrap_or(0);
    let end = inside.saturating_add(len).div_ceil(PAGE);
    (first..end.min(64)).fold(0, |mask, page| mask | 1 << page)
}

impl<S: ReadAt> ReadAt for Pair<'_, S> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let at = offset.checked_div(RECORD).unwrap_or(0).saturating_mul(CHUNK);
        let length = small(self.size.saturating_sub(at).min(CHUNK));
        let mut both = [vec![0; length], vec![0; length]];
        let [a, b] = &mut both;
        let (lacks_a, zero_a) = self.fill(0, at, a);
        let (lacks_b, zero_b) = self.fill(1, at, b);
        let mut differs = 0_u64;
        if !(zero_a && zero_b) {
            for (page, (one, other)) in (0_u32..64).zip(a.chunks(small(PAGE)).zip(b.chunks(small(PAGE)))) {
                differs |= u64::from(one != other) << page;
            }
        }
        let lacking = lacks_a | lacks_b;
        let words = [differs & !lacking, lacks_a, lacks_b];
        for (byte, value) in buf.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())) {
            *byte = value;
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_io::{Absence, Span};

    /// Memory with a page that is absent.
    struct Memory(Vec<u8>, Option<u64>);

    impl ReadAt for Memory {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            let span = Span::new(offset, len64(buf.len()));
            if let Some(absent) = self.1.map(|at| Span::new(at, PAGE)).filter(|absent| absent.meets(span)) {
                return Err(ReadError::Absent { span: absent, why: Absence::NotInDump });
            }
            self.0.as_slice().read_at(offset, buf)
        }
        fn end(&self) -> Option<u64> {
            self.0.as_slice().end()
        }
    }

    fn compared(a: &Memory, b: &Memory, pieces: [Vec<Piece>; 2], size: u64) -> (Sameness, Vec<Range>) {
        let pair = Pair { sources: [a, b], pieces, size };
        let mut file = only(Kind::File, [None, None], true);
        file.content = Sameness::Same;
        let (mut at, mut kept) = (0, 0);
        while at < size {
            let mut record = [0; 24];
            pair.read_at(at / CHUNK * RECORD, &mut record).unwrap();
            let word = |n: usize| u64::from_le_bytes(record[n * 8..n * 8 + 8].try_into().unwrap());
            for page in 0..64 {
                let is = |n: usize| word(n) >> page & 1 != 0;
                if is(0) || is(1) || is(2) {
                    let offset = at + page * PAGE;
                    file.add(Range { offset, length: PAGE.min(size - offset), lacking: [is(1), is(2)] }, &mut kept);
                }
            }
            at += CHUNK;
        }
        (file.content, file.ranges)
    }

    #[test]
    fn what_differs_and_what_is_lacking_is_told_by_page() {
        let size = CHUNK + 3 * PAGE + 7;
        let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at % 250).unwrap()).collect();
        let data = |at| vec![Piece::Data { file: Span::new(0, size), at, bad: false }];
        let a = Memory(bytes.clone(), None);
        let same = compared(&a, &Memory(bytes.clone(), None), [data(0), data(0)], size);
        assert_eq!(same, (Sameness::Same, vec![]));
        let mut other = bytes.clone();
        other[5] ^= 1;
        other[usize::try_from(CHUNK - 1).unwrap()] ^= 1;
        other[usize::try_from(CHUNK).unwrap()] ^= 1;
        other[usize::try_from(size - 1).unwrap()] ^= 1;
        let found = compared(&a, &Memory(other, Some(2 * PAGE)), [data(0), data(0)], size);
        let range = |offset, length, lacking| Range { offset, length, lacking };
        let expected = [
            range(0, PAGE, [false; 2]),
            range(2 * PAGE, PAGE, [false, true]),
            range(CHUNK - PAGE, 2 * PAGE, [false; 2]),
            range(CHUNK + 3 * PAGE, 7, [false; 2]),
        ];
        assert_eq!(found, (Sameness::Differs, expected.to_vec()));
    }

    #[test]
    fn what_is_absent_is_passed_over_at_once() {
        // Page by page this would take hours.
        let size = 1 << 50;
        let nothing = Memory(Vec::new(), None);
        let data = || vec![Piece::Data { file: Span::new(0, size), at: 0, bad: false }];
        let lost = || vec![Piece::Lost { file: Span::new(0, size) }];
        let hole = || vec![Piece::Hole { file: Span::new(0, size) }];
        let lacking = |source: &Memory, pieces, at| Pair { sources: [source; 2], pieces, size }.lacking_from(at);
        let range = |offset, lacking| Some(Range { offset, length: size - offset, lacking });
        assert_eq!(lacking(&nothing, [data(), data()], 0), range(0, [true; 2]));
        assert_eq!(lacking(&nothing, [lost(), data()], CHUNK), range(CHUNK, [true; 2]));
        assert_eq!(lacking(&nothing, [hole(), data()], 0), range(0, [false, true]));
        assert_eq!(lacking(&nothing, [hole(), hole()], 0), None);
        // A chunk of which a part is there is read.
        let some = Memory(vec![0; 4096], None);
        assert_eq!(lacking(&some, [data(), data()], 0), None);
        assert_eq!(lacking(&some, [lost(), data()], 0), None);
        assert_eq!(lacking(&some, [data(), data()], CHUNK), range(CHUNK, [true; 2]));
    }

    #[test]
    fn holes_are_zeros_and_lost_data_is_none() {
        let size = 2 * CHUNK;
        let zeros = Memory(vec![0; usize::try_from(size).unwrap()], None);
        let whole = Span::new(0, size);
        let (hole, lost) = (vec![Piece::Hole { file: whole }], vec![Piece::Lost { file: whole }]);
        let data = vec![Piece::Data { file: whole, at: 0, bad: false }];
        let bad = vec![Piece::Data { file: whole, at: 0, bad: true }];
        assert_eq!(compared(&zeros, &zeros, [hole.clone(), data.clone()], size), (Sameness::Same, vec![]));
        let lacking = |lacking| (Sameness::Unknown, vec![Range { offset: 0, length: size, lacking }]);
        assert_eq!(compared(&zeros, &zeros, [lost, data.clone()], size), lacking([true, false]));
        assert_eq!(compared(&zeros, &zeros, [data.clone(), bad], size), lacking([false, true]));
        let pair = Pair { sources: [&zeros, &zeros], pieces: [hole.clone(), hole.clone()], size };
        assert_eq!(pair.past_holes(0), size);
        let pair = Pair { sources: [&zeros, &zeros], pieces: [hole, data], size };
        assert_eq!(pair.past_holes(0), 0);
    }
}
