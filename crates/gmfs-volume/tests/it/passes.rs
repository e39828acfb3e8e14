//! Bounds on how much is read: some passes must not be made for each page or each file.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gmfs_format::native::copies::Standing;
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PageNo};
use gmfs_io::{ReadAt, ReadError, Span, WriteAt, WriteError};
use gmfs_volume::Superblocks;
use gmfs_volume::sweep::Frame;

use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, create_options, fresh, open};

/// A medium that counts what is read. It may or may not know its holes.
struct Counted {
    inner: Memory,
    knows_holes: bool,
    reads: Arc<AtomicU64>,
}

impl Counted {
    fn new(inner: &Memory, knows_holes: bool) -> Self {
        Self { inner: inner.clone(), knows_holes, reads: Arc::default() }
    }

    fn reads(&self) -> u64 {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

impl ReadAt for Counted {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.inner.end()
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        if self.knows_holes { self.inner.next_data(range) } else { Ok((range.start < range.end).then_some(range)) }
    }
}

impl WriteAt for Counted {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.inner.write_at(offset, bytes)
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.inner.zero(span)
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        self.inner.barrier()
    }
}

#[test]
fn copy_b_is_found_beside_holes_and_without_knowing_of_them() {
    // Copy B ends with blocks that are not used, and a tail follows it.
    let mut image = fresh(3 << 30, 16384);
    let geometry = Superblocks::load(&image).unwrap().geometry();
    assert!(geometry.metadata_blocks() > 2);
    image.zero(Span::new(0, geometry.copy_offset(CopyId::B))).unwrap();
    for knows_holes in [true, false] {
        let source = Counted::new(&image, knows_holes);
        let found = Superblocks::load(&source).unwrap();
        assert_eq!(found.geometry(), geometry);
        assert!(found.a.good().is_none() && found.b.good().is_some());
    }
}

#[test]
fn an_empty_medium_is_not_searched_where_it_is_a_hole() {
    let image = Memory::new(64 << 30);
    let source = Counted::new(&image, true);
    assert!(Superblocks::load(&source).is_err());
    let knowing = source.reads();
    let source = Counted::new(&image, false);
    assert!(Superblocks::load(&source).is_err());
    let searching = source.reads();
    assert!(knowing < 60 && searching > 500, "{knowing} and {searching} reads");
}

#[test]
fn removing_a_directory_reads_the_table_once() {
    let mut image = fresh(1 << 30, 64);
    let mut writer = open(&mut image);
    for directory in [&b"/few"[..], b"/many"] {
        writer.mkdir(directory, false, 0o755, (0, 0)).unwrap();
    }
    for n in 0..21 {
        let directory = if n == 0 { "few" } else { "many" };
        writer.create(format!("/{directory}/{n}").as_bytes(), &create_options(BLOCK, false, false)).unwrap();
    }
    writer.close().unwrap();
    let reads = |path: &[u8]| {
        let source = Counted::new(&image, true);
        let counter = Arc::clone(&source.reads);
        let mut writer = open(source);
        let before = counter.load(Ordering::Relaxed);
        writer.remove(path, true).unwrap();
        counter.load(Ordering::Relaxed) - before
    };
    let (few, many) = (reads(b"/few"), reads(b"/many"));
    // Some pages are read for each file. A pass for each file would need four more reads for each.
    assert!(many < few + 60, "{few} reads for one file, {many} for twenty");
}

#[test]
fn a_copy_that_is_a_hole_is_not_read_and_is_told_all_the_same() {
    let blocks = 300 * 250;
    let mut image = fresh((blocks + 1000) * BLOCK, 16);
    let mut writer = open(&mut image);
    writer.create(b"/guest", &create_options(blocks * BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    let superblocks = Superblocks::load(&image).unwrap();
    let geometry = superblocks.geometry();
    // The whole copy A except the superblock and one page in the middle.
    for page in (1..=300).filter(|page| *page != 200) {
        image.zero(Span::new(geometry.page_offset(CopyId::A, PageNo(page)), PAGE_BYTES)).unwrap();
    }
    let sweep = |knows_holes| {
        let source = Counted::new(&image, knows_holes);
        let mut told = Vec::new();
        let visit = |frame: &Frame<'_>| told.push((frame.page, frame.judgement, *frame.bytes(CopyId::A)));
        gmfs_volume::sweep::sweep(&source, &superblocks, 1..301, vec![visit]);
        (told, source.reads())
    };
    let ((knowing, few), (reading, all)) = (sweep(true), sweep(false));
    assert!(knowing == reading && knowing.len() == 300);
    assert!(few + 6 <= all, "{few} and {all} reads");
    let good = knowing.iter().filter(|(_, judgement, _)| judgement.a == Standing::Good);
    assert_eq!(good.map(|(page, ..)| *page).collect::<Vec<_>>(), [PageNo(200)]);
}
