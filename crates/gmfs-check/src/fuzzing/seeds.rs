//! Seeds: inputs that a fuzzer starts from. Each one makes one problem of the catalogue.

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::{CopyId, PAGE_SIZE, PageBytes, PageNo};
use gmfs_io::{ReadAt as _, WriteAt as _};

use super::{Image, PAGES, Patch, damage, geometry, region};
use crate::Code;
use crate::inject::{Injected, Target, inject};

/// Differences that are closer than this become one patch, because each patch costs five more bytes.
const NEAR: usize = 8;

/// The seeds of both targets: a code of the catalogue, and the input that makes its problem. A problem that cannot be
/// made by changing the pages that an input can select has no seed.
#[must_use]
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let healthy = region();
    let Some(geometry) = geometry(&healthy) else { return Vec::new() };
    let seed = |code: &Code| {
        let mut injected = healthy.clone();
        let done = inject(&mut injected, *code, Target::default()).is_ok_and(|done| done == Injected::Done);
        let patches = if done { differences(&healthy, &injected, &geometry) } else { Vec::new() };
        (!patches.is_empty()).then(|| (code.to_string(), patches.iter().flat_map(Patch::input).collect()))
    };
    Code::ALL.iter().filter_map(seed).collect()
}

/// The patches that change `healthy` to `injected`, in the pages that patches can select.
fn differences(healthy: &Image, injected: &Image, geometry: &Geometry) -> Vec<Patch> {
    let mut trial = healthy.clone();
    let mut patches = Vec::new();
    for (bit, copy) in [(1, CopyId::A), (2, CopyId::B)] {
        for page in 0..PAGES {
            let at = geometry.page_offset(copy, PageNo(page.into()));
            let read = |image: &Image| {
                let mut bytes = [0; PAGE_SIZE];
                image.read_at(at, &mut bytes).map(|()| bytes)
            };
            let (Ok(old), Ok(new)) = (read(healthy), read(injected)) else { continue };
            if old == new {
                continue;
            }
            // A patch that seals the page lets a fuzzer change the rest of it. If sealing does not reproduce the page,
            // for example a broken seal, the bytes are patched without it.
            for how in [bit | 4, bit | 4 | 8, bit] {
                let candidate = page_patches(page, how, &old, &new);
                candidate.iter().for_each(|patch| damage(&mut trial, patch));
                if how == bit || read(&trial).is_ok_and(|bytes| bytes == new) {
                    patches.extend(candidate);
                    break;
                }
                // Writing a page of the image cannot fail.
                let _ = trial.write_at(at, &old);
            }
        }
    }
    patches
}

/// The runs of bytes in which two versions of a page differ.
fn page_patches(page: u8, how: u8, old: &PageBytes, new: &PageBytes) -> Vec<Patch> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for at in (0..PAGE_SIZE).filter(|at| old.get(*at) != new.get(*at)) {
        match runs.last_mut() {
            Some(run) if at - run.end < NEAR && at - run.start < usize::from(u8::MAX) => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    let patch = |run: std::ops::Range<usize>| Patch {
        page,
        how,
        offset: u16::try_from(run.start).unwrap_or(0),
        bytes: new.get(run).unwrap_or_default().to_vec(),
    };
    runs.into_iter().map(patch).collect()
}
