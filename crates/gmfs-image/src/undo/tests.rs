use super::*;

/// An image, its state after some writes, and the undo file.
fn recorded() -> (Vec<u8>, Vec<u8>, tempfile::TempDir, PathBuf) {
    let before: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
    let mut image = before.clone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undo");
    let mut target = Recorded::new(&mut image, &path).unwrap();
    target.write_at(5000, &[1; 9000]).unwrap();
    target.write_at(5000, &[2; 10]).unwrap();
    target.zero(Span::new(39_000, 1000)).unwrap();
    target.finish().unwrap();
    (before, image, folder, path)
}

#[test]
fn writes_are_taken_back_bit_for_bit() {
    let (before, mut image, _folder, path) = recorded();
    assert_ne!(image, before);
    let undo = Undo::open(&path).unwrap();
    assert_eq!((undo.len(), undo.length()), (4, Some(40_000)));
    undo.revert(&mut image, false).unwrap();
    assert_eq!(image, before);
}

#[test]
fn a_changed_or_foreign_image_is_refused_before_the_first_write() {
    let (_, mut image, _folder, path) = recorded();
    image[13_999] ^= 1;
    let untouched = image.clone();
    let refused = Undo::open(&path).unwrap().revert(&mut image, false);
    assert!(matches!(refused, Err(UndoError::Changed { offset: 12_288 })), "{refused:?}");
    assert_eq!(image, untouched);
}

/// Damages an undo file in every way at every `step`-th byte. Nothing may be written to the image then.
fn refuses(image: &[u8], path: &Path, step: usize) {
    let good = std::fs::read(path).unwrap();
    let bad = path.with_extension("bad");
    let refused = |bytes: &[u8], what: &str, at: usize| {
        std::fs::write(&bad, bytes).unwrap();
        let mut target = image.to_vec();
        let done = Undo::open(&bad).and_then(|undo| undo.revert(&mut target, false));
        assert!(done.is_err() && target == image, "{what} at {at}");
    };
    for at in (0..good.len()).step_by(step) {
        for bit in [0x01, 0x80] {
            let mut flipped = good.clone();
            flipped[at] ^= bit;
            refused(&flipped, "flip", at);
        }
        refused(&good[..at], "cut", at);
    }
    refused(&[good.as_slice(), &[0]].concat(), "a byte more", good.len());
}

#[test]
fn any_flipped_byte_and_any_cut_is_noticed() {
    let (_, image, _folder, path) = recorded();
    refuses(&image, &path, 61);
    // A small file is damaged at every byte. It has two pages, the second of 90 bytes.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undo");
    let mut image = vec![3; 4096 + 90];
    let mut target = Recorded::new(&mut image, &path).unwrap();
    target.write_at(4100, &[1; 50]).unwrap();
    target.finish().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 200);
    refuses(&image, &path, 1);
}

#[test]
fn an_undo_that_was_stopped_is_ended_by_the_next_and_a_second_one_does_nothing() {
    let (before, left, _folder, path) = recorded();
    let undo = Undo::open(&path).unwrap();
    for done in 0..=4 {
        let mut image = left.clone();
        for offset in undo.pages.keys().take(done) {
            let page = *offset as usize..(*offset as usize + 4096).min(before.len());
            image[page.clone()].copy_from_slice(&before[page]);
        }
        assert_eq!(undo.revert(&mut image, false).unwrap(), 4 - done as u64);
        assert!(image == before);
        assert_eq!(undo.revert(&mut image, false).unwrap(), 0);
        // A torn page matches neither state.
        image[5000] = 77;
        assert!(matches!(undo.revert(&mut image, false), Err(UndoError::Changed { offset: 4096 })));
    }
    let mut short = left[..left.len() - 1].to_vec();
    assert!(matches!(undo.revert(&mut short, false), Err(UndoError::Length { now: 39_999, then: 40_000 })));
}

/// Once a page could not be recorded, all later writes must fail.
#[test]
fn nothing_is_written_that_was_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    for good in [0, 2] {
        let path = folder.path().join(format!("undo-{good}"));
        let before = vec![7; 40_000];
        let mut image = before.clone();
        let mut target = Recorded::new(&mut image, &path).unwrap();
        for page in 0..good {
            target.write_at(page * PAGE, &[9; 100]).unwrap();
        }
        let writable = std::mem::replace(&mut target.file, File::open(&path).unwrap());
        let written = target.target.clone();
        for _ in 0..2 {
            let error = target.write_at(20_000, &[1; 4096]).unwrap_err();
            assert!(error.source.to_string().contains("cannot use the undo file"), "{error:?}");
            assert!(target.zero(Span::new(0, 4096)).is_err());
        }
        assert!(*target.target == written);
        target.file = writable;
        target.finish().unwrap();
        assert_eq!(path.exists(), good > 0);
        if good > 0 {
            assert_eq!(Undo::open(&path).unwrap().revert(&mut image, false).unwrap(), good);
            assert!(image == before);
        }
    }
}

#[test]
fn a_file_without_an_end_can_be_forced() {
    let (before, mut image, folder, path) = recorded();
    let good = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut");
    std::fs::write(&cut, &good[..good.len() - 10 - 4 * 12]).unwrap();
    let undo = Undo::open(&cut);
    assert!(undo.is_err() || undo.is_ok_and(|undo| undo.revert(&mut image, false).is_err()));
    let records = good.len() - (16 + 4 * 12 + 4);
    std::fs::write(&cut, &good[..records]).unwrap();
    let undo = Undo::open(&cut).unwrap();
    assert!(matches!(undo.revert(&mut image, false), Err(UndoError::Unfinished(_))));
    undo.revert(&mut image, true).unwrap();
    assert_eq!(image, before);
}

/// A target whose write fails half way, and which cannot be read afterwards.
struct Failing {
    bytes: Vec<u8>,
    broken: bool,
}

impl ReadAt for Failing {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if self.broken {
            let span = Span::new(offset, buf.len() as u64);
            return Err(ReadError::Io { span, source: io::ErrorKind::Other.into() });
        }
        self.bytes.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }
}

impl WriteAt for Failing {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let half = &bytes[..bytes.len() / 2];
        self.bytes.write_at(offset, half).unwrap();
        self.broken = true;
        Err(WriteError { span: Span::new(offset, bytes.len() as u64), source: io::ErrorKind::Other.into() })
    }

    fn zero(&mut self, span: Span) -> Result<(), WriteError> {
        self.bytes.zero(span)
    }

    fn barrier(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

/// After a successful write, nothing is read. A page that a failed write left in an unknown state can be put back.
#[test]
fn a_write_that_fails_can_be_taken_back_although_nobody_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let before: Vec<u8> = (0..40_960_u32).map(|n| (n / 7 % 251) as u8).collect();
    for zeroed in [true, false] {
        let path = folder.path().join(format!("undo-{zeroed}"));
        let target = Failing { bytes: before.clone(), broken: false };
        let mut target = Recorded::new(target, &path).unwrap();
        if zeroed {
            target.zero(Span::new(100, 5000)).unwrap();
        }
        assert!(target.write_at(8192, &[9; 4096]).is_err());
        let (target, pages) = target.finish().unwrap();
        assert_eq!(pages, if zeroed { 3 } else { 1 });
        let mut image = target.bytes;
        assert_ne!(image, before);
        Undo::open(&path).unwrap().revert(&mut image, false).unwrap();
        assert_eq!(image, before);
        // An image that matches nothing in the undo file is refused.
        let mut other = vec![5; before.len()];
        assert!(Undo::open(&path).unwrap().revert(&mut other, false).is_err());
        assert!(matches!(Undo::open(&path).unwrap().revert(&mut other, true), Err(UndoError::Unrelated)));
        assert!(other.iter().all(|byte| *byte == 5));
    }
}
