//! Device trees: whole, cut, and of hostile hands.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use gmfs_format::fdt::{Fault, Fdt, FdtError, MAX_DEPTH, MAX_SIZE, claimed_size};
use gmfs_format::fuzzing::trees::Maker;
use proptest::prelude::*;

fn sample() -> Vec<u8> {
    let mut tree = Maker::new(b"kho-v1\0");
    tree.word(4);
    tree.begin(b"first");
    tree.property("compatible", b"first-v1\0other\0");
    tree.property("number", &7_u64.to_le_bytes());
    tree.begin(b"inner");
    tree.property("mem", &[0; 16]);
    tree.end();
    tree.end();
    tree.begin(b"second");
    tree.property("odd", b"abc");
    tree.end();
    tree.finish()
}

fn put(tree: &mut [u8], at: usize, word: u32) {
    tree[at..at + 4].copy_from_slice(&word.to_be_bytes());
}

#[test]
fn nodes_and_properties_are_found() {
    let bytes = [vec![0xEE; 100], sample(), vec![0xEE; 100]].concat();
    let tree = Fdt::read(&bytes, 100, MAX_SIZE).unwrap();
    assert_eq!((tree.bytes(), tree.is_whole()), (&sample()[..], true));
    assert_eq!(claimed_size(&bytes, 100), Some(sample().len() as u64));
    let root = tree.root();
    assert!(root.name().is_empty() && root.is_compatible(b"kho-v1") && !root.is_compatible(b"kho-v"));
    assert_eq!(root.children().map(|node| node.name()).collect::<Vec<_>>(), [&b"first"[..], b"second"]);
    let first = root.child(b"first").unwrap();
    assert!(first.is_compatible(b"first-v1") && first.is_compatible(b"other") && !first.is_compatible(b""));
    assert_eq!((first.u64(b"number"), first.u64(b"compatible"), first.u64(b"none")), (Some(7), None, None));
    assert_eq!(first.child(b"inner").unwrap().property(b"mem").unwrap().len(), 16);
    assert_eq!(root.child(b"second").unwrap().property(b"odd"), Some(&b"abc"[..]));
    assert!(root.child(b"inner").is_none() && root.child(b"third").is_none());
    assert_eq!(first.properties().count(), 2);
}

#[test]
fn what_is_no_tree_is_told_apart() {
    let good = sample();
    let with = |at: usize, word: u32| {
        let mut bytes = good.clone();
        put(&mut bytes, at, word);
        Fdt::parse(bytes).unwrap_err()
    };
    let size = good.len() as u64;
    assert_eq!(with(0, 0xD00D_FEEE), FdtError::NoMagic);
    assert_eq!(with(4, 0xFFFF_FFFF), FdtError::TooLarge { size: 0xFFFF_FFFF, most: size });
    assert_eq!(with(8, 0xFFFF_FFF0), FdtError::Blocks { size });
    assert_eq!(with(8, 4), FdtError::Blocks { size });
    assert_eq!(with(12, good.len() as u32), FdtError::Blocks { size });
    assert_eq!(with(20, 3), FdtError::Version { version: 3, compatible: 16 });
    assert_eq!(with(24, 18), FdtError::Version { version: 17, compatible: 18 });
    assert!(matches!(with(36, 8), FdtError::Structure { what: Fault::Cut, .. }));
    assert_eq!(with(64, 2), FdtError::Structure { at: 64, what: Fault::Root });
    assert_eq!(with(64, 77), FdtError::Structure { at: 64, what: Fault::Token });
    assert!(matches!(with(32, 3), FdtError::Structure { what: Fault::Name, .. }));
    assert!(matches!(Fdt::read(&good, 0, 100), Err(FdtError::TooLarge { .. })));
    assert!(matches!(Fdt::read(&good[..300.min(good.len() - 1)].to_vec(), 0, MAX_SIZE), Err(FdtError::Unreadable(_))));
    assert!(Fdt::parse(&good[..20]).is_err());
    let mut two = Maker::new(b"x\0");
    two.end();
    two.begin(b"");
    assert!(matches!(Fdt::parse(two.finish()), Err(FdtError::Structure { what: Fault::Root, .. })));
}

#[test]
fn a_tree_of_version_16_is_read_too() {
    let mut bytes = sample();
    put(&mut bytes, 20, 16);
    put(&mut bytes, 36, 0xFFFF_FFFF);
    assert!(Fdt::parse(bytes).unwrap().root().child(b"second").is_some());
}

#[test]
fn nesting_ends() {
    let nested = |depth: u32| {
        let mut tree = Maker::new(b"x\0");
        (1..depth).for_each(|_| tree.begin(b"n"));
        (1..depth).for_each(|_| tree.end());
        Fdt::parse(tree.finish())
    };
    assert!(nested(MAX_DEPTH).is_ok());
    assert!(matches!(nested(MAX_DEPTH + 1), Err(FdtError::Structure { what: Fault::Depth, .. })));
}

#[test]
fn the_front_of_a_tree_tells_what_is_on_its_page() {
    let mut tree = Maker::new(b"kho-v1\0");
    tree.begin(b"user");
    tree.property("mem", &5_u64.to_le_bytes());
    tree.begin(b"large");
    tree.property("mem", &[1; 6000]);
    tree.end();
    tree.end();
    let mut bytes = tree.finish();
    assert!(Fdt::parse(bytes.clone()).is_ok());
    // What follows the first page is somebody else's.
    bytes[4096..].fill(0xA5);
    let front = Fdt::read_front(&bytes, 0).unwrap();
    assert!(!front.is_whole());
    let user = front.root().child(b"user").unwrap();
    let found: Vec<_> = user.properties().collect();
    assert_eq!((found[0].name, found[0].value), (None, &5_u64.to_le_bytes()[..]));
    assert!(user.child(b"large").unwrap().properties().next().is_none());
    assert!(user.property(b"mem").is_none());
    // A tree that fits is whole.
    let small = Fdt::read_front(&sample(), 0).unwrap();
    assert!(small.is_whole() && small.root().is_compatible(b"kho-v1"));
}

fn visit(tree: &Fdt) -> usize {
    let mut nodes = vec![tree.root()];
    let mut seen = 0;
    while let Some(node) = nodes.pop() {
        seen += 1 + node.properties().count();
        nodes.extend(node.children());
    }
    seen
}

proptest! {
    #[test]
    fn any_bytes_end(mut at in proptest::collection::vec((0_usize..400, any::<u8>()), 0..12), cut in 0_usize..500) {
        let mut bytes = sample();
        for (place, value) in at.drain(..) {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        if let Ok(tree) = Fdt::parse(bytes.clone()) {
            prop_assert!(visit(&tree) < 500);
        }
        if let Ok(tree) = Fdt::read_front(&bytes, 0) {
            prop_assert!(visit(&tree) < 500);
        }
    }
}
