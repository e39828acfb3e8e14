//! Parsers for the options that say where a store is.

use gmfs::open::DataFrom;
use gmfs_format::spec::{self, RegionSpec};

pub(crate) use gmfs::error::spelled;

/// `--region` as clap reads it.
pub(crate) fn parse_region(text: &str) -> Result<RegionSpec, String> {
    text.parse().map_err(|error: spec::SpecError| error.to_string())
}

/// `FILE[@BASE]` as clap reads it. If no number follows the last `@`, the whole text is the name of the file.
pub(crate) fn parse_data_from(text: &str) -> Result<DataFrom, String> {
    let (path, base) = match text.rsplit_once('@').map(|(path, base)| (path, spec::parse_size(base))) {
        Some((path, Ok(base))) => (path, Some(base)),
        _ => (text, None),
    };
    if path.is_empty() { Err("FILE is not empty".to_owned()) } else { Ok(DataFrom { path: path.into(), base }) }
}

/// A physical address as clap reads it.
pub(crate) fn parse_address(text: &str) -> Result<u64, String> {
    spec::parse_size(text).map_err(|error| error.to_string())
}
