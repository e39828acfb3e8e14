//! Reads ELF core dumps of a machine by physical address: `/proc/vmcore`, `dump-guest-memory`, `makedumpfile -E`.
//!
//! Parsing ([`ElfDump::parse`]) survives any bytes. No number of the file is used for an allocation before it is
//! bounded by the file's size, and no part of the file is parsed twice. The invariant of `pieces`: they ascend, do not
//! overlap, and say for each address whether the file holds the byte, and at which offset.
//!
//! Segments overlap in normal dumps. For one address, a segment with the byte in the file beats one whose byte was cut
//! off, which beats one that only claims the address (`p_memsz > p_filesz`: the dump's writer left the byte out). Among
//! equals the first in the file wins. Addresses that no segment claims are [`Absence::NotInDump`].
//!
//! Sections are ignored because some writers leave nonsense there. Only the count of program headers in section 0 is
//! used.

pub(crate) mod header;
mod notes;
mod segments;

use std::ops::Range;

use gmfs_io::{Absence, ReadAt, ReadError, Span};

use header::Header;
pub use notes::{KernelNotes, Notes};
use segments::{Backing, Piece};

use gmfs_io::extents::{Extent, fill};

/// The maximum number of program headers: twenty times as many as a guest of 1 TiB makes with 2 MiB pages. It keeps the
/// index below 1 GiB.
pub const MAX_HEADERS: u64 = 1 << 23;

/// Why a file that starts like an ELF file is not a dump that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The header is cut off.
    #[error("the ELF header is cut off: the file has {size} bytes")]
    Short {
        /// The file's size in bytes.
        size: u64,
    },
    /// The ELF magic is missing, or class or byte order has an unknown value.
    #[error("the ELF header is damaged: class {class}, byte order {order}")]
    Ident {
        /// `e_ident[4]`: 1 or 2 is valid.
        class: u8,
        /// `e_ident[5]`: 1 or 2 is valid.
        order: u8,
    },
    /// The file is a program, a library or an object file.
    #[error("this ELF file is not a core dump (its type is {kind}; a core has type 4)")]
    NotCore {
        /// `e_type`
        kind: u16,
    },
    /// `e_phentsize` is too small to hold a program header.
    #[error("the ELF program headers have {size} bytes each, which is too small")]
    HeaderSize {
        /// `e_phentsize`
        size: u16,
    },
    /// No program header is within the file.
    #[error("the ELF program headers at {offset:#x} are past the end of the file ({size} bytes)")]
    NoHeaders {
        /// `e_phoff`
        offset: u64,
        /// The file's size in bytes.
        size: u64,
    },
    /// The file has more than [`MAX_HEADERS`] program headers.
    #[error("the ELF file claims {count} program headers; at most {MAX_HEADERS} are read")]
    TooManyHeaders {
        /// How many program headers it claims, but no more than fit into its size.
        count: u64,
    },
    /// No PT_LOAD describes memory at a physical address.
    #[error("the ELF core describes no physical memory")]
    NoMemory,
    /// The file is a core of a Xen domain, which keeps its pages in sections.
    #[error("this is a core of a Xen domain, which gmfs cannot read; dump the memory from within the guest")]
    Xen,
    /// All of several PT_LOADs have physical address 0, because their writer did not know the addresses: it is the core
    /// of a process, or `/proc/kcore` of Linux before 4.11.
    #[error("the ELF core does not record the physical addresses of its {count} segments")]
    NoPhysicalAddresses {
        /// How many PT_LOADs there are.
        count: u64,
    },
    /// The headers could not be read.
    #[error("cannot read the ELF headers")]
    Read(#[from] ReadError),
}

/// What a dump says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ElfFacts {
    /// `e_machine`, for example 62 for x86-64, 183 for AArch64, 22 for s390.
    pub machine: u16,
    /// Whether the numbers in the file are big-endian.
    pub big_endian: bool,
    /// Bits per address: 32 or 64.
    pub bits: u8,
    /// How many PT_LOADs there are.
    pub loads: u64,
    /// Bit 0 of `e_flags`: the tool that wrote the dump ran out of space. Lost memory then looks like memory that never
    /// existed.
    pub incomplete: bool,
    /// How many program headers are missing because the file is too short.
    pub missing_headers: u64,
    /// How many PT_LOADs were ignored because they have no physical address, or because the address wraps.
    pub without_address: u64,
    /// The notes of the dump.
    pub notes: Notes,
    /// In a dump by QEMU: how many bytes of memory are in the file without an address in any segment.
    /// `dump-guest-memory -p` (`paging=on`) does this to memory that the guest's page tables do not map. A region may
    /// be in these bytes, but cannot be found. The remedy is a dump without that option.
    pub unaddressed: u64,
}

/// An ELF core dump over the bytes of its file.
#[derive(Debug)]
pub struct ElfDump<R> {
    file: R,
    pieces: Vec<Piece>,
    facts: ElfFacts,
}

impl<R: ReadAt> ElfDump<R> {
    /// Reads the headers of the dump in `file`.
    ///
    /// # Errors
    /// [`ElfError`]. A dump that was cut short is no error: what is missing is [`Absence::Truncated`].
    pub fn parse(file: R) -> Result<Self, ElfError> {
        let size = file.end().unwrap_or(u64::MAX);
        let header = Header::read(&file, size)?;
        let table = segments::read_table(&file, &header, size)?;
        let notes = Notes::read(&file, &table.notes, header.order, size);
        if table.loads == 0 {
            return Err(if notes.xen { ElfError::Xen } else { ElfError::NoMemory });
        }
        if table.loads > 1 && table.all_at_zero {
            return Err(ElfError::NoPhysicalAddresses { count: table.loads });
        }
        let unaddressed = if notes.qemu { table.unaddressed(&header, size) } else { 0 };
        let facts = ElfFacts {
            machine: header.machine,
            big_endian: header.order.big,
            bits: if header.order.wide { 64 } else { 32 },
            loads: table.loads,
            incomplete: header.flags & 1 != 0,
            missing_headers: table.missing,
            without_address: table.without_address,
            notes,
            unaddressed,
        };
        let pieces = segments::sweep(table.claims);
        if pieces.is_empty() {
            return Err(ElfError::NoMemory);
        }
        Ok(Self { file, pieces, facts })
    }

    /// What the dump says about itself.
    #[must_use]
    pub const fn facts(&self) -> &ElfFacts {
        &self.facts
    }

    /// The memory that the dump describes, ascending, with neighbours of the same kind joined: each range of physical
    /// addresses with `None` if its bytes are in the file, or with the reason why they are not.
    pub fn ranges(&self) -> impl Iterator<Item = (Span, Option<Absence>)> + '_ {
        let mut rest = self.pieces.as_slice();
        std::iter::from_fn(move || {
            let (first, mut tail) = rest.split_first()?;
            let why = first.backing.absence();
            let mut end = first.end;
            while let Some((next, after)) = tail.split_first() {
                if next.start != end || next.backing.absence() != why {
                    break;
                }
                end = next.end;
                tail = after;
            }
            rest = tail;
            Some((Span::new(first.start, end.saturating_sub(first.start)), why))
        })
    }

    /// The pieces from the one that holds `address`, or from the first one past it.
    fn from(&self, address: u64) -> &[Piece] {
        let index = self.pieces.partition_point(|p| p.end <= address);
        self.pieces.get(index..).unwrap_or_default()
    }

    /// Fills `buf` from one piece. The bytes at `address` are at `place` in the file.
    fn read_piece(&self, address: u64, place: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_at(place, buf).map_err(|e| to_memory(e, address, place))
    }
}

/// Converts an error of reading the file to one of reading memory. The bytes at `address` are at `place` in the file.
fn to_memory(error: ReadError, address: u64, place: u64) -> ReadError {
    let shift = |s: Span| Span::new(s.offset.saturating_sub(place).saturating_add(address), s.len);
    match error {
        // These bytes were in the file when the headers were read, so the file was truncated since.
        ReadError::Absent { span, .. } => ReadError::Absent { span: shift(span), why: Absence::Truncated },
        ReadError::Io { span, source } => ReadError::Io { span: shift(span), source },
    }
}

impl<R: ReadAt> ReadAt for ElfDump<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        if let Some((span, why)) = self.next_absent(offset..end) {
            return Err(ReadError::Absent { span, why });
        }
        // Fast path: pieces that are in the file are read until one is not.
        let in_file = |piece: &Piece| match piece.backing {
            Backing::File(place) => {
                Some(Extent { start: piece.start, len: piece.end.saturating_sub(piece.start), place })
            }
            _ => None,
        };
        let pieces = self.from(offset).iter().map_while(in_file);
        let (at, rest) = fill(pieces, offset, buf, |place, at, now| self.read_piece(at, place, now))?;
        if rest.is_empty() {
            return Ok(());
        }
        // This is only reached by a range that includes the last byte of the address space.
        let span = Span::new(at, u64::try_from(rest.len()).unwrap_or(u64::MAX));
        Err(ReadError::Absent { span, why: Absence::NotInDump })
    }

    /// One past the highest address that the dump describes.
    fn end(&self) -> Option<u64> {
        Some(self.pieces.last().map_or(0, |p| p.end))
    }

    fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        let mut at = range.start;
        for piece in self.from(range.start) {
            if at >= range.end {
                return Ok(None);
            }
            if piece.start > at {
                return Ok(Some(at..piece.start.min(range.end)));
            }
            let end = piece.end.min(range.end);
            let Backing::File(first) = piece.backing else {
                return Ok(Some(at..end));
            };
            let place = first.saturating_add(at.saturating_sub(piece.start));
            let inside = place..place.saturating_add(end.saturating_sub(at));
            let found = self.file.next_data(inside).map_err(|e| to_memory(e, at, place))?;
            if let Some(data) = found {
                let shift = |p: u64| p.saturating_sub(place).saturating_add(at).clamp(at, end);
                return Ok(Some(shift(data.start)..shift(data.end)));
            }
            at = end;
        }
        Ok((at < range.end).then_some(at..range.end))
    }

    fn next_absent(&self, range: Range<u64>) -> Option<(Span, Absence)> {
        let mut at = range.start;
        let mut found: Option<(Span, Absence)> = None;
        // Extends the range that was found, or ends the search where a different one begins.
        let extend = |found: &mut Option<(Span, Absence)>, from: u64, to: u64, why: Absence| match found {
            None => {
                *found = Some((Span::new(from, to.saturating_sub(from)), why));
                true
            }
            Some((span, same)) if *same == why => {
                span.len = to.saturating_sub(span.offset);
                true
            }
            Some(_) => false,
        };
        for piece in self.from(range.start) {
            if at >= range.end {
                return found;
            }
            if piece.start > at && !extend(&mut found, at, piece.start.min(range.end), Absence::NotInDump) {
                return found;
            }
            at = at.max(piece.start);
            if at >= range.end {
                return found;
            }
            let end = piece.end.min(range.end);
            match piece.backing.absence() {
                None if found.is_some() => return found,
                None => {}
                Some(why) if extend(&mut found, at, end, why) => {}
                Some(_) => return found,
            }
            at = end;
        }
        if at < range.end {
            extend(&mut found, at, range.end, Absence::NotInDump);
        }
        found
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]
mod tests;
