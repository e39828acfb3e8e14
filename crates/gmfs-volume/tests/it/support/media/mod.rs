//! Media for tests, which the tests of other crates include by path: one in memory, one that logs and fails, and the
//! states in which a crash can leave it.

pub(crate) mod crashes;
pub(crate) mod memory;
pub(crate) mod recorder;
pub(crate) mod rng;
