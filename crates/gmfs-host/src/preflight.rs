//! What has to be right before a kexec, so that a region survives it.

mod check;
mod checks;
mod window;

use std::num::NonZeroUsize;
use std::path::Path;

use gmfs::Store;
use gmfs_volume::OpenError;

pub use check::{Advice, Check, Subject, Verdict};
pub use window::{NoWindow, Window};

use crate::machine::Machine;

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// The store has no seals.
    #[error(transparent)]
    Store(#[from] gmfs::Error),
    /// The region cannot be checked.
    #[error("cannot check the region")]
    Check(#[from] OpenError),
}

/// What is known of the kexec, and what the caller brings.
#[derive(Clone, Copy, Debug)]
pub struct Options<'o> {
    /// The folder that stands for `/`: `proc`, `sys` and `boot` are looked for below it.
    pub root: &'o Path,
    /// The image of the next kernel.
    pub kernel: Option<&'o Path>,
    /// The command line of the next kernel; `None` stands for that of the running one.
    pub line: Option<&'o str>,
    /// The time, in nanoseconds since the epoch.
    pub now: u64,
    /// How many threads read metadata.
    pub threads: NonZeroUsize,
}

/// What was looked at before a kexec.
#[derive(Debug)]
#[non_exhaustive]
pub struct Preflight {
    /// The memory that has to be kept.
    pub window: Window,
    /// What was found, in the order in which it was looked at.
    pub checks: Vec<Check>,
}

impl Preflight {
    /// Of all checks: whether one fails, otherwise whether one cannot tell.
    #[must_use]
    pub fn result(&self) -> Verdict {
        let has = |verdict| self.checks.iter().any(|check| check.verdict == verdict);
        [Verdict::Fails, Verdict::Unknown].into_iter().find(|verdict| has(*verdict)).unwrap_or(Verdict::Ok)
    }
}

/// Looks at a region, the machine, and the next kernel, as far as it is known. The content of files is not read. The store is
/// unlocked once its metadata was read.
///
/// # Errors
/// The store is no native region, or cannot be read any more.
pub fn preflight(store: &Store, options: &Options<'_>) -> Result<Preflight, PreflightError> {
    let machine = Machine::read(options.root);
    let window = Window::of(store, &machine, options.root);
    let region = store.native()?;
    let (metadata, seals) = (checks::metadata(region, options.now, options.threads)?, checks::seals(region));
    store.unlock();
    let checks = vec![
        metadata,
        seals,
        checks::mappings(store),
        checks::loaded(&machine, options.kernel),
        checks::command_line(&window, &machine, options.line),
        checks::overlaps(&window, &machine, options.line),
        checks::hand_over(options.root, options.kernel, options.line),
    ];
    Ok(Preflight { window, checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_counts_more_than_what_cannot_be_told() {
        let of = |checks| Preflight { window: Window::Unknown(NoWindow::Copy), checks }.result();
        let ok = || Check::ok(Subject::Seals, "");
        let unknown = || Check::unknown(Subject::Mappings, "", Advice::RunAsRoot);
        let fails = || Check::fails(Subject::Kernel, "", Advice::LoadKernel);
        assert_eq!(of(vec![ok()]), Verdict::Ok);
        assert_eq!(of(vec![ok(), unknown()]), Verdict::Unknown);
        assert_eq!(of(vec![unknown(), fails(), ok()]), Verdict::Fails);
    }
}
