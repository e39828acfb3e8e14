//! Lists of what is missing in a copy: text, one range a line.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::content::Gaps;
use crate::failure::printable;
use crate::output::NewFile;

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

    /// Writes the list. Each range is a line of its own: offset and length in bytes, the reason, and the physical address
    /// of its first byte, or `-` where the region's base is not known.
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

    /// Makes the list a file.
    pub(crate) fn save<'p>(
        &self,
        base: Option<u64>,
        to: &Path,
        replace: bool,
        inputs: impl Iterator<Item = &'p Path>,
    ) -> Result<()> {
        let new = NewFile::begin(to, replace, 0o666, inputs)?;
        let mut bytes = Vec::new();
        self.write(base, &mut bytes)?;
        let done = new.file().write_all(&bytes).and_then(|()| new.file().sync_all());
        done.with_context(|| format!("cannot write {}", to.display()))?;
        new.keep()
    }
}

/// Where the list of what is missing in a copy is by default.
pub(crate) fn beside(copy: &Path) -> PathBuf {
    let mut name = copy.file_name().unwrap_or_default().to_owned();
    name.push(".missing");
    copy.with_file_name(name)
}

/// Takes a list of an earlier run away: what it says is not so any more.
pub(crate) fn forget(copy: &Path) {
    // It is there rarely, and whoever replaces a copy may remove its list.
    let _ = fs::remove_file(beside(copy));
}
