//! RANGE of `gmfs bad` as the command line spells it, and the lists of ranges that files hold.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use gmfs::Store;
use gmfs::bad::{self, Named, NdctlError, Origin, RangeError};

use crate::ctx::Ctx;
use crate::failure::Failure;

/// One RANGE of the command line. `device` is the file name of the image.
pub(super) fn parse(text: &str, device: &str) -> Result<Vec<Named>> {
    if let Some(file) = text.strip_prefix("pfn:@") {
        return lines(file, &read(file)?, |line| format!("pfn:{line}").parse());
    }
    let Some(file) = text.strip_prefix('@') else { return Ok(vec![text.parse().map_err(told)?]) };
    let content = read(file)?;
    if let Some(named) = of_ndctl(file, &content, device) {
        return named;
    }
    lines(file, &content, Named::line)
}

/// A list of poisoned memory.
pub(in crate::cmd) enum Poison {
    /// What it names.
    Named(Vec<Named>),
    /// `/proc/kpageflags`, of which only the part about the region is read.
    Flags(File, String),
}

impl Poison {
    /// What it names, as far as that depends on the region.
    pub(in crate::cmd) fn named(self, store: &Store, origin: &Origin, ctx: &Ctx) -> Result<Vec<Named>> {
        let (file, name) = match self {
            Self::Named(named) => return Ok(named),
            Self::Flags(file, name) => (file, name),
        };
        let failed = |message: String, hint: &str| Failure::new("no-flags", message).hint(hint);
        if store.physical_base().is_none() {
            let message = "page frames are physical memory, and where the region is there is unknown".to_owned();
            return Err(failed(message, "read the region in /dev/mem, or make it with --base").into());
        }
        let found = bad::page_flags(&file, origin).with_context(|| format!("cannot read {name}"))?;
        let without =
            format!("the kernel has no flags for {} of {} page frames of the region", found.without, found.frames);
        const OTHERS: &str = "for memory without struct pages, and for devices, poison is in the kernel's log (`dmesg`) and in `ndctl list -M`";
        if found.without == found.frames {
            return Err(failed(without, OTHERS).into());
        }
        if found.without > 0 {
            ctx.warn(&format!("{without}; {OTHERS}"));
        }
        Ok(found.poisoned)
    }
}

/// A list of poisoned memory, as the kernel and other programs make it: see [`bad::poisoned`] and [`bad::page_flags`], or what
/// ndctl prints.
pub(in crate::cmd) fn poison(file: &str, device: &str) -> Result<Poison> {
    if Path::new(file).file_name().is_some_and(|name| name == "kpageflags") {
        let open = File::open(file).with_context(|| format!("cannot open {file}"))?;
        return Ok(Poison::Flags(open, file.to_owned()));
    }
    text(file, device).map(Poison::Named)
}

fn text(file: &str, device: &str) -> Result<Vec<Named>> {
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        bytes
    } else {
        std::fs::read(Path::new(file)).with_context(|| format!("cannot read {file}"))?
    };
    // A log of the kernel may have any bytes in it; what counts is ASCII.
    let content = String::from_utf8_lossy(&bytes);
    if let Some(named) = of_ndctl(file, &content, device) {
        return named;
    }
    bad::poisoned(&content).map_err(|(line, error)| {
        let hint = "a list has one page frame number a line (0x before hexadecimal ones), or sectors and how many; it may also be a log of the kernel, a memory map, or what `ndctl list -M` prints";
        let failure = Failure::new("range", error.to_string()).hint(hint);
        anyhow::Error::new(failure).context(format!("cannot use line {line} of {file}"))
    })
}

/// Adds to an error of the library what to do next.
pub(in crate::cmd) fn told(error: RangeError) -> anyhow::Error {
    let (code, hint) = match error {
        // These errors say what to write instead.
        RangeError::Number(_) => return error.into(),
        RangeError::Outside { .. } => ("outside", "`gmfs inspect IMAGE` shows its base and size"),
        RangeError::NoDevice => ("range", "give addresses, or name the device as IMAGE"),
        _ => ("range", "write ADDR, ADDR-LAST or ADDR+LENGTH, with block: or pfn: before it for blocks or page frames"),
    };
    Failure::new(code, error.to_string()).hint(hint).into()
}

/// Reads a file, or standard input for `-`.
fn read(file: &str) -> Result<String> {
    if file == "-" {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(Path::new(file)).with_context(|| format!("cannot read {file}"))
}

fn lines(file: &str, content: &str, parse: impl Fn(&str) -> Result<Named, RangeError>) -> Result<Vec<Named>> {
    let lines = (1..).zip(content.lines().map(str::trim));
    let used = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    used.map(|(n, line)| parse(line).map_err(told).with_context(|| format!("cannot use line {n} of {file}"))).collect()
}

/// The bad blocks of a device, if that is what ndctl prints.
fn of_ndctl(file: &str, content: &str, device: &str) -> Option<Result<Vec<Named>>> {
    let named = bad::ndctl(content, device)?.map_err(|error| match error {
        NdctlError::Range(error) => told(error),
        error @ NdctlError::Devices { .. } => {
            let hint =
                "hand over the list of the device that holds the region alone: ndctl list --media-errors -n NAMESPACE";
            Failure::new("devices", error.to_string()).hint(hint).into()
        }
        error => Failure::new("range", error.to_string()).into(),
    });
    Some(named.with_context(|| format!("cannot use the list in {file}")))
}
