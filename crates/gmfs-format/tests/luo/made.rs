//! Hand-overs in each form that mainline has had, made as the facts say.

use std::collections::BTreeSet;

use gmfs_format::fuzzing::{Form, Made, MadeFile, Memory, Tables, Way, content};
use gmfs_format::kho::{Bitmaps, Hints, MapFault, PageStructs, Tree};
use gmfs_format::luo::{Confidence, Fault, File, Memfd, Moment, Origin, RootError, Session, Store, scan};
use gmfs_io::ReadAt as _;

/// Sessions of all kinds: more of them than fit into a block, more files than fit into one, each kind of folio.
fn sessions(form: Form) -> Vec<(&'static [u8], Vec<MadeFile>)> {
    let many = (0..130).filter(|n| *n < 128 || form == Form::V73).map(|n| MadeFile::new(n << 40, n * 700)).collect();
    let kinds = vec![
        MadeFile::new(0, 0),
        MadeFile { way: Way::Backwards, ..MadeFile::new(u64::MAX, 5 * 4096 + 17) },
        MadeFile { way: Way::Order(9), position: 77, ..MadeFile::new(3, (4 << 20) + 4096) },
        MadeFile { way: Way::Order(2), seals: 0x3f, ..MadeFile::new(4, 300 * 4096) },
        MadeFile::new(5, 257 * 4096),
    ];
    let mut all: Vec<(&[u8], Vec<MadeFile>)> =
        vec![(b"a/b \"c\" \xc3\xa9", kinds), (b"empty", Vec::new()), (&[b'x'; 63], many)];
    all.extend((0..60).map(|_| (&b"more"[..], vec![MadeFile::new(7, 4096)])));
    all
}

fn read(made: &Made) -> Store {
    Store::read(&made.memory, made.root).unwrap()
}

/// The content of a file, with what is lost as `None`.
fn bytes(made: &Made, record: &Memfd, store: &Store) -> Vec<Option<u8>> {
    let mut all = Vec::new();
    for extent in record.extents(&made.memory, store.own_map()) {
        assert_eq!(extent.offset, all.len() as u64);
        let mut bytes = vec![0; extent.len as usize];
        match extent.at {
            Some(at) => made.memory.read_at(at, &mut bytes).unwrap(),
            None => {
                all.extend(bytes.iter().map(|_| None));
                continue;
            }
        }
        all.extend(bytes.into_iter().map(Some));
    }
    assert_eq!(all.len() as u64, record.size);
    all
}

fn record(file: &File) -> &Memfd {
    file.memfd.as_ref().unwrap().as_ref().unwrap()
}

fn compare(made: &Made, found: &[Session], wanted: &[(&[u8], Vec<MadeFile>)], store: &Store, form: Form) {
    assert_eq!(found.len(), wanted.len());
    for (session, (name, files)) in found.iter().zip(wanted) {
        assert_eq!((session.name.as_deref(), &session.faults), (Some(*name), &Vec::new()));
        assert_eq!(session.files.len(), files.len());
        for (file, wanted) in session.files.iter().zip(files) {
            let record = record(file);
            assert_eq!((file.token, record.size, record.position), (Some(wanted.token), wanted.size, wanted.position));
            let seals = matches!(form, Form::V71 | Form::V73).then_some(wanted.seals);
            assert_eq!(record.seals, seals);
            let bytes = bytes(made, record, store);
            for (n, page) in bytes.chunks(4096).enumerate() {
                let content = content(wanted.token, n as u64);
                let same = page.iter().zip(content).all(|(found, wanted)| *found == Some(wanted));
                assert!(
                    same,
                    "{form:?} {wanted:?} page {n}: {:?}",
                    record.extents(&made.memory, store.own_map()).collect::<Vec<_>>()
                );
            }
        }
    }
}

#[test]
fn each_form_is_read_whole_when_it_is_frozen() {
    for form in Form::LUO {
        let wanted = sessions(form);
        let made = Made::new(form, &wanted);
        let store = read(&made);
        assert_eq!((store.moment, store.confidence), (Moment::Frozen, Confidence::Complete), "{form:?}");
        assert!(store.has_map() && store.map.faults().is_empty() && store.faults.is_empty());
        let mut found = BTreeSet::new();
        store.map.ranges(&made.memory, |range| {
            found.extend((0..u64::from(range.count)).map(|n| (range.start + n * (4096 << range.order), range.order)));
        });
        assert_eq!(found, made.preserved.iter().copied().collect(), "{form:?}");
        compare(&made, &store.sessions, &wanted, &store, form);
        assert_eq!(store.reserve_mem.len(), 1);
        let root = store.luo.as_ref().unwrap().as_ref().unwrap();
        assert_eq!((root.number, root.flbs.is_ok()), (Some(1), form != Form::V619));
        assert_eq!(store.metadata.is_some(), matches!(form, Form::V71 | Form::V73));
    }
}

#[test]
fn kernels_without_luo_leave_a_map_with_bitmaps_of_two_sizes() {
    for (form, bitmaps) in [(Form::V617, Bitmaps::Small), (Form::V618, Bitmaps::Page)] {
        let mut made = Made::new(form, &[]);
        // Enough that one bitmap of 512 bytes does not do: 16 MiB are 4096 pages.
        let far: Vec<u64> = [0x300_0000, 0x300_1000, 0x7ff_f000, 0x800_0000].into();
        made.preserved.extend(far.iter().map(|at| (*at, 0)));
        far.iter().for_each(|at| made.memory.write(*at, &[1; 4096]));
        made.write_map();
        let memblock = made.preserved[3].0;
        made.tree(&[("memblock", memblock)]);
        let store = read(&made);
        assert_eq!((store.map.bitmaps(), store.has_map()), (bitmaps, true), "{form:?}");
        assert!(far.iter().all(|at| store.map.order_of(&made.memory, *at) == Some(0)));
        assert!(store.map.order_of(&made.memory, 0x300_2000).is_none());
        assert!(store.luo.is_none() && store.reserve_mem.len() == 1 && store.sessions.is_empty());
    }
}

/// A map of 6.16 whose only bitmap is at the start of a page, with another owner's bytes after it.
#[test]
fn bytes_after_a_small_bitmap_are_no_part_of_it() {
    let after = |bytes: &[(u64, u64)], form: Form| {
        let mut made = Made::new(form, &[]);
        // One bitmap, for single pages.
        made.preserved = vec![(made.root, 0)];
        made.write_map();
        made.tree(&[]);
        let bitmap = made.memory.get(made.map[0] + 24);
        assert_eq!(bitmap % 4096, 0);
        bytes.iter().for_each(|(offset, value)| made.memory.put(bitmap + offset, *value));
        made
    };
    let form = |made: &Made| {
        let store = read(made);
        assert!(store.has_map());
        (store.map.bitmaps(), store.map.is_certain())
    };
    // Nothing follows: both forms say the same.
    assert_eq!(form(&after(&[], Form::V617)), (Bitmaps::Page, true));
    // Memory that the image has at no address of a larger bitmap.
    let mut made = after(&[(512, 1)], Form::V617);
    assert_eq!(form(&made), (Bitmaps::Small, false));
    // Memory that it has: nothing tells.
    made.memory.write(0x100_0000, &[1; 4096]);
    assert_eq!(form(&made), (Bitmaps::Page, false));
    let mut store = read(&made);
    assert_eq!(store.map.order_of(&made.memory, 0x100_0000), Some(0));
    store.written_by("6.17.8-1-amd64");
    assert_eq!((store.map.bitmaps(), store.map.is_certain()), (Bitmaps::Small, true));
    assert_eq!(store.map.order_of(&made.memory, 0x100_0000), None);
    let mut store = read(&made);
    store.written_by("6.18.0");
    assert_eq!((store.map.bitmaps(), store.map.is_certain()), (Bitmaps::Page, true));
    // What is handed over is there: only a large bitmap preserves it.
    let mut made = after(&[(512, 1)], Form::V618);
    made.memory.write(0x100_0000, &[1; 4096]);
    made.tree(&[("other", 0x100_0000)]);
    assert_eq!(form(&made), (Bitmaps::Page, true));
    // The map preserves a page of its own: no map does.
    let own = |made: &Made| (made.map[0] / 4096, made.map[0]);
    let mut made = after(&[], Form::V617);
    let chunk = 0x300_0000_u64;
    let mut bytes = [0; 4096];
    made.memory.read_at(own(&made).1, &mut bytes).unwrap();
    made.memory.write(chunk, &bytes);
    made.map = vec![chunk];
    made.tree(&[]);
    let bit = chunk / 4096;
    made.memory.put(made.memory.get(chunk + 24) + bit / 64 * 8, 1 << (bit % 64));
    assert_eq!(form(&made), (Bitmaps::Small, true));
}

#[test]
fn before_the_reboot_system_call_records_are_found_and_names_are_not() {
    for form in [Form::V71, Form::V73] {
        let wanted = sessions(form);
        let made = Made::new(form, &wanted).before_reboot();
        let store = read(&made);
        assert_eq!((store.moment, store.named(), store.sessions.len()), (Moment::Running, 0, 1));
        let found: BTreeSet<u64> = store.sessions[0].files.iter().map(|file| file.data).collect();
        assert_eq!(found, made.records.concat().into_iter().collect(), "{form:?}");
    }
    // Until 7.0 the map is written by the reboot system call, or by hand.
    let mut made = Made::new(Form::V70, &sessions(Form::V70)).before_reboot();
    made.map.clear();
    let users = [("LUO", made.luo)];
    made.tree(&users);
    let store = read(&made);
    assert_eq!((store.moment, store.map.faults()), (Moment::Running, &[MapFault::NotWritten][..]));
    assert!(store.sessions.is_empty());
}

#[test]
fn in_the_next_kernel_sessions_are_found_by_links_or_by_their_looks() {
    for form in Form::LUO {
        let wanted = sessions(form);
        let made = Made::new(form, &wanted).in_next_kernel();
        let finds = scan(&made.memory, 0..u64::MAX, &mut |_| {}).unwrap();
        assert_eq!(finds.trees, [made.root], "{form:?}");
        let stores = Store::read_all(&made.memory, &finds);
        let store = &stores[0];
        assert_eq!((store.moment, store.confidence, store.has_map()), (Moment::Later, Confidence::Scan, false));
        let origin = if form == Form::V73 { Origin::Sessions } else { Origin::Root };
        assert!(store.sessions.iter().all(|session| session.origin == origin), "{form:?}");
        compare(&made, &store.sessions, &wanted, store, form);
        assert_eq!(store.scratch.as_ref().unwrap().areas.len(), 2);
    }
}

#[test]
fn more_than_one_chunk_of_pages_is_read_and_an_empty_last_one_is_no_fault() {
    // 511 pages of folios fill a chunk.
    for pages in [511 * 256, 511 * 256 + 1] {
        let file = MadeFile::new(1, pages * 4096);
        let made = Made::new(Form::V73, &[(b"big", vec![file])]);
        let store = read(&made);
        let record = record(&store.sessions[0].files[0]);
        let extents: Vec<_> = record.extents(&made.memory, store.own_map()).collect();
        assert_eq!((extents.len(), extents[0].len), (1, pages * 4096));
        let (mut lists, mut own) = (0, 0);
        let whole = record.own_pages(&made.memory, |part, at| {
            lists += usize::from(part == gmfs_format::luo::Part::List);
            own += 1;
            assert!(store.map.order_of(&made.memory, at) == Some(0));
        });
        assert_eq!((whole, lists, own), (Ok(()), 2, 1 + 2 + pages.div_ceil(256)));
    }
}

#[test]
fn a_missing_or_wrong_folio_loses_its_part_and_no_more() {
    let file = MadeFile { way: Way::Backwards, ..MadeFile::new(1, 8 * 4096) };
    let made = Made::new(Form::V73, &[(b"s", vec![file])]);
    let array = made.memory.get(made.memory.get(made.records[0][0] + 32) + 8);
    let lost = |change: &dyn Fn(&mut Made)| {
        let mut made = made.clone();
        change(&mut made);
        let store = read(&made);
        let record = *record(&store.sessions[0].files[0]);
        let bytes = bytes(&made, &record, &store);
        let lost: Vec<usize> = (0..8).filter(|n| bytes[n * 4096].is_none()).collect();
        let known = (0..8).filter(|n| !lost.contains(n));
        known.for_each(|n| assert_eq!(bytes[n * 4096], Some(content(1, n as u64)[0])));
        (lost, record.folios(&made.memory).find_map(Result::err))
    };
    assert_eq!(lost(&|_| {}), (vec![], None));
    assert_eq!(lost(&|made| made.memory.put(array + 3 * 16, 3 << 52)), (vec![3], None));
    let at = made.records[0][0];
    let (gone, fault) = lost(&|made| made.memory.put(array + 4 * 16 + 8, 2));
    assert_eq!((gone, fault), (vec![4, 5, 6, 7], Some(Fault::BadIndex { at, number: 4, index: 2 })));
    let (gone, fault) = lost(&|made| made.memory.put(array + 7 * 16 + 8, 9));
    assert_eq!((gone, fault), (vec![7], Some(Fault::PastEnd { at, number: 7, index: 9 })));
}

#[test]
fn links_that_lead_back_are_faults_and_not_followed() {
    let wanted = sessions(Form::V73);
    let mut made = Made::new(Form::V73, &wanted);
    let second = made.memory.get(made.sessions);
    made.memory.put(second, made.sessions);
    let store = read(&made);
    assert!(store.faults.contains(&Fault::Twice { holder: second, at: made.sessions }), "{:?}", store.faults);
    assert_eq!(store.sessions.len(), wanted.len());
    // Two sessions that name one list: the second one has no files.
    let mut made = Made::new(Form::V73, &wanted);
    let first = made.memory.get(made.sessions + 16 + 64);
    made.memory.put(made.sessions + 16 + 2 * 80 + 64, first);
    let store = read(&made);
    assert_eq!(store.sessions[2].faults, [Fault::Twice { holder: 0, at: first }]);
    assert!(store.sessions[2].files.is_empty());
}

#[test]
fn roots_of_other_versions_are_named_and_not_read() {
    let mut made = Made::new(Form::V73, &sessions(Form::V73));
    made.memory.write(made.luo, b"luo-v6\0\0");
    let store = read(&made);
    assert!(matches!(&store.luo, Some(Err(RootError::Version { version })) if version == "luo-v6"));
    made.memory.write(made.luo, b"luo-v5\0\0");
    // A tree of the posted series has the string of the first release, and no map.
    let mut tree = vec![0; 4096];
    made.memory.read_at(made.root, &mut tree).unwrap();
    let at = tree.windows(7).position(|text| text == b"kho-v4\0").unwrap();
    made.memory.write(made.root + at as u64, b"kho-v9");
    let store = read(&made);
    assert_eq!(
        (store.tree.version.to_string(), store.map.faults()),
        ("kho-v9".to_owned(), &[MapFault::UnknownForm][..])
    );
    made.memory.write(made.root + at as u64, b"xho-v4");
    assert!(Tree::read(&made.memory, made.root).is_err());
}

#[test]
fn an_unknown_handler_is_shown_with_what_it_left() {
    let mut made = Made::new(Form::V73, &[(b"s", vec![MadeFile::new(9, 4096)])]);
    made.memory.write(made.files[0] + 16, b"vfio-pci-v1\0");
    let store = read(&made);
    let file = &store.sessions[0].files[0];
    assert_eq!((&*file.handler, file.token, file.data), (&b"vfio-pci-v1"[..], Some(9), made.records[0][0]));
    assert!(file.memfd.is_none());
}

#[test]
fn marks_are_found_through_tables_of_four_and_of_five_levels() {
    // The array of a kernel without and with KASLR, in large pages and in small ones.
    for (levels, array, level) in [
        (4, 0xffff_ea00_0000_0000, 1),
        (4, 0xffff_f3c0_4000_0000, 0),
        (5, 0xffd4_0000_0000_0000, 1),
        (5, 0xff8a_bc1f_c000_0000, 0),
    ] {
        let mut tables = Tables::new(Memory::default(), levels);
        let structs = 0x5000_0000;
        for n in 0..3_u64 << if level == 0 { 9 } else { 0 } {
            let bytes = 4096 << (9 * level);
            tables.map(array + n * bytes, structs + n * bytes, level);
        }
        let marks = [(0x10_0000, 0), (0x20_0000, 9), (0x1234_5000, 0)];
        // All page structures are there: of 384 MiB.
        (0..6 << 20).step_by(4096).for_each(|at| tables.memory.write(structs + at, &[0; 4096]));
        marks.iter().for_each(|(at, order)| tables.mark(structs, *at, *order));
        // An order that the address cannot have, and another kind of mark.
        tables.mark(structs, 0x30_1000, 3);
        tables.memory.put(structs + 0x40_0000 / 4096 * 64 + 40, 0x4b48_4f51 << 32);
        let control = if levels == 5 { 0x1000 } else { 0 };
        let found = |registers: u64, known: &[u64]| {
            PageStructs::find(&tables.memory, &Hints::new("", &[(registers, control)]), known)
        };
        // In user space the register leads to the page after the kernel's table, if these are apart.
        let place = found(tables.top, &[0x10_0000]).unwrap();
        assert_eq!(place.at, array, "{levels} {array:#x}");
        let mut seen = Vec::new();
        assert!(place.marked(&tables.memory, 0x1800_0000, |at, order| seen.push((at, u64::from(order)))));
        assert_eq!(seen, marks);
        assert_eq!((found(tables.top, &[0x11_0000]), found(0x7000, &[0x10_0000])), (None, None));
        // A page structure that the image lacks.
        tables.memory.lose(structs);
        assert!(!place.marked(&tables.memory, 0x1800_0000, |_, _| {}));
        assert!(!place.has(&tables.memory, 0) && place.has(&tables.memory, 0x1234_5000));
    }
}

#[test]
fn vmcoreinfo_leads_to_the_page_structures_where_nothing_is_marked() {
    let mut tables = Tables::new(Memory::default(), 4);
    let (array, structs, sections) = (0xffff_ea00_0000_0000_u64, 0x5000_0000, 0xffff_8880_1000_0000_u64);
    tables.map(array, structs, 1);
    (0..2 << 20).step_by(4096).for_each(|at| tables.memory.write(structs + at, &[0; 4096]));
    // Two lists of sections, the first of which is not there.
    let (lists, list) = (tables.page(), tables.page());
    tables.map(sections, lists, 0);
    tables.map(sections + 4096, list, 0);
    tables.memory.put(lists + 8, sections + 4096);
    tables.memory.put(list, 0);
    tables.memory.put(list + 32, array | 0xf);
    let text = format!(
        "OSRELEASE=7.3.4\nSIZE(page)=64\nOFFSET(page.private)=40\nSYMBOL(init_top_pgt)={:x}\nNUMBER(phys_base)=-4096\n\
         NUMBER(pgtable_l5_enabled)=0\nSYMBOL(mem_section)={sections:x}\nLENGTH(mem_section)=2048\nSIZE(mem_section)=32\n\
         OFFSET(mem_section.section_mem_map)=0\n",
        0xffff_ffff_8000_0000 + tables.top + 4096
    );
    let found = PageStructs::find(&tables.memory, &Hints::new(&text, &[]), &[]).unwrap();
    assert_eq!(found.at, array);
    assert!(found.marked(&tables.memory, 0x800_0000, |at, _| panic!("nothing is marked, and {at:#x} is")));
    for without in ["SYMBOL(mem_section)", "NUMBER(phys_base)"] {
        let text: String =
            text.lines().filter(|line| !line.starts_with(without)).map(|line| format!("{line}\n")).collect();
        assert_eq!(PageStructs::find(&tables.memory, &Hints::new(&text, &[]), &[]), None, "{without}");
    }
    assert!(Hints::new("", &[]).is_empty() && !Hints::new(&text, &[]).is_empty());
}

/// Tables that map everything to themselves are walked to an end.
#[test]
fn tables_that_lead_in_circles_end() {
    for levels in [4, 5] {
        let mut tables = Tables::new(Memory::default(), levels);
        let top = tables.top;
        (0..512).for_each(|n| tables.memory.put(top + 8 * n, top | 0x63));
        let hints = Hints::new("", &[(top, if levels == 5 { 0x1000 } else { 0 })]);
        assert_eq!(PageStructs::find(&tables.memory, &hints, &[0x10_0000]), None);
        let mut other = Tables::new(Memory::default(), levels);
        other.map(0xffff_ea00_0000_0000, 0x5000_0000, 1);
        other.memory.write(0x5000_0000, &[0; 4096]);
        other.mark(0x5000_0000, 0x1000, 0);
        let hints = Hints::new("", &[(other.top, if levels == 5 { 0x1000 } else { 0 })]);
        let found = PageStructs::find(&other.memory, &hints, &[0x1000]).unwrap();
        let (end, memory) = (other.next, &mut other.memory);
        (0x4000_1000..=end)
            .step_by(4096)
            .for_each(|table| (0..512).for_each(|n| memory.put(table + 8 * n, 0x4000_1000 | 0x63)));
        let mut marks = 0;
        let _ = found.marked(memory, u64::MAX, |_, _| marks += 1);
        assert_eq!(marks, 0);
    }
}

/// What shares its list with another record only looks like one.
#[test]
fn records_that_share_a_list_are_found_once() {
    let files: Vec<MadeFile> = (0..40).map(|n| MadeFile::new(n, 4096)).collect();
    let mut made = Made::new(Form::V73, &[(b"a", files), (b"b", vec![MadeFile::new(1, 600 * 4096)])]).before_reboot();
    let large = made.records[1][0];
    let mut bytes = [0; 48];
    made.memory.read_at(large, &mut bytes).unwrap();
    for small in &made.records[0][..30] {
        made.memory.write(*small, &bytes);
    }
    let store = read(&made);
    let sizes: Vec<u64> = store.files().map(|(_, file)| record(file).size).collect();
    assert_eq!(sizes.iter().filter(|size| **size == 600 * 4096).count(), 1);
    assert_eq!(sizes.len(), 11);
}
