//! Two threads that mend long runs of pages must make the same writes in the same order as one thread, and must not
//! write past an error, wherever it is.

use gmfs_format::native::raw::{BlockRaw, BlockTablePage, PageHeader};
use gmfs_format::native::seal;
use gmfs_format::native::units::{CopyId, Generation, PAGE_SIZE, PageNo};
use gmfs_volume::{OpenError, Superblocks, mend_pages, unite_page};

use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, create_options, fresh, open};
use crate::support::recorder::{Event, Failure, Recorder};

/// How many pages of the block table are in use: more than a few batches.
const PAGES: u32 = 300;

/// A region with that many pages in use.
fn region() -> Memory {
    let blocks = u64::from(PAGES) * 250;
    let mut image = fresh((blocks + 1000) * BLOCK, 16);
    let mut writer = open(&mut image);
    writer.create(b"/guest", &create_options(blocks * BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    assert_eq!(Superblocks::load(&image).unwrap().current().used_table_pages(), 1..PAGES + 1);
    image
}

fn offset(image: &Memory, copy: CopyId, page: u32) -> u64 {
    Superblocks::load(image).unwrap().geometry().page_offset(copy, PageNo(page))
}

/// Overwrites all pages of a copy except those in `but`.
fn wiped(healthy: &Memory, copy: CopyId, but: &[u32]) -> Memory {
    let mut image = healthy.clone();
    for page in (1..=PAGES).filter(|page| !but.contains(page)) {
        image.put(offset(healthy, copy, page), &[0xEE; PAGE_SIZE]);
    }
    image
}

/// Mends all pages of a copy. Returns the result, the medium, and the offsets of all writes.
fn mend(damaged: &Memory, copy: CopyId) -> (Result<(), OpenError>, Memory, Vec<u64>) {
    let superblocks = Superblocks::load(damaged).unwrap();
    let recorder = Recorder::new(damaged.clone());
    let done = mend_pages(&mut recorder.clone(), &superblocks, PageNo(1), PAGES, copy);
    let stores = recorder.take_log().into_iter().filter_map(|event| match event {
        Event::Write { offset, .. } => Some(offset),
        Event::Zero(_) | Event::Barrier => None,
    });
    (done, recorder.image(), stores.collect())
}

#[test]
fn two_threads_store_what_one_does_in_the_same_order() {
    let healthy = region();
    for copy in CopyId::BOTH {
        let damaged = wiped(&healthy, copy, &[]);
        let (done, mended, stores) = mend(&damaged, copy);
        done.unwrap();
        assert!(mended.same(&healthy));
        assert!(stores.is_sorted() && stores.len() > 3, "{stores:?}");
        // This medium gives no second reader, so one thread does everything.
        let mut alone = damaged.clone();
        mend_pages(&mut alone, &Superblocks::load(&damaged).unwrap(), PageNo(1), PAGES, copy).unwrap();
        assert!(alone.same(&healthy));
    }
}

#[test]
fn nothing_is_written_behind_a_page_that_the_other_copy_lacks() {
    let healthy = region();
    for lacking in [1, 64, 65, 130, 200, PAGES] {
        let mut damaged = wiped(&healthy, CopyId::A, &[]);
        damaged.put(offset(&healthy, CopyId::B, lacking), &[0xDD; 8]);
        let (done, mended, _) = mend(&damaged, CopyId::A);
        assert!(matches!(done, Err(OpenError::Damaged { first, .. }) if first == PageNo(lacking)), "{done:?}");
        for page in 1..=PAGES {
            let at = offset(&healthy, CopyId::A, page);
            let expected = if (page - 1) / 64 < (lacking - 1) / 64 { &healthy } else { &damaged };
            assert_eq!(mended.page(at), expected.page(at), "page {page}, lacking {lacking}");
        }
    }
}

#[test]
fn nothing_is_written_behind_a_store_that_failed() {
    let healthy = region();
    let damaged = wiped(&healthy, CopyId::A, &[]);
    let superblocks = Superblocks::load(&damaged).unwrap();
    for stores in 0..=PAGES.div_ceil(64) {
        let recorder = Recorder::new(damaged.clone());
        recorder.fail_after(stores.into(), Failure::Once);
        let done = mend_pages(&mut recorder.clone(), &superblocks, PageNo(1), PAGES, CopyId::A);
        assert_eq!(done.is_err(), recorder.mend(), "{done:?}");
        assert_eq!(recorder.take_log().len(), stores.min(PAGES.div_ceil(64)) as usize);
        // The next call completes the work.
        mend_pages(&mut recorder.clone(), &superblocks, PageNo(1), PAGES, CopyId::A).unwrap();
        assert!(recorder.image().same(&healthy));
    }
}

/// The merge of two copies of a page was interrupted, and copy B has lost all pages around it.
#[test]
fn what_two_copies_knew_is_united_within_a_long_run_too() {
    let healthy = region();
    let superblocks = Superblocks::load(&healthy).unwrap();
    let page = 140;
    // Each copy lacks an entry that the other one has.
    let mut conflicting = healthy.clone();
    for (copy, lacking) in CopyId::BOTH.into_iter().zip([7, 9]) {
        let mut bytes = healthy.page(offset(&healthy, copy, page));
        let generation = Generation(PageHeader::of(&bytes).generation.get());
        BlockTablePage::view_mut(&mut bytes).entries[lacking] = BlockRaw::FREE;
        seal::seal(&mut bytes, &superblocks.place(copy, PageNo(page)).unwrap(), generation);
        conflicting.put(offset(&healthy, copy, page), &bytes);
    }
    let mut tried = 0;
    for stores in 0..20 {
        let recorder = Recorder::new(conflicting.clone());
        recorder.fail_after(stores, Failure::Half);
        let ended = unite_page(&mut recorder.clone(), &superblocks, PageNo(page)).is_ok();
        let damaged = wiped(&recorder.image(), CopyId::B, &[page]);
        let at = offset(&healthy, CopyId::B, page);
        let half_united = seal::check(&damaged.page(at), &superblocks.place(CopyId::B, PageNo(page)).unwrap()).is_err();
        if ended {
            break;
        }
        if half_united {
            let (done, mended, _) = mend(&damaged, CopyId::B);
            done.unwrap();
            assert!(mended.same(&healthy), "stopped behind {stores} stores");
            tried += 1;
        }
    }
    assert!(tried > 0);
}
