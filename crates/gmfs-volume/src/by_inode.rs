//! A value for each inode that descriptors name, in any order, found without a search.

use std::collections::BTreeMap;

use gmfs_format::native::units::{InodeNo, len64, to_u32, to_usize};

/// No value yet.
const NONE: u32 = u32::MAX;
/// Numbers from here on are searched for, so that memory does not grow with a number that an image names.
const DIRECT: u32 = 1 << 20;

/// Values by inode. Low numbers lead to their values directly. Others, which only a large region has, or which a damaged
/// descriptor names, are searched for.
#[derive(Clone, Debug)]
pub struct ByInode<T> {
    /// Where the values of low numbers are, up to the highest number that has a value.
    places: Vec<u32>,
    others: BTreeMap<InodeNo, u32>,
    values: Vec<(InodeNo, T)>,
}

impl<T> Default for ByInode<T> {
    fn default() -> Self {
        Self { places: Vec::new(), others: BTreeMap::new(), values: Vec::new() }
    }
}

impl<T> ByInode<T> {
    /// The value of an inode.
    #[must_use]
    pub fn get(&self, ino: InodeNo) -> Option<&T> {
        let direct = self.places.get(to_usize(ino.0));
        let place = if ino.0 < DIRECT { direct } else { self.others.get(&ino) };
        self.values.get(to_usize(*place?)).map(|(_, value)| value)
    }

    /// The value of an inode, which `make` makes if there is none. `None` if there are more than can be counted.
    pub fn get_or_insert_with(&mut self, ino: InodeNo, make: impl FnOnce() -> T) -> Option<&mut T> {
        let place = if ino.0 < DIRECT {
            let at = to_usize(ino.0);
            if self.places.len() <= at {
                self.places.resize(at.saturating_add(1), NONE);
            }
            self.places.get_mut(at)?
        } else {
            self.others.entry(ino).or_insert(NONE)
        };
        if *place == NONE {
            *place = to_u32(len64(self.values.len()));
            self.values.push((ino, make()));
        }
        self.values.get_mut(to_usize(*place)).map(|(_, value)| value)
    }

    /// All values, by inode.
    pub fn into_values(self) -> impl Iterator<Item = (InodeNo, T)> {
        let mut values = self.values;
        values.sort_unstable_by_key(|(ino, _)| *ino);
        values.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_inode_has_one_value() {
        let mut sums = ByInode::default();
        let names = [3, DIRECT - 1, 3, u32::MAX, 1, DIRECT, u32::MAX, 0, 3];
        for (ino, number) in names.into_iter().zip(1_u64..) {
            *sums.get_or_insert_with(InodeNo(ino), || 100).unwrap() += number;
        }
        assert_eq!(
            [0, 2, DIRECT, DIRECT + 1].map(|ino| sums.get(InodeNo(ino)).copied()),
            [Some(108), None, Some(106), None]
        );
        let found: Vec<(u32, u64)> = sums.into_values().map(|(ino, sum)| (ino.0, sum)).collect();
        assert_eq!(found, [(0, 108), (1, 105), (3, 113), (DIRECT - 1, 102), (DIRECT, 106), (u32::MAX, 111)]);
    }
}
