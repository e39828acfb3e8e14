//! The body of the fuzz target: it damages a hand-over as the input says, and reads it with everything to which it
//! leads.

use std::sync::OnceLock;

use super::{Form, Made, MadeFile, Memory, Tables, Way};
use crate::kho::{Hints, PAGE, PageStructs, Setup};
use crate::luo::{Store, scan};
use gmfs_io::ReadAt as _;

/// A body.
pub type Target = fn(&[u8]);

/// All bodies by their names, which are those of the fuzz targets.
pub const TARGETS: [(&str, Target); 2] = [("handover", exercise_handover), ("fdt", exercise_fdt)];

/// The hand-overs that are damaged: each form, frozen and in the next kernel.
fn bases() -> &'static [(Memory, Vec<u64>)] {
    static BASES: OnceLock<Vec<(Memory, Vec<u64>)>> = OnceLock::new();
    BASES.get_or_init(|| {
        let made = |form| {
            let files = vec![
                MadeFile::new(1, 3 * PAGE),
                MadeFile { way: Way::Backwards, ..MadeFile::new(2, 4 * PAGE + 5) },
                MadeFile { way: Way::Order(2), ..MadeFile::new(3, 9 * PAGE) },
            ];
            let one: Vec<MadeFile> = vec![MadeFile::new(0, 0)];
            Made::new(form, &[(b"first", files), (b"second", one), (b"", Vec::new())])
        };
        let frozen = Form::ALL.map(made);
        let later = Form::LUO.map(|form| made(form).in_next_kernel());
        let before = [Form::V71, Form::V73].map(|form| made(form).before_reboot());
        let all = frozen.into_iter().chain(later).chain(before).map(|made| made.memory);
        let marked = [4, 5].map(|levels| with_page_structs(made(Form::V73).in_next_kernel(), levels));
        all.chain(marked)
            .map(|memory| {
                let pages = memory.addresses().collect();
                (memory, pages)
            })
            .collect()
    })
}

/// The top of the page tables that [`with_page_structs`] makes.
const TABLES: u64 = 0x4000_1000;

/// A hand-over in memory with the kernel's page structures, in which all that is preserved is marked.
fn with_page_structs(made: Made, levels: u32) -> Memory {
    let (array, structs) =
        if levels == 4 { (0xFFFF_EA00_0000_0000, 0x5000_0000) } else { (0xFFD4_0000_0000_0000, 0x5020_0000) };
    let mut tables = Tables::new(made.memory, levels);
    tables.map(array, structs, 1);
    for (at, order) in &made.preserved {
        tables.mark(structs, *at, u64::from(*order));
    }
    assert_eq!(tables.top, TABLES);
    tables.memory
}

/// Damages a hand-over and reads it; see [`damaged_handover`].
pub fn exercise_handover(data: &[u8]) {
    if let Some(memory) = damaged_handover(data) {
        read(&memory);
    }
}

/// A damaged hand-over. The first byte says which one; each eight bytes more are a change: which page, which
/// number in it, and what it becomes.
pub fn damaged_handover(data: &[u8]) -> Option<Memory> {
    let (which, patches) = data.split_first()?;
    let all = bases();
    let (base, pages) = &all[usize::from(*which) % all.len()];
    let mut memory = base.clone();
    for patch in patches.as_chunks::<8>().0.iter().take(64) {
        let page = pages[usize::from(u16::from_le_bytes([patch[0], patch[1]])) % pages.len()];
        let at = page + u64::from(u16::from_le_bytes([patch[2], patch[3]])) % 512 * 8;
        let value = u64::from(u16::from_le_bytes([patch[5], patch[6]]));
        let other = pages[value as usize % pages.len()];
        let old = memory.get(at);
        match patch[4] % 8 {
            0 => memory.put(at, other),
            1 => memory.put(at, value),
            2 => memory.put(at, old ^ 1 << (patch[7] & 63)),
            3 => memory.put(at, old.wrapping_add(value.wrapping_sub(0x8000))),
            4 => memory.put(at, u64::MAX >> (patch[7] & 63)),
            5 => memory.put(at, value << (patch[7] & 63)),
            6 => memory.lose(page),
            _ => {
                let copy: Vec<u8> = memory.page(other).map_or_else(Vec::new, |page| page.to_vec());
                memory.write(page, &copy);
            }
        }
    }
    Some(memory)
}

/// Reads everything. The extents of a file must cover it without a gap.
fn read(memory: &Memory) {
    let finds = scan(memory, 0..u64::MAX, &mut |_| {}).unwrap();
    for store in Store::read_all(memory, &finds) {
        store.map.ranges(memory, |range| assert!(range.count > 0));
        let _ = store.by_order(memory);
        for (session, file) in store.files() {
            let _ = (session.origin.name(), file.handler.len());
            let Some(Ok(record)) = &file.memfd else { continue };
            let mut end = 0;
            for extent in record.extents(memory, store.own_map()).take(10_000) {
                assert!(extent.offset == end && extent.len > 0);
                end += extent.len;
                assert!(end <= record.size);
            }
            let _ = record.own_pages(memory, |_, _| {});
        }
        for control in [0, 1 << 12] {
            let hints = Hints::new("", &[(TABLES, control)]);
            let Some(structs) = PageStructs::find(memory, &hints, &store.marked_for_ever()) else { continue };
            let mut last = None;
            structs.marked(memory, memory.end().unwrap_or(0), |at, order| {
                assert!(last.is_none_or(|last| last < at) && at % (PAGE << order) == 0);
                last = Some(at);
            });
        }
        let texts = store.faults.iter().map(ToString::to_string);
        let maps = store.map.faults().iter().map(ToString::to_string);
        assert!(texts.chain(maps).all(|text| !text.is_empty()));
    }
}

/// Inputs that get past the first checks: each form undamaged, and each with one link changed.
#[must_use]
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (n, (_, pages)) in (0_u8..).zip(bases()) {
        all.push((format!("form-{n}"), vec![n]));
        for page in 0..(pages.len() as u16).min(40) {
            for (kind, name) in [(0, "link"), (2, "bit"), (6, "lost"), (7, "copy")] {
                let [low, high] = page.to_le_bytes();
                all.push((format!("form-{n}-{name}-{page}"), vec![n, low, high, 2, 0, kind, high, low, 5]));
            }
        }
    }
    all
}

/// Reads bytes as a device tree, with each reader, and all that is in it.
pub fn exercise_fdt(data: &[u8]) {
    if let Ok(tree) = crate::fdt::Fdt::parse(data) {
        walk(tree.root(), 0);
    }
    let memory: Vec<u8> = data.to_vec();
    let _ = crate::fdt::claimed_size(&memory, 0);
    if let Ok(tree) = crate::fdt::Fdt::read_front(&memory, 0) {
        walk(tree.root(), 0);
    }
    let _ = (crate::guestmemfs::tree_at(&memory, 0), Setup::in_machine_tree(&memory, 0));
    if let Ok(tree) = crate::kho::fdt::Fdt::parse(data) {
        for node in tree.nodes() {
            let _ = (node.number("fdt"), node.text("compatible"), node.is_compatible("kho-v4"));
        }
        let _ = (tree.root(), tree.top().count(), tree.child("LUO"));
    }
}

fn walk(node: crate::fdt::Node<'_>, depth: usize) {
    assert!(depth < 1000, "nesting has a bound");
    for property in node.properties() {
        let Some(name) = property.name else { continue };
        let _ = (node.property(name), node.u64(name));
    }
    node.children().for_each(|child| walk(child, depth + 1));
}

/// Device trees: one of guestmemfs, and the pages of hand-overs that are one.
#[must_use]
pub fn fdt_seeds() -> Vec<(String, Vec<u8>)> {
    let mut machine = super::trees::Maker::new(b"linux,dummy-virt\0");
    machine.property("#address-cells", &2_u32.to_be_bytes());
    machine.property("#size-cells", &2_u32.to_be_bytes());
    machine.begin(b"chosen");
    machine.property("linux,kho-fdt", &[0x10_0000_u64, 4096].map(u64::to_be_bytes).concat());
    machine.property("linux,kho-scratch", &[0x20_0000_u64, 32].map(u64::to_be_bytes).concat());
    machine.end();
    let mut all = vec![
        ("guestmemfs".to_owned(), super::guestmemfs::sample().device_tree()),
        ("machine".to_owned(), machine.finish()),
    ];
    for (n, (memory, pages)) in bases().iter().enumerate() {
        let mut memory = memory.clone();
        for page in pages {
            let Some(bytes) = memory.page(*page).filter(|bytes| bytes.starts_with(&[0xD0, 0x0D, 0xFE, 0xED])) else {
                continue;
            };
            all.push((format!("form-{n}-{page:x}"), bytes.to_vec()));
        }
    }
    all
}
