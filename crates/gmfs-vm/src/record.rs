//! The record of a virtual machine: the file `vm.json` in its directory.

use gmfs_format::model::Inode;
use serde::{Deserialize, Serialize};

/// A record that is longer than this is none.
pub const LONGEST: u64 = 1 << 20;
/// The version of the record.
const VERSION: u32 = 1;

/// Which file: a number may be used again, with another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileId {
    /// The inode's number.
    pub ino: u32,
    /// Its generation.
    pub generation: u32,
    /// The file's size in bytes.
    pub size: u64,
}

impl FileId {
    /// Of an inode.
    #[must_use]
    pub fn of(inode: &Inode) -> Self {
        let generation = inode.attributes.map_or(0, |attributes| attributes.generation);
        Self { ino: inode.ino.0, generation, size: inode.size }
    }
}

/// A state that was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The state's file.
    pub state: FileId,
    /// The seals of the memory when it was saved, as one number in hexadecimal.
    pub memory_seal: String,
    /// The seals of the state's file.
    pub state_seal: String,
    /// Whether the guest was running or had suspended itself, and will run when it is resumed.
    pub running: bool,
    /// The version of QEMU that wrote the state.
    pub qemu: String,
    /// When, in nanoseconds since the epoch.
    pub at: u64,
    /// When it was used, in nanoseconds since the epoch. A state that was used is not used again.
    pub used: Option<u64>,
}

/// What is known of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The region that it was made in.
    pub region: String,
    /// The guest's memory.
    pub memory: FileId,
    /// QEMU and its arguments, without those that gmfs adds. Empty if gmfs has not started it.
    pub command: Vec<String>,
    /// The directory in which gmfs has started it, to which names of files in the arguments are relative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The path of its QMP socket.
    pub socket: Option<String>,
    /// Its last saved state.
    pub saved: Option<Saved>,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    gmfs_vm: u32,
    /// The FNV-1a hash of the record as compact JSON.
    sum: String,
    vm: Record,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It has too many bytes.
    #[error("it has {0} bytes, which no record has")]
    TooLong(u64),
    /// It is no record.
    #[error("it is no record of a virtual machine: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error("it has version {0}, which this gmfs does not know")]
    Version(u32),
    /// Its sum is another one.
    #[error("its sum is wrong: something other than gmfs has changed it")]
    Sum,
}

impl Record {
    /// The file's content.
    ///
    /// # Errors
    /// Never, as far as is known.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let sum = format!("{:016x}", fnv(&serde_json::to_vec(self)?));
        let mut bytes = serde_json::to_vec_pretty(&Envelope { gmfs_vm: VERSION, sum, vm: self.clone() })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// From the file's content.
    ///
    /// # Errors
    /// It is not what [`encode`](Self::encode) makes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if gmfs_io::num::len64(bytes.len()) > LONGEST {
            return Err(RecordError::TooLong(gmfs_io::num::len64(bytes.len())));
        }
        let Envelope { gmfs_vm, sum, vm } = serde_json::from_slice(bytes)?;
        if gmfs_vm != VERSION {
            return Err(RecordError::Version(gmfs_vm));
        }
        if sum != format!("{:016x}", fnv(&serde_json::to_vec(&vm)?)) {
            return Err(RecordError::Sum);
        }
        Ok(vm)
    }

    /// The state, if there is one that was not used.
    #[must_use]
    pub fn unused(&self) -> Option<&Saved> {
        self.saved.as_ref().filter(|saved| saved.used.is_none())
    }
}

/// FNV-1a with 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn record() -> Record {
        let file = FileId { ino: 3, generation: 2, size: 8 << 20 };
        let saved = Saved {
            state: FileId { ino: 4, ..file },
            memory_seal: "0123456789abcdef".to_owned(),
            state_seal: "fedcba9876543210".to_owned(),
            running: true,
            qemu: "10.0.2".to_owned(),
            at: 1,
            used: None,
        };
        Record {
            region: "r".to_owned(),
            memory: file,
            command: vec!["qemu".to_owned(), "-nographic".to_owned()],
            directory: Some("/root".to_owned()),
            socket: Some("/run/x".to_owned()),
            saved: Some(saved),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_no_other() {
        let record = record();
        let bytes = record.encode().unwrap();
        assert_eq!(Record::decode(&bytes).unwrap(), record);
        assert!(record.unused().is_some());
        let text = String::from_utf8(bytes).unwrap();
        let edited = text.replace("\"ino\": 3", "\"ino\": 5");
        assert!(matches!(Record::decode(edited.as_bytes()), Err(RecordError::Sum)));
        let newer = text.replace("\"gmfs_vm\": 1", "\"gmfs_vm\": 2");
        assert!(matches!(Record::decode(newer.as_bytes()), Err(RecordError::Version(2))));
        for cut in 0..text.len() - 1 {
            assert!(Record::decode(&text.as_bytes()[..cut]).is_err(), "{cut}");
        }
        let long = vec![b' '; usize::try_from(LONGEST).unwrap() + 1];
        assert!(matches!(Record::decode(&long), Err(RecordError::TooLong(_))));
    }
}
