//! Long random sequences of operations without crashes, compared with a simple model of paths and contents. At each
//! point the region and the writer's memory must agree with the model, and no block may belong to two files.

use crate::support::cases;
use crate::support::ops::{BLOCK, Op, fresh};
use crate::support::session::Session;

#[test]
fn a_region_holds_what_was_put_into_it() {
    let mut operations = 0;
    for seed in 0..cases(24) {
        let mut session = Session::new(fresh(64 << 20, 24), 5000 + seed, None);
        for step in 0..60 {
            session.random_step(12, &|| format!("model seed {seed} step {step}"));
        }
        operations += session.tally.operations;
    }
    eprintln!("model: {operations} operations");
}

#[test]
fn a_region_of_many_table_pages_holds_what_was_put_into_it() {
    for seed in 0..cases(2) {
        let mut session = Session::new(fresh(4 << 30, 64), 9000 + seed, None);
        for step in 0..40 {
            let told = || format!("large model seed {seed} step {step}");
            let op = match Op::random(&mut session.rng, 900, session.next_id) {
                // Content of several GiB would take too long.
                Op::Put { path, size, id, replace, sparse, told } => {
                    Op::Put { path, size: size % (5 * BLOCK), id, replace, sparse, told }
                }
                op => op,
            };
            session.step(&op, &told);
            session.scribble();
            if session.rng.one_in(6) {
                session.reopen(&told);
            }
        }
    }
}

#[test]
fn directories_are_made_with_those_above() {
    let mut session = Session::new(fresh(16 << 20, 64), 0, None);
    for path in ["/x/y/z", "/x/y", "/x//", "/x/y/w/v", "/"] {
        let op = Op::Mkdir { path, parents: true };
        op.run(session.writer()).unwrap();
    }
    let image = session.image();
    let tree = gmfs_volume::Region::open(&image).unwrap().inodes().tree;
    let paths: Vec<_> = tree.inodes().map(|inode| String::from_utf8(tree.path(inode.ino).unwrap()).unwrap()).collect();
    assert_eq!(paths, ["/", "/x", "/x/y", "/x/y/z", "/x/y/w", "/x/y/w/v"]);
}
