//! Headers that are chained through a file: each says where the next one is. Small pieces between them are read in one go
//! with them, so that a file of a million of them costs by its bytes.

use gmfs_io::{ReadAt, ReadError};

/// How much is read at once where headers follow one another closely.
const AHEAD: usize = 64 << 10;
/// Two headers with fewer bytes between them do.
const NEAR: u64 = 2048;
/// How much is read at once to search.
const SEARCH: usize = 1 << 20;
/// So many places are looked at before a search is given up: a file may consist of what only resembles a header.
const CANDIDATES: u32 = 1 << 16;

/// Reads headers of a file whose end is known.
pub(crate) struct Ahead<'f, R> {
    file: &'f R,
    size: u64,
    buf: Vec<u8>,
    start: u64,
    /// Where the last header was.
    last: u64,
}

impl<'f, R: ReadAt> Ahead<'f, R> {
    pub(crate) const fn new(file: &'f R, size: u64) -> Self {
        Self { file, size, buf: Vec::new(), start: 0, last: 0 }
    }

    /// The file's size.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Up to `N` bytes at `at`: those that the file has. The others are zero.
    pub(crate) fn some<const N: usize>(&mut self, at: u64) -> Result<([u8; N], usize), ReadError> {
        let mut out = [0; N];
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(N);
        let there = left.min(N);
        if there == 0 {
            return Ok((out, 0));
        }
        let held = |buf: &[u8], start: u64| {
            let index = usize::try_from(at.checked_sub(start)?).ok()?;
            buf.get(index..index.checked_add(there)?).map(<[u8]>::to_vec)
        };
        let near = at.abs_diff(self.last) < NEAR;
        self.last = at;
        let bytes = match held(&self.buf, self.start) {
            Some(bytes) => bytes,
            None => {
                self.buf.resize(if near { AHEAD.min(left).max(there) } else { there }, 0);
                self.start = at;
                if let Err(error) = self.file.read_at(at, &mut self.buf) {
                    self.buf.clear();
                    return Err(error);
                }
                self.buf.get(..there).unwrap_or_default().to_vec()
            }
        };
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = from;
        }
        Ok((out, there))
    }

    /// `N` bytes at `at`, if the file has all of them.
    pub(crate) fn whole<const N: usize>(&mut self, at: u64) -> Result<Option<[u8; N]>, ReadError> {
        let (bytes, there) = self.some::<N>(at)?;
        Ok((there == N).then_some(bytes))
    }

    /// The first place in `[from, to)` whose `N` bytes `may` be a header, and that `is` one by what follows it.
    pub(crate) fn search<const N: usize>(
        &mut self,
        from: u64,
        to: u64,
        may: impl Fn(&[u8; N]) -> bool,
        mut is: impl FnMut(&mut Self, u64) -> Result<bool, ReadError>,
    ) -> Result<Option<u64>, ReadError> {
        let mut at = from;
        let mut left = CANDIDATES;
        let mut window = Vec::new();
        while at < to.min(self.size) {
            let length = usize::try_from(self.size.saturating_sub(at)).unwrap_or(SEARCH).min(SEARCH);
            window.resize(length, 0);
            self.file.read_at(at, &mut window)?;
            for (place, bytes) in (at..to).zip(window.array_windows_of::<N>()) {
                if !may(bytes) {
                    continue;
                }
                if is(self, place)? {
                    return Ok(Some(place));
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    return Ok(None);
                }
            }
            // A header may begin at the end of this piece.
            let passed = length.saturating_sub(N).saturating_add(1);
            at = at.saturating_add(u64::try_from(passed).unwrap_or(1).max(1));
            if length < N {
                break;
            }
        }
        Ok(None)
    }
}

/// `slice::array_windows`, which is not in all versions of Rust that this builds with.
trait ArrayWindows {
    fn array_windows_of<const N: usize>(&self) -> impl Iterator<Item = &[u8; N]>;
}

impl ArrayWindows for [u8] {
    fn array_windows_of<const N: usize>(&self) -> impl Iterator<Item = &[u8; N]> {
        self.windows(N.max(1)).filter_map(|window| window.first_chunk::<N>())
    }
}
