//! Counts the memory that a dump describes. It is not listed, because a dump may describe it in millions of ranges.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use gmfs_io::Absence;

/// How much memory a dump describes, and in how many ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Bytes that the dump holds.
    pub held: u64,
    /// How many ranges these bytes are in.
    pub held_ranges: u64,
    /// Bytes that the dump describes but does not hold, by reason. Each reason in the map has at least one byte.
    pub absent: BTreeMap<Absence, u64>,
    /// How many ranges there are, held or absent.
    pub ranges: u64,
}

impl Totals {
    /// Adds `bytes` in `ranges` ranges, all of which are held, or absent for the same reason.
    pub fn add(&mut self, bytes: u64, ranges: u64, why: Option<Absence>) {
        if bytes == 0 {
            return;
        }
        self.ranges = self.ranges.saturating_add(ranges);
        match why {
            None => {
                self.held = self.held.saturating_add(bytes);
                self.held_ranges = self.held_ranges.saturating_add(ranges);
            }
            Some(why) => {
                let sum = self.absent.entry(why).or_default();
                *sum = sum.saturating_add(bytes);
            }
        }
    }

    /// Subtracts bytes that were added but are outside the range that is counted.
    pub fn take(&mut self, bytes: u64, why: Option<Absence>) {
        match why {
            None => self.held = self.held.saturating_sub(bytes),
            Some(why) => {
                if let Some(sum) = self.absent.get_mut(&why) {
                    *sum = sum.saturating_sub(bytes);
                }
            }
        }
    }

    /// Changes bytes that were added as held into absent ones.
    pub fn lose(&mut self, bytes: u64, why: Absence) {
        self.held = self.held.saturating_sub(bytes);
        let sum = self.absent.entry(why).or_default();
        *sum = sum.saturating_add(bytes);
    }
}
