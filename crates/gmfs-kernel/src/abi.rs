//! The versions of the formats that a kernel hands over and takes. They are names such as `kho-v4`, which the kernel's
//! image contains as plain text, each followed by a zero byte.

use std::collections::BTreeSet;
use std::fmt;

use memchr::memmem::Finder;

use crate::release::{Release, Series};

/// One of the formats that have a version of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Family {
    /// The hand-over itself (KHO): root and map of preserved memory.
    Kho,
    /// The table of `reserve_mem=` regions.
    Memblock,
    /// One region of that table.
    ReserveMem,
    /// Live updates (LUO).
    Luo,
    /// The sessions of a live update, where they have a version of their own.
    LuoSession,
    /// Objects that files of a live update share, where they have a version of their own.
    LuoFlb,
    /// The memory of a memfd in a session.
    Memfd,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Kho, Self::Memblock, Self::ReserveMem, Self::Luo, Self::LuoSession, Self::LuoFlb, Self::Memfd];

    /// The name before the version: `kho` of `kho-v4`.
    #[must_use]
    pub const fn stem(self) -> &'static str {
        match self {
            Self::Kho => "kho",
            Self::Memblock => "memblock",
            Self::ReserveMem => "reserve-mem",
            Self::Luo => "luo",
            Self::LuoSession => "luo-session",
            Self::LuoFlb => "luo-flb",
            Self::Memfd => "memfd",
        }
    }
}

/// A format with its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The format.
    pub family: Family,
    /// Its version.
    pub number: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-v{}", self.family.stem(), self.number)
    }
}

/// The formats of one kernel. Today's kernels have one version of each, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abi {
    versions: BTreeSet<Version>,
}

/// A kernel has no more versions than this. Further ones in an image are left out.
const MOST_VERSIONS: usize = 64;

impl Abi {
    /// All versions, by family.
    pub fn iter(&self) -> impl Iterator<Item = Version> {
        self.versions.iter().copied()
    }

    /// The versions of one format.
    pub fn of(&self, family: Family) -> impl Iterator<Item = u32> {
        self.iter().filter(move |version| version.family == family).map(|version| version.number)
    }

    /// Whether the kernel knows a format in any version.
    #[must_use]
    pub fn has(&self, family: Family) -> bool {
        self.of(family).next().is_some()
    }

    /// Whether the kernel knows a format in this version and no other.
    #[must_use]
    pub fn is(&self, family: Family, number: u32) -> bool {
        self.of(family).eq([number])
    }

    /// Whether two kernels have a version of a format in common, or neither has the format.
    #[must_use]
    pub fn agrees(&self, other: &Self, family: Family) -> bool {
        let (mut own, has) = (self.of(family), self.has(family));
        if has { own.any(|number| other.of(family).any(|theirs| theirs == number)) } else { !other.has(family) }
    }

    /// Whether a kernel has several versions of a format, so that gmfs cannot tell which of them it writes.
    #[must_use]
    pub fn is_ambiguous(&self, family: Family) -> bool {
        self.of(family).count() > 1
    }

    /// Adds a version.
    pub fn add(&mut self, family: Family, number: u32) {
        if self.versions.len() < MOST_VERSIONS {
            self.versions.insert(Version { family, number });
        }
    }

    /// The same versions without one format, for a kernel that is configured without it.
    #[must_use]
    pub fn without(mut self, family: Family) -> Self {
        self.versions.retain(|version| version.family != family);
        self
    }

    /// What Linux itself writes and accepts in a series, with all of it configured; `None` for a series that this
    /// version of gmfs does not know.
    #[must_use]
    pub fn upstream(series: Series) -> Option<Self> {
        let era = UPSTREAM.iter().find(|era| era.from <= series && series <= era.to)?;
        let mut abi = Self::default();
        for (family, number) in era.versions {
            abi.add(*family, *number);
        }
        Some(abi)
    }
}

/// The form of the map of preserved memory, where the version does not tell it: `kho-v1` has two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapForm {
    /// Bitmaps of 512 bytes.
    Small,
    /// Bitmaps of a page.
    Page,
}

/// What a range of series writes and accepts.
struct Era {
    from: Series,
    to: Series,
    /// The form of the map, if the version is `kho-v1`.
    map: Option<MapForm>,
    versions: &'static [(Family, u32)],
}

/// What Linux had, series by series. The first series that is newer than this table is unknown.
const UPSTREAM: [Era; 7] = {
    use Family::{Kho, Luo, LuoFlb, LuoSession, Memblock, Memfd, ReserveMem};
    [
        Era { from: Series::new(0, 0), to: Series::new(6, 15), map: None, versions: &[] },
        Era {
            from: Series::new(6, 16),
            to: Series::new(6, 17),
            map: Some(MapForm::Small),
            versions: &[(Kho, 1), (Memblock, 1), (ReserveMem, 1)],
        },
        Era {
            from: Series::new(6, 18),
            to: Series::new(6, 18),
            map: Some(MapForm::Page),
            versions: &[(Kho, 1), (Memblock, 1), (ReserveMem, 1)],
        },
        Era {
            from: Series::new(6, 19),
            to: Series::new(6, 19),
            map: Some(MapForm::Page),
            versions: &[(Kho, 1), (Memblock, 1), (ReserveMem, 1), (Luo, 1), (LuoSession, 2), (Memfd, 1)],
        },
        Era {
            from: Series::new(7, 0),
            to: Series::new(7, 0),
            map: Some(MapForm::Page),
            versions: &[(Kho, 1), (Memblock, 1), (ReserveMem, 1), (Luo, 1), (LuoSession, 2), (LuoFlb, 1), (Memfd, 1)],
        },
        Era {
            from: Series::new(7, 1),
            to: Series::new(7, 1),
            map: None,
            versions: &[(Kho, 3), (Memblock, 1), (ReserveMem, 1), (Luo, 1), (LuoSession, 2), (LuoFlb, 1), (Memfd, 2)],
        },
        Era {
            from: Series::new(7, 2),
            to: Series::new(7, 3),
            map: None,
            versions: &[(Kho, 4), (Memblock, 1), (ReserveMem, 1), (Luo, 5), (Memfd, 2)],
        },
    ]
};

/// The ranges of series, from the first to the last, in which Linux has a version of a format.
pub fn upstream_with(family: Family, number: u32) -> impl Iterator<Item = (Series, Series)> {
    UPSTREAM.iter().filter(move |era| era.versions.contains(&(family, number))).map(|era| (era.from, era.to))
}

/// The form of the map in `kho-v1` of a series; `None` where Linux had no `kho-v1`.
#[must_use]
pub fn map_form(series: Series) -> Option<MapForm> {
    UPSTREAM.iter().find(|era| era.from <= series && series <= era.to)?.map
}

/// How many of the last bytes are searched again together with the next ones: more than the longest text that is
/// searched for.
const OVERLAP: usize = 128;
/// How many digits a version has at most.
const DIGITS: usize = 4;
/// The text before the release in the first line that a kernel prints.
const BANNER: &[u8] = b"Linux version ";

/// Looks for versions and for the release in bytes that arrive piece by piece.
pub struct Scanner {
    finder: Finder<'static>,
    banner: Finder<'static>,
    buffer: Vec<u8>,
    abi: Abi,
    release: Option<Release>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            finder: Finder::new("-v"),
            banner: Finder::new(BANNER),
            buffer: Vec::new(),
            abi: Abi::default(),
            release: None,
        }
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").field("abi", &self.abi).field("release", &self.release).finish_non_exhaustive()
    }
}

impl Scanner {
    /// Looks at the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.buffer.len().saturating_sub(OVERLAP));
        self.buffer.extend_from_slice(bytes);
        for at in self.finder.find_iter(&self.buffer) {
            let Some((before, after)) = self.buffer.split_at_checked(at) else { continue };
            if let (Some(family), Some(number)) = (family_at_end(before), version(after.get(2..).unwrap_or_default())) {
                self.abi.add(family, number);
            }
        }
        if self.release.is_none() {
            let texts = self.banner.find_iter(&self.buffer);
            let mut texts = texts.filter_map(|at| self.buffer.get(at.saturating_add(BANNER.len())..));
            self.release = texts.find_map(release);
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> (Abi, Option<Release>) {
        (self.abi, self.release)
    }
}

/// The versions that occur in some bytes.
#[must_use]
pub fn scan(bytes: &[u8]) -> Abi {
    let mut scanner = Scanner::default();
    scanner.feed(bytes);
    scanner.finish().0
}

/// The format whose name some bytes end with. The byte before the name does not matter: before `memfd-v1` it belongs to
/// something else.
fn family_at_end(bytes: &[u8]) -> Option<Family> {
    Family::ALL.into_iter().find(|family| bytes.ends_with(family.stem().as_bytes()))
}

/// The number that some bytes start with, if a zero byte ends it.
fn version(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.iter().take(DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at_checked(digits)?;
    let ends = rest.first() == Some(&0) && digits.first().is_some_and(|first| *first != b'0');
    std::str::from_utf8(digits).ok().filter(|_| ends)?.parse().ok()
}

/// The release that some bytes start with, if a blank ends it.
pub(crate) fn release(bytes: &[u8]) -> Option<Release> {
    let start = bytes.get(..bytes.len().min(Release::MAX_LEN.saturating_add(1)))?;
    let end = start.iter().position(|byte| *byte == b' ')?;
    Release::parse(std::str::from_utf8(start.get(..end)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> String {
        scan(bytes).iter().map(|version| version.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_version_is_a_name_a_number_and_a_zero() {
        assert_eq!(found(b"\0kho-v4\0x"), "kho-v4");
        assert_eq!(found(b"luo-session-v2\0luo-v1\0luo-flb-v1\0"), "luo-v1 luo-session-v2 luo-flb-v1");
        assert_eq!(found(b"\xffmemfd-v2\0memblock-v1\0reserve-mem-v1\0"), "memblock-v1 reserve-mem-v1 memfd-v2");
        for none in
            [&b"kho-v\0"[..], b"kho-v4", b"kho-v4x\0", b"kho-v04\0", b"kho-v12345\0", b"kho-test-v1\0", b"-v1\0", b"-v"]
        {
            assert_eq!(found(none), "", "{none:?}");
        }
        assert_eq!(found(b"kho-v1234\0"), "kho-v1234");
    }

    #[test]
    fn it_does_not_matter_where_the_pieces_are_cut() {
        let whole = b"....Linux version %s\0Linux version 6.19.11-x (a@b) #1\0kho-v1\0....luo-v1\0memfd-v1\0";
        for cut in 0..whole.len() {
            for more in [1, 7, 100] {
                let mut scanner = Scanner::default();
                scanner.feed(&whole[..cut]);
                for piece in whole[cut..].chunks(more) {
                    scanner.feed(piece);
                }
                let (abi, release) = scanner.finish();
                assert_eq!(abi.iter().count(), 3, "{cut} {more}");
                assert_eq!(release.unwrap().text(), "6.19.11-x", "{cut} {more}");
            }
        }
    }

    #[test]
    fn versions_are_bounded() {
        let many: Vec<u8> = (1..500).flat_map(|n| format!("kho-v{n}\0").into_bytes()).collect();
        let abi = scan(&many);
        assert_eq!(abi.iter().count(), MOST_VERSIONS);
        assert!(abi.is_ambiguous(Family::Kho) && !abi.is(Family::Kho, 1));
    }

    #[test]
    fn agreement_is_a_common_version() {
        let (one, two, both, none) = (scan(b"kho-v1\0"), scan(b"kho-v2\0"), scan(b"kho-v1\0kho-v2\0"), scan(b""));
        assert!(one.agrees(&one, Family::Kho) && one.agrees(&both, Family::Kho) && none.agrees(&none, Family::Kho));
        assert!(!one.agrees(&two, Family::Kho) && !one.agrees(&none, Family::Kho) && !none.agrees(&one, Family::Kho));
    }

    #[test]
    fn eras_follow_each_other() {
        assert!(UPSTREAM.windows(2).all(|pair| pair[0].to < pair[1].from && pair[0].from <= pair[0].to));
        assert!(Abi::upstream(Series::new(6, 12)).unwrap() == Abi::default());
        assert!(Abi::upstream(Series::new(7, 4)).is_none());
        assert_eq!(upstream_with(Family::Kho, 1).count(), 4);
        assert!(upstream_with(Family::Kho, 4).eq([(Series::new(7, 2), Series::new(7, 3))]));
        assert_eq!(map_form(Series::new(6, 17)), Some(MapForm::Small));
        assert_eq!(map_form(Series::new(7, 0)), Some(MapForm::Page));
        assert_eq!(map_form(Series::new(7, 1)), None);
    }
}
