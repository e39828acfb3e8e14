//! Operations on a region, a simple model of their effects, and tags that show whose memory a block holds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;

use gmfs_format::model::Inode;
use gmfs_format::model::Piece;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::{PAGE_BYTES, PageBytes, PmdShift};
use gmfs_io::{Span, WriteAt};
use gmfs_volume::{
    ChangeError, CreateOptions, FormatOptions, PutOptions, Region, Stamp, Writer, WriterOptions, format,
};
use uuid::Uuid;

use super::memory::Memory;
use super::rng::Rng;

/// The birth of regions in these tests.
pub(crate) const BIRTH: u64 = 0xb17;

/// The size of a block.
pub(crate) const BLOCK: u64 = 2 << 20;
/// The offsets of tags in a block.
const PLACES: [u64; 3] = [0, (1 << 20) + 64, BLOCK - 64];
const TAG_BYTES: usize = 16;
const TAG_MAGIC: [u8; 4] = *b"\xa7own";

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(1_000) };
}

/// Sets the time for the next operation.
pub(crate) fn set_clock(now: u64) {
    CLOCK.set(now);
}

/// The options of writers in these tests. With this base, the first data block of a small region is at a multiple of 1
/// GiB.
pub(crate) fn writer_options() -> WriterOptions {
    WriterOptions { writer: "crash test 1".to_owned(), base: Some(511 * BLOCK), clock: || CLOCK.get() }
}

/// Opens a region for writing; its recovery must succeed.
pub(crate) fn open<S: WriteAt>(source: S) -> Writer<S> {
    Writer::open(source, writer_options()).unwrap().0
}

/// The options of a new region in these tests.
pub(crate) fn format_options(size: u64, inodes: u32, uuid: u128) -> FormatOptions {
    FormatOptions {
        geometry: Geometry::plan(size, PmdShift::M2, inodes).unwrap(),
        uuid: Uuid::from_u128(uuid),
        birth: BIRTH,
        label: "crash".to_owned(),
        base: 0,
        owner: (0, 0),
        stamp: Stamp { now: 1, writer: "mkfs 1".to_owned() },
        forget: Vec::new(),
    }
}

/// A fresh region.
pub(crate) fn fresh(size: u64, inodes: u32) -> Memory {
    let mut memory = Memory::new(size);
    format(&mut memory, &format_options(size, inodes, 7)).unwrap();
    memory
}

/// Identifies a write: an id that is used once, and the file block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag {
    pub(crate) id: u32,
    pub(crate) index: u32,
}

impl Tag {
    fn bytes(self) -> [u8; TAG_BYTES] {
        let mut bytes = [0; TAG_BYTES];
        bytes[..4].copy_from_slice(&TAG_MAGIC);
        bytes[4..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |from: usize| u32::from_le_bytes(bytes[from..from + 4].try_into().unwrap());
        (bytes[..4] == TAG_MAGIC).then(|| Self { id: number(4), index: number(8) })
    }
}

/// The offsets in a page of the region at which tags can be.
fn places_in(offset: u64) -> impl Iterator<Item = usize> {
    let inside = offset % BLOCK;
    let places = PLACES.into_iter().filter(move |place| (inside..inside + PAGE_BYTES).contains(place));
    places.map(move |place| usize::try_from(place - inside).unwrap())
}

/// The tags in a page of the region.
pub(crate) fn tags_of(offset: u64, page: &PageBytes) -> impl Iterator<Item = Tag> {
    places_in(offset).filter_map(|at| Tag::read(&page[at..at + TAG_BYTES]))
}

/// The tags in a file's content, by file offset. It fails if the file has other content.
pub(crate) fn file_tags(region: &Region<&Memory>, inode: &Inode) -> BTreeMap<u64, Tag> {
    let mut tags = BTreeMap::new();
    for piece in region.content(inode).unwrap() {
        let Piece::Data { file, at, .. } = piece else {
            continue;
        };
        let span = Span::new(at, file.len);
        for (offset, stored) in region.source().stored(span) {
            let mut page = *stored.bytes();
            for place in places_in(offset) {
                if let Some(tag) = Tag::read(&page[place..place + TAG_BYTES]) {
                    tags.insert(file.offset + (offset - at) + place as u64, tag);
                    page[place..place + TAG_BYTES].fill(0);
                }
            }
            let kept = usize::try_from(PAGE_BYTES.min(span.end() - offset)).unwrap();
            assert!(page[..kept].iter().all(|byte| *byte == 0), "strange bytes in inode {}", inode.ino);
        }
    }
    tags.retain(|offset, _| *offset < inode.size);
    tags
}

/// Content for `put`: zeros with tags. Some blocks have none.
pub(crate) struct Content {
    tags: BTreeMap<u64, Tag>,
    at: u64,
    size: u64,
}

impl Content {
    pub(crate) fn new(id: u32, size: u64) -> Self {
        let mut tags = BTreeMap::new();
        for index in 0..size.div_ceil(BLOCK) {
            let tag = Tag { id, index: u32::try_from(index).unwrap() };
            for (n, place) in (0..).zip(PLACES) {
                let offset = index * BLOCK + place;
                if (u64::from(id) + index + n) % 4 != 0
                    && offset + TAG_BYTES as u64 <= size
                    && (u64::from(id) + index) % 5 != 0
                {
                    tags.insert(offset, tag);
                }
            }
        }
        Self { tags, at: 0, size }
    }
}

impl Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = (self.size - self.at).min(buf.len() as u64);
        let (start, end) = (self.at, self.at + len);
        let buf = &mut buf[..usize::try_from(len).unwrap()];
        buf.fill(0);
        for (offset, tag) in self.tags.range(start.saturating_sub(16)..end) {
            for (at, byte) in (*offset..).zip(tag.bytes()) {
                if (start..end).contains(&at) {
                    buf[usize::try_from(at - start).unwrap()] = byte;
                }
            }
        }
        self.at = end;
        Ok(buf.len())
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create { path: &'static str, size: u64, sparse: bool, aligned: bool },
    Mkdir { path: &'static str, parents: bool },
    Put { path: &'static str, size: u64, id: u32, replace: bool, sparse: bool, told: bool },
    Truncate { path: &'static str, size: u64, sparse: bool },
    Rename { from: &'static str, to: &'static str, replace: bool },
    Remove { path: &'static str, recursive: bool },
}

const PATHS: [&str; 8] = ["/a", "/b", "/c", "/d", "/d/x", "/d/y", "/d/e", "/d/e/z"];

impl Op {
    /// A random operation that is likely to be possible, with at most `most` blocks. Ids must be unique.
    pub(crate) fn random(rng: &mut Rng, most: u64, id: u32) -> Self {
        let path = rng.pick(&PATHS);
        let inside = rng.pick(&[0, 0, 17, 5000, 1 << 20, (1 << 20) + 100, BLOCK - 1]);
        let size = rng.below(most) * BLOCK + inside;
        let sparse = rng.one_in(4);
        match rng.below(12) {
            0..3 => Self::Create { path, size, sparse, aligned: rng.one_in(4) },
            3 | 4 => Self::Mkdir { path: rng.pick(&["/d", "/d/e", "/c"]), parents: false },
            5 | 6 => Self::Put { path, size, id, replace: !rng.one_in(4), sparse, told: rng.one_in(2) },
            7 | 8 => Self::Truncate { path, size, sparse },
            9 | 10 => Self::Rename { from: path, to: rng.pick(&PATHS), replace: !rng.one_in(3) },
            _ => Self::Remove { path, recursive: !rng.one_in(4) },
        }
    }

    /// Performs the operation.
    pub(crate) fn run<S: WriteAt>(&self, writer: &mut Writer<S>) -> Result<(), ChangeError> {
        match *self {
            Self::Create { path, size, sparse, aligned } => {
                writer.create(path.as_bytes(), &create_options(size, sparse, aligned)).map(drop)
            }
            Self::Mkdir { path, parents } => writer.mkdir(path.as_bytes(), parents, 0o755, (1, 2)),
            Self::Put { path, size, id, replace, sparse, told } => {
                let create = create_options(if told { size } else { 0 }, sparse, false);
                let put = writer.put(path.as_bytes(), &mut Content::new(id, size), &PutOptions { create, replace });
                put.map(|written| assert_eq!(written, size))
            }
            Self::Truncate { path, size, sparse } => writer.truncate(path.as_bytes(), size, sparse),
            Self::Rename { from, to, replace } => writer.rename(from.as_bytes(), to.as_bytes(), replace),
            Self::Remove { path, recursive } => writer.remove(path.as_bytes(), recursive),
        }
    }
}

/// Options of a new file.
pub(crate) const fn create_options(size: u64, sparse: bool, align_1g: bool) -> CreateOptions {
    CreateOptions { size, sparse, align_1g, mode: 0o640, owner: (3, 4) }
}

/// What a path is in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File { size: u64, tags: BTreeMap<u64, Tag> },
}

/// What a region must hold: paths and content, in the simplest form.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model(BTreeMap<String, Node>);

fn parent(path: &str) -> &str {
    path.rsplit_once('/').unwrap().0
}

impl Model {
    /// Performs an operation on the model. Returns the kind of error if it must fail.
    pub(crate) fn run(&mut self, op: &Op) -> Result<(), &'static str> {
        match *op {
            Op::Create { path, size, .. } => self.add(path, Node::File { size, tags: BTreeMap::new() }),
            Op::Mkdir { path, parents: false } => self.add(path, Node::Dir),
            Op::Mkdir { path, parents: true } => self.mkdir_all(path),
            Op::Put { path, size, id, replace, .. } => {
                let node = Node::File { size, tags: Content::new(id, size).tags };
                match self.0.get(path) {
                    None => self.add(path, node),
                    Some(Node::Dir) => Err("IsDirectory"),
                    Some(_) if !replace => Err("Exists"),
                    Some(_) => {
                        self.0.insert(path.to_owned(), node);
                        Ok(())
                    }
                }
            }
            Op::Truncate { path, size, .. } => match self.0.get_mut(path) {
                None => Err("NotFound"),
                Some(Node::Dir) => Err("IsDirectory"),
                Some(Node::File { size: old, tags }) => {
                    *old = size;
                    tags.retain(|offset, _| *offset < size);
                    Ok(())
                }
            },
            Op::Rename { from, to, replace } => self.rename(from, to, replace),
            Op::Remove { path, recursive } => self.remove(path, recursive),
        }
    }

    fn add(&mut self, path: &str, node: Node) -> Result<(), &'static str> {
        self.parent_is_directory(path)?;
        if self.0.contains_key(path) {
            return Err("Exists");
        }
        self.0.insert(path.to_owned(), node);
        Ok(())
    }

    fn mkdir_all(&mut self, path: &str) -> Result<(), &'static str> {
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for end in ends {
            match self.0.get(&path[..end]) {
                Some(Node::Dir) => {}
                Some(Node::File { .. }) => return Err("NotDirectory"),
                None => drop(self.0.insert(path[..end].to_owned(), Node::Dir)),
            }
        }
        Ok(())
    }

    fn parent_is_directory(&self, path: &str) -> Result<(), &'static str> {
        match parent(path) {
            "" => Ok(()),
            parent => match self.0.get(parent) {
                Some(Node::Dir) => Ok(()),
                Some(Node::File { .. }) => Err("NotDirectory"),
                None => Err("NotFound"),
            },
        }
    }

    fn rename(&mut self, from: &str, to: &str, replace: bool) -> Result<(), &'static str> {
        let moved = self.0.get(from).ok_or("NotFound")?.clone();
        let mut target = to.to_owned();
        if from != to && self.0.get(to) == Some(&Node::Dir) {
            target.push_str(&from[parent(from).len()..]);
        }
        self.parent_is_directory(&target)?;
        if parent(&target) == from || parent(&target).starts_with(&format!("{from}/")) {
            return Err("IntoItself");
        }
        if target == from {
            return Ok(());
        }
        match self.0.get(&target) {
            Some(Node::Dir) => return Err("Exists"),
            Some(_) if !replace || moved == Node::Dir => return Err("Exists"),
            _ => {}
        }
        let below = format!("{from}/");
        let paths: Vec<String> =
            self.0.keys().filter(|path| *path == from || path.starts_with(&below)).cloned().collect();
        for path in paths {
            let node = self.0.remove(&path).unwrap();
            self.0.insert(format!("{target}{}", &path[from.len()..]), node);
        }
        Ok(())
    }

    fn remove(&mut self, path: &str, recursive: bool) -> Result<(), &'static str> {
        if !self.0.contains_key(path) {
            return Err("NotFound");
        }
        let below = format!("{path}/");
        if !recursive && self.0.keys().any(|other| other.starts_with(&below)) {
            return Err("NotEmpty");
        }
        self.0.retain(|other, _| other != path && !other.starts_with(&below));
        Ok(())
    }

    /// A guest writes to all of its memory that has blocks, up to their ends. Returns what it wrote.
    pub(crate) fn scribble(&mut self, image: &Memory, path: &str, id: u32) -> Vec<(u64, [u8; TAG_BYTES])> {
        let region = Region::open(image).unwrap();
        let Some(Node::File { size, tags }) = self.0.get_mut(path) else {
            return Vec::new();
        };
        let tree = region.inodes().tree;
        let inode = tree.resolve(path.as_bytes()).unwrap();
        let mut stores = Vec::new();
        for extent in region.mapping(inode.ino).extents {
            for n in 0..extent.count {
                let tag = Tag { id, index: extent.index + n };
                for place in PLACES {
                    let offset = u64::from(tag.index) * BLOCK + place;
                    stores.push((u64::from(extent.block.0 + n) * BLOCK + place, tag.bytes()));
                    if offset < *size {
                        tags.insert(offset, tag);
                    }
                }
            }
        }
        stores
    }

    /// The paths of files.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = self.0.iter().filter(|(_, node)| **node != Node::Dir);
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Compares a region with the model.
    pub(crate) fn check(&self, image: &Memory) {
        let region = Region::open(image).unwrap();
        let tree = region.inodes().tree;
        let mut found = BTreeMap::new();
        for inode in tree.inodes() {
            let path = String::from_utf8(tree.path(inode.ino).unwrap()).unwrap();
            let node = match inode.kind {
                gmfs_format::model::Kind::Directory => Node::Dir,
                _ => Node::File { size: inode.size, tags: file_tags(&region, inode) },
            };
            found.insert(path, node);
        }
        assert_eq!(found.remove("/"), Some(Node::Dir));
        assert_eq!(found, self.0);
    }
}

/// The name of an error's variant.
pub(crate) fn error_name(error: &ChangeError) -> String {
    let shown = format!("{error:?}");
    shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
