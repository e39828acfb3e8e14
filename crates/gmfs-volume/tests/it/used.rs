//! Memory that processes have mapped is neither freed, overwritten nor allocated.

use std::sync::{Arc, Mutex};

use gmfs_format::native::units::{BlockNo, InodeNo};
use gmfs_io::Span;
use gmfs_volume::used::taken;
use gmfs_volume::{ChangeError, PutOptions, Region, Used, Users, Writer};

use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, create_options, error_name, fresh, open};

/// The memory that is in use. A test can change it.
#[derive(Clone, Default)]
struct List(Arc<Mutex<Arc<[Used]>>>);

impl List {
    fn set(&self, spans: &[Span]) {
        let used = |span: &Span| Used { span: *span, by: "process 7 (guest)".to_owned() };
        *self.0.lock().unwrap() = spans.iter().map(used).collect();
    }
}

impl Users for List {
    fn used(&mut self) -> Arc<[Used]> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

/// A region of 16 MiB with `/a` in blocks 1 and 2 and `/d/b` in block 3; blocks 4 to 6 are free.
fn region() -> Memory {
    let mut image = fresh(16 << 20, 16);
    let mut writer = open(&mut image);
    writer.create(b"/a", &create_options(2 * BLOCK, false, false)).unwrap();
    writer.mkdir(b"/d", false, 0o755, (0, 0)).unwrap();
    writer.create(b"/d/b", &create_options(BLOCK - 5, false, false)).unwrap();
    writer.close().unwrap();
    image
}

fn block(number: u64) -> Span {
    Span::new(number * BLOCK, BLOCK)
}

fn refused(done: Result<(), ChangeError>, saying: &str) {
    let error = done.unwrap_err();
    assert_eq!((error_name(&error).as_str(), error.to_string().as_str()), ("InUse", saying));
}

#[test]
fn what_is_used_is_neither_freed_nor_overwritten() {
    let mut image = region();
    let mut writer = open(&mut image);
    let list = List::default();
    writer.watch(Box::new(list.clone()));
    let put = |writer: &mut Writer<_>, path: &[u8]| {
        let options = PutOptions { create: create_options(1, false, false), replace: true };
        writer.put(path, &mut &b"x"[..], &options).map(drop)
    };
    // A byte of the second block of one file, and the end of the other one with the bytes after it.
    list.set(&[Span::new(3 * BLOCK - 1, 1), Span::new(4 * BLOCK - 5, 5)]);
    let (a, b) = ("/a is mapped by process 7 (guest)", "/d/b is mapped by process 7 (guest)");
    refused(writer.remove(b"/a", false), a);
    refused(writer.remove(b"/d", true), b);
    refused(put(&mut writer, b"/a"), a);
    refused(writer.rename(b"/d/b", b"/a", true), a);
    refused(writer.truncate(b"/a", BLOCK, false), a);
    refused(writer.truncate(b"/d/b", BLOCK, false), b);
    // Changes that do not affect these bytes succeed.
    writer.truncate(b"/a", 2 * BLOCK - 1, false).unwrap();
    writer.rename(b"/a", b"/d/a", false).unwrap();
    list.set(&[block(2)]);
    writer.truncate(b"/d/b", BLOCK, false).unwrap();
    writer.remove(b"/d/b", false).unwrap();
    list.set(&[]);
    writer.remove(b"/d", true).unwrap();
    writer.close().unwrap();
}

#[test]
fn what_is_used_is_not_handed_out() {
    let mut image = region();
    let mut writer = open(&mut image);
    let list = List::default();
    writer.watch(Box::new(list.clone()));
    list.set(&[Span::new(4 * BLOCK + 7, 1), block(40)]);
    let free = writer.free_blocks();
    let all = create_options(free * BLOCK, false, false);
    let error = writer.create(b"/all", &all).unwrap_err();
    assert_eq!(error_name(&error), "SpaceInUse");
    assert_eq!(writer.free_blocks(), free, "it is free all the same");
    // Where those blocks would not be enough either, they are not what is wrong.
    let error = writer.require_free(free + 1).unwrap_err();
    assert_eq!(error_name(&error), "NoSpace");
    assert_eq!(error_name(&writer.require_free(free).unwrap_err()), "SpaceInUse");
    writer.require_free(free - 2).unwrap();
    let ino = writer.create(b"/most", &create_options((free - 1) * BLOCK, false, false)).unwrap();
    let error = writer.create(b"/one", &create_options(1, false, false)).unwrap_err();
    assert!(error.to_string().contains("1 more belong to no file, but are mapped by process 7 (guest)"), "{error}");
    // A block that was marked bad meanwhile does not become free when its user has ended.
    writer.add_bad(std::slice::from_ref(&(4..5))).unwrap();
    list.set(&[]);
    let error = writer.create(b"/one", &create_options(1, false, false)).unwrap_err();
    assert_eq!(error_name(&error), "NoSpace");
    writer.remove(b"/most", false).unwrap();
    assert_eq!(writer.free_blocks(), free - 1);
    writer.close().unwrap();
    assert!(Region::open(&image).unwrap().mapping(ino).extents.is_empty());
}

#[test]
fn a_state_that_takes_used_blocks_away_is_known_before() {
    let before = region();
    let mut after = before.clone();
    let mut writer = open(&mut after);
    writer.remove(b"/d/b", false).unwrap();
    writer.create(b"/c", &create_options(2 * BLOCK, false, false)).unwrap();
    writer.close().unwrap();
    let (old, new) = (Region::open(&before).unwrap(), Region::open(&after).unwrap());
    let used = |span: Span| [Used { span, by: "somebody".to_owned() }];
    let lost = |span: Span| taken(&old, Some(&new), &used(span)).map(|(block, ino, _)| (block, ino));
    assert_eq!(lost(block(1)), None);
    assert_eq!(lost(block(3)), Some((BlockNo(3), InodeNo(4))));
    assert_eq!(lost(Span::new(0, 16 << 20)), Some((BlockNo(3), InodeNo(4))));
    assert_eq!(lost(block(5)), None, "it was nobody's");
    assert_eq!(lost(Span::new(0, BLOCK)), None, "metadata is no file's");
    // If the layout differs, or there is no region, no block is kept.
    let other = fresh(32 << 20, 16);
    let other = Region::open(&other).unwrap();
    assert_eq!(taken(&old, Some(&other), &used(block(1))).unwrap().0, BlockNo(1));
    assert_eq!(taken(&old, None::<&Region<&Memory>>, &used(block(1))).unwrap().0, BlockNo(1));
}
