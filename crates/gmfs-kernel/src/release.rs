//! The release of a kernel, as `uname -r` prints it.

use std::fmt;

/// The first two numbers of a release: what one development cycle of Linux made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// `6` of `6.19.11`.
    pub major: u32,
    /// `19` of `6.19.11`.
    pub minor: u32,
}

impl Series {
    /// The series with these numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The release of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release {
    text: String,
    series: Series,
}

impl Release {
    /// The kernel's `__NEW_UTS_LEN`.
    pub const MAX_LEN: usize = 64;

    /// Reads a release: two numbers, and whatever a distribution adds. `None` for any other text.
    ///
    /// ```
    /// use gmfs_kernel::{Release, Series};
    /// let release = Release::parse("6.19.11+deb13-cloud-amd64").unwrap();
    /// assert_eq!(release.series(), Series::new(6, 19));
    /// assert!(Release::parse("vmlinuz").is_none());
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-+_~".contains(c);
        if text.len() > Self::MAX_LEN || !text.chars().all(plain) {
            return None;
        }
        let (major, rest) = number(text)?;
        let (minor, rest) = number(rest.strip_prefix('.')?)?;
        let ends = rest.chars().next().is_none_or(|c| !c.is_ascii_alphabetic());
        ends.then(|| Self { text: text.to_owned(), series: Series { major, minor } })
    }

    /// The release as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its first two numbers.
    #[must_use]
    pub const fn series(&self) -> Series {
        self.series
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The number that a text starts with, and what follows it.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_from_other_texts() {
        let series = |text| Release::parse(text).map(|release| (release.series().major, release.series().minor));
        assert_eq!(series("6.19"), Some((6, 19)));
        assert_eq!(series("7.4-rc1"), Some((7, 4)));
        assert_eq!(series("6.1.0-56-cloud-amd64"), Some((6, 1)));
        for wrong in ["", "6", "6.", ".19", "6.19x", "x6.19", "6.19 ", "6.19/x", "99999999999.1", "6..1", "6.1\n"] {
            assert_eq!(series(wrong), None, "{wrong:?}");
        }
        assert_eq!(series(&format!("6.1-{}", "x".repeat(61))), None);
    }
}
