//! The physical memory map of the guest's kernel, `/proc/iomem`.

use anyhow::{Context as _, Result};

use crate::guest::Guest;

/// The top-level lines of `/proc/iomem`: first address, last address, name.
pub(crate) struct Iomem {
    ranges: Vec<(u64, u64, String)>,
}

/// Reads it from the guest.
pub(crate) fn of(guest: &mut Guest) -> Result<Iomem> {
    parse(&guest.check("cat /proc/iomem")?).context("a line of /proc/iomem")
}

impl Iomem {
    /// The kernel's name for exactly this range.
    pub(crate) fn name_at(&self, base: u64, size: u64) -> Option<&str> {
        self.ranges
            .iter()
            .find(|(first, last, _)| *first == base && *last == base + size - 1)
            .map(|(_, _, name)| name.as_str())
    }

    /// The address of a range of this size within System RAM: a multiple of 2 MiB, above the first 16 MiB.
    pub(crate) fn system_ram(&self, size: u64) -> Result<u64> {
        self.ranges
            .iter()
            .filter(|(_, _, name)| name == "System RAM")
            .map(|(first, last, _)| ((*first).max(16 << 20).next_multiple_of(2 << 20), *last))
            .find(|(base, last)| base + size <= *last)
            .map(|(base, _)| base)
            .context("the guest has too little System RAM in one piece")
    }
}

/// Parses the lines that are not indented. An indented line is within one of them.
fn parse(text: &str) -> Option<Iomem> {
    let ranges = text
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| {
            let (range, name) = line.split_once(" : ")?;
            let (first, last) = range.split_once('-')?;
            let number = |digits| u64::from_str_radix(digits, 16).ok();
            Some((number(first)?, number(last)?, name.to_owned()))
        })
        .collect::<Option<_>>()?;
    Some(Iomem { ranges })
}

#[test]
fn finds_ranges() {
    let iomem = parse(
        "00001000-0009fbff : System RAM\n00100000-0fffffff : System RAM\n  08600000-09401ef1 : Kernel code\n\
         10000000-13ffffff : Reserved\n",
    );
    let iomem = iomem.as_ref();
    assert_eq!(iomem.and_then(|map| map.name_at(0x1000_0000, 64 << 20)), Some("Reserved"));
    assert_eq!(iomem.and_then(|map| map.system_ram(64 << 20).ok()), Some(16 << 20));
    assert!(iomem.is_some_and(|map| map.system_ram(1 << 30).is_err()));
}
