//! Values of the command line, as clap reads them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};

/// The heading of the options that say what IMAGE is and how it is read.
pub(crate) const IMAGE_OPTIONS: &str = "Options for IMAGE";

/// A size in bytes: `4096`, `0x1000`, `64M`, `1.5G`, `10MiB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    gmfs_format::spec::parse_amount(text).map_err(|error| error.to_string())
}

/// The name of a file that a command makes. Elsewhere `-` stands for standard output, so no file gets that name by
/// mistake.
pub(crate) fn new_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str().as_encoded_bytes() {
        b"-" => Err("it cannot go to standard output; ./- is a file of that name"),
        _ => Ok(path),
    })
}

/// A path in the region, or a name. It must not be empty.
pub(crate) fn region_path() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new()
        .try_map(|path| if path.is_empty() { Err("a path is not empty; / is the region's root") } else { Ok(path) })
}

/// Permission bits in octal.
pub(crate) fn parse_mode(text: &str) -> Result<u16, String> {
    gmfs::mode::octal(text).map_err(|error| error.to_string())
}
