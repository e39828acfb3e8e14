//! Reading the kernel's files, with bounds.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// The longest file that is read.
const LONGEST: u64 = 16 << 20;

/// A file's bytes; of a longer file, those that it starts with.
pub(crate) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Looked at first: to open a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file as text. What is not UTF-8 is replaced: what counts is ASCII.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&bytes(path)?).into_owned())
}

/// The numbers in a file, which has one a line, in hexadecimal with or without `0x`; `None` if there are none.
pub(crate) fn numbers(path: &Path) -> Option<Vec<u64>> {
    let number = |line: &str| u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).ok();
    text(path).ok()?.lines().map(number).collect::<Option<Vec<_>>>().filter(|numbers| !numbers.is_empty())
}
