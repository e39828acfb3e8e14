//! Memory that unmodified kernels left, compared with what an independent reader found in it and the guest itself saw.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gmfs_format::fuzzing::Memory;
use gmfs_format::kho::{Hints, Map, PageStructs};
use gmfs_format::luo::{Confidence, Memfd, Moment, Origin, Session, Store, scan};
use gmfs_io::ReadAt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn fixtures() -> Option<PathBuf> {
    gmfs_testing::fixtures("luo")
}

/// A capture with its truth.
struct Capture {
    name: String,
    memory: Memory,
    truth: Value,
    stores: Vec<Store>,
}

fn number(text: &Value) -> u64 {
    text.as_u64().unwrap_or_else(|| u64::from_str_radix(text.as_str().unwrap().trim_start_matches("0x"), 16).unwrap())
}

/// The memory in an ELF core.
fn load(elf: &[u8]) -> Memory {
    let word = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap());
    let half = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let mut memory = Memory::default();
    for n in 0..half(56) {
        let at = word(32) as usize + n * half(54);
        if elf[at] == 1 {
            let (offset, address, len) = (word(at + 8) as usize, word(at + 24), word(at + 32) as usize);
            memory.write(address, &elf[offset..offset + len]);
        }
    }
    memory
}

/// Hands each capture whose name begins so to a test.
fn each(prefix: &str, mut test: impl FnMut(&Capture)) {
    let Some(dir) = fixtures() else { return };
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no capture begins with {prefix}");
    for name in names {
        let mut elf = Vec::new();
        gmfs_testing::unpack(&dir.join(format!("{name}.mini.elf.zst")), &mut elf);
        let memory = load(&elf);
        let truth = serde_json::from_slice(&std::fs::read(dir.join(format!("{name}.json"))).unwrap()).unwrap();
        let finds = scan(&memory, 0..u64::MAX, &mut |_| {}).unwrap();
        let stores = Store::read_all(&memory, &finds);
        test(&Capture { name, memory, truth, stores });
    }
}

/// What an image of a file must come to.
fn compare(capture: &Capture, found: Option<&Memfd>, truth: &Value, what: &str) {
    let name = format!("{} {what}", capture.name);
    if !truth["error"].is_null() {
        assert!(found.is_none_or(|found| found.folios(&capture.memory).any(|folio| folio.is_err())), "{name}");
        return;
    }
    let Some(found) = found else {
        // A record of zeros, whose file was taken, is no record.
        assert_eq!((number(&truth["size"]), truth["seals"].as_u64().unwrap_or(0)), (0, 0), "{name}");
        return;
    };
    assert_eq!((found.size, found.folios), (number(&truth["size"]), number(&truth["nr_folios"])), "{name}");
    assert_eq!(found.position, number(&truth["pos"]), "{name}");
    assert_eq!(found.seals.map(u64::from), truth["seals"].as_u64(), "{name}");
    if truth["pages_not_in_dump"] != 0 && truth["pages_not_in_dump"].is_u64() {
        // The other reader followed what another owner of the pages wrote; ours must not.
        assert!(found.extents(&capture.memory, None).any(|extent| extent.at.is_none()), "{name}");
        return;
    }
    let map = capture.stores.iter().find_map(|store| store.own_map().filter(|map| holds(capture, map, found)));
    let extents: Vec<_> = found.extents(&capture.memory, map).collect();
    // An extent of the truth has whole pages, and begins anew with each folio that does not adjoin.
    let wanted: Vec<(u64, u64, u64)> = truth["extents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|extent| (number(&extent[0]) * 4096, number(&extent[1]), number(&extent[2]) * 4096))
        .collect();
    let ours: Vec<(u64, u64, u64)> = extents
        .iter()
        .map(|extent| (extent.offset, extent.at.expect(&name), extent.len.next_multiple_of(4096)))
        .collect();
    assert_eq!(ours, wanted, "{name}");
    let Some(hash) = truth["sha256"].as_str() else { return };
    let mut hasher = Sha256::new();
    for extent in &extents {
        let mut bytes = vec![0; extent.len as usize];
        // Pages of zeros can be left out of a capture.
        for (n, page) in bytes.chunks_mut(4096).enumerate() {
            let _ = capture.memory.read_at(extent.at.unwrap() + n as u64 * 4096, page);
        }
        hasher.update(&bytes);
    }
    assert_eq!(format!("{:x}", hex(&hasher.finalize())), hash, "{name}");
}

fn holds(capture: &Capture, map: &Map, found: &Memfd) -> bool {
    map.order_of(&capture.memory, found.at).is_some()
}

fn hex(bytes: &[u8]) -> Hex<'_> {
    Hex(bytes)
}

struct Hex<'b>(&'b [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn files(capture: &Capture, session: &Session, truth: &Value, what: &str) {
    let wanted = truth["files"].as_array().unwrap();
    assert_eq!(session.files.len(), wanted.len(), "{} {what}", capture.name);
    for (file, truth) in session.files.iter().zip(wanted) {
        let what = format!("{what}/{}", truth["token"]);
        assert_eq!((file.token, file.data), (Some(number(&truth["token"])), number(&truth["record"])), "{what}");
        assert_eq!(&*file.handler, truth["handler"].as_str().unwrap().as_bytes());
        compare(capture, file.memfd.as_ref().and_then(|memfd| memfd.as_ref().ok()), truth, &what);
    }
}

/// Objects that files depend on.
fn flbs(store: &Store, truth: &Value, name: &str) {
    let flb = &truth["subnodes"]["LUO"]["flb"]["entries"];
    let names: Vec<&str> = flb.as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect();
    let found: Vec<&str> = store.flbs.list.iter().map(|flb| std::str::from_utf8(&flb.name).unwrap()).collect();
    assert_eq!(found, names, "{name}");
}

#[test]
fn roots_and_maps_are_those_of_the_kernel() {
    each("", |capture| {
        let wanted = capture.truth["fdts"].as_array().unwrap();
        assert_eq!(capture.stores.len(), wanted.len(), "{}", capture.name);
        for truth in wanted {
            let at = number(&truth["pa"]);
            let store = capture.stores.iter().find(|store| store.tree.at == at).unwrap();
            let name = format!("{} {at:#x}", capture.name);
            assert_eq!(store.tree.version.to_string(), truth["compatible"].as_str().unwrap(), "{name}");
            let pairs = |value: &Value| (number(&value[0]), number(&value[1]));
            let preserved: BTreeSet<(u64, u64)> =
                truth["preserved"].as_array().into_iter().flatten().map(pairs).collect();
            // Of a large map the truth has only the sums.
            let listed = truth["preserved"].is_array() || truth["preserved"].is_null();
            let own = preserved.contains(&(at, 0)) || !listed;
            assert_eq!(store.has_map(), own, "{name}");
            if own {
                let mut found = BTreeSet::new();
                let complete = store.map.ranges(&capture.memory, |range| {
                    let step = 4096 << range.order;
                    let all = (0..u64::from(range.count)).map(|n| (range.start + n * step, range.order.into()));
                    found.extend(all);
                });
                assert!(complete, "{name}");
                let by_order = store.by_order(&capture.memory).unwrap();
                for (order, pieces, bytes) in by_order {
                    assert_eq!(
                        (number(&truth["radix"]["orders"][order.to_string()]), bytes >> order >> 12),
                        (pieces, pieces)
                    );
                }
                assert!(!listed || found == preserved, "{name}");
                assert!(preserved.iter().all(|(at, order)| {
                    store.map.order_of(&capture.memory, at + (4096 << order) - 1) == Some(*order as u32)
                }));
                assert_eq!(store.map.faults(), [], "{name}");
            }
            let users: Vec<&str> = store.users.iter().map(|user| std::str::from_utf8(&user.name).unwrap()).collect();
            let wanted: BTreeSet<&str> = truth["subnodes"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(users.iter().copied().collect::<BTreeSet<_>>(), wanted, "{name}");
            for user in &store.users {
                let truth = &truth["subnodes"][std::str::from_utf8(&user.name).unwrap()];
                assert_eq!(user.at, Some(number(&truth["pa"])), "{name}");
                assert_eq!(user.fault.is_some(), !truth["error"].is_null(), "{name} {:?}", user.fault);
            }
            if let Some(regions) = truth["subnodes"]["memblock"]["value"].as_object() {
                let found: BTreeMap<&str, (u64, u64)> = store
                    .reserve_mem
                    .iter()
                    .map(|region| (std::str::from_utf8(&region.label).unwrap(), (region.start, region.size)))
                    .collect();
                let wanted: BTreeMap<&str, (u64, u64)> = regions
                    .iter()
                    .map(|(label, value)| (label.as_str(), (number(&value["start"]), number(&value["size"]))))
                    .collect();
                assert_eq!(found, wanted, "{name}");
            }
            flbs(store, truth, &name);
        }
    });
}

#[test]
fn records_that_hand_a_root_over_and_scratch_areas_are_found() {
    each("", |capture| {
        for truth in capture.truth["setup_data"].as_array().unwrap() {
            let tree = number(&truth["fdt_pa"]);
            let Some(store) = capture.stores.iter().find(|store| store.tree.at == tree) else { continue };
            assert!(store.setups.iter().any(|setup| setup.at == number(&truth["pa"])), "{}", capture.name);
            let areas: Vec<(u64, u64)> =
                truth["scratch"].as_array().unwrap().iter().map(|area| (number(&area[0]), number(&area[1]))).collect();
            if !areas.is_empty() {
                let found = store.scratch.as_ref().unwrap();
                let found: Vec<(u64, u64)> = found.areas.iter().map(|area| (area.offset, area.len)).collect();
                assert_eq!(found, areas, "{}", capture.name);
            }
        }
    });
}

#[test]
fn sessions_and_files_are_those_of_the_guest() {
    let mut compared = 0;
    each("", |capture| {
        for truth in capture.truth["fdts"].as_array().unwrap() {
            let store = capture.stores.iter().find(|store| store.tree.at == number(&truth["pa"])).unwrap();
            let Some(wanted) = truth["sessions"].as_array().filter(|wanted| !wanted.is_empty()) else { continue };
            let listed: Vec<&Session> =
                store.sessions.iter().filter(|session| session.origin == Origin::Root).collect();
            assert_eq!(listed.len(), wanted.len(), "{}", capture.name);
            for (session, truth) in listed.iter().zip(wanted) {
                let name = session.name.as_deref().unwrap();
                assert_eq!(hex_of(name), truth["name_hex"].as_str().unwrap(), "{}", capture.name);
                files(capture, session, truth, truth["name"].as_str().unwrap());
                compared += session.files.len();
            }
            if store.has_map() {
                assert_eq!((store.moment, store.confidence), (Moment::Frozen, Confidence::Complete));
            }
        }
    });
    assert!(compared == 0 || compared > 300, "{compared}");
}

fn hex_of(bytes: &[u8]) -> String {
    format!("{:x}", hex(bytes))
}

#[test]
fn what_no_link_leads_to_is_found_by_its_looks() {
    each("", |capture| {
        let truth = &capture.truth["without_luo_blob"];
        let found = |origin: Origin| {
            let all = capture.stores.iter().flat_map(|store| &store.sessions);
            all.filter(move |session| session.origin == origin)
        };
        let chains = truth["session_chains"].as_array().unwrap();
        let wanted: Vec<&Value> = chains.iter().flat_map(|chain| chain["sessions"].as_array().unwrap()).collect();
        let sessions: Vec<&Session> = found(Origin::Sessions).collect();
        assert_eq!(sessions.len(), wanted.len(), "{}", capture.name);
        for (session, truth) in sessions.iter().zip(wanted) {
            assert_eq!(session.name.as_deref(), Some(truth["name"].as_str().unwrap().as_bytes()));
            files(capture, session, truth, truth["name"].as_str().unwrap());
        }
        let chains = truth["file_chains"].as_array().unwrap();
        let lists: Vec<&Session> = found(Origin::Files).collect();
        let heads = |at: u64| chains.iter().find(|chain| number(&chain["head"]) == at);
        if chains.iter().all(|chain| chain["error"].is_null()) {
            assert_eq!(lists.len(), chains.len(), "{}", capture.name);
        }
        for session in lists {
            files(capture, session, heads(session.at).unwrap(), &format!("{:#x}", session.at));
        }
        let records = truth["memfd_records"].as_array().unwrap();
        let found: BTreeMap<u64, Memfd> = found(Origin::Records)
            .flat_map(|session| &session.files)
            .map(|file| (file.data, file.memfd.unwrap().unwrap()))
            .collect();
        let wanted: BTreeSet<u64> = records.iter().map(|record| number(&record["pa"])).collect();
        assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), wanted, "{}", capture.name);
        for truth in records {
            compare(capture, found.get(&number(&truth["pa"])), truth, "record");
        }
    });
}

/// The marks in page structures, found through the page tables alone.
#[test]
fn what_nobody_has_claimed_is_what_the_kernel_has_marked() {
    each("main-6", |capture| {
        let truth = &capture.truth["struct_pages"];
        let hints = Hints::new("", &[(number(&truth["cr3"]), number(&truth["cr4"]))]);
        let wanted: Vec<(u64, u64)> =
            truth["marked_KHOP"].as_array().unwrap().iter().map(|mark| (number(&mark[0]), number(&mark[1]))).collect();
        for store in &capture.stores {
            let found = PageStructs::find(&capture.memory, &hints, &store.marked_for_ever()).unwrap();
            assert_eq!(found.at, number(&truth["vmemmap_base"]));
            let mut marks = Vec::new();
            let complete = found.marked(&capture.memory, 0x1800_0000, |at, order| marks.push((at, order.into())));
            assert!(complete, "{}", capture.name);
            assert_eq!(marks, wanted, "{}", capture.name);
        }
        let wrong = Hints::new("", &[(0x5000, 0)]);
        assert!(PageStructs::find(&capture.memory, &wrong, &[0x41_5000]).is_none());
        assert!(PageStructs::find(&capture.memory, &hints, &[0x1000]).is_none());
    });
}
