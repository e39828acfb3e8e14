//! Describes what is missing in a copy: in a sentence, and as a list with one range per line.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use gmfs::content::Gaps;
use gmfs::folder::Folder;
use gmfs::new_file::folder_of;

use crate::failure::{Failure, printable};
use crate::output::NewFile;
use crate::render::size;

/// How many ranges one message names.
const NAMED: usize = 4;

/// All gaps in one sentence. It names the first few by offset, and by physical address if the region's base is known.
pub(crate) fn describe(gaps: &Gaps, base: Option<u64>) -> String {
    let mut text = format!("{} cannot be told: ", size::both(gaps.bytes()));
    for (n, gap) in gaps.iter().take(NAMED).enumerate() {
        let separator = if n == 0 { "" } else { "; " };
        let place = match (base, gap.at) {
            (Some(base), Some(at)) => format!(" (memory at {:#x})", base.saturating_add(at)),
            (None, Some(at)) => format!(" ({at:#x} in the region)"),
            (_, None) => String::new(),
        };
        text.push_str(&format!("{separator}{} {}{place}", gap.span, gap.why));
    }
    if gaps.len() > NAMED {
        text.push_str(&format!("; and {} more ranges", gaps.len() - NAMED));
    }
    text
}

/// The error of a command that needs all of the bytes.
pub(crate) fn refuse(gaps: &Gaps, base: Option<u64>) -> Failure {
    Failure::new("absent", describe(gaps, base))
}

/// What is missing, file by file.
#[derive(Default)]
pub(crate) struct Missing(Vec<(String, Gaps)>);

impl Missing {
    /// Notes what is missing in the copy called `name`.
    pub(crate) fn add(&mut self, name: &str, gaps: Gaps) {
        if !gaps.is_empty() {
            self.0.push((printable(name), gaps));
        }
    }

    /// Writes the list. Each range is a line of its own: offset and length in bytes, the reason, and the physical
    /// address of its first byte, or `-` where the region's base is not known.
    pub(crate) fn write(&self, base: Option<u64>, out: &mut impl Write) -> std::io::Result<()> {
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

    /// Writes the list to a file at a path that the user named.
    pub(crate) fn save<'p>(
        &self,
        base: Option<u64>,
        to: &Path,
        replace: bool,
        inputs: impl Iterator<Item = &'p Path>,
    ) -> Result<()> {
        let (folder, name) = folder_of(to).with_context(|| format!("cannot make {}", to.display()))?;
        self.save_in(base, (&Arc::new(folder), &name), replace, inputs)
    }

    /// Writes the list to a file in a directory that is open.
    pub(crate) fn save_in<'p>(
        &self,
        base: Option<u64>,
        (folder, name): (&Arc<Folder>, &OsStr),
        replace: bool,
        inputs: impl Iterator<Item = &'p Path>,
    ) -> Result<()> {
        let new = NewFile::begin_in(folder, name, replace, inputs)?;
        let mut bytes = Vec::new();
        self.write(base, &mut bytes)?;
        let done = new.file().write_all(&bytes).and_then(|()| new.file().sync_all());
        done.with_context(|| format!("cannot write {}", folder.path_of(name).display()))?;
        new.keep()
    }
}

/// The name that the list of what is missing in a copy has by default, beside the copy.
pub(crate) fn beside(copy: &OsStr) -> OsString {
    let mut name = copy.to_owned();
    name.push(".missing");
    name
}

/// Removes the list of an earlier run: what it says is no longer true.
pub(crate) fn forget(folder: &Folder, copy: &OsStr) {
    // There is rarely one, and a user who may replace a copy may remove its list.
    let _ = folder.remove(&beside(copy));
}

#[cfg(test)]
mod tests {
    use gmfs::content::{Gap, Why};
    use gmfs_io::{Absence, Span};

    use super::*;

    #[test]
    fn gaps_are_named() {
        let mut gaps = Gaps::default();
        let gap = |offset, len, why| Gap { span: Span::new(offset, len), at: Some(offset + 0x100), why };
        gaps.add(gap(0, 8192, Why::Bad));
        gaps.add(gap(8192, 1, Why::Absent(Absence::NotInDump)));
        assert_eq!(
            describe(&gaps, Some(1 << 32)),
            "8 KiB (8193 bytes) cannot be told: 0x0..0x2000 in a block with a hardware error (memory at 0x100000100); \
             0x2000..0x2001 not in the dump (memory at 0x100002100)"
        );
        assert!(describe(&gaps, None).contains("0x2000..0x2001 not in the dump (0x2100 in the region)"));
    }
}
