//! The line of progress on a terminal. It is the last line of standard error, and is erased before anything else is
//! written there.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the line is on the terminal now.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Whether standard error can show a line that is later erased.
pub(crate) fn possible() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows a text in place of the line.
pub(crate) fn show(text: &str) {
    let _ = write!(io::stderr(), "\r{text}\x1b[K");
    SHOWN.store(true, Ordering::Relaxed);
}

/// Whether the line is on the terminal now.
pub(crate) fn is_shown() -> bool {
    SHOWN.load(Ordering::Relaxed)
}

/// Erases the line. Must be called before anything else is written to standard error.
pub(crate) fn clear() {
    if SHOWN.swap(false, Ordering::Relaxed) {
        let _ = io::stderr().write_all(b"\r\x1b[K");
    }
}
