//! Blocks as people, kernels and ndctl name them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::to_u32;
use gmfs_format::spec::parse_size;
use serde_json::Value;

use crate::cmd::who::Address;
use crate::failure::Failure;

/// Bytes in a sector, as the kernel's lists count them.
const SECTOR: u64 = 512;

/// A stretch as it was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Its first and its last address.
    Range(Address, Address),
    /// Its first and its last byte in the device that holds the region.
    InDevice(u64, u64),
}

/// What addresses and places in the device are counted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) geometry: Geometry,
    /// The region's physical base, 0 if that is not known.
    pub(super) base: u64,
    /// Where the region begins in its device or file; `None` in an image of physical memory.
    pub(super) in_device: Option<u64>,
}

/// One RANGE of the command line. `device` is the file name of the image.
pub(super) fn parse(text: &str, device: &str) -> Result<Vec<Named>> {
    if let Some(file) = text.strip_prefix("pfn:@") {
        return lines(file, &read(file)?, |line| single(&format!("pfn:{line}")));
    }
    let Some(file) = text.strip_prefix('@') else { return Ok(vec![single(text)?]) };
    let content = read(file)?;
    if let Ok(json) = serde_json::from_str::<Value>(&content) {
        return of_device(&json, device).with_context(|| format!("cannot use the list in {file}"));
    }
    lines(file, &content, |line| match line.split_once(char::is_whitespace) {
        Some((sector, count)) => sectors(number(sector)?, number(count.trim())?),
        None => single(line),
    })
}

/// Reads a file, or standard input for `-`.
fn read(file: &str) -> Result<String> {
    if file == "-" {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(Path::new(file)).with_context(|| format!("cannot read {file}"))
}

fn lines(file: &str, content: &str, parse: impl Fn(&str) -> Result<Named>) -> Result<Vec<Named>> {
    let lines = (1..).zip(content.lines().map(str::trim));
    let told = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    told.map(|(n, line)| parse(line).with_context(|| format!("cannot use line {n} of {file}"))).collect()
}

fn number(text: &str) -> Result<u64> {
    Ok(parse_size(text)?)
}

/// `ADDR`, `ADDR-LAST`, `ADDR+LENGTH`, with what stands before it deciding the unit.
fn single(text: &str) -> Result<Named> {
    let (unit, rest): (fn(u64) -> Address, &str) = match text.split_once(':') {
        Some(("block", rest)) => (Address::Block, rest),
        Some(("pfn", rest)) => (Address::Pfn, rest),
        Some((other, _)) => {
            let message = format!("'{other}:' is neither block: nor pfn:");
            return Err(Failure::new("range", message).into());
        }
        None => (Address::Bytes, text),
    };
    let (first, last) = match (rest.split_once('-'), rest.split_once('+')) {
        (Some((first, last)), _) => (number(first)?, number(last)?),
        (None, Some((first, length))) => {
            let (first, length) = (number(first)?, number(length)?);
            let last = length.checked_sub(1).and_then(|more| first.checked_add(more));
            (first, last.ok_or_else(|| Failure::new("range", format!("'{text}' is no range of bytes")))?)
        }
        (None, None) => (number(rest)?, number(rest)?),
    };
    if last < first {
        return Err(Failure::new("range", format!("'{text}' ends before it begins")).into());
    }
    Ok(Named::Range(unit(first), unit(last)))
}

/// Sectors of 512 bytes, counted from the start of the device.
fn sectors(first: u64, count: u64) -> Result<Named> {
    let end = first.checked_add(count).and_then(|end| end.checked_mul(SECTOR)).filter(|_| count > 0);
    let end = end.ok_or_else(|| Failure::new("range", format!("{count} sectors from {first} on are no range")))?;
    Ok(Named::InDevice(first.saturating_mul(SECTOR), end - 1))
}

/// A list of bad blocks in what ndctl prints, and what its device is called.
struct Listed<'j> {
    names: Vec<&'j str>,
    bad: &'j Vec<Value>,
}

/// All lists, however deep they lie. What holds a list bears the device's names, or what lies in it does.
fn listed<'j>(json: &'j Value, found: &mut Vec<Listed<'j>>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| listed(item, found)),
        Value::Object(fields) => {
            if let Some(Value::Array(bad)) = fields.get("badblocks") {
                let named = ["dev", "blockdev", "chardev"].iter().filter_map(|key| fields.get(*key)?.as_str());
                found.push(Listed { names: named.collect(), bad });
            }
            let others = fields.iter().filter(|(name, _)| *name != "badblocks");
            others.for_each(|(_, value)| listed(value, found));
        }
        _ => {}
    }
}

/// The bad blocks of one device: of the one that is called like the image, or of the only one in the list.
fn of_device(json: &Value, device: &str) -> Result<Vec<Named>> {
    let mut found = Vec::new();
    listed(json, &mut found);
    if let Some(own) = found.iter().position(|list| list.names.contains(&device)) {
        found = vec![found.swap_remove(own)];
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|list| list.names.first().copied().unwrap_or("?")).collect();
        let message =
            format!("it has bad blocks of several devices ({}), and none is called {device}", names.join(", "));
        let hint =
            "hand over the list of the device that holds the region alone: ndctl list --media-errors -n NAMESPACE";
        return Err(Failure::new("devices", message).hint(hint).into());
    }
    let field = |item: &Value, name: &str| item.get(name).and_then(Value::as_u64);
    let bad = found.iter().flat_map(|list| list.bad);
    bad.map(|item| {
        let place = field(item, "offset").zip(field(item, "length"));
        let (first, count) = place.ok_or_else(|| Failure::new("range", format!("{item} has no offset and length")))?;
        sectors(first, count)
    })
    .collect()
}

/// The blocks that stretches touch, as runs without overlap, and how many stretches of the device lie outside of the
/// region.
pub(super) fn blocks(named: &[Named], origin: &Origin) -> Result<(Vec<Range<u32>>, u64)> {
    let geometry = origin.geometry;
    let (mut set, mut outside) = (BTreeSet::new(), 0);
    for named in named {
        let (first, last) = match *named {
            Named::Range(first, last) => {
                let place = |address: &Address| address.offset(geometry.size(), geometry.block_bytes(), origin.base);
                place(&first).zip(place(&last)).ok_or_else(|| {
                    let message = format!("{first} to {last} does not lie in the region");
                    Failure::new("outside", message).hint("`gmfs inspect IMAGE` shows its base and size")
                })?
            }
            Named::InDevice(first, last) => {
                let start = origin.in_device.ok_or_else(|| {
                    let message = "sectors count from the start of a device, and IMAGE is physical memory";
                    Failure::new("range", message.to_owned()).hint("give addresses, or name the device as IMAGE")
                })?;
                let end = start.saturating_add(geometry.size());
                if last < start || first >= end {
                    outside += 1;
                    continue;
                }
                (first.max(start) - start, last.min(end - 1) - start)
            }
        };
        let block = |at: u64| to_u32(at / geometry.block_bytes());
        set.extend(block(first)..=block(last));
    }
    let mut runs: Vec<Range<u32>> = Vec::new();
    for block in set {
        match runs.last_mut() {
            Some(run) if run.end == block => run.end += 1,
            _ => runs.push(block..block + 1),
        }
    }
    Ok((runs, outside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(base: u64, in_device: Option<u64>) -> Origin {
        Origin {
            geometry: Geometry::plan(64 << 20, gmfs_format::native::units::PmdShift::M2, 64).unwrap(),
            base,
            in_device,
        }
    }

    #[test]
    fn ranges_are_read_in_every_spelling() {
        let bytes = |first, last| vec![Named::Range(Address::Bytes(first), Address::Bytes(last))];
        assert_eq!(parse("0x1000", "").unwrap(), bytes(4096, 4096));
        assert_eq!(parse("4K-8191", "").unwrap(), bytes(4096, 8191));
        assert_eq!(parse("2M+2M", "").unwrap(), bytes(2 << 20, (4 << 20) - 1));
        assert_eq!(parse("block:3-5", "").unwrap(), [Named::Range(Address::Block(3), Address::Block(5))]);
        assert_eq!(parse("pfn:0x10", "").unwrap(), [Named::Range(Address::Pfn(16), Address::Pfn(16))]);
        for wrong in ["5-3", "frame:1", "", "block:", "x", "0x200000+0"] {
            assert!(parse(wrong, "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_ndctl_prints_is_taken_of_one_device() {
        let text = r#"[{"dev":"namespace0.0","blockdev":"pmem0","badblocks":[{"offset":40960,"length":8}]},
            {"dev":"namespace1.0","daxregion":{"devices":[{"chardev":"dax1.0","size":1}]},
             "badblocks":[{"offset":4096,"length":8}]}]"#;
        let json: Value = serde_json::from_str(text).unwrap();
        assert_eq!(of_device(&json, "pmem0").unwrap(), [Named::InDevice(20 << 20, (20 << 20) + 4095)]);
        assert_eq!(of_device(&json, "namespace1.0").unwrap(), [Named::InDevice(2 << 20, (2 << 20) + 4095)]);
        assert!(of_device(&json, "region.img").is_err());
        assert_eq!(of_device(&json[1], "region.img").unwrap().len(), 1);
    }

    #[test]
    fn sectors_count_from_the_start_of_the_device_whatever_the_base_is() {
        let named = [Named::InDevice(72 << 20, (72 << 20) + 511), Named::InDevice(0, 511)];
        let found = blocks(&named, &origin(1 << 32, Some(64 << 20))).unwrap();
        assert_eq!((found.0.into_iter().flatten().collect::<Vec<_>>(), found.1), (vec![4], 1));
        assert!(blocks(&named, &origin(1 << 32, None)).is_err());
    }

    #[test]
    fn stretches_become_runs_of_blocks() {
        let named: Vec<Named> =
            ["0x200000", "block:2-3", "block:3"].iter().flat_map(|text| parse(text, "").unwrap()).collect();
        let (runs, _) = blocks(&named, &origin(0, Some(0))).unwrap();
        assert_eq!(runs.into_iter().flatten().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(blocks(&parse("1G", "").unwrap(), &origin(0, Some(0))).is_err());
    }
}
