//! How much memory it takes to seal a file: the pages of the block table go through the commit one by one, so that the memory
//! does not grow with their content. This test has a program of its own, because it counts all that is allocated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::Path;

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::PmdShift;
use gmfs_image::{Locking, WritableFile};
use gmfs_volume::{CreateOptions, FormatOptions, SealOptions, Stamp, Writer, WriterOptions};
use peak_alloc::PeakAlloc;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

const GIB: u64 = 1 << 30;
const BLOCK: u64 = 2 << 20;

/// Seals a file without content that fills a region of this size, and drops the seals again. Returns the number of its blocks,
/// and what each of the two took at most.
fn seal(path: &Path, size: u64) -> (u64, [usize; 2]) {
    let mut file = WritableFile::create_new(path, size, &Locking::at_once()).unwrap();
    let geometry = Geometry::plan(size, PmdShift::M2, 64).unwrap();
    let stamp = Stamp { now: 1, writer: "test".to_owned() };
    let (uuid, label) = (uuid::Uuid::from_u128(7), String::new());
    let options = FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget: Vec::new() };
    gmfs_volume::format(&mut file, &options).unwrap();
    let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 1 };
    let (mut writer, _) = Writer::open(file, options).unwrap();
    let blocks = u64::from(geometry.data_blocks());
    let create = CreateOptions { size: blocks * BLOCK, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
    let ino = writer.create(b"/a", &create).unwrap();

    let taken = |work: &mut dyn FnMut()| {
        PEAK.reset_peak_usage();
        let before = PEAK.current_usage();
        work();
        PEAK.peak_usage().saturating_sub(before)
    };
    let options = SealOptions { zero: true, threads: 2, progress: &|_| (), go_on: &|| true };
    let sealing = taken(&mut || {
        let seals = writer.seals().files.remove(&ino).unwrap();
        let sealed = writer.seal(ino, &seals, &options).unwrap();
        assert_eq!((sealed.sealed, sealed.zero), (blocks, blocks));
    });
    let dropping = taken(&mut || {
        let seals = writer.seals().files.remove(&ino).unwrap();
        assert!(seals.is_whole());
        assert_eq!(writer.unseal(ino, &seals).unwrap(), blocks);
    });
    drop(writer);
    std::fs::remove_file(path).unwrap();
    (blocks, [sealing, dropping])
}

#[test]
fn sealing_takes_no_memory_for_the_content_of_pages() {
    let dir = tempfile::tempdir().unwrap();
    let (few, small) = seal(&dir.path().join("small"), 256 * GIB);
    let (many, large) = seal(&dir.path().join("large"), 2048 * GIB);
    let pages = many.div_ceil(250) - few / 250;
    eprintln!("{few} blocks: {small:?} bytes; {many} blocks, {pages} pages more: {large:?} bytes");
    for (small, large) in small.into_iter().zip(large) {
        // The numbers of the pages are kept, in a list that doubles; a page itself has 4096 bytes.
        let more = large.saturating_sub(small) as u64;
        assert!(more <= pages * 16, "{more} bytes more for {pages} pages more");
        assert!(large < 8 << 20, "{large}");
    }
}
