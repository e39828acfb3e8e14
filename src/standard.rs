//! Which standard streams were closed when the program was started.
//!
//! Before `main`, the standard library opens `/dev/null` in the place of a standard stream that is closed. What is
//! written there vanishes without an error, so that a complete answer and a lost one would look the same. From then on,
//! the stream looks like one for which the parent opened `/dev/null` for reading and writing, as Python's `DEVNULL`,
//! Node's `ignore` and daemon(3) do, and that is no error. So the check has to happen earlier: in a constructor, which
//! the C library calls before it calls any Rust code. The constructor only makes one system call for each stream.
//!
//! Where constructors are not called, every stream counts as open.

use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// A bit for each stream that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);
const STDIN: u8 = 1;
const STDOUT: u8 = 2;

ctor::declarative::ctor! {
    #[ctor]
    fn look() {
        note(rustix::stdio::stdin(), STDIN);
        note(rustix::stdio::stdout(), STDOUT);
    }
}

fn note(stream: BorrowedFd<'_>, bit: u8) {
    if rustix::io::fcntl_getfd(stream) == Err(Errno::BADF) {
        CLOSED.fetch_or(bit, Ordering::Relaxed);
    }
}

/// Whether standard input was closed when the program was started.
pub(crate) fn was_stdin_closed() -> bool {
    CLOSED.load(Ordering::Relaxed) & STDIN != 0
}

/// Whether standard output was closed when the program was started.
pub(crate) fn was_stdout_closed() -> bool {
    CLOSED.load(Ordering::Relaxed) & STDOUT != 0
}
