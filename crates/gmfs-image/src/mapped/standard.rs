//! Which standard streams were closed when the program was started.
//!
//! The standard library opens `/dev/null` in the place of a closed one before `main`, so that what is written there
//! vanishes without an error. Whether it was open can only be asked before that.

use std::sync::atomic::{AtomicU8, Ordering};

/// A bit for each of the descriptors 0, 1 and 2 that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before `main`, where nothing of the standard library may be relied on: it makes system calls only.
extern "C" fn look() {
    for descriptor in 0..=2 {
        #[expect(unsafe_code, reason = "a borrowed descriptor would have to be open")]
        // SAFETY: F_GETFD takes no further argument, and any number may be asked for.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
        if flags == -1 {
            CLOSED.fetch_or(1 << descriptor, Ordering::Relaxed);
        }
    }
}

#[used]
#[expect(unsafe_code, reason = "there is no other way to run before the standard library")]
// SAFETY: the section holds addresses of functions that take what `look` ignores, and return nothing.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Whether standard input was closed when the program was started.
pub fn was_stdin_closed() -> bool {
    CLOSED.load(Ordering::Relaxed) & 1 << 0 != 0
}

/// Whether standard output was closed when the program was started.
pub fn was_stdout_closed() -> bool {
    CLOSED.load(Ordering::Relaxed) & 1 << 1 != 0
}
