//! Lists of what is missing in copies: text with a line for each range.
//!
//! A line has the offset and the length in the copy, in bytes, the reason in a word, and the physical address of the first byte, or
//! `-` where the store's base is not known. A line `# file: NAME` is before the ranges of each copy.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};

use gmfs_format::name::printable;

use crate::content::Gaps;
use crate::folder::Folder;

/// What is missing, copy by copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapList(Vec<(String, Gaps)>);

impl GapList {
    /// Notes what is missing in the copy called `name`.
    pub fn add(&mut self, name: &str, gaps: Gaps) {
        if !gaps.is_empty() {
            self.0.push((printable(name), gaps));
        }
    }

    /// Writes the list. `base` is the physical address of the store.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, base: Option<u64>, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "# gmfs: ranges that are missing, and holes in the copy")?;
        writeln!(out, "# offset length reason address")?;
        for (name, gaps) in &self.0 {
            writeln!(out, "# file: {name}")?;
            for gap in gaps.iter() {
                let address = base.zip(gap.at).map(|(base, at)| format!("{:#x}", base.saturating_add(at)));
                let address = address.as_deref().unwrap_or("-");
                writeln!(out, "{} {} {} {address}", gap.span.offset, gap.span.len, gap.why.name())?;
            }
        }
        Ok(())
    }

    /// As [`write`](Self::write), to a file, until it is durable.
    ///
    /// # Errors
    /// The system does not take it.
    pub fn write_to(&self, base: Option<u64>, mut file: &File) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.write(base, &mut bytes)?;
        file.write_all(&bytes)?;
        file.sync_all()
    }
}

/// The name that the list of what is missing in a copy has, beside the copy.
#[must_use]
pub fn beside(copy: &OsStr) -> OsString {
    let mut name = copy.to_owned();
    name.push(".missing");
    name
}

/// Removes the list of an earlier copy of this name: what it says is no longer true.
pub fn forget(folder: &Folder, copy: &OsStr) {
    // There is rarely one, and a user who may replace a copy may remove its list.
    let _ = folder.remove(&beside(copy));
}

#[cfg(test)]
mod tests {
    use gmfs_io::{Absence, Span};

    use super::*;
    use crate::content::{Gap, Why};

    #[test]
    fn each_range_is_a_line() {
        let mut gaps = Gaps::default();
        gaps.add(Gap { span: Span::new(0, 8192), at: Some(0x100), why: Why::Absent(Absence::NotInDump) });
        gaps.add(Gap { span: Span::new(8192, 1), at: None, why: Why::Bad });
        let mut list = GapList::default();
        list.add("a\x1b\\x1b", gaps);
        list.add("whole", Gaps::default());
        let mut text = Vec::new();
        list.write(Some(1 << 32), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let (absent, bad) = (Why::Absent(Absence::NotInDump).name(), Why::Bad.name());
        let expected =
            [r"# file: a\x1b\x1b".to_owned(), format!("0 8192 {absent} 0x100000100"), format!("8192 1 {bad} -")];
        assert_eq!(lines, expected);
    }
}
