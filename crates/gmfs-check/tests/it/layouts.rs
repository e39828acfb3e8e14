//! Each problem of stores that are not native: an image that has it, and nothing else.

use std::collections::BTreeSet;

use gmfs_check::layouts::{check_guestmemfs, check_handover, check_handover_in, check_pkernfs};
use gmfs_check::{Checked, Code, Severity, Subject, Unchecked, Verdict};
use gmfs_format::fuzzing::guestmemfs::{DIRECT, Memory, sample as guestmemfs};
use gmfs_format::fuzzing::pkernfs::{DIRECTORY, FILE, ROOT, Region, inode};
use gmfs_format::fuzzing::{Form, Made, MadeFile, Way};
use gmfs_format::luo::{self, Store};
use gmfs_format::native::units::InodeNo;
use gmfs_format::pkernfs::{BITMAP_OFFSET, INODE_BYTES, INODES, INODES_OFFSET};
use gmfs_io::{Absence, ReadAt, ReadError, Span};

const A: InodeNo = InodeNo(2);
const B: InodeNo = InodeNo(3);
const C: InodeNo = InodeNo(4);

fn codes(checked: &Checked) -> BTreeSet<Code> {
    checked.report.findings.iter().map(gmfs_check::Finding::code).collect()
}

/// What a check must find: a code, and companions that cannot be avoided. Gives what is wrong with what it found.
fn compare(checked: &Checked, code: Code, companions: &[Code]) -> Option<String> {
    let found = codes(checked);
    let others: Vec<_> = found.iter().filter(|other| **other != code && !companions.contains(other)).collect();
    let as_it_should = found.contains(&code) && others.is_empty();
    (!as_it_should).then(|| format!("{code}: {:?}, {:?}", checked.report.findings, checked.report.unchecked))
}

fn expect(checked: &Checked, code: Code, companions: &[Code]) {
    assert_eq!(compare(checked, code, companions), None);
    assert_eq!(checked.report.findings.len(), checked.files.len());
    let worst = checked.report.worst().unwrap();
    assert_eq!(checked.report.verdict() == Verdict::Damaged, worst > Severity::Note, "{code}");
    for finding in &checked.report.findings {
        let text = finding.to_string();
        assert!(!text.contains("4294967") && !text.ends_with(": "), "{text}");
    }
}

/// Makes each change, and compares what is found.
fn each<T>(changes: &[Change<T>], companions: &[Code], made: impl Fn(fn(&mut T)) -> Checked) {
    let checked: Vec<_> = changes.iter().map(|(code, change)| (*code, made(*change))).collect();
    let wrong: Vec<_> = checked.iter().filter_map(|(code, checked)| compare(checked, *code, companions)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    checked.iter().for_each(|(code, checked)| expect(checked, *code, companions));
}

/// Two files and a directory: their tables are blocks 2 and 5, their content is blocks 3, 4 and 6.
fn pkernfs() -> Region {
    let mut region = Region::new(16);
    region.file(ROOT, b"a", 2);
    region.file(ROOT, b"b", 1);
    region.create(ROOT, b"d", DIRECTORY);
    region
}

type Change<T> = (Code, fn(&mut T));

const PKERNFS: &[Change<Region>] = &[
    (Code::GM1001, |r| r.put64(0, 1)),
    (Code::GM1002, |r| {
        (5..=INODES).for_each(|n| {
            r.create(ROOT, n.to_string().as_bytes(), DIRECTORY);
        });
        r.create(ROOT, b"late", FILE);
    }),
    (Code::GM1003, |r| r.put(inode(A) + 200, b"x")),
    (Code::GM1004, |r| r.put32(inode(A) + 284, 1)),
    (Code::GM1005, |r| {
        r.put64(r.entry(A, 0), 0);
        r.put(BITMAP_OFFSET, &[0x77]);
    }),
    (Code::GM1006, |r| r.put(INODES_OFFSET + u64::from(INODES) * INODE_BYTES, &[1])),
    (Code::GM1007, |r| r.put32(inode(A) + 280, 16)),
    (Code::GM1101, |r| r.put(inode(ROOT) + 24, b"x")),
    (Code::GM1102, |r| r.put64(inode(A) + 8, 9999)),
    (Code::GM1103, |r| r.put64(inode(A) + 8, 3)),
    (Code::GM1104, |r| r.put64(inode(C) + 16, 2)),
    (Code::GM1105, |r| r.put64(inode(ROOT) + 16, 3)),
    (Code::GM1106, |r| {
        r.put64(8, 6);
        r.put64(inode(InodeNo(5)) + 8, 4);
        r.put64(inode(ROOT) + 16, 5);
    }),
    (Code::GM1107, |r| {
        r.put32(inode(InodeNo(5)), DIRECTORY);
        r.put(inode(InodeNo(5)) + 24, b"x");
    }),
    (Code::GM1108, |r| r.put64(8, 6)),
    (Code::GM1109, |r| r.put32(inode(C), 3)),
    (Code::GM1110, |r| r.put(inode(A) + 24, b"/")),
    (Code::GM1111, |r| r.put(inode(B) + 24, b"a")),
    (Code::GM1121, |r| {
        r.put64(r.entry(B, 0), 3);
        r.put(BITMAP_OFFSET, &[0x3f]);
    }),
    (Code::GM1122, |r| r.put(BITMAP_OFFSET, &[0x67])),
    (Code::GM1123, |r| r.put(BITMAP_OFFSET, &[0xff])),
    (Code::GM1124, |r| r.put(BITMAP_OFFSET + 2, &[3])),
    (Code::GM1125, |r| r.put(BITMAP_OFFSET + 0x2_0000, &[1])),
    (Code::GM1126, |r| {
        r.put64(r.entry(A, 1), 16);
        r.put(BITMAP_OFFSET, &[0x6f]);
    }),
];

#[test]
fn each_problem_of_pkernfs_is_found_and_nothing_else() {
    let region = pkernfs();
    let clean = check_pkernfs(&region.store(), &region.image);
    assert_eq!((clean.report.verdict(), clean.report.findings.len()), (Verdict::Clean, 0), "{:?}", clean.report);
    each(PKERNFS, &[], |change| {
        let mut region = pkernfs();
        change(&mut region);
        check_pkernfs(&region.store(), &region.image)
    });
}

#[test]
fn findings_have_paths_and_places() {
    let mut region = pkernfs();
    region.put32(inode(A) + 284, 1);
    let checked = check_pkernfs(&region.store(), &region.image);
    let finding = &checked.report.findings[0];
    assert_eq!(finding.to_string(), "inode 2: counts 1 allocated blocks, and has 2");
    assert_eq!(finding.at, Span::new(inode(A), INODE_BYTES));
    assert_eq!(checked.files[0].as_ref().unwrap().path, b"/a");
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_damaged() {
    let mut region = pkernfs();
    let table = region.entry(A, 0);
    region.image.lose(table, 1);
    let checked = check_pkernfs(&region.store(), &region.image);
    assert_eq!(checked.report.verdict(), Verdict::Unknown, "{:?}", checked.report);
    assert!(checked.report.findings.is_empty() && checked.report.count_unchecked() == 1);
    let mut memory = guestmemfs();
    memory.image.lose(memory.bitmap, 1);
    let checked = check_guestmemfs(&memory.store(), Some(memory.tree));
    assert_eq!(checked.report.verdict(), Verdict::Unknown, "{:?}", checked.report);
    let mut made = handover();
    let array = array(&made, 0, 0);
    made.memory.lose(array);
    let checked = check_made(&made);
    assert_eq!(checked.report.verdict(), Verdict::Unknown, "{:?}", checked.report);
}

/// Where some bytes of the device tree are.
fn in_tree(memory: &Memory, bytes: &[u8]) -> u64 {
    memory.tree + memory.device_tree().windows(bytes.len()).position(|found| found == bytes).unwrap() as u64
}

const GUESTMEMFS: &[Change<Memory>] = &[
    (Code::GM0901, |m| m.put(in_tree(m, &0x1000_1001_u64.to_le_bytes()), &[0])),
    (Code::GM0902, |m| m.put64(in_tree(m, &m.bitmap.to_le_bytes()) + 8, 4096)),
    (Code::GM0903, |m| m.put(in_tree(m, b"mappings_to_inode"), b"M")),
    (Code::GM0904, |m| m.put64(m.superblock + 24, m.bitmap + DIRECT + (1 << 30))),
    (Code::GM0905, |m| m.put(m.superblock + 36, &[0])),
    (Code::GM0906, |m| m.put(m.superblock + 32, &[1])),
    (Code::GM0907, |m| m.put64(m.at(C) + 280, 0x507_0000 + DIRECT)),
    (Code::GM0908, |m| m.put32(m.table + 8, 9)),
    (Code::GM0909, |m| m.put32(m.table + 12, 77)),
    (Code::GM0910, |m| m.put64(m.superblock + 8, 9)),
    (Code::GM0911, |m| m.put(m.at(InodeNo(9)) + 24, b"left")),
    (Code::GM0913, |m| {
        *m = Memory::new(8);
        let (a, b) = (m.file(b"a", 0), m.file(b"b", 0));
        m.put64(m.at(b) + 280, m.page(a) + DIRECT);
        m.serialise();
    }),
    (Code::GM0914, |m| {
        *m = Memory::new(600);
        m.file(b"f", 513);
        m.put(m.bitmap + 64, &[0]);
        m.serialise();
    }),
    (Code::GM0915, |m| m.put64(m.page(B) + 5 * 8, 9)),
    (Code::GM0916, |m| {
        *m = Memory::new(64);
        let ino = m.file(b"f", 3);
        m.truncate(ino, 1);
        m.put(m.bitmap, &[0x0e]);
        m.serialise();
    }),
    (Code::GM0917, |m| m.put(in_tree(m, b"guestmemfs-v1") + 12, b"2")),
    (Code::GM0917, |m| m.put(in_tree(m, b"kho-v1") + 5, b"9")),
    (Code::GM0918, |m| m.put64(in_tree(m, &0x1000_1001_u64.to_le_bytes()), 1 << 63 | 1)),
    (Code::GM0918, |m| m.put64(in_tree(m, &0x1000_1001_u64.to_le_bytes()) + 8, 1 << 50)),
    (Code::GM1122, |m| m.put(m.bitmap, &[0b0011_1011])),
    (Code::GM1125, |m| m.put(m.bitmap + 0x2_0000, &[1])),
    (Code::GM0907, |m| m.put64(m.at(C) + 280, 0)),
    (Code::GM0914, |m| m.put32(m.at(C) + 288, 513)),
    (Code::GM0914, |m| m.put32(m.at(C) + 288, 1 << 31)),
    (Code::GM1003, |m| m.put64(m.at(C) + 16, 9)),
    (Code::GM1101, |m| m.put64(m.at(InodeNo::ROOT) + 280, m.page(C) + DIRECT)),
];

#[test]
fn each_problem_of_guestmemfs_is_found_and_nothing_else() {
    let check = |memory: &Memory| check_guestmemfs(&memory.store(), Some(memory.tree));
    let clean = check(&guestmemfs());
    assert_eq!((clean.report.verdict(), clean.report.findings.len()), (Verdict::Clean, 0), "{:?}", clean.report);
    each(GUESTMEMFS, &[], |change| {
        let mut memory = guestmemfs();
        change(&mut memory);
        check(&memory)
    });
    // The size of the tree, where its structure is and how large it is, and its first token.
    for offset in [4, 8, 36, 64] {
        let mut memory = guestmemfs();
        memory.put(memory.tree + offset, &[0x7f; 4]);
        expect(&check_guestmemfs(&memory.without_tree(), None), Code::GM0918, &[]);
    }
    let mut memory = Memory::new(8);
    let ino = memory.file(b"a", 1);
    memory.put64(memory.at(ino) + 280, 0);
    expect(&check_guestmemfs(&memory.without_tree(), None), Code::GM0912, &[]);
}

/// Two sessions: `a` with a file of three pages and one of two folios of 4 pages, `b` with a file of two pages.
fn of_form(form: Form) -> Made {
    let folios = MadeFile { way: Way::Order(2), ..MadeFile::new(2, 8 * 4096) };
    let sessions: [(&[u8], Vec<MadeFile>); 2] =
        [(b"a", vec![MadeFile::new(1, 3 * 4096), folios]), (b"b", vec![MadeFile::new(7, 2 * 4096)])];
    Made::new(form, &sessions)
}

fn handover() -> Made {
    of_form(Form::V73)
}

/// The page with the folios of a file.
fn array(made: &Made, session: usize, file: usize) -> u64 {
    made.memory.get(chunk(made, session, file) + 8)
}

/// The chunk with the pages of the folios of a file.
fn chunk(made: &Made, session: usize, file: usize) -> u64 {
    made.memory.get(made.records[session][file] + 32)
}

/// Writes the map again, and the root that leads to it.
fn again(made: &mut Made) {
    made.write_map();
    let at = |n: usize| made.preserved[n].0;
    let (metadata, memblock, luo) = (at(1), at(3), at(4));
    made.tree(&[("memblock", memblock), ("LUO", luo), ("kexec-metadata", metadata)]);
}

/// Another chunk of the map of `kho-v1`: its order, and its entries.
fn chunk_of_map(made: &mut Made, head: u64, entry: [u64; 2]) {
    let page = made.page(false);
    let last = *made.map.last().unwrap();
    made.memory.put(last, page);
    made.memory.put(page + 8, head);
    made.memory.put(page + 16, entry[0]);
    made.memory.put(page + 24, entry[1]);
}

/// Replaces the first such bytes in a page. Gives the size that a device tree there has.
fn in_page(made: &mut Made, page: u64, from: &[u8], to: &[u8]) -> u64 {
    let mut bytes = vec![0; 4096];
    made.memory.read_at(page, &mut bytes).unwrap();
    let at = bytes.windows(from.len()).position(|found| found == from).unwrap();
    made.memory.write(page + at as u64, to);
    u32::from_be_bytes(bytes[4..8].try_into().unwrap()).into()
}

/// Replaces bytes in the root's page.
fn in_root(made: &mut Made, from: &[u8], to: &[u8]) {
    in_page(made, made.root, from, to);
}

/// Replaces bytes in the root of LUO of a hand-over in this form.
fn in_luo(made: &mut Made, form: Form, from: &[u8], to: &[u8]) {
    *made = of_form(form);
    in_page(made, made.luo, from, to);
}

/// A page that the image does not hold is not checked: it is neither damage nor proof that a later kernel has written there.
#[test]
fn pages_that_are_not_there_are_not_checked() {
    for form in [Form::V619, Form::V71, Form::V73] {
        let made = of_form(form);
        let memblock = made.preserved[3].0;
        for lost in [made.luo, made.sessions, memblock, made.map[0]] {
            let mut made = made.clone();
            made.memory.lose(lost);
            let checked = check_made(&made);
            let errors = checked.report.findings.iter().filter(|found| found.code() != Code::GM0712).count();
            assert_eq!(errors, 0, "{form:?} {lost:#x}: {:?}", checked.report);
            let page = Subject::Page(lost);
            let of_page = |lack: &&Unchecked| lack.at.offset == lost || lack.subject == page;
            let reasons: Vec<_> = checked.report.unchecked.iter().filter(of_page).map(|lack| lack.why).collect();
            assert!(!reasons.is_empty(), "{form:?} {lost:#x}: {:?}", checked.report);
            assert!(
                !reasons.iter().any(|why| why.to_string().contains("overwritten")),
                "{form:?} {lost:#x}: {:?}",
                checked.report
            );
        }
    }
}

/// What a record of the map that is not there leads to may be preserved.
#[test]
fn memory_of_which_the_map_is_not_there_is_not_called_lost() {
    for form in Form::LUO {
        let whole = of_form(form);
        for lost in whole.map.iter().skip(1) {
            let mut made = whole.clone();
            made.memory.lose(*lost);
            let checked = check_made(&made);
            let errors: Vec<_> = checked.report.findings.iter().filter(|found| found.code() != Code::GM0712).collect();
            assert!(errors.is_empty(), "{form:?} {lost:#x}: {errors:?}");
            assert_eq!(checked.report.verdict(), Verdict::Unknown, "{form:?} {lost:#x}");
        }
    }
}

fn finds(made: &Made) -> luo::Finds {
    luo::scan(&made.memory, 0..u64::MAX, &mut |_| {}).unwrap()
}

fn check_in(source: &dyn ReadAt, made: &Made) -> Checked {
    let mut store = Store::read(source, made.root).unwrap();
    store.add_setups(&made.memory, &finds(made));
    check_handover(&store, source)
}

fn check_made(made: &Made) -> Checked {
    check_in(&made.memory, made)
}

const FRAME: u64 = 3 << 52;

const HANDOVER: &[Change<Made>] = &[
    (Code::GM0701, |m| in_root(m, b"preserved-memory-map", b"P")),
    (Code::GM0702, |m| {
        *m = of_form(Form::V70);
        let map = m.map[0].to_le_bytes();
        in_root(m, &map, &[0; 8]);
    }),
    (Code::GM0703, |m| in_root(m, b"kho-v4", b"kho-v9")),
    (Code::GM0704, |m| m.memory.put(m.map[0] + 8 * 511, 0x123)),
    (Code::GM0705, |m| m.memory.put(m.map[0] + 8 * 511, m.map[1])),
    (Code::GM0706, |m| {
        *m = of_form(Form::V70);
        chunk_of_map(m, 12 | 300 << 32, [0, 0]);
    }),
    (Code::GM0707, |m| {
        *m = of_form(Form::V70);
        chunk_of_map(m, 12 | 1 << 32, [0x1000, 0x1000]);
    }),
    (Code::GM0708, |m| {
        *m = of_form(Form::V70);
        let bitmap = m.page(false);
        chunk_of_map(m, 1 << 32, [0, bitmap]);
    }),
    (Code::GM0710, |m| m.memory.write(m.preserved[1].0, &[2])),
    (Code::GM0711, |m| m.scratch(&[(m.preserved[2].0, 2 << 20)])),
    (Code::GM0712, |m| {
        m.preserved.push((0x7000_0000, 0));
        again(m);
    }),
    // The users' sizes are in the order of their nodes.
    (Code::GM0713, |m| in_root(m, &73_u64.to_le_bytes(), &74_u64.to_le_bytes())),
    (Code::GM0713, |m| {
        *m = of_form(Form::V71);
        let size = in_page(m, m.luo, &[0xd0, 0x0d, 0xfe, 0xed], &[0xd0, 0x0d, 0xfe, 0xed]);
        in_root(m, &size.to_le_bytes(), &(size + 1).to_le_bytes());
    }),
    (Code::GM0710, |m| in_root(m, b"blob-size", b"blob-sizo")),
    (Code::GM0710, |m| _ = in_page(m, m.preserved[3].0, b"reserve-mem-v1", b"reserve-mem-v9")),
    (Code::GM0710, |m| _ = in_page(m, m.preserved[3].0, b"start\0", b"stort\0")),
    (Code::GM0710, |m| _ = in_page(m, m.preserved[3].0, b"size\0", b"sizo\0")),
    // What is preserved is in memory that there can be.
    (Code::GM0707, |m| {
        m.preserved.push((1 << 57, 0));
        again(m);
    }),
    (Code::GM0707, |m| {
        *m = of_form(Form::V70);
        let bitmap = m.page(false);
        m.memory.put(bitmap, 1);
        chunk_of_map(m, 1 << 32, [1 << 53, bitmap]);
    }),
    (Code::GM0707, |m| {
        *m = of_form(Form::V70);
        let bitmap = m.page(false);
        m.memory.put(bitmap + 128, 1);
        chunk_of_map(m, 30 | 1 << 32, [0, bitmap]);
    }),
    (Code::GM0714, |m| m.scratch(&[(0x4000_0000, 0x100_0000), (0x5000_0000, 0)])),
    (Code::GM0714, |m| m.scratch(&[(0x4000_0000, 0x100_0000), (0x5000_1000, 0x20_0000)])),
    (Code::GM0714, |m| m.scratch(&[(0x4000_0123, 0x100_0000), (0x5000_0000, 0x20_0000)])),
    (Code::GM0714, |m| m.scratch(&[(0x4000_0000, 0x100_0000), (0x4080_0000, 0x100_0000)])),
    (Code::GM0714, |m| m.scratch(&[(0x4000_0000, 0x100_0000), (1 << 51, 1 << 52)])),
    (Code::GM0715, |m| {
        *m = Made::new(Form::V617, &[]);
        // One bitmap, for single pages.
        m.preserved.retain(|(_, order)| *order == 0);
        m.write_map();
        m.tree(&[]);
        let bitmap = m.memory.get(m.map[0] + 24);
        m.memory.put(bitmap + 512, 1);
        m.memory.write(0x100_0000, &[1; 4096]);
    }),
    (Code::GM0801, |m| m.memory.write(m.luo, b"luo-v9")),
    (Code::GM0801, |m| m.memory.put(m.luo + 24, 0)),
    (Code::GM0801, |m| in_luo(m, Form::V619, b"liveupdate-number", b"liveupdate-humber")),
    (Code::GM0801, |m| in_luo(m, Form::V619, b"luo-session\0", b"luo-sessiom\0")),
    (Code::GM0801, |m| in_luo(m, Form::V71, b"luo-session-v2", b"luo-session-v3")),
    (Code::GM0801, |m| in_luo(m, Form::V70, b"luo-session-header", b"luo-session-headed")),
    (Code::GM0801, |m| in_luo(m, Form::V71, b"luo-flb-v1", b"luo-flb-v2")),
    (Code::GM0801, |m| in_luo(m, Form::V71, b"luo-flb\0", b"luo-flc\0")),
    (Code::GM0801, |m| in_luo(m, Form::V70, b"luo-flb-header", b"luo-flb-headed")),
    (Code::GM0802, |m| m.memory.put(m.luo + 16, 0x123)),
    (Code::GM0803, |m| m.memory.put(m.sessions + 16 + 80 + 64, m.files[0])),
    (Code::GM0804, |m| m.memory.put(m.files[1] + 8, 64)),
    (Code::GM0805, |m| {
        let files = (0..64).map(|n| MadeFile::new(n, 4096)).collect();
        *m = Made::new(Form::V73, &[(b"a", files)]);
        m.memory.put(m.files[0] + 8, 62);
    }),
    (Code::GM0807, |m| m.memory.put(m.sessions + 16 + 72, 3)),
    (Code::GM0808, |m| m.memory.put(m.sessions + 16 + 64, 0)),
    (Code::GM0810, |m| m.memory.put(m.records[0][0], u64::MAX)),
    // An empty file has no list of folios.
    (Code::GM0810, |m| {
        *m = Made::new(Form::V73, &[(b"a", vec![MadeFile::new(1, 0), MadeFile::new(2, 4096)])]);
        m.memory.put(m.records[0][0] + 32, chunk(m, 0, 1));
    }),
    // All folios are dirty and up to date.
    (Code::GM0810, |m| m.memory.put(array(m, 0, 0) + 16, m.folios[0][0][1].0 >> 12)),
    (Code::GM0810, |m| m.memory.put(array(m, 1, 0) + 16, m.folios[1][0][1].0 >> 12 | 1 << 52)),
    (Code::GM0810, |m| m.memory.put(m.flbs, 2)),
    (Code::GM0811, |m| m.memory.put(chunk(m, 0, 0) + 8, 0)),
    (Code::GM0812, |m| m.memory.put(array(m, 0, 0) + 16, 0)),
    (Code::GM0813, |m| m.memory.put(array(m, 0, 0) + 16 + 8, 0)),
    (Code::GM0814, |m| m.memory.put(array(m, 0, 0) + 32 + 8, 3)),
    (Code::GM0815, |m| m.memory.put(m.records[0][0] + 8, 4 * 4096)),
    (Code::GM0816, |m| m.memory.write(m.sessions + 16, &[b'x'; 64])),
    (Code::GM0817, |m| m.memory.write(m.sessions + 16 + 80, b"a")),
    (Code::GM0818, |m| m.memory.put(m.files[0] + 16 + 64 + 56, 1)),
    (Code::GM0819, |m| m.memory.write(m.files[1] + 16, b"vfio-pci")),
    (Code::GM0820, |m| m.memory.put(array(m, 0, 0), 0x7000_0000 >> 12 | FRAME)),
    (Code::GM0821, |m| m.memory.put(array(m, 0, 1), ((m.folios[0][1][0].0 >> 12) + 1) | FRAME)),
    (Code::GM0822, |m| m.memory.put(array(m, 1, 0), m.folios[0][0][0].0 >> 12 | FRAME)),
    (Code::GM0823, |m| {
        let huge = MadeFile { way: Way::Order(9), ..MadeFile::new(1, 2 << 20) };
        *m = Made::new(Form::V73, &[(b"a", vec![huge])]);
        m.scratch(&[(m.folios[0][0][0].0, 2 << 20)]);
    }),
    (Code::GM0824, |m| m.memory.put(array(m, 0, 0), 1 << 41 | FRAME)),
    (Code::GM0825, |m| {
        let record = m.records[0][0];
        m.preserved.retain(|(at, _)| *at != record);
        again(m);
    }),
    (Code::GM0826, |m| m.memory.write(m.files[1] + 16, &[b'm'; 48])),
    (Code::GM0826, |m| m.memory.write(m.files[1] + 16, &[0; 48])),
    (Code::GM0827, |m| objects(m, b"pci", b"pci")),
    (Code::GM0827, |m| objects(m, b"pci", b"")),
    (Code::GM0827, |m| objects(m, &[b'p'; 48], b"pci")),
];

/// Two objects that files depend on.
fn objects(made: &mut Made, one: &[u8], other: &[u8]) {
    made.memory.put(made.flbs + 8, 2);
    made.memory.write(made.flbs + 16, one);
    made.memory.write(made.flbs + 16 + 64, other);
}

/// Before the jump into the next kernel other bytes are where its scratch areas will be listed.
#[test]
fn an_array_of_scratch_areas_that_is_not_there_is_no_damage() {
    for area in [(0, 1 << 63), (0x1234_5678, 0x9abc), (0, 0)] {
        let mut made = handover();
        made.scratch(&[area]);
        let checked = check_made(&made);
        assert_eq!((checked.report.verdict(), codes(&checked)), (Verdict::Clean, BTreeSet::new()), "{area:x?}");
        let reasons: Vec<_> = checked.report.unchecked.iter().map(|lack| lack.why.to_string()).collect();
        assert_eq!(reasons, ["a record says where, and something else is there"], "{area:x?}");
    }
}

#[test]
fn each_problem_of_a_handover_is_found_and_nothing_else() {
    for form in Form::ALL {
        let clean = check_made(&if Form::LUO.contains(&form) { of_form(form) } else { Made::new(form, &[]) });
        assert_eq!(clean.report.verdict(), Verdict::Clean, "{form:?}: {:?}", clean.report);
        // In the older forms the maker preserves a page that they do not hand over.
        let unowned = if matches!(form, Form::V71 | Form::V73) { BTreeSet::new() } else { [Code::GM0712].into() };
        assert_eq!((codes(&clean), clean.report.count_unchecked()), (unowned, 0), "{form:?}: {:?}", clean.report);
    }
    // What a damaged record no longer names has no owner any more.
    each(HANDOVER, &[Code::GM0712], |change| {
        let mut made = handover();
        change(&mut made);
        check_made(&made)
    });
}

/// Whatever memory holds: the check ends, and what it says can be shown.
#[test]
fn hostile_stores_are_checked_to_the_end() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let shown = |checked: &Checked| checked.report.findings.iter().map(|found| found.to_string().len()).sum::<usize>();
    let mut seen = BTreeSet::new();
    for _ in 0..400 {
        let mut made = of_form(Form::LUO[random(4) as usize]);
        let pages: Vec<u64> = made.memory.addresses().collect();
        for _ in 0..1 + random(4) {
            let words = if random(2) == 0 { 512 } else { 8 };
            let at = pages[random(pages.len() as u64) as usize] + 8 * random(words);
            let other = pages[random(pages.len() as u64) as usize];
            let value = [0, u64::MAX, other, other | 1, 1 << random(64), made.memory.get(at) ^ 1 << random(64)];
            made.memory.put(at, value[random(6) as usize]);
        }
        if let Ok(store) = Store::read(&made.memory, made.root) {
            let checked = check_handover(&store, &made.memory);
            shown(&checked);
            seen.extend(codes(&checked));
        }
    }
    for _ in 0..60 {
        let (mut region, mut memory) = (pkernfs(), guestmemfs());
        for _ in 0..1 + random(4) {
            let value = [0, u64::MAX, random(16), random(8000), 1 << random(64)][random(5) as usize];
            let place = [random(16), INODES_OFFSET + 8 * random(200), BITMAP_OFFSET + random(8), region.entry(A, 0)];
            region.put64(place[random(4) as usize], value);
            let place =
                [memory.superblock + 8 * random(5), memory.inodes + 8 * random(200), memory.page(A), memory.table];
            memory.put64(place[random(4) as usize], value);
        }
        let checked = check_pkernfs(&region.store(), &region.image);
        shown(&checked);
        seen.extend(codes(&checked));
        let checked = check_guestmemfs(&memory.store(), Some(memory.tree));
        shown(&checked);
        seen.extend(codes(&checked));
    }
    assert!(seen.len() > 30, "{seen:?}");
}

/// A list of folios that many records share is not followed for each of them.
#[test]
fn shared_lists_do_not_multiply_the_work() {
    let files = (0..50).map(|n| MadeFile::new(n, 4096)).collect();
    let mut made = Made::new(Form::V73, &[(b"a", files), (b"b", vec![MadeFile::new(1, 600 * 4096)])]);
    let large = made.records[1][0];
    let mut record = [0; 48];
    made.memory.read_at(large, &mut record).unwrap();
    for small in made.records[0].clone() {
        made.memory.write(small, &record);
    }
    expect(&check_made(&made), Code::GM0822, &[Code::GM0712, Code::GM0803]);
}

/// A file whose record is zero in the next kernel may have been taken.
#[test]
fn a_record_that_was_given_back_is_only_a_note() {
    let mut made = handover().in_next_kernel();
    made.memory.write(made.sessions, &[0xa5; 4096]);
    let record = made.records[1][0];
    made.memory.write(record, &[0; 4096]);
    let stores = Store::read_all(&made.memory, &finds(&made));
    let checked = check_handover(&stores[0], &made.memory);
    expect(&checked, Code::GM0809, &[]);
    assert_eq!(checked.report.verdict(), Verdict::Unknown);
}

/// Memory in which links never come to an end.
struct Endless<'m>(&'m Made, [u64; 2]);

impl ReadAt for Endless<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if offset < 1 << 40 {
            return self.0.memory.read_at(offset, buf);
        }
        if !offset.is_multiple_of(4096) || offset > 1 << 51 {
            return Err(ReadError::Absent { span: Span::new(offset, buf.len() as u64), why: Absence::NotInDump });
        }
        buf.fill(0);
        let head = [(offset + 4096).to_le_bytes(), self.1[0].to_le_bytes(), self.1[1].to_le_bytes()].concat();
        let len = buf.len().min(head.len());
        buf[..len].copy_from_slice(&head[..len]);
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        None
    }
}

#[test]
fn chains_without_an_end_are_left() {
    let made = of_form(Form::V70);
    let mut endless = made.clone();
    endless.memory.put(*made.map.last().unwrap(), 1 << 40);
    expect(&check_in(&Endless(&endless, [0, 0]), &endless), Code::GM0709, &[Code::GM0712]);
    let made = handover();
    let mut endless = made.clone();
    endless.memory.put(made.files[1], 1 << 40);
    // Blocks that are not full, with files whose handlers have no name, on pages that nobody keeps.
    let companions = [Code::GM0712, Code::GM0805, Code::GM0818, Code::GM0825, Code::GM0826];
    expect(&check_in(&Endless(&endless, [1, 0]), &endless), Code::GM0806, &companions);
}

#[test]
fn every_code_has_an_image() {
    let of = |codes: &[Code]| codes.to_vec();
    let mut made: BTreeSet<Code> = PKERNFS.iter().map(|(code, _)| *code).collect();
    made.extend(GUESTMEMFS.iter().map(|(code, _)| *code));
    made.extend(HANDOVER.iter().map(|(code, _)| *code));
    made.extend(of(&[Code::GM0709, Code::GM0806, Code::GM0809, Code::GM0912]));
    let all: BTreeSet<Code> = Code::ALL.iter().copied().filter(|code| !code.is_native()).collect();
    assert_eq!(made, all);
}

#[test]
fn folios_are_compared_with_the_memory_of_the_machine() {
    let made = handover();
    let stores = Store::read_all(&made.memory, &finds(&made));
    // The machine has all memory but one page, which is one of a file.
    let folio = stores[0].files().find_map(|(_, file)| match &file.memfd {
        Some(Ok(memfd)) => memfd.folios(&made.memory).find_map(Result::ok),
        _ => None,
    });
    let hole = Span::new(folio.unwrap().frame * 4096, 4096);
    let checked = check_handover_in(&stores[0], &made.memory, &|span| Some(!span.meets(hole)));
    // Nobody has the page then, though it is preserved.
    assert_eq!(codes(&checked), BTreeSet::from([Code::GM0712, Code::GM0824]), "{:?}", checked.report);
    let checked = check_handover_in(&stores[0], &made.memory, &|_| Some(true));
    assert!(codes(&checked).is_empty(), "{:?}", checked.report);
}
