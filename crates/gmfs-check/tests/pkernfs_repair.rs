//! Repairs of stores of the pkernfs driver: fields of a small store get values that damage can give them, one and two at a
//! time; the store is repaired, also by a repair that is stopped at each of its writes, and judged by an oracle that reads
//! the bytes by itself.
//!
//! ```sh
//! cargo test -p gmfs-check --test pkernfs_repair                        # a part
//! GMFS_PRODUCT=all cargo test --release -p gmfs-check --test pkernfs_repair
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use gmfs_check::layouts::{Action, Law, PkernfsEdit, Write, judge_pkernfs};
use gmfs_check::{Code, Decision, Outcome, Policy, Question, RepairError, Verdict, repair_pkernfs};
use gmfs_format::fuzzing::pkernfs::{DIRECTORY, FILE, Image, ROOT, Region, inode, sample};
use gmfs_format::native::units::InodeNo;
use gmfs_io::{Overlay, ReadAt, ReadError, Span, WriteAt, WriteError};

const BLOCKS: u64 = 24;
const BLOCK: u64 = 2 << 20;
const SIZE: u64 = BLOCKS * BLOCK;
const INODES: u64 = 7281;
const GHOST: u64 = 0xFFFF_FFFF_FFFF_FFF4;

fn store() -> Region {
    sample(BLOCKS)
}

/// What is written goes into memory and is remembered; after so many writes there are only errors.
struct Disk<'i> {
    below: Overlay<&'i Image>,
    writes: Vec<(u64, Vec<u8>, Vec<u8>)>,
    left: usize,
}

impl<'i> Disk<'i> {
    fn new(image: &'i Image, left: usize) -> Self {
        Self { below: Overlay::new(image), writes: Vec::new(), left }
    }
}

impl ReadAt for Disk<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.below.read_at(offset, buf)
    }
    fn end(&self) -> Option<u64> {
        self.below.end()
    }
    fn next_data(&self, range: std::ops::Range<u64>) -> Result<Option<std::ops::Range<u64>>, ReadError> {
        self.below.next_data(range)
    }
}

impl WriteAt for Disk<'_> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let span = Span::new(offset, bytes.len() as u64);
        self.left = self.left.checked_sub(1).ok_or(WriteError { span, source: std::io::Error::other("stopped") })?;
        let mut before = vec![0; bytes.len()];
        self.below.read_at(offset, &mut before).unwrap();
        self.writes.push((offset, before, bytes.to_vec()));
        self.below.write_at(offset, bytes)
    }
    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.write_at(span.offset, &vec![0; usize::try_from(span.len).unwrap()])
    }
    fn barrier(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

fn repair(disk: &mut Disk<'_>, policy: Policy) -> Result<Outcome, RepairError> {
    repair_pkernfs(disk, SIZE, policy, &mut |_: &Question<'_>| Decision::Repair, &())
}

/// What the oracle reads, by the fact sheet and by nothing else.
#[derive(Debug, Default, PartialEq, Eq)]
struct Truth {
    /// The table of each readable file or page table, and its entries in the region.
    files: BTreeMap<u64, Vec<(u64, u64)>>,
    /// Those that a walk from the root comes to, and directories by number.
    reached: BTreeSet<(u8, u64)>,
    blocks: BTreeSet<u64>,
    marked: BTreeSet<u64>,
    /// The list of free inodes: whether it ends, and leads to free inodes only.
    free_list: bool,
}

fn number<const N: usize>(source: &dyn ReadAt, at: u64) -> u64 {
    let mut bytes = [0; 8];
    source.read_at(at, &mut bytes[..N]).unwrap();
    u64::from_le_bytes(bytes)
}

fn place(ino: u64) -> u64 {
    if ino == GHOST { 0x1F_F160 } else { 0x20_0000 + (ino - 1) * 288 }
}

fn is_inode(ino: u64) -> bool {
    ino == GHOST || (2..=INODES).contains(&ino)
}

/// 2 directory, 1 file, 8 page tables, 0 nothing that can be read: the first flag that is set decides.
fn kind(flags: u64) -> u8 {
    match flags {
        flags if flags & 2 != 0 => 2,
        flags if flags & 1 != 0 => 1,
        flags if flags & 4 != 0 => 2,
        flags if flags & 24 != 0 => 8,
        _ => 0,
    }
}

fn truth(source: &dyn ReadAt) -> Truth {
    let mut truth = Truth { blocks: BTreeSet::from([0, 1]), ..Truth::default() };
    for block in 0..BLOCKS {
        if number::<1>(source, 0x10_0000 + block / 8) >> (block % 8) & 1 == 1 {
            truth.marked.insert(block);
        }
    }
    // Of the others only the first few inodes are ever used here.
    for ino in (2..=40).chain(7270..=INODES).chain([GHOST]) {
        let at = place(ino);
        let (kind, table) = (kind(number::<4>(source, at)), number::<4>(source, at + 280));
        if matches!(kind, 0 | 2) || !(2..BLOCKS).contains(&table) {
            continue;
        }
        truth.blocks.insert(table);
        let mut entries = Vec::new();
        if kind == 1 {
            let all = (0..64).map(|entry| (entry, number::<8>(source, table * BLOCK + entry * 8)));
            entries = all.filter(|(_, block)| (2..BLOCKS).contains(block)).collect();
        }
        truth.blocks.extend(entries.iter().map(|(_, block)| *block));
        truth.files.insert(table, entries);
    }
    let mut open = vec![1];
    let mut seen = BTreeSet::new();
    while let Some(directory) = open.pop() {
        let mut link = number::<8>(source, place(directory) + 16);
        while is_inode(link) && seen.insert(link) {
            let at = place(link);
            match (kind(number::<4>(source, at)), number::<4>(source, at + 280)) {
                (2, _) => {
                    truth.reached.insert((2, link));
                    open.push(link);
                }
                (1 | 8, table) if (2..BLOCKS).contains(&table) => {
                    truth.reached.insert((1, table));
                }
                _ => {}
            }
            link = number::<8>(source, at + 8);
        }
    }
    let mut link = number::<8>(source, 8);
    let mut listed = BTreeSet::new();
    truth.free_list = true;
    while link != 0 {
        if link == GHOST || !is_inode(link) || !listed.insert(link) || number::<4>(source, place(link)) != 0 {
            truth.free_list = false;
            break;
        }
        link = number::<8>(source, place(link) + 8);
    }
    truth
}

/// What is wrong with a repair that made `after` of `before` by these writes.
fn judge(before: &Truth, after: &Truth, writes: &[(u64, Vec<u8>, Vec<u8>)], whole: bool) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    for (at, old, new) in writes {
        let fixed =
            at + new.len() as u64 <= 16 || (0x10_0000..0x40_0000).contains(at) && at + new.len() as u64 <= 0x40_0000;
        let numbers = old.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
        let table = before.files.contains_key(&(at / BLOCK)) && at % 8 == 0 && new.iter().all(|byte| *byte == 0);
        if !(fixed || table && numbers.into_iter().all(|number| number >= BLOCKS)) {
            wrong.push("content of a file was written");
        }
    }
    if before.blocks.iter().any(|block| before.marked.contains(block) && !after.marked.contains(block)) {
        wrong.push("a block of a readable inode was freed");
    }
    if before.files.iter().any(|(table, entries)| after.files.get(table) != Some(entries)) {
        wrong.push("a file has lost blocks");
    }
    if !before.reached.iter().filter(|(kind, _)| *kind == 1).all(|file| after.reached.contains(file)) {
        wrong.push("a file cannot be reached any more");
    }
    if whole && !after.blocks.is_subset(&after.marked) {
        wrong.push("a block of a readable inode is free");
    }
    if whole && !after.free_list {
        wrong.push("the list of free inodes leads to others, or has no end");
    }
    wrong
}

/// A damage: where, and the bytes there.
type Damage = (u64, u64);

fn damages() -> Vec<Damage> {
    let region = store();
    let mut places = vec![0, 8, 0x10_0000, 0x12_0000, 0x1F_F160, 0x20_0000 + INODES * 288];
    for ino in (1..=8).chain([INODES]) {
        places.extend([0, 8, 16, 24, 24 + 248, 280].map(|field| place(ino) + field));
    }
    for ino in [2, 3, 5] {
        places.extend((0..3).map(|entry| region.entry(InodeNo(ino), entry)));
    }
    let values = [0, 1, 2, 3, 4, 5, 7, 9, BLOCKS, BLOCKS + 1, INODES, INODES + 1, GHOST, u64::MAX, 1 << 32 | 5];
    let with = |at: &u64| {
        let (at, old) = (*at, region.get64(*at));
        values.into_iter().chain([old ^ 1, old ^ 1 << 33]).filter(move |new| *new != old).map(move |new| (at, new))
    };
    places.iter().flat_map(with).collect()
}

/// Repairs a damaged store with one policy. Gives what is wrong.
fn case(damage: &[Damage], policy: Policy, stops: bool) -> Vec<String> {
    let mut region = store();
    damage.iter().for_each(|(at, value)| region.put64(*at, *value));
    let before = truth(&region.image);
    let mut disk = Disk::new(&region.image, usize::MAX);
    // Where neither magic nor root are left there is no store.
    let outcome = match repair(&mut disk, policy) {
        Ok(outcome) => outcome,
        Err(RepairError::Pkernfs(_)) => return Vec::new(),
        Err(error) => return vec![format!("{damage:x?} {policy:?}: {error}")],
    };
    let known = outcome.refused.iter().all(|refused| !matches!(refused.why, gmfs_check::Refusal::Forbidden { .. }));
    let magic = number::<8>(&disk, 0) == 0x0070_6B65_726E_6673;
    let mut wrong: Vec<String> = Vec::new();
    let mut add = |what: &str, text: String| wrong.push(format!("{damage:x?} {policy:?}: {what}: {text}"));
    for law in judge(&before, &truth(&disk), &disk.writes, magic) {
        add(law, format!("{:?}\n{:?}", outcome.found, outcome.applied));
    }
    if !known {
        add("the gate had to forbid something", format!("{:?}", outcome.refused));
    }
    let writes = disk.writes.len();
    // The second may free what the first did not dare to; the third has nothing to do.
    let second = repair(&mut disk, policy).unwrap();
    for law in judge(&before, &truth(&disk), &disk.writes, magic) {
        add(law, format!("second repair: {:?}", second.applied));
    }
    let third = repair(&mut disk, policy).unwrap();
    if !third.applied.is_empty() {
        add("it comes to no end", format!("{:?}", third.applied));
    }
    if policy == Policy::Lossy && third.last.verdict() == Verdict::Damaged {
        let left: BTreeSet<Code> = third.last.findings.iter().map(gmfs_check::Finding::code).collect();
        let said: BTreeSet<Code> = third.refused.iter().map(|refused| refused.code).collect();
        if !left.iter().all(|code| said.contains(code)) {
            add("what is left is not refused", format!("{left:?} {said:?}"));
        }
    }
    for stop in 0..if stops { writes } else { 0 } {
        let mut disk = Disk::new(&region.image, stop);
        let _ = repair(&mut disk, policy);
        disk.left = usize::MAX;
        repair(&mut disk, policy).unwrap();
        for law in judge(&before, &truth(&disk), &disk.writes, magic) {
            add(law, format!("stopped after {stop} writes: {:?}", disk.writes));
        }
    }
    wrong
}

#[test]
fn no_damage_makes_a_repair_lose_memory() {
    let all = std::env::var("GMFS_PRODUCT").is_ok_and(|part| part == "all");
    let single = damages();
    let mut cases: Vec<Vec<Damage>> = single.iter().map(|damage| vec![*damage]).collect();
    // Pairs, by steps that have no divisor in common with their number.
    let pairs = single.len() * single.len();
    let (step, count) = if all { (7919, 60_000) } else { (1_000_003, 120) };
    cases
        .extend((0..count).map(|n| n * step % pairs).map(|n| vec![single[n / single.len()], single[n % single.len()]]));
    let share = if all { 1 } else { 8 };
    let (next, wrong, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicUsize::new(0));
    let work = || {
        while let Some(damage) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let number = next.load(Ordering::Relaxed);
            if damage.len() == 1 && number % share != 0 {
                continue;
            }
            for policy in [Policy::Safe, Policy::Lossy] {
                wrong.lock().unwrap().extend(case(damage, policy, number % (4 * share) == 0));
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let wrong = wrong.into_inner().unwrap();
    println!("{} cases", done.into_inner());
    let first: Vec<_> = wrong.iter().take(12).cloned().collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), first.join("\n\n"));
}

/// Repairs what is made of the store. Gives the codes that are left, and the store.
fn after(policy: Policy, change: impl Fn(&mut Region)) -> (BTreeSet<Code>, Region) {
    let mut region = store();
    change(&mut region);
    let mut disk = Disk::new(&region.image, usize::MAX);
    let outcome = repair(&mut disk, policy).unwrap();
    let writes = disk.writes;
    writes.into_iter().for_each(|(at, _, new)| region.put(at, &new));
    (outcome.last.findings.iter().map(gmfs_check::Finding::code).collect(), region)
}

#[test]
fn leaks_are_freed_only_where_everything_may_be_repaired_and_nothing_else_is_wrong() {
    let leaked = BTreeSet::from([Code::GM1123]);
    let nothing = |_: &mut Region| {};
    let (left, region) = after(Policy::Safe, nothing);
    assert_eq!((left, region.get64(0x10_0000)), (leaked.clone(), store().get64(0x10_0000)));
    let (left, region) = after(Policy::Lossy, nothing);
    assert!(left.is_empty() && region.get64(0x10_0000) != store().get64(0x10_0000), "{left:?}");
    let (left, region) = after(Policy::Lossy, |region| region.put64(8, 9999));
    assert_eq!((left, region.get64(0x10_0000)), (leaked, store().get64(0x10_0000)));
}

#[test]
fn what_a_full_region_leaves_is_repaired() {
    let full = |region: &mut Region| {
        let a = InodeNo(2);
        region.truncate(a, 4);
        region.truncate(a, 4);
        let b = InodeNo(3);
        region.truncate(b, 5);
        region.create(ROOT, b"late", FILE);
    };
    let (left, _) = after(Policy::Lossy, full);
    assert!(left.is_subset(&BTreeSet::from([Code::GM1123, Code::GM1108])), "{left:?}");
}

#[test]
fn the_ghost_gets_an_inode_if_one_is_free() {
    let out_of_inodes = |region: &mut Region| {
        while region.get64(8) != 0 {
            region.create(ROOT, region.get64(8).to_string().as_bytes(), DIRECTORY);
        }
        region.create(ROOT, b"late", FILE);
    };
    let (left, _) = after(Policy::Lossy, out_of_inodes);
    assert!(left.contains(&Code::GM1002), "{left:?}");
    let (left, region) = after(Policy::Safe, |region| {
        out_of_inodes(region);
        // The last directory that was made goes, as an unlink would have it.
        let at = inode(InodeNo(7281));
        let next = region.get64(at + 8);
        region.put64(0x1F_F160 + 8, next);
        region.put(at, &[0; 288]);
        region.put64(8, 7281);
    });
    assert_eq!(left, BTreeSet::from([Code::GM1123]), "all but the leaks is repaired");
    let store = region.store();
    assert_eq!(store.path(InodeNo(7281)).as_deref(), Some(b"/late".as_slice()));
    // A second one makes the ghost lead to itself, and cuts off what was there before.
    let (left, region) = after(Policy::Safe, |region| {
        out_of_inodes(region);
        region.put64(0x1F_F160 + 8, GHOST);
        region.put(inode(InodeNo(7281)), &[0; 288]);
        region.put64(8, 7281);
    });
    assert_eq!(left, BTreeSet::from([Code::GM1123]), "all but the leaks is repaired");
    // All inodes are in use; four of them are the root, what is in its directories, and the one that went.
    assert_eq!(region.store().children(ROOT).len(), 7281 - 4 + 1);
}

#[test]
fn what_followed_a_broken_link_keeps_its_name() {
    for value in [9999, 1 << 32 | 4, u64::MAX] {
        let at = inode(ROOT) + 16;
        let (left, region) = after(Policy::Safe, |region| region.put64(at, value));
        assert_eq!(left, BTreeSet::from([Code::GM1123]), "{value:#x}");
        let names = |region: &Region| {
            let store = region.store();
            store.children(ROOT).iter().map(|ino| store.node(*ino).unwrap().name.clone()).collect::<BTreeSet<_>>()
        };
        assert_eq!(names(&region), names(&store()), "{value:#x}");
    }
}

#[test]
fn the_gate_forbids_edits_that_lose_memory() {
    let region = store();
    let file = place(2);
    let table = number::<4>(&region.image, file + 280);
    let data = number::<8>(&region.image, region.entry(InodeNo(2), 0));
    let root_child = place(1) + 16;
    assert!(table >= 2 && data >= 2 && number::<8>(&region.image, root_child) != 0);
    let judged = |writes: &[(u64, u64)]| {
        let write = |(at, after): &(u64, u64)| {
            let before = if *at < SIZE { number::<8>(&region.image, *at) } else { 0 }.to_le_bytes().to_vec();
            Write { at: *at, before, after: after.to_le_bytes().to_vec() }
        };
        let edit = PkernfsEdit { action: Action::FreeList, steps: vec![writes.iter().map(write).collect::<Vec<_>>()] };
        judge_pkernfs(&region.image, SIZE, &[&edit])
    };
    let marks = |block: u64| number::<8>(&region.image, 0x10_0000) & !(1 << block);
    let records = number::<8>(&region.image, file + 280);
    let cases: &[(&str, u64, u64, Result<(), Law>)] = &[
        ("nothing changes", 0x10_0000, number::<8>(&region.image, 0x10_0000), Ok(())),
        ("a free block is marked", 0x10_0000, number::<8>(&region.image, 0x10_0000) | 1 << (BLOCKS - 1), Ok(())),
        ("content", data * BLOCK, 1, Err("only metadata is written")),
        ("a block of a file in a table", region.entry(InodeNo(2), 0), 0, Err("only metadata is written")),
        ("the mark of a block", 0x10_0000, marks(data), Err("no block that a record leads to becomes free")),
        ("the mark of a table", 0x10_0000, marks(table), Err("no block that a record leads to becomes free")),
        ("the table of a file", file + 280, records & !0xFFFF_FFFF, Err("each file keeps its blocks")),
        ("the first entry of the root", root_child, 0, Err("what a path leads to keeps a path")),
        ("the last bytes", SIZE - 8, 1, Err("only metadata is written")),
        ("past the end", SIZE, 1, Err("only metadata is written")),
    ];
    for (what, at, after, expected) in cases {
        assert_eq!(judged(&[(*at, *after)]), *expected, "{what}");
    }
    // What is right alone is forbidden together with what is not.
    let both = [(0x10_0000, number::<8>(&region.image, 0x10_0000)), (data * BLOCK, 1)];
    assert_eq!(judged(&both), Err("only metadata is written"));
}
