//! Reads headers that form a chain through a file: each says where the next one is. Small pieces between headers are
//! read together with them, so that a file with a million small pieces takes few reads.

use gmfs_io::{ReadAt, ReadError};

/// How many bytes one read takes where headers follow one another closely.
const AHEAD: usize = 64 << 10;
/// Headers follow one another closely if fewer bytes than this are between them.
const NEAR: u64 = 2048;
/// How many bytes one read of a search takes.
const SEARCH: usize = 1 << 20;
/// How many candidates a search checks before it stops: a hostile file may consist of bytes that resemble headers.
const CANDIDATES: u32 = 1 << 16;

/// Reads headers of a file whose size is known.
pub(crate) struct Ahead<'f, R> {
    file: &'f R,
    size: u64,
    buf: Vec<u8>,
    start: u64,
    /// The offset of the header that was read last.
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

    /// Up to `N` bytes at `at`, and how many of them the file has. The others are zero.
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

    /// The offset of the first header in `[from, to)`: its `N` bytes pass the quick check `may`, and what follows them
    /// passes the check `is`.
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
            // A header may start in this piece and end in the next one, so the next piece starts before the end of this
            // one.
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
