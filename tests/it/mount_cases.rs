//! Cases of pjdfstest, on a mount that is changed. Skipped where nothing can be mounted.

use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::mounted_changes::{BLOCK, end, log, mounted};

/// A case: the test of pjdfstest that has it, what is done, and what must come of it.
type Case = (&'static str, fn(&Path) -> rustix::io::Result<()>, Result<(), Errno>);

fn touch(at: &Path) -> rustix::io::Result<()> {
    open(at, OFlags::CREATE | OFlags::WRONLY)
}

fn open(at: &Path, flags: OFlags) -> rustix::io::Result<()> {
    rustix::fs::open(at, flags, Mode::from_raw_mode(0o644)).map(drop)
}

fn mkdir(at: &Path) -> rustix::io::Result<()> {
    rustix::fs::mkdir(at, Mode::from_raw_mode(0o755))
}

fn long(length: usize) -> String {
    "x".repeat(length)
}

/// Fails with an error that no case expects if this is not so.
fn holds(condition: bool) -> rustix::io::Result<()> {
    if condition { Ok(()) } else { Err(Errno::PROTO) }
}

fn meta(at: &Path) -> fs::Metadata {
    fs::symlink_metadata(at).unwrap()
}

fn renamed(at: &Path, to: &Path, flags: RenameFlags) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, at, CWD, to, flags)
}

/// Cases of pjdfstest that say something about a filesystem without links and special files. Each begins in an empty
/// directory.
const CASES: &[Case] = &[
    (
        "chmod/00 changes the mode",
        |d| {
            touch(&d.join("f"))?;
            rustix::fs::chmod(d.join("f"), Mode::from_raw_mode(0o111))?;
            holds(meta(&d.join("f")).mode() & 0o7777 == 0o111)
        },
        Ok(()),
    ),
    (
        "chmod/00 of a directory, with the sticky bit",
        |d| {
            mkdir(&d.join("s"))?;
            rustix::fs::chmod(d.join("s"), Mode::from_raw_mode(0o1755))?;
            holds(meta(&d.join("s")).mode() & 0o7777 == 0o1755)
        },
        Ok(()),
    ),
    (
        "chmod/01 a file in the path",
        |d| {
            touch(&d.join("f"))?;
            rustix::fs::chmod(d.join("f/x"), Mode::from_raw_mode(0o644))
        },
        Err(Errno::NOTDIR),
    ),
    (
        "chmod/02 a name of 255 bytes",
        |d| {
            touch(&d.join(long(255)))?;
            rustix::fs::chmod(d.join(long(255)), Mode::from_raw_mode(0o600))
        },
        Ok(()),
    ),
    (
        "chmod/02 a name of 256 bytes",
        |d| rustix::fs::chmod(d.join(long(256)), Mode::from_raw_mode(0o600)),
        Err(Errno::NAMETOOLONG),
    ),
    ("chmod/04 nothing there", |d| rustix::fs::chmod(d.join("none"), Mode::from_raw_mode(0o600)), Err(Errno::NOENT)),
    (
        "chown/00 changes owner and group",
        |d| {
            touch(&d.join("f"))?;
            let (uid, gid) = (rustix::fs::Uid::from_raw(123), rustix::fs::Gid::from_raw(456));
            rustix::fs::chown(d.join("f"), Some(uid), Some(gid))?;
            let meta = meta(&d.join("f"));
            holds((meta.uid(), meta.gid()) == (123, 456))
        },
        Ok(()),
    ),
    (
        "chown/00 clears set-user-id",
        |d| {
            touch(&d.join("f"))?;
            rustix::fs::chmod(d.join("f"), Mode::from_raw_mode(0o4755))?;
            rustix::fs::chown(d.join("f"), Some(rustix::fs::Uid::from_raw(7)), None)?;
            // As root the bit may stay by POSIX; Linux clears it on files.
            holds(meta(&d.join("f")).mode() & 0o4000 == 0)
        },
        Ok(()),
    ),
    (
        "ftruncate/00 shrinks and grows",
        |d| {
            fs::write(d.join("f"), b"0123456789").unwrap();
            let file = OpenOptions::new().read(true).write(true).open(d.join("f")).unwrap();
            rustix::fs::ftruncate(&file, 4)?;
            rustix::fs::ftruncate(&file, 8)?;
            holds(fs::read(d.join("f")).unwrap() == b"0123\0\0\0\0")
        },
        Ok(()),
    ),
    (
        "ftruncate/00 sets the time of the change",
        |d| {
            touch(&d.join("f"))?;
            let file = OpenOptions::new().write(true).open(d.join("f")).unwrap();
            rustix::fs::ftruncate(&file, 4)?;
            holds(meta(&d.join("f")).size() == 4)
        },
        Ok(()),
    ),
    (
        "link/00 there are no links",
        |d| {
            touch(&d.join("f"))?;
            rustix::fs::link(d.join("f"), d.join("g"))
        },
        Err(Errno::PERM),
    ),
    (
        "mkdir/00 has the mode and two links",
        |d| {
            mkdir(&d.join("s"))?;
            let meta = meta(&d.join("s"));
            holds(meta.is_dir() && meta.mode() & 0o7777 == 0o755 && meta.nlink() == 2)
        },
        Ok(()),
    ),
    (
        "mkdir/01 a file in the path",
        |d| {
            touch(&d.join("f"))?;
            mkdir(&d.join("f/s"))
        },
        Err(Errno::NOTDIR),
    ),
    ("mkdir/02 a name of 256 bytes", |d| mkdir(&d.join(long(256))), Err(Errno::NAMETOOLONG)),
    ("mkdir/02 a name of 2000 bytes", |d| mkdir(&d.join(long(2000))), Err(Errno::NAMETOOLONG)),
    ("mkdir/04 nothing in the path", |d| mkdir(&d.join("none/s")), Err(Errno::NOENT)),
    (
        "mkdir/10 a directory is there",
        |d| {
            mkdir(&d.join("s"))?;
            mkdir(&d.join("s"))
        },
        Err(Errno::EXIST),
    ),
    (
        "mkdir/10 a file is there",
        |d| {
            touch(&d.join("f"))?;
            mkdir(&d.join("f"))
        },
        Err(Errno::EXIST),
    ),
    (
        "mkfifo/00 there are no pipes",
        |d| rustix::fs::mknodat(CWD, d.join("p"), FileType::Fifo, Mode::from_raw_mode(0o644), 0),
        Err(Errno::PERM),
    ),
    (
        "mknod/11 regular files by mknod",
        |d| {
            rustix::fs::mknodat(CWD, d.join("f"), FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?;
            holds(meta(&d.join("f")).is_file())
        },
        Ok(()),
    ),
    (
        "open/00 makes a file with the mode",
        |d| {
            touch(&d.join("f"))?;
            let meta = meta(&d.join("f"));
            holds(meta.is_file() && meta.mode() & 0o7777 == 0o644 && meta.nlink() == 1 && meta.len() == 0)
        },
        Ok(()),
    ),
    (
        "open/00 O_TRUNC empties it",
        |d| {
            fs::write(d.join("f"), b"content").unwrap();
            open(&d.join("f"), OFlags::WRONLY | OFlags::TRUNC)?;
            holds(meta(&d.join("f")).len() == 0)
        },
        Ok(()),
    ),
    (
        "open/01 a file in the path",
        |d| {
            touch(&d.join("f"))?;
            touch(&d.join("f/x"))
        },
        Err(Errno::NOTDIR),
    ),
    ("open/02 a name of 256 bytes", |d| touch(&d.join(long(256))), Err(Errno::NAMETOOLONG)),
    ("open/04 nothing there", |d| open(&d.join("none"), OFlags::RDONLY), Err(Errno::NOENT)),
    (
        "open/13 a directory for writing",
        |d| {
            mkdir(&d.join("s"))?;
            open(&d.join("s"), OFlags::WRONLY)
        },
        Err(Errno::ISDIR),
    ),
    (
        "open/22 O_EXCL and a file is there",
        |d| {
            touch(&d.join("f"))?;
            open(&d.join("f"), OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)
        },
        Err(Errno::EXIST),
    ),
    (
        "posix_fallocate/00 grows and reads as zeros",
        |d| {
            fs::write(d.join("f"), b"x").unwrap();
            let file = OpenOptions::new().write(true).open(d.join("f")).unwrap();
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 567, 13421)?;
            let content = fs::read(d.join("f")).unwrap();
            holds(content.len() == 13988 && content[0] == b'x' && content[1..].iter().all(|byte| *byte == 0))
        },
        Ok(()),
    ),
    (
        "posix_fallocate/00 KEEP_SIZE inside the last block",
        |d| {
            fs::write(d.join("f"), b"x").unwrap();
            let file = OpenOptions::new().write(true).open(d.join("f")).unwrap();
            rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 4096)?;
            holds(meta(&d.join("f")).len() == 1)
        },
        Ok(()),
    ),
    (
        "posix_fallocate/00 KEEP_SIZE past the last block",
        |d| {
            touch(&d.join("f"))?;
            let file = OpenOptions::new().write(true).open(d.join("f")).unwrap();
            rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 4096)
        },
        Err(Errno::OPNOTSUPP),
    ),
    (
        "rename/00 a file",
        |d| {
            fs::write(d.join("f"), b"f").unwrap();
            let ino = meta(&d.join("f")).ino();
            rustix::fs::rename(d.join("f"), d.join("g"))?;
            holds(!d.join("f").exists() && meta(&d.join("g")).ino() == ino)
        },
        Ok(()),
    ),
    (
        "rename/00 a directory with what is in it",
        |d| {
            mkdir(&d.join("s"))?;
            touch(&d.join("s/f"))?;
            rustix::fs::rename(d.join("s"), d.join("t"))?;
            holds(d.join("t/f").exists())
        },
        Ok(()),
    ),
    (
        "rename/01 a name of 256 bytes",
        |d| {
            touch(&d.join("f"))?;
            rustix::fs::rename(d.join("f"), d.join(long(256)))
        },
        Err(Errno::NAMETOOLONG),
    ),
    ("rename/03 nothing there", |d| rustix::fs::rename(d.join("none"), d.join("g")), Err(Errno::NOENT)),
    (
        "rename/12 a file in the path",
        |d| {
            touch(&d.join("f"))?;
            touch(&d.join("g"))?;
            rustix::fs::rename(d.join("g"), d.join("f/x"))
        },
        Err(Errno::NOTDIR),
    ),
    (
        "rename/13 a directory onto a file",
        |d| {
            mkdir(&d.join("s"))?;
            touch(&d.join("f"))?;
            rustix::fs::rename(d.join("s"), d.join("f"))
        },
        Err(Errno::NOTDIR),
    ),
    (
        "rename/14 a file onto a directory",
        |d| {
            mkdir(&d.join("s"))?;
            touch(&d.join("f"))?;
            rustix::fs::rename(d.join("f"), d.join("s"))
        },
        Err(Errno::ISDIR),
    ),
    (
        "rename/15 onto another filesystem",
        |d| {
            touch(&d.join("f"))?;
            rustix::fs::rename(d.join("f"), "/dev/shm/gmfs-none")
        },
        Err(Errno::XDEV),
    ),
    (
        "rename/18 a directory into itself",
        |d| {
            mkdir(&d.join("s"))?;
            rustix::fs::rename(d.join("s"), d.join("s/t"))
        },
        Err(Errno::INVAL),
    ),
    (
        "rename/20 onto a directory that is not empty",
        |d| {
            mkdir(&d.join("s"))?;
            mkdir(&d.join("t"))?;
            touch(&d.join("t/f"))?;
            rustix::fs::rename(d.join("s"), d.join("t"))
        },
        Err(Errno::NOTEMPTY),
    ),
    (
        "rename/20 onto a directory that is empty",
        |d| {
            mkdir(&d.join("s"))?;
            mkdir(&d.join("t"))?;
            rustix::fs::rename(d.join("s"), d.join("t"))
        },
        Ok(()),
    ),
    (
        "rename/23 onto a file that is there",
        |d| {
            fs::write(d.join("f"), b"f").unwrap();
            fs::write(d.join("g"), b"g").unwrap();
            rustix::fs::rename(d.join("f"), d.join("g"))?;
            holds(fs::read(d.join("g")).unwrap() == b"f")
        },
        Ok(()),
    ),
    (
        "rename RENAME_NOREPLACE",
        |d| {
            touch(&d.join("f"))?;
            touch(&d.join("g"))?;
            renamed(&d.join("f"), &d.join("g"), RenameFlags::NOREPLACE)
        },
        Err(Errno::EXIST),
    ),
    (
        "rename RENAME_EXCHANGE",
        |d| {
            fs::write(d.join("f"), b"f").unwrap();
            mkdir(&d.join("s"))?;
            renamed(&d.join("f"), &d.join("s"), RenameFlags::EXCHANGE)?;
            holds(d.join("f").is_dir() && fs::read(d.join("s")).unwrap() == b"f")
        },
        Ok(()),
    ),
    (
        "rename RENAME_EXCHANGE with what is inside",
        |d| {
            mkdir(&d.join("s"))?;
            touch(&d.join("s/f"))?;
            renamed(&d.join("s"), &d.join("s/f"), RenameFlags::EXCHANGE)
        },
        Err(Errno::INVAL),
    ),
    (
        "rmdir/01 it is gone",
        |d| {
            mkdir(&d.join("s"))?;
            rustix::fs::rmdir(d.join("s"))?;
            holds(!d.join("s").exists())
        },
        Ok(()),
    ),
    ("rmdir/02 a name of 256 bytes", |d| rustix::fs::rmdir(d.join(long(256))), Err(Errno::NAMETOOLONG)),
    ("rmdir/04 nothing there", |d| rustix::fs::rmdir(d.join("none")), Err(Errno::NOENT)),
    (
        "rmdir/06 not empty",
        |d| {
            mkdir(&d.join("s"))?;
            touch(&d.join("s/f"))?;
            rustix::fs::rmdir(d.join("s"))
        },
        Err(Errno::NOTEMPTY),
    ),
    (
        "rmdir/12 a path that ends with a dot",
        |d| {
            mkdir(&d.join("s"))?;
            rustix::fs::rmdir(d.join("s/."))
        },
        Err(Errno::INVAL),
    ),
    (
        "rmdir/15 a file",
        |d| {
            touch(&d.join("f"))?;
            rustix::fs::rmdir(d.join("f"))
        },
        Err(Errno::NOTDIR),
    ),
    ("symlink/00 there are no symbolic links", |d| rustix::fs::symlink("f", d.join("l")), Err(Errno::PERM)),
    (
        "truncate/00 grows to a hole",
        |d| {
            touch(&d.join("f"))?;
            OpenOptions::new().write(true).open(d.join("f")).unwrap().set_len(1 << 30).unwrap();
            let meta = meta(&d.join("f"));
            holds(meta.len() == 1 << 30 && meta.blocks() == 0)
        },
        Ok(()),
    ),
    (
        "truncate/12 too large",
        |d| {
            touch(&d.join("f"))?;
            let file = OpenOptions::new().write(true).open(d.join("f")).unwrap();
            rustix::fs::ftruncate(&file, 1 << 62)
        },
        Err(Errno::FBIG),
    ),
    (
        "unlink/00 it is gone",
        |d| {
            touch(&d.join("f"))?;
            rustix::fs::unlink(d.join("f"))?;
            holds(!d.join("f").exists())
        },
        Ok(()),
    ),
    ("unlink/04 nothing there", |d| rustix::fs::unlink(d.join("none")), Err(Errno::NOENT)),
    (
        "unlink/08 a directory",
        |d| {
            mkdir(&d.join("s"))?;
            rustix::fs::unlink(d.join("s"))
        },
        Err(Errno::ISDIR),
    ),
    (
        "unlink/14 an open file is there until it is closed",
        |d| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(d.join("f")).unwrap();
            rustix::fs::unlink(d.join("f"))?;
            file.write_all_at(b"hello", 0).unwrap();
            let mut read = [0; 5];
            file.read_exact_at(&mut read, 0).unwrap();
            holds(&read == b"hello" && file.metadata().unwrap().nlink() == 0)
        },
        Ok(()),
    ),
    (
        "utimensat/00 sets both times",
        |d| {
            touch(&d.join("f"))?;
            let time = |seconds| Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
            let times = Timestamps { last_access: time(1_000_000_000), last_modification: time(1_100_000_000) };
            rustix::fs::utimensat(CWD, d.join("f"), &times, AtFlags::empty())?;
            let meta = meta(&d.join("f"));
            holds((meta.atime(), meta.mtime(), meta.mtime_nsec()) == (1_000_000_000, 1_100_000_000, 123_456_789))
        },
        Ok(()),
    ),
    (
        "utimensat/02 UTIME_OMIT leaves one",
        |d| {
            touch(&d.join("f"))?;
            let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
            let all = Timestamps { last_access: time(1_000_000_000, 0), last_modification: time(1_100_000_000, 0) };
            rustix::fs::utimensat(CWD, d.join("f"), &all, AtFlags::empty())?;
            let one =
                Timestamps { last_access: time(0, rustix::fs::UTIME_OMIT), last_modification: time(1_200_000_000, 0) };
            rustix::fs::utimensat(CWD, d.join("f"), &one, AtFlags::empty())?;
            let meta = meta(&d.join("f"));
            holds((meta.atime(), meta.mtime()) == (1_000_000_000, 1_200_000_000))
        },
        Ok(()),
    ),
    (
        "utimensat of a directory with entries",
        |d| {
            mkdir(&d.join("s"))?;
            touch(&d.join("s/f"))?;
            let time = Timespec { tv_sec: 1_234_567_890, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, d.join("s"), &times, AtFlags::empty())?;
            holds(meta(&d.join("s")).mtime() == 1_234_567_890)
        },
        Ok(()),
    ),
    (
        "names are bytes",
        |d| {
            let name = std::ffi::OsStr::from_bytes(b"\xff\xfe blank and \\");
            touch(&d.join(name))?;
            holds(fs::read_dir(d).unwrap().any(|entry| entry.unwrap().file_name() == name))
        },
        Ok(()),
    ),
    (
        "a directory is listed to its end while it is emptied",
        |d| {
            for number in 0..200 {
                touch(&d.join(format!("{number:0>120}")))?;
            }
            for entry in fs::read_dir(d).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            holds(fs::read_dir(d).unwrap().count() == 0)
        },
        Ok(()),
    ),
    (
        "SEEK_DATA and SEEK_HOLE",
        |d| {
            let file = File::create(d.join("f")).unwrap();
            file.write_all_at(b"x", 3 * BLOCK).unwrap();
            file.set_len(9 * BLOCK).unwrap();
            let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0))?;
            let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data))?;
            holds((data, hole) == (3 * BLOCK, 4 * BLOCK))
        },
        Ok(()),
    ),
];

#[test]
fn cases_of_pjdfstest() {
    let Some((sandbox, mount)) = mounted("64M") else { return };
    let root = rustix::process::geteuid().is_root();
    for (number, (name, case, expected)) in CASES.iter().enumerate() {
        if name.starts_with("chown") && !root {
            eprintln!("skipped: only root can: {name}");
            continue;
        }
        let directory = mount.at.join(format!("case{number}"));
        fs::create_dir(&directory).unwrap();
        assert_eq!(case(&directory), *expected, "{name}");
        fs::remove_dir_all(&directory).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    end(&sandbox, mount);
    assert_eq!(log(&sandbox), "");
}
