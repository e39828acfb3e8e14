//! The notes of a dump: which program wrote it, and what the kernel recorded about itself.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use gmfs_io::{ReadAt, Span};

use super::header::Order;

/// The maximum number of notes that are read: 32 for each of 8192 processors.
const MAX_NOTES: u32 = 1 << 18;
/// The maximum number of bytes of VMCOREINFO that are read. Real ones have 2 to 4 KiB.
const MAX_TEXT: u64 = 64 << 10;
/// The maximum length of a value. Longer values are ignored.
const MAX_VALUE: usize = 256;
/// The maximum number of CPUs whose registers are kept: the first ones lead to the same tables as the others.
const MAX_CPUS: usize = 16;
/// Offsets in `QEMUCPUState`: two 32-bit numbers, 18 registers, 10 segments of 24 bytes, then CR0 to CR4.
const CR3: usize = 8 + 18 * 8 + 10 * 24 + 3 * 8;
const CR4: usize = CR3 + 8;
const CPU_STATE: usize = CR4 + 8;
const REGISTERS_END: u64 = 8 + 18 * 8 + 10 * 24 + 5 * 8;

/// What was found in the PT_NOTE segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notes {
    /// Whether there are notes by QEMU, so that its `dump-guest-memory` wrote the file.
    pub qemu: bool,
    /// Whether there are notes by Xen.
    pub xen: bool,
    /// Whether there is a VMCOREINFO of the kernel.
    pub vmcoreinfo: bool,
    /// `OSRELEASE` of VMCOREINFO: the version of the kernel.
    pub release: Option<String>,
    /// `CRASHTIME` of VMCOREINFO: seconds since 1970.
    pub crash_time: Option<u64>,
    /// What leads to the structures of the kernel in the memory.
    pub kernel: KernelNotes,
    /// Whether some note is cut off or damaged. The notes after it were not read.
    pub damaged: bool,
}

/// What leads to the structures of the kernel that a dump is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelNotes {
    /// The text of VMCOREINFO: lines `KEY=VALUE`.
    pub vmcoreinfo: String,
    /// CR3 and CR4 of the CPUs of an x86-64 machine whose dump QEMU wrote.
    pub registers: Vec<(u64, u64)>,
}

impl Notes {
    /// Reads the notes in `segments` of the file of `size` bytes. A damaged note ends the reading; it is not an error.
    pub(crate) fn read(file: &impl ReadAt, segments: &[Span], order: Order, size: u64) -> Self {
        let mut notes = Self::default();
        let mut left = MAX_NOTES;
        for segment in segments {
            let end = segment.offset.saturating_add(segment.len);
            notes.damaged |= end > size;
            let mut at = segment.offset;
            while at.saturating_add(12) <= end.min(size) && left > 0 {
                left = left.saturating_sub(1);
                match notes.take(file, at, end.min(size), order) {
                    Some(next) => at = next,
                    None => {
                        notes.damaged = true;
                        break;
                    }
                }
            }
        }
        notes
    }

    /// Reads the note at `at`. Returns the offset of the next one, or `None` if this one does not end before `end`.
    fn take(&mut self, file: &impl ReadAt, at: u64, end: u64, order: Order) -> Option<u64> {
        let mut raw = [0; 12];
        file.read_at(at, &mut raw).ok()?;
        let (name_len, text_len) = (u64::from(order.u32(&raw, 0)), u64::from(order.u32(&raw, 4)));
        // These are 64-bit sums of 32-bit numbers, so they do not overflow before they are compared with `end`.
        let name_at = at.checked_add(12)?;
        let text_at = name_at.checked_add(padded(name_len))?;
        if text_at.checked_add(text_len)? > end {
            return None;
        }
        let mut name = [0; 11];
        let known = usize::try_from(name_len).ok().and_then(|len| name.get_mut(..len));
        if let Some(name) = known {
            file.read_at(name_at, name).ok()?;
            match name.strip_suffix(b"\0").unwrap_or(name) {
                b"QEMU" => {
                    self.qemu = true;
                    self.take_registers(file, text_at, text_len, order);
                }
                b"VMCOREINFO" => self.take_text(file, text_at, text_len),
                other if other.starts_with(b"Xen") || other.starts_with(b"XEN") => self.xen = true,
                _ => {}
            }
        }
        // The last note may lack its padding.
        Some(text_at.saturating_add(padded(text_len)).min(end))
    }

    /// Reads the registers of a CPU that QEMU writes: `QEMUCPUState`, which only x86 has.
    fn take_registers(&mut self, file: &impl ReadAt, at: u64, len: u64, order: Order) {
        let mut raw = [0; CPU_STATE];
        if self.kernel.registers.len() >= MAX_CPUS || order.big || len < REGISTERS_END {
            return;
        }
        if file.read_at(at, &mut raw).is_ok() && order.u32(&raw, 0) == 1 && u64::from(order.u32(&raw, 4)) <= len {
            self.kernel.registers.push((order.u64(&raw, CR3), order.u64(&raw, CR4)));
        }
    }

    pub(crate) fn take_text(&mut self, file: &impl ReadAt, at: u64, len: u64) {
        self.vmcoreinfo = true;
        let mut text = vec![0; usize::try_from(len.min(MAX_TEXT)).unwrap_or(0)];
        if file.read_at(at, &mut text).is_err() {
            self.damaged = true;
            return;
        }
        let lines = text.split(|b| *b == 0).next().unwrap_or_default();
        if self.kernel.vmcoreinfo.is_empty() {
            self.kernel.vmcoreinfo = String::from_utf8_lossy(lines).into_owned();
        }
        for line in text.split(|b| *b == b'\n' || *b == 0) {
            let Some((key, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once('=')) else {
                continue;
            };
            match key {
                "OSRELEASE" if self.release.is_none() => {
                    let clean = value.chars().filter(|c| !c.is_control()).take(MAX_VALUE);
                    self.release = Some(clean.collect());
                }
                "CRASHTIME" if self.crash_time.is_none() => self.crash_time = value.trim().parse().ok(),
                _ => {}
            }
        }
    }
}

/// Names and contents are padded to 4 bytes, in the 64-bit class too.
const fn padded(len: u64) -> u64 {
    len.saturating_add(3) & !3
}
