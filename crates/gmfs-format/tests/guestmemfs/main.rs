//! guestmemfs v1: memory made from its rules, memory of kernels that ran the driver, and hostile memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

mod fixtures;
mod hostile;
mod made;
