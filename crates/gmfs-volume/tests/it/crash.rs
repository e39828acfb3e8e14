//! The proof of the commit. Whatever a crash at any write of any operation keeps of the writes since the last barrier:
//! the region is in the state before or after the operation, no state counts as damage, opening it makes it whole, and
//! no file ever shows another file's memory.

use crate::support::cases;
use crate::support::crashes::Limits;
use crate::support::ops::{BLOCK, Op, fresh};
use crate::support::oracle::Tally;
use crate::support::session::Session;

/// Random operations on a small region, with a crash at every point.
#[test]
fn a_crash_leaves_the_state_before_or_after() {
    let mut total = Tally::default();
    let limits = Limits { subsets: 1 << 10, tears: 64 };
    for seed in 0..cases(24) {
        let mut session = Session::new(fresh(16 << 20, 20), seed, Some(limits));
        for step in 0..14 {
            let told = || format!("seed {seed} step {step}");
            session.random_step(4, &told);
        }
        total += session.tally;
    }
    eprintln!("small regions: {total:?}");
}

/// Operations that change several pages of both tables.
#[test]
fn a_crash_of_a_wide_commit_leaves_the_state_before_or_after() {
    let limits = Limits { subsets: 32, tears: 10 };
    let mut total = Tally::default();
    for seed in 0..cases(1) {
        let mut session = Session::new(fresh(2 << 30, 64), seed, Some(limits));
        let ops = [
            Op::Create { path: "/a", size: 100 * BLOCK, sparse: false, aligned: false },
            // This block starts at the second GiB, so a page of the table is skipped between the descriptors.
            Op::Create { path: "/c", size: 2 * BLOCK, sparse: false, aligned: true },
            Op::Remove { path: "/c", recursive: false },
            Op::Create { path: "/b", size: 600 * BLOCK, sparse: false, aligned: false },
            Op::Truncate { path: "/b", size: 300 * BLOCK + 17, sparse: false },
            Op::Create { path: "/c", size: 520 * BLOCK, sparse: false, aligned: true },
            Op::Mkdir { path: "/d", parents: false },
            Op::Rename { from: "/b", to: "/d/x", replace: false },
            // On both sides of a page that describes none of its blocks.
            Op::Seal { path: "/d/x", stop: None },
            Op::Unseal { path: "/a" },
            Op::Seal { path: "/a", stop: Some(90) },
            Op::Truncate { path: "/d/x", size: 700 * BLOCK, sparse: false },
            Op::Rename { from: "/a", to: "/d/x", replace: true },
            Op::Put { path: "/d/y", size: 9 * BLOCK + 5000, id: 900, replace: false, sparse: true, told: true },
            Op::Create { path: "/b", size: 400 * BLOCK, sparse: false, aligned: false },
            Op::Remove { path: "/d", recursive: true },
        ];
        for (step, op) in ops.iter().enumerate() {
            session.step(op, &|| format!("wide seed {seed} step {step}"));
            session.scribble();
        }
        session.reopen(&|| "wide".to_owned());
        total += session.tally;
    }
    eprintln!("wide region: {total:?}");
}
