//! Recognises content that is not a region of gmfs: filesystems, volumes, partition tables, dumps. A program that
//! formats an image must not overwrite such content without being asked to.
//!
//! Magic numbers of at least four bytes are rows of a table. Shorter ones, those at the end of an image, and those at
//! one of many offsets have a function each, which also checks the surrounding bytes.

mod special;
mod table;

use gmfs_io::ReadAt;

use crate::probe::formats::named;
use crate::probe::{Content, HEAD, recognise};
use table::SIGNATURES;

/// The content that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Foreign {
    /// What it is usually called.
    pub name: &'static str,
    /// The offset of its signature in the source.
    pub offset: u64,
}

/// Searches `source` for all signatures that are known. Bytes that are absent or cannot be read match no signature.
#[must_use]
pub fn identify(source: &dyn ReadAt) -> Option<Foreign> {
    // Filesystems and volumes come before partition tables, because for example a FAT volume ends its first sector like
    // an MBR.
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

/// Recognises a dump of any format.
fn dump(source: &dyn ReadAt) -> Option<Foreign> {
    // A shorter source is examined up to its end.
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

/// The `N` bytes at `offset`, if they can be read.
fn read<const N: usize>(source: &dyn ReadAt, offset: u64) -> Option<[u8; N]> {
    let mut buf = [0; N];
    source.read_at(offset, &mut buf).ok()?;
    Some(buf)
}

#[cfg(test)]
mod tests;
