//! Bodies of fuzz targets, and images made for tests. A body takes any bytes; it must not panic, loop without end, or
//! use more memory than is allowed.

pub mod made;
mod seeds;

use crate::cmdline::CommandLine;
use crate::compat::{self, Mechanism, Next, Old, Uses, Verdict};
use crate::image::{self, ImageError};
use crate::{Codec, Kernel, Release, memblock};

pub use seeds::seeds;

/// A body.
pub type Target = fn(&[u8]);

/// All bodies by their names, which are those of the fuzz targets.
pub const TARGETS: [(&str, Target); 3] =
    [("kernel", exercise_kernel), ("made_kernel", exercise_made), ("kernel_cmdline", exercise_cmdline)];

/// At most this many bytes of an image are decompressed.
const LIMIT: u64 = 4 << 20;

/// Reads `data` as a kernel image and as a table of regions, and judges a kexec to and from it.
///
/// # Panics
/// If a judgement contradicts itself.
pub fn exercise_kernel(data: &[u8]) {
    let _ = memblock::regions(data);
    let Ok(image) = image::read_within(&data, LIMIT) else { return };
    judged(&image.into(), &CommandLine::default(), &CommandLine::default());
}

/// Makes an image and damages it. `data` gives the choices for that.
///
/// # Panics
/// If an image that was not damaged does not read as it was made.
pub fn exercise_made(data: &[u8]) {
    let [kind, codec, edits @ ..] = data else { return };
    let codec = Codec::ALL[usize::from(*codec) % Codec::ALL.len()];
    let recipe = made::Recipe { release: "6.19.11", strings: &["kho-v1", "luo-v1", "memfd-v1"], load_size: 0x90_0000 };
    let mut image = match kind % 4 {
        0 => made::bz_image(&recipe, codec),
        1 => made::compress(codec, &made::vmlinux(&recipe)),
        2 => made::compress(codec, &made::arm64(&recipe)),
        _ => made::zboot(&recipe, codec),
    };
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % image.len();
        match edit[2] % 4 {
            0 => image[at] = edit[3],
            1 => image[at] ^= 1 << (edit[3] % 8),
            2 => image.truncate(at.max(1)),
            _ => image.push(edit[3]),
        }
    }
    let found = image::read_within(&image, LIMIT);
    if edits.len() >= 4 {
        return;
    }
    let found = found.unwrap_or_else(|error: ImageError| panic!("{kind} {codec:?}: {error}"));
    assert_eq!(found.release.map(|release| release.text().to_owned()).as_deref(), Some(recipe.release));
    assert_eq!(found.abi.iter().count(), recipe.strings.len());
}

/// Reads `data` as the command lines of two kernels, one a line, and judges kexecs between all series.
///
/// # Panics
/// If a judgement contradicts itself.
pub fn exercise_cmdline(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (old, new) = text.split_once('\n').unwrap_or((&text, ""));
    let (old, new) = (CommandLine::parse(old), CommandLine::parse(new));
    for release in ["6.16.1", "6.19.11", "7.0.13", "7.3.4"] {
        let kernel = Release::parse(release).and_then(Kernel::upstream).expect("it is in the table");
        judged(&kernel, &old, &new);
    }
}

/// Judges kexecs from and to a kernel.
fn judged(kernel: &Kernel, line: &CommandLine, next: &CommandLine) {
    for other in ["6.12", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2"] {
        let other = Release::parse(other).and_then(Kernel::upstream).expect("it is in the table");
        for (old, new) in [(kernel, &other), (&other, kernel), (kernel, kernel)] {
            for lines in [(Some(line), Some(next)), (Some(line), None), (None, Some(next)), (None, None)] {
                let old = Old::new(old.clone(), lines.0, Uses::ALL);
                let new = Next::new(new.clone(), lines.1);
                let judgement = compat::judge(&old, &new, Uses::ALL);
                let regions = judgement.verdict(Mechanism::Regions).expect("regions are in use");
                let worst = judgement.regions.iter().map(|region| region.verdict).max();
                assert!(worst.is_none_or(|worst| worst == regions), "{judgement:?}");
                // A panic, and a load that is refused, concern all mechanisms alike.
                for all in [Verdict::Panic, Verdict::Refused] {
                    let any = judgement.rulings.iter().any(|ruling| ruling.verdict == all);
                    let every = judgement.rulings.iter().all(|ruling| [all, Verdict::None].contains(&ruling.verdict));
                    assert!(!any || every, "{judgement:?}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_seeds_and_passes_them() {
        for (name, body) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name}");
            for (_, bytes) in seeds {
                body(&bytes);
            }
        }
    }
}
