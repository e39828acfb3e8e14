//! Where a store is, as the command line says it.

use gmfs_format::spec::{self, RegionSpec};

pub(crate) use gmfs::error::spelled;

/// `--region` as clap reads it.
pub(crate) fn parse_region(text: &str) -> Result<RegionSpec, String> {
    text.parse().map_err(|error: spec::SpecError| error.to_string())
}

/// A physical address as clap reads it.
pub(crate) fn parse_address(text: &str) -> Result<u64, String> {
    spec::parse_size(text).map_err(|error| error.to_string())
}
