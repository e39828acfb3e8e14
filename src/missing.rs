//! Lists of what is missing in a copy: text, one range a line.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::content::Gaps;
use crate::failure::printable;
use crate::output::{Folder, NewFile, folder_of};

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

    /// Makes the list a file at a path that the user named.
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

    /// Makes the list a file in a directory that is open.
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
