//! What is missing in a copy: in a sentence, and as a list in a file that the user named.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use gmfs::content::Gaps;
use gmfs::gap_list::GapList;
use gmfs::new_file::folder_of;

use crate::failure::Failure;
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

/// Writes a list to a file at a path that the user named.
pub(crate) fn save<'p>(
    list: &GapList,
    base: Option<u64>,
    to: &Path,
    replace: bool,
    inputs: impl Iterator<Item = &'p Path>,
) -> Result<()> {
    let (folder, name) = folder_of(to).with_context(|| format!("cannot make {}", to.display()))?;
    let folder = Arc::new(folder);
    let new = NewFile::begin_in(&folder, &name, replace, inputs)?;
    let written = list.write_to(base, new.file());
    written.with_context(|| format!("cannot write {}", folder.path_of(&name).display()))?;
    new.keep()
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
