//! KHO and LUO: memory made as the facts say, memory that kernels left, and hostile memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on fails"
)]

mod captures;
mod hostile;
mod made;
mod runs;
