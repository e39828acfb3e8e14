//! The oracle knows the true history, reads the bytes itself by the rules of docs/FORMAT.md, and judges what a repair
//! did. It shares no code with check, plan and decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::image::{Bytes, Event, Image, PAGE};

/// The offsets of fields in a page.
const CRC: usize = 40;
const PAYLOAD: usize = 64;
const TRAILER: usize = 4064;
const BLOCK: u64 = 2 << 20;
const DESCRIPTORS: usize = 250;
const INODES: usize = 8;
const INODE: usize = 500;
/// Inode flags: file blocks without a block are lost data; doubtful.
const LOST_DATA: u64 = 4;
const DOUBTFUL: u64 = 8;
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The CRC that a page must have.
fn crc(page: &Bytes) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[..CRC]);
    hasher.update(&[0; 4]);
    hasher.update(&page[CRC + 4..]);
    hasher.finalize()
}

/// Sets the correct CRC of a page.
pub(crate) fn reseal(page: &mut Bytes) {
    let crc = crc(page);
    page[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// What a page with a generation contributes to the two sums.
fn share(page: u32, generation: u64) -> [u64; 2] {
    let first = mix(generation ^ u64::from(page).wrapping_mul(STEP));
    [first, mix(first.wrapping_add(STEP))]
}

/// Identifies a region: UUID, birth, blocks, metadata blocks, inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    uuid: [u8; 16],
    birth: u64,
    blocks: u32,
    metadata: u32,
    inodes: u32,
}

impl Identity {
    pub(crate) fn data_blocks(&self) -> u32 {
        self.blocks - 2 * self.metadata
    }

    fn table_pages(&self) -> u32 {
        self.data_blocks().div_ceil(DESCRIPTORS as u32)
    }

    pub(crate) fn offset(&self, copy: u8, page: u32) -> u64 {
        let start = if copy == b'B' { u64::from(self.blocks - self.metadata) * BLOCK } else { 0 };
        start + u64::from(page) * PAGE
    }

    pub(crate) fn first_inode_page(&self) -> u32 {
        self.table_pages() + 1
    }

    fn kind(&self, page: u32) -> u8 {
        if page == 0 {
            1
        } else if page <= self.table_pages() {
            2
        } else {
            3
        }
    }

    fn covers(&self, marks: [u32; 2], page: u32) -> bool {
        match self.kind(page) {
            1 => true,
            2 => page <= marks[0],
            _ => page - self.table_pages() <= marks[1],
        }
    }

    /// The marks of full tables.
    fn all(&self) -> [u32; 2] {
        [self.table_pages(), self.inodes.div_ceil(INODES as u32)]
    }

    fn pages(&self, marks: [u32; 2]) -> impl Iterator<Item = u32> {
        (1..=marks[0]).chain(self.first_inode_page()..self.first_inode_page() + marks[1])
    }
}

/// A page with a good seal, at the location that it names, and before its own marks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) of: Identity,
    pub(crate) copy: u8,
    pub(crate) page: u32,
    pub(crate) generation: u64,
    marks: [u32; 2],
    sum: [u64; 2],
    bytes: &'a Bytes,
}

impl Statement<'_> {
    fn payload(&self) -> &[u8] {
        &self.bytes[PAYLOAD..]
    }
}

/// Reads the page at `offset`.
pub(crate) fn statement(bytes: &Bytes, offset: u64) -> Option<Statement<'_>> {
    let kind = match &bytes[..4] {
        b"GMsb" => 1,
        b"GMbt" => 2,
        b"GMit" => 3,
        _ => return None,
    };
    if crc(bytes) != u32_at(bytes, CRC) || u16_at(bytes, 4) != 2 || bytes[6] != kind || bytes[56] != 21 {
        return None;
    }
    let (blocks, metadata) = (u32_at(bytes, 44), u32_at(bytes, 48));
    if metadata == 0 || blocks <= 2 * metadata {
        return None;
    }
    let uuid = bytes[16..32].try_into().unwrap();
    let of = Identity { uuid, birth: u64_at(bytes, TRAILER), blocks, metadata, inodes: u32_at(bytes, 52) };
    let (copy, page) = (bytes[7], u32::try_from(u64_at(bytes, 8)).ok()?);
    let marks = [u32_at(bytes, TRAILER + 8), u32_at(bytes, TRAILER + 12)];
    let sum = [u64_at(bytes, TRAILER + 16), u64_at(bytes, TRAILER + 24)];
    let there = of.offset(copy, page) == offset && of.kind(page) == kind && of.covers(marks, page);
    there.then_some(Statement { of, copy, page, generation: u64_at(bytes, 32), marks, sum, bytes })
}

/// All statements of an image.
fn statements(image: &Image) -> Vec<Statement<'_>> {
    image.pages().filter_map(|(offset, page)| statement(page, offset)).collect()
}

/// The blocks that name an inode, with their file blocks.
type Places = BTreeSet<(u32, u32)>;

/// The content of a region: descriptors, and records of inodes.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    blocks: Vec<[u8; 16]>,
    /// By inode number.
    files: BTreeMap<u32, (Vec<u8>, Places)>,
}

impl Content {
    /// Reads copy A of all pages before the marks.
    fn of(image: &Image, of: Identity, marks: [u32; 2]) -> Self {
        let mut blocks = vec![[0; 16]; of.data_blocks() as usize];
        let mut files = BTreeMap::new();
        for page in of.pages(marks) {
            let Some(bytes) = image.bytes(of.offset(b'A', page)) else { continue };
            if of.kind(page) == 2 {
                let first = (page as usize - 1) * DESCRIPTORS;
                let entries = bytes[PAYLOAD..TRAILER].chunks_exact(16);
                for (block, entry) in blocks.iter_mut().skip(first).zip(entries.take(DESCRIPTORS)) {
                    block.copy_from_slice(entry);
                }
            } else {
                let first = (page - of.first_inode_page()) * INODES as u32 + 1;
                for (number, record) in (first..).zip(bytes[PAYLOAD..TRAILER].chunks_exact(INODE)) {
                    if u16_at(record, 8) != 0 && number != 1 {
                        files.insert(number, (record.to_vec(), BTreeSet::new()));
                    }
                }
            }
        }
        for (number, block) in (0..).zip(&blocks) {
            if let (1 | 2, Some((_, places))) = (block[12], files.get_mut(&u32_at(block, 0))) {
                places.insert((number, u32_at(block, 4)));
            }
        }
        Self { blocks, files }
    }
}

/// A state that the region really had.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    pub(crate) generation: u64,
    content: Content,
    /// Page, generation, and a digest of the payload.
    pages: Vec<(u32, u64, u32)>,
}

impl Truth {
    pub(crate) fn of(image: &Image, of: Identity) -> Self {
        let superblock = image.bytes(0).and_then(|bytes| statement(bytes, 0)).expect("a superblock");
        let content = Content::of(image, of, superblock.marks);
        let page = |page| {
            let offset = of.offset(b'A', page);
            let found = statement(image.bytes(offset).expect("a page"), offset).expect("a statement");
            (page, found.generation, crc32fast::hash(found.payload()))
        };
        Self { generation: superblock.generation, content, pages: of.pages(superblock.marks).map(page).collect() }
    }
}

/// The result of an `fsck`.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Whether it reported that the region is clean.
    pub(crate) clean: bool,
    /// Why it failed, did not end, or panicked.
    pub(crate) failed: Option<String>,
    /// What it reported as lost.
    pub(crate) told: String,
    /// How often the gate corrected the plan.
    pub(crate) forgot: u64,
    pub(crate) log: Vec<Event>,
}

/// The result of a case.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) violations: Vec<&'static str>,
    /// Whether nothing is missing, doubtful or reserved.
    pub(crate) full: bool,
    /// How many free blocks became reserved.
    pub(crate) reserved: u32,
    /// Whether nothing was changed and the region was not called clean, so that the user has to decide.
    pub(crate) asked: bool,
    /// Whether the gate corrected a plan.
    pub(crate) gated: bool,
}

/// The laws that a repair is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Laws {
    /// Whether it must not destroy a last witness, as in the safe class.
    pub(crate) safe: bool,
    /// Whether an earlier repair that did not end has reported what is missing.
    pub(crate) told: bool,
    /// Whether nothing may be written at all.
    pub(crate) nothing: bool,
}

pub(crate) struct Oracle {
    pub(crate) of: Identity,
    pub(crate) truths: Vec<Truth>,
    /// What a crash at any point can have left, and which states may be true then.
    pub(crate) crashes: HashMap<u64, u64>,
}

impl Oracle {
    /// A digest of the pages of the region.
    pub(crate) fn key(image: &Image) -> u64 {
        image.pages().fold(0, |key, (offset, page)| {
            let stamp = u64::from(u32_at(&page[..], CRC)) << 32 | u64::from(crc32fast::hash(&page[..]));
            mix(key ^ mix(offset ^ mix(stamp)))
        })
    }

    /// The true states, by bit, that a repair may result in.
    pub(crate) fn acceptable(&self, image: &Image, ok: u64) -> u64 {
        let seen = statements(image).into_iter().filter(|found| found.of == self.of).map(|found| found.generation);
        let Some(newest) = seen.max() else { return 0 };
        let mut at = self.truths.iter().rposition(|truth| truth.generation <= newest).unwrap_or(0) as u32;
        let lowest = ok.trailing_zeros();
        // A part of a commit that did not happen.
        if ok.count_ones() == 1 && at > lowest {
            at = lowest;
        }
        let mut may = 1 << at;
        if ok & 1 << at != 0 {
            may |= if at == lowest { ok } else { ok & ((1 << at) - 1) };
        }
        may | self.crashes.get(&Self::key(image)).copied().unwrap_or_default()
    }

    /// Whether the pages that count contradict each other, which shows that one of them has false values with a good
    /// seal: the newest pages are a whole state, but a file that is not flagged has another number of blocks than it
    /// records, or blocks name an inode that is free.
    pub(crate) fn shows_a_lie(&self, image: &Image) -> bool {
        let of = self.of;
        let all: Vec<_> = statements(image).into_iter().filter(|found| found.of == of).collect();
        let interrupted = all.iter().any(|found| found.page != 0 && is_interrupted(image, *found));
        if whole(image, of).is_none() || interrupted {
            return false;
        }
        let marks = all.iter().fold([0, 0], |marks, found| [0, 1].map(|n: usize| found.marks[n].max(marks[n])));
        // The newest pages, as copy A of another image. Copies of one page must not contradict each other.
        let mut newest = Image::default();
        for page in of.pages(marks) {
            let Some(chosen) = all.iter().filter(|found| found.page == page).max_by_key(|found| found.generation)
            else {
                return false;
            };
            let mut twins = all.iter().filter(|found| found.page == page && found.generation == chosen.generation);
            if twins.any(|twin| twin.payload() != chosen.payload()) {
                return false;
            }
            newest.set(of.offset(b'A', page), Some(Arc::new(*chosen.bytes)));
        }
        let content = Content::of(&newest, of, marks);
        let wrong = |(record, places): &(Vec<u8>, Places)| {
            u16_at(record, 8) == 1 && u64_at(record, 40) & DOUBTFUL == 0 && u64_at(record, 32) != places.len() as u64
        };
        // The root directory is left out of the files.
        let last = (marks[1] * INODES as u32).min(of.inodes);
        let nobodys = |block: &[u8; 16]| {
            let owner = u32_at(block, 0);
            matches!(block[12], 1 | 2) && (2..=last).contains(&owner) && !content.files.contains_key(&owner)
        };
        content.files.values().any(wrong) || content.blocks.iter().any(nobodys)
    }

    /// Whether all pages of an acceptable state are in the image.
    pub(crate) fn is_present(&self, image: &Image, may: u64) -> bool {
        let all = statements(image);
        let is_there = |(page, generation, digest): &(u32, u64, u32)| {
            all.iter().any(|found| {
                found.of == self.of
                    && found.page == *page
                    && found.generation == *generation
                    && crc32fast::hash(found.payload()) == *digest
            })
        };
        let mut truths = (0..).zip(&self.truths);
        truths.any(|(at, truth)| may & 1 << at != 0 && truth.pages.iter().all(is_there))
    }

    /// Judges a repair that changed `before` to `after`.
    pub(crate) fn judge(&self, before: &Image, may: u64, ok: u64, after: &Image, ended: &Ended, laws: Laws) -> Judged {
        let mut judged = Judged::default();
        match &ended.failed {
            // The gate stopped what the plan wanted. Nothing is lost by that, and nothing is repaired.
            Some(why) if why.contains("the repair was stopped before it wrote") => judged.violations.push("stopped"),
            Some(_) => judged.violations.push("failed"),
            None => {}
        }
        let written = ended.log.iter().any(|event| !matches!(event, Event::Barrier));
        if laws.nothing && written {
            judged.violations.push("written");
        }
        self.judge_stores(before, ok, ended, laws, &mut judged.violations);
        let at_a = after.bytes(0).and_then(|bytes| statement(bytes, 0));
        let region = at_a.map(|found| found.of);
        if ended.clean && !region.is_some_and(|of| is_clean(after, of)) {
            judged.violations.push("called clean");
        }
        judged.gated = ended.forgot > 0;
        judged.asked = !written && !ended.clean;
        let (Some(superblock), true) = (at_a.filter(|found| found.of == self.of), may != 0) else { return judged };
        // A region that is still damaged allocates nothing, because no command changes it. Pages that contradict each
        // other are such damage; a safe repair leaves it to the user.
        let contradicts = || self.shows_a_lie(before) && self.shows_a_lie(after);
        if !ended.clean && (!written || !is_clean(after, self.of) || contradicts()) {
            return judged;
        }
        let content = Content::of(after, self.of, superblock.marks);
        let mut best: Option<Judged> = None;
        for (_, truth) in (0..).zip(&self.truths).filter(|(at, _)| may & 1 << at != 0) {
            let one = self.judge_content(&truth.content, &content, ended, laws);
            let better = best
                .as_ref()
                .is_none_or(|best| (one.violations.len(), !one.full) < (best.violations.len(), !best.full));
            if better {
                best = Some(one);
            }
        }
        if let Some(mut best) = best {
            best.violations.splice(0..0, judged.violations);
            best.full &= ended.clean;
            best.gated = judged.gated;
            return best;
        }
        judged
    }

    /// Laws 1, 4 and 5: the fate of blocks and files.
    fn judge_content(&self, truth: &Content, found: &Content, ended: &Ended, laws: Laws) -> Judged {
        let mut judged = Judged { full: truth.blocks == found.blocks, ..Judged::default() };
        let violations = &mut judged.violations;
        for (was, is) in truth.blocks.iter().zip(&found.blocks) {
            match (was[12], is[12]) {
                (1, 0) => violations.push("freed"),
                (2 | 3, 0) => violations.push("bad freed"),
                (0, 1..) => judged.reserved += 1,
                _ => {}
            }
        }
        for (number, (record, places)) in &truth.files {
            // The directory lost+found may have got the number of a file that is lost.
            let there = found.files.get(number).filter(|(now, _)| is_home(record) || !is_home(now));
            let Some((now, at)) = there else {
                judged.full = false;
                if !laws.told && !is_told(&ended.told, self.of, *number) {
                    violations.push("untold");
                }
                continue;
            };
            let flags = u64_at(now, 40);
            judged.full &= flags & (DOUBTFUL | LOST_DATA) == 0;
            if flags & DOUBTFUL != 0 {
                continue;
            }
            let same = if flags & LOST_DATA == 0 { now == record && at == places } else { at.is_subset(places) };
            if !same {
                violations.push("silent");
            }
        }
        for (number, (record, _)) in &found.files {
            if truth.files.contains_key(number) {
                continue;
            }
            judged.full = false;
            if u64_at(record, 40) & DOUBTFUL == 0 && !is_home(record) {
                violations.push("ghost");
            }
        }
        judged
    }

    /// Laws 2 and 3: each write, in order.
    fn judge_stores(&self, before: &Image, ok: u64, ended: &Ended, laws: Laws, violations: &mut Vec<&'static str>) {
        let mut highest: BTreeMap<Identity, ([u32; 2], u32)> = BTreeMap::new();
        for found in statements(before) {
            let (marks, count) = highest.entry(found.of).or_default();
            *marks = [marks[0].max(found.marks[0]), marks[1].max(found.marks[1])];
            *count += 1;
        }
        let lowest = self.truths.get(ok.trailing_zeros() as usize).map_or(0, |truth| truth.generation);
        let crashed = self.crashes.contains_key(&Self::key(before));
        let mut now = before.clone();
        for event in &ended.log {
            let (offset, bytes) = match event {
                Event::Store(offset, bytes) => (*offset, bytes),
                Event::Zero => {
                    violations.push("outside");
                    continue;
                }
                Event::Barrier => continue,
            };
            let new = statement(bytes, offset);
            let is_place = |(of, (marks, _)): (&Identity, &([u32; 2], u32))| {
                // If statements contradict each other about the marks, no page is past them.
                let marks = if whole(before, *of).is_some() { *marks } else { of.all() };
                new.is_none_or(|new| new.of == *of)
                    && [b'A', b'B'].into_iter().any(|copy| {
                        std::iter::once(0).chain(of.pages(marks)).any(|page| of.offset(copy, page) == offset)
                    })
            };
            // Other bytes than a page are the seal of a page that is merged from both copies.
            let merging = || now.bytes(offset).is_some_and(|old| old[..CRC] == bytes[..CRC]);
            if !highest.iter().any(is_place) || new.is_none() && !merging() {
                violations.push("outside");
            }
            let old = now.bytes(offset).and_then(|old| statement(old, offset));
            if let (Some(new), Some(old), true) = (new, old, laws.safe) {
                if old.of != new.of {
                    let single = highest.get(&old.of).is_some_and(|(_, count)| *count == 1);
                    if !single || whole(&now, new.of).is_none() {
                        violations.push("foreign");
                    }
                } else if old.of == self.of && old.page != 0 && new.generation < old.generation {
                    let at = old.of.offset(b'A' + b'B' - old.copy, old.page);
                    let twin = now.bytes(at).and_then(|twin| statement(twin, at)).filter(|twin| twin.of == old.of);
                    let elsewhere = twin.is_some_and(|twin| {
                        twin.generation > old.generation
                            || twin.generation == old.generation && twin.payload() == old.payload()
                    });
                    if !elsewhere && old.generation <= lowest && !crashed && !is_interrupted(before, old) {
                        violations.push("witness");
                    }
                }
            }
            now.set(offset, Some(bytes.clone()));
        }
    }
}

/// The generation with a statement that proves all pages of a region.
fn whole(image: &Image, of: Identity) -> Option<u64> {
    let all: Vec<_> = statements(image).into_iter().filter(|found| found.of == of).collect();
    let newest = all.iter().map(|found| found.generation).max()?;
    let marks = all.iter().fold([0, 0], |marks, found| [0, 1].map(|n: usize| found.marks[n].max(marks[n])));
    let mut sum = [0_u64; 2];
    for page in of.pages(marks) {
        let generation = all.iter().filter(|found| found.page == page).map(|found| found.generation).max()?;
        let share = share(page, generation);
        sum = [0, 1].map(|n: usize| sum[n].wrapping_add(share[n]));
    }
    all.iter().any(|found| found.generation == newest && found.sum == sum).then_some(newest)
}

/// Whether a page is of a commit that was interrupted while it wrote to copy A: both superblocks are those from before
/// it, and copy B is whole.
fn is_interrupted(image: &Image, page: Statement<'_>) -> bool {
    let of = page.of;
    let at = |copy, page| {
        let offset = of.offset(copy, page);
        image.bytes(offset).and_then(|bytes| statement(bytes, offset)).filter(|found| found.of == of)
    };
    let (Some(a), Some(b)) = (at(b'A', 0), at(b'B', 0)) else { return false };
    let active = u32_at(a.payload(), 152) & 2 != 0;
    let before = a.generation == b.generation && a.payload() == b.payload() && active;
    let mut sum = [0_u64; 2];
    for page in of.pages(a.marks) {
        let Some(found) = at(b'B', page).filter(|found| found.generation <= a.generation) else { return false };
        let share = share(page, found.generation);
        sum = [0, 1].map(|n: usize| sum[n].wrapping_add(share[n]));
    }
    before && page.copy == b'A' && page.generation == a.generation + 1 && sum == a.sum
}

/// Whether a region is whole and clean, with equal copies.
fn is_clean(image: &Image, of: Identity) -> bool {
    let pair = |page| {
        let [a, b] = [b'A', b'B'].map(|copy| of.offset(copy, page));
        let a = image.bytes(a).and_then(|bytes| statement(bytes, a)).filter(|found| found.of == of)?;
        let b = image.bytes(b).and_then(|bytes| statement(bytes, b)).filter(|found| found.of == of)?;
        (a.generation == b.generation && a.payload() == b.payload()).then_some(a)
    };
    let Some(superblock) = pair(0) else { return false };
    let marked = [88, 96].map(|at| u64_at(superblock.payload(), at));
    let state = u32_at(superblock.payload(), 152);
    let mut sum = [0_u64; 2];
    for page in of.pages(superblock.marks) {
        let Some(found) = pair(page).filter(|found| found.generation <= superblock.generation) else { return false };
        let share = share(page, found.generation);
        sum = [0, 1].map(|n: usize| sum[n].wrapping_add(share[n]));
    }
    sum == superblock.sum && marked == superblock.marks.map(u64::from) && state & 3 == 1
}

/// Whether an inode is the directory for recovered files.
fn is_home(record: &[u8]) -> bool {
    u16_at(record, 8) == 2 && record[81..].starts_with(b"lost+found\0")
}

/// Whether the loss of an inode was reported: by its page, its number, or its name in lost+found.
fn is_told(told: &str, of: Identity, number: u32) -> bool {
    const PAGES: &str = "inode table pages ";
    let page = of.first_inode_page() + (number - 1) / INODES as u32;
    let listed = told.match_indices(PAGES).any(|(at, _)| {
        let text = &told[at + PAGES.len()..];
        let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, ',' | '-' | ' ')).unwrap_or(text.len());
        text[..end].split(',').any(|run| {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let number = |text: &str| text.trim().parse::<u32>().ok();
            matches!((number(first), number(last)), (Some(first), Some(last)) if (first..=last).contains(&page))
        })
    });
    listed || [format!("#{number}"), format!("inode {number}")].iter().any(|name| told.contains(name.as_str()))
}
