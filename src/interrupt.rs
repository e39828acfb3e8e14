//! Interrupts: the first one asks a command to end cleanly, the second one ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on the first SIGINT or SIGTERM is only noted. The second one ends the program with this status.
pub(crate) fn watch(status: u8) -> Result<()> {
    if ASKED.get().is_some() {
        return Ok(());
    }
    let flag = Arc::clone(ASKED.get_or_init(Arc::default));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(status), Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .context("cannot watch for interrupts")?;
    }
    Ok(())
}

/// Whether the user has interrupted the command.
pub(crate) fn asked() -> bool {
    ASKED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Makes it an error if a file exceeds the limit of its size (`ulimit -f`). By default, the signal ends the program.
pub(crate) fn survive_file_limit() {
    // If this fails, the default of the system remains.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}
