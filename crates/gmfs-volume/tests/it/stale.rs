//! A region is made over an older one, also with the same UUID. Whatever the older one left past the marks, in both
//! copies and with good seals, is never taken for the new one's, and content of the old one is never shown.

use gmfs_format::native::units::CopyId;
use gmfs_io::ReadAt as _;
use gmfs_volume::{OpenError, Region, Writer, format};

use crate::support::cases;
use crate::support::crashes::{self, Limits};
use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, Op, format_options, fresh, writer_options};
use crate::support::oracle::Tally;
use crate::support::recorder::Recorder;
use crate::support::rng::Rng;
use crate::support::session::Session;
use crate::support::state::{Snapshot, health, require_whole};

/// A region that has been used up to its last table pages, with guest memory in all blocks.
fn used_up(size: u64, inodes: u32) -> Memory {
    let mut session = Session::new(fresh(size, inodes), 1, None);
    for path in ["/a", "/b"] {
        let size = size / 2 - 2 * BLOCK;
        session.step(&Op::Create { path, size, sparse: false, aligned: false }, &|| "old".to_owned());
        session.scribble_all();
    }
    session.fill_inodes();
    session.reopen(&|| "old".to_owned());
    session.image()
}

fn formatted_again(mut image: Memory, inodes: u32) -> Memory {
    let size = image.end().unwrap();
    format(&mut image, &format_options(size, inodes, 7)).unwrap();
    require_whole(&image).unwrap();
    assert_eq!(Snapshot::read(&image).unwrap().entries.len(), 1);
    image
}

#[test]
fn pages_of_an_older_region_are_never_taken() {
    let old = used_up(2 << 30, 64);
    let superblock = Region::open(&old).unwrap().superblock().clone();
    assert_eq!((superblock.raw.table_used.get(), superblock.raw.inodes_used_pages.get()), (5, 8));
    let mut session = Session::new(formatted_again(old, 64), 3, Some(Limits { subsets: 16, tears: 6 }));
    let ops = [
        Op::Mkdir { path: "/d", parents: false },
        Op::Create { path: "/d/x", size: BLOCK, sparse: false, aligned: false },
        // This block starts at the second GiB, so a page of the table is skipped, and that is an old one.
        Op::Create { path: "/c", size: 2 * BLOCK, sparse: false, aligned: true },
        Op::Remove { path: "/c", recursive: false },
        Op::Create { path: "/b", size: 600 * BLOCK, sparse: false, aligned: false },
        Op::Truncate { path: "/b", size: 900 * BLOCK, sparse: false },
        Op::Remove { path: "/b", recursive: false },
        Op::Create { path: "/a", size: 1000 * BLOCK, sparse: false, aligned: false },
    ];
    for (step, op) in ops.iter().enumerate() {
        session.step(op, &|| format!("stale step {step}"));
    }
    session.fill_inodes();
    session.reopen(&|| "stale".to_owned());
    eprintln!("over an older region: {:?}", session.tally);
}

#[test]
fn random_operations_over_older_regions() {
    let mut total = Tally::default();
    for seed in 0..cases(6) {
        let limits = Some(Limits { subsets: 1 << 8, tears: 16 });
        let mut session = Session::new(formatted_again(used_up(16 << 20, 24), 24), 1000 + seed, limits);
        for step in 0..10 {
            session.random_step(4, &|| format!("stale seed {seed} step {step}"));
        }
        total += session.tally;
    }
    eprintln!("random over older regions: {total:?}");
}

#[test]
fn a_crash_of_formatting_leaves_the_old_region_none_or_the_new_one() {
    let old = used_up(16 << 20, 24);
    for (inodes, uuid) in [(24, 7), (24, 8), (16, 7)] {
        let recorder = Recorder::new(old.clone());
        format(&mut recorder.clone(), &format_options(16 << 20, inodes, uuid)).unwrap();
        let before = Snapshot::read(&old).unwrap();
        let after = Snapshot::read(&recorder.image()).unwrap();
        let limits = Limits { subsets: 1 << 10, tears: 64 };
        let mut seen = [0; 3];
        crashes::states(&old, &recorder.take_log(), limits, &mut Rng::new(2), &mut |image, what, _| {
            // If neither region has a superblock and pages of both are left, none of them is taken for the other.
            if let Err(OpenError::NoRegion { .. } | OpenError::Contended { .. }) = Region::open(image) {
                seen[0] += 1;
                return;
            }
            let found = Snapshot::read(image).unwrap();
            assert!(found == before || found == after, "{}: {found:?}", what());
            seen[if found == before { 1 } else { 2 }] += 1;
            // A region that is only half present must not be written.
            let whole = health(image).unwrap().whole;
            assert_eq!(Writer::open(&mut image.clone(), writer_options()).is_ok(), whole, "{}", what());
        });
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }
}

#[test]
fn a_smaller_region_forgets_the_superblocks_that_it_is_told_of() {
    let mut image = used_up(32 << 20, 24);
    let lost = Region::open(&image).unwrap().geometry().copy_offset(CopyId::B);
    let mut options = format_options(16 << 20, 24, 9);
    options.forget = vec![lost];
    format(&mut image, &options).unwrap();
    assert_eq!(image.page(lost), [0; 4096]);
    assert_eq!(Snapshot::read(&image).unwrap().entries.len(), 1);
    require_whole(&image).unwrap();
}
