//! An operation that fails leaves the region as it was, byte for byte.

use gmfs_format::native::tables::INODE_IMMUTABLE;
use gmfs_volume::{ChangeError, PutOptions, Writer};

use crate::support::craft::edit_inode;
use crate::support::memory::Memory;
use crate::support::ops::{BLOCK, Op, create_options, error_name, fresh, open};
use crate::support::oracle::recorded;
use crate::support::recorder::Recorder;
use crate::support::state::{Snapshot, require_whole};

fn region() -> Memory {
    let mut image = fresh(16 << 20, 16);
    let mut writer = open(&mut image);
    writer.mkdir(b"/d", false, 0o755, (0, 0)).unwrap();
    writer.create(b"/a", &create_options(2 * BLOCK, false, false)).unwrap();
    writer.create(b"/d/x", &create_options(BLOCK, false, false)).unwrap();
    writer.mkdir(b"/d/e", false, 0o755, (0, 0)).unwrap();
    writer.close().unwrap();
    image
}

/// Tries an operation on the region. It must fail with this error and write nothing.
fn refused(image: &Memory, expected: &str, what: impl FnOnce(&mut Writer<Recorder>) -> Result<(), ChangeError>) {
    let (mut writer, recorder) = recorded(image.clone());
    let error = what(&mut writer).expect_err(expected);
    assert_eq!(error_name(&error), expected, "{error}");
    assert!(recorder.take_log().is_empty(), "{expected}: something was stored");
    assert!(recorder.image().same(image));
    let free = writer.free_blocks();
    assert_eq!(free, Snapshot::read(image).unwrap().superblock.free_blocks.get(), "{expected}");
    // The writer can still be used.
    writer.truncate(b"/a", BLOCK, false).unwrap();
    writer.close().unwrap();
    require_whole(&recorder.image()).unwrap();
}

#[test]
fn paths_that_cannot_be() {
    let create = |path: &'static str| Op::Create { path, size: 0, sparse: true, aligned: false };
    let cases = [
        (create("/a"), "Exists"),
        (create("/"), "Root"),
        (create(""), "Root"),
        (create("/nowhere/x"), "NotFound"),
        (create("/a/x"), "NotDirectory"),
        (create("/d/.."), "Name"),
        (create("/d/."), "Name"),
        (create("/n\0l"), "Name"),
        (Op::Mkdir { path: "/d/e", parents: false }, "Exists"),
        (Op::Mkdir { path: "/a/b/c", parents: true }, "NotDirectory"),
        (Op::Truncate { path: "/d", size: 1, sparse: false }, "IsDirectory"),
        (Op::Truncate { path: "/no", size: 1, sparse: false }, "NotFound"),
        (Op::Rename { from: "/", to: "/b", replace: true }, "Root"),
        (Op::Rename { from: "/no", to: "/b", replace: true }, "NotFound"),
        (Op::Rename { from: "/a", to: "/d/x", replace: false }, "Exists"),
        (Op::Rename { from: "/d", to: "/a", replace: true }, "Exists"),
        (Op::Rename { from: "/d", to: "/d/e/f", replace: true }, "IntoItself"),
        (Op::Rename { from: "/d", to: "/d/e", replace: true }, "IntoItself"),
        (Op::Remove { path: "/", recursive: true }, "Root"),
        (Op::Remove { path: "/no", recursive: true }, "NotFound"),
        (Op::Remove { path: "/d", recursive: false }, "NotEmpty"),
    ];
    let image = region();
    for (op, expected) in cases {
        refused(&image, expected, |writer| op.run(writer));
    }
    let long = vec![b'x'; 256];
    refused(&image, "Name", |writer| writer.mkdir(&long, false, 0o700, (0, 0)));
    refused(&image, "Name", |writer| writer.rename(b"/a", &long, false));
}

#[test]
fn more_than_there_is() {
    let image = region();
    let create = |size, aligned| Op::Create { path: "/b", size, sparse: false, aligned };
    let cases = [
        (create(4 * BLOCK, false), "NoSpace"),
        (create(u64::MAX, false), "TooLarge"),
        (create(1 << 52, false), "NoSpace"),
        (create(BLOCK, true), "NoAlignedSpace"),
        (Op::Truncate { path: "/a", size: 9 * BLOCK, sparse: false }, "NoSpace"),
        (Op::Truncate { path: "/a", size: u64::MAX, sparse: true }, "TooLarge"),
        (Op::Put { path: "/b", size: 9 * BLOCK, id: 1, replace: false, sparse: false, told: true }, "NoSpace"),
    ];
    for (op, expected) in cases {
        refused(&image, expected, |writer| op.run(writer));
    }
    let mut full = image;
    let mut writer = open(&mut full);
    for n in 0..11 {
        writer.mkdir(format!("/{n}").as_bytes(), false, 0o700, (0, 0)).unwrap();
    }
    writer.close().unwrap();
    refused(&full, "NoInodes", |writer| writer.mkdir(b"/one more", false, 0o700, (0, 0)));
}

/// Content that ends in an error.
struct Broken(usize);

impl std::io::Read for Broken {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::other("the pipe broke"));
        }
        let len = self.0.min(buf.len());
        self.0 -= len;
        buf[..len].fill(0xEE);
        Ok(len)
    }
}

#[test]
fn content_that_breaks_off_or_does_not_fit() {
    let image = region();
    let before = Snapshot::read(&image).unwrap();
    for path in [&b"/a"[..], b"/new"] {
        for (length, expected) in [(0, "Content"), (100, "Content"), (2 << 20, "Content"), (64 << 20, "NoSpace")] {
            let (mut writer, recorder) = recorded(image.clone());
            let options = PutOptions { create: create_options(0, false, false), replace: true };
            let error = writer.put(path, &mut Broken(length), &options).unwrap_err();
            assert_eq!(error_name(&error), expected);
            assert_eq!(Snapshot::read(&recorder.image()).unwrap(), before);
            require_whole(&recorder.image()).unwrap();
            assert_eq!(writer.free_blocks(), before.superblock.free_blocks.get());
            writer.create(b"/zero", &create_options(3 * BLOCK, false, false)).unwrap();
            writer.close().unwrap();
            let image = recorder.image();
            let region = gmfs_volume::Region::open(&image).unwrap();
            let tree = region.inodes().tree;
            assert!(crate::support::ops::file_tags(&region, tree.resolve(b"/zero").unwrap()).is_empty());
        }
    }
}

#[test]
fn what_is_immutable() {
    let mut image = region();
    let ino = |path: &[u8]| gmfs_volume::Region::open(&image).unwrap().inodes().tree.resolve(path).unwrap().ino;
    let (file, directory) = (ino(b"/a"), ino(b"/d/e"));
    let mut inside = open(&mut image);
    inside.create(b"/d/e/f", &create_options(0, true, false)).unwrap();
    inside.create(b"/g", &create_options(0, true, false)).unwrap();
    inside.close().unwrap();
    for ino in [file, directory] {
        edit_inode(&mut image, ino, |raw| raw.flags = INODE_IMMUTABLE.into());
    }
    let cases = [
        Op::Truncate { path: "/a", size: 1, sparse: false },
        Op::Put { path: "/a", size: 1, id: 1, replace: true, sparse: false, told: false },
        Op::Rename { from: "/a", to: "/b", replace: false },
        Op::Rename { from: "/g", to: "/a", replace: true },
        Op::Remove { path: "/a", recursive: false },
        Op::Remove { path: "/d", recursive: true },
        // The entries of a directory are its content.
        Op::Create { path: "/d/e/new", size: 0, sparse: true, aligned: false },
        Op::Mkdir { path: "/d/e/new", parents: true },
        Op::Remove { path: "/d/e/f", recursive: false },
        Op::Rename { from: "/d/e/f", to: "/f", replace: false },
        Op::Rename { from: "/g", to: "/d/e/g", replace: false },
    ];
    for op in cases {
        let (mut writer, recorder) = recorded(image.clone());
        let error = op.run(&mut writer).expect_err(&format!("{op:?}"));
        assert_eq!(error_name(&error), "Immutable", "{op:?}");
        assert!(recorder.image().same(&image), "{op:?}");
    }
}
