//! Everything that turns values into text: numbers, times, tables, colours, JSON, progress. Nothing else does.

pub(crate) mod changes;
pub(crate) mod findings;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod size;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod wrap;

pub(crate) use gmfs::words;

/// Name and version, as superblocks record who wrote last.
pub(crate) const WRITER: &str = concat!("gmfs ", env!("CARGO_PKG_VERSION"));
/// The version alone.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
