//! Where in an image the region lies, when nobody says: by the kernel's parameters, or by its superblocks.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};
use gmfs_format::spec::{self, RegionSpec};
use gmfs_image::probe;
use gmfs_image::{Image, Kind};
use gmfs_io::{ReadAt as _, Span};
use gmfs_volume::locate::{Candidate, Confidence, DEFAULT_STEP, scan};

use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::lacking;
use crate::paths;
use crate::render::progress::Progress;
use crate::render::size;

/// The smallest region: two copies and a block.
const SMALLEST: u64 = 3 * DEFAULT_STEP;

/// The regions that the kernel's command line names with their bases.
pub(crate) fn kernel_parameters() -> Vec<Span> {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let named = spec::from_command_line(&line);
    named.into_iter().filter_map(|spec| Some(Span::new(spec.base?, spec.size))).collect()
}

/// The region in `/dev/mem` at `path`: what the kernel's parameters say, else what a search finds.
pub(crate) fn in_memory(path: &Path, size: Option<u64>, ctx: &Ctx) -> Result<Span> {
    let fits = |span: &Span| size.is_none_or(|size| size == span.len);
    let named: Vec<Span> = kernel_parameters().into_iter().filter(fits).collect();
    match named.as_slice() {
        [only] => return Ok(*only),
        [] => {}
        several => {
            let list: Vec<String> = several.iter().map(|span| spelled(span.offset, span.len)).collect();
            let message = format!("the kernel's parameters name {} regions: {}", several.len(), list.join(", "));
            return Err(Failure::new("several-regions", message).hint("choose one with --region SIZE:BASE").into());
        }
    }
    let mut found = Vec::new();
    for span in memory_ranges()? {
        let image = probe::open(path, Some(span))?;
        found.extend(search(&image, span.offset..span.end(), DEFAULT_STEP, ctx)?);
    }
    let candidate = choose(found, size)?;
    Ok(Span::new(candidate.base, candidate.size))
}

/// The region in a dump.
pub(crate) fn in_dump(image: &Image, size: Option<u64>, ctx: &Ctx) -> Result<Span> {
    let end = image.source.end().unwrap_or(u64::MAX);
    let found = search(image, 0..end, DEFAULT_STEP, ctx)?;
    let fits = |candidate: &Candidate| size.is_none_or(|size| size == candidate.size);
    if let Some(dump) = image.description().filter(|_| !found.iter().any(fits)) {
        return Err(lacking::nowhere(image.kind, &dump, &of_size(size)).into());
    }
    let candidate = choose(found, size)?;
    Ok(Span::new(candidate.base, candidate.size))
}

/// The region in a dump, if there is one, and it is clear which.
pub(crate) fn only(image: &Image, size: Option<u64>, ctx: &Ctx) -> Result<Option<Span>> {
    let end = image.source.end().unwrap_or(u64::MAX);
    let found = search(image, 0..end, DEFAULT_STEP, ctx)?;
    Ok(choose(found, size).ok().map(|candidate| Span::new(candidate.base, candidate.size)))
}

/// The parts of physical memory in which a region can lie.
pub(crate) fn memory_ranges() -> Result<Vec<Span>> {
    let map = probe::memory_map(Path::new("/proc/iomem"))?;
    Ok(map.writable_ranges().into_iter().filter(|span| span.len >= SMALLEST).collect())
}

/// Every region in a part of an image.
pub(crate) fn search(image: &Image, range: Range<u64>, step: u64, ctx: &Ctx) -> Result<Vec<Candidate>> {
    let progress = Progress::new(ctx, "searching", range.end.saturating_sub(range.start));
    let start = range.start;
    let found = scan(image.source.as_ref(), range, step, |at| progress.at(at.saturating_sub(start)));
    progress.done();
    found.with_context(|| format!("cannot search {}", image.path.display()))
}

/// The one region among those found: the only one that is certain, or, if none is, the only likely one.
fn choose(found: Vec<Candidate>, size: Option<u64>) -> Result<Candidate, Failure> {
    let fitting: Vec<Candidate> =
        found.into_iter().filter(|candidate| size.is_none_or(|size| size == candidate.size)).collect();
    for confidence in [Confidence::Certain, Confidence::Likely] {
        let mut of_it = fitting.iter().filter(|candidate| candidate.confidence == confidence);
        match (of_it.next(), of_it.next()) {
            (Some(only), None) => return Ok(only.clone()),
            (Some(_), Some(_)) => break,
            (None, _) => {}
        }
    }
    let hint = "say where the region lies: --region SIZE:BASE";
    if fitting.is_empty() {
        let message = format!("no region{} was found: no superblock at any multiple of 2 MiB", of_size(size));
        return Err(Failure::new("no-region", message).hint(hint));
    }
    let list: Vec<String> = fitting.iter().map(described).collect();
    let message = format!("it is not clear which region is meant: {}", list.join("; "));
    Err(Failure::new("several-regions", message).hint(hint))
}

fn described(candidate: &Candidate) -> String {
    let label = match candidate.label.as_slice() {
        [] => String::new(),
        label => format!(" '{}'", paths::shown(label)),
    };
    let place = spelled(candidate.base, candidate.size);
    format!("{place} ({}{label}, {})", candidate.uuid, candidate.confidence.name())
}

/// A place in the spelling of `--region`.
pub(crate) fn spelled(base: u64, size: u64) -> String {
    format!("{}:{base:#x}", spec::format_size(size))
}

/// The size that was asked for, if one was, as a part of a sentence.
fn of_size(size: Option<u64>) -> String {
    size.map_or_else(String::new, |size| format!(" of {}", size::both(size)))
}

/// `--region` as clap reads it.
pub(crate) fn parse_region(text: &str) -> Result<RegionSpec, String> {
    text.parse().map_err(|error: spec::SpecError| error.to_string())
}

/// A physical address as clap reads it.
pub(crate) fn parse_address(text: &str) -> Result<u64, String> {
    spec::parse_size(text).map_err(|error| error.to_string())
}

/// Whether the image's offsets are physical addresses that have to be searched without `--region`.
pub(crate) const fn must_search(kind: Kind) -> bool {
    kind.is_physical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_format::Layout;

    fn candidate(base: u64, size: u64, confidence: Confidence) -> Candidate {
        let uuid = uuid::Uuid::from_u128(base.into());
        Candidate { layout: Layout::Native, base, size, uuid, label: b"x\x1b".to_vec(), confidence }
    }

    #[test]
    fn one_certain_region_is_chosen_and_two_are_not() {
        let sure = candidate(1 << 30, 64 << 20, Confidence::Certain);
        let leftover = candidate(2 << 30, 64 << 20, Confidence::Possible);
        let likely = candidate(3 << 30, 32 << 20, Confidence::Likely);
        let all = vec![sure.clone(), leftover.clone(), likely.clone()];
        assert_eq!(choose(all.clone(), None).unwrap(), sure);
        assert_eq!(choose(all, Some(32 << 20)).unwrap(), likely);
        assert!(choose(vec![leftover.clone()], None).is_err());
        let two = choose(vec![sure.clone(), candidate(4 << 30, 8 << 20, Confidence::Certain)], None);
        let message = two.unwrap_err().to_string();
        assert!(message.contains("64M:0x40000000") && message.contains("8M:0x100000000"), "{message}");
        assert!(message.contains("'x\\x1b'"), "{message}");
        assert!(choose(Vec::new(), None).unwrap_err().to_string().contains("no region"));
    }
}
