//! Checks readers with real dumps, which are beside the checkout. Each page of a dump's window contains its own
//! address.

use std::path::{Path, PathBuf};

use gmfs_io::{Absence, ReadAt, ReadError};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// The directory of the captures. Where it is missing, the test prints that it is skipped; with CI=true it fails,
/// unless GMFS_NO_SHARED=1 says that there are no captures.
pub(crate) fn fixtures() -> Option<PathBuf> {
    gmfs_testing::fixtures("dumps")
}

pub(crate) fn unpack(dir: &Path, name: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    gmfs_testing::unpack(&dir.join(format!("{name}.zst")), &mut file);
    file
}

/// What `truth.json` records about a dump.
pub(crate) struct Truth {
    pub(crate) json: serde_json::Value,
    pub(crate) base: u64,
    pub(crate) size: u64,
}

pub(crate) fn truth(dir: &Path, dump: &str) -> Truth {
    let text = std::fs::read_to_string(dir.join("truth.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let json = all["dumps"][dump].clone();
    let window = &json["window"];
    Truth { base: window["base"].as_u64().unwrap(), size: window["size"].as_u64().unwrap(), json }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

impl Truth {
    /// Compares the window in `source` with the truth: in one read, in small reads, and by what `next_absent` and
    /// `next_data` report. What is missing must be missing because of `why`.
    pub(crate) fn check(&self, source: &dyn ReadAt, why: Absence) {
        let window = &self.json["window"];
        let page = window["page"].as_u64().unwrap();
        let missing: Vec<(u64, u64)> = window["missing_ranges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_u64().unwrap() * page, pair[1].as_u64().unwrap() * page))
            .collect();
        // What `next_absent` reports.
        let (mut found, mut at) = (Vec::new(), self.base);
        while let Some((span, reason)) = source.next_absent(at..self.base + self.size) {
            assert_eq!(reason, why, "{span}");
            found.push((span.offset - self.base, span.end() - self.base));
            at = span.end();
        }
        assert_eq!(found, missing);
        // One read of the whole window, which must fail at the first range that is missing.
        let mut bytes = vec![0xee; self.size as usize];
        let whole = source.read_at(self.base, &mut bytes);
        match missing.first() {
            None => whole.unwrap(),
            Some((from, to)) => match whole.unwrap_err() {
                ReadError::Absent { span, why: reason } => {
                    assert_eq!((span.offset - self.base, span.len, reason), (*from, to - from, why));
                }
                other @ ReadError::Io { .. } => panic!("{other}"),
            },
        }
        // Reads of 4 KiB. The page size of each dump is a multiple of that.
        let mut small = vec![0; self.size as usize];
        for (number, piece) in small.chunks_mut(4096).enumerate() {
            let at = number as u64 * 4096;
            let lost = missing.iter().any(|(from, to)| (*from..*to).contains(&at));
            assert_eq!(source.read_at(self.base + at, piece).is_err(), lost, "{at:#x}");
            if lost {
                piece.fill(0);
            }
        }
        assert_eq!(digest(&small), window["sha256_missing_as_zero"].as_str().unwrap());
        if missing.is_empty() {
            assert_eq!(digest(&bytes), window["ground_truth_sha256"].as_str().unwrap());
        }
        // Ranges that `next_data` skips must be zero.
        let mut at = self.base;
        while at < self.base + self.size {
            let data = source.next_data(at..self.base + self.size).unwrap();
            let start = data.as_ref().map_or(self.base + self.size, |data| data.start);
            assert!(small[(at - self.base) as usize..(start - self.base) as usize].iter().all(|b| *b == 0));
            at = data.map_or(self.base + self.size, |data| data.end);
        }
    }
}
