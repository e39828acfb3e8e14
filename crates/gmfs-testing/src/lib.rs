//! The images and memory dumps that real tools made, for tests. They are too large for the repository: they are in
//! `../shared/fixtures` beside the checkout, compressed with zstd. [`machine`] lays out captured machines, [`guest`] is a
//! guest of virtual machines, [`capi`] builds the library for C.
//!
//! ```
//! // Skips the test, with a message, on a machine that does not have the files.
//! let Some(dir) = gmfs_testing::fixtures("dumps") else { return };
//! assert!(dir.join("truth.json").is_file());
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod capi;
pub mod guest;
pub mod machine;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// The files are compressed with a window of 128 MiB, so that unpacking one takes that much memory.
const WINDOW: u64 = 128 << 20;

/// The directory `name` of `../shared/fixtures`, if this machine has it. If it is missing, the test should be skipped,
/// and a message on standard error says so.
///
/// # Panics
/// The directory is missing although the environment says `CI=true`, which means that the tests must have it, unless
/// `GMFS_NO_SHARED=1` says that the machine has no such files. Or the checkout that this was built in is not there any more.
#[must_use]
pub fn fixtures(name: &str) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(built.is_dir(), "built in {}, which is gone: build the tests anew", built.display());
    let dir = built.join("../../../shared/fixtures").join(name);
    if dir.is_dir() {
        return Some(dir);
    }
    let (ci, none) = (std::env::var_os("CI"), std::env::var_os("GMFS_NO_SHARED"));
    assert!(!is_expected(ci.as_deref(), none.as_deref()), "there is no {}", dir.display());
    eprintln!("skipped: there is no {}", dir.display());
    None
}

/// Whether the environment says that the files are there, by its variables `CI` and `GMFS_NO_SHARED`.
fn is_expected(ci: Option<&OsStr>, none: Option<&OsStr>) -> bool {
    ci.is_some_and(|value| value == "true") && none.is_none_or(|value| value != "1")
}

/// Unpacks the file at `path`, which zstd has compressed, and writes its content to `to`.
///
/// # Panics
/// The file cannot be read or unpacked, or its content cannot be written.
pub fn unpack(path: &Path, to: &mut dyn Write) {
    let done = open(path).and_then(|mut stream| io::copy(&mut stream, to));
    done.unwrap_or_else(|error| panic!("cannot unpack {}: {error}", path.display()));
}

fn open(path: &Path) -> io::Result<impl Read> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW);
    let stream = StreamingDecoder::new_with_decoder(BufReader::new(File::open(path)?), decoder);
    stream.map(|stream| BufReader::with_capacity(1 << 20, stream)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_expected_in_ci_unless_it_says_otherwise() {
        let expected = |ci: &str, none: &str| is_expected(Some(OsStr::new(ci)), Some(OsStr::new(none)));
        assert!(expected("true", "") && expected("true", "0") && is_expected(Some(OsStr::new("true")), None));
        assert!(!expected("true", "1") && !expected("", "") && !is_expected(None, None));
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let content: Vec<u8> = (0..3 << 20).map(|n: u32| (n / 7).to_le_bytes()[0]).collect();
        let packed = ruzstd::encoding::compress_to_vec(&content[..], ruzstd::encoding::CompressionLevel::Fastest);
        let path = std::env::temp_dir().join(format!("gmfs-testing-{}.zst", std::process::id()));
        std::fs::write(&path, packed).unwrap_or_else(|error| panic!("{error}"));
        let mut found = Vec::new();
        unpack(&path, &mut found);
        std::fs::remove_file(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(found == content);
    }

    #[test]
    #[should_panic(expected = "cannot unpack")]
    fn what_is_not_there_fails_the_test() {
        unpack(Path::new("/nonexistent"), &mut Vec::new());
    }
}
