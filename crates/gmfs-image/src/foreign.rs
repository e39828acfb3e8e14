//! What lies in an image already that is no guestmemfs region: filesystems, volumes, partition tables, dumps. A tool
//! that formats must not run over it unasked.
//!
//! Magics of at least four bytes are rows of a table. Shorter ones, those that are found at the end, and those
//! that stand at one of many places have a function each that also looks at what surrounds them.

mod special;
mod table;

use gmfs_io::ReadAt;

use crate::probe::formats::named;
use crate::probe::{Content, HEAD, recognise};
use table::SIGNATURES;

/// Something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Foreign {
    /// What it is, as people call it.
    pub name: &'static str,
    /// Where its signature is: bytes from the start of the source.
    pub offset: u64,
}

/// Looks for the signature of anything known in `source`. What cannot be read, or is absent, counts as nothing known
/// there.
#[must_use]
pub fn identify(source: &dyn ReadAt) -> Option<Foreign> {
    // Filesystems and volumes before partition tables: a FAT volume, for one, ends its first sector as an MBR does.
    by_table(source).or_else(|| special::identify(source)).or_else(|| dump(source))
}

fn by_table(source: &dyn ReadAt) -> Option<Foreign> {
    let mut buf = [0; table::LONGEST];
    SIGNATURES.iter().find_map(|(offset, magic, name)| {
        let place = buf.get_mut(..magic.len())?;
        source.read_at(*offset, place).ok()?;
        (place == *magic).then_some(Foreign { name, offset: *offset })
    })
}

/// A dump of any format.
fn dump(source: &dyn ReadAt) -> Option<Foreign> {
    // Whatever is shorter is looked at as far as it goes.
    let there = usize::try_from(source.end()?).unwrap_or(HEAD).min(HEAD);
    let mut head = [0; HEAD];
    let head = head.get_mut(..there)?;
    source.read_at(0, head).ok()?;
    let name = match recognise(head) {
        Content::Plain => return None,
        Content::Elf => "ELF file",
        Content::Kdump => "kdump-compressed dump",
        Content::Flattened => "flattened dump",
        Content::Lime => "LiME or AVML memory image",
        Content::MetaDump => "metadata dump",
        Content::Dump(format) => format.describe().trim_start_matches("an ").trim_start_matches("a "),
    };
    let offset = named().find(|(offset, magic, format)| {
        recognise(head) == Content::Dump(*format) && head.get(*offset..).is_some_and(|rest| rest.starts_with(magic))
    });
    Some(Foreign { name, offset: offset.map_or(0, |(offset, ..)| u64::try_from(offset).unwrap_or(0)) })
}

/// `N` bytes from `offset`, if they are there.
fn read<const N: usize>(source: &dyn ReadAt, offset: u64) -> Option<[u8; N]> {
    let mut buf = [0; N];
    source.read_at(offset, &mut buf).ok()?;
    Some(buf)
}

#[cfg(test)]
mod tests;
