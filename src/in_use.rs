//! Memory of a store that processes have mapped: whether commands respect that, and how it is reported.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use gmfs::in_use::{ByFile, Notice, Watch};
use gmfs_format::model::InodeNo;
use gmfs_io::Span;
pub(crate) use gmfs_json::files::users;

use crate::ctx;
use crate::failure::printable;

/// Whether memory that is in use may be freed and overwritten.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct InUseOk {
    /// Free and overwrite memory even if a process has it mapped
    ///
    /// A guest that runs in that memory sees it change, or shares it with another file. No other option overrides this.
    #[arg(long)]
    pub(crate) in_use_ok: bool,
}

impl InUseOk {
    /// Looks for processes that have bytes of an image mapped, unless --in-use-ok was given.
    pub(crate) fn watch(self, path: &Path, span: Span) -> Watch {
        if self.in_use_ok { Watch::nobody() } else { Watch::new(path, span, tell) }
    }
}

/// Prints a notice of a watch. A notice about processes that cannot be examined is printed only once.
pub(crate) fn tell(notice: &Notice) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let once = |text: &str| {
        if !SAID.swap(true, Ordering::Relaxed) {
            ctx::warn(text);
        }
    };
    match notice {
        Notice::Unseen(path) => {
            // Some sandboxes hide processes from root as well.
            let hint = if rustix::process::geteuid().is_root() { "" } else { " (that takes root)" };
            once(&format!(
                "not all processes may be looked at{hint}: whether they have mapped {} is not known",
                path.display()
            ));
        }
        Notice::Unknown(path, error) => {
            let why = gmfs_io::with_causes(error);
            once(&format!("whether processes have mapped {} is not known: {why}", path.display()));
        }
        Notice::KeptApart(why) => ctx::warn(&format!("{why} (--in-use-ok does it all the same)")),
        _ => {}
    }
}

/// The processes that have a file mapped, as text for a table.
pub(crate) fn shown(found: &ByFile, ino: InodeNo) -> String {
    let list: Vec<String> =
        found.of(ino).map(|process| printable(&format!("{} ({})", process.pid, process.name))).collect();
    list.join(", ")
}
