use super::*;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn absent(error: ReadError) -> (Span, Absence) {
    match error {
        ReadError::Absent { span, why } => (span, why),
        other @ ReadError::Io { .. } => panic!("{other}"),
    }
}

#[test]
fn reads_what_is_there_and_says_what_is_not() {
    let dir = Dir::new();
    let file = RegionFile::open(&dir.file("r", b"0123456789")).unwrap();
    let mut buf = [0; 4];
    file.read_at(3, &mut buf).unwrap();
    assert_eq!(&buf, b"3456");
    assert_eq!(file.end(), Some(10));
    let late = absent(file.read_at(8, &mut buf).unwrap_err());
    assert_eq!(late, (Span::new(10, 2), Absence::BeyondEnd));
    let far = absent(file.read_at(u64::MAX - 1, &mut buf).unwrap_err());
    assert_eq!(far.0.offset, u64::MAX - 1);
    file.read_at(10, &mut []).unwrap();
    assert_eq!(file.next_absent(4..12), Some((Span::new(10, 2), Absence::BeyondEnd)));
}

#[test]
fn a_file_that_shrinks_under_the_reader_has_no_zeros_at_its_end() {
    let dir = Dir::new();
    let path = dir.file("r", &[7; 8192]);
    let file = RegionFile::open(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
    let mut buf = [0; 4096];
    file.read_at(0, &mut buf).unwrap();
    let cut = absent(file.read_at(4096, &mut buf).unwrap_err());
    assert_eq!(cut, (Span::new(5000, 3192), Absence::BeyondEnd));
    // The part that was cut off is not a hole. It may hold anything.
    assert_eq!(file.next_data(6000..8000).unwrap(), Some(6000..8000));
}

#[test]
fn holes_are_known_and_bytes_past_the_end_are_not_zero() {
    let dir = Dir::new();
    let path = dir.path("r");
    let mut file = WritableFile::create_new(&path, 64 << 20, &Locking::at_once()).unwrap();
    file.write_at(32 << 20, b"data").unwrap();
    let first = file.next_data(0..64 << 20).unwrap().unwrap();
    assert!(first.contains(&(32 << 20)), "{first:?}");
    assert!(first.end <= 33 << 20, "{first:?}");
    assert_eq!(file.next_data(40 << 20..64 << 20).unwrap(), None);
    assert_eq!(file.next_data(40 << 20..65 << 20).unwrap(), Some(64 << 20..65 << 20));
    assert_eq!(file.next_data(70 << 20..71 << 20).unwrap(), Some(70 << 20..71 << 20));
    assert_eq!(file.next_data(5..5).unwrap(), None);
}

#[test]
fn zeroing_makes_a_hole_and_keeps_what_is_beside_it() {
    let dir = Dir::new();
    let path = dir.file("r", &[0xff; 1 << 20]);
    let mut file = WritableFile::open(&path, &Locking::at_once()).unwrap();
    let before = std::fs::metadata(&path).unwrap().blocks();
    file.zero(Span::new(4096, (1 << 20) - 8192)).unwrap();
    file.zero(Span::new(10, 3)).unwrap();
    file.zero(Span::new(1 << 20, 0)).unwrap();
    file.barrier().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 1 << 20);
    assert!(bytes[4096..(1 << 20) - 4096].iter().all(|b| *b == 0));
    assert_eq!(bytes[9..14], [0xff, 0, 0, 0, 0xff]);
    assert_eq!((bytes[4095], bytes[(1 << 20) - 4096]), (0xff, 0xff));
    assert!(std::fs::metadata(&path).unwrap().blocks() < before);
}

#[test]
fn zeros_are_written_where_no_hole_can_be_made() {
    let dir = Dir::new();
    let path = dir.file("r", &[0xff; 3 << 20]);
    let file = WritableFile::open(&path, &Locking::at_once()).unwrap();
    file.write_zeros(Span::new(100, (3 << 20) - 200)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[100..(3 << 20) - 100].iter().all(|b| *b == 0));
    assert!(bytes[..100].iter().chain(&bytes[(3 << 20) - 100..]).all(|b| *b == 0xff));
}

#[test]
fn a_medium_without_holes_is_zeroed_by_writing() {
    let dir = Dir::new();
    let path = dir.file("r", &[0xff; 3 << 20]);
    let mut file = WritableFile::open(&path, &Locking::at_once()).unwrap();
    // Block devices report no holes, so all of it is data.
    file.inner.block_device = true;
    file.zero(Span::new(5, (3 << 20) - 5)).unwrap();
    file.zero(Span::new(3 << 20, 0)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..6], [0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    assert!(bytes[5..].iter().all(|b| *b == 0));
    assert_eq!(file.next_data(0..3 << 20).unwrap(), Some(0..3 << 20));
}

#[test]
fn nothing_is_written_past_the_end() {
    let dir = Dir::new();
    let path = dir.file("r", &[1; 4096]);
    let mut file = WritableFile::open(&path, &Locking::at_once()).unwrap();
    assert_eq!(file.write_at(4090, &[2; 7]).unwrap_err().span, Span::new(4090, 7));
    assert!(file.write_at(u64::MAX, &[2]).is_err());
    assert!(file.zero(Span::new(4000, 97)).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), [1; 4096]);
    file.grow(8192).unwrap();
    file.write_at(8191, &[3]).unwrap();
    assert!(file.grow(4096).is_err());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8192);
}

#[test]
fn only_one_writes() {
    let dir = Dir::new();
    let path = dir.file("r", b"x");
    let writer = WritableFile::open(&path, &Locking::at_once()).unwrap();
    let error = WritableFile::open(&path, &Locking::at_once()).unwrap_err();
    assert!(matches!(error, FileError::Locked { .. }), "{error}");
    drop(writer);
    WritableFile::open(&path, &Locking::at_once()).unwrap();
}

#[test]
fn a_writer_that_waits_gets_the_file_that_has_the_name_then() {
    let dir = Dir::new();
    let path = dir.file("r", b"old");
    let writer = WritableFile::open(&path, &Locking::at_once()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let patient = Locking { limit: std::time::Duration::from_secs(20), ..Locking::at_once() };
            WritableFile::open(&path, &patient).unwrap().size()
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::fs::rename(dir.file("new", b"another"), &path).unwrap();
        drop(writer);
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn a_new_file_is_sparse_and_never_replaces_content() {
    let dir = Dir::new();
    let path = dir.path("r");
    let made = WritableFile::create_new(&path, 1 << 40, &Locking::at_once()).unwrap();
    assert_eq!(made.end(), Some(1 << 40));
    drop(made);
    assert!(std::fs::metadata(&path).unwrap().blocks() < 64);
    let error = WritableFile::create_new(&path, 4096, &Locking::at_once()).unwrap_err();
    assert!(matches!(error, FileError::Exists { size: 0x100_0000_0000, .. }), "{error}");
    let empty = dir.file("empty", b"");
    assert_eq!(WritableFile::create_new(&empty, 4096, &Locking::at_once()).unwrap().size(), 4096);
}

#[test]
fn a_size_that_the_filesystem_does_not_have_leaves_no_file_behind() {
    let dir = Dir::new();
    let path = dir.path("r");
    let error = WritableFile::create_new(&path, u64::MAX, &Locking::at_once()).unwrap_err();
    assert!(matches!(error, FileError::TooLarge { .. }), "{error}");
    assert!(!path.exists());
}

#[test]
fn what_holds_no_bytes_is_refused_without_waiting() {
    let dir = Dir::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(dir.path("socket")).unwrap();
    symlink(dir.path("fifo"), dir.path("link")).unwrap();
    let cases = [
        (dir.0.path().to_owned(), "directory"),
        (dir.path("fifo"), "pipe"),
        (dir.path("link"), "pipe"),
        (dir.path("socket"), "socket"),
        (PathBuf::from("/dev/null"), "character device other than memory"),
        (PathBuf::from("/dev/zero"), "character device other than memory"),
    ];
    for (path, expected) in cases {
        for error in [RegionFile::open(&path).unwrap_err(), WritableFile::open(&path, &Locking::at_once()).unwrap_err()]
        {
            match error {
                FileError::WrongKind { what, .. } => assert_eq!(what, expected),
                other => panic!("{}: {other}", path.display()),
            }
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let dir = Dir::new();
    let error = RegionFile::open(&dir.path("none")).unwrap_err();
    assert!(matches!(error, FileError::NotFound { .. }), "{error}");
    assert!(error.to_string().ends_with("none does not exist"), "{error}");
}

#[test]
fn errors_of_open_have_names() {
    let explain = |errno: Errno| node::explain(Path::new("x"), Access::Write, errno.into());
    assert!(matches!(explain(Errno::ACCESS), FileError::Denied { access: "writing", .. }));
    assert!(matches!(explain(Errno::PERM), FileError::Denied { .. }));
    assert!(matches!(explain(Errno::ROFS), FileError::ReadOnly { .. }));
    assert!(matches!(explain(Errno::BUSY), FileError::InUse { .. }));
    assert!(matches!(explain(Errno::NOSPC), FileError::NoSpace { .. }));
    assert!(matches!(explain(Errno::IO), FileError::Io { .. }));
}

#[test]
fn a_reader_of_what_is_written_sees_it_and_keeps_the_lock() {
    let dir = Dir::new();
    let path = dir.file("r", &[0; 100]);
    let mut file = WritableFile::open(&path, &Locking::at_once()).unwrap();
    let reader = file.reader().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| file.write_at(10, b"written").unwrap()).join().unwrap();
        scope.spawn(|| {
            let mut buf = [0; 7];
            reader.read_at(10, &mut buf).unwrap();
            assert_eq!(&buf, b"written");
            assert_eq!(absent(reader.read_at(99, &mut buf).unwrap_err()), (Span::new(100, 6), Absence::BeyondEnd));
        });
    });
    drop(file);
    assert!(matches!(WritableFile::open(&path, &Locking::at_once()), Err(FileError::Locked { .. })));
    drop(reader);
    WritableFile::open(&path, &Locking::at_once()).unwrap();
}

#[test]
fn a_stretch_that_is_known_ends_where_a_hole_is_made() {
    let dir = Dir::new();
    let path = dir.file("r", &[0xff; 1 << 20]);
    let mut file = WritableFile::open(&path, &Locking::at_once()).unwrap();
    assert_eq!(file.next_data(0..4096).unwrap(), Some(0..4096));
    assert_eq!(file.next_data(8192..2 << 20).unwrap(), Some(8192..1 << 20));
    file.zero(Span::new(256 << 10, 256 << 10)).unwrap();
    assert_eq!(file.next_data(256 << 10..512 << 10).unwrap(), None);
    assert_eq!(file.next_data(0..1 << 20).unwrap(), Some(0..256 << 10));
}
