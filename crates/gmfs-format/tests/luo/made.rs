//! Hand-overs in each form that mainline has had, made as the facts say.

use std::collections::BTreeSet;

use gmfs_format::fuzzing::{Form, Made, MadeFile, Way, content};
use gmfs_format::kho::{Bitmaps, MapFault, Tree};
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
        assert_eq!((root.number, root.flbs.is_some()), (1, form != Form::V619));
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
