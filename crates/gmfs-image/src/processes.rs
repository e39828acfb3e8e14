//! Reads about other processes from procfs.

use std::path::{Path, PathBuf};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Process {
    /// The process ID.
    pub pid: u32,
    /// The kernel's name for it: the first 15 bytes of its program's name, or a name that it has chosen.
    pub name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() {
            return write!(f, "process {}", self.pid);
        }
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        let name = std::fs::read(directory(pid).join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(&name).trim_end().chars().filter(|c| !c.is_control()).collect();
        Self { pid, name }
    }
}

/// The directory of a process in procfs.
pub(crate) fn directory(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// The IDs of all visible processes, ascending.
pub(crate) fn all() -> std::io::Result<Vec<u32>> {
    let names = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut pids: Vec<u32> = names.collect();
    pids.sort_unstable();
    Ok(pids)
}
