//! Trees out of a store, into a directory.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use gmfs_io::Span;

use super::*;
use crate::content::{Each, Gap, Gaps, Part, Why};
use crate::testing::{content, open, region};

fn extracted(store: &Store, path: &[u8], to: &Path, options: &Options) -> Result<Vec<DoneFile>, Error> {
    let inodes = store.inodes().tree;
    let top = inodes.resolve(path).unwrap();
    let done = tree(store, &inodes, top, Folder::open(to).unwrap(), options, &())?;
    assert!(done.left_out.is_empty());
    Ok(done.files)
}

#[test]
fn a_tree_becomes_files_and_directories() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&region(dir.path())).unwrap();
    let to = dir.path().join("to");
    fs::create_dir(&to).unwrap();
    let done = extracted(&store, b"/", &to, &Options::default()).unwrap();
    let files: Vec<_> = done.iter().map(|file| (file.path.as_slice(), file.output.clone())).collect();
    assert_eq!(files, [(&b"/vms/a"[..], to.join("vms/a")), (b"/vms/deep/b", to.join("vms/deep/b"))]);
    assert!(fs::read(to.join("vms/a")).unwrap() == content());
    assert_eq!(fs::read(to.join("vms/deep/b")).unwrap(), b"small");
    assert!(to.join("empty").is_dir());
    let meta = fs::metadata(to.join("vms/a")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o600, 1));
    assert!(meta.blocks() * 512 < meta.len(), "the hole stays a hole");
    // What is there is replaced only when that is asked for.
    let again = extracted(&store, b"/vms", &to.join("vms"), &Options::default());
    let Err(Error::Entry { path, source }) = again else { panic!("{again:?}") };
    assert_eq!(path, b"/vms/a");
    assert!(source.to_string().starts_with("cannot make ") && matches!(*source, Error::NewFile(_)), "{source:?}");
    extracted(&store, b"/vms", &to.join("vms"), &Options { replace: true, ..Options::default() }).unwrap();
}

#[test]
fn links_outside_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&region(dir.path())).unwrap();
    for name in ["to", "elsewhere"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    symlink("../elsewhere", dir.path().join("to/vms")).unwrap();
    let done = extracted(&store, b"/", &dir.path().join("to"), &Options::default());
    assert!(done.unwrap_err().to_string().contains("'/vms'"));
    assert_eq!(fs::read_dir(dir.path().join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn what_is_unknown_is_refused_unless_holes_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let image = region(dir.path());
    let store = open(&image).unwrap();
    let inodes = store.inodes().tree;
    let a = inodes.resolve(b"/vms/a").unwrap();
    let mut pieces = store.content(a).unwrap();
    let lost = pieces[0].file();
    pieces[0] = Piece::Lost { file: lost };
    let folder = Arc::new(Folder::open(dir.path()).unwrap());
    let mut options = Options::default();
    let refused = file(&store, a, &pieces, (&folder, "a".as_ref()), &options, &());
    assert!(matches!(&refused, Err(Error::Gaps(gaps)) if gaps.bytes() == lost.len), "{refused:?}");
    options.leave_gaps = true;
    let made = file(&store, a, &pieces, (&folder, "a".as_ref()), &options, &()).unwrap();
    assert!(!dir.path().join("a").exists(), "it has its name when the gaps are noted");
    assert_eq!(made.copied.gaps.bytes(), lost.len);
    made.file.keep().unwrap();
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().len(), a.size);
    // The image's own files are not replaced, whatever name leads there.
    options.replace = true;
    options.inputs = vec![image.clone()];
    let refused = file(&store, a, &pieces, (&folder, "region.img".as_ref()), &options, &());
    assert!(refused.unwrap_err().to_string().contains("cannot make"));
}

#[test]
fn progress_is_told_of_each_file_and_can_stop() {
    struct Log(RefCell<Vec<String>>, &'static str);
    impl Progress for Log {
        fn begin(&self, path: &[u8], bytes: u64) {
            self.0.borrow_mut().push(format!("{} {bytes}", String::from_utf8_lossy(path)));
        }
        fn should_stop(&self) -> bool {
            self.0.borrow().last().is_some_and(|last| last.starts_with(self.1))
        }
    }
    impl Observer for Log {}
    let dir = tempfile::tempdir().unwrap();
    let store = open(&region(dir.path())).unwrap();
    let inodes = store.inodes().tree;
    let into = || Folder::open(dir.path()).unwrap();
    let log = Log(RefCell::default(), "/vms/deep/b");
    let top = inodes.resolve(b"/").unwrap();
    let done = tree(&store, &inodes, top, into(), &Options::default(), &log);
    assert_eq!(log.0.into_inner(), [format!("/vms/a {}", content().len()), "/vms/deep/b 5".to_owned()]);
    assert!(matches!(done, Err(Error::Entry { source, .. }) if matches!(*source, Error::Copy(CopyError::Stopped))));
    assert!(dir.path().join("vms/a").exists() && fs::read_dir(dir.path().join("vms/deep")).unwrap().next().is_none());
}

#[test]
fn a_job_extracts_each_operand_where_it_belongs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&region(dir.path())).unwrap();
    let inodes = store.inodes().tree;
    let at = |path: &str| inodes.resolve(path.as_bytes()).unwrap();
    let mut job = Job::new((&store, &inodes), [at("/vms/a"), at("/vms/deep")], Options::default(), &());
    let target = |name: &str, path: &str| Target::new(&dir.path().join(name), at(path));
    assert_eq!(target("", "/vms/a").unwrap().path(), dir.path().join("a"));
    assert_eq!(target("new", "/vms/a").unwrap().path(), dir.path().join("new"));
    // A dry run makes nothing, and says what would be in the way.
    job.plan((at("/vms/deep"), b"/vms/deep"), &dir.path().join("x")).unwrap();
    let refused = job.plan((at("/vms/a"), b"/vms/a"), &dir.path().join("region.img"));
    assert!(matches!(refused, Err(Error::NewFile(_))), "{refused:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    job.extract((at("/vms/a"), b"/vms/a"), target("", "/vms/a").unwrap()).unwrap();
    job.extract((at("/vms/deep"), b"/vms/deep"), target("x", "/vms/deep").unwrap()).unwrap();
    let refused = job.extract((at("/vms/a"), b"/vms/a"), target("file/", "/vms/a").unwrap());
    assert!(matches!(refused, Err(Error::NotDirectory(_))), "{refused:?}");
    let made: Vec<_> = job.done.files.iter().map(|file| file.output.strip_prefix(dir.path()).unwrap()).collect();
    assert_eq!(made, [Path::new("x/b"), Path::new("a"), Path::new("x/b")]);
    assert!(dir.path().join("x/b").exists() && fs::read(dir.path().join("a")).unwrap() == content());
}

#[test]
fn a_range_of_a_file_is_read_with_its_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let image = region(dir.path());
    let store = open(&image).unwrap();
    let inode = store.inodes().tree.resolve(b"/vms/a").unwrap().clone();
    let (mut read, mut zeros, mut gaps) = (vec![9; content().len()], Vec::new(), Vec::new());
    let mut look = |range| {
        let mut sink = Each(|part: Part<'_>| {
            match part {
                Part::Data { at, bytes } => read[usize::try_from(at).unwrap()..][..bytes.len()].copy_from_slice(bytes),
                Part::Zeros(span) => zeros.push(span),
                Part::Gap(gap) => gaps.push(gap),
            }
            Ok::<_, crate::Error>(())
        });
        store.read_with_gaps(&inode, range, &mut sink).unwrap();
    };
    look(100..u64::MAX);
    // The image loses its end, and with it the end of the file.
    let last = store.content(&inode).unwrap().pop().unwrap();
    let Piece::Data { file, at, .. } = last else { panic!("{last:?}") };
    fs::File::options().write(true).open(&image).unwrap().set_len(at + 4096).unwrap();
    look(file.offset..u64::MAX);
    let expected = content();
    assert!(read[100..1 << 21] == expected[100..1 << 21] && read[2 << 21..] == expected[2 << 21..]);
    assert_eq!(read[..100], [9; 100]);
    assert_eq!(zeros, [Span::new(1 << 21, 1 << 21)]);
    let span = Span::new(file.offset + 4096, file.len - 4096);
    let found = gaps.iter().fold(Gaps::default(), |mut all, gap: &Gap| {
        all.add(*gap);
        all
    });
    let why = Why::Absent(gmfs_io::Absence::BeyondEnd);
    assert_eq!(found.iter().collect::<Vec<_>>(), [Gap { span, at: Some(at + 4096), why }]);
}

#[test]
fn a_store_is_saved_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let image = region(dir.path());
    let bytes = fs::read(&image).unwrap();
    fs::write(&image, [&vec![1; 4096][..], &bytes, &[1; 8192]].concat()).unwrap();
    let spec = gmfs_format::spec::RegionSpec { size: 32 << 20, base: Some(4096) };
    let spec = crate::ImageSpec { region: Some(spec), ..crate::ImageSpec::from(image.as_path()) };
    let located = spec.locate(None, &()).unwrap();
    let size = located.store_size().unwrap();
    assert_eq!(size, 32 << 20);
    let located = located.cut(size);
    assert!(crate::save::known(&located).is_empty());
    let new = NewFile::begin(&dir.path().join("saved"), false, []).unwrap();
    let copied = crate::save::into(&located, new.file(), &()).unwrap();
    new.keep().unwrap();
    assert!(copied.gaps.is_empty() && copied.written > 0);
    assert!(fs::read(dir.path().join("saved")).unwrap() == bytes);
}
