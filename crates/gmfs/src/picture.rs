//! A picture of what the bytes of a store are used for, in as many cells as there is room for, and how long the
//! stretches are.

use crate::allocation::Stretch;
use crate::store::{Store, What};

/// What a cell of a picture shows. A cell that holds several of these shows the last of them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Free memory.
    Free,
    /// Content of files.
    File,
    /// Metadata.
    Metadata,
    /// Bytes past the last whole block.
    Tail,
    /// Memory that nothing owns and that is marked as used.
    Leaked,
    /// A repair has reserved it.
    Reserved,
    /// It is unknown what it is used for.
    Unknown,
    /// It has hardware errors.
    Bad,
}

impl Use {
    /// All of them, in their order.
    pub const ALL: [Self; 8] =
        [Self::Free, Self::File, Self::Metadata, Self::Tail, Self::Leaked, Self::Reserved, Self::Unknown, Self::Bad];

    /// What a stretch counts as.
    #[must_use]
    pub const fn of(what: What) -> Self {
        match what {
            What::Free => Self::Free,
            What::File => Self::File,
            What::Metadata => Self::Metadata,
            What::Tail => Self::Tail,
            What::Leaked => Self::Leaked,
            What::Reserved | What::ReserveMem | What::Preserved | What::NotPreserved | What::Scratch => Self::Reserved,
            What::Bad => Self::Bad,
            What::Unknown | What::Lost | What::Outside => Self::Unknown,
        }
    }
}

/// Bytes by what they are used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix([u64; Use::ALL.len()]);

impl Mix {
    /// How many bytes are used for this.
    #[must_use]
    pub fn bytes(&self, of: Use) -> u64 {
        Use::ALL.iter().zip(self.0).find(|(own, _)| **own == of).map_or(0, |(_, bytes)| bytes)
    }

    fn add(&mut self, of: Use, bytes: u64) {
        for (own, count) in Use::ALL.iter().zip(&mut self.0) {
            *count = count.saturating_add(if *own == of { bytes } else { 0 });
        }
    }

    /// What the cell shows: the last in the order of [`Use`] that is there. `false` if that is used memory and some of
    /// the cell is free.
    #[must_use]
    pub fn seen(&self) -> Option<(Use, bool)> {
        let last = Use::ALL.into_iter().rev().find(|of| self.bytes(*of) > 0)?;
        Some((last, last == Use::Free || self.bytes(Use::Free) == 0))
    }
}

/// How many stretches are of a length from this power of two to below the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lengths {
    /// Of this many bytes or more.
    pub from: u64,
    /// Stretches that belong to one file.
    pub extents: u64,
    /// Free runs.
    pub free_runs: u64,
    /// Bytes in these free runs.
    pub free_bytes: u64,
}

/// The picture.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Picture {
    /// Bytes of a cell: a power of two of blocks. The last cell may have fewer.
    pub cell_bytes: u64,
    /// The cells, in order.
    pub cells: Vec<Mix>,
    /// All bytes.
    pub total: Mix,
    /// How long stretches are, in order, without lengths that do not occur.
    pub lengths: Vec<Lengths>,
}

impl Picture {
    /// The picture of a store in at most this many cells; `None` for a hand-over, which has no memory of its own.
    #[must_use]
    pub fn of(store: &Store, most: usize) -> Option<Self> {
        let most = gmfs_io::num::len64(most.max(1));
        let mut cell_bytes = store.block_bytes().max(1);
        while store.size().div_ceil(cell_bytes) > most {
            cell_bytes = cell_bytes.checked_mul(2)?;
        }
        let cells = vec![Mix::default(); gmfs_io::num::small(store.size().div_ceil(cell_bytes))];
        let mut picture = Self { cell_bytes, cells, ..Self::default() };
        let mut lengths = [Lengths::default(); 64];
        let known = store.stretches(|stretch| {
            picture.draw(&stretch);
            count(&mut lengths, &stretch);
        });
        picture.lengths = lengths.into_iter().filter(|row| row.extents > 0 || row.free_runs > 0).collect();
        known.then_some(picture)
    }

    fn draw(&mut self, stretch: &Stretch) {
        let of = Use::of(stretch.what);
        self.total.add(of, stretch.len);
        let mut at = stretch.at;
        while at < stretch.end() {
            let Some(number) = at.checked_div(self.cell_bytes) else { return };
            let Some(cell) = self.cells.get_mut(gmfs_io::num::small(number)) else { return };
            let next = number.saturating_add(1).saturating_mul(self.cell_bytes).min(stretch.end());
            cell.add(of, next.saturating_sub(at));
            at = next;
        }
    }
}

fn count(lengths: &mut [Lengths; 64], stretch: &Stretch) {
    let Some(power) = stretch.len.checked_ilog2() else { return };
    let Some(row) = lengths.get_mut(gmfs_io::num::small(power.into())) else { return };
    row.from = 1_u64.checked_shl(power).unwrap_or_default();
    match stretch.what {
        What::Free => {
            row.free_runs = row.free_runs.saturating_add(1);
            row.free_bytes = row.free_bytes.saturating_add(stretch.len);
        }
        What::File => row.extents = row.extents.saturating_add(1),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn every_byte_is_in_one_cell_at_any_scale() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(&testing::region(dir.path())).unwrap();
        for most in [1, 3, 7, 16, 1000] {
            let picture = Picture::of(&store, most).unwrap();
            assert!(picture.cells.len() <= most, "{most}");
            let sum = |of| picture.cells.iter().map(|cell| cell.bytes(of)).sum::<u64>();
            let all: u64 = Use::ALL.into_iter().map(sum).sum();
            assert_eq!(all, store.size(), "{most}");
            assert!(Use::ALL.into_iter().all(|of| sum(of) == picture.total.bytes(of)), "{most}");
            assert_eq!(picture.total.bytes(Use::Free), store.usage().free << 21);
        }
    }

    #[test]
    fn what_matters_is_seen_before_the_rest() {
        let mut mix = Mix::default();
        assert_eq!(mix.seen(), None);
        mix.add(Use::Free, 5);
        assert_eq!(mix.seen(), Some((Use::Free, true)));
        mix.add(Use::File, 1);
        assert_eq!(mix.seen(), Some((Use::File, false)));
        mix.add(Use::Bad, 1);
        assert_eq!(mix.seen(), Some((Use::Bad, false)));
    }
}
