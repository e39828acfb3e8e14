//! Media for tests, which other crates' tests include by path: one in memory, one that logs and fails, and the states
//! in which a crash can leave a medium.

pub(crate) mod crashes;
pub(crate) mod memory;
pub(crate) mod recorder;
pub(crate) mod rng;
