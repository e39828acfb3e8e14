//! Histories of small regions, made by the real writer: every state that a crash can have left, and every older state
//! of each page.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::PmdShift;
use gmfs_volume::{CreateOptions, FormatOptions, PutOptions, SealOptions, Stamp, Writer, WriterOptions};
use uuid::Uuid;

use crate::image::{Bytes, Event, Image, PAGE, Page};
use crate::oracle::{Identity, Oracle, Truth, reseal, statement, u32_at, u64_at};
use crate::rng::Rng;

pub(crate) const NOW: u64 = 1_700_000_000_000_000_000;
pub(crate) const BLOCK: u64 = 2 << 20;
/// The number of blocks of the region. It has two pages of block table, the second one with ten descriptors.
pub(crate) const BLOCKS: u32 = 262;
/// How many pages of one copy are in use: the superblock, two pages of block table, two of inode table.
pub(crate) const PAGES: u32 = 5;
const INODES: u32 = 32;

pub(crate) fn stamp() -> Stamp {
    Stamp { now: NOW, writer: "product".into() }
}

/// One change of a region.
#[derive(Clone, Copy, Debug)]
enum Op {
    Create(&'static str, u32),
    /// Writes a file of one byte, which is new or replaces another one.
    Put(&'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    Resize(&'static str, u32),
    Bad(u32),
    Reserve(u32),
    Seal(&'static str),
    Unseal(&'static str),
}
use Op::{Bad, Create, Put, Remove, Rename, Reserve, Resize, Seal, Unseal};

/// The sessions with which every history begins. They fill the first page of block table and of inode table. File b has
/// blocks on both table pages; one of these pages has the bad block, and the other the reserved one.
const EARLY: &[&[Op]] = &[
    &[Create("/big", 244), Create("/a", 2)],
    &[Bad(247), Bad(252), Reserve(252)],
    &[Create("/b", 4), Put("/c"), Create("/e1", 0)],
    &[Create("/e2", 0), Create("/e3", 0), Create("/f", 1)],
];
/// Like [`EARLY`], with one page of each table in use.
const EARLY_SMALL: &[&[Op]] = &[
    &[Create("/big", 244), Create("/a", 2)],
    &[Bad(247)],
    &[Put("/c"), Create("/e1", 0)],
    &[Create("/e2", 0), Create("/e3", 0)],
];

/// The last sessions. They determine what "one commit older" or "several older" means for a page.
const TAILS: &[&str] = &["replace", "wide", "remove", "reuse", "session", "grow", "marks", "bad", "seal"];

fn tail(name: &str) -> (&'static [&'static [Op]], &'static [&'static [Op]]) {
    match name {
        // The new file has the size of the old one, so counts do not change.
        "replace" => (EARLY, &[&[Remove("/a")], &[Create("/d", 1)], &[Put("/c")]]),
        "wide" => (EARLY, &[&[Bad(255), Reserve(255)], &[Rename("/b", "/b2")], &[Create("/d", 1)], &[Create("/g", 0)]]),
        "remove" => (EARLY, &[&[Create("/d", 2)], &[Remove("/a")]]),
        "reuse" => (EARLY, &[&[Remove("/a")], &[Create("/d", 2), Create("/n", 1)]]),
        "session" => (EARLY, &[&[Remove("/a"), Create("/n", 2), Create("/d", 2)]]),
        "grow" => (EARLY, &[&[Create("/d", 1)], &[Resize("/f", 3)]]),
        // The last session is the first to use the second page of each table.
        "marks" => (EARLY_SMALL, &[&[Create("/b", 4), Create("/e4", 0), Create("/f", 1)]]),
        // The last commit raises a mark and changes no page before it.
        "bad" => (EARLY_SMALL, &[&[Bad(255)]]),
        // File b is on both pages of the block table, and no count tells a commit of these from another.
        "seal" => (EARLY, &[&[Seal("/b")], &[Remove("/a"), Create("/d", 1)], &[Unseal("/b")], &[Seal("/b")]]),
        "foreign" => (
            EARLY,
            &[
                &[Create("/x1", 1), Create("/x2", 0), Create("/x3", 0), Create("/x4", 0)],
                &[Create("/x5", 0), Create("/x6", 0), Create("/x7", 0), Create("/x8", 0), Create("/x9", 0)],
            ],
        ),
        _ => (
            &[
                &[Create("/big", 90), Create("/a", 2)],
                &[Bad(98)],
                &[Create("/b", 3), Create("/c", 0), Create("/g", 0), Create("/h", 0), Create("/i", 0), Create("/k", 1)],
            ],
            &[&[Remove("/a")], &[Create("/d", 1)]],
        ),
    }
}

/// The writes between two barriers, and which state was true before them.
#[derive(Clone, Debug)]
struct Group {
    step: &'static str,
    stores: Vec<(u64, Arc<Bytes>)>,
    truth: u32,
}

pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) oracle: Oracle,
    pub(crate) size: u64,
    /// The region at the end of its history.
    pub(crate) idle: Image,
    start: Image,
    groups: Vec<Group>,
    /// The first group of the last session.
    last: usize,
}

/// A point in time: the content of the medium, what each page held before, and which states may be true.
#[derive(Clone)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) image: Image,
    pub(crate) past: HashMap<u64, Vec<Arc<Bytes>>>,
    pub(crate) ok: u64,
    /// How many groups of writes are done.
    done: usize,
}

impl World {
    pub(crate) fn new(name: &'static str, uuid: u128, birth: u64, blocks: u32) -> Self {
        let size = u64::from(blocks) * BLOCK;
        let geometry = Geometry::plan(size, PmdShift::M2, INODES).unwrap();
        let mut image = Image::new(size, BLOCK..size - BLOCK);
        let options = FormatOptions {
            geometry,
            uuid: Uuid::from_u128(uuid),
            birth,
            label: "product".into(),
            base: 0,
            owner: (0, 0),
            stamp: stamp(),
            forget: Vec::new(),
        };
        gmfs_volume::format(&mut image, &options).unwrap();
        let start = image.clone().kept();
        let of = statement(image.bytes(0).unwrap(), 0).unwrap().of;
        let mut made = Self {
            name,
            oracle: Oracle { of, truths: vec![Truth::of(&image, of)], crashes: HashMap::new() },
            size,
            idle: Image::default(),
            start,
            groups: Vec::new(),
            last: 0,
        };
        let (early, last) = tail(name);
        for session in early.iter().chain(last) {
            made.last = made.groups.len();
            made.session(&mut image, session, of);
        }
        made.idle = image.kept();
        for point in made.points_from(0) {
            *made.oracle.crashes.entry(Oracle::key(&point.image)).or_default() |= point.ok;
        }
        made
    }

    fn session(&mut self, image: &mut Image, session: &[Op], of: Identity) {
        let mut now = image.clone();
        image.log = Some(Vec::new());
        let options = WriterOptions { writer: "product".into(), base: None, clock: || NOW };
        let mut writer = Writer::open(&mut *image, options).unwrap().0;
        session.iter().for_each(|op| change(&mut writer, *op));
        writer.close().unwrap();
        let mut stores = Vec::new();
        let mut step = "";
        for event in image.take_log() {
            match event {
                Event::Store(offset, bytes) => stores.push((offset, bytes)),
                Event::Zero => panic!("a session zeroes metadata"),
                Event::Barrier if stores.is_empty() => {}
                Event::Barrier => {
                    let tables = stores.iter().any(|(offset, _)| offset % BLOCK != 0);
                    step = match step {
                        _ if tables && step != "s2" => "s1",
                        "s1" => "s2",
                        "s2" => "s3",
                        "s3" => "s4",
                        _ => "mark",
                    };
                    let truth = self.oracle.truths.len() as u32 - 1;
                    stores.iter().for_each(|(offset, bytes)| now.set(*offset, Some(Arc::clone(bytes))));
                    self.groups.push(Group { step, stores: std::mem::take(&mut stores), truth });
                    if step == "s4" {
                        self.oracle.truths.push(Truth::of(&now, of));
                    }
                }
            }
        }
        assert!(stores.is_empty() && step == "mark", "a session ends with a mark");
        assert!(self.oracle.truths.len() < 64, "truths are bits of a word");
    }

    /// Every point at which a crash can stop the last session, and its end.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.points_from(self.last)
    }

    fn points_from(&self, first: usize) -> Vec<Point> {
        let (mut image, mut past) = (self.start.clone(), HashMap::<u64, Vec<Arc<Bytes>>>::new());
        let mut points = Vec::new();
        for (number, group) in self.groups.iter().enumerate() {
            if number >= first {
                self.subsets(number, &image, &past, &mut points);
            }
            for (offset, bytes) in &group.stores {
                put(&mut image, &mut past, *offset, Arc::clone(bytes));
            }
        }
        let (ok, done) = (1 << (self.oracle.truths.len() - 1), self.groups.len());
        points.push(Point { name: "idle".into(), image, past, ok, done });
        points
    }

    /// Each write of a group is done, not done, or torn.
    fn subsets(&self, done: usize, image: &Image, past: &HashMap<u64, Vec<Arc<Bytes>>>, points: &mut Vec<Point>) {
        let group = &self.groups[done];
        let count = group.stores.len();
        for number in 0..3_u32.pow(count as u32) {
            let how: Vec<u32> = (0..count).map(|at| number / 3_u32.pow(at as u32) % 3).collect();
            let torn = how.iter().filter(|how| **how == 2).count();
            if torn > 1 && count > 2 {
                continue;
            }
            let (mut image, mut past) = (image.clone(), past.clone());
            for ((offset, bytes), how) in group.stores.iter().zip(&how) {
                match how {
                    0 => {}
                    1 => put(&mut image, &mut past, *offset, Arc::clone(bytes)),
                    _ => {
                        let torn = torn_page(Some(bytes), image.bytes(*offset));
                        put(&mut image, &mut past, *offset, torn);
                    }
                }
            }
            // Before the last write is durable, the command has not returned, so both states are right. A commit that
            // was stopped in step 1 has failed and must not happen later, unless all of its pages are there. Blank
            // pages in copy B belong to no state.
            let (before, both) = (1 << group.truth, 3 << group.truth);
            let ok = match group.step {
                "mark" => before,
                "s1" if group.stores.iter().zip(&how).any(|((at, _), how)| *at < BLOCK && *how != 1) => before,
                _ => both,
            };
            let letters: String = how.iter().map(|how| ['-', 'd', 't'][*how as usize]).collect();
            points.push(Point { name: format!("{}:{letters}", group.step), image, past, ok, done });
        }
    }

    /// The region at a random point between two groups of writes before `point`.
    pub(crate) fn earlier(&self, point: &Point, rng: &mut Rng) -> Image {
        let mut image = self.start.clone();
        let stores = self.groups[..rng.below(point.done)].iter().flat_map(|group| &group.stores);
        stores.for_each(|(offset, bytes)| image.set(*offset, Some(Arc::clone(bytes))));
        image
    }

    /// The offsets of all pages in use: copy A's, then copy B's.
    pub(crate) fn slots(&self) -> Vec<u64> {
        let of = self.oracle.of;
        [b'A', b'B'].into_iter().flat_map(|copy| (0..PAGES).map(move |page| of.offset(copy, page))).collect()
    }
}

fn put(image: &mut Image, past: &mut HashMap<u64, Vec<Arc<Bytes>>>, offset: u64, bytes: Arc<Bytes>) {
    if let Some(old) = image.page(offset) {
        past.entry(offset).or_default().push(old);
    }
    image.set(offset, Some(bytes));
}

fn change(writer: &mut Writer<&mut Image>, op: Op) {
    let create = |blocks: u32| CreateOptions {
        size: u64::from(blocks) * BLOCK,
        sparse: false,
        align_1g: false,
        mode: 0o600,
        owner: (0, 0),
    };
    match op {
        Create(path, blocks) => drop(writer.create(path.as_bytes(), &create(blocks)).unwrap()),
        Put(path) => {
            let options = PutOptions { create: CreateOptions { size: 1, ..create(0) }, replace: true };
            writer.put(path.as_bytes(), &mut &b"x"[..], &options).unwrap();
        }
        Remove(path) => writer.remove(path.as_bytes(), false).unwrap(),
        Rename(from, to) => writer.rename(from.as_bytes(), to.as_bytes(), false).unwrap(),
        Resize(path, blocks) => writer.truncate(path.as_bytes(), u64::from(blocks) * BLOCK, false).unwrap(),
        Seal(path) => {
            let ino = writer.tree().resolve(path.as_bytes()).unwrap().ino;
            let seals = writer.seals().files.remove(&ino).unwrap();
            let options = SealOptions { zero: true, threads: 1, progress: &|_| (), go_on: &|| true };
            writer.seal(ino, &seals, &options).unwrap();
        }
        Unseal(path) => {
            let ino = writer.tree().resolve(path.as_bytes()).unwrap().ino;
            let seals = writer.seals().files.remove(&ino).unwrap();
            writer.unseal(ino, &seals).unwrap();
        }
        Bad(block) => writer.add_bad(std::slice::from_ref(&(block + 1..block + 2))).unwrap(),
        // A block that was marked bad and belongs to no file becomes reserved.
        Reserve(block) => writer.remove_bad(std::slice::from_ref(&(block + 1..block + 2))).unwrap(),
    }
}

/// What is left of a write that is cut off after the first cache line.
fn torn_page(new: Option<&Bytes>, old: Option<&Bytes>) -> Arc<Bytes> {
    let mut torn = old.copied().unwrap_or([0; PAGE as usize]);
    if let Some(new) = new {
        torn[..64].copy_from_slice(&new[..64]);
    }
    Arc::new(torn)
}

/// The state of a page in a case.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) name: &'static str,
    pub(crate) page: Page,
    pub(crate) lie: bool,
}

/// Two other regions: one of the same size, and one of another size.
pub(crate) struct Others {
    pub(crate) same: World,
    pub(crate) other: World,
}

impl Others {
    pub(crate) fn new() -> Self {
        Self { same: World::new("foreign", 0xbeef, 0xb02, BLOCKS), other: World::new("small", 0xcafe, 0xb03, 130) }
    }
}

/// All states that a page can have at a point. The unchanged page is first.
pub(crate) fn states(point: &Point, offset: u64, others: &Others) -> Vec<State> {
    let now = point.image.page(offset);
    let mut found = vec![State { name: "cur", page: now.clone(), lie: false }];
    let mut add = |name, page: Page, lie| {
        if found.iter().all(|state| state.page != page) {
            found.push(State { name, page, lie });
        }
    };
    let mut past: Vec<&Arc<Bytes>> = point.past.get(&offset).into_iter().flatten().rev().collect();
    past.retain(|page| now.as_ref() != Some(page));
    let is_superblock = offset.is_multiple_of(BLOCK);
    let older = |n: usize| past.get(n).map(|page| Arc::clone(page));
    add("old1", older(0), false);
    if is_superblock {
        // First comes the page before the last mark, then the newest one of an earlier commit, and one of a much
        // earlier commit.
        let commits = |page: &Bytes| u64_at(page, 64 + 192 + 64);
        let before = past.first().and_then(|first| past.iter().find(|page| commits(page) < commits(first)));
        add("old2", older(1), false);
        add("oldc", before.map(|page| Arc::clone(page)), false);
        add("old8", older(8), false);
    } else {
        add("old2", older(1), false);
        add("oldk", past.last().map(|page| Arc::clone(page)), false);
    }
    found.retain(|state| state.name == "cur" || state.page.is_some());
    let mut add = |name, page: Page, lie| {
        if found.iter().all(|state| state.page != page) {
            found.push(State { name, page, lie });
        }
    };
    add("zero", None, false);
    let mut junk = Rng::new(offset);
    let mut noise = [0; PAGE as usize];
    noise.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&junk.next().to_le_bytes()));
    add("junk", Some(Arc::new(noise)), false);
    if let Some(now) = &now {
        add("torn", Some(torn_page(Some(now), past.first().map(|page| &***page))), false);
    }
    add("frS", others.same.idle.page(offset), false);
    // Copy B's pages of a region of another size belong to other offsets, so here they are misplaced.
    let size = u64::from(BLOCKS - 1) * BLOCK;
    let there =
        if offset < size { offset } else { others.other.oracle.of.offset(b'B', ((offset - size) / PAGE) as u32) };
    add("frL", others.other.idle.page(there), false);
    if let Some(lying) = now.as_deref().and_then(|now| lie(now, offset)) {
        add("lie", Some(Arc::new(lying)), true);
    }
    found
}

/// False pages of a table at this location with a generation above that of every page of the region: with the values of
/// a lie, and with those of the page before. They name the sum of the true page.
pub(crate) fn upstarts(point: &Point, offset: u64) -> Vec<State> {
    let Some(now) = point.image.bytes(offset).filter(|now| statement(now, offset).is_some_and(|found| found.page != 0))
    else {
        return Vec::new();
    };
    let all = point.image.pages().filter_map(|(at, page)| statement(page, at));
    let top = all.map(|found| found.generation).max().unwrap_or_default();
    let older = point.past.get(&offset).into_iter().flatten().rev().find(|page| page[64..4064] != now[64..4064]);
    let mut found = Vec::new();
    for (names, values) in [(["lie+1", "lie+s"], lie(now, offset)), (["old+1", "old+s"], older.map(|page| **page))] {
        let Some(values) = values else { continue };
        // The next commit of a session, and the first one of the next session.
        for (name, generation) in names.into_iter().zip([top + 1, (top / 256 + 1) * 256 + 1]) {
            let mut page = *now;
            page[64..4064].copy_from_slice(&values[64..4064]);
            page[32..40].copy_from_slice(&generation.to_le_bytes());
            reseal(&mut page);
            found.push(State { name, page: Some(Arc::new(page)), lie: true });
        }
    }
    found
}

/// A page with a good seal and false values.
fn lie(page: &Bytes, offset: u64) -> Option<Bytes> {
    let found = statement(page, offset)?;
    let mut lying = *page;
    match found.page {
        0 => {
            let data = u64::from(found.of.data_blocks());
            for (field, value) in [(88, 0), (96, 1), (112, data), (120, 0), (128, 0), (136, 0), (144, 1)] {
                lying[64 + field..64 + field + 8].copy_from_slice(&u64::to_le_bytes(value));
            }
            lying[4064 + 8..4064 + 16].copy_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
        }
        page if page < found.of.first_inode_page() => lying[64..4064].fill(0),
        page => {
            for slot in 0..8 {
                let record = &mut lying[64 + slot * 500..64 + (slot + 1) * 500];
                if page == found.of.first_inode_page() && slot == 0 || u32_at(record, 8) & 0xffff == 0 {
                    continue;
                }
                let (number, generation) = (u32_at(record, 0), u32_at(record, 4));
                record.fill(0);
                record[..4].copy_from_slice(&number.to_le_bytes());
                record[4..8].copy_from_slice(&generation.to_le_bytes());
            }
        }
    }
    reseal(&mut lying);
    (lying != *page).then_some(lying)
}

/// All regions that the test damages.
pub(crate) fn worlds() -> BTreeMap<&'static str, World> {
    TAILS.iter().map(|name| (*name, World::new(name, 0xfeed, 0xb01, BLOCKS))).collect()
}
