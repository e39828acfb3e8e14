//! What the kernel tells of a machine's memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gmfs_image::iomem::{IoMem, IoMemError};
use gmfs_io::Span;

use crate::files::{self, numbers};
use crate::spans::{joined, within};

/// How many entries of a folder are read.
const MOST_ENTRIES: usize = 1 << 20;
/// How EFI numbers the kinds of memory that its runtime services use: their code and their data.
const RUNTIME_KINDS: [u64; 2] = [5, 6];

/// Why something of a machine is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The memory map cannot be used.
    #[error("{}: {source}", path.display())]
    IoMem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IoMemError,
    },
}

/// A range in the firmware's map of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// The range of physical addresses.
    pub span: Span,
    /// The kernel's name for what it is, such as `System RAM`.
    pub kind: String,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: u32,
    /// Its memory, ascending.
    pub spans: Vec<Span>,
}

/// A machine's memory, as the kernel tells it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Machine {
    /// What each range is used for.
    pub iomem: Result<IoMem, MachineError>,
    /// The command line of the running kernel.
    pub cmdline: Result<String, MachineError>,
    /// The firmware's map, before the command line changed it; empty if the kernel does not show it.
    pub firmware: Vec<Firmware>,
    /// Memory that EFI's runtime services use.
    pub efi: Vec<Span>,
    /// The nodes that have memory, by their numbers; empty if the kernel does not show them.
    pub nodes: Vec<Node>,
    /// The scratch areas of kexec handover; `None` if the kernel does not show any.
    pub scratch: Option<Vec<Span>>,
    /// Whether a kernel is loaded for the next kexec.
    pub loaded: Result<bool, MachineError>,
    /// What the kernel calls the processor's architecture.
    pub architecture: Option<String>,
}

impl Machine {
    /// Reads what is in `proc` and `sys` below `root`: `/` for the machine that runs.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let at = |path: &str| root.join(path);
        let iomem = text(&at("proc/iomem")).and_then(|text| {
            IoMem::parse(&text).map_err(|source| MachineError::IoMem { path: at("proc/iomem"), source })
        });
        let loaded = text(&at("sys/kernel/kexec_loaded")).map(|text| text.trim() == "1");
        let architecture = text(&at("proc/sys/kernel/arch")).ok().map(|text| text.trim().to_owned());
        Self {
            iomem,
            cmdline: text(&at("proc/cmdline")).map(|text| text.trim().to_owned()),
            firmware: firmware(&at("sys/firmware/memmap")),
            efi: efi(&at("sys/firmware/efi/runtime-map")),
            nodes: nodes(&at("sys/devices/system")),
            scratch: scratch(&at("sys/kernel/debug/kho/out")),
            loaded,
            architecture,
        }
    }

    /// Whether the firmware itself says that the kernel may not use any of this memory as its own; `None` if it is not known
    /// what the firmware says.
    #[must_use]
    pub fn withheld_by_firmware(&self, window: Span) -> Option<bool> {
        (!self.firmware.is_empty()).then(|| {
            let ram = self.firmware.iter().filter(|entry| entry.kind == "System RAM").map(|entry| entry.span);
            let all = self.firmware.iter().map(|entry| entry.span);
            within(window, ram).is_empty() && window.without(all).is_empty()
        })
    }
}

/// A file of the kernel's, as text.
fn text(path: &Path) -> Result<String, MachineError> {
    files::text(path).map_err(|source| MachineError::Io { path: path.to_owned(), source })
}

/// A number: hexadecimal after `0x`, otherwise decimal.
fn number(path: &Path) -> Option<u64> {
    let text = text(path).ok()?;
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The folders in a folder, or none. Their order is that of the system.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().take(MOST_ENTRIES);
    found.filter_map(|entry| Some(entry.ok()?.path()))
}

fn firmware(folder: &Path) -> Vec<Firmware> {
    let entry = |entry: PathBuf| {
        let (start, last) = (number(&entry.join("start"))?, number(&entry.join("end"))?);
        let len = last.checked_sub(start)?.saturating_add(1);
        Some(Firmware { span: Span::new(start, len), kind: text(&entry.join("type")).ok()?.trim().to_owned() })
    };
    let mut found: Vec<Firmware> = entries(folder).filter_map(entry).collect();
    found.sort_by_key(|entry| entry.span);
    found
}

fn efi(folder: &Path) -> Vec<Span> {
    let entry = |entry: PathBuf| {
        let kind = number(&entry.join("type"))?;
        let bytes = number(&entry.join("num_pages"))?.checked_mul(4096)?;
        let span = Span::new(number(&entry.join("phys_addr"))?, bytes);
        RUNTIME_KINDS.contains(&kind).then_some(span)
    };
    joined(entries(folder).filter_map(entry).collect())
}

/// The number at the end of a name that starts with `start`.
fn numbered(path: &Path, start: &str) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(start)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn nodes(system: &Path) -> Vec<Node> {
    // Hexadecimal, without 0x.
    let block = text(&system.join("memory/block_size_bytes")).ok();
    let block = block.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).filter(|block| *block > 0);
    let Some(block) = block else { return Vec::new() };
    let node = |path: PathBuf| {
        let id = u32::try_from(numbered(&path, "node")?).ok()?;
        let blocks = entries(&path).filter_map(|path| numbered(&path, "memory"));
        let spans = blocks.filter_map(|number| Some(Span::new(number.checked_mul(block)?, block)));
        let spans = joined(spans.collect());
        (!spans.is_empty()).then_some(Node { id, spans })
    };
    let mut found: Vec<Node> = entries(&system.join("node")).filter_map(node).collect();
    found.sort_by_key(|node| node.id);
    found
}

/// The scratch areas. The files have had two names.
fn scratch(debug: &Path) -> Option<Vec<Span>> {
    ["scratch", "bootmem"].into_iter().find_map(|name| {
        let (starts, lens) =
            (numbers(&debug.join(format!("{name}_phys")))?, numbers(&debug.join(format!("{name}_len")))?);
        (starts.len() == lens.len()).then(|| starts.into_iter().zip(lens).map(|(at, len)| Span::new(at, len)).collect())
    })
}
